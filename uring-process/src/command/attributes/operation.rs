//! Which attributes the kernel's own operation has, too.

use std::{ffi::CString, os::unix::ffi::OsStrExt};

use super::Attributes;
use crate::start::Wanted;

impl Attributes {
    /// The same for the kernel's own operation; `None` where it has no attribute for something, or where that would
    /// not mean the same.
    pub(in crate::command) fn for_the_operation(&self) -> Option<Wanted> {
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
        if chroot.is_some() || umask.is_some() || nice.is_some() || !rlimits.is_empty() {
            return None;
        }
        if *no_new_privs || seccomp.is_some() {
            return None;
        }
        if process_group.is_some_and(|group| group < 0 || *setsid) {
            return None;
        }
        // setuid(2) changes three ids for root only, as the operation does; and the directory is to be looked up with
        // the new ones.
        let ids = uid.is_some() || gid.is_some() || groups.is_some();
        // SAFETY: takes nothing.
        let is_root = unsafe { libc::geteuid() } == 0;
        let too_many = groups.as_ref().is_some_and(|groups| groups.len() > 65536);
        if ids && (!is_root || current_dir.is_some() || too_many) {
            return None;
        }
        // No ids; the system calls say what is wrong with them.
        if [*uid, *gid].contains(&Some(u32::MAX)) {
            return None;
        }
        let groups = match (groups, uid) {
            (Some(groups), _) => Some(groups.as_slice().into()),
            (None, Some(_)) => Some([].into()),
            (None, None) => None,
        };
        let dir = current_dir.as_ref().map(|dir| CString::new(dir.as_bytes()));
        Some(Wanted {
            uid: *uid,
            gid: *gid,
            groups,
            dir: dir.transpose().ok()?,
            process_group: *process_group,
            setsid: *setsid,
            keep_sigpipe: *keep_sigpipe,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;

    fn wanted(change: impl FnOnce(&mut Command) -> &mut Command) -> Option<Wanted> {
        let mut command = Command::new("x");
        change(&mut command).attributes.for_the_operation()
    }

    #[test]
    fn what_it_has_is_asked_for() {
        assert!(wanted(|c| c).is_some_and(|w| !w.keep_sigpipe && w.groups.is_none()));
        assert!(wanted(|c| c.setsid(true).keep_sigpipe(true)).is_some_and(|w| w.setsid));
        let dir = wanted(|c| c.current_dir("/x").process_group(7)).unwrap();
        assert_eq!(dir.dir.as_deref(), Some(c"/x"));
        assert_eq!(dir.process_group, Some(7));
        assert!(wanted(|c| c.signal_mask(1)).is_some());
    }

    #[test]
    fn what_it_has_not_is_the_next_executors() {
        assert!(wanted(|c| c.umask(0)).is_none());
        assert!(wanted(|c| c.nice(1)).is_none());
        assert!(wanted(|c| c.rlimit(0, 1, 1)).is_none());
        assert!(wanted(|c| c.no_new_privs()).is_none());
        assert!(wanted(|c| c.seccomp_filter(&[])).is_none());
        assert!(wanted(|c| c.chroot("/")).is_none());
        assert!(wanted(|c| c.process_group(-1)).is_none());
        assert!(wanted(|c| c.process_group(0).setsid(true)).is_none());
        assert!(wanted(|c| c.current_dir("a\0b")).is_none());
    }

    #[test]
    fn ids_are_for_root_and_without_a_directory() {
        // SAFETY: takes nothing.
        let is_root = unsafe { libc::geteuid() } == 0;
        let ids = wanted(|c| c.uid(5).gid(6));
        assert_eq!(ids.is_some(), is_root);
        // As std: no supplementary groups.
        assert!(ids.is_none_or(|w| w.groups.is_some_and(|groups| groups.is_empty())));
        assert_eq!(wanted(|c| c.groups(&[1, 2])).is_some(), is_root);
        assert!(wanted(|c| c.uid(5).current_dir("/")).is_none());
        assert!(wanted(|c| c.uid(u32::MAX)).is_none());
        assert!(wanted(|c| c.groups(&[0; 65537])).is_none());
    }
}
