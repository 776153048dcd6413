//! When people are told that the metadata service is away: as it begins, when the reason becomes one of another kind, once a
//! minute while it lasts, and when it is over. Must never flood a log: an outage makes many rounds a second fail, each in
//! slightly other words.

use std::time::Duration;

use tokio::time::Instant;

use super::directory::Trouble;

/// Between two warnings of the same kind.
const EVERY: Duration = Duration::from_secs(60);

/// What was told so far.
#[derive(Default)]
pub(super) struct Outage {
    began: Option<Instant>,
    /// When, and whether a person must act.
    told: Option<(Instant, bool)>,
}

/// What to tell now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Away,
    /// After so long.
    Back(Duration),
}

impl Outage {
    /// A round ended, with this trouble or none.
    pub(super) fn round(&mut self, trouble: Option<&Trouble>, now: Instant) -> Option<Notice> {
        let Some(trouble) = trouble else {
            // An end is told only of what was told to begin: a replica that comes and goes tells neither.
            let began = self.began.take()?;
            return self.told.is_some_and(|(told, _)| told >= began).then(|| Notice::Back(now.saturating_duration_since(began)));
        };
        self.began.get_or_insert(now);
        let refused = matches!(trouble, Trouble::Refused(_));
        if self.told.is_some_and(|(told, kind)| kind == refused && now.saturating_duration_since(told) < EVERY) {
            return None;
        }
        self.told = Some((now, refused));
        Some(Notice::Away)
    }

    /// The same, into the log.
    pub(super) fn log(&mut self, trouble: Option<&Trouble>) {
        match self.round(trouble, Instant::now()) {
            Some(Notice::Away) => {
                let reason = trouble.map_or("", Trouble::reason);
                tracing::warn!(reason, "the metadata service cannot be asked");
            }
            Some(Notice::Back(after)) => {
                tracing::info!(after_ms = after.as_millis() as u64, "the metadata service can be asked again");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(reason: &str) -> Trouble {
        Trouble::Unreachable(reason.to_owned())
    }

    #[test]
    fn an_outage_is_told_once_a_minute_whatever_the_words_of_its_reason_are() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let mut told = 0;
        for round in 0..1_500 {
            let trouble = away(&format!("reason {}", round % 2));
            told += u32::from(outage.round(Some(&trouble), began + Duration::from_millis(round * 100)) == Some(Notice::Away));
        }
        assert_eq!(told, 3, "of 150 seconds");
        let over = began + Duration::from_secs(150);
        assert_eq!(outage.round(None, over), Some(Notice::Back(Duration::from_secs(150))));
        assert_eq!(outage.round(None, over), None);
    }

    #[test]
    fn a_reason_that_a_person_must_mend_is_told_at_once() {
        let (mut outage, now) = (Outage::default(), Instant::now());
        assert_eq!(outage.round(Some(&away("no answer")), now), Some(Notice::Away));
        assert_eq!(outage.round(Some(&Trouble::Refused("wrong token".to_owned())), now), Some(Notice::Away));
        assert_eq!(outage.round(Some(&Trouble::Refused("wrong token".to_owned())), now), None);
    }

    #[test]
    fn a_service_that_comes_and_goes_is_told_of_once_a_minute_too() {
        let (mut outage, began) = (Outage::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..50 {
            let trouble = (second % 2 == 0).then(|| away("no answer"));
            told.extend(outage.round(trouble.as_ref(), began + Duration::from_secs(second)));
        }
        assert_eq!(told, [Notice::Away, Notice::Back(Duration::from_secs(1))]);
    }
}
