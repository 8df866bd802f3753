//! `epsilon-greedy`: the value with the best mean score; with probability `epsilon` any other, to see whether it has become
//! better.
//!
//! For a choice among few values. Scores fade with a half-life, so it follows what changes. Simple to foresee: a share
//! `epsilon` of all time is spent looking round, for ever.

use serde::{Deserialize, Serialize};

use super::{Arms, Input, arms, spec::within};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The values to choose from.
    pub arms: Vec<f64>,
    /// Share of plays at random.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Plays of each value before any choice.
    #[serde(default = "first")]
    pub first: u64,
    /// After how long a score counts half; 0 for never.
    #[serde(default = "half_life")]
    pub half_life_seconds: u64,
}

fn epsilon() -> f64 {
    0.05
}
pub(super) fn first() -> u64 {
    3
}
pub(super) fn half_life() -> u64 {
    600
}

impl Params {
    /// The defaults, for these values.
    #[must_use]
    pub fn among(arms: Vec<f64>) -> Params {
        Params {
            arms,
            epsilon: epsilon(),
            first: first(),
            half_life_seconds: half_life(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        arms::check(&self.arms, self.first)?;
        within("epsilon", self.epsilon, 0.0, 1.0)
    }

    pub(super) fn next(&self, arms: &mut Arms, input: &Input) -> Option<f64> {
        arms.play(&self.arms, self.first, input, |scores, rng| {
            let best = arms::best(scores);
            if rng.f64() >= self.epsilon {
                return best;
            }
            let other = rng.usize(..scores.len() - 1);
            other + usize::from(other >= best)
        })
    }
}
