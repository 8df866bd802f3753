//! The tables, and what may be opened.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{JournalError, error::Doing};

/// The schema that this version writes.
pub(super) const VERSION: i64 = STEPS.len() as i64;

/// How to come from each schema to the next, from none to 1 first. A step that was released never changes.
const STEPS: &[&str] = &[TABLES, LEARNED_AND_TRIALS];

/// Schema 1.
const TABLES: &str = "
CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,   -- unix milliseconds, as all times here
    ended INTEGER,              -- NULL: runs, or was killed
    mode TEXT NOT NULL,
    version TEXT NOT NULL,
    how TEXT                    -- how it ended
);
CREATE TABLE decision (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER REFERENCES run(id),
    at INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    tuner TEXT NOT NULL,
    scenario TEXT NOT NULL,
    tunable TEXT NOT NULL,
    netns INTEGER NOT NULL,     -- SO_NETNS_COOKIE
    place TEXT NOT NULL,        -- the way into the namespace
    verdict TEXT NOT NULL,      -- intended applied failed advised refused
    old TEXT NOT NULL,
    new TEXT NOT NULL,
    reason TEXT NOT NULL,
    signal TEXT,                -- JSON
    note TEXT NOT NULL DEFAULT '',
    reverts INTEGER REFERENCES decision(id),
    outcome TEXT NOT NULL DEFAULT ''  -- what its trial said
);
CREATE INDEX decision_knob ON decision (boot_id, netns, tunable);
CREATE TABLE original (
    boot_id TEXT NOT NULL,
    netns INTEGER NOT NULL,
    tunable TEXT NOT NULL,
    place TEXT NOT NULL,
    value TEXT NOT NULL,        -- before our first change
    first INTEGER NOT NULL REFERENCES decision(id),
    state TEXT NOT NULL,        -- held restored kept admin gone
    note TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (boot_id, netns, tunable)
);
CREATE TABLE hold (
    boot_id TEXT NOT NULL,
    netns INTEGER NOT NULL,
    tunable TEXT NOT NULL,
    since INTEGER NOT NULL,
    by TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (boot_id, netns, tunable)
);
CREATE VIEW changes AS
    SELECT 'D' || id AS id, datetime(at / 1000, 'unixepoch', 'localtime') AS time, tuner, tunable,
           place, old, new, verdict, outcome, reason
    FROM decision WHERE verdict IN ('intended', 'applied', 'failed') ORDER BY decision.id;
";

/// Schema 2: what trials measured, what learners learned, and what deleting old rows needs.
const LEARNED_AND_TRIALS: &str = "
ALTER TABLE decision ADD COLUMN trial TEXT;   -- JSON: windows, figures, uncertainty
CREATE TABLE learned (
    tuner TEXT NOT NULL,
    tunable TEXT NOT NULL,
    place TEXT NOT NULL,        -- namespaces' cookies end with the boot, their paths do not
    at INTEGER NOT NULL,
    kernel TEXT NOT NULL,       -- what the state fits to
    hardware TEXT NOT NULL,
    config TEXT NOT NULL,
    learner TEXT NOT NULL,      -- name and version
    state TEXT NOT NULL,        -- JSON
    PRIMARY KEY (tuner, tunable, place)
);
-- Deleting a decision asks who refers to it.
CREATE INDEX decision_reverts ON decision (reverts) WHERE reverts IS NOT NULL;
CREATE INDEX original_first ON original (first);
DROP VIEW changes;
CREATE VIEW changes AS
    SELECT 'D' || id AS id, datetime(at / 1000, 'unixepoch', 'localtime') AS time, tuner, tunable,
           place, old, new, verdict, outcome, reason
    FROM decision WHERE verdict IN ('intended', 'applied', 'failed', 'restored') ORDER BY decision.id;
";

fn newer(path: &Path, found: i64) -> JournalError {
    JournalError::Newer {
        path: path.to_owned(),
        found,
        known: VERSION,
    }
}

/// Checks a file without touching it, then opens it for writing.
pub(super) fn open(path: &Path) -> Result<Connection, JournalError> {
    let existed = path.metadata().is_ok_and(|meta| meta.len() > 0);
    if path.metadata().is_ok_and(|meta| meta.len() == 0) {
        return Err(JournalError::Damaged {
            path: path.to_owned(),
            detail: "the file is empty".into(),
        });
    }
    if existed {
        // A leftover -wal of a killed run is part of the file: reading needs it, and read-only
        // opening leaves both as they are.
        let _checked = open_read_only(path)?;
    }
    let connection = Connection::open(path).doing("open", path)?;
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA cache_size = -256; PRAGMA temp_store = MEMORY;
             PRAGMA busy_timeout = 2000; PRAGMA wal_autocheckpoint = 4000;",
        )
        .doing("prepare", path)?;
    if !existed {
        // Only before the first table.
        connection
            .execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")
            .doing("create", path)?;
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL;")
        .doing("prepare", path)?;
    migrate(&connection, STEPS).doing(if existed { "migrate" } else { "create" }, path)?;
    let auto_vacuum: i64 = connection
        .query_row("PRAGMA auto_vacuum", [], |row| row.get(0))
        .doing("read", path)?;
    // Of a schema 1 file. Without it deleted rows leave free pages that are used again: no harm.
    if auto_vacuum != INCREMENTAL
        && let Err(error) = connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;")
    {
        tracing::warn!("the journal {} will not shrink: {error}", path.display());
    }
    grow_log(&connection, path);
    Ok(connection)
}

/// Gives the write-ahead log its size at once. A commit that makes the file longer waits for the file system's own
/// journal too, which takes twice as long; one that writes over old frames does not. A transaction that outgrows the
/// page cache spills into the log, and that space stays after the rollback.
fn grow_log(connection: &Connection, path: &Path) {
    let free = nix::sys::statvfs::statvfs(path)
        .map_or(0, |disk| disk.blocks_available() * disk.fragment_size());
    if free < 32 * u64::from(LOG_BYTES) {
        return;
    }
    let grown = connection.execute_batch(&format!(
        "BEGIN; CREATE TABLE filler (x); INSERT INTO filler VALUES (zeroblob({LOG_BYTES})); ROLLBACK;"
    ));
    if let Err(error) = grown {
        tracing::debug!("the journal's log stays small: {error}");
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// More than what is written between two [checkpoints](super::Journal::rest).
const LOG_BYTES: u32 = 5 << 20;

/// `PRAGMA auto_vacuum`'s word for it.
const INCREMENTAL: i64 = 2;

/// The schema of an open file; 0 where it has no tables of ours.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Takes a file from its schema to the last of `steps`, each step in a transaction of its own: one that fails
/// leaves the file at the schema before it.
pub(super) fn migrate(connection: &Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let found = version(connection)?;
    for (to, step) in (1i64..).zip(steps).filter(|(to, _)| *to > found) {
        let done = connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {step} PRAGMA user_version = {to}; COMMIT;"
        ));
        if done.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        done?;
    }
    Ok(())
}

/// Opens an existing journal for reading.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, JournalError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).doing("open", path)?;
    connection
        .execute_batch("PRAGMA cache_size = -256; PRAGMA busy_timeout = 2000;")
        .doing("open", path)?;
    let version = version(&connection).doing("read", path)?;
    if version > VERSION {
        return Err(newer(path, version));
    }
    let check: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .doing("check", path)?;
    if check != "ok" || version == 0 {
        let detail = if version == 0 {
            "it holds no bpftune tables".into()
        } else {
            check
        };
        return Err(JournalError::Damaged {
            path: path.to_owned(),
            detail,
        });
    }
    Ok(connection)
}
