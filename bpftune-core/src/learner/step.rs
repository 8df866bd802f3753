//! `step`: a fixed share up while more is wanted, the same share down while less is.
//!
//! Up: value x (1 + rate). Down: value / (1 + rate), so that one down undoes one up. A need `k` times the start takes
//! `ln k / ln(1 + rate)` steps, and the end lies at most a factor of `1 + rate` above it.

use serde::{Deserialize, Serialize};

use super::{Input, Reading, spec::within};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The share.
    pub rate: f64,
}

impl Default for Params {
    fn default() -> Params {
        Params { rate: 0.25 }
    }
}

impl Params {
    pub(super) fn check(&self) -> Result<(), String> {
        within("rate", self.rate, 0.001, 4.0)
    }

    pub(super) fn next(&self, input: &Input) -> Option<f64> {
        match input.reading {
            Reading::More | Reading::Need(_) => Some(input.value * (1.0 + self.rate)),
            Reading::Less => Some(input.value / (1.0 + self.rate)),
            Reading::Score(_) | Reading::Measure(_) => None,
        }
    }
}
