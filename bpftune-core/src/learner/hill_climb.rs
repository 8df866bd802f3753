//! `hill-climb`: walks to where the score is highest, with shrinking steps, then rests.
//!
//! At each value it takes `samples` scores. A step is kept while it surely gained: the lower end of the interval for the
//! shift of ln(score) lies above 0 (see [`rank`](crate::stats::rank)) and the estimate above `gain`. A step that gained
//! nothing turns it round, from the best value; where the step before gained, with a step `shrink` times as large. After two turns the best value lies
//! between two that are no better: it goes to the top of the parabola through the three, and rests for
//! `rest_seconds`. So it never turns more than twice between two rests, whatever the noise.
//!
//! A value that somebody put back (a trial's revert) counts as a step that gained nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Input, Reading, spec::within};
use crate::stats::{median, shift};

/// Parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// The first step, as a share of the value.
    pub step: f64,
    /// What a turn makes of the step.
    pub shrink: f64,
    /// The least gain worth a step, as a share of the score.
    pub gain: f64,
    /// Scores at each value.
    pub samples: usize,
    /// Scores left out after a step, while the system settles.
    pub settle: usize,
    /// How long it rests at the top; 0 for ever.
    pub rest_seconds: u64,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            step: 0.25,
            shrink: 0.5,
            gain: 0.01,
            samples: 16,
            settle: 2,
            rest_seconds: 3600,
        }
    }
}

/// How sure a step must have gained: it is thought so wrongly in one of twenty.
const ALPHA: f64 = 0.05;

impl Params {
    pub(super) fn check(&self) -> Result<(), String> {
        within("step", self.step, 0.01, 4.0)?;
        within("shrink", self.shrink, 0.1, 1.0)?;
        within("gain", self.gain, 0.0, 1.0)?;
        // With fewer than four on each side no outcome is rare enough.
        within("samples", self.samples as f64, 4.0, 1000.0)?;
        within("settle", self.settle as f64, 0.0, 1000.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    value: f64,
    scores: Vec<f64>,
}

/// What it remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    best: Option<Point>,
    /// Where the scores now coming in belong.
    here: Option<Point>,
    /// Whether the knob has been there: the governor may let a step wait.
    reached: bool,
    skipped: usize,
    /// 1 or -1; 0 before the first step.
    direction: i8,
    step: f64,
    turns: u8,
    /// A value tried on either side of the best, below and above, with its score.
    beside: [Option<(f64, f64)>; 2],
    rests_since: Option<Duration>,
}

impl State {
    pub(super) fn next(&mut self, params: &Params, input: &Input) -> Option<f64> {
        let Reading::Score(score) = input.reading else {
            return None;
        };
        if !score.is_finite() || input.value <= 0.0 {
            return None;
        }
        if let Some(since) = self.rests_since {
            let rest = Duration::from_secs(params.rest_seconds);
            if rest.is_zero() || input.at.saturating_sub(since) < rest {
                return None;
            }
            *self = State::default();
        }
        let at_best = self
            .best
            .as_ref()
            .is_some_and(|best| same(best.value, input.value));
        let here = match &mut self.here {
            Some(here) if same(here.value, input.value) => here,
            Some(here) if at_best && !self.reached => return Some(here.value),
            Some(_) if at_best => {
                self.here = None;
                return self.turn(params, input);
            }
            // Somebody else moved it: what was learned belongs to another time.
            _ => {
                *self = State {
                    step: params.step,
                    ..State::default()
                };
                self.here.insert(Point {
                    value: input.value,
                    scores: Vec::new(),
                })
            }
        };
        self.reached = true;
        if self.skipped < params.settle {
            self.skipped += 1;
            return None;
        }
        here.scores.push(score.max(f64::MIN_POSITIVE).ln());
        if here.scores.len() < params.samples {
            return None;
        }
        let here = self.here.take()?;
        let Some(best) = &self.best else {
            self.best = Some(here);
            self.direction = 1;
            return self.go(input);
        };
        let gained = shift(&best.scores, &here.scores, ALPHA)
            .is_some_and(|shift| shift.low > 0.0 && shift.estimate > params.gain.ln_1p());
        if gained {
            self.beside[usize::from(self.direction < 0)] = Some((best.value, middle(best)));
            self.beside[usize::from(self.direction > 0)] = None;
            self.best = Some(here);
            return self.go(input);
        }
        self.beside[usize::from(self.direction > 0)] = Some((here.value, middle(&here)));
        self.turn(params, input)
    }

    /// One step on from the best, in the present direction; at a bound it turns instead.
    fn go(&mut self, input: &Input) -> Option<f64> {
        let best = self.best.as_ref()?.value;
        let factor = 1.0 + self.step;
        let target = if self.direction > 0 {
            best * factor
        } else {
            best / factor
        };
        let target = target.clamp(input.low, input.high.max(input.low));
        (self.skipped, self.reached) = (0, false);
        self.here = Some(Point {
            value: target,
            scores: Vec::new(),
        });
        Some(target)
    }

    fn turn(&mut self, params: &Params, input: &Input) -> Option<f64> {
        self.turns += 1;
        if self.beside[usize::from(self.direction < 0)].is_some() {
            self.step *= params.shrink;
        }
        self.direction = -self.direction;
        if self.turns < 2 {
            return self.go(input);
        }
        self.rests_since = Some(input.at);
        self.top()
    }

    /// The top of the parabola through the best and its neighbours, in the logarithm of the value.
    fn top(&self) -> Option<f64> {
        let best = self.best.as_ref()?;
        let [Some((low, low_score)), Some((high, high_score))] = self.beside else {
            return Some(best.value);
        };
        let (x, y) = (best.value.ln(), middle(best));
        let (left, right) = (x - low.ln(), high.ln() - x);
        let (rise, fall) = (y - low_score, y - high_score);
        let curve = rise * right + fall * left;
        if left <= 0.0 || right <= 0.0 || rise < 0.0 || fall < 0.0 || curve <= 0.0 {
            return Some(best.value);
        }
        let off = (rise * right * right - fall * left * left) / (2.0 * curve);
        Some((x + off.clamp(-left / 2.0, right / 2.0)).exp())
    }
}

fn middle(point: &Point) -> f64 {
    median(&point.scores).unwrap_or(f64::MIN_POSITIVE.ln())
}

/// Values are whole numbers in the kernel: what differs by rounding is the same.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1.0 + 1e-9 * a.abs()
}
