//! A tuner as a file: signal, condition, change, trial. No code.

mod file;
mod state;
mod tuner;

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    rc::Rc,
    time::Duration,
};

pub use self::file::parse;
use super::{Context, Declared, Permitted, Subscription};
use crate::{engine::Registration, learner};

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// What it does, in one sentence.
    pub about: String,
    /// What it looks at; no timer.
    pub signal: Subscription,
    /// When it acts.
    pub when: When,
    /// What it changes.
    pub change: Change,
}

/// The number that a condition looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Of {
    /// Growth a second; of a scenario, how many signals come in a second.
    #[default]
    Rate,
    /// A counter as it is.
    Value,
    /// A figure of a scenario.
    Figure(String),
}

/// The condition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct When {
    /// What is compared.
    pub of: Of,
    /// Holds above this.
    pub above: Option<f64>,
    /// Holds below this.
    pub below: Option<f64>,
    /// It must hold all of this time.
    pub sustained: Duration,
}

impl When {
    /// Whether it holds for a value.
    #[must_use]
    pub fn holds(&self, value: f64) -> bool {
        self.above.is_none_or(|above| value > above) && self.below.is_none_or(|below| value < below)
    }
}

/// Which way is good: of a knob that something holds back, or of a measured score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Up.
    #[default]
    More,
    /// Down.
    Less,
}

/// The change.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The tunable with its bounds and how it is tried.
    pub tunable: Declared,
    /// Which of its numbers, from 0.
    pub number: usize,
    /// Which way.
    pub want: Want,
    /// How far.
    pub learner: learner::Spec,
}

/// Longest rule file, bytes.
const LONGEST: u64 = 64 << 10;

/// Reads, checks and prepares a rule.
pub(super) fn load(
    name: &str,
    path: &Path,
    file: File,
    permitted: &Permitted,
    context: &Rc<Context>,
) -> Result<Registration, String> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        file.take(LONGEST + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LONGEST {
            return Err(io::Error::other("a rule file has at most 64 KiB"));
        }
        Ok(text)
    };
    let in_file = |why: String| format!("{}: {why}", path.display());
    let text = read().map_err(|error| in_file(error.to_string()))?;
    let rule = parse(path, &text, permitted).map_err(|problem| problem.line())?;
    tuner::registration(name, path, rule, context.clone()).map_err(in_file)
}
