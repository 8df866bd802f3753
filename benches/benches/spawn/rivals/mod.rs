//! Who is compared: each starts the same program, its three standard streams and its environment inherited.

mod async_process;
mod bare;
mod helper;
mod ours;
mod posix_spawn;
mod std_process;
mod tokio_process;

use std::{
    ffi::c_char,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use self::{
    async_process::AsyncProcess,
    bare::{Loop, Loops},
    helper::{Helper, serve},
    ours::{Ours, Threads},
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

unsafe extern "C" {
    /// environ(7): for those rivals that take it from there.
    pub(crate) static environ: *const *mut c_char;
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

/// A rival with as many in flight as makes it fastest, at most as many as it is asked for: a caller
/// that blocks may gain nothing by more.
pub(crate) struct Fastest<R> {
    rival: R,
    in_flight: usize,
}

impl<R: Rival> Fastest<R> {
    pub(crate) fn new(mut rival: R, in_flight: usize) -> io::Result<Self> {
        let mut best = (Duration::MAX, in_flight);
        rival.many(100, in_flight)?;
        for in_flight in [1, 2, 4, 16, in_flight] {
            // The better of two, in case the machine was busy.
            let took = rival.many(400, in_flight)?.min(rival.many(400, in_flight)?);
            best = best.min((took, in_flight));
        }
        let in_flight = best.1;
        Ok(Self { rival, in_flight })
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl<R: Rival> Rival for Fastest<R> {
    fn name(&self) -> String {
        format!("{} at its fastest", self.rival.name())
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        self.rival.blocked()
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        self.rival.many(count, self.in_flight.min(in_flight))
    }
}
