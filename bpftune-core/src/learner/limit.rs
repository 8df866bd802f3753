//! `limit`: a limit that holds something back goes to a multiple of the measured need.
//!
//! While a limit binds, what is measured is the limit's own doing: the true need is unknown, only known to be larger. So
//! the next limit is `growth` times the measured need, at least `least` and at most `most` times the present one. From any
//! start it reaches the need in logarithmically many steps, and ends below `max(growth, least)` times it.
//! Where it takes too much, it goes halfway back to where it started.

use serde::{Deserialize, Serialize};

use super::{Input, Reading, spec::within};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The next limit in measured needs.
    pub growth: f64,
    /// It rises by this factor at least.
    pub least: f64,
    /// And by this factor at most.
    pub most: f64,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            growth: 1.25,
            least: 1.25,
            most: 8.0,
        }
    }
}

impl Params {
    pub(super) fn check(&self) -> Result<(), String> {
        within("growth", self.growth, 1.0, 16.0)?;
        within("least", self.least, 1.01, 16.0)?;
        within("most", self.most, self.least, 1024.0)
    }

    pub(super) fn next(&self, input: &Input) -> Option<f64> {
        match input.reading {
            Reading::Need(need) => Some(self.grow(input.value, need)),
            Reading::More => Some(self.grow(input.value, input.value)),
            Reading::Less => Some(shrink(input.value, input.original)),
            Reading::Score(_) | Reading::Measure(_) => None,
        }
    }

    fn grow(&self, limit: f64, need: f64) -> f64 {
        // Never `clamp`: with a limit of 0 or less its ends may cross.
        (need * self.growth)
            .max(limit * self.least)
            .min(limit * self.most)
    }
}

/// Halfway back to where it started.
fn shrink(limit: f64, original: f64) -> f64 {
    if limit <= original {
        limit
    } else {
        original + (limit - original) / 2.0
    }
}
