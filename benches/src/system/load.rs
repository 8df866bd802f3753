//! Loads of tasks. They run as programs of their own, in a pid namespace that bounds them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::unistd::fork;

/// Runs the load that these words ask for; its figure.
#[must_use]
pub fn run(words: &[String]) -> Option<f64> {
    let number = words.get(1)?.parse().ok()?;
    match words.first()?.as_str() {
        "threads" => Some(threads(number) as f64),
        "bomb" => Some(bomb(Duration::from_millis(number as u64)) as f64),
        "reap" => reap(),
        _ => None,
    }
}

/// Takes the end of every child, for ever: the init of a namespace.
fn reap() -> ! {
    loop {
        if nix::sys::wait::wait().is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts so many threads, one that could not be started is tried no second time; how many there were at once.
fn threads(count: usize) -> usize {
    let over = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for _ in 0..count {
        let over = over.clone();
        let waiter = move || {
            while !over.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_secs(10));
            }
        };
        let builder = std::thread::Builder::new().stack_size(32 << 10);
        running.extend(builder.spawn(waiter));
    }
    over.store(true, Ordering::Relaxed);
    let made = running.len();
    for thread in running {
        thread.thread().unpark();
        let _ = thread.join();
    }
    made
}

/// Each process makes more of its kind until the time is over, and ends itself then; how many there were at last.
///
/// Only to be run in a pid namespace whose `pid_max` bounds it.
fn bomb(last: Duration) -> usize {
    let end = Instant::now() + last;
    // Not by its number, which another may have once it is gone.
    let mut first = true;
    while Instant::now() < end {
        // SAFETY: this program has one thread.
        match unsafe { fork() } {
            // Slow enough for a machine that others use.
            Ok(side) => {
                first &= side.is_parent();
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    if !first {
        // The first one counts the others while they still are here.
        std::thread::sleep(Duration::from_millis(500));
        // SAFETY: ends the process, as it must be for a child of fork(2).
        unsafe { libc::_exit(0) };
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok())
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_counted() {
        assert_eq!(run(&["threads".into(), "20".into()]), Some(20.0));
        assert_eq!(run(&["threads".into()]), None);
        assert_eq!(run(&["sleep".into(), "1".into()]), None);
    }
}
