//! Better, worse, the same or unclear: the verdict of a trial from its windows.
//!
//! A trial measures each metric in equal windows, some without the change and some with it. Windows that alternate
//! ([`Layout::Interleaved`]) cancel whatever drifts; where a knob cannot be switched to and fro, all windows without
//! come first ([`Layout::BeforeAfter`]), a significant drift within the halves is taken out, and the interval
//! widened by the error of doing so.
//!
//! The verdict is read off an interval for the shift (see [`rank`](super::rank)), each end of which is wrong with a
//! probability of at most [`Rule::alpha`]: *worse* when all of it lies beyond the metric's margin on the bad side,
//! *better* when all of it lies on the good side, *the same* when none of it lies beyond the margin.
//! The margin is the harm that nobody minds. It is also what a drift too slow to notice may amount to.
//!
//! Before the last window a look is taken at every one, at the much stricter [`Rule::early`]; so plain harm ends
//! early, and all early looks together add less than half of a hundredth to the false alarms.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    normal,
    rank::{Shift, paired_shift, shift},
    trend::trend,
};

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Goodput.
    Higher,
    /// Latency, retransmissions, drops.
    Lower,
}

/// How two windows compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// By ratio: for what is always positive, such as goodput or latency. The margin is a share (0.02: 2 %).
    Relative,
    /// By difference: for what is often 0, such as drops. The margin is in the metric's own unit.
    Absolute,
}

/// What a metric is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The change is made for it; harm to it counts too.
    Goal,
    /// Must not suffer; a gain in it is no reason to keep a change.
    Guard,
}

/// A quantity that a trial watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// "goodput".
    pub name: Cow<'static, str>,
    /// Which way is good.
    pub better: Direction,
    /// Ratio or difference.
    pub scale: Scale,
    /// What it is for.
    pub role: Role,
    /// A harm up to here is none: a share for [`Scale::Relative`], else in the metric's unit.
    pub margin: f64,
}

/// How the windows with and without the change lie in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// All without, then all with.
    BeforeAfter,
    /// In pairs, the i-th without beside the i-th with; best in the order without, with, with, without.
    Interleaved,
}

/// The windows of one metric, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// What was measured.
    pub metric: &'a Metric,
    /// Without the change.
    pub before: &'a [f64],
    /// With it.
    pub after: &'a [f64],
}

/// How sure a verdict must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Windows on each side for the final verdict.
    pub windows: usize,
    /// Probability of calling the harmless harmful, at most; over all metrics.
    pub alpha: f64,
    /// The same for each look before the last window.
    pub early: f64,
}

impl Default for Rule {
    /// Finds a harm of 10 % under a noise of 5 % in 99 of 100 trials, with a margin of 2 %.
    fn default() -> Rule {
        Rule {
            windows: 15,
            alpha: 0.05,
            early: 0.0003,
        }
    }
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Harm beyond the margin.
    Worse,
    /// A goal gained, and nothing is worse.
    Better,
    /// No gain in a goal, and surely no harm beyond a margin.
    Same,
    /// The windows do not tell.
    Unclear,
}

/// The verdict with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// What the change did.
    pub effect: Effect,
    /// Nothing more needs to be measured: all windows are there, or an early look is certain of harm.
    pub settled: bool,
    /// The shift of each metric, in the order given, upwards as measured: a share for [`Scale::Relative`] (0.1 is a
    /// tenth more). `None` where nothing could be compared.
    pub shifts: Vec<Option<Shift>>,
}

/// Judges a trial. With fewer windows than [`Rule::windows`] it is an early look, which finds harm or nothing.
///
/// ```
/// use bpftune_core::stats::{Direction, Effect, Layout, Metric, Role, Rule, Samples, Scale, judge};
/// let goodput = Metric {
///     name: "goodput".into(),
///     better: Direction::Higher,
///     scale: Scale::Relative,
///     role: Role::Goal,
///     margin: 0.02,
/// };
/// let before: Vec<f64> = (0..15).map(|i| 100.0 + f64::from(i % 5)).collect();
/// let after: Vec<f64> = before.iter().map(|rate| rate * 0.85).collect();
/// let windows = Samples { metric: &goodput, before: &before, after: &after };
/// let judgement = judge(&Rule::default(), Layout::BeforeAfter, &[windows]);
/// assert_eq!(judgement.effect, Effect::Worse);
/// assert!((judgement.shifts[0].unwrap().estimate + 0.15).abs() < 0.02);
/// ```
#[must_use]
pub fn judge(rule: &Rule, layout: Layout, samples: &[Samples<'_>]) -> Judgement {
    let complete = !samples.is_empty()
        && samples
            .iter()
            .all(|s| s.before.len().min(s.after.len()) >= rule.windows);
    let alpha = if complete { rule.alpha } else { rule.early } / samples.len().max(1) as f64;
    let (mut worse, mut better, mut same) = (false, false, true);
    let mut shifts = Vec::with_capacity(samples.len());
    for samples in samples {
        let metric = samples.metric;
        let shift = compare(samples, layout, alpha, if complete { DRIFTS } else { 0.0 });
        let (low, high) = match (shift, metric.better) {
            (None, _) => (f64::NEG_INFINITY, f64::INFINITY),
            (Some(shift), Direction::Higher) => (shift.low, shift.high),
            (Some(shift), Direction::Lower) => (-shift.high, -shift.low),
        };
        let margin = match metric.scale {
            Scale::Relative => metric.margin.max(0.0).ln_1p(),
            Scale::Absolute => metric.margin.max(0.0),
        };
        worse |= high < -margin;
        better |= low > 0.0 && metric.role == Role::Goal;
        same &= low >= -margin;
        shifts.push(shift.map(|shift| unscaled(shift, metric.scale)));
    }
    let effect = match (worse, complete) {
        (true, _) => Effect::Worse,
        (false, true) if better => Effect::Better,
        (false, true) if same => Effect::Same,
        _ => Effect::Unclear,
    };
    Judgement {
        effect,
        settled: complete || worse,
        shifts,
    }
}

/// A drift this far from chance (one part in a hundred) is taken out. An early look takes out any.
const DRIFTS: f64 = 2.58;

/// The shift in the scale's own measure: logarithms for ratios.
fn compare(samples: &Samples<'_>, layout: Layout, alpha: f64, drifts: f64) -> Option<Shift> {
    let floor = samples
        .before
        .iter()
        .chain(samples.after)
        .copied()
        .filter(|v| v.is_finite())
        .fold(0.0, f64::max)
        * 1e-9;
    let scaled = |values: &[f64]| -> Vec<f64> {
        values
            .iter()
            .map(|&v| match samples.metric.scale {
                // A window that says nothing stays out; `max` would make a number of it.
                _ if v.is_nan() => v,
                // A window without traffic is a billionth of the best, not minus infinity.
                Scale::Relative if floor > 0.0 => v.max(floor).ln(),
                Scale::Relative => 0.0,
                Scale::Absolute => v,
            })
            .collect()
    };
    let (before, after) = (scaled(samples.before), scaled(samples.after));
    if layout == Layout::Interleaved {
        let differences: Vec<f64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
        return paired_shift(&differences, alpha);
    }
    let plain = shift(&before, &after, alpha)?;
    match trend(&[&before, &after]) {
        Some(trend) if trend.z.abs() > drifts => {
            let flat = |values: &[f64], first: usize| -> Vec<f64> {
                values
                    .iter()
                    .enumerate()
                    .map(|(i, v)| v - trend.slope * (first + i) as f64)
                    .collect()
            };
            let flat = shift(&flat(&before, 0), &flat(&after, before.len()), alpha)?;
            let apart = (before.len() + after.len()) as f64 / 2.0;
            Some(flat.widened(-normal::quantile(alpha) * trend.error * apart))
        }
        _ => Some(plain),
    }
}

fn unscaled(shift: Shift, scale: Scale) -> Shift {
    match scale {
        Scale::Absolute => shift,
        Scale::Relative => Shift {
            estimate: shift.estimate.exp_m1(),
            low: shift.low.exp_m1(),
            high: shift.high.exp_m1(),
        },
    }
}

/// How many windows on each side find a loss of `effect` (0.1: a tenth less) with probability `power`, where windows
/// scatter by `noise` (standard deviation, a share) and the verdict is at level `alpha` against a margin.
///
/// From the normal theory, with the rank test's efficiency of 3/pi, and three windows more: for the coarseness of ranks, and for drift
/// that is seen where there is none. The simulator checks it. `None` where no number suffices, for the loss lies within the margin.
///
/// ```
/// use bpftune_core::stats::{Layout, windows_needed};
/// assert_eq!(windows_needed(0.10, 0.05, 0.02, 0.05, 0.99, Layout::BeforeAfter), Some(15));
/// assert_eq!(windows_needed(0.01, 0.05, 0.02, 0.05, 0.99, Layout::BeforeAfter), None);
/// ```
#[must_use]
pub fn windows_needed(
    effect: f64,
    noise: f64,
    margin: f64,
    alpha: f64,
    power: f64,
    layout: Layout,
) -> Option<usize> {
    let beyond = -(-effect).ln_1p() - margin.ln_1p();
    if beyond.is_nan() || beyond <= 0.0 {
        return None;
    }
    let z = normal::quantile(1.0 - alpha) + normal::quantile(power);
    let windows = 2.0 * (z * noise / beyond).powi(2) * std::f64::consts::FRAC_PI_3;
    // Below these no outcome is rare enough.
    let least = match layout {
        Layout::BeforeAfter => 3,
        Layout::Interleaved => (-alpha.log2()).ceil() as usize,
    };
    Some((windows.ceil() as usize + 3).max(least))
}
