//! The normal distribution.

use std::f64::consts::{PI, SQRT_2};

/// The share of a standard normal distribution below `z`.
#[must_use]
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// The `z` below which a share `p` lies: the inverse of [`cdf`], found by bisection to full precision.
///
/// # Panics
/// Unless 0 < p < 1.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    assert!(p > 0.0 && p < 1.0, "a probability between 0 and 1, not {p}");
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..120 {
        let middle = f64::midpoint(low, high);
        if cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// A standard normal number from the generator (Box-Muller).
#[must_use]
pub fn sample(rng: &mut fastrand::Rng) -> f64 {
    // 1 - [0, 1) is never 0.
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (2.0 * PI * rng.f64()).cos()
}
