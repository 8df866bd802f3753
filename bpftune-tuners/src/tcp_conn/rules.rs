//! What it owns. What it does is done where connections begin, by the BPF program.

use bpftune_core::{Bound, Cost, Proposal, Scope, Signal, Tunable, Tuner, View};

pub(super) const CHOICE: &str = "algorithm-chosen";

/// Under this name the operator's modes, denials and holds say what may be done.
pub(super) const CONGESTION: &str = "net.ipv4.tcp_congestion_control";

/// The tuner. It proposes nothing: a choice holds for connections that begin, and no parameter is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConn;

impl Tuner for TcpConn {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "chooses the congestion control of connections by the path that they take, where it loses packets"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: CONGESTION.into(),
            scope: Scope::Netns,
            unit: "algorithm".into(),
            about: "chosen for each connection; the parameter itself is never written".into(),
            // No number can be written to it.
            bound: Bound::Fixed(vec![(0, 0)]),
            cost: Cost::Nothing,
        }]
    }

    fn on_signal(&mut self, _: &Signal, _: &dyn View) -> Vec<Proposal> {
        Vec::new()
    }
}
