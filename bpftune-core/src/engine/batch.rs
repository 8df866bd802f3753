//! The changes of one turn of the loop: announced together, then written one by one.

use std::time::Instant;

use super::Engine;
use crate::{
    Error, Knob, Result, Signal, Value,
    journal::{DecisionId, NewDecision},
    sysctl,
};

/// The scenario of a change that gives memory back.
pub(super) const MEMORY_PRESSURE: &str = "memory-pressure";
/// Of one that the watchdog takes back.
pub(super) const WATCHDOG: &str = "watchdog";
/// Changes of these scenarios avert harm: their turn is not held against the knob.
pub(super) const AVERTS_HARM: [&str; 2] = [MEMORY_PRESSURE, WATCHDOG];

/// A change that the governor let through.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Whose it is: a tuner, or "engine".
    pub(super) tuner: String,
    pub(super) knob: Knob,
    /// The value that was read just now.
    pub(super) old: Value,
    pub(super) new: Value,
    /// Why, for the journal and the log.
    pub(super) sentence: String,
    pub(super) signal: Option<Signal>,
    /// Memory is given back, or harm averted: the governor does not hold the reversal against the knob.
    pub(super) averts_harm: bool,
    /// The decision that it takes back. Then no trial follows.
    pub(super) reverts: Option<DecisionId>,
}

impl Change {
    fn scenario(&self) -> &str {
        match (&self.signal, self.reverts) {
            (Some(signal), _) => &signal.scenario,
            (None, Some(_)) => "revert",
            (None, None) => MEMORY_PRESSURE,
        }
    }

    fn gives_back_memory(&self) -> bool {
        self.scenario() == MEMORY_PRESSURE
    }
}

impl Engine {
    /// Takes a change into this turn's group. What the governor is asked next about the same knob must know of it, so a
    /// second change of one knob carries the group out first.
    pub(super) fn enqueue(&mut self, change: Change) {
        if self.batch.iter().any(|other| other.knob == change.knob) {
            self.carry_out();
        }
        let original = self.originals.get(&change.knob).unwrap_or(&change.old);
        self.governor.reserve(&change.knob, original, &change.new);
        self.batch.push(change);
    }

    /// Announces and writes the group.
    pub(super) fn carry_out(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.carry_out_these(&batch);
        self.let_go_of_gone();
    }

    /// The same for changes that wait in no group. The decisions of those that were made.
    pub(super) fn carry_out_these(&mut self, batch: &[Change]) -> Vec<Option<DecisionId>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let done = self.apply_all(batch);
        for (change, id) in batch.iter().zip(&done) {
            let Some(index) = self.tuner_index(&change.tuner) else {
                continue;
            };
            if id.is_none() {
                self.quiet(index, change.signal.as_ref(), super::change::AFTER_FAILURE);
                continue;
            }
            let tuner = &mut self.tuners[index];
            tuner.counts.changes += 1;
            if let Err(error) = self
                .namespaces
                .within(change.knob.netns, || {
                    tuner.source.after_change(&change.knob)
                })
                .and_then(|done| done)
            {
                tracing::warn!("{error}");
            }
        }
        done
    }

    pub(super) fn tuner_index(&self, name: &str) -> Option<usize> {
        self.tuners.iter().position(|t| t.tuner.name() == name)
    }

    /// Journal, write, read back, journal: one commit for all before the first write. `None` where a change was
    /// refused, with nothing changed.
    pub(super) fn apply_all(&mut self, changes: &[Change]) -> Vec<Option<DecisionId>> {
        let places: Vec<String> = changes
            .iter()
            .map(|change| self.namespaces.place(change.knob.netns))
            .collect();
        let decisions: Vec<NewDecision<'_>> = changes
            .iter()
            .zip(&places)
            .map(|(change, place)| NewDecision {
                tuner: &change.tuner,
                scenario: change.scenario(),
                knob: &change.knob,
                place,
                old: &change.old,
                new: &change.new,
                reason: &change.sentence,
                signal: change.signal.as_ref(),
                reverts: change.reverts,
            })
            .collect();
        let ids = match self.journal.intend_all(&decisions) {
            Ok(ids) => ids,
            Err(error) => {
                for change in changes {
                    let Change { knob, old, .. } = change;
                    self.governor
                        .release(knob, self.originals.get(knob).unwrap_or(old), old);
                    self.say_once(
                        &change.knob,
                        &format!("not changed, for it cannot be journalled: {error}"),
                    );
                }
                return vec![None; changes.len()];
            }
        };
        let done: Vec<Option<Value>> = changes
            .iter()
            .zip(&ids)
            .map(|(change, id)| self.write(change, *id))
            .collect();
        let applied: Vec<DecisionId> = ids
            .iter()
            .zip(&done)
            .filter_map(|(id, done)| done.as_ref().map(|_| *id))
            .collect();
        self.warn_on_error(|me| me.journal.applied_all(&applied));
        self.learned.at_once |= !applied.is_empty();
        let written = changes.iter().zip(&ids).zip(done);
        written
            .map(|((change, id), new)| {
                let change = Change {
                    new: new?,
                    ..change.clone()
                };
                self.follow(*id, &change);
                Some(*id)
            })
            .collect()
    }

    /// Writes one announced change. The value that is there now; `None`: refused, and the old one is.
    fn write(&mut self, change: &Change, id: DecisionId) -> Option<Value> {
        let Change {
            knob,
            old,
            new,
            sentence,
            ..
        } = change;
        let now = Instant::now();
        let written = match sysctl::write(&mut self.namespaces, knob, new) {
            Ok(()) => Ok(new.clone()),
            Err(error) => self.rounded(change, id, error),
        };
        let new = match written {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!("{id} {error}");
                self.warn_on_error(|me| me.journal.failed(id, &error.to_string()));
                self.governor.harmed(knob, now);
                self.governor
                    .release(knob, self.originals.get(knob).unwrap_or(old), old);
                return None;
            }
        };
        let new = &new;
        self.governor.changed(knob, new.direction_from(old), now);
        if change.averts_harm {
            self.governor.excused(knob);
        }
        let original = self
            .originals
            .entry(knob.clone())
            .or_insert_with(|| old.clone());
        self.governor.charge(knob, original, new);
        self.written
            .insert(knob.clone(), (new.clone(), Instant::now()));
        self.said.remove(knob);
        tracing::info!("{id} {sentence}");
        Some(new.clone())
    }

    /// A kernel that rounds, or that has a limit of its own, may go less far than was asked: what it made of it stands,
    /// once it is in the journal. No other half-understood value stays.
    fn rounded(&mut self, change: &Change, id: DecisionId, error: Error) -> Result<Value> {
        let Change { knob, old, new, .. } = change;
        let Error::ReadBack { found, .. } = &error else {
            return Err(error);
        };
        if found.is_between(old, new) {
            match self.journal.rounded(id, found) {
                Ok(()) => {
                    tracing::info!("{id} the kernel made \"{found}\" of \"{new}\"");
                    return Ok(found.clone());
                }
                Err(error) => tracing::warn!("{error}"),
            }
        }
        let _ = sysctl::write(&mut self.namespaces, knob, old);
        Err(error)
    }

    /// What a change that was made brings with it: a trial, and the watchdog's attention. Nothing follows what takes a
    /// change back or gives memory back.
    fn follow(&mut self, id: DecisionId, change: &Change) {
        if change.reverts.is_some() {
            self.watchdog.forget(&change.knob);
            return;
        }
        if change.gives_back_memory() {
            // Less throughput is its price. A verdict on that would take the memory again.
            self.trials.remove(&change.knob);
            return;
        }
        self.start_trial(id, change);
        if !change.averts_harm {
            self.remember(id, change);
        }
    }
}
