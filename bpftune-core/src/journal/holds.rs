//! Knobs that somebody else wrote.

use rusqlite::params;

use super::{Hold, Journal, Result, Touched, error::Doing};
use crate::{Knob, NetnsCookie};

impl Journal {
    /// Leaves a knob to whoever wrote it.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn hold(&mut self, hold: &Hold) -> Result<()> {
        self.touched.push(Touched::Hold(hold.clone()));
        self.execute(
            "INSERT OR REPLACE INTO hold (boot_id, netns, tunable, since, by, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![self.boot, hold.knob.netns.0 as i64, hold.knob.tunable, hold.since, hold.by, hold.value],
        )?;
        Ok(())
    }

    /// The knobs that are left alone.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
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
    /// See [`JournalError`](super::JournalError).
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
}
