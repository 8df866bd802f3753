//! Values of the whole host, for as long as a run lasts.

use std::{
    fs, io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use bpftune_core::{Knob, netns::Namespaces, sysctl};
use nix::sys::signal::{SigSet, Signal};

use crate::{Error, Result};

/// What was written, with what was there before; put back on drop, the last first.
#[derive(Debug)]
pub struct HostValues {
    id: u64,
}

/// What this process has written and not put back: who wrote it, its name, and the value before.
static WRITTEN: Mutex<Vec<(u64, String, String)>> = Mutex::new(Vec::new());

fn written() -> MutexGuard<'static, Vec<(u64, String, String)>> {
    // A panic in between leaves whole entries.
    WRITTEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts back what was written, the last first.
fn put_back(mut these: impl FnMut(u64) -> bool) {
    let mut written = written();
    for (_, name, before) in written
        .extract_if(.., |entry| these(entry.0))
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let before = before.trim();
        if let Err(error) = write(&name, before) {
            eprintln!("cannot put {name} back to {before}: {error}");
        }
    }
}

/// The signal by which this process was told to end; 0 before.
static TOLD: AtomicI32 = AtomicI32::new(0);

/// From here on this process puts back all that it has written when it is told to end (SIGINT, SIGTERM, SIGHUP), and
/// ends: after so long at most, in which it may end by itself ([`interrupted`]), or at a second signal. To be called before
/// there are other threads.
///
/// # Errors
/// Where the kernel refuses to hold the signals back.
pub fn put_back_on_signals(patience: Duration) -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals
        .thread_block()
        .map_err(|errno| Error::other("cannot hold signals back", errno))?;
    let next = move || signals.wait().unwrap_or(Signal::SIGTERM) as i32;
    std::thread::spawn(move || {
        let signal = next();
        TOLD.store(signal, Ordering::Relaxed);
        if !patience.is_zero() {
            eprintln!("told to end: takes down what it set up (once more: leaves it)");
        }
        let (again, told) = mpsc::channel();
        std::thread::spawn(move || again.send(next()));
        let _ = told.recv_timeout(patience);
        put_back(|_| true);
        std::process::exit(128 + signal);
    });
    Ok(())
}

/// The exit status of a process that ends as it was told; `None` where nobody told it.
#[must_use]
pub fn interrupted() -> Option<u8> {
    match TOLD.load(Ordering::Relaxed) {
        0 => None,
        signal => u8::try_from(128 + signal).ok(),
    }
}

/// For what takes its time, between two of its parts: then all that was set up is dropped.
///
/// # Errors
/// Once this process was told to end.
pub fn unless_interrupted() -> Result<()> {
    match interrupted() {
        None => Ok(()),
        Some(_) => Err(Error::other("interrupted", "what was done before is kept")),
    }
}

impl Default for HostValues {
    fn default() -> HostValues {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        HostValues {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// A value by the name that takes its spelling.
fn write(name: &str, value: &str) -> io::Result<()> {
    let (name, value) = sysctl::spelled(name, value);
    fs::write(sysctl::path(name), value)
}

/// Of "none [mq-deadline] kyber" the one in brackets; all of any other text.
fn chosen(text: &str) -> &str {
    let inside = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    inside.map_or(text, |(word, _)| word)
}

impl HostValues {
    /// Writes a sysctl of the host, or a file of sysfs where the name begins with a slash.
    ///
    /// # Errors
    /// Where the host has no such parameter, or the kernel refuses the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let failed = |what: &str| format!("cannot {what} {name} of the host");
        let before = Namespaces::new()
            .and_then(|mut namespaces| {
                let netns = namespaces.own();
                let tunable = name.to_owned();
                sysctl::words(&mut namespaces, &Knob { tunable, netns })
            })
            .map_err(|error| Error::other(failed("read"), error))?;
        // Held over both, so that no signal comes in between.
        let mut written = written();
        write(name, value).map_err(Error::doing(failed("write")))?;
        written.push((self.id, name.to_owned(), chosen(&before).to_owned()));
        Ok(())
    }
}

impl Drop for HostValues {
    fn drop(&mut self) {
        put_back(|id| id == self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_choice_the_word_in_brackets_is_put_back() {
        assert_eq!(chosen("none [mq-deadline] kyber\n"), "mq-deadline");
        assert_eq!(chosen("4096 87380 6291456\n"), "4096 87380 6291456\n");
    }

    #[test]
    fn a_share_of_memory_is_put_back() {
        if crate::unprivileged().is_some() {
            println!("SKIP: not root");
            return;
        }
        let read = |name| fs::read_to_string(sysctl::path(name)).unwrap();
        let names = ["vm.dirty_background_ratio", "vm.dirty_background_bytes"];
        let before = names.map(read);
        let mut values = HostValues::default();
        values.set("vm.dirty_background_bytes", "33554432").unwrap();
        assert_eq!(
            names.map(read).map(|text| text.trim().to_owned()),
            ["0", "33554432"]
        );
        drop(values);
        assert_eq!(names.map(read), before);
    }

    #[test]
    fn values_are_put_back() {
        if crate::unprivileged().is_some() {
            println!("SKIP: not root");
            return;
        }
        let path = "/proc/sys/net/core/warnings";
        let Ok(before) = fs::read_to_string(path) else {
            println!("SKIP: no net.core.warnings here");
            return;
        };
        let mut values = HostValues::default();
        values.set("net.core.warnings", "1").unwrap();
        values.set("net.core.warnings", "0").unwrap();
        assert!(values.set("net.core.no_such", "1").is_err());
        drop(values);
        assert_eq!(fs::read_to_string(path).unwrap(), before);
    }
}
