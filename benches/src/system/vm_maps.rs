//! Programs with many mappings.

use std::{process::Command, time::Instant};

use super::{
    THROUGHPUT,
    load::{self, Running},
    memory::{Pages, page},
    no_fault::NoFault,
};
use crate::{
    Result,
    network::{HostValues, Scenario, Stage, Values, rest_of_second, rounds_per_second},
};

const TUNER: &str = "vm-maps";

const GUARDED: (&str, &str) = ("stacks that could be guarded", "%");

/// A program that guards each of 50,000 stacks by a page: 100,000 mappings, of 65,530 that it may have.
pub(super) struct Guarded;

impl Scenario for Guarded {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "50,000 guarded stacks"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        GUARDED
    }
    fn by_hand(&self) -> Values {
        &[("vm.max_map_count", "262144")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Stacks::stage(50_000)
    }
}

/// Each second 40,000 mappings, more than half of what there may be, and none again: as good before as after.
pub(super) const BY_TURNS: NoFault = NoFault::trap(
    TUNER,
    "20,000 guarded stacks that come and go",
    GUARDED,
    || Stacks::stage(20_000),
)
.settles(0.0);

/// Of another program, well within what there may be.
const BUFFERS: (&str, &str) = ("buffers of 64 pages", "/s");

/// A program that never gives a mapping back gets more of them; another one should not notice.
pub(super) const LEAK: NoFault = NoFault::trap(
    TUNER,
    "beside a program that loses track of its mappings",
    BUFFERS,
    || {
        Ok(Box::new(Beside {
            leaking: None,
            _host: usual()?,
        }))
    },
)
.runs(25)
.turns(10, 20)
.settles(0.0);

struct Beside {
    leaking: Option<Running>,
    _host: HostValues,
}

impl Stage for Beside {
    fn begin(&mut self) -> Result<()> {
        let mut leak = Command::new(load::program()?);
        leak.args(["leak", "100000"]);
        self.leaking = Some(Running::start(leak)?);
        Ok(())
    }
    fn turn(&mut self) -> Result<f64> {
        buffers()
    }
}

/// The kernel's own limit.
fn usual() -> Result<HostValues> {
    let mut host = HostValues::default();
    host.set("vm.max_map_count", "65530")?;
    Ok(host)
}

struct Stacks {
    count: usize,
    _host: HostValues,
}

impl Stacks {
    fn stage(count: usize) -> Result<Box<dyn Stage>> {
        let _host = usual()?;
        Ok(Box::new(Stacks { count, _host }))
    }
}

impl Stage for Stacks {
    fn turn(&mut self) -> Result<f64> {
        let (start, bytes) = (Instant::now(), page());
        let memory = Pages::new(self.count * 2)?;
        let guarded = (0..self.count)
            .filter(|stack| memory.guard(stack * 2, bytes))
            .count();
        drop(memory);
        rest_of_second(start);
        Ok(guarded as f64 * 100.0 / self.count as f64)
    }
}

/// Memory that is mapped, written and given back, well within what there may be.
pub(super) const NOTHING_WRONG: NoFault =
    NoFault::nothing_wrong(TUNER, "memory mapped and given back", BUFFERS, || {
        Ok(Box::new(Buffers))
    })
    .runs(15);

struct Buffers;

impl Stage for Buffers {
    fn turn(&mut self) -> Result<f64> {
        buffers()
    }
}

/// For a second.
fn buffers() -> Result<f64> {
    let hundreds = rounds_per_second(|| {
        for _ in 0..100 {
            Pages::new(64)?.touch();
        }
        Ok(())
    })?;
    Ok(hundreds * 100.0)
}
