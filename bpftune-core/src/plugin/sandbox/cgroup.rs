//! A control group for a plugin, where control groups (version 2) may be made.

use std::{
    fs::{self, File},
    io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::super::Limits;

/// The daemon's own group where its unit puts it into one (`DelegateSubgroup=`): plugins' are beside it.
const OWN: &str = "daemon";
/// Where plugins' groups are below one that may not be written to, as the root group.
const ROOM: &str = "bpftune-plugins";
const PREFIX: &str = "bpftune-plugin-";

/// A plugin's control group; its processes are killed and it is removed on drop.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Memory and number of processes are limited by it.
    limited: bool,
}

impl Cgroup {
    /// Makes one beside or below this process's own; `None` where that is not possible, as without a delegated group.
    /// Limits hold where the controllers are there; rlimits hold anyway.
    #[must_use]
    pub fn new(name: &str, limits: &Limits) -> Option<Cgroup> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let parent = parent()?;
        sweep(&parent);
        // Never the name of one whose processes may not be gone yet.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{number}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let mut cgroup = Cgroup {
            path,
            limited: false,
        };
        if !cgroup.path.join("pids.max").exists() {
            // Refused with EBUSY where the parent has processes of its own: then rlimits must do.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory +pids");
        }
        let set = |file: &str, value: u64| fs::write(cgroup.path.join(file), value.to_string());
        let memory = set("memory.max", limits.memory);
        let _ = set("memory.swap.max", 0);
        let pids = set("pids.max", limits.processes);
        cgroup.limited = memory.is_ok() && pids.is_ok();
        Some(cgroup)
    }

    /// Whether it limits memory and processes.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limited
    }

    /// Its directory, open.
    ///
    /// # Errors
    /// Where it has been removed.
    pub fn dir(&self) -> io::Result<OwnedFd> {
        Ok(File::open(&self.path)?.into())
    }

    /// Kills every process in it (Linux 5.14; before that the process group must do).
    pub fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.kill();
        // Busy until its processes are gone: then the next one made removes it.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Kills the plugins of a daemon that is over, all their processes; for who survives it beside it (Linux 5.14).
pub(crate) fn kill_left_by(daemon: u32) {
    for (owner, path) in parent().iter().flat_map(|parent| groups(parent)) {
        if owner == daemon {
            let _ = fs::write(path.join("cgroup.kill"), "1");
            // Busy until they are gone: then the next start removes it.
            let _ = fs::remove_dir(path);
        }
    }
}

/// The groups of plugins, with the process number of the daemon that made them.
fn groups(parent: &Path) -> impl Iterator<Item = (u32, PathBuf)> + use<> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let owner = name.to_str()?.strip_prefix(PREFIX)?.split('-').next()?;
        Some((owner.parse().ok()?, entry.path()))
    })
}

/// Removes what is left of groups: ours that were busy, and those of daemons that were killed.
fn sweep(parent: &Path) {
    for (owner, path) in groups(parent) {
        if owner != std::process::id() {
            if Path::new("/proc").join(owner.to_string()).exists() {
                continue;
            }
            let _ = fs::write(path.join("cgroup.kill"), "1");
        }
        // Fails for one that is in use.
        let _ = fs::remove_dir(path);
    }
}

/// Makes room for plugins' groups while this process still may: nobody may write to the root group without
/// `CAP_DAC_OVERRIDE`, which the daemon gives up. An empty group stays there; every other group needs none.
pub(crate) fn make_room() {
    if let Some(beside) = beside().filter(|beside| !is_writable(beside)) {
        let _ = fs::create_dir(beside.join(ROOM));
    }
}

/// Where plugins' groups are made.
fn parent() -> Option<PathBuf> {
    let beside = beside()?;
    let room = beside.join(ROOM);
    Some(if !is_writable(&beside) && room.exists() {
        room
    } else {
        beside
    })
}

/// Whether its owner may write to it.
fn is_writable(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.permissions().mode() & 0o200 != 0)
}

/// Beside or in this process's own group, in the unified hierarchy.
fn beside() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let inside = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let inside = Path::new(inside);
    let inside = match inside.file_name() {
        Some(name) if name == OWN => inside.parent()?,
        _ => inside,
    };
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .map(|root| Path::new(root).join(inside))
        .find(|path| path.join("cgroup.controllers").exists())
}
