//! What this kernel does not offer, said where hooks are.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};

use bpftune_core::{bpf::HookStatus, sysctl};

use super::rules::{AUTOGROUP, BASE_SLICE};

/// The parameters, each with why it is out of reach.
pub(super) fn parameters() -> Vec<HookStatus> {
    [("autogroup", AUTOGROUP), ("base_slice", BASE_SLICE)]
        .into_iter()
        .map(|(name, tunable)| HookStatus {
            name: name.into(),
            section: tunable.into(),
            off: why_not(&sysctl::path(tunable)),
        })
        .collect()
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
    }

    #[test]
    fn what_can_be_read_is_not_said_to_be_lacking() {
        for hook in parameters() {
            let readable = fs::read_to_string(sysctl::path(&hook.section)).is_ok();
            assert_eq!(hook.off.is_none(), readable, "{}", hook.section);
        }
    }
}
