//! Families of seeded scenarios: a learner on the kind of knob it is for.

use crate::{
    Knob, Value,
    learner::{Learner, Spec, pid},
    sim::{Curve, Event, Host, LearnerTuner, Load, Plant, Setup, TcpPath, WINDOW, World},
};

/// Scenarios of one kind.
pub struct Family {
    /// Its name: mostly the learner's.
    pub name: &'static str,
    /// The scenario of a seed.
    pub draw: fn(u64) -> Scenario,
}

/// One host with its load.
pub struct Scenario {
    /// The load.
    pub plant: Box<dyn Plant>,
    /// The host.
    pub host: Host,
    /// The best value.
    pub optimum: f64,
    /// What a value gives, as a share of the optimum's; noise-free.
    pub gives: Box<dyn Fn(f64) -> f64>,
    /// How long it runs, in windows.
    pub windows: u32,
}

/// How a knob went: its value after each window.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// The value at the start and after each window.
    pub values: Vec<f64>,
    /// What each of them gives, as a share of what the optimum does.
    pub gives: Vec<f64>,
    /// The best value.
    pub optimum: f64,
    /// Reversals by the governor's count.
    pub reversals: u64,
    /// What the host did.
    pub events: Vec<Event>,
}

/// What a scenario came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How often the knob turned round.
    pub reversals: u64,
    /// How far the knob went past the optimum: its highest value / optimum where it started below, optimum / lowest
    /// where above.
    pub overshoot: f64,
    /// Seconds until it gave 90 % of the best for good.
    pub converged: Option<f64>,
    /// Changes.
    pub changes: usize,
}

/// What counts as converged.
const GOOD: f64 = 0.9;

/// No signal in this time: the windows that a first trial is compared with.
const WARM_UP: u32 = 20;

impl Scenario {
    /// A learner on a generated world.
    ///
    /// # Panics
    /// Never: a tuner of one tunable has no conflict.
    #[must_use]
    pub fn learner(spec: Spec, world: World, windows: u32, seed: u64) -> Scenario {
        let tuner = LearnerTuner::new(Learner::new(spec, seed), 1.0);
        let host =
            Host::new(Setup::default(), Box::new(tuner), [world.knob()]).expect("one tunable");
        let (curve, optimum) = (world.curve, world.optimum);
        Scenario {
            plant: Box::new(world),
            host,
            optimum,
            gives: Box::new(move |value| match curve {
                // A measure is as good as it is near its set point.
                Curve::Power(_) => {
                    let measure = curve.at(value / optimum);
                    measure.min(1.0 / measure)
                }
                _ => curve.at(value / optimum),
            }),
            windows,
        }
    }

    /// Runs it.
    #[must_use]
    pub fn run(mut self) -> Track {
        let (knob, start) = self.plant.knob();
        let mut warm_up = Quiet(self.plant.as_mut());
        for _ in 0..WARM_UP {
            self.host.step(&mut warm_up);
        }
        let mut values = vec![start.last() as f64];
        for _ in 0..self.windows {
            self.host.step(self.plant.as_mut());
            values.extend(self.host.value(&knob).map(|value| value.last() as f64));
        }
        Track {
            gives: values.iter().map(|value| (self.gives)(*value)).collect(),
            values,
            optimum: self.optimum,
            reversals: self.host.reversals(&knob),
            events: self.host.events().to_vec(),
        }
    }
}

/// A plant whose signals nobody hears.
struct Quiet<'a>(&'a mut dyn Plant);

impl Plant for Quiet<'_> {
    fn knob(&self) -> (Knob, Value) {
        self.0.knob()
    }

    fn window(&mut self, at: std::time::Duration, value: &Value) -> crate::sim::Seen {
        crate::sim::Seen {
            signals: Vec::new(),
            ..self.0.window(at, value)
        }
    }
}

impl Track {
    /// What it came to.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let (low, high) = self
            .values
            .iter()
            .fold((f64::MAX, 0.0_f64), |(low, high), &v| {
                (low.min(v), high.max(v))
            });
        let from_below = self
            .values
            .first()
            .is_some_and(|start| *start < self.optimum);
        let bad = self.gives.iter().rposition(|gives| *gives < GOOD);
        let since = bad.map_or(0, |last| last + 1);
        Outcome {
            reversals: self.reversals,
            overshoot: if from_below {
                high / self.optimum
            } else {
                self.optimum / low
            },
            converged: (since < self.gives.len()).then(|| since as f64 * WINDOW.as_secs_f64()),
            changes: self
                .events
                .iter()
                .filter(|event| matches!(event, Event::Changed { .. }))
                .count(),
        }
    }
}

/// A number between the two, evenly by its logarithm.
fn between(rng: &mut fastrand::Rng, low: f64, high: f64) -> f64 {
    low * (high / low).powf(rng.f64())
}

fn world(rng: &mut fastrand::Rng, curve: Curve, below: f64, above: f64) -> World {
    let optimum = between(rng, 1e4, 1e7);
    World {
        curve,
        optimum,
        start: optimum * between(rng, below, above),
        load: Load::drawn(rng),
        rng: rng.fork(),
    }
}

fn named(json: &str) -> Spec {
    serde_json::from_str(json).expect("a learner's name")
}

/// Five minutes.
const SHORT: u32 = 3000;
/// Twenty minutes: a climb may begin with a step that did harm, after which the governor lets the knob rest for ten.
const LONG: u32 = 12_000;

/// The learners with an order to go by, each with its defaults.
#[must_use]
pub fn families() -> Vec<Family> {
    vec![
        Family {
            name: "limit",
            draw: |seed| {
                let rng = &mut fastrand::Rng::with_seed(seed);
                let world = world(rng, Curve::Limit, 0.005, 0.9);
                Scenario::learner(named(r#"{"name": "limit"}"#), world, SHORT, seed)
            },
        },
        Family {
            name: "step",
            draw: |seed| {
                let rng = &mut fastrand::Rng::with_seed(seed);
                let world = world(rng, Curve::Limit, 0.01, 8.0);
                Scenario::learner(named(r#"{"name": "step"}"#), world, SHORT, seed)
            },
        },
        Family {
            name: "aimd",
            draw: |seed| {
                let rng = &mut fastrand::Rng::with_seed(seed);
                let world = world(rng, Curve::Limit, 0.1, 8.0);
                Scenario::learner(named(r#"{"name": "aimd"}"#), world, SHORT, seed)
            },
        },
        Family {
            name: "hill-climb",
            draw: |seed| {
                let rng = &mut fastrand::Rng::with_seed(seed);
                let width = between(rng, 0.7, 1.5);
                let world = world(rng, Curve::Peak(width), 0.2, 5.0);
                Scenario::learner(named(r#"{"name": "hill-climb"}"#), world, LONG, seed)
            },
        },
        Family {
            name: "pid",
            draw: |seed| {
                let rng = &mut fastrand::Rng::with_seed(seed);
                let inverse = rng.bool();
                let power = between(rng, 0.5, 1.5) * if inverse { -1.0 } else { 1.0 };
                let mut world = world(rng, Curve::Power(power), 0.1, 10.0);
                // Where the measure's level moves, so does the optimum: to follow it is no overshoot.
                (world.load.drift, world.load.swing) = (0.0, 0.0);
                let params = pid::Params {
                    inverse,
                    ..pid::Params::to(1.0)
                };
                Scenario::learner(Spec::Pid(params), world, SHORT, seed)
            },
        },
    ]
}

impl Scenario {
    /// A tuner on a TCP path that is drawn: 10 Mbit/s to 10 Gbit/s, 1 to 200 ms, a buffer much too small.
    ///
    /// # Panics
    /// Where the tuner declares a tunable twice.
    #[must_use]
    pub fn tcp(tuner: Box<dyn crate::Tuner>, seed: u64) -> Scenario {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut path = TcpPath {
            rate: between(rng, 1.25e6, 1.25e9),
            round_trip: between(rng, 1e-3, 0.2),
            start: 0,
            load: Load::drawn(rng),
            rng: rng.fork(),
        };
        let optimum = path.optimum();
        path.start = (optimum * between(rng, 0.005, 0.4)).max(4096.0) as i64;
        Scenario {
            host: Host::new(Setup::default(), tuner, [path.knob()]).expect("no conflict"),
            optimum,
            gives: Box::new(move |limit| (2.0 * limit / optimum).min(1.0)),
            plant: Box::new(path),
            windows: SHORT,
        }
    }
}
