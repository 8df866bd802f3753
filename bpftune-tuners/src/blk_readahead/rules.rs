//! From signals to proposals: no I/O, no clock.

use std::{collections::HashMap, time::Duration};

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View, give_back,
    governor::Decision,
    halfway,
    stats::{Direction, Role, Scale},
    trial::{Counter, Guard, Harm, Outcome, Plan, Record, Resource, Windows},
};

use crate::trouble::Trouble;

pub(super) const WASTED: &str = "readahead-wasted";
pub(super) const SHORT: &str = "readahead-short";
/// Pages that programs ask of the device's files: see [`bpftune_core::Source::figure`].
pub(super) const DEMAND: &str = "demand";
/// Of these, the ones that are mapped.
pub(super) const MAPPED: &str = "mapped";

const READ_AHEAD: &str = "/sys/block/*/queue/read_ahead_kb";
/// A request of less costs a device nearly as much as one of this.
const LEAST_KIB: i64 = 32;
/// A window of this takes any device long enough to have the next one under way in time.
const MOST_KIB: i64 = 8192;
/// Full windows in a second, of all streams together, from which longer ones are worth trying: one takes less than a
/// sixteenth of a tenth of a second, which is no longer than a program may be kept from running.
pub const SHORT_PER_SECOND: f64 = 64.0;
/// Windows around single pages for each that a stream took, below which streams would be harmed.
const WASTE_RATIO: f64 = 4.0;
/// Pages of mappings in a trial, fewer of which are no load: programs that start ask for some.
const MAPPED_LEAST: f64 = 100.0;
/// In one step down or up at most.
const STEP: i64 = 8;
/// Signals, one a second, after which a trial that never told is forgotten.
const FORGOTTEN: u32 = 90;

/// The tuner. It remembers of each device what was too much and what too little.
#[derive(Clone, Debug, Default)]
pub struct BlkReadahead {
    devices: HashMap<Knob, Device>,
}

#[derive(Clone, Debug, Default)]
struct Device {
    /// The least of which most was wasted, KiB.
    wasteful: Option<i64>,
    /// The most that was too short, KiB.
    short: Option<i64>,
    /// What is tried now, and signals since.
    on_trial: Option<(Value, u32)>,
    /// A step in this direction did not help: none further.
    useless: [bool; 2],
    /// That it is too short; that it is wasted.
    trouble: [Trouble; 2],
}

impl Device {
    /// The value to try instead of `now`, KiB: a power of two within what is known to be wasteful and short.
    fn target(&mut self, scenario: &str, now: i64, wanted: i64) -> Option<i64> {
        let down = scenario == WASTED;
        if down {
            self.wasteful = Some(self.wasteful.map_or(now, |known| known.min(now)));
        } else {
            self.short = Some(self.short.map_or(now, |known| known.max(now)));
        }
        if self.useless[usize::from(down)] {
            return None;
        }
        let target = power_of_two(if down {
            let above = self.short.map_or(LEAST_KIB, |short| short * 2);
            wanted.max(above).max(LEAST_KIB)
        } else {
            let below = self.wasteful.map_or(MOST_KIB, |wasteful| wasteful / 2);
            wanted.max(LEAST_KIB).min(below)
        });
        let better = if down { target < now } else { target > now };
        (better && (LEAST_KIB..=MOST_KIB).contains(&target)).then_some(target)
    }

    /// Whether a trial goes on that has not told yet.
    fn waits(&mut self, now: &Value) -> bool {
        let Some((tried, signals)) = &mut self.on_trial else {
            return false;
        };
        *signals += 1;
        if tried != now || *signals > FORGOTTEN {
            self.on_trial = None;
        }
        self.on_trial.is_some()
    }
}

/// A window may hold a 4096th of memory, for there is one a stream.
fn bound(machine: &Machine) -> Vec<(i64, i64)> {
    let share = i64::try_from(machine.memory_total / 4096 / 1024).unwrap_or(MOST_KIB);
    vec![(LEAST_KIB, power_of_two(share).clamp(128, MOST_KIB))]
}

/// The greatest that is not above; whole pages of any size, so that the kernel has nothing to round.
fn power_of_two(number: i64) -> i64 {
    1 << number.max(1).ilog2()
}

fn window_cost(value: &Value) -> u64 {
    u64::try_from(value.last())
        .unwrap_or(0)
        .saturating_mul(1024)
}

impl Tuner for BlkReadahead {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "fits readahead of block devices to what their readers use of it"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: READ_AHEAD.into(),
            scope: Scope::Global,
            unit: "KiB".into(),
            about: "how much is read ahead of need, of files that are opened from now on".into(),
            bound: Bound::Derived(bound),
            cost: Cost::Derived(window_cost),
        }]
    }

    /// Files keep the length that they were opened with, so the windows are long.
    fn trial(&self, _: &str) -> Plan {
        let asked = |name, counter: &'static str| {
            let counters = vec![Counter::Own(counter.into())];
            let mut asked = Guard::goal(name, Direction::Higher, counters, 0.1);
            asked.metric.scale = Scale::Relative;
            asked
        };
        // A stream asks for so many that it would hide what others lose by longer windows.
        let mut mapped = asked("pages of mappings", MAPPED);
        mapped.metric.role = Role::Guard;
        mapped.harm = Harm::Counts;
        mapped.worse_by = 1.25;
        mapped.least = MAPPED_LEAST;
        // Who reads more in the same time copies less than it waits: some more of that is no harm.
        let mut waits = Guard::stall(Resource::Io, 0.1);
        waits.worse_by = 1.5;
        Plan {
            guards: vec![
                asked("pages asked for", DEMAND),
                mapped,
                waits,
                Guard::stall(Resource::Memory, 0.02),
            ],
            baseline: Windows {
                count: 5,
                length: Duration::from_millis(500),
            },
            settle: Duration::from_secs(2),
            trial: Windows {
                count: 10,
                length: Duration::from_millis(500),
            },
            only_better: true,
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        self.wish(signal, view).into_iter().collect()
    }

    fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        if let (Decision::Apply(target), Some(device)) =
            (decision, self.devices.get_mut(&proposal.knob))
        {
            device.on_trial = Some((target.clone(), 0));
        }
    }

    fn tried(&mut self, knob: &Knob, record: &Record) {
        let Some(device) = self.devices.get_mut(knob) else {
            return;
        };
        device.on_trial = None;
        let number = |text: &str| text.parse::<Value>().ok().map(|value| value.last());
        let down = number(&record.value_with) < number(&record.value_without);
        if record.outcome != Outcome::Better {
            device.useless[usize::from(down)] = true;
        }
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let owns = |knob: &Knob| self.tunables()[0].covers(&knob.tunable);
        give_back(view, owns, |_, original, now| {
            power_of_two(halfway(original, now))
        })
    }
}

impl BlkReadahead {
    fn wish(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let seen_at = figure("read_ahead")? as i64;
        let (around, full, other) = (figure("around")?, figure("full")?, figure("other")?);
        let knob = Knob {
            tunable: READ_AHEAD.replace('*', &signal.subject),
            netns: view.host_netns(),
        };
        let now = view.value(&knob)?;
        let device = self.devices.entry(knob.clone()).or_default();
        let wasted = signal.scenario == WASTED;
        let lasts = device.trouble[usize::from(wasted)].lasts(view.now());
        if device.waits(&now) || !lasts || now.last() != seen_at {
            // Files that were opened before: they say nothing of today's value.
            return None;
        }
        if seen_at == 0 {
            // Readahead is switched off here: not too short, but somebody's choice.
            return None;
        }
        let (wanted, reason) = match signal.scenario.as_ref() {
            WASTED if around >= WASTE_RATIO * (full + other) => (
                seen_at / STEP,
                format!(
                    "{seen_at} KiB were read around each of {around:.0} pages a second of mapped files on {}, and only \
                     {:.0} times a second did anybody read on",
                    signal.subject,
                    full + other
                ),
            ),
            SHORT if full >= SHORT_PER_SECOND => {
                let times = (full / SHORT_PER_SECOND * 2.0).min(STEP as f64);
                (
                    seen_at.saturating_mul(times as i64),
                    format!(
                        "streams on {} used up {full:.0} windows of {seen_at} KiB a second, the longest that they may \
                         have",
                        signal.subject
                    ),
                )
            }
            _ => return None,
        };
        let target = device.target(&signal.scenario, seen_at, wanted)?;
        let reason = format!("{reason}; files that are open keep what they have");
        Some(Proposal::gain(knob, target, reason))
    }
}

#[cfg(test)]
mod tests;
