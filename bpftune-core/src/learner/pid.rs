//! `pid`: leads a measured quantity (delay, load) to a set point.
//!
//! The error is e = ln(setpoint / measure), of the median of `samples` measures, so that a burst is
//! no error; within `deadband` nothing is done, so noise does not move the knob. Otherwise the knob's logarithm moves by
//!
//! `d = kp (e - e1) + ki e + kd (e - 2 e1 + e2)`
//!
//! with e1 and e2 the errors of the two steps before: the velocity form, whose integral is the knob itself, so it
//! cannot wind up at a bound. `d` is limited to `most`. Where the measure follows the knob to the power a, the error shrinks by
//! 1 - a ki in a step: without swinging while a ki < 1.

use serde::{Deserialize, Serialize};

use super::{Input, Reading, spec::within};
use crate::stats::median;

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What the measure should be, in its unit.
    pub setpoint: f64,
    /// Whether the measure falls as the knob rises.
    #[serde(default)]
    pub inverse: bool,
    /// Proportional gain.
    #[serde(default)]
    pub kp: f64,
    /// Integral gain.
    #[serde(default = "ki")]
    pub ki: f64,
    /// Derivative gain.
    #[serde(default)]
    pub kd: f64,
    /// An error up to here, as a share of the set point, is none.
    #[serde(default = "deadband")]
    pub deadband: f64,
    /// The most that one step changes, as a share.
    #[serde(default = "most")]
    pub most: f64,
    /// Measures to a step.
    #[serde(default = "samples")]
    pub samples: usize,
}

fn ki() -> f64 {
    0.4
}
fn deadband() -> f64 {
    0.1
}
fn most() -> f64 {
    0.25
}
fn samples() -> usize {
    8
}

impl Params {
    /// The defaults, for this set point.
    #[must_use]
    pub fn to(setpoint: f64) -> Params {
        Params {
            setpoint,
            inverse: false,
            kp: 0.0,
            ki: ki(),
            kd: 0.0,
            deadband: deadband(),
            most: most(),
            samples: samples(),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within("setpoint", self.setpoint, f64::MIN_POSITIVE, f64::MAX)?;
        within("kp", self.kp, 0.0, 10.0)?;
        within("ki", self.ki, 0.0, 10.0)?;
        within("kd", self.kd, 0.0, 10.0)?;
        within("deadband", self.deadband, 0.0, 1.0)?;
        within("most", self.most, 0.001, 4.0)?;
        within("samples", self.samples as f64, 1.0, 1000.0)
    }
}

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    measures: Vec<f64>,
    errors: Option<(f64, f64)>,
    /// The value that they were measured at.
    value: f64,
}

impl State {
    pub(super) fn next(&mut self, params: &Params, input: &Input) -> Option<f64> {
        let Reading::Measure(measure) = input.reading else {
            return None;
        };
        if !measure.is_finite() || input.value <= 0.0 {
            return None;
        }
        if self.value != input.value {
            self.measures.clear();
            self.value = input.value;
        }
        self.measures.push(measure);
        if self.measures.len() < params.samples {
            return None;
        }
        let middle = median(&self.measures)?;
        self.measures.clear();
        let error = (params.setpoint / middle.max(params.setpoint * 1e-6)).ln();
        let (e1, e2) = self.errors.unwrap_or((error, error));
        self.errors = Some((error, e1));
        if error.abs() <= params.deadband.ln_1p() {
            return None;
        }
        let moved =
            params.kp * (error - e1) + params.ki * error + params.kd * (error - 2.0 * e1 + e2);
        let most = params.most.ln_1p();
        let moved = moved.clamp(-most, most);
        Some(input.value * if params.inverse { -moved } else { moved }.exp())
    }
}
