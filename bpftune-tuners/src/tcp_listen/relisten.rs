//! Listeners that run already get a changed limit.
//!
//! The length of a listener's queue is min(what `listen(2)` asked for, `somaxconn` at that time), and stays. Calling
//! `listen(2)` again changes it, without any effect on connections that wait. So a copy of the descriptor is taken
//! from its process (pidfd_getfd(2), Linux 5.6, CAP_SYS_PTRACE), `listen` is called on it, and the copy is closed.
//!
//! What an application asked for is not kept by the kernel. A queue as long as the old limit was cut down to it, or
//! asked for just that; a shorter one is the application's choice and stays.

use bpftune_core::{NetnsCookie, Result, bpf::Hooks};
use rustix::net::listen;

use crate::reach::{Done, Way, change};

/// Gives every listener of a namespace that the old limit had cut down the new one; on the way down those that have just
/// the old one. Those that are kept keep theirs until their application calls `listen(2)` again. `None` where the
/// iterator is off.
///
/// # Errors
/// Where the iterator over all descriptors fails.
pub(super) fn relisten(
    hooks: &Hooks,
    netns: NetnsCookie,
    old: u32,
    new: u32,
) -> Result<Option<Done>> {
    let concerned = |way: &Way| is_concerned(way, netns, old, new);
    // The kernel takes min(any length, somaxconn) for the queue.
    change(hooks, "listeners", concerned, |way| {
        listen(&way.copy()?, -1)
    })
}

/// Whether this listener's limit is to change.
fn is_concerned(way: &Way, netns: NetnsCookie, old: u32, new: u32) -> bool {
    let fits = if new > old {
        (old..new).contains(&way.size)
    } else {
        way.size == old
    };
    way.netns == netns && fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::{sent, sockets};

    #[test]
    fn only_what_was_cut_down_changes() {
        let all = [
            sent(7, 1, 10, 128, 80),
            sent(7, 1, 11, 128, 80),
            sent(7, 2, 12, 5, 80),
            sent(8, 3, 13, 128, 80),
            sent(7, 4, 14, 511, 80),
        ]
        .concat();
        let found = |old, new| -> Vec<(u64, usize)> {
            sockets(&all, |way| is_concerned(way, NetnsCookie(7), old, new))
                .iter()
                .map(|ways| (ways[0].inode, ways.len()))
                .collect()
        };
        assert_eq!(found(128, 512), [(1, 2), (4, 1)]);
        // On the way back.
        assert_eq!(found(511, 128), [(4, 1)]);
        assert_eq!(
            sockets(&all[..31], |way| is_concerned(way, NetnsCookie(7), 1, 2)),
            Vec::<Vec<Way>>::new()
        );
    }
}
