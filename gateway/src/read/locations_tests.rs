//! What is remembered of locations, apart from who asks.

use std::sync::atomic::{AtomicU64, Ordering};

use lakefall_queue::clock::{Clock, Entropy};
use lakefall_queue::{NamespaceName, SegmentId, ShardId, Timestamp, TopicName};

use super::*;

struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + self.0.load(Ordering::SeqCst) as i64)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

struct Zero;

impl Entropy for Zero {
    fn draw(&self) -> u128 {
        0
    }
}

const P: PartitionIndex = PartitionIndex(0);

fn topic(number: u32) -> TopicId {
    TopicId::new(ShardId(0), u64::from(number))
}

fn memory() -> (Arc<Locations>, Arc<Hand>) {
    let hand = Arc::new(Hand(AtomicU64::new(0)));
    (Locations::new(Ambient { clock: Arc::clone(&hand) as _, entropy: Arc::new(Zero) }), hand)
}

fn extent(base: u64, records: u32, object: u128) -> Extent {
    let time = Timestamp::from_millis(1_700_000_000_000);
    Extent {
        level: Default::default(),
        base_offset: Offset(base),
        records,
        length: 100,
        object: SegmentId::mint(time, object),
        object_size: 1_000,
        position: 0,
        first_timestamp: time,
        max_timestamp: time,
        appended_at: time,
    }
}

fn located(log_start: u64, end: u64, extents: &[Extent]) -> Located {
    Located {
        overlay: Vec::new(),
        log_start: Offset(log_start),
        end: Offset(end),
        extents: extents.to_vec(),
        first_recent: Offset(0),
        retired: Offset(0),
        deleted: false,
    }
}

fn found(locations: &Locations, from: u64) -> Option<Vec<(u64, u64)>> {
    let found = locations.find(topic(1), P, Offset(from), u64::MAX, 1_000)?;
    Some(found.extents.iter().map(|e| (e.base_offset.0, e.end().0)).collect())
}

fn learn(locations: &Locations, located: &Located) {
    let asked = locations.asked();
    locations.learn(topic(1), P, located, asked);
}

#[test]
fn a_run_is_found_from_within_and_ends_at_a_gap_or_where_it_is_too_old() {
    let (locations, hand) = memory();
    learn(&locations, &located(0, 100, &[extent(0, 10, 1), extent(10, 10, 2), extent(30, 10, 3)]));
    assert_eq!(found(&locations, 5), Some(vec![(0, 10), (10, 20)]));
    assert_eq!(found(&locations, 20), None, "a gap");
    assert_eq!(found(&locations, 39), Some(vec![(30, 40)]));
    assert_eq!(found(&locations, 40), None, "the end of what is known");
    hand.0.store(59_000, Ordering::SeqCst);
    learn(&locations, &located(0, 100, &[extent(20, 10, 4)]));
    assert_eq!(found(&locations, 0), Some(vec![(0, 10), (10, 20), (20, 30), (30, 40)]));
    hand.0.store(60_000, Ordering::SeqCst);
    assert_eq!(found(&locations, 0), None);
    assert_eq!(found(&locations, 20), Some(vec![(20, 30)]), "what follows is too old");
}

#[test]
fn bounds_only_rise_and_below_the_log_start_nothing_is_found() {
    let (locations, _) = memory();
    let older = locations.asked();
    learn(&locations, &located(15, 120, &[extent(10, 10, 1)]));
    locations.learn(topic(1), P, &located(0, 100, &[extent(0, 10, 2)]), older);
    let told = locations.find(topic(1), P, Offset(15), 1, 1).unwrap();
    assert_eq!((told.log_start.0, told.end.0), (15, 120));
    assert_eq!(found(&locations, 14), Some(vec![]), "gone, and nobody need be asked");
    assert_eq!(locations.bounds(topic(1), P), Some(Bounds { log_start: Offset(15), end: Offset(120) }));
}

#[test]
fn extents_that_were_told_later_replace_those_that_they_overlap() {
    let (locations, hand) = memory();
    learn(&locations, &located(0, 30, &[extent(0, 10, 1), extent(10, 10, 2), extent(20, 10, 3)]));
    hand.0.store(10, Ordering::SeqCst);
    learn(&locations, &located(0, 30, &[extent(5, 20, 9)]));
    assert_eq!(found(&locations, 7), Some(vec![(5, 25)]));
    assert_eq!(found(&locations, 0), None);
    let late = Notice::Appended { topic: topic(1), partition: P, extent: extent(0, 10, 1) };
    locations.notice(&[late]);
    assert_eq!(found(&locations, 7), Some(vec![(5, 25)]), "what was told before does not");
}

#[test]
fn an_answer_that_was_under_way_when_the_topic_changed_is_not_believed() {
    let (locations, _) = memory();
    let asked = locations.asked();
    let changed = Notice::TopicChanged { namespace: NamespaceName::default_name(), name: TopicName::new("t").unwrap(), topic: topic(1) };
    locations.notice(&[changed]);
    locations.learn(topic(1), P, &located(0, 10, &[extent(0, 10, 1)]), asked);
    assert_eq!(found(&locations, 0), None);
    learn(&locations, &located(0, 10, &[extent(0, 10, 1)]));
    assert!(found(&locations, 0).is_some());
    let asked = locations.asked();
    locations.forget_all();
    locations.learn(topic(1), P, &located(0, 10, &[extent(0, 10, 1)]), asked);
    assert_eq!(found(&locations, 0), None);
}

#[test]
fn notices_lengthen_what_is_read_and_nothing_else_and_are_as_old_as_they_say() {
    let (locations, hand) = memory();
    let appended = |base, object| Notice::Appended { topic: topic(1), partition: P, extent: extent(base, 10, object) };
    locations.notice(&[appended(0, 1)]);
    assert_eq!(found(&locations, 0), None, "nobody reads it");
    learn(&locations, &located(0, 10, &[extent(0, 10, 1)]));
    locations.notice(&[appended(10, 2)]);
    assert_eq!(found(&locations, 0), Some(vec![(0, 10), (10, 20)]));
    assert_eq!(locations.bounds(topic(1), P).unwrap().end, Offset(20));
    hand.0.store(61_000, Ordering::SeqCst);
    locations.notice(&[appended(20, 3)]);
    assert_eq!(found(&locations, 20), None, "it was a minute on its way");
}

#[test]
fn what_is_remembered_is_bounded_and_what_was_read_last_stays() {
    let (locations, _) = memory();
    for number in 0..(PARTITIONS as u32 + 100) {
        let asked = locations.asked();
        locations.learn(topic(number), P, &located(0, 10, &[extent(0, 10, 1)]), asked);
        assert!(locations.find(topic(0), P, Offset(0), 1, 1).is_some(), "read all the time");
    }
    assert_eq!(locations.lock().partitions.len(), PARTITIONS);
    assert!(locations.find(topic(1), P, Offset(0), 1, 1).is_none());
    for number in 0..100 {
        for base in 0..(2 * EXTENTS_OF_ONE as u64) {
            let asked = locations.asked();
            locations.learn(topic(number), P, &located(0, 1 << 20, &[extent(base, 1, 1)]), asked);
        }
    }
    let memory = locations.lock();
    assert!(memory.extents <= EXTENTS && memory.extents > EXTENTS / 2);
    assert_eq!(memory.partitions.values().map(|known| known.extents.len()).sum::<usize>(), memory.extents);
    assert_eq!(memory.by_use.len(), memory.partitions.len());
    assert!(memory.partitions.values().all(|known| known.extents.len() <= EXTENTS_OF_ONE));
}
