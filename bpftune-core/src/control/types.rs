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
    /// on, disabled or paused.
    pub state: String,
    /// Until when it pauses, unix milliseconds.
    pub paused_until_unix_ms: Option<i64>,
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
    /// intended, applied, failed, advised, refused, approved, rejected or restored.
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
    /// The decision that it takes back.
    pub reverts: Option<i64>,
    /// What its trial measured, JSON.
    pub trial: Option<String>,
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
            reverts: d.reverts.map(|id| id.0),
            trial: d.trial,
        }
    }
}

/// The reply to `GetHistory`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Newest first.
    pub decisions: Vec<Decision>,
    /// There is more: ask again for what is before this one.
    pub next: Option<i64>,
}

/// Which decisions `GetHistory` is to tell; what is missing lets all through.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryFilter {
    /// At most so many, 1000 in any case.
    pub limit: Option<u32>,
    /// Older than this one.
    pub before: Option<i64>,
    /// Of this tuner.
    pub tuner: Option<String>,
    /// On this parameter.
    pub tunable: Option<String>,
    /// In the namespace with this cookie.
    pub netns: Option<u64>,
    /// Not before, unix milliseconds.
    pub since_unix_ms: Option<i64>,
    /// With this verdict.
    pub verdict: Option<String>,
}

impl From<HistoryFilter> for journal::Filter {
    fn from(wanted: HistoryFilter) -> journal::Filter {
        journal::Filter {
            tuner: wanted.tuner,
            tunable: wanted.tunable,
            netns: wanted.netns.map(crate::NetnsCookie),
            verdict: wanted.verdict,
            since: wanted.since_unix_ms,
            before: wanted.before.map(journal::DecisionId),
        }
    }
}

/// Between which moments `Diff` looks: without a start, from before the first change; without an end, to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffRange {
    /// After this decision.
    pub from_id: Option<i64>,
    /// At this moment, unix milliseconds.
    pub from_unix_ms: Option<i64>,
    /// After this decision.
    pub to_id: Option<i64>,
    /// At this moment, unix milliseconds.
    pub to_unix_ms: Option<i64>,
}

impl DiffRange {
    /// As the journal's moments.
    #[must_use]
    pub fn points(&self) -> (journal::Point, journal::Point) {
        use journal::{DecisionId, Point};
        let point = |id: Option<i64>, at: Option<i64>, other| match (id, at) {
            (Some(id), _) => Point::After(DecisionId(id)),
            (None, Some(at)) => Point::At(at),
            (None, None) => other,
        };
        (
            point(self.from_id, self.from_unix_ms, Point::Start),
            point(self.to_id, self.to_unix_ms, Point::End),
        )
    }
}

/// A parameter that differs between two moments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Dotted name.
    pub tunable: String,
    /// The namespace's cookie.
    pub netns: u64,
    /// The way into it.
    pub place: String,
    /// At the first moment.
    pub before: String,
    /// At the second.
    pub after: String,
    /// The decision that made it so.
    pub by: Option<i64>,
}

impl From<journal::Difference> for Difference {
    fn from(d: journal::Difference) -> Difference {
        Difference {
            tunable: d.knob.tunable,
            netns: d.knob.netns.0,
            place: d.place,
            before: d.before,
            after: d.after,
            by: d.by.map(|id| id.0),
        }
    }
}

/// The reply to `Diff`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Differences {
    /// By name and namespace.
    pub differences: Vec<Difference>,
}

/// A change that a tuner would like now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    /// Whose.
    pub tuner: String,
    /// Dotted name.
    pub tunable: String,
    /// The namespace's cookie.
    pub netns: u64,
    /// The way into it.
    pub place: String,
    /// The value now.
    pub current: String,
    /// The value wanted, within bounds where it would be written.
    pub target: String,
    /// Why.
    pub reason: String,
    /// apply, advise or refuse: what the governor would say now.
    pub answer: String,
    /// Why it refuses; or what would make it so.
    pub note: String,
    /// Advice to approve or reject.
    pub id: Option<i64>,
    /// When it was wished for last, unix milliseconds.
    pub at_unix_ms: i64,
}

/// The reply to `Plan`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Oldest first.
    pub wishes: Vec<Wish>,
}

/// The reply to `ListTunables`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunables {
    /// Tuner by tuner.
    pub tunables: Vec<Tunable>,
}

/// Something that happened, for who watches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// A decision's verdict, or outcome, hands-off, rearmed, tuner, watching.
    pub kind: String,
    /// Unix milliseconds.
    pub at_unix_ms: i64,
    /// A sentence for people.
    pub text: String,
    /// The decision, where it is about one.
    pub decision: Option<Decision>,
    /// So many events before this one were lost, for the watcher did not read.
    pub lost: u64,
}

impl Event {
    /// Now, about no decision.
    #[must_use]
    pub fn new(kind: &str, text: &str) -> Event {
        Event {
            kind: kind.to_owned(),
            at_unix_ms: journal::now_ms(),
            text: text.to_owned(),
            decision: None,
            lost: 0,
        }
    }
}

/// The reply to `Watch`, again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// What happened.
    pub event: Event,
}

/// The reply to `Approve`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approved {
    /// The change's own decision.
    pub id: i64,
    /// What was done.
    pub report: String,
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

/// The reply to `Revert` and to whatever else only says what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Lines for people.
    pub report: String,
}
