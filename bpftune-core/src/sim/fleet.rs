//! A change rolled out over many hosts by canary: few first, the rest where those fared well.

use serde::Serialize;

use super::{Load, suite};
use crate::{governor::canary, stats::Layout};

/// How far each stage goes, in percent of the fleet.
pub const STAGES: [u8; 5] = [1, 5, 25, 50, 100];

/// The roll-out stops where more of a stage's trials than this end in a revert. Of harmless changes at most one in twenty
/// does.
pub const STOP: f64 = 0.2;

/// What a roll-out came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rollout {
    /// Hosts in the fleet.
    pub hosts: usize,
    /// How much the change takes away, a share.
    pub harm: f64,
    /// Each stage that was carried out.
    pub stages: Vec<Stage>,
    /// Hosts that the change was tried on.
    pub tried: usize,
    /// Hosts that still have it.
    pub kept: usize,
}

/// One stage of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Percent of the fleet, those of earlier stages included.
    pub percent: u8,
    /// Hosts that it added.
    pub hosts: usize,
    /// Of these, how many put the change back.
    pub reverted: usize,
}

/// Rolls a change that does `harm` out over `hosts` hosts, each with noise of 5 % and a trial of its own.
#[must_use]
pub fn rollout(hosts: usize, harm: f64, seed: u64) -> Rollout {
    let ids: Vec<String> = (0..hosts).map(|i| format!("host-{seed}-{i}")).collect();
    let load = Load {
        noise: 0.05,
        ..Load::CALM
    };
    let mut stages = Vec::new();
    let mut before = 0;
    for percent in STAGES {
        let mut stage = Stage {
            percent,
            hosts: 0,
            reverted: 0,
        };
        for (i, id) in ids.iter().enumerate() {
            if canary(id, percent) && !canary(id, before) {
                stage.hosts += 1;
                let seed = seed.wrapping_mul(1_000_003).wrapping_add(i as u64);
                stage.reverted += usize::from(suite::one(Layout::BeforeAfter, harm, load, seed).0);
            }
        }
        before = percent;
        let stop = stage.reverted as f64 > STOP * stage.hosts as f64;
        stages.push(stage);
        if stop {
            break;
        }
    }
    let tried = stages.iter().map(|stage| stage.hosts).sum();
    let reverted: usize = stages.iter().map(|stage| stage.reverted).sum();
    Rollout {
        hosts,
        harm,
        stages,
        tried,
        kept: tried - reverted,
    }
}
