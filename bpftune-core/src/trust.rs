//! Files that only a trusted user can have written.
//!
//! Each directory on the way is opened from the one before, and links are not followed, so nothing can be put in
//! the place of what was checked.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, open, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat},
    unistd::geteuid,
};

/// Who may write: root, and one more user in tests and private daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Beside root.
    pub user: u32,
}

impl Trust {
    /// Root only.
    pub const ROOT: Trust = Trust { user: 0 };

    /// Root and the user of this process.
    #[must_use]
    pub fn own() -> Trust {
        Trust {
            user: geteuid().as_raw(),
        }
    }

    /// The owner is trusted, and nobody else may write.
    fn check(self, what: &Path, stat: &FileStat) -> Result<(), String> {
        let what = what.display();
        if stat.st_uid != 0 && stat.st_uid != self.user {
            let uid = stat.st_uid;
            return Err(format!(
                "{what} belongs to user {uid}, who could change it: chown root"
            ));
        }
        if stat.st_mode & 0o022 != 0 {
            let mode = stat.st_mode & 0o7777;
            return Err(format!(
                "{what} can be written by others (mode {mode:o}): chmod go-w"
            ));
        }
        Ok(())
    }

    /// Opens a directory. `None` where it, or one on the way to it, does not exist.
    ///
    /// # Errors
    /// What is not to be trusted, or cannot be opened, for a person.
    pub fn directory(self, path: &Path) -> Result<Option<TrustedDir>, String> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let cannot = |path: &Path, errno: Errno| format!("cannot open {}: {errno}", path.display());
        if !path.is_absolute() {
            return Err(format!("{} is no absolute path", path.display()));
        }
        let mut so_far = PathBuf::from("/");
        let mut at = open("/", flags, Mode::empty()).map_err(|errno| cannot(&so_far, errno))?;
        for part in path.iter().skip(1) {
            so_far.push(part);
            at = match openat(at.as_fd(), part, flags, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::ENOENT) => return Ok(None),
                Err(Errno::ELOOP | Errno::ENOTDIR) => {
                    return Err(format!("{} is a link or no directory", so_far.display()));
                }
                Err(errno) => return Err(cannot(&so_far, errno)),
            };
            let stat = fstat(&at).map_err(|errno| cannot(&so_far, errno))?;
            // Where all may make files and only owners may move them, as in /tmp, what is trusted stays in place.
            let sticky = stat.st_mode & 0o1000 != 0 && so_far != path;
            if !sticky {
                self.check(&so_far, &stat)?;
            }
        }
        Ok(Some(TrustedDir {
            trust: self,
            path: so_far,
            fd: at,
        }))
    }
}

/// A directory that only trusted users can write.
#[derive(Debug)]
pub struct TrustedDir {
    trust: Trust,
    path: PathBuf,
    fd: OwnedFd,
}

impl TrustedDir {
    /// The names inside, sorted by their bytes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn names(&self) -> Result<Vec<String>, String> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // A descriptor of its own: reading moves its position.
        let mut entries = openat(&self.fd, ".", flags, Mode::empty())
            .and_then(Dir::from_fd)
            .map_err(|errno| format!("cannot read {}: {errno}", self.path.display()))?;
        let mut names: Vec<String> = entries
            .iter()
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a regular file inside for reading. `None` where it does not exist.
    ///
    /// # Errors
    /// What is not to be trusted, or cannot be opened, for a person.
    pub fn open(&self, name: &str) -> Result<Option<(File, FileStat)>, String> {
        let path = self.path.join(name);
        // Without O_NONBLOCK a FIFO would stop us.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let cannot = |errno: Errno| format!("cannot open {}: {errno}", path.display());
        let fd = match openat(self.fd.as_fd(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => {
                return Err(format!(
                    "{} is a link: put the file itself there",
                    path.display()
                ));
            }
            Err(errno) => return Err(cannot(errno)),
        };
        let stat = fstat(&fd).map_err(cannot)?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(format!("{} is no regular file", path.display()));
        }
        self.trust.check(&path, &stat)?;
        Ok(Some((File::from(fd), stat)))
    }

    /// Reads a file inside, at most `most` bytes and one. `None` where it does not exist.
    ///
    /// # Errors
    /// What is not to be trusted, or cannot be read, for a person.
    pub fn read(&self, name: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let Some((file, _)) = self.open(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot read {}: {error}", self.path.join(name).display()))?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn trusts_what_only_we_can_write() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), "two").unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        chmod(&dir.path().join("a"), 0o644);
        chmod(&dir.path().join("b"), 0o666);
        symlink("a", dir.path().join("c")).unwrap();
        let trusted = Trust::own().directory(dir.path()).unwrap().unwrap();
        assert_eq!(trusted.names().unwrap(), ["a", "b", "c"]);
        assert_eq!(trusted.read("a", 100).unwrap().unwrap(), b"one");
        assert_eq!(trusted.read("a", 1).unwrap().unwrap(), b"on");
        assert_eq!(trusted.read("d", 100).unwrap(), None);
        let error = trusted.read("b", 100).unwrap_err();
        assert!(
            error.contains("mode 666") && error.contains("chmod go-w"),
            "{error}"
        );
        assert!(trusted.read("c", 100).unwrap_err().contains("link"));
        assert!(
            trusted
                .read(".", 100)
                .unwrap_err()
                .contains("no regular file")
        );
    }

    #[test]
    fn refuses_directories_that_others_can_write() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("open/inner");
        fs::create_dir_all(&inner).unwrap();
        chmod(&dir.path().join("open"), 0o777);
        let error = Trust::own().directory(&inner).unwrap_err();
        assert!(error.contains("open can be written by others"), "{error}");
        // Sticky: what is inside stays in its place.
        chmod(&dir.path().join("open"), 0o1777);
        assert!(Trust::own().directory(&inner).unwrap().is_some());
        chmod(&inner, 0o1777);
        assert!(Trust::own().directory(&inner).is_err());
        assert!(
            Trust::own()
                .directory(&dir.path().join("none/at/all"))
                .unwrap()
                .is_none()
        );
        assert!(Trust::own().directory(Path::new("relative")).is_err());
    }

    #[test]
    fn refuses_other_users_files() {
        if !geteuid().is_root() {
            println!("SKIP: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("theirs");
        fs::write(&file, "").unwrap();
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        let trusted = Trust::ROOT.directory(dir.path()).unwrap().unwrap();
        let error = trusted.read("theirs", 10).unwrap_err();
        assert!(
            error.contains("user 65534") && error.contains("chown root"),
            "{error}"
        );
    }
}
