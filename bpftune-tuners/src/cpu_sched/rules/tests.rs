use bpftune_core::{Figure, trial::Action};

use super::*;
use crate::testing::{HOST, Recorded, at, targets, trial};

/// A host whose kernel has both parameters.
fn view(autogroup: i64, slice: i64) -> Recorded {
    Recorded::new(&[
        (AUTOGROUP, HOST, &[autogroup]),
        (BASE_SLICE, HOST, &[slice]),
    ])
}

/// Of a hundred wake-ups so many waited for long: in sessions that use their share up, and in modest ones.
fn waits(others: f64, modest: f64) -> Signal {
    Signal {
        scenario: WAITS.into(),
        netns: HOST,
        subject: "editor".into(),
        count: 1,
        figures: [
            ("modest_woken", 100.0),
            ("modest_long", modest),
            ("other_woken", 100.0),
            ("other_long", others),
            ("mean", 6.5),
            ("longest", 31.0),
        ]
        .map(|(name, value)| Figure::new(name, value, ""))
        .into(),
    }
}

/// Waits of a hundred wake-ups in each window: the mean in ms, and how many over 50 ms; without the change and with it.
#[derive(Clone, Copy)]
struct Waited {
    mean: [f64; 2],
    very_long: [f64; 2],
    /// Whether there is load in a window; else nobody waits.
    load: fn(usize) -> bool,
}

const GAIN: Waited = Waited {
    mean: [7.0, 0.5],
    very_long: [1.0, 0.0],
    load: |_| true,
};

fn tried(tuner: &CpuSched, to: &str, waited: Waited) -> (Record, Action) {
    let (record, action) = trial(tuner.trial(AUTOGROUP), |counter, with, window| {
        // Waits differ from window to window by a fifth and more.
        let noise = 1.0 + (window * 7 % 5) as f64 * 0.05;
        let of = |rates: [f64; 2]| {
            let load = (waited.load)(window);
            rates[usize::from(with)] * noise * f64::from(u8::from(load))
        };
        match counter {
            Counter::Own(name) if name == WOKEN => 100.0,
            Counter::Own(name) if name == WAITED => of(waited.mean) * 100.0,
            Counter::Own(name) if name == VERY_LONG => of(waited.very_long),
            _ => 0.0,
        }
    });
    let value_with = to.to_owned();
    (
        Record {
            value_with,
            ..record
        },
        action,
    )
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

/// Eight tasks that need nearly all of a processor, beside six jobs: each of 352 wake-ups in a second waited for 13 ms.
/// Autogroups would give that session no more than it has, and by them it waits as long.
#[test]
fn a_session_that_uses_its_share_up_is_not_parted() {
    let mut crowd = waits(352.0, 0.0);
    for figure in &mut crowd.figures {
        match figure.name.as_ref() {
            "other_woken" => figure.value = 369.0,
            "modest_woken" => figure.value = 0.0,
            _ => {}
        }
    }
    let parameter = Recorded::new(&[(AUTOGROUP, HOST, &[0])]);
    assert_eq!(CpuSched::default().on_signal(&crowd, &parameter), []);
    // Were it tried nevertheless:
    let mut tuner = CpuSched::default();
    let as_recorded = Waited {
        mean: [13.36, 13.0],
        very_long: [0.0; 2],
        ..GAIN
    };
    let (record, action) = tried(&tuner, "1", as_recorded);
    assert_eq!((record.outcome, action), (Outcome::Same, Action::Reverted));
    tuner.tried(&at(AUTOGROUP, HOST), &record);
    assert_eq!(tuner.on_signal(&waits(5.0, 40.0), &parameter), []);
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
    assert_eq!(tuner.on_signal(&waits(11.0, 11.0), &view(0, 3_000_000)), []);
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
    let by_turns = |mean| Waited {
        mean,
        load: |window| window % 3 == 0,
        ..GAIN
    };
    for (waited, outcome) in [
        (GAIN, Outcome::Better),
        (by_turns([7.0, 0.5]), Outcome::Unclear),
        (by_turns([7.0, 7.0]), Outcome::Unclear),
    ] {
        let (mut tuner, mut view) = (CpuSched::default(), view(0, 3_000_000));
        let mut changes = Vec::new();
        for second in (0..300).filter(|second| second % 20 < 5) {
            let wanted = tuner.on_signal(&waits(2.0, 40.0), &view);
            view.apply(&wanted);
            changes.extend(wanted.iter().map(|proposal| proposal.target.last()));
            if second == 4 {
                let (record, action) = tried(&tuner, "1", waited);
                assert_eq!(record.outcome, outcome);
                tuner.tried(&at(AUTOGROUP, HOST), &record);
                if action == Action::Reverted {
                    view.values.insert(at(AUTOGROUP, HOST), 0.into());
                }
            }
        }
        assert_eq!(changes, [1], "once, and at most once back");
        let kept = view.values[&at(AUTOGROUP, HOST)].last() == 1;
        assert_eq!(kept, outcome == Outcome::Better);
    }
}

/// It began while others computed, and they do so by turns or no more: nothing that the change did.
#[test]
fn what_ends_by_itself_is_no_gain() {
    let loads: [fn(usize) -> bool; 4] = [
        |window| window < 7,
        |window| window < 10,
        |window| window % 4 < 2,
        |window| window % 10 < 5,
    ];
    for (i, load) in loads.into_iter().enumerate() {
        let waited = Waited {
            mean: [7.0; 2],
            very_long: [1.0; 2],
            load,
        };
        let (record, action) = tried(&CpuSched::default(), "1", waited);
        assert_ne!(record.outcome, Outcome::Better, "load {i}");
        assert_eq!(action, Action::Reverted, "load {i}");
    }
}

/// Most programs wait half as long, and one in ten of a large session longer than anybody bears.
#[test]
fn a_shorter_wait_for_many_is_taken_back_where_some_wait_much_longer() {
    let torn = Waited {
        mean: [7.0, 3.5],
        very_long: [0.0, 10.0],
        ..GAIN
    };
    let (mut tuner, view) = (CpuSched::default(), view(0, 3_000_000));
    assert_eq!(tuner.on_signal(&waits(2.0, 40.0), &view).len(), 1);
    let (record, action) = tried(&tuner, "1", torn);
    assert_eq!((record.outcome, action), (Outcome::Worse, Action::Reverted));
    tuner.tried(&at(AUTOGROUP, HOST), &record);
    assert_eq!(tuner.on_signal(&waits(2.0, 40.0), &view), []);
    // The other parameter is another question.
    assert_eq!(tuner.on_signal(&waits(40.0, 2.0), &view).len(), 1);
}

#[test]
fn each_length_of_turns_is_tried_once() {
    let (mut tuner, mut view) = (CpuSched::default(), view(1, 8_000_000));
    let wanted = tuner.on_signal(&waits(40.0, 0.0), &view);
    view.apply(&wanted);
    let (better, _) = tried(&tuner, "4000000", GAIN);
    tuner.tried(&at(BASE_SLICE, HOST), &better);
    let wanted = tuner.on_signal(&waits(40.0, 0.0), &view);
    assert_eq!(targets(&wanted), [(BASE_SLICE, 2_000_000)]);
    let same = Waited {
        mean: [7.0, 7.0],
        ..GAIN
    };
    let (same, action) = tried(&tuner, "2000000", same);
    assert_eq!(action, Action::Reverted);
    tuner.tried(&at(BASE_SLICE, HOST), &same);
    assert_eq!(tuner.on_signal(&waits(40.0, 0.0), &view), []);
}
