//! What the operator allows.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// How far the daemon may go; the more cautious is the smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Count signals, propose nothing.
    Observe,
    /// Propose and record with reason and id, write nothing.
    Advise,
    /// Write.
    #[default]
    Auto,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Observe => "observe",
            Mode::Advise => "advise",
            Mode::Auto => "auto",
        })
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "observe" => Ok(Mode::Observe),
            "advise" => Ok(Mode::Advise),
            "auto" => Ok(Mode::Auto),
            _ => Err(format!("\"{text}\" is no mode")),
        }
    }
}

/// What happens to changed values when the daemon stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitPolicy {
    /// Every original value is put back.
    #[default]
    Restore,
    /// They stay.
    Keep,
    /// Those stay whose trial said better; the others are put back.
    RestoreIfWorse,
}

impl fmt::Display for ExitPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExitPolicy::Restore => "restore",
            ExitPolicy::Keep => "keep",
            ExitPolicy::RestoreIfWorse => "restore-if-worse",
        })
    }
}

impl FromStr for ExitPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<ExitPolicy, String> {
        match text {
            "restore" => Ok(ExitPolicy::Restore),
            "keep" => Ok(ExitPolicy::Keep),
            "restore-if-worse" => Ok(ExitPolicy::RestoreIfWorse),
            _ => Err(format!("\"{text}\" is no exit policy")),
        }
    }
}

/// The governor's limits. The defaults suit a production host.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How far to go.
    pub mode: Mode,
    /// Rest between two changes of one knob in the same direction.
    pub cool_down: Duration,
    /// Rest before a knob may change direction, harm excepted; and before it may rise again after
    /// harm lowered it.
    pub hysteresis: Duration,
    /// Most changes of one knob in an hour.
    pub changes_per_hour: usize,
    /// Most changes of direction of one knob in an hour, those included that put a harmful change back: a change is let
    /// through only where its own reversal would still be within. What averts harm is not counted.
    pub reversals_per_hour: usize,
    /// A knob that a trial found harmful rests so long.
    pub rest_after_harm: Duration,
    /// Whether global tunables (one value for the host) may change.
    pub global: bool,
    /// The share of the present value that one change may add or take at most: 0.125 is an eighth. `None`: as far as
    /// the tuner says.
    pub max_step: Option<f64>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            mode: Mode::Auto,
            cool_down: Duration::from_millis(40),
            hysteresis: Duration::from_secs(60),
            changes_per_hour: 60,
            reversals_per_hour: 2,
            rest_after_harm: Duration::from_secs(600),
            global: true,
            max_step: None,
        }
    }
}
