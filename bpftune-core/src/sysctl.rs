//! Sysctls of the calling thread's network namespace, by files under /proc/sys.
//!
//! /proc/sys/net shows the namespace of the thread that opens the file, so callers enter the
//! namespace first: see [`Namespaces`].

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::{Error, Knob, Result, Value, netns::Namespaces};

/// The file of a sysctl: "net.ipv4.tcp_rmem" is /proc/sys/net/ipv4/tcp_rmem. As in sysctl(8), a
/// name that has a slash before its first dot is taken with slashes as separators.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    let slashes_first = name
        .find('/')
        .is_some_and(|slash| name.find('.').is_none_or(|dot| slash < dot));
    let mut path = PathBuf::from("/proc/sys");
    path.push(if slashes_first {
        name.to_owned()
    } else {
        name.replace('.', "/")
    });
    path
}

/// Reads a knob in its namespace.
///
/// # Errors
/// [`Error::NetnsGone`], [`Error::SysctlRead`] (missing on this kernel, or no numbers in it).
pub fn read(namespaces: &mut Namespaces, knob: &Knob) -> Result<Value> {
    let file = path(&knob.tunable);
    let text = namespaces.within(knob.netns, || text(&file))?;
    let unreadable = |source| Error::SysctlRead {
        name: knob.tunable.clone(),
        netns: knob.netns,
        source,
    };
    let text = text.map_err(unreadable)?;
    text.parse().map_err(|error: Error| {
        unreadable(io::Error::new(
            io::ErrorKind::InvalidData,
            error.to_string(),
        ))
    })
}

/// A sysctl's text. The kernel gives all of it to one read(2) that has room, and nothing to the next; asking for the
/// file's size and for its end would cost as much again.
fn text(file: &Path) -> io::Result<String> {
    let mut file = fs::File::open(file)?;
    let mut text = vec![0; ROOM];
    let length = file.read(&mut text)?;
    text.truncate(length);
    if length == ROOM {
        file.read_to_end(&mut text)?;
    }
    String::from_utf8(text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// More than any row of numbers needs.
const ROOM: usize = 512;

/// Writes a knob and reads it back.
///
/// # Errors
/// [`Error::SysctlWrite`] with the kernel's errno, [`Error::ReadBack`] where the kernel took the
/// write and shows something else.
pub fn write(namespaces: &mut Namespaces, knob: &Knob, value: &Value) -> Result<()> {
    let file = path(&knob.tunable);
    // One write(2) call: the kernel takes a row of numbers whole or not at all.
    namespaces
        .within(knob.netns, || {
            let mut file = fs::OpenOptions::new().write(true).open(&file)?;
            io::Write::write_all(&mut file, value.to_string().as_bytes())
        })?
        .map_err(|source| Error::SysctlWrite {
            name: knob.tunable.clone(),
            value: value.clone(),
            netns: knob.netns,
            source,
        })?;
    let found = read(namespaces, knob)?;
    if found == *value {
        Ok(())
    } else {
        Err(Error::ReadBack {
            name: knob.tunable.clone(),
            wrote: value.clone(),
            found,
            netns: knob.netns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        assert_eq!(
            path("net.ipv4.tcp_rmem"),
            PathBuf::from("/proc/sys/net/ipv4/tcp_rmem")
        );
        assert_eq!(
            path("net/ipv4/conf/eth0.1/mtu"),
            PathBuf::from("/proc/sys/net/ipv4/conf/eth0.1/mtu")
        );
    }

    #[test]
    fn long_texts_are_read_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for length in [0, 5, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM] {
            fs::write(file.path(), "7".repeat(length)).unwrap();
            assert_eq!(text(file.path()).unwrap().len(), length);
        }
    }

    #[test]
    fn a_missing_sysctl_is_named() {
        let mut namespaces = Namespaces::new().unwrap();
        let knob = Knob {
            tunable: "net.ipv4.no_such".into(),
            netns: namespaces.own(),
        };
        let error = read(&mut namespaces, &knob).unwrap_err().to_string();
        assert!(error.contains("net.ipv4.no_such"), "{error}");
    }
}
