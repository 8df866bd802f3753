//! A control group for a plugin, where control groups (version 2) may be made.

use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use super::super::Limits;

/// The daemon's own group where its unit puts it into one (`DelegateSubgroup=`): plugins' are beside it.
const OWN: &str = "daemon";
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

/// Removes what is left of groups: ours that were busy, and those of daemons that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        let Some(owner): Option<u32> = owner else {
            continue;
        };
        if owner != std::process::id() {
            if Path::new("/proc").join(owner.to_string()).exists() {
                continue;
            }
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
        }
        // Fails for one that is in use.
        let _ = fs::remove_dir(entry.path());
    }
}

/// Where plugins' groups are made, in the unified hierarchy.
fn parent() -> Option<PathBuf> {
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
