//! `thompson`: each value is chosen as often as it is likely to be the best.
//!
//! From each value's posterior a mean is drawn, the highest draw is played. Scores are real numbers, so the posterior is
//! Gaussian: N(m, s^2 / n) with the value's own mean m and effective count n, and a variance s^2 pooled over all values, whose
//! noise is taken as alike; a flat prior, made proper by `first` plays of each. (A Beta posterior would fit yes-or-no
//! scores only.) Scores fade, which keeps n bounded, so it never stops looking round altogether and follows what
//! changes; but it looks most where it is least sure, and wastes less than [`epsilon-greedy`](super::epsilon_greedy).

use serde::{Deserialize, Serialize};

use super::{
    Arms, Input, arms,
    epsilon_greedy::{first, half_life},
};
use crate::stats::{Decayed, normal};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The values to choose from.
    pub arms: Vec<f64>,
    /// Plays of each value before any choice.
    #[serde(default = "first")]
    pub first: u64,
    /// After how long a score counts half; 0 for never.
    #[serde(default = "half_life")]
    pub half_life_seconds: u64,
}

impl Params {
    /// The defaults, for these values.
    #[must_use]
    pub fn among(arms: Vec<f64>) -> Params {
        Params {
            arms,
            first: first(),
            half_life_seconds: half_life(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        arms::check(&self.arms, self.first.max(1))?;
        if self.first < 2 {
            return Err(
                "first = 1: two plays of each value are the least that show its noise".into(),
            );
        }
        Ok(())
    }

    pub(super) fn next(&self, arms: &mut Arms, input: &Input) -> Option<f64> {
        arms.play(&self.arms, self.first, input, |scores, rng| {
            let sigma = pooled(scores).sqrt();
            let draws: Vec<f64> = scores
                .iter()
                .map(|score| {
                    let spread = sigma / score.effective().max(1.0).sqrt();
                    score.mean().unwrap_or(0.0) + spread * normal::sample(rng)
                })
                .collect();
            (0..draws.len())
                .max_by(|&a, &b| draws[a].total_cmp(&draws[b]))
                .unwrap_or(0)
        })
    }
}

/// The mean of the variances, by effective count.
fn pooled(scores: &[Decayed]) -> f64 {
    let (sum, weight) = scores
        .iter()
        .filter_map(|score| Some((score.variance()?, score.effective())))
        .fold((0.0, 0.0), |(sum, weight), (variance, n)| {
            (sum + variance * n, weight + n)
        });
    if weight > 0.0 { sum / weight } else { 0.0 }
}
