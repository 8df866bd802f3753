//! What clients of the control socket ask for: from a call to its answer.

use nix::sys::epoll::{EpollEvent, EpollFlags};
use serde_json::{Value as Json, json};

use super::{Engine, TOKEN_CLIENTS};
use crate::{
    Error, Result,
    control::{
        Call, ClientId, Differences, Event, Explanation, History, HistoryFilter, Report, Request,
    },
    journal::{self, Decision, DecisionId, Touched},
};

/// Decisions in one answer.
const MAX_HISTORY: u32 = 1000;
/// Decisions between two prunings, and deleted in one go.
const PRUNE_EVERY: usize = 1024;
const PRUNE_AT_ONCE: usize = 512;

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

    /// A client can be read or written. Its calls wait for the end of the turn.
    pub(super) fn serve(&mut self, client: ClientId, events: EpollFlags) -> Result<()> {
        if let Some(control) = &mut self.control {
            if events.contains(EpollFlags::EPOLLOUT) {
                control.writable(client);
            }
            // A hang-up too is learnt by reading.
            if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
            {
                control.readable(client);
            }
        }
        self.wait_for_client(client)
    }

    /// Tells the epoll set what to wait for. A client that left was closed, and so left the set.
    fn wait_for_client(&mut self, client: ClientId) -> Result<()> {
        let Some(control) = &self.control else {
            return Ok(());
        };
        let Some(fd) = control.client_fd(client) else {
            return Ok(());
        };
        let mut flags = EpollFlags::empty();
        let (read, write) = control.interest(client);
        flags.set(EpollFlags::EPOLLIN, read);
        flags.set(EpollFlags::EPOLLOUT, write);
        self.epoll
            .modify(fd, &mut EpollEvent::new(flags, TOKEN_CLIENTS + client))
            .map_err(Error::system("epoll_ctl"))
    }

    /// The end of a turn: changes are carried out, each client's next call is answered, the timer is set, watchers are
    /// told. `true` where there is more to do without waiting for anything.
    pub(super) fn end_turn(&mut self) -> Result<bool> {
        self.carry_out();
        let calls = match &mut self.control {
            Some(control) if control.has_calls() => {
                let waiting = control.waiting();
                let calls = control.calls();
                for call in calls {
                    self.answer(&call);
                }
                // Approved advice is written before its caller asks for anything else.
                for client in waiting {
                    self.wait_for_client(client)?;
                }
                true
            }
            _ => false,
        };
        self.tell_reach();
        self.keep_learned();
        self.arm_timer()?;
        self.publish()?;
        self.warn_on_error(|me| me.journal.rest());
        Ok(calls && self.control.as_ref().is_some_and(|c| c.has_calls()))
    }

    /// Tells watchers what the journal took down.
    pub(super) fn publish(&mut self) -> Result<()> {
        let touched = self.journal.take_touched();
        let mut events = std::mem::take(&mut self.operator.events);
        if touched.is_empty() && events.is_empty() {
            return Ok(());
        }
        let watched = self.control.as_ref().is_some_and(|c| c.is_watched());
        if watched || self.operator.observer.is_some() {
            events.extend(touched.iter().filter_map(|touched| self.event(touched)));
            for event in &events {
                if let Some(observer) = &mut self.operator.observer {
                    observer(event);
                }
                let told = self
                    .control
                    .as_mut()
                    .map_or_else(Vec::new, |control| control.publish(event));
                for client in told {
                    self.wait_for_client(client)?;
                }
            }
        }
        self.operator.unpruned += touched.len();
        if self.operator.unpruned >= PRUNE_EVERY {
            self.operator.unpruned = 0;
            self.prune(PRUNE_AT_ONCE);
        }
        Ok(())
    }

    /// Deletes decisions that are past what the settings keep.
    pub(super) fn prune(&mut self, limit: usize) {
        let retention = self.settings.retention;
        match self.journal.prune(&retention, limit) {
            // The next decisions go on with it.
            Ok(pruned) if pruned.more => self.operator.unpruned = PRUNE_EVERY - 1,
            Ok(_) => {}
            Err(error) => tracing::warn!("{error}"),
        }
    }

    fn event(&self, touched: &Touched) -> Option<Event> {
        let of = |id: DecisionId, kind: fn(&Decision) -> (String, String)| {
            let decision = self.journal.decision(id).ok().flatten()?;
            let (kind, text) = kind(&decision);
            Some(Event {
                decision: Some(decision.into()),
                ..Event::new(&kind, &text)
            })
        };
        match touched {
            Touched::Decision(id) => of(*id, |d| (d.verdict.clone(), d.reason.clone())),
            Touched::Outcome(id) => of(*id, |d| ("outcome".into(), d.outcome.clone())),
            Touched::Hold(hold) => Some(Event::new(
                "hands-off",
                &format!(
                    "{} wrote {} = \"{}\" in {}: theirs until `bpftune rearm`",
                    hold.by,
                    hold.knob.tunable,
                    hold.value,
                    self.namespaces.place(hold.knob.netns)
                ),
            )),
        }
    }

    fn answer(&mut self, call: &Call) {
        let reply = self.reply_to(call);
        let Some(control) = &mut self.control else {
            return;
        };
        match reply {
            Ok(reply) => control.reply(call, reply),
            Err(Error::NoSuchDecision { id, newest }) => control.error(
                call,
                "NoSuchDecision",
                json!({ "id": id.0, "newest": newest.map(|id| id.0) }),
            ),
            Err(Error::NoSuchTuner { name, near }) => {
                control.error(call, "NoSuchTuner", json!({ "tuner": name, "near": near }))
            }
            Err(error) => {
                control.error(call, "NotPossible", json!({ "reason": error.to_string() }))
            }
        }
    }

    fn reply_to(&mut self, call: &Call) -> Result<Json> {
        let report = |report: Result<String>| report.map(|report| json!(Report { report }));
        match &call.request {
            Request::GetStatus => Ok(json!(self.status())),
            Request::ListTunables { tuner } => {
                if let Some(tuner) = tuner {
                    self.known_tuner(tuner)?;
                }
                Ok(json!(self.tunables(tuner.as_deref())?))
            }
            Request::GetHistory(filter) => self.history(filter),
            Request::Explain { id } => self.decision(*id).map(|decision| {
                json!(Explanation {
                    decision: decision.into()
                })
            }),
            Request::Diff(range) => {
                let differences = if *range == crate::control::DiffRange::default() {
                    self.differences_now()
                } else {
                    let (from, to) = range.points();
                    let found = self.journal.diff(from, to)?;
                    found.into_iter().map(Into::into).collect()
                };
                Ok(json!(Differences { differences }))
            }
            Request::Plan => Ok(json!(self.plan()?)),
            // The server subscribes by itself.
            Request::Watch => Ok(json!({})),
            Request::Query(query) => self.query(*query).map(|text| json!({ "text": text })),
            Request::Rearm { tunable, netns } => self
                .rearm(tunable.as_deref(), *netns)
                .map(|done| json!(done)),
            Request::Revert { id: None } => report(self.revert_all()),
            Request::Revert { id: Some(id) } => {
                let decision = self.decision(*id)?;
                report(self.revert_one(&decision))
            }
            Request::Approve { id } => {
                let decision = self.decision(*id)?;
                self.approve(&decision, call.uid).map(|done| json!(done))
            }
            Request::Reject { id, reason } => {
                let decision = self.decision(*id)?;
                report(self.reject(&decision, reason.as_deref(), call.uid))
            }
            Request::Enable { tuner } => report(self.enable(tuner)),
            Request::Disable { tuner } => report(self.disable(tuner)),
            Request::Pause { tuner, seconds } => report(self.pause(tuner.as_deref(), *seconds)),
            Request::Resume { tuner } => report(self.resume(tuner.as_deref())),
        }
    }

    fn history(&self, wanted: &HistoryFilter) -> Result<Json> {
        let limit = wanted.limit.unwrap_or(20).min(MAX_HISTORY);
        let filter = journal::Filter::from(wanted.clone());
        let page = self.journal.page(&filter, limit as usize)?;
        Ok(json!(History {
            decisions: page.decisions.into_iter().map(Into::into).collect(),
            next: page.next.map(|id| id.0),
        }))
    }

    fn decision(&self, id: i64) -> Result<Decision> {
        let id = DecisionId(id);
        match self.journal.decision(id)? {
            Some(decision) => Ok(decision),
            None => Err(Error::NoSuchDecision {
                id,
                newest: self.journal.newest()?,
            }),
        }
    }
}
