//! Recorded signals, given to a tuner again.
//!
//! A recording has a line of JSON a signal: `{"at_ms": 0, "signal": {...}}`, the signal as the journal keeps it. Other keys are
//! left unread, so that a line may say where it comes from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Event, Host};
use crate::Signal;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Milliseconds from the recording's start, or of any clock that goes on.
    pub at_ms: u64,
    /// What was seen.
    pub signal: Signal,
}

/// A line that is none.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {error}; wanted is {{\"at_ms\": N, \"signal\": {{...}}}}")]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: serde_json::Error,
}

/// Reads a recording; empty lines are skipped.
///
/// # Errors
/// [`BadLine`], the first.
pub fn read(text: &str) -> Result<Vec<Recorded>, BadLine> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| serde_json::from_str(line).map_err(|error| BadLine { line: i + 1, error }))
        .collect()
}

/// Gives a recording to a host, and returns what it did. The host's knobs must be in the namespaces of the signals. Each
/// signal is acted on: a journal holds none but those that a daemon acted on.
///
/// A recorded signal is the answer to the values that were set then: what a tuner does otherwise than the one that was
/// recorded has no effect on later signals.
#[must_use]
pub fn replay(host: &mut Host, recording: &[Recorded]) -> Vec<Event> {
    let start = recording.first().map_or(0, |first| first.at_ms);
    let before = host.events().len();
    for Recorded { at_ms, signal } in recording {
        let at = Duration::from_millis(at_ms.saturating_sub(start));
        host.act_on(at, signal);
    }
    host.events()[before..].to_vec()
}
