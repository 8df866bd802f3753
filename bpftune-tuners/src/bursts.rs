//! Telling bursts from a reader that is too slow.
//!
//! A buffer or queue that is as long as a burst loses nothing of it. A reader that is slower than its senders loses as
//! much with any length, only later, and more length makes what it reads older. While it happens both look alike; but a
//! burst ends and comes again, so a series of losses that was too long for the first steps gets further ones the next time.

use std::collections::HashMap;

use bpftune_core::{Knob, Proposal, View};

/// Steps in one series of losses.
const STEPS: u32 = 2;
/// Losses that last so long without a pause are no burst, milliseconds.
const OVERLOAD_MS: f64 = 3000.0;
/// Subjects that are remembered.
const MOST: usize = 256;

/// How often something was done in the present series of losses of each subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bursts {
    steps: HashMap<String, (f64, u32)>,
}

impl Bursts {
    /// Whether another step may be made in this series; it counts as made.
    pub(crate) fn step(&mut self, subject: &str, series: f64) -> bool {
        if self.steps.len() >= MOST && !self.steps.contains_key(subject) {
            self.steps.clear();
        }
        let (known, steps) = self.steps.entry(subject.to_owned()).or_default();
        if *known != series {
            (*known, *steps) = (series, 0);
        }
        *steps = steps.saturating_add(1);
        *steps <= STEPS
    }
}

/// Whether losses that have lasted for so many milliseconds are no burst.
pub(crate) fn is_overload(lasting_ms: f64) -> bool {
    lasting_ms > OVERLOAD_MS
}

/// Back to where it was, for more only makes older what is read. `None` where it was not raised.
pub(crate) fn undo(view: &dyn View, knob: Knob, reason: String) -> Option<Proposal> {
    let now = view.value(&knob)?.last();
    let (knob, original) = view
        .changed()
        .into_iter()
        .find(|(known, _)| *known == knob)?;
    (original.last() < now).then(|| Proposal::against_harm(knob, original, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_has_two_steps_and_the_next_one_again() {
        let mut bursts = Bursts::default();
        let steps = [1.0, 1.0, 1.0, 2.0].map(|series| bursts.step("a", series));
        assert_eq!(steps, [true, true, false, true]);
        assert!(bursts.step("b", 1.0), "each subject by itself");
        for other in 0..1000 {
            bursts.step(&other.to_string(), 1.0);
        }
        assert!(bursts.steps.len() <= MOST);
    }
}
