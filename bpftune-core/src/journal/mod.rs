//! The record of every decision: an SQLite database, committed before the write it announces.
//!
//! `journal.db` in the state directory, write-ahead log, `synchronous=FULL`: when
//! [`Journal::intend`] returns, the announcement survives SIGKILL and power loss. Sysctls and
//! namespace cookies die with the boot, so every row carries the boot's id. `sqlite3 journal.db
//! 'select * from changes'` reads it.

mod error;
mod model;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use self::error::Doing;
pub use self::{
    error::JournalError,
    model::{Decision, DecisionId, Hold, NewDecision, Original, OriginalState, Verdict},
};
use crate::{Knob, NetnsCookie, Value};

/// The journal's file in a state directory.
#[must_use]
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("journal.db")
}

/// The id of this boot, under which sysctls and cookies are known.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| "unknown".into(), |id| id.trim().into())
}

/// Unix milliseconds now.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

/// An open journal.
pub struct Journal {
    db: Connection,
    path: PathBuf,
    boot: String,
    run: Option<i64>,
}

type Result<T> = std::result::Result<T, JournalError>;

impl Journal {
    /// Opens the journal for writing, or makes it. Originals of earlier boots are closed: their
    /// values went with the reboot.
    ///
    /// # Errors
    /// See [`JournalError`]. A damaged or newer file is left byte for byte as it is.
    pub fn open(state_dir: &Path) -> Result<Journal> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(|source| JournalError::Dir {
                path: state_dir.to_owned(),
                source,
            })?;
        let path = file(state_dir);
        let journal = Journal {
            db: schema::open(&path)?,
            path,
            boot: boot_id(),
            run: None,
        };
        journal.execute(
            "UPDATE original SET state = 'gone', note = 'the value went with the reboot'
             WHERE state = 'held' AND boot_id <> ?1",
            params![journal.boot],
        )?;
        journal.execute(
            "DELETE FROM hold WHERE boot_id <> ?1",
            params![journal.boot],
        )?;
        Ok(journal)
    }

    /// Opens an existing journal for reading, also while a daemon writes it.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open_read_only(state_dir: &Path) -> Result<Journal> {
        let path = file(state_dir);
        if !path.exists() {
            return Err(JournalError::Missing { path });
        }
        Ok(Journal {
            db: schema::open_read_only(&path)?,
            path,
            boot: boot_id(),
            run: None,
        })
    }

    /// Opens whatever is there, without asking whether it is whole: for salvage from a copy.
    pub(crate) fn open_unchecked(dir: &Path) -> Result<Journal> {
        let path = file(dir);
        let db = Connection::open(&path).doing("open", &path)?;
        Ok(Journal {
            db,
            path,
            boot: boot_id(),
            run: None,
        })
    }

    fn execute(&self, sql: &str, params: impl rusqlite::Params) -> Result<usize> {
        self.db.execute(sql, params).doing("write", &self.path)
    }

    /// Notes that a daemon starts.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn begin_run(&mut self, mode: &str, version: &str) -> Result<()> {
        self.execute(
            "INSERT INTO run (boot_id, pid, started, mode, version) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![self.boot, std::process::id(), now_ms(), mode, version],
        )?;
        self.run = Some(self.db.last_insert_rowid());
        Ok(())
    }

    /// Notes that it ends.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn end_run(&mut self, how: &str) -> Result<()> {
        self.execute(
            "UPDATE run SET ended = ?1, how = ?2 WHERE id = ?3",
            params![now_ms(), how, self.run],
        )?;
        Ok(())
    }

    /// Announces a write: when this returns, the decision and the knob's original value are on disk.
    ///
    /// # Errors
    /// See [`JournalError`]; then nothing was recorded and nothing may be written.
    pub fn intend(&mut self, decision: &NewDecision<'_>) -> Result<DecisionId> {
        let path = self.path.clone();
        let transaction = self.db.transaction().doing("write", &path)?;
        let id = insert(
            &transaction,
            &self.boot,
            self.run,
            decision,
            Verdict::Intended,
            "",
        )
        .doing("write", &path)?;
        // A knob that was closed before starts anew with the value found now.
        transaction
            .execute(
                "INSERT INTO original (boot_id, netns, tunable, place, value, first, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'held')
                 ON CONFLICT DO UPDATE SET place = ?4, value = ?5, first = ?6, state = 'held', note = ''
                 WHERE state <> 'held'",
                params![
                    self.boot,
                    decision.knob.netns.0 as i64,
                    decision.knob.tunable,
                    decision.place,
                    decision.old.to_string(),
                    id.0
                ],
            )
            .doing("write", &path)?;
        transaction.commit().doing("commit", &path)?;
        Ok(id)
    }

    /// The announced write was made and read back.
    ///
    /// The next commit brings this one to disk: a busy disk takes tens of milliseconds, and the connection that the
    /// change is for waits for its next step. SIGKILL loses nothing. A power cut may leave it announced, of a value
    /// that went with the same power cut.
    ///
    /// # Errors
    /// See [`JournalError`]. The announcement stands, so nothing is lost.
    pub fn applied(&mut self, id: DecisionId) -> Result<()> {
        let synchronous = |how: &str| {
            self.db
                .pragma_update(None, "synchronous", how)
                .doing("write", &self.path)
        };
        synchronous("NORMAL")?;
        let done = self.execute(
            "UPDATE decision SET verdict = 'applied' WHERE id = ?1",
            params![id.0],
        );
        // Whatever became of it: announcements must reach the disk.
        synchronous("FULL")?;
        done.map(drop)
    }

    /// The kernel refused the announced write.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn failed(&mut self, id: DecisionId, error: &str) -> Result<()> {
        self.execute(
            "UPDATE decision SET verdict = 'failed', note = ?2 WHERE id = ?1",
            params![id.0, error],
        )?;
        Ok(())
    }

    /// Records a decision that no write follows.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn record(
        &mut self,
        decision: &NewDecision<'_>,
        verdict: Verdict,
        note: &str,
    ) -> Result<DecisionId> {
        insert(&self.db, &self.boot, self.run, decision, verdict, note).doing("write", &self.path)
    }

    /// Records what a trial said.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn outcome(&mut self, id: DecisionId, text: &str) -> Result<()> {
        self.execute(
            "UPDATE decision SET outcome = ?2 WHERE id = ?1",
            params![id.0, text],
        )?;
        Ok(())
    }

    /// The knobs of this boot whose value may be ours.
    ///
    /// # Errors
    /// See [`JournalError`].
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
                           AND d.id >= o.first AND d.verdict IN ('intended', 'applied', 'failed'))
                 FROM original o WHERE o.state = 'held' AND (?1 IS NULL OR o.boot_id = ?1) ORDER BY o.first",
            )
            .doing("read", &self.path)?;
        let rows = statement
            .query_map(params![boot], |row| {
                let value: String = row.get(3)?;
                let ours: Option<String> = row.get(5)?;
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
                    first: DecisionId(row.get(4)?),
                })
            })
            .doing("read", &self.path)?;
        rows.collect::<rusqlite::Result<_>>()
            .doing("read", &self.path)
    }

    /// Says what became of a knob's original value.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn close(&mut self, knob: &Knob, state: OriginalState, note: &str) -> Result<()> {
        self.execute(
            "UPDATE original SET state = ?1, note = ?2 WHERE boot_id = ?3 AND netns = ?4 AND tunable = ?5",
            params![state.word(), note, self.boot, knob.netns.0 as i64, knob.tunable],
        )?;
        Ok(())
    }

    /// Takes the originals that an earlier run kept on exit up again, so that they can be restored.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn adopt_kept(&mut self) -> Result<usize> {
        self.execute(
            "UPDATE original SET state = 'held', note = '' WHERE state = 'kept' AND boot_id = ?1",
            params![self.boot],
        )
    }

    /// Leaves a knob to whoever wrote it.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn hold(&mut self, hold: &Hold) -> Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO hold (boot_id, netns, tunable, since, by, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![self.boot, hold.knob.netns.0 as i64, hold.knob.tunable, hold.since, hold.by, hold.value],
        )?;
        Ok(())
    }

    /// The knobs that are left alone.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn holds(&self) -> Result<Vec<Hold>> {
        let mut statement = self
            .db
            .prepare("SELECT netns, tunable, since, by, value FROM hold WHERE boot_id = ?1 ORDER BY since")
            .doing("read", &self.path)?;
        let rows = statement
            .query_map(params![self.boot], |row| {
                Ok(Hold {
                    knob: Knob {
                        netns: NetnsCookie(row.get::<_, i64>(0)? as u64),
                        tunable: row.get(1)?,
                    },
                    since: row.get(2)?,
                    by: row.get(3)?,
                    value: row.get(4)?,
                })
            })
            .doing("read", &self.path)?;
        rows.collect::<rusqlite::Result<_>>()
            .doing("read", &self.path)
    }

    /// Takes back the holds on one tunable or all, in one namespace or all, and names them.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn rearm(
        &mut self,
        tunable: Option<&str>,
        netns: Option<NetnsCookie>,
    ) -> Result<Vec<Hold>> {
        let taken: Vec<Hold> = self
            .holds()?
            .into_iter()
            .filter(|hold| {
                tunable.is_none_or(|t| t == hold.knob.tunable)
                    && netns.is_none_or(|n| n == hold.knob.netns)
            })
            .collect();
        for hold in &taken {
            self.execute(
                "DELETE FROM hold WHERE boot_id = ?1 AND netns = ?2 AND tunable = ?3",
                params![self.boot, hold.knob.netns.0 as i64, hold.knob.tunable],
            )?;
        }
        Ok(taken)
    }

    /// The last decisions, newest first.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn history(&self, limit: usize) -> Result<Vec<Decision>> {
        let mut statement = self
            .db
            .prepare(&format!("{SELECT_DECISION} ORDER BY id DESC LIMIT ?1"))
            .doing("read", &self.path)?;
        let rows = statement
            .query_map(params![limit as i64], decision_row)
            .doing("read", &self.path)?;
        rows.collect::<rusqlite::Result<_>>()
            .doing("read", &self.path)
    }

    /// One decision.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn decision(&self, id: DecisionId) -> Result<Option<Decision>> {
        self.db
            .query_row(
                &format!("{SELECT_DECISION} WHERE id = ?1"),
                params![id.0],
                decision_row,
            )
            .optional()
            .doing("read", &self.path)
    }
}

const SELECT_DECISION: &str = "SELECT id, at, tuner, scenario, netns, tunable, place, verdict, old, new, reason, \
                               signal, note, reverts, outcome FROM decision";

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
    })
}

fn insert(
    db: &Connection,
    boot: &str,
    run: Option<i64>,
    decision: &NewDecision<'_>,
    verdict: Verdict,
    note: &str,
) -> rusqlite::Result<DecisionId> {
    let NewDecision {
        tuner,
        scenario,
        knob,
        place,
        old,
        new,
        reason,
        signal,
        reverts,
    } = decision;
    db.prepare_cached(
        "INSERT INTO decision (run, at, boot_id, tuner, scenario, netns, tunable, place, verdict, old, new,
                               reason, signal, note, reverts)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?
    .execute(params![
        run,
        now_ms(),
        boot,
        tuner,
        scenario,
        knob.netns.0 as i64,
        knob.tunable,
        place,
        verdict.word(),
        old.to_string(),
        new.to_string(),
        reason,
        signal.map(|signal| serde_json::to_string(signal).unwrap_or_default()),
        note,
        reverts.map(|id| id.0),
    ])?;
    Ok(DecisionId(db.last_insert_rowid()))
}
