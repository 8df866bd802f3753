//! Reading decisions back.

use rusqlite::{OptionalExtension, Row, params};

use super::{Decision, DecisionId, Journal, Original, Result, error::Doing};
use crate::{Knob, NetnsCookie, Value};

/// Which decisions are wanted; each empty field lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tuner.
    pub tuner: Option<String>,
    /// On this tunable.
    pub tunable: Option<String>,
    /// In this namespace.
    pub netns: Option<NetnsCookie>,
    /// With this [`Verdict::word`](super::Verdict::word).
    pub verdict: Option<String>,
    /// Not before this moment, unix milliseconds.
    pub since: Option<i64>,
    /// Older than this decision.
    pub before: Option<DecisionId>,
}

/// A part of the history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest first.
    pub decisions: Vec<Decision>,
    /// There is more: ask again with [`Filter::before`] set to this.
    pub next: Option<DecisionId>,
}

/// Decisions looked at for one page, so that a rare filter over a long history cannot hold up whoever asks.
const LOOKED_AT: i64 = 20_000;

impl Journal {
    /// The knobs of this boot whose value may be ours.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn held(&self) -> Result<Vec<Original>> {
        self.held_of(Some(&self.boot))
    }

    /// The same of one boot, or of all.
    pub(crate) fn held_of(&self, boot: Option<&str>) -> Result<Vec<Original>> {
        let mut statement = self
            .db
            .prepare(
                "SELECT o.netns, o.tunable, o.place, o.value, o.first,
                        (SELECT group_concat(d.new, ';') FROM decision d
                         WHERE d.boot_id = o.boot_id AND d.netns = o.netns AND d.tunable = o.tunable
                           AND d.id >= o.first AND d.verdict IN ('intended', 'applied', 'failed')),
                        (SELECT d.old || ';' || d.new FROM decision d
                         WHERE d.boot_id = o.boot_id AND d.netns = o.netns AND d.tunable = o.tunable
                           AND d.id >= o.first AND d.verdict = 'intended' ORDER BY d.id DESC LIMIT 1)
                 FROM original o WHERE o.state = 'held' AND (?1 IS NULL OR o.boot_id = ?1) ORDER BY o.first",
            )
            .doing("read", &self.path)?;
        let rows = statement
            .query_map(params![boot], |row| {
                let value: String = row.get(3)?;
                let ours: Option<String> = row.get(5)?;
                let in_flight: Option<String> = row.get(6)?;
                Ok(Original {
                    knob: Knob {
                        netns: NetnsCookie(row.get::<_, i64>(0)? as u64),
                        tunable: row.get(1)?,
                    },
                    place: row.get(2)?,
                    value: value.parse().map_err(|_| rusqlite::Error::InvalidQuery)?,
                    ours: ours
                        .unwrap_or_default()
                        .split(';')
                        .filter_map(|text| text.parse::<Value>().ok())
                        .collect(),
                    in_flight: in_flight.and_then(|text| {
                        let (old, new) = text.split_once(';')?;
                        Some((old.parse().ok()?, new.parse().ok()?))
                    }),
                    first: DecisionId(row.get(4)?),
                })
            })
            .doing("read", &self.path)?;
        rows.collect::<rusqlite::Result<_>>()
            .doing("read", &self.path)
    }

    /// The last decisions, newest first.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn history(&self, limit: usize) -> Result<Vec<Decision>> {
        let mut decisions = Vec::new();
        let mut filter = Filter::default();
        loop {
            let page = self.page(&filter, limit - decisions.len())?;
            decisions.extend(page.decisions);
            filter.before = page.next;
            if filter.before.is_none() || decisions.len() >= limit {
                return Ok(decisions);
            }
        }
    }

    /// At most `limit` decisions that pass the filter, newest first. Looks at a bounded number of rows: a page may be
    /// short, even empty, and still have a [next](Page::next) one.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn page(&self, filter: &Filter, limit: usize) -> Result<Page> {
        let newest: i64 = self
            .db
            .query_row("SELECT coalesce(max(id), 0) FROM decision", [], |row| {
                row.get(0)
            })
            .doing("read", &self.path)?;
        let oldest: i64 = self
            .db
            .query_row("SELECT coalesce(min(id), 1) FROM decision", [], |row| {
                row.get(0)
            })
            .doing("read", &self.path)?;
        let before = filter.before.map_or(newest + 1, |id| id.0.min(newest + 1));
        let from = before.saturating_sub(LOOKED_AT);
        let decisions: Vec<Decision> = self.decisions(
            "WHERE id < ?1 AND id >= ?2 AND (?3 IS NULL OR tuner = ?3) AND (?4 IS NULL OR tunable = ?4)
             AND (?5 IS NULL OR netns = ?5) AND (?6 IS NULL OR verdict = ?6) AND (?7 IS NULL OR at >= ?7)
             ORDER BY id DESC LIMIT ?8",
            params![
                before,
                from,
                filter.tuner,
                filter.tunable,
                filter.netns.map(|netns| netns.0 as i64),
                filter.verdict,
                filter.since,
                i64::try_from(limit).unwrap_or(i64::MAX),
            ],
        )?;
        let reached = match decisions.last() {
            Some(last) if decisions.len() >= limit => last.id.0,
            _ => from,
        };
        let next = (reached > oldest).then_some(DecisionId(reached));
        Ok(Page { decisions, next })
    }

    /// The changes of this boot that were announced since this moment (unix milliseconds), oldest first: those whose
    /// write failed are not among them.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn changes_since(&self, since: i64) -> Result<Vec<Decision>> {
        let first = self
            .db
            .prepare("SELECT id, at FROM decision ORDER BY id DESC")
            .and_then(|mut statement| {
                let mut rows = statement.query([])?;
                let mut first = i64::MAX;
                // From the newest back, and no further than needed.
                while let Some(row) = rows.next()? {
                    if row.get::<_, i64>(1)? < since {
                        break;
                    }
                    first = row.get(0)?;
                }
                Ok(first)
            })
            .doing("read", &self.path)?;
        self.decisions(
            "WHERE id >= ?1 AND boot_id = ?2 AND verdict IN ('intended', 'applied') ORDER BY id",
            params![first, self.boot],
        )
    }

    /// One decision.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn decision(&self, id: DecisionId) -> Result<Option<Decision>> {
        self.db
            .query_row(
                &format!("{} WHERE id = ?1", self.select()),
                params![id.0],
                decision_row,
            )
            .optional()
            .doing("read", &self.path)
    }

    /// The newest decision's id.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn newest(&self) -> Result<Option<DecisionId>> {
        self.db
            .query_row("SELECT max(id) FROM decision", [], |row| {
                row.get::<_, Option<i64>>(0)
            })
            .map(|id| id.map(DecisionId))
            .doing("read", &self.path)
    }

    /// Advice of this boot that nobody took or turned down and no newer advice on the same knob replaced.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn pending(&self) -> Result<Vec<Decision>> {
        let rows = self.decisions(
            "WHERE boot_id = ?1 AND id IN (SELECT max(id) FROM decision WHERE boot_id = ?1
                 AND verdict IN ('advised', 'approved', 'rejected', 'applied') GROUP BY netns, tunable)
             AND verdict = 'advised' ORDER BY id",
            params![self.boot],
        )?;
        Ok(rows)
    }

    pub(super) fn decisions(
        &self,
        condition: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<Decision>> {
        let mut statement = self
            .db
            .prepare_cached(&format!("{} {condition}", self.select()))
            .doing("read", &self.path)?;
        statement
            .query_map(params, decision_row)
            .and_then(Iterator::collect)
            .doing("read", &self.path)
    }

    fn select(&self) -> &'static str {
        if self.schema < 2 {
            "SELECT id, at, tuner, scenario, netns, tunable, place, verdict, old, new, reason, signal, note, reverts, \
             outcome, NULL FROM decision"
        } else {
            "SELECT id, at, tuner, scenario, netns, tunable, place, verdict, old, new, reason, signal, note, reverts, \
             outcome, trial FROM decision"
        }
    }
}

fn decision_row(row: &Row<'_>) -> rusqlite::Result<Decision> {
    Ok(Decision {
        id: DecisionId(row.get(0)?),
        at: row.get(1)?,
        tuner: row.get(2)?,
        scenario: row.get(3)?,
        knob: Knob {
            netns: NetnsCookie(row.get::<_, i64>(4)? as u64),
            tunable: row.get(5)?,
        },
        place: row.get(6)?,
        verdict: row.get(7)?,
        old: row.get(8)?,
        new: row.get(9)?,
        reason: row.get(10)?,
        signal: row.get(11)?,
        note: row.get(12)?,
        reverts: row.get::<_, Option<i64>>(13)?.map(DecisionId),
        outcome: row.get(14)?,
        trial: row.get(15)?,
    })
}
