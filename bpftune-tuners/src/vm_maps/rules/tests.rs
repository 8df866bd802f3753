use bpftune_core::governor::{Decision, Governor, Moment, Policy};
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, HUGE, Recorded, TINY, at, machine, signal, targets};

fn near(maps: f64, limit: f64) -> Signal {
    signal(NEAR, &[("maps", maps), ("limit", limit)])
}

fn view(limit: i64) -> Recorded {
    Recorded::new(&[(MAX_MAPS, HOST, &[limit])])
}

fn asked(maps: f64, limit: i64) -> Vec<Proposal> {
    VmMaps.on_signal(&near(maps, limit as f64), &view(limit))
}

#[test]
fn half_of_the_limit_raises_it() {
    assert_eq!(targets(&asked(33_000.0, 65_530)), [(MAX_MAPS, 131_072)]);
    assert_eq!(targets(&asked(65_530.0, 65_530)), [(MAX_MAPS, 131_072)]);
    assert!(asked(20_000.0, 65_530).is_empty());
}

#[test]
fn a_signal_of_an_old_limit_says_nothing() {
    let signal = near(40_000.0, 65_530.0);
    assert!(VmMaps.on_signal(&signal, &view(262_144)).is_empty());
    assert!(VmMaps.on_signal(&signal, &Recorded::new(&[])).is_empty());
}

/// What the governor lets through of a program that maps on and on; the last limit, and the changes.
fn filled(memory: u64, most: f64) -> (i64, usize) {
    let mut view = view(65_530);
    view.machine = machine(memory);
    let mut governor = Governor::new(Policy::default());
    governor
        .register(VmMaps.tunables().remove(0), "vm-maps")
        .unwrap();
    let mut changes = 0;
    let start = Moment::now();
    for step in 0..200 {
        let knob = at(MAX_MAPS, HOST);
        let limit = view.values[&knob].clone();
        let maps = (limit.last() as f64).min(most);
        let mut moment = start;
        moment.instant += Duration::from_secs(step);
        for proposal in VmMaps.on_signal(&near(maps, limit.last() as f64), &view) {
            let verdict = governor.decide(&proposal, &limit, &view.machine, moment);
            if let Decision::Apply(target) = verdict {
                governor.changed(&knob, 1, moment.instant);
                view.values.insert(knob.clone(), target);
                changes += 1;
            }
        }
    }
    (view.values[&at(MAX_MAPS, HOST)].last(), changes)
}

/// Adversary: a program that never gives a mapping back. It gets a 64th of memory, and no more.
#[test]
fn a_leak_ends_at_the_bound() {
    for (memory, most) in [(TINY, 131_072), (24 << 30, 1_572_864), (HUGE, 134_217_728)] {
        let (limit, changes) = filled(memory, f64::INFINITY);
        assert_eq!(limit, most, "{memory}");
        assert!(changes <= 12);
    }
}

/// Adversary: a program whose mappings come and go by tens of thousands. The limit rises once, and does not follow them.
#[test]
fn mappings_that_come_and_go_change_it_once() {
    assert_eq!(filled(24 << 30, 60_000.0), (131_072, 1));
}

/// Adversary: room for mappings costs memory that others need; with little of it left, there is less.
#[test]
fn a_host_that_is_short_of_memory_gives_less() {
    let mut machine = machine(24 << 30);
    machine.memory_available = 1 << 30;
    assert_eq!(most(&machine), 262_144);
    machine.memory_available = 0;
    assert_eq!(most(&machine), LEAST);
}

proptest! {
    #[test]
    fn proposals_only_rise(maps in 0.0f64..1e12, limit in 0i64..i64::from(i32::MAX)) {
        for proposal in asked(maps, limit) {
            prop_assert!(proposal.target.last() > limit || limit == MOST);
        }
    }
}
