//! Listeners that run already get a changed limit.
//!
//! The length of a listener's queue is min(what `listen(2)` asked for, `somaxconn` at that time), and stays. Calling
//! `listen(2)` again changes it, without any effect on connections that wait. So a copy of the descriptor is taken
//! from its process (pidfd_getfd(2), Linux 5.6, CAP_SYS_PTRACE), `listen` is called on it, and the copy is closed.
//!
//! What an application asked for is not kept by the kernel. A queue as long as the old limit was cut down to it, or
//! asked for just that; a shorter one is the application's choice and stays.

use bpftune_core::{
    NetnsCookie, Result,
    bpf::{Fields, Hooks},
};
use rustix::net::listen;

use crate::reach::copy_of;

/// `struct listener` of the BPF program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    netns: NetnsCookie,
    inode: u64,
    process: u32,
    descriptor: u32,
    backlog: u32,
}

impl Listener {
    const SIZE: usize = 32;

    fn parse(bytes: &[u8]) -> Option<Listener> {
        let bytes = Fields(bytes);
        Some(Listener {
            netns: NetnsCookie(bytes.u64(0)?),
            inode: bytes.u64(8)?,
            process: bytes.u32(16)?,
            descriptor: bytes.u32(20)?,
            backlog: bytes.u32(24)?,
        })
    }

    /// Has the kernel take min(any length, somaxconn) for its queue.
    fn listen_again(&self) -> rustix::io::Result<()> {
        let copy = copy_of(self.process, self.descriptor, self.inode)?;
        listen(&copy, -1)
    }
}

/// What became of the listeners that an old limit had cut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Relistened {
    /// Have the new limit.
    pub(super) reached: u32,
    /// Keep the old one until their application calls `listen(2)` again, with the kernel's last answer.
    pub(super) kept: u32,
    /// Why.
    pub(super) why: Option<rustix::io::Errno>,
}

/// Gives every listener of a namespace that the old limit had cut down the new one; on the way down those that have just
/// the old one.
///
/// # Errors
/// Where the iterator over all descriptors fails.
pub(super) fn relisten(
    hooks: &Hooks,
    netns: NetnsCookie,
    old: u32,
    new: u32,
) -> Result<Option<Relistened>> {
    let mut bytes = Vec::new();
    if hooks.iterate_into("listeners", &mut bytes)?.is_none() {
        return Ok(None);
    }
    let mut done = Relistened::default();
    for listeners in concerned(&bytes, netns, old, new) {
        // A socket that several processes share: any of them will do.
        let mut answer = Err(rustix::io::Errno::SRCH);
        for listener in listeners {
            answer = listener.listen_again();
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

/// The ways to each socket whose limit is to change.
fn concerned(bytes: &[u8], netns: NetnsCookie, old: u32, new: u32) -> Vec<Vec<Listener>> {
    let mut sockets = std::collections::BTreeMap::<u64, Vec<Listener>>::new();
    let listeners = bytes
        .chunks_exact(Listener::SIZE)
        .filter_map(Listener::parse);
    for listener in listeners {
        let concerned = if new > old {
            (old..new).contains(&listener.backlog)
        } else {
            listener.backlog == old
        };
        if listener.netns == netns && concerned {
            sockets.entry(listener.inode).or_default().push(listener);
        }
    }
    sockets.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(netns: u64, inode: u64, process: u32, backlog: u32) -> [u8; Listener::SIZE] {
        let mut bytes = [0; Listener::SIZE];
        bytes[..8].copy_from_slice(&netns.to_ne_bytes());
        bytes[8..16].copy_from_slice(&inode.to_ne_bytes());
        bytes[16..20].copy_from_slice(&process.to_ne_bytes());
        bytes[20..24].copy_from_slice(&3u32.to_ne_bytes());
        bytes[24..28].copy_from_slice(&backlog.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_what_was_cut_down_changes() {
        let all = [
            listener(7, 1, 10, 128),
            listener(7, 1, 11, 128),
            listener(7, 2, 12, 5),
            listener(8, 3, 13, 128),
            listener(7, 4, 14, 511),
        ]
        .concat();
        let found = |old, new| -> Vec<(u64, usize)> {
            concerned(&all, NetnsCookie(7), old, new)
                .iter()
                .map(|ways| (ways[0].inode, ways.len()))
                .collect()
        };
        assert_eq!(found(128, 512), [(1, 2), (4, 1)]);
        // On the way back.
        assert_eq!(found(511, 128), [(4, 1)]);
        assert_eq!(
            concerned(&all[..31], NetnsCookie(7), 1, 2),
            Vec::<Vec<Listener>>::new()
        );
    }

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("tcp_listen.bpf.c");
        let body = program.split_once("struct listener {").unwrap().1;
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
                "__u32 backlog;",
                "__u32 pad;"
            ]
        );
    }
}
