//! The watchdog's place in the loop.

use std::time::Instant;

use nix::sys::epoll::EpollFlags;

use super::{
    Engine, TOKEN_HARM,
    batch::{self, Change},
    operator::Rest,
};
use crate::{
    Signal,
    journal::DecisionId,
    sysctl,
    watchdog::{Harm, Recent},
};

impl Engine {
    /// A change was just made.
    pub(super) fn remember(&mut self, id: DecisionId, change: &Change) {
        self.hear_of_its_end(change.knob.netns);
        let awake = self.watchdog.changed(Recent {
            id,
            tuner: change.tuner.clone(),
            knob: change.knob.clone(),
            old: change.old.clone(),
            at: Instant::now(),
        });
        if awake {
            for (source, fd) in self.watchdog.fds() {
                // Not EPOLLIN: a PSI file can always be read, and the loop would never sleep.
                let token = TOKEN_HARM + source as u64;
                if let Err(error) = self.wait_for(fd, token, EpollFlags::EPOLLPRI) {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    /// Looks for harm to the host, at all sources or at one. A descriptor that is closed afterwards leaves the epoll
    /// set by itself.
    pub(super) fn watch(&mut self, only: Option<usize>) {
        if let Some(harm) = self
            .watchdog
            .look(Instant::now(), only, &mut self.namespaces)
        {
            self.take_all_back(&harm);
        }
    }

    /// Every recent change goes back, in one commit of the journal; their tuners rest.
    fn take_all_back(&mut self, harm: &Harm) {
        self.carry_out();
        let now = Instant::now();
        let mut changes = Vec::new();
        let mut tuners = Vec::new();
        for (first, newest) in self.watchdog.take_recent() {
            let knob = &first.knob;
            self.end_trial(knob);
            let Ok(current) = sysctl::read(&mut self.namespaces, knob) else {
                continue;
            };
            let why = format!(
                "the watchdog takes back every recent change ({newest} here): {}",
                harm.what
            );
            let Some(change) = self.putting_back(knob, current, &first.old, newest, &why) else {
                continue;
            };
            self.governor.harmed(knob, now);
            if !tuners.contains(&first.tuner) {
                tuners.push(first.tuner.clone());
            }
            changes.push(Change {
                tuner: first.tuner,
                signal: Some(Signal {
                    scenario: batch::WATCHDOG.into(),
                    netns: knob.netns,
                    subject: harm.what.clone(),
                    count: 1,
                    figures: harm.figures.clone(),
                }),
                averts_harm: true,
                ..change
            });
        }
        let done = self.apply_all(&changes).iter().flatten().count();
        self.announce(
            "watchdog",
            &format!(
                "watchdog: {}: {done} of {} recent changes are put back",
                harm.what,
                changes.len()
            ),
        );
        for change in &changes {
            let Some(id) = change.reverts else { continue };
            let text = format!(
                "worse: the watchdog took it back with every recent change: {}",
                harm.what
            );
            self.warn_on_error(|me| me.journal.outcome(id, &text));
        }
        for tuner in tuners {
            if matches!(self.operator.rest(&tuner, now), Some(Rest::Disabled)) {
                continue;
            }
            let how_long = self.watchdog.rest(&tuner, now);
            self.operator
                .set(Some(&tuner), Some(Rest::paused(now, how_long)));
            self.announce(
                "tuner",
                &format!("{tuner} rests for {} s", how_long.as_secs()),
            );
        }
    }
}
