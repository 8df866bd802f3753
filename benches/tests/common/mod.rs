//! What the tests of the daemon share.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use lab::{
    daemon::Daemon,
    link::{Link, Shape},
    netns::Netns,
    scenario::{SMALL, set_buffers},
    traffic::Transfer,
};

/// Skips the test where namespaces cannot be made.
#[macro_export]
macro_rules! need_root {
    () => {
        if let Some(why) = lab::unprivileged() {
            eprintln!("SKIP: {why}");
            return;
        }
    };
}

/// Skips the test where programs in Python cannot run as other users, as plugins do.
#[macro_export]
macro_rules! need_plugins {
    () => {
        need_root!();
        if let Some(why) = common::no_plugins() {
            eprintln!("SKIP: {why}");
            return;
        }
    };
}

pub fn no_plugins() -> Option<&'static str> {
    // As in a change of root into a private directory.
    if fs::metadata("/").is_ok_and(|root| root.permissions().mode() & 0o001 == 0) {
        return Some("other users may not enter / here, so plugins can run nothing");
    }
    let python = Command::new("python3").arg("--version").output();
    let there = python.is_ok_and(|output| output.status.success());
    (!there).then_some("no python3")
}

pub const RMEM: &str = "net.ipv4.tcp_rmem";
pub const WMEM: &str = "net.ipv4.tcp_wmem";

/// A link with buffers too small.
pub fn starved() -> Link {
    let link = Link::new(Shape::new(Duration::from_millis(10))).unwrap();
    set_buffers(&link, SMALL).unwrap();
    link
}

pub fn transfer(link: &Link) -> Transfer {
    Transfer::start(&link.a, &link.b, link.addr_b().into()).unwrap()
}

/// Waits up to 10 s.
pub fn until(what: &str, holds: impl FnMut() -> bool) {
    within(Duration::from_secs(10), what, holds);
}

/// Waits up to so long.
pub fn within(time: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + time;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {time:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn last(text: &str) -> i64 {
    text.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Both limits are well above where they started.
pub fn raised(link: &Link) -> bool {
    last(&link.a.sysctl(WMEM).unwrap()) > 100_000 && last(&link.b.sysctl(RMEM).unwrap()) > 400_000
}

/// Both limits are where they started.
pub fn restored(link: &Link) -> bool {
    [&link.a, &link.b].iter().all(|netns| {
        (
            netns.sysctl(RMEM).unwrap().as_str(),
            netns.sysctl(WMEM).unwrap().as_str(),
        ) == SMALL
    })
}

/// A directory of files that root alone can write.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new(text: &str) -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        files.put("bpftune.toml", text);
        files
    }

    /// Puts a file there whole, as a careful administrator does.
    pub fn put(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        let new = PathBuf::from(format!("{}.new", path.display()));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub fn args(&self) -> [&str; 2] {
        ["--config-dir", self.path().to_str().unwrap()]
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Opens and closes connections, so that each ends in TIME_WAIT on this side.
pub fn close_many(netns: &Netns, count: usize) {
    netns.run(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 4000)).unwrap();
        for _ in 0..count {
            let here = TcpStream::connect((Ipv4Addr::LOCALHOST, 4000)).unwrap();
            let (there, _) = listener.accept().unwrap();
            drop(here);
            drop(there);
        }
    });
}

/// Whether one of the daemon's descriptors is what its page in /proc/PID/fdinfo has all these texts for.
pub fn has_descriptor(daemon: &Daemon, texts: &[&str]) -> bool {
    fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid()))
        .unwrap()
        .flatten()
        .filter_map(|info| fs::read_to_string(info.path()).ok())
        .any(|page| texts.iter().all(|text| page.contains(text)))
}
