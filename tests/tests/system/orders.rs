//! Short histories of a few clients at once, on one partition or one queue: one order explains all answers.

use lakefall_tests::checker::Check;
use lakefall_tests::dice::seed;
use lakefall_tests::small;
use tokio::task::JoinSet;

/// Histories of each kind, and how many are made at a time.
const HISTORIES: u32 = 24;
const TOGETHER: u32 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_conditions_fences_and_reads_of_a_partition_have_one_order() {
    let seed = seed("stream_orders");
    let subject = super::start().await;
    subject.client().create_topic("small", HISTORIES).await;
    let ways = subject.ways();
    let mut operations = 0;
    for first in (0..HISTORIES).step_by(TOGETHER as usize) {
        let mut under_way = JoinSet::new();
        for partition in first..first + TOGETHER {
            let ways = ways.beginning_at(partition as usize);
            under_way.spawn(async move { small::stream(&ways, "small", partition, seed + u64::from(partition)).await });
        }
        for history in under_way.join_all().await {
            operations += small::holds("stream_orders", &history).examined_by(Check::H8);
        }
    }
    println!("stream_orders: {HISTORIES} histories with {operations} operations have an order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_receives_and_settlements_of_a_queue_have_one_order() {
    let seed = seed("queue_orders");
    let subject = super::start().await;
    let ways = subject.ways();
    let mut operations = 0;
    for first in (0..HISTORIES).step_by(TOGETHER as usize) {
        let mut under_way = JoinSet::new();
        for number in first..first + TOGETHER {
            let ways = ways.beginning_at(number as usize);
            under_way.spawn(async move { small::queue(&ways, &format!("small-{number}"), seed + u64::from(number)).await });
        }
        for history in under_way.join_all().await {
            operations += small::holds("queue_orders", &history).examined_by(Check::H8);
        }
    }
    println!("queue_orders: {HISTORIES} histories with {operations} operations have an order");
}
