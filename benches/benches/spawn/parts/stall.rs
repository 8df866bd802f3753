//! How long other threads are held up while one makes processes.
//!
//! One thread, on a processor of its own, writes to fresh pages and reads the clock after each. It
//! runs under `SCHED_FIFO`, so that no other program takes its processor, and sleeps 3 ms after each
//! 10 ms, unmeasured, so that the kernel need not take it away for others either. Another thread
//! makes processes on another processor, where these stay.

use std::{
    collections::BTreeMap,
    io,
    ptr::null_mut,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lab::result::{Part, Row, median};

use super::Bench;
use crate::{
    ballast::Ballast,
    rivals::{Ours, Rival, Std, What},
    rounds::Samples,
};

fn pin(cpu: usize) {
    // SAFETY: a set on our stack, valid for the time of the call.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

/// Whether it was allowed.
fn first_in_line() -> bool {
    let parameter = libc::sched_param { sched_priority: 10 };
    // SAFETY: valid for the time of the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0 }
}

/// How often this thread has slept, and how often its processor was taken away.
fn switches() -> (i64, i64) {
    // SAFETY: zero is a value of it, and it is writable for the time of the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    (usage.ru_nvcsw as i64, usage.ru_nivcsw as i64)
}

/// The worst gap between two readings of the clock.
#[derive(Clone, Copy)]
struct Gap {
    microseconds: f64,
    why: &'static str,
}

fn spin(over: &AtomicBool) -> io::Result<Gap> {
    const LEN: usize = 64 << 20;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, wherever the kernel likes.
    let at = unsafe { libc::mmap(null_mut(), LEN, access, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: our own mapping.
    unsafe { libc::madvise(at, LEN, libc::MADV_NOHUGEPAGE) };
    let (mut worst, mut why) = (Duration::ZERO, "");
    let mut page = 0;
    while !over.load(Ordering::Relaxed) {
        let before = switches();
        let begin = Instant::now();
        let mut last = begin;
        let mut longest = Duration::ZERO;
        while last - begin < Duration::from_millis(10) {
            // SAFETY: within our mapping.
            unsafe { at.cast::<u8>().add(page).write_volatile(1) };
            page += 4096;
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
            if page == LEN {
                // SAFETY: our own mapping; its pages are fresh again afterwards.
                unsafe { libc::madvise(at, LEN, libc::MADV_DONTNEED) };
                page = 0;
                last = Instant::now();
            }
        }
        if longest > worst {
            worst = longest;
            let after = switches();
            why = if after.0 > before.0 {
                "it slept: for a lock of the kernel's"
            } else if after.1 > before.1 {
                "another program had its processor"
            } else {
                "it stayed on its processor: interrupts, or the hypervisor"
            };
        }
        thread::sleep(Duration::from_millis(3));
    }
    // SAFETY: the whole of our mapping.
    unsafe { libc::munmap(at, LEN) };
    Ok(Gap {
        microseconds: worst.as_secs_f64() * 1e6,
        why,
    })
}

fn worst(rival: Option<&mut (dyn Rival + Send)>, time: Duration) -> io::Result<(Gap, bool)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let spinner = scope.spawn(|| {
            pin(1);
            let first = first_in_line();
            Ok::<_, io::Error>((spin(&over)?, first))
        });
        let maker = scope.spawn(|| {
            pin(0);
            let begin = Instant::now();
            if let Some(rival) = rival {
                while begin.elapsed() < time {
                    rival.blocked()?;
                }
            } else {
                thread::sleep(time);
            }
            Ok::<(), io::Error>(())
        });
        let made = maker.join();
        over.store(true, Ordering::Relaxed);
        let found = spinner.join();
        let gone = |_| io::Error::other("a thread panicked");
        made.map_err(gone)??;
        found.map_err(gone)?
    })
}

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    if thread::available_parallelism()?.get() < 2 {
        part.note("stall of other threads: left out, it takes two processors");
        return Ok(());
    }
    let what = What::program(&bench.programs.exit());
    let memory = Ballast::new(4_000_000_000)?;
    let mut ours = Ours::new(&what)?;
    let mut std = Std::new(&what);
    let mut fork = Std::new(&what.clone().with_ids());
    let (nothing, plain) = ("nothing going on", "std::process");
    let forked = "std::process with pre_exec (fork)";
    let mut samples = Samples::default();
    let mut first = true;
    let mut all = BTreeMap::new();
    for _ in 0..bench.pick(5, 11) {
        for (name, rival) in [
            (nothing, None),
            ("ours", Some(&mut ours as &mut (dyn Rival + Send))),
            (plain, Some(&mut std)),
            (forked, Some(&mut fork)),
        ] {
            let (gap, fifo) = worst(rival, Duration::from_secs(1))?;
            first &= fifo;
            samples.push(name.into(), gap.microseconds);
            let longest = all.entry(name).or_insert(gap);
            if gap.microseconds > longest.microseconds {
                *longest = gap;
            }
        }
    }
    drop(memory);
    if !first {
        part.note("stall: SCHED_FIFO was refused, so other programs' time is in it");
    }
    let why: Vec<_> = all
        .iter()
        .map(|(name, gap)| format!("{name}: {:.0} µs, {}", gap.microseconds, gap.why))
        .collect();
    part.note(format!(
        "what held the thread up in its longest gaps: {}",
        why.join("; ")
    ));
    let name = "worst stall of another thread at 4 GB";
    for (rival, goal) in [(nothing, true), (plain, false), (forked, false)] {
        let row = Row::sampled(
            format!("{name}, median of runs of 1 s"),
            "µs",
            samples.of("ours"),
        );
        let row = if goal { row.at_most(2000.0) } else { row };
        part.row(row.beside(rival, median(samples.of(rival))));
    }
    // Without a goal: it is one moment of all runs, and on a shared machine often the hypervisor's.
    let max = |name| samples.of(name).iter().copied().fold(0.0, f64::max);
    let count = samples.of("ours").len();
    for rival in [nothing, forked] {
        let name = format!("{name}, of all runs");
        part.row(Row::figure(name, "µs", max("ours"), count).beside(rival, max(rival)));
    }
    Ok(())
}
