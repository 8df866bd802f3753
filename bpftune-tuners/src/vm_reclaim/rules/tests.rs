use std::time::Instant;

use bpftune_core::{
    governor::{Governor, Moment, Policy},
    trial::{Action, Outcome},
};
use proptest::prelude::*;

use super::*;
use crate::{
    testing::{HOST, HUGE, Recorded, TINY, machine, signal, targets, trial},
    tries::{FORGOTTEN, USELESS},
};

fn view() -> Recorded {
    Recorded::new(&[(FACTOR, HOST, &[10])])
}

/// As recorded of bursts beside a reader that fills the page cache.
fn stalls(over: f64, stalled: f64) -> Signal {
    signal(
        STALLS,
        &[
            ("over", over),
            ("stalled", stalled),
            ("calls", 900.0),
            ("slow", 1.0),
            ("allocated", 1.5),
        ],
    )
}

#[test]
fn what_lasts_is_raised_step_by_step_to_the_bound() {
    let (mut tuner, mut view) = (VmReclaim::default(), view());
    assert!(
        tuner.on_signal(&stalls(2.0, 0.3), &view).is_empty(),
        "too short to tell"
    );
    let mut steps = Vec::new();
    loop {
        let proposals = tuner.on_signal(&stalls(5.0, 0.3), &view);
        let Some(proposal) = proposals.first() else {
            break;
        };
        steps.push(proposal.target.last());
        view.apply(&proposals);
    }
    assert_eq!(steps, [40, 150]);
}

#[test]
fn few_stalls_change_nothing() {
    let (mut tuner, view) = (VmReclaim::default(), view());
    assert!(
        tuner
            .on_signal(&stalls(10.0, MATTERS * 0.9), &view)
            .is_empty()
    );
}

#[test]
fn a_higher_value_of_the_admin_stays() {
    let (mut tuner, mut view) = (VmReclaim::default(), view());
    view.values
        .insert(crate::testing::at(FACTOR, HOST), Value::from(400));
    assert!(tuner.on_signal(&stalls(10.0, 0.5), &view).is_empty());
}

/// Adversary: no page cache to free, and tasks that want memory all the same.
#[test]
fn where_memory_is_short_it_steps_back() {
    let (mut tuner, mut view) = (VmReclaim::default(), view());
    let plenty = view.machine.memory_available;
    view.machine.memory_available = view.machine.memory_total / 10;
    assert!(
        tuner.on_signal(&stalls(10.0, 0.5), &view).is_empty(),
        "nothing to give back"
    );
    view.machine.memory_available = plenty;
    let raised = tuner.on_signal(&stalls(10.0, 0.5), &view);
    view.apply(&raised);
    assert!(
        tuner.on_memory_pressure(&view).is_empty(),
        "stalls, and memory enough"
    );
    view.machine.memory_available = view.machine.memory_total / 10;
    let back = tuner.on_memory_pressure(&view);
    assert_eq!(targets(&back), [(FACTOR, 25)]);
    assert_eq!(tuner.on_signal(&stalls(10.0, 0.5), &view), back);
    for _ in 0..10 {
        let back = tuner.on_memory_pressure(&view);
        view.apply(&back);
    }
    assert_eq!(
        view.values[&crate::testing::at(FACTOR, HOST)],
        Value::from(10)
    );
}

/// What grows in a second: seconds waited, GiB allocated, pages read again, share of time that all waited.
type Rates = [f64; 4];

fn tried(before: Rates, after: Rates) -> (Record, Action) {
    let plan = VmReclaim::default().trial(FACTOR);
    trial(plan, |counter, with, window| {
        let rates = if with { after } else { before };
        let rate = match counter {
            Counter::Own(name) if name == STALLED => rates[0],
            Counter::Own(_) => rates[1],
            Counter::VmStat(name) if name.ends_with("_file") => rates[2],
            Counter::Stall { .. } => rates[3],
            _ => 0.0,
        };
        // A tenth up and down.
        rate * (0.9 + 0.05 * (window * 7 % 5) as f64)
    })
}

#[test]
fn a_trial_keeps_what_helps_and_nothing_else() {
    let verdict = |before, after| {
        let (record, action) = tried(before, after);
        (record.outcome, action)
    };
    let before = [0.3, 1.5, 20_000.0, 0.05];
    let helped = verdict(before, [0.01, 1.5, 20_500.0, 0.01]);
    assert_eq!(helped, (Outcome::Better, Action::Kept));
    let (outcome, action) = verdict(before, before);
    assert_ne!(outcome, Outcome::Better);
    assert_eq!(action, Action::Reverted);
    let ended = verdict(before, [0.0, 0.001, 0.0, 0.0]);
    assert_ne!(ended.0, Outcome::Better, "a load that ended proves nothing");
    // Adversary: what the pages kept back held has to be read again.
    let bought = verdict(before, [0.01, 1.5, 40_000.0, 0.05]);
    assert_eq!(bought, (Outcome::Worse, Action::Reverted));
    let stalled = verdict(before, [0.01, 1.5, 20_000.0, 0.2]);
    assert_eq!(stalled, (Outcome::Worse, Action::Reverted));
}

#[test]
fn one_step_is_tried_at_a_time() {
    let (mut tuner, mut view) = (VmReclaim::default(), view());
    let step = tuner.on_signal(&stalls(10.0, 1.5), &view).remove(0);
    tuner.decided(&step, &Decision::Apply(step.target.clone()));
    view.apply(std::slice::from_ref(&step));
    assert!(tuner.on_signal(&stalls(10.0, 1.5), &view).is_empty());
    let helped = tried([0.3, 1.5, 0.0, 0.0], [0.1, 1.5, 0.0, 0.0]).0;
    tuner.tried(&step.knob, &helped);
    let next = tuner.on_signal(&stalls(10.0, 1.5), &view);
    assert_eq!(targets(&next), [(FACTOR, MOST)]);
    // One that never tells holds nothing up for ever.
    tuner.decided(&next[0], &Decision::Apply(next[0].target.clone()));
    view.now += FORGOTTEN;
    assert_eq!(tuner.on_signal(&stalls(10.0, 1.5), &view), next);
}

#[test]
fn what_did_not_help_is_not_tried_again_soon() {
    let (mut tuner, mut view) = (VmReclaim::default(), view());
    assert_eq!(tuner.on_signal(&stalls(10.0, 1.5), &view).len(), 1);
    let same = [1.5, 3.0, 0.0, 0.1];
    let knob = crate::testing::at(FACTOR, HOST);
    tuner.tried(&knob, &tried(same, same).0);
    view.now += USELESS - Duration::from_secs(1);
    assert!(tuner.on_signal(&stalls(10.0, 1.5), &view).is_empty());
    view.now += Duration::from_secs(1);
    assert_eq!(tuner.on_signal(&stalls(10.0, 1.5), &view).len(), 1);
}

/// Adversary: bursts for half a minute, silence for as long, over and over. The governor is the real one.
#[test]
fn load_by_turns_ends_at_one_value() {
    let (mut tuner, mut view) = (VmReclaim::default(), view());
    let mut governor = Governor::new(Policy::default());
    governor
        .register(tuner.tunables().remove(0), "vm-reclaim")
        .unwrap();
    let (mut changes, start) = (Vec::new(), Instant::now());
    for second in 0..3600 {
        view.now += Duration::from_secs(1);
        if second / 30 % 2 == 1 {
            continue;
        }
        let signal = stalls(
            (second % 30) as f64,
            if changes.len() < 2 { 0.3 } else { 0.01 },
        );
        for proposal in tuner.on_signal(&signal, &view) {
            let current = view.value(&proposal.knob).unwrap();
            let instant = start + Duration::from_secs(second);
            let moment = Moment {
                instant,
                ..Moment::now()
            };
            let verdict = governor.decide(&proposal, &current, view.machine(), moment);
            if let Decision::Apply(target) = verdict {
                governor.changed(&proposal.knob, target.direction_from(&current), instant);
                tuner.decided(&proposal, &Decision::Apply(target.clone()));
                changes.push(target.last());
                view.apply(&[Proposal { target, ..proposal }]);
            }
        }
    }
    assert_eq!(changes, [40, 150]);
}

#[test]
fn a_bounded_share_of_memory_is_kept_back() {
    let tunable = VmReclaim::default().tunables().remove(0);
    for memory in [TINY, HUGE] {
        let (low, high) = tunable.bound.ranges(&machine(memory))[0];
        assert!(low <= 10 && high == MOST);
    }
    let here = Machine::now().unwrap();
    let cost = tunable
        .cost
        .bytes(&tunable, &Value::from(MOST), here.page_size);
    let share = cost as f64 / here.memory_total as f64;
    assert!((0.025..0.04).contains(&share), "{share}");
}

#[test]
fn a_kernel_without_the_parameter_gets_no_proposal() {
    let mut view = view();
    view.values.clear();
    assert!(
        VmReclaim::default()
            .on_signal(&stalls(10.0, 0.5), &view)
            .is_empty()
    );
}

proptest! {
    #[test]
    fn proposals_lie_within_the_bound(now in 1i64..4000, over in 0.0f64..20.0, stalled in 0.0f64..1e9) {
        let view = Recorded::new(&[(FACTOR, HOST, &[now])]);
        for proposal in VmReclaim::default().on_signal(&stalls(over, stalled), &view) {
            prop_assert!(proposal.target.last() > now && proposal.target.last() <= MOST);
        }
    }
}
