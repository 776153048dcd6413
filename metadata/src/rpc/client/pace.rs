//! How long to wait before something is tried again: longer each time, and never the same for two who failed together.

use std::time::Duration;

use lakefall_queue::clock::Ambient;

/// Pauses that grow from a first to a longest.
pub(super) struct Pace {
    next: Duration,
    longest: Duration,
}

impl Pace {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause: half of it at least, and up to as much again.
    pub(super) fn pause(&mut self, ambient: &Ambient) -> Duration {
        let pause = jittered(self.next, ambient);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

/// Between half of `pause` and all of it.
pub(super) fn jittered(pause: Duration, ambient: &Ambient) -> Duration {
    let random = f64::from(ambient.entropy.draw() as u32) / f64::from(u32::MAX);
    pause.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_are_at_least_half_of_what_they_may_be() {
        let ambient = lakefall_service::system_ambient();
        let mut pace = Pace::new(Duration::from_millis(10), Duration::from_millis(40));
        for most in [10, 20, 40, 40].map(Duration::from_millis) {
            let pause = pace.pause(&ambient);
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
        }
    }
}
