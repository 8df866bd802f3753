//! Did the change help? Windows without it, windows with it, a verdict by a rank test.
//!
//! A tuner declares what is watched and how ([`Plan`], [`Guard`]). Windows without the change lie between the first
//! signal and the change, and those with it after the last change of the series has settled; or, where the knob may be
//! switched to and fro, both lie in turn ([`Layout::Interleaved`]). [`stats::judge`](mod@crate::stats::judge) compares
//! them guard by guard; the level is shared among the guards. Any harm that counts means worse, else a gained goal means
//! better. Everything here is plain data and a clock handed in: the engine reads the counters and writes the knob.

mod guard;
mod meter;
mod name;
mod plan;
mod record;
mod side;
mod verdict;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

pub(crate) use self::meter::stalled;
pub use self::{
    guard::{Counter, Guard, Harm, Measure, Resource},
    meter::{Meter, ProcMeter, Snapshot},
    plan::{Plan, Windows},
    record::{Action, GuardRecord, Outcome, Record, ShiftRecord},
    side::Side,
};
use crate::{Value, config::kinds::Unclear, journal::DecisionId, stats::Layout};

/// What the operator wants of trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to a change of which the trial cannot tell.
    pub unclear: Unclear,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            unclear: Unclear::Keep,
        }
    }
}

/// What a trial wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// To be sampled again when [`Trial::due`].
    Wait,
    /// The knob switched: with the change in place, or without it.
    Switch {
        /// With it.
        with: bool,
    },
    /// Nothing: this is the verdict. Boxed for its size.
    Over(Box<Record>),
}

/// A run of changes of one knob under observation.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The changes, oldest first.
    pub decisions: Vec<DecisionId>,
    /// The value before the first of them.
    pub before: Value,
    /// The value that the last of them wrote.
    pub after: Value,
    plan: Rc<Plan>,
    counters: Vec<Counter>,
    without: Side,
    with: Side,
    /// The open window's start.
    open: Option<Snapshot>,
    due: Instant,
    /// Windows of an interleaved trial so far.
    position: usize,
}

/// Timers within so long of each other are one: many trials at once wake the daemon no more often than one.
const GRID: Duration = Duration::from_millis(5);

impl Trial {
    /// Starts with the first change, which was just made. `without` has the windows before it.
    #[must_use]
    pub fn new(
        decision: DecisionId,
        before: Value,
        after: Value,
        plan: Rc<Plan>,
        without: Side,
        now: Instant,
    ) -> Trial {
        Trial {
            decisions: vec![decision],
            before,
            after,
            counters: plan.counters(),
            without: if plan.layout == Layout::Interleaved {
                Side::default()
            } else {
                without
            },
            with: Side::default(),
            open: None,
            due: now + plan.settle,
            position: 0,
            plan,
        }
    }

    /// A further change of the same knob: what was measured with the earlier one is void.
    pub fn extend(&mut self, decision: DecisionId, after: Value, now: Instant) {
        self.decisions.push(decision);
        self.after = after;
        self.with = Side::default();
        if self.interleaves() {
            self.without = Side::default();
        }
        self.position = 0;
        self.open = None;
        self.due = now + self.plan.settle;
    }

    /// The counters to read for [`sample`](Self::sample).
    #[must_use]
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// When to sample next.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Whether it is to be sampled now.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due <= now + GRID
    }

    /// Whether only what helped stays.
    #[must_use]
    pub fn wants_better(&self) -> bool {
        self.plan.only_better
    }

    /// Whether the knob is switched to and fro: nobody else may change it meanwhile.
    #[must_use]
    pub fn interleaves(&self) -> bool {
        self.plan.layout == Layout::Interleaved
    }

    /// How long it takes at most, from now.
    #[must_use]
    pub fn left(&self) -> Duration {
        let each = self.plan.trial.length + self.plan.settle;
        each * (self.plan.trial.count * 2).saturating_sub(self.position) as u32
    }

    /// Whether the open window is one with the change: with, without, without, with, and so on.
    fn is_with(&self) -> bool {
        !self.interleaves() || matches!(self.position % 4, 0 | 3)
    }

    /// Takes the counters as the end of one window and the start of the next.
    pub fn sample(&mut self, snapshot: Snapshot) -> Step {
        let now = snapshot.at;
        let Some(open) = self.open.take() else {
            self.open = Some(snapshot);
            self.due = now + self.plan.trial.length;
            return Step::Wait;
        };
        let with = self.is_with();
        let side = if with {
            &mut self.with
        } else {
            &mut self.without
        };
        side.add(&self.plan.guards, &self.counters, &open, &snapshot);
        self.position += 1;
        let full = self.plan.trial.count;
        let over = self.with.count >= full && (!self.interleaves() || self.without.count >= full);
        let findings =
            (over || with).then(|| verdict::find(&self.plan, &self.without, &self.with, !over));
        match findings {
            Some(found) if over || found.outcome == Outcome::Worse => {
                Step::Over(Box::new(self.record(found)))
            }
            _ if self.is_with() != with => {
                self.due = now + self.plan.settle;
                Step::Switch { with: !with }
            }
            _ => {
                self.open = Some(snapshot);
                self.due = now + self.plan.trial.length;
                Step::Wait
            }
        }
    }

    fn record(&self, found: verdict::Findings) -> Record {
        let figures = self
            .plan
            .guards
            .iter()
            .zip(&found.guards)
            .map(|(guard, found)| found.sentence(guard));
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Record {
            version: Record::VERSION,
            outcome: found.outcome,
            action: Action::Kept,
            why: String::new(),
            value_without: self.before.to_string(),
            value_with: self.after.to_string(),
            layout: self.plan.layout,
            windows_without: self.without.count,
            windows_with: self.with.count,
            window_ms: ms(self.plan.trial.length),
            settle_ms: ms(self.plan.settle),
            alpha: self.plan.alpha,
            figures: figures.collect(),
            guards: found.guards,
            beside: Vec::new(),
        }
    }
}

/// What becomes of the change, and why. `only_better` is its plan's word.
#[must_use]
pub fn decide(outcome: Outcome, policy: &Policy, only_better: bool) -> (Action, &'static str) {
    match (outcome, policy.unclear) {
        (Outcome::Better, _) => (Action::Kept, "it helped"),
        (Outcome::Worse, _) => (Action::Reverted, "it did harm"),
        (Outcome::Same | Outcome::Unclear, _) if only_better => (
            Action::Reverted,
            "no gain was shown, and of this parameter only a gain is kept",
        ),
        (Outcome::Same, _) => (Action::Kept, "it does no harm"),
        (Outcome::Unclear, Unclear::Keep) => (
            Action::Kept,
            "no harm was shown, and the policy keeps what is unclear",
        ),
        (Outcome::Unclear, Unclear::Revert) => (
            Action::Reverted,
            "no gain was shown, and the policy takes back what is unclear",
        ),
    }
}

#[cfg(test)]
mod tests;
