//! Long computations that can wait give way to others again and again, where whoever has them done says so.
//!
//! Threads of the lowest scheduling class make room at once for any of their own group. But Linux shares cores between groups first
//! (sessions, see "autogroup" in `sched(7)`, and containers), and there such a thread counts as any other: whoever wakes up waits until
//! its slice ends, some milliseconds. One that offers its core is taken off it.

use std::cell::Cell;

/// Bytes of records between two offers: a fraction of a millisecond, at what decoding and encoding take.
const BETWEEN: usize = 32 << 10;

thread_local! {
    /// Bytes until this thread offers its core, if what it works on can wait.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Puts the thread back to what it was, also after a panic.
struct Before(Option<usize>);

impl Drop for Before {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// Does work that can wait: it gives way at its [`step`]s and [`offer`]s.
pub fn giving_way<T>(work: impl FnOnce() -> T) -> T {
    let _before = Before(LEFT.replace(Some(BETWEEN)));
    work()
}

/// So many bytes more are done, or are about to be.
pub fn step(bytes: usize) {
    let Some(left) = LEFT.get() else { return };
    if bytes < left {
        LEFT.set(Some(left - bytes));
    } else {
        offer();
    }
}

/// Gives way now, if this is work that can wait.
pub fn offer() {
    if LEFT.get().is_some() {
        LEFT.set(Some(BETWEEN));
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_counts_bytes_only_while_its_work_can_wait() {
        step(BETWEEN);
        assert_eq!(LEFT.get(), None);
        giving_way(|| {
            step(BETWEEN - 1);
            assert_eq!(LEFT.get(), Some(1));
            step(1);
            assert_eq!(LEFT.get(), Some(BETWEEN));
        });
        assert!(std::panic::catch_unwind(|| giving_way(|| assert_eq!(1, 2))).is_err());
        assert_eq!(LEFT.get(), None);
    }
}
