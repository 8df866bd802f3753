//! Directories of plugins, and what a daemon says of them.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::{
    fs::{self, Permissions},
    io,
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use lab::daemon::Daemon;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen, socket,
};

/// A directory of plugins that root alone can write.
pub struct Plugins {
    path: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../dist/plugins")
        .join(name)
}

impl Plugins {
    pub fn new() -> Plugins {
        let dir = tempfile::tempdir().unwrap();
        Plugins {
            path: dir.path().to_owned(),
            _dir: Some(dir),
        }
    }

    /// Where no directory is yet.
    pub fn at(path: PathBuf) -> Plugins {
        Plugins { path, _dir: None }
    }

    pub fn make(&self) {
        fs::create_dir_all(&self.path).unwrap();
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn args(&self) -> [&str; 2] {
        ["--plugin-dir", self.path.to_str().unwrap()]
    }

    /// Puts a file there whole.
    pub fn put(&self, name: &str, text: &str, mode: u32) {
        let new = self.path.join(format!(".{name}.new"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        fs::rename(new, self.path.join(name)).unwrap();
    }

    /// A Python program; NAME is its name.
    pub fn program(&self, name: &str, body: &str) {
        let text = format!("#!/usr/bin/python3\nNAME = \"{name}\"\n{body}");
        self.put(&format!("{name}.py"), &text, 0o755);
    }

    pub fn example(&self, name: &str) {
        let from = example(name);
        let mode = fs::metadata(&from).unwrap().permissions().mode() & 0o755;
        self.put(name, &fs::read_to_string(from).unwrap(), mode);
    }

    pub fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path.join(name), Permissions::from_mode(mode)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).unwrap();
    }
}

fn tuner(daemon: &Daemon, name: &str) -> Option<serde_json::Value> {
    let status = daemon.status().unwrap();
    let tuners = status["tuners"].as_array().unwrap();
    tuners.iter().find(|tuner| tuner["name"] == name).cloned()
}

/// "on", "rests", "refused"; `None` where there is no such tuner.
pub fn state(daemon: &Daemon, name: &str) -> Option<String> {
    Some(tuner(daemon, name)?["state"].as_str()?.to_owned())
}

pub fn about(daemon: &Daemon, name: &str) -> String {
    let about = tuner(daemon, name).map(|tuner| tuner["about"].as_str().unwrap().to_owned());
    about.unwrap_or_default()
}

/// Whether a plugin wrote this to its standard error.
pub fn says(daemon: &Daemon, text: &str) -> bool {
    let log = daemon.log();
    log.iter()
        .any(|line| line.contains(" says: ") && line.contains(text))
}

/// The daemon leaves an empty group where nobody may write to its own; the host shall be as it was.
impl Drop for Plugins {
    fn drop(&mut self) {
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let room = Path::new(root).join("bpftune-plugins");
            for group in std::fs::read_dir(&room).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(group.path());
            }
            let _ = std::fs::remove_dir(room);
        }
    }
}

/// The processes of a plugin's user that live.
pub fn processes_of(name: &str) -> Vec<PathBuf> {
    let uid = bpftune_core::plugin::sandbox::pick(name, |_| false);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(|entry| entry.metadata().is_ok_and(|stat| stat.uid() == uid))
        .map(|entry| entry.path())
        .filter(|path| {
            let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        })
        .collect()
}

fn tcp(nonblocking: bool) -> OwnedFd {
    let flags = if nonblocking {
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
    } else {
        SockFlag::SOCK_CLOEXEC
    };
    socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap()
}

/// A listener with room for two connections, which accepts none.
pub fn small_listener(port: u16) -> TcpListener {
    let fd = tcp(false);
    nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::ReuseAddr, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    listen(&fd, Backlog::new(1).unwrap()).unwrap();
    TcpListener::from(fd)
}

/// Begins to connect and does not wait for it.
pub fn begin_connect((address, port): (Ipv4Addr, u16)) -> OwnedFd {
    let fd = tcp(true);
    let [a, b, c, d] = address.octets();
    let begun = connect(fd.as_raw_fd(), &SockaddrIn::new(a, b, c, d, port));
    let error = begun.map_err(io::Error::from).err();
    assert!(error.is_none_or(|error| error.raw_os_error() == Some(115)));
    fd
}
