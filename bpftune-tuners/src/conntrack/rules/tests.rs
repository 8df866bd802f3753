use bpftune_core::Urgency;
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, HUGE, NETNS, Recorded, TINY, at, machine, signal, targets};

fn table(count: f64, sampled: f64, half_open: f64) -> Signal {
    let figures = [
        ("count", count),
        ("sampled", sampled),
        ("half_open", half_open),
    ];
    signal(FILLING, &figures)
}

fn view(max: i64, buckets: i64) -> Recorded {
    Recorded::new(&[
        (MAX, HOST, &[max]),
        (BUCKETS, HOST, &[buckets]),
        (TIMEOUTS[0].0, NETNS, &[432_000]),
        (TIMEOUTS[1].0, NETNS, &[120]),
        (TIMEOUTS[2].0, NETNS, &[30]),
    ])
}

#[test]
fn a_table_that_fills_gets_twice_the_room() {
    let view = view(65536, 65536);
    let proposals = Conntrack.on_signal(&table(40000.0, 200.0, 10.0), &view);
    assert_eq!(targets(&proposals), [(MAX, 131_072)]);
    assert_eq!(proposals[0].knob.netns, HOST);
    let reason = &proposals[0].reason;
    assert!(
        reason.contains("tracks 40000 connections of at most 65536"),
        "{reason}"
    );
    assert!(reason.contains("so this is no flood"), "{reason}");
}

#[test]
fn chains_stay_short() {
    let proposals = Conntrack.on_signal(&table(40000.0, 0.0, 0.0), &view(65536, 16384));
    assert_eq!(targets(&proposals), [(MAX, 131_072), (BUCKETS, 32768)]);
    assert!(proposals[0].reason.contains("cannot be told"));
}

#[test]
fn a_flood_gets_nothing() {
    let view = view(65536, 65536);
    assert!(
        Conntrack
            .on_signal(&table(65536.0, 200.0, 150.0), &view)
            .is_empty()
    );
    // Of too few nothing can be said.
    assert_eq!(
        Conntrack
            .on_signal(&table(65536.0, 20.0, 15.0), &view)
            .len(),
        1
    );
}

#[test]
fn a_signal_from_before_the_last_change_changes_nothing() {
    let mut view = view(65536, 65536);
    let signal = table(40000.0, 200.0, 10.0);
    view.apply(&Conntrack.on_signal(&signal, &view));
    assert!(Conntrack.on_signal(&signal, &view).is_empty());
}

#[test]
fn at_the_bound_what_is_idle_is_forgotten_sooner() {
    let most = most_entries(&machine(24 << 30));
    let mut view = view(most, most);
    let full = table(most as f64 * 0.8, 200.0, 0.0);
    let proposals = Conntrack.on_signal(&full, &view);
    assert_eq!(
        targets(&proposals),
        [(TIMEOUTS[0].0, 7440), (TIMEOUTS[1].0, 60)],
        "what is shorter already stays"
    );
    assert!(proposals.iter().all(|p| p.knob.netns == NETNS));
    view.apply(&proposals);
    assert!(Conntrack.on_signal(&full, &view).is_empty());
    let half = table(most as f64 * 0.6, 200.0, 0.0);
    assert!(Conntrack.on_signal(&half, &view).is_empty());
}

#[test]
fn memory_pressure_takes_half_back() {
    let mut view = view(65536, 65536);
    view.apply(&Conntrack.on_signal(&table(40000.0, 0.0, 0.0), &view));
    let proposals = Conntrack.on_memory_pressure(&view);
    assert_eq!(targets(&proposals), [(MAX, 98304)]);
    assert_eq!(proposals[0].urgency, Urgency::Harm);
    assert_eq!(proposals[0].knob, at(MAX, HOST));
}

#[test]
fn without_connection_tracking_nothing_is_proposed() {
    let view = Recorded::new(&[]);
    assert!(
        Conntrack
            .on_signal(&table(40000.0, 0.0, 0.0), &view)
            .is_empty()
    );
}

#[test]
fn bounds_suit_tiny_and_huge_machines() {
    let most = |memory| most_entries(&machine(memory));
    assert_eq!(
        [most(TINY), most(1 << 30), most(24 << 30), most(HUGE)],
        [16384, 65536, 1_572_864, 1 << 22]
    );
}

proptest! {
    #[test]
    fn never_past_the_bound_nor_down_while_it_fills(
        count in 0u32..,
        max in 1i64..1 << 31,
        memory in 1u64 << 26..1 << 42,
    ) {
        let mut view = Recorded::new(&[(MAX, HOST, &[max]), (BUCKETS, HOST, &[1024])]);
        view.machine = machine(memory);
        for proposal in Conntrack.on_signal(&table(count.into(), 0.0, 0.0), &view) {
            prop_assert!(proposal.target.last() <= most_entries(&view.machine));
            let now = view.values[&proposal.knob].last();
            prop_assert!(proposal.target.last() > now);
            let whole_pages = proposal.target.last() % 512 == 0;
            prop_assert!(proposal.knob.tunable == MAX || whole_pages);
        }
    }
}
