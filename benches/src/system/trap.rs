//! Loads of the host that tempt a tuner.

use bpftune_core::stats::Direction;

use crate::{
    Result,
    network::{Kind, Scenario, Stage},
};

/// One of them, which differs from others by what is said here only.
pub(super) struct Trap {
    tuner: &'static str,
    name: &'static str,
    metric: (&'static str, &'static str),
    better: Direction,
    /// Off, and on.
    turns: [usize; 2],
    settles: Option<f64>,
    missing: fn() -> Option<&'static str>,
    stage: fn() -> Result<Box<dyn Stage>>,
}

impl Trap {
    /// Ten turns, more is better, and nothing may last.
    pub(super) const fn new(
        tuner: &'static str,
        name: &'static str,
        metric: (&'static str, &'static str),
        stage: fn() -> Result<Box<dyn Stage>>,
    ) -> Trap {
        Trap {
            tuner,
            name,
            metric,
            better: Direction::Higher,
            turns: [10, 10],
            settles: None,
            missing: || None,
            stage,
        }
    }

    pub(super) const fn lower_is_better(mut self) -> Trap {
        self.better = Direction::Lower;
        self
    }

    pub(super) const fn turns(mut self, off: usize, on: usize) -> Trap {
        self.turns = [off, on];
        self
    }

    /// Values may differ at the end, but the tuner changes its mind so often at most.
    pub(super) const fn settles(mut self, reversals: f64) -> Trap {
        self.settles = Some(reversals);
        self
    }

    pub(super) const fn needs(mut self, missing: fn() -> Option<&'static str>) -> Trap {
        self.missing = missing;
        self
    }
}

impl Scenario for Trap {
    fn tuner(&self) -> &'static str {
        self.tuner
    }
    fn kind(&self) -> Kind {
        Kind::Trap
    }
    fn name(&self) -> &'static str {
        self.name
    }
    fn metric(&self) -> (&'static str, &'static str) {
        self.metric
    }
    fn better(&self) -> Direction {
        self.better
    }
    fn turns(&self) -> usize {
        self.turns[0]
    }
    fn turns_on(&self) -> usize {
        self.turns[1]
    }
    fn leaves_alone(&self) -> bool {
        self.settles.is_none()
    }
    fn reversals(&self) -> f64 {
        self.settles.unwrap_or(0.0)
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn missing(&self) -> Option<&'static str> {
        (self.missing)()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        (self.stage)()
    }
}
