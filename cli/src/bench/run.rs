//! Runs workers on threads of their own, each with a single-threaded runtime: no locks between connections, no stealing.
//! All connections are open before the first request counts.

use std::future::Future;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::pace::Pace;
use super::process::Who;
use super::stats::Stats;
use crate::failure::Failure;

/// What processes used during a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) peak_rss_bytes: u64,
}

/// What a run brought.
pub(super) struct Outcome {
    /// One for each thread, in order.
    pub(super) stats: Vec<Stats>,
    /// From the first request to the last answer.
    pub(super) seconds: f64,
    pub(super) bench: Usage,
    pub(super) server: Option<Usage>,
}

/// Runs `work` on each thread over what `open` brought there. `pace` begins when every thread is open.
pub(super) fn run<C, O, OF, W, WF>(threads: usize, pace: &Pace, servers: &[u32], open: O, work: W) -> Result<Outcome, Failure>
where
    O: Fn(usize) -> OF + Sync,
    OF: Future<Output = Result<C, Failure>>,
    W: Fn(C) -> WF + Sync,
    WF: Future<Output = Result<Stats, Failure>>,
{
    let gate = Gate { barrier: Barrier::new(threads + 1), failed: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        let (gate, open, work) = (&gate, &open, &work);
        let handles: Vec<_> = (0..threads).map(|index| scope.spawn(move || gate.thread(index, open, work))).collect();
        let before = gate.pass(|| Meter::read(servers));
        if before.is_ok() {
            pace.began();
            gate.barrier.wait();
            pace.drive();
        } else {
            gate.failed.store(true, Ordering::SeqCst);
            gate.barrier.wait();
        }
        let joined =
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| Err(Failure::Defect("a bench thread panicked".into()))));
        let stats: Result<Vec<Option<Stats>>, Failure> = joined.collect();
        let seconds = (pace.now() - pace.began()).as_secs_f64();
        let (stats, before, after) = (stats?, before?, Meter::read(servers)?);
        let bench = before.bench.until(after.bench);
        let server = before.server.zip(after.server).map(|(before, after)| before.until(after));
        Ok(Outcome { stats: stats.into_iter().flatten().collect(), seconds, bench, server })
    })
}

/// Where threads meet: once when all are open, once when counting begins.
struct Gate {
    barrier: Barrier,
    failed: AtomicBool,
}

impl Gate {
    fn pass<T>(&self, then: impl FnOnce() -> T) -> T {
        self.barrier.wait();
        then()
    }

    /// `None` when another thread could not open.
    fn thread<C, OF, WF>(&self, index: usize, open: impl Fn(usize) -> OF, work: impl Fn(C) -> WF) -> Result<Option<Stats>, Failure>
    where
        OF: Future<Output = Result<C, Failure>>,
        WF: Future<Output = Result<Stats, Failure>>,
    {
        let opened = runtime().and_then(|runtime| {
            let opened = runtime.block_on(open(index))?;
            Ok((runtime, opened))
        });
        if opened.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        self.barrier.wait();
        self.barrier.wait();
        let (runtime, opened) = opened?;
        if self.failed.load(Ordering::SeqCst) {
            return Ok(None);
        }
        runtime.block_on(work(opened)).map(Some)
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| Failure::Defect(format!("no runtime: {error}")))
}

struct Meter {
    bench: Usage,
    server: Option<Usage>,
}

impl Meter {
    fn read(servers: &[u32]) -> Result<Self, Failure> {
        Ok(Self { bench: Usage::read(Who::Bench)?, server: Usage::of(servers)? })
    }
}

impl Usage {
    /// Of several processes together; `None` without any.
    pub(super) fn of(servers: &[u32]) -> Result<Option<Self>, Failure> {
        let mut all: Option<Self> = None;
        for pid in servers {
            let one = Self::read(Who::Server(*pid))?;
            let sum = all.get_or_insert(Self { cpu_seconds: 0.0, peak_rss_bytes: 0 });
            sum.cpu_seconds += one.cpu_seconds;
            sum.peak_rss_bytes += one.peak_rss_bytes;
        }
        Ok(all)
    }

    pub(super) fn read(who: Who) -> Result<Self, Failure> {
        Ok(Self { cpu_seconds: who.cpu_seconds()?, peak_rss_bytes: who.peak_rss_bytes()? })
    }

    /// CPU used since `self`, and the peak so far.
    pub(super) fn until(self, after: Self) -> Self {
        Self { cpu_seconds: after.cpu_seconds - self.cpu_seconds, peak_rss_bytes: after.peak_rss_bytes }
    }
}
