//! Tells when something in the directories of plugins changes, without looking at them: inotify.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

#[derive(Debug)]
pub(super) struct Watch(Inotify);

impl Watch {
    /// Watches the directories, and where one does not exist the place where it would come to be. Made anew after each
    /// change, so that what is no longer of interest wakes nobody.
    pub(super) fn new(directories: &[PathBuf]) -> nix::Result<Watch> {
        let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let moves = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let changes = moves
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        // Two directories may wait for one place, and a second watch of it would take the place of the first.
        let mut wanted: BTreeMap<&Path, AddWatchFlags> = BTreeMap::new();
        for directory in directories {
            let mut ancestors = directory.ancestors();
            let there = ancestors
                .find(|path| path.is_dir())
                .unwrap_or(Path::new("/"));
            let flags = if there == directory { changes } else { moves };
            *wanted.entry(there).or_insert(AddWatchFlags::IN_ONLYDIR) |= flags;
        }
        for (path, flags) in wanted {
            files.add_watch(path, flags)?;
        }
        Ok(Watch(files))
    }

    /// Readable when something happened.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes what happened.
    pub(super) fn take(&self) {
        // Ends with EAGAIN; whatever else could come, the directories are read anyway.
        while self.0.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}
