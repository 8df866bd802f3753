//! What all raises together may cost.

use std::collections::HashMap;

use crate::{Knob, Tunable, Value, machine};

/// What a knob's values cost at worst, bytes.
#[derive(Clone, Copy, Debug)]
struct Charge {
    original: u64,
    present: u64,
}

impl Charge {
    fn raise(self) -> u64 {
        self.present.saturating_sub(self.original)
    }
}

/// The account of raises above the original values.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    charges: HashMap<Knob, Charge>,
    spent: u64,
}

impl Budget {
    /// What all raises cost at worst now.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// What would be spent with this value there instead. A knob that was not charged yet has its original
    /// value now.
    pub(super) fn spent_with(
        &self,
        knob: &Knob,
        tunable: &Tunable,
        current: &Value,
        target: &Value,
        page_size: u64,
    ) -> u64 {
        let known = self.charges.get(knob).copied();
        let original = known.map_or_else(
            || tunable.cost.bytes(tunable, current, page_size),
            |known| known.original,
        );
        let raise = Charge {
            original,
            present: tunable.cost.bytes(tunable, target, page_size),
        }
        .raise();
        (self.spent - known.map_or(0, Charge::raise)).saturating_add(raise)
    }

    /// Notes that a value was written.
    pub(super) fn charge(&mut self, knob: &Knob, tunable: &Tunable, original: &Value, new: &Value) {
        self.refund(knob);
        let page_size = machine::page_size();
        let charge = Charge {
            original: tunable.cost.bytes(tunable, original, page_size),
            present: tunable.cost.bytes(tunable, new, page_size),
        };
        // What would overflow is kept at what fits, so that giving it back takes the same amount.
        let raise = charge.raise().min(u64::MAX - self.spent);
        self.spent += raise;
        let present = charge.original.saturating_add(raise);
        self.charges
            .insert(knob.clone(), Charge { present, ..charge });
    }

    /// Notes that a knob has its original value again, or is somebody else's.
    pub(super) fn refund(&mut self, knob: &Knob) {
        if let Some(charge) = self.charges.remove(knob) {
            self.spent -= charge.raise();
        }
    }
}
