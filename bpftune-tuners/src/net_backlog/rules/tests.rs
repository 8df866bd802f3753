use bpftune_core::{Urgency, Value};
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, HUGE, Recorded, TINY, at, machine, signal, targets};

fn lost(lost: f64, lasting: f64, series: f64) -> Signal {
    let figures = [("lost", lost), ("lasting", lasting), ("series", series)];
    signal(LOST, &figures)
}

fn view(now: i64) -> Recorded {
    Recorded::new(&[(MAX_BACKLOG, HOST, &[now])])
}

#[test]
fn a_burst_gets_a_queue_as_long_as_itself() {
    let target = |packets| {
        let mut tuner = NetBacklog::default();
        tuner.on_signal(&lost(packets, 5.0, 1.0), &view(1000))[0]
            .target
            .last()
    };
    assert_eq!(
        [target(1.0), target(4000.0), target(1e9)],
        [2000, 5000, 8000]
    );
    let proposals = NetBacklog::default().on_signal(&lost(9.0, 5.0, 1.0), &view(1000));
    assert_eq!(proposals[0].knob, at(MAX_BACKLOG, HOST));
    assert!(
        proposals[0].reason.contains("full at 1000"),
        "{}",
        proposals[0].reason
    );
}

#[test]
fn a_series_of_losses_gets_two_steps_and_the_next_one_again() {
    let mut tuner = NetBacklog::default();
    let mut view = view(64);
    let mut act = |series| {
        let proposals = tuner.on_signal(&lost(1.0, 20.0, series), &view);
        view.apply(&proposals);
        proposals.len()
    };
    assert_eq!(
        [1.0, 1.0, 1.0, 2.0, 2.0, 2.0].map(&mut act),
        [1, 1, 0, 1, 1, 0]
    );
}

#[test]
fn a_processor_that_cannot_keep_up_gets_its_old_queue_back() {
    let mut tuner = NetBacklog::default();
    let mut view = view(1000);
    let overload = lost(5000.0, 3100.0, 1.0);
    assert!(
        tuner.on_signal(&overload, &view).is_empty(),
        "nothing was raised"
    );
    view.apply(&tuner.on_signal(&lost(5000.0, 5.0, 1.0), &view));
    let proposals = tuner.on_signal(&overload, &view);
    assert_eq!(targets(&proposals), [(MAX_BACKLOG, 1000)]);
    assert_eq!(proposals[0].urgency, Urgency::Harm);
}

#[test]
fn memory_pressure_takes_half_back() {
    let mut tuner = NetBacklog::default();
    let mut view = view(1000);
    assert!(tuner.on_memory_pressure(&view).is_empty());
    view.apply(&tuner.on_signal(&lost(1.0, 5.0, 1.0), &view));
    assert_eq!(
        targets(&tuner.on_memory_pressure(&view)),
        [(MAX_BACKLOG, 1500)]
    );
}

#[test]
fn outside_of_the_host_nothing_is_proposed() {
    let view = Recorded::new(&[]);
    assert!(
        NetBacklog::default()
            .on_signal(&lost(1.0, 5.0, 1.0), &view)
            .is_empty()
    );
}

#[test]
fn bounds_suit_tiny_and_huge_machines() {
    let most = |memory, cpus| {
        let machine = Machine {
            cpus,
            ..machine(memory)
        };
        most_packets(&machine)
    };
    assert_eq!(
        [
            most(TINY, 1),
            most(24 << 30, 2),
            most(HUGE, 256),
            most(HUGE, 2)
        ],
        [1000, 12288, 8192, 65536]
    );
}

proptest! {
    #[test]
    fn never_down_and_never_past_the_bound(
        packets in 0u32..,
        now in 1i64..1 << 31,
        memory in 1u64 << 26..1 << 42,
    ) {
        let mut view = view(now);
        view.machine = machine(memory);
        for proposal in NetBacklog::default().on_signal(&lost(packets.into(), 5.0, 1.0), &view) {
            prop_assert!(proposal.target.last() > now);
            prop_assert!(proposal.target.last() <= most_packets(&view.machine));
        }
    }
}

/// A flood of one flow: its losses, those of others, and since when.
fn flood(one: f64, others: f64, lasting: f64) -> Signal {
    let figures = [
        ("lost", one + others),
        ("lasting", lasting),
        ("series", 1.0),
        ("of_one", one),
        ("of_others", others),
    ];
    signal(LOST, &figures)
}

fn with_limits(processors: &str) -> Recorded {
    let mut view = view(1000);
    let limits: Value = processors.parse().unwrap();
    view.values.insert(at(flows::FLOW_LIMIT, HOST), limits);
    view
}

#[test]
fn a_flow_that_has_others_lose_too_is_limited_on_each_processor() {
    let mut view = with_limits("cpus none");
    let mut tuner = NetBacklog::default();
    let proposals = tuner.on_signal(&flood(4000.0, 200.0, 1200.0), &view);
    assert_eq!(proposals.len(), 1);
    assert_eq!(proposals[0].knob, at(flows::FLOW_LIMIT, HOST));
    assert_eq!(proposals[0].target.to_string(), "cpus 0-1");
    view.apply(&proposals);
    let again = tuner.on_signal(&flood(4000.0, 200.0, 1300.0), &view);
    assert!(again.iter().all(|p| p.knob.tunable == MAX_BACKLOG), "done");
}

#[test]
fn bursts_single_flows_and_crowds_are_not_limited() {
    let limited = |one, others, lasting| {
        let proposals = NetBacklog::default()
            .on_signal(&flood(one, others, lasting), &with_limits("cpus none"));
        proposals
            .iter()
            .any(|p| p.knob.tunable == flows::FLOW_LIMIT)
    };
    assert!(limited(100.0, 20.0, 1000.0));
    assert!(!limited(100.0, 20.0, 900.0), "a burst");
    assert!(!limited(4000.0, 0.0, 2000.0), "nobody else loses");
    assert!(!limited(100.0, 100.0, 2000.0), "no one flow");
}
