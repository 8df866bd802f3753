//! What goes over the wire: the daemon's state, and what it says of what it did.

use serde::{Deserialize, Serialize};

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
    /// on, disabled or paused; of a plugin that does not run, rests or refused, and then `about` says why.
    pub state: String,
    /// Until when it pauses, unix milliseconds.
    pub paused_until_unix_ms: Option<i64>,
    /// What it chose without writing any parameter.
    #[serde(default)]
    pub chosen: Vec<Chosen>,
}

/// What a tuner has chosen for a subject, such as the congestion control for a remote network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// Whom it is for.
    pub subject: String,
    /// The namespace's cookie.
    pub netns: u64,
    /// The way into it.
    pub place: String,
    /// What it gets from now on.
    pub name: String,
    /// Why, with the figures.
    pub why: String,
    /// What there is to choose from; the first is what it would be without any choice.
    pub options: Vec<Tried>,
}

/// One of the options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// What.
    pub name: String,
    /// How often it was given.
    pub times: u64,
    /// How often of these there was something to measure.
    pub measured: u64,
    /// How good it was by the first option.
    pub gain: Option<f64>,
}

/// What a tuner may change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunable {
    /// Dotted name.
    pub name: String,
    /// Whose it is.
    pub tuner: String,
    /// "global" or "netns".
    pub scope: String,
    /// Unit of the numbers.
    pub unit: String,
    /// What it does.
    pub about: String,
    /// The lowest and highest of each number on this machine now.
    pub ranges: Vec<Range>,
    /// The value in the host's own namespace now.
    pub current: Option<String>,
}

/// The bounds of one number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Not below.
    pub low: i64,
    /// Not above.
    pub high: i64,
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
    /// Whether a trial of the last change is under way: it may be taken back yet.
    #[serde(default)]
    pub on_trial: bool,
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
    /// The configuration files that hold, in their order.
    #[serde(default)]
    pub config_files: Vec<String>,
    /// What is wrong with the files as they are now, if anything; then an older state of them holds.
    #[serde(default)]
    pub config_error: Option<String>,
}

/// The reply to `ListTunables`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunables {
    /// Tuner by tuner.
    pub tunables: Vec<Tunable>,
}

/// The reply to `Rearm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rearmed {
    /// "net.ipv4.tcp_rmem in netns 5".
    pub rearmed: Vec<String>,
}

/// The reply to `Revert` and to whatever else only says what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Lines for people.
    pub report: String,
}
