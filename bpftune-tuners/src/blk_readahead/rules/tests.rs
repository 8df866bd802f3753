use std::cell::Cell;

use bpftune_core::{Figure, NetnsCookie, Urgency, trial::Action};
use proptest::prelude::*;

use super::*;
use crate::testing::trial;

const KNOB: &str = "/sys/block/loop0/queue/read_ahead_kb";

thread_local! {
    /// Seconds of the test.
    static CLOCK: Cell<u64> = const { Cell::new(1000) };
}

/// What it says to signals that have come each second for a while.
fn says(tuner: &mut BlkReadahead, seen: &Signal, view: &Recorded) -> Vec<Proposal> {
    for _ in 0..8 {
        CLOCK.set(CLOCK.get() + 1);
        let proposals = tuner.on_signal(seen, view);
        if !proposals.is_empty() {
            return proposals;
        }
    }
    CLOCK.set(CLOCK.get() + 1);
    tuner.on_signal(seen, view)
}

struct Recorded {
    now: Option<i64>,
    originals: Vec<(Knob, Value)>,
    machine: Machine,
}

impl View for Recorded {
    fn value(&self, knob: &Knob) -> Option<Value> {
        self.now.filter(|_| knob.tunable == KNOB).map(Value::from)
    }
    fn machine(&self) -> &Machine {
        &self.machine
    }
    fn host_netns(&self) -> NetnsCookie {
        NetnsCookie(1)
    }
    fn now(&self) -> Duration {
        Duration::from_secs(CLOCK.get())
    }
    fn changed(&self) -> Vec<(Knob, Value)> {
        self.originals.clone()
    }
}

fn view(now: i64) -> Recorded {
    Recorded {
        now: Some(now),
        originals: Vec::new(),
        machine: Machine {
            memory_total: 24 << 30,
            memory_available: 20 << 30,
            page_size: 4096,
            cpus: 2,
            tcp_memory: 0,
            tcp_memory_pressure: 1 << 30,
        },
    }
}

fn signal(scenario: &'static str, read_ahead: i64, around: f64, full: f64, other: f64) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: NetnsCookie(1),
        subject: "loop0".into(),
        count: 1,
        figures: vec![
            Figure::new("read_ahead", read_ahead as f64, "KiB"),
            Figure::new("around", around, "/s"),
            Figure::new("full", full, "/s"),
            Figure::new("other", other, "/s"),
        ],
    }
}

fn wasted(read_ahead: i64) -> Signal {
    signal(WASTED, read_ahead, 300.0, 0.0, 2.0)
}

fn short(read_ahead: i64) -> Signal {
    signal(SHORT, read_ahead, 0.0, 5000.0, 10.0)
}

fn knob() -> Knob {
    Knob {
        tunable: KNOB.into(),
        netns: NetnsCookie(1),
    }
}

fn record(outcome: Outcome, without: i64, with: i64) -> Record {
    Record {
        outcome,
        value_without: without.to_string(),
        value_with: with.to_string(),
        ..serde_json::from_value(serde_json::json!({
            "version": 1, "outcome": "same", "action": "kept", "why": "", "value_without": "", "value_with": "",
            "layout": "before-after", "windows_without": 1, "windows_with": 1, "window_ms": 1, "settle_ms": 1,
            "alpha": 0.05, "figures": [], "guards": [], "beside": []
        }))
        .unwrap()
    }
}

/// What it proposes, let through and tried with this outcome.
fn step(tuner: &mut BlkReadahead, seen: &Signal, now: i64, outcome: Outcome) -> Option<i64> {
    let proposal = says(tuner, seen, &view(now)).pop()?;
    assert_eq!(proposal.knob, knob());
    tuner.decided(&proposal, &Decision::Apply(proposal.target.clone()));
    let target = proposal.target.last();
    let during = tuner.on_signal(seen, &view(target));
    assert!(during.is_empty(), "nothing while the trial goes on");
    tuner.tried(&knob(), &record(outcome, now, target));
    Some(target)
}

#[test]
fn waste_lowers_step_by_step_while_it_helps() {
    let mut tuner = BlkReadahead::default();
    let mut now = 8192;
    let mut steps = Vec::new();
    while let Some(target) = step(&mut tuner, &wasted(now), now, Outcome::Better) {
        steps.push(target);
        now = target;
    }
    assert_eq!(steps, [1024, 128, 32]);
}

#[test]
fn short_windows_raise_within_the_bound() {
    let mut tuner = BlkReadahead::default();
    let mut now = 16;
    let mut steps = Vec::new();
    while let Some(target) = step(&mut tuner, &short(now), now, Outcome::Better) {
        steps.push(target);
        now = target;
    }
    assert_eq!(steps, [128, 1024, 8192]);
    let few = signal(SHORT, 128, 0.0, 63.0, 0.0);
    assert!(says(&mut BlkReadahead::default(), &few, &view(128)).is_empty());
}

#[test]
fn bursts_of_some_seconds_change_nothing() {
    let mut tuner = BlkReadahead::default();
    for _ in 0..100 {
        for _ in 0..5 {
            CLOCK.set(CLOCK.get() + 1);
            assert!(tuner.on_signal(&wasted(8192), &view(8192)).is_empty());
        }
        CLOCK.set(CLOCK.get() + 6);
    }
}

#[test]
fn one_trouble_is_not_the_beginning_of_another() {
    let mut tuner = BlkReadahead::default();
    let few = signal(SHORT, 128, 0.0, 63.0, 0.0);
    assert!(says(&mut tuner, &few, &view(128)).is_empty());
    CLOCK.set(CLOCK.get() + 1);
    assert!(tuner.on_signal(&wasted(128), &view(128)).is_empty());
    assert_eq!(says(&mut tuner, &wasted(128), &view(128)).len(), 1);
}

#[test]
fn what_did_not_help_is_not_tried_again() {
    for outcome in [Outcome::Same, Outcome::Worse, Outcome::Unclear] {
        let mut tuner = BlkReadahead::default();
        assert_eq!(step(&mut tuner, &wasted(8192), 8192, outcome), Some(1024));
        assert_eq!(step(&mut tuner, &wasted(1024), 1024, outcome), None);
        assert_eq!(step(&mut tuner, &wasted(8192), 8192, outcome), None);
        // Below what was wasteful, the other way is open.
        assert_eq!(step(&mut tuner, &short(128), 128, outcome), Some(512));
    }
}

#[test]
fn load_that_wants_both_by_turns_ends_between_them() {
    let mut tuner = BlkReadahead::default();
    let mut now = 4096;
    let mut steps = 0;
    for turn in 0..100 {
        let seen = if turn % 2 == 0 {
            wasted(now)
        } else {
            short(now)
        };
        if let Some(target) = step(&mut tuner, &seen, now, Outcome::Better) {
            now = target;
            steps += 1;
        }
    }
    assert!(steps <= 5, "{steps} changes");
    assert!((128..=4096).contains(&now), "{now}");
}

#[test]
fn files_opened_before_say_nothing_of_today() {
    let mut tuner = BlkReadahead::default();
    assert!(says(&mut tuner, &wasted(8192), &view(128)).is_empty());
    assert!(says(&mut tuner, &short(16), &view(128)).is_empty());
}

#[test]
fn streams_beside_the_waste_keep_what_they_need() {
    let mut tuner = BlkReadahead::default();
    let mixed = signal(WASTED, 8192, 300.0, 60.0, 30.0);
    assert!(says(&mut tuner, &mixed, &view(8192)).is_empty());
}

#[test]
fn readahead_that_is_switched_off_stays_off() {
    let mut tuner = BlkReadahead::default();
    let seen = signal(SHORT, 0, 0.0, 1e6, 0.0);
    assert!(says(&mut tuner, &seen, &view(0)).is_empty());
}

#[test]
fn a_window_below_the_least_grows_to_the_least_at_once() {
    let mut tuner = BlkReadahead::default();
    let seen = signal(SHORT, 3, 0.0, 1e6, 0.0);
    let proposal = says(&mut tuner, &seen, &view(3)).pop().unwrap();
    assert_eq!(proposal.target.last(), LEAST_KIB);
}

#[test]
fn a_device_that_vanished_gets_no_proposal() {
    let mut tuner = BlkReadahead::default();
    let gone = Recorded {
        now: None,
        ..view(0)
    };
    assert!(says(&mut tuner, &wasted(8192), &gone).is_empty());
}

#[test]
fn a_trial_that_never_tells_is_forgotten() {
    let mut tuner = BlkReadahead::default();
    let proposal = says(&mut tuner, &wasted(8192), &view(8192)).pop().unwrap();
    tuner.decided(&proposal, &Decision::Apply(proposal.target.clone()));
    // The write failed, or the operator took it back: the value is the old one.
    assert_eq!(says(&mut tuner, &wasted(8192), &view(8192)).len(), 1);
}

#[test]
fn memory_pressure_gives_back_what_was_raised() {
    let mut tuner = BlkReadahead::default();
    let raised = Recorded {
        originals: vec![(knob(), 128.into())],
        ..view(4096)
    };
    let given = tuner.on_memory_pressure(&raised).pop().unwrap();
    assert_eq!((given.target.last(), given.urgency), (2048, Urgency::Harm));
    let lowered = Recorded {
        originals: vec![(knob(), 8192.into())],
        ..view(128)
    };
    assert!(tuner.on_memory_pressure(&lowered).is_empty());
}

/// Pages asked for, those of mappings among them, and the share of time that all tasks waited for a disk, without and
/// with the change.
fn tried(pages: [f64; 2], mapped: [f64; 2], waited: [f64; 2]) -> (Outcome, Action) {
    let (record, action) = trial(
        BlkReadahead::default().trial(READ_AHEAD),
        |counter, with, window| {
            let wobble = 1.0 + (window * 7 % 5) as f64 * 0.01;
            let side = usize::from(with);
            // Windows are of half a second.
            wobble
                * match counter {
                    Counter::Own(name) if name == MAPPED => mapped[side] / 2.0,
                    Counter::Own(_) => pages[side] / 2.0,
                    Counter::Stall {
                        resource: Resource::Io,
                        ..
                    } => waited[side] / 2.0,
                    _ => 0.0,
                }
        },
    );
    (record.outcome, action)
}

#[test]
fn a_reader_that_is_faster_may_wait_for_a_larger_part_of_its_time() {
    // As it was where 32 KiB became 256.
    assert_eq!(
        tried([112e3, 318e3], NONE, [0.50, 0.65]),
        (Outcome::Better, Action::Kept)
    );
    assert_eq!(
        tried([318e3, 320e3], NONE, [0.30, 0.65]),
        (Outcome::Worse, Action::Reverted)
    );
    assert_eq!(
        tried([318e3, 320e3], NONE, [0.0, 0.2]),
        (Outcome::Worse, Action::Reverted)
    );
}

const NONE: [f64; 2] = [0.0; 2];

#[test]
fn streams_do_not_gain_what_readers_of_mappings_lose() {
    // As it was where 128 KiB became 1,024.
    assert_eq!(
        tried([165e3, 274e3], [4.2e3, 0.76e3], [0.5; 2]),
        (Outcome::Worse, Action::Reverted)
    );
    assert_eq!(
        tried([165e3, 274e3], [4.2e3, 4.2e3], [0.5; 2]),
        (Outcome::Better, Action::Kept)
    );
    // Programs that start beside the streams are no load.
    assert_eq!(
        tried([165e3, 274e3], [19.0, 4.0], [0.5; 2]),
        (Outcome::Better, Action::Kept)
    );
}

#[test]
fn what_cannot_be_told_is_taken_back() {
    // As it was where 1,024 KiB became 4,096: a load that ended would look the same.
    assert_eq!(
        tried([299e3, 175e3], NONE, [0.6; 2]),
        (Outcome::Unclear, Action::Reverted)
    );
}

proptest! {
    #[test]
    fn proposals_are_whole_pages_within_the_bound(
        windows in prop::collection::vec(
            (prop::collection::vec(0.0f64..1e7, 3), prop_oneof![0i64..200, 0i64..20_000], any::<bool>()), 1..4
        )
    ) {
        let mut tuner = BlkReadahead::default();
        for (numbers, now, waste) in windows {
            let scenario = if waste { WASTED } else { SHORT };
            let seen = signal(scenario, now, numbers[0], numbers[1], numbers[2]);
            for proposal in says(&mut tuner, &seen, &view(now)) {
                let target = proposal.target.last();
                prop_assert!((LEAST_KIB..=MOST_KIB).contains(&target) && target.count_ones() == 1);
                prop_assert!(waste == (target < now));
            }
        }
    }
}
