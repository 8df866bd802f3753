//! The record of every decision: an SQLite database, committed before the write it announces.
//!
//! `journal.db` in the state directory, write-ahead log, `synchronous=FULL`: when
//! [`Journal::intend`] returns, the announcement survives SIGKILL and power loss. Sysctls and
//! namespace cookies die with the boot, so every row carries the boot's id. `sqlite3 journal.db
//! 'select * from changes'` reads it.

mod close;
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
mod write;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, params};

use self::error::Doing;
pub use self::{
    close::Closed,
    diff::{Difference, Point},
    error::JournalError,
    export::EXPORT_SCHEMA,
    learned::{Dropped, Fingerprint, Learned},
    model::{Decision, DecisionId, Hold, NewDecision, Original, OriginalState, Verdict},
    read::{Filter, Page},
    retain::{Pruned, Retention},
};

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
}
