//! What the child is besides its program: ids, directory, session, limits, confinement.

mod operation;

use std::{
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::Path,
};

#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
use libc::{SYS_setgid, SYS_setgroups, SYS_setuid};
// There the plain ones take ids of 16 bits.
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
use libc::{
    SYS_setgid32 as SYS_setgid, SYS_setgroups32 as SYS_setgroups, SYS_setuid32 as SYS_setuid,
};

use super::Command;
use crate::{
    Error, Stage,
    plan::{Arg, Calls},
};

#[derive(Debug, Default, Clone)]
pub(crate) struct Attributes {
    groups: Option<Vec<u32>>,
    gid: Option<u32>,
    uid: Option<u32>,
    chroot: Option<OsString>,
    pub(super) current_dir: Option<OsString>,
    process_group: Option<i32>,
    setsid: bool,
    umask: Option<u32>,
    nice: Option<i32>,
    rlimits: Vec<(u32, u64, u64)>,
    keep_sigpipe: bool,
    pub(super) signal_mask: Option<u64>,
    no_new_privs: bool,
    seccomp: Option<Vec<u8>>,
}

/// An instruction of classic BPF, `struct sock_filter` of `include/uapi/linux/filter.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Command {
    /// Sets the user id, after the group ids: `setuid(2)`.
    ///
    /// As std does, it also gives up all supplementary groups, unless [`groups`](Self::groups)
    /// sets some or this process may not change them.
    ///
    /// A process that shares our memory must not change its ids: it would make this process
    /// undumpable for good. So the child runs a launcher first, a program of a few instructions in
    /// a memfd, which changes the ids and then runs the command.
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.attributes.uid = Some(id);
        self
    }

    /// Sets the group id: `setgid(2)`. See [`uid`](Self::uid) for how.
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.attributes.gid = Some(id);
        self
    }

    /// Sets the supplementary groups: `setgroups(2)`.
    pub fn groups(&mut self, groups: &[u32]) -> &mut Self {
        self.attributes.groups = Some(groups.to_vec());
        self
    }

    /// Changes the root directory, and the working directory to it where none is set: `chroot(2)`.
    ///
    /// The program is looked up within.
    pub fn chroot(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.attributes.chroot = Some(dir.as_ref().as_os_str().to_owned());
        if self.attributes.current_dir.is_none() {
            self.current_dir("/");
        }
        self
    }

    /// Joins the process group `pgroup`, or leads a new one for 0: `setpgid(2)`.
    ///
    /// ```
    /// use uring_process::Command;
    /// let mut child = Command::new("sleep").arg("60").process_group(0).spawn()?;
    /// child.kill()?;
    /// child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn process_group(&mut self, pgroup: i32) -> &mut Self {
        self.attributes.process_group = Some(pgroup);
        self
    }

    /// Starts a new session: `setsid(2)`.
    pub fn setsid(&mut self, setsid: bool) -> &mut Self {
        self.attributes.setsid = setsid;
        self
    }

    /// Sets the mask of permission bits that new files do not get: `umask(2)`.
    pub fn umask(&mut self, mask: u32) -> &mut Self {
        self.attributes.umask = Some(mask);
        self
    }

    /// Sets the niceness, -20 (most favoured) to 19: `setpriority(2)`.
    pub fn nice(&mut self, nice: i32) -> &mut Self {
        self.attributes.nice = Some(nice);
        self
    }

    /// Sets a resource limit, `RLIMIT_*` of `prlimit(2)`, in that limit's own unit.
    ///
    /// ```
    /// use uring_process::Command;
    /// let output = Command::new("sh")
    ///     .args(["-c", "ulimit -n"])
    ///     .rlimit(libc::RLIMIT_NOFILE as u32, 64, 64)
    ///     .output()?;
    /// assert_eq!(output.stdout, b"64\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn rlimit(&mut self, resource: u32, soft: u64, hard: u64) -> &mut Self {
        self.attributes.rlimits.push((resource, soft, hard));
        self
    }

    /// Leaves SIGPIPE as this process has it.
    ///
    /// Rust programs ignore SIGPIPE, which other programs do not expect; so a child gets its
    /// default disposition back, as std does it, unless this says otherwise.
    pub fn keep_sigpipe(&mut self, keep: bool) -> &mut Self {
        self.attributes.keep_sigpipe = keep;
        self
    }

    /// Sets the mask of blocked signals, bit n-1 for signal n.
    ///
    /// Without it the child inherits that of the calling thread, as with std.
    pub fn signal_mask(&mut self, mask: u64) -> &mut Self {
        self.attributes.signal_mask = Some(mask);
        self
    }

    /// Neither the program nor its children ever gain privileges by an exec:
    /// `prctl(PR_SET_NO_NEW_PRIVS)`.
    pub fn no_new_privs(&mut self) -> &mut Self {
        self.attributes.no_new_privs = true;
        self
    }

    /// Confines the program's system calls by a filter of classic BPF: `seccomp(2)`.
    ///
    /// Without the capability `CAP_SYS_ADMIN` it takes [`no_new_privs`](Self::no_new_privs) too.
    /// The filter must allow `execve`, by which the program starts; where the program is not
    /// found, the child also needs `write` and `exit_group` to say so.
    pub fn seccomp_filter(&mut self, filter: &[SockFilter]) -> &mut Self {
        let bytes = filter.iter().flat_map(|instruction| {
            let SockFilter { code, jt, jf, k } = *instruction;
            let (code, k) = (code.to_ne_bytes(), k.to_ne_bytes());
            [code[0], code[1], jt, jf, k[0], k[1], k[2], k[3]]
        });
        self.attributes.seccomp = Some(bytes.collect());
        self
    }
}

impl Attributes {
    /// The calls that make a child so, in std's order.
    pub(super) fn calls(&self, program: &OsStr) -> Result<Calls, Error> {
        let Self {
            groups,
            gid,
            uid,
            chroot,
            current_dir,
            process_group,
            setsid,
            umask,
            nice,
            rlimits,
            keep_sigpipe,
            signal_mask: _,
            no_new_privs,
            seccomp,
        } = self;
        let path = |path: &OsStr, what| {
            let path = CString::new(path.as_bytes()).map_err(|_| Error::Nul {
                program: program.to_owned(),
                what,
            })?;
            Ok(Arg::Data(path.into_bytes_with_nul().into()))
        };
        let value = Arg::Value;
        let mut calls = Calls::default();
        // Before the ids: some need the privileges.
        for (resource, soft, hard) in rlimits {
            let limit = [soft.to_ne_bytes(), hard.to_ne_bytes()].concat();
            let args = vec![value(0), value(*resource as usize), Arg::Data(limit.into())];
            calls.push(Stage::Limits, libc::SYS_prlimit64, args);
        }
        if let Some(nice) = nice {
            let who = vec![
                value(libc::PRIO_PROCESS as usize),
                value(0),
                value(*nice as usize),
            ];
            calls.push(Stage::Limits, libc::SYS_setpriority, who);
        }
        if let Some(mask) = umask {
            calls.push(Stage::Limits, libc::SYS_umask, vec![value(*mask as usize)]);
        }
        if let Some(groups) = groups {
            let bytes: Vec<u8> = groups
                .iter()
                .flat_map(|group| group.to_ne_bytes())
                .collect();
            let args = vec![value(groups.len()), Arg::Data(bytes.into())];
            calls.push(Stage::Groups, SYS_setgroups, args);
        }
        if let Some(gid) = gid {
            calls.push(Stage::Gid, SYS_setgid, vec![value(*gid as usize)]);
        }
        if let Some(uid) = uid {
            if groups.is_none() {
                let none = vec![value(0), value(0)];
                calls.push_tolerant(Stage::Groups, SYS_setgroups, none, libc::EPERM);
            }
            calls.push(Stage::Uid, SYS_setuid, vec![value(*uid as usize)]);
        }
        if changes_ids(*uid, *gid) {
            calls.mark_ids();
        }
        if let Some(dir) = chroot {
            calls.push(
                Stage::Chroot,
                libc::SYS_chroot,
                vec![path(dir, "the root directory")?],
            );
        }
        if let Some(dir) = current_dir {
            let dir = path(dir, "the working directory")?;
            calls.push(Stage::CurrentDir, libc::SYS_chdir, vec![dir]);
        }
        if let Some(pgroup) = process_group {
            let args = vec![value(0), value(*pgroup as usize)];
            calls.push(Stage::ProcessGroup, libc::SYS_setpgid, args);
        }
        if *setsid {
            calls.push(Stage::Session, libc::SYS_setsid, Vec::new());
        }
        if !keep_sigpipe {
            // The kernel's structure: default disposition, no flags, no restorer, empty mask.
            let action = Arg::Data([0; 32].into());
            let args = vec![value(libc::SIGPIPE as usize), action, value(0), value(8)];
            calls.push(Stage::Signals, libc::SYS_rt_sigaction, args);
        }
        if *no_new_privs {
            let args = vec![value(libc::PR_SET_NO_NEW_PRIVS as usize), value(1)];
            calls.push_late(Stage::Confine, libc::SYS_prctl, args);
        }
        if let Some(filter) = seccomp {
            let mode = value(libc::SECCOMP_SET_MODE_FILTER as usize);
            let args = vec![mode, value(0), Arg::Filter(filter.as_slice().into())];
            calls.push_late(Stage::Confine, libc::SYS_seccomp, args);
        }
        Ok(calls)
    }
}

/// Whether these ids are other than the ones that this process has, all of them.
///
/// A change to what is already so leaves the kernel's credentials alone, and may be made on shared
/// memory.
fn changes_ids(uid: Option<u32>, gid: Option<u32>) -> bool {
    let differ = |new: Option<u32>, now: [u32; 3]| new.is_some_and(|new| now != [new; 3]);
    let (mut u, mut g) = ([0; 3], [0; 3]);
    // SAFETY: each call fills three ids.
    unsafe {
        libc::getresuid(&raw mut u[0], &raw mut u[1], &raw mut u[2]);
        libc::getresgid(&raw mut g[0], &raw mut g[1], &raw mut g[2]);
    }
    differ(uid, u) || differ(gid, g)
}
