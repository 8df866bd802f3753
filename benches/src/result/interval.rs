//! How sure a median, or a ratio of two, is.

use bpftune_core::stats;
use serde::{Deserialize, Serialize};

/// A figure with its interval of 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

const DRAWS: usize = 1000;

/// The median; NaN of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    stats::median(values).unwrap_or(f64::NAN)
}

/// By bootstrap: `draw` gives the figure of samples drawn anew, with repetition. The same draws each time.
pub(super) fn bootstrap(value: f64, mut draw: impl FnMut(&mut fastrand::Rng) -> f64) -> Interval {
    let mut random = fastrand::Rng::with_seed(0x9e37_79b9_7f4a_7c15);
    let draws: Vec<f64> = (0..DRAWS).map(|_| draw(&mut random)).collect();
    let at = |share| stats::quantile(&draws, share).unwrap_or(f64::NAN);
    Interval {
        value,
        low: at(0.025),
        high: at(0.975),
    }
}

pub(super) fn resample(values: &[f64], random: &mut fastrand::Rng) -> Vec<f64> {
    (0..values.len())
        .map(|_| values[random.usize(0..values.len())])
        .collect()
}

/// The median with its interval.
#[must_use]
pub fn of_median(values: &[f64]) -> Interval {
    bootstrap(median(values), |random| median(&resample(values, random)))
}

/// Median of `a` by median of `b`, which were sampled independently.
#[must_use]
pub fn ratio(a: &[f64], b: &[f64]) -> Interval {
    bootstrap(median(a) / median(b), |random| {
        median(&resample(a, random)) / median(&resample(b, random))
    })
}

/// The median of the ratios of pairs: what both of a pair share, such as drift, cancels.
///
/// # Panics
/// Where the samples are not pairs.
#[must_use]
pub fn paired_ratio(a: &[f64], b: &[f64]) -> Interval {
    assert_eq!(a.len(), b.len(), "pairs have two members");
    let ratios: Vec<f64> = a.iter().zip(b).map(|(a, b)| a / b).collect();
    of_median(&ratios)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noisy(around: f64, count: usize, seed: u64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..count)
            .map(|_| around * (0.9 + 0.2 * random.f64()))
            .collect()
    }

    #[test]
    fn most_intervals_hold_the_truth() {
        let held = (0..200)
            .filter(|seed| {
                let found = ratio(&noisy(3.0, 40, *seed), &noisy(2.0, 40, seed + 1000));
                found.low <= 1.5 && 1.5 <= found.high
            })
            .count();
        assert!((178..=200).contains(&held), "{held} of 200");
    }

    #[test]
    fn drift_cancels_in_pairs() {
        let base: Vec<f64> = (1..50).map(f64::from).collect();
        let double: Vec<f64> = base.iter().map(|value| value * 2.0).collect();
        let found = paired_ratio(&double, &base);
        assert_eq!((found.low, found.value, found.high), (2.0, 2.0, 2.0));
        assert!(ratio(&double, &base).high > 2.5);
    }
}
