//! Loads of the host that no tuner has anything to mend in: some tempt one all the same.

use bpftune_core::stats::Direction;

use crate::{
    Result,
    network::{Kind, RUNS, Scenario, Stage, Values},
};

/// One of them, which differs from others by what is said here only. No other tuner runs beside it: what the daemon costs here
/// is this one's.
pub(super) struct NoFault {
    tuner: &'static str,
    kind: Kind,
    name: &'static str,
    metric: (&'static str, &'static str),
    better: Direction,
    by_hand: Values,
    runs: u32,
    /// Off, and on.
    turns: [usize; 2],
    settles: Option<f64>,
    bpf_share: Option<f64>,
    missing: fn() -> Option<&'static str>,
    stage: fn() -> Result<Box<dyn Stage>>,
}

impl NoFault {
    /// A load with nothing wrong: ten turns, more is better, and nothing may change.
    pub(super) const fn nothing_wrong(
        tuner: &'static str,
        name: &'static str,
        metric: (&'static str, &'static str),
        stage: fn() -> Result<Box<dyn Stage>>,
    ) -> NoFault {
        NoFault {
            tuner,
            kind: Kind::NothingWrong,
            name,
            metric,
            better: Direction::Higher,
            by_hand: &[],
            runs: RUNS,
            turns: [10, 10],
            settles: None,
            bpf_share: None,
            missing: || None,
            stage,
        }
    }

    /// The same of a load that tempts: what was changed may not last.
    pub(super) const fn trap(
        tuner: &'static str,
        name: &'static str,
        metric: (&'static str, &'static str),
        stage: fn() -> Result<Box<dyn Stage>>,
    ) -> NoFault {
        NoFault {
            kind: Kind::Trap,
            ..NoFault::nothing_wrong(tuner, name, metric, stage)
        }
    }

    pub(super) const fn lower_is_better(mut self) -> NoFault {
        self.better = Direction::Lower;
        self
    }

    /// Of a trap: what it tempts to, so that the figures say what that would cost.
    pub(super) const fn by_hand(mut self, values: Values) -> NoFault {
        self.by_hand = values;
        self
    }

    /// More of them, where five are too few for a verdict.
    pub(super) const fn runs(mut self, runs: u32) -> NoFault {
        self.runs = runs;
        self
    }

    pub(super) const fn turns(mut self, off: usize, on: usize) -> NoFault {
        self.turns = [off, on];
        self
    }

    /// Of a trap: values may differ at the end, but the tuner changes its mind so often at most.
    pub(super) const fn settles(mut self, reversals: f64) -> NoFault {
        self.settles = Some(reversals);
        self
    }

    /// A load that shows what the programs cost: the most that they may take of all processors' time.
    pub(super) const fn bpf_share(mut self, most: f64) -> NoFault {
        self.bpf_share = Some(most);
        self
    }

    pub(super) const fn needs(mut self, missing: fn() -> Option<&'static str>) -> NoFault {
        self.missing = missing;
        self
    }
}

impl Scenario for NoFault {
    fn tuner(&self) -> &'static str {
        self.tuner
    }
    fn kind(&self) -> Kind {
        self.kind
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
    fn by_hand(&self) -> Values {
        self.by_hand
    }
    fn runs(&self) -> u32 {
        self.runs
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
    fn bpf_share(&self) -> Option<f64> {
        self.bpf_share
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
