//! What this kernel does not offer, said where hooks are.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use bpftune_core::{bpf::HookStatus, sysctl};

use super::rules::{AUTOGROUP, BASE_SLICE};

/// Tells that the host is short of processors: the whole tuner sleeps until then.
pub(super) const PRESSURE: &str = "/proc/pressure/cpu";
/// Where the kernel sums up waits, it shows them here too.
const WAITS: &str = "/proc/self/schedstat";

/// What is read and changed, each with why it is out of reach.
pub(super) fn parameters() -> Vec<HookStatus> {
    [
        ("waits", WAITS),
        ("autogroup", AUTOGROUP),
        ("base_slice", BASE_SLICE),
    ]
    .into_iter()
    .map(|(name, file)| HookStatus {
        name: name.into(),
        section: file.into(),
        off: why_not(&sysctl::path(file)),
    })
    .collect()
}

/// The trigger of pressure, by what the kernel answered.
pub(super) fn pressure(refused: Option<&io::Error>) -> HookStatus {
    HookStatus {
        name: "pressure".into(),
        section: PRESSURE.into(),
        off: refused.map(|error| reason(Path::new(PRESSURE), error)),
    }
}

/// Why a parameter cannot be read, and so not be changed.
fn why_not(path: &Path) -> Option<String> {
    let error = fs::read_to_string(path).err()?;
    Some(reason(path, &error))
}

fn reason(path: &Path, error: &io::Error) -> String {
    let debugfs = path.starts_with("/sys/kernel/debug");
    let mounted = || path.parent().is_some_and(Path::exists);
    match error.kind() {
        ErrorKind::NotFound if debugfs && !mounted() => {
            "debugfs is not mounted: mount -t debugfs none /sys/kernel/debug".into()
        }
        _ if path == Path::new(PRESSURE) => {
            format!("no pressure stall information, or no right to it ({error}): boot with psi=1; before Linux 6.4 \
                     CAP_SYS_RESOURCE is needed")
        }
        ErrorKind::NotFound if path == Path::new(WAITS) => {
            "this kernel does not sum up waits: it needs CONFIG_SCHED_INFO".into()
        }
        ErrorKind::NotFound => format!("this kernel has no {}", path.display()),
        ErrorKind::PermissionDenied if debugfs => {
            "debugfs is closed to writers (lockdown): boot without it, or leave the scheduler as it is".into()
        }
        _ => format!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_way_out() {
        let error = |errno| io::Error::from_raw_os_error(errno);
        let slice = Path::new(BASE_SLICE);
        assert!(reason(slice, &error(1)).contains("lockdown"));
        let elsewhere = Path::new("/sys/kernel/debug/no/such");
        assert!(reason(elsewhere, &error(2)).contains("mount -t debugfs"));
        let autogroup = sysctl::path(AUTOGROUP);
        assert!(reason(&autogroup, &error(2)).contains("no /proc/sys/kernel"));
        assert!(reason(&autogroup, &error(5)).contains("autogroup"));
        assert!(reason(Path::new(WAITS), &error(2)).contains("CONFIG_SCHED_INFO"));
        let refused = pressure(Some(&error(1))).off.unwrap();
        assert!(refused.contains("psi=1"), "{refused}");
        assert_eq!(pressure(None).off, None);
    }

    #[test]
    fn what_can_be_read_is_not_said_to_be_lacking() {
        for hook in parameters() {
            let readable = fs::read_to_string(sysctl::path(&hook.section)).is_ok();
            assert_eq!(hook.off.is_none(), readable, "{}", hook.section);
        }
    }
}
