//! A counter that is read at intervals, for a while or for ever.

use std::time::{Duration, Instant};

use super::Context;
use crate::{
    NetnsCookie,
    trial::{Counter, Meter, ProcMeter},
};

#[derive(Debug)]
pub(super) struct Sampler {
    next: Instant,
    /// For ever where there is none.
    pub(super) until: Option<Instant>,
    last: Option<(Instant, f64)>,
}

/// A reading, and the growth a second since the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) value: f64,
    pub(super) rate: Option<f64>,
}

impl Sampler {
    /// Due at once: the first reading is what growth is counted from.
    pub(super) fn new(now: Instant, until: Option<Instant>) -> Sampler {
        Sampler {
            next: now,
            until,
            last: None,
        }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Reads it where that is due; `None` too where the namespace or the counter is not there.
    pub(super) fn read(
        &mut self,
        counter: &Counter,
        netns: NetnsCookie,
        every: Duration,
        context: &Context,
        now: Instant,
    ) -> Option<Reading> {
        if self.next > now {
            return None;
        }
        self.next = now + every;
        let value = context
            .namespaces
            .borrow_mut()
            .within(netns, || ProcMeter::default().read(counter))
            .ok()??;
        let rate = self.last.replace((now, value)).map(|(at, before)| {
            let seconds = now.duration_since(at).as_secs_f64().max(0.001);
            (value - before) / seconds
        });
        Some(Reading { value, rate })
    }
}
