//! Counters read again and again, but only while something goes on.
//!
//! Many limits of the kernel are hit where no stable hook runs; the kernel only counts it. Counters alone would have to
//! be polled for ever. So a hook nearby that does run says where something may go on ([`Rounds::keep`]), and
//! from then on the counters of that namespace are read in rounds, until enough of them in a row had nothing to tell.
//! With nothing going on there is no timer, and the daemon sleeps.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use crate::{
    Error, NetnsCookie, Result,
    netns::Namespaces,
    trial::{Counter, ProcMeter, Snapshot},
};

/// Namespaces watched at once, at most: more events than these are news of others next time.
const MOST: usize = 64;

/// The rounds of a source.
#[derive(Debug)]
pub struct Rounds {
    timer: TimerFd,
    counters: Vec<Counter>,
    every: Duration,
    patience: u32,
    watched: BTreeMap<NetnsCookie, Watched>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Watched {
    last: Snapshot,
    /// Rounds that are left.
    left: u32,
}

/// What the counters of a namespace did in a round.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    /// Where.
    pub netns: NetnsCookie,
    /// From the round before.
    pub over: Duration,
    /// What each counter grew by, in the order that they were named; 0 where this kernel has no such counter or it was
    /// set back.
    pub grew: Vec<f64>,
    /// What each reads now; not a number where this kernel has none.
    pub now: Vec<f64>,
    /// No further round follows unless [`Rounds::keep`] asks for more.
    pub last: bool,
}

impl Rounds {
    /// Rounds of these counters, so often, and so many after the last [`keep`](Rounds::keep).
    ///
    /// # Errors
    /// Where no timer can be made.
    pub fn new(counters: Vec<Counter>, every: Duration, patience: u32) -> Result<Rounds> {
        Ok(Rounds {
            timer: TimerFd::new(
                ClockId::CLOCK_MONOTONIC,
                TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
            )
            .map_err(Error::system("timerfd_create"))?,
            counters,
            every,
            patience: patience.max(1),
            watched: BTreeMap::new(),
            due: None,
        })
    }

    /// Readable where a round is due.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Something goes on in a namespace: it is looked at in the next rounds. The first reading is taken now. `false` where
    /// it cannot be entered, or too many are watched.
    ///
    /// # Errors
    /// Where the timer cannot be set.
    pub fn keep(&mut self, netns: NetnsCookie, namespaces: &mut Namespaces) -> Result<bool> {
        if let Some(watched) = self.watched.get_mut(&netns) {
            watched.left = self.patience;
            return Ok(true);
        }
        if self.watched.len() >= MOST {
            return Ok(false);
        }
        let Some(last) = self.read(netns, namespaces) else {
            return Ok(false);
        };
        let left = self.patience;
        self.watched.insert(netns, Watched { last, left });
        self.arm()?;
        Ok(true)
    }

    /// Whether a namespace is watched now.
    #[must_use]
    pub fn watches(&self, netns: NetnsCookie) -> bool {
        self.watched.contains_key(&netns)
    }

    /// Reads the counters of every namespace that is watched, where a round is due. Namespaces that are gone are
    /// forgotten.
    ///
    /// # Errors
    /// Where the timer cannot be set.
    pub fn look(&mut self, namespaces: &mut Namespaces) -> Result<Vec<Round>> {
        if self.due.is_none_or(|due| due > Instant::now()) {
            return Ok(Vec::new());
        }
        // Takes the expiration, so that the descriptor is no longer readable.
        let _ = self.timer.wait();
        self.due = None;
        let mut rounds = Vec::new();
        for netns in self.watched.keys().copied().collect::<Vec<_>>() {
            let Some(now) = self.read(netns, namespaces) else {
                self.watched.remove(&netns);
                continue;
            };
            let watched = self.watched.get_mut(&netns).expect("one of its keys");
            watched.left -= 1;
            rounds.push(round(netns, &watched.last, &now, watched.left == 0));
            watched.last = now;
            if watched.left == 0 {
                self.watched.remove(&netns);
            }
        }
        self.arm()?;
        Ok(rounds)
    }

    fn read(&self, netns: NetnsCookie, namespaces: &mut Namespaces) -> Option<Snapshot> {
        namespaces
            .within(netns, || {
                Snapshot::read(&self.counters, &mut ProcMeter::default())
            })
            .ok()
    }

    /// Sets the timer for the next round where anything is watched and none is set.
    fn arm(&mut self) -> Result<()> {
        if self.due.is_some() || self.watched.is_empty() {
            return Ok(());
        }
        self.due = Some(Instant::now() + self.every);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(self.every));
        self.timer
            .set(expiration, TimerSetTimeFlags::empty())
            .map_err(Error::system("timerfd_settime"))
    }
}

fn round(netns: NetnsCookie, before: &Snapshot, now: &Snapshot, last: bool) -> Round {
    let grew = before.values.iter().zip(&now.values).map(|(before, now)| {
        let grew = now - before;
        if grew > 0.0 { grew } else { 0.0 }
    });
    Round {
        netns,
        over: now.at.duration_since(before.at),
        grew: grew.collect(),
        now: now.values.clone(),
        last,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(rounds: &Rounds) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(rounds.fd(), PollFlags::POLLIN)];
        poll(&mut fds, 300u16).unwrap() == 0
    }

    #[test]
    fn a_counter_that_was_set_back_has_not_grown() {
        let at = Instant::now();
        let snapshot = |values: &[f64]| Snapshot {
            at,
            values: values.to_vec(),
        };
        let before = snapshot(&[5.0, 4294967290.0, f64::NAN]);
        let round = round(
            NetnsCookie(1),
            &before,
            &snapshot(&[8.0, 4.0, f64::NAN]),
            false,
        );
        assert_eq!(round.grew, [3.0, 0.0, 0.0]);
    }

    #[test]
    fn the_timer_runs_only_while_something_goes_on() {
        let mut namespaces = Namespaces::new().unwrap();
        let own = namespaces.own();
        let counters = vec![Counter::net("Tcp", "OutSegs")];
        let mut rounds = Rounds::new(counters, Duration::from_millis(10), 2).unwrap();
        assert!(waits(&rounds), "nothing was asked for");
        assert!(rounds.keep(own, &mut namespaces).unwrap());
        for last in [false, true] {
            assert!(!waits(&rounds), "a round is due");
            let seen = rounds.look(&mut namespaces).unwrap();
            assert_eq!((seen.len(), seen[0].last), (1, last));
            assert!(seen[0].over >= Duration::from_millis(10));
        }
        assert!(!rounds.watches(own) && waits(&rounds), "patience is over");
    }

    #[test]
    fn a_namespace_that_is_gone_is_not_watched() {
        let mut namespaces = Namespaces::new().unwrap();
        let mut rounds = Rounds::new(Vec::new(), Duration::from_millis(1), 3).unwrap();
        assert!(!rounds.keep(NetnsCookie(u64::MAX), &mut namespaces).unwrap());
        assert!(waits(&rounds));
    }
}
