//! The goals, and whether they are reached.

mod choices;
mod scenarios;
mod trials;

use serde::Serialize;

pub(super) use self::trials::one;
pub use self::{
    choices::{Choices, choices},
    scenarios::{Family, Outcome, Scenario, Track, families},
    trials::{Guarding, Trials, guarding, trials},
};

/// Some goal, what was measured, and whether it is reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// What is to hold.
    pub goal: String,
    /// What was measured, in the goal's unit.
    pub measured: f64,
    /// The bound.
    pub bound: f64,
    /// Whether it holds.
    pub reached: bool,
}

impl Goal {
    /// The measured is to be at most the bound.
    #[must_use]
    pub fn at_most(goal: impl Into<String>, measured: f64, bound: f64) -> Goal {
        Goal {
            goal: goal.into(),
            measured,
            bound,
            reached: measured <= bound,
        }
    }

    /// At least the bound.
    #[must_use]
    pub fn at_least(goal: impl Into<String>, measured: f64, bound: f64) -> Goal {
        Goal {
            reached: measured >= bound,
            ..Goal::at_most(goal, measured, bound)
        }
    }
}

/// What a family of scenarios came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The family's name.
    pub family: String,
    /// How many scenarios.
    pub runs: usize,
    /// The most reversals of a knob.
    pub reversals: u64,
    /// The worst overshoot: how far past the optimum a knob went, as a factor.
    pub overshoot: f64,
    /// Share of runs whose knob reached 90 % of what the optimum gives, and stayed there.
    pub converged: f64,
    /// Simulated seconds until then: the middle run.
    pub seconds_median: f64,
    /// And 95 of 100 runs.
    pub seconds_p95: f64,
    /// Changes made: the middle run.
    pub changes_median: f64,
}

/// Runs `seeds` scenarios spread over the families.
#[must_use]
pub fn run(families: &[Family], seeds: u64) -> Vec<Summary> {
    families
        .iter()
        .enumerate()
        .map(|(i, family)| {
            let outcomes: Vec<Outcome> = (0..seeds)
                .filter(|seed| *seed as usize % families.len() == i)
                .map(|seed| (family.draw)(seed).run().outcome())
                .collect();
            summary(family.name, &outcomes)
        })
        .collect()
}

fn summary(family: &str, outcomes: &[Outcome]) -> Summary {
    use crate::stats::{median, quantile};
    let seconds: Vec<f64> = outcomes.iter().filter_map(|o| o.converged).collect();
    let changes: Vec<f64> = outcomes.iter().map(|o| o.changes as f64).collect();
    Summary {
        family: family.to_owned(),
        runs: outcomes.len(),
        reversals: outcomes.iter().map(|o| o.reversals).max().unwrap_or(0),
        overshoot: outcomes.iter().map(|o| o.overshoot).fold(0.0, f64::max),
        converged: seconds.len() as f64 / outcomes.len().max(1) as f64,
        seconds_median: median(&seconds).unwrap_or(f64::NAN),
        seconds_p95: quantile(&seconds, 0.95).unwrap_or(f64::NAN),
        changes_median: median(&changes).unwrap_or(f64::NAN),
    }
}

/// The goals that summaries are held to.
#[must_use]
pub fn goals(summaries: &[Summary]) -> Vec<Goal> {
    let worst = |what: fn(&Summary) -> f64| summaries.iter().map(what).fold(0.0, f64::max);
    vec![
        Goal::at_most(
            "most reversals of a knob",
            worst(|s| s.reversals as f64),
            2.0,
        ),
        Goal::at_most(
            "worst overshoot, x the optimum",
            worst(|s| s.overshoot),
            1.5,
        ),
        Goal::at_least(
            "least share of runs that converge, of any learner or tuner",
            summaries.iter().map(|s| s.converged).fold(1.0, f64::min),
            0.95,
        ),
    ]
}
