//! Decisions on their way to disk.

use rusqlite::{Connection, Transaction, params};

use super::{DecisionId, Journal, NewDecision, Result, Touched, Verdict, error::Doing, now_ms};
use crate::Value;

impl Journal {
    /// Announces a write: when this returns, the decision and the knob's original value are on disk.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError); then nothing was recorded and nothing may be written.
    pub fn intend(&mut self, decision: &NewDecision<'_>) -> Result<DecisionId> {
        Ok(self.intend_all(std::slice::from_ref(decision))?[0])
    }

    /// Announces several writes in one commit: one wait for the disk, whatever their number.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError); then none was recorded and none may be written.
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
    /// See [`JournalError`](super::JournalError). The announcements stand, so nothing is lost.
    pub fn applied_all(&mut self, ids: &[DecisionId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let done = self.without_wait(|transaction| {
            for id in ids {
                transaction
                    .prepare_cached("UPDATE decision SET verdict = 'applied' WHERE id = ?1")?
                    .execute(params![id.0])?;
            }
            Ok(())
        });
        self.touched
            .extend(ids.iter().copied().map(Touched::Decision));
        done
    }

    /// A transaction that the next commit brings to disk. SIGKILL loses nothing of it; a power cut may lose it whole.
    pub(super) fn without_wait(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let path = self.path.clone();
        let synchronous = |db: &Connection, how: &str| {
            db.pragma_update(None, "synchronous", how)
                .doing("write", &path)
        };
        synchronous(&self.db, "NORMAL")?;
        let done = self
            .db
            .transaction()
            .and_then(|transaction| {
                write(&transaction)?;
                transaction.commit()
            })
            .doing("write", &path);
        // Whatever became of it: announcements must reach the disk.
        synchronous(&self.db, "FULL")?;
        done
    }

    /// The kernel made another value of the announced one: that is what was changed to. When this returns it is on
    /// disk.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError). Then the value is nobody's in the journal, and must not stay.
    pub fn rounded(&mut self, id: DecisionId, found: &Value) -> Result<()> {
        self.execute(
            "UPDATE decision SET note = 'the kernel made \"' || ?2 || '\" of \"' || new || '\"', new = ?2
             WHERE id = ?1",
            params![id.0, found.to_string()],
        )?;
        self.touched.push(Touched::Decision(id));
        Ok(())
    }

    /// The kernel refused the announced write.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
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
    /// See [`JournalError`](super::JournalError).
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
    /// See [`JournalError`](super::JournalError).
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
    /// See [`JournalError`](super::JournalError).
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
    /// See [`JournalError`](super::JournalError).
    pub fn trial(&mut self, id: DecisionId, text: &str, json: &str) -> Result<()> {
        self.execute(
            "UPDATE decision SET outcome = ?2, trial = ?3 WHERE id = ?1",
            params![id.0, text, json],
        )?;
        self.touched.push(Touched::Outcome(id));
        Ok(())
    }
}

pub(super) fn insert(
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
