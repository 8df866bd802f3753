use bpftune_core::{Figure, Urgency, stats::Layout, trial::Action};

use super::*;
use crate::testing::{HOST, NETNS, Recorded, at};

const VETH: &str = "/sys/class/net/veth0/queues/rx-0/rps_cpus";

fn cpus(list: &str) -> Cpus {
    list.parse().unwrap()
}

fn tuner() -> IrqSteer {
    IrqSteer::new(vec![cpus("0-3"), cpus("4-7")])
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

fn record(outcome: Outcome) -> Record {
    Record {
        version: Record::VERSION,
        outcome,
        action: Action::Kept,
        why: String::new(),
        value_without: "cpus none".into(),
        value_with: "cpus 4-7".into(),
        layout: Layout::BeforeAfter,
        windows_without: 6,
        windows_with: 12,
        window_ms: 200,
        settle_ms: 300,
        alpha: 0.01,
        guards: Vec::new(),
        figures: Vec::new(),
        beside: Vec::new(),
    }
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
    let mut alone = IrqSteer::new(vec![cpus("0"), cpus("5")]);
    assert_eq!(alone.on_signal(&one_sided(), &view("none")), []);
    assert_eq!(
        IrqSteer::default().on_signal(&one_sided(), &view("none")),
        []
    );
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

/// What the engine does after a trial whose plan keeps only what is better.
fn conclude(tuner: &mut IrqSteer, view: &mut Recorded, outcome: Outcome) {
    assert!(tuner.trial(RPS).only_better);
    let knob = at(VETH, NETNS);
    tuner.tried(&knob, &record(outcome));
    if outcome != Outcome::Better {
        view.values.insert(knob, cpus("none").into());
    }
}

/// A flood of one second in three: it tempts to share and to take back again and again.
#[test]
fn periodic_load_does_not_make_it_flap() {
    for outcome in [
        Outcome::Better,
        Outcome::Unclear,
        Outcome::Same,
        Outcome::Worse,
    ] {
        let (mut tuner, mut view) = (tuner(), view("none"));
        let mut changes = Vec::new();
        for second in (0..300).step_by(3) {
            let wanted = tuner.on_signal(&one_sided(), &view);
            view.apply(&wanted);
            changes.extend(targets(&wanted).into_iter().map(|(_, to)| to));
            if second == 6 {
                conclude(&mut tuner, &mut view, outcome);
            }
        }
        assert_eq!(changes, ["cpus 4-7"], "{outcome:?}");
    }
}

/// More packets a second, read by fewer: the guards know of both, and the trial's word holds.
#[test]
fn more_packets_that_nobody_reads_are_no_gain() {
    let plan = tuner().trial(RPS);
    assert_eq!(plan.guards[0].metric.name, "packets taken in");
    assert_eq!(plan.guards[0].metric.role, Role::Goal);
    for guard in &plan.guards[1..3] {
        assert_eq!(guard.metric.role, Role::Guard, "{}", guard.metric.name);
        assert_eq!(guard.harm, Harm::Counts, "{}", guard.metric.name);
    }
    let (mut tuner, mut view) = (tuner(), view("none"));
    let wanted = tuner.on_signal(&one_sided(), &view);
    view.apply(&wanted);
    conclude(&mut tuner, &mut view, Outcome::Worse);
    for _ in 0..5 {
        assert_eq!(tuner.on_signal(&one_sided(), &view), []);
    }
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
    conclude(&mut tuner, &mut view, Outcome::Same);
    let other = VETH.replace("veth0", "veth7");
    view.values.insert(at(&other, NETNS), cpus("none").into());
    let signal = signal(ONE_SIDED, "veth7", [5.0, 0.6, 0.05, 0.9]);
    assert_eq!(targets(&tuner.on_signal(&signal, &view))[0].0, other);
}
