//! A full disk: writes are refused, reads go on, nothing acknowledged is lost, and room freed is used.

use std::time::Duration;

use lakefall_tests::disk::SmallDisk;
use lakefall_tests::rows::noise;
use lakefall_tests::{Client, Options, Row};
use serde_json::json;
use tokio::time::Instant;

async fn check_all(client: &Client, acked: &[(u64, String)]) {
    let rows = client.read_pages("t", 0, 0).await;
    for (offset, value) in acked {
        let row: &Row = rows.get(*offset as usize).unwrap_or_else(|| panic!("offset {offset} is lost: {} records are there", rows.len()));
        assert!(row.offset == *offset && row.value == value.as_bytes(), "offset {offset} holds something else");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 12 << 20]).unwrap();
    let mut server = Options::default().data_dir(&disk.path().join("data")).start().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    let mut acked: Vec<(u64, String)> = Vec::new();
    let mut refusals = 0;
    for n in 0..200 {
        let value = noise(n);
        let answer = client.send(client.values("t", "partition=0", value.clone())).await.expect("a full disk is answered, not hung up on");
        if answer.status == 200 {
            acked.push((answer.offsets()[0].1, value));
            continue;
        }
        let problem = answer.json();
        assert!(matches!((answer.status, answer.code().as_str()), (503, "not_committed") | (504, "outcome_unknown")), "{problem}");
        assert_eq!(problem["outcome"], if answer.status == 503 { "not_applied" } else { "unknown" });
        if answer.status == 503 {
            assert!(answer.headers.contains_key("retry-after"), "{problem}");
            refusals += 1;
        }
        if refusals == 3 {
            break;
        }
    }
    assert!(!acked.is_empty() && refusals == 3, "{} stored, {refusals} refused with 503", acked.len());
    // Reads go on.
    check_all(&client, &acked).await;
    std::fs::remove_file(&filler).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let value = noise(1_000);
    loop {
        let answer = client.send(client.values("t", "partition=0", value.clone())).await.unwrap();
        if answer.status == 200 {
            acked.push((answer.offsets()[0].1, value));
            break;
        }
        assert!(Instant::now() < deadline, "there is room again, but writes are still refused: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    check_all(&client, &acked).await;
    server.kill_nine();
    server.start().await;
    check_all(&client, &acked).await;
    println!("full_disk: {} records acknowledged, 0 lost", acked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_on_a_full_disk_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(16) else { return };
    let filler = disk.path().join("filler");
    std::fs::write(&filler, vec![1; 8 << 20]).unwrap();
    let mut server = Options::default().data_dir(&disk.path().join("data")).start().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    let mut acked: Vec<(u64, String)> = Vec::new();
    for n in 0..200 {
        let value = noise(n);
        let answer = client.send(client.values("t", "partition=0", value.clone())).await.unwrap();
        if answer.status != 200 {
            break;
        }
        acked.push((answer.offsets()[0].1, value));
    }
    server.kill_nine();
    std::fs::remove_file(&filler).unwrap();
    server.start().await;
    check_all(&client, &acked).await;
    let next = client.put("t", 0, &json!(1)).await;
    assert!(next >= acked.len() as u64);
}
