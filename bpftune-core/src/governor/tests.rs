use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::{Bound, Cost, NetnsCookie};

mod files;
mod properties;

const NAME: &str = "net.ipv4.tcp_rmem";

fn machine() -> Machine {
    Machine {
        memory_total: 1 << 30,
        memory_available: 1 << 29,
        page_size: 4096,
        cpus: 2,
        tcp_memory: 0,
        tcp_memory_pressure: u64::MAX,
    }
}

fn tunable(scope: Scope) -> Tunable {
    Tunable {
        name: NAME.into(),
        scope,
        unit: "bytes".into(),
        about: "".into(),
        bound: Bound::Derived(|_| vec![(0, 10), (0, 100), (50, 1000)]),
        cost: Cost::ByUnit,
    }
}

fn knob() -> Knob {
    Knob {
        tunable: NAME.into(),
        netns: NetnsCookie(1),
    }
}

fn governor(policy: Policy) -> Governor {
    let mut governor = Governor::new(policy);
    governor
        .register(tunable(Scope::Netns), "tcp-buffer")
        .unwrap();
    governor
}

fn to(last: i64) -> Proposal {
    Proposal {
        knob: knob(),
        target: Value::new([1, 10, last]),
        reason: String::new(),
        urgency: Urgency::Gain,
    }
}

fn current(last: i64) -> Value {
    Value::new([1, 10, last])
}

#[test]
fn one_owner_a_tunable() {
    let error = governor(Policy::default())
        .register(tunable(Scope::Netns), "other")
        .unwrap_err();
    assert!(error.to_string().contains("tcp-buffer"), "{error}");
}

#[test]
fn moves_into_bounds_and_refuses_at_them() {
    let governor = governor(Policy::default());
    let now = Instant::now();
    assert_eq!(
        governor.decide(&to(5000), &current(200), &machine(), now),
        Decision::Apply(current(1000))
    );
    for present in [1000, 4000] {
        // 4000: an admin went past the bound. A rise must not become a fall.
        assert_eq!(
            governor.decide(&to(8000), &current(present), &machine(), now),
            Decision::Refuse(Refusal::AtBound { bound: 1000 })
        );
    }
}

#[test]
fn rests_between_changes_and_directions() {
    let mut governor = governor(Policy::default());
    let start = Instant::now();
    governor.changed(&knob(), 1, start);
    let at = |ms| start + Duration::from_millis(ms);
    let decide =
        |proposal: &Proposal, ms| governor.decide(proposal, &current(200), &machine(), at(ms));
    assert!(matches!(
        decide(&to(400), 10),
        Decision::Refuse(Refusal::CoolDown { .. })
    ));
    assert!(matches!(decide(&to(400), 50), Decision::Apply(_)));
    assert!(matches!(
        decide(&to(100), 50),
        Decision::Refuse(Refusal::Hysteresis { .. })
    ));
    let harm = Proposal {
        urgency: Urgency::Harm,
        ..to(100)
    };
    assert!(matches!(decide(&harm, 1), Decision::Apply(_)));
    assert!(matches!(decide(&to(100), 61_000), Decision::Apply(_)));
}

#[test]
fn counts_reversals_and_the_hour() {
    let mut governor = governor(Policy {
        changes_per_hour: 3,
        ..Policy::default()
    });
    let start = Instant::now();
    for (i, direction) in [1, -1, -1].into_iter().enumerate() {
        governor.changed(&knob(), direction, start + Duration::from_secs(i as u64));
    }
    assert_eq!(governor.history(&knob()).unwrap().reversals, 1);
    let later = |s| start + Duration::from_secs(s);
    let lower = to(60);
    assert!(matches!(
        governor.decide(&lower, &current(200), &machine(), later(100)),
        Decision::Refuse(Refusal::HourlyLimit { changes: 3, .. })
    ));
    assert!(matches!(
        governor.decide(&lower, &current(200), &machine(), later(3700)),
        Decision::Apply(_)
    ));
}

#[test]
fn a_knob_that_turns_keeps_room_for_a_revert_and_then_stays() {
    let mut governor = governor(Policy::default());
    let start = Instant::now();
    let at = |minutes: u64| start + Duration::from_secs(minutes * 60);
    let decide = |governor: &Governor, target, urgency, minutes| {
        let proposal = Proposal {
            urgency,
            ..to(target)
        };
        governor.decide(&proposal, &current(200), &machine(), at(minutes))
    };
    let flapping = |turns| {
        let lever = Policy::default()
            .origins
            .lever("governor", "reversals_per_hour");
        Decision::Refuse(Refusal::Flapping { turns, lever })
    };
    governor.changed(&knob(), 1, at(0));
    governor.changed(&knob(), -1, at(2)); // one turn
    assert_eq!(decide(&governor, 400, Urgency::Gain, 10), flapping(1));
    assert!(matches!(
        decide(&governor, 100, Urgency::Gain, 10),
        Decision::Apply(_)
    ));
    governor.changed(&knob(), 1, at(11)); // put back by a trial: the second
    for target in [100, 400] {
        assert_eq!(decide(&governor, target, Urgency::Gain, 20), flapping(2));
    }
    assert!(matches!(
        decide(&governor, 100, Urgency::Harm, 20),
        Decision::Apply(_)
    ));
    assert!(matches!(
        decide(&governor, 400, Urgency::Gain, 72),
        Decision::Apply(_)
    ));
    // A turn that averts harm is free.
    governor.changed(&knob(), -1, at(80));
    governor.excused(&knob());
    assert!(matches!(
        decide(&governor, 400, Urgency::Gain, 85),
        Decision::Apply(_)
    ));
    assert_eq!(governor.history(&knob()).unwrap().reversals, 3);
}

#[test]
fn the_admins_word_and_harm_stand() {
    let mut governor = governor(Policy::default());
    let now = Instant::now();
    governor.hold(knob(), "sysctl (process 7)".into());
    let Decision::Refuse(refusal) = governor.decide(&to(400), &current(200), &machine(), now)
    else {
        panic!("held")
    };
    assert!(refusal.to_string().contains("sysctl (process 7)") && refusal.is_news());
    governor.rearm(&knob());
    governor.harmed(&knob(), now);
    assert!(matches!(
        governor.decide(&to(400), &current(200), &machine(), now),
        Decision::Refuse(Refusal::Resting { .. })
    ));
}

#[test]
fn modes_and_scope() {
    let now = Instant::now();
    for (mode, wanted) in [
        (
            Mode::Observe,
            Decision::Refuse(Refusal::Observing {
                lever: Policy::default().origins.lever("governor", "mode"),
            }),
        ),
        (Mode::Advise, Decision::Advise(current(400))),
        (Mode::Auto, Decision::Apply(current(400))),
    ] {
        let governor = governor(Policy {
            mode,
            ..Policy::default()
        });
        assert_eq!(
            governor.decide(&to(400), &current(200), &machine(), now),
            wanted
        );
        assert_eq!(mode.to_string().parse::<Mode>().unwrap(), mode);
    }
    let mut governor = Governor::new(Policy {
        global: false,
        ..Policy::default()
    });
    governor
        .register(tunable(Scope::Global), "tcp-buffer")
        .unwrap();
    assert!(matches!(
        governor.decide(&to(400), &current(200), &machine(), now),
        Decision::Refuse(Refusal::GlobalDenied { .. })
    ));
}

proptest! {
    #[test]
    fn never_leaves_the_bounds(target in any::<i64>(), present in 0i64..1_000_000) {
        let governor = governor(Policy::default());
        if let Decision::Apply(value) =
            governor.decide(&to(target), &current(present), &machine(), Instant::now())
        {
            prop_assert!((50..=1000).contains(&value.last()));
            prop_assert_eq!(value.direction_from(&current(present)), to(target).target.direction_from(&current(present)));
        }
    }
}

#[test]
fn changes_of_an_earlier_run_count_for_the_limits() {
    let policy = Policy {
        changes_per_hour: 2,
        reversals_per_hour: 3,
        ..Policy::default()
    };
    let now = Instant::now();
    let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
    let decide = |governor: &Governor| governor.decide(&to(90), &current(60), &machine(), now);
    let mut fresh = governor(policy.clone());
    fresh.remember(&knob(), 1, false, ago(3500));
    assert!(matches!(decide(&fresh), Decision::Apply(_)));
    fresh.remember(&knob(), 1, false, ago(120));
    assert!(matches!(
        decide(&fresh),
        Decision::Refuse(Refusal::HourlyLimit { changes: 2, .. })
    ));
    assert_eq!(fresh.history(&knob()).unwrap().changes, 0, "not this run's");

    // Turns count, but for those that averted harm.
    for (averted_harm, flaps) in [(false, true), (true, false)] {
        let mut governor = governor(Policy {
            changes_per_hour: 60,
            ..policy.clone()
        });
        for (seconds, direction) in [(400, 1), (300, -1), (200, 1)] {
            governor.remember(&knob(), direction, averted_harm, ago(seconds));
        }
        let down = governor.decide(&to(60), &current(90), &machine(), now);
        let refused = matches!(down, Decision::Refuse(Refusal::Flapping { .. }));
        assert_eq!(refused, flaps, "{down:?}");
    }
}

#[test]
fn a_family_has_one_owner_and_limits_for_each_device() {
    let name = "/sys/block/*/queue/scheduler";
    let family = |name: &'static str| Tunable {
        name: name.into(),
        scope: Scope::Global,
        unit: "choice".into(),
        about: "".into(),
        bound: Bound::Words(&["none", "kyber"]),
        cost: Cost::Nothing,
    };
    let mut policy = Policy::default();
    policy.tunable.insert(
        "/sys/block/vda/*".parse().unwrap(),
        crate::config::schema::Tunable {
            mode: Some(Mode::Observe),
            ..Default::default()
        },
    );
    let mut governor = Governor::new(policy);
    governor.register(family(name), "blk-queue").unwrap();
    let one = family("/sys/block/vdb/queue/scheduler");
    assert!(governor.register(one, "other").is_err(), "it has an owner");
    let decide = |device: &str, word: &str| {
        let proposal = Proposal {
            knob: Knob {
                tunable: name.replace('*', device),
                netns: NetnsCookie(1),
            },
            target: Value::word(word),
            reason: String::new(),
            urgency: Urgency::Gain,
        };
        governor.decide(&proposal, &Value::word("none"), &machine(), Instant::now())
    };
    assert_eq!(
        decide("vdb", "kyber"),
        Decision::Apply(Value::word("kyber"))
    );
    assert!(matches!(
        decide("vda", "kyber"),
        Decision::Refuse(Refusal::Observing { .. })
    ));
    assert!(matches!(
        decide("vdb", "bfq"),
        Decision::Refuse(Refusal::NoSuchWord { .. })
    ));
    assert!(matches!(
        decide("vdb", "none"),
        Decision::Refuse(Refusal::AtBound { .. })
    ));
    assert_eq!(
        governor.owner("/sys/block/vdc/queue/scheduler"),
        Some("blk-queue")
    );
}
