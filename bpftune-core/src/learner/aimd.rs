//! `aimd`: a fixed amount up while more is wanted, a factor down while less is.
//!
//! Up: value + increase x original (or x value, where that is less). Down: value x decrease. Careful on the way up, quick to give back; several that
//! share one resource come to equal shares (Chiu and Jain). A need `k` times the start takes
//! `(k - 1) / increase` steps, and the end lies at most one amount above it.

use serde::{Deserialize, Serialize};

use super::{Input, Reading, spec::within};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The amount, as a share of the value before the first change.
    pub increase: f64,
    /// The factor.
    pub decrease: f64,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            increase: 0.25,
            decrease: 0.5,
        }
    }
}

impl Params {
    pub(super) fn check(&self) -> Result<(), String> {
        within("increase", self.increase, 0.001, 16.0)?;
        within("decrease", self.decrease, 0.01, 0.99)
    }

    pub(super) fn next(&self, input: &Input) -> Option<f64> {
        match input.reading {
            // From 0 an amount of 0 would lead nowhere: 1 is the least that a whole number can rise by.
            Reading::More | Reading::Need(_) => {
                let base = input.original.abs().min(input.value.abs());
                Some(input.value + (self.increase * base).max(1.0))
            }
            Reading::Less => Some(input.value * self.decrease),
            Reading::Score(_) | Reading::Measure(_) => None,
        }
    }
}
