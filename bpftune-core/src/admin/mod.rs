//! The admin's word: who else writes sysctls, seen as it happens.

use std::{
    fs,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
};

use crate::{
    Error, Knob, Result,
    bpf::{EventHeader, Events, Fields, HookStatus, Hooks},
};

/// The owner name under which `status` shows the watch's hook.
pub const NAME: &str = "admin-watch";

/// A write to a sysctl by another process, seen before the kernel carries it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlWrite {
    /// What was written and in which namespace.
    pub knob: Knob,
    /// The writer.
    pub pid: u32,
    /// The writer's command name.
    pub comm: String,
    /// The text that it wrote.
    pub value: String,
}

/// Watches all sysctl writes on the host but this process's own.
///
/// A cgroup/sysctl BPF program on the root of cgroup v2. Every process is in some v2 cgroup, so no
/// write(2) to /proc/sys escapes it; what it misses (another cgroup v2 program that refuses the
/// write afterwards, or a kernel that refuses the value) is cleared up by reading the value back.
pub struct AdminWatch {
    hooks: Hooks,
    events: Option<Events>,
}

impl AdminWatch {
    /// Loads and attaches the watch. Where the kernel refuses it, [`AdminWatch::hooks`] says why and
    /// reading back before each write remains.
    ///
    /// # Errors
    /// Where the ring buffer cannot be mapped.
    pub fn new() -> Result<AdminWatch> {
        let own = own()?;
        let hooks = Hooks::load(
            "admin",
            include_bytes!(concat!(env!("OUT_DIR"), "/admin.bpf.o")),
            &[],
            |open| {
                for mut map in open.maps_mut() {
                    if map.name().as_encoded_bytes().ends_with(b".rodata") {
                        map.set_initial_value(&own)?;
                    }
                }
                Ok(())
            },
        )?;
        let attached = hooks.status().iter().any(|hook| hook.off.is_none());
        let events = hooks
            .map("events")
            .filter(|_| attached)
            .map(Events::new)
            .transpose()?;
        Ok(AdminWatch { hooks, events })
    }

    /// Readable where writes were seen; `None` where the watch is off.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(Events::fd)
    }

    /// The writes since the last call.
    ///
    /// # Errors
    /// What libbpf says.
    pub fn drain(&mut self) -> Result<Vec<SysctlWrite>> {
        let Some(events) = &mut self.events else {
            return Ok(Vec::new());
        };
        Ok(events
            .drain()?
            .iter()
            .filter_map(|event| parse(event))
            .collect())
    }

    /// Whether it is attached.
    #[must_use]
    pub fn hooks(&self) -> &[HookStatus] {
        self.hooks.status()
    }

    /// Kernel memory of its maps, bytes.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.hooks.map_bytes()
    }
}

/// `own` of the BPF program: this process's number in its namespace of process numbers, and that namespace.
fn own() -> Result<[u8; 8]> {
    const NAMESPACE: &str = "/proc/self/ns/pid";
    let inode = fs::metadata(NAMESPACE).map_err(Error::file("look at", NAMESPACE))?;
    let mut own = [0; 8];
    own[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    // The kernel's number of it, 32 bits wide.
    own[4..].copy_from_slice(&(inode.ino() as u32).to_ne_bytes());
    Ok(own)
}

/// `struct sysctl_write_event`: head, pid, padding, comm\[16\], name\[64\], value\[64\].
fn parse(event: &[u8]) -> Option<SysctlWrite> {
    let (head, body) = EventHeader::split(event)?;
    let body = Fields(body);
    Some(SysctlWrite {
        pid: body.u32(0)?,
        comm: body.text(8, 16)?,
        knob: Knob {
            tunable: body.text(24, 64)?.replace('/', "."),
            netns: head.netns(),
        },
        value: body
            .text(88, 64)?
            .split_ascii_whitespace()
            .collect::<Vec<_>>()
            .join(" "),
    })
}

impl From<&SysctlWrite> for String {
    fn from(write: &SysctlWrite) -> String {
        format!("{} (process {})", write.comm, write.pid)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut event = vec![0u8; 16 + 8 + 16 + 64 + 64];
        event[8..16].copy_from_slice(&7u64.to_ne_bytes());
        event[16..20].copy_from_slice(&42u32.to_ne_bytes());
        event[24..30].copy_from_slice(b"sysctl");
        event[40..57].copy_from_slice(b"net/ipv4/tcp_rmem");
        event[104..112].copy_from_slice(b"1\t2\t300\n");
        let write = parse(&event).unwrap();
        assert_eq!(write.knob.tunable, "net.ipv4.tcp_rmem");
        assert_eq!(write.knob.netns.0, 7);
        assert_eq!(write.value, "1 2 300");
        assert_eq!(String::from(&write), "sysctl (process 42)");
    }
}
