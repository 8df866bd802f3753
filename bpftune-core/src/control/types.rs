//! What goes over the wire: the types of `io.bpftune.Control`.

use serde::{Deserialize, Serialize};

use crate::journal;

/// A BPF program and, where it is off, why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    /// The tuner, or "admin-watch".
    pub owner: String,
    /// The program.
    pub name: String,
    /// Where it attaches.
    pub section: String,
    /// Why it is off.
    pub off: Option<String>,
}

/// A tuner and what it did in this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuner {
    /// Its name.
    pub name: String,
    /// What it does.
    pub about: String,
    /// What it owns.
    pub tunables: Vec<String>,
    /// Events seen.
    pub signals: u64,
    /// Changes wished for.
    pub proposals: u64,
    /// Changes made.
    pub changes: u64,
}

/// A parameter in a namespace that was changed or is left alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnobStatus {
    /// Dotted name.
    pub tunable: String,
    /// The namespace's cookie.
    pub netns: u64,
    /// The way into it.
    pub place: String,
    /// The value before the first change, where it was changed.
    pub original: Option<String>,
    /// The value now.
    pub current: Option<String>,
    /// Changes in this run.
    pub changes: u64,
    /// Of these, against the one before.
    pub reversals: u64,
    /// Who wrote it, where it is left alone.
    pub held_by: Option<String>,
}

/// The reply to `GetStatus`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// observe, advise or auto.
    pub mode: String,
    /// Its process.
    pub pid: u32,
    /// When it started, unix milliseconds.
    pub started_unix_ms: i64,
    /// Where its journal is.
    pub state_dir: String,
    /// Kernel memory of its BPF maps.
    pub map_bytes: u64,
    /// Its BPF programs.
    pub hooks: Vec<Hook>,
    /// Its tuners.
    pub tuners: Vec<Tuner>,
    /// What was changed or is left alone.
    pub knobs: Vec<KnobStatus>,
}

/// A decision as the journal has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Quoted as "D42".
    pub id: i64,
    /// Unix milliseconds.
    pub at_unix_ms: i64,
    /// Who proposed it.
    pub tuner: String,
    /// What happened.
    pub scenario: String,
    /// Dotted name.
    pub tunable: String,
    /// The namespace's cookie.
    pub netns: u64,
    /// The way into it.
    pub place: String,
    /// intended, applied, failed, advised or refused.
    pub verdict: String,
    /// The value found.
    pub old: String,
    /// The value wanted.
    pub new: String,
    /// A sentence for people.
    pub reason: String,
    /// Why it failed or was refused.
    pub note: String,
    /// What its trial said.
    pub outcome: String,
    /// The signal, JSON.
    pub signal: Option<String>,
}

impl From<journal::Decision> for Decision {
    fn from(d: journal::Decision) -> Decision {
        Decision {
            id: d.id.0,
            at_unix_ms: d.at,
            tuner: d.tuner,
            scenario: d.scenario,
            tunable: d.knob.tunable,
            netns: d.knob.netns.0,
            place: d.place,
            verdict: d.verdict,
            old: d.old,
            new: d.new,
            reason: d.reason,
            note: d.note,
            outcome: d.outcome,
            signal: d.signal,
        }
    }
}

/// The reply to `GetHistory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Newest first.
    pub decisions: Vec<Decision>,
}

/// The reply to `Explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
}

/// The reply to `Rearm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rearmed {
    /// "net.ipv4.tcp_rmem in netns 5".
    pub rearmed: Vec<String>,
}

/// The reply to `Revert`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reverted {
    /// Lines for people.
    pub report: String,
}

/// A call of our interface with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The state of the daemon.
    GetStatus,
    /// The last decisions.
    GetHistory {
        /// At most so many.
        limit: u32,
    },
    /// One decision.
    Explain {
        /// Its number.
        id: i64,
    },
    /// Take holds back.
    Rearm {
        /// Only this parameter.
        tunable: Option<String>,
        /// Only this namespace.
        netns: Option<u64>,
    },
    /// Restore.
    Revert {
        /// Only this decision.
        id: Option<i64>,
    },
}
