//! What goes over the wire: decisions, differences, wishes, events.

use serde::{Deserialize, Serialize};

use crate::journal;

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
