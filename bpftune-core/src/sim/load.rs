//! Generated worlds: a response curve under noise, drift, a periodic load and bursts.

use std::{f64::consts::TAU, time::Duration};

use super::{NETNS, Plant, Seen};
use crate::{Figure, Knob, Signal, Value, stats::normal};

/// What comes of a value, with an optimum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// Holds back in proportion until the optimum, then nothing more comes of it: a buffer limit.
    Limit,
    /// Best at the optimum and worse on both sides, the more the smaller the width (in e-folds): a batch size.
    Peak(f64),
    /// A measured quantity goes with this power of the value and has its set point at the optimum: a queue's delay.
    Power(f64),
}

impl Curve {
    /// Noise-free, 1 at the optimum; `ratio` is value / optimum.
    #[must_use]
    pub fn at(self, ratio: f64) -> f64 {
        match self {
            Curve::Limit => ratio.clamp(0.0, 1.0),
            Curve::Peak(width) => (-(ratio.max(1e-12).ln() / width).powi(2)).exp(),
            Curve::Power(power) => ratio.powf(power),
        }
    }
}

/// What disturbs the view. All shares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Standard deviation of each window.
    pub noise: f64,
    /// Growth of the level in a minute.
    pub drift: f64,
    /// Size of the daily swing, which here has a period of two minutes.
    pub swing: f64,
    /// How often a window is an outlier.
    pub bursts: f64,
}

/// Of the periodic load.
pub(super) const PERIOD: Duration = Duration::from_secs(120);

impl Load {
    /// Nothing disturbs.
    pub const CALM: Load = Load {
        noise: 0.0,
        drift: 0.0,
        swing: 0.0,
        bursts: 0.0,
    };

    /// Noise from 1 to 5 %, drift of up to 5 % a minute either way, a swing of up to 10 %, up to 2 % outliers.
    #[must_use]
    pub fn drawn(rng: &mut fastrand::Rng) -> Load {
        Load {
            noise: 0.01 + 0.04 * rng.f64(),
            drift: 0.1 * (rng.f64() - 0.5),
            swing: 0.1 * rng.f64(),
            bursts: 0.02 * rng.f64(),
        }
    }

    /// What a window is multiplied with.
    pub fn factor(&self, at: Duration, rng: &mut fastrand::Rng) -> f64 {
        let minutes = at.as_secs_f64() / 60.0;
        let swing = 1.0 + self.swing * (TAU * at.as_secs_f64() / PERIOD.as_secs_f64()).sin();
        let noise = (1.0 + self.noise * normal::sample(rng)).max(0.05);
        let burst = if rng.f64() < self.bursts {
            (3.0_f64).powf(2.0 * rng.f64() - 1.0)
        } else {
            1.0
        };
        (1.0 + self.drift).powf(minutes) * swing * noise * burst
    }
}

/// A plant with one knob, `sim.knob`.
#[derive(Clone, Debug)]
pub struct World {
    /// What comes of a value.
    pub curve: Curve,
    /// The best value.
    pub optimum: f64,
    /// The value at the start.
    pub start: f64,
    /// What disturbs the view.
    pub load: Load,
    /// Draws the noise.
    pub rng: fastrand::Rng,
}

/// The name of a [`World`]'s tunable.
pub(super) const KNOB: &str = "sim.knob";

/// Its signals' scenario.
const SCENARIO: &str = "sim";

/// A limit that is this much larger than needed takes too much.
const PLENTY: f64 = 2.0;

impl World {
    /// The knob.
    #[must_use]
    pub fn knob() -> Knob {
        Knob {
            tunable: KNOB.into(),
            netns: NETNS,
        }
    }
}

impl Plant for World {
    fn knob(&self) -> (Knob, Value) {
        (World::knob(), Value::from(self.start.round() as i64))
    }

    fn window(&mut self, at: Duration, value: &Value) -> Seen {
        let value = value.last() as f64;
        let ratio = value / self.optimum;
        let factor = self.load.factor(at, &mut self.rng);
        let seen = self.curve.at(ratio) * factor;
        let figure = match self.curve {
            Curve::Peak(_) => Some(Figure::new("score", seen, "")),
            Curve::Power(_) => Some(Figure::new("measure", seen, "")),
            Curve::Limit => {
                // How full it is shows with noise; what goes through a limit is never more than the limit.
                let fill = (1.0 + self.load.noise * normal::sample(&mut self.rng)) / ratio;
                if fill >= 1.0 {
                    Some(Figure::new("need", value * factor.min(1.0), ""))
                } else if fill < 1.0 / PLENTY {
                    Some(Figure::new("less", 1.0, ""))
                } else {
                    None
                }
            }
        };
        // A measure is no goal: at its set point it is right, not high.
        let goodput = if let Curve::Power(_) = self.curve {
            factor
        } else {
            seen
        };
        Seen {
            goodput: goodput * 1e6,
            signals: figure
                .into_iter()
                .map(|figure| Signal {
                    scenario: SCENARIO.into(),
                    netns: NETNS,
                    subject: "a simulated load".into(),
                    count: 1,
                    figures: vec![figure],
                })
                .collect(),
        }
    }
}
