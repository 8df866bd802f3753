//! A process plugin while it runs: its streams, what it is told, what it says. Nothing here blocks, and
//! what one turn does is bounded. Whatever breaks the protocol ends the process.

mod check;
mod hear;
mod inform;
mod lines;
mod sampling;
mod stderr;
mod tuner;

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    process::ExitStatus,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signal::{Signal as UnixSignal, kill, killpg},
    },
    unistd::Pid,
};
use uring_process::{Child, Starting};

pub use self::check::check;
pub(super) use self::tuner::halves;
use self::{
    hear::SEQUENCE,
    lines::{Inbox, Outbox, Stream},
    sampling::Sampling,
    stderr::Stderr,
};
use super::{
    Context, Permitted,
    limits::Budget,
    protocol::Hello,
    sandbox::{self, Cgroup, Spawned},
};
use crate::{Error, NetnsCookie, Proposal, Result, Signal, bpf::HookStatus, timer::Timer};

/// How long a plugin may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long it may leave what it is told unread.
const READS_WITHIN: Duration = Duration::from_secs(10);
/// What it may say at once, and then each second.
const LINES: (f64, f64) = (64.0, 20.0);
/// Proposals that may wait for the engine.
const MOST_WAITING: usize = 64;
/// The namespaces that it is remembered to know.
const MOST_NETNS: usize = 4096;
/// How long the daemon waits for the end of a process that was killed, where it cannot go on without.
const DIES_WITHIN: Duration = Duration::from_millis(200);

const TOKEN_STDIN: u64 = 0;
const TOKEN_STDOUT: u64 = 1;
const TOKEN_STDERR: u64 = 2;
const TOKEN_TIMER: u64 = 3;

#[derive(Debug)]
enum Kid {
    Starting(Starting),
    Child(Child),
    Gone,
}

/// What is needed to start a process plugin.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    /// Where it was found, for people.
    pub(super) path: PathBuf,
    /// It, open for reading.
    pub(super) file: File,
    /// Whose process it becomes.
    pub(super) uid: u32,
}

/// A process plugin that was started.
pub(super) struct Process {
    name: String,
    path: PathBuf,
    context: Rc<Context>,
    permitted: Permitted,
    kid: Kid,
    pid: Pid,
    cgroup: Option<Cgroup>,
    stdin: PipeWriter,
    stdout: PipeReader,
    stderr: PipeReader,
    epoll: Rc<Epoll>,
    timer: Timer,
    inbox: Inbox,
    outbox: Outbox,
    /// Something waits to be written since then, and nothing was taken.
    stuck_since: Option<Instant>,
    /// It closed its standard input.
    deaf: bool,
    errors: Stderr,
    lines: Budget,
    hello: Option<Hello>,
    /// It is ended where it has not done what it is waited for by then: said hello, or ended itself.
    patience: Option<Instant>,
    /// Its tunables are its own.
    welcome: bool,
    sampling: Sampling,
    /// The namespaces that it was told of.
    known: HashSet<NetnsCookie>,
    /// Proposals by their sequence number, with the plugin's marks.
    waiting: VecDeque<(u64, String, Proposal)>,
    sequence: u64,
    /// Why it is being ended.
    over: Option<String>,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// The process could not be made.
    pub(super) fn start(
        program: &Program,
        settings: &super::Settings,
        context: Rc<Context>,
    ) -> Result<Process> {
        let Program {
            name,
            path,
            file,
            uid,
        } = program;
        let limits = &settings.limits;
        let cgroup = Cgroup::new(name, limits);
        let Spawned {
            starting,
            stdin,
            stdout,
            stderr,
        } = sandbox::spawn(name, file, *uid, limits, cgroup.as_ref())
            .map_err(Error::file("run", path.clone()))?;
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let now = Instant::now();
        let process = Process {
            name: name.clone(),
            path: path.clone(),
            context,
            permitted: settings.permitted.clone(),
            pid: Pid::from_raw(starting.id() as i32),
            kid: Kid::Starting(starting),
            cgroup,
            stdin,
            stdout,
            stderr,
            epoll: Rc::new(epoll),
            timer: Timer::new()?,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            stuck_since: None,
            deaf: false,
            errors: Stderr::new(now),
            lines: Budget::new(LINES.0, LINES.1, now),
            hello: None,
            patience: Some(now + HELLO_WITHIN),
            welcome: false,
            sampling: Sampling::default(),
            known: HashSet::new(),
            waiting: VecDeque::new(),
            sequence: 0,
            over: None,
        };
        process.watch(process.stdout.as_fd(), TOKEN_STDOUT)?;
        process.watch(process.stderr.as_fd(), TOKEN_STDERR)?;
        process.watch(process.timer.fd(), TOKEN_TIMER)?;
        process.arm_timer();
        Ok(process)
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(Error::system("epoll_ctl"))
    }

    /// Readable when [`pump`](Self::pump) has something to do.
    pub(super) fn epoll(&self) -> Rc<Epoll> {
        self.epoll.clone()
    }

    /// Readable when the process has ended.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kid {
            Kid::Starting(starting) => Some(starting.pidfd()),
            Kid::Child(child) => Some(child.pidfd()),
            Kid::Gone => None,
        }
    }

    /// What it said hello with.
    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// How it is confined, as `status` shows it.
    fn hook(&self) -> HookStatus {
        let section = match &self.cgroup {
            Some(cgroup) if cgroup.is_limited() => "process, own user, limited by its cgroup",
            _ => "process, own user, limited by rlimits",
        };
        HookStatus {
            name: self.path.display().to_string(),
            section: section.into(),
            off: None,
        }
    }

    /// Does what its descriptors ask for: a bounded part of it.
    pub(super) fn pump(&mut self, out: &mut Vec<Signal>) {
        let mut events = [EpollEvent::empty(); 8];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        for event in &events[..count] {
            if self.over.is_some() {
                return;
            }
            let done = match event.data() {
                TOKEN_STDIN => self.flush(),
                TOKEN_STDOUT => self.listen(out),
                TOKEN_STDERR => self.read_stderr(),
                _ => self.on_time(),
            };
            if let Err(why) = done {
                return self.breach(why);
            }
        }
        self.arm_timer();
    }

    /// It broke the protocol: that ends it. The manager hears of the end by the pidfd.
    fn breach(&mut self, why: String) {
        tracing::warn!("plugin {} is ended: it {why}", self.name);
        // Nothing more is read, so nothing wakes the loop but the end.
        for fd in [self.stdout.as_fd(), self.stderr.as_fd(), self.stdin.as_fd()] {
            let _ = self.epoll.delete(fd);
        }
        self.timer.set(None);
        self.sampling = Sampling::default();
        self.over = Some(why);
        self.kill();
    }

    /// Ends all of its processes.
    fn kill(&mut self) {
        if matches!(self.kid, Kid::Gone) {
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        // Not waited for yet, so the number is still its own. Between its making and its session it
        // has no group.
        let _ = killpg(self.pid, UnixSignal::SIGKILL);
        if let Err(errno) = kill(self.pid, UnixSignal::SIGKILL)
            && errno != Errno::ESRCH
        {
            tracing::error!(
                "cannot end plugin {} (process {}): {errno}",
                self.name,
                self.pid
            );
        }
    }

    /// It has ended: takes the rest of its processes and its status; says why it ended.
    pub(super) fn reap(&mut self) -> String {
        self.kill();
        if self.over.is_none() {
            let _ = self.read_stderr();
            // What it said last may be why; nobody asks any more what it proposes.
            self.over = self.listen(&mut Vec::new()).err();
        }
        let ended = match std::mem::replace(&mut self.kid, Kid::Gone) {
            Kid::Starting(starting) => match starting.try_wait() {
                Ok(Ok(mut child)) => describe(child.wait()),
                Ok(Err(_)) => "ended while it was started".into(),
                Err(error) => format!("could not be run: {error}"),
            },
            Kid::Child(mut child) => describe(child.wait()),
            Kid::Gone => "ended".into(),
        };
        let why = self.over.get_or_insert(ended);
        match self.errors.last() {
            Some(last) => format!("it {why}; its last words: {last}"),
            None => format!("it {why}"),
        }
    }

    fn on_time(&mut self) -> Result<(), String> {
        self.timer.take();
        let now = Instant::now();
        if self.patience.is_some_and(|by| by <= now) {
            return Err(match self.hello {
                None => format!("did not say hello within {} s", HELLO_WITHIN.as_secs()),
                Some(_) => "closed its standard output and runs on".into(),
            });
        }
        if self
            .stuck_since
            .is_some_and(|since| since + READS_WITHIN <= now)
        {
            return Err(format!(
                "did not read its standard input for {} s, and {} lines were dropped",
                READS_WITHIN.as_secs(),
                self.outbox.dropped
            ));
        }
        let context = self.context.clone();
        for due in self.sampling.due(&context, now) {
            self.due(due);
        }
        Ok(())
    }

    fn arm_timer(&self) {
        if self.over.is_none() {
            let stuck = self.stuck_since.map(|since| since + READS_WITHIN);
            let all = [self.patience, stuck, self.sampling.next()];
            self.timer.set(all.into_iter().flatten());
        }
    }

    fn read_stderr(&mut self) -> Result<(), String> {
        let stream = self.errors.read(&mut self.stderr, &self.name)?;
        if stream == Stream::Ended {
            let _ = self.epoll.delete(self.stderr.as_fd());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let Some(pidfd) = self.pidfd() else {
            return;
        };
        // Killed, so this takes no time to speak of; but a process can be stuck in the kernel, and nobody waits for that.
        let mut ended = [PollFd::new(pidfd, PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(DIES_WITHIN).unwrap_or(PollTimeout::ZERO);
        if !poll(&mut ended, timeout).is_ok_and(|count| count > 0) {
            tracing::error!("plugin {} (process {}) does not die", self.name, self.pid);
            return;
        }
        self.reap();
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("ended ({status})"),
        Err(error) => format!("ended ({error})"),
    }
}
