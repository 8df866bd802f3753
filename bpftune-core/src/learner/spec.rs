//! Which learner, with which parameters: what the configuration says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{aimd, epsilon_greedy, hill_climb, limit, pid, step, thompson};

/// A learner by name, with its parameters; each has a default, except the values of the bandits and the PID's set
/// point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Spec {
    /// Jumps to a multiple of the measured need.
    Limit(limit::Params),
    /// A fixed share up or down.
    Step(step::Params),
    /// A fixed amount up, a factor down.
    Aimd(aimd::Params),
    /// Walks uphill with shrinking steps.
    HillClimb(hill_climb::Params),
    /// Leads a measured quantity to a set point.
    Pid(pid::Params),
    /// The best of a few values, now and then another.
    EpsilonGreedy(epsilon_greedy::Params),
    /// The best of a few values, drawn by how likely each is the best.
    Thompson(thompson::Params),
}

/// Kinds of [`Reading`](super::Reading).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More or less is wanted.
    Pressure,
    /// At least so much is needed; counts as pressure too.
    Need,
    /// How well it goes.
    Score,
    /// Something to be led to a set point.
    Measure,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Pressure => "pressure",
            Kind::Need => "need",
            Kind::Score => "score",
            Kind::Measure => "measure",
        })
    }
}

impl Spec {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Spec::Limit(_) => "limit",
            Spec::Step(_) => "step",
            Spec::Aimd(_) => "aimd",
            Spec::HillClimb(_) => "hill-climb",
            Spec::Pid(_) => "pid",
            Spec::EpsilonGreedy(_) => "epsilon-greedy",
            Spec::Thompson(_) => "thompson",
        }
    }

    /// What it must be told to learn.
    #[must_use]
    pub fn takes(&self) -> Kind {
        match self {
            Spec::Limit(_) => Kind::Need,
            Spec::Step(_) | Spec::Aimd(_) => Kind::Pressure,
            Spec::HillClimb(_) | Spec::EpsilonGreedy(_) | Spec::Thompson(_) => Kind::Score,
            Spec::Pid(_) => Kind::Measure,
        }
    }

    /// Whether it remembers anything beside the knob's value.
    #[must_use]
    pub fn remembers(&self) -> bool {
        match self {
            Spec::Limit(_) | Spec::Step(_) | Spec::Aimd(_) => false,
            Spec::HillClimb(_) | Spec::Pid(_) | Spec::EpsilonGreedy(_) | Spec::Thompson(_) => true,
        }
    }

    /// Whether its parameters make sense.
    ///
    /// # Errors
    /// A sentence that names the parameter and its range.
    pub fn check(&self) -> Result<(), String> {
        let checked = match self {
            Spec::Limit(params) => params.check(),
            Spec::Step(params) => params.check(),
            Spec::Aimd(params) => params.check(),
            Spec::HillClimb(params) => params.check(),
            Spec::Pid(params) => params.check(),
            Spec::EpsilonGreedy(params) => params.check(),
            Spec::Thompson(params) => params.check(),
        };
        checked.map_err(|what| format!("learner \"{}\": {what}", self.name()))
    }

    /// Whether it can serve a tuner that gives these readings.
    ///
    /// # Errors
    /// A sentence that names what it lacks and the learners that would do.
    pub fn check_for(&self, tuner: &str, gives: &[Kind]) -> Result<(), String> {
        self.check()?;
        let served = |kind: Kind| {
            gives.contains(&kind) || (kind == Kind::Pressure && gives.contains(&Kind::Need))
        };
        if served(self.takes()) {
            return Ok(());
        }
        let mut fitting: Vec<&str> = Vec::new();
        for (kind, names) in [
            (Kind::Need, &["limit"][..]),
            (Kind::Pressure, &["step", "aimd"]),
            (Kind::Score, &["hill-climb", "epsilon-greedy", "thompson"]),
            (Kind::Measure, &["pid"]),
        ] {
            if served(kind) {
                fitting.extend(names);
            }
        }
        Err(format!(
            "learner \"{}\" needs a {}, which {tuner} does not give; it can use {}",
            self.name(),
            self.takes(),
            fitting.join(", ")
        ))
    }
}

/// Refuses what is not finite or outside a range.
pub(super) fn within(name: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{name} = {value} must lie between {low} and {high}"
        ))
    }
}
