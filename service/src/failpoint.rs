//! Places where a test kills or holds the process: the kill points of the write path. Compiled to nothing without the cargo
//! feature `failpoints`, which no released executable has.
//!
//! With it, `LAKEFALL_FAILPOINTS` names what happens where, separated by commas: `k5=kill` kills the process (SIGKILL) at its
//! first pass of `k5`, `k5=kill:20` at the twentieth, `k4=stop:3` stops it (SIGSTOP), `k2=sleep:1:500` holds the first pass for
//! 500 ms.

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
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

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

    static POINTS: OnceLock<HashMap<String, Point>> = OnceLock::new();

    /// Passes the place called `name`.
    pub fn hit(name: &'static str) {
        let points = POINTS.get_or_init(|| std::env::var(super::VARIABLE).map(|text| parse(&text)).unwrap_or_default());
        let Some(point) = points.get(name) else { return };
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

    fn parse(text: &str) -> HashMap<String, Point> {
        text.split(',').filter_map(parse_one).collect()
    }

    fn parse_one(text: &str) -> Option<(String, Point)> {
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
        Some((name.to_owned(), Point { action, at, passed: AtomicU64::new(0) }))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn points_are_read_with_their_action_and_pass() {
            let points = parse("k5=kill:20, k2=sleep:1:500,k4=stop,nonsense,k1=dance");
            assert_eq!(points.len(), 3);
            assert!(matches!(points["k5"], Point { action: Action::Signal(Signal::KILL), at: 20, .. }));
            assert!(matches!(points["k4"], Point { action: Action::Signal(Signal::STOP), at: 1, .. }));
            assert!(matches!(points["k2"].action, Action::Sleep(time) if time == Duration::from_millis(500)));
        }
    }
}
