//! Which processors may handle an interrupt (Documentation/core-api/irq/irq-affinity.rst).
//!
//! The kernel lets nobody choose where it spreads a device's interrupts itself ("managed"), nor of those that each processor
//! has for itself: writing gives EPERM, of older kernels EIO. Newer ones show it in the file's mode, too.

/// The end of the names.
pub(super) const LIST: &str = "smp_affinity_list";

/// Whether it is the name of such a file: "/proc/irq/38/smp_affinity_list".
pub(super) fn is_affinity(name: &str) -> bool {
    let rest = name.strip_prefix("/proc/irq/");
    let number = rest.and_then(|rest| rest.strip_suffix(LIST)?.strip_suffix('/'));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use crate::{Cpus, Knob, Value, netns::Namespaces, sysctl};

    use super::is_affinity;

    fn knob(namespaces: &Namespaces, tunable: &str) -> Knob {
        Knob {
            tunable: tunable.into(),
            netns: namespaces.own(),
        }
    }

    /// Interrupts of this host with what they read, whose processors may or may not be chosen.
    fn interrupts(namespaces: &mut Namespaces, free: bool) -> Vec<(Knob, Value)> {
        let folders = fs::read_dir("/proc/irq").into_iter().flatten().flatten();
        let mut found = Vec::new();
        for folder in folders {
            let file = folder.path().join(super::LIST);
            let fits = |meta: fs::Metadata| (meta.permissions().mode() & 0o200 != 0) == free;
            if !fs::metadata(&file).is_ok_and(fits) {
                continue;
            }
            let knob = knob(namespaces, &file.display().to_string());
            // It may go meanwhile.
            if let Ok(value) = sysctl::read(namespaces, &knob) {
                found.push((knob, value));
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }

    #[test]
    fn only_that_file_of_an_interrupt_is_one() {
        for (name, wanted) in [
            ("/proc/irq/38/smp_affinity_list", true),
            ("/proc/irq/38/smp_affinity", false),
            ("/proc/irq/38/a/smp_affinity_list", false),
            ("/proc/irq/../smp_affinity_list", false),
            ("/proc/1/smp_affinity_list", false),
            ("/proc/irq/38smp_affinity_list", false),
        ] {
            assert_eq!(is_affinity(name), wanted, "{name}");
        }
    }

    #[test]
    fn it_is_read_and_written_as_a_list() {
        let name = "/proc/irq/38/smp_affinity_list";
        let value = sysctl::shown(name, "0-1,32\n").unwrap();
        assert_eq!(value.to_string(), "cpus 0-1,32");
        assert_eq!(sysctl::text_for(name, &value), "0-1,32");
        assert!(sysctl::shown(name, "3-1\n").is_err());
        assert!(sysctl::is_file(name) && !sysctl::is_of_netns(name));
    }

    #[test]
    fn an_interrupt_is_moved_and_put_back() {
        let mut namespaces = Namespaces::new().unwrap();
        let several = |value: &Value| value.as_cpus().is_some_and(|cpus| cpus.len() > 1);
        let all = interrupts(&mut namespaces, true);
        let Some((knob, before)) = all.into_iter().find(|(_, value)| several(value)) else {
            eprintln!("SKIP: no interrupt here that several processors may handle");
            return;
        };
        let first: Cpus = before.as_cpus().unwrap().iter().take(1).collect();
        if let Err(error) = sysctl::write(&mut namespaces, &knob, &first.clone().into()) {
            eprintln!("SKIP: {error}");
            return;
        }
        // Back before anything is looked at: a failure of this test is to leave nothing.
        let there = sysctl::read(&mut namespaces, &knob);
        sysctl::write(&mut namespaces, &knob, &before).unwrap();
        assert_eq!(there.unwrap(), first.into());
        assert_eq!(sysctl::read(&mut namespaces, &knob).unwrap(), before);
    }

    #[test]
    fn an_interrupt_that_the_kernel_spreads_is_refused_by_name() {
        let mut namespaces = Namespaces::new().unwrap();
        let Some((knob, before)) = interrupts(&mut namespaces, false).into_iter().next() else {
            eprintln!("SKIP: no interrupt here of which the kernel says that nobody may move it");
            return;
        };
        let error = sysctl::write(&mut namespaces, &knob, &before).unwrap_err();
        assert!(error.to_string().contains(&knob.tunable), "{error}");
    }

    #[test]
    fn an_interrupt_that_is_gone_is_a_device_that_is_gone() {
        let mut namespaces = Namespaces::new().unwrap();
        let gone = knob(&namespaces, "/proc/irq/999999/smp_affinity_list");
        let error = sysctl::read(&mut namespaces, &gone).unwrap_err();
        assert!(matches!(error, crate::Error::DeviceGone(_)), "{error}");
    }
}
