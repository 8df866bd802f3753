//! The simplest tuner: one tunable, one learner.

use super::load::KNOB;
use crate::{
    Bound, Cost, Proposal, Scope, Signal, Tunable, Tuner, Urgency, Value, View,
    learner::{Input, Learner, Reading},
};

/// Hands the figure of each signal to a learner and proposes what it says. A figure's name is the kind of its reading:
/// need, less, score, measure.
pub struct LearnerTuner {
    learner: Learner,
    start: Option<f64>,
    low: f64,
    /// Signals so far stand for the time: one a window.
    seen: u32,
}

impl LearnerTuner {
    /// With this learner, for a knob that must not go below `low`.
    #[must_use]
    pub fn new(learner: Learner, low: f64) -> LearnerTuner {
        LearnerTuner {
            learner,
            start: None,
            low,
            seen: 0,
        }
    }
}

impl Tuner for LearnerTuner {
    fn name(&self) -> &str {
        "sim"
    }

    fn about(&self) -> &str {
        "hands figures to a learner"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: KNOB.into(),
            scope: Scope::Netns,
            unit: "".into(),
            about: "a simulated knob".into(),
            bound: Bound::Fixed(vec![(1, i64::MAX)]),
            cost: Cost::Nothing,
        }]
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let knob = super::World::knob();
        let Some(value) = view.value(&knob).map(|value| value.last() as f64) else {
            return Vec::new();
        };
        let Some(figure) = signal.figures.first() else {
            return Vec::new();
        };
        let reading = match figure.name.as_ref() {
            "need" => Reading::Need(figure.value),
            "less" => Reading::Less,
            "score" => Reading::Score(figure.value),
            "measure" => Reading::Measure(figure.value),
            _ => return Vec::new(),
        };
        self.seen += 1;
        let input = Input {
            at: super::WINDOW * self.seen,
            value,
            original: *self.start.get_or_insert(value),
            low: self.low,
            high: 1e15,
            reading,
            harm: signal.figure("harm"),
        };
        self.learner
            .next(&input)
            .map(|target| Proposal {
                knob,
                target: Value::from(target.round() as i64),
                reason: format!("{figure}, says {}", self.learner.spec().name()),
                urgency: Urgency::Gain,
            })
            .into_iter()
            .collect()
    }
}
