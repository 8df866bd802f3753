use bpftune_core::Urgency;
use proptest::prelude::*;

use super::*;
use crate::testing::{HUGE, NETNS, Recorded, TINY, at, machine, signal, targets};

fn full(change: &[(&'static str, f64)]) -> Signal {
    let usual = [
        ("family", 4.0),
        ("memory", 4_200_000.0),
        ("limit", 4_194_304.0),
        ("first", 160.0),
        ("last", 170.0),
        ("refused", 1000.0),
        ("series_asked", 3000.0),
        ("series_completed", 400.0),
        ("series_failed", 1000.0),
    ];
    let figures = usual.map(|(name, value)| {
        let other = change.iter().find(|(changed, _)| *changed == name);
        (name, other.map_or(value, |(_, value)| *value))
    });
    signal(FULL, &figures)
}

fn view() -> Recorded {
    Recorded::new(&[
        (LIMITS[0], NETNS, &[4_194_304]),
        (LIMITS[1], NETNS, &[4_194_304]),
    ])
}

#[test]
fn what_is_lacking_is_given() {
    let proposals = IpFrag.on_signal(&full(&[]), &view());
    assert_eq!(targets(&proposals), [(LIMITS[0], 9_756_000)]);
    assert_eq!(proposals[0].knob, at(LIMITS[0], NETNS));
    assert!(
        proposals[0]
            .reason
            .contains("160 were first and 170 last ones"),
        "{}",
        proposals[0].reason
    );
    let few = IpFrag.on_signal(&full(&[("refused", 1.0)]), &view());
    assert_eq!(few[0].target.last(), 8_388_608, "at least doubled");
    let many = IpFrag.on_signal(&full(&[("refused", 1e9)]), &view());
    assert_eq!(many[0].target.last(), 33_554_432, "at most eightfold");
}

#[test]
fn ipv6_has_a_limit_of_its_own() {
    let proposals = IpFrag.on_signal(&full(&[("family", 6.0)]), &view());
    assert_eq!(proposals[0].knob.tunable, LIMITS[1]);
    let without = Recorded::new(&[(LIMITS[0], NETNS, &[4_194_304])]);
    assert!(
        IpFrag
            .on_signal(&full(&[("family", 6.0)]), &without)
            .is_empty()
    );
}

#[test]
fn pieces_without_the_rest_get_nothing() {
    let none = |change: &[(&'static str, f64)]| IpFrag.on_signal(&full(change), &view()).is_empty();
    assert!(none(&[("last", 0.0)]) && none(&[("first", 42.0)]));
    assert!(!none(&[("first", 43.0)]));
    assert!(
        none(&[("first", 7.0), ("last", 8.0)]),
        "nothing can be said"
    );
}

#[test]
fn what_never_gets_complete_gets_little() {
    let stuck = |completed| {
        let change = [("series_completed", completed), ("refused", 1e9)];
        IpFrag.on_signal(&full(&change), &view())[0].target.last()
    };
    assert_eq!([stuck(0.0), stuck(99.0)], [UNPROVEN, UNPROVEN]);
    assert_eq!(stuck(100.0), 33_554_432);
    let mut view = view();
    view.values.insert(at(LIMITS[0], NETNS), UNPROVEN.into());
    let more = full(&[("series_completed", 0.0), ("limit", UNPROVEN as f64)]);
    assert!(IpFrag.on_signal(&more, &view).is_empty());
}

#[test]
fn a_signal_from_before_the_last_change_changes_nothing() {
    let mut view = view();
    view.apply(&IpFrag.on_signal(&full(&[]), &view));
    assert!(IpFrag.on_signal(&full(&[]), &view).is_empty());
}

#[test]
fn memory_pressure_takes_half_back() {
    let mut view = view();
    view.apply(&IpFrag.on_signal(&full(&[("refused", 1.0)]), &view));
    let proposals = IpFrag.on_memory_pressure(&view);
    assert_eq!(targets(&proposals), [(LIMITS[0], 6_291_456)]);
    assert_eq!(proposals[0].urgency, Urgency::Harm);
}

#[test]
fn bounds_suit_tiny_and_huge_machines() {
    let most = |memory| most_bytes(&machine(memory));
    assert_eq!(
        [most(TINY), most(1 << 30), most(24 << 30), most(HUGE)],
        [4 << 20, 8 << 20, 192 << 20, 512 << 20]
    );
}

proptest! {
    #[test]
    fn never_down_and_never_past_the_bound(
        memory in 0u32..,
        refused in 0u32..,
        now in 1i64..1 << 40,
        ram in 1u64 << 26..1 << 42,
    ) {
        let mut view = Recorded::new(&[(LIMITS[0], NETNS, &[now])]);
        view.machine = machine(ram);
        let signal = full(&[
            ("memory", memory.into()),
            ("limit", now as f64),
            ("refused", refused.into()),
        ]);
        for proposal in IpFrag.on_signal(&signal, &view) {
            prop_assert!(proposal.target.last() > now);
            prop_assert!(proposal.target.last() <= most_bytes(&view.machine));
        }
    }
}
