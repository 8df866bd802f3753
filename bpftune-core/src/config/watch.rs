//! Tells when the files change, without looking at them: inotify on their directories.

use std::{
    ffi::{OsStr, OsString},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor},
};

use super::files::{DROP_INS, Files, MAIN, is_drop_in};
use crate::{Error, Result};

/// What an inotify watch is on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum On {
    /// The directory above, where the files' own does not exist yet.
    Above(OsString),
    /// The files' own.
    Directory,
    /// The drop-ins'.
    DropIns,
}

/// Watches of the directories of [`Files`]. Files that are written in place count when they are closed, those that are
/// moved there at once.
#[derive(Debug)]
pub struct Watch {
    files: Files,
    inotify: Inotify,
    watches: Vec<(WatchDescriptor, On)>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where the kernel gives no inotify instance.
    pub fn new(files: Files) -> Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(Error::system("inotify_init1"))?;
        let mut watch = Watch {
            files,
            inotify,
            watches: Vec::new(),
        };
        watch.renew();
        Ok(watch)
    }

    /// Readable when something happened.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches what is there now; directories come and go. Adding a watch that is there already changes nothing.
    fn renew(&mut self) {
        let directory = self.files.directory.clone();
        let mut wanted = vec![
            (directory.join(DROP_INS), On::DropIns),
            (directory.clone(), On::Directory),
        ];
        if !directory.is_dir()
            && let (Some(above), Some(name)) = (directory.parent(), directory.file_name())
        {
            wanted.push((above.to_owned(), On::Above(name.to_owned())));
        } else {
            self.forget(|on| matches!(on, On::Above(_)));
        }
        for (path, on) in wanted {
            self.add(&path, on);
        }
    }

    fn add(&mut self, path: &Path, on: On) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.add_watch(path, flags) {
            Ok(watch) => {
                self.watches.retain(|(other, _)| *other != watch);
                self.watches.push((watch, on));
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => {
                let path = path.display();
                tracing::warn!("changes of {path} are not noticed ({errno}): send SIGHUP");
            }
        }
    }

    fn forget(&mut self, which: impl Fn(&On) -> bool) {
        for (watch, _) in self.watches.extract_if(.., |(_, on)| which(on)) {
            let _ = self.inotify.rm_watch(watch);
        }
    }

    /// Takes what happened; whether any of it concerns the files.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        // Ends with EAGAIN; what else could come is no reason to stop the daemon.
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                changed |= self.concerns(&event);
                if event
                    .mask
                    .intersects(AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF)
                {
                    self.forget_one(event.wd);
                }
            }
        }
        if changed {
            self.renew();
        }
        changed
    }

    fn forget_one(&mut self, gone: WatchDescriptor) {
        if let Some(at) = self.watches.iter().position(|(watch, _)| *watch == gone) {
            self.watches.remove(at);
            // Already gone after IN_IGNORED.
            let _ = self.inotify.rm_watch(gone);
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let Some((_, on)) = self.watches.iter().find(|(watch, _)| *watch == event.wd) else {
            return false;
        };
        let Some(name) = &event.name else {
            // The directory itself: gone, moved, or another mode.
            return !event.mask.contains(AddWatchFlags::IN_IGNORED) && !matches!(on, On::Above(_));
        };
        // A new file is empty until it is closed or renamed; a new directory may have files already.
        let is_dir = event.mask.contains(AddWatchFlags::IN_ISDIR);
        if event.mask.contains(AddWatchFlags::IN_CREATE) && !is_dir {
            return false;
        }
        match on {
            On::Above(directory) => name == directory,
            On::Directory => name == MAIN || name == DROP_INS,
            On::DropIns => OsStr::to_str(name).is_some_and(is_drop_in),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::trust::Trust;

    #[test]
    fn notices_what_concerns_it_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("bpftune");
        let drop_ins = directory.join(DROP_INS);
        let files = Files {
            directory: directory.clone(),
            trust: Trust::own(),
        };
        let mut watch = Watch::new(files).unwrap();
        assert!(!watch.changed());
        fs::write(root.path().join("other"), "").unwrap();
        assert!(!watch.changed(), "something else above");
        fs::create_dir(&directory).unwrap();
        assert!(watch.changed(), "the directory came");
        fs::write(root.path().join("other"), "again").unwrap();
        assert!(!watch.changed());
        fs::write(directory.join(MAIN), "a").unwrap();
        assert!(watch.changed(), "written");
        fs::write(directory.join("notes"), "").unwrap();
        assert!(!watch.changed(), "another file");
        fs::create_dir(&drop_ins).unwrap();
        assert!(watch.changed(), "conf.d came");
        fs::write(drop_ins.join("10.toml.new"), "").unwrap();
        assert!(!watch.changed());
        fs::rename(drop_ins.join("10.toml.new"), drop_ins.join("10.toml")).unwrap();
        assert!(watch.changed(), "moved there");
        let _ = fs::read(drop_ins.join("10.toml")).unwrap();
        assert!(!watch.changed(), "read only");
        fs::remove_file(drop_ins.join("10.toml")).unwrap();
        assert!(watch.changed(), "removed");
        fs::remove_dir(&drop_ins).unwrap();
        assert!(watch.changed(), "conf.d went");
        fs::create_dir(&drop_ins).unwrap();
        assert!(watch.changed(), "conf.d came again");
        fs::write(drop_ins.join("20.toml"), "").unwrap();
        assert!(watch.changed());
        fs::rename(&directory, root.path().join("away")).unwrap();
        assert!(watch.changed(), "all went");
        fs::write(root.path().join("away").join(MAIN), "b").unwrap();
        assert!(!watch.changed(), "it is not ours any more");
        fs::rename(root.path().join("away"), &directory).unwrap();
        assert!(watch.changed(), "all came back");
        fs::write(directory.join(MAIN), "c").unwrap();
        assert!(watch.changed());
    }
}
