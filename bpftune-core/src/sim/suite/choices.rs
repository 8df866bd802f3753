//! Bandits: choices among values without an order, so without overshoot.

use serde::Serialize;

use crate::{
    learner::{Input, Learner, Reading, Spec},
    sim::WINDOW,
    stats::normal,
};

/// How well a bandit chose.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choices {
    /// Which.
    pub learner: String,
    /// Runs.
    pub runs: u64,
    /// Share of plays of the best value, after a minute to find it.
    pub best: f64,
    /// The same, after the best has become another.
    pub best_after_move: f64,
    /// Mean score lost against always playing the best, a share.
    pub regret: f64,
}

/// Plays in each half.
const HALF: u32 = 1800;
/// Plays until a choice counts.
const FIND: u32 = 600;

/// Four values, one of them a tenth better, noise 5 %; halfway another becomes the best.
#[must_use]
pub fn choices(spec: &Spec, arms: &[f64; 4], runs: u64) -> Choices {
    let (mut best, mut regret) = ([0_u64; 2], 0.0);
    for seed in 0..runs {
        let mut learner = Learner::new(spec.clone(), seed);
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let first = rng.usize(..4);
        let then = (first + rng.usize(1..4)) % 4;
        let mut value = arms[0];
        for play in 0..2 * HALF {
            let half = (play / HALF) as usize;
            let right = arms[[first, then][half]];
            let level = if value == right { 1.1 } else { 1.0 };
            regret += 1.0 - level / 1.1;
            best[half] += u64::from(play % HALF >= FIND && value == right);
            let score = level * (1.0 + 0.05 * normal::sample(&mut rng));
            let input = Input {
                at: WINDOW * play,
                value,
                original: arms[0],
                low: f64::MIN,
                high: f64::MAX,
                reading: Reading::Score(score),
                harm: None,
            };
            value = learner.next(&input).unwrap_or(value);
        }
    }
    let counted = (runs * u64::from(HALF - FIND)) as f64;
    Choices {
        learner: spec.name().to_owned(),
        runs,
        best: best[0] as f64 / counted,
        best_after_move: best[1] as f64 / counted,
        regret: regret / (runs * u64::from(2 * HALF)) as f64,
    }
}
