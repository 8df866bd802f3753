//! One host: the way of a signal, as in the engine, without a kernel.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{NETNS, Plant, WINDOW, machine};
use crate::{
    Knob, Machine, NetnsCookie, Proposal, Result, Signal, Tuner, Value, View,
    governor::{Decision, Governor, Policy},
    stats::{Direction, Effect, Layout, Metric, Role, Rule, Samples, Scale, judge},
};

/// A series of signals ends with a silence of this length, as in the engine.
const SERIES: Duration = Duration::from_secs(2);

/// How a host is run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the governor allows.
    pub policy: Policy,
    /// How sure a trial must be.
    pub rule: Rule,
    /// How a trial's windows lie.
    pub layout: Layout,
    /// A goodput that fell by less is no harm.
    pub margin: f64,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            policy: Policy::default(),
            rule: Rule::default(),
            layout: Layout::BeforeAfter,
            margin: 0.02,
        }
    }
}

/// Something that a host did.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The governor let a change through.
    Changed {
        /// When.
        at: Duration,
        /// Of what.
        knob: Knob,
        /// From here.
        old: Value,
        /// To there.
        new: Value,
    },
    /// A trial ended.
    Judged {
        /// When.
        at: Duration,
        /// Of what.
        knob: Knob,
        /// With this verdict.
        effect: Effect,
        /// The shift of the goodput, a share.
        estimate: f64,
    },
}

struct Trial {
    knob: Knob,
    before: Value,
    after: Value,
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Trial {
    /// Whether the window now coming belongs to the side with the change: without, with, with, without.
    fn next_with(&self) -> bool {
        matches!((self.without.len() + self.with.len()) % 4, 1 | 2)
    }
}

/// The values of a simulated host, which a tuner may look at.
pub struct Outlook {
    values: HashMap<Knob, Value>,
    originals: HashMap<Knob, Value>,
    machine: Machine,
    at: Duration,
}

impl View for Outlook {
    fn value(&self, knob: &Knob) -> Option<Value> {
        self.values.get(knob).cloned()
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn host_netns(&self) -> NetnsCookie {
        NETNS
    }

    fn now(&self) -> Duration {
        self.at
    }

    fn changed(&self) -> Vec<(Knob, Value)> {
        self.originals
            .iter()
            .map(|(knob, value)| (knob.clone(), value.clone()))
            .collect()
    }
}

/// One simulated host with one tuner.
pub struct Host {
    setup: Setup,
    tuner: Box<dyn Tuner>,
    governor: Governor,
    outlook: Outlook,
    /// An instant that simulated time counts from; only differences matter.
    start: Instant,
    at: Duration,
    last_signal: Option<Duration>,
    recent: VecDeque<f64>,
    trial: Option<Trial>,
    metric: Metric,
    events: Vec<Event>,
}

impl Host {
    /// A host whose knobs have these values.
    ///
    /// # Errors
    /// Where the tuner declares a tunable twice.
    pub fn new(
        setup: Setup,
        tuner: Box<dyn Tuner>,
        values: impl IntoIterator<Item = (Knob, Value)>,
    ) -> Result<Host> {
        let mut governor = Governor::new(setup.policy.clone());
        for tunable in tuner.tunables() {
            governor.register(tunable, tuner.name())?;
        }
        let metric = Metric {
            name: "goodput".into(),
            better: Direction::Higher,
            scale: Scale::Relative,
            role: Role::Goal,
            margin: setup.margin,
        };
        Ok(Host {
            setup,
            tuner,
            governor,
            outlook: Outlook {
                values: values.into_iter().collect(),
                originals: HashMap::new(),
                machine: machine(),
                at: Duration::ZERO,
            },
            start: Instant::now(),
            at: Duration::ZERO,
            last_signal: None,
            recent: VecDeque::new(),
            trial: None,
            metric,
            events: Vec::new(),
        })
    }

    /// The value of a knob.
    #[must_use]
    pub fn value(&self, knob: &Knob) -> Option<&Value> {
        self.outlook.values.get(knob)
    }

    /// What it did so far.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How often a knob went against its last direction.
    #[must_use]
    pub fn reversals(&self, knob: &Knob) -> u64 {
        self.governor
            .history(knob)
            .map_or(0, |history| history.reversals)
    }

    /// Whether a trial goes on.
    #[must_use]
    pub fn on_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Runs a plant for one window, then acts on what was seen.
    pub fn step(&mut self, plant: &mut dyn Plant) {
        let (knob, start) = plant.knob();
        // A trial that switches to and fro does so on the knob itself.
        let value = match &self.trial {
            Some(trial) if self.setup.layout == Layout::Interleaved && trial.knob == knob => {
                if trial.next_with() {
                    trial.after.clone()
                } else {
                    trial.before.clone()
                }
            }
            _ => self.outlook.values.get(&knob).cloned().unwrap_or(start),
        };
        let switching = self.trial.is_some() && self.setup.layout == Layout::Interleaved;
        let seen = plant.window(self.at, &value);
        self.at += WINDOW;
        self.outlook.at = self.at;
        self.measured(seen.goodput);
        // What is seen while a trial switches belongs to neither value.
        if switching {
            return;
        }
        for signal in &seen.signals {
            self.signal(signal);
        }
    }

    /// A signal that is known not to be chance, at this time: a recorded one.
    pub fn act_on(&mut self, at: Duration, signal: &Signal) {
        self.at = self.at.max(at);
        self.outlook.at = self.at;
        for proposal in self.tuner.on_signal(signal, &self.outlook) {
            self.propose(proposal);
        }
    }

    fn measured(&mut self, goodput: f64) {
        let windows = self.setup.rule.windows;
        let Some(mut trial) = self.trial.take() else {
            if self.recent.len() == windows {
                self.recent.pop_front();
            }
            self.recent.push_back(goodput);
            return;
        };
        if self.setup.layout == Layout::Interleaved && !trial.next_with() {
            trial.without.push(goodput);
        } else {
            trial.with.push(goodput);
        }
        let judgement = judge(
            &self.setup.rule,
            self.setup.layout,
            &[Samples {
                metric: &self.metric,
                before: &trial.without,
                after: &trial.with,
            }],
        );
        let over = judgement.settled || trial.with.len() >= 2 * windows;
        if !over {
            self.trial = Some(trial);
            return;
        }
        self.recent = trial.with.iter().copied().take(windows).collect();
        self.events.push(Event::Judged {
            at: self.at,
            knob: trial.knob.clone(),
            effect: judgement.effect,
            estimate: judgement.shifts[0].map_or(0.0, |shift| shift.estimate),
        });
        if judgement.effect == Effect::Worse {
            let now = self.start + self.at;
            let direction = trial.before.direction_from(&trial.after);
            self.governor.changed(&trial.knob, direction, now);
            self.governor.harmed(&trial.knob, now);
            self.events.push(Event::Changed {
                at: self.at,
                knob: trial.knob.clone(),
                old: trial.after,
                new: trial.before.clone(),
            });
            self.outlook.values.insert(trial.knob, trial.before);
            self.recent.clear();
        }
    }

    fn signal(&mut self, signal: &Signal) {
        let series = self
            .last_signal
            .replace(self.at)
            .is_some_and(|last| self.at - last < SERIES);
        if !series {
            return;
        }
        for proposal in self.tuner.on_signal(signal, &self.outlook) {
            self.propose(proposal);
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        let Some(current) = self.outlook.values.get(&proposal.knob).cloned() else {
            return;
        };
        let now = self.start + self.at;
        let Decision::Apply(target) =
            self.governor
                .decide(&proposal, &current, &self.outlook.machine, now)
        else {
            return;
        };
        let knob = proposal.knob;
        self.governor
            .changed(&knob, target.direction_from(&current), now);
        self.outlook
            .originals
            .entry(knob.clone())
            .or_insert_with(|| current.clone());
        self.outlook.values.insert(knob.clone(), target.clone());
        self.events.push(Event::Changed {
            at: self.at,
            knob: knob.clone(),
            old: current.clone(),
            new: target.clone(),
        });
        match &mut self.trial {
            // A further change of the series: its trial begins anew, against the same windows before.
            Some(trial) if trial.knob == knob => {
                trial.after = target;
                trial.with.clear();
            }
            Some(_) => {}
            none => {
                let without = match self.setup.layout {
                    Layout::BeforeAfter => self.recent.iter().copied().collect(),
                    Layout::Interleaved => Vec::new(),
                };
                *none = Some(Trial {
                    knob,
                    before: current,
                    after: target,
                    without,
                    with: Vec::new(),
                });
            }
        }
    }
}
