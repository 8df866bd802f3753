//! What the operator allows.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Glob, Lever, Selection, Window, Zone};
use crate::config::{Amount, Config, Loaded, Origins, schema};

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
///
/// From an operator's files: `Policy::from(&loaded)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How far to go.
    pub mode: Mode,
    /// How far anything may go at most, whatever the more specific sections say, and who says so: the command line.
    pub most: Option<(Mode, Lever)>,
    /// The same for a host that is not among the first of its fleet.
    pub canary: Option<Mode>,
    /// Rest between two changes of one knob in the same direction.
    pub cool_down: Duration,
    /// Rest before a knob may change direction, harm excepted; and before it may rise again after
    /// harm lowered it.
    pub hysteresis: Duration,
    /// Most changes of one knob in an hour.
    pub changes_per_hour: usize,
    /// Most changes of all knobs together in an hour.
    pub changes_per_hour_total: usize,
    /// Most changes of direction of one knob in an hour, those included that put a harmful change back: a change is let
    /// through only where its own reversal would still be within. What averts harm is not counted.
    pub reversals_per_hour: usize,
    /// A knob that a trial found harmful rests so long.
    pub rest_after_harm: Duration,
    /// The share of the present value that one change may add or take at most: 0.125 is an eighth. `None`: as far as
    /// the tuner says.
    pub max_step: Option<f64>,
    /// What all raises together may cost at worst.
    pub memory_budget: Amount,
    /// Whether global tunables (one value for the host) may change.
    pub global: bool,
    /// Tunables that may change.
    pub tunables: Selection,
    /// Places where changes may be made.
    pub places: Selection,
    /// When changes may be made; none: always.
    pub windows: Vec<Window>,
    /// Whose hours the windows mean.
    pub zone: Zone,
    /// What is said of single tuners.
    pub tuner: BTreeMap<String, schema::Tuner>,
    /// What is said of single tunables, or of several by a pattern.
    pub tunable: BTreeMap<Glob, schema::Tunable>,
    /// Where each key was set.
    pub origins: Origins,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::from(&Loaded::default())
    }
}

impl From<&Loaded> for Policy {
    fn from(loaded: &Loaded) -> Policy {
        let Config {
            governor,
            tuner,
            tunable,
            maintenance,
            ..
        } = &loaded.config;
        let schema::Governor {
            mode,
            global,
            allow,
            deny,
            allow_places,
            deny_places,
            cool_down,
            hysteresis,
            changes_per_hour,
            changes_per_hour_total,
            reversals_per_hour,
            rest_after_harm,
            max_step,
            memory_budget,
        } = governor.clone();
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Policy {
            mode,
            most: None,
            canary: None,
            cool_down,
            hysteresis,
            changes_per_hour: count(changes_per_hour),
            changes_per_hour_total: count(changes_per_hour_total),
            reversals_per_hour: count(reversals_per_hour),
            rest_after_harm,
            max_step,
            memory_budget,
            global,
            tunables: Selection { allow, deny },
            places: Selection {
                allow: allow_places,
                deny: deny_places,
            },
            windows: maintenance.windows.clone(),
            zone: maintenance.zone,
            tuner: tuner.clone(),
            tunable: tunable.clone(),
            origins: loaded.origins.clone(),
        }
    }
}
