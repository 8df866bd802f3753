//! One daemon a state directory.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{Error, Result};

/// What a reverter writes before its process id.
const REVERTING: &str = "reverting ";
/// How long a reverter, or a process that is just ending, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the lock and writes the process id behind `role`.
pub(super) fn lock(state_dir: &Path, role: &str) -> Result<Flock<File>> {
    let path = state_dir.join("lock");
    let deadline = Instant::now() + PATIENCE;
    let mut lock = loop {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err(_) if gives_way(&path) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => {
                return Err(Error::Locked {
                    pid: holder(&path).unwrap_or(0),
                    path,
                });
            }
        }
    };
    let pid = std::process::id();
    lock.set_len(0)
        .and_then(|()| write!(lock, "{role}{pid}"))
        .map_err(Error::file("write", path))?;
    Ok(lock)
}

fn holder(path: &Path) -> Option<i32> {
    let text = fs::read_to_string(path).ok()?;
    text.strip_prefix(REVERTING)
        .unwrap_or(&text)
        .trim()
        .parse()
        .ok()
}

/// Whether the holder goes by itself: a reverter at work, or a process that has ended but for its last descriptors.
fn gives_way(path: &Path) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.starts_with(REVERTING)
        || holder(path).is_some_and(|pid| {
            // A zombie has no descriptors, and one that is being taken down has no command line any more.
            fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| line.is_empty())
        })
}

/// Takes the state directory for a command that changes values while no daemon runs.
///
/// # Errors
/// [`Error::Locked`] where a daemon runs.
pub fn lock_state(state_dir: &Path) -> Result<impl Drop> {
    lock(state_dir, "")
}

/// The same for the reverter: a daemon or command that comes meanwhile waits for it.
///
/// # Errors
/// As above.
pub fn lock_state_to_revert(state_dir: &Path) -> Result<impl Drop> {
    lock(state_dir, REVERTING)
}
