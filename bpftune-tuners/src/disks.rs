//! The names of block devices, and for how long one is looked at.

use std::{fs, path::Path, time::Duration};

/// `dev_t` as the kernel has it inside (include/linux/kdev_t.h): twelve bits and twenty.
const MINOR_BITS: u32 = 20;

/// The disk of a device number, by its name below /sys/block: the number may be a partition's. `None` where it is gone.
pub(crate) fn name(dev: u32) -> Option<String> {
    let (major, minor) = (dev >> MINOR_BITS, dev & ((1 << MINOR_BITS) - 1));
    disk_at(&Path::new("/sys/dev/block").join(format!("{major}:{minor}")))
}

fn disk_at(link: &Path) -> Option<String> {
    let mut folder = fs::canonicalize(link).ok()?;
    if folder.join("partition").exists() {
        folder.pop();
    }
    Some(folder.file_name()?.to_str()?.to_owned())
}

/// So long after its last signal a device is still the one that a trial may be about, and no other is heard.
pub(crate) const FOCUS: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_the_name_of_its_disk() {
        let root = tempfile::tempdir().unwrap();
        let partition = root.path().join("devices/sda/sda1");
        fs::create_dir_all(&partition).unwrap();
        fs::write(partition.join("partition"), "1\n").unwrap();
        let link = |name: &str, to: &Path| {
            let link = root.path().join(name);
            std::os::unix::fs::symlink(to, &link).unwrap();
            link
        };
        assert_eq!(disk_at(&link("8:1", &partition)).as_deref(), Some("sda"));
        let whole = partition.parent().unwrap();
        assert_eq!(disk_at(&link("8:0", whole)).as_deref(), Some("sda"));
        assert_eq!(disk_at(&root.path().join("9:9")), None);
    }

    #[test]
    fn knows_the_disks_of_this_host() {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path().join("dev")).unwrap();
            let (major, minor) = text.trim().split_once(':').unwrap();
            let number: u32 =
                major.parse::<u32>().unwrap() << MINOR_BITS | minor.parse::<u32>().unwrap();
            assert_eq!(name(number).as_deref(), entry.file_name().to_str());
        }
    }
}
