//! The record of every decision: an SQLite database, committed before the write it announces.
//!
//! `journal.db` in the state directory, write-ahead log, `synchronous=FULL`: when
//! [`Journal::intend`] returns, the announcement survives SIGKILL and power loss. Sysctls and
//! namespace cookies die with the boot, so every row carries the boot's id. `sqlite3 journal.db
//! 'select * from changes'` reads it.

mod diff;
mod error;
mod export;
mod holds;
mod learned;
mod model;
mod read;
mod retain;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, params};

use self::error::Doing;
pub use self::{
    diff::{Difference, Point},
    error::JournalError,
    export::EXPORT_SCHEMA,
    learned::{Dropped, Fingerprint, Learned},
    model::{Decision, DecisionId, Hold, NewDecision, Original, OriginalState, Verdict},
    read::{Filter, Page},
    retain::{Pruned, Retention},
};
use crate::{Knob, Value};

/// What became of a knob whose value was ours.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The knob with its original value.
    pub original: Original,
    /// What became of it.
    pub state: OriginalState,
    /// A word on it, or "".
    pub note: &'static str,
    /// Ours, where the original was written over it just now.
    pub wrote_over: Option<Value>,
}

const CLOSE: &str =
    "UPDATE original SET state = ?1, note = ?2 WHERE boot_id = ?3 AND netns = ?4 AND tunable = ?5";

macro_rules! close_params {
    ($state:expr, $note:expr, $boot:expr, $knob:expr) => {
        params![
            $state.word(),
            $note,
            $boot,
            $knob.netns.0 as i64,
            $knob.tunable
        ]
    };
}

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
    /// The file's schema: an older one only where it is read.
    schema: i64,
    touched: Vec<Touched>,
    /// Commits since the log was last written back.
    commits: u32,
}

/// So many commits go to the log before it is written back to the database.
const COMMITS: u32 = 192;

/// Something that the journal took down, for whoever watches.
#[derive(Clone, Debug, PartialEq)]
pub enum Touched {
    /// A decision was made, or something became of it.
    Decision(DecisionId),
    /// Its trial ended.
    Outcome(DecisionId),
    /// Somebody else wrote a knob.
    Hold(Hold),
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
        let journal = Journal::new(schema::open(&path)?, path)?;
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
        Journal::new(schema::open_read_only(&path)?, path)
    }

    fn new(db: Connection, path: PathBuf) -> Result<Journal> {
        let schema = schema::version(&db).doing("read", &path)?;
        Ok(Journal {
            db,
            path,
            boot: boot_id(),
            run: None,
            schema,
            touched: Vec::new(),
            commits: 0,
        })
    }

    /// Opens whatever is there, without asking whether it is whole: for salvage from a copy.
    pub(crate) fn open_unchecked(dir: &Path) -> Result<Journal> {
        let path = file(dir);
        Journal::new(Connection::open(&path).doing("open", &path)?, path)
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
        Ok(self.intend_all(std::slice::from_ref(decision))?[0])
    }

    /// Announces several writes in one commit: one wait for the disk, whatever their number.
    ///
    /// # Errors
    /// See [`JournalError`]; then none was recorded and none may be written.
    pub fn intend_all(&mut self, decisions: &[NewDecision<'_>]) -> Result<Vec<DecisionId>> {
        let path = self.path.clone();
        let transaction = self.db.transaction().doing("write", &path)?;
        let mut ids = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let (boot, run) = (&self.boot, self.run);
            let id = insert(&transaction, boot, run, decision, Verdict::Intended, "")
                .doing("write", &path)?;
            // A knob that was closed before starts anew with the value found now.
            transaction
                .prepare_cached(
                    "INSERT INTO original (boot_id, netns, tunable, place, value, first, state)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'held')
                     ON CONFLICT DO UPDATE SET place = ?4, value = ?5, first = ?6, state = 'held', note = ''
                     WHERE state <> 'held'",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        boot,
                        decision.knob.netns.0 as i64,
                        decision.knob.tunable,
                        decision.place,
                        decision.old.to_string(),
                        id.0
                    ])
                })
                .doing("write", &path)?;
            ids.push(id);
        }
        transaction.commit().doing("commit", &path)?;
        self.commits += 1;
        Ok(ids)
    }

    /// The announced write was made and read back.
    ///
    /// # Errors
    /// See [`Journal::applied_all`].
    pub fn applied(&mut self, id: DecisionId) -> Result<()> {
        self.applied_all(&[id])
    }

    /// The announced writes were made and read back.
    ///
    /// The next commit brings this one to disk: a busy disk takes tens of milliseconds, and the connections that the
    /// changes are for wait for their next step. SIGKILL loses nothing. A power cut may leave them announced, of
    /// values that went with the same power cut.
    ///
    /// # Errors
    /// See [`JournalError`]. The announcements stand, so nothing is lost.
    pub fn applied_all(&mut self, ids: &[DecisionId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let path = self.path.clone();
        let synchronous = |db: &Connection, how: &str| {
            db.pragma_update(None, "synchronous", how)
                .doing("write", &path)
        };
        synchronous(&self.db, "NORMAL")?;
        let done = (|| {
            let transaction = self.db.transaction()?;
            for id in ids {
                transaction
                    .prepare_cached("UPDATE decision SET verdict = 'applied' WHERE id = ?1")?
                    .execute(params![id.0])?;
            }
            transaction.commit()
        })()
        .doing("write", &path);
        // Whatever became of it: announcements must reach the disk.
        synchronous(&self.db, "FULL")?;
        self.touched
            .extend(ids.iter().copied().map(Touched::Decision));
        done
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
        self.touched.push(Touched::Decision(id));
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
        let id = insert(&self.db, &self.boot, self.run, decision, verdict, note)
            .doing("write", &self.path)?;
        self.commits += 1;
        self.touched.push(Touched::Decision(id));
        Ok(id)
    }

    /// Says what became of advice: [`Verdict::Approved`] or [`Verdict::Rejected`], and a note on it.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn advice(&mut self, id: DecisionId, verdict: Verdict, note: &str) -> Result<()> {
        self.execute(
            "UPDATE decision SET verdict = ?2, note = ?3 WHERE id = ?1",
            params![id.0, verdict.word(), note],
        )?;
        self.touched.push(Touched::Decision(id));
        Ok(())
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
        self.touched.push(Touched::Outcome(id));
        Ok(())
    }

    /// Records what a trial said and, as JSON, what it measured.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn trial(&mut self, id: DecisionId, text: &str, json: &str) -> Result<()> {
        self.execute(
            "UPDATE decision SET outcome = ?2, trial = ?3 WHERE id = ?1",
            params![id.0, text, json],
        )?;
        self.touched.push(Touched::Outcome(id));
        Ok(())
    }

    /// For when nothing waits: after many commits, writes the log back to the database, which takes longer than a
    /// commit. What is not done here is done when the journal is closed, and at the latest after 16 MiB.
    ///
    /// # Errors
    /// See [`JournalError`]. Nothing is lost.
    pub fn rest(&mut self) -> Result<()> {
        if self.commits < COMMITS {
            return Ok(());
        }
        self.commits = 0;
        self.db
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .doing("write back", &self.path)
    }

    /// What was taken down since the last call.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        std::mem::take(&mut self.touched)
    }

    /// Says what became of a knob's original value.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn close(&mut self, knob: &Knob, state: OriginalState, note: &str) -> Result<()> {
        self.execute(CLOSE, close_params!(state, note, self.boot, knob))?;
        Ok(())
    }

    /// The same for many knobs, in one commit. Where restoring wrote a value, that is a decision of its own.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn close_all(&mut self, closed: &[Closed]) -> Result<()> {
        let path = self.path.clone();
        let mut restored = Vec::new();
        (|| {
            let transaction = self.db.transaction()?;
            for Closed {
                original,
                state,
                note,
                wrote_over,
            } in closed
            {
                if let Some(old) = wrote_over {
                    let decision = NewDecision {
                        tuner: "engine",
                        scenario: "restore",
                        knob: &original.knob,
                        place: &original.place,
                        old,
                        new: &original.value,
                        reason: "the value from before the first change is put back",
                        signal: None,
                        reverts: None,
                    };
                    let (boot, run) = (&self.boot, self.run);
                    let verdict = Verdict::Restored;
                    restored.push(insert(&transaction, boot, run, &decision, verdict, "")?);
                }
                transaction.prepare_cached(CLOSE)?.execute(close_params!(
                    state,
                    note,
                    self.boot,
                    original.knob
                ))?;
            }
            transaction.commit()
        })()
        .doing("write", &path)?;
        self.touched
            .extend(restored.into_iter().map(Touched::Decision));
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
