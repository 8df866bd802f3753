//! Network namespaces: found by cookie, entered for a moment, never kept alive.
//!
//! A namespace is known by its cookie (`SO_NETNS_COOKIE`, Linux 5.14), which no other namespace gets
//! until the next boot; inode numbers are used again. No descriptor of a foreign namespace is kept,
//! for that would keep it alive after its last process. Each visit opens it anew by a path, checks
//! the cookie, and looks for another path where the old one has gone.

mod departures;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

pub use self::departures::{Departed, Departures};
use crate::{Error, Result};

/// What the kernel calls a network namespace's cookie: unique until reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NetnsCookie(pub u64);

impl fmt::Display for NetnsCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "netns {}", self.0)
    }
}

/// How long a cookie that was not found is not looked for again.
const MISSING_FOR: Duration = Duration::from_secs(1);

/// The ways into namespaces, for one thread.
#[derive(Debug)]
pub struct Namespaces {
    own: NetnsCookie,
    own_file: File,
    paths: HashMap<NetnsCookie, PathBuf>,
    extra: Vec<PathBuf>,
    missing: HashMap<NetnsCookie, Instant>,
}

impl Namespaces {
    /// Starts with the calling thread's own namespace.
    ///
    /// # Errors
    /// Where /proc is not mounted, or the kernel is older than 5.14.
    pub fn new() -> Result<Namespaces> {
        let path = "/proc/thread-self/ns/net";
        Ok(Namespaces {
            own: current_cookie()?,
            own_file: File::open(path).map_err(Error::file("open", path))?,
            paths: HashMap::new(),
            extra: Vec::new(),
            missing: HashMap::new(),
        })
    }

    /// The namespace that this was made in.
    #[must_use]
    pub fn own(&self) -> NetnsCookie {
        self.own
    }

    /// Names a path to a namespace ("/run/netns/web", "/proc/42/ns/net") and learns its cookie.
    ///
    /// # Errors
    /// Where the path cannot be opened or is no network namespace.
    pub fn add(&mut self, path: &Path) -> Result<NetnsCookie> {
        let cookie = self.cookie_of(path)?;
        self.paths.insert(cookie, path.to_owned());
        self.extra.push(path.to_owned());
        Ok(cookie)
    }

    /// Names a path that may lead to a namespace which is wanted later.
    pub fn hint(&mut self, path: &Path) {
        if !self.extra.iter().any(|known| known == path) {
            self.extra.push(path.to_owned());
        }
    }

    /// Runs `f` with the calling thread inside the namespace, then comes back.
    ///
    /// # Errors
    /// [`Error::NetnsGone`] where no way leads into it any more; a failing setns(2).
    ///
    /// # Panics
    /// Where the thread cannot return to its own namespace: going on would write to the wrong one.
    pub fn within<T>(&mut self, netns: NetnsCookie, f: impl FnOnce() -> T) -> Result<T> {
        if netns == self.own {
            return Ok(f());
        }
        if let Some(path) = self.paths.get(&netns).cloned() {
            if self.enter(&path).is_ok_and(|found| found == netns) {
                return Ok(self.run_inside(f));
            }
            self.leave();
            self.paths.remove(&netns);
        }
        if self
            .missing
            .get(&netns)
            .is_some_and(|since| since.elapsed() < MISSING_FOR)
        {
            return Err(Error::NetnsGone(netns));
        }
        self.scan(Some(netns));
        match self.paths.get(&netns).cloned() {
            Some(path) if self.enter(&path).is_ok_and(|found| found == netns) => {
                self.missing.remove(&netns);
                Ok(self.run_inside(f))
            }
            _ => {
                self.leave();
                self.missing
                    .retain(|_, since| since.elapsed() < MISSING_FOR);
                self.missing.insert(netns, Instant::now());
                Err(Error::NetnsGone(netns))
            }
        }
    }

    /// A descriptor of a namespace, which keeps it alive for as long as it is open.
    ///
    /// # Errors
    /// As [`within`](Namespaces::within).
    pub fn open(&mut self, netns: NetnsCookie) -> Result<File> {
        let path = "/proc/thread-self/ns/net";
        self.within(netns, || File::open(path))?
            .map_err(Error::file("open", path))
    }

    /// The way into a namespace that was last seen, for people: "/run/netns/web".
    #[must_use]
    pub fn place(&self, netns: NetnsCookie) -> String {
        if netns == self.own {
            return "host".into();
        }
        self.paths
            .get(&netns)
            .map_or_else(|| netns.to_string(), |path| path.display().to_string())
    }

    /// Every namespace that a process, thread, mount or named path leads to.
    pub fn all(&mut self) -> Vec<NetnsCookie> {
        self.paths.clear();
        self.scan(None);
        let mut all: Vec<_> = self.paths.keys().copied().chain([self.own]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// A namespace is gone, and the way that led into it.
    pub fn forget(&mut self, netns: NetnsCookie) {
        self.paths.remove(&netns);
    }

    fn run_inside<T>(&self, f: impl FnOnce() -> T) -> T {
        struct Back<'a>(&'a Namespaces);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.leave();
            }
        }
        let _back = Back(self);
        f()
    }

    fn leave(&self) {
        setns(self.own_file.as_fd(), CloneFlags::CLONE_NEWNET)
            .expect("a thread can return to the network namespace that it holds open");
    }

    /// Enters and stays, also on a mismatch: callers leave.
    fn enter(&self, path: &Path) -> Result<NetnsCookie> {
        let file = File::open(path).map_err(Error::file("open", path))?;
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Error::system(format!(
            "cannot enter network namespace {}",
            path.display()
        )))?;
        current_cookie()
    }

    fn cookie_of(&self, path: &Path) -> Result<NetnsCookie> {
        let found = self.enter(path);
        self.leave();
        found
    }

    /// Looks through named paths, mounts, processes and at last threads, and stops at `wanted`.
    fn scan(&mut self, wanted: Option<NetnsCookie>) {
        let mut seen = HashSet::new();
        let stages: [fn(&Namespaces) -> Vec<PathBuf>; 4] = [
            |me| me.extra.clone(),
            |_| nsfs_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
            |_| process_paths(),
            |_| thread_paths(),
        ];
        for stage in stages {
            for path in stage(self) {
                let Some(inode) = namespace_inode(&path) else {
                    continue;
                };
                if !seen.insert(inode) {
                    continue;
                }
                let Ok(cookie) = self.cookie_of(&path) else {
                    continue;
                };
                self.paths.entry(cookie).or_insert(path);
            }
            if wanted.is_some_and(|wanted| self.paths.contains_key(&wanted)) {
                return;
            }
        }
    }
}

/// The cookie of the calling thread's network namespace.
///
/// # Errors
/// Where no socket can be made, or the kernel is older than 5.14.
pub fn current_cookie() -> Result<NetnsCookie> {
    let what = "cannot ask for the network namespace's cookie (SO_NETNS_COOKIE, Linux 5.14)";
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(Error::system(what))?;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `cookie`, which has room for them.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if rc == 0 {
        Ok(NetnsCookie(cookie))
    } else {
        Err(Error::system(what)(io::Error::last_os_error()))
    }
}

fn namespace_inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|meta| meta.ino())
}

/// Mount points of network namespaces: the fourth field of their lines is "net:[inode]".
fn nsfs_mounts(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let root = fields.next()?;
            let point = fields.next()?;
            root.starts_with("net:[")
                .then(|| PathBuf::from(unescape(point)))
        })
        .collect()
}

/// mountinfo writes space, tab, newline and backslash as \ooo.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let octal = bytes
            .get(i + 1..i + 4)
            .filter(|_| bytes[i] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(bytes[i]));
        i += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn numbered(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .map(|entry| entry.path())
        .collect()
}

fn process_paths() -> Vec<PathBuf> {
    numbered(Path::new("/proc"))
        .into_iter()
        .map(|dir| dir.join("ns/net"))
        .collect()
}

fn thread_paths() -> Vec<PathBuf> {
    numbered(Path::new("/proc"))
        .into_iter()
        .flat_map(|dir| numbered(&dir.join("task")))
        .map(|dir| dir.join("ns/net"))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_mounts_with_spaces_in_their_names() {
        let text = "\
24 1 0:4 / /proc rw - proc proc rw
99 24 0:4 net:[4026532281] /run/netns/a\\040b rw shared:5 - nsfs nsfs rw
98 24 0:4 mnt:[4026532282] /run/other rw - nsfs nsfs rw
";
        assert_eq!(nsfs_mounts(text), [PathBuf::from("/run/netns/a b")]);
    }

    proptest! {
        #[test]
        fn mountinfo_never_panics(text in ".*") {
            let _ = nsfs_mounts(&text);
        }
    }

    #[test]
    fn knows_its_own() {
        let mut namespaces = Namespaces::new().unwrap();
        let own = namespaces.own();
        assert_eq!(
            namespaces.within(own, current_cookie).unwrap().unwrap(),
            own
        );
    }

    #[test]
    fn a_cookie_nobody_has_is_gone() {
        let mut namespaces = Namespaces::new().unwrap();
        let error = namespaces.within(NetnsCookie(u64::MAX), || ()).unwrap_err();
        assert!(matches!(error, Error::NetnsGone(_)), "{error}");
    }
}
