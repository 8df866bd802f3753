//! Sockets of running processes, and a copy of such a descriptor to change a setting of what it stands for.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use bpftune_core::{
    NetnsCookie,
    bpf::{Fields, Hooks},
};
use rustix::{
    fs::fstat,
    io::{Errno, Result},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// `struct socket_way` of `bpftune/descriptor.h`: a socket and a descriptor that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) netns: NetnsCookie,
    pub(crate) inode: u64,
    process: u32,
    descriptor: u32,
    /// The limit of it that may be changed.
    pub(crate) size: u32,
    pub(crate) port: u16,
}

impl Way {
    pub(crate) const SIZE: usize = 32;

    fn parse(bytes: &[u8]) -> Option<Way> {
        let bytes = Fields(bytes);
        Some(Way {
            netns: NetnsCookie(bytes.u64(0)?),
            inode: bytes.u64(8)?,
            process: bytes.u32(16)?,
            descriptor: bytes.u32(20)?,
            size: bytes.u32(24)?,
            port: bytes.u32(28)? as u16,
        })
    }

    /// A copy of the descriptor; see [`copy_of`].
    pub(crate) fn copy(&self) -> Result<OwnedFd> {
        copy_of(self.process, self.descriptor, self.inode)
    }
}

/// What became of the sockets that are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Have the new limit.
    pub(crate) reached: u32,
    /// Keep the old one.
    pub(crate) kept: u32,
    /// Why, as the last one said.
    pub(crate) why: Option<Errno>,
}

/// Changes every socket that is `concerned`. `program` is an iterator over all descriptors that tells of them; `None`
/// where it is off.
///
/// # Errors
/// Where the iterator fails.
pub(crate) fn change(
    hooks: &Hooks,
    program: &str,
    concerned: impl Fn(&Way) -> bool,
    change: impl Fn(&Way) -> Result<()>,
) -> bpftune_core::Result<Option<Done>> {
    let mut bytes = Vec::new();
    if hooks.iterate_into(program, &mut bytes)?.is_none() {
        return Ok(None);
    }
    let mut done = Done::default();
    for ways in sockets(&bytes, concerned) {
        // A socket that several processes share: any of them will do.
        let mut answer = Err(Errno::SRCH);
        for way in ways {
            answer = change(&way);
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

/// The ways to each socket that is concerned.
pub(crate) fn sockets(bytes: &[u8], concerned: impl Fn(&Way) -> bool) -> Vec<Vec<Way>> {
    let mut sockets = BTreeMap::<u64, Vec<Way>>::new();
    let ways = bytes.chunks_exact(Way::SIZE).filter_map(Way::parse);
    for way in ways.filter(concerned) {
        sockets.entry(way.inode).or_default().push(way);
    }
    sockets.into_values().collect()
}

/// Takes the copy (pidfd_getfd(2), Linux 5.6, CAP_SYS_PTRACE).
///
/// Process and descriptor numbers are used again, so it is checked that this is the wanted inode still.
///
/// # Errors
/// Where the process is gone or may not be reached, or the descriptor means something else now (`EBADF`).
fn copy_of(process: u32, descriptor: u32, inode: u64) -> Result<OwnedFd> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = pidfd_open(process.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::BADF)?;
    let copy = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?;
    if fstat(&copy)?.st_ino == inode {
        Ok(copy)
    } else {
        Err(Errno::BADF)
    }
}

/// The bytes of a way, as the program sends them.
#[cfg(test)]
pub(crate) fn sent(netns: u64, inode: u64, process: u32, size: u32, port: u32) -> [u8; Way::SIZE] {
    let mut bytes = [0; Way::SIZE];
    bytes[..8].copy_from_slice(&netns.to_ne_bytes());
    bytes[8..16].copy_from_slice(&inode.to_ne_bytes());
    for (at, number) in [process, 3, size, port].into_iter().enumerate() {
        bytes[16 + at * 4..20 + at * 4].copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn mirrors_the_program() {
        let program = include_str!("../../bpftune-core/bpf/bpftune/descriptor.h");
        let body = program.split_once("struct socket_way {").unwrap().1;
        let fields: Vec<_> = body
            .lines()
            .map(str::trim)
            .take_while(|line| *line != "};")
            .filter(|line| !line.is_empty() && !line.starts_with("/*"))
            .collect();
        assert_eq!(
            fields,
            [
                "__u64 netns_cookie;",
                "__u64 inode;",
                "__u32 process;",
                "__u32 descriptor;",
                "__u32 size;",
                "__u32 port;"
            ]
        );
    }

    #[test]
    fn only_what_is_still_the_same_is_copied() {
        let file = File::open("/proc/self/status").unwrap();
        let inode = file.metadata().unwrap().ino();
        let (me, descriptor) = (std::process::id(), file.as_raw_fd() as u32);
        match copy_of(me, descriptor, inode) {
            Ok(copy) => assert_eq!(fstat(&copy).unwrap().st_ino, inode),
            Err(Errno::PERM | Errno::NOSYS) => {
                println!("SKIP: pidfd_getfd(2) is not allowed here");
                return;
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(copy_of(me, descriptor, inode + 1).unwrap_err(), Errno::BADF);
        assert_eq!(copy_of(0, descriptor, inode).unwrap_err(), Errno::SRCH);
    }
}
