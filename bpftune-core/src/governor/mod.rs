//! The only place that says yes.
//!
//! A proposal passes, in this order: the operator's scope, the admin's holds, the tunable's bounds,
//! rest after harm, hysteresis, the turns of the last hour, cool-down, the hourly limit, and last the mode. Nothing here does
//! I/O or looks at a clock: the time is an argument, so every rule is tested without waiting.

mod canary;
mod clock;
mod glob;
mod policy;
mod window;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

pub use self::{
    canary::canary,
    clock::{Moment, WallTime},
    glob::Glob,
    policy::{ExitPolicy, Mode, Policy},
    window::{Window, Zone},
};
use crate::{Error, Knob, Machine, Proposal, Result, Scope, Tunable, Urgency, Value};

/// What the governor says to a proposal.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Write this value.
    Apply(Value),
    /// Record this value as advice, write nothing.
    Advise(Value),
    /// No.
    Refuse(Refusal),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No tuner declared this tunable.
    Unknown,
    /// Observe mode.
    Observing,
    /// The policy keeps global tunables as they are.
    GlobalDenied,
    /// Somebody else wrote the knob; it is theirs until `bpftune rearm`.
    Held {
        /// Who.
        by: String,
    },
    /// The value is there already, or the bound leaves no room.
    AtBound {
        /// The bound of the last number.
        bound: i64,
    },
    /// A trial found an earlier change harmful.
    Resting(Duration),
    /// It would reverse the last change too soon.
    Hysteresis(Duration),
    /// It has turned round too often in the last hour.
    Flapping(usize),
    /// The last change is too recent.
    CoolDown(Duration),
    /// Too many changes in the last hour.
    HourlyLimit(usize),
}

impl Refusal {
    /// How long the tuner may as well be silent about the same thing.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        match self {
            Refusal::CoolDown(_) => Duration::ZERO,
            Refusal::Resting(left) | Refusal::Hysteresis(left) => *left,
            _ => Duration::from_secs(10),
        }
    }

    /// Whether a person wants to read of it: a passing rest is not worth a line.
    #[must_use]
    pub fn is_news(&self) -> bool {
        !matches!(self, Refusal::CoolDown(_) | Refusal::Observing)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown => f.write_str("no tuner owns it"),
            Refusal::Observing => f.write_str("mode observe"),
            Refusal::GlobalDenied => {
                f.write_str("this run leaves the host's global parameters alone")
            }
            Refusal::Held { by } => write!(f, "{by} wrote it: theirs until `bpftune rearm`"),
            Refusal::AtBound { bound } => {
                write!(f, "already at the bound of this machine, {bound}")
            }
            Refusal::Resting(left) => write!(
                f,
                "an earlier change did harm: rests {} s more",
                left.as_secs()
            ),
            Refusal::Hysteresis(left) => {
                write!(f, "no change of direction for {} s more", left.as_secs())
            }
            Refusal::Flapping(turns) => {
                write!(f, "changed direction {turns} times in the last hour")
            }
            Refusal::CoolDown(left) => write!(f, "cooling down for {} ms more", left.as_millis()),
            Refusal::HourlyLimit(limit) => write!(f, "changed {limit} times in the last hour"),
        }
    }
}

/// What happened to one knob.
#[derive(Clone, Debug, Default)]
pub struct KnobHistory {
    last: Option<(Instant, i8)>,
    recent: VecDeque<Instant>,
    turns: VecDeque<Instant>,
    rests_until: Option<Instant>,
    /// Changes made by this run.
    pub changes: u64,
    /// Of these, how many went against the one before.
    pub reversals: u64,
}

/// Decides, and remembers what it needs to decide.
#[derive(Debug)]
pub struct Governor {
    policy: Policy,
    tunables: HashMap<String, (Tunable, String)>,
    knobs: HashMap<Knob, KnobHistory>,
    holds: HashMap<Knob, String>,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Governor {
    /// A governor that knows no tunable yet.
    #[must_use]
    pub fn new(policy: Policy) -> Governor {
        Governor {
            policy,
            tunables: HashMap::new(),
            knobs: HashMap::new(),
            holds: HashMap::new(),
        }
    }

    /// Gives a tunable to its owner.
    ///
    /// # Errors
    /// [`Error::Owner`] where another tuner has it.
    pub fn register(&mut self, tunable: Tunable, owner: &str) -> Result<()> {
        if let Some((_, first)) = self.tunables.get(&*tunable.name) {
            return Err(Error::Owner {
                tunable: tunable.name.into(),
                first: first.clone(),
                second: owner.into(),
            });
        }
        self.tunables
            .insert(tunable.name.to_string(), (tunable, owner.into()));
        Ok(())
    }

    /// Takes an owner's tunables back. What is known of their knobs stays: holds, rests, limits.
    pub fn unregister(&mut self, owner: &str) {
        self.tunables.retain(|_, (_, other)| other != owner);
    }

    /// Who owns a tunable.
    #[must_use]
    pub fn owner(&self, tunable: &str) -> Option<&str> {
        self.tunables.get(tunable).map(|(_, owner)| owner.as_str())
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A registered tunable.
    #[must_use]
    pub fn tunable(&self, name: &str) -> Option<&Tunable> {
        self.tunables.get(name).map(|(tunable, _)| tunable)
    }

    /// Leaves a knob to whoever wrote it.
    pub fn hold(&mut self, knob: Knob, by: String) {
        self.holds.insert(knob, by);
    }

    /// Takes a hold back.
    pub fn rearm(&mut self, knob: &Knob) {
        self.holds.remove(knob);
    }

    /// Who holds the knob.
    #[must_use]
    pub fn held_by(&self, knob: &Knob) -> Option<&str> {
        self.holds.get(knob).map(String::as_str)
    }

    /// What happened to a knob in this run.
    #[must_use]
    pub fn history(&self, knob: &Knob) -> Option<&KnobHistory> {
        self.knobs.get(knob)
    }

    /// Yes, no or advice. `current` is the value that was read just now.
    #[must_use]
    pub fn decide(
        &self,
        proposal: &Proposal,
        current: &Value,
        machine: &Machine,
        now: Instant,
    ) -> Decision {
        let refuse = Decision::Refuse;
        let Some((tunable, _)) = self.tunables.get(proposal.knob.tunable.as_str()) else {
            return refuse(Refusal::Unknown);
        };
        if self.policy.mode == Mode::Observe {
            return refuse(Refusal::Observing);
        }
        if tunable.scope == Scope::Global && !self.policy.global {
            return refuse(Refusal::GlobalDenied);
        }
        if let Some(by) = self.holds.get(&proposal.knob) {
            return refuse(Refusal::Held { by: by.clone() });
        }
        let bounds = tunable.bound.ranges(machine);
        let target = match self.policy.max_step {
            Some(share) => proposal.target.clamped(&bounds).nearer(current, share),
            None => proposal.target.clamped(&bounds),
        };
        let wanted = proposal.target.direction_from(current);
        let direction = target.direction_from(current);
        // A bound that turns a rise into a fall (or into nothing) leaves no room.
        if direction == 0 || direction != wanted {
            let bound = bounds.last().map_or(
                current.last(),
                |&(low, high)| if wanted < 0 { low } else { high },
            );
            return refuse(Refusal::AtBound { bound });
        }
        if let Some(history) = self.knobs.get(&proposal.knob)
            && let Some(refusal) = self.rest(history, direction, proposal.urgency, now)
        {
            return refuse(refusal);
        }
        match self.policy.mode {
            Mode::Auto => Decision::Apply(target),
            _ => Decision::Advise(target),
        }
    }

    fn rest(
        &self,
        history: &KnobHistory,
        direction: i8,
        urgency: Urgency,
        now: Instant,
    ) -> Option<Refusal> {
        let left = |since: Instant, rest: Duration| {
            let left = (since + rest).saturating_duration_since(now);
            (!left.is_zero()).then_some(left)
        };
        if urgency == Urgency::Gain {
            if let Some(until) = history.rests_until
                && let Some(left) = left(until, Duration::ZERO)
            {
                return Some(Refusal::Resting(left));
            }
            if let Some((at, last)) = history.last {
                if last != direction
                    && let Some(left) = left(at, self.policy.hysteresis)
                {
                    return Some(Refusal::Hysteresis(left));
                }
                // What a trial finds harmful is put back, and that is a turn too: leave room for it.
                let turns = within_hour(&history.turns, now);
                if turns + usize::from(last != direction) + 1 > self.policy.reversals_per_hour {
                    return Some(Refusal::Flapping(turns));
                }
                if let Some(left) = left(at, self.policy.cool_down) {
                    return Some(Refusal::CoolDown(left));
                }
            }
            let in_hour = within_hour(&history.recent, now);
            if in_hour >= self.policy.changes_per_hour {
                return Some(Refusal::HourlyLimit(in_hour));
            }
        }
        None
    }

    /// Notes a change that was made.
    pub fn changed(&mut self, knob: &Knob, direction: i8, now: Instant) {
        let history = self.knobs.entry(knob.clone()).or_default();
        if history.last.is_some_and(|(_, last)| last != direction) {
            history.reversals += 1;
            history.turns.push_back(now);
            while history.turns.len() > self.policy.reversals_per_hour.max(1) {
                history.turns.pop_front();
            }
        }
        history.changes += 1;
        history.last = Some((now, direction));
        history.recent.push_back(now);
        while history.recent.len() > self.policy.changes_per_hour {
            history.recent.pop_front();
        }
    }

    /// The change just noted averted harm ([`Urgency::Harm`]): that it turned is not held against the knob.
    pub fn excused(&mut self, knob: &Knob) {
        if let Some(history) = self.knobs.get_mut(knob)
            && let Some((at, _)) = history.last
            && history.turns.back() == Some(&at)
        {
            history.turns.pop_back();
        }
    }

    /// Notes that a change did harm.
    pub fn harmed(&mut self, knob: &Knob, now: Instant) {
        self.knobs.entry(knob.clone()).or_default().rests_until =
            Some(now + self.policy.rest_after_harm);
    }
}

fn within_hour(moments: &VecDeque<Instant>, now: Instant) -> usize {
    moments
        .iter()
        .filter(|at| now.saturating_duration_since(**at) < HOUR)
        .count()
}

#[cfg(test)]
mod tests;
