//! What bandits know: the score of each value, fading.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Input, Reading, spec::within};
use crate::stats::{Decayed, HalfLife};

/// The scores of a few values ("arms"), and the generator of the lots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    scores: Vec<Decayed>,
    lots: u64,
}

impl Arms {
    pub(super) fn new(arms: usize, half_life_seconds: u64, seed: u64) -> Arms {
        // 0: nothing fades. A half-life of 500 million years is as good.
        let half_life = Duration::from_secs(if half_life_seconds == 0 {
            1 << 54
        } else {
            half_life_seconds
        });
        Arms {
            scores: vec![Decayed::new(HalfLife(half_life)); arms],
            lots: seed,
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The score of each.
    #[must_use]
    pub fn scores(&self) -> &[Decayed] {
        &self.scores
    }

    /// Notes the score of the arm that is set, then lets `choose` take the next. An arm played fewer than `first` times
    /// goes first. `None` where the input is no score.
    pub(super) fn play(
        &mut self,
        values: &[f64],
        first: u64,
        input: &Input,
        choose: impl FnOnce(&[Decayed], &mut fastrand::Rng) -> usize,
    ) -> Option<f64> {
        let Reading::Score(score) = input.reading else {
            return None;
        };
        // A value that is no arm (before the first choice, or somebody's own) teaches nothing.
        if let Some(set) = values.iter().position(|value| *value == input.value) {
            self.scores.get_mut(set)?.add(input.at, score);
        }
        let untried = (0..self.scores.len())
            .filter(|&arm| self.scores[arm].count() < first)
            .min_by_key(|&arm| self.scores[arm].count());
        let mut rng = fastrand::Rng::with_seed(self.lots);
        let arm = untried.unwrap_or_else(|| choose(&self.scores, &mut rng));
        self.lots = rng.get_seed();
        values.get(arm).copied()
    }
}

/// The arm with the highest mean.
pub(super) fn best(scores: &[Decayed]) -> usize {
    (0..scores.len())
        .max_by(|&a, &b| {
            let mean = |arm: usize| scores[arm].mean().unwrap_or(f64::NEG_INFINITY);
            // The first of equals.
            mean(a).total_cmp(&mean(b)).then(b.cmp(&a))
        })
        .unwrap_or(0)
}

pub(super) fn check(arms: &[f64], first: u64) -> Result<(), String> {
    if arms.len() < 2 || arms.len() > 64 {
        return Err(format!(
            "arms: {} values, 2 to 64 make a choice",
            arms.len()
        ));
    }
    for (i, arm) in arms.iter().enumerate() {
        if !arm.is_finite() || arms[..i].contains(arm) {
            return Err(format!("arms: {arm} is there twice, or no number"));
        }
    }
    within("first", first as f64, 1.0, 1000.0)
}
