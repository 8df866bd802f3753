//! Does a series drift?

use super::order::{MAD_TO_SIGMA, mad, median, sorted};

/// A common straight drift of several series of evenly spaced windows, each with a level of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// Change from one window to the next: the median of all slopes within a series (Theil-Sen).
    pub slope: f64,
    /// Standard error of the slope, from the residuals' MAD.
    pub error: f64,
    /// Mann-Kendall's statistic in standard deviations: beyond 2.58 on either side, chance has one part in a hundred.
    pub z: f64,
}

/// The drift that the series have in common; `None` where there is no slope to take.
#[must_use]
pub fn trend(series: &[&[f64]]) -> Option<Trend> {
    let (mut slopes, mut concordance, mut variance, mut spread) = (Vec::new(), 0.0, 0.0, 0.0);
    for values in series {
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate().skip(i + 1) {
                slopes.push((b - a) / (j - i) as f64);
                concordance += if b > a {
                    1.0
                } else if b < a {
                    -1.0
                } else {
                    0.0
                };
            }
        }
        let n = values.len() as f64;
        variance += n * (n - 1.0) * (2.0 * n + 5.0) / 18.0;
        spread += n * (n * n - 1.0) / 12.0;
    }
    let slope = median(&slopes)?;
    let mut residuals = Vec::new();
    for values in series {
        let flat: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(i, v)| v - slope * i as f64)
            .collect();
        let level = median(&flat).unwrap_or(0.0);
        residuals.extend(sorted(&flat).iter().map(|v| v - level));
    }
    let sigma = mad(&residuals)? * MAD_TO_SIGMA;
    Some(Trend {
        slope,
        error: sigma / spread.sqrt(),
        z: concordance / variance.sqrt(),
    })
}
