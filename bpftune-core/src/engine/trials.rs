//! Trials: counters in, switches and verdicts out.

use std::{rc::Rc, time::Instant};

use super::{Engine, Registered, batch::Change};
use crate::{
    Error, Knob,
    control::Event,
    journal::DecisionId,
    sysctl,
    trial::{self, Action, Outcome, Plan, Record, Step, Trial},
    tunable::covers,
};

impl Registered {
    /// How a parameter of its own is tried: by its name, or as one of a family.
    fn plan(&self, name: &str) -> Option<&Rc<Plan>> {
        let family = || self.plans.iter().find(|(tunable, _)| covers(tunable, name));
        self.plans.get(name).or_else(|| Some(family()?.1))
    }
}

impl Engine {
    /// The tuner that owns a tunable.
    pub(super) fn owner_index(&self, tunable: &str) -> Option<usize> {
        self.tuners.iter().position(|t| t.plan(tunable).is_some())
    }

    /// A change was just made: its trial begins, or that of the changes before it goes on.
    pub(super) fn start_trial(&mut self, id: DecisionId, change: &Change) {
        let now = Instant::now();
        if let Some(trial) = self.trials.get_mut(&change.knob) {
            trial.extend(id, change.new.clone(), now);
            return;
        }
        let owner = self.owner_index(&change.knob.tunable);
        let plan = owner
            .and_then(|index| self.tuners[index].plan(&change.knob.tunable).cloned())
            .unwrap_or_else(|| Rc::new(Plan::default()));
        let without = self.windows_before(change.knob.netns, owner, &plan);
        let trial = Trial::new(
            id,
            change.old.clone(),
            change.new.clone(),
            plan,
            without,
            now,
        );
        self.trials.insert(change.knob.clone(), trial);
    }

    /// Ends the windows that are due; what did harm is taken back.
    pub(super) fn sample_trials(&mut self) {
        let now = Instant::now();
        let due: Vec<Knob> = self
            .trials
            .iter()
            .filter(|(_, trial)| trial.is_due(now))
            .map(|(knob, _)| knob.clone())
            .collect();
        for knob in due {
            let Some(mut trial) = self.trials.remove(&knob) else {
                continue;
            };
            let owner = self.owner_index(&knob.tunable);
            let Some(snapshot) = self.snapshot(knob.netns, trial.counters(), owner) else {
                // The namespace is gone, and with it what might have been harmed.
                continue;
            };
            match trial.sample(snapshot) {
                Step::Wait => {
                    self.trials.insert(knob, trial);
                }
                Step::Switch { with } => {
                    if self.switch(&knob, &trial, with) {
                        self.trials.insert(knob, trial);
                    }
                }
                Step::Over(record) => self.conclude(&knob, &trial, *record),
            }
        }
    }

    /// Switches a knob on trial. Both values are announced in the journal already, so a daemon that is killed meanwhile
    /// leaves one that restoring knows. `false`: the trial is over.
    fn switch(&mut self, knob: &Knob, trial: &Trial, with: bool) -> bool {
        let (from, to) = if with {
            (&trial.before, &trial.after)
        } else {
            (&trial.after, &trial.before)
        };
        match sysctl::read(&mut self.namespaces, knob) {
            Ok(current) if current == *from => {}
            Ok(current) => {
                self.hold(knob, "somebody".into(), current.to_string());
                return false;
            }
            Err(Error::DeviceGone(_)) => {
                self.device_gone(knob);
                return false;
            }
            Err(error) => {
                tracing::warn!("{error}");
                return false;
            }
        }
        if let Err(error) = sysctl::write(&mut self.namespaces, knob, to) {
            tracing::warn!("{error}");
            return false;
        }
        self.written
            .insert(knob.clone(), (to.clone(), Instant::now()));
        true
    }

    /// Ends a trial without a verdict, with the change in place.
    pub(super) fn end_trial(&mut self, knob: &Knob) {
        let Some(trial) = self.trials.remove(knob) else {
            return;
        };
        let switched_off = |value| trial.interleaves() && value == trial.before;
        if sysctl::read(&mut self.namespaces, knob).is_ok_and(switched_off) {
            self.switch(knob, &trial, true);
        }
    }

    fn conclude(&mut self, knob: &Knob, trial: &Trial, mut record: Record) {
        let now = Instant::now();
        let beside = self
            .trials
            .iter()
            .filter(|(other, _)| other.netns == knob.netns);
        record.beside = beside
            .flat_map(|(_, other)| other.decisions.iter().map(ToString::to_string))
            .collect();
        let (action, why) =
            trial::decide(record.outcome, &self.settings.trial, trial.wants_better());
        record.action = action;
        record.why = why.into();
        let text = record.summary();
        let last = *trial.decisions.last().expect("a trial has a change");
        tracing::info!("{last} {text}");
        let json = serde_json::to_string(&record).unwrap_or_default();
        for id in &trial.decisions {
            self.warn_on_error(|me| me.journal.trial(*id, &text, &json));
        }
        self.outcomes.insert(knob.clone(), record.outcome);
        if let Some(index) = self.owner_index(&knob.tunable) {
            self.tuners[index].tuner.tried(knob, &record);
            self.tuners[index].known.stirred = true;
            self.learned.at_once = true;
            self.forget_baseline(knob.netns, index);
        }
        if action == Action::Reverted {
            // It rests in any case: taken back for want of proof, it would be wanted again at once.
            self.governor.harmed(knob, now);
            let says = if record.outcome == Outcome::Worse {
                "says"
            } else {
                "cannot tell:"
            };
            let why = format!("its trial {says} {text}");
            match self.take_back(knob, &trial.before, last, &why) {
                Ok(()) => {}
                Err(Error::DeviceGone(_)) => self.device_gone(knob),
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }

    /// Tells those who watch.
    pub(super) fn announce(&mut self, kind: &str, text: &str) {
        tracing::warn!("{text}");
        self.operator.events.push(Event::new(kind, text));
    }
}
