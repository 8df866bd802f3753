//! Loads BPF objects so that one refused hook costs only itself.

mod events;
mod feed;
mod fields;
mod host_source;
mod relay;

use std::{ffi::OsStr, fs::File, io, os::fd::AsRawFd, path::Path};

use libbpf_rs::{Iter, Link, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject};

use self::relay::Place;
pub use self::{
    events::{EventHeader, Events},
    feed::{EventSource, Feed, Parse, Scenarios, monotonic_ns, split},
    fields::Fields,
    host_source::{HostSource, SHARED, of_host},
};
use crate::{Error, Result};

/// Names of programs that [`Hooks::load`] must leave out, separated by commas: for trying what a
/// tuner does without a hook. `status` shows them as switched off.
pub const WITHOUT_HOOKS: &str = "BPFTUNE_WITHOUT_HOOKS";

/// A counter that a program keeps: a `__u64` of an array, by its index.
#[must_use]
pub fn counter(map: &MapHandle, index: u32) -> Option<f64> {
    let bytes = map.lookup(&index.to_ne_bytes(), MapFlags::ANY).ok()??;
    Some(Fields(&bytes).u64(0)? as f64)
}

/// The same where each processor counts for itself: the sum of all.
#[must_use]
pub fn counter_of_all(map: &MapHandle, index: u32) -> Option<f64> {
    let each = map
        .lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)
        .ok()??;
    let sum: u64 = each.iter().filter_map(|bytes| Fields(bytes).u64(0)).sum();
    Some(sum as f64)
}

/// One program and whether it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStatus {
    /// The program's name.
    pub name: String,
    /// Where it attaches: "tp_btf/tcp_probe".
    pub section: String,
    /// Why it is off, or `None` where it is attached.
    pub off: Option<String>,
}

impl HookStatus {
    /// "hook", or "parameter" where a source says so of one that it needs, by its name or file, beside its programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.section.starts_with('/') || self.section.contains('.') {
            "parameter"
        } else {
            "hook"
        }
    }
}

/// What keeps a program attached.
enum Attached {
    Alone(Link),
    /// Behind others' or before them: see `bpftune/relay.h`.
    InLine(#[expect(dead_code, reason = "leaves the line when dropped")] Place),
}

/// A loaded object with its attached programs. Everything detaches on drop.
pub struct Hooks {
    // Links before the object: they go first.
    links: Vec<(String, Attached)>,
    object: Option<Object>,
    status: Vec<HookStatus>,
}

impl Hooks {
    /// Loads an object file and attaches each of its programs but for `detached`.
    ///
    /// The whole object is tried first. Where the kernel refuses it, each program is tried alone and
    /// those that are refused stay out, with the reason in [`Hooks::status`]. `prepare` runs before
    /// each load, to set read-only data. Programs named in `detached` wait for [`Hooks::switch`]: to attach
    /// a program only to detach it again would take tens of milliseconds, in which the kernel waits until no
    /// processor runs it any more.
    ///
    /// # Errors
    /// Only where the object itself is broken. A kernel that refuses everything gives an `Ok` with
    /// every hook off.
    pub fn load(
        name: &str,
        bytes: &[u8],
        detached: &[&str],
        prepare: impl Fn(&mut OpenObject) -> Result<(), libbpf_rs::Error>,
    ) -> Result<Hooks> {
        let broken = |source| Error::Bpf {
            object: name.to_owned(),
            source,
        };
        let switched_off = std::env::var(WITHOUT_HOOKS).unwrap_or_default();
        let programs: Vec<(String, String)> = ObjectBuilder::default()
            .open_memory(bytes)
            .map_err(broken)?
            .progs()
            .map(|p| (text(p.name()), text(p.section())))
            .collect();
        let mut status: Vec<HookStatus> = programs
            .iter()
            .map(|(name, section)| HookStatus {
                name: name.clone(),
                section: section.clone(),
                off: switched_off
                    .split(',')
                    .any(|off| off == name)
                    .then(|| format!("switched off by {WITHOUT_HOOKS}"))
                    .or_else(|| no_tracepoint(section, &TRACEFS)),
            })
            .collect();
        let load = |wanted: &dyn Fn(&str) -> bool| -> Result<Object, libbpf_rs::Error> {
            let mut open = ObjectBuilder::default().open_memory(bytes)?;
            for mut program in open.progs_mut() {
                let keep = wanted(&text(program.name()));
                program.set_autoload(keep);
            }
            prepare(&mut open)?;
            open.load()
        };

        let on = |status: &[HookStatus], name: &str| {
            status
                .iter()
                .any(|hook| hook.name == name && hook.off.is_none())
        };
        let mut object = load(&|name| on(&status, name));
        if object.is_err() {
            for hook in status.iter_mut().filter(|hook| hook.off.is_none()) {
                if let Err(error) = load(&|name| name == hook.name) {
                    hook.off = Some(refusal(&error, &hook.section));
                }
            }
            object = load(&|name| on(&status, name));
        }
        let mut hooks = Hooks {
            links: Vec::new(),
            object: None,
            status,
        };
        match object {
            Ok(object) => {
                hooks.object = Some(object);
                hooks.attach(|name| !detached.contains(&name));
            }
            Err(error) => {
                for hook in hooks.status.iter_mut().filter(|hook| hook.off.is_none()) {
                    hook.off = Some(refusal(&error, &hook.section));
                }
            }
        }
        Ok(hooks)
    }

    /// Each program and whether it runs.
    #[must_use]
    pub fn status(&self) -> &[HookStatus] {
        &self.status
    }

    /// The map of that name, where the object could be loaded.
    #[must_use]
    pub fn map(&self, name: &str) -> Option<MapHandle> {
        map_of(self.object.as_ref()?, name)
    }

    /// Detaches these programs, or attaches them: for those whose hook costs something as long as anything stands on it,
    /// and which have nothing to see most of the time. What was refused stays off, with the reason in [`Hooks::status`].
    pub fn switch(&mut self, names: &[&str], on: bool) {
        if on {
            for (name, why) in self.attach(|name| names.contains(&name)) {
                tracing::warn!("{name}: {why}");
            }
        } else {
            self.links
                .retain(|(name, _)| !names.contains(&name.as_str()));
        }
    }

    /// Attaches each of the wanted programs that is not off and not attached. Those refused are off from then on, and
    /// returned with the reason.
    fn attach(&mut self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut refused = Vec::new();
        let Some(object) = &self.object else {
            return refused;
        };
        for program in object.progs_mut() {
            let name = text(program.name());
            let hook = self.status.iter_mut().find(|hook| hook.name == name);
            let Some(hook) = hook.filter(|hook| hook.off.is_none()) else {
                continue;
            };
            if !wanted(&name) || self.links.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let attached = if hook.section.starts_with("cgroup/") || hook.section == "sockops" {
                attach_to_cgroup_root(&program).map(Attached::Alone)
            } else {
                let attached = match map_of(object, &relay::next_of(&name)) {
                    Some(next) => Place::take(&hook.section, &program, next).map(Attached::InLine),
                    None => program.attach().map(Attached::Alone),
                };
                attached.map_err(|error| refusal(&error, &hook.section))
            };
            match attached {
                Ok(attached) => self.links.push((name, attached)),
                Err(why) => {
                    hook.off = Some(why.clone());
                    refused.push((name, why));
                }
            }
        }
        refused
    }

    /// Runs an iterator program (`iter/...`) once over the calling thread's namespace; `false` where it
    /// is off.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn iterate(&self, name: &str) -> Result<bool> {
        Ok(self.iterate_into(name, &mut io::sink())?.is_some())
    }

    /// The same, with what the program writes (bpf_seq_write); `None` where it is off.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn iterate_into(&self, name: &str, to: &mut impl io::Write) -> Result<Option<u64>> {
        let link = self.links.iter().find(|(other, _)| other == name);
        let Some((_, Attached::Alone(link))) = link else {
            return Ok(None);
        };
        let mut iterator = Iter::new(link).map_err(|source| Error::Bpf {
            object: name.to_owned(),
            source,
        })?;
        let bytes =
            io::copy(&mut iterator, to).map_err(Error::system(format!("iterator {name}")))?;
        Ok(Some(bytes))
    }

    /// Kernel memory of all maps in bytes, as `/proc/self/fdinfo` gives it (`memlock`).
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        use std::os::fd::AsFd;
        let Some(object) = &self.object else { return 0 };
        object
            .maps()
            .filter_map(|map| {
                let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
                let text = std::fs::read_to_string(path).ok()?;
                text.lines()
                    .find_map(|l| l.strip_prefix("memlock:")?.trim().parse::<u64>().ok())
            })
            .sum()
    }
}

fn map_of(object: &Object, name: &str) -> Option<MapHandle> {
    let map = object.maps().find(|map| map.name() == OsStr::new(name))?;
    MapHandle::try_from(&map).ok()
}

fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Why a program was refused: what it attaches to is missing, or libbpf's error with its causes on one line, and the way
/// out where it is known.
fn refusal(error: &libbpf_rs::Error, section: &str) -> String {
    let mut why = format!("{error:#}").replace('\n', " ");
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        why.push_str("; this kernel shows no BTF: it needs CONFIG_DEBUG_INFO_BTF=y");
    } else if let Some(event) = section.strip_prefix("tp_btf/")
        // ESRCH: none of the kernel's types is that tracepoint's.
        && why.contains("(os error 3)")
    {
        why = format!("this kernel has no tracepoint {event}");
    }
    why
}

/// Where tracefs is mounted, if it is: by itself, or below debugfs.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why a classic tracepoint ("tracepoint/syscalls/sys_exit_mmap") is out of reach: it is found by its number in tracefs.
/// `None` where it is not, or the section is of another kind.
fn no_tracepoint(section: &str, tracefs: &[impl AsRef<Path>]) -> Option<String> {
    let event = section.strip_prefix("tracepoint/")?;
    let mut roots = tracefs.iter().map(|root| root.as_ref().join("events"));
    let Some(events) = roots.find(|events| events.exists()) else {
        return Some("tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing".into());
    };
    let known = events.join(event).join("id").exists();
    (!known).then(|| format!("this kernel has no tracepoint {event}"))
}

/// Where cgroup v2 is mounted, also beside v1 (hybrid).
#[must_use]
pub fn cgroup2_mount(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        (fields.next()? == "cgroup2").then_some(point)
    })
}

fn attach_to_cgroup_root(program: &libbpf_rs::ProgramMut<'_>) -> Result<Link, String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let root = cgroup2_mount(&mounts)
        .ok_or("cgroup v2 is not mounted: mount -t cgroup2 none /sys/fs/cgroup")?;
    let root = File::open(root).map_err(|error| format!("cannot open {root}: {error}"))?;
    program
        .attach_cgroup(root.as_raw_fd())
        .map_err(|error| refusal(&error, &text(program.section())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_told_from_hooks() {
        for (section, kind) in [
            ("tp_btf/tcp_probe", "hook"),
            ("tracepoint/syscalls/sys_exit_clone3", "hook"),
            ("sockops", "hook"),
            ("kernel.sched_autogroup_enabled", "parameter"),
            ("/sys/kernel/debug/sched/base_slice_ns", "parameter"),
        ] {
            let status = HookStatus {
                name: "x".into(),
                section: section.into(),
                off: None,
            };
            assert_eq!(status.kind(), kind, "{section}");
        }
    }

    #[test]
    fn what_is_detached_waits_for_the_switch() {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/admin.bpf.o"));
        let name = "sysctl_write";
        let mut hooks = Hooks::load("admin", object, &[name], |_| Ok(())).unwrap();
        if let Some(why) = &hooks.status()[0].off {
            eprintln!("SKIP: no BPF program can be loaded: {why}");
            return;
        }
        assert!(hooks.links.is_empty());
        hooks.switch(&["another"], true);
        assert!(hooks.links.is_empty());
        hooks.switch(&[name], true);
        if let Some(why) = &hooks.status()[0].off {
            eprintln!("SKIP: it cannot be attached: {why}");
            return;
        }
        hooks.switch(&[name], true);
        assert_eq!(hooks.links.len(), 1);
        hooks.switch(&[name], false);
        assert!(hooks.links.is_empty());
    }

    #[test]
    fn a_tracepoint_that_tracefs_does_not_show_is_named() {
        let tracefs = tempfile::tempdir().unwrap();
        let why = |section| no_tracepoint(section, &[tracefs.path()]);
        let mmap = "tracepoint/syscalls/sys_exit_mmap";
        assert!(why(mmap).unwrap().contains("mount -t tracefs"));
        let event = tracefs.path().join("events/syscalls/sys_exit_mmap");
        std::fs::create_dir_all(&event).unwrap();
        std::fs::write(event.join("id"), "12").unwrap();
        assert_eq!(why(mmap), None);
        let none = "this kernel has no tracepoint syscalls/none";
        assert_eq!(why("tracepoint/syscalls/none").as_deref(), Some(none));
        assert_eq!(why("tp_btf/tcp_probe"), None);
    }

    #[test]
    fn finds_cgroup2_beside_v1() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_mount(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup2_mount("proc /proc proc rw 0 0\n"), None);
    }
}
