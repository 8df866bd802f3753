//! Why not, and which key of which file would change that.

use std::{fmt, sync::Arc, time::Duration};

/// What an operator can change to get another answer: a key with its section and file, or an option of the
/// command line.
///
/// "cool_down in \[governor\], set in /etc/bpftune/conf.d/20-web.toml:4"
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lever(Arc<str>);

impl Lever {
    /// In these words.
    #[must_use]
    pub fn new(words: &str) -> Lever {
        Lever(words.into())
    }
}

impl fmt::Display for Lever {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No tuner declared this tunable.
    Unknown,
    /// Observe mode.
    Observing {
        /// Where that is said.
        lever: Lever,
    },
    /// The policy keeps global tunables as they are.
    GlobalDenied {
        /// Where that is said.
        lever: Lever,
    },
    /// The operator keeps this tunable as it is.
    Denied {
        /// Where that is said.
        lever: Lever,
    },
    /// The operator keeps this network namespace as it is.
    PlaceDenied {
        /// The namespace, as people name it.
        place: String,
        /// Where that is said.
        lever: Lever,
    },
    /// Somebody else wrote the knob; it is theirs until `bpftune rearm`.
    Held {
        /// Who.
        by: String,
    },
    /// The value is there already, or the bound of this machine leaves no room.
    AtBound {
        /// The bound of the last number.
        bound: i64,
    },
    /// The operator's bound leaves no room.
    AtLimit {
        /// The bound of the last number.
        bound: i64,
        /// Where that is said.
        lever: Lever,
    },
    /// It is none of the words that the parameter may have.
    NoSuchWord {
        /// Those that it may have.
        words: &'static [&'static str],
    },
    /// Together with all other raises it may cost more memory than the operator gives.
    OverBudget {
        /// What it may cost at worst, bytes.
        cost: u64,
        /// What is left of the budget, bytes.
        left: u64,
        /// Where that is said.
        lever: Lever,
    },
    /// It is not the time.
    OutsideWindows {
        /// Where that is said.
        lever: Lever,
    },
    /// A trial found an earlier change harmful.
    Resting {
        /// For so long.
        left: Duration,
        /// Where that is said.
        lever: Lever,
    },
    /// It would reverse the last change too soon.
    Hysteresis {
        /// For so long.
        left: Duration,
        /// Where that is said.
        lever: Lever,
    },
    /// It has turned round too often in the last hour.
    Flapping {
        /// So often.
        turns: usize,
        /// Where that is said.
        lever: Lever,
    },
    /// The last change is too recent.
    CoolDown {
        /// For so long.
        left: Duration,
        /// Where that is said.
        lever: Lever,
    },
    /// Too many changes of this knob in the last hour.
    HourlyLimit {
        /// So many.
        changes: usize,
        /// Where that is said.
        lever: Lever,
    },
    /// Too many changes of all knobs together in the last hour.
    TotalLimit {
        /// So many.
        changes: usize,
        /// Where that is said.
        lever: Lever,
    },
}

impl Refusal {
    /// How long the tuner may as well be silent about the same thing.
    #[must_use]
    pub fn quiet_for(&self) -> Duration {
        match self {
            Refusal::CoolDown { .. } => Duration::ZERO,
            Refusal::Resting { left, .. } | Refusal::Hysteresis { left, .. } => *left,
            _ => Duration::from_secs(10),
        }
    }

    /// Whether a person wants to read of it: a passing rest is not worth a line.
    #[must_use]
    pub fn is_news(&self) -> bool {
        !matches!(self, Refusal::CoolDown { .. } | Refusal::Observing { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown => f.write_str("no tuner owns it"),
            Refusal::Observing { lever } => write!(f, "mode observe ({lever})"),
            Refusal::GlobalDenied { lever } => {
                write!(f, "parameters of the whole host are left alone ({lever})")
            }
            Refusal::Denied { lever } => write!(f, "the operator leaves it alone ({lever})"),
            Refusal::PlaceDenied { place, lever } => {
                write!(f, "the operator leaves {place} alone ({lever})")
            }
            Refusal::Held { by } => write!(f, "{by} wrote it: theirs until `bpftune rearm`"),
            Refusal::AtBound { bound } => {
                write!(f, "already at the bound of this machine, {bound}")
            }
            Refusal::AtLimit { bound, lever } => {
                write!(f, "already at the operator's bound, {bound} ({lever})")
            }
            Refusal::NoSuchWord { words } => {
                write!(f, "it may only be one of {}", words.join(", "))
            }
            Refusal::OverBudget { cost, left, lever } => {
                write!(
                    f,
                    "it may cost {cost} bytes of memory, and {left} are left ({lever})"
                )
            }
            Refusal::OutsideWindows { lever } => {
                write!(f, "outside of the maintenance windows ({lever})")
            }
            Refusal::Resting { left, lever } => {
                write!(
                    f,
                    "an earlier change did harm: rests {} s more ({lever})",
                    left.as_secs()
                )
            }
            Refusal::Hysteresis { left, lever } => {
                write!(
                    f,
                    "no change of direction for {} s more ({lever})",
                    left.as_secs()
                )
            }
            Refusal::Flapping { turns, lever } => {
                write!(
                    f,
                    "changed direction {turns} times in the last hour ({lever})"
                )
            }
            Refusal::CoolDown { left, lever } => {
                write!(f, "cooling down for {} ms more ({lever})", left.as_millis())
            }
            Refusal::HourlyLimit { changes, lever } => {
                write!(f, "changed {changes} times in the last hour ({lever})")
            }
            Refusal::TotalLimit { changes, lever } => {
                write!(f, "{changes} changes were made in the last hour ({lever})")
            }
        }
    }
}
