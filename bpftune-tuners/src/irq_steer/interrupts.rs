//! Which interrupts a network device has, which of them may be moved, and whose they are.

use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt, path::PathBuf};

use bpftune_core::{Cpus, bpf::HookStatus};

/// Where the kernel shows them; elsewhere in tests.
#[derive(Debug)]
pub(super) struct Interrupts {
    proc: PathBuf,
    sys: PathBuf,
    /// Those of which it was said that they cannot be moved.
    said: HashSet<u32>,
}

impl Default for Interrupts {
    fn default() -> Interrupts {
        Interrupts::below("/proc".into(), "/sys".into())
    }
}

impl Interrupts {
    fn below(proc: PathBuf, sys: PathBuf) -> Interrupts {
        Interrupts {
            proc,
            sys,
            said: HashSet::new(),
        }
    }

    /// The interrupt of a device of this process's network namespace that came to this processor most often, of those that
    /// come there and may be moved.
    pub(super) fn of_device(&mut self, device: &str, cpu: u32) -> Option<u32> {
        let numbers = self.numbers(device);
        if numbers.is_empty() {
            return None;
        }
        let table = fs::read_to_string(self.proc.join("interrupts")).ok()?;
        let mut best: Option<(u64, u32)> = None;
        for number in numbers {
            let folder = self.proc.join("irq").join(number.to_string());
            let here = Cpus::in_file(&folder.join("effective_affinity_list"));
            let came = count(&table, number, cpu).unwrap_or(0);
            if here.len() == 1 && here.contains(cpu) && came > 0 && self.is_free(device, number) {
                best = best.max(Some((came, number)));
            }
        }
        best.map(|(_, number)| number)
    }

    /// Message-signalled interrupts of the device below a network device, or its line. virtio has a device in between.
    fn numbers(&self, device: &str) -> Vec<u32> {
        let number = |name: &str| name.trim().parse().ok().filter(|number| *number > 0);
        let Ok(below) = fs::canonicalize(self.sys.join("class/net").join(device).join("device"))
        else {
            return Vec::new();
        };
        for folder in below.ancestors().take(2) {
            if let Ok(entries) = fs::read_dir(folder.join("msi_irqs")) {
                let names = entries.flatten().map(|entry| entry.file_name());
                return names.filter_map(|name| number(name.to_str()?)).collect();
            }
        }
        let line = fs::read_to_string(below.join("irq")).unwrap_or_default();
        number(&line).into_iter().collect()
    }

    /// Whether its processors may be chosen: newer kernels show in the file's mode that they choose. Said once.
    fn is_free(&mut self, device: &str, number: u32) -> bool {
        let file = self.proc.join(format!("irq/{number}/smp_affinity_list"));
        let free = fs::metadata(file).is_ok_and(|meta| meta.permissions().mode() & 0o200 != 0);
        if !free && self.said.insert(number) {
            tracing::info!(
                "interrupt {number} of {device} stays: the kernel chooses its processors"
            );
        }
        free
    }

    /// Why interrupts are nobody's to move; `None` where they may be.
    pub(super) fn taken(&self) -> Option<String> {
        let processes = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        for process in processes {
            let name = process.file_name();
            let Some(number) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
                continue;
            };
            let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            if comm.trim() == "irqbalance" {
                return Some(format!(
                    "irqbalance runs (process {number}): interrupts are where it puts them; stop it to leave that to this tuner"
                ));
            }
        }
        None
    }

    /// The same beside the hooks.
    pub(super) fn status(&self) -> HookStatus {
        HookStatus {
            name: "interrupts".into(),
            section: "/proc/irq".into(),
            off: self.taken(),
        }
    }
}

/// How often an interrupt came to a processor, from /proc/interrupts: a row of processors, then a row each of counts by them.
fn count(table: &str, number: u32, cpu: u32) -> Option<u64> {
    let mut lines = table.lines();
    let processor = format!("CPU{cpu}");
    let mut columns = lines.next()?.split_ascii_whitespace();
    let column = columns.position(|name| name == processor)?;
    let row = lines.find_map(|line| {
        let (name, counts) = line.split_once(':')?;
        (name.trim().parse() == Ok(number)).then_some(counts)
    })?;
    row.split_ascii_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    /// As this project's machines show it, but for the processor that is offline.
    const TABLE: &str = "           CPU0       CPU2
 24:          1          0  IO-APIC   5-edge      ACPI:Ged
 38:          0      51044 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:      42362       1000 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
LOC:   43295624   44587074   Local timer interrupts
ERR:          0
";

    proptest! {
        #[test]
        fn any_table_is_read_without_panic(table in "( |CPU[0-9]|[0-9]{1,20}|:|\n|[A-Z]{3}){0,40}", number in 0u32..40) {
            let _ = count(&table, number, 2);
        }
    }

    #[test]
    fn counts_are_by_processor() {
        assert_eq!(count(TABLE, 38, 2), Some(51044));
        assert_eq!(count(TABLE, 39, 0), Some(42362));
        assert_eq!(
            (count(TABLE, 38, 1), count(TABLE, 40, 0), count("", 1, 0)),
            (None, None, None)
        );
    }

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Host {
            let host = Host(tempfile::tempdir().unwrap());
            host.file("proc/interrupts", TABLE);
            for number in ["37", "38", "39"] {
                host.file(&format!("sys/devices/pci/msi_irqs/{number}"), "msix\n");
                host.interrupt(number, "2\n");
            }
            host.file("sys/devices/pci/virtio2/features", "1\n");
            let net = host.0.path().join("sys/class/net/eth0");
            fs::create_dir_all(&net).unwrap();
            let device = host.0.path().join("sys/devices/pci/virtio2");
            std::os::unix::fs::symlink(device, net.join("device")).unwrap();
            host
        }

        fn file(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn interrupt(&self, number: &str, effective: &str) {
            let folder = format!("proc/irq/{number}");
            self.file(&format!("{folder}/effective_affinity_list"), effective);
            self.file(&format!("{folder}/smp_affinity_list"), "0,2\n");
        }

        fn look(&self) -> Interrupts {
            Interrupts::below(self.0.path().join("proc"), self.0.path().join("sys"))
        }
    }

    #[test]
    fn the_busiest_of_those_that_come_there_is_chosen() {
        let host = Host::new();
        assert_eq!(host.look().of_device("eth0", 2), Some(38));
        host.interrupt("38", "0\n");
        assert_eq!(host.look().of_device("eth0", 2), Some(39));
        host.interrupt("39", "0,2\n");
        assert_eq!(
            host.look().of_device("eth0", 2),
            None,
            "nobody knows where it comes"
        );
        assert_eq!(host.look().of_device("veth0", 2), None);
    }

    #[test]
    fn a_line_is_an_interrupt_too() {
        let host = Host::new();
        fs::remove_dir_all(host.0.path().join("sys/devices/pci/msi_irqs")).unwrap();
        assert_eq!(host.look().of_device("eth0", 2), None);
        host.file("sys/devices/pci/virtio2/irq", "38\n");
        assert_eq!(host.look().of_device("eth0", 2), Some(38));
        host.file("sys/devices/pci/virtio2/irq", "0\n");
        assert_eq!(host.look().of_device("eth0", 2), None);
    }

    #[test]
    fn one_that_the_kernel_spreads_is_left_alone() {
        let host = Host::new();
        let file = host.0.path().join("proc/irq/38/smp_affinity_list");
        fs::set_permissions(file, fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(host.look().of_device("eth0", 2), Some(39));
    }

    #[test]
    fn irqbalance_has_them_all() {
        let host = Host::new();
        host.file("proc/1/comm", "init\n");
        assert_eq!(host.look().taken(), None);
        host.file("proc/712/comm", "irqbalance\n");
        let why = host.look().status().off.unwrap();
        assert!(why.contains("process 712"), "{why}");
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let mut here = Interrupts::default();
        let _ = (here.taken(), here.of_device("lo", 0));
        for entry in fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            for cpu in 0..2 {
                if let Some(number) = here.of_device(&name, cpu) {
                    assert!(Path::new("/proc/irq").join(number.to_string()).exists());
                }
            }
        }
    }
}
