use bpftune_core::{Figure, stats::Layout, trial::Action};

use super::*;
use crate::testing::{HOST, Recorded, at, targets};

/// A host whose kernel has both parameters.
fn view(autogroup: i64, slice: i64) -> Recorded {
    Recorded::new(&[
        (AUTOGROUP, HOST, &[autogroup]),
        (BASE_SLICE, HOST, &[slice]),
    ])
}

/// Of a hundred wake-ups so many waited for long, behind their own session and behind others.
fn waits(own: f64, others: f64) -> Signal {
    Signal {
        scenario: WAITS.into(),
        netns: HOST,
        subject: "editor".into(),
        count: 1,
        figures: [
            ("woken", 100.0),
            ("behind_own", own),
            ("behind_others", others),
            ("mean", 6.5),
            ("longest", 31.0),
        ]
        .map(|(name, value)| Figure::new(name, value, ""))
        .into(),
    }
}

fn record(with: &str, outcome: Outcome) -> Record {
    Record {
        version: Record::VERSION,
        outcome,
        action: Action::Kept,
        why: String::new(),
        value_without: "0".into(),
        value_with: with.into(),
        layout: Layout::BeforeAfter,
        windows_without: 6,
        windows_with: 12,
        window_ms: 250,
        settle_ms: 300,
        alpha: 0.01,
        guards: Vec::new(),
        figures: Vec::new(),
        beside: Vec::new(),
    }
}

#[test]
fn sessions_are_parted_where_others_are_in_the_way() {
    let wanted = CpuSched::default().on_signal(&waits(5.0, 40.0), &view(0, 3_000_000));
    assert_eq!(targets(&wanted), [(AUTOGROUP, 1)]);
    assert!(wanted[0].reason.contains("editor"), "{}", wanted[0].reason);
    assert_eq!(
        CpuSched::default().on_signal(&waits(5.0, 40.0), &view(1, 3_000_000)),
        [],
        "they are parted"
    );
}

#[test]
fn turns_get_shorter_within_a_session() {
    for (now, wanted) in [(4_000_000, 2_000_000), (1_400_000, 1_000_000)] {
        let found = CpuSched::default().on_signal(&waits(40.0, 5.0), &view(0, now));
        assert_eq!(targets(&found), [(BASE_SLICE, wanted)]);
    }
    for shortest in [SHORTEST_NS, 700_000] {
        let found = CpuSched::default().on_signal(&waits(40.0, 5.0), &view(0, shortest));
        assert_eq!(found, [], "{shortest}");
    }
}

#[test]
fn what_a_kernel_lacks_is_not_asked_for() {
    let nothing = Recorded::new(&[]);
    for signal in [waits(40.0, 5.0), waits(5.0, 40.0)] {
        assert_eq!(CpuSched::default().on_signal(&signal, &nothing), []);
    }
    // As under lockdown: one of them is there, and no substitute for the other.
    let one = Recorded::new(&[(AUTOGROUP, HOST, &[0])]);
    assert_eq!(CpuSched::default().on_signal(&waits(40.0, 5.0), &one), []);
}

#[test]
fn some_long_waits_are_normal() {
    let mut tuner = CpuSched::default();
    assert_eq!(tuner.on_signal(&waits(0.0, 11.0), &view(0, 3_000_000)), []);
    let mut torn = waits(0.0, 40.0);
    torn.figures.truncate(2);
    assert_eq!(tuner.on_signal(&torn, &view(0, 3_000_000)), []);
    let other = Signal {
        scenario: "another".into(),
        ..waits(0.0, 40.0)
    };
    assert_eq!(tuner.on_signal(&other, &view(0, 3_000_000)), []);
}

/// Builds that come and go, each for seconds: it tempts to switch with each of them.
#[test]
fn periodic_load_does_not_make_it_flap() {
    for outcome in [
        Outcome::Better,
        Outcome::Unclear,
        Outcome::Same,
        Outcome::Worse,
    ] {
        let (mut tuner, mut view) = (CpuSched::default(), view(0, 3_000_000));
        let mut changes = Vec::new();
        for second in (0..300).filter(|second| second % 20 < 5) {
            let wanted = tuner.on_signal(&waits(2.0, 40.0), &view);
            view.apply(&wanted);
            changes.extend(wanted.iter().map(|proposal| proposal.target.last()));
            if second == 4 {
                assert!(tuner.trial(AUTOGROUP).only_better);
                tuner.tried(&at(AUTOGROUP, HOST), &record("1", outcome));
                if outcome != Outcome::Better {
                    view.values.insert(at(AUTOGROUP, HOST), 0.into());
                }
            }
        }
        assert_eq!(changes, [1], "{outcome:?}");
    }
}

/// Most programs wait less, some of a large session much longer: both are measured, and either harm counts.
#[test]
fn a_shorter_wait_for_many_is_no_gain_where_some_wait_much_longer() {
    let plan = CpuSched::default().trial(AUTOGROUP);
    let goal = &plan.guards[0].metric;
    assert_eq!((goal.role, goal.better), (Role::Goal, Direction::Lower));
    let tail = &plan.guards[1];
    assert_eq!((tail.metric.role, tail.harm), (Role::Guard, Harm::Counts));
    assert_eq!(tail.measure.counters().count(), 2);
    let (mut tuner, view) = (CpuSched::default(), view(0, 3_000_000));
    assert_eq!(tuner.on_signal(&waits(2.0, 40.0), &view).len(), 1);
    tuner.tried(&at(AUTOGROUP, HOST), &record("1", Outcome::Worse));
    assert_eq!(tuner.on_signal(&waits(2.0, 40.0), &view), []);
    // The other parameter is another question.
    assert_eq!(tuner.on_signal(&waits(40.0, 2.0), &view).len(), 1);
}

#[test]
fn each_length_of_turns_is_tried_once() {
    let (mut tuner, mut view) = (CpuSched::default(), view(1, 8_000_000));
    let wanted = tuner.on_signal(&waits(40.0, 0.0), &view);
    view.apply(&wanted);
    tuner.tried(&at(BASE_SLICE, HOST), &record("4000000", Outcome::Better));
    let wanted = tuner.on_signal(&waits(40.0, 0.0), &view);
    assert_eq!(targets(&wanted), [(BASE_SLICE, 2_000_000)]);
    tuner.tried(&at(BASE_SLICE, HOST), &record("2000000", Outcome::Same));
    assert_eq!(tuner.on_signal(&waits(40.0, 0.0), &view), []);
}
