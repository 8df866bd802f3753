//! Processes a second against what the caller has: memory, open descriptors, processes in flight, threads.
//!
//! Callers are processes of their own that keep what they have and take turns. The machine's bound takes its turns with
//! them. What a process costs must not grow with any of it.

use std::{io, time::Duration};

use lab::result::{Curve, Law, Part, Row, median};

use super::{
    Bench,
    blocked::{MB, available, size},
};
use crate::{
    ballast,
    rivals::{Helper, Loops, Rival, What},
    rounds::order,
};

const OURS: &str = "uring-process";

/// One point of a curve.
struct Caller {
    rival: Box<dyn Rival>,
    x: f64,
    in_flight: usize,
    /// Processes of a turn.
    count: usize,
    /// Microseconds a process, a figure a turn.
    costs: Vec<f64>,
}

impl Caller {
    fn new(rival: impl Rival + 'static, x: f64, in_flight: usize) -> Self {
        Self {
            rival: Box::new(rival),
            x,
            in_flight,
            count: 0,
            costs: Vec::new(),
        }
    }

    /// How many fit in a turn; warms up as well.
    fn fit(&mut self, turn: Duration) -> io::Result<()> {
        let trial = (4 * self.in_flight).clamp(100, 2000);
        let took = self.rival.many(trial, self.in_flight)?;
        let fit = trial as f64 * turn.as_secs_f64() / took.as_secs_f64();
        self.count = (fit as usize).max(2 * self.in_flight) & !1;
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        let took = self.rival.many(self.count, self.in_flight)?;
        self.costs
            .push(took.as_secs_f64() * 1e6 / self.count as f64);
        Ok(())
    }
}

/// Gives every caller its turns, then says the curve, the bound's share and the law.
fn measure(
    bench: &Bench,
    part: &mut Part,
    what: &What,
    title: &str,
    x: &str,
    callers: Vec<Caller>,
) -> io::Result<()> {
    let loops = Loops::new(what, 2)?;
    let limit = loops.name();
    let mut all = callers;
    all.push(Caller::new(loops, f64::NAN, 1));
    let turn = Duration::from_millis(bench.pick(40, 100));
    for caller in &mut all {
        caller.fit(turn)?;
    }
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..bench.pick(7, 84) {
        for at in order(&mut random, all.len()) {
            all[at].turn()?;
        }
    }
    let bound = all.pop().map_or(Vec::new(), |caller| caller.costs);
    let rates = |costs: &[f64]| -> Vec<f64> { costs.iter().map(|cost| 1e6 / cost).collect() };
    let mut curve = Curve::new(
        &format!("Processes a second, by {title}"),
        x,
        "median, processes/s",
    );
    for caller in &all {
        curve.add(OURS, caller.x, 1e6 / median(&caller.costs));
        curve.add(&limit, caller.x, 1e6 / median(&bound));
    }
    part.curves.push(curve);
    let best = all
        .iter()
        .min_by(|a, b| median(&a.costs).total_cmp(&median(&b.costs)));
    if let Some(best) = best {
        let name = format!("processes/s by {title}, the best (at {})", best.x);
        let (ours, bound) = (rates(&best.costs), rates(&bound));
        part.row(Row::paired(name, "/s", &ours, (&limit, &bound)));
    }
    let points: Vec<(f64, Vec<f64>)> = all.into_iter().map(|c| (c.x, c.costs)).collect();
    part.row(Law::Constant.check(&format!("cost of a process by {title}"), &points));
    Ok(())
}

pub(crate) fn memory(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let mut callers = Vec::new();
    let sizes = [10 * MB, 100 * MB, 1000 * MB, 8000 * MB];
    for &bytes in &sizes[..bench.pick(3, sizes.len())] {
        if available() < bytes + 1000 * MB {
            part.note(format!(
                "a caller of {}: left out, memory is short",
                size(bytes)
            ));
            continue;
        }
        let mut helper = Helper::new("ours", &what)?;
        helper.ask_ballast(bytes)?;
        helper.answer()?;
        callers.push(Caller::new(helper, (bytes / MB) as f64, 64));
    }
    let x = "touched memory of the caller, MB";
    measure(bench, part, &what, "the caller's memory", x, callers)
}

pub(crate) fn descriptors(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let mut callers = Vec::new();
    for count in [10, 100, 1000, 10_000, ballast::limit(20_000)] {
        let mut helper = Helper::new("ours", &what)?;
        helper.descriptors(count)?;
        callers.push(Caller::new(helper, count as f64, 64));
    }
    let x = "open descriptors of the caller (close-on-exec)";
    measure(bench, part, &what, "open descriptors", x, callers)
}

pub(crate) fn in_flight(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let caller = |count| {
        Ok(Caller::new(
            Helper::new("ours", &what)?,
            count as f64,
            count,
        ))
    };
    let callers = [1, 4, 16, 64, 256, 1024].into_iter().map(caller);
    let callers = callers.collect::<io::Result<_>>()?;
    let title = "processes in flight";
    measure(bench, part, &what, title, "in flight", callers)
}

pub(crate) fn threads(bench: &Bench, part: &mut Part) -> io::Result<()> {
    let what = What::program(&bench.programs.exit());
    let callers = vec![
        Caller::new(Helper::new("ours", &what)?, 1.0, 64),
        Caller::new(Helper::new("ours-2", &what)?, 2.0, 64),
    ];
    let x = "threads, a ring each";
    measure(bench, part, &what, "threads", x, callers)
}
