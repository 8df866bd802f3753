//! A rival in a process of its own, asked line by line: for what is set once per process.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use super::{AsyncProcess, Loop, Ours, PosixSpawn, Rival, Std, Threads, Tokio, What};
use crate::ballast;

pub(crate) struct Helper {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
    name: String,
}

impl Helper {
    pub(crate) fn new(kind: &str, what: &What) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--helper", kind])
            .arg(&what.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let name = match kind {
            "ours" | "ours-2" => "uring-process",
            "vfork" => "uring-process with CLONE_VFORK",
            "bare" => "bare vfork loop",
            "std" => "std::process",
            "tokio" => "tokio, current thread",
            "tokio-multi" => "tokio, multi thread",
            other => other,
        };
        if kind == "vfork" {
            command.env("URING_PROCESS_FORCE", "vfork");
        }
        let mut child = command.spawn()?;
        let gone = || io::Error::other("the helper has no pipes");
        let ask = child.stdin.take().ok_or_else(gone)?;
        let answer = BufReader::new(child.stdout.take().ok_or_else(gone)?);
        Ok(Self {
            child,
            ask,
            answer,
            name: name.into(),
        })
    }

    pub(crate) fn ask(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.ask, "{line}")
    }

    pub(crate) fn answer(&mut self) -> io::Result<Duration> {
        let first = self.answers()?.into_iter().next();
        first.ok_or_else(|| io::Error::other(format!("the helper for {} said nothing", self.name)))
    }

    fn answers(&mut self) -> io::Result<Vec<Duration>> {
        let mut line = String::new();
        self.answer.read_line(&mut line)?;
        let times = line
            .split_whitespace()
            .map(|word| word.parse().map(Duration::from_nanos));
        times
            .collect::<Result<_, _>>()
            .map_err(|_| io::Error::other(format!("the helper for {} said {line:?}", self.name)))
    }

    /// So many processes one after the other: how long each held its caller up.
    pub(crate) fn blocked_each(&mut self, count: usize) -> io::Result<Vec<Duration>> {
        self.ask(&format!("each {count}"))?;
        self.answers()
    }

    /// As large as this one; begun only, to be finished by [`Helper::answer`].
    pub(crate) fn ask_ballast(&mut self, bytes: usize) -> io::Result<()> {
        self.ask(&format!("ballast {bytes}"))
    }

    pub(crate) fn descriptors(&mut self, count: usize) -> io::Result<()> {
        self.ask(&format!("descriptors {count}"))?;
        self.answer().map(drop)
    }
}

impl Rival for Helper {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        self.ask("blocked")?;
        self.answer()
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        self.ask(&format!("many {count} {in_flight}"))?;
        self.answer()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.ask("end");
        let _ = self.child.wait();
    }
}

fn rival(kind: &str, what: &What) -> io::Result<Box<dyn Rival>> {
    Ok(match kind {
        "ours-2" => Box::new(Threads::new(what, 2)),
        "bare" => Box::new(Loop::new(what)?),
        "std" => Box::new(Std::new(what)),
        "posix_spawn" => Box::new(PosixSpawn::new(what)?),
        "tokio" => Box::new(Tokio::current_thread(what)?),
        "tokio-multi" => Box::new(Tokio::multi_thread(what)?),
        "async-process" => Box::new(AsyncProcess::new(what)?),
        _ => Box::new(Ours::new(what)?),
    })
}

/// The other side: `kind` and the program are this process's arguments.
pub(crate) fn serve(kind: &str, program: &Path) -> io::Result<()> {
    let keep = |fd: &dyn AsRawFd| {
        // SAFETY: makes a descriptor that nobody else has.
        unsafe { OwnedFd::from_raw_fd(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3)) }
    };
    let (ask, mut answer) = (
        File::from(keep(&io::stdin())),
        File::from(keep(&io::stdout())),
    );
    // Children that inherit these: as the other rivals' children.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for fd in [0, 1] {
        // SAFETY: replaces a standard stream that is not used from here on.
        unsafe { libc::dup2(null.as_raw_fd(), fd) };
    }
    let mut rival = rival(kind, &What::program(program))?;
    let (mut memory, mut files) = (None, Vec::new());
    for line in BufReader::new(ask).lines() {
        let line = line?;
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let took = match verb {
            "blocked" => rival.blocked()?,
            "many" => rival.many(number(), number())?,
            "ballast" => {
                drop(memory.take());
                memory = Some(ballast::Ballast::new(number())?);
                Duration::ZERO
            }
            "descriptors" => {
                files.clear();
                files = ballast::descriptors(number())?;
                Duration::ZERO
            }
            "each" => {
                let times: Vec<String> = (0..number())
                    .map(|_| Ok(rival.blocked()?.as_nanos().to_string()))
                    .collect::<io::Result<_>>()?;
                writeln!(answer, "{}", times.join(" "))?;
                continue;
            }
            _ => break,
        };
        writeln!(answer, "{}", took.as_nanos())?;
    }
    Ok(())
}
