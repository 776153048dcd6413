//! Surroundings that are wrong: buckets, rights, passwords, versions, addresses, tokens. A start or a request fails and says
//! what is wrong and what to do; a cluster beside it, on the same database and bucket, loses nothing.

use std::time::Duration;

use lakefall_tests::Client;
use lakefall_tests::client::Endpoint;
use lakefall_tests::cluster::{Cluster, Options, Role, eventually};
use lakefall_tests::process::Process;
use serde_json::json;
use tokio::time::Instant;

/// How long a process may take to say what is wrong.
const TELLS: Duration = Duration::from_secs(30);

/// What is refused for good is answered within this time.
const AT_ONCE: Duration = Duration::from_secs(5);

const GATEWAY: &[&str] = &["HTTP API", "Admin"];
const METADATA: &[&str] = &["RPC", "Admin"];

/// What a metadata replica says that cannot work.
async fn told_by_replica(process: &mut Process) -> String {
    let tried = tokio::time::timeout(TELLS, process.try_start()).await;
    let told = match tried {
        Ok(Ok(())) => panic!("it works:\n{}", process.log()),
        Ok(Err(told)) => told,
        Err(_) => panic!("it neither works nor ends:\n{}", process.log()),
    };
    println!("surroundings: {}", told.lines().last().unwrap_or_default());
    told
}

/// What a gateway that cannot work says, at its start or to the first request.
async fn told_by_gateway(process: &mut Process) -> String {
    let told = match tokio::time::timeout(TELLS, process.try_start()).await {
        Ok(Err(told)) => told,
        // It goes on trying, and says so.
        Err(_) => process.log(),
        Ok(Ok(())) => {
            // A store that does not answer is tried for a minute; one that refuses is not.
            let client = Client::new(Endpoint::at(process.address("HTTP API"))).patience(TELLS * 4);
            let answer = client.send(client.values("t", "partition=0", "\"wrong\"")).await.unwrap();
            assert!(matches!(answer.status, 500 | 503 | 504), "{}: {}", answer.status, answer.text());
            format!("{}\n{}", process.log(), answer.text())
        }
    };
    println!("surroundings: {}", told.lines().last().unwrap_or_default());
    told
}

fn says(told: &str, words: &[&str]) {
    let lower = told.to_lowercase();
    for word in words {
        assert!(lower.contains(&word.to_lowercase()), "it does not say {word:?}:\n{told}");
    }
    for secret in ["secret-of", "password-of", "token-of", "wrong-secret", "wrong-password", "wrong-token"] {
        assert!(!told.contains(secret), "it tells a secret ({secret}):\n{told}");
    }
}

async fn small() -> Cluster {
    let cluster = Options::default().gateways(1).replicas(1).start().await;
    cluster.client().create_topic("t", 1).await;
    cluster.client().put("t", 0, &json!("before")).await;
    cluster
}

/// The cluster beside goes on, and has what it had.
async fn unharmed(mut cluster: Cluster) {
    let client = cluster.client();
    client.put("t", 0, &json!("after")).await;
    let values: Vec<_> = client.read_pages("t", 0, 0).await.into_iter().map(|row| row.value).collect();
    assert_eq!(values, [&b"\"before\""[..], b"\"after\""]);
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_a_wrong_bucket_or_without_rights_says_so() {
    let cluster = small().await;
    let gateway = |name: &str| cluster.process(Role::Gateway, name, vec!["--listen".into(), "127.0.0.1:0".into()], GATEWAY);

    let more = ["--listen", "127.0.0.1:0"].map(Into::into).to_vec();
    let mut wrong = cluster.process_on("absent-bucket", Role::Gateway, "gateway on an absent bucket", more, GATEWAY);
    says(&told_by_gateway(&mut wrong).await, &["bucket does not exist", "lakefall bucket init"]);

    let mut wrong = gateway("gateway with a wrong secret");
    wrong.set_env("LAKEFALL_STORE__SECRET_ACCESS_KEY", "wrong-secret");
    says(&told_by_gateway(&mut wrong).await, &["denie"]);

    cluster.s3.create_user("STRANGER", "secret-of-the-stranger").await;
    let mut wrong = gateway("gateway without rights");
    wrong.set_env("LAKEFALL_STORE__ACCESS_KEY_ID", "STRANGER");
    wrong.set_env("LAKEFALL_STORE__SECRET_ACCESS_KEY", "secret-of-the-stranger");
    says(&told_by_gateway(&mut wrong).await, &["denie"]);

    let mut wrong = gateway("gateway without a store");
    wrong.set_env("LAKEFALL_STORE__ENDPOINT", "http://127.0.0.1:9");
    says(&told_by_gateway(&mut wrong).await, &["127.0.0.1:9"]);
    unharmed(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_a_wrong_token_or_without_metadata_says_so() {
    let cluster = small().await;
    let gateway = |name: &str| cluster.process(Role::Gateway, name, vec!["--listen".into(), "127.0.0.1:0".into()], GATEWAY);

    let mut wrong = gateway("gateway with a wrong token");
    wrong.set_env("LAKEFALL_METADATA__TOKEN", "wrong-token");
    says(&told_by_gateway(&mut wrong).await, &["token"]);

    let mut wrong = gateway("gateway without a token");
    wrong.unset_env("LAKEFALL_METADATA__TOKEN");
    says(&told_by_gateway(&mut wrong).await, &["token"]);

    let more = ["--listen", "127.0.0.1:0", "--metadata", "http://127.0.0.1:9"].map(Into::into).to_vec();
    let mut wrong = cluster.process(Role::Gateway, "gateway without metadata", more, GATEWAY);
    says(&told_by_gateway(&mut wrong).await, &["127.0.0.1:9"]);
    unharmed(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_with_a_wrong_password_database_or_number_of_shards_says_so() {
    let cluster = small().await;
    let replica = |name: &str, url: String, shards: u32| {
        let more = vec!["--listen".into(), "127.0.0.1:0".into(), "--database".into(), url, "--shards".into(), shards.to_string()];
        cluster.process(Role::Metadata, name, more, METADATA)
    };
    let url = cluster.postgres.url_for(&cluster.database);

    let wrong_password = url.replace("password-of-lakefall", "wrong-password");
    says(&told_by_replica(&mut replica("replica with a wrong password", wrong_password, 1)).await, &["password"]);

    let absent = cluster.postgres.url_for("absent_database");
    says(&told_by_replica(&mut replica("replica on an absent database", absent, 1)).await, &["absent_database"]);

    let nobody = cluster.postgres.url_at(([127, 0, 0, 1], 9).into(), &cluster.database);
    says(&told_by_replica(&mut replica("replica without a database", nobody, 1)).await, &["127.0.0.1:9"]);

    says(&told_by_replica(&mut replica("replica with other shards", url.clone(), 2)).await, &["shards", "1", "2"]);
    // And so does one that starts on a database that a newer executable migrated.
    cluster.sql("update cluster set schema = 99, oldest_program = 99").await;
    says(&told_by_replica(&mut replica("replica of an old version", url, 1)).await, &["schema", "99"]);
    cluster.sql("update cluster set schema = 2, oldest_program = 1").await;
    unharmed(cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_refuses_a_postgres_that_forgets_what_it_acknowledged() {
    let cluster = Options::default().gateways(0).replicas(1).prepare().await;
    for setting in ["fsync", "synchronous_commit"] {
        let postgres = lakefall_servers::postgres::Options::default().setting(setting, "off").start().await;
        let start = |name: &str, url: String| {
            let more = vec!["--listen".into(), "127.0.0.1:0".into(), "--database".into(), url];
            cluster.process(Role::Metadata, name, more, METADATA)
        };
        let mut wrong = start(&format!("replica over {setting} off"), postgres.url());
        says(&told_by_replica(&mut wrong).await, &[setting, "unsafe durability"]);
        let mut told = start(&format!("replica told of {setting} off"), postgres.url());
        told.set_env("LAKEFALL_METADATA__POSTGRES__ALLOW_UNSAFE_DURABILITY", true);
        told.start().await;
        told.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_expire_stop_writes_with_a_reason_and_new_ones_let_them_go_on() {
    let options = Options::default()
        .gateways(1)
        .replicas(1)
        .own_s3()
        .env(Role::Gateway, "LAKEFALL_STORE__ACCESS_KEY_ID", "LAKEFALLUSER")
        .env(Role::Gateway, "LAKEFALL_STORE__SECRET_ACCESS_KEY", "secret-of-the-user");
    let mut cluster = options.prepare().await;
    cluster.s3.create_user("LAKEFALLUSER", "secret-of-the-user").await;
    cluster.take_bucket_of("LAKEFALLUSER").await;
    cluster.start().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    client.put("t", 0, &json!("before")).await;
    cluster.s3.set_secret("LAKEFALLUSER", "secret-of-tomorrow").await;
    let began = Instant::now();
    let answer = client.send(client.values("t", "partition=0", "\"refused\"")).await.unwrap();
    println!("credentials: answered after {:?} with {}: {}", began.elapsed(), answer.status, answer.text());
    assert_eq!((answer.status, answer.json()["outcome"].as_str()), (503, Some("not_applied")));
    assert!(began.elapsed() < AT_ONCE, "it was answered after {:?}", began.elapsed());
    says(&answer.text(), &["denies access", &cluster.bucket]);
    says(&cluster.gateways[0].log(), &["denies", "credentials", &cluster.bucket]);
    // What is in memory is still read.
    assert_eq!(client.read_pages("t", 0, 0).await.len(), 1);
    cluster.s3.set_secret("LAKEFALLUSER", "secret-of-the-user").await;
    eventually("writes go on", TELLS, async || {
        client.send(client.values("t", "partition=0", "\"after\"")).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let values: Vec<_> = client.read_pages("t", 0, 0).await.into_iter().map(|row| row.value).collect();
    assert_eq!(values, [&b"\"before\""[..], b"\"after\""]);
}
