//! Namespaces that are gone: what was changed there is let go of.
//!
//! No hook of the kernel tells when a namespace ends. One that is asked about again (a signal, a trial, restoring) is found
//! to be gone then; containers that come and go are not asked about, and would leave their share of the memory budget and of
//! the daemon's memory behind. So the host is looked through each time that there is twice as much to know.

use std::collections::HashSet;

use super::Engine;
use crate::Knob;

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
    /// Looks through the host's namespaces where that is due. It takes some milliseconds, and less for each change the
    /// more there are.
    pub(super) fn let_go_of_gone(&mut self) {
        if !self.next_look.is_due(self.originals.len()) {
            return;
        }
        let there: HashSet<_> = self.namespaces.all().into_iter().collect();
        let is_gone = |knob: &&Knob| !there.contains(&knob.netns);
        let gone: Vec<Knob> = self.originals.keys().filter(is_gone).cloned().collect();
        for knob in &gone {
            self.gone(knob, "its namespace is gone");
        }
        self.next_look.looked(self.originals.len());
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
