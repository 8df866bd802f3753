//! Old decisions go; what restoring needs stays.

use std::time::Duration;

use rusqlite::params;

use super::{Journal, Result, error::Doing, now_ms};
use crate::config::schema as config;

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Decisions older than this go.
    pub age: Duration,
    /// So many of the newest may stay.
    pub decisions: u64,
}

impl Default for Retention {
    /// 90 days, 100,000 decisions: some 60 MiB at most.
    fn default() -> Retention {
        Retention {
            age: Duration::from_secs(90 * 24 * 3600),
            decisions: 100_000,
        }
    }
}

impl From<&config::Journal> for Retention {
    fn from(config: &config::Journal) -> Retention {
        Retention {
            age: Duration::from_secs(config.keep_days * 24 * 3600),
            decisions: config.keep_decisions,
        }
    }
}

/// What pruning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Decisions deleted.
    pub decisions: usize,
    /// There is more to delete.
    pub more: bool,
}

/// States of learners that stay, the newest: namespaces with names of their own may come and go in any number.
const LEARNED: i64 = 10_000;

/// Pages given back to the file system in one go.
const VACUUM_PAGES: u32 = 256;

impl Journal {
    /// Deletes at most `limit` of the decisions that are past what is to be kept, oldest first, and gives free pages
    /// back. Never touches what restoring needs: the decisions on a knob whose value may be ours, this run, holds.
    /// A decision that took a deleted one back stays, and no longer names it. What was learned so long ago goes too.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError). Then nothing was deleted.
    pub fn prune(&mut self, keep: &Retention, limit: usize) -> Result<Pruned> {
        let path = self.path.clone();
        let oldest_at =
            now_ms().saturating_sub(i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX));
        let decisions = i64::try_from(keep.decisions).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let deleted = (|| {
            let transaction = self.db.transaction()?;
            transaction.execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS doomed (id INTEGER PRIMARY KEY); DELETE FROM doomed;",
            )?;
            let count = transaction.execute(
                "INSERT INTO doomed SELECT d.id FROM decision d
                 WHERE (d.at < ?1 OR d.id <= (SELECT max(id) FROM decision) - ?2)
                   AND NOT EXISTS (SELECT 1 FROM original o WHERE o.state IN ('held', 'kept') AND o.boot_id = d.boot_id
                                   AND o.netns = d.netns AND o.tunable = d.tunable AND d.id >= o.first)
                 ORDER BY d.id LIMIT ?3",
                params![oldest_at, decisions, limit],
            )?;
            if count > 0 {
                transaction.execute_batch(
                    "DELETE FROM original WHERE first IN (SELECT id FROM doomed);
                     UPDATE decision SET reverts = NULL WHERE reverts IN (SELECT id FROM doomed);
                     DELETE FROM decision WHERE id IN (SELECT id FROM doomed);
                     DELETE FROM doomed;",
                )?;
                transaction.execute(
                    "DELETE FROM run WHERE id < (SELECT min(run) FROM decision) AND id IS NOT ?1",
                    params![self.run],
                )?;
            }
            transaction.execute(
                "DELETE FROM learned WHERE at < ?1
                     OR at < (SELECT at FROM learned ORDER BY at DESC LIMIT 1 OFFSET ?2)",
                params![oldest_at, LEARNED - 1],
            )?;
            transaction.commit()?;
            Ok(count)
        })()
        .doing("prune", &path)?;
        if deleted > 0 {
            // A row a page: the pages are freed as the statement is stepped.
            self.db
                .prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))
                .and_then(|mut statement| {
                    let mut rows = statement.query([])?;
                    while rows.next()?.is_some() {}
                    Ok(())
                })
                .doing("shrink", &path)?;
        }
        Ok(Pruned {
            decisions: deleted,
            more: deleted as i64 == limit,
        })
    }
}
