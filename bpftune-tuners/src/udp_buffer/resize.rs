//! Sockets that lost datagrams get a changed default at once.
//!
//! `net.core.rmem_default` is read when a socket is made. A server that runs keeps what it got then, so raising the
//! default alone would help it after its next restart. Its socket is therefore resized too, by a copy of the
//! descriptor; only where its buffer has just the old default's size, and only on ports that lost datagrams.
//!
//! SO_RCVBUFFORCE also marks the size as fixed by the application (SOCK_RCVBUF_LOCK). For a UDP socket nothing in the
//! kernel asks for that mark; an application that sets a size later gets it.

use std::collections::HashSet;

use bpftune_core::{NetnsCookie, Result, bpf::Hooks};
use rustix::net::sockopt;

use crate::reach::{Done, Way, change};

/// Where a socket is bound.
pub(super) type Port = (NetnsCookie, u16);

/// Resizes sockets on these ports that have the old size. Those that are kept keep it until they are made anew. `None`
/// where the iterator is off.
///
/// # Errors
/// Where the iterator over all descriptors fails.
pub(super) fn resize(
    hooks: &Hooks,
    ports: &HashSet<Port>,
    old: u32,
    new: u32,
) -> Result<Option<Done>> {
    let concerned = |way: &Way| is_concerned(way, ports, old);
    change(hooks, "sockets", concerned, |way| {
        // The kernel takes twice what it is given.
        sockopt::set_socket_recv_buffer_size_force(way.copy()?, new as usize / 2)
    })
}

fn is_concerned(way: &Way, ports: &HashSet<Port>, old: u32) -> bool {
    way.size == old && ports.contains(&(way.netns, way.port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::{sent, sockets};

    #[test]
    fn only_sockets_of_the_old_size_on_ports_that_lost_something() {
        let all = [
            sent(7, 1, 10, 212_992, 53),
            sent(7, 1, 11, 212_992, 53),
            sent(7, 2, 12, 65_536, 53),
            sent(7, 3, 13, 212_992, 123),
            sent(8, 4, 14, 212_992, 53),
        ]
        .concat();
        let ports = HashSet::from([(NetnsCookie(7), 53)]);
        let found = sockets(&all, |way| is_concerned(way, &ports, 212_992));
        assert_eq!((found.len(), found[0].len(), found[0][0].inode), (1, 2, 1));
        assert!(sockets(&all[..31], |way| is_concerned(way, &ports, 212_992)).is_empty());
    }
}
