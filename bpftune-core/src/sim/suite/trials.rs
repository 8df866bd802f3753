//! Harm is reverted, the harmless stands; the guard stops what goes with harm.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Figure, Knob, Signal, Value,
    learner::{Input, Learner, Reading, Spec, guard},
    sim::{Host, LearnerTuner, Load, NETNS, Plant, Seen, Setup, WINDOW, World},
    stats::{Layout, normal},
};

/// How trials ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trials {
    /// How the windows lay.
    pub layout: Layout,
    /// How much the change took away, a share.
    pub harm: f64,
    /// Standard deviation of a window, a share.
    pub noise: f64,
    /// Trials.
    pub runs: u64,
    /// Share that was put back.
    pub reverted: f64,
    /// Windows with the change until the verdict: the mean.
    pub windows: f64,
}

/// A change that does a certain harm.
struct Change {
    harm: f64,
    load: Load,
    rng: fastrand::Rng,
}

const OLD: i64 = 1000;

/// From here on the change is asked for: the windows before are the baseline.
const ASKED: Duration = Duration::from_millis(2000);

impl Plant for Change {
    fn knob(&self) -> (Knob, Value) {
        (World::knob(), Value::from(OLD))
    }

    fn window(&mut self, at: Duration, value: &Value) -> Seen {
        let level = if value.last() == OLD {
            1.0
        } else {
            1.0 - self.harm
        };
        let signal = Signal {
            scenario: "sim".into(),
            netns: NETNS,
            subject: "an injected change".into(),
            count: 1,
            figures: vec![Figure::new("need", value.last() as f64, "")],
        };
        Seen {
            goodput: 1e6 * level * self.load.factor(at, &mut self.rng),
            signals: if at >= ASKED && value.last() == OLD {
                vec![signal]
            } else {
                Vec::new()
            },
        }
    }
}

/// One change on one host, from the signal to the verdict: whether it was put back, and after how many windows.
pub(in crate::sim) fn one(layout: Layout, harm: f64, load: Load, seed: u64) -> (bool, u32) {
    let step: Spec = serde_json::from_str(r#"{"name": "step"}"#).expect("a learner");
    let mut change = Change {
        harm,
        load,
        rng: fastrand::Rng::with_seed(seed),
    };
    let setup = Setup {
        layout,
        ..Setup::default()
    };
    let tuner = Box::new(LearnerTuner::new(Learner::new(step, seed), 1.0));
    let mut host = Host::new(setup, tuner, [change.knob()]).expect("one tunable");
    while !host.on_trial() {
        host.step(&mut change);
    }
    let mut windows = 0;
    while host.on_trial() {
        host.step(&mut change);
        windows += 1;
    }
    let back = host
        .value(&World::knob())
        .is_some_and(|value| value.last() == OLD);
    (back, windows)
}

/// `runs` trials of a change that does `harm` under `noise`.
#[must_use]
pub fn trials(layout: Layout, harm: f64, noise: f64, runs: u64) -> Trials {
    let load = Load {
        noise,
        ..Load::CALM
    };
    let (mut reverted, mut windows) = (0_u64, 0_u64);
    for seed in 0..runs {
        let (back, took) = one(layout, harm, load, seed);
        reverted += u64::from(back);
        windows += u64::from(took);
    }
    Trials {
        layout,
        harm,
        noise,
        runs,
        reverted: reverted as f64 / runs as f64,
        windows: windows as f64 / runs as f64,
    }
}

/// What the correlation guard did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guarding {
    /// Knobs with harm that goes along with them, and as many without.
    pub runs: u64,
    /// Share of the former that was stopped.
    pub stopped: f64,
    /// Share of the latter that was stopped.
    pub stopped_wrongly: f64,
}

/// Learners that always want more, with a guard: half of the knobs do harm in proportion, half do none; noise 5 %.
#[must_use]
pub fn guarding(runs: u64) -> Guarding {
    let share = |harmful: bool| {
        let stopped = (0..runs)
            .filter(|seed| {
                let spec: Spec = serde_json::from_str(r#"{"name": "step"}"#).expect("a learner");
                let mut learner = Learner::new(spec, 0).guarded(guard::Params::default());
                let (mut rng, mut value) = (fastrand::Rng::with_seed(*seed), 1000.0);
                (0..40_u32).any(|window| {
                    let level = if harmful { value } else { 1000.0 };
                    let input = Input {
                        at: WINDOW * window,
                        value,
                        original: 1000.0,
                        low: 1.0,
                        high: f64::MAX,
                        reading: Reading::More,
                        harm: Some(level * (1.0 + 0.05 * normal::sample(&mut rng))),
                    };
                    match learner.next(&input) {
                        Some(next) => value = next,
                        None => return true,
                    }
                    false
                })
            })
            .count();
        stopped as f64 / runs as f64
    };
    Guarding {
        runs,
        stopped: share(true),
        stopped_wrongly: share(false),
    }
}
