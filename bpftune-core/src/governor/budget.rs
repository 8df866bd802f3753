//! What all raises together may cost.

use crate::{Tunable, Value, machine};

/// What a knob's values cost at worst, bytes. It is kept with what else is known of the knob, so that a decision looks
/// for the knob once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
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
    spent: u64,
}

impl Budget {
    /// What all raises cost at worst now.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// What would be spent with this value there instead. A knob that was not charged yet (`known` is `None`) has its
    /// original value now.
    pub(super) fn spent_with(
        &self,
        known: Option<Charge>,
        tunable: &Tunable,
        current: &Value,
        target: &Value,
        page_size: u64,
    ) -> u64 {
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

    /// Notes that a value was written to the knob that `charge` is of.
    pub(super) fn charge(
        &mut self,
        charge: &mut Option<Charge>,
        tunable: &Tunable,
        original: &Value,
        new: &Value,
    ) {
        self.refund(charge);
        let page_size = machine::page_size();
        let whole = Charge {
            original: tunable.cost.bytes(tunable, original, page_size),
            present: tunable.cost.bytes(tunable, new, page_size),
        };
        // What would overflow is kept at what fits, so that giving it back takes the same amount.
        let raise = whole.raise().min(u64::MAX - self.spent);
        self.spent += raise;
        let present = whole.original.saturating_add(raise);
        *charge = Some(Charge { present, ..whole });
    }

    /// Notes that the knob that `charge` is of has its original value again, or is somebody else's.
    pub(super) fn refund(&mut self, charge: &mut Option<Charge>) {
        if let Some(charge) = charge.take() {
            self.spent -= charge.raise();
        }
    }
}
