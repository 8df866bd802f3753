//! Sockets that lost datagrams get a changed default at once.
//!
//! `net.core.rmem_default` is read when a socket is made. A server that runs keeps what it got then, so raising the
//! default alone would help it after its next restart. Its socket is therefore resized too, by a copy of the
//! descriptor; only where its buffer has just the old default's size, and only on ports that lost datagrams.
//!
//! SO_RCVBUFFORCE also marks the size as fixed by the application (SOCK_RCVBUF_LOCK). For a UDP socket nothing in the
//! kernel asks for that mark; an application that sets a size later gets it.

use std::collections::{BTreeMap, HashSet};

use bpftune_core::{
    NetnsCookie, Result,
    bpf::{Fields, Hooks},
};
use rustix::net::sockopt;

use crate::reach::copy_of;

/// Where a socket is bound.
pub(super) type Port = (NetnsCookie, u16);

/// `struct udp_socket` of the BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    port: Port,
    inode: u64,
    process: u32,
    descriptor: u32,
    buffer: u32,
}

impl Socket {
    const SIZE: usize = 32;

    fn parse(bytes: &[u8]) -> Option<Socket> {
        let bytes = Fields(bytes);
        Some(Socket {
            port: (NetnsCookie(bytes.u64(0)?), bytes.u32(28)? as u16),
            inode: bytes.u64(8)?,
            process: bytes.u32(16)?,
            descriptor: bytes.u32(20)?,
            buffer: bytes.u32(24)?,
        })
    }

    fn resize(&self, bytes: u32) -> rustix::io::Result<()> {
        let copy = copy_of(self.process, self.descriptor, self.inode)?;
        // The kernel takes twice what it is given.
        sockopt::set_socket_recv_buffer_size_force(copy, bytes as usize / 2)
    }
}

/// What became of the sockets that are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Resized {
    /// Have the new size.
    pub(super) reached: u32,
    /// Keep the old one until they are made anew.
    pub(super) kept: u32,
    /// Why, as the last one said.
    pub(super) why: Option<rustix::io::Errno>,
}

/// Resizes sockets on these ports that have the old size. `None` where the iterator is off.
///
/// # Errors
/// Where the iterator over all descriptors fails.
pub(super) fn resize(
    hooks: &Hooks,
    ports: &HashSet<Port>,
    old: u32,
    new: u32,
) -> Result<Option<Resized>> {
    let mut bytes = Vec::new();
    if hooks.iterate_into("sockets", &mut bytes)?.is_none() {
        return Ok(None);
    }
    let mut done = Resized::default();
    for ways in concerned(&bytes, ports, old) {
        // A socket that several processes share: any of them will do.
        let mut answer = Err(rustix::io::Errno::SRCH);
        for socket in ways {
            answer = socket.resize(new);
            if answer.is_ok() {
                break;
            }
        }
        match answer {
            Ok(()) => done.reached += 1,
            Err(errno) => {
                done.kept += 1;
                done.why = Some(errno);
            }
        }
    }
    Ok(Some(done))
}

/// The ways to each socket that is to change.
fn concerned(bytes: &[u8], ports: &HashSet<Port>, old: u32) -> Vec<Vec<Socket>> {
    let mut sockets = BTreeMap::<u64, Vec<Socket>>::new();
    for socket in bytes.chunks_exact(Socket::SIZE).filter_map(Socket::parse) {
        if socket.buffer == old && ports.contains(&socket.port) {
            sockets.entry(socket.inode).or_default().push(socket);
        }
    }
    sockets.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(netns: u64, inode: u64, process: u32, buffer: u32, port: u32) -> [u8; Socket::SIZE] {
        let mut bytes = [0; Socket::SIZE];
        bytes[..8].copy_from_slice(&netns.to_ne_bytes());
        bytes[8..16].copy_from_slice(&inode.to_ne_bytes());
        for (at, number) in [process, 3, buffer, port].into_iter().enumerate() {
            bytes[16 + at * 4..20 + at * 4].copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn only_sockets_of_the_old_size_on_ports_that_lost_something() {
        let all = [
            socket(7, 1, 10, 212_992, 53),
            socket(7, 1, 11, 212_992, 53),
            socket(7, 2, 12, 65_536, 53),
            socket(7, 3, 13, 212_992, 123),
            socket(8, 4, 14, 212_992, 53),
        ]
        .concat();
        let ports = HashSet::from([(NetnsCookie(7), 53)]);
        let found = concerned(&all, &ports, 212_992);
        assert_eq!((found.len(), found[0].len(), found[0][0].inode), (1, 2, 1));
        assert!(concerned(&all[..31], &ports, 212_992).is_empty());
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("udp_buffer.bpf.c");
        let body = program.split_once("struct udp_socket {").unwrap().1;
        let fields: Vec<_> = body
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(
            fields,
            [
                "__u64 netns_cookie;",
                "__u64 inode;",
                "__u32 process;",
                "__u32 descriptor;",
                "__u32 buffer;",
                "__u32 port;"
            ]
        );
    }
}
