//! Signals through tuner, governor, learner and trial without a kernel, on simulated time.
//!
//! A [`Plant`] stands for the kernel and its load: it has a knob, gives signals and a goodput. A [`Host`] is the engine's
//! way of a signal (the second of a series acts, the governor decides, a trial judges, harm is put back) with the
//! same tuners, the same governor and the same [`judge`](mod@crate::stats::judge) as the daemon's. Time goes on by a [`WINDOW`] at
//! a step, so hours take milliseconds; equal seeds give equal runs.
//!
//! [`suite`] holds the goals: nothing oscillates, nothing overshoots, harm is reverted. [`fleet`] rolls a change out over many
//! hosts. [`replay`] gives recorded signals to a tuner. `cargo xtask sim` runs all of it.

pub mod fleet;
mod host;
mod learning;
mod load;
pub mod replay;
pub mod suite;
mod tcp_path;

use std::time::Duration;

pub use self::{
    host::{Event, Host, Outlook, Setup},
    learning::LearnerTuner,
    load::{Curve, Load, World},
    tcp_path::TcpPath,
};
use crate::{Knob, Machine, NetnsCookie, Signal, Value};

/// The length of a step of simulated time, and of a trial's window.
pub const WINDOW: Duration = Duration::from_millis(100);

/// The namespace in which simulated knobs are.
pub const NETNS: NetnsCookie = NetnsCookie(4026531840);

/// What a tuner acts on: a knob, and what comes of its value.
pub trait Plant {
    /// The knob that matters, and the value that it starts with.
    fn knob(&self) -> (Knob, Value);

    /// One window with this value.
    fn window(&mut self, at: Duration, value: &Value) -> Seen;
}

/// What is seen in a window.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The trial's goal; higher is better.
    pub goodput: f64,
    /// What hooks and counters say.
    pub signals: Vec<Signal>,
}

/// A machine with so much memory that no bound is in the way.
#[must_use]
pub fn machine() -> Machine {
    Machine {
        memory_total: 1 << 38,
        memory_available: 1 << 37,
        page_size: 4096,
        cpus: 8,
        tcp_memory: 0,
        tcp_memory_pressure: 1 << 36,
    }
}

#[cfg(test)]
mod tests;
