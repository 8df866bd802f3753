use bpftune_core::Urgency;
use proptest::prelude::*;

use super::*;
use crate::testing::{HOST, HUGE, NETNS, Recorded, TINY, at, machine, signal, targets};

fn full(change: &[(&'static str, f64)]) -> Signal {
    let usual = [
        ("buffer", 212_992.0),
        ("queued", 92.0),
        ("lost", 46.0),
        ("lasting", 20.0),
        ("series", 1.0),
        ("locked", 0.0),
    ];
    let figures = usual.map(|(name, value)| {
        let other = change.iter().find(|(changed, _)| *changed == name);
        (name, other.map_or(value, |(_, value)| *value))
    });
    signal(FULL, &figures)
}

fn view(default: i64) -> Recorded {
    Recorded::new(&[
        (RMEM_DEFAULT, HOST, &[default]),
        (UDP_MEM, HOST, &[400, 800, 1600]),
    ])
}

#[test]
fn a_burst_gets_a_buffer_as_long_as_itself() {
    let mut tuner = UdpBuffer::default();
    let proposals = tuner.on_signal(&full(&[("lost", 184.0)]), &view(212_992));
    // 92 + 184 datagrams and half as many again: 4.5 times.
    assert_eq!(targets(&proposals), [(RMEM_DEFAULT, 958_464)]);
    assert_eq!(proposals[0].knob, at(RMEM_DEFAULT, HOST));
    assert!(
        proposals[0]
            .reason
            .contains("184 datagrams to a test were lost")
    );
    let few = tuner.on_signal(&full(&[("lost", 1.0)]), &view(212_992));
    assert_eq!(few[0].target.last(), 425_984, "at least doubled");
    let many = UdpBuffer::default().on_signal(&full(&[("lost", 1e9)]), &view(212_992));
    assert_eq!(many[0].target.last(), 1_703_936, "at most eightfold");
}

#[test]
fn a_size_that_an_application_fixed_stays() {
    let mut tuner = UdpBuffer::default();
    let own = full(&[("buffer", 131_072.0), ("locked", 1.0)]);
    assert!(tuner.on_signal(&own, &view(212_992)).is_empty());
    // Resized by this tuner, so it carries the same mark.
    let resized = full(&[("buffer", 425_984.0), ("locked", 1.0)]);
    assert_eq!(tuner.on_signal(&resized, &view(425_984)).len(), 1);
}

#[test]
fn an_old_event_changes_nothing() {
    assert!(
        UdpBuffer::default()
            .on_signal(&full(&[]), &view(425_984))
            .is_empty()
    );
}

#[test]
fn a_series_of_losses_gets_two_steps_and_the_next_one_again() {
    let mut tuner = UdpBuffer::default();
    let mut view = view(212_992);
    let mut act = |series: f64| {
        let now = view.values[&at(RMEM_DEFAULT, HOST)].last() as f64;
        let signal = full(&[("buffer", now), ("series", series)]);
        let proposals = tuner.on_signal(&signal, &view);
        view.apply(&proposals);
        proposals.len()
    };
    assert_eq!(
        [1.0, 1.0, 1.0, 2.0, 2.0, 2.0].map(&mut act),
        [1, 1, 0, 1, 1, 0]
    );
}

#[test]
fn a_reader_that_is_too_slow_gets_its_old_buffer_back() {
    let mut tuner = UdpBuffer::default();
    let mut view = view(212_992);
    let lasting = [("lasting", 3500.0)];
    assert!(
        tuner.on_signal(&full(&lasting), &view).is_empty(),
        "nothing was raised"
    );
    view.apply(&tuner.on_signal(&full(&[]), &view));
    let now = view.values[&at(RMEM_DEFAULT, HOST)].last() as f64;
    let proposals = tuner.on_signal(&full(&[("buffer", now), lasting[0]]), &view);
    assert_eq!(targets(&proposals), [(RMEM_DEFAULT, 212_992)]);
    assert_eq!(proposals[0].urgency, Urgency::Harm);
}

#[test]
fn what_the_maximum_cut_down_is_not_its_own_business() {
    let cut = signal(CUT_DOWN, &[("buffer", 425_984.0)]);
    assert!(
        UdpBuffer::default()
            .on_signal(&cut, &view(212_992))
            .is_empty()
    );
}

#[test]
fn udp_memory_rises_to_what_the_kernel_derives_and_only_while_memory_is_free() {
    let mut tuner = UdpBuffer::default();
    let mut view = view(212_992);
    let exceeded = signal(MEMORY_EXCEEDED, &[]);
    let proposals = tuner.on_signal(&exceeded, &view);
    assert_eq!(proposals[0].target, Value::new([1600, 3200, 6400]));
    for _ in 0..20 {
        let next = tuner.on_signal(&exceeded, &view);
        view.apply(&next);
    }
    let pages = (24i64 << 30) / 4096;
    assert_eq!(
        view.values[&at(UDP_MEM, HOST)],
        Value::new([pages * 3 / 32, pages / 8, pages * 3 / 16])
    );
    assert!(tuner.on_signal(&exceeded, &view).is_empty());
    let mut short = Recorded::new(&[(UDP_MEM, HOST, &[400, 800, 1600])]);
    short.machine.memory_available = 1 << 30;
    assert!(tuner.on_signal(&exceeded, &short).is_empty());
}

#[test]
fn memory_pressure_takes_half_back() {
    let mut tuner = UdpBuffer::default();
    let mut view = view(212_992);
    assert!(tuner.on_memory_pressure(&view).is_empty());
    view.apply(&tuner.on_signal(&full(&[]), &view));
    let proposals = tuner.on_memory_pressure(&view);
    assert_eq!(targets(&proposals), [(RMEM_DEFAULT, 344_064)]);
    assert_eq!(proposals[0].urgency, Urgency::Harm);
}

#[test]
fn outside_of_the_host_nothing_is_proposed() {
    let view = Recorded::new(&[(RMEM_DEFAULT, NETNS, &[212_992])]);
    assert!(UdpBuffer::default().on_signal(&full(&[]), &view).is_empty());
}

#[test]
fn bounds_suit_tiny_and_huge_machines() {
    let most = |memory| most_default(&machine(memory));
    assert_eq!(
        [most(TINY), most(1 << 30), most(24 << 30), most(HUGE)],
        [262_144, 1 << 20, 24 << 20, 64 << 20]
    );
    assert_eq!(udp_mem_bound(&machine(TINY))[2], (0, 12288));
}

proptest! {
    #[test]
    fn never_down_and_never_past_the_bound(
        queued in 0u32..,
        lost in 0u32..,
        now in 1i64..1 << 31,
        memory in 1u64 << 26..1 << 42,
    ) {
        let mut view = view(now);
        view.machine = machine(memory);
        let signal = full(&[
            ("buffer", now as f64),
            ("queued", queued.into()),
            ("lost", lost.into()),
        ]);
        for proposal in UdpBuffer::default().on_signal(&signal, &view) {
            prop_assert!(proposal.target.last() > now);
            prop_assert!(proposal.target.last() <= most_default(&view.machine));
        }
    }
}
