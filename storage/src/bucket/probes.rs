//! What Lakefall asks of any store, tried with objects of its own: each kind of request, and the promises about order
//! that the write path and the collector rest on.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use lakefall_queue::clock::Ambient;
use tokio::time::Instant;

use super::{Check, Report, Verdict};
use crate::store::{ObjectInfo, Store, StoreError};

/// Writers of one key at once, of whom one may win.
const RACE: usize = 20;
/// Requests of which the middle one is told.
const MEASURED: usize = 11;
const SIZE: usize = 4 << 10;
/// A PUT slower than this makes for a slow queue.
const SLOW_PUT: Duration = Duration::from_secs(1);

/// The checks of this file, in order.
pub(super) const NAMES: [&str; 13] = [
    "put",
    "read_after_write",
    "range",
    "head",
    "list",
    "list_after_write",
    "create_only",
    "create_race",
    "overwrite",
    "latency_put",
    "latency_get",
    "delete",
    "delete_visible",
];

/// Says what to grant for an action.
pub(super) type Grant<'a> = &'a (dyn Fn(&'static str) -> String + Sync);

struct Probes<'a> {
    store: &'a Store,
    grant: Grant<'a>,
    /// Different in every run, so that runs at the same time do not meet.
    run: String,
    written: Vec<String>,
    report: &'a mut Report,
}

/// Tries everything.
pub(super) async fn run(store: &Store, ambient: &Ambient, grant: Grant<'_>, report: &mut Report) {
    let run = format!("{:032x}", ambient.entropy.draw());
    let mut probes = Probes { store, grant, run, written: Vec::new(), report };
    if probes.put_and_read().await {
        probes.list().await;
        probes.create_only().await;
        probes.race().await;
        probes.overwrite().await;
        probes.latency().await;
    } else {
        probes.report.skip_all(&NAMES[4..11], "nothing could be written");
    }
    probes.delete().await;
}

impl Probes<'_> {
    fn key(&self, name: &str) -> String {
        format!("probe/{}-{name}", self.run)
    }

    fn main_key(&self) -> String {
        self.key("main")
    }

    fn failed(&self, name: &'static str, error: &StoreError, action: &'static str) -> Check {
        let advice = match error {
            StoreError::Denied { .. } => (self.grant)(action),
            StoreError::Throttled { .. } => "the store wants fewer requests: try again when there is less load".to_owned(),
            StoreError::Unavailable { .. } => "look at the network and the store, then try again".to_owned(),
            StoreError::Full { .. } => "make room".to_owned(),
            StoreError::NotFound { .. } | StoreError::Collision { .. } => {
                "the store does not show what was just written: Lakefall needs a store that does".to_owned()
            }
            StoreError::Other { .. } => "correct the store's settings".to_owned(),
        };
        Check::fail(name, error.to_string(), advice)
    }

    /// Adds a check of an answer that must be `expected`.
    fn judge<T: PartialEq>(
        &mut self,
        name: &'static str,
        action: &'static str,
        answer: Result<T, StoreError>,
        expected: &T,
        seen: &str,
        wrong: &str,
    ) -> bool {
        let check = match answer {
            Ok(found) if found == *expected => Check::ok(name, seen),
            Ok(_) => Check::fail(name, wrong, "use another store: this one would lose or damage records"),
            Err(error) => self.failed(name, &error, action),
        };
        self.report.add(check) == Verdict::Ok
    }

    async fn put_and_read(&mut self) -> bool {
        let (key, content) = (self.main_key(), content(0));
        let put = self.store.put_new(&key, vec![content.clone()]).await;
        self.written.push(key.clone());
        if !self.judge("put", "s3:PutObject", put, &(), "an object was written", "") {
            self.report.skip_all(&NAMES[1..4], "nothing could be written");
            return false;
        }
        let whole = self.store.get_range(&key, 0..SIZE as u64).await;
        self.judge("read_after_write", "s3:GetObject", whole, &content, "it was read back at once", "other bytes came back");
        let part = self.store.get_range(&key, 100..200).await;
        self.judge("range", "s3:GetObject", part, &content.slice(100..200), "a range of it was read", "another range came back");
        let head = self.store.head(&key).await.map(|info| info.size);
        self.judge("head", "s3:GetObject", head, &(SIZE as u64), "its size was told", "another size was told");
        true
    }

    async fn list(&mut self) {
        let key = self.main_key();
        let listed = self.store.list("probe").try_collect::<Vec<ObjectInfo>>().await;
        let contains = listed.map(|all| all.iter().any(|info| info.key == key));
        let permitted = contains.as_ref().map(|_| ()).map_err(Clone::clone);
        if !self.judge("list", "s3:ListBucket", permitted, &(), "objects were listed", "") {
            self.report.skip_all(&["list_after_write"], "objects cannot be listed");
            return;
        }
        let check = match contains {
            Ok(true) => Check::ok("list_after_write", "what was just written was listed"),
            _ => Check::warn("list_after_write", "what was just written was not listed", "the collector may take longer to find orphans"),
        };
        self.report.add(check);
    }

    /// R2: a second writer of a key must be refused.
    async fn create_only(&mut self) {
        let key = self.main_key();
        let second = self.store.put_new(&key, vec![content(1)]).await;
        let kept = self.store.get_range(&key, 0..SIZE as u64).await.is_ok_and(|found| found == content(0));
        let check = match second {
            Err(StoreError::Collision { .. }) if kept => Check::ok("create_only", "a second writer of a key was refused"),
            Ok(()) | Err(StoreError::Collision { .. }) => Check::fail(
                "create_only",
                "a second writer of a key wrote over the first",
                "use a store that honours If-None-Match on PUT: without it records can be lost",
            ),
            Err(error) => self.failed("create_only", &error, "s3:PutObject"),
        };
        self.report.add(check);
    }

    async fn race(&mut self) {
        let key = self.key("race");
        let writers = (0..RACE).map(|number| self.store.put_new(&key, vec![content(number as u8)]));
        let answers = join_all(writers).await;
        self.written.push(key.clone());
        let winners: Vec<usize> = (0..RACE).filter(|number| answers[*number].is_ok()).collect();
        let doubtful = answers.iter().filter(|answer| !matches!(answer, Ok(()) | Err(StoreError::Collision { .. }))).count();
        let kept = self.store.get_range(&key, 0..SIZE as u64).await;
        let check = match (winners.as_slice(), kept) {
            ([winner], Ok(found)) if found == content(*winner as u8) => {
                Check::ok("create_race", format!("of {RACE} writers at once one won, and its object is there"))
            }
            ([], _) | ([_], Err(_)) if doubtful > 0 => {
                Check::warn("create_race", format!("{doubtful} of {RACE} writers got no clear answer"), "try again when there is less load")
            }
            (winners, _) => Check::fail(
                "create_race",
                format!("of {RACE} writers at once {} were told that they won", winners.len()),
                "use a store that lets exactly one of them win: without it records can be lost",
            ),
        };
        self.report.add(check);
    }

    async fn overwrite(&mut self) {
        let key = format!("meta/probe-{}", self.run);
        let answer = async {
            for number in 0..2 {
                self.store.put_control(&key, content(number)).await?;
            }
            self.store.get_control(&key).await
        }
        .await;
        self.written.push(key);
        let seen = "a control object was written over and read back";
        self.judge("overwrite", "s3:PutObject", answer, &Some(content(1)), seen, "an overwritten object came back as it was before");
    }

    async fn latency(&mut self) {
        let (mut puts, mut gets) = (Vec::new(), Vec::new());
        for number in 0..MEASURED {
            let key = self.key(&format!("latency-{number}"));
            let started = Instant::now();
            let put = self.store.put_new(&key, vec![content(0)]).await;
            puts.push(started.elapsed());
            self.written.push(key.clone());
            let started = Instant::now();
            let got = self.store.get_range(&key, 0..SIZE as u64).await;
            gets.push(started.elapsed());
            if put.is_err() || got.is_err() {
                self.report.skip_all(&NAMES[9..11], "not every request was answered");
                return;
            }
        }
        let (put, get) = (median(puts), median(gets));
        let check = if put > SLOW_PUT {
            Check::warn("latency_put", told(put), "every acknowledgement waits for a PUT: is the bucket in the region of the gateways?")
        } else {
            Check::ok("latency_put", told(put))
        };
        self.report.add(check);
        self.report.add(Check::ok("latency_get", told(get)));
    }

    async fn delete(&mut self) {
        let mut failed = None;
        let mut left = Vec::new();
        for key in std::mem::take(&mut self.written) {
            if let Err(error) = self.store.delete(&key).await {
                failed = Some(error);
                left.push(key);
            }
        }
        let Some(error) = failed else {
            self.report.add(Check::ok("delete", "what was written was deleted"));
            return self.delete_visible().await;
        };
        let advice =
            format!("{}; the collector needs it, gateways do not. Left behind: {}", (self.grant)("s3:DeleteObject"), left.join(", "));
        self.report.add(Check::warn("delete", error.to_string(), advice));
        self.report.skip_all(&["delete_visible"], "nothing could be deleted");
    }

    async fn delete_visible(&mut self) {
        let (key, prefix) = (self.main_key(), "delete_visible");
        let listed = self.store.list("probe").try_collect::<Vec<ObjectInfo>>().await;
        let still_listed = listed.is_ok_and(|all| all.iter().any(|info| info.key == key));
        let check = match self.store.head(&key).await {
            Err(StoreError::NotFound { .. }) if !still_listed => Check::ok(prefix, "what was deleted is gone"),
            Ok(_) | Err(StoreError::NotFound { .. }) => {
                Check::warn(prefix, "what was deleted still shows", "is versioning or a cache in between? the bucket may grow")
            }
            Err(StoreError::Denied { .. }) => {
                let advice = format!("{}: without it a missing object looks like a forbidden one", (self.grant)("s3:ListBucket"));
                Check::warn(prefix, "a missing object is answered with 403", advice)
            }
            Err(error) => self.failed(prefix, &error, "s3:GetObject"),
        };
        self.report.add(check);
    }
}

/// Different bytes for each writer.
fn content(number: u8) -> Bytes {
    (0..SIZE).map(|at| (at as u8).wrapping_mul(31).wrapping_add(number)).collect()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

fn told(latency: Duration) -> String {
    format!("half of {MEASURED} requests of {} KiB took {:.1} ms or less", SIZE >> 10, latency.as_secs_f64() * 1_000.0)
}
