//! Correlation over decayed windows.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{decayed::HalfLife, normal, order::ranks};

/// Pearson's and Spearman's correlation of pairs that fade, over at most [`PAIRS`](DecayedCorrelation::PAIRS) of them.
///
/// The pairs themselves are kept, not their sums: so it cannot overflow, does not lose precision, and gives ranks as
/// well. A pair counts half after a half-life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecayedCorrelation {
    half_life: HalfLife,
    pairs: VecDeque<(Duration, f64, f64)>,
}

/// A correlation with what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correlation {
    /// -1 to 1.
    pub r: f64,
    /// As how many equally weighted pairs it counts.
    pub effective: f64,
}

impl Correlation {
    /// The lower end of its interval (Fisher's z): the truth lies below with a probability of `alpha`. -1 where there
    /// are too few pairs to say.
    #[must_use]
    pub fn low(&self, alpha: f64) -> f64 {
        if self.effective <= 4.0 {
            return -1.0;
        }
        let z = self.r.clamp(-1.0 + 1e-9, 1.0 - 1e-9).atanh();
        (z + normal::quantile(alpha) / (self.effective - 3.0).sqrt()).tanh()
    }
}

impl DecayedCorrelation {
    /// The most pairs that are kept.
    pub const PAIRS: usize = 128;

    /// Empty.
    #[must_use]
    pub fn new(half_life: HalfLife) -> DecayedCorrelation {
        DecayedCorrelation {
            half_life,
            pairs: VecDeque::new(),
        }
    }

    /// Adds a pair seen at `now`; one that is not finite is left out.
    pub fn add(&mut self, now: Duration, x: f64, y: f64) {
        if x.is_finite() && y.is_finite() {
            if self.pairs.len() == Self::PAIRS {
                self.pairs.pop_front();
            }
            self.pairs.push_back((now, x, y));
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    /// Pairs kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pairs.len()
    }

    /// Pearson's: how straight the line is. `None` where a side does not vary.
    #[must_use]
    pub fn pearson(&self, now: Duration) -> Option<Correlation> {
        let (x, y) = self.columns();
        weighted(&self.weights(now), &x, &y)
    }

    /// Spearman's: whether one rises with the other, however it is curved; outliers count by their rank only.
    #[must_use]
    pub fn spearman(&self, now: Duration) -> Option<Correlation> {
        let (x, y) = self.columns();
        weighted(&self.weights(now), &ranks(&x), &ranks(&y))
    }

    fn columns(&self) -> (Vec<f64>, Vec<f64>) {
        self.pairs.iter().map(|&(_, x, y)| (x, y)).unzip()
    }

    fn weights(&self, now: Duration) -> Vec<f64> {
        // Relative to the youngest: so they never all vanish, however long nothing was added.
        let youngest = self.pairs.iter().map(|&(at, ..)| at).max();
        let now = youngest.map_or(now, |at| at.min(now));
        self.pairs
            .iter()
            .map(|&(at, ..)| self.half_life.factor(at, now))
            .collect()
    }
}

/// Spearman's rank correlation of two columns of equal length, all pairs alike.
///
/// ```
/// use bpftune_core::stats::spearman;
/// let r = spearman(&[1.0, 2.0, 3.0, 4.0], &[1.0, 10.0, 100.0, 1000.0]).unwrap();
/// assert!((r - 1.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() {
        return None;
    }
    weighted(&vec![1.0; x.len()], &ranks(x), &ranks(y)).map(|c| c.r)
}

fn weighted(weights: &[f64], x: &[f64], y: &[f64]) -> Option<Correlation> {
    let total: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    if total <= 0.0 {
        return None;
    }
    // Scaled to the largest, so that products of huge numbers stay finite.
    let scale = |values: &[f64]| values.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
    let centred = |values: &[f64]| -> Option<Vec<f64>> {
        let scale = scale(values);
        if scale <= 0.0 {
            return None;
        }
        let mean = weights
            .iter()
            .zip(values)
            .map(|(w, v)| w * (v / scale))
            .sum::<f64>()
            / total;
        Some(values.iter().map(|v| v / scale - mean).collect())
    };
    let (x, y) = (centred(x)?, centred(y)?);
    let product = |a: &[f64], b: &[f64]| -> f64 {
        weights
            .iter()
            .zip(a.iter().zip(b))
            .map(|(w, (a, b))| w * a * b)
            .sum()
    };
    let (xx, yy) = (product(&x, &x), product(&y, &y));
    // What rounding leaves of a constant column is no variation.
    if xx <= total * 1e-24 || yy <= total * 1e-24 {
        return None;
    }
    Some(Correlation {
        r: (product(&x, &y) / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0),
        effective: total * total / squares,
    })
}
