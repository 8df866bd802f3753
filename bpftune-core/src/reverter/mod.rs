//! A second, tiny process that puts values back when the daemon cannot.
//!
//! The daemon starts it before anything may change, and holds one end of a pipe. The other end tells:
//!
//! * closed without a goodbye: the daemon is dead (SIGKILL, OOM, crash). The reverter restores what the journal says.
//! * silent for [`STALLED`] while changes are on trial: the daemon hangs. It is killed, for only then is its state
//!   directory free, and then the same.
//! * goodbye: the daemon restored or kept everything itself. The reverter ends.
//!
//! It sleeps in one poll(2), without a timeout while nothing is on trial, and opens the journal only when it is needed.
//! What it may not do: decide anything. It restores originals as the next start of the daemon would, only sooner.

mod alone;

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use nix::{fcntl::OFlag, unistd::pipe2};

use crate::{Error, Result};

/// The first argument that makes a daemon's program its reverter.
pub const VERB: &str = "reverter";

/// So long without a heartbeat, while changes are on trial, is a stall.
pub const STALLED: Duration = Duration::from_secs(30);

const BEAT: u8 = b'+';
const IDLE: u8 = b'.';
const GOODBYE: u8 = b'q';

/// The daemon's end.
#[derive(Debug)]
pub struct Reverter {
    program: PathBuf,
    state_dir: PathBuf,
    pipe: File,
    child: Child,
    /// Whether it waits for heartbeats.
    waits: bool,
}

impl Reverter {
    /// Starts `program` as a reverter. The program must call [`run_if_asked`] first of all.
    ///
    /// # Errors
    /// Where no process can be made.
    pub fn start(program: &Path, state_dir: &Path) -> Result<Reverter> {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("pipe2"))?;
        // A reverter that does not read must not stop the daemon.
        nonblocking(&ours)?;
        let child = Command::new(program)
            .arg(VERB)
            .arg(state_dir)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(Error::file("start as reverter", program))?;
        Ok(Reverter {
            program: program.to_owned(),
            state_dir: state_dir.to_owned(),
            pipe: File::from(ours),
            child,
            waits: false,
        })
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Changes are on trial: the next heartbeat comes within [`STALLED`].
    pub fn beat(&mut self) {
        self.waits = true;
        self.tell(BEAT);
    }

    /// Nothing is on trial: no more heartbeats until the next change.
    pub fn idle(&mut self) {
        if std::mem::take(&mut self.waits) {
            self.tell(IDLE);
        }
    }

    /// Everything is restored, or kept on purpose. Waits for the reverter's end, but not for long.
    pub fn goodbye(mut self) {
        let _ = self.pipe.write(&[GOODBYE]);
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn tell(&mut self, what: u8) {
        match self.pipe.write(&[what]) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.again(what),
            // Full: it has enough to read.
            _ => {}
        }
    }

    /// Somebody ended it: another takes its place.
    fn again(&mut self, what: u8) {
        let _ = self.child.wait();
        match Reverter::start(&self.program, &self.state_dir) {
            Ok(mut next) => {
                tracing::warn!(
                    "the reverter (process {}) ended; process {} takes its place",
                    self.pid(),
                    next.pid()
                );
                next.waits = self.waits;
                let _ = next.pipe.write(&[what]);
                *self = next;
            }
            Err(error) => {
                tracing::warn!("no reverter: {error}; `bpftune revert` restores after a crash")
            }
        }
    }
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(Error::system("fcntl"))?;
    Ok(())
}

/// Runs as the reverter where the command line says so: `PROGRAM reverter STATE_DIR`. Else returns at once. To be called
/// first in `main`: a reverter needs none of what follows.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let (verb, state_dir) = (args.next()?, args.next()?);
    if verb != VERB || args.next().is_some() {
        return None;
    }
    Some(alone::run(Path::new(&state_dir)))
}
