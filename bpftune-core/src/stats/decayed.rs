//! Means that forget: each observation counts half after a half-life.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// After how long an observation counts half.
///
/// The clock is the caller's: any that goes on, such as the time since a start. Where it stands still or goes back,
/// nothing is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HalfLife(pub Duration);

impl HalfLife {
    /// What is left of a weight between two moments: 1 where no time went by, 0 with a half-life of nothing.
    #[must_use]
    pub fn factor(self, from: Duration, to: Duration) -> f64 {
        let age = to.saturating_sub(from);
        if age.is_zero() {
            1.0
        } else if self.0.is_zero() {
            0.0
        } else {
            (-age.as_secs_f64() / self.0.as_secs_f64()).exp2()
        }
    }
}

/// Mean and variance of a number over a decayed window.
///
/// Updated around the present mean (West), so that no two large sums are ever subtracted.
///
/// ```
/// use std::time::Duration;
/// use bpftune_core::stats::{Decayed, HalfLife};
/// let mut rate = Decayed::new(HalfLife(Duration::from_secs(10)));
/// rate.add(Duration::from_secs(0), 100.0);
/// rate.add(Duration::from_secs(10), 400.0);
/// assert_eq!(rate.mean(), Some(300.0)); // (100 / 2 + 400) / 1.5
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decayed {
    half_life: HalfLife,
    last: Duration,
    count: u64,
    weight: f64,
    squares: f64,
    mean: f64,
    deviation: f64,
}

impl Decayed {
    /// Empty.
    #[must_use]
    pub fn new(half_life: HalfLife) -> Decayed {
        Decayed {
            half_life,
            last: Duration::ZERO,
            count: 0,
            weight: 0.0,
            squares: 0.0,
            mean: 0.0,
            deviation: 0.0,
        }
    }

    /// Adds what was observed at `now`; what is not finite, or so large that its square is not, is left out.
    pub fn add(&mut self, now: Duration, value: f64) {
        let keep = self.half_life.factor(self.last, now);
        let weight = self.weight * keep + 1.0;
        let off = value - self.mean;
        let mean = self.mean + off / weight;
        let deviation = self.deviation * keep + off * (value - mean);
        if !deviation.is_finite() {
            return;
        }
        self.last = self.last.max(now);
        self.count += 1;
        self.squares = self.squares * keep * keep + 1.0;
        (self.weight, self.mean, self.deviation) = (weight, mean, deviation);
    }

    /// The weighted mean; `None` before the first observation.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// The weighted variance, unbiased; `None` with less than two observations' worth.
    #[must_use]
    pub fn variance(&self) -> Option<f64> {
        let freedom = self.weight - self.squares / self.weight.max(f64::MIN_POSITIVE);
        (self.count > 1 && freedom > 1e-9).then(|| (self.deviation / freedom).clamp(0.0, f64::MAX))
    }

    /// As how many equally weighted observations these count: at most 1.44 half-lives' worth twice over.
    #[must_use]
    pub fn effective(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.weight * self.weight / self.squares
        }
    }

    /// How many were ever added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}
