//! A pid namespace with a limit on tasks of its own (Linux 6.14), so that a load that fills it leaves the host alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Error, Result};

/// The namespace; everything in it ends with this.
pub(super) struct PidNs {
    /// unshare(1), whose only child is the namespace's init.
    holder: Child,
    init: u32,
    scripts: tempfile::TempDir,
}

impl PidNs {
    /// `reaper` is the program `load`, which becomes its init: what a bomb leaves must not stay as zombies.
    pub(super) fn new(pid_max: u32, reaper: &Path) -> Result<PidNs> {
        let holder = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(reaper)
            .args(["reap", "0"])
            .stdin(Stdio::null())
            .spawn()
            .map_err(Error::doing("cannot start unshare(1) of util-linux"))?;
        let mut namespace = PidNs {
            holder,
            init: 0,
            scripts: tempfile::tempdir().map_err(Error::doing("cannot make a directory"))?,
        };
        namespace.init = namespace.wait_for_init()?;
        namespace.write(pid_max)?;
        Ok(namespace)
    }

    fn wait_for_init(&self) -> Result<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.holder.id());
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let text = fs::read_to_string(&children).unwrap_or_default();
            if let Ok(init) = text.trim().parse() {
                // It has its own /proc once it has become the reaper.
                let name = fs::read_to_string(format!("/proc/{init}/comm")).unwrap_or_default();
                if name.trim() == "load" {
                    return Ok(init);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(Error::other(
            "no pid namespace",
            "unshare(1) made none in 5 s",
        ))
    }

    /// A command inside.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--pid", "--mount"]);
        command.arg(program).stdin(Stdio::null());
        command
    }

    /// Its limit.
    pub(super) fn write(&self, pid_max: u32) -> Result<()> {
        let mut write = self.command(Path::new("sh"));
        write.args(["-c", &format!("echo {pid_max} >/proc/sys/kernel/pid_max")]);
        let host = || fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        let before = host();
        let status = write
            .status()
            .map_err(Error::doing("cannot start nsenter(1)"))?;
        if host() != before {
            // Before Linux 6.14 there is one for all.
            let _ = fs::write("/proc/sys/kernel/pid_max", before.trim());
            return Err(Error::other(
                "this kernel has one pid_max for all pid namespaces",
                "the scenario would endanger the host: it needs Linux 6.14",
            ));
        }
        if status.success() {
            return Ok(());
        }
        Err(Error::other("cannot write pid_max inside", status))
    }

    /// A program that starts another inside, with the same arguments.
    pub(super) fn launcher(&self, program: &Path) -> Result<PathBuf> {
        let path = self.scripts.path().join("inside");
        // nsenter(1) forks, and passes no signal on: a daemon must be told to end, or it stays as an orphan.
        let text = format!(
            "#!/bin/sh\n\
             nsenter --target {} --pid --mount -- '{}' \"$@\" &\n\
             outer=$!\n\
             trap 'kill -TERM $(cat /proc/$outer/task/$outer/children)' TERM INT\n\
             while kill -0 $outer 2>/dev/null; do wait $outer; done\n",
            self.init,
            program.display()
        );
        fs::write(&path, text).map_err(Error::doing("cannot write a script"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .map_err(Error::doing("cannot make a script executable"))?;
        Ok(path)
    }
}

impl Drop for PidNs {
    fn drop(&mut self) {
        // All others go with the namespace's init. Where unshare(1) is there to wait for it, what they used is counted as ours.
        let init = nix::unistd::Pid::from_raw(self.init.cast_signed());
        if self.init == 0 || nix::sys::signal::kill(init, nix::sys::signal::SIGKILL).is_err() {
            // --kill-child: the init goes with it.
            let _ = self.holder.kill();
        }
        let _ = self.holder.wait();
    }
}
