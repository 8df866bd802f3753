//! What a start of a plan allocates.

use std::io;

use lab::result::{Part, Row};

use super::Bench;
use crate::{
    alloc,
    rivals::{Ours, Rival, Std, What},
};

pub(crate) fn run(bench: &Bench, part: &mut Part) -> io::Result<()> {
    const COUNT: usize = 1000;
    let what = What::program(&bench.programs.exit());
    let mut ours = Ours::new(&what)?;
    let mut std = Std::new(&what);
    let per = |count: u64| count as f64 / COUNT as f64;
    // Once to warm up.
    ours.many(COUNT, 64)?;
    let (ring, done) = alloc::count(|| ours.many(COUNT, 64));
    done?;
    let (own_ring, plan) = ours.ring();
    let before = own_ring.enters;
    own_ring.many(plan, COUNT, 64)?;
    let enters = own_ring.enters - before;
    let spawn = |ours: &Ours| ours.plan().spawn()?.wait().map(drop);
    spawn(&ours)?;
    let (blocking, done) = alloc::count(|| (0..COUNT).try_for_each(|_| spawn(&ours)));
    done?;
    let (theirs, done) = alloc::count(|| std.many(COUNT, 64));
    done?;
    let name = "allocations of a spawn from a plan";
    part.row(
        Row::count(format!("{name}, on a ring"), "", per(ring))
            .at_most(0.0)
            .beside("std::process", per(theirs)),
    );
    part.row(Row::count(format!("{name}, blocking"), "", per(blocking)).at_most(0.0));
    part.row(Row::count(
        "io_uring_enter(2) of a spawn at full speed, 64 in flight",
        "",
        per(enters),
    ));
    Ok(())
}
