//! The rows as Rust types.

use std::{fmt, str::FromStr};

use crate::{Knob, Signal, Value};

/// The number of a decision, quoted as "D42".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DecisionId(pub i64);

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "D{}", self.0)
    }
}

impl FromStr for DecisionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix(['D', 'd'])
            .unwrap_or(text)
            .parse()
            .ok()
            .filter(|&id| id > 0)
            .map(DecisionId)
            .ok_or_else(|| {
                format!(
                    "\"{text}\" is no decision's id: they look like D42 (see `bpftune history`)"
                )
            })
    }
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Announced; the write follows, or the daemon was killed just then.
    Intended,
    /// Written and read back.
    Applied,
    /// The kernel refused the write.
    Failed,
    /// Advice only.
    Advised,
    /// The governor said no.
    Refused,
    /// Advice that the operator took: the change is a decision of its own.
    Approved,
    /// Advice that the operator turned down.
    Rejected,
    /// The value from before our first change was written back.
    Restored,
}

impl Verdict {
    /// As in the database.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Intended => "intended",
            Verdict::Applied => "applied",
            Verdict::Failed => "failed",
            Verdict::Advised => "advised",
            Verdict::Refused => "refused",
            Verdict::Approved => "approved",
            Verdict::Rejected => "rejected",
            Verdict::Restored => "restored",
        }
    }

    /// All of them, in the order of a change's life.
    pub const ALL: [Verdict; 8] = [
        Verdict::Intended,
        Verdict::Applied,
        Verdict::Failed,
        Verdict::Advised,
        Verdict::Refused,
        Verdict::Approved,
        Verdict::Rejected,
        Verdict::Restored,
    ];
}

/// A decision about to be recorded.
#[derive(Clone, Debug)]
pub struct NewDecision<'a> {
    /// Who proposed it.
    pub tuner: &'a str,
    /// What happened.
    pub scenario: &'a str,
    /// What and where.
    pub knob: &'a Knob,
    /// The way into the namespace.
    pub place: &'a str,
    /// The value found.
    pub old: &'a Value,
    /// The value wanted.
    pub new: &'a Value,
    /// A sentence for people.
    pub reason: &'a str,
    /// The signal with its figures.
    pub signal: Option<&'a Signal>,
    /// The decision that this one takes back.
    pub reverts: Option<DecisionId>,
}

/// A decision as recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Its number.
    pub id: DecisionId,
    /// Unix milliseconds.
    pub at: i64,
    /// Who proposed it.
    pub tuner: String,
    /// What happened.
    pub scenario: String,
    /// What and where.
    pub knob: Knob,
    /// The way into the namespace.
    pub place: String,
    /// [`Verdict::word`].
    pub verdict: String,
    /// The value found.
    pub old: String,
    /// The value wanted.
    pub new: String,
    /// A sentence for people.
    pub reason: String,
    /// The signal as JSON.
    pub signal: Option<String>,
    /// Why it failed or was refused.
    pub note: String,
    /// The decision that it takes back.
    pub reverts: Option<DecisionId>,
    /// What its trial said.
    pub outcome: String,
    /// What its trial measured, JSON.
    pub trial: Option<String>,
}

/// A knob whose value may be ours now.
#[derive(Clone, Debug, PartialEq)]
pub struct Original {
    /// What and where.
    pub knob: Knob,
    /// The way into the namespace when it was last used.
    pub place: String,
    /// The value before our first change.
    pub value: Value,
    /// Every value that we announced since.
    pub ours: Vec<Value>,
    /// Announced, and whether it was written the journal does not say: from this value to that one. A kill between the
    /// write and the journal's next word leaves what the kernel made of it.
    pub in_flight: Option<(Value, Value)>,
    /// Our first change.
    pub first: DecisionId,
}

impl Original {
    /// Whether the knob has a value of ours: one that was announced, or what the kernel made of one just before a kill.
    #[must_use]
    pub fn is_ours(&self, now: &Value) -> bool {
        let rounded = |(old, new): &(Value, Value)| now.is_between(old, new);
        self.ours.contains(now) || self.in_flight.as_ref().is_some_and(rounded)
    }
}

/// What became of an original value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginalState {
    /// It is back.
    Restored,
    /// The operator chose to keep ours.
    Kept,
    /// Somebody else wrote the knob since: theirs stands.
    Admin,
    /// The namespace, or the boot, is over.
    Gone,
}

impl OriginalState {
    pub(super) fn word(self) -> &'static str {
        match self {
            OriginalState::Restored => "restored",
            OriginalState::Kept => "kept",
            OriginalState::Admin => "admin",
            OriginalState::Gone => "gone",
        }
    }
}

/// A knob that somebody else wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What and where.
    pub knob: Knob,
    /// Unix milliseconds.
    pub since: i64,
    /// Who.
    pub by: String,
    /// What they wrote.
    pub value: String,
}
