//! When counters are read and clocks tick for a plugin.

use std::{
    collections::HashMap,
    fs::File,
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use super::super::{Context, Subscription, sampler::Sampler};
use crate::{
    NetnsCookie, psi,
    trial::{Counter, Resource},
};

/// The subscriptions of one plugin.
const MOST: usize = 32;
/// The pressure triggers of one plugin.
const MOST_PRESSURES: usize = 8;
/// The namespaces that one counter is read in at a time.
const MOST_PLACES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Sampling {
    scenarios: Vec<String>,
    counters: Vec<Sampled>,
    /// Counters that are read now, and where.
    active: HashMap<(usize, NetnsCookie), Sampler>,
    ticks: Vec<Tick>,
    pub(super) pressures: Vec<(Resource, Rc<File>)>,
}

#[derive(Debug)]
struct Sampled {
    counter: Counter,
    every: Duration,
    only_while: Option<(String, Duration)>,
}

#[derive(Debug)]
struct Tick {
    every: Duration,
    next: Option<Instant>,
}

/// What is to be told.
#[derive(Debug)]
pub(super) enum Due {
    Sample {
        counter: Counter,
        netns: NetnsCookie,
        value: f64,
        rate: Option<f64>,
    },
    Tick {
        every: Duration,
        netns: NetnsCookie,
    },
}

impl Sampling {
    pub(super) fn new(subscriptions: &[Subscription]) -> Result<Sampling, String> {
        if subscriptions.len() > MOST {
            return Err(format!("at most {MOST} things can be subscribed to"));
        }
        let mut sampling = Sampling::default();
        for subscription in subscriptions.iter().cloned() {
            match subscription {
                Subscription::Scenario(scenario) => sampling.scenarios.push(scenario),
                Subscription::Counter {
                    counter,
                    every,
                    only_while,
                } => sampling.counters.push(Sampled {
                    counter,
                    every,
                    only_while,
                }),
                Subscription::Timer(every) => sampling.ticks.push(Tick { every, next: None }),
                Subscription::Pressure {
                    resource,
                    stall,
                    window,
                } => {
                    if sampling.pressures.len() == MOST_PRESSURES {
                        return Err(format!("at most {MOST_PRESSURES} kinds of pressure"));
                    }
                    let path = Path::new("/proc/pressure").join(resource.word());
                    let file = psi::trigger(&path, false, stall, window)
                        .map_err(|error| format!("no trigger on {}: {error}", path.display()))?;
                    sampling.pressures.push((resource, Rc::new(file)));
                }
            }
        }
        Ok(sampling)
    }

    /// From now on: what does not wait for a signal begins.
    pub(super) fn begin(&mut self, context: &Context, now: Instant) {
        for (of, sampled) in self.counters.iter().enumerate() {
            if sampled.only_while.is_none() {
                for &netns in context.homes_of(&sampled.counter) {
                    self.active.insert((of, netns), Sampler::new(now, None));
                }
            }
        }
        for tick in &mut self.ticks {
            tick.next = Some(now + tick.every);
        }
    }

    /// The triggers, for the engine to wait for.
    pub(super) fn pressure_files(&self) -> Vec<Rc<File>> {
        self.pressures
            .iter()
            .map(|(_, file)| file.clone())
            .collect()
    }

    /// Whether signals of the scenario are of use.
    pub(super) fn listens(&self, scenario: &str) -> bool {
        let mut awaited = self.counters.iter().flat_map(|one| &one.only_while);
        self.tells(scenario) || awaited.any(|(wanted, _)| wanted == scenario)
    }

    /// Whether signals of the scenario are passed on.
    pub(super) fn tells(&self, scenario: &str) -> bool {
        self.scenarios.iter().any(|wanted| wanted == scenario)
    }

    /// A signal came: counters that wait for it are read for a while.
    pub(super) fn on_signal(&mut self, scenario: &str, netns: NetnsCookie, now: Instant) {
        for (of, sampled) in self.counters.iter().enumerate() {
            let Some((_, how_long)) = sampled
                .only_while
                .as_ref()
                .filter(|(wanted, _)| wanted == scenario)
            else {
                continue;
            };
            let until = Some(now + *how_long);
            let places = self.active.keys().filter(|(other, _)| *other == of).count();
            match self.active.get_mut(&(of, netns)) {
                Some(active) => active.until = until,
                None if places < MOST_PLACES => {
                    self.active.insert((of, netns), Sampler::new(now, until));
                }
                None => {}
            }
        }
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let samples = self.active.values().map(Sampler::next);
        samples
            .chain(self.ticks.iter().filter_map(|tick| tick.next))
            .min()
    }

    /// What is due by now.
    pub(super) fn due(&mut self, context: &Context, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        self.active.retain(|_, active| !active.is_over(now));
        for (&(of, netns), active) in &mut self.active {
            let Sampled { counter, every, .. } = &self.counters[of];
            if let Some(reading) = active.read(counter, netns, *every, context, now) {
                due.push(Due::Sample {
                    counter: counter.clone(),
                    netns,
                    value: reading.value,
                    rate: reading.rate,
                });
            }
        }
        for tick in &mut self.ticks {
            if tick.next.is_some_and(|next| next <= now) {
                let every = tick.every;
                tick.next = Some(now + every);
                let ticks = context.homes.iter();
                due.extend(ticks.map(|&netns| Due::Tick { every, netns }));
            }
        }
        due
    }
}
