//! Who is compared: each starts the same program, its standard input /dev/null, the rest inherited.

mod async_process;
mod bare;
mod helper;
mod ours;
mod posix_spawn;
mod std_process;
mod tokio_process;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use self::{
    async_process::AsyncProcess,
    bare::{Loop, Loops},
    helper::{Helper, serve},
    ours::Ours,
    posix_spawn::PosixSpawn,
    std_process::Std,
    tokio_process::Tokio,
};

/// What is started.
#[derive(Debug, Clone)]
pub(crate) struct What {
    pub(crate) program: PathBuf,
    /// Other uid, other gid, a session of its own.
    pub(crate) ids: bool,
}

impl What {
    pub(crate) fn program(path: &Path) -> Self {
        Self {
            program: path.to_owned(),
            ids: false,
        }
    }

    pub(crate) fn with_ids(mut self) -> Self {
        self.ids = true;
        self
    }
}

/// User and group of those children that get other ones.
pub(crate) const OTHER: u32 = 65534;

/// One way to make processes.
pub(crate) trait Rival {
    fn name(&self) -> String;

    /// Makes one process and waits for its end. Returns how long the making held its caller up.
    fn blocked(&mut self) -> io::Result<Duration>;

    /// Makes `count` processes, up to `in_flight` at a time, and waits for the end of each.
    /// Returns how long all took.
    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration>;
}
