//! `kill -9` at random moments under load: no acknowledged record is lost, none is made up, all readers agree.

use std::time::Duration;

use lakefall_tests::Options;
use lakefall_tests::checker::Demands;
use lakefall_tests::dice::{Dice, seed};
use lakefall_tests::load::{Load, Run, Ways};
use lakefall_tests::process::command;
use lakefall_tests::verdict;

use super::machine;

const KILLS: usize = 20;
/// Records acknowledged in the whole run, at least.
const ACKED: u64 = 5_000;
/// Within which a share of them is acknowledged after a start.
const SERVED: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_record_is_lost_when_the_process_is_killed_twenty_times() {
    let _machine = machine().await;
    let seed = seed("kill_nine");
    let mut dice = Dice::new(seed);
    // Small checkpoints and segments, so that kills fall into all of their moments.
    let options = Options::default().env("LAKEFALL_METADATA__CHECKPOINT_ENTRIES", 50).env("LAKEFALL_SEGMENT__TARGET_BYTES", 65_536);
    let mut server = options.start().await;
    server.client().create_topic("load", PARTITIONS).await;
    let run = Run::new("load", PARTITIONS);
    let mut clients = Load::new(&run, seed);
    clients.everyone(&Ways::from(server.client()));
    for _ in 0..KILLS {
        // As much as the verdict asks for, and then any moment.
        run.acked_more(ACKED / KILLS as u64, SERVED).await;
        tokio::time::sleep(Duration::from_millis(dice.between(20, 600))).await;
        server.kill_nine();
        run.recorder.fault("kill -9");
        server.start().await;
    }
    clients.finish().await;
    let report = verdict::judge("kill_nine", run, &server.client(), Demands { faults: KILLS, acked: ACKED as usize }).await;
    assert!(report.unknown_stored + report.unknown_absent > 0, "no kill met a request under way: the load is too small");
    server.stop().await;
    let fsck = command().args(["fsck", "--data-dir"]).arg(server.data_dir()).output().unwrap();
    let (told, errors) = (String::from_utf8_lossy(&fsck.stdout), String::from_utf8_lossy(&fsck.stderr));
    assert!(fsck.status.success(), "what is stored is not whole: {told}\n{errors}");
    println!("kill_nine: {}", told.lines().filter(|line| line.starts_with(['o', 's', 'c'])).collect::<Vec<_>>().join("; "));
}
