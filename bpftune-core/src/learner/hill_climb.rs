//! `hill-climb`: walks to where the score is highest, with shrinking steps, then rests.
//!
//! At each value it takes `samples` scores. A step is kept while it surely gained: the lower end of the interval for the
//! shift of ln(score) lies above 0 (see [`rank`](crate::stats::rank)) and the estimate above `gain`. Where a step gained
//! less than half as much as the one before, the top is near, and the next step is `shrink` times as large. A first step that gained
//! nothing turns it round once: back to the start, which is measured anew, and on the other way. The next one that gained nothing leaves the best value between two that are no better: it goes
//! to the top of the parabola through the three, and rests for `rest_seconds`. So it never turns more than twice
//! between two rests, whatever the noise.
//!
//! A value that somebody put back (a trial's revert) counts as a step that gained nothing. A step that the governor does
//! not let through is asked for again.

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
    /// What a gain of less than half the last makes of the step.
    pub shrink: f64,
    /// The least step.
    pub least: f64,
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
            least: 0.1,
            gain: 0.02,
            samples: 16,
            settle: 2,
            rest_seconds: 3600,
        }
    }
}

/// How sure a step must have gained: it is thought so wrongly in one of fifty.
const ALPHA: f64 = 0.02;

impl Params {
    pub(super) fn check(&self) -> Result<(), String> {
        within("step", self.step, 0.01, 4.0)?;
        within("shrink", self.shrink, 0.1, 1.0)?;
        within("least", self.least, 0.001, self.step)?;
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
    /// Where the knob was when the last step was asked for, until it has gone: the governor may let it wait.
    waits_at: Option<f64>,
    skipped: usize,
    /// 1 or -1.
    direction: i8,
    step: f64,
    /// What the last step gained, in ln(score).
    gained: Option<f64>,
    turned: bool,
    /// A value tried on either side of the best, below and above, with its score.
    beside: [Option<(f64, f64)>; 2],
    /// Since when it rests, and at which value.
    rests: Option<(Duration, f64)>,
}

impl State {
    pub(super) fn next(&mut self, params: &Params, input: &Input) -> Option<f64> {
        let Reading::Score(score) = input.reading else {
            return None;
        };
        if !score.is_finite() || input.value <= 0.0 {
            return None;
        }
        let waits = self.waits_at.is_some_and(|at| same(at, input.value));
        if let Some((since, top)) = self.rests {
            let rest = Duration::from_secs(params.rest_seconds);
            if rest.is_zero() || input.at.saturating_sub(since) < rest {
                return waits.then_some(top);
            }
            *self = State::default();
        }
        let at_best = self
            .best
            .as_ref()
            .is_some_and(|best| same(best.value, input.value));
        let here = match &mut self.here {
            Some(here) if same(here.value, input.value) => here,
            Some(here) if waits => {
                let target = here.value;
                if at_best {
                    self.refresh(score);
                }
                return Some(target);
            }
            Some(_) if at_best => return self.turn(input),
            // Somebody else moved it: what was learned belongs to another time.
            _ => {
                *self = State {
                    step: params.step,
                    direction: 1,
                    ..State::default()
                };
                self.here.insert(Point {
                    value: input.value,
                    scores: Vec::new(),
                })
            }
        };
        self.waits_at = None;
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
            return self.go(input);
        };
        let shift = shift(&best.scores, &here.scores, ALPHA)?;
        if shift.low > 0.0 && shift.estimate > params.gain.ln_1p() {
            if self.gained.is_some_and(|last| shift.estimate < last / 2.0) {
                self.step = (self.step * params.shrink).max(params.least);
            }
            self.gained = Some(shift.estimate);
            self.beside[usize::from(self.direction < 0)] = Some((best.value, middle(best)));
            self.beside[usize::from(self.direction > 0)] = None;
            self.best = Some(here);
            return self.go(input);
        }
        self.beside[usize::from(self.direction > 0)] = Some((here.value, middle(&here)));
        self.turn(input)
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
        self.ask(target, input)
    }

    fn ask(&mut self, target: f64, input: &Input) -> Option<f64> {
        self.skipped = 0;
        self.waits_at = Some(input.value);
        self.here = Some(Point {
            value: target,
            scores: Vec::new(),
        });
        Some(target)
    }

    /// Still at the best value: its scores are kept fresh, for the level may drift meanwhile.
    fn refresh(&mut self, score: f64) {
        if let Some(best) = &mut self.best {
            best.scores.remove(0);
            best.scores.push(score.max(f64::MIN_POSITIVE).ln());
        }
    }

    /// A step gained nothing.
    fn turn(&mut self, input: &Input) -> Option<f64> {
        if self.turned || self.gained.is_some() {
            let top = self.top()?;
            self.waits_at = Some(input.value);
            self.rests = Some((input.at, top));
            return Some(top);
        }
        self.turned = true;
        self.direction = -self.direction;
        let start = self.best.take()?.value;
        self.ask(start, input)
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
