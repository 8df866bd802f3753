//! How far to go: learners turn readings into the next value of a knob.
//!
//! A learner works on plain numbers. It knows no kernel, no file and no clock: the same inputs in the same order give the
//! same values, those that draw lots too, for their generator's state is part of theirs. So each is tested by
//! simulation (see [`sim`](crate::sim)), and any tuner can use any learner that takes the readings it has.
//!
//! | name | takes | does |
//! |---|---|---|
//! | [`limit`] | need, pressure | jumps to a multiple of the measured need; halfway back under pressure |
//! | [`step`] | pressure | a fixed share up or down |
//! | [`aimd`] | pressure | a fixed amount up, a factor down |
//! | [`hill-climb`](hill_climb) | score | walks uphill with shrinking steps, then rests at the top |
//! | [`pid`] | measure | leads a measured quantity to a set point |
//! | [`epsilon-greedy`](epsilon_greedy) | score | the best of a few values, now and then another |
//! | [`thompson`] | score | the best of a few values, drawn by how likely each is the best |
//!
//! [`Guard`](guard) watches whether harm rises with the knob, and stops the learner from going on.

pub mod aimd;
mod arms;
pub mod epsilon_greedy;
pub mod guard;
pub mod hill_climb;
mod knobs;
pub mod limit;
pub mod pid;
mod saved;
mod spec;
pub mod step;
pub mod thompson;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{
    arms::Arms,
    guard::Guard,
    knobs::Learners,
    saved::{STATE_VERSION, SavedError},
    spec::{Kind, Spec},
};

/// What was seen of a knob.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// It holds something back: more is wanted.
    More,
    /// It takes too much: less is wanted.
    Less,
    /// It holds something back that needs at least so much, in the knob's unit.
    Need(f64),
    /// How well things go with the present value; higher is better.
    Score(f64),
    /// A quantity that the knob moves and that should have a certain size.
    Measure(f64),
}

/// What a learner is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// The caller's clock; it goes on, also over a restart where the state is kept.
    pub at: Duration,
    /// The knob's value now.
    pub value: f64,
    /// Its value before the first change.
    pub original: f64,
    /// The least it may be.
    pub low: f64,
    /// The most it may be.
    pub high: f64,
    /// What was seen.
    pub reading: Reading,
    /// Harm at this moment (drops, delay), for the [`Guard`]; higher is worse.
    pub harm: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    None,
    HillClimb(hill_climb::State),
    Pid(pid::State),
    Arms(Arms),
}

/// A learner of one knob: its parameters and what it has learned.
///
/// ```
/// use std::time::Duration;
/// use bpftune_core::learner::{Input, Learner, Reading, Spec};
/// let spec: Spec = serde_json::from_str(r#"{"name": "step", "rate": 0.25}"#).unwrap();
/// let mut learner = Learner::new(spec, 1);
/// let input = Input {
///     at: Duration::ZERO,
///     value: 1000.0,
///     original: 1000.0,
///     low: 0.0,
///     high: 1e6,
///     reading: Reading::More,
///     harm: None,
/// };
/// assert_eq!(learner.next(&input), Some(1250.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Learner {
    spec: Spec,
    guard: Option<Guard>,
    state: State,
}

impl Learner {
    /// A learner that knows nothing yet. `seed` fixes its lots, where it draws any.
    #[must_use]
    pub fn new(spec: Spec, seed: u64) -> Learner {
        let state = match &spec {
            Spec::Limit(_) | Spec::Step(_) | Spec::Aimd(_) => State::None,
            Spec::HillClimb(_) => State::HillClimb(hill_climb::State::default()),
            Spec::Pid(_) => State::Pid(pid::State::default()),
            Spec::EpsilonGreedy(params) => {
                State::Arms(Arms::new(params.arms.len(), params.half_life_seconds, seed))
            }
            Spec::Thompson(params) => {
                State::Arms(Arms::new(params.arms.len(), params.half_life_seconds, seed))
            }
        };
        Learner {
            spec,
            guard: None,
            state,
        }
    }

    /// With a guard that stops it where harm rises with the knob.
    #[must_use]
    pub fn guarded(mut self, params: guard::Params) -> Learner {
        self.guard = Some(Guard::new(params));
        self
    }

    /// Its parameters.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The value to go to; `None` to stay. Never outside `low..=high`, never the present value.
    pub fn next(&mut self, input: &Input) -> Option<f64> {
        if let (Some(guard), Some(harm)) = (&mut self.guard, input.harm) {
            guard.see(input.at, input.value, harm);
        }
        let wanted = match (&self.spec, &mut self.state) {
            (Spec::Limit(params), _) => params.next(input),
            (Spec::Step(params), _) => params.next(input),
            (Spec::Aimd(params), _) => params.next(input),
            (Spec::HillClimb(params), State::HillClimb(state)) => state.next(params, input),
            (Spec::Pid(params), State::Pid(state)) => state.next(params, input),
            (Spec::EpsilonGreedy(params), State::Arms(arms)) => params.next(arms, input),
            (Spec::Thompson(params), State::Arms(arms)) => params.next(arms, input),
            // `new` and `load` make no other pair.
            _ => None,
        }?;
        let target = if wanted.is_finite() {
            wanted.clamp(input.low, input.high.max(input.low))
        } else {
            return None;
        };
        let blocked = self
            .guard
            .as_ref()
            .is_some_and(|guard| guard.forbids(input.at, input.value, target));
        (target != input.value && !blocked).then_some(target)
    }
}

#[cfg(test)]
mod tests;
