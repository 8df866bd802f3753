use bpftune_core::{NetnsCookie, Urgency};
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, HUGE, Recorded, TINY, at, machine, signal, targets};

const START: [(&str, NetnsCookie, &[i64]); 4] = [
    ("net.ipv4.neigh.default.gc_thresh3", HOST, &[1024]),
    ("net.ipv4.neigh.default.gc_thresh2", HOST, &[512]),
    ("net.ipv6.neigh.default.gc_thresh3", HOST, &[1024]),
    ("net.ipv6.neigh.default.gc_thresh2", HOST, &[512]),
];

fn table(scenario: &'static str, entries: f64, hosts: f64, family: f64) -> Signal {
    signal(
        scenario,
        &[
            ("entries", entries),
            ("hosts", hosts),
            ("made", 1000.0),
            ("resolved", 900.0),
            ("family", family),
        ],
    )
}

#[test]
fn a_large_network_gets_room_before_its_burst() {
    let view = Recorded::new(&START);
    let proposals = Neigh.on_signal(&table(FILLING, 1.0, 65536.0, 4.0), &view);
    assert_eq!(
        targets(&proposals),
        [
            ("net.ipv4.neigh.default.gc_thresh3", 16385),
            ("net.ipv4.neigh.default.gc_thresh2", 8192)
        ]
    );
    assert!(proposals.iter().all(|p| p.knob.netns == HOST));
    let reason = &proposals[0].reason;
    assert!(
        reason.contains("holds 1 of 1024") && reason.contains("room for 65536"),
        "{reason}"
    );
}

#[test]
fn many_small_networks_double_the_table() {
    let mut view = Recorded::new(&START);
    let mut entries = 800;
    let mut changes = 0;
    while entries < 20000 {
        let proposals = Neigh.on_signal(&table(FILLING, f64::from(entries), 256.0, 4.0), &view);
        changes += usize::from(!proposals.is_empty());
        view.apply(&proposals);
        let limit = view.values[&at(LIMITS[0], HOST)].last();
        assert!(limit >= i64::from(entries) + 256);
        entries += 200;
    }
    assert!(changes < 8, "{changes}");
}

#[test]
fn ipv6_has_a_table_of_its_own() {
    let view = Recorded::new(&START);
    let signal = table(REFUSED, 1024.0, f64::from(u32::MAX), 6.0);
    let proposals = Neigh.on_signal(&signal, &view);
    assert_eq!(
        targets(&proposals)[0],
        ("net.ipv6.neigh.default.gc_thresh3", 17408)
    );
    assert!(proposals[0].reason.contains("refused"));
}

#[test]
fn without_ipv6_or_outside_of_the_host_nothing_is_proposed() {
    let view = Recorded::new(&START[..2]);
    let signal = table(FILLING, 900.0, f64::from(u32::MAX), 6.0);
    assert!(Neigh.on_signal(&signal, &view).is_empty());
}

#[test]
fn a_scan_gets_the_reserve_and_no_more() {
    let mut scan = table(FILLING, 900.0, f64::from(u32::MAX), 6.0);
    scan.figures.retain(|figure| figure.name != "resolved");
    scan.figures
        .push(bpftune_core::Figure::new("resolved", 3.0, ""));
    let mut view = Recorded::new(&START);
    let first = Neigh.on_signal(&scan, &view);
    assert_eq!(targets(&first)[0].1, 900 + RESERVE);
    view.apply(&first);
    scan.figures[0].value = 17000.0;
    assert!(Neigh.on_signal(&scan, &view).is_empty());
}

#[test]
fn a_signal_from_before_the_last_change_changes_nothing() {
    let mut view = Recorded::new(&START);
    let signal = table(FILLING, 1.0, 65536.0, 4.0);
    let proposals = Neigh.on_signal(&signal, &view);
    view.apply(&proposals);
    assert!(Neigh.on_signal(&signal, &view).is_empty());
}

#[test]
fn shrinks_to_the_reserve_and_to_nothing_that_was_not_raised() {
    let mut view = Recorded::new(&START);
    let drained = table(DRAINED, 20.0, 0.0, 4.0);
    assert!(Neigh.on_signal(&drained, &view).is_empty());
    view.apply(&Neigh.on_signal(&table(FILLING, 40000.0, 65536.0, 4.0), &view));
    let proposals = Neigh.on_signal(&drained, &view);
    assert_eq!(
        targets(&proposals),
        [
            ("net.ipv4.neigh.default.gc_thresh2", 8202),
            ("net.ipv4.neigh.default.gc_thresh3", 16404)
        ]
    );
    view.apply(&proposals);
    assert!(Neigh.on_signal(&drained, &view).is_empty());
}

#[test]
fn memory_pressure_takes_half_back_of_what_is_more_than_the_reserve() {
    let mut view = Recorded::new(&START);
    view.apply(&Neigh.on_signal(&table(FILLING, 1.0, 65536.0, 4.0), &view));
    let one_more = Neigh.on_memory_pressure(&view);
    assert_eq!(targets(&one_more), [(LIMITS[0], RESERVE)]);
    view.apply(&one_more);
    assert!(Neigh.on_memory_pressure(&view).is_empty());
    view.apply(&Neigh.on_signal(&table(FILLING, 20000.0, 65536.0, 4.0), &view));
    let proposals = Neigh.on_memory_pressure(&view);
    assert!(proposals.iter().all(|p| p.urgency == Urgency::Harm));
    let mut found = targets(&proposals);
    found.sort_unstable();
    assert_eq!(found, [(SWEEPS[0], 14096), (LIMITS[0], 28192)]);
}

#[test]
fn bounds_suit_tiny_and_huge_machines() {
    let most = |memory| most_entries(&machine(memory));
    assert_eq!(
        [most(TINY), most(1 << 30), most(24 << 30), most(HUGE)],
        [1024, 4096, 98304, 1 << 20]
    );
    let mut view = Recorded::new(&START);
    view.machine = machine(TINY);
    // At the bound: nothing to gain.
    assert!(
        Neigh
            .on_signal(&table(FILLING, 900.0, 65536.0, 4.0), &view)
            .is_empty()
    );
}

proptest! {
    #[test]
    fn never_past_the_bound_nor_down_while_it_fills(
        entries in 0u32..,
        hosts in 0u32..,
        made in 0u32..,
        resolved in 0u32..,
        limit in 1i64..1 << 31,
        memory in 1u64 << 26..1 << 42,
    ) {
        let mut view = Recorded::new(&[(LIMITS[0], HOST, &[limit])]);
        view.machine = machine(memory);
        let mut signal = table(FILLING, entries.into(), hosts.into(), 4.0);
        signal.figures[2].value = made.into();
        signal.figures[3].value = resolved.into();
        for proposal in Neigh.on_signal(&signal, &view) {
            prop_assert!(proposal.target.last() > limit);
            prop_assert!(proposal.target.last() <= most_entries(&view.machine));
        }
    }
}
