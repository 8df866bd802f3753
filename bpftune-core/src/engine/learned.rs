//! What tuners learned: kept in the journal, given back after a restart.
//!
//! It is kept in turns of the loop that happen anyway, all tuners' together, without a wait for the disk: at once where
//! something was changed or tried, else at most every ten seconds, and at the end. A daemon that is killed between loses
//! that much of learning, and nothing else.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::Engine;
use crate::{
    Knob, Lesson, NetnsCookie, Scope,
    journal::{Dropped, Fingerprint, Learned},
};

/// Between two times that readings alone are kept.
const EVERY: Duration = Duration::from_secs(10);
/// Namespaces that are known to have been asked for. Once there were more, they are asked for again.
const MOST_MET: usize = 4096;

/// What the engine knows of it.
#[derive(Default)]
pub(super) struct Keeper {
    /// Kernel and hardware; `None` until the files have been taken up.
    machine: Option<Fingerprint>,
    last: Option<Instant>,
    /// A change was made or a trial ended in this turn.
    pub(super) at_once: bool,
}

/// What it knows for one tuner.
#[derive(Default)]
pub(super) struct Known {
    /// Whether it heard anything since it was asked last.
    pub(super) stirred: bool,
    /// What its learners follow, by tunable, as it was when its states were checked.
    follows: Vec<(String, String)>,
    /// Namespaces whose states it has been given.
    met: HashSet<NetnsCookie>,
}

/// Whether a place will be the same one after a restart.
fn lasts(place: &str) -> bool {
    place == "host" || (place.starts_with('/') && !place.starts_with("/proc/"))
}

impl Engine {
    /// The files are taken up: from now on states are checked as tuners come.
    pub(super) fn begin_learned(&mut self) {
        match Fingerprint::now("", "") {
            Ok(machine) => self.learned.machine = Some(machine),
            Err(error) => tracing::warn!("nothing that was learned is used or kept: {error}"),
        }
        for index in 0..self.tuners.len() {
            self.check_learned(index);
        }
    }

    /// A tuner that came later: it gets the learner that the files name, and what it learned in an earlier run.
    pub(super) fn welcome(&mut self, index: usize) {
        if self.learned.machine.is_some() {
            self.take_learners();
            self.check_learned(index);
        }
    }

    /// After new files: what a tuner learned under other words is forgotten.
    pub(super) fn recheck_learned(&mut self) {
        for index in 0..self.tuners.len() {
            if self.follows(index) == self.tuners[index].known.follows {
                continue;
            }
            let registered = &mut self.tuners[index];
            registered.tuner.set_learner(registered.learner.as_ref());
            self.check_learned(index);
        }
    }

    /// What in the files a tuner's learners go by, for each tunable that it learns about.
    fn follows(&self, index: usize) -> Vec<(String, String)> {
        let registered = &self.tuners[index];
        let learner = match &registered.learner {
            Some(spec) => serde_json::to_string(spec).unwrap_or_default(),
            None => "the tuner's own".into(),
        };
        let tunables = registered.tuner.tunables().into_iter();
        tunables
            .filter(|tunable| registered.tuner.learns(&tunable.name).is_some())
            .map(|tunable| {
                let bounds = self.governor.said_bounds(&tunable.name);
                (
                    tunable.name.into_owned(),
                    format!("learner {learner}{bounds}"),
                )
            })
            .collect()
    }

    fn fits(&self, index: usize, tunable: &str) -> Option<Fingerprint> {
        let registered = &self.tuners[index];
        let (_, follows) = registered
            .known
            .follows
            .iter()
            .find(|(name, _)| name == tunable)?;
        Some(Fingerprint {
            config: follows.clone(),
            learner: registered.tuner.learns(tunable)?,
            ..self.learned.machine.clone()?
        })
    }

    /// Deletes what a tuner learned that does not fit any more, and says so.
    fn check_learned(&mut self, index: usize) {
        let follows = self.follows(index);
        self.tuners[index].known = Known {
            follows,
            ..Known::default()
        };
        let name = self.tuners[index].tuner.name().to_owned();
        let fits: Vec<(String, Option<Fingerprint>)> = self.tuners[index]
            .known
            .follows
            .iter()
            .map(|(tunable, _)| (tunable.clone(), self.fits(index, tunable)))
            .collect();
        let fitting = |learned: &Learned| {
            let found = fits.iter().find(|(name, _)| *name == learned.tunable);
            found.and_then(|(_, fits)| fits.clone())
        };
        match self.journal.learned(&name, fitting) {
            Ok((kept, dropped)) => {
                if !kept.is_empty() {
                    let places: HashSet<&str> = kept.iter().map(|l| l.place.as_str()).collect();
                    tracing::info!(
                        "{name} goes on with what it learned before (states: {}, places: {})",
                        kept.len(),
                        places.len()
                    );
                }
                dropped.iter().for_each(say_dropped);
            }
            Err(error) => tracing::warn!("what {name} learned is not used: {error}"),
        }
        // Where it already waits for signals.
        let host = self.namespaces.own();
        self.give_back(index, host);
    }

    /// Before a tuner is asked about a namespace: what it learned there in an earlier run, once.
    pub(super) fn give_back(&mut self, index: usize, netns: NetnsCookie) {
        let known = &mut self.tuners[index].known;
        if known.follows.is_empty() {
            return;
        }
        if known.met.len() >= MOST_MET {
            known.met.clear();
        }
        if !known.met.insert(netns) {
            return;
        }
        // Its place is known once somebody has been there.
        let _ = self.namespaces.within(netns, || ());
        let place = self.namespaces.place(netns);
        if !lasts(&place) {
            return;
        }
        let registered = &mut self.tuners[index];
        let name = registered.tuner.name();
        let states = match self.journal.learned_at(name, &place) {
            Ok(states) => states,
            Err(error) => {
                tracing::warn!("what {name} learned in {place} is not used: {error}");
                return;
            }
        };
        let mut dropped = Vec::new();
        for learned in states {
            let lesson = Lesson {
                knob: Knob {
                    tunable: learned.tunable,
                    netns,
                },
                state: learned.state,
            };
            if let Err(why) = registered.tuner.recall(&lesson) {
                dropped.push(Dropped {
                    tuner: learned.tuner,
                    tunable: lesson.knob.tunable,
                    place: learned.place,
                    why,
                });
            }
        }
        dropped.iter().for_each(say_dropped);
        self.warn_on_error(|me| me.journal.unlearn(&dropped));
    }

    /// The end of a turn: what was learned goes to the journal, where it is time.
    pub(super) fn keep_learned(&mut self) {
        if self.tuners.iter().all(|t| !t.known.stirred) {
            return;
        }
        let recently = self.learned.last.is_some_and(|last| last.elapsed() < EVERY);
        if recently && !self.learned.at_once {
            return;
        }
        self.learned.at_once = false;
        self.learned.last = Some(Instant::now());
        let mut states = Vec::new();
        for index in 0..self.tuners.len() {
            let registered = &mut self.tuners[index];
            if !std::mem::take(&mut registered.known.stirred) {
                continue;
            }
            for lesson in registered.tuner.learned() {
                states.extend(self.state(index, lesson));
            }
        }
        if !states.is_empty() {
            self.warn_on_error(|me| me.journal.learn(&states));
        }
    }

    /// A lesson as the journal keeps it. `None` where its place does not outlive the daemon.
    fn state(&self, index: usize, lesson: Lesson) -> Option<Learned> {
        let Lesson { knob, state } = lesson;
        let global = self
            .governor
            .tunable(&knob.tunable)
            .is_some_and(|tunable| tunable.scope == Scope::Global);
        let netns = if global {
            self.namespaces.own()
        } else {
            knob.netns
        };
        let place = self.namespaces.place(netns);
        let fits = self.fits(index, &knob.tunable)?;
        lasts(&place).then(|| Learned {
            tuner: self.tuners[index].tuner.name().to_owned(),
            tunable: knob.tunable,
            place,
            fits,
            state,
        })
    }
}

fn say_dropped(dropped: &Dropped) {
    let Dropped {
        tuner,
        tunable,
        place,
        why,
    } = dropped;
    tracing::info!("what {tuner} learned of {tunable} in {place} is dropped: {why}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_outlive_a_daemon() {
        for (place, yes) in [
            ("host", true),
            ("/run/netns/web", true),
            ("/proc/42/ns/net", false),
            ("netns 4711", false),
        ] {
            assert_eq!(lasts(place), yes, "{place}");
        }
    }
}
