//! `kill -9` at random moments while messages are sent, received, settled and transformed: none is lost, none made up, no lease
//! is broken, and each input has its effect once.

use std::time::Duration;

use lakefall_tests::Options;
use lakefall_tests::dice::{Dice, rounds, seed};
use lakefall_tests::load::Ways;
use lakefall_tests::process::command;
use lakefall_tests::queues::Queue;
use lakefall_tests::queues::checker::{Check, Demands};
use lakefall_tests::queues::effects::Effects;
use lakefall_tests::queues::load::{Load, Run};
use lakefall_tests::queues::producer::Style;
use lakefall_tests::queues::verdict::judge;
use serde_json::json;

use super::machine;

const KILLS: usize = 10;
/// Leases of these tests: shorter than the pause between two kills, mostly.
const LEASE: Duration = Duration::from_millis(800);
const ATTEMPTS: u32 = 4;
const PROMPT: Duration = Duration::from_secs(30);

/// Small checkpoints and segments, so that kills fall into all of their moments.
fn options() -> Options {
    Options::default().env("LAKEFALL_METADATA__CHECKPOINT_ENTRIES", 50).env("LAKEFALL_SEGMENT__TARGET_BYTES", 65_536)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_and_no_lease_is_broken_when_the_process_is_killed_ten_times() {
    let _machine = machine().await;
    let seed = seed("queue_kill_nine");
    let mut dice = Dice::new(seed);
    let mut server = options().start().await;
    let (client, lease) = (server.client(), format!("{}ms", LEASE.as_millis()));
    let work = json!({"lease": lease, "max_attempts": ATTEMPTS, "dead_letter": {"topic": "work.dead"}});
    Queue::of(&client, "work").create(work).await;
    Queue::of(&client, "lanes").create(json!({"lease": lease, "ordering": "key"})).await;
    let (plain, ordered) = (Run::new("work", LEASE, true), Run::new("lanes", LEASE, false));
    let ways = Ways::from(&client);
    let mut of_plain = Load::new(&plain, seed);
    for style in [Style::Plain, Style::Delayed, Style::Dedup, Style::Keyed] {
        of_plain.producer(&ways, style);
    }
    of_plain.consumer(&ways).consumer(&ways).consumer(&ways);
    let mut of_ordered = Load::new(&ordered, seed + 100);
    of_ordered.producer(&ways, Style::Ordered).producer(&ways, Style::Ordered).consumer(&ways).consumer(&ways);
    let kills = KILLS * rounds(1);
    for _ in 0..kills {
        // As much as the verdicts ask for, and then any moment.
        plain.acked_more(30, PROMPT).await;
        ordered.acked_more(10, PROMPT).await;
        tokio::time::sleep(Duration::from_millis(dice.between(1, 1_000))).await;
        server.kill_nine();
        plain.recorder.fault("kill -9");
        ordered.recorder.fault("kill -9");
        server.start().await;
    }
    of_plain.finish().await;
    of_ordered.finish().await;
    let all = &[Check::Q1, Check::Q2, Check::Q3, Check::Q4, Check::Q6, Check::Q7, Check::Q8, Check::Q10];
    let demands = Demands { faults: kills, acked: 300, examined: all, max_attempts: Some(ATTEMPTS), ..Demands::default() };
    let report = judge("queue_kill_nine", plain, &server.client(), demands).await;
    assert!(report.unknown > 0, "no kill met a request under way: the load is too small");
    let all = &[Check::Q1, Check::Q2, Check::Q3, Check::Q5, Check::Q7, Check::Q10];
    let demands = Demands { faults: kills, acked: 100, examined: all, ordered: true, ..Demands::default() };
    judge("queue_kill_nine_ordered", ordered, &server.client(), demands).await;
    server.stop().await;
    let fsck = command().args(["fsck", "--data-dir"]).arg(server.data_dir()).output().unwrap();
    let (told, errors) = (String::from_utf8_lossy(&fsck.stdout), String::from_utf8_lossy(&fsck.stderr));
    assert!(fsck.status.success(), "what is stored is not whole: {told}\n{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_input_has_its_effect_once_though_the_process_is_killed_between_receive_and_commit() {
    let _machine = machine().await;
    let seed = seed("queue_effects");
    let mut dice = Dice::new(seed);
    let mut server = options().start().await;
    let (client, ways) = (server.client(), Ways::from(server.client()));
    let mut effects = Effects::start(&client, &ways, seed, "inputs", "outputs").await;
    effects.worker(&ways, seed).worker(&ways, seed).worker(&ways, seed);
    for _ in 0..KILLS * rounds(1) {
        // Each kill falls into work: work goes on until it is judged.
        effects.done_more(dice.between(1, 40), PROMPT).await;
        server.kill_nine();
        server.start().await;
    }
    effects.judge("queue_effects", &client, PROMPT).await;
}
