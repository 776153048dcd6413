//! Two servers on one data folder: whoever owns the shard, offsets are given out by one.

use std::time::Duration;

use lakefall_tests::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_folder_takes_nothing_from_the_first() {
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    let mut second = lakefall_tests::process::command()
        .args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data_dir())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Whether it refuses to start or waits for the shard: records go on to be stored densely by whoever owns it.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    let mut stored = 0;
    while tokio::time::Instant::now() < deadline {
        let answer = client.send(client.values("t", "partition=0", "1")).await.unwrap();
        if answer.status == 200 {
            assert_eq!(answer.offsets(), [(0, stored)], "two owners gave out offsets");
            stored += 1;
        } else {
            assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
            break;
        }
    }
    // It may have ended by itself.
    let _ = second.kill();
    second.wait().unwrap();
    assert!(stored > 0);
}
