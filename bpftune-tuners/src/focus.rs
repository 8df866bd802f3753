//! One subject at a time: a trial's figures are of one device, and it must be known of which.

use std::time::{Duration, Instant};

/// What is looked at now. It stays until it has been silent for some time; until then nothing else is heard.
#[derive(Debug)]
pub(crate) struct Focus<T> {
    silence: Duration,
    on: Option<(T, Instant)>,
}

impl<T: Clone + PartialEq> Focus<T> {
    /// On nothing yet. It goes on to another subject after this silence.
    pub(crate) fn new(silence: Duration) -> Focus<T> {
        Focus { silence, on: None }
    }

    /// Whether a subject may be heard now; then it is the one.
    pub(crate) fn takes(&mut self, subject: &T, now: Instant) -> bool {
        if self.holds(now) && self.on() != Some(subject) {
            return false;
        }
        self.on = Some((subject.clone(), now + self.silence));
        true
    }

    /// Whether there is a subject that has not been silent for too long.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.on.as_ref().is_some_and(|(_, until)| *until > now)
    }

    /// The last subject that was heard.
    pub(crate) fn on(&self) -> Option<&T> {
        self.on.as_ref().map(|(subject, _)| subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subject_is_looked_at_until_it_is_silent() {
        const SILENCE: Duration = Duration::from_secs(30);
        let (mut focus, now) = (Focus::new(SILENCE), Instant::now());
        assert!(focus.takes(&1, now) && !focus.takes(&2, now + SILENCE / 2));
        assert!(focus.takes(&1, now + SILENCE / 2) && !focus.takes(&2, now + SILENCE));
        assert!(focus.takes(&2, now + 2 * SILENCE));
        assert_eq!(focus.on(), Some(&2));
        assert!(focus.holds(now + 2 * SILENCE) && !focus.holds(now + 3 * SILENCE));
    }
}
