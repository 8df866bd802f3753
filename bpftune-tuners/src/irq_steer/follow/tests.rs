use bpftune_core::{
    Figure, Tuner,
    trial::{Action, Outcome},
};

use super::{super::rules::IrqSteer, *};
use crate::testing::{HOST as HOST_NETNS, NETNS, Recorded, at, targets, trial as run_trial};

const STEERED: &str = "/sys/class/net/veth0/queues/rx-0/rps_cpus";
const TABLE: &str = "/sys/class/net/veth0/queues/rx-0/rps_flow_cnt";

fn cpus(list: &str) -> Cpus {
    list.parse().unwrap()
}

fn tuner() -> IrqSteer {
    IrqSteer::new(vec![cpus("0-1")], cpus("0-1"))
}

/// A device whose packets are steered to these, and no table anywhere.
fn view(steered: &str) -> Recorded {
    let mut view = Recorded::new(&[(HOST, HOST_NETNS, &[0]), (TABLE, NETNS, &[0])]);
    view.values.insert(at(STEERED, NETNS), cpus(steered).into());
    view
}

/// As 64 connections read by two processors send it, which a hash shares out by chance.
fn signal(elsewhere: f64) -> Signal {
    Signal {
        scenario: READ_ELSEWHERE.into(),
        netns: NETNS,
        subject: "veth0".into(),
        count: 1,
        figures: vec![
            Figure::new("cpu", 1.0, ""),
            Figure::new("reads", 52_000.0, "/s"),
            Figure::new("elsewhere", elsewhere, ""),
        ],
    }
}

/// What a trial of the device's table says where segments come at these rates without it and with it.
fn tried(tuner: &mut IrqSteer, view: &mut Recorded, rates: [f64; 2]) -> Outcome {
    let (record, action) = run_trial(tuner.trial(TABLE), |counter, with, window| {
        let seconds = if with { 0.2 } else { 0.1 };
        // No two windows are alike.
        let noise = 1.0 + (window * 7 % 5) as f64 * 0.01;
        match counter {
            Counter::Net { name, .. } if name == "InSegs" => {
                rates[usize::from(with)] * seconds * noise
            }
            _ => 0.0,
        }
    });
    tuner.tried(&at(TABLE, NETNS), &record);
    if action == Action::Reverted {
        view.values.insert(at(TABLE, NETNS), 0.into());
    }
    record.outcome
}

#[test]
fn the_hosts_table_comes_first_and_then_the_devices() {
    let (mut tuner, mut view) = (tuner(), view("0-1"));
    let first = tuner.on_signal(&signal(0.5), &view);
    assert_eq!(targets(&first), [(HOST, FLOWS)]);
    assert_eq!(first[0].knob.netns, HOST_NETNS);
    let reason = &first[0].reason;
    assert!(
        reason.contains("50 %") && reason.contains("veth0"),
        "{reason}"
    );
    view.apply(&first);
    let second = tuner.on_signal(&signal(0.5), &view);
    assert_eq!(targets(&second), [(TABLE, FLOWS)]);
    assert_eq!(second[0].knob.netns, NETNS);
    view.apply(&second);
    assert_eq!(tuner.on_signal(&signal(0.5), &view), []);
    let outcome = tried(&mut tuner, &mut view, [200_000.0, 250_000.0]);
    assert_eq!(outcome, Outcome::Better);
    assert_eq!(tuner.on_signal(&signal(0.5), &view), []);
    assert_eq!(view.values[&at(TABLE, NETNS)], FLOWS.into());
}

#[test]
fn a_table_that_the_admin_made_stays_as_long_as_it_is() {
    let mut view = view("0-1");
    view.values.insert(at(HOST, HOST_NETNS), 1024.into());
    let wanted = tuner().on_signal(&signal(0.5), &view);
    assert_eq!(targets(&wanted), [(TABLE, FLOWS)]);
    view.values.insert(at(TABLE, NETNS), 64.into());
    assert_eq!(tuner().on_signal(&signal(0.5), &view), []);
}

#[test]
fn packets_follow_nobody_onto_processors_that_they_were_kept_from() {
    for (what, steered, mut tuner) in [
        ("steered by nobody", "none", tuner()),
        ("steered to one", "1", tuner()),
        (
            "one is set apart",
            "0-1",
            IrqSteer::new(vec![cpus("0-1")], cpus("0-2")),
        ),
        ("nothing is known", "0-1", IrqSteer::default()),
    ] {
        let wanted = tuner.on_signal(&signal(0.5), &view(steered));
        assert_eq!(wanted, [], "{what}");
    }
    assert_eq!(tuner().on_signal(&signal(0.1), &view("0-1")), []);
    let mut no_rfs = view("0-1");
    no_rfs.values.remove(&at(HOST, HOST_NETNS));
    assert_eq!(tuner().on_signal(&signal(0.5), &no_rfs), []);
}

/// Clients are on the other processor than their servers: whoever follows pays the way twice.
#[test]
fn where_nobody_gains_both_tables_go_and_none_comes_back() {
    for rates in [[200_000.0, 150_000.0], [200_000.0, 200_000.0]] {
        let (mut tuner, mut view) = (tuner(), view("0-1"));
        for _ in 0..2 {
            let wanted = tuner.on_signal(&signal(0.5), &view);
            view.apply(&wanted);
        }
        assert_ne!(tried(&mut tuner, &mut view, rates), Outcome::Better);
        let back = tuner.on_signal(&signal(0.5), &view);
        assert_eq!(targets(&back), [(HOST, 0)]);
        view.apply(&back);
        assert_eq!(tuner.on_signal(&signal(0.5), &view), []);
    }
}

#[test]
fn the_hosts_table_stays_for_a_device_that_gained() {
    let (mut tuner, mut view) = (tuner(), view("0-1"));
    for _ in 0..2 {
        let wanted = tuner.on_signal(&signal(0.5), &view);
        view.apply(&wanted);
    }
    let other = TABLE.replace("veth0", "veth7");
    view.originals.push((at(&other, NETNS), 0.into()));
    view.values.insert(at(&other, NETNS), FLOWS.into());
    tried(&mut tuner, &mut view, [200_000.0, 150_000.0]);
    assert_eq!(tuner.on_signal(&signal(0.5), &view), []);
}

#[test]
fn tables_are_bounded_and_cost_what_they_take() {
    let [host, device] = tunables();
    let flows = Value::from(FLOWS);
    assert_eq!(host.cost.bytes(&host, &flows, 4096), 128 << 10);
    assert_eq!(device.cost.bytes(&device, &flows, 4096), 512 << 10);
    assert!(trial("net.core.somaxconn").is_none());
    assert!(trial(TABLE).is_some_and(|plan| plan.only_better));
    assert!(trial(HOST).is_some_and(|plan| !plan.only_better));
}
