//! What the operator sees of the engine.

use std::time::Instant;

use super::{Engine, operator::Rest};
use crate::{
    Error, Knob, Machine, Result, Scope, Source,
    control::{self, Difference, Hook, KnobStatus, Plan, Range, Status, Tunables, Wish},
    governor::{Decision, Moment},
    sysctl,
};

impl Engine {
    pub(super) fn status(&mut self) -> Status {
        let hooks = self
            .hooks()
            .map(|(owner, hook)| Hook {
                owner: owner.into(),
                name: hook.name.clone(),
                section: hook.section.clone(),
                off: hook.off.clone(),
            })
            .collect();
        let held = self
            .journal
            .holds()
            .unwrap_or_default()
            .into_iter()
            .map(|hold| hold.knob);
        let mut knobs: Vec<Knob> = self.originals.keys().cloned().chain(held).collect();
        knobs.sort();
        knobs.dedup();
        let knobs = knobs
            .into_iter()
            .map(|knob| self.knob_status(knob))
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: self.governor.policy().mode.to_string(),
            pid: std::process::id(),
            started_unix_ms: self.started,
            state_dir: self.settings.state_dir.display().to_string(),
            map_bytes: self.admin.map_bytes()
                + self
                    .tuners
                    .iter()
                    .map(|t| t.source.map_bytes())
                    .sum::<u64>(),
            hooks,
            tuners: self.tuner_statuses(),
            knobs,
            config_files: self.config_files(),
            config_error: self.config_error(),
        }
    }

    fn tuner_statuses(&self) -> Vec<control::Tuner> {
        let now = Instant::now();
        let registered = self.tuners.iter().map(|t| {
            let (state, paused_until_unix_ms) = match self.operator.rest(t.tuner.name(), now) {
                None => ("on", None),
                Some(Rest::Disabled) => ("disabled", None),
                Some(Rest::Paused(_, until)) => ("paused", Some(until)),
            };
            control::Tuner {
                name: t.tuner.name().into(),
                about: t.tuner.about().into(),
                tunables: t
                    .tuner
                    .tunables()
                    .iter()
                    .map(|tunable| tunable.name.to_string())
                    .collect(),
                signals: t.counts.signals,
                proposals: t.counts.proposals,
                changes: t.counts.changes,
                state: state.into(),
                paused_until_unix_ms,
                chosen: self.chosen(&*t.source),
            }
        });
        #[cfg(feature = "plugins")]
        let registered = registered.chain(
            self.plugins
                .iter()
                .flat_map(crate::plugin::Manager::idle)
                .map(|(name, state, why)| control::Tuner {
                    name: name.into(),
                    about: why.into(),
                    tunables: Vec::new(),
                    signals: 0,
                    proposals: 0,
                    changes: 0,
                    state: state.into(),
                    paused_until_unix_ms: None,
                    chosen: Vec::new(),
                }),
        );
        registered.collect()
    }

    fn chosen(&self, source: &dyn Source) -> Vec<control::Chosen> {
        let chosen = source.chosen().into_iter();
        chosen
            .map(|chosen| control::Chosen {
                place: self.namespaces.place(chosen.netns),
                netns: chosen.netns.0,
                subject: chosen.subject,
                name: chosen.name,
                why: chosen.why,
                options: chosen
                    .options
                    .into_iter()
                    .map(|tried| control::Tried {
                        name: tried.name,
                        times: tried.times,
                        measured: tried.measured,
                        gain: tried.gain,
                    })
                    .collect(),
            })
            .collect()
    }

    fn knob_status(&mut self, knob: Knob) -> KnobStatus {
        let current = sysctl::read(&mut self.namespaces, &knob)
            .ok()
            .map(|value| value.to_string());
        let history = self.governor.history(&knob);
        KnobStatus {
            place: self.namespaces.place(knob.netns),
            original: self.originals.get(&knob).map(ToString::to_string),
            current,
            changes: history.map_or(0, |h| h.changes),
            reversals: history.map_or(0, |h| h.reversals),
            held_by: self.governor.held_by(&knob).map(str::to_owned),
            on_trial: self.trials.contains_key(&knob),
            netns: knob.netns.0,
            tunable: knob.tunable,
        }
    }

    /// What the tuners, or one of them, may change.
    pub(super) fn tunables(&mut self, tuner: Option<&str>) -> Result<Tunables> {
        let machine = Machine::now()?;
        let netns = self.namespaces.own();
        let mut tunables = Vec::new();
        for index in 0..self.tuners.len() {
            let owner = self.tuners[index].tuner.name().to_owned();
            if tuner.is_some_and(|tuner| tuner != owner) {
                continue;
            }
            let declared = self.tuners[index].tuner.tunables();
            for (tunable, name) in declared.iter().flat_map(|tunable| {
                let names = tunable.instances().into_iter();
                names.map(move |name| (tunable, name))
            }) {
                let knob = Knob {
                    tunable: name.clone(),
                    netns,
                };
                let ranges = tunable.bound.ranges(&machine);
                tunables.push(control::Tunable {
                    current: sysctl::words(&mut self.namespaces, &knob)
                        .ok()
                        .map(|words| words.split_ascii_whitespace().collect::<Vec<_>>().join(" ")),
                    name,
                    tuner: owner.clone(),
                    scope: match tunable.scope {
                        Scope::Global => "global".into(),
                        Scope::Netns => "netns".into(),
                    },
                    unit: tunable.unit.to_string(),
                    about: tunable.about.to_string(),
                    ranges: ranges
                        .into_iter()
                        .map(|(low, high)| Range { low, high })
                        .collect(),
                });
            }
        }
        Ok(Tunables { tunables })
    }

    /// What differs from the original values, as it is now.
    pub(super) fn differences_now(&mut self) -> Vec<Difference> {
        let mut originals: Vec<_> = self
            .originals
            .iter()
            .map(|(knob, value)| (knob.clone(), value.clone()))
            .collect();
        originals.sort_by(|(a, _), (b, _)| a.cmp(b));
        let by = self
            .journal
            .diff(crate::journal::Point::Start, crate::journal::Point::End)
            .unwrap_or_default();
        originals
            .into_iter()
            .filter_map(|(knob, original)| {
                let current = sysctl::read(&mut self.namespaces, &knob).ok()?;
                (current != original).then(|| Difference {
                    place: self.namespaces.place(knob.netns),
                    before: original.to_string(),
                    after: current.to_string(),
                    by: by
                        .iter()
                        .find(|d| d.knob == knob)
                        .and_then(|d| d.by)
                        .map(|id| id.0),
                    netns: knob.netns.0,
                    tunable: knob.tunable,
                })
            })
            .collect()
    }

    /// What would change now, and why: wishes of the last minute, and advice that waits however old it is.
    pub(super) fn plan(&mut self) -> Result<Plan> {
        let machine = Machine::now()?;
        let now = Instant::now();
        let mut pending = self.journal.pending()?;
        let mut wishes = Vec::new();
        for wished in self.operator.wishes(now) {
            let proposal = wished.proposal;
            let knob = &proposal.knob;
            let current = match sysctl::read(&mut self.namespaces, knob) {
                Ok(current) => current,
                Err(Error::NetnsGone(_) | Error::DeviceGone(_)) => continue,
                Err(error) => return Err(error),
            };
            let id = pending
                .iter()
                .position(|advice| advice.knob == *knob)
                .map(|at| pending.remove(at).id.0);
            let (answer, target, note) =
                match self
                    .governor
                    .decide(&proposal, &current, &machine, Moment::now())
                {
                    Decision::Apply(target) => (
                        "apply",
                        target,
                        "with the next signal that asks for it".into(),
                    ),
                    Decision::Advise(target) => (
                        "advise",
                        target,
                        id.map_or("mode advise".into(), |id| {
                            format!("`bpftune approve D{id}` carries it out")
                        }),
                    ),
                    Decision::Refuse(refusal) => {
                        ("refuse", proposal.target.clone(), refusal.to_string())
                    }
                };
            wishes.push(Wish {
                tuner: wished.tuner,
                tunable: knob.tunable.clone(),
                netns: knob.netns.0,
                place: self.namespaces.place(knob.netns),
                current: current.to_string(),
                target: target.to_string(),
                reason: proposal.reason,
                answer: answer.into(),
                note,
                id,
                at_unix_ms: wished.at_ms,
            });
        }
        let older = pending.into_iter().filter_map(|advice| {
            let current = sysctl::read(&mut self.namespaces, &advice.knob).ok()?;
            Some(Wish {
                note: format!("`bpftune approve {}` carries it out", advice.id),
                tuner: advice.tuner,
                tunable: advice.knob.tunable,
                netns: advice.knob.netns.0,
                place: advice.place,
                current: current.to_string(),
                target: advice.new,
                reason: advice.reason,
                answer: "advise".into(),
                id: Some(advice.id.0),
                at_unix_ms: advice.at,
            })
        });
        wishes.extend(older);
        wishes.sort_by_key(|wish| wish.at_unix_ms);
        Ok(Plan { wishes })
    }
}
