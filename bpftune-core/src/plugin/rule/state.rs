//! What a rule knows: since when its condition holds where, and what it learned.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Of, Rule, Want};
use crate::{
    Figure, Knob, NetnsCookie, Signal, Value,
    learner::{Input, Kind, Learners, Reading, Spec},
    plugin::{Context, Subscription, sampler::Sampler},
};

/// The namespaces that a rule remembers at a time.
const MOST_PLACES: usize = 1024;
/// Longest silence of a scenario that does not end it.
const SILENCE: Duration = Duration::from_secs(2);

pub(super) struct State {
    pub(super) name: String,
    pub(super) rule: Rule,
    pub(super) context: Rc<Context>,
    /// The rule's own, or the operator's.
    pub(super) learners: Learners,
    held: HashMap<NetnsCookie, Held>,
    samplers: HashMap<NetnsCookie, Sampler>,
    /// When the scenario came last.
    seen: HashMap<NetnsCookie, Instant>,
    /// Where nothing can be done for a while.
    quiet: HashMap<NetnsCookie, Instant>,
}

/// The condition holds since, and was last seen to.
#[derive(Debug)]
struct Held {
    since: Instant,
    last: Instant,
}

impl State {
    pub(super) fn new(name: &str, rule: Rule, context: Rc<Context>, now: Instant) -> State {
        let mut samplers = HashMap::new();
        if let Subscription::Counter {
            counter,
            only_while: None,
            ..
        } = &rule.signal
        {
            for &netns in context.homes_of(counter) {
                samplers.insert(netns, Sampler::new(now, None));
            }
        }
        State {
            name: name.into(),
            learners: Learners::new(rule.change.learner.clone()),
            rule,
            context,
            held: HashMap::new(),
            samplers,
            seen: HashMap::new(),
            quiet: HashMap::new(),
        }
    }

    pub(super) fn listens(&self, scenario: &str) -> bool {
        match &self.rule.signal {
            Subscription::Scenario(wanted) => wanted == scenario,
            Subscription::Counter {
                only_while: Some((wanted, _)),
                ..
            } => wanted == scenario,
            _ => false,
        }
    }

    /// When something is to be read next; `None` where nothing goes on.
    pub(super) fn next(&self) -> Option<Instant> {
        self.samplers.values().map(Sampler::next).min()
    }

    /// A signal of another tuner: the measured value where the condition has held long enough.
    pub(super) fn heard(&mut self, signal: &Signal, now: Instant) -> Option<f64> {
        match &self.rule.signal {
            Subscription::Counter {
                only_while: Some((_, how_long)),
                ..
            } => {
                let until = Some(now + *how_long);
                if self.samplers.len() < MOST_PLACES || self.samplers.contains_key(&signal.netns) {
                    self.samplers
                        .entry(signal.netns)
                        .or_insert_with(|| Sampler::new(now, until))
                        .until = until;
                }
                None
            }
            Subscription::Scenario(_) => {
                make_room(&mut self.seen);
                let before = self.seen.insert(signal.netns, now);
                let value = match &self.rule.when.of {
                    Of::Figure(figure) => signal.figure(figure)?,
                    Of::Rate | Of::Value => {
                        let passed = now.saturating_duration_since(before?);
                        f64::from(signal.count) / passed.as_secs_f64().max(0.001)
                    }
                };
                let holds = self.rule.when.holds(value);
                self.observe(signal.netns, holds, SILENCE, now)
                    .then_some(value)
            }
            _ => None,
        }
    }

    /// A stall, as the kernel counts it.
    pub(super) fn pressed(&mut self, now: Instant, out: &mut Vec<Signal>) {
        let Subscription::Pressure { stall, window, .. } = self.rule.signal else {
            return;
        };
        let share = 100.0 * stall.as_secs_f64() / window.as_secs_f64();
        for netns in self.context.homes.clone() {
            // The kernel tells of it once a window.
            if self.observe(netns, true, window * 2, now) {
                out.push(self.signal(netns, share));
            }
        }
    }

    /// Reads what is due.
    pub(super) fn sample(&mut self, now: Instant, out: &mut Vec<Signal>) {
        self.samplers.retain(|_, sampler| !sampler.is_over(now));
        let Subscription::Counter { counter, every, .. } = &self.rule.signal else {
            return;
        };
        let every = *every;
        let mut read = Vec::new();
        for (&netns, sampler) in &mut self.samplers {
            let reading = sampler.read(counter, netns, every, &self.context, now);
            let value = reading.and_then(|reading| match self.rule.when.of {
                Of::Value => Some(reading.value),
                Of::Rate | Of::Figure(_) => reading.rate,
            });
            read.extend(value.map(|value| (netns, value)));
        }
        for (netns, value) in read {
            let holds = self.rule.when.holds(value);
            if self.observe(netns, holds, every * 2, now) {
                out.push(self.signal(netns, value));
            }
        }
    }

    /// Nothing can be done there for a while.
    pub(super) fn quiet(&mut self, netns: NetnsCookie, until: Instant) {
        make_room(&mut self.quiet);
        self.quiet.insert(netns, until);
    }

    /// Whether the condition has held long enough. `gap` is the longest time between two looks that belong together.
    fn observe(&mut self, netns: NetnsCookie, holds: bool, gap: Duration, now: Instant) -> bool {
        if !holds {
            self.held.remove(&netns);
            return false;
        }
        make_room(&mut self.held);
        let held = self.held.entry(netns).or_insert(Held {
            since: now,
            last: now,
        });
        if now.saturating_duration_since(held.last) > gap {
            held.since = now;
        }
        held.last = now;
        if self.quiet.get(&netns).is_some_and(|until| *until > now)
            || now.saturating_duration_since(held.since) < self.rule.when.sustained
        {
            return false;
        }
        // What follows has to last as long again.
        held.since = now;
        true
    }

    /// The next value of a knob, after a condition that held with this measured value.
    pub(super) fn next_value(
        &mut self,
        knob: &Knob,
        current: &Value,
        original: &Value,
        measured: f64,
        at: Duration,
    ) -> Result<Option<Value>, String> {
        let change = &self.rule.change;
        let mut numbers = current.numbers().to_vec();
        let bounds = &change.tunable.bounds;
        if numbers.len() != bounds.len() {
            return Err(format!(
                "{knob} has {} numbers, and bounds is for {}: write a pair for each",
                numbers.len(),
                bounds.len()
            ));
        }
        let (low, high) = bounds[change.number];
        let reading = match (self.learners.spec().takes(), change.want) {
            (Kind::Pressure, Want::More) => Reading::More,
            (Kind::Pressure, Want::Less) => Reading::Less,
            (Kind::Need, _) => Reading::Need(measured),
            (Kind::Measure, _) => Reading::Measure(measured),
            (Kind::Score, Want::More) => Reading::Score(measured),
            // Scores are compared by their ratio.
            (Kind::Score, Want::Less) => Reading::Score(1.0 / measured.max(1e-9)),
        };
        let number = |value: &Value| value.numbers().get(change.number).copied().unwrap_or(0);
        let input = Input {
            at,
            value: number(current) as f64,
            original: number(original) as f64,
            low: low as f64,
            high: high as f64,
            reading,
            harm: None,
        };
        let Some(wanted) = self.learners.next(knob, &input) else {
            return Ok(None);
        };
        // At least by one, or a small number would never move.
        let whole = if wanted > input.value {
            wanted.ceil()
        } else {
            wanted.floor()
        };
        numbers[change.number] = (whole as i64).clamp(low, high);
        let target = Value::new(numbers);
        Ok((target != *current).then_some(target))
    }

    /// The operator's learner, or the rule's own again; what was learned is forgotten.
    pub(super) fn set_learner(&mut self, learner: Option<&Spec>) {
        self.learners = Learners::new(learner.unwrap_or(&self.rule.change.learner).clone());
    }

    fn signal(&self, netns: NetnsCookie, value: f64) -> Signal {
        let (name, unit) = match (&self.rule.signal, &self.rule.when.of) {
            (Subscription::Counter { counter, .. }, Of::Rate) => (counter.to_string(), "/s"),
            (Subscription::Counter { counter, .. }, _) => (counter.to_string(), ""),
            (Subscription::Pressure { resource, .. }, _) => (resource.word().to_owned(), "%"),
            _ => (String::new(), ""),
        };
        Signal {
            scenario: format!("{}:holds", self.name).into(),
            netns,
            subject: format!("rule {}", self.name),
            count: 1,
            figures: vec![Figure {
                name: name.into(),
                value,
                unit: unit.into(),
            }],
        }
    }
}

/// Places come and go without end; what is remembered of them must not.
fn make_room<K, V>(map: &mut HashMap<K, V>) {
    if map.len() >= MOST_PLACES {
        map.clear();
    }
}
