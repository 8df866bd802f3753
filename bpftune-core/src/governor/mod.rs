//! The only place that says yes.
//!
//! A proposal passes, in this order: observe mode, what the operator denies, the admin's holds, the bounds (the
//! tunable's own and the operator's), the maintenance windows, rest after harm, hysteresis, the turns of the last hour,
//! cool-down, the hourly limits, the memory budget, and last the mode. What averts harm passes windows, rests and
//! limits. Nothing here does I/O or looks at a clock: the time is an argument, so every rule is tested without waiting.

mod budget;
mod canary;
mod clock;
mod glob;
mod limits;
mod policy;
mod refusal;
mod selection;
mod window;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use self::{
    budget::{Budget, Charge},
    limits::Limits,
};

pub use self::{
    canary::canary,
    clock::{Moment, WallTime},
    glob::Glob,
    policy::{ExitPolicy, Mode, Policy},
    refusal::{Lever, Refusal},
    selection::{Selection, Unselected},
    window::{Window, Zone},
};
use crate::{
    Error, Knob, Machine, NetnsCookie, Proposal, Result, Scope, Tunable, Urgency, Value, sysctl,
};

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

/// What happened to one knob.
#[derive(Clone, Debug, Default)]
pub struct KnobHistory {
    last: Option<(Instant, i8)>,
    recent: VecDeque<Instant>,
    turns: VecDeque<Instant>,
    harmed: Option<Instant>,
    charge: Option<Charge>,
    /// Changes made by this run.
    pub changes: u64,
    /// Of these, how many went against the one before.
    pub reversals: u64,
}

/// A tunable with its owner and what holds for it.
#[derive(Clone, Debug)]
struct Registered {
    tunable: Tunable,
    owner: String,
    limits: Limits,
}

/// A namespace, as people name it.
#[derive(Debug)]
struct Place {
    name: String,
    /// Why nothing may change there.
    barred: Option<Unselected>,
}

impl Place {
    fn new(name: String, policy: &Policy) -> Place {
        let barred = policy.places.check(&name).err();
        Place { name, barred }
    }
}

/// Decides, and remembers what it needs to decide.
#[derive(Debug)]
pub struct Governor {
    policy: Policy,
    tunables: HashMap<String, Registered>,
    knobs: HashMap<Knob, KnobHistory>,
    holds: HashMap<Knob, String>,
    places: HashMap<NetnsCookie, Place>,
    budget: Budget,
    /// When the last changes of all knobs were made.
    recent: VecDeque<Instant>,
    /// Changes that were let through and are not made yet.
    reserved: usize,
}

/// What the hourly limits look back on.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

impl Governor {
    /// A governor that knows no tunable yet.
    #[must_use]
    pub fn new(policy: Policy) -> Governor {
        Governor {
            policy,
            tunables: HashMap::new(),
            knobs: HashMap::new(),
            holds: HashMap::new(),
            places: HashMap::new(),
            budget: Budget::default(),
            recent: VecDeque::new(),
            reserved: 0,
        }
    }

    /// Gives a tunable to its owner.
    ///
    /// # Errors
    /// [`Error::Owner`] where another tuner has it.
    pub fn register(&mut self, tunable: Tunable, owner: &str) -> Result<()> {
        let overlaps = |other: &&Registered| {
            let (other, own) = (&other.tunable, &tunable);
            other.covers(&own.name)
                || own.covers(&other.name)
                || sysctl::are_one(&other.name, &own.name)
        };
        if let Some(first) = self.tunables.values().find(overlaps) {
            return Err(Error::Owner {
                tunable: tunable.name.to_string(),
                first: first.owner.clone(),
                second: owner.into(),
            });
        }
        let limits = Limits::new(&self.policy, &tunable.name, owner);
        let registered = Registered {
            owner: owner.into(),
            limits,
            tunable,
        };
        self.tunables
            .insert(registered.tunable.name.to_string(), registered);
        Ok(())
    }

    /// Takes an owner's tunables back. What is known of their knobs stays: holds, rests, limits.
    pub fn unregister(&mut self, owner: &str) {
        self.tunables
            .retain(|_, registered| registered.owner != owner);
    }

    /// What is known of a tunable, or of the family that a device's parameter belongs to.
    fn registered(&self, name: &str) -> Option<&Registered> {
        find(&self.tunables, name)
    }

    /// What holds for a parameter of this name, which is the tunable's or a device's.
    fn limits<'a>(&self, registered: &'a Registered, name: &str) -> Cow<'a, Limits> {
        if registered.tunable.name == name {
            Cow::Borrowed(&registered.limits)
        } else {
            Cow::Owned(Limits::new(&self.policy, name, &registered.owner))
        }
    }

    /// Who owns a tunable.
    #[must_use]
    pub fn owner(&self, tunable: &str) -> Option<&str> {
        self.registered(tunable)
            .map(|registered| registered.owner.as_str())
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// From now on this policy holds. What is known of knobs stays.
    pub fn set_policy(&mut self, policy: Policy) {
        for registered in self.tunables.values_mut() {
            registered.limits = Limits::new(&policy, &registered.tunable.name, &registered.owner);
        }
        for place in self.places.values_mut() {
            place.barred = policy.places.check(&place.name).err();
        }
        self.policy = policy;
    }

    /// Whether all of a tuner's tunables are only observed, so that it need not be asked.
    #[must_use]
    pub fn observes(&self, owner: &str) -> bool {
        let mut its = self
            .tunables
            .values()
            .filter(|registered| registered.owner == owner);
        let more_of_a_device = |tunable: &Tunable| {
            let mut sections = self.policy.tunable.iter();
            sections.any(|(glob, section)| {
                section.mode.is_some_and(|mode| mode > Mode::Observe) && tunable.is_meant_by(glob)
            })
        };
        its.all(|registered| {
            let Registered {
                tunable, limits, ..
            } = registered;
            limits.mode.value == Mode::Observe
                && !(tunable.is_family() && more_of_a_device(tunable))
        })
    }

    /// Whether all of a tuner's tunables may be changed: none is observed, advised about or denied.
    #[must_use]
    pub fn lets_act(&self, owner: &str) -> bool {
        let mut its = self
            .tunables
            .values()
            .filter(|registered| registered.owner == owner);
        its.all(|registered| {
            let Limits { mode, denied, .. } = &registered.limits;
            mode.value == Mode::Auto && denied.is_none()
        })
    }

    /// Where somebody else wrote one of a tuner's tunables.
    pub fn held_places(&self, owner: &str) -> impl Iterator<Item = NetnsCookie> {
        let its = |knob: &&Knob| self.owner(&knob.tunable) == Some(owner);
        self.holds.keys().filter(its).map(|knob| knob.netns)
    }

    /// A registered tunable.
    #[must_use]
    pub fn tunable(&self, name: &str) -> Option<&Tunable> {
        self.registered(name).map(|registered| &registered.tunable)
    }

    /// Every registered tunable with its owner.
    pub fn tunables(&self) -> impl Iterator<Item = (&Tunable, &str)> {
        self.tunables
            .values()
            .map(|registered| (&registered.tunable, registered.owner.as_str()))
    }

    /// How far a tunable may be changed.
    #[must_use]
    pub fn mode(&self, tunable: &str) -> Option<Mode> {
        self.registered(tunable)
            .map(|registered| self.limits(registered, tunable).mode.value)
    }

    /// The bounds that the operator's files set for a tunable, for people: ", min 4KiB, max 1%"; empty where they do not.
    #[must_use]
    pub fn said_bounds(&self, tunable: &str) -> String {
        let limits = self.tunables.get(tunable).map(|found| &found.limits);
        let of = |name, bound: Option<&limits::Set<crate::config::Amount>>| {
            bound.map_or(String::new(), |set| format!(", {name} {}", set.value))
        };
        limits.map_or(String::new(), |limits| {
            of("min", limits.min.as_ref()) + &of("max", limits.max.as_ref())
        })
    }

    /// Says how people name a namespace; asked for only where the policy has a word on places.
    pub fn name_place(&mut self, netns: NetnsCookie, name: impl FnOnce() -> String) {
        if !self.policy.places.is_all() {
            let policy = &self.policy;
            let new = || Place::new(name(), policy);
            self.places.entry(netns).or_insert_with(new);
        }
    }

    /// Leaves a knob to whoever wrote it.
    pub fn hold(&mut self, knob: Knob, by: String) {
        self.refund(&knob);
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

    /// What all raises above the original values may cost at worst, bytes.
    #[must_use]
    pub fn memory_spent(&self) -> u64 {
        self.budget.spent()
    }

    /// Yes, no or advice. `current` is the value that was read just now.
    #[must_use]
    pub fn decide(
        &self,
        proposal: &Proposal,
        current: &Value,
        machine: &Machine,
        now: impl Into<Moment>,
    ) -> Decision {
        let name = proposal.knob.tunable.as_str();
        let Some(registered) = self.registered(name) else {
            return Decision::Refuse(Refusal::Unknown);
        };
        let limits = self.limits(registered, name);
        let tunable = &registered.tunable;
        match self.check(tunable, &limits, proposal, current, machine, now.into()) {
            Err(refusal) => Decision::Refuse(refusal),
            Ok(target) if limits.mode.value == Mode::Auto => Decision::Apply(target),
            Ok(target) => Decision::Advise(target),
        }
    }

    fn check(
        &self,
        tunable: &Tunable,
        limits: &Limits,
        proposal: &Proposal,
        current: &Value,
        machine: &Machine,
        now: Moment,
    ) -> Result<Value, Refusal> {
        self.permitted(tunable, limits, &proposal.knob)?;
        let target = self.bounded(tunable, limits, &proposal.target, current, machine)?;
        let history = self.knobs.get(&proposal.knob);
        if proposal.urgency == Urgency::Gain {
            self.in_window(now)?;
            let direction = target.direction_from(current);
            if let Some(history) = history {
                rested(history, limits, direction, now.instant)?;
            } else if limits.changes_per_hour.value == 0 {
                let lever = limits.changes_per_hour.lever.clone();
                return Err(Refusal::HourlyLimit { changes: 0, lever });
            }
            let changes = within_hour(&self.recent, now.instant) + self.reserved;
            if changes >= self.policy.changes_per_hour_total {
                let lever = self
                    .policy
                    .origins
                    .lever("governor", "changes_per_hour_total");
                return Err(Refusal::TotalLimit { changes, lever });
            }
        }
        let charge = history.and_then(|history| history.charge);
        self.affordable(tunable, charge, current, &target, machine)?;
        Ok(target)
    }

    /// Whether the operator and the admin let this knob change at all.
    fn permitted(&self, tunable: &Tunable, limits: &Limits, knob: &Knob) -> Result<(), Refusal> {
        let lever = |key| self.policy.origins.lever("governor", key);
        if limits.mode.value == Mode::Observe {
            return Err(Refusal::Observing {
                lever: limits.mode.lever.clone(),
            });
        }
        if let Some(lever) = &limits.denied {
            return Err(Refusal::Denied {
                lever: lever.clone(),
            });
        }
        if tunable.scope == Scope::Global && !self.policy.global {
            return Err(Refusal::GlobalDenied {
                lever: lever("global"),
            });
        }
        if !self.policy.places.is_all() {
            let unnamed;
            let place = match self.places.get(&knob.netns) {
                Some(place) => place,
                None => {
                    unnamed = Place::new(knob.netns.to_string(), &self.policy);
                    &unnamed
                }
            };
            if let Some(why) = place.barred {
                let lever = lever(match why {
                    Unselected::Denied => "deny_places",
                    Unselected::NotAllowed => "allow_places",
                });
                let place = place.name.clone();
                return Err(Refusal::PlaceDenied { place, lever });
            }
        }
        match self.holds.get(knob) {
            Some(by) => Err(Refusal::Held { by: by.clone() }),
            None => Ok(()),
        }
    }

    /// The wanted value moved into the tunable's bounds and the operator's, and to within one step.
    fn bounded(
        &self,
        tunable: &Tunable,
        limits: &Limits,
        wanted: &Value,
        current: &Value,
        machine: &Machine,
    ) -> Result<Value, Refusal> {
        if let Some(words) = tunable.bound.words()
            && wanted.as_word().is_none_or(|word| !words.contains(&word))
        {
            return Err(Refusal::NoSuchWord { words });
        }
        let mut bounds = tunable.bound.ranges(machine);
        bounds.resize(wanted.numbers().len(), (i64::MIN, i64::MAX));
        let (mut low, mut high) = bounds.last().copied().unwrap_or((i64::MIN, i64::MAX));
        high = high.max(low);
        let (mut low_lever, mut high_lever) = (None, None);
        let in_unit = |amount: &limits::Set<crate::config::Amount>| {
            amount
                .value
                .in_unit(&tunable.unit, machine)
                .map(|number| (number, amount.lever.clone()))
        };
        if let Some((min, lever)) = limits
            .min
            .as_ref()
            .and_then(in_unit)
            .filter(|(min, _)| *min > low)
        {
            (low, low_lever) = (min, Some(lever));
        }
        if let Some((max, lever)) = limits
            .max
            .as_ref()
            .and_then(in_unit)
            .filter(|(max, _)| *max < high)
        {
            (high, high_lever) = (max, Some(lever));
        }
        let direction = wanted.direction_from(current);
        let (bound, lever) = if direction < 0 {
            (low, low_lever)
        } else {
            (high, high_lever)
        };
        let refusal = || match &lever {
            Some(lever) => Refusal::AtLimit {
                bound,
                lever: lever.clone(),
            },
            None => Refusal::AtBound { bound },
        };
        if low > high {
            return Err(refusal());
        }
        if let Some(last) = bounds.last_mut() {
            *last = (low, high);
        }
        let mut target = wanted.clamped(&bounds);
        if let Some(share) = self.policy.max_step {
            target = target.nearer(current, share).clamped(&bounds);
        }
        // A bound that turns a rise into a fall (or into nothing) leaves no room.
        let moves = target.direction_from(current);
        if moves == 0 || moves != direction {
            Err(refusal())
        } else {
            Ok(target)
        }
    }

    fn in_window(&self, now: Moment) -> Result<(), Refusal> {
        let Policy {
            windows,
            zone,
            origins,
            ..
        } = &self.policy;
        let at = match zone {
            Zone::Local => now.local,
            Zone::Utc => now.utc,
        };
        if windows.is_empty() || windows.iter().any(|window| window.contains(at)) {
            return Ok(());
        }
        Err(Refusal::OutsideWindows {
            lever: origins.lever("maintenance", "windows"),
        })
    }

    fn affordable(
        &self,
        tunable: &Tunable,
        charge: Option<Charge>,
        current: &Value,
        target: &Value,
        machine: &Machine,
    ) -> Result<(), Refusal> {
        let spent = self.budget.spent();
        let then = self
            .budget
            .spent_with(charge, tunable, current, target, machine.page_size);
        let budget = self.policy.memory_budget.bytes(machine);
        if then <= budget || then <= spent {
            return Ok(());
        }
        Err(Refusal::OverBudget {
            cost: then - spent,
            left: budget.saturating_sub(spent),
            lever: self.policy.origins.lever("governor", "memory_budget"),
        })
    }

    /// Notes a change that was made.
    pub fn changed(&mut self, knob: &Knob, direction: i8, now: Instant) {
        let limits = self
            .registered(&knob.tunable)
            .map(|registered| self.limits(registered, &knob.tunable));
        let most = limits
            .as_ref()
            .map_or(self.policy.changes_per_hour, |l| l.changes_per_hour.value);
        let most_turns = limits.map_or(self.policy.reversals_per_hour, |l| {
            l.reversals_per_hour.value
        });
        let history = self.knobs.entry(knob.clone()).or_default();
        if history.last.is_some_and(|(_, last)| last != direction) {
            history.reversals += 1;
            note(&mut history.turns, now, most_turns);
        }
        history.changes += 1;
        history.last = Some((now, direction));
        self.reserved = self.reserved.saturating_sub(1);
        note(&mut history.recent, now, most);
        note(&mut self.recent, now, self.policy.changes_per_hour_total);
    }

    /// Notes a change that an earlier run made, at a moment after those noted before. It counts for the limits, not as one of
    /// this run's.
    pub fn remember(&mut self, knob: &Knob, direction: i8, averted_harm: bool, at: Instant) {
        let history = self.knobs.entry(knob.clone()).or_default();
        let turned = history.last.is_some_and(|(_, last)| last != direction);
        if turned && !averted_harm {
            note(&mut history.turns, at, usize::MAX);
        }
        history.last = Some((at, direction));
        note(&mut history.recent, at, usize::MAX);
        note(&mut self.recent, at, usize::MAX);
    }

    /// Notes what was written there, for the memory budget; `original` is the value before the first change.
    pub fn charge(&mut self, knob: &Knob, original: &Value, new: &Value) {
        if let Some(Registered { tunable, .. }) = find(&self.tunables, &knob.tunable) {
            let history = self.knobs.entry(knob.clone()).or_default();
            self.budget
                .charge(&mut history.charge, tunable, original, new);
        }
    }

    /// Notes that a change was let through and is not made yet: the next decision counts it already. Then comes
    /// [`changed`](Governor::changed), or [`release`](Governor::release).
    pub fn reserve(&mut self, knob: &Knob, original: &Value, new: &Value) {
        self.reserved += 1;
        self.charge(knob, original, new);
    }

    /// Notes that a change could not be made, and `old` is there still.
    pub fn release(&mut self, knob: &Knob, original: &Value, old: &Value) {
        self.reserved = self.reserved.saturating_sub(1);
        self.charge(knob, original, old);
    }

    /// Notes that a knob has its original value again.
    pub fn refund(&mut self, knob: &Knob) {
        if let Some(history) = self.knobs.get_mut(knob) {
            self.budget.refund(&mut history.charge);
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
        self.knobs.entry(knob.clone()).or_default().harmed = Some(now);
    }
}

/// The tunable of that name, or the family that it belongs to.
fn find<'a>(tunables: &'a HashMap<String, Registered>, name: &str) -> Option<&'a Registered> {
    let family = |registered: &&Registered| registered.tunable.covers(name);
    tunables
        .get(name)
        .or_else(|| tunables.values().find(family))
}

/// Whether the knob has rested for long enough.
fn rested(
    history: &KnobHistory,
    limits: &Limits,
    direction: i8,
    now: Instant,
) -> Result<(), Refusal> {
    let left = |since: Instant, rest: Duration| {
        let left = (since + rest).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    };
    let Limits {
        cool_down,
        hysteresis,
        changes_per_hour,
        reversals_per_hour,
        rest_after_harm,
        ..
    } = limits;
    if let Some(at) = history.harmed
        && let Some(left) = left(at, rest_after_harm.value)
    {
        return Err(Refusal::Resting {
            left,
            lever: rest_after_harm.lever.clone(),
        });
    }
    if let Some((at, last)) = history.last {
        if last != direction
            && let Some(left) = left(at, hysteresis.value)
        {
            return Err(Refusal::Hysteresis {
                left,
                lever: hysteresis.lever.clone(),
            });
        }
        // What a trial finds harmful is put back, and that is a turn too: leave room for it.
        let turns = within_hour(&history.turns, now);
        if turns + usize::from(last != direction) + 1 > reversals_per_hour.value {
            return Err(Refusal::Flapping {
                turns,
                lever: reversals_per_hour.lever.clone(),
            });
        }
        if let Some(left) = left(at, cool_down.value) {
            return Err(Refusal::CoolDown {
                left,
                lever: cool_down.lever.clone(),
            });
        }
    }
    let changes = within_hour(&history.recent, now);
    if changes >= changes_per_hour.value {
        return Err(Refusal::HourlyLimit {
            changes,
            lever: changes_per_hour.lever.clone(),
        });
    }
    Ok(())
}

/// Adds a moment; more than `most` need not be known.
fn note(moments: &mut VecDeque<Instant>, now: Instant, most: usize) {
    // In order whatever the caller's clock does, so that counting is a search.
    let now = moments.back().map_or(now, |last| now.max(*last));
    moments.push_back(now);
    while moments.len() > most.max(1) {
        moments.pop_front();
    }
}

/// How many of these moments, which are in order, lie within the last hour.
fn within_hour(moments: &VecDeque<Instant>, now: Instant) -> usize {
    moments.len() - moments.partition_point(|at| now.saturating_duration_since(*at) >= HOUR)
}

#[cfg(test)]
mod tests;
