//! What the daemon needs, and giving up the rest.

use caps::{CapSet, Capability, CapsHashSet};

use crate::{Error, Result};

/// Each capability that is needed, and what for.
pub const REQUIRED: &[(Capability, &str)] = &[
    (Capability::CAP_BPF, "load BPF programs"),
    (Capability::CAP_PERFMON, "attach them to tracepoints"),
    (
        Capability::CAP_NET_ADMIN,
        "write network sysctls and watch sysctl writes",
    ),
    (Capability::CAP_SYS_ADMIN, "enter other network namespaces"),
    (
        Capability::CAP_SYS_PTRACE,
        "find the network namespaces of other users' processes",
    ),
];

/// What process plugins need beyond that.
pub const FOR_PLUGINS: &[(Capability, &str)] = &[
    (Capability::CAP_SETUID, "run plugins as users of their own"),
    (Capability::CAP_SETGID, "run plugins as users of their own"),
    (Capability::CAP_KILL, "end plugins"),
];

/// The needed capabilities that this process lacks.
///
/// # Errors
/// Where capget(2) fails.
pub fn missing() -> Result<Vec<(Capability, &'static str)>> {
    let have = caps::read(None, CapSet::Effective).map_err(capability_error)?;
    Ok(REQUIRED
        .iter()
        .copied()
        .filter(|(cap, _)| !have.contains(cap))
        .collect())
}

/// Keeps what the daemon needs at run time and gives up every other capability for good, and
/// with no_new_privs the way back. Call it when all is loaded and attached.
///
/// # Errors
/// Where capset(2) or prctl(2) fails.
pub fn drop_rest() -> Result<()> {
    keep_only(REQUIRED.iter())
}

/// The same, and keeps [`FOR_PLUGINS`] too.
///
/// # Errors
/// As [`drop_rest`].
pub fn drop_rest_but_for_plugins() -> Result<()> {
    keep_only(REQUIRED.iter().chain(FOR_PLUGINS))
}

fn keep_only<'a>(kept: impl Iterator<Item = &'a (Capability, &'static str)>) -> Result<()> {
    let keep: CapsHashSet = kept.map(|&(cap, _)| cap).collect();
    nix::sys::prctl::set_no_new_privs().map_err(Error::system("cannot set no_new_privs"))?;
    caps::clear(None, CapSet::Ambient).map_err(capability_error)?;
    for cap in caps::read(None, CapSet::Bounding).map_err(capability_error)? {
        if !keep.contains(&cap)
            && caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false)
        {
            caps::drop(None, CapSet::Bounding, cap).map_err(capability_error)?;
        }
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        let now = caps::read(None, set).map_err(capability_error)?;
        caps::set(None, set, &now.intersection(&keep).copied().collect())
            .map_err(capability_error)?;
    }
    Ok(())
}

fn capability_error(error: caps::errors::CapsError) -> Error {
    Error::System {
        what: "cannot read or change capabilities".into(),
        source: std::io::Error::other(error.to_string()),
    }
}
