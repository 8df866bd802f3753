//! A learner for each knob, with what a tuner needs to keep what they learned.

use std::{collections::HashMap, time::Duration};

use serde_json::Value as Json;

use super::{Input, Learner, STATE_VERSION, Spec, guard};
use crate::{Knob, Lesson};

/// Knobs that are known at a time. Namespaces come and go; the one that was not heard of for the longest time is
/// forgotten first.
const MOST: usize = 4096;

/// A [`Learner`] for each knob of a tuner, all with the same parameters.
///
/// A tuner hands its readings to [`next`](Learners::next), and passes [`Tuner::learns`](crate::Tuner::learns),
/// [`learned`](crate::Tuner::learned) and [`recall`](crate::Tuner::recall) on to the methods of (nearly) these names.
///
/// ```
/// use std::time::Duration;
/// use bpftune_core::{Knob, NetnsCookie, learner::{Input, Learners, Reading, Spec}};
/// let spec: Spec = serde_json::from_str(r#"{"name": "thompson", "arms": [10.0, 20.0]}"#).unwrap();
/// let mut learners = Learners::new(spec.clone());
/// let knob = Knob { tunable: "net.core.somaxconn".into(), netns: NetnsCookie(1) };
/// let input = Input {
///     at: Duration::ZERO,
///     value: 10.0,
///     original: 10.0,
///     low: 1.0,
///     high: 100.0,
///     reading: Reading::Score(5.0),
///     harm: None,
/// };
/// assert_eq!(learners.next(&knob, &input), Some(20.0));
/// let lessons = learners.learned();
/// assert_eq!(lessons.len(), 1);
///
/// // After a restart:
/// let mut again = Learners::new(spec);
/// again.recall(&lessons[0]).unwrap();
/// assert_eq!(again.learner(&knob), learners.learner(&knob));
/// ```
#[derive(Clone, Debug)]
pub struct Learners {
    spec: Spec,
    guard: Option<guard::Params>,
    /// Of the next knob's lots.
    seed: u64,
    knobs: HashMap<Knob, One>,
}

#[derive(Clone, Debug)]
struct One {
    learner: Learner,
    /// Since it was asked for last.
    changed: bool,
    last: Duration,
}

impl Learners {
    /// Learners that know nothing yet.
    #[must_use]
    pub fn new(spec: Spec) -> Learners {
        Learners {
            spec,
            guard: None,
            seed: 0,
            knobs: HashMap::new(),
        }
    }

    /// Each with a guard that stops it where harm rises with the knob.
    #[must_use]
    pub fn guarded(mut self, params: guard::Params) -> Learners {
        self.guard = Some(params);
        self
    }

    /// Their parameters.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The learner of a knob, if it was heard of.
    #[must_use]
    pub fn learner(&self, knob: &Knob) -> Option<&Learner> {
        self.knobs.get(knob).map(|one| &one.learner)
    }

    /// The value to go to; `None` to stay. See [`Learner::next`].
    pub fn next(&mut self, knob: &Knob, input: &Input) -> Option<f64> {
        if !self.knobs.contains_key(knob) {
            let fresh = self.fresh();
            self.insert(knob.clone(), fresh);
        }
        let one = self.knobs.get_mut(knob).expect("inserted above");
        one.last = one.last.max(input.at);
        one.changed = true;
        one.learner.next(input)
    }

    /// For [`Tuner::learns`](crate::Tuner::learns): name and version, "thompson/1". `None` where the learner keeps nothing:
    /// `limit`, `step` and `aimd` go by the knob's value alone.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let keeps = self.guard.is_some() || self.spec.remembers();
        keeps.then(|| format!("{}/{STATE_VERSION}", self.spec.name()))
    }

    /// For [`Tuner::learned`](crate::Tuner::learned): what each of them knows that heard something since the last call.
    pub fn learned(&mut self) -> Vec<Lesson> {
        if self.name().is_none() {
            return Vec::new();
        }
        self.knobs
            .iter_mut()
            .filter_map(|(knob, one)| {
                std::mem::take(&mut one.changed).then(|| Lesson {
                    knob: knob.clone(),
                    state: serde_json::from_str(&one.learner.save()).unwrap_or(Json::Null),
                })
            })
            .collect()
    }

    /// For [`Tuner::recall`](crate::Tuner::recall). A knob that was heard of meanwhile keeps what it learned since.
    ///
    /// # Errors
    /// Why the state is of no use; the knob then begins anew.
    pub fn recall(&mut self, lesson: &Lesson) -> Result<(), String> {
        if self.knobs.contains_key(&lesson.knob) {
            return Ok(());
        }
        let learner = Learner::load(&self.spec, self.guard.as_ref(), &lesson.state.to_string())
            .map_err(|error| error.to_string())?;
        self.insert(lesson.knob.clone(), learner);
        Ok(())
    }

    fn fresh(&mut self) -> Learner {
        // Each knob draws lots of its own.
        self.seed += 1;
        let learner = Learner::new(self.spec.clone(), self.seed);
        match &self.guard {
            Some(params) => learner.guarded(params.clone()),
            None => learner,
        }
    }

    fn insert(&mut self, knob: Knob, learner: Learner) {
        if self.knobs.len() >= MOST {
            let oldest = self.knobs.iter().min_by_key(|(_, one)| one.last);
            if let Some(oldest) = oldest.map(|(knob, _)| knob.clone()) {
                self.knobs.remove(&oldest);
            }
        }
        let one = One {
            learner,
            changed: false,
            last: Duration::ZERO,
        };
        self.knobs.insert(knob, one);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetnsCookie, learner::Reading};

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    fn knob(netns: u64) -> Knob {
        Knob {
            tunable: "net.core.somaxconn".into(),
            netns: NetnsCookie(netns),
        }
    }

    fn score(at: u64, value: f64) -> Input {
        Input {
            at: Duration::from_secs(at),
            value,
            original: 10.0,
            low: 1.0,
            high: 100.0,
            reading: Reading::Score(value * 2.0),
            harm: None,
        }
    }

    const BANDIT: &str = r#"{"name": "thompson", "arms": [10.0, 20.0, 40.0]}"#;

    #[test]
    fn goes_on_after_a_restart_as_if_there_was_none() {
        let mut one = Learners::new(spec(BANDIT));
        let mut value = 10.0;
        let mut play = |learners: &mut Learners, at: u64| {
            value = learners.next(&knob(1), &score(at, value)).unwrap_or(value);
            value
        };
        for at in 0..20 {
            play(&mut one, at);
        }
        let lessons = one.learned();
        assert_eq!(lessons.len(), 1);
        assert!(one.learned().is_empty(), "nothing new since");
        let mut two = Learners::new(spec(BANDIT));
        two.recall(&lessons[0]).unwrap();
        let mut other = value;
        for at in 20..60 {
            value = one.next(&knob(1), &score(at, value)).unwrap_or(value);
            other = two.next(&knob(1), &score(at, other)).unwrap_or(other);
            assert_eq!(value, other, "at {at}");
        }
    }

    #[test]
    fn each_knob_learns_by_itself_and_few_are_known_at_a_time() {
        let mut learners = Learners::new(spec(BANDIT));
        for netns in 0..MOST as u64 + 10 {
            learners.next(&knob(netns), &score(netns + 1, 10.0));
        }
        assert_eq!(learners.knobs.len(), MOST);
        assert!(learners.learner(&knob(9)).is_none() && learners.learner(&knob(10)).is_some());
        assert_eq!(learners.learned().len(), MOST);
        // What was learned since the start is not lost to what was known before it.
        let old = Lesson {
            knob: knob(20),
            state: Json::Null,
        };
        learners.recall(&old).unwrap();
        let error = learners.recall(&Lesson {
            knob: knob(1),
            ..old
        });
        assert!(error.unwrap_err().contains("no saved learner"));
    }

    #[test]
    fn what_goes_by_the_value_alone_keeps_nothing() {
        for (json, name) in [
            (r#"{"name": "limit"}"#, None),
            (r#"{"name": "aimd"}"#, None),
            (r#"{"name": "hill-climb"}"#, Some("hill-climb/1")),
            (BANDIT, Some("thompson/1")),
        ] {
            assert_eq!(Learners::new(spec(json)).name().as_deref(), name, "{json}");
        }
        let mut guarded =
            Learners::new(spec(r#"{"name": "aimd"}"#)).guarded(guard::Params::default());
        assert_eq!(guarded.name().as_deref(), Some("aimd/1"));
        let input = Input {
            harm: Some(0.5),
            reading: Reading::More,
            ..score(1, 10.0)
        };
        guarded.next(&knob(1), &input);
        assert_eq!(guarded.learned().len(), 1);
    }
}
