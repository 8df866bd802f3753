//! Parameters by name: sysctls of the calling thread's network namespace, files of sysfs, and interrupts' affinity.
//!
//! A name with a leading slash is the file itself: "/sys/block/vda/queue/scheduler", or the processors that may handle an
//! interrupt, "/proc/irq/38/smp_affinity_list". Any other is a sysctl's, by files under /proc/sys. /proc/sys/net shows
//! the namespace of the thread that opens the file, so callers enter the namespace first: see [`Namespaces`]. Files of sysfs are the host's, but for those of network devices
//! ("/sys/class/net/eth0/queues/rx-0/rps_cpus"), which belong to the device's namespace.

mod affinity;
mod sysfs;
mod twin;

use std::{
    fs,
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use self::sysfs::Sysfs;
pub use self::twin::{are_one, meant, percent, spelled};
use crate::{Cpus, Error, Knob, Result, Value, netns::Namespaces};

/// Where names with a leading slash may lead, beside the affinity of interrupts.
const SYSFS: &str = "/sys/";

/// Whether a name is a file's, of sysfs or an interrupt's, and no sysctl.
#[must_use]
pub fn is_file(name: &str) -> bool {
    name.starts_with('/')
}

/// Whether each network namespace has its own parameter of this name: every sysctl counts as one, and of the files those
/// of network devices.
#[must_use]
pub fn is_of_netns(name: &str) -> bool {
    !is_file(name) || name.starts_with(DEVICES)
}

/// Where network devices have their files.
const DEVICES: &str = "/sys/class/net/";

/// How a file writes its value.
enum Form {
    /// As a [`Value`] does.
    Plain,
    /// A set of processors in hexadecimal words.
    Mask,
    /// A set of processors as a list.
    List,
}

fn form(name: &str) -> Form {
    if name == "net.core.flow_limit_cpu_bitmap" {
        return Form::Mask;
    }
    match name.rsplit('/').next() {
        Some("rps_cpus" | "xps_cpus") if is_file(name) => Form::Mask,
        Some(affinity::LIST) if is_file(name) => Form::List,
        _ => Form::Plain,
    }
}

/// A value as the parameter's file takes it: a set of processors is a mask there.
#[must_use]
pub fn text_for(name: &str, value: &Value) -> String {
    match (form(name), value.as_cpus()) {
        (Form::Mask, Some(cpus)) => cpus.mask(),
        (Form::List, Some(cpus)) => cpus.list(),
        _ => value.to_string(),
    }
}

/// A file's text as a value.
fn shown(name: &str, text: &str) -> Result<Value> {
    match form(name) {
        Form::Mask => Cpus::of_mask(text).map(Value::from),
        Form::List => text.parse::<Cpus>().map(Value::from),
        Form::Plain => Value::shown(text),
    }
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

/// A sysctl that is one whole number, as the calling thread's namespaces have it. `None` where there is no such.
#[must_use]
pub fn number(name: &str) -> Option<u64> {
    fs::read_to_string(path(name)).ok()?.trim().parse().ok()
}

/// A name's file, of names that lead to a parameter. A journal or a plugin that names another file gets no further.
fn checked(name: &str) -> io::Result<PathBuf> {
    let path = path(name);
    let inside = !is_file(name) || name.starts_with(SYSFS) || affinity::is_affinity(name);
    if inside && path.components().all(|part| part != Component::ParentDir) {
        return Ok(path);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "parameters are sysctls, files below /sys, and smp_affinity_list of interrupts",
    ))
}

/// Reads a knob in its namespace.
///
/// # Errors
/// [`Error::NetnsGone`], [`Error::DeviceGone`], [`Error::SysctlRead`] (missing on this kernel, or neither numbers nor a
/// word in it).
pub fn read(namespaces: &mut Namespaces, knob: &Knob) -> Result<Value> {
    let text = words(namespaces, knob)?;
    shown(&knob.tunable, &text).map_err(|error: Error| Error::SysctlRead {
        name: knob.tunable.clone(),
        netns: knob.netns,
        source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    })
}

/// A parameter's text, in the spelling that holds.
fn in_force(sysfs: &Sysfs, name: &str, file: &Path) -> io::Result<String> {
    let shown = sysfs.open(file, false).and_then(text)?;
    match twin::share_of(name) {
        Some(share) if shown.trim() == "0" => {
            let percent = sysfs.open(&path(share), false).and_then(text)?;
            Ok(twin::word(&percent))
        }
        _ => Ok(shown),
    }
}

/// A sysctl's text. The kernel gives all of it to one read(2) that has room, and nothing to the next; asking for the
/// file's size and for its end would cost as much again.
fn text(mut file: impl Read) -> io::Result<String> {
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
    let own = is_own(namespaces, knob);
    let read = || {
        let sysfs = Sysfs::of(own)?;
        let read = in_force(&sysfs, &knob.tunable, &file);
        Ok(read.map_err(|error| (sysfs.is_gone(&file, &error), error)))
    };
    match namespaces.within(knob.netns, read)?.map_err(unreadable)? {
        Err((true, _)) if is_file(&knob.tunable) => Err(Error::DeviceGone(file)),
        text => text.map_err(|(_, error)| unreadable(error)),
    }
}

/// Whether the file of a knob is where this process sees it.
fn is_own(namespaces: &Namespaces, knob: &Knob) -> bool {
    !knob.tunable.starts_with(DEVICES) || knob.netns == namespaces.own()
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
    let (own, text) = (is_own(namespaces, knob), text_for(&knob.tunable, value));
    let (name, text) = spelled(&knob.tunable, &text);
    let file = checked(name).map_err(refused)?;
    // One write(2) call: the kernel takes a row of numbers whole or not at all.
    namespaces
        .within(knob.netns, || {
            let mut file = Sysfs::of(own)?.open(&file, true)?;
            file.write_all(text.as_bytes())
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
    fn sets_of_processors_are_masks_in_their_files() {
        let name = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
        let value = shown(name, "00000001,00000003\n").unwrap();
        assert_eq!(value.to_string(), "cpus 0-1,32");
        assert_eq!(text_for(name, &value), "00000001,00000003");
        assert_eq!(shown(name, "10\n").unwrap().to_string(), "cpus 4");
        assert!(shown(name, "none").is_err());
        assert_eq!(shown("net.core.somaxconn", "10\n").unwrap(), 10.into());
        let limits = "net.core.flow_limit_cpu_bitmap";
        assert_eq!(shown(limits, "3\n").unwrap().to_string(), "cpus 0-1");
        assert_eq!(text_for("net.core.somaxconn", &10.into()), "10");
    }

    #[test]
    fn devices_are_of_a_namespace() {
        for (name, wanted) in [
            ("net.core.somaxconn", true),
            ("/sys/class/net/eth0/queues/rx-0/rps_cpus", true),
            ("/sys/block/vda/queue/scheduler", false),
        ] {
            assert_eq!(is_of_netns(name), wanted, "{name}");
        }
    }

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
            let opened = fs::File::open(file.path()).unwrap();
            assert_eq!(text(opened).unwrap().len(), length);
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
