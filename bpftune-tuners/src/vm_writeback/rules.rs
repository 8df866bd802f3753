//! From signals to proposals: no I/O, no clock but the view's.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, View,
    stats::{Direction, Scale},
    trial::{Counter, Guard, Plan, Resource, Windows},
};

use crate::trouble::Trouble;

pub(super) const SYNC_SLOW: &str = "sync-slow";
pub(super) const HELD: &str = "writers-held";

/// Figures of the source: see [`bpftune_core::Source::figure`].
pub(super) const SYNCS: &str = "syncs";
pub(super) const SYNC_WAIT: &str = "sync-wait";

const DIRTY: &str = "vm.dirty_bytes";
const BACKGROUND: &str = "vm.dirty_background_bytes";

/// As much as the devices write in so many seconds may wait; a call of fsync(2) waits about as long at worst.
pub const BACKLOG_SECONDS: f64 = 0.3;
/// From here on a call is slow.
pub(super) const SLOW: Duration = Duration::from_millis(300);

/// Less keeps no device busy without a pause.
const LEAST: i64 = 8 << 20;
const MIB: i64 = 1 << 20;
/// In one step down at most.
const STEP: f64 = 4.0;
/// A step of less is none.
const WORTH: f64 = 0.8;
/// Writers held, together, from which on the limit is what binds them.
const BOUND: f64 = 0.5;
/// Signals in a row, one a second, without a writer held: what waits stays below the limit.
const CALM: u32 = 5;
/// So long nobody waited, and writers need no longer be held for anybody.
const UNNEEDED: Duration = Duration::from_secs(300);

/// The tuner. It remembers when a low limit was last of use, and for how long writers have been held.
#[derive(Clone, Debug, Default)]
pub struct VmWriteback {
    needed: Option<Duration>,
    calm: u32,
    held: Trouble,
}

/// What a signal tells.
struct Seen {
    rate: f64,
    backlog: f64,
    limit: f64,
    background: f64,
    held: f64,
    syncs: f64,
    slowest: f64,
}

impl Seen {
    fn of(signal: &Signal) -> Option<Seen> {
        let figure = |name| signal.figure(name);
        Some(Seen {
            rate: figure("rate")?,
            backlog: figure("backlog")?,
            limit: figure("limit")?,
            background: figure("background")?,
            held: figure("held")?,
            syncs: figure("syncs")?,
            slowest: figure("slowest")?,
        })
    }

    /// What may wait.
    fn want(&self) -> f64 {
        (self.rate * BACKLOG_SECONDS).max(LEAST as f64)
    }

    fn reason(&self) -> String {
        let mib = |bytes: f64| bytes / MIB as f64;
        format!(
            "fsync(2) took {:.0} ms while {:.0} MiB waited to be written, and the disks write {:.0} MiB a second",
            self.slowest,
            mib(self.backlog),
            mib(self.rate)
        )
    }
}

/// Whole MiB, so that the kernel has nothing to round.
fn whole(bytes: f64) -> i64 {
    ((bytes / MIB as f64).ceil() as i64).max(1) * MIB
}

/// A share of memory, but never less than the least.
fn at_most(machine: &Machine, parts: u64) -> i64 {
    let share = i64::try_from(machine.memory_total / parts).unwrap_or(i64::MAX);
    share.max(LEAST)
}

fn knob(tunable: &str, view: &dyn View) -> Knob {
    Knob {
        tunable: tunable.into(),
        netns: view.host_netns(),
    }
}

impl Tuner for VmWriteback {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "bounds what waits to be written by what disks write in a moment, where fsync(2) has to wait for it"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable = |name: &'static str, about: &'static str, bound| Tunable {
            name: name.into(),
            scope: Scope::Global,
            unit: "bytes".into(),
            about: about.into(),
            bound: Bound::Derived(bound),
            // A share of memory may be dirty by default: less than that is no cost.
            cost: Cost::Nothing,
        };
        vec![
            tunable(
                DIRTY,
                "most that waits to be written, after which writers are held",
                |machine| vec![(LEAST, at_most(machine, 5))],
            ),
            tunable(
                BACKGROUND,
                "what waits to be written before writing begins by itself",
                |machine| vec![(LEAST / 2, at_most(machine, 10))],
            ),
        ]
    }

    fn trial(&self, tunable: &str) -> Plan {
        let own = |name: &'static str| vec![Counter::Own(name.into())];
        let written = |name: &'static str, better, margin| {
            let counter = Counter::VmStat("nr_written".into());
            let mut guard = Guard::goal(name, better, vec![counter], margin);
            guard.metric.scale = Scale::Relative;
            guard.metric.role = bpftune_core::stats::Role::Guard;
            guard.harm = bpftune_core::trial::Harm::Counts;
            guard
        };
        let mut waiting = Guard::goal("waiting in fsync", Direction::Lower, own(SYNC_WAIT), 0.1);
        waiting.unit = "tasks".into();
        let plan = Plan {
            guards: vec![
                Guard::goal("calls of fsync", Direction::Higher, own(SYNCS), 0.5),
                waiting,
                // A limit too low to keep a disk busy.
                written("pages written", Direction::Higher, 0.25),
                // A program whose data stayed in memory until it was written anew.
                written("pages written more often", Direction::Lower, 0.5),
                Guard::stall(Resource::Io, 0.2),
            ],
            baseline: Windows {
                count: 5,
                length: Duration::from_millis(500),
            },
            settle: Duration::from_secs(3),
            trial: Windows {
                count: 10,
                length: Duration::from_secs(1),
            },
            only_better: true,
            ..Plan::default()
        };
        if tunable != BACKGROUND {
            return plan;
        }
        // Who is never held may be slow for some seconds and quick for the next ones by itself: a change that begins in slow
        // ones would look as if it had ended them.
        Plan {
            alpha: 0.01,
            ..plan.interleaved(Duration::from_secs(2), 12, Duration::from_secs(2))
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let Some(seen) = Seen::of(signal) else {
            return Vec::new();
        };
        let calm = seen.held < BOUND / 5.0;
        self.calm = if calm { self.calm + 1 } else { 0 };
        let held_for_long = seen.held >= BOUND && self.held.lasts(view.now());
        if let Some(proposal) = grown(&seen, view) {
            return vec![proposal];
        }
        match signal.scenario.as_ref() {
            SYNC_SLOW => {
                self.needed = Some(view.now());
                self.lower(&seen, held_for_long, view).into_iter().collect()
            }
            HELD => self.give_back(&seen, view),
            _ => Vec::new(),
        }
    }
}

/// A limit of ours that is too low for the devices that write now.
fn grown(seen: &Seen, view: &dyn View) -> Option<Proposal> {
    let knob = knob(DIRTY, view);
    let ours = view.original(&knob).is_some();
    if !ours || seen.held < BOUND || seen.limit * 2.0 >= seen.want() {
        return None;
    }
    let reason = format!(
        "writers are held while the disks write {:.0} MiB a second",
        seen.rate / MIB as f64
    );
    Some(Proposal::gain(knob, whole(seen.want()), reason))
}

impl VmWriteback {
    fn lower(&self, seen: &Seen, held_for_long: bool, view: &dyn View) -> Option<Proposal> {
        let want = seen.want();
        // The last step is not over before what is above the limit was written; and where little waits, it is not that
        // what the calls wait for.
        if seen.backlog > seen.limit * 1.2 || seen.backlog < want * 1.5 {
            return None;
        }
        let (tunable, now, target) = if held_for_long {
            // Writers are held until what is above the limit was written. Who is held for a moment would wait for the disk
            // all the time instead: a copy that memory takes in.
            (DIRTY, seen.limit, want.max(seen.limit / STEP))
        } else if self.calm >= CALM {
            (BACKGROUND, seen.background, want / 2.0)
        } else {
            return None;
        };
        let knob = knob(tunable, view);
        view.value(&knob)?;
        (target < now * WORTH).then(|| Proposal::gain(knob, whole(target), seen.reason()))
    }

    /// Nobody has waited for long, and writers are held for nothing.
    fn give_back(&mut self, seen: &Seen, view: &dyn View) -> Vec<Proposal> {
        let needed = *self.needed.get_or_insert_with(|| view.now());
        if seen.held < BOUND || seen.syncs > 0.0 || view.now().saturating_sub(needed) < UNNEEDED {
            return Vec::new();
        }
        let reason = format!(
            "writers are held, and nobody has waited in fsync(2) for {} s",
            UNNEEDED.as_secs()
        );
        [DIRTY, BACKGROUND]
            .into_iter()
            .filter_map(|tunable| {
                let knob = knob(tunable, view);
                let original = view.original(&knob)?;
                Some(Proposal::gain(knob, original, reason.clone()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
