//! [`ExecPlan`]: a command, resolved once, to be run any number of times.

mod calls;
mod strings;

use std::{
    ffi::{OsStr, OsString, c_char},
    fmt,
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex},
};

pub(crate) use calls::{Arg, Call, Calls, sock_fprog};
use strings::Strings;

use crate::{
    Error,
    child::{Job, Move, Source},
    command::FdPolicy,
    launcher,
    start::{Wanted, ladder},
};

/// A closure given to `pre_exec`.
pub(crate) type Hook = Box<dyn FnMut() -> io::Result<()> + Send + Sync>;

/// A command with everything resolved: strings, environment, search path, descriptors, attributes.
///
/// Made by [`Command::plan`](crate::Command::plan). It never changes, can be cloned for the price
/// of a reference count, used from many threads at once, and started any number of times; a start
/// allocates nothing. The environment is that of the moment when the plan was made. The
/// descriptors that it maps stay open as long as it lives.
///
/// ```
/// use uring_process::Command;
///
/// let plan = Command::new("true").plan()?;
/// for _ in 0..3 {
///     assert!(plan.spawn()?.wait()?.success());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ExecPlan(pub(crate) Arc<Inner>);

/// One descriptor of the child, as the plan knows it.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// The caller's own, if it has one of that number.
    Inherit,
    Null {
        write: bool,
    },
    /// A descriptor that the plan owns.
    Owned(Arc<OwnedFd>),
    /// A standard stream of this process, whatever it is when a child starts.
    Borrowed(i32),
    /// A pipe made at each start.
    Pipe {
        child_reads: bool,
    },
}

/// What a plan is made from; see [`Command`](crate::Command) for the meaning.
pub(crate) struct Parts<'a> {
    pub(crate) program: &'a OsStr,
    pub(crate) argv: Vec<&'a OsStr>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) fds: Vec<(i32, Origin)>,
    pub(crate) policy: FdPolicy,
    pub(crate) calls: Calls,
    pub(crate) mask: Option<u64>,
    pub(crate) cgroup: Option<Arc<OwnedFd>>,
    pub(crate) hooks: Option<Arc<Mutex<Vec<Hook>>>>,
    /// What the kernel's operation is to do, if it can do it all.
    pub(crate) operation: Option<Wanted>,
    /// For this process itself, not for a child.
    pub(crate) in_place: bool,
}

pub(crate) struct Inner {
    program: OsString,
    strings: Strings,
    /// Sorted by target.
    fds: Box<[(i32, Origin)]>,
    /// The map, with the plan's own descriptors filled in and those of pipes still open.
    map: Box<[Move]>,
    /// One more than the highest descriptor that the child must find, pipes apart.
    fds_end: u32,
    gaps: Box<[(u32, u32)]>,
    calls: calls::Compiled,
    pub(crate) policy: FdPolicy,
    pub(crate) mask: Option<u64>,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) hooks: Option<Arc<Mutex<Vec<Hook>>>>,
    pub(crate) launcher: Option<Launcher>,
    /// The kernel's operation can carry it out, so.
    pub(crate) operation: Option<Wanted>,
    /// What it maps for [`Origin::Null`].
    pub(crate) nulls: Nulls,
    /// Only fork(2) can carry it out, or the kernel's operation.
    pub(crate) needs_fork: bool,
}

/// /dev/null, to read from and to write to, where the plan maps it and the kernel places descriptors.
#[derive(Default)]
pub(crate) struct Nulls {
    read: Option<File>,
    write: Option<File>,
}

impl Nulls {
    fn of(fds: &[(i32, Origin)]) -> io::Result<Self> {
        let wants = |wanted: bool| {
            fds.iter()
                .any(|(_, origin)| matches!(origin, Origin::Null { write } if *write == wanted))
        };
        let open = |write: bool| {
            let null = || File::options().read(!write).write(write).open("/dev/null");
            wants(write).then(null).transpose()
        };
        Ok(Self {
            read: open(false)?,
            write: open(true)?,
        })
    }

    pub(crate) fn get(&self, write: bool) -> Option<i32> {
        let null = if write { &self.write } else { &self.read };
        null.as_ref().map(AsRawFd::as_raw_fd)
    }
}

pub(crate) struct Cgroup {
    pub(crate) dir: Arc<OwnedFd>,
}

pub(crate) struct Launcher {
    pub(crate) image: launcher::Image,
    /// Where the launcher expects the descriptor to report to.
    pub(crate) report: i32,
}

// SAFETY: the pointers in `strings` and `calls` lead to memory that the plan owns and that never
// changes; everything else is `Send` and `Sync` by itself.
unsafe impl Send for Inner {}
// SAFETY: as above; nothing can be changed through a shared plan but the hooks, in their mutex.
unsafe impl Sync for Inner {}

impl ExecPlan {
    pub(crate) fn new(mut parts: Parts<'_>) -> Result<Self, Error> {
        let program = parts.program.to_owned();
        let nul = |what| Error::Nul {
            program: program.clone(),
            what,
        };
        let candidates = candidates(parts.program, &parts.env);
        let strings = Strings::new(&parts.argv, &parts.env, &candidates).map_err(nul)?;

        let needs_ids = parts.calls.change_ids() && !parts.in_place;
        let mut needs_fork = parts.hooks.is_some();
        let mut launcher = None;
        let targets_end = prepare_map(&program, &mut parts.fds)?;
        if needs_ids && !needs_fork {
            // With all descriptors inherited, no number is free for the launcher to use.
            if parts.policy == FdPolicy::Mapped && launcher::available() {
                let report = targets_end as i32;
                match strings.launcher(&parts.calls, report) {
                    Ok(image) => launcher = Some(Launcher { image, report }),
                    // Forbidden since the trial: a sandbox has been put up.
                    Err(error)
                        if matches!(
                            error.raw_os_error(),
                            Some(libc::EPERM | libc::EACCES | libc::ENOSYS)
                        ) =>
                    {
                        needs_fork = true;
                    }
                    Err(source) => {
                        let stage = crate::Stage::Launcher;
                        return Err(Error::Start {
                            program,
                            stage,
                            source,
                        });
                    }
                }
            } else {
                needs_fork = true;
            }
        }

        let mut map: Vec<Move> = parts
            .fds
            .iter()
            .map(|(target, origin)| template(*target, origin))
            .collect();
        if let Some(Launcher { image, report }) = &launcher {
            let image = image.as_fd().as_raw_fd();
            map.push(Move {
                target: *report,
                source: Source::Copy(-1),
            });
            map.push(Move {
                target: *report + 1,
                source: Source::CopyCloexec(image),
            });
        }
        let fds_end = map.iter().map(needed_end).max().unwrap_or(0);
        let gaps = match parts.policy {
            FdPolicy::Mapped => gaps(&map),
            FdPolicy::InheritAll => Vec::new(),
        };
        let calls = if launcher.is_some() {
            Calls::default()
        } else {
            parts.calls
        };
        let operation = parts.operation.filter(|_| parts.hooks.is_none());
        let nulls = match &operation {
            Some(_) if ladder::operation().is_ok_and(|number| number.is_some()) => {
                Nulls::of(&parts.fds)
            }
            _ => Ok(Nulls::default()),
        };
        // Without a descriptor for it, it is for the next executor.
        let (operation, nulls) = match nulls {
            Ok(nulls) => (operation, nulls),
            Err(_) => (None, Nulls::default()),
        };
        Ok(Self(Arc::new(Inner {
            program,
            strings,
            fds: parts.fds.into(),
            map: map.into(),
            fds_end,
            gaps: gaps.into(),
            calls: calls.compile(),
            policy: parts.policy,
            mask: parts.mask,
            cgroup: parts.cgroup.map(|dir| Cgroup { dir }),
            hooks: parts.hooks,
            launcher,
            operation,
            nulls,
            needs_fork,
        })))
    }

    /// The program, as it was given.
    #[must_use]
    pub fn program(&self) -> &OsStr {
        &self.0.program
    }
}

impl Inner {
    pub(crate) fn error(&self, stage: crate::Stage, source: io::Error) -> Error {
        Error::Start {
            program: self.program.clone(),
            stage,
            source,
        }
    }

    pub(crate) fn fds(&self) -> &[(i32, Origin)] {
        &self.fds
    }

    /// Fills the job's part that is the same for every child of the plan.
    ///
    /// # Safety
    /// Nobody has the job yet; the plan outlives the job's use.
    pub(crate) unsafe fn fill(&self, job: *mut Job) {
        // SAFETY: as the caller promised.
        unsafe {
            (*job).gaps = self.gaps.as_ptr();
            (*job).gaps_len = self.gaps.len();
            ((*job).calls, (*job).calls_len) = self.calls.early();
            ((*job).late_calls, (*job).late_calls_len) = self.calls.late();
            (*job).launcher = self.launcher.as_ref().map(|launcher| launcher.report + 1);
            ((*job).candidates, (*job).candidates_len) = self.strings.candidates();
            (*job).argv = self.strings.argv();
            (*job).envp = self.strings.envp();
        }
    }

    pub(crate) fn argv_envp(&self) -> (*const *const c_char, *const *const c_char) {
        (self.strings.argv(), self.strings.envp())
    }

    /// There is one path to try, not several.
    pub(crate) fn is_one_path(&self) -> bool {
        self.strings.candidates().1 == 1
    }

    /// The only path to try, or the first that is not plainly missing here and now.
    pub(crate) fn first_there(&self) -> Option<*const c_char> {
        let (paths, len) = self.strings.candidates();
        // SAFETY: so many pointers to strings lie there, as long as the plan lives.
        let mut paths = (0..len).map(|at| unsafe { *paths.add(at) });
        if len == 1 {
            return paths.next();
        }
        paths.find(|path| {
            // SAFETY: a string.
            let found = unsafe { libc::access(*path, libc::F_OK) } == 0;
            let errno = io::Error::last_os_error().raw_os_error();
            found || !matches!(errno, Some(libc::ENOENT | libc::ENOTDIR))
        })
    }

    /// The map before pipes, and the end of the descriptors that it needs.
    pub(crate) fn map(&self) -> (&[Move], u32) {
        (&self.map, self.fds_end)
    }
}

impl fmt::Debug for ExecPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecPlan")
            .field("program", &self.0.program)
            .field("fds", &self.0.fds)
            .field("policy", &self.0.policy)
            .finish_non_exhaustive()
    }
}

/// Checks and sorts; returns one more than the highest target.
fn prepare_map(program: &OsStr, fds: &mut [(i32, Origin)]) -> Result<u32, Error> {
    fds.sort_by_key(|(target, _)| *target);
    let fault = |target: i32, fault| Error::FdMap {
        program: program.to_owned(),
        target,
        fault,
    };
    for pair in fds.windows(2) {
        if pair[0].0 == pair[1].0 {
            return Err(fault(pair[0].0, "mapped twice"));
        }
    }
    match (fds.first(), fds.last()) {
        (Some((first, _)), _) if *first < 0 => Err(fault(*first, "negative")),
        (_, Some((last, _))) if *last > i32::MAX - 3 => Err(fault(*last, "out of range")),
        (_, last) => Ok(last.map_or(0, |(last, _)| *last as u32 + 1)),
    }
}

fn template(target: i32, origin: &Origin) -> Move {
    let source = match origin {
        Origin::Inherit => Source::Keep,
        Origin::Null { write } => Source::Null { write: *write },
        Origin::Owned(fd) => Source::Copy(fd.as_raw_fd()),
        Origin::Borrowed(fd) => Source::Copy(*fd),
        Origin::Pipe { .. } => Source::Copy(-1),
    };
    Move { target, source }
}

/// The end of the descriptors that a copy of the table must hold for this one.
pub(crate) fn needed_end(entry: &Move) -> u32 {
    match entry.source {
        Source::Keep => entry.target as u32 + 1,
        Source::Copy(fd) | Source::CopyCloexec(fd) => (fd + 1) as u32,
        Source::Null { .. } => 0,
    }
}

/// What lies between the targets, and above them. The map is sorted.
fn gaps(map: &[Move]) -> Vec<(u32, u32)> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for entry in map {
        let target = entry.target as u32;
        if target > next {
            gaps.push((next, target - 1));
        }
        next = target + 1;
    }
    gaps.push((next, u32::MAX));
    gaps
}

/// The paths to try for a program: itself if it has a slash, else in each directory of the child's
/// `PATH`, as execvp(3) does; without a `PATH` in /bin and /usr/bin.
fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Vec<OsString> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    if program.is_empty() || program.as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new("/bin:/usr/bin"), |(_, value)| value);
    let longest = libc::PATH_MAX as usize;
    path.as_bytes()
        .split(|byte| *byte == b':')
        // Passed over by libc too: no path is so long.
        .filter(|dir| dir.len() < longest)
        .map(|dir| {
            // An empty entry is the working directory.
            let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
            OsString::from_vec([dir, slash, program.as_bytes()].concat())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(target: i32) -> Move {
        Move {
            target,
            source: Source::Keep,
        }
    }

    #[test]
    fn gaps_are_all_that_is_not_mapped() {
        assert_eq!(gaps(&[]), [(0, u32::MAX)]);
        assert_eq!(gaps(&[entry(0), entry(1), entry(2)]), [(3, u32::MAX)]);
        assert_eq!(gaps(&[entry(1), entry(5)]), [(0, 0), (2, 4), (6, u32::MAX)]);
    }

    #[test]
    fn programs_are_searched_as_execvp_does() {
        let env = |path: &str| vec![("PATH".into(), path.into())];
        let of = |program: &str, env: &[(OsString, OsString)]| candidates(program.as_ref(), env);
        assert_eq!(of("ls", &env("/a:/b/")), ["/a/ls", "/b//ls"]);
        assert_eq!(of("ls", &env(":/b")), ["ls", "/b/ls"]);
        assert_eq!(of("./ls", &env("/a")), ["./ls"]);
        assert_eq!(of("ls", &[]), ["/bin/ls", "/usr/bin/ls"]);
        assert_eq!(of("", &env("/a")), [""]);
    }

    #[test]
    fn a_map_has_each_target_once_and_in_range() {
        let check = |targets: &[i32]| {
            let mut fds: Vec<_> = targets.iter().map(|t| (*t, Origin::Inherit)).collect();
            prepare_map("x".as_ref(), &mut fds).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[]), Ok(0));
        assert_eq!(check(&[7, 0, 2]), Ok(8));
        assert!(
            check(&[2, 0, 2])
                .unwrap_err()
                .contains("descriptor 2 of the child is mapped twice")
        );
        assert!(check(&[-1, 0]).unwrap_err().contains("negative"));
        assert!(check(&[i32::MAX]).unwrap_err().contains("out of range"));
    }
}
