//! What learners learned, and whether it still fits.

use std::fs;

use rusqlite::params;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Journal, Result, error::Doing, now_ms};
use crate::Machine;

/// What a learned state fits to. Where any part differs, the state is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The kernel's release.
    pub kernel: String,
    /// CPUs, memory and machine id.
    pub hardware: String,
    /// The part of the config that the learner follows, as text.
    pub config: String,
    /// The learner's name and version: "aimd/1".
    pub learner: String,
}

impl Fingerprint {
    /// That of this machine and kernel.
    ///
    /// # Errors
    /// Where /proc is not mounted.
    pub fn now(config: &str, learner: &str) -> crate::Result<Fingerprint> {
        let read = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let machine = Machine::now()?;
        // A kernel reserves a little more or less of the same memory.
        let gib = (machine.memory_total as f64 / f64::from(1 << 30)).round();
        Ok(Fingerprint {
            kernel: read("/proc/sys/kernel/osrelease"),
            hardware: format!(
                "{} CPUs, {gib} GiB, machine {}",
                machine.cpus,
                read("/etc/machine-id")
            ),
            config: config.to_owned(),
            learner: learner.to_owned(),
        })
    }

    /// The first thing that differs, for people.
    #[must_use]
    pub fn differs(&self, now: &Fingerprint) -> Option<String> {
        let Fingerprint {
            kernel,
            hardware,
            config,
            learner,
        } = self;
        [
            ("kernel", kernel, &now.kernel),
            ("hardware", hardware, &now.hardware),
            ("config", config, &now.config),
            ("learner", learner, &now.learner),
        ]
        .into_iter()
        .find(|(_, then, now)| then != now)
        .map(|(what, then, now)| format!("the {what} was {then}, it is {now}"))
    }
}

/// A learner's state for a tuner's tunable in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Whose.
    pub tuner: String,
    /// Dotted name.
    pub tunable: String,
    /// The way into the namespace, "host" for the host's own: cookies end with the boot.
    pub place: String,
    /// What it fits to.
    pub fits: Fingerprint,
    /// The state, with the learner's own version inside.
    pub state: Json,
}

/// A state that was dropped, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Whose.
    pub tuner: String,
    /// Dotted name.
    pub tunable: String,
    /// Where.
    pub place: String,
    /// What no longer fits.
    pub why: String,
}

impl Journal {
    /// Keeps states; each replaces the one before it. All of them are one group, which the next commit brings to disk:
    /// nobody waits for what a learner learned. SIGKILL loses nothing.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError). Then none was kept.
    pub fn learn(&mut self, states: &[Learned]) -> Result<()> {
        self.commits += 1;
        self.without_wait(|transaction| {
            for Learned {
                tuner,
                tunable,
                place,
                fits,
                state,
            } in states
            {
                transaction
                    .prepare_cached(
                        "INSERT OR REPLACE INTO learned (tuner, tunable, place, at, kernel, hardware, config, learner, state)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                    )?
                    .execute(params![
                        tuner,
                        tunable,
                        place,
                        now_ms(),
                        fits.kernel,
                        fits.hardware,
                        fits.config,
                        fits.learner,
                        state.to_string(),
                    ])?;
            }
            Ok(())
        })
    }

    /// A tuner's states that fit, tunable by tunable; `fits` says what each must fit to (`None`: nobody wants it). The
    /// others are deleted and named.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn learned(
        &mut self,
        tuner: &str,
        mut fits: impl FnMut(&Learned) -> Option<Fingerprint>,
    ) -> Result<(Vec<Learned>, Vec<Dropped>)> {
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for learned in self.select_learned("WHERE tuner = ?1", params![tuner])? {
            let why = match fits(&learned) {
                _ if learned.state.is_null() => Some("it is not readable".to_owned()),
                None => Some("nobody learns there any more".to_owned()),
                Some(now) => learned.fits.differs(&now),
            };
            match why {
                None => kept.push(learned),
                Some(why) => dropped.push(Dropped {
                    tuner: learned.tuner,
                    tunable: learned.tunable,
                    place: learned.place,
                    why,
                }),
            }
        }
        self.unlearn(&dropped)?;
        Ok((kept, dropped))
    }

    /// A tuner's states in one place.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError).
    pub fn learned_at(&self, tuner: &str, place: &str) -> Result<Vec<Learned>> {
        self.select_learned("WHERE tuner = ?1 AND place = ?2", params![tuner, place])
    }

    /// Deletes states.
    ///
    /// # Errors
    /// See [`JournalError`](super::JournalError). Then none was deleted.
    pub fn unlearn(&mut self, states: &[Dropped]) -> Result<()> {
        if states.is_empty() {
            return Ok(());
        }
        self.without_wait(|transaction| {
            for Dropped {
                tuner,
                tunable,
                place,
                why: _,
            } in states
            {
                transaction.execute(
                    "DELETE FROM learned WHERE tuner = ?1 AND tunable = ?2 AND place = ?3",
                    params![tuner, tunable, place],
                )?;
            }
            Ok(())
        })
    }

    pub(super) fn all_learned(&self) -> Result<Vec<Learned>> {
        if self.schema < 2 {
            return Ok(Vec::new());
        }
        self.select_learned("", params![])
    }

    fn select_learned(
        &self,
        condition: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<Learned>> {
        self.db
            .prepare_cached(&format!(
                "SELECT tuner, tunable, place, kernel, hardware, config, learner, state FROM learned {condition}
                 ORDER BY tuner, tunable, place"
            ))
            .and_then(|mut statement| {
                statement
                    .query_map(params, |row| {
                        let text: String = row.get(7)?;
                        Ok(Learned {
                            tuner: row.get(0)?,
                            tunable: row.get(1)?,
                            place: row.get(2)?,
                            fits: Fingerprint {
                                kernel: row.get(3)?,
                                hardware: row.get(4)?,
                                config: row.get(5)?,
                                learner: row.get(6)?,
                            },
                            // Not JSON: of no use, dropped by `learned`.
                            state: serde_json::from_str(&text).unwrap_or(Json::Null),
                        })
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })
            .doing("read", &self.path)
    }
}
