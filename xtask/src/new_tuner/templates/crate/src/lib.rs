//! my-tuner: room for connections in TIME_WAIT where the kernel runs out of it.
//!
//! What is here works and is tested. To make it yours, change the four constants, `on_signal`, and what the source reads.

mod source;

use bpftune_core::{
    Bound, Cost, Knob, Proposal, Result, Scope, Signal, Tunable, Tuner, Urgency, View,
    engine::Registration,
    trial::{Guard, Plan},
};

pub use self::source::Overflows;

/// Its name: in the log, in `[tuner.my-tuner]` of the configuration, in `bpftune disable my-tuner`.
pub const NAME: &str = "my-tuner";
/// The parameter that it owns.
const TUNABLE: &str = "net.ipv4.tcp_max_tw_buckets";
/// The least and the most that it may ever be.
const BOUNDS: (i64, i64) = (16, 262_144);
/// What its source calls that which happens.
const SCENARIO: &str = "time-wait-overflow";

/// The rules. They do no I/O, look at no clock and write no parameter, so that a test can hold them to everything.
#[derive(Debug, Default)]
pub struct MyTuner;

impl Tuner for MyTuner {
    fn name(&self) -> &str {
        NAME
    }

    fn about(&self) -> &str {
        "room for connections in TIME_WAIT where the kernel runs out of it"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: TUNABLE.into(),
            scope: Scope::Netns,
            unit: "connections".into(),
            about: "connections in TIME_WAIT at a time".into(),
            bound: Bound::Fixed(vec![BOUNDS]),
            // Bytes at worst, for the memory budget that all tuners share: some 250 a connection.
            cost: Cost::Derived(|value| value.last().unsigned_abs() * 250),
        }]
    }

    /// A change is tried: what is measured before and after it. Worse means that it is taken back.
    fn trial(&self, _tunable: &str) -> Plan {
        Plan {
            guards: vec![Guard::goodput(), Guard::retransmits()],
            ..Plan::default()
        }
    }

    /// What should change because of this signal. The governor decides, the journal has the reason.
    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let knob = Knob {
            tunable: TUNABLE.into(),
            netns: signal.netns,
        };
        // Not every kernel or namespace has it.
        let (Some(now), Some(rate)) = (view.value(&knob), signal.figure("rate")) else {
            return Vec::new();
        };
        let target = now.with_last(now.last().saturating_mul(2));
        if signal.scenario != SCENARIO || target == now {
            return Vec::new();
        }
        vec![Proposal {
            knob,
            target,
            reason: format!("{rate:.1} connections a second found no room in TIME_WAIT"),
            urgency: Urgency::Gain,
        }]
    }
}

/// Makes it ready: this is where hooks would be loaded.
///
/// # Errors
/// Where its source cannot be opened.
pub fn load() -> Result<Registration> {
    Ok(Registration {
        tuner: Box::<MyTuner>::default(),
        source: Box::new(Overflows::new()?),
    })
}

#[cfg(test)]
mod tests;
