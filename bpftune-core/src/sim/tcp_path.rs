//! A TCP receiver on a path, as the tuner tcp-buffer sees it.

use std::time::Duration;

use super::{Load, NETNS, Plant, Seen};
use crate::{Figure, Knob, Signal, Value};

/// One bulk connection over a path, whose receive buffer is limited by `net.ipv4.tcp_rmem`.
///
/// Half of a buffer is payload, and a window is in flight each round trip, so the rate is the least of the path's and
/// limit / 2 / round trip. Where the limit is what counts, the window is full each round trip, and there is a signal.
#[derive(Clone, Debug)]
pub struct TcpPath {
    /// Bytes a second.
    pub rate: f64,
    /// Round trip, seconds.
    pub round_trip: f64,
    /// The limit at the start, bytes.
    pub start: i64,
    /// What disturbs the rate.
    pub load: Load,
    /// Draws the noise.
    pub rng: fastrand::Rng,
}

/// Buffer bytes per payload byte.
const OVERHEAD: f64 = 2.0;

impl TcpPath {
    /// The least limit that the kernel's autotuning needs for the whole rate: twice the bandwidth-delay product, so
    /// that slow start can double its window, times the overhead.
    #[must_use]
    pub fn optimum(&self) -> f64 {
        2.0 * OVERHEAD * self.rate * self.round_trip
    }
}

impl Plant for TcpPath {
    fn knob(&self) -> (Knob, Value) {
        let knob = Knob {
            tunable: "net.ipv4.tcp_rmem".into(),
            netns: NETNS,
        };
        (
            knob,
            Value::new([4096, self.start.min(131_072), self.start]),
        )
    }

    fn window(&mut self, at: Duration, value: &Value) -> Seen {
        let limit = value.last() as f64;
        let held_back = limit / OVERHEAD / self.round_trip;
        let factor = self.load.factor(at, &mut self.rng);
        let signals = if held_back >= self.rate {
            Vec::new()
        } else {
            let figure = |name, value, unit| Figure::new(name, value, unit);
            vec![Signal {
                scenario: "receive-limited".into(),
                netns: NETNS,
                subject: "port 5201 with 10.0.0.2:40000".into(),
                count: 1,
                figures: vec![
                    figure("buffer", limit, "B"),
                    figure("limit", limit, "B"),
                    // What goes through a window is never more than the window.
                    figure("rate", held_back * factor.min(1.0), "B/s"),
                    figure("min_rtt", self.round_trip * 1e6, "us"),
                    figure("scaling_ratio", 128.0, "/256"),
                    figure("locked", 0.0, ""),
                    figure("moderate_rcvbuf", 1.0, ""),
                ],
            }]
        };
        Seen {
            goodput: held_back.min(self.rate) * factor,
            signals,
        }
    }
}
