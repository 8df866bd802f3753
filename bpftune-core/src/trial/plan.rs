//! How a change of a tunable is tried.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Counter, Guard};
use crate::stats::{Layout, Rule};

/// Windows of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// How many.
    pub count: usize,
    /// How long each is.
    pub length: Duration,
}

/// What is measured, when, and for how long.
///
/// The default suits a tuner of network parameters whose signals come by the millisecond: three short windows
/// without the change, two seconds to settle, ten windows of 100 ms with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What is watched.
    pub guards: Vec<Guard>,
    /// Windows before the change; it waits for them. None for [`Layout::Interleaved`], which measures them later.
    pub baseline: Windows,
    /// From the change, or a switch to and fro, to the first window.
    pub settle: Duration,
    /// Windows with the change.
    pub trial: Windows,
    /// [`Layout::Interleaved`] only where the knob may be switched to and fro while everything runs.
    pub layout: Layout,
    /// Probability of calling the harmless harmful, at most; over all guards.
    pub alpha: f64,
    /// Only what helped stays: for a value that is no better for being another one. Else what does no harm stays too,
    /// and the operator says what becomes of the unclear.
    #[serde(default)]
    pub only_better: bool,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            guards: vec![Guard::goodput(), Guard::retransmits()],
            baseline: Windows {
                count: 3,
                length: Duration::from_millis(10),
            },
            settle: Duration::from_secs(2),
            trial: Windows {
                count: 10,
                length: Duration::from_millis(100),
            },
            layout: Layout::BeforeAfter,
            alpha: Rule::default().alpha,
            only_better: false,
        }
    }
}

impl Plan {
    /// The same guards, with the knob switched to and fro: `pairs` windows on each side (made even).
    #[must_use]
    pub fn interleaved(self, settle: Duration, pairs: usize, length: Duration) -> Plan {
        Plan {
            baseline: Windows { count: 0, length },
            settle,
            trial: Windows {
                count: pairs.next_multiple_of(2),
                length,
            },
            layout: Layout::Interleaved,
            ..self
        }
    }

    /// Every counter that is needed, once.
    #[must_use]
    pub fn counters(&self) -> Vec<Counter> {
        let mut counters: Vec<Counter> = Vec::new();
        for counter in self
            .guards
            .iter()
            .flat_map(|guard| guard.measure.counters())
        {
            if !counters.contains(counter) {
                counters.push(counter.clone());
            }
        }
        counters
    }
}
