//! Medians, and how sure a ratio of two medians is.

use serde::{Deserialize, Serialize};

/// A ratio with its interval of 95 % confidence.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Ratio {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

fn quantile(values: &[f64], q: f64) -> f64 {
    bpftune_core::stats::quantile(values, q).unwrap_or(f64::NAN)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// Median of `a` by median of `b`; the interval by bootstrap: both are drawn anew, with repetition.
pub(crate) fn ratio(a: &[f64], b: &[f64]) -> Ratio {
    const DRAWS: usize = 1000;
    let mut random = Xorshift::new();
    let mut ratios = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        ratios.push(median(&random.resample(a)) / median(&random.resample(b)));
    }
    Ratio {
        value: median(a) / median(b),
        low: quantile(&ratios, 0.025),
        high: quantile(&ratios, 0.975),
    }
}

/// Random enough, and the same each time.
pub(crate) struct Xorshift(u64);

impl Xorshift {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// The numbers below `len` in a random order.
    pub(crate) fn order(&mut self, len: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..len).collect();
        for at in (1..len).rev() {
            order.swap(at, self.below(at + 1));
        }
        order
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn resample(&mut self, values: &[f64]) -> Vec<f64> {
        (0..values.len())
            .map(|_| values[self.below(values.len())])
            .collect()
    }
}
