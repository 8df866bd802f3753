//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, View, give_back, halfway,
    stats::Direction,
    trial::{Counter, Guard, Plan, Resource, Windows},
};

pub(super) const FULL: &str = "fragments-refused";

const LIMITS: [&str; 2] = [
    "net.ipv4.ipfrag_high_thresh",
    "net.ipv6.ip6frag_high_thresh",
];

/// Names of the source's figures.
pub(super) const COMPLETED_V6: &str = "ip6-completed";
pub(super) const REFUSED_V6: &str = "ip6-refused";

/// What a fragment of 1,500 bytes takes of the memory.
const FRAGMENT_BYTES: f64 = 2304.0;
/// Beyond what was seen to be lacking.
const MARGIN: f64 = 1.5;
/// In one step at most.
const GROWTH: f64 = 8.0;
/// The kernel's own value, and the most.
const LEAST: i64 = 4 << 20;
const MOST: i64 = 512 << 20;
/// Up to here nothing but the balance of what is refused is asked for: a full memory lets nothing get complete.
const UNPROVEN: i64 = 16 << 20;
/// Beyond it: of the fragments that were let in, so many must belong to datagrams that got complete (two at least each).
const GOOD_SHARE: f64 = 0.1;
/// Whole datagrams have as many last fragments as first ones; so many times as many of one kind are pieces without the rest.
const BALANCE: f64 = 4.0;
/// Of fewer fragments nothing can be said.
const SAMPLE: f64 = 16.0;

/// The tuner. It remembers nothing: all it needs is in the signal and the view.
#[derive(Clone, Debug, Default)]
pub struct IpFrag;

/// A 128th of memory for one family of one namespace.
fn most_bytes(machine: &Machine) -> i64 {
    i64::try_from(machine.memory_total / 128)
        .unwrap_or(MOST)
        .clamp(LEAST, MOST)
}

impl Tuner for IpFrag {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "gives incomplete datagrams the memory that they need to get complete, and a flood of fragments none"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let limit = |name: &'static str| Tunable {
            name: name.into(),
            scope: Scope::Netns,
            unit: "bytes".into(),
            about: "memory of datagrams that are not complete".into(),
            bound: Bound::Derived(|machine| vec![(65536, most_bytes(machine))]),
            cost: Cost::ByUnit,
        };
        LIMITS.map(limit).to_vec()
    }

    /// The source watched from one event to the next.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn trial(&self, tunable: &str) -> Plan {
        let counters = if tunable == LIMITS[0] {
            ["ReasmFails", "ReasmOKs"].map(|name| Counter::net("Ip", name))
        } else {
            [REFUSED_V6, COMPLETED_V6].map(|name| Counter::Own(name.into()))
        };
        let [refused, completed] = counters.map(|counter| vec![counter]);
        Plan {
            guards: vec![
                Guard::goal("fragments refused", Direction::Lower, refused, 1.0),
                Guard::goal("datagrams put together", Direction::Higher, completed, 1.0),
                Guard::stall(Resource::Memory, 0.02),
            ],
            baseline: Windows {
                count: 3,
                length: Duration::from_millis(100),
            },
            trial: Windows {
                count: 10,
                length: Duration::from_millis(200),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        if signal.scenario != FULL {
            return Vec::new();
        }
        grow(signal, view).into_iter().collect()
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let owns = |knob: &Knob| LIMITS.contains(&knob.tunable.as_str());
        give_back(view, owns, |_, original, now| halfway(original, now))
    }
}

fn grow(signal: &Signal, view: &dyn View) -> Option<Proposal> {
    let figure = |name| signal.figure(name);
    let (memory, limit) = (figure("memory")?, figure("limit")?);
    let refused = figure("refused")?;
    let (asked, completed) = (figure("series_asked")?, figure("series_completed")?);
    let let_in = (asked - figure("series_failed")?).max(0.0);
    let (first, last) = (figure("first")?, figure("last")?);
    // Pieces without the rest: whoever sends them could fill any memory.
    if first + last < SAMPLE || first.min(last) * BALANCE < first.max(last) {
        return None;
    }
    let name = LIMITS[usize::from(figure("family")? == 6.0)];
    let knob = Knob {
        tunable: name.into(),
        netns: signal.netns,
    };
    let now = view.value(&knob)?.last();
    // A signal from before the last change.
    if now as f64 > limit {
        return None;
    }
    let need = (memory + refused * FRAGMENT_BYTES) * MARGIN;
    let need = need.clamp(now as f64 * 2.0, now as f64 * GROWTH);
    let proven = let_in >= SAMPLE && completed * 2.0 >= let_in * GOOD_SHARE;
    let most = most_bytes(view.machine());
    let target = (need as i64).min(if proven { most } else { most.min(UNPROVEN) });
    let reason = format!(
        "{refused:.0} fragments were refused in {} with {:.0} KiB of {:.0} KiB in use for incomplete datagrams; {first:.0} were \
         first and {last:.0} last ones, so this is no flood of pieces without the rest",
        signal.subject,
        memory / 1024.0,
        limit / 1024.0
    );
    (target > now).then(|| Proposal::gain(knob, target, reason))
}

#[cfg(test)]
mod tests;
