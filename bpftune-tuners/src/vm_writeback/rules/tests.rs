use std::time::Instant;

use bpftune_core::{
    Value,
    governor::{Decision, Governor, Moment, Policy},
    sysctl,
    trial::{Action, Outcome},
};
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, HUGE, Recorded, TINY, at, machine, signal, targets, trial};

/// Shares of memory, as a kernel starts.
fn view() -> Recorded {
    let mut view = Recorded::new(&[]);
    for (name, word) in [(DIRTY, "ratio-20"), (BACKGROUND, "ratio-10")] {
        view.values.insert(at(name, HOST), Value::word(word));
    }
    view
}

/// As recorded of a disk that writes 50 MB a second: what waits is at the limit.
fn slow(limit: f64) -> Signal {
    seen(SYNC_SLOW, 50e6, limit * 0.97, limit, 0.95, 0.2)
}

fn seen(
    scenario: &'static str,
    rate: f64,
    backlog: f64,
    limit: f64,
    held: f64,
    syncs: f64,
) -> Signal {
    signal(
        scenario,
        &[
            ("rate", rate),
            ("backlog", backlog),
            ("limit", limit),
            ("background", limit / 2.0),
            ("held", held),
            ("syncs", syncs),
            ("slowest", 5300.0),
        ],
    )
}

/// Writers have been held long enough by now.
fn hold(tuner: &mut VmWriteback, view: &mut Recorded) {
    for _ in 0..9 {
        view.now += Duration::from_secs(1);
        let held = seen(HELD, 50e6, 1200e6, 1200e6, 1.0, 0.2);
        assert!(tuner.on_signal(&held, view).is_empty());
    }
}

/// Asks and carries out, as if the governor let everything through; the limit that holds then.
fn step(tuner: &mut VmWriteback, view: &mut Recorded, signal: &Signal) -> Option<i64> {
    let proposals = tuner.on_signal(signal, view);
    view.apply(&proposals);
    proposals.first().map(|p| p.target.last())
}

#[test]
fn a_backlog_at_the_limit_is_lowered_step_by_step() {
    let (mut tuner, mut view) = (VmWriteback::default(), view());
    hold(&mut tuner, &mut view);
    let (mut limit, mut steps) = (1_258_291_200.0, Vec::new());
    while let Some(next) = step(&mut tuner, &mut view, &slow(limit)) {
        // Until the backlog is down to the new limit nothing more is done.
        let draining = seen(SYNC_SLOW, 50e6, limit, next as f64, 1.0, 0.0);
        assert_eq!(step(&mut tuner, &mut view, &draining), None);
        limit = next as f64;
        steps.push(next / MIB);
    }
    assert_eq!(steps, [300, 75, 19]);
    assert_eq!(view.originals.len(), 1, "one parameter");
}

#[test]
fn what_waits_below_the_limit_is_written_earlier() {
    let (mut tuner, view) = (VmWriteback::default(), view());
    let calm = seen(SYNC_SLOW, 50e6, 700e6, 1200e6, 0.0, 0.3);
    for _ in 1..CALM {
        assert!(tuner.on_signal(&calm, &view).is_empty());
    }
    let proposals = tuner.on_signal(&calm, &view);
    assert_eq!(targets(&proposals), [(BACKGROUND, 8 * MIB)]);
}

#[test]
fn a_slow_disk_with_little_to_write_is_left_alone() {
    let (mut tuner, view) = (VmWriteback::default(), view());
    // 10 MiB wait, and calls are slow all the same.
    let signal = seen(SYNC_SLOW, 50e6, 10e6, 1200e6, 0.9, 0.3);
    for _ in 0..20 {
        assert!(tuner.on_signal(&signal, &view).is_empty());
    }
}

#[test]
fn writers_alone_change_nothing() {
    let (mut tuner, mut view) = (VmWriteback::default(), view());
    for second in 0..1000 {
        view.now = Duration::from_secs(1000 + second);
        let alone = seen(HELD, 50e6, 1200e6, 1200e6, 1.0, 0.0);
        assert_eq!(step(&mut tuner, &mut view, &alone), None);
    }
}

#[test]
fn copies_that_memory_takes_in_are_left_alone() {
    let (mut tuner, mut view) = (VmWriteback::default(), view());
    for second in 0..1000 {
        view.now += Duration::from_secs(1);
        // Each twelve seconds a copy, held for four of them, and written until the ninth.
        let signal = match second % 12 {
            0..4 => slow(1200e6),
            4..9 => seen(SYNC_SLOW, 50e6, 700e6, 1200e6, 0.2, 0.2),
            _ => continue,
        };
        assert_eq!(step(&mut tuner, &mut view, &signal), None, "{second}");
    }
}

#[test]
fn what_nobody_needs_any_more_goes_back() {
    let (mut tuner, mut view) = (VmWriteback::default(), view());
    hold(&mut tuner, &mut view);
    step(&mut tuner, &mut view, &slow(1200e6)).unwrap();
    let alone = seen(HELD, 50e6, 300e6, 300e6, 1.0, 0.0);
    view.now = Duration::from_secs(1299);
    assert!(tuner.on_signal(&alone, &view).is_empty(), "not yet");
    let quick = seen(HELD, 50e6, 300e6, 300e6, 1.0, 9.0);
    view.now = Duration::from_secs(2000);
    assert!(
        tuner.on_signal(&quick, &view).is_empty(),
        "calls that are quick for the limit is low"
    );
    let proposals = tuner.on_signal(&alone, &view);
    assert_eq!(proposals.len(), 1);
    assert_eq!(proposals[0].target, Value::word("ratio-20"));
}

#[test]
fn a_faster_disk_gets_more() {
    let (mut tuner, mut view) = (VmWriteback::default(), view());
    hold(&mut tuner, &mut view);
    step(&mut tuner, &mut view, &slow(60e6)).unwrap();
    let fast = seen(HELD, 500e6, 15e6, 15e6, 1.0, 0.0);
    let raised = step(&mut tuner, &mut view, &fast).unwrap();
    assert_eq!(raised, whole(150e6));
    // A limit that the tuner did not set is not its business.
    let untouched = super::tests::view();
    assert!(
        VmWriteback::default()
            .on_signal(&fast, &untouched)
            .is_empty()
    );
}

/// Adversary: a writer that comes and goes every twenty seconds, with somebody in fsync(2) all the time. The governor is
/// the real one.
#[test]
fn load_by_turns_ends_at_one_value() {
    let (mut tuner, mut view) = (VmWriteback::default(), view());
    let mut governor = Governor::new(Policy::default());
    for tunable in tuner.tunables() {
        governor.register(tunable, "vm-writeback").unwrap();
    }
    let (mut limit, mut changes, start) = (1200e6, Vec::new(), Instant::now());
    for second in 0..3600 {
        view.now = Duration::from_secs(1000 + second);
        let now = start + Duration::from_secs(second);
        let busy = second / 20 % 2 == 0;
        let signal = match busy {
            true if limit > 2.0 * 15e6 => slow(limit),
            true => seen(HELD, 50e6, limit, limit, 1.0, 6.0),
            false => continue,
        };
        for proposal in tuner.on_signal(&signal, &view) {
            let current = view.value(&proposal.knob).unwrap();
            let moment = Moment {
                instant: now,
                ..Moment::now()
            };
            let verdict = governor.decide(&proposal, &current, view.machine(), moment);
            if let Decision::Apply(target) = verdict {
                governor.changed(&proposal.knob, target.direction_from(&current), now);
                limit = target.last() as f64;
                changes.push(limit);
                let proposal = Proposal { target, ..proposal };
                view.apply(&[proposal]);
            }
        }
    }
    assert!(changes.len() <= 4, "{changes:?}");
    assert!(changes.is_sorted_by(|a, b| a > b), "{changes:?}");
}

/// What is counted in a second: calls of fsync that end, tasks in one, pages written.
type Rates = [f64; 3];

/// What the tuner's own trial of a parameter says of rates without and with the change.
fn tried(tunable: &str, before: Rates, after: Rates) -> (Outcome, Action) {
    let plan = VmWriteback::default().trial(tunable);
    let lengths = [plan.baseline.length, plan.trial.length].map(|length| length.as_secs_f64());
    let (record, action) = trial(plan, |counter, with, window| {
        let (rates, seconds) = if with {
            (after, lengths[1])
        } else {
            (before, lengths[0])
        };
        let rate = match counter {
            Counter::Own(name) if name == SYNCS => rates[0],
            Counter::Own(_) => rates[1],
            Counter::VmStat(_) => rates[2],
            _ => 0.5,
        };
        // A tenth up and down.
        rate * seconds * (0.9 + 0.05 * (window * 7 % 5) as f64)
    });
    (record.outcome, action)
}

const BOTH: [&str; 2] = [DIRTY, BACKGROUND];

#[test]
fn a_trial_keeps_what_helps() {
    for tunable in BOTH {
        // As recorded of a disk that writes 100 MiB a second, from 450 MB to 34 MiB.
        let verdict = tried(tunable, [0.4, 1.0, 26_000.0], [5.0, 0.9, 25_500.0]);
        assert_eq!(verdict, (Outcome::Better, Action::Kept), "{tunable}");
    }
}

/// Adversary: a program that works on 300 MB over and over in memory, with somebody in fsync(2) beside it. The calls get
/// quicker, and the program has to wait for the disk for data that it was about to replace.
#[test]
fn a_gain_at_the_cost_of_another_goes_back() {
    let worse = (Outcome::Worse, Action::Reverted);
    for tunable in BOTH {
        let more = tried(tunable, [0.4, 1.0, 6_000.0], [5.0, 0.9, 25_000.0]);
        assert_eq!(more, worse, "{tunable}");
        // A limit too low for the disk: it stands idle in between.
        let idle = tried(tunable, [0.4, 1.0, 26_000.0], [5.0, 0.9, 12_000.0]);
        assert_eq!(idle, worse, "{tunable}");
    }
}

#[test]
fn what_does_not_help_goes_back() {
    for tunable in BOTH {
        let (outcome, action) = tried(tunable, [0.4, 1.0, 26_000.0], [0.4, 1.0, 26_000.0]);
        assert_ne!(outcome, Outcome::Better, "{tunable}");
        assert_eq!(action, Action::Reverted, "{tunable}");
    }
}

#[test]
fn bounds_suit_the_smallest_and_the_largest_machine() {
    for (memory, most) in [(TINY, 51), (24 << 30, 4915), (HUGE, 419_430)] {
        let machine = machine(memory);
        for tunable in VmWriteback::default().tunables() {
            let (low, high) = tunable.bound.ranges(&machine)[0];
            assert!(low < high, "{}", tunable.name);
            // The kernel takes no less than two pages, of 64 KiB at most.
            assert!(low >= 2 * 65536);
            if tunable.name == DIRTY {
                assert_eq!(high / MIB, most);
            }
        }
    }
}

#[test]
fn a_kernel_without_the_parameter_gets_no_proposal() {
    let mut view = view();
    view.values.clear();
    assert!(
        VmWriteback::default()
            .on_signal(&slow(1200e6), &view)
            .is_empty()
    );
}

#[test]
fn values_have_both_spellings() {
    assert_eq!(sysctl::spelled(DIRTY, "ratio-20").0, "vm.dirty_ratio");
    assert_eq!(
        sysctl::spelled(BACKGROUND, "ratio-10").0,
        "vm.dirty_background_ratio"
    );
}

proptest! {
    #[test]
    fn proposals_are_whole_and_never_below_the_least(
        numbers in prop::collection::vec(0.0f64..1e13, 4), held in 0.0f64..4.0, slow in any::<bool>()
    ) {
        let scenario = if slow { SYNC_SLOW } else { HELD };
        let signal = seen(scenario, numbers[0], numbers[1], numbers[2], held, numbers[3]);
        let mut tuner = VmWriteback::default();
        for _ in 0..2 * CALM {
            for proposal in tuner.on_signal(&signal, &view()) {
                let target = proposal.target.last();
                prop_assert!(target >= LEAST / 2 && target % MIB == 0);
                prop_assert!((target as f64) < numbers[2]);
            }
        }
    }
}
