//! What a compactor of its own process lets go of: the segments of what was deleted, and nothing else.

use std::time::Duration;

use lakefall_tests::cluster::{Options, Role, eventually};
use reqwest::Method;
use serde_json::json;

/// The grace and a round's interval are a second each.
const DELETED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_segments_of_a_deleted_topic_are_deleted_a_grace_later_and_those_of_others_stay() {
    let options = Options::default().shards(2).compactor().env(Role::Compactor, "LAKEFALL_COLLECTOR__GRACE_SECONDS", 1).env(
        Role::Compactor,
        "LAKEFALL_COLLECTOR__INTERVAL_SECONDS",
        1,
    );
    let mut cluster = options.start().await;
    let client = cluster.client();
    for topic in ["kept", "deleted"] {
        client.create_topic(topic, 1).await;
        for n in 0..20 {
            client.put(topic, 0, &json!(n)).await;
        }
    }
    let before = cluster.segments().len();
    assert!(before >= 40, "each record is acknowledged before the next is sent, so each has a segment: {before}");
    client.send(client.request(Method::DELETE, "/v1/topics/deleted")).await.unwrap().ok();
    let took = eventually("the deleted topic's segments are deleted", DELETED, async || cluster.segments().len() <= before - 20).await;
    println!("collection: deleted after {took:?}");
    assert_eq!(cluster.segments().len(), before - 20);
    assert_eq!(client.read_pages("kept", 0, 0).await.len(), 20);
    assert!(cluster.ended().is_none());
}
