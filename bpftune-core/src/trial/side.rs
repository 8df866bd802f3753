//! The windows without the change, or those with it.

use super::{Counter, Guard, Measure, Snapshot};

/// One side's windows, guard by guard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Side {
    /// Each guard's windows, oldest first.
    pub windows: Vec<Vec<f64>>,
    /// What they add up to: counted, and out of what.
    sums: Vec<(f64, f64)>,
    /// How many windows.
    pub count: usize,
}

impl Side {
    /// Takes the window between two snapshots in. What could not be measured is not a number.
    pub fn add(&mut self, guards: &[Guard], counters: &[Counter], from: &Snapshot, to: &Snapshot) {
        self.windows.resize(guards.len(), Vec::new());
        self.sums.resize(guards.len(), (0.0, 0.0));
        self.count += 1;
        let seconds = to
            .at
            .saturating_duration_since(from.at)
            .as_secs_f64()
            .max(1e-6);
        let at = |counter: &Counter| counters.iter().position(|c| c == counter);
        let now = |counter: &Counter| at(counter).map_or(f64::NAN, |i| to.values[i]);
        let grown = |counter: &Counter| match at(counter).map(|i| to.values[i] - from.values[i]) {
            Some(grown) if grown < 0.0 => 0.0,
            Some(grown) => grown,
            None => f64::NAN,
        };
        for (i, guard) in guards.iter().enumerate() {
            let (part, whole) = match &guard.measure {
                Measure::PerSecond(counters) => (counters.iter().map(grown).sum(), seconds),
                Measure::Share { part, whole } => (grown(part), grown(whole)),
                Measure::Level(counter) => (now(counter), 1.0),
            };
            if f64::is_finite(part) && whole > 0.0 {
                self.windows[i].push(part / whole);
                self.sums[i].0 += part;
                self.sums[i].1 += whole;
            } else {
                self.windows[i].push(f64::NAN);
            }
        }
    }

    /// A guard's level over all windows; `None` where nothing was counted.
    #[must_use]
    pub fn level(&self, guard: usize) -> Option<f64> {
        let (part, whole) = *self.sums.get(guard)?;
        (whole > 0.0).then(|| part / whole)
    }

    /// How much was counted, to compare with [`Guard::least`].
    #[must_use]
    pub fn sample(&self, index: usize, guard: &Guard) -> f64 {
        let (part, whole) = self.sums.get(index).copied().unwrap_or_default();
        match guard.measure {
            Measure::PerSecond(_) => part,
            Measure::Share { .. } | Measure::Level(_) => whole,
        }
    }
}
