//! The PostgreSQL of the tests: what it checks, what it survives, and that it goes with its handle.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::str::FromStr;

use crate::common::until;
use lakefall_servers::postgres::{DATABASE, Options, PASSWORD, USER};
use lakefall_servers::{Postgres, S3, runs};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection, PgConnection, Row};

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

#[tokio::test]
async fn databases_of_the_shared_server_do_not_see_each_other() {
    let (one, other) = (Postgres::shared().await, Postgres::shared().await);
    assert_eq!(one.port(), other.port(), "there are two servers");
    let (a, b) = (one.fresh_database().await, other.fresh_database().await);
    assert_ne!(a, b);
    let mut in_a = connect(&one.url_for(&a)).await;
    let mut in_b = connect(&one.url_for(&b)).await;
    for connection in [&mut in_a, &mut in_b] {
        sqlx::raw_sql("create table t (n int primary key); insert into t values (1)").execute(connection).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_durability_is_on() {
    let postgres = Postgres::shared().await;
    let url = postgres.url().replace(PASSWORD, "wrong");
    let refused = PgConnection::connect(&url).await.unwrap_err();
    assert_eq!(code(&refused), "28P01", "{refused}");
    let unknown = PgConnection::connect(&postgres.url().replace(&format!("{USER}:"), "nobody:")).await.unwrap_err();
    assert_eq!(code(&unknown), "28P01", "{unknown}");
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(postgres.sql(DATABASE, &format!("show {name}")).await, "on", "{name}");
    }
    let mut connection = connect(&postgres.url()).await;
    let refused = sqlx::raw_sql("alter system set fsync = off").execute(&mut connection).await.unwrap_err();
    assert_eq!(code(&refused), "42501", "the tests' user is no superuser: {refused}");
}

#[tokio::test]
async fn what_was_committed_is_there_after_every_way_to_end() {
    let postgres = Postgres::start(Options::default().max_connections(7).setting("work_mem", "5MB")).await;
    assert_eq!(postgres.sql(DATABASE, "show max_connections; show work_mem").await.lines().collect::<Vec<_>>(), ["10", "5MB"]);
    let mut connection = connect(&postgres.url()).await;
    sqlx::raw_sql("create table t (n int primary key)").execute(&mut connection).await.unwrap();
    for n in 0..5 {
        let mut connection = connect(&postgres.url()).await;
        sqlx::query("insert into t values ($1)").bind(n).execute(&mut connection).await.unwrap();
        let before = postgres.pid().await.unwrap();
        match n {
            0 => postgres.restart_fast().await,
            1 => postgres.restart_immediate().await,
            2 => {
                postgres.kill_nine().await;
                assert!(!postgres.is_running().await);
                postgres.start_again().await;
            }
            3 => {
                postgres.kill_postmaster().await;
                postgres.start_again().await;
            }
            _ => {
                postgres.stop_fast().await;
                assert!(PgConnection::connect(&postgres.url()).await.is_err());
                postgres.start_again().await;
            }
        }
        assert!(!runs(before));
        sqlx::query("select 1").execute(&mut connection).await.expect_err("a connection outlived the server");
    }
    let found: i64 = sqlx::query("select count(*) from t").fetch_one(&mut connect(&postgres.url()).await).await.unwrap().get(0);
    assert_eq!(found, 5);
}

#[tokio::test]
async fn servers_are_copies_of_one_unless_told_otherwise() {
    let start = async |options: Options| {
        let postgres = options.start().await;
        postgres.sql("postgres", "select system_identifier from pg_control_system()").await
    };
    let one = start(Options::default()).await;
    assert_eq!(start(Options::default()).await, one);
    assert_ne!(start(Options::default().own_identity()).await, one);
}

#[tokio::test]
async fn a_paused_server_answers_when_it_goes_on() {
    let postgres = Postgres::start(Options::default()).await;
    let mut connection = connect(&postgres.url()).await;
    postgres.pause().await;
    let answer = tokio::spawn(async move { sqlx::query("select 1").execute(&mut connection).await.map(|_| ()) });
    let pid = postgres.pid().await.unwrap();
    until("the server is stopped", async || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")).await;
    assert!(!answer.is_finished());
    postgres.resume().await;
    answer.await.unwrap().unwrap();
}

#[tokio::test]
async fn tls_is_checked_against_the_ca_and_plain_text_is_refused() {
    let postgres = Postgres::start(Options::default().tls()).await;
    let ca = postgres.ca_certificate().unwrap();
    let options = PgConnectOptions::from_str(&postgres.url()).unwrap();
    let full = options.clone().ssl_mode(PgSslMode::VerifyFull);
    let mut connection = PgConnection::connect_with(&full.clone().ssl_root_cert(&ca)).await.unwrap();
    let row = sqlx::query("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    assert!(row.get::<bool, _>(0));
    PgConnection::connect_with(&full).await.expect_err("a certificate of an unknown authority was taken");
    let refused = PgConnection::connect_with(&options.ssl_mode(PgSslMode::Disable)).await.unwrap_err();
    assert_eq!(code(&refused), "28000", "{refused}");
}

#[tokio::test]
async fn a_synchronous_standby_has_what_was_committed_when_it_is_promoted() {
    let primary = Postgres::start(Options::default()).await;
    primary.sql(DATABASE, "create table t (n int); insert into t values (1)").await;
    let standby = primary.standby().await;
    let mut read_only = connect(&standby.url()).await;
    let refused = sqlx::raw_sql("create table u (n int)").execute(&mut read_only).await.unwrap_err();
    assert_eq!(code(&refused), "25006", "{refused}");
    primary.set("synchronous_standby_names", "*").await;
    until("replication is synchronous", async || primary.sql(DATABASE, "select sync_state from pg_stat_replication").await == "sync").await;
    primary.sql(DATABASE, "insert into t values (2)").await;
    primary.kill_nine().await;
    standby.promote().await;
    assert_eq!(standby.sql(DATABASE, "insert into t values (3); select count(*) from t").await, "3");
}

#[tokio::test]
async fn a_server_ends_with_its_handle_and_leaves_nothing() {
    let postgres = Postgres::start(Options::default()).await;
    let pid = postgres.pid().await.unwrap();
    let folder = postgres.sql(DATABASE, "show data_directory").await;
    let processes: Vec<u32> =
        postgres.sql(DATABASE, "select pid from pg_stat_activity").await.lines().map(|pid| pid.parse().unwrap()).collect();
    assert!(processes.len() > 3 && std::fs::exists(&folder).unwrap());
    drop(postgres);
    assert!(!runs(pid));
    for process in processes {
        until("its processes end", async || !runs(process)).await;
    }
    assert!(!std::fs::exists(folder).unwrap());
}

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
#[ignore = "started and killed by another test"]
async fn holds_servers_until_it_is_killed() {
    let (postgres, s3) = (Postgres::start(Options::default()).await, S3::start().await);
    let folder = postgres.sql(DATABASE, "show data_directory").await;
    println!("\nservers {} {} {folder}", postgres.pid().await.unwrap(), s3.pid().await.unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_end_when_the_process_of_the_tests_is_killed() {
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", "postgres::holds_servers_until_it_is_killed", "--ignored", "--nocapture"]).stdout(Stdio::piped());
    let mut tests = tests.spawn().unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.filter_map(|line| line.strip_prefix("servers ").map(str::to_owned)).next().expect("it tells its servers");
    let words: Vec<&str> = line.split(' ').collect();
    let servers: Vec<u32> = words[..2].iter().map(|pid| pid.parse().unwrap()).collect();
    assert!(servers.iter().all(|pid| runs(*pid)));
    tests.kill().unwrap();
    tests.wait().unwrap();
    until("the servers end and their data goes", async || !servers.iter().any(|pid| runs(*pid)) && !std::fs::exists(words[2]).unwrap())
        .await;
}
