//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Knob, Proposal, Signal, Tunable, Tuner, View,
    trial::{Guard, Plan, Resource, Windows},
};

use super::{
    crowd::bomb,
    limits::{
        KEYS, LIMITS, Limit, MAX_KEY_BYTES, MAX_KEYS, MAX_USERNS, PID_MAX, TASKS, THREADS_MAX,
    },
};

/// In one step at most; tasks cost more than the rest, and twice is room enough.
const GROWTH: f64 = 8.0;
const TASKS_GROWTH: f64 = 2.0;

/// The tuner. It remembers nothing.
#[derive(Clone, Debug, Default)]
pub struct ProcLimits;

impl Tuner for ProcLimits {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "raises limits on tasks, files, inotify, AIO, keys and user namespaces for programs that run into them"
    }

    fn tunables(&self) -> Vec<Tunable> {
        LIMITS.iter().map(Limit::tunable).collect()
    }

    /// What is taken is no chance.
    fn acts_at_once(&self) -> bool {
        true
    }

    /// It acts before anything is refused, so there is no gain to measure, only harm.
    fn trial(&self, _: &str) -> Plan {
        Plan {
            guards: vec![Guard::stall(Resource::Memory, 0.02)],
            // Short: who fills a limit will not wait.
            baseline: Windows {
                count: 3,
                length: Duration::from_millis(2),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        match signal.scenario.as_ref() {
            TASKS => tasks(signal, view),
            KEYS => keys(signal, view),
            _ => counted(signal, view).into_iter().collect(),
        }
    }
}

fn knob(tunable: &str, view: &dyn View) -> Knob {
    Knob {
        tunable: tunable.into(),
        netns: view.host_netns(),
    }
}

/// Room for four times what is used; at least twice, at most `growth` times what may be. `None` where the limit is another
/// one by now.
fn raise(
    tunable: &str,
    used: f64,
    limit: f64,
    growth: f64,
    reason: String,
    view: &dyn View,
) -> Option<Proposal> {
    let knob = knob(tunable, view);
    let now = view.value(&knob)?;
    if now.last() as f64 != limit || limit < 1.0 {
        return None;
    }
    let wanted = (used * 4.0).clamp(limit * 2.0, limit * growth);
    let target = (wanted as u64).next_power_of_two();
    let target = now.with_last(i64::try_from(target).unwrap_or(i64::MAX));
    Some(Proposal::gain(knob, target, reason))
}

fn counted(signal: &Signal, view: &dyn View) -> Option<Proposal> {
    let limit = LIMITS
        .iter()
        .find(|limit| limit.scenario == signal.scenario)?;
    let (used, most) = (signal.figure("used")?, signal.figure("limit")?);
    let share = if limit.tunable == MAX_USERNS {
        // A low one may be an admin's caution; 0 means switched off.
        0.9
    } else {
        0.5
    };
    if most < 1.0 || used < most * share {
        return None;
    }
    let reason = format!(
        "{} takes more and more: {used:.0} of {most:.0} are in use ({})",
        signal.subject, limit.about
    );
    raise(limit.tunable, used, most, GROWTH, reason, view)
}

/// The kernel says for each user how much of both quotas is used.
fn keys(signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let figure = |name: &str| signal.figure(name);
    let quotas = [
        (MAX_KEYS, figure("used"), figure("limit"), "keys"),
        (
            MAX_KEY_BYTES,
            figure("used_bytes"),
            figure("limit_bytes"),
            "bytes in keys",
        ),
    ];
    let uid = figure("uid").unwrap_or(0.0);
    quotas
        .into_iter()
        .filter_map(|(tunable, used, limit, what)| {
            let (used, limit) = (used?, limit?);
            // Root has quotas of its own, a thousand times larger.
            if uid == 0.0 || used < limit * 0.8 {
                return None;
            }
            let reason = format!(
                "{} has {used:.0} of {limit:.0} {what} that user {uid:.0} may have",
                signal.subject
            );
            raise(tunable, used, limit, GROWTH, reason, view)
        })
        .collect()
}

fn tasks(signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let figures = ["tasks", "kin", "brood", "young"].map(|name| signal.figure(name));
    let [Some(tasks), Some(kin), Some(brood), Some(young)] = figures else {
        return Vec::new();
    };
    if bomb(tasks, kin, brood, young).is_some() {
        return Vec::new();
    }
    [PID_MAX, THREADS_MAX]
        .into_iter()
        .filter_map(|tunable| {
            let limit = view.value(&knob(tunable, view))?.last() as f64;
            if tasks < limit * 0.7 {
                return None;
            }
            let reason = format!(
                "{tasks:.0} of {limit:.0} tasks that there may be are there, and no more than {kin:.0} of them are \
                 processes of one kind, so this is no fork bomb"
            );
            raise(tunable, tasks, limit, TASKS_GROWTH, reason, view)
        })
        .collect()
}

#[cfg(test)]
mod tests;
