//! What clients of the control socket ask for.

use nix::sys::epoll::{EpollEvent, EpollFlags};
use serde_json::json;

use super::{Engine, TOKEN_CLIENTS};
use crate::{
    Error, Knob, NetnsCookie, Result,
    control::{
        self, Call, ClientId, Explanation, History, Hook, KnobStatus, Rearmed, Request, Reverted,
        Status,
    },
    journal::{DecisionId, Verdict},
    restore, sysctl,
};

impl Engine {
    pub(super) fn accept_clients(&mut self) -> Result<()> {
        let Some(control) = &mut self.control else {
            return Ok(());
        };
        for client in control.accept() {
            let Some(fd) = control.client_fd(client) else {
                continue;
            };
            self.epoll
                .add(
                    fd,
                    EpollEvent::new(EpollFlags::EPOLLIN, TOKEN_CLIENTS + client),
                )
                .map_err(Error::system("epoll_ctl"))?;
        }
        Ok(())
    }

    pub(super) fn serve(&mut self, client: ClientId, events: EpollFlags) -> Result<()> {
        let calls = match &mut self.control {
            Some(control) if events.contains(EpollFlags::EPOLLOUT) => {
                control.writable(client);
                Vec::new()
            }
            Some(control) => control.readable(client),
            None => Vec::new(),
        };
        for call in calls {
            self.answer(&call);
        }
        // A client that left was closed, and so left the epoll set.
        if let Some(control) = &self.control
            && let Some(fd) = control.client_fd(client)
        {
            let flags = if control.wants_write(client) {
                EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            let mut event = EpollEvent::new(flags, TOKEN_CLIENTS + client);
            self.epoll
                .modify(fd, &mut event)
                .map_err(Error::system("epoll_ctl"))?;
        }
        Ok(())
    }

    fn answer(&mut self, call: &Call) {
        let reply: Result<serde_json::Value> = match &call.request {
            Request::GetStatus => Ok(json!(self.status())),
            Request::GetHistory { limit } => self
                .journal
                .history(*limit as usize)
                .map_err(Error::from)
                .map(|found| {
                    json!(History {
                        decisions: found.into_iter().map(control::Decision::from).collect()
                    })
                }),
            Request::Explain { id } => match self.journal.decision(DecisionId(*id)) {
                Ok(Some(decision)) => Ok(json!(Explanation {
                    decision: decision.into()
                })),
                Ok(None) => return self.no_such(call, *id),
                Err(error) => Err(error.into()),
            },
            Request::Rearm { tunable, netns } => self
                .rearm(tunable.as_deref(), *netns)
                .map(|done| json!(done)),
            Request::Revert { id: None } => self.revert_all().map(|done| json!(done)),
            Request::Revert { id: Some(id) } => match self.journal.decision(DecisionId(*id)) {
                Ok(Some(decision)) => self.revert_one(&decision).map(|done| json!(done)),
                Ok(None) => return self.no_such(call, *id),
                Err(error) => Err(error.into()),
            },
        };
        let Some(control) = &mut self.control else {
            return;
        };
        match reply {
            Ok(reply) => control.reply(call, reply),
            Err(error) => {
                control.error(call, "NotPossible", json!({ "reason": error.to_string() }))
            }
        }
    }

    fn no_such(&mut self, call: &Call, id: i64) {
        if let Some(control) = &mut self.control {
            control.error(call, "NoSuchDecision", json!({ "id": id }));
        }
    }

    fn status(&mut self) -> Status {
        let hooks = self
            .hooks()
            .map(|(owner, hook)| Hook {
                owner: owner.into(),
                name: hook.name.clone(),
                section: hook.section.clone(),
                off: hook.off.clone(),
            })
            .collect();
        let tuners = self
            .tuners
            .iter()
            .map(|t| control::Tuner {
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
            tuners,
            knobs,
        }
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
            netns: knob.netns.0,
            tunable: knob.tunable,
        }
    }

    fn rearm(&mut self, tunable: Option<&str>, netns: Option<u64>) -> Result<Rearmed> {
        let taken = self.journal.rearm(tunable, netns.map(NetnsCookie))?;
        for hold in &taken {
            self.governor.rearm(&hold.knob);
            tracing::info!("{} is re-armed", hold.knob);
        }
        Ok(Rearmed {
            rearmed: taken.iter().map(|hold| hold.knob.to_string()).collect(),
        })
    }

    fn revert_all(&mut self) -> Result<Reverted> {
        let report = restore::restore(&mut self.journal, &mut self.namespaces)?;
        self.forget(&report, |_| true);
        Ok(Reverted {
            report: report.to_string(),
        })
    }

    fn revert_one(&mut self, decision: &crate::journal::Decision) -> Result<Reverted> {
        let not = |why: String| Err(Error::Control(why));
        if decision.verdict != Verdict::Applied.word() {
            return not(format!(
                "{} changed nothing: it was {}",
                decision.id, decision.verdict
            ));
        }
        let (Ok(old), Ok(new)) = (decision.old.parse(), decision.new.parse::<crate::Value>())
        else {
            return not(format!("{} has an unreadable value", decision.id));
        };
        let now = sysctl::read(&mut self.namespaces, &decision.knob)?;
        if now != new {
            return not(format!(
                "{} set {} to \"{new}\", but it is \"{now}\" now: revert the later change, or all",
                decision.id, decision.knob
            ));
        }
        self.trials.remove(&decision.knob);
        self.take_back(
            &decision.knob,
            &old,
            decision.id,
            "the operator asked for it",
        )?;
        self.governor
            .harmed(&decision.knob, std::time::Instant::now());
        let now = sysctl::read(&mut self.namespaces, &decision.knob)?;
        Ok(Reverted {
            report: format!("{} is \"{now}\"\n", decision.knob),
        })
    }
}
