//! Commits whose answers get lost, and callers that go away.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::poll_immediate;
use lakefall_metadata::memory::Fault as JournalFault;
use lakefall_queue::verbs::Verbs;

use crate::support::faults::Fault;
use crate::support::{Dice, World, append, caller, places, record, settle};

#[tokio::test(start_paused = true)]
async fn a_commit_whose_reply_was_lost_gets_the_first_answer_and_is_stored_once() {
    for fault in [JournalFault::LoseReply, JournalFault::LoseRequest, JournalFault::Refuse] {
        let world = World::new().await;
        world.topic("t", 1).await;
        world.journal.faults().order([Some(fault)]);
        let sent = places(&world.send("t", &["a"]).await.unwrap());
        assert_eq!(sent, [(0, 0)], "{fault:?}");
        assert_eq!(world.journal.faults().pending(), 0);
        assert_eq!(places(&world.send("t", &["b"]).await.unwrap()), [(0, 1)], "{fault:?}");
        assert_eq!(world.values("t").await, ["a", "b"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_on_the_way_each_acknowledged_record_is_stored_once_where_its_answer_says() {
    let mut dice = Dice::new(2_024);
    let world = World::new().await;
    world.topic("t", 4).await;
    let mut begun = Vec::new();
    for i in 0..200 {
        let put = [Fault::Before, Fault::After, Fault::Throttle].get(dice.below(12) as usize).cloned();
        let journal = [JournalFault::LoseReply, JournalFault::LoseRequest, JournalFault::Refuse].get(dice.below(24) as usize).copied();
        world.objects.order_puts([put]);
        world.journal.faults().order([journal]);
        begun.push((i.to_string(), world.begin(append("t", vec![record(&i.to_string())])).await));
        if dice.below(4) == 0 {
            tokio::time::sleep(Duration::from_millis(dice.below(30))).await;
        }
    }
    let mut expected = BTreeSet::new();
    for (value, one) in begun {
        let (partition, offset) = places(&one.await.unwrap().unwrap())[0];
        expected.insert((partition, offset, value));
    }
    assert!(world.objects.fired() > 10);
    let found = crate::support::all(&world.engine, "t").await;
    let values = crate::support::values(&found);
    let found: Vec<_> = found.iter().zip(values).map(|(r, value)| (r.partition.0, r.offset.0, value)).collect();
    assert_eq!(found.len(), 200, "nothing twice");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_at_any_moment_leaves_its_record_stored_at_most_once() {
    let world = World::new().await;
    world.topic("t", 1).await;
    let (caller, mut acked) = (caller(), BTreeSet::new());
    let mut polls = 0;
    loop {
        let value = polls.to_string();
        let mut call = Box::pin(world.engine.append(&caller, append("t", vec![record(&value)])));
        let mut done = false;
        for _ in 0..polls {
            if poll_immediate(&mut call).await.is_some() {
                done = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        if done {
            acked.insert(value);
            break;
        }
        polls += 1;
        assert!(polls < 1_000, "it never ends");
    }
    settle().await;
    assert!(polls > 2, "it was dropped on the way");
    world.send("t", &["after"]).await.unwrap();
    let found = world.values("t").await;
    let distinct: BTreeSet<&String> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "at most once: {found:?}");
    assert!(acked.iter().all(|value| distinct.contains(value)));
    assert_eq!(found.last().unwrap(), "after");
}
