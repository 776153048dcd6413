//! What answers to readers occupy, all together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lakefall_queue::verbs::{Read, Start, Verbs};

use crate::support::{Setup, World, append, caller, read, record};

const MIB: usize = 1 << 20;

#[tokio::test(start_paused = true)]
async fn a_hundred_readers_of_large_pages_stay_within_the_room_and_all_are_served() {
    let world = Arc::new(World::with(Setup { read_buffer_bytes: 16 * MIB, ..Setup::default() }).await);
    world.topic("t", 1).await;
    let value = "x".repeat(64 << 10);
    for _ in 0..16 {
        world.append(append("t", (0..16).map(|_| record(&value)).collect())).await.unwrap();
    }
    let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let readers = (0..100).map(|_| {
        let (world, held, most) = (Arc::clone(&world), Arc::clone(&held), Arc::clone(&most));
        tokio::spawn(async move {
            let (mut next, mut pages) = (0, 0);
            while next < 256 {
                let page = Read { max_bytes: 16 * MIB, ..read("t", &[(0, crate::support::start_at(next))]) };
                let found = world.engine.read(&caller(), page).await.unwrap();
                assert!(!found.records.is_empty());
                let bytes: usize = found.records.iter().map(|r| 2 * r.payload_bytes()).sum();
                most.fetch_max(held.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                (next, pages) = (found.next[0].next.0, pages + 1);
                // A client that takes its time.
                tokio::time::sleep(Duration::from_millis(10)).await;
                held.fetch_sub(bytes, Ordering::SeqCst);
                drop(found);
            }
            pages
        })
    });
    let readers: Vec<_> = readers.collect();
    for reader in readers {
        assert!(reader.await.unwrap() < 256);
    }
    let most = most.load(Ordering::SeqCst);
    // Each of those who were let in may be over by the batch that it has just decoded.
    assert!((8 * MIB..=20 * MIB).contains(&most), "{} MiB", most / MIB);
}

#[tokio::test(start_paused = true)]
async fn a_reader_alone_gets_its_whole_page_and_waiting_readers_occupy_nothing() {
    let world = Arc::new(World::with(Setup { read_buffer_bytes: 4 * MIB, ..Setup::default() }).await);
    world.topic("t", 1).await;
    world.topic("large", 1).await;
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let world = Arc::clone(&world);
            let wait = Read { wait: Duration::from_secs(60), ..read("t", &[(0, Start::Latest)]) };
            tokio::spawn(async move { world.engine.read(&caller(), wait).await.unwrap().records.len() })
        })
        .collect();
    crate::support::settle().await;
    let values = vec![record(&"x".repeat(1_000)); 200];
    world.append(append("large", values)).await.unwrap();
    let page = world.read(read("large", &[(0, Start::Earliest)])).await.unwrap();
    assert_eq!(page.records.len(), 200);
    drop(page);
    world.send("t", &["a"]).await.unwrap();
    for one in waiting {
        assert_eq!(one.await.unwrap(), 1);
    }
}
