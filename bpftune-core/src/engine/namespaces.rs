//! Namespaces that are gone: what was changed there is let go of, with its share of the memory budget.
//!
//! The kernel tells when one ends that was changed in ([`Departures`]). Where it does not, one that is asked about again (a
//! signal, a trial, restoring) is found to be gone then; and the host is looked through each time that there is twice as much
//! to know.

use std::{collections::HashSet, os::fd::AsFd};

use nix::sys::epoll::EpollFlags;

use super::{Engine, TOKEN_DEPARTURES};
use crate::{Knob, NetnsCookie, Result};

/// With fewer changed parameters nobody looks.
const LEAST: usize = 64;

/// How many changed parameters there are when namespaces are looked through next.
#[derive(Debug)]
pub(super) struct NextLook(usize);

impl Default for NextLook {
    fn default() -> NextLook {
        NextLook(LEAST)
    }
}

impl NextLook {
    fn is_due(&self, changed: usize) -> bool {
        changed >= self.0
    }

    fn looked(&mut self, left: usize) {
        self.0 = (2 * left).max(LEAST);
    }
}

impl Engine {
    /// Hears of departures from now on, also from where an earlier run has changed something.
    pub(super) fn begin_departures(&mut self) -> Result<()> {
        if let Some(departures) = &self.departures {
            self.wait_for(departures.fd(), TOKEN_DEPARTURES, EpollFlags::EPOLLIN)?;
        }
        let places: HashSet<_> = self.originals.keys().map(|knob| knob.netns).collect();
        places
            .into_iter()
            .for_each(|netns| self.hear_of_its_end(netns));
        Ok(())
    }

    /// Something is changed in this namespace: its end is to be heard of.
    pub(super) fn hear_of_its_end(&mut self, netns: NetnsCookie) {
        let Some(departures) = &mut self.departures else {
            return;
        };
        if netns == self.namespaces.own() || departures.follows(netns) {
            return;
        }
        let Ok(open) = self.namespaces.open(netns) else {
            return;
        };
        if let Err(error) = departures.follow(netns, open.as_fd()) {
            tracing::debug!("the end of {netns} will not be heard of: {error}");
        }
    }

    /// The kernel told of departures.
    pub(super) fn departed(&mut self) {
        let Some(departures) = &mut self.departures else {
            return;
        };
        let departed = departures.heard();
        if departed.missed {
            self.look_through();
        }
        if !departed.gone.is_empty() {
            let gone: HashSet<_> = departed.gone.into_iter().collect();
            self.let_go_of(|netns| gone.contains(&netns));
        }
    }

    /// Looks through the host's namespaces where that is due.
    pub(super) fn let_go_of_gone(&mut self) {
        if self.next_look.is_due(self.originals.len()) {
            self.look_through();
        }
    }

    /// It takes some milliseconds, and less for each change the more there are.
    fn look_through(&mut self) {
        let there: HashSet<_> = self.namespaces.all().into_iter().collect();
        self.let_go_of(|netns| !there.contains(&netns));
        self.next_look.looked(self.originals.len());
    }

    fn let_go_of(&mut self, is_gone: impl Fn(NetnsCookie) -> bool) {
        let gone = |knob: &&Knob| is_gone(knob.netns);
        let knobs: Vec<Knob> = self.originals.keys().filter(gone).cloned().collect();
        for knob in &knobs {
            self.gone(knob, "its namespace is gone");
            self.namespaces.forget(knob.netns);
        }
        self.onset.retain(|(netns, _), _| !is_gone(*netns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_at_twice_what_is_left() {
        let mut next = NextLook::default();
        assert!(!next.is_due(LEAST - 1) && next.is_due(LEAST));
        next.looked(100);
        assert!(!next.is_due(199) && next.is_due(200));
        next.looked(3);
        assert!(next.is_due(LEAST) && !next.is_due(LEAST - 1));
    }
}
