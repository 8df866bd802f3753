//! What a hook or counter saw, as plain data.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use crate::NetnsCookie;

/// Something that happened and may ask for a change. Plain data, so that a recorded signal can be
/// replayed to a [`Tuner`](crate::Tuner) in a test without a kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// What happened, in the tuner's words: "receive-limited".
    pub scenario: Cow<'static, str>,
    /// The network namespace it happened in.
    pub netns: NetnsCookie,
    /// Whom it happened to, for the explanation: "10.0.0.1:443 from 10.0.0.2:40000".
    pub subject: String,
    /// How many events this signal stands for.
    pub count: u32,
    /// The measured figures.
    pub figures: Vec<Figure>,
}

impl Signal {
    /// The figure of that name.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures
            .iter()
            .find(|f| f.name == name)
            .map(|f| f.value)
    }
}

/// One measured number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// "rate", "min_rtt".
    pub name: Cow<'static, str>,
    /// In `unit`.
    pub value: f64,
    /// "B/s", "us", "B".
    pub unit: Cow<'static, str>,
}

impl Figure {
    /// A figure with a fixed name and unit.
    #[must_use]
    pub const fn new(name: &'static str, value: f64, unit: &'static str) -> Figure {
        Figure {
            name: Cow::Borrowed(name),
            value,
            unit: Cow::Borrowed(unit),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.value, self.unit)
    }
}
