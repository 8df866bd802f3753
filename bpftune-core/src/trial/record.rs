//! A trial's story, as the journal keeps it.

use serde::{Deserialize, Serialize};

use super::Guard;
use crate::stats::{Direction, Effect, Layout, Scale, Shift};

/// What a trial says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A goal gained, and nothing is worse.
    Better,
    /// Harm beyond what nobody minds.
    Worse,
    /// No gain, and surely no harm.
    Same,
    /// The windows do not tell.
    Unclear,
}

impl Outcome {
    /// "better", "worse", "the same", "unclear".
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Better => "better",
            Outcome::Worse => "worse",
            Outcome::Same => "the same",
            Outcome::Unclear => "unclear",
        }
    }
}

/// What became of the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It stays.
    Kept,
    /// It is taken back.
    Reverted,
}

/// A shift with its interval; a missing end could not be bounded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShiftRecord {
    /// A share (0.1: a tenth more), or in the metric's unit.
    pub estimate: f64,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl From<Shift> for ShiftRecord {
    fn from(shift: Shift) -> ShiftRecord {
        let finite = |end: f64| end.is_finite().then_some(end);
        ShiftRecord {
            estimate: finite(shift.estimate).unwrap_or(0.0),
            // A ratio's lower end is -1 where it is not bounded.
            low: finite(shift.low).filter(|low| *low > -1.0 || shift.high < -1.0),
            high: finite(shift.high),
        }
    }
}

impl ShiftRecord {
    /// "+12 %, between +9 % and +15 %".
    pub(super) fn text(&self, guard: &Guard) -> String {
        let show = |value: f64| match guard.metric.scale {
            // Of next to nothing everything is many times as much.
            Scale::Relative if value >= 99.0 => "a hundredfold or more".to_owned(),
            Scale::Relative => format!("{:+.1} %", value * 100.0),
            Scale::Absolute if value < 0.0 => guard.show(value),
            Scale::Absolute => format!("+{}", guard.show(value)),
        };
        let estimate = show(self.estimate);
        match (self.low, self.high) {
            (Some(low), Some(high)) => {
                format!("{estimate}, between {} and {}", show(low), show(high))
            }
            (Some(low), None) => format!("{estimate}, at least {}", show(low)),
            (None, Some(high)) => format!("{estimate}, at most {}", show(high)),
            (None, None) => format!("{estimate}, too few windows to bound it"),
        }
    }
}

/// What a trial measured of one guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardRecord {
    /// "goodput".
    pub name: String,
    /// Which way is good.
    pub better: Direction,
    /// The level over all windows without the change, in base units.
    pub without: Option<f64>,
    /// The same with it.
    pub with: Option<f64>,
    /// How far the windows lie apart.
    pub shift: Option<ShiftRecord>,
    /// What that says by itself.
    pub effect: Effect,
    /// Printed as the value times this.
    pub factor: f64,
    /// In this unit.
    pub unit: String,
    /// Why it counts for less than it says.
    pub note: String,
}

/// A trial as the journal keeps it beside its decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Of this form: 1.
    pub version: u32,
    /// The verdict.
    pub outcome: Outcome,
    /// What became of the change.
    pub action: Action,
    /// Why that, for a person.
    pub why: String,
    /// The value without the change.
    pub value_without: String,
    /// The value with it.
    pub value_with: String,
    /// How the windows lay.
    pub layout: Layout,
    /// Windows without the change.
    pub windows_without: usize,
    /// Windows with it.
    pub windows_with: usize,
    /// Length of those with it, milliseconds.
    pub window_ms: u64,
    /// Waited before them, milliseconds.
    pub settle_ms: u64,
    /// Probability of calling the harmless harmful, at most.
    pub alpha: f64,
    /// What was measured.
    pub guards: Vec<GuardRecord>,
    /// Each guard's figures in words.
    pub figures: Vec<String>,
    /// Other decisions on trial in the same place at the same time: "D7". The figures are theirs as well.
    pub beside: Vec<String>,
}

impl Record {
    /// The form of this record.
    pub const VERSION: u32 = 1;

    /// The outcome's text in the journal: the verdict first, then the figures.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{}: {}", self.outcome.word(), self.figures.join("; "))
    }

    /// The whole story, for people.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let (test, order) = match self.layout {
            Layout::BeforeAfter => ("Mann-Whitney rank test", "before the change"),
            Layout::Interleaved => (
                "Wilcoxon signed rank test of the pairs",
                "without it, the knob switched to and fro",
            ),
        };
        let mut out = vec![format!(
            "\"{}\" was compared with \"{}\": {} windows {order}, then {} of {} ms with it, after {} ms to settle.",
            self.value_with,
            self.value_without,
            self.windows_without,
            self.windows_with,
            self.window_ms,
            self.settle_ms,
        )];
        out.extend(
            self.figures
                .iter()
                .map(|figure| format!("Measured: {figure}.")),
        );
        out.push(format!(
            "The {test} says {}; with a harmless change it says worse in at most {} of 100 cases.",
            self.outcome.word(),
            (self.alpha * 100.0).round(),
        ));
        if !self.beside.is_empty() {
            out.push(format!(
                "{} {} on trial in the same place at the same time: the figures are of all together.",
                self.beside.join(", "),
                if self.beside.len() == 1 { "was" } else { "were" },
            ));
        }
        let action = match self.action {
            Action::Kept => "kept",
            Action::Reverted => "taken back",
        };
        out.push(format!("It was {action}: {}.", self.why));
        out
    }
}
