use proptest::prelude::*;

use super::*;
use crate::testing::{NETNS, Recorded};

fn view(range: [i64; 2], tw_reuse: i64, timestamps: i64) -> Recorded {
    Recorded::new(&[
        (RANGE, NETNS, &range),
        (TW_REUSE, NETNS, &[tw_reuse]),
        (FIN_TIMEOUT, NETNS, &[60]),
        (TIMESTAMPS, NETNS, &[timestamps]),
    ])
}

fn signal(change: &[(&'static str, f64)]) -> Signal {
    let usual = [
        ("failed", 40.0),
        ("low", 32768.0),
        ("high", 60999.0),
        ("floor", 8081.0),
        ("ceiling", 65535.0),
        ("time_wait", 0.0),
        ("in_use", 28000.0),
        ("tw_reuse", 2.0),
        ("fin_timeout", 60.0),
    ];
    let value = |name| change.iter().find(|(other, _)| *other == name);
    let figures = usual.map(|(name, usual)| (name, value(name).map_or(usual, |(_, v)| *v)));
    crate::testing::signal(NO_PORT, &figures)
}

fn wanted(proposals: &[Proposal]) -> Vec<(&str, String)> {
    proposals
        .iter()
        .map(|p| (p.knob.tunable.as_str(), p.target.to_string()))
        .collect()
}

const USUAL: [i64; 2] = [32768, 60999];

#[test]
fn ports_that_nobody_uses_come_first() {
    let waiting = signal(&[("time_wait", 28000.0)]);
    let mut tuner = TcpPorts;
    let proposals = tuner.on_signal(&waiting, &view(USUAL, 2, 1));
    assert_eq!(wanted(&proposals), [(TW_REUSE, "1".to_owned())]);
    let reason = &proposals[0].reason;
    assert!(
        reason.contains("28000 connections are in TIME_WAIT"),
        "{reason}"
    );
    // On already, or without timestamps to tell old from new.
    for (reuse, timestamps) in [(1, 1), (2, 0)] {
        let waiting = signal(&[("time_wait", 28000.0), ("tw_reuse", reuse as f64)]);
        let proposals = tuner.on_signal(&waiting, &view(USUAL, reuse, timestamps));
        assert_eq!(wanted(&proposals), [(RANGE, "10240 65535".to_owned())]);
    }
    // Nothing else is left.
    let shut_in = [
        ("time_wait", 28000.0),
        ("tw_reuse", 1.0),
        ("floor", 32768.0),
        ("ceiling", 60999.0),
    ];
    let proposals = tuner.on_signal(&signal(&shut_in), &view(USUAL, 1, 1));
    assert_eq!(wanted(&proposals), [(FIN_TIMEOUT, "30".to_owned())]);
}

#[test]
fn a_range_grows_upwards_first_and_never_changes_its_direction() {
    let small = [("low", 32768.0), ("high", 33767.0)];
    let proposals = TcpPorts.on_signal(&signal(&small), &view([32768, 33767], 2, 1));
    assert_eq!(wanted(&proposals), [(RANGE, "32768 34767".to_owned())]);
    // Step by step to the end, as the governor sees it.
    for (mut range, ceiling) in [([32768, 33767], 65535.0), ([32768, 33767], 33767.0)] {
        let mut directions = Vec::new();
        loop {
            let seen = [
                ("low", range[0] as f64),
                ("high", range[1] as f64),
                ("ceiling", ceiling),
            ];
            let proposals = TcpPorts.on_signal(&signal(&seen), &view(range, 2, 1));
            let Some(proposal) = proposals.first() else {
                break;
            };
            directions.push(proposal.target.direction_from(&Value::new(range)));
            range.copy_from_slice(proposal.target.numbers());
        }
        directions.dedup();
        assert_eq!(directions.len(), 1, "one way only");
        assert_eq!(range, [LOWEST, ceiling as i64]);
    }
}

#[test]
fn a_range_stops_before_listeners() {
    let shut_in = signal(&[("floor", 32700.0), ("ceiling", 61000.0)]);
    let proposals = TcpPorts.on_signal(&shut_in, &view(USUAL, 2, 1));
    assert_eq!(wanted(&proposals), [(RANGE, "32700 61000".to_owned())]);
    let full = signal(&[("floor", 32768.0), ("ceiling", 60999.0)]);
    assert!(TcpPorts.on_signal(&full, &view(USUAL, 2, 1)).is_empty());
}

#[test]
fn an_old_event_changes_nothing() {
    for now in [view([20000, 65535], 2, 1), view(USUAL, 1, 1)] {
        assert!(TcpPorts.on_signal(&signal(&[]), &now).is_empty());
    }
}

proptest! {
    #[test]
    fn any_figures_give_a_range_that_holds_the_old_one(
        figures in prop::collection::vec(any::<f64>(), 7),
        low in 1i64..65536,
        high in 1i64..65536,
    ) {
        let names = ["failed", "floor", "ceiling", "time_wait", "in_use"];
        let mut change: Vec<_> = names.into_iter().zip(figures).collect();
        change.extend([("low", low as f64), ("high", high as f64)]);
        for proposal in TcpPorts.on_signal(&signal(&change), &view([low, high], 2, 1)) {
            if proposal.knob.tunable == RANGE {
                let numbers = proposal.target.numbers();
                prop_assert!(numbers[0] <= low && numbers[1] >= high);
                prop_assert!(numbers[0] >= 1 && numbers[1] <= HIGHEST);
            }
        }
    }
}
