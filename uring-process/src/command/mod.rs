//! [`Command`]: what to run and how, with std's names.

mod attributes;
mod env;
mod stdio;

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    os::fd::OwnedFd,
    path::Path,
    process::{CommandArgs, CommandEnvs},
    sync::{Arc, Mutex},
};

pub(crate) use attributes::Attributes;
pub use attributes::SockFilter;
use env::Env;
pub use stdio::Stdio;

use crate::{
    Error, ExecPlan,
    plan::{Hook, Origin, Parts},
};

/// Which of this process's descriptors a child gets besides those that are mapped to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FdPolicy {
    /// None: standard input, output, error and the descriptors of [`Command::fd_map`], and no
    /// others, whether they are close-on-exec or not.
    ///
    /// The child's making costs the same however many descriptors this process has open: the
    /// table is shared until the child takes a copy of its lower part, up to the highest
    /// descriptor that it needs. It also closes a race: a file that another thread is writing is
    /// held open by a child for no longer than it takes from that copy to the exec, and not at all
    /// where its number is higher. A program that is held open for writing is tried again for some
    /// 15 ms, so running what was just written does not fail with `ETXTBSY` (but not where a
    /// launcher or a seccomp filter is in between).
    #[default]
    Mapped,
    /// All that are not close-on-exec, as `std::process`, fork(2) and posix_spawn(3) do.
    ///
    /// Each start copies the whole descriptor table. Together with a change of ids it takes
    /// fork(2), whose cost grows with this process's memory.
    InheritAll,
}

/// What to run, and how: a builder with the names and the meaning of [`std::process::Command`].
///
/// See the [crate's page](crate) for the ways to start it, and for the one thing that differs: a
/// child gets only the descriptors that are mapped to it ([`FdPolicy`]).
///
/// ```
/// use uring_process::Command;
///
/// let output = Command::new("echo").arg("hello").output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Command {
    /// Program, arguments, environment and directory, with std's own getters and `Debug`.
    shown: std::process::Command,
    /// As given: std replaces a string with a NUL byte.
    program: OsString,
    argv: Vec<OsString>,
    env: Env,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    fds: Vec<(i32, Arc<OwnedFd>)>,
    policy: FdPolicy,
    attributes: Attributes,
    cgroup: Option<Arc<OwnedFd>>,
    hooks: Option<Arc<Mutex<Vec<Hook>>>>,
}

/// What a stream is that was not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// All three are inherited: spawn and status.
    Inherit,
    /// Nothing to read, the others captured: output.
    Capture,
}

impl Command {
    /// A command that runs `program`, which is searched in `PATH` unless it has a slash.
    ///
    /// The child's own `PATH` is searched, where its environment was changed.
    ///
    /// ```
    /// uring_process::Command::new("true").status()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self {
            shown: std::process::Command::new(&program),
            argv: vec![program.clone()],
            program,
            env: Env::default(),
            stdin: None,
            stdout: None,
            stderr: None,
            fds: Vec::new(),
            policy: FdPolicy::default(),
            attributes: Attributes::default(),
            cgroup: None,
            hooks: None,
        }
    }

    /// Adds an argument; no shell ever sees it.
    ///
    /// ```
    /// use uring_process::Command;
    /// let output = Command::new("echo").arg("$HOME *").output()?;
    /// assert_eq!(output.stdout, b"$HOME *\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.shown.arg(&arg);
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    ///
    /// ```
    /// use uring_process::Command;
    /// assert!(Command::new("test").args(["a", "=", "a"]).status()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets the zeroth argument, by which a program learns its own name.
    ///
    /// ```
    /// use uring_process::Command;
    /// let output = Command::new("sh").arg0("me").args(["-c", "echo $0"]).output()?;
    /// assert_eq!(output.stdout, b"me\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(&mut self.shown, &arg);
        arg.as_ref().clone_into(&mut self.argv[0]);
        self
    }

    /// Sets an environment variable.
    ///
    /// ```
    /// use uring_process::Command;
    /// let output = Command::new("sh").args(["-c", "echo $COLOR"]).env("COLOR", "red").output()?;
    /// assert_eq!(output.stdout, b"red\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.shown.env(&key, &value);
        self.env.set(key.as_ref(), value.as_ref());
        self
    }

    /// Sets environment variables.
    ///
    /// ```
    /// use uring_process::Command;
    /// Command::new("true").envs([("A", "1"), ("B", "2")]).status()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// The child does not get this variable.
    ///
    /// ```
    /// use uring_process::Command;
    /// Command::new("true").env_remove("LD_PRELOAD").status()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.shown.env_remove(&key);
        self.env.remove(key.as_ref());
        self
    }

    /// The child gets none of this process's variables, nor those set so far.
    ///
    /// ```
    /// use uring_process::Command;
    /// let output = Command::new("/usr/bin/env").env_clear().env("ONLY", "this").output()?;
    /// assert_eq!(output.stdout, b"ONLY=this\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn env_clear(&mut self) -> &mut Self {
        self.shown.env_clear();
        self.env.clear();
        self
    }

    /// Sets the working directory. A relative program is looked up from there.
    ///
    /// ```
    /// use uring_process::Command;
    /// let output = Command::new("pwd").current_dir("/").output()?;
    /// assert_eq!(output.stdout, b"/\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.shown.current_dir(&dir);
        self.attributes.current_dir = Some(dir.as_ref().as_os_str().to_owned());
        self
    }

    /// Standard input. Inherited by [`spawn`](Self::spawn) and [`status`](Self::status), empty
    /// for [`output`](Self::output), where it is not set.
    ///
    /// ```
    /// use uring_process::{Command, Stdio};
    /// Command::new("cat").stdin(Stdio::null()).status()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdin = Some(stdio.into());
        self
    }

    /// Standard output. Captured by [`output`](Self::output), else inherited, where not set.
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stdout = Some(stdio.into());
        self
    }

    /// Standard error. Captured by [`output`](Self::output), else inherited, where not set.
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.stderr = Some(stdio.into());
        self
    }

    /// Gives the child `fd` as its descriptor `child_fd`, open across the exec.
    ///
    /// Any number of them, in any order: swaps and cycles work. A later entry for the same
    /// number replaces the earlier one, and any setting of the standard stream of that number.
    /// The command, and each plan made from it, keep `fd` open.
    ///
    /// # Errors
    /// A negative number is an error of the start.
    ///
    /// ```
    /// use uring_process::Command;
    /// let (reader, writer) = std::io::pipe()?;
    /// Command::new("sh").args(["-c", "echo hello >&5"]).fd_map(5, writer).status()?;
    /// assert_eq!(std::io::read_to_string(reader)?, "hello\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fd_map(&mut self, child_fd: i32, fd: impl Into<OwnedFd>) -> &mut Self {
        self.fds.retain(|(target, _)| *target != child_fd);
        self.fds.push((child_fd, Arc::new(fd.into())));
        self
    }

    /// Which of this process's other descriptors the child gets.
    ///
    /// ```
    /// use uring_process::{Command, FdPolicy};
    /// Command::new("true").fd_policy(FdPolicy::InheritAll).status()?; // as std does
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn fd_policy(&mut self, policy: FdPolicy) -> &mut Self {
        self.policy = policy;
        self
    }

    /// Starts the child within a cgroup (version 2), given by its open directory.
    ///
    /// It is in there from its first instant (`CLONE_INTO_CGROUP`, Linux 5.7; without that it
    /// moves itself before the exec).
    ///
    /// # Errors
    /// Of the start, stage [`Clone`](crate::Stage::Clone) or [`Cgroup`](crate::Stage::Cgroup):
    /// `ENODEV` or `ENOENT` if the cgroup has been removed, `EBADF` if it is none, `EACCES` without the right to it, `EAGAIN` at its pids.max,
    /// `EBUSY` where its controllers allow no processes in it.
    pub fn cgroup(&mut self, dir: impl Into<OwnedFd>) -> &mut Self {
        self.cgroup = Some(Arc::new(dir.into()));
        self
    }

    /// Does nothing: a child always has a pidfd, see [`Child::pidfd`](crate::Child::pidfd).
    ///
    /// It is here so that code which asks std for one goes on to compile.
    pub fn create_pidfd(&mut self, _: bool) -> &mut Self {
        self
    }

    /// Runs a closure in the child right before the exec.
    ///
    /// Nearly all that is done so has an option of its own here, which does not need fork(2):
    /// [`fd_map`](Self::fd_map), [`setsid`](Self::setsid), [`process_group`](Self::process_group),
    /// [`rlimit`](Self::rlimit), [`umask`](Self::umask), [`nice`](Self::nice),
    /// [`no_new_privs`](Self::no_new_privs), [`seccomp_filter`](Self::seccomp_filter),
    /// [`groups`](Self::groups), [`cgroup`](Self::cgroup). A command with a closure is started by
    /// fork(2), whose cost grows with this process's memory.
    ///
    /// # Errors
    /// If the closure returns an error, its errno (`EINVAL` without one) is that of the start.
    ///
    /// # Safety
    /// The closure runs in a copy of this process that has one thread: it must not allocate, lock,
    /// or touch anything that is not async-signal-safe, see signal-safety(7).
    pub unsafe fn pre_exec<F>(&mut self, hook: F) -> &mut Self
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        let hooks = self.hooks.get_or_insert_with(Default::default);
        hooks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push(Box::new(hook));
        self
    }

    /// The program, as it was given.
    #[must_use]
    pub fn get_program(&self) -> &OsStr {
        &self.program
    }

    /// The arguments, without the zeroth.
    ///
    /// ```
    /// use uring_process::Command;
    /// let mut command = Command::new("echo");
    /// command.args(["a", "b"]);
    /// assert!(command.get_args().eq(["a", "b"]));
    /// ```
    pub fn get_args(&self) -> CommandArgs<'_> {
        self.shown.get_args()
    }

    /// The variables that were set (`Some`) or removed (`None`).
    pub fn get_envs(&self) -> CommandEnvs<'_> {
        self.shown.get_envs()
    }

    /// The working directory, if one was set.
    #[must_use]
    pub fn get_current_dir(&self) -> Option<&Path> {
        self.attributes.current_dir.as_deref().map(Path::new)
    }

    /// Resolves the command, to be started any number of times.
    ///
    /// # Errors
    /// A NUL byte in a string, or an impossible map of descriptors: `InvalidInput`.
    pub fn plan(&self) -> io::Result<ExecPlan> {
        Ok(self.plan_with(Streams::Inherit)?)
    }

    /// As [`plan`](Self::plan), with the streams that [`output`](Self::output) gives.
    ///
    /// # Errors
    /// As [`plan`](Self::plan).
    pub fn capture_plan(&self) -> io::Result<ExecPlan> {
        Ok(self.plan_with(Streams::Capture)?)
    }

    pub(crate) fn plan_with(&self, default: Streams) -> Result<ExecPlan, Error> {
        self.compile(default, self.policy, false)
    }

    /// For this process itself.
    pub(crate) fn exec_plan(&self) -> Result<ExecPlan, Error> {
        self.compile(Streams::Inherit, FdPolicy::InheritAll, true)
    }

    fn compile(
        &self,
        default: Streams,
        policy: FdPolicy,
        in_place: bool,
    ) -> Result<ExecPlan, Error> {
        let streams = [&self.stdin, &self.stdout, &self.stderr];
        let mut fds = Vec::with_capacity(3 + self.fds.len());
        for (target, stdio) in (0..).zip(streams) {
            if !self.fds.iter().any(|(mapped, _)| *mapped == target) {
                fds.push((target, stdio::origin(stdio.as_ref(), default, target)));
            }
        }
        fds.extend(
            self.fds
                .iter()
                .map(|(target, fd)| (*target, Origin::Owned(Arc::clone(fd)))),
        );
        ExecPlan::new(Parts {
            program: &self.program,
            argv: self.argv.iter().map(OsString::as_os_str).collect(),
            env: self.env.resolve(),
            fds,
            policy,
            calls: self.attributes.calls(&self.program)?,
            mask: self.attributes.signal_mask,
            cgroup: self.cgroup.clone(),
            hooks: self.hooks.clone(),
            operation: self.attributes.for_the_operation().filter(|_| !in_place),
            in_place,
        })
    }
}

impl fmt::Debug for Command {
    /// As std shows it: a line for a shell, or with `{:#?}` all that is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shown,
            program: _,
            argv: _,
            env: _,
            stdin,
            stdout,
            stderr,
            fds,
            policy,
            attributes,
            cgroup,
            hooks: _,
        } = self;
        if !f.alternate() {
            return fmt::Debug::fmt(shown, f);
        }
        let mut all = f.debug_struct("Command");
        all.field("command", &format_args!("{shown:?}"));
        for (name, stdio) in [("stdin", stdin), ("stdout", stdout), ("stderr", stderr)] {
            if let Some(stdio) = stdio {
                all.field(name, stdio);
            }
        }
        if !fds.is_empty() {
            all.field("fd_map", fds);
        }
        if let Some(cgroup) = cgroup {
            all.field("cgroup", cgroup);
        }
        all.field("fd_policy", policy)
            .field("attributes", attributes)
            .finish()
    }
}
