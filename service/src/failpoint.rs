//! Places where a test kills or holds the process: the kill points of the write path. Compiled to nothing without the cargo
//! feature `failpoints`, which no released executable has.
//!
//! With it, `LAKEFALL_FAILPOINTS` names what happens where, separated by commas: `k5=kill` kills the process (SIGKILL) at its
//! first pass of `k5`, `k5=kill:20` at the twentieth, `k4=stop:3` stops it (SIGSTOP), `k2=sleep:1:500` holds the first pass for
//! 500 ms. `@/path` names a file that holds such a text and is looked at again and again: what is written into it holds within
//! tens of milliseconds, in a process that runs already, and passes are counted from then on.

/// The variable that arms them. Known to every executable, so that none takes it for a setting.
pub const VARIABLE: &str = "LAKEFALL_FAILPOINTS";

/// Passes the place called `name`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::HashMap;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, OnceLock, PoisonError, RwLock};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    /// Between two looks at a file of points.
    const LOOK: Duration = Duration::from_millis(20);

    struct Point {
        action: Action,
        /// The pass at which it happens, counted from 1.
        at: u64,
        passed: AtomicU64,
    }

    enum Action {
        Signal(Signal),
        Sleep(Duration),
    }

    type Points = HashMap<String, Arc<Point>>;

    static POINTS: OnceLock<RwLock<Points>> = OnceLock::new();

    /// Passes the place called `name`.
    pub fn hit(name: &'static str) {
        let points = POINTS.get_or_init(|| RwLock::new(first()));
        let Some(point) = points.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned() else { return };
        if point.passed.fetch_add(1, Ordering::SeqCst) + 1 != point.at {
            return;
        }
        tracing::warn!(name, "a failpoint fires");
        match point.action {
            // The signal is on its way when this returns; nothing after this place may run.
            Action::Signal(signal) => {
                let _ = kill_process(getpid(), signal);
                std::thread::sleep(Duration::from_millis(200));
            }
            Action::Sleep(time) => std::thread::sleep(time),
        }
    }

    fn first() -> Points {
        let text = std::env::var(super::VARIABLE).unwrap_or_default();
        let Some(path) = text.strip_prefix('@').map(PathBuf::from) else { return parse(&text) };
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let points = parse(&text);
        std::thread::spawn(move || follow(&path, text));
        points
    }

    /// Takes over what a file holds whenever it is another text.
    fn follow(path: &std::path::Path, mut known: String) {
        loop {
            std::thread::sleep(LOOK);
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text != known
                && let Some(points) = POINTS.get()
            {
                *points.write().unwrap_or_else(PoisonError::into_inner) = parse(&text);
                known = text;
            }
        }
    }

    fn parse(text: &str) -> Points {
        text.split(',').filter_map(parse_one).collect()
    }

    fn parse_one(text: &str) -> Option<(String, Arc<Point>)> {
        let (name, rest) = text.trim().split_once('=')?;
        let mut rest = rest.split(':');
        let action = rest.next()?;
        let at = rest.next().map_or(Some(1), |at| at.parse().ok())?;
        let action = match action {
            "kill" => Action::Signal(Signal::KILL),
            "stop" => Action::Signal(Signal::STOP),
            "sleep" => Action::Sleep(Duration::from_millis(rest.next()?.parse().ok()?)),
            _ => return None,
        };
        Some((name.to_owned(), Arc::new(Point { action, at, passed: AtomicU64::new(0) })))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn points_are_read_with_their_action_and_pass() {
            let points = parse("k5=kill:20, k2=sleep:1:500,k4=stop,nonsense,k1=dance");
            assert_eq!(points.len(), 3);
            assert!(matches!(*points["k5"], Point { action: Action::Signal(Signal::KILL), at: 20, .. }));
            assert!(matches!(*points["k4"], Point { action: Action::Signal(Signal::STOP), at: 1, .. }));
            assert!(matches!(points["k2"].action, Action::Sleep(time) if time == Duration::from_millis(500)));
        }
    }
}
