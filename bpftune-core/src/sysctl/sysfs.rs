//! The sysfs of a network namespace.
//!
//! A mount of sysfs shows the network devices of the namespace in which it was mounted, whoever looks. So for another
//! namespace one is mounted, nowhere (fsmount(2), Linux 5.2), for as long as it takes: a mount that stayed would keep the
//! namespace alive.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, openat, statat},
    io::Errno,
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// The mount point of every Linux.
const SYS: &str = "/sys";

/// Where files are looked for.
pub(super) enum Sysfs {
    /// As this process sees them.
    Seen,
    /// Those below /sys in a mount for the calling thread's network namespace.
    Mounted(OwnedFd),
}

impl Sysfs {
    /// `own`: the files are those that this process sees. Else a mount for the namespace that the calling thread is in.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN over the namespace, or before Linux 5.2.
    pub(super) fn of(own: bool) -> io::Result<Sysfs> {
        if own {
            return Ok(Sysfs::Seen);
        }
        let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let harmless = MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOSUID;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, harmless)?;
        Ok(Sysfs::Mounted(mount))
    }

    /// Opens a file for reading or writing.
    pub(super) fn open(&self, file: &Path, write: bool) -> io::Result<File> {
        let Sysfs::Mounted(mount) = self else {
            return File::options().read(!write).write(write).open(file);
        };
        let access = if write {
            OFlags::WRONLY
        } else {
            OFlags::RDONLY
        };
        let fd = openat(
            mount,
            inside(file)?,
            access | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(fd.into())
    }

    /// Whether a file went with its folder, as this error of its says: the device is gone. A file alone that is missing is
    /// one that this kernel or this device does not have.
    pub(super) fn is_gone(&self, file: &Path, error: &io::Error) -> bool {
        let vanished = [Errno::NOENT, Errno::NODEV, Errno::NXIO]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
        vanished && file.parent().is_some_and(|folder| !self.has(folder))
    }

    fn has(&self, folder: &Path) -> bool {
        match self {
            Sysfs::Seen => folder.exists(),
            Sysfs::Mounted(mount) => {
                inside(folder).is_ok_and(|path| statat(mount, path, AtFlags::empty()).is_ok())
            }
        }
    }
}

/// The path within the mount.
fn inside(file: &Path) -> io::Result<PathBuf> {
    let path = file.strip_prefix(SYS).map_err(io::Error::other)?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(sysfs: &Sysfs) -> bool {
        sysfs.has(Path::new("/sys/class/net/lo"))
    }

    #[test]
    fn a_mount_of_its_own_shows_the_namespaces_devices() {
        let inside = std::thread::spawn(|| {
            if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
                println!("SKIP: no network namespace can be made: {error}");
                return;
            }
            let (seen, own) = (Sysfs::of(true).unwrap(), Sysfs::of(false).unwrap());
            assert!(devices(&seen) && devices(&own));
            for entry in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
                let folder = entry.path();
                if folder.is_dir() && folder != Path::new("/sys/class/net/lo") {
                    assert!(seen.has(&folder) && !own.has(&folder), "{folder:?}");
                }
            }
            let file = Path::new("/sys/class/net/lo/queues/rx-0/rps_cpus");
            own.open(file, false).unwrap();
            let error = own.open(Path::new("/etc/hostname"), false).unwrap_err();
            assert!(!own.is_gone(file, &error));
            let gone = Path::new("/sys/class/net/gone/queues/rx-0/rps_cpus");
            let error = own.open(gone, false).unwrap_err();
            assert!(own.is_gone(gone, &error), "{error}");
        });
        inside.join().unwrap();
    }
}
