//! From signals to proposals: no I/O, no clock.

use std::{collections::HashMap, time::Duration};

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    config::kinds::Aim,
    governor::Decision,
    stats::{Direction, Layout, Metric, Role, Scale},
    trial::{Counter, Guard, Harm, Measure, Outcome, Plan, Record},
};

use super::arms::{
    AFFINITY, Arm, LEAST_REQUESTS, MOST_REQUESTS, NR_REQUESTS, Queue, SCHEDULER, SCHEDULERS, WBT,
};
use crate::trouble::Trouble;

pub(super) const WAITS: &str = "requests-wait";
/// Figures for trials: see [`bpftune_core::Source::figure`].
pub(super) const READ_TIME: &str = "read-time";
pub(super) const READS_TIMED: &str = "reads-timed";
pub(super) const READS_SLOW: &str = "reads-slow";
pub(super) const BYTES: &str = "bytes";
/// A read that took longer is a slow one, seconds: twice as long as a disk needs that turns.
pub(super) const SLOW: f64 = 0.02;

/// The slowest hundredth of reads takes so long: longer than any of a device that has nothing else to do, seconds.
const WAITING: f64 = 0.002;
/// So many writes are under way at a time: reads may be waiting for them.
const WRITES: f64 = 4.0;
/// So many requests are under way at a time: the device is what bounds them.
const BUSY: f64 = 16.0;
/// Fewer reads in a second say nothing of the slowest hundredth.
const READS: f64 = 20.0;
/// What did not help, or was refused, is tried again after this.
const AGAIN: Duration = Duration::from_secs(3600);
/// Another value of the same parameter after this: so long it rests after a change that was taken back.
const REST: Duration = Duration::from_secs(600);
/// Longer than a trial takes: it never began, or ended without a word.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The tuner. It remembers of each device what was tried.
#[derive(Clone, Debug)]
pub struct BlkQueue {
    aim: Aim,
    devices: HashMap<String, Device>,
}

impl Default for BlkQueue {
    fn default() -> BlkQueue {
        BlkQueue {
            aim: Aim::Latency,
            devices: HashMap::new(),
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Device {
    trouble: Trouble,
    /// What is on trial, and since when.
    trying: Option<(Knob, Duration)>,
    /// What was tried, and when.
    tried: Vec<(Knob, Value, Duration)>,
    now: Duration,
}

impl Device {
    fn waits(&self) -> bool {
        let since = self.trying.as_ref().map(|(_, since)| *since);
        since.is_some_and(|since| self.now.saturating_sub(since) < FORGOTTEN)
    }

    /// Whether it is too soon for this.
    fn knows(&self, knob: &Knob, value: &Value) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|(known, tried, at)| {
            let rest = if tried == value { AGAIN } else { REST };
            known == knob && self.now.saturating_sub(*at) < rest
        })
    }
}

fn own(name: &'static str) -> Counter {
    Counter::Own(name.into())
}

fn guard(
    name: &'static str,
    better: Direction,
    role: Role,
    margin: f64,
    measure: Measure,
) -> Guard {
    let metric = Metric {
        name: name.into(),
        better,
        scale: Scale::Relative,
        role,
        margin,
    };
    Guard {
        metric,
        measure,
        least: 0.0,
        worse_by: 1.0,
        harm: Harm::Counts,
        factor: 1.0,
        unit: "".into(),
    }
}

/// Mean wait of a read.
fn read_wait(role: Role, margin: f64) -> Guard {
    let measure = Measure::Share {
        part: own(READ_TIME),
        whole: own(READS_TIMED),
    };
    Guard {
        factor: 1000.0,
        unit: "ms".into(),
        ..guard(
            "mean wait of a read",
            Direction::Lower,
            role,
            margin,
            measure,
        )
    }
}

fn bytes(role: Role, margin: f64) -> Guard {
    let measure = Measure::PerSecond(vec![own(BYTES)]);
    Guard {
        factor: 1e-6,
        unit: "MB/s".into(),
        ..guard("read and written", Direction::Higher, role, margin, measure)
    }
}

/// Reads that take very long: few would not show in the mean.
fn slow_reads(margin: f64) -> Guard {
    let measure = Measure::Share {
        part: own(READS_SLOW),
        whole: own(READS_TIMED),
    };
    let mut slow = guard("slow reads", Direction::Lower, Role::Guard, margin, measure);
    slow.metric.scale = Scale::Absolute;
    slow.factor = 100.0;
    slow.unit = "%".into();
    slow
}

impl Tuner for BlkQueue {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "queues of block devices, by trial: so that reads do not wait for writes, or that most is done"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable =
            |name: &'static str, unit: &'static str, about: &'static str, bound: Bound| Tunable {
                name: name.into(),
                scope: Scope::Global,
                unit: unit.into(),
                about: about.into(),
                bound,
                cost: Cost::Derived(|_| 0),
            };
        let requests = |_: &Machine| vec![(LEAST_REQUESTS, MOST_REQUESTS)];
        vec![
            tunable(
                SCHEDULER,
                "",
                "who is served first where requests wait",
                Bound::Words(SCHEDULERS),
            ),
            tunable(
                NR_REQUESTS,
                "requests",
                "how many requests there may be in the queue",
                Bound::Derived(requests),
            ),
            tunable(
                WBT,
                "microseconds",
                "from which wait of reads on buffered writes are held back",
                Bound::Fixed(vec![(500, 1_000_000)]),
            ),
            tunable(
                AFFINITY,
                "",
                "on which processor a request ends",
                Bound::Fixed(vec![(0, 2)]),
            ),
        ]
    }

    fn check_aim(&self, _: Aim) -> Result<(), String> {
        Ok(())
    }

    fn set_aim(&mut self, aim: Option<Aim>) {
        *self = BlkQueue {
            aim: aim.unwrap_or(Aim::Latency),
            ..BlkQueue::default()
        };
    }

    /// To and fro, for load on a disk is never the same for long; and only what is better stays.
    fn trial(&self, _: &str) -> Plan {
        let guards = match self.aim {
            Aim::Latency => vec![
                read_wait(Role::Goal, 0.05),
                slow_reads(0.01),
                bytes(Role::Guard, 0.33),
            ],
            Aim::Throughput => vec![
                bytes(Role::Goal, 0.05),
                read_wait(Role::Guard, 1.0),
                slow_reads(0.05),
            ],
        };
        // Stalls (PSI) are no guard: who waits for room in the queue stalls, who waits for what is under way may not.
        Plan {
            guards,
            only_better: true,
            layout: Layout::Interleaved,
            ..Plan::default()
        }
        .interleaved(Duration::from_millis(300), 8, Duration::from_millis(400))
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        self.wish(signal, view).into_iter().collect()
    }

    fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        let Some(device) = device_of(&proposal.knob.tunable) else {
            return;
        };
        let Some(device) = self.devices.get_mut(device) else {
            return;
        };
        // Refused, it is left out for as long as what did not help.
        let Proposal { knob, target, .. } = proposal.clone();
        device
            .tried
            .retain(|(known, value, _)| (known, value) != (&knob, &target));
        device.tried.push((knob.clone(), target, device.now));
        if matches!(decision, Decision::Apply(_)) {
            device.trying = Some((knob, device.now));
        }
    }

    fn tried(&mut self, knob: &Knob, record: &Record) {
        let Some(device) = device_of(&knob.tunable).and_then(|name| self.devices.get_mut(name))
        else {
            return;
        };
        device.trying = None;
        if record.outcome == Outcome::Better {
            // Another queue now: what did not help the old one may help this, and more of what did.
            device.tried.clear();
        }
    }
}

/// "vda" of "/sys/block/vda/queue/scheduler".
fn device_of(tunable: &str) -> Option<&str> {
    tunable.strip_prefix("/sys/block/")?.split('/').next()
}

impl BlkQueue {
    fn wish(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name: &str| signal.figure(name);
        let (reads, wait) = (figure("reads")?, figure("read_99")?);
        let (writing, reading) = (figure("writing")?, figure("reading")?);
        let troubled = match self.aim {
            Aim::Latency => reads >= READS && wait >= WAITING && writing >= WRITES,
            Aim::Throughput => writing + reading >= BUSY,
        };
        if signal.scenario != WAITS || !troubled {
            return None;
        }
        let device = self.devices.entry(signal.subject.clone()).or_default();
        device.now = view.now();
        if !device.trouble.lasts(device.now) || device.waits() {
            return None;
        }
        let knob = |tunable: &str| Knob {
            tunable: tunable.replace('*', &signal.subject),
            netns: view.host_netns(),
        };
        let number = |tunable| view.value(&knob(tunable)).map(|value| value.last());
        let queue = Queue {
            scheduler: view.value(&knob(SCHEDULER))?.as_word()?.to_owned(),
            offered: offered(signal),
            requests: number(NR_REQUESTS)?,
            default_requests: figure("default_requests").unwrap_or(0.0) as i64,
            wbt: number(WBT),
            affinity: number(AFFINITY),
        };
        let untried = |arm: &Arm| !device.knows(&knob(arm.tunable), &arm.target);
        let arm = queue.arms(self.aim).into_iter().find(untried)?;
        let reason = match self.aim {
            Aim::Latency => format!(
                "one in a hundred of {reads:.0} reads a second from {} waits {:.1} ms or longer, while {writing:.0} writes \
                 are under way",
                signal.subject,
                wait * 1000.0
            ),
            Aim::Throughput => format!(
                "{:.0} requests are under way on {} at a time, so it is what bounds them",
                writing + reading,
                signal.subject
            ),
        };
        Some(Proposal::gain(knob(arm.tunable), arm.target, reason))
    }
}

/// The schedulers of which the signal says that the device has them.
fn offered(signal: &Signal) -> Vec<&'static str> {
    let has = |name: &&&str| signal.figure(name) == Some(1.0);
    SCHEDULERS.iter().filter(has).copied().collect()
}

#[cfg(test)]
mod tests;
