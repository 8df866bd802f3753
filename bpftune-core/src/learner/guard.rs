//! The correlation guard: where harm goes with the knob, no further that way.
//!
//! It keeps pairs of the knob's value and a measure of harm (drops, delay, reclaim) in a window that fades, and takes
//! Spearman's correlation: ranks, so neither a curve nor a burst misleads it. The guard bites when the lower end of the
//! interval for the correlation (Fisher's z, one in twenty) is above `threshold`, with at least `pairs` effective pairs: a
//! rise is then refused. Where harm goes against the knob, a fall is. As the pairs fade, it lets go.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::within;
use crate::stats::{DecayedCorrelation, HalfLife, correlation::Correlation};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// After how long a pair counts half.
    pub half_life_seconds: u64,
    /// The correlation is surely above this.
    pub threshold: f64,
    /// Effective pairs that it takes.
    pub pairs: f64,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            half_life_seconds: 300,
            threshold: 0.3,
            pairs: 10.0,
        }
    }
}

impl Params {
    /// Whether they make sense.
    ///
    /// # Errors
    /// A sentence that names the parameter and its range.
    pub fn check(&self) -> Result<(), String> {
        within("half_life_seconds", self.half_life_seconds as f64, 1.0, 1e9)?;
        within("threshold", self.threshold, 0.0, 0.99)?;
        within("pairs", self.pairs, 5.0, DecayedCorrelation::PAIRS as f64)
    }
}

/// The guard of one knob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    params: Params,
    seen: DecayedCorrelation,
}

impl Guard {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(params: Params) -> Guard {
        let half_life = HalfLife(Duration::from_secs(params.half_life_seconds));
        Guard {
            params,
            seen: DecayedCorrelation::new(half_life),
        }
    }

    /// Its parameters.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The knob had this value while there was this much harm.
    pub fn see(&mut self, at: Duration, value: f64, harm: f64) {
        self.seen.add(at, value, harm);
    }

    /// The correlation now, if it is sure enough to act on.
    #[must_use]
    pub fn sure(&self, at: Duration) -> Option<Correlation> {
        let found = self.seen.spearman(at)?;
        let size = Correlation {
            r: found.r.abs(),
            ..found
        };
        (found.effective >= self.params.pairs && size.low(0.05) > self.params.threshold)
            .then_some(found)
    }

    /// Whether going from `value` to `target` goes where the harm is.
    #[must_use]
    pub fn forbids(&self, at: Duration, value: f64, target: f64) -> bool {
        self.sure(at)
            .is_some_and(|found| found.r * (target - value) > 0.0)
    }
}
