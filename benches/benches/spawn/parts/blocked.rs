//! How long making a process holds its caller up, by memory and by open descriptors.

use std::{collections::BTreeMap, fs, io, time::Duration};

use lab::result::{Curve, Part, Row, median};

use super::Bench;
use crate::{
    ballast::{self, Ballast},
    rivals::{AsyncProcess, Helper, Ours, PosixSpawn, Rival, Std, Tokio, What},
    rounds::{self, Samples},
};

pub(super) const MB: usize = 1_000_000;

const OURS: &str = "uring-process";
const ANEW: &str = "uring-process, Command::start";
const STD: &str = "std::process";
const STD_ANEW: &str = "std::process, Command anew";
const OURS_IDS: &str = "uring-process, uid+gid+setsid";
const STD_IDS: &str = "std::process, uid+gid+setsid";

/// Another name.
struct Named<R>(R, &'static str);

impl<R: Rival> Rival for Named<R> {
    fn name(&self) -> String {
        self.1.into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        self.0.blocked()
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        self.0.many(count, in_flight)
    }
}

/// A command made for each process, as most programs do it.
struct StdAnew(What);

impl Rival for StdAnew {
    fn name(&self) -> String {
        STD_ANEW.into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        Std::new(&self.0).blocked()
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        Std::new(&self.0).many(count, in_flight)
    }
}

pub(super) fn size(bytes: usize) -> String {
    if bytes >= 1000 * MB {
        format!("{} GB", bytes / (1000 * MB))
    } else {
        format!("{} MB", bytes / MB)
    }
}

pub(super) fn available() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("MemAvailable"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

pub(crate) fn memory(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let plain = What::program(&bench.programs.exit());
    let ids = plain.clone().with_ids();
    let mut ours = Ours::new(&plain)?;
    let mut anew = Ours::new(&plain)?.anew();
    let mut std = Std::new(&plain);
    let mut std_anew = StdAnew(plain.clone());
    let mut posix = PosixSpawn::new(&plain)?;
    let mut current = Tokio::current_thread(&plain)?;
    let mut multi = Tokio::multi_thread(&plain)?;
    let mut other = AsyncProcess::new(&plain)?;
    let root = nix::unistd::geteuid().is_root();
    let mut ours_ids = Named(Ours::new(&ids)?, OURS_IDS);
    let mut std_ids = Named(Std::new(&ids), STD_IDS);
    let sizes = bench.pick(
        &[10 * MB, 1000 * MB][..],
        &[10 * MB, 100 * MB, 1000 * MB, 4000 * MB, 8000 * MB],
    );
    let mut found: BTreeMap<usize, Samples> = BTreeMap::new();
    let mut small_on_true = Samples::default();
    // Up and down again, so that the sizes are in turn as well.
    let repeats = bench.pick(1, 4);
    for repeat in 0..repeats {
        for at in 0..sizes.len() {
            let bytes = if repeat % 2 == 0 {
                sizes[at]
            } else {
                sizes[sizes.len() - 1 - at]
            };
            if available() < bytes + 1000 * MB {
                if repeat == 0 {
                    part.note(format!(
                        "blocked at {}: left out, memory is short",
                        size(bytes)
                    ));
                }
                continue;
            }
            let memory = Ballast::new(bytes)?;
            let samples = found.entry(bytes).or_default();
            let mut rivals: rounds::Rivals<'_> = vec![
                &mut ours,
                &mut anew,
                &mut std,
                &mut std_anew,
                &mut posix,
                &mut current,
                &mut multi,
                &mut other,
            ];
            if root {
                rivals.push(&mut ours_ids);
                rivals.push(&mut std_ids);
            }
            let (count, budget) = bench.pick((150, 1000), (125, 750));
            rounds::blocked(&mut rivals, count, Duration::from_millis(budget), samples)?;
            drop(memory);
        }
    }
    if !root {
        part.note("uid+gid+setsid: left out, it takes root");
    }
    report_memory(part, sizes, &found, root);
    let shell = What::program("/bin/true".as_ref());
    let (mut ours, mut std) = (Ours::new(&shell)?, Std::new(&shell));
    let mut rivals: rounds::Rivals<'_> = vec![&mut ours, &mut std];
    rounds::blocked(&mut rivals, 200, Duration::from_secs(1), &mut small_on_true)?;
    part.row(Row::compared(
        "caller blocked, /bin/true",
        "µs",
        small_on_true.of(OURS),
        (STD, small_on_true.of(STD)),
    ));
    Ok(())
}

fn report_memory(part: &mut Part, sizes: &[usize], found: &BTreeMap<usize, Samples>, root: bool) {
    for bytes in [10 * MB, 1000 * MB, 8000 * MB] {
        let Some(samples) = found.get(&bytes) else {
            continue;
        };
        let ours = samples.of(OURS);
        let name = |what: &str| format!("caller blocked at {}{what}", size(bytes));
        let compared = |rival| Row::compared(name(""), "µs", ours, (rival, samples.of(rival)));
        part.row(compared(STD).at_most(0.30));
        for rival in [
            "posix_spawn",
            "tokio, current thread",
            "tokio, multi thread",
            "async-process",
        ] {
            part.row(compared(rival));
        }
        let anew = (STD_ANEW, samples.of(STD_ANEW));
        part.row(Row::compared(
            name(", no plan kept (Command::start)"),
            "µs",
            samples.of(ANEW),
            anew,
        ));
    }
    if let Some(samples) = found.get(&(1000 * MB)).filter(|_| root) {
        let ids = samples.of(OURS_IDS);
        let row = Row::compared(
            "caller blocked at 1 GB, with uid+gid+setsid",
            "µs",
            ids,
            ("without", samples.of(OURS)),
        );
        part.row(row.at_most(3.0));
        part.row(Row::compared(
            "caller blocked at 1 GB, with uid+gid+setsid, against std",
            "µs",
            ids,
            (STD_IDS, samples.of(STD_IDS)),
        ));
    }
    let mut curve = Curve::new(
        "Caller blocked, by the parent's memory",
        "touched memory of the parent, MB",
        "median, µs",
    );
    for bytes in sizes {
        let Some(samples) = found.get(bytes) else {
            continue;
        };
        for name in [OURS, STD, "tokio, multi thread", OURS_IDS, STD_IDS] {
            let median = median(samples.of(name));
            if median.is_finite() {
                curve.add(name, (bytes / MB) as f64, median);
            }
        }
        for (name, samples) in samples.iter() {
            crate::judge::keep(&format!("blocked, {}", size(*bytes)), name, samples, 1e-6);
        }
    }
    part.curves.push(curve);
}

pub(crate) fn descriptors(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let plain = What::program(&bench.programs.exit());
    let mut ours = Ours::new(&plain)?;
    let mut std = Std::new(&plain);
    let mut posix = PosixSpawn::new(&plain)?;
    let mut multi = Tokio::multi_thread(&plain)?;
    let mut vfork = Helper::new("vfork", &plain)?;
    let mut curve = Curve::new(
        "Caller blocked, by open descriptors",
        "open descriptors of the parent (close-on-exec)",
        "median, µs",
    );
    for count in [10, 100, 1000, 10_000, ballast::limit(20_000)] {
        let files = ballast::descriptors(count)?;
        vfork.descriptors(count)?;
        let mut samples = Samples::default();
        let mut rivals: rounds::Rivals<'_> =
            vec![&mut ours, &mut std, &mut posix, &mut multi, &mut vfork];
        let rounds = bench.pick(100, 300);
        rounds::blocked(&mut rivals, rounds, Duration::from_secs(2), &mut samples)?;
        for (name, samples) in samples.iter() {
            curve.add(name, count as f64, median(samples));
        }
        if count == 10_000 {
            part.row(Row::compared(
                "caller blocked with 10,000 open descriptors",
                "µs",
                samples.of(OURS),
                (STD, samples.of(STD)),
            ));
        }
        drop(files);
    }
    part.curves.push(curve);
    Ok(())
}
