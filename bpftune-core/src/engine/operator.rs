//! What the operator said, and what the operator may want to know: rests, wishes, events.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{Knob, Proposal, control::Event, journal};

/// Wishes that are remembered for `bpftune plan`.
const MAX_WISHES: usize = 256;
/// How long.
const WISHES_FOR: Duration = Duration::from_secs(60);

/// How long a tuner rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Until it is enabled.
    Disabled,
    /// Until this moment; in unix milliseconds too.
    Paused(Instant, i64),
}

impl Rest {
    pub(super) fn paused(now: Instant, how_long: Duration) -> Rest {
        let ms = i64::try_from(how_long.as_millis()).unwrap_or(i64::MAX);
        Rest::Paused(now + how_long, journal::now_ms().saturating_add(ms))
    }

    fn holds(self, now: Instant) -> bool {
        match self {
            Rest::Disabled => true,
            Rest::Paused(until, _) => now < until,
        }
    }
}

/// What a tuner wished for last of a knob.
#[derive(Clone, Debug)]
pub(super) struct Wished {
    pub(super) tuner: String,
    pub(super) proposal: Proposal,
    pub(super) at: Instant,
    pub(super) at_ms: i64,
}

/// Is told each event.
pub(super) type Observer = Box<dyn FnMut(&Event)>;

/// The operator's side of the engine.
#[derive(Default)]
pub(super) struct Operator {
    tuners: HashMap<String, Rest>,
    all: Option<Rest>,
    /// Oldest first, one a knob.
    wishes: VecDeque<Wished>,
    /// Not published yet.
    pub(super) events: Vec<Event>,
    /// Called with each event.
    pub(super) observer: Option<Observer>,
    /// Decisions since old ones were deleted last.
    pub(super) unpruned: usize,
}

impl Operator {
    /// Whether and how a tuner rests. A pause that is over needs no timer: it is seen here.
    pub(super) fn rest(&self, tuner: &str, now: Instant) -> Option<Rest> {
        let own = self.tuners.get(tuner).copied();
        [own, self.all]
            .into_iter()
            .flatten()
            .find(|rest| rest.holds(now))
    }

    /// Lets a tuner, or all, rest or (with `None`) work.
    pub(super) fn set(&mut self, tuner: Option<&str>, rest: Option<Rest>) {
        match (tuner, rest) {
            (None, rest) => {
                self.all = rest;
                if rest.is_none() {
                    self.tuners.retain(|_, rest| *rest == Rest::Disabled);
                }
            }
            (Some(tuner), Some(rest)) => {
                self.tuners.insert(tuner.to_owned(), rest);
            }
            (Some(tuner), None) => {
                self.tuners.remove(tuner);
            }
        }
    }

    /// Remembers what a tuner wants.
    pub(super) fn wish(&mut self, tuner: &str, proposal: &Proposal) {
        self.wishes.retain(|w| w.proposal.knob != proposal.knob);
        if self.wishes.len() >= MAX_WISHES {
            self.wishes.pop_front();
        }
        self.wishes.push_back(Wished {
            tuner: tuner.to_owned(),
            proposal: proposal.clone(),
            at: Instant::now(),
            at_ms: journal::now_ms(),
        });
    }

    /// The wishes of the last minute.
    pub(super) fn wishes(&mut self, now: Instant) -> Vec<Wished> {
        self.wishes
            .retain(|wished| now.duration_since(wished.at) < WISHES_FOR);
        self.wishes.iter().cloned().collect()
    }

    /// It has come true, or nobody may want it.
    pub(super) fn forget(&mut self, knob: &Knob) {
        self.wishes.retain(|wished| wished.proposal.knob != *knob);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetnsCookie, Urgency, Value};

    #[test]
    fn rests_end_by_themselves_or_by_word() {
        let mut operator = Operator::default();
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        let at = |operator: &Operator, tuner: &str, ms: u64| {
            operator
                .rest(tuner, now + Duration::from_millis(ms))
                .is_some()
        };
        operator.set(Some("a"), Some(Rest::paused(now, minute)));
        assert!(
            at(&operator, "a", 59_999) && !at(&operator, "a", 60_000) && !at(&operator, "b", 0)
        );
        operator.set(None, Some(Rest::paused(now, minute)));
        operator.set(Some("b"), Some(Rest::Disabled));
        assert!(at(&operator, "b", 0) && at(&operator, "c", 0));
        operator.set(None, None);
        assert!(!at(&operator, "a", 0) && !at(&operator, "c", 0));
        assert!(at(&operator, "b", 1_000_000), "disabled stays so");
        operator.set(Some("b"), None);
        assert!(!at(&operator, "b", 0));
    }

    #[test]
    fn wishes_are_bounded_and_one_a_knob() {
        let mut operator = Operator::default();
        let proposal = |netns: u64, target: i64| Proposal {
            knob: Knob {
                tunable: "net.ipv4.tcp_rmem".into(),
                netns: NetnsCookie(netns),
            },
            target: Value::from(target),
            reason: String::new(),
            urgency: Urgency::Gain,
        };
        operator.wish("t", &proposal(1, 1));
        operator.wish("t", &proposal(1, 2));
        let now = Instant::now();
        assert_eq!(operator.wishes(now).len(), 1);
        assert_eq!(operator.wishes(now)[0].proposal.target, Value::from(2));
        for netns in 0..1000 {
            operator.wish("t", &proposal(netns, 1));
        }
        assert_eq!(operator.wishes(now).len(), MAX_WISHES);
        operator.forget(&proposal(999, 0).knob);
        assert_eq!(operator.wishes(now).len(), MAX_WISHES - 1);
        assert!(operator.wishes(now + WISHES_FOR + WISHES_FOR).is_empty());
    }
}
