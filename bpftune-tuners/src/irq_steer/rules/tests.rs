use bpftune_core::{Figure, Urgency, trial::Action};

use super::*;
use crate::testing::{HOST, NETNS, Recorded, at, trial};

const VETH: &str = "/sys/class/net/veth0/queues/rx-0/rps_cpus";

fn cpus(list: &str) -> Cpus {
    list.parse().unwrap()
}

fn tuner() -> IrqSteer {
    IrqSteer::new(vec![cpus("0-3"), cpus("4-7")], cpus("0-7"))
}

/// A device whose packets are steered to these.
fn view(steered: &str) -> Recorded {
    let mut view = Recorded::new(&[]);
    view.values.insert(at(VETH, NETNS), cpus(steered).into());
    view
}

fn signal(scenario: &'static str, device: &str, figures: [f64; 4]) -> Signal {
    let [cpu, softirq, idle, spare] = figures;
    Signal {
        scenario: scenario.into(),
        netns: NETNS,
        subject: device.into(),
        count: 1,
        figures: vec![
            Figure::new("cpu", cpu, ""),
            Figure::new("packets", 70_000.0, "/s"),
            Figure::new("softirq", softirq, ""),
            Figure::new("idle", idle, ""),
            Figure::new("spare", spare, ""),
        ],
    }
}

fn one_sided() -> Signal {
    signal(ONE_SIDED, "veth0", [5.0, 0.6, 0.05, 0.9])
}

fn targets(proposals: &[Proposal]) -> Vec<(String, String)> {
    proposals
        .iter()
        .map(|p| (p.knob.tunable.clone(), p.target.to_string()))
        .collect()
}

/// What a device and those who read did in each second: without the change, and with it.
#[derive(Clone, Copy)]
struct Went {
    packets: [f64; 2],
    unread: [f64; 2],
    /// Only each third window has load.
    by_turns: bool,
}

const GAIN: Went = Went {
    packets: [70_000.0, 110_000.0],
    unread: [0.0, 100.0],
    by_turns: false,
};

fn tried(tuner: &IrqSteer, went: Went) -> (Record, Action) {
    trial(tuner.trial(RPS), |counter, with, window| {
        let seconds = if with { 0.2 } else { 0.1 };
        // No two windows are alike.
        let noise = 1.0 + (window * 7 % 5) as f64 * 0.01;
        let of = |rates: [f64; 2]| {
            let load = !went.by_turns || window % 3 == 0;
            rates[usize::from(with)] * seconds * noise * f64::from(u8::from(load))
        };
        match counter {
            Counter::Own(_) => of(went.packets),
            Counter::Net { name, .. } if name == "InDatagrams" => {
                of(went.packets) - of(went.unread)
            }
            Counter::Net { name, .. } if name == "RcvbufErrors" => of(went.unread),
            _ => 0.0,
        }
    })
}

#[test]
fn work_is_shared_within_the_memory_node() {
    let wanted = tuner().on_signal(&one_sided(), &view("none"));
    assert_eq!(targets(&wanted), [(VETH.to_owned(), "cpus 4-7".to_owned())]);
    assert_eq!(wanted[0].knob.netns, NETNS);
    assert_ne!(wanted[0].knob.netns, HOST);
    assert_eq!(wanted[0].urgency, Urgency::Gain);
    let reason = &wanted[0].reason;
    assert!(
        reason.contains("processor 5") && reason.contains("veth0"),
        "{reason}"
    );
    let first = signal(ONE_SIDED, "veth0", [0.0, 0.6, 0.05, 0.9]);
    assert_eq!(
        targets(&tuner().on_signal(&first, &view("none")))[0].1,
        "cpus 0-3"
    );
}

#[test]
fn nothing_moves_where_there_is_no_need_or_no_room() {
    for (what, figures) in [
        ("few packets", [5.0, 0.1, 0.05, 0.9]),
        ("time left", [5.0, 0.6, 0.5, 0.9]),
        ("the others are busy, too", [5.0, 0.6, 0.05, 0.1]),
        ("an isolated processor", [8.0, 0.6, 0.05, 0.9]),
    ] {
        let signal = signal(ONE_SIDED, "veth0", figures);
        assert_eq!(tuner().on_signal(&signal, &view("none")), [], "{what}");
    }
    let mut alone = IrqSteer::new(vec![cpus("0"), cpus("5")], cpus("0,5"));
    assert_eq!(alone.on_signal(&one_sided(), &view("none")), []);
    assert_eq!(
        IrqSteer::default().on_signal(&one_sided(), &view("none")),
        []
    );
}

#[test]
fn a_device_with_more_queues_is_left_to_itself() {
    let mut many = one_sided();
    many.figures.push(Figure::new("queues", 4.0, ""));
    assert_eq!(tuner().on_signal(&many, &view("none")), []);
    let mut one = one_sided();
    one.figures.push(Figure::new("queues", 1.0, ""));
    assert_eq!(targets(&tuner().on_signal(&one, &view("none"))).len(), 1);
}

#[test]
fn what_somebody_steers_already_stays() {
    for steered in ["4", "6-7", "0-7"] {
        assert_eq!(
            tuner().on_signal(&one_sided(), &view(steered)),
            [],
            "{steered}"
        );
    }
}

#[test]
fn loopback_and_devices_that_vanished_or_have_no_such_file_are_left_alone() {
    for device in ["lo", "veth1"] {
        let signal = signal(ONE_SIDED, device, [5.0, 0.6, 0.05, 0.9]);
        assert_eq!(tuner().on_signal(&signal, &view("none")), [], "{device}");
    }
    let mut numbers = Recorded::new(&[(VETH, NETNS, &[0])]);
    assert_eq!(tuner().on_signal(&one_sided(), &numbers), []);
    numbers.values.clear();
    assert_eq!(tuner().on_signal(&one_sided(), &numbers), []);
}

/// A trial, and what the engine does then.
fn conclude(tuner: &mut IrqSteer, view: &mut Recorded, went: Went) -> Outcome {
    let knob = at(VETH, NETNS);
    let (record, action) = tried(tuner, went);
    tuner.tried(&knob, &record);
    if action == Action::Reverted {
        view.values.insert(knob, cpus("none").into());
    }
    record.outcome
}

/// A flood of one second in three: it tempts to share and to take back again and again.
#[test]
fn periodic_load_does_not_make_it_flap() {
    let by_turns = |packets| Went {
        packets,
        by_turns: true,
        ..GAIN
    };
    for (went, wanted) in [
        (GAIN, Outcome::Better),
        (by_turns([70_000.0, 110_000.0]), Outcome::Unclear),
        (by_turns([70_000.0, 70_000.0]), Outcome::Unclear),
    ] {
        let (mut tuner, mut view) = (tuner(), view("none"));
        let mut changes = Vec::new();
        for second in (0..300).step_by(3) {
            let wanted_now = tuner.on_signal(&one_sided(), &view);
            view.apply(&wanted_now);
            changes.extend(targets(&wanted_now).into_iter().map(|(_, to)| to));
            if second == 6 {
                assert_eq!(conclude(&mut tuner, &mut view, went), wanted);
            }
        }
        assert_eq!(changes, ["cpus 4-7"], "once, and at most once back");
        let kept = view.values[&at(VETH, NETNS)] == cpus("4-7").into();
        assert_eq!(kept, wanted == Outcome::Better);
    }
}

/// The device takes in half as much again, and those who read get no time to: a fifth is lost.
#[test]
fn more_packets_that_nobody_reads_are_taken_back() {
    let livelock = Went {
        packets: [70_000.0, 105_000.0],
        unread: [0.0, 21_000.0],
        ..GAIN
    };
    let (mut tuner, mut view) = (tuner(), view("none"));
    let wanted = tuner.on_signal(&one_sided(), &view);
    view.apply(&wanted);
    let outcome = conclude(&mut tuner, &mut view, livelock);
    assert_eq!(outcome, Outcome::Worse);
    assert_eq!(view.values[&at(VETH, NETNS)], cpus("none").into());
    assert_eq!(tuner.on_signal(&one_sided(), &view), []);
}

#[test]
fn a_device_that_did_not_gain_says_nothing_of_others() {
    let (mut tuner, mut view) = (tuner(), view("none"));
    let wanted = tuner.on_signal(&one_sided(), &view);
    view.apply(&wanted);
    assert_eq!(
        tuner.on_signal(&one_sided(), &view),
        [],
        "the trial goes on"
    );
    let nothing = Went {
        packets: [70_000.0, 70_000.0],
        unread: [0.0, 0.0],
        by_turns: false,
    };
    assert_ne!(conclude(&mut tuner, &mut view, nothing), Outcome::Better);
    let other = VETH.replace("veth0", "veth7");
    view.values.insert(at(&other, NETNS), cpus("none").into());
    let signal = signal(ONE_SIDED, "veth7", [5.0, 0.6, 0.05, 0.9]);
    assert_eq!(targets(&tuner.on_signal(&signal, &view))[0].0, other);
}
