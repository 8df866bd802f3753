use bpftune_core::governor::Refusal;
use proptest::prelude::*;

use super::*;
use crate::testing::{HUGE, NETNS, Recorded, TINY, at, machine, targets};

fn view(somaxconn: i64, max_syn_backlog: i64, syncookies: i64) -> Recorded {
    Recorded::new(&[
        (SOMAXCONN, NETNS, &[somaxconn]),
        (MAX_SYN_BACKLOG, NETNS, &[max_syn_backlog]),
        (SYNCOOKIES, NETNS, &[syncookies]),
    ])
}

/// A listener as the source tells of it: 128 places, all of them taken.
fn signal(scenario: &'static str, change: &[(&'static str, f64)]) -> Signal {
    let figures = [
        ("accept_queue", 129.0),
        ("syn_queue", 3.0),
        ("backlog", 128.0),
        ("somaxconn", 128.0),
        ("max_syn_backlog", 512.0),
        ("syncookies", 1.0),
        ("refused", 0.0),
        ("answered", 500.0),
        ("unanswered", 0.0),
        ("watched", 2.0),
    ];
    let value = |name| change.iter().find(|(other, _)| *other == name);
    let figures = figures.map(|(name, usual)| (name, value(name).map_or(usual, |(_, v)| *v)));
    crate::testing::signal(scenario, &figures)
}

#[test]
fn a_burst_is_given_room() {
    let mut tuner = TcpListen::default();
    let view = view(128, 512, 1);
    let proposals = tuner.on_signal(&signal(ACCEPT_QUEUE, &[("refused", 371.0)]), &view);
    assert_eq!(targets(&proposals), [(SOMAXCONN, 512)]);
    let reason = &proposals[0].reason;
    assert!(reason.contains("371 more were refused"), "{reason}");
    assert!(reason.contains("have answered"), "{reason}");
    let many = tuner.on_signal(&signal(ACCEPT_QUEUE, &[("refused", 1e6)]), &view);
    assert_eq!(targets(&many), [(SOMAXCONN, 1024)], "eightfold at most");
    let nearly = tuner.on_signal(&signal(ACCEPT_QUEUE, &[("accept_queue", 100.0)]), &view);
    assert_eq!(
        targets(&nearly),
        [(SOMAXCONN, 256)],
        "before any is refused"
    );
}

#[test]
fn a_short_queue_that_was_asked_for_stays() {
    let asked = signal(ACCEPT_QUEUE, &[("backlog", 5.0), ("accept_queue", 6.0)]);
    assert!(
        TcpListen::default()
            .on_signal(&asked, &view(128, 512, 1))
            .is_empty()
    );
}

#[test]
fn an_old_event_changes_nothing() {
    let old = signal(ACCEPT_QUEUE, &[("refused", 9.0)]);
    assert!(
        TcpListen::default()
            .on_signal(&old, &view(4096, 512, 1))
            .is_empty()
    );
}

/// A listener of a process that cannot be reached keeps its old queue and refuses on.
#[test]
fn refusals_without_a_queue_that_filled_up_change_nothing() {
    let refusals = signal(ACCEPT_QUEUE, &[("accept_queue", 0.0), ("refused", 73.0)]);
    assert!(
        TcpListen::default()
            .on_signal(&refusals, &view(128, 512, 1))
            .is_empty()
    );
}

#[test]
fn in_a_flood_nothing_grows() {
    let mut tuner = TcpListen::default();
    let flood = [
        ("answered", 50.0),
        ("unanswered", 950.0),
        ("refused", 900.0),
    ];
    for scenario in [ACCEPT_QUEUE, SYN_QUEUE] {
        let proposals = tuner.on_signal(&signal(scenario, &flood), &view(128, 512, 1));
        assert!(proposals.is_empty(), "{scenario}: {proposals:?}");
    }
    let lost_packets = [("answered", 2.0), ("unanswered", 9.0)];
    let proposals = tuner.on_signal(&signal(ACCEPT_QUEUE, &lost_packets), &view(128, 512, 1));
    assert_eq!(proposals.len(), 1, "nine are no flood");
}

#[test]
fn handshakes_are_judged_once_they_had_time() {
    let mut tuner = TcpListen::default();
    let burst = |watched| {
        signal(
            SYN_QUEUE,
            &[
                ("syn_queue", 129.0),
                ("refused", 300.0),
                ("watched", watched),
            ],
        )
    };
    assert!(tuner.on_signal(&burst(0.5), &view(128, 512, 1)).is_empty());
    let proposals = tuner.on_signal(&burst(1.5), &view(128, 512, 1));
    assert_eq!(targets(&proposals), [(SOMAXCONN, 512)]);
}

#[test]
fn syncookies_come_on_and_never_go_off() {
    let mut tuner = TcpListen::default();
    let off = view(128, 512, 0);
    let flood = [
        ("syncookies", 0.0),
        ("answered", 5.0),
        ("unanswered", 95.0),
        ("refused", 900.0),
    ];
    let proposals = tuner.on_signal(&signal(SYN_QUEUE, &flood), &off);
    assert_eq!(targets(&proposals), [(SYNCOOKIES, 1)]);
    // Whatever anybody wanted, the bound does not let them be switched off.
    let cookies = tuner.tunables().into_iter().find(|t| t.name == SYNCOOKIES);
    let bounds = cookies.unwrap().bound.ranges(&off.machine);
    assert_eq!(Value::from(0).clamped(&bounds).last(), 1);

    // The admin holds them: then the queue may grow, but not for a flood.
    let held = Decision::Refuse(Refusal::Held {
        by: "sysctl".into(),
    });
    tuner.decided(&proposals[0], &held);
    assert!(tuner.on_signal(&signal(SYN_QUEUE, &flood), &off).is_empty());
    let good = [
        ("syncookies", 0.0),
        ("syn_queue", 384.0),
        ("refused", 900.0),
    ];
    let proposals = tuner.on_signal(&signal(SYN_QUEUE, &good), &off);
    assert_eq!(targets(&proposals), [(MAX_SYN_BACKLOG, 2048)]);
    // Until they may be switched on again.
    let proposal = propose(&signal(SYN_QUEUE, &good), SYNCOOKIES, 1, String::new());
    tuner.decided(&proposal, &Decision::Apply(1.into()));
    let proposals = tuner.on_signal(&signal(SYN_QUEUE, &good), &off);
    assert_eq!(targets(&proposals), [(SYNCOOKIES, 1)]);
}

#[test]
fn memory_is_given_back_halfway() {
    let mut recorded = view(1128, 512, 1);
    recorded.originals = vec![
        (at(SOMAXCONN, NETNS), 128.into()),
        (at(SYNCOOKIES, NETNS), 0.into()),
        (at(MAX_SYN_BACKLOG, NETNS), 512.into()),
    ];
    let proposals = TcpListen::default().on_memory_pressure(&recorded);
    assert_eq!(targets(&proposals), [(SOMAXCONN, 628)]);
}

#[test]
fn bounds_fit_the_machine() {
    for (memory, most) in [(TINY, 1024), (24 << 30, MOST), (HUGE, MOST)] {
        assert_eq!(queue_bound(&machine(memory)), [(1, most)], "{memory}");
    }
}

proptest! {
    #[test]
    fn any_figures_give_a_sane_target(figures in prop::collection::vec(any::<f64>(), 10), now in 0i64..1 << 31) {
        let names = [
            "accept_queue", "syn_queue", "backlog", "somaxconn", "max_syn_backlog",
            "syncookies", "refused", "answered", "unanswered", "watched",
        ];
        let change: Vec<_> = names.into_iter().zip(figures).collect();
        let mut tuner = TcpListen::default();
        for scenario in [ACCEPT_QUEUE, SYN_QUEUE] {
            for proposal in tuner.on_signal(&signal(scenario, &change), &view(now, now, 0)) {
                prop_assert!(proposal.target.last() > 0);
                if proposal.knob.tunable != SYNCOOKIES {
                    prop_assert!(proposal.target.last() >= now);
                }
            }
        }
    }
}
