//! Loads that run as programs of their own, some in a pid namespace that bounds them.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use nix::unistd::fork;

use super::memory::{Pages, page};
use crate::{Error, Result, daemon, processor::stay_on};

/// The program that runs loads, beside this one.
pub(super) fn program() -> Result<PathBuf> {
    let program = daemon::binary()?.with_file_name("load");
    if program.is_file() {
        return Ok(program);
    }
    Err(Error::other(
        "no load beside bpftune",
        "build it: cargo build -p lab",
    ))
}

/// A load that ends with its standard input, and so with this.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(mut command: Command) -> Result<Running> {
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let started = command.spawn();
        started
            .map(Running)
            .map_err(Error::doing("cannot start a load"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Waits for the end of what [`Running`] keeps.
fn told_to_end() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// Runs the load that these words ask for; its figure.
#[must_use]
pub fn run(words: &[String]) -> Option<f64> {
    let number = words.get(1)?.parse().ok()?;
    match words.first()?.as_str() {
        "threads" => Some(threads(number) as f64),
        "bomb" => Some(bomb(Duration::from_millis(number as u64)) as f64),
        "reap" => reap(),
        "jobs" => jobs(number),
        "leak" => leak(number),
        "job" => Some(job(Duration::from_millis(number as u64))),
        "frames" => {
            let word = |at: usize| words.get(at)?.parse().ok();
            let work = Duration::from_micros(word(3)?);
            let tasks = usize::try_from(word(2)?).ok()?;
            Some(frames(Duration::from_millis(number as u64), tasks, work))
        }
        "pairs" => pairs(Duration::from_millis(number as u64)),
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

/// So many jobs at a time, as a build has them: each a process that computes for a moment. Ends with standard input.
fn jobs(count: usize) -> Option<f64> {
    let me = std::env::current_exe().ok()?;
    for _ in 0..count {
        let me = me.clone();
        std::thread::spawn(move || {
            let mut job = Command::new(me);
            job.args(["job", "100"]).stdout(Stdio::null());
            while job.status().is_ok_and(|status| status.success()) {}
        });
    }
    told_to_end();
    Some(count as f64)
}

/// Loses track of so many mappings a second, until it may have no more. Ends with standard input.
fn leak(each_second: usize) -> Option<f64> {
    const ROUNDS: usize = 50;
    std::thread::spawn(move || {
        let (mut lost, bytes) = (Vec::new(), page());
        // A guard page parts a mapping: two more.
        let guards = each_second / 2 / ROUNDS;
        while let Ok(memory) = Pages::new(guards * 2) {
            let refused = (0..guards).any(|guard| !memory.guard(guard * 2, bytes));
            lost.push(memory);
            if refused {
                break;
            }
            std::thread::sleep(Duration::from_secs(1) / ROUNDS as u32);
        }
        // What it has stays until the program ends.
        std::mem::forget(lost);
    });
    told_to_end();
    Some(each_second as f64)
}

/// Has a processor for so long.
fn job(long: Duration) -> f64 {
    while thread_time() < long {
        std::hint::spin_loop();
    }
    1.0
}

/// A frame is due each of these.
const FRAME: Duration = Duration::from_millis(20);

/// Threads that each wake up for each frame and work for so long; the share of frames finished before the next was due, %.
fn frames(last: Duration, tasks: usize, work: Duration) -> f64 {
    let draw = move || {
        let start = Instant::now();
        let (mut frame, mut in_time) = (1, 0);
        while FRAME * frame < last {
            let due = FRAME * frame;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let worked = thread_time();
            while thread_time().saturating_sub(worked) < work {
                std::hint::spin_loop();
            }
            let done = start.elapsed();
            in_time += u32::from(done < due + FRAME);
            // Frames that were missed meanwhile are not drawn.
            frame = (done.as_micros() / FRAME.as_micros()) as u32 + 1;
        }
        f64::from(in_time)
    };
    let threads: Vec<_> = (0..tasks).map(|_| std::thread::spawn(draw)).collect();
    let drawn: f64 = threads
        .into_iter()
        .map(|thread| thread.join().expect("it does not panic"))
        .sum();
    let due = last.as_micros() / FRAME.as_micros() - 1;
    drawn * 100.0 / (due as f64 * tasks as f64)
}

/// On each processor two threads that wake each other in turn; switches of tasks a second, of all.
fn pairs(last: Duration) -> Option<f64> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let pairs: Vec<_> = (0..processors)
        .map(|processor| std::thread::spawn(move || pair(processor, last)))
        .collect();
    let rounds = pairs.into_iter().map(|pair| pair.join().ok()?.ok());
    let rounds: u64 = rounds.sum::<Option<u64>>()?;
    Some(2.0 * rounds as f64 / last.as_secs_f64())
}

/// How often a byte went there and back.
fn pair(processor: usize, last: Duration) -> std::io::Result<u64> {
    // The thread that answers inherits it.
    stay_on(processor).map_err(std::io::Error::other)?;
    let (mut asked, mut ask) = std::io::pipe()?;
    let (mut answered, mut answer) = std::io::pipe()?;
    let other = std::thread::spawn(move || {
        let mut byte = [0];
        while asked.read_exact(&mut byte).is_ok() && answer.write_all(&byte).is_ok() {}
    });
    let (start, mut rounds) = (Instant::now(), 0);
    while start.elapsed() < last {
        ask.write_all(&[0])?;
        answered.read_exact(&mut [0])?;
        rounds += 1;
    }
    drop(ask);
    let _ = other.join();
    Ok(rounds)
}

/// Time that this thread had a processor.
fn thread_time() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Duration::ZERO, Into::into)
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
