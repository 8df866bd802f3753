//! What can be asked of the daemon.

use serde::{Deserialize, Serialize};

use super::{DiffRange, HistoryFilter, access::Right};

/// A call of our interface with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The state of the daemon.
    GetStatus,
    /// What tuners may change.
    ListTunables {
        /// Only of this tuner.
        tuner: Option<String>,
    },
    /// Decisions.
    GetHistory(HistoryFilter),
    /// One decision.
    Explain {
        /// Its number.
        id: i64,
    },
    /// What differs between two moments.
    Diff(DiffRange),
    /// What would change now, and why.
    Plan,
    /// Events as they happen.
    Watch,
    /// A classic query, answered in text.
    Query(Query),
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
    /// Carry advice out.
    Approve {
        /// The advice.
        id: i64,
    },
    /// Turn advice down.
    Reject {
        /// The advice.
        id: i64,
        /// Why, for the history.
        reason: Option<String>,
    },
    /// Let a tuner work again.
    Enable {
        /// Which.
        tuner: String,
    },
    /// Let a tuner rest until it is enabled.
    Disable {
        /// Which.
        tuner: String,
    },
    /// Let a tuner, or all, rest for a while.
    Pause {
        /// Which; all where missing.
        tuner: Option<String>,
        /// How long.
        seconds: u32,
    },
    /// End a pause.
    Resume {
        /// Which; all where missing.
        tuner: Option<String>,
    },
}

impl Request {
    /// What the caller must be allowed.
    #[must_use]
    pub fn right(&self) -> Right {
        match self {
            Request::GetStatus
            | Request::ListTunables { .. }
            | Request::GetHistory(_)
            | Request::Explain { .. }
            | Request::Diff(_)
            | Request::Plan
            | Request::Watch => Right::Read,
            Request::Query(query) if *query != Query::Rollback => Right::Read,
            Request::Query(_)
            | Request::Rearm { .. }
            | Request::Revert { .. }
            | Request::Approve { .. }
            | Request::Reject { .. }
            | Request::Enable { .. }
            | Request::Disable { .. }
            | Request::Pause { .. }
            | Request::Resume { .. } => Right::Write,
        }
    }
}

/// The words of the classic `-q`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// Which words there are.
    Help,
    /// The tuners, a line each.
    Tuners,
    /// What they may change, a line each.
    Tunables,
    /// The same as JSON.
    Jtunables,
    /// What was changed.
    Summary,
    /// The present values.
    Status,
    /// The same as JSON: an object a tuner.
    Jstatus,
    /// Every original value back.
    Rollback,
}

impl Query {
    /// All of them with their words.
    pub const ALL: [(&str, Query); 8] = [
        ("help", Query::Help),
        ("tuners", Query::Tuners),
        ("tunables", Query::Tunables),
        ("jtunables", Query::Jtunables),
        ("summary", Query::Summary),
        ("status", Query::Status),
        ("jstatus", Query::Jstatus),
        ("rollback", Query::Rollback),
    ];

    /// The one with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Query> {
        Query::ALL
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, query)| *query)
    }
}
