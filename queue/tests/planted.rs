//! Planting: by name, one at a time, and only where the feature is on. What each mistake does to the system is for the
//! simulation to show. A process of its own, as what is planted is planted for all of it.

#![cfg(feature = "planted")]

use std::collections::BTreeSet;

use lakefall_queue::planted::{ALL, Bug, is, plant, reached, remove};

#[test]
fn what_is_planted_is_chosen_by_name_and_nothing_else_is_planted_with_it() {
    let names: BTreeSet<&str> = ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), ALL.len(), "two bear the same name");
    assert!(ALL.len() >= 15, "{}", ALL.len());
    assert!(ALL.iter().enumerate().all(|(index, (_, bug))| *bug as usize == index), "not in the order of the enum, or one lacks");
    assert!(ALL.iter().all(|(_, bug)| !is(*bug)), "planted before anybody asked for it");
    for (name, bug) in ALL {
        assert!(plant(name), "{name}");
        assert_eq!(reached(), 0, "{name}");
        let planted: Vec<&str> = ALL.iter().filter(|(_, other)| is(*other)).map(|(name, _)| *name).collect();
        assert_eq!(planted, [*name]);
        assert!(is(*bug));
        assert_eq!(reached(), 2, "{name}");
    }
    assert!(!plant("no-such-bug"));
    assert!(is(Bug::RepeatedCommitApplied), "the last one stays planted");
    remove();
    assert!(ALL.iter().all(|(_, bug)| !is(*bug)));
}
