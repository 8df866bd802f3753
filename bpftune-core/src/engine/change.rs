//! A change as a transaction, and whatever takes one back.

use std::time::Duration;

use super::{Engine, batch::Change, view::Seen};
use crate::{
    Error, Knob, Machine, Proposal, Result, Scope, Signal, Urgency, Value,
    admin::SysctlWrite,
    governor::{Decision, Moment, Refusal},
    journal::{self, DecisionId, Hold, NewDecision, OriginalState, Verdict},
    sysctl,
};

/// An admin's write that came so soon after ours may have been overwritten by it.
const CROSSING: Duration = Duration::from_secs(1);

/// How long nothing is tried after the kernel or the journal refused.
pub(super) const AFTER_FAILURE: Duration = Duration::from_secs(10);

impl Engine {
    /// Takes a proposal through governor, journal, write and trial. `seen`: what was read just now, for this signal.
    pub(super) fn propose(
        &mut self,
        index: usize,
        signal: Option<&Signal>,
        proposal: Proposal,
        machine: &Machine,
        seen: &Seen,
    ) -> Result<()> {
        self.tuners[index].counts.proposals += 1;
        self.operator
            .wish(self.tuners[index].tuner.name(), &proposal);
        let knob = proposal.knob.clone();
        if let Some(trial) = self.trials.get(&knob).filter(|trial| trial.interleaves()) {
            // The knob is switched to and fro: what it reads now is neither here nor there.
            let left = trial.left();
            self.quiet(index, signal, left);
            return Ok(());
        }
        let current = match seen.get(&knob) {
            Some(current) => Ok(current.clone()),
            None => sysctl::read(&mut self.namespaces, &knob),
        };
        let current = match current {
            Ok(current) => current,
            Err(Error::NetnsGone(_)) => return Ok(()),
            Err(Error::DeviceGone(_)) => {
                self.device_gone(&knob);
                return Ok(());
            }
            Err(error) => {
                self.say_once(&knob, &error.to_string());
                self.quiet(index, signal, AFTER_FAILURE);
                return Ok(());
            }
        };
        if self
            .written
            .get(&knob)
            .is_some_and(|(written, _)| *written != current)
            && self.governor.held_by(&knob).is_none()
        {
            self.hold(&knob, "somebody".into(), current.to_string());
        }
        self.governor
            .name_place(knob.netns, || self.namespaces.place(knob.netns));
        let verdict = self
            .governor
            .decide(&proposal, &current, machine, Moment::now());
        self.tuners[index].tuner.decided(&proposal, &verdict);
        let tuner = &self.tuners[index].tuner.name().to_owned();
        match verdict {
            Decision::Apply(target) => {
                let sentence = self.sentence(
                    &knob,
                    "raised",
                    "lowered",
                    &current,
                    &target,
                    &proposal.reason,
                );
                self.enqueue(Change {
                    tuner: tuner.to_owned(),
                    knob,
                    old: current,
                    new: target,
                    sentence,
                    signal: signal.cloned(),
                    averts_harm: proposal.urgency == Urgency::Harm,
                    reverts: None,
                });
            }
            Decision::Advise(target) => {
                let sentence = self.sentence(
                    &knob,
                    "should rise",
                    "should fall",
                    &current,
                    &target,
                    &proposal.reason,
                );
                let advice = format!("advice {target}");
                if self.said.insert(knob.clone(), advice.clone()) != Some(advice) {
                    match self.record(
                        tuner,
                        signal,
                        &knob,
                        &current,
                        &target,
                        &sentence,
                        Verdict::Advised,
                        "",
                    ) {
                        Ok(id) => tracing::info!("{id} advice: {sentence}"),
                        Err(error) => tracing::warn!("advice: {sentence} ({error})"),
                    }
                }
                self.quiet(index, signal, Duration::from_secs(10));
            }
            Decision::Refuse(refusal) => {
                self.refused(tuner, signal, &proposal, &current, &refusal);
                self.quiet(index, signal, refusal.quiet_for());
            }
        }
        Ok(())
    }

    fn refused(
        &mut self,
        tuner: &str,
        signal: Option<&Signal>,
        proposal: &Proposal,
        current: &Value,
        refusal: &Refusal,
    ) {
        let kind = format!("{:?}", std::mem::discriminant(refusal));
        if !refusal.is_news() || self.said.insert(proposal.knob.clone(), kind.clone()) == Some(kind)
        {
            return;
        }
        let sentence = format!(
            "{} in {} stays at \"{current}\": {refusal}. It was wanted because {}",
            proposal.knob.tunable,
            self.namespaces.place(proposal.knob.netns),
            proposal.reason
        );
        let note = refusal.to_string();
        let id = self.record(
            tuner,
            signal,
            &proposal.knob,
            current,
            &proposal.target,
            &sentence,
            Verdict::Refused,
            &note,
        );
        match id {
            Ok(id) => tracing::info!("{id} {sentence}"),
            Err(error) => tracing::warn!("{sentence} ({error})"),
        }
    }

    pub(super) fn quiet(&mut self, index: usize, signal: Option<&Signal>, how_long: Duration) {
        if let Some(signal) = signal
            && !how_long.is_zero()
        {
            self.tuners[index].quiet(signal, how_long);
        }
    }

    pub(super) fn say_once(&mut self, knob: &Knob, text: &str) {
        if self.said.insert(knob.clone(), text.to_owned()).as_deref() != Some(text) {
            tracing::warn!("{text}");
        }
    }

    pub(super) fn sentence(
        &self,
        knob: &Knob,
        up: &str,
        down: &str,
        old: &Value,
        new: &Value,
        reason: &str,
    ) -> String {
        let verb = match new.direction_from(old) {
            _ if up != down && new.numbers().is_empty() => {
                if up == "raised" {
                    "set"
                } else {
                    "should be set"
                }
            }
            1 => up,
            _ => down,
        };
        let place = self.namespaces.place(knob.netns);
        format!(
            "{} in {place} {verb} from \"{old}\" to \"{new}\" because {reason}",
            knob.tunable
        )
    }

    #[allow(clippy::too_many_arguments)] // One row of the journal.
    fn record(
        &mut self,
        tuner: &str,
        signal: Option<&Signal>,
        knob: &Knob,
        old: &Value,
        new: &Value,
        reason: &str,
        verdict: Verdict,
        note: &str,
    ) -> Result<DecisionId> {
        let place = self.namespaces.place(knob.netns);
        let scenario = signal.map_or(super::batch::MEMORY_PRESSURE, |signal| &signal.scenario);
        let decision = NewDecision {
            tuner,
            scenario,
            knob,
            place: &place,
            old,
            new,
            reason,
            signal,
            reverts: None,
        };
        Ok(self.journal.record(&decision, verdict, note)?)
    }

    pub(super) fn warn_on_error(
        &mut self,
        f: impl FnOnce(&mut Self) -> std::result::Result<(), journal::JournalError>,
    ) {
        if let Err(error) = f(self) {
            tracing::warn!("{error}");
        }
    }

    /// Puts a knob back to `value`, as a decision of its own.
    pub(super) fn take_back(
        &mut self,
        knob: &Knob,
        value: &Value,
        reverts: DecisionId,
        why: &str,
    ) -> Result<()> {
        self.carry_out();
        let current = sysctl::read(&mut self.namespaces, knob)?;
        let why = format!("{reverts} is reverted: {why}");
        if let Some(change) = self.putting_back(knob, current, value, reverts, &why) {
            self.apply_all(&[change]);
        }
        Ok(())
    }

    /// The change that puts a knob back, of its owner. `None` where it is there already, or where `current` is not what we
    /// wrote: then it is left to whoever did.
    pub(super) fn putting_back(
        &mut self,
        knob: &Knob,
        current: Value,
        value: &Value,
        reverts: DecisionId,
        why: &str,
    ) -> Option<Change> {
        if current == *value {
            return None;
        }
        if self
            .written
            .get(knob)
            .is_none_or(|(written, _)| *written != current)
        {
            self.hold(knob, "somebody".into(), current.to_string());
            return None;
        }
        let sentence = self.sentence(knob, "put back", "put back", &current, value, why);
        let owner = self
            .owner_index(&knob.tunable)
            .map_or("engine", |index| self.tuners[index].tuner.name())
            .to_owned();
        Some(Change {
            tuner: owner,
            knob: knob.clone(),
            old: current,
            new: value.clone(),
            sentence,
            signal: None,
            averts_harm: false,
            reverts: Some(reverts),
        })
    }

    /// Other processes wrote sysctls.
    pub(super) fn admin_wrote(&mut self) -> Result<()> {
        for write in self.admin.drain()? {
            self.on_admin_write(&write);
        }
        Ok(())
    }

    fn on_admin_write(&mut self, write: &SysctlWrite) {
        let mut write = write.clone();
        // Whoever writes the share of a limit means its bytes, unless somebody owns the share by itself.
        if self.governor.tunable(&write.knob.tunable).is_none()
            && let Some((name, value)) = sysctl::meant(&write.knob.tunable, &write.value)
        {
            write.knob.tunable = name.into();
            write.value = value;
        }
        let Some(tunable) = self.governor.tunable(&write.knob.tunable) else {
            return;
        };
        let mut knob = write.knob.clone();
        if tunable.scope == Scope::Global {
            knob.netns = self.namespaces.own();
        }
        if self
            .scope
            .as_ref()
            .is_some_and(|scope| !scope.contains(&knob.netns))
        {
            return;
        }
        // Seen before the kernel carries it out. Where ours crossed theirs, theirs must be the last.
        let crossed = self
            .written
            .get(&knob)
            .is_some_and(|(_, at)| at.elapsed() < CROSSING);
        self.hold(&knob, String::from(&write), write.value.clone());
        if crossed
            && let Ok(theirs) = write.value.parse::<Value>()
            && let Err(error) = sysctl::write(&mut self.namespaces, &knob, &theirs)
        {
            tracing::debug!("{error}");
        }
    }

    pub(super) fn device_gone(&mut self, knob: &Knob) {
        self.gone(knob, "its device is gone");
    }

    /// A device or a namespace went, and its values with it. One that comes back, or another of its name, starts anew.
    pub(super) fn gone(&mut self, knob: &Knob, why: &str) {
        if self.originals.contains_key(knob) {
            tracing::info!("{knob} is gone, its value with it");
            self.warn_on_error(|me| me.journal.close(knob, OriginalState::Gone, why));
        }
        self.governor.refund(knob);
        self.no_longer_ours(knob);
    }

    fn no_longer_ours(&mut self, knob: &Knob) {
        self.originals.remove(knob);
        self.written.remove(knob);
        self.trials.remove(knob);
        self.watchdog.forget(knob);
        self.outcomes.remove(knob);
        self.said.remove(knob);
    }

    /// Leaves a knob to whoever wrote it, until re-armed.
    pub(super) fn hold(&mut self, knob: &Knob, by: String, value: String) {
        let known = self.governor.held_by(knob).is_some();
        if !known {
            tracing::info!(
                "{} in {}: {by} wrote \"{value}\"; hands off until `bpftune rearm`",
                knob.tunable,
                self.namespaces.place(knob.netns)
            );
        }
        self.governor.hold(knob.clone(), by.clone());
        self.no_longer_ours(knob);
        let hold = Hold {
            knob: knob.clone(),
            since: journal::now_ms(),
            by,
            value,
        };
        self.warn_on_error(|me| me.journal.hold(&hold));
        self.warn_on_error(|me| {
            me.journal
                .close(knob, OriginalState::Admin, "somebody else wrote it")
        });
    }
}
