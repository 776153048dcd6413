//! Runs a target on what broke it before, on its seeds and on mutants of them, and holds every run against the bounds of time
//! and memory. The same seed makes the same inputs.

use std::any::Any;
use std::cell::RefCell;
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::files::{corpus, dictionary, read_all, regressions, write};
use crate::mutate::Mutator;
use crate::{LONGEST_INPUT, Target};

/// Time of the thread that an input may take, in a debug build.
const LONGEST: Duration = Duration::from_secs(5);
/// Runs that are spent on making a failing input smaller.
const SHRINKS: usize = 300;
/// Mutants that were taken and become parents themselves, at most.
const KEPT: usize = 64;

/// Runs a function and tells the most bytes that it held at a time.
pub type Measure = fn(&mut dyn FnMut()) -> u64;

/// What a target is to be put through.
pub struct Campaign {
    /// Of the mutants.
    pub seed: u64,
    /// How many mutants.
    pub executions: u64,
    /// How long, instead of `executions`.
    pub time: Option<Duration>,
    /// Tells memory.
    pub measure: Measure,
    /// Where the input under way is written to, so that it is known when the process ends with it.
    pub scratch: PathBuf,
}

/// How a campaign went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Inputs run.
    pub executions: u64,
    /// Of these, those that were not refused.
    pub taken: u64,
    /// Mutants that were taken.
    pub mutants_taken: u64,
    /// The longest time of one input.
    pub slowest: Duration,
    /// The most memory of one input, in bytes.
    pub largest: u64,
}

impl Campaign {
    /// Runs it.
    ///
    /// # Panics
    /// With the input's path, as soon as a promise is broken; and if nothing was tested at all.
    pub fn run(&self, target: &Target) -> Report {
        quiet();
        let mut run = Run { target, measure: self.measure, report: Report::default(), current: Current::open(&self.scratch, target.name) };
        let known = read_all(&regressions(target.name));
        let seeds = read_all(&corpus(target.name));
        assert!(!seeds.is_empty(), "{}: there are no seeds in {}", target.name, corpus(target.name).display());
        for (name, input) in known.iter().chain(&seeds) {
            if let Err(failure) = run.execute(input) {
                panic!("{}: {name}: {failure}", target.name);
            }
        }
        assert!(run.report.taken > 0, "{}: no seed is taken", target.name);
        let before = run.report;
        let mut pool: Vec<Vec<u8>> = seeds.into_iter().chain(known).map(|(_, input)| input).collect();
        let first = pool.len();
        let words = dictionary(target.name);
        let mut mutator = Mutator::new(self.seed);
        let started = clock(ClockId::Monotonic);
        while self.goes_on(run.report.executions - before.executions, started) {
            let (parent, other) = (mutator.below(pool.len()), mutator.below(pool.len()));
            let mutant = mutator.mutant(&pool[parent], &pool[other], &words);
            match run.execute(&mutant) {
                Err(failure) => self.give_up(&mut run, mutant, &failure),
                Ok(true) if mutator.one_in(4) => match pool.len() - first {
                    KEPT => pool[first + mutator.below(KEPT)] = mutant,
                    _ => pool.push(mutant),
                },
                Ok(_) => {}
            }
        }
        run.current.remove();
        let mut report = run.report;
        report.mutants_taken = report.taken - before.taken;
        assert!(report.mutants_taken > 0, "{}: no mutant is taken: what lies behind the door was not tested", target.name);
        report
    }

    fn goes_on(&self, executions: u64, started: Duration) -> bool {
        match self.time {
            Some(time) => clock(ClockId::Monotonic).saturating_sub(started) < time,
            None => executions < self.executions,
        }
    }

    /// Makes the input smaller, keeps it, and tells.
    fn give_up(&self, run: &mut Run<'_>, mut input: Vec<u8>, failure: &str) -> ! {
        let mut shrinks = 0;
        let mut piece = input.len() / 2;
        while piece > 0 && shrinks < SHRINKS {
            let mut at = 0;
            while at < input.len() && shrinks < SHRINKS {
                let mut smaller = input.clone();
                smaller.drain(at..(at + piece).min(input.len()));
                shrinks += 1;
                if run.execute(&smaller).is_err() {
                    input = smaller;
                } else {
                    at += piece;
                }
            }
            piece /= 2;
        }
        let failure = run.execute(&input).err().unwrap_or_else(|| failure.to_owned());
        let hash = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        let path = regressions(run.target.name).join(format!("{hash:016x}"));
        let kept = match write(&path, &input) {
            Ok(()) => format!("kept as {}: run again with every test, to be committed with the cure", path.display()),
            Err(error) => format!("{} cannot be written: {error}; the input is {input:?}", path.display()),
        };
        panic!("{}: seed {}: {failure}\n{} bytes, {kept}", run.target.name, self.seed, input.len());
    }
}

struct Run<'a> {
    target: &'a Target,
    measure: Measure,
    report: Report,
    current: Current,
}

impl Run<'_> {
    /// Whether the target took the input, or what went wrong.
    fn execute(&mut self, input: &[u8]) -> Result<bool, String> {
        self.current.is(input);
        PLACES.take();
        let before = clock(ClockId::ThreadCPUTime);
        let mut outcome = Ok(false);
        let largest = (self.measure)(&mut || {
            WATCHED.set(true);
            outcome = catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))).map_err(told);
            WATCHED.set(false);
        });
        let took = clock(ClockId::ThreadCPUTime).saturating_sub(before);
        self.report.executions += 1;
        self.report.slowest = self.report.slowest.max(took);
        self.report.largest = self.report.largest.max(largest);
        let taken = outcome?;
        self.report.taken += u64::from(taken);
        if input.len() <= LONGEST_INPUT {
            if took > LONGEST {
                return Err(format!("it took {took:?} of processor time: at most {LONGEST:?} are allowed"));
            }
            if largest > self.target.memory {
                return Err(format!("it took {largest} bytes of memory: at most {} are allowed", self.target.memory));
            }
        }
        Ok(taken)
    }
}

/// The input under way, as a file.
struct Current {
    path: PathBuf,
    file: std::fs::File,
}

impl Current {
    fn open(scratch: &Path, target: &str) -> Self {
        let path = scratch.join(format!("{target}.current"));
        write(&path, b"").unwrap();
        Self { file: std::fs::File::options().write(true).open(&path).unwrap(), path }
    }

    fn is(&mut self, input: &[u8]) {
        self.file.rewind().unwrap();
        self.file.write_all(input).unwrap();
        self.file.set_len(input.len() as u64).unwrap();
    }

    fn remove(&self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

thread_local! {
    /// A target is under way in this thread.
    static WATCHED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    /// Where it panicked, each time.
    static PLACES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Panics of targets are told once, when they are one: some decoders catch those of libraries, which are no defect.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if WATCHED.get() {
                let place = info.location().map(ToString::to_string).unwrap_or_default();
                PLACES.with_borrow_mut(|places| places.push(place));
            } else {
                usual(info);
            }
        }));
    });
}

fn told(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let places = PLACES.with_borrow(|places| places[places.len().saturating_sub(4)..].join(", then "));
    format!("{places}: {}", text.unwrap_or_default())
}

fn clock(id: ClockId) -> Duration {
    let now = clock_gettime(id);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(executions: u64) -> Campaign {
        let scratch = std::env::temp_dir().join(format!("lakefall-fuzz-{}", std::process::id()));
        Campaign {
            seed: 1,
            executions,
            time: None,
            measure: |run| {
                run();
                0
            },
            scratch,
        }
    }

    #[test]
    fn a_panic_of_a_target_is_told_with_its_place() {
        let breaks = |input: &[u8]| {
            assert!(input.len() < 100, "too long");
            true
        };
        let campaign = campaign(0);
        let target = Target { name: "batch_decode", run: breaks, executions: 0, memory: 0 };
        let mut run = Run {
            target: &target,
            measure: campaign.measure,
            report: Report::default(),
            current: Current::open(&campaign.scratch, "breaks"),
        };
        quiet();
        assert!(run.execute(&[0; 99]).unwrap());
        let failure = run.execute(&[0; 100]).unwrap_err();
        assert!(failure.ends_with("too long") && failure.contains("campaign.rs"), "{failure}");
        run.current.remove();
    }

    #[test]
    fn more_memory_than_allowed_is_a_failure() {
        let campaign = campaign(0);
        let target = Target { name: "batch_decode", run: |_| true, executions: 0, memory: 10 };
        let measure: Measure = |run| {
            run();
            11
        };
        let mut run = Run { target: &target, measure, report: Report::default(), current: Current::open(&campaign.scratch, "memory") };
        assert!(run.execute(b"").unwrap_err().contains("11 bytes of memory"));
        run.current.remove();
    }

    #[test]
    #[should_panic(expected = "no mutant is taken")]
    fn a_campaign_in_which_nothing_gets_past_the_door_fails() {
        let first = |_: &[u8]| RUNS.replace(RUNS.get() + 1) == 0;
        campaign(10).run(&Target { name: "batch_decode", run: first, executions: 0, memory: 1 });
    }

    thread_local!(static RUNS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
}
