//! Control groups of version 1, of which scenarios set limits.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// Where a controller's groups are: "blkio", "memory". `None` where this host has it in version 2, or not at all.
pub(super) fn root(controller: &str) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (folder, kind, options) = (words.next()?, words.next()?, words.next()?);
        let has = kind == "cgroup" && options.split(',').any(|option| option == controller);
        has.then(|| PathBuf::from(folder))
    })
}

/// A group with a limit of memory; it goes on drop.
pub(super) struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Why there can be none, if so.
    pub(super) fn missing() -> Option<&'static str> {
        root("memory")
            .is_none()
            .then_some("no memory control group (v1)")
    }

    pub(super) fn new(bytes: u64) -> Result<MemoryGroup> {
        let root = root("memory").ok_or_else(|| Error::other("no memory control group", "v1"))?;
        let group = MemoryGroup(root.join(format!("lab-{}", std::process::id())));
        fs::create_dir_all(&group.0).map_err(Error::doing("cannot make a control group"))?;
        fs::write(group.0.join("memory.limit_in_bytes"), format!("{bytes}"))
            .map_err(Error::doing("cannot limit a control group"))?;
        Ok(group)
    }

    /// Who writes its number there is in the group.
    pub(super) fn tasks(&self) -> PathBuf {
        self.0.join("tasks")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel holds a group for a moment after its last process.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() || !Path::new(&self.0).exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("cannot remove {}", self.0.display());
    }
}
