//! The whole journal as JSON lines, for other programs. docs/journal.md has the schema.

use std::io::Write;

use rusqlite::params;
use serde_json::{Value as Json, json};

use super::{Decision, Filter, Journal, Result, error::Doing};
use crate::Error;

/// The first member of every line. A change that could break a reader makes it another one.
pub const EXPORT_SCHEMA: &str = "bpftune.journal/1";

/// Decisions read at once.
const PAGE: usize = 1000;

/// Text that holds JSON, as JSON.
fn parsed(text: Option<&str>) -> Json {
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Json::Null)
}

fn decision(d: &Decision) -> Json {
    json!({
        "schema": EXPORT_SCHEMA, "kind": "decision", "id": d.id.to_string(), "at_unix_ms": d.at, "tuner": d.tuner,
        "scenario": d.scenario, "tunable": d.knob.tunable, "netns": d.knob.netns, "place": d.place,
        "verdict": d.verdict, "old": d.old, "new": d.new, "reason": d.reason, "note": d.note,
        "reverts": d.reverts.map(|id| id.to_string()), "outcome": d.outcome,
        "signal": parsed(d.signal.as_deref()), "trial": parsed(d.trial.as_deref()),
    })
}

impl Journal {
    /// Writes a line for each run, original value, hold and learned state, then one for each decision that passes the
    /// filter, newest first.
    ///
    /// # Errors
    /// Where the journal cannot be read, or `out` not be written.
    pub fn export(&self, filter: &Filter, out: &mut dyn Write) -> crate::Result<()> {
        let mut line = |object: Json| {
            writeln!(out, "{object}").map_err(Error::system("cannot write the export"))
        };
        for row in self.runs()? {
            line(row)?;
        }
        for original in self.held()? {
            line(json!({
                "schema": EXPORT_SCHEMA, "kind": "original", "tunable": original.knob.tunable,
                "netns": original.knob.netns, "place": original.place, "value": original.value.to_string(),
                "first": original.first.to_string(),
            }))?;
        }
        for hold in self.holds()? {
            line(json!({
                "schema": EXPORT_SCHEMA, "kind": "hold", "tunable": hold.knob.tunable, "netns": hold.knob.netns,
                "since_unix_ms": hold.since, "by": hold.by, "value": hold.value,
            }))?;
        }
        for learned in self.all_learned()? {
            line(json!({
                "schema": EXPORT_SCHEMA, "kind": "learned", "tuner": learned.tuner, "tunable": learned.tunable,
                "place": learned.place, "fits": learned.fits, "state": learned.state,
            }))?;
        }
        let mut filter = filter.clone();
        loop {
            let page = self.page(&filter, PAGE)?;
            for found in &page.decisions {
                line(decision(found))?;
            }
            match page.next {
                Some(next) => filter.before = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn runs(&self) -> Result<Vec<Json>> {
        self.db
            .prepare("SELECT id, boot_id, pid, started, ended, mode, version, how FROM run ORDER BY id")
            .and_then(|mut statement| {
                statement
                    .query_map(params![], |row| {
                        Ok(json!({
                            "schema": EXPORT_SCHEMA, "kind": "run", "id": row.get::<_, i64>(0)?,
                            "boot_id": row.get::<_, String>(1)?, "pid": row.get::<_, i64>(2)?,
                            "started_unix_ms": row.get::<_, i64>(3)?, "ended_unix_ms": row.get::<_, Option<i64>>(4)?,
                            "mode": row.get::<_, String>(5)?, "version": row.get::<_, String>(6)?,
                            "how": row.get::<_, Option<String>>(7)?,
                        }))
                    })?
                    .collect()
            })
            .doing("read", &self.path)
    }
}
