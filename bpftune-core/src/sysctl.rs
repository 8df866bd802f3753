//! Parameters by name: sysctls of the calling thread's network namespace, and files of sysfs.
//!
//! A name with a leading slash is the file itself: "/sys/block/vda/queue/scheduler". Any other is a sysctl's, by files
//! under /proc/sys. /proc/sys/net shows the namespace of the thread that opens the file, so callers enter the
//! namespace first: see [`Namespaces`]. Files of sysfs are the host's.

mod twin;

use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

pub use self::twin::{are_one, meant, percent, spelled};
use crate::{Error, Knob, Result, Value, netns::Namespaces};

/// The only place where names with a leading slash may lead.
const SYSFS: &str = "/sys/";

/// Whether a name is a file of sysfs and no sysctl.
#[must_use]
pub fn is_file(name: &str) -> bool {
    name.starts_with('/')
}

/// The file of a parameter: "net.ipv4.tcp_rmem" is /proc/sys/net/ipv4/tcp_rmem. As in sysctl(8), a
/// name that has a slash before its first dot is taken with slashes as separators.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    if is_file(name) {
        return PathBuf::from(name);
    }
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

/// The same, of names that lead to a parameter. A journal or a plugin that names another file gets no further.
fn checked(name: &str) -> io::Result<PathBuf> {
    let path = path(name);
    let inside = !is_file(name) || name.starts_with(SYSFS);
    if inside && path.components().all(|part| part != Component::ParentDir) {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "parameters are sysctls and files below /sys",
    ))
}

/// Whether a file of sysfs went with its folder: the device is gone. A file alone that is missing is one that this
/// kernel or this device does not have.
fn is_gone(path: &Path, error: &io::Error) -> bool {
    let vanished = matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO)
    );
    vanished && path.parent().is_some_and(|folder| !folder.exists())
}

/// Reads a knob in its namespace.
///
/// # Errors
/// [`Error::NetnsGone`], [`Error::DeviceGone`], [`Error::SysctlRead`] (missing on this kernel, or neither numbers nor a
/// word in it).
pub fn read(namespaces: &mut Namespaces, knob: &Knob) -> Result<Value> {
    let text = words(namespaces, knob)?;
    Value::shown(&text).map_err(|error: Error| Error::SysctlRead {
        name: knob.tunable.clone(),
        netns: knob.netns,
        source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    })
}

/// A parameter's text, in the spelling that holds.
fn shown(name: &str, file: &Path) -> io::Result<String> {
    let shown = text(file)?;
    match twin::share_of(name) {
        Some(share) if shown.trim() == "0" => Ok(twin::word(&text(&path(share))?)),
        _ => Ok(shown),
    }
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

/// What a knob reads, be it numbers or not.
///
/// # Errors
/// As [`read`], but for the numbers.
pub fn words(namespaces: &mut Namespaces, knob: &Knob) -> Result<String> {
    let unreadable = |source| Error::SysctlRead {
        name: knob.tunable.clone(),
        netns: knob.netns,
        source,
    };
    let file = checked(&knob.tunable).map_err(unreadable)?;
    match namespaces.within(knob.netns, || shown(&knob.tunable, &file))? {
        Err(error) if is_file(&knob.tunable) && is_gone(&file, &error) => {
            Err(Error::DeviceGone(file))
        }
        text => text.map_err(unreadable),
    }
}

/// Writes a knob and reads it back.
///
/// # Errors
/// [`Error::SysctlWrite`] with the kernel's errno, [`Error::ReadBack`] where the kernel took the
/// write and shows something else.
pub fn write(namespaces: &mut Namespaces, knob: &Knob, value: &Value) -> Result<()> {
    let refused = |source| Error::SysctlWrite {
        name: knob.tunable.clone(),
        value: value.clone(),
        netns: knob.netns,
        source,
    };
    let text = value.to_string();
    let (name, text) = spelled(&knob.tunable, &text);
    let file = checked(name).map_err(refused)?;
    // One write(2) call: the kernel takes a row of numbers whole or not at all.
    namespaces
        .within(knob.netns, || {
            let mut file = fs::OpenOptions::new().write(true).open(&file)?;
            io::Write::write_all(&mut file, text.as_bytes())
        })?
        .map_err(refused)?;
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
        let scheduler = "/sys/block/mmcblk0.1/queue/scheduler";
        assert_eq!(path(scheduler), PathBuf::from(scheduler));
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

    /// A share of memory of the host, put back by its own name.
    #[test]
    fn bytes_that_were_never_set_are_put_back() {
        let mut namespaces = Namespaces::new().unwrap();
        let knob = knob(&namespaces, "vm.dirty_bytes");
        let Ok(before) = read(&mut namespaces, &knob) else {
            eprintln!("SKIP: no vm.dirty_bytes here");
            return;
        };
        let bytes = Value::from(1 << 30);
        if before.as_word().is_none() || write(&mut namespaces, &knob, &bytes).is_err() {
            eprintln!("SKIP: bytes are set already, or may not be written");
            return;
        }
        let there = read(&mut namespaces, &knob).unwrap();
        write(&mut namespaces, &knob, &before).unwrap();
        assert_eq!(there, bytes);
        assert_eq!(read(&mut namespaces, &knob).unwrap(), before);
    }

    fn knob(namespaces: &Namespaces, tunable: &str) -> Knob {
        Knob {
            tunable: tunable.into(),
            netns: namespaces.own(),
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        let mut namespaces = Namespaces::new().unwrap();
        for name in [
            "/etc/hostname",
            "/sys/../etc/hostname",
            "net/../../../etc/hostname",
            "/proc/1/root/etc/hostname",
        ] {
            let knob = knob(&namespaces, name);
            let error = read(&mut namespaces, &knob).unwrap_err().to_string();
            assert!(error.contains("below /sys"), "{name}: {error}");
            let error = write(&mut namespaces, &knob, &Value::word("x")).unwrap_err();
            assert!(error.to_string().contains("below /sys"), "{name}: {error}");
        }
    }

    #[test]
    fn a_device_that_is_gone_is_told_from_a_file_that_is_missing() {
        let mut namespaces = Namespaces::new().unwrap();
        let gone = knob(&namespaces, "/sys/block/no-such-disk/queue/scheduler");
        let error = read(&mut namespaces, &gone).unwrap_err();
        assert!(matches!(error, Error::DeviceGone(_)), "{error}");
        let missing = knob(&namespaces, "/sys/kernel/mm/no_such_file");
        let error = read(&mut namespaces, &missing).unwrap_err();
        assert!(matches!(error, Error::SysctlRead { .. }), "{error}");
        assert!(!error.to_string().contains("netns"), "{error}");
    }
}
