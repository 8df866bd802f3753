use bpftune_core::{
    Figure, Tuner, Value,
    governor::Decision,
    trial::{Action, Counter, Outcome},
};

use super::{
    super::rules::{IrqSteer, ONE_SIDED},
    *,
};
use crate::testing::{HOST, Recorded, at, trial};

const INTERRUPT: &str = "/proc/irq/38/smp_affinity_list";
const RPS: &str = "/sys/class/net/eth0/queues/rx-0/rps_cpus";

fn cpus(list: &str) -> Value {
    list.parse::<Cpus>().unwrap().into()
}

fn tuner() -> IrqSteer {
    let places = vec!["0-1".parse().unwrap(), "2".parse().unwrap()];
    IrqSteer::new(places, "0-3".parse().unwrap())
}

/// An interrupt that may come to these; the device's packets are steered by nobody.
fn view(affinity: &str) -> Recorded {
    let mut view = Recorded::new(&[]);
    view.values.insert(at(INTERRUPT, HOST), cpus(affinity));
    view.values.insert(at(RPS, HOST), cpus("none"));
    view
}

/// Packets a second of eth0 and of others on processor 0, with what it has left, and what processor 1 has.
fn signal(packets: f64, company: f64, idle: f64, spare: f64) -> Signal {
    let figures = [
        ("cpu", 0.0),
        ("packets", packets),
        ("softirq", 0.8),
        ("idle", idle),
        ("spare", spare),
        ("queues", 1.0),
        ("interrupt", 38.0),
        ("to", 1.0),
        ("company", company),
    ];
    Signal {
        scenario: ONE_SIDED.into(),
        netns: HOST,
        subject: "eth0".into(),
        count: 1,
        figures: figures
            .map(|(name, value)| Figure::new(name, value, ""))
            .into(),
    }
}

fn both() -> Signal {
    signal(60_000.0, 50_000.0, 0.02, 0.9)
}

/// Asks, and does what the engine does.
fn ask(tuner: &mut IrqSteer, view: &mut Recorded) -> Vec<(String, String)> {
    let wanted = tuner.on_signal(&both(), view);
    for proposal in &wanted {
        tuner.decided(proposal, &Decision::Apply(proposal.target.clone()));
    }
    view.apply(&wanted);
    let texts = wanted.iter().map(|wish| {
        assert_eq!(wish.knob.netns, HOST);
        (wish.knob.tunable.clone(), wish.target.to_string())
    });
    texts.collect()
}

/// Tells of a trial in which the device takes in so much without it and with it, and the busy processor has so much left.
fn tried(tuner: &mut IrqSteer, view: &mut Recorded, rates: [f64; 2], left: [f64; 2]) -> Outcome {
    let (record, action) = trial(tuner.trial(INTERRUPT), |counter, with, window| {
        let seconds = if with { 0.2 } else { 0.1 };
        // No two windows are alike.
        let noise = 1.0 + (window * 7 % 5) as f64 * 0.01;
        match counter {
            Counter::Own(name) if name == LEFT => left[usize::from(with)] * seconds * noise,
            Counter::Own(_) => rates[usize::from(with)] * seconds * noise,
            _ => 0.0,
        }
    });
    tuner.tried(&at(INTERRUPT, HOST), &record);
    if action == Action::Reverted {
        view.values.insert(at(INTERRUPT, HOST), cpus("0-3"));
    }
    record.outcome
}

#[test]
fn one_of_two_that_share_a_busy_processor_goes_to_the_idle_one() {
    let (mut tuner, mut view) = (tuner(), view("0-3"));
    let reason = tuner.on_signal(&both(), &view)[0].reason.clone();
    for part in ["interrupt 38 of eth0", "50000 packets", "processor 1"] {
        assert!(reason.contains(part), "{reason}");
    }
    let moved = (INTERRUPT.to_owned(), "cpus 1".to_owned());
    assert_eq!(ask(&mut tuner, &mut view), [moved]);
    let rates = [60_000.0, 95_000.0];
    let outcome = tried(&mut tuner, &mut view, rates, [0.0, 0.02]);
    assert_eq!(outcome, Outcome::Better);
    assert_eq!(view.values[&at(INTERRUPT, HOST)], cpus("1"));
}

/// As a virtual machine had it whose two network cards brought 30,000 packets a second each, none of them lost.
#[test]
fn time_that_a_processor_has_again_is_a_gain_unless_the_load_is_over() {
    for (rates, wanted) in [
        ([30_500.0, 30_400.0], Outcome::Better),
        ([30_500.0, 0.0], Outcome::Worse),
    ] {
        let (mut tuner, mut view) = (tuner(), view("0-3"));
        ask(&mut tuner, &mut view);
        let outcome = tried(&mut tuner, &mut view, rates, [0.15, 0.6]);
        assert_eq!(outcome, wanted);
    }
}

#[test]
fn one_that_gained_nothing_is_not_moved_again_but_its_packets_are_shared() {
    let (mut tuner, mut view) = (tuner(), view("0-3"));
    ask(&mut tuner, &mut view);
    let outcome = tried(&mut tuner, &mut view, [60_000.0, 60_000.0], [0.02, 0.02]);
    assert_ne!(outcome, Outcome::Better);
    assert_eq!(view.values[&at(INTERRUPT, HOST)], cpus("0-3"));
    let shared = (RPS.to_owned(), "cpus 0-1".to_owned());
    assert_eq!(ask(&mut tuner, &mut view), [shared]);
    assert_eq!(ask(&mut tuner, &mut view), []);
}

/// The kernel says no only where one writes, before it shows in the file's mode whose the interrupt is.
#[test]
fn one_that_the_kernel_does_not_give_away_is_asked_for_once() {
    let (mut tuner, mut view) = (tuner(), view("0-3"));
    ask(&mut tuner, &mut view);
    view.values.insert(at(INTERRUPT, HOST), cpus("0-3"));
    assert!(
        ask(&mut tuner, &mut view)
            .iter()
            .all(|(name, _)| name == RPS)
    );
}

#[test]
fn one_that_somebody_placed_stays_there() {
    for affinity in ["0", "0-1", "1-3"] {
        let mut tuner = tuner();
        let wanted = ask(&mut tuner, &mut view(affinity));
        assert!(wanted.iter().all(|(name, _)| name == RPS), "{affinity}");
    }
}

#[test]
fn nothing_moves_where_it_would_relieve_nobody() {
    for (what, signal) in [
        ("alone", signal(60_000.0, 5000.0, 0.02, 0.9)),
        ("time left", signal(60_000.0, 50_000.0, 0.5, 0.9)),
        ("all are busy", signal(60_000.0, 50_000.0, 0.02, 0.1)),
    ] {
        let wanted = tuner().on_signal(&signal, &view("0-3"));
        assert!(wanted.iter().all(|wish| wish.knob.tunable == RPS), "{what}");
    }
    let mut gone = view("0-3");
    gone.values.clear();
    assert_eq!(tuner().on_signal(&both(), &gone), []);
}
