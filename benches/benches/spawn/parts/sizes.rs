//! How long making a process holds its caller up, small callers and large ones in turn.
//!
//! What one process costs depends on where the scheduler happens to put the child and on how cold its memory is, and
//! that changes by the second. So callers of different size are not measured one after the other: each is a process
//! of its own that keeps its memory, and they take turns in short batches.

use std::io;

use lab::result::{Curve, Part, Row, median};

use super::{
    Bench,
    blocked::{MB, available, size},
};
use crate::{
    rivals::{Helper, Rival, What},
    rounds::order,
};

const SIZES: [usize; 3] = [10 * MB, 1000 * MB, 8000 * MB];
/// Processes of one turn; its median is a sample.
const BATCH: usize = 20;

struct Caller {
    helper: Helper,
    bytes: usize,
    /// Microseconds, a figure a turn.
    samples: Vec<f64>,
}

impl Caller {
    fn new(kind: &str, bytes: usize, what: &What) -> io::Result<Self> {
        let mut helper = Helper::new(kind, what)?;
        helper.ask_ballast(bytes)?;
        helper.answer()?;
        Ok(Self {
            helper,
            bytes,
            samples: Vec::new(),
        })
    }

    fn turn(&mut self) -> io::Result<()> {
        let times = self.helper.blocked_each(BATCH)?;
        let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        self.samples.push(median(&times));
        Ok(())
    }
}

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let mut callers = Vec::new();
    // To touch the memory of the largest takes longer than a quick run has for all of it.
    for &bytes in &SIZES[..bench.pick(2, SIZES.len())] {
        if available() < 2 * bytes + 1000 * MB {
            part.note(format!(
                "callers of {}: left out, memory is short",
                size(bytes)
            ));
            continue;
        }
        for kind in ["ours", "vfork"] {
            callers.push(Caller::new(kind, bytes, &what)?);
        }
    }
    let mut random = fastrand::Rng::with_seed(2);
    // The first turn warms up.
    for turn in 0..=bench.pick(25, 150) {
        for at in order(&mut random, callers.len()) {
            callers[at].turn()?;
        }
        if turn == 0 {
            callers.iter_mut().for_each(|caller| caller.samples.clear());
        }
    }
    let mut curve = Curve::new(
        "Caller blocked, callers of three sizes in turn",
        "touched memory of the caller, MB",
        "median, µs",
    );
    for pair in callers.chunks(2) {
        let [ours, vfork] = pair else { continue };
        let rival = vfork.helper.name();
        let name = format!("caller blocked at {}, in turn", size(ours.bytes));
        part.row(Row::paired(name, "µs", &ours.samples, (&rival, &vfork.samples)).at_most(0.55));
        for caller in pair {
            let x = (caller.bytes / MB) as f64;
            curve.add(&caller.helper.name(), x, median(&caller.samples));
        }
    }
    part.curves.push(curve);
    let of = |bytes| {
        callers
            .iter()
            .find(|caller: &&Caller| caller.bytes == bytes)
    };
    if let (Some(small), Some(large)) = (of(SIZES[0]), of(SIZES[2])) {
        let name = "caller blocked at 8 GB against 10 MB, in turn";
        part.row(
            Row::paired(name, "µs", &large.samples, ("at 10 MB", &small.samples)).at_most(1.2),
        );
    }
    Ok(())
}
