//! What became of original values.

use rusqlite::params;

use super::{
    Journal, NewDecision, Original, OriginalState, Result, Touched, Verdict, error::Doing,
    write::insert,
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

impl Journal {
    /// Says what became of a knob's original value.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn close(&mut self, knob: &Knob, state: OriginalState, note: &str) -> Result<()> {
        self.execute(CLOSE, close_params!(state, note, self.boot, knob))?;
        Ok(())
    }

    /// The same for many knobs, in one commit. Where restoring wrote a value, that is a decision of its own.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
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

    /// Takes the originals that an earlier run kept on exit up again, so that they can be restored. `keeps`: this run keeps
    /// values too, so that they are [kept again](Journal::keep_adopted) where it ends uncleanly.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn adopt_kept(&mut self, keeps: bool) -> Result<usize> {
        let note = if keeps { ADOPTED } else { "" };
        // What could not be restored is not kept on purpose any more.
        self.execute(
            "UPDATE original SET note = '' WHERE state = 'held' AND note = ?1",
            params![ADOPTED],
        )?;
        self.execute(
            "UPDATE original SET state = 'held', note = ?2 WHERE state = 'kept' AND boot_id = ?1",
            params![self.boot, note],
        )
    }

    /// What the last run took over from one that kept it on purpose, and did not change, is kept again.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn keep_adopted(&mut self) -> Result<usize> {
        self.execute(
            "UPDATE original SET state = 'kept', note = '' WHERE state = 'held' AND note = ?2 AND boot_id = ?1
             AND NOT EXISTS (SELECT 1 FROM decision d WHERE d.boot_id = ?1 AND d.netns = original.netns
                 AND d.tunable = original.tunable AND d.run = (SELECT max(id) FROM run)
                 AND d.verdict IN ('intended', 'applied'))",
            params![self.boot, ADOPTED],
        )
    }
}

/// The note on an original that an earlier run kept, and this one took over.
const ADOPTED: &str = "kept by an earlier run";
