//! When a segment may leave: PUT tokens (the cost dial), and how many uploads may be under way. Pure: takes the time,
//! answers what to do.

use std::time::Duration;

use super::IngestConfig;

/// The uploads under way and the right to start more.
///
/// The number of uploads at once adapts: it halves when the store throttles and creeps up by one per round of successes,
/// as TCP does (additive increase, multiplicative decrease), between 1 and `uploads.max`. It halves once for all attempts
/// that were under way together: one burst of refusals is one sign.
#[derive(Debug)]
pub(crate) struct Uploads {
    tokens: Option<Tokens>,
    target_bytes: usize,
    eager: usize,
    max: f64,
    allowed: f64,
    /// How often it was halved.
    halvings: u64,
    uploading: usize,
    unsettled: usize,
}

/// Segments at once whose requests are not answered. While the metadata service is away, the open segment grows beyond it
/// instead: few large segments wait for their commit, not thousands of small ones that all ask again and again.
const UNSETTLED: usize = 128;

/// A token bucket.
#[derive(Debug)]
struct Tokens {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

/// What to do with the open segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Send it now.
    Close,
    /// Look again when an upload or a commit ends.
    AwaitUpload,
    /// Look again after this time.
    AwaitToken(Duration),
}

impl Uploads {
    pub(crate) fn new(config: &IngestConfig, now: Duration) -> Self {
        Self {
            tokens: Tokens::new(config.puts_per_second, config.put_burst, now),
            target_bytes: config.target_bytes,
            eager: config.uploads_eager,
            max: config.uploads_max as f64,
            allowed: config.uploads_max as f64,
            halvings: 0,
            uploading: 0,
            unsettled: 0,
        }
    }

    /// Exchanges the rate. Debt of the old one stays: else one could be had for nothing by setting it again and again.
    pub(crate) fn set_rate(&mut self, per_second: Option<f64>, burst: u32, now: Duration) {
        let level = self.tokens.as_mut().map(|tokens| {
            tokens.refill(now);
            tokens.level
        });
        self.tokens =
            Tokens::new(per_second, burst, now).map(|tokens| Tokens { level: level.unwrap_or(tokens.level).min(tokens.burst), ..tokens });
    }

    /// What to do with an open segment of `bytes`, of which some record is `express`, or all are `patient` and younger
    /// than a second.
    pub(crate) fn decide(&mut self, bytes: usize, express: bool, patient: Option<Duration>, now: Duration) -> Decision {
        let full = bytes >= self.target_bytes;
        if self.uploading >= self.allowed as usize || self.unsettled >= UNSETTLED {
            return Decision::AwaitUpload;
        }
        if full || express {
            return Decision::Close;
        }
        if self.uploading >= self.eager {
            return Decision::AwaitUpload;
        }
        if let Some(left) = patient {
            return Decision::AwaitToken(left);
        }
        match self.tokens.as_mut().and_then(|tokens| tokens.missing(now)) {
            Some(wait) => Decision::AwaitToken(wait),
            None => Decision::Close,
        }
    }

    /// A segment leaves.
    pub(crate) fn started(&mut self, now: Duration) {
        if let Some(tokens) = &mut self.tokens {
            tokens.take(now);
        }
        self.uploading += 1;
        self.unsettled += 1;
    }

    /// Its upload ended.
    pub(crate) fn uploaded(&mut self, succeeded: bool) {
        self.uploading = self.uploading.saturating_sub(1);
        if succeeded {
            self.allowed = (self.allowed + 1.0 / self.allowed).min(self.max);
        }
    }

    /// Its requests were answered.
    pub(crate) fn settled(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }

    /// An attempt to upload begins. To be told with [`Uploads::throttled`].
    pub(crate) fn attempt(&self) -> u64 {
        self.halvings
    }

    /// The store asked for fewer requests.
    pub(crate) fn throttled(&mut self, attempt: u64) {
        if attempt == self.halvings {
            self.halvings += 1;
            self.allowed = (self.allowed / 2.0).max(1.0);
        }
    }

    /// Uploads that may be under way at once.
    pub(crate) fn allowed(&self) -> usize {
        self.allowed as usize
    }

    /// Segments whose requests are not answered.
    pub(crate) fn unsettled(&self) -> usize {
        self.unsettled
    }

    pub(crate) fn uploading(&self) -> usize {
        self.uploading
    }
}

impl Tokens {
    /// A full bucket; `None` if there is no limit.
    fn new(per_second: Option<f64>, burst: u32, now: Duration) -> Option<Self> {
        let burst = f64::from(burst.max(1));
        per_second.map(|per_second| Self { per_second, burst, level: burst, at: now })
    }

    fn refill(&mut self, now: Duration) {
        let gained = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.level = (self.level + gained).min(self.burst);
        self.at = now;
    }

    /// How long until there is a token; `None` if there is one. The wait is rounded up to a millisecond, the resolution
    /// of the timer that waits for it.
    fn missing(&mut self, now: Duration) -> Option<Duration> {
        self.refill(now);
        if self.level >= 1.0 {
            return None;
        }
        let wait = Duration::from_secs_f64((1.0 - self.level) / self.per_second);
        Some(wait.max(Duration::from_millis(1)))
    }

    /// A full segment leaves without waiting for a token and goes into debt, so that the rate holds on average.
    fn take(&mut self, now: Duration) {
        self.refill(now);
        self.level -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(puts_per_second: Option<f64>) -> IngestConfig {
        IngestConfig {
            target_bytes: 1_000,
            batch_bytes: 100,
            puts_per_second,
            put_burst: 2,
            uploads_max: 8,
            uploads_eager: 2,
            buffer_bytes: 10_000,
            admission_wait: Duration::ZERO,
        }
    }

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn the_first_record_after_a_quiet_moment_leaves_at_once() {
        let mut uploads = Uploads::new(&config(Some(10.0)), START);
        assert_eq!(uploads.decide(1, false, None, START), Decision::Close);
    }

    #[test]
    fn a_steady_trickle_waits_for_the_next_token() {
        let mut uploads = Uploads::new(&config(Some(10.0)), START);
        for _ in 0..2 {
            assert_eq!(uploads.decide(1, false, None, START), Decision::Close);
            uploads.started(START);
            uploads.uploaded(true);
        }
        let Decision::AwaitToken(wait) = uploads.decide(1, false, None, START) else { panic!("a third token") };
        assert_eq!(wait.as_millis(), 100);
        assert_eq!(uploads.decide(1, false, None, START + wait), Decision::Close);
    }

    #[test]
    fn a_segment_that_is_not_full_waits_while_enough_uploads_are_under_way() {
        let mut uploads = Uploads::new(&config(None), START);
        uploads.started(START);
        uploads.started(START);
        assert_eq!(uploads.decide(1, false, None, START), Decision::AwaitUpload);
        assert_eq!(uploads.decide(1_000, false, None, START), Decision::Close);
        uploads.uploaded(true);
        assert_eq!(uploads.decide(1, false, None, START), Decision::Close);
    }

    #[test]
    fn another_rate_holds_at_once_and_forgives_no_debt() {
        let mut uploads = Uploads::new(&config(Some(10.0)), START);
        for _ in 0..4 {
            uploads.started(START);
            uploads.uploaded(true);
        }
        uploads.set_rate(Some(2.0), 1, START);
        // Two tokens of debt and one to go, at two in a second.
        assert_eq!(uploads.decide(1, false, None, START), Decision::AwaitToken(Duration::from_millis(1_500)));
        uploads.set_rate(None, 1, START);
        assert_eq!(uploads.decide(1, false, None, START), Decision::Close);
    }

    #[test]
    fn throttling_halves_the_uploads_at_once_and_success_brings_them_back() {
        let mut uploads = Uploads::new(&config(None), START);
        for expected in [4, 2, 1, 1] {
            let attempts = [uploads.attempt(), uploads.attempt()];
            attempts.into_iter().for_each(|attempt| uploads.throttled(attempt));
            assert_eq!(uploads.allowed(), expected, "two attempts at once are one sign");
        }
        uploads.started(START);
        assert_eq!(uploads.decide(1_000, false, None, START), Decision::AwaitUpload, "one at a time");
        for _ in 0..100 {
            uploads.uploaded(true);
        }
        for _ in 0..7 {
            uploads.started(START);
        }
        assert_eq!(uploads.decide(1_000, false, None, START), Decision::Close, "eight again");
    }

    #[test]
    fn while_nothing_is_committed_the_open_segment_grows() {
        let mut uploads = Uploads::new(&config(None), START);
        for _ in 0..UNSETTLED {
            assert_eq!(uploads.decide(1, false, None, START), Decision::Close);
            uploads.started(START);
            uploads.uploaded(true);
        }
        assert_eq!(uploads.decide(1_000, true, None, START), Decision::AwaitUpload);
        uploads.settled();
        assert_eq!(uploads.decide(1, false, None, START), Decision::Close);
    }
}
