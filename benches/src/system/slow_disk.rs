//! A disk of its own for a scenario, as slow as it is to be: a loop device on memory whose writes a control group holds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::control_group;
use crate::{Error, Result, programs};

/// Where the file is that the device stands on: writing to memory takes no time and no other disk's.
const MEMORY: &str = "/dev/shm";

/// Mounted with ext4; all of it goes on drop.
pub(super) struct SlowDisk {
    /// "/dev/loop0".
    device: String,
    number: String,
    throttle: PathBuf,
    mount: tempfile::TempDir,
    mounted: bool,
    _file: tempfile::NamedTempFile,
}

impl SlowDisk {
    /// What is missing here to make one.
    pub(super) fn missing() -> Option<&'static str> {
        if throttle().is_none() {
            return Some("no blkio control group (v1) that could make a disk slow");
        }
        if !programs::found("losetup") || !programs::found("mkfs.ext4") {
            return Some("it takes losetup (util-linux) and mkfs.ext4 (e2fsprogs)");
        }
        (!Path::new(MEMORY).is_dir()).then_some("no /dev/shm")
    }

    /// One that takes so many bytes, and writes so many a second.
    pub(super) fn new(bytes: u64, rate: u64) -> Result<SlowDisk> {
        let throttle = throttle().ok_or_else(|| Error::other("no blkio control group", "v1"))?;
        let file = tempfile::NamedTempFile::new_in(MEMORY)
            .and_then(|file| file.as_file().set_len(bytes).map(|()| file))
            .map_err(Error::doing("cannot make a file in /dev/shm"))?;
        let mount = tempfile::tempdir().map_err(Error::doing("cannot make a directory"))?;
        let device = run(Command::new("losetup")
            .args(["--find", "--show"])
            .arg(file.path()))?;
        let mut disk = SlowDisk {
            number: String::new(),
            device: device.trim().to_owned(),
            throttle,
            mount,
            mounted: false,
            _file: file,
        };
        let name = disk.device.trim_start_matches("/dev/");
        let number = fs::read_to_string(format!("/sys/block/{name}/dev"))
            .map_err(Error::doing("cannot ask for a loop device's number"))?;
        number.trim().clone_into(&mut disk.number);
        let options = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
        run(Command::new("mkfs.ext4").args(["-q", "-E", options, &disk.device]))?;
        run(Command::new("mount")
            .arg(&disk.device)
            .arg(disk.mount.path()))?;
        disk.mounted = true;
        disk.hold(rate)?;
        Ok(disk)
    }

    /// Its root directory.
    pub(super) fn path(&self) -> &Path {
        self.mount.path()
    }

    /// So many bytes a second from now on; 0 for as many as there come.
    fn hold(&self, rate: u64) -> Result<()> {
        fs::write(&self.throttle, format!("{} {rate}", self.number))
            .map_err(Error::doing("cannot hold writes to a loop device"))
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // What waits still goes to memory, at once.
        let _ = self.hold(0);
        for _ in 0..50 {
            if !self.mounted || run(Command::new("umount").arg(self.mount.path())).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Err(error) = run(Command::new("losetup").args(["--detach", &self.device])) {
            eprintln!("{error}");
        }
    }
}

/// What a program says.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::doing(format!("cannot start {command:?}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::other(format!("{command:?} failed"), said))
}

/// The file of the root control group that holds writes.
fn throttle() -> Option<PathBuf> {
    let file = control_group::root("blkio")?.join("blkio.throttle.write_bps_device");
    file.exists().then_some(file)
}
