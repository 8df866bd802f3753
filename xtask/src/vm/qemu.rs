//! A machine by software emulation: what it says, line by line, in bounded time.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::process::{Result, shown};

fn machine(kernel: &Path, initramfs: &Path, words: &str) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off"])
        .args(["-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!("console=ttyS0 panic=-1 {words}"));
    command
}

/// Boots, and hands over every line of the console until the machine is off.
///
/// # Errors
/// It did not start, or was not off after `limit`; it is then switched off.
pub(super) fn run(
    kernel: &Path,
    initramfs: &Path,
    words: &str,
    limit: Duration,
    mut line: impl FnMut(&str),
) -> Result {
    let mut command = machine(kernel, initramfs, &format!("loglevel=2 {words}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command
        .spawn()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&command)))?;
    let mut machine = Machine(child);
    let out = machine.0.stdout.take().ok_or("no output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for bytes in BufReader::new(out)
            .split(b'\n')
            .map_while(std::result::Result::ok)
        {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    let until = Instant::now() + limit;
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(text) => line(&text),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(format!(
                    "the machine was not off after {} s",
                    limit.as_secs()
                ));
            }
        }
    }
}

/// A shell in it, on this terminal.
pub(super) fn shell(kernel: &Path, initramfs: &Path) -> Result {
    eprintln!("`exit` switches the machine off");
    crate::process::check(&mut machine(kernel, initramfs, "loglevel=4 guest.shell"))
}

/// Ends with its owner.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
