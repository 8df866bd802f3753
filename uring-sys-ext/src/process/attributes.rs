//! What `execveat(2)` has no argument for.

use std::mem::{align_of, offset_of, size_of};

use super::Stage;
use crate::{Error, sized};

bitflags::bitflags! {
    /// Which attributes are set. A field whose flag is not set must be zero.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct AttributeFlags: u64 {
        /// Real, effective and saved user id become [`Attributes::uid`]: `setresuid(2)`.
        const SET_UID = 1 << 0;
        /// Real, effective and saved group id become [`Attributes::gid`]: `setresgid(2)`.
        const SET_GID = 1 << 1;
        /// Supplementary groups become those of [`Attributes::groups`], none for a count of 0:
        /// `setgroups(2)`.
        const SET_GROUPS = 1 << 2;
        /// The process leads a new session: `setsid(2)`. Not together with `SET_PGID` (`EINVAL`).
        const SETSID = 1 << 3;
        /// The process joins the group [`Attributes::pgid`], or leads a new one for 0:
        /// `setpgid(2)`.
        const SET_PGID = 1 << 4;
        /// The signal mask becomes [`Attributes::signal_mask`]; without it, the submitter's.
        const SIGMASK = 1 << 5;
        /// The signals of [`Attributes::signal_default`] get their default disposition. Handlers
        /// are reset in any case; this is for those that the submitter ignores, such as SIGPIPE.
        const SIGDEFAULT = 1 << 6;
        /// The working directory becomes [`Attributes::cwd_fd`]: `fchdir(2)`.
        const CWD_FD = 1 << 7;
        /// The process starts in the cgroup of [`Attributes::cgroup_fd`], as with
        /// `CLONE_INTO_CGROUP`.
        const CGROUP_FD = 1 << 8;
        /// The process starts in new namespaces, [`Attributes::namespaces`].
        const NAMESPACES = 1 << 9;
        /// The descriptors of [`Attributes::fd_map`] are placed.
        const FD_MAP = 1 << 10;
        /// With `FD_MAP`: the process has the mapped descriptors and no others. Without this flag
        /// the others are inherited as by `execveat(2)`, close-on-exec counting.
        const FD_MAP_ONLY = 1 << 11;
        /// A pidfd, close-on-exec, is put into the submitter's table and its number written to
        /// [`Attributes::pidfd`].
        const PIDFD = 1 << 12;
        /// A pidfd is put into the ring's registered files at [`Attributes::pidfd_slot`]. Not
        /// together with `PIDFD` (`EINVAL`).
        const PIDFD_DIRECT_SLOT = 1 << 13;
    }
}

/// [`Attributes::pidfd_slot`]: let the kernel choose a free slot, and write it to where
/// [`Attributes::pidfd`] points.
pub const SLOT_ALLOC: u32 = u32::MAX;

/// One descriptor of the new process, see [`AttributeFlags::FD_MAP`].
///
/// All sources are looked up before any target is placed, so a map can swap two descriptors. The
/// target is inherited by the program whatever close-on-exec said of the source. Two entries with
/// one target are refused with `EINVAL`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FdMapping {
    /// Descriptor in the submitter's table. It must stay open until the completion.
    pub source: i32,
    /// Descriptor in the new process, not negative and below its `RLIMIT_NOFILE`.
    pub target: i32,
}

/// `struct io_uring_process_attributes`, passed by pointer with its size.
///
/// Every field has a fixed width, there is no implicit padding, pointers are `u64` on every
/// architecture: the layout is one and the same on 32 and 64 bits. It grows at the end only, by the
/// rules of [`sized`](crate::sized); the first version has [`Attributes::SIZE_VER0`] bytes. A size
/// above 4096 is `E2BIG` whatever the bytes say.
///
/// # Lifetime
/// The structure and all that it points at must stay valid and unmoved until the completion. The
/// kernel writes to `known_size` and `stage` until then: look at them afterwards only, and pass a
/// pointer that may be written through ([`opcode::Process::attributes`](crate::opcode::Process)).
///
/// # Example
/// ```
/// use uring_sys_ext::process::{AttributeFlags, Attributes};
///
/// let attributes = Attributes::new().uid(1000).gid(1000).setsid();
/// assert_eq!(attributes.uid, 1000);
/// assert!(attributes.flags().contains(AttributeFlags::SET_GID | AttributeFlags::SETSID));
/// ```
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// [`AttributeFlags`]; unknown bits are `EINVAL`.
    pub flags: u64,
    /// Written by the kernel, ignored on input: the size in bytes of the structure it knows.
    ///
    /// It is written whenever at least `SIZE_VER0` bytes were given, also with `E2BIG`.
    pub known_size: u32,
    /// Written by the kernel, ignored on input: where the request failed, see [`Stage`].
    pub stage: u32,
    /// User id, in the submitter's user namespace.
    pub uid: u32,
    /// Group id, in the submitter's user namespace.
    pub gid: u32,
    /// Pointer to `groups_count` group ids of 32 bits.
    pub groups: u64,
    /// Number of groups, at most `NGROUPS_MAX` (65536).
    pub groups_count: u32,
    /// Process group id, or 0.
    pub pgid: i32,
    /// Pointer to `fd_map_count` times [`FdMapping`].
    pub fd_map: u64,
    /// Number of mappings.
    pub fd_map_count: u32,
    /// Descriptor of a directory.
    pub cwd_fd: i32,
    /// Descriptor of a cgroup v2 directory.
    pub cgroup_fd: i32,
    /// Slot in the ring's registered files, counted from 0, or [`SLOT_ALLOC`].
    pub pidfd_slot: u32,
    /// Pointer to an `int` that receives the pidfd, or the slot chosen for it.
    pub pidfd: u64,
    /// Signals to block: bit n-1 is signal n, as in the kernel's `sigset_t` of 64 signals.
    pub signal_mask: u64,
    /// Signals to set to their default disposition, of the same form.
    pub signal_default: u64,
    /// `CLONE_NEW*` bits of `clone(2)`; any other bit is `EINVAL`.
    pub namespaces: u64,
}

const _: () = {
    assert!(align_of::<Attributes>() == align_of::<u64>());
    assert!(size_of::<Attributes>() == Attributes::SIZE_VER0 as usize);
    assert!(offset_of!(Attributes, flags) == 0);
    assert!(offset_of!(Attributes, known_size) == 8);
    assert!(offset_of!(Attributes, stage) == 12);
    assert!(offset_of!(Attributes, uid) == 16);
    assert!(offset_of!(Attributes, gid) == 20);
    assert!(offset_of!(Attributes, groups) == 24);
    assert!(offset_of!(Attributes, groups_count) == 32);
    assert!(offset_of!(Attributes, pgid) == 36);
    assert!(offset_of!(Attributes, fd_map) == 40);
    assert!(offset_of!(Attributes, fd_map_count) == 48);
    assert!(offset_of!(Attributes, cwd_fd) == 52);
    assert!(offset_of!(Attributes, cgroup_fd) == 56);
    assert!(offset_of!(Attributes, pidfd_slot) == 60);
    assert!(offset_of!(Attributes, pidfd) == 64);
    assert!(offset_of!(Attributes, signal_mask) == 72);
    assert!(offset_of!(Attributes, signal_default) == 80);
    assert!(offset_of!(Attributes, namespaces) == 88);
    assert!(size_of::<FdMapping>() == 8);
    assert!(offset_of!(FdMapping, source) == 0);
    assert!(offset_of!(FdMapping, target) == 4);
};

impl Attributes {
    /// Size in bytes of the first version.
    pub const SIZE_VER0: u32 = 96;

    /// No attributes: the process is as execveat alone would leave a fork.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The flags that are set, unknown bits included.
    #[must_use]
    pub fn flags(&self) -> AttributeFlags {
        AttributeFlags::from_bits_retain(self.flags)
    }

    /// Where the request failed; `None` if the number is one of a newer kernel.
    ///
    /// Of use after the completion only.
    #[must_use]
    pub fn failed_stage(&self) -> Option<Stage> {
        Stage::from_raw(self.stage)
    }

    fn set(mut self, flag: AttributeFlags) -> Self {
        self.flags |= flag.bits();
        self
    }

    /// Sets the user ids.
    #[must_use]
    pub fn uid(self, uid: u32) -> Self {
        Self { uid, ..self }.set(AttributeFlags::SET_UID)
    }

    /// Sets the group ids.
    #[must_use]
    pub fn gid(self, gid: u32) -> Self {
        Self { gid, ..self }.set(AttributeFlags::SET_GID)
    }

    /// Sets the supplementary groups: `count` ids at `groups`, which must stay valid until the
    /// completion.
    #[must_use]
    pub fn groups(self, groups: *const u32, count: u32) -> Self {
        Self {
            groups: groups as u64,
            groups_count: count,
            ..self
        }
        .set(AttributeFlags::SET_GROUPS)
    }

    /// Starts a new session.
    #[must_use]
    pub fn setsid(self) -> Self {
        self.set(AttributeFlags::SETSID)
    }

    /// Joins a process group, or leads a new one for 0.
    #[must_use]
    pub fn pgid(self, pgid: i32) -> Self {
        Self { pgid, ..self }.set(AttributeFlags::SET_PGID)
    }

    /// Sets the signal mask, bit n-1 for signal n.
    #[must_use]
    pub fn signal_mask(self, signal_mask: u64) -> Self {
        Self {
            signal_mask,
            ..self
        }
        .set(AttributeFlags::SIGMASK)
    }

    /// Gives signals their default disposition, bit n-1 for signal n.
    #[must_use]
    pub fn signal_default(self, signal_default: u64) -> Self {
        Self {
            signal_default,
            ..self
        }
        .set(AttributeFlags::SIGDEFAULT)
    }

    /// Sets the working directory, a descriptor that must stay open until the completion.
    #[must_use]
    pub fn cwd_fd(self, cwd_fd: i32) -> Self {
        Self { cwd_fd, ..self }.set(AttributeFlags::CWD_FD)
    }

    /// Starts in a cgroup, a descriptor that must stay open until the completion.
    #[must_use]
    pub fn cgroup_fd(self, cgroup_fd: i32) -> Self {
        Self { cgroup_fd, ..self }.set(AttributeFlags::CGROUP_FD)
    }

    /// Starts in new namespaces, `CLONE_NEW*` bits.
    #[must_use]
    pub fn namespaces(self, namespaces: u64) -> Self {
        Self { namespaces, ..self }.set(AttributeFlags::NAMESPACES)
    }

    /// Places descriptors: `count` mappings at `map`, which must stay valid until the completion.
    #[must_use]
    pub fn fd_map(self, map: *const FdMapping, count: u32) -> Self {
        Self {
            fd_map: map as u64,
            fd_map_count: count,
            ..self
        }
        .set(AttributeFlags::FD_MAP)
    }

    /// Passes on the mapped descriptors and no others; wants [`Attributes::fd_map`].
    #[must_use]
    pub fn fd_map_only(self) -> Self {
        self.set(AttributeFlags::FD_MAP_ONLY)
    }

    /// Asks for a pidfd; its number is written to `pidfd`, valid until the completion.
    #[must_use]
    pub fn pidfd(self, pidfd: *mut i32) -> Self {
        Self {
            pidfd: pidfd as u64,
            ..self
        }
        .set(AttributeFlags::PIDFD)
    }

    /// Asks for a pidfd as registered file `slot`, counted from 0.
    #[must_use]
    pub fn pidfd_slot(self, slot: u32) -> Self {
        Self {
            pidfd_slot: slot,
            ..self
        }
        .set(AttributeFlags::PIDFD_DIRECT_SLOT)
    }

    /// Asks for a pidfd as a registered file in a free slot, whose number is written to `chosen`,
    /// valid until the completion.
    #[must_use]
    pub fn pidfd_slot_alloc(self, chosen: *mut i32) -> Self {
        Self {
            pidfd: chosen as u64,
            ..self.pidfd_slot(SLOT_ALLOC)
        }
    }

    /// The bytes, as the kernel reads them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `repr(C)`, integers only, no padding (see the asserts): all bytes are
        // initialised, and the slice borrows `self`.
        unsafe { std::slice::from_raw_parts((&raw const *self).cast(), size_of::<Self>()) }
    }

    /// Reads attributes that a caller of any version passed, as a kernel or an executor does.
    ///
    /// # Errors
    /// [`Error::TooSmall`] (`EINVAL`) and [`Error::TooBig`] (`E2BIG`).
    ///
    /// ```
    /// use uring_sys_ext::process::Attributes;
    ///
    /// let mut newer = Attributes::new().uid(7).as_bytes().to_vec();
    /// newer.extend([0; 8]); // a field that this version lacks, not used
    /// assert_eq!(Attributes::from_bytes(&newer)?.uid, 7);
    /// # Ok::<(), uring_sys_ext::Error>(())
    /// ```
    pub fn from_bytes(given: &[u8]) -> Result<Self, Error> {
        let mut bytes = [0; size_of::<Self>()];
        sized::copy(&mut bytes, given, Self::SIZE_VER0 as usize)?;
        // SAFETY: integers only, so any bytes are a value; the sizes are equal by type.
        Ok(unsafe { std::mem::transmute::<[u8; size_of::<Self>()], Self>(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setter_sets_its_field_and_its_flag() {
        let groups = [1u32, 2];
        let map = [FdMapping {
            source: 5,
            target: 0,
        }];
        let mut pidfd = -1;
        let a = Attributes::new()
            .uid(1)
            .gid(2)
            .groups(groups.as_ptr(), 2)
            .pgid(3)
            .signal_mask(4)
            .signal_default(5)
            .cwd_fd(6)
            .cgroup_fd(7)
            .namespaces(8)
            .fd_map(map.as_ptr(), 1)
            .fd_map_only()
            .pidfd(&raw mut pidfd);
        let absent = AttributeFlags::SETSID | AttributeFlags::PIDFD_DIRECT_SLOT;
        assert_eq!(a.flags(), AttributeFlags::all() - absent);
        let expected = Attributes {
            flags: a.flags,
            known_size: 0,
            stage: 0,
            uid: 1,
            gid: 2,
            groups: groups.as_ptr() as u64,
            groups_count: 2,
            pgid: 3,
            fd_map: map.as_ptr() as u64,
            fd_map_count: 1,
            cwd_fd: 6,
            cgroup_fd: 7,
            pidfd_slot: 0,
            pidfd: &raw mut pidfd as u64,
            signal_mask: 4,
            signal_default: 5,
            namespaces: 8,
        };
        assert_eq!(a, expected);

        let slot = Attributes::new().setsid().pidfd_slot_alloc(&raw mut pidfd);
        assert_eq!(slot.flags(), absent);
        assert_eq!(
            (slot.pidfd_slot, slot.pidfd),
            (SLOT_ALLOC, &raw mut pidfd as u64)
        );
    }

    #[test]
    fn other_versions_are_read_by_the_rules() {
        let ours = Attributes::new().uid(7).namespaces(0x2000_0000);
        assert_eq!(Attributes::from_bytes(ours.as_bytes()).unwrap(), ours);

        let mut newer = ours.as_bytes().to_vec();
        newer.extend([0; 16]);
        assert_eq!(Attributes::from_bytes(&newer).unwrap(), ours);
        newer[100] = 1;
        assert!(matches!(
            Attributes::from_bytes(&newer),
            Err(Error::TooBig {
                given: 112,
                known: 96
            })
        ));
        assert!(matches!(
            Attributes::from_bytes(&newer[..88]),
            Err(Error::TooSmall {
                given: 88,
                least: 96
            })
        ));
    }
}
