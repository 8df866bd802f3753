use std::cell::Cell;

use super::*;
use crate::stats::Direction;

fn snapshot(start: Instant, ms: u64, values: &[f64]) -> Snapshot {
    Snapshot {
        at: start + Duration::from_millis(ms),
        values: values.to_vec(),
    }
}

/// Octets in a second, segments sent in a second, share of them sent again.
type Rates = (f64, f64, f64);

/// A trial of the default plan: 30 ms before, then a second after settling. Its record.
fn tried(before: Rates, after: Rates) -> Record {
    let plan = Rc::new(Plan::default());
    let counters = plan.counters();
    assert_eq!(counters.len(), 4, "in, out, again, sent");
    let start = Instant::now();
    let totals = Cell::new([0.0; 4]);
    let mut noise = fastrand::Rng::with_seed(7);
    let mut at = |ms: u64, passed_ms: f64, (octets, segments, again): Rates| {
        let mut now = totals.get();
        let seconds = passed_ms / 1e3 * (0.95 + noise.f64() * 0.1);
        now[0] += octets * seconds;
        now[2] += (segments * again * seconds).round();
        now[3] += (segments * seconds).round();
        totals.set(now);
        snapshot(start, ms, &now)
    };
    let mut without = Side::default();
    let mut last = at(0, 0.0, before);
    for i in 1..=3 {
        let next = at(i * 10, 10.0, before);
        without.add(&plan.guards, &counters, &last, &next);
        last = next;
    }
    let changed = start + Duration::from_millis(30);
    let mut trial = Trial::new(DecisionId(1), 1.into(), 2.into(), plan, without, changed);
    assert_eq!(trial.due(), changed + Duration::from_secs(2));
    // An overshoot at the start is no harm: it is not measured.
    assert_eq!(
        trial.sample(at(2030, 2000.0, (after.0, after.1, 0.3))),
        Step::Wait
    );
    for i in 1..=10 {
        assert_eq!(
            trial.due(),
            start + Duration::from_millis(2030 + (i - 1) * 100 + 100)
        );
        match trial.sample(at(2030 + i * 100, 100.0, after)) {
            Step::Wait => assert!(i < 10),
            Step::Over(record) => return *record,
            Step::Switch { .. } => panic!("nothing is switched"),
        }
    }
    panic!("no verdict after {} windows", 10);
}

fn outcome(before: Rates, after: Rates) -> Outcome {
    tried(before, after).outcome
}

#[test]
fn judges() {
    let slow = (1e6, 1000.0, 0.0);
    assert_eq!(outcome(slow, (10e6, 10_000.0, 0.0005)), Outcome::Better);
    assert_eq!(
        outcome(slow, (0.0, 0.0, 0.0)),
        Outcome::Unclear,
        "the transfer ended"
    );
    assert_eq!(
        outcome(slow, (1.5e6, 1500.0, 0.05)),
        Outcome::Worse,
        "half more, for a twentieth of the segments"
    );
    assert_eq!(
        outcome(slow, (10e6, 10_000.0, 0.05)),
        Outcome::Better,
        "ten times as much is worth that"
    );
    assert_eq!(
        outcome(slow, (10e6, 10_000.0, 0.15)),
        Outcome::Worse,
        "not that"
    );
    assert_eq!(
        outcome(slow, (1e3, 20.0, 0.5)),
        Outcome::Unclear,
        "too few segments to judge"
    );
    let lossy = (1e6, 5000.0, 0.05);
    assert_ne!(
        outcome(lossy, (1e6, 5000.0, 0.07)),
        Outcome::Worse,
        "not twice as much"
    );
    assert_ne!(outcome(slow, slow), Outcome::Worse);
}

#[test]
fn tells_the_story_with_its_uncertainty() {
    let mut record = tried((1e6, 1000.0, 0.0), (10e6, 10_000.0, 0.05));
    record.beside = vec!["D7".into()];
    (record.action, record.why) = (Action::Kept, "it helped".into());
    let story = record.sentences().join("\n");
    for part in [
        "Mann-Whitney",
        "3 windows",
        "10 of 100 ms",
        "Mbit/s",
        "between",
        "5 of 100",
        "D7 was",
        "kept",
        "the price",
    ] {
        assert!(story.contains(part), "{part} is not in:\n{story}");
    }
    assert!(
        record.summary().starts_with("better: goodput 7.9"),
        "{}",
        record.summary()
    );
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
}

#[test]
fn a_harm_is_plain_before_the_last_window() {
    let plan = Plan {
        guards: vec![Guard::own_level("latency", 0.05, 1e3, "ms")],
        baseline: Windows {
            count: 14,
            length: Duration::from_millis(100),
        },
        trial: Windows {
            count: 14,
            length: Duration::from_millis(100),
        },
        ..Plan::default()
    };
    let counters = plan.counters();
    let start = Instant::now();
    let mut without = Side::default();
    let read = |ms: u64, latency: f64| snapshot(start, ms, &[latency + (ms % 700) as f64 * 1e-7]);
    for i in 0..14 {
        without.add(
            &plan.guards,
            &counters,
            &read(i * 100, 0.010),
            &read(i * 100 + 100, 0.010),
        );
    }
    let mut trial = Trial::new(
        DecisionId(1),
        1.into(),
        2.into(),
        plan.into(),
        without,
        start,
    );
    let mut looks = 0;
    let record = loop {
        looks += 1;
        match trial.sample(read(1400 + looks * 100, 0.020)) {
            Step::Over(record) => break record,
            step => assert_eq!(step, Step::Wait),
        }
    };
    assert_eq!(record.outcome, Outcome::Worse);
    assert_eq!(record.guards[0].better, Direction::Lower);
    assert!(looks < 10, "after {looks} windows");
}

/// A knob whose bad value costs a tenth, on a level that drifts by half within the trial and scatters by a twentieth.
fn interleaved(harm: f64, seed: u64) -> (Record, u32) {
    let mut guard = Guard::goodput();
    guard.harm = Harm::Counts;
    guard.metric.margin = 0.02;
    guard.measure = Measure::Level(Counter::Own("rate".into()));
    let plan = Plan {
        guards: vec![guard],
        ..Plan::default()
    }
    .interleaved(Duration::from_millis(50), 14, Duration::from_millis(100));
    let start = Instant::now();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut trial = Trial::new(
        DecisionId(1),
        1.into(),
        2.into(),
        plan.into(),
        Side::default(),
        start,
    );
    let (mut with, mut switches) = (true, 0);
    loop {
        let now = trial.due();
        let drift = 1.0 + 0.5 * now.duration_since(start).as_secs_f64() / 4.0;
        // A sum of twelve uniform numbers is close to normal, with a deviation of one.
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        let level = 100.0 * drift * (1.0 + 0.05 * normal) * if with { 1.0 - harm } else { 1.0 };
        match trial.sample(Snapshot {
            at: now,
            values: vec![level],
        }) {
            Step::Wait => {}
            Step::Switch { with: on } => {
                assert_ne!(on, with);
                (with, switches) = (on, switches + 1);
            }
            Step::Over(record) => {
                assert!(with, "the change is in place at the end");
                return (*record, switches);
            }
        }
    }
}

#[test]
fn switching_to_and_fro_sees_through_drift() {
    let share = |harm: f64| {
        let worse = (0..200).filter(|seed| interleaved(harm, *seed).0.outcome == Outcome::Worse);
        worse.count() as f64 / 200.0
    };
    assert!(share(0.1) >= 0.97, "a tenth worse: {}", share(0.1));
    assert!(share(0.0) <= 0.05, "harmless: {}", share(0.0));
    assert_eq!(interleaved(0.0, 1).1, 14, "with, without, without, with");
}

#[test]
fn a_further_change_begins_anew() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let plan = Rc::new(Plan::default());
    let mut trial = Trial::new(
        DecisionId(1),
        1.into(),
        2.into(),
        plan,
        Side::default(),
        start,
    );
    let values = [0.0; 4];
    assert_eq!(trial.sample(snapshot(start, 2000, &values)), Step::Wait);
    assert_eq!(trial.sample(snapshot(start, 2100, &values)), Step::Wait);
    trial.extend(DecisionId(2), 3.into(), at(2150));
    assert_eq!(trial.due(), at(4150));
    assert_eq!((trial.with.count, trial.decisions.len()), (0, 2));
}

#[test]
fn what_cannot_be_told_is_the_policys() {
    let keep = Policy::default();
    let revert = Policy {
        unclear: Unclear::Revert,
    };
    assert_eq!(decide(Outcome::Unclear, &keep, false).0, Action::Kept);
    assert_eq!(decide(Outcome::Unclear, &revert, false).0, Action::Reverted);
    for policy in [keep, revert] {
        assert_eq!(decide(Outcome::Worse, &policy, false).0, Action::Reverted);
        assert_eq!(
            decide(Outcome::Same, &policy, false).0,
            Action::Kept,
            "no harm, surely"
        );
        assert_eq!(decide(Outcome::Better, &policy, false).0, Action::Kept);
        for (outcome, action) in [
            (Outcome::Same, Action::Reverted),
            (Outcome::Unclear, Action::Reverted),
            (Outcome::Better, Action::Kept),
        ] {
            assert_eq!(decide(outcome, &policy, true).0, action, "{outcome:?}");
        }
    }
}

#[test]
fn a_counter_that_is_missing_is_no_zero() {
    let guards = [Guard::drops(10.0)];
    let counters = [Counter::DeviceDrops];
    let start = Instant::now();
    let mut side = Side::default();
    side.add(
        &guards,
        &counters,
        &snapshot(start, 0, &[f64::NAN]),
        &snapshot(start, 100, &[5.0]),
    );
    assert_eq!(side.level(0), None);
    side.add(
        &guards,
        &counters,
        &snapshot(start, 100, &[5.0]),
        &snapshot(start, 200, &[8.0]),
    );
    assert!((side.level(0).unwrap() - 30.0).abs() < 1e-9);
}
