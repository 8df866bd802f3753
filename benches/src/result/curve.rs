//! Plots, and the law that a curve should follow.

use serde::{Deserialize, Serialize};

use super::{
    Row,
    interval::{Interval, bootstrap, median, resample},
};

/// Points of one rival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Whose.
    pub name: String,
    /// Where, how much.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Above it.
    pub title: String,
    /// Below it; empty for bars.
    pub x: String,
    /// Beside it.
    pub y: String,
    /// Both axes from 0, instead of logarithmic ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linear: bool,
    /// The lines, or the bars.
    pub series: Vec<Series>,
}

impl Curve {
    /// Without points yet.
    #[must_use]
    pub fn new(title: &str, x: &str, y: &str) -> Curve {
        Curve {
            title: title.into(),
            x: x.into(),
            y: y.into(),
            linear: false,
            series: Vec::new(),
        }
    }

    /// With axes from 0.
    #[must_use]
    pub fn linear(mut self) -> Curve {
        self.linear = true;
        self
    }

    /// Adds a point to a rival's line.
    pub fn add(&mut self, name: &str, x: f64, y: f64) {
        if let Some(series) = self.series.iter_mut().find(|series| series.name == name) {
            series.points.push((x, y));
        } else {
            self.series.push(Series {
                name: name.into(),
                points: vec![(x, y)],
            });
        }
    }
}

/// How a cost may grow with what it is plotted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Not at all.
    Constant,
    /// In proportion.
    Linear,
}

/// What a measured exponent may lie above its law's, for no curve is a power exactly.
const SLACK: f64 = 0.1;

impl Law {
    /// A row that holds a curve's exponent to the law: `samples` are costs by where they were taken.
    #[must_use]
    pub fn check(self, name: &str, samples: &[(f64, Vec<f64>)]) -> Row {
        let (law, bound) = match self {
            Law::Constant => ("constant", 0.0),
            Law::Linear => ("linear", 1.0),
        };
        let found = exponent(samples);
        let least = samples.iter().map(|(_, costs)| costs.len()).min();
        let name = format!("{name}: exponent (law: {law})");
        let mut row = Row::figure(name, "", found.value, least.unwrap_or(0));
        row.interval = Some(found);
        row.at_most(bound + SLACK)
    }
}

/// The e of cost = c * x^e that fits best (least squares of logarithms of medians), with its interval by drawing
/// each point's samples anew.
#[must_use]
pub fn exponent(samples: &[(f64, Vec<f64>)]) -> Interval {
    let medians: Vec<(f64, f64)> = samples.iter().map(|(x, y)| (*x, median(y))).collect();
    bootstrap(slope(&medians), |random| {
        let drawn: Vec<(f64, f64)> = samples
            .iter()
            .map(|(x, y)| (*x, median(&resample(y, random))))
            .collect();
        slope(&drawn)
    })
}

fn slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| logs.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let (mut up, mut along) = (0.0, 0.0);
    for point in &logs {
        up += (point.0 - x) * (point.1 - y);
        along += (point.0 - x).powi(2);
    }
    up / along
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Verdict;

    fn costs(of: impl Fn(f64) -> f64) -> Vec<(f64, Vec<f64>)> {
        [1.0, 10.0, 100.0, 1000.0]
            .map(|x| {
                let cost = |noise: i32| of(x) * (1.0 + f64::from(noise) / 100.0);
                (x, (-3..=3).map(cost).collect())
            })
            .to_vec()
    }

    #[test]
    fn powers_are_found() {
        for power in [0.0, 0.5, 1.0, 2.0] {
            let found = exponent(&costs(|x| 3.0 * x.powf(power)));
            assert!((found.value - power).abs() < 1e-9, "{power}: {found:?}");
            assert!(found.low <= power && power <= found.high);
        }
    }

    #[test]
    fn a_curve_is_held_to_its_law() {
        let verdict = |law: Law, power: f64| {
            let mut row = law.check("cost", &costs(|x| x.powf(power)));
            row.judge(None);
            row.verdict.unwrap()
        };
        assert_eq!(verdict(Law::Constant, 0.0), Verdict::Met);
        assert_eq!(verdict(Law::Constant, -0.3), Verdict::Met);
        assert_eq!(verdict(Law::Constant, 0.3), Verdict::NotMet);
        assert_eq!(verdict(Law::Linear, 1.0), Verdict::Met);
        assert_eq!(verdict(Law::Linear, 2.0), Verdict::NotMet);
    }
}
