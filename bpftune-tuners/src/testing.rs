//! What tests of rules need: a machine and values that were written down.

use std::{
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, Knob, Machine, NetnsCookie, Proposal, Signal, Value, View,
    journal::DecisionId,
    trial::{self, Action, Counter, Plan, Record, Side, Snapshot, Step, Trial},
};

/// A namespace of tests.
pub(crate) const NETNS: NetnsCookie = NetnsCookie(7);
/// The host's.
pub(crate) const HOST: NetnsCookie = NetnsCookie(1);

/// Memory of the smallest machine that bounds must suit, and of the largest.
pub(crate) const TINY: u64 = 256 << 20;
pub(crate) const HUGE: u64 = 2 << 40;

/// A machine with that much memory, half of it free.
pub(crate) fn machine(memory: u64) -> Machine {
    Machine {
        memory_total: memory,
        memory_available: memory / 2,
        page_size: 4096,
        cpus: 2,
        tcp_memory: 0,
        tcp_memory_pressure: memory / 16,
    }
}

/// What a tuner sees, from notes.
pub(crate) struct Recorded {
    pub(crate) values: HashMap<Knob, Value>,
    pub(crate) originals: Vec<(Knob, Value)>,
    pub(crate) machine: Machine,
    /// The time, since whenever.
    pub(crate) now: Duration,
}

impl Recorded {
    /// These values in these places, nothing changed yet, 24 GiB.
    pub(crate) fn new(values: &[(&str, NetnsCookie, &[i64])]) -> Recorded {
        Recorded {
            values: values
                .iter()
                .map(|(name, netns, numbers)| (at(name, *netns), Value::new(*numbers)))
                .collect(),
            originals: Vec::new(),
            machine: machine(24 << 30),
            now: Duration::from_secs(1000),
        }
    }

    /// Carries proposals out, as the engine does.
    pub(crate) fn apply(&mut self, proposals: &[Proposal]) {
        for proposal in proposals {
            let knob = proposal.knob.clone();
            if let Some(old) = self.values.insert(knob.clone(), proposal.target.clone())
                && !self.originals.iter().any(|(known, _)| *known == knob)
            {
                self.originals.push((knob, old));
            }
        }
    }
}

impl View for Recorded {
    fn value(&self, knob: &Knob) -> Option<Value> {
        self.values.get(knob).cloned()
    }
    fn machine(&self) -> &Machine {
        &self.machine
    }
    fn host_netns(&self) -> NetnsCookie {
        HOST
    }
    fn now(&self) -> Duration {
        self.now
    }
    fn changed(&self) -> Vec<(Knob, Value)> {
        self.originals.clone()
    }
}

/// A tunable in a place.
pub(crate) fn at(name: &str, netns: NetnsCookie) -> Knob {
    Knob {
        tunable: name.into(),
        netns,
    }
}

/// A signal from [`NETNS`].
pub(crate) fn signal(scenario: &'static str, figures: &[(&'static str, f64)]) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: NETNS,
        subject: "a test".into(),
        count: 1,
        figures: figures
            .iter()
            .map(|(name, value)| Figure::new(name, *value, ""))
            .collect(),
    }
}

/// What is wanted, without the reasons.
pub(crate) fn targets(proposals: &[Proposal]) -> Vec<(&str, i64)> {
    proposals
        .iter()
        .map(|p| (p.knob.tunable.as_str(), p.target.last()))
        .collect()
}

/// What a trial by this plan says where counters grow by so much a window: `grows` gets the counter, whether the change is
/// in place, and the window's number. And what becomes of the change.
#[allow(dead_code)] // By the features of a build.
pub(crate) fn trial(plan: Plan, grows: impl Fn(&Counter, bool, usize) -> f64) -> (Record, Action) {
    let counters = plan.counters();
    let mut totals = vec![0.0; counters.len()];
    let mut grow = |with: bool, window: usize| {
        for (total, counter) in totals.iter_mut().zip(&counters) {
            *total += grows(counter, with, window);
        }
        totals.clone()
    };
    let start = Instant::now();
    let mut before = Side::default();
    let mut open = Snapshot {
        at: start,
        values: grow(false, 0),
    };
    for window in 0..plan.baseline.count {
        let end = Snapshot {
            at: open.at + plan.baseline.length,
            values: grow(false, window),
        };
        before.add(&plan.guards, &counters, &open, &end);
        open = end;
    }
    // Windows are counted on, so that a load may end by itself at the change.
    let mut window = plan.baseline.count;
    let plan = Rc::new(plan);
    let (old, new) = (Value::from(1), Value::from(2));
    let mut trial = Trial::new(DecisionId(1), old, new, plan, before, open.at);
    let mut with = true;
    loop {
        let snapshot = Snapshot {
            at: trial.due(),
            values: grow(with, window),
        };
        window += 1;
        match trial.sample(snapshot) {
            Step::Wait => {}
            Step::Switch { with: other } => with = other,
            Step::Over(record) => {
                let policy = trial::Policy::default();
                let (action, _) = trial::decide(record.outcome, &policy, trial.wants_better());
                return (*record, action);
            }
        }
    }
}
