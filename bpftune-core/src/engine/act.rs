//! What the operator does to the engine.

use std::time::{Duration, Instant};

use super::{Engine, batch::Change, operator::Rest};
use crate::{
    Error, Machine, NetnsCookie, Proposal, Result, Urgency, Value,
    control::{Approved, Event, Rearmed},
    governor,
    journal::{Decision, Verdict},
    restore, sysctl,
};

fn not<T>(why: String) -> Result<T> {
    Err(Error::Control(why))
}

impl Engine {
    pub(super) fn rearm(&mut self, tunable: Option<&str>, netns: Option<u64>) -> Result<Rearmed> {
        let taken = self.journal.rearm(tunable, netns.map(NetnsCookie))?;
        for hold in &taken {
            self.governor.rearm(&hold.knob);
            let text = format!("{} is re-armed", hold.knob);
            tracing::info!("{text}");
            self.operator.events.push(Event::new("rearmed", &text));
        }
        Ok(Rearmed {
            rearmed: taken.iter().map(|hold| hold.knob.to_string()).collect(),
        })
    }

    pub(super) fn revert_all(&mut self) -> Result<String> {
        let report = restore::restore(&mut self.journal, &mut self.namespaces)?;
        self.forget(&report, |_| true);
        Ok(report.to_string())
    }

    pub(super) fn revert_one(&mut self, decision: &Decision) -> Result<String> {
        if decision.verdict != Verdict::Applied.word() {
            return not(format!(
                "{} changed nothing: it was {}",
                decision.id, decision.verdict
            ));
        }
        let (old, new) = values(decision)?;
        self.end_trial(&decision.knob);
        let now = sysctl::read(&mut self.namespaces, &decision.knob)?;
        if now != new {
            return not(format!(
                "{} set {} to \"{new}\", but it is \"{now}\" now: revert the later change, or all",
                decision.id, decision.knob
            ));
        }
        self.take_back(
            &decision.knob,
            &old,
            decision.id,
            "the operator asked for it",
        )?;
        self.governor.harmed(&decision.knob, Instant::now());
        let now = sysctl::read(&mut self.namespaces, &decision.knob)?;
        Ok(format!("{} is \"{now}\"\n", decision.knob))
    }

    /// Carries advice out as any change: governor, journal, write, trial.
    pub(super) fn approve(&mut self, advice: &Decision, uid: u32) -> Result<Approved> {
        self.must_wait(advice)?;
        let (old, new) = values(advice)?;
        let current = sysctl::read(&mut self.namespaces, &advice.knob)?;
        if current != old {
            return not(format!(
                "{} was for {} at \"{old}\", but it is \"{current}\" now: see `bpftune plan`",
                advice.id, advice.knob
            ));
        }
        let proposal = Proposal {
            knob: advice.knob.clone(),
            target: new,
            reason: String::new(),
            urgency: Urgency::Gain,
        };
        let target = match self.governor.decide(
            &proposal,
            &current,
            &Machine::now()?,
            governor::Moment::now(),
        ) {
            governor::Decision::Apply(target) | governor::Decision::Advise(target) => target,
            governor::Decision::Refuse(refusal) => {
                return not(format!(
                    "{} cannot be carried out now: {refusal}",
                    advice.id
                ));
            }
        };
        let place = self.namespaces.place(advice.knob.netns);
        let sentence = format!(
            "{} in {place} changed from \"{current}\" to \"{target}\" because user {uid} approved {}: {}",
            advice.knob.tunable, advice.id, advice.reason
        );
        let signal = advice
            .signal
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok());
        let change = Change {
            tuner: advice.tuner.clone(),
            knob: advice.knob.clone(),
            old: current,
            new: target,
            sentence: sentence.clone(),
            signal,
            averts_harm: false,
            reverts: None,
        };
        self.carry_out();
        let Some(made) = self.carry_out_these(&[change])[0] else {
            return not(format!(
                "{} could not be carried out: see `bpftune history`",
                advice.id
            ));
        };
        let note = format!("carried out as {made}");
        self.journal.advice(advice.id, Verdict::Approved, &note)?;
        self.operator.forget(&advice.knob);
        Ok(Approved {
            id: made.0,
            report: format!("{made} {sentence}\n"),
        })
    }

    pub(super) fn reject(
        &mut self,
        advice: &Decision,
        reason: Option<&str>,
        uid: u32,
    ) -> Result<String> {
        self.must_wait(advice)?;
        let why = reason.map_or(String::new(), |reason| format!(": {reason}"));
        let note = format!("turned down by user {uid}{why}");
        self.journal.advice(advice.id, Verdict::Rejected, &note)?;
        self.operator.forget(&advice.knob);
        self.governor.harmed(&advice.knob, Instant::now());
        Ok(format!("{} {note}; {} rests\n", advice.id, advice.knob))
    }

    fn must_wait(&self, advice: &Decision) -> Result<()> {
        if advice.verdict != Verdict::Advised.word() {
            return not(format!(
                "{} is no advice that waits: it was {}",
                advice.id, advice.verdict
            ));
        }
        if self.journal.pending()?.iter().all(|p| p.id != advice.id) {
            return not(format!(
                "newer advice, or a reboot, replaced {}: see `bpftune plan`",
                advice.id
            ));
        }
        Ok(())
    }

    pub(super) fn enable(&mut self, tuner: &str) -> Result<String> {
        self.known_tuner(tuner)?;
        self.operator.set(Some(tuner), None);
        Ok(self.tell(format!("{tuner} is on")))
    }

    pub(super) fn disable(&mut self, tuner: &str) -> Result<String> {
        self.known_tuner(tuner)?;
        self.operator.set(Some(tuner), Some(Rest::Disabled));
        Ok(self.tell(format!(
            "{tuner} is disabled until `bpftune enable {tuner}`; what it changed stays"
        )))
    }

    pub(super) fn pause(&mut self, tuner: Option<&str>, seconds: u32) -> Result<String> {
        if let Some(tuner) = tuner {
            self.known_tuner(tuner)?;
        }
        let rest = Rest::paused(Instant::now(), Duration::from_secs(seconds.into()));
        self.operator.set(tuner, Some(rest));
        let who = tuner.unwrap_or("every tuner");
        Ok(self.tell(format!(
            "{who} pauses for {seconds} s; what it changed stays"
        )))
    }

    pub(super) fn resume(&mut self, tuner: Option<&str>) -> Result<String> {
        if let Some(tuner) = tuner {
            self.known_tuner(tuner)?;
        }
        self.operator.set(tuner, None);
        let who = tuner.unwrap_or("every tuner that paused");
        Ok(self.tell(format!("{who} is on")))
    }

    fn tell(&mut self, text: String) -> String {
        tracing::info!("{text}");
        self.operator.events.push(Event::new("tuner", &text));
        text + "\n"
    }

    pub(super) fn known_tuner(&self, name: &str) -> Result<()> {
        let names = || self.tuners.iter().map(|t| t.tuner.name());
        if names().any(|known| known == name) {
            return Ok(());
        }
        Err(Error::NoSuchTuner {
            name: name.to_owned(),
            near: crate::near::nearest(name, names()).map(str::to_owned),
        })
    }
}

fn values(decision: &Decision) -> Result<(Value, Value)> {
    match (decision.old.parse(), decision.new.parse()) {
        (Ok(old), Ok(new)) => Ok((old, new)),
        _ => not(format!("{} has an unreadable value", decision.id)),
    }
}
