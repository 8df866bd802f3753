//! What an operator's files say, and what the governor makes of it.

use super::*;
use crate::config::Draft;

const OTHER: &str = "net.core.rmem_max";

fn policy(text: &str) -> Policy {
    let mut draft = Draft::default();
    draft.add("/etc/bpftune/bpftune.toml", text);
    Policy::from(&draft.finish().unwrap())
}

/// With two tunables of one tuner: rows in each namespace, and a single number for the host.
fn with(text: &str) -> Governor {
    let mut governor = super::governor(policy(text));
    let other = Tunable {
        name: OTHER.into(),
        bound: Bound::Fixed(vec![(0, 1 << 40)]),
        ..tunable(Scope::Global)
    };
    governor.register(other, "tcp-buffer").unwrap();
    governor
}

fn other(last: i64) -> Proposal {
    let knob = Knob {
        tunable: OTHER.into(),
        netns: NetnsCookie(0),
    };
    Proposal {
        knob,
        target: Value::from(last),
        ..to(0)
    }
}

fn now() -> Moment {
    Moment::from(Instant::now())
}

fn refusal(decision: Decision) -> String {
    match decision {
        Decision::Refuse(refusal) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_most_specific_section_wins() {
    let governor = with(
        "
        [governor]
        mode = \"observe\"
        [tuner.tcp-buffer]
        mode = \"advise\"
        [tunable.\"net.*\"]
        cool_down = \"5s\"
        mode = \"observe\"
        [tunable.\"net.ipv4.tcp_r*\"]
        mode = \"auto\"
        [tunable.\"net.core.rmem_max\"]
        mode = \"advise\"
    ",
    );
    assert!(matches!(
        governor.decide(&to(400), &current(200), &machine(), now()),
        Decision::Apply(_)
    ));
    let advised = governor.decide(&other(400), &Value::from(200), &machine(), now());
    assert!(matches!(advised, Decision::Advise(_)));
    assert!(!governor.observes("tcp-buffer"));
    let governor = with("[tuner.tcp-buffer]\nmode = \"observe\"\n");
    assert!(governor.observes("tcp-buffer"));
    let why = refusal(governor.decide(&to(400), &current(200), &machine(), now()));
    assert_eq!(
        why,
        "mode observe (mode in [tuner.tcp-buffer], set in /etc/bpftune/bpftune.toml:2)"
    );
}

#[test]
fn a_cap_is_never_passed() {
    for (most, canary) in [
        (Some(Mode::Advise), None),
        (None, Some(Mode::Advise)),
        (Some(Mode::Auto), Some(Mode::Advise)),
    ] {
        let policy = Policy {
            most: most.map(|mode| (mode, Lever::new("--mode on the command line"))),
            canary,
            ..policy("[tunable.\"net.ipv4.tcp_rmem\"]\nmode = \"auto\"\n")
        };
        let governor = super::governor(policy);
        assert!(matches!(
            governor.decide(&to(400), &current(200), &machine(), now()),
            Decision::Advise(_)
        ));
    }
}

/// Each refusal has a sentence of its own, and names the key and where it is or would be.
#[test]
fn refusals_name_the_key_and_the_file() {
    let file = "/etc/bpftune/bpftune.toml";
    for (text, why) in [
        (
            "[governor]\ndeny = [\"net.ipv4.*\"]\n",
            format!("the operator leaves it alone (deny in [governor], set in {file}:2)"),
        ),
        (
            "[governor]\nallow = [\"vm.*\"]\n",
            format!("the operator leaves it alone (allow in [governor], set in {file}:2)"),
        ),
        (
            "[governor]\ndeny_places = [\"*\"]\n",
            format!(
                "the operator leaves netns 1 alone (deny_places in [governor], set in {file}:2)"
            ),
        ),
        (
            "[tunable.\"net.ipv4.tcp_rmem\"]\nmax = 200\n",
            format!(
                "already at the operator's bound, 200 (max in [tunable.\"net.ipv4.tcp_rmem\"], set in {file}:2)"
            ),
        ),
        (
            "[maintenance]\nwindows = [\"fri\"]\nzone = \"utc\"\n",
            format!(
                "outside of the maintenance windows (windows in [maintenance], set in {file}:2)"
            ),
        ),
        (
            "[governor]\nchanges_per_hour = 0\n",
            format!(
                "changed 0 times in the last hour (changes_per_hour in [governor], set in {file}:2)"
            ),
        ),
        (
            "[governor]\nchanges_per_hour_total = 0\n",
            format!(
                "0 changes were made in the last hour (changes_per_hour_total in [governor], set in {file}:2)"
            ),
        ),
        (
            "[governor]\nmemory_budget = \"150B\"\n",
            format!(
                "it may cost 200 bytes of memory, and 150 are left (memory_budget in [governor], set in {file}:2)"
            ),
        ),
    ] {
        let mut governor = with(text);
        governor.name_place(NetnsCookie(1), || "netns 1".into());
        assert_eq!(
            refusal(governor.decide(&to(400), &current(200), &machine(), now())),
            why,
            "{text}"
        );
    }
    let mut governor = with("");
    governor.changed(&knob(), 1, Instant::now());
    let why = refusal(governor.decide(&to(400), &current(200), &machine(), now()));
    assert!(
        why.ends_with(&format!(
            "(cool_down in [governor], not set in {file}: the default holds)"
        )),
        "{why}"
    );
}

#[test]
fn places_are_named_once_and_only_if_needed() {
    let mut governor = with("");
    governor.name_place(NetnsCookie(1), || panic!("no rule asks for it"));
    let mut governor = with("[governor]\nallow_places = [\"/run/netns/web*\"]\n");
    governor.name_place(NetnsCookie(1), || "/run/netns/web-1".into());
    assert!(matches!(
        governor.decide(&to(400), &current(200), &machine(), now()),
        Decision::Apply(_)
    ));
    let elsewhere = Proposal {
        knob: Knob {
            netns: NetnsCookie(2),
            ..knob()
        },
        ..to(400)
    };
    governor.name_place(NetnsCookie(2), || "host".into());
    let why = refusal(governor.decide(&elsewhere, &current(200), &machine(), now()));
    assert!(
        why.starts_with("the operator leaves host alone (allow_places"),
        "{why}"
    );
    governor.set_policy(policy("[governor]\ndeny_places = [\"/run/netns/*\"]\n"));
    assert!(matches!(
        governor.decide(&elsewhere, &current(200), &machine(), now()),
        Decision::Apply(_)
    ));
    let why = refusal(governor.decide(&to(400), &current(200), &machine(), now()));
    assert!(
        why.starts_with("the operator leaves /run/netns/web-1 alone (deny_places"),
        "{why}"
    );
}

#[test]
fn bounds_are_the_narrower_of_both() {
    let governor = with("[tunable.\"net.ipv4.tcp_rmem\"]\nmin = 100\nmax = \"1/2097152 ram\"\n");
    let decide =
        |target, present| governor.decide(&to(target), &current(present), &machine(), now());
    // 1 GiB / 2^21.
    assert_eq!(decide(5000, 200), Decision::Apply(current(512)));
    assert_eq!(decide(60, 200), Decision::Apply(current(100)));
    let governor = with("[tunable.\"net.ipv4.tcp_rmem\"]\nmax = 5000\n");
    assert_eq!(
        governor.decide(&to(9000), &current(1000), &machine(), now()),
        Decision::Refuse(Refusal::AtBound { bound: 1000 })
    );
    // The machine's own bound has moved below the operator's minimum: there is no room at all.
    let mut governor = Governor::new(policy("[tunable.\"net.ipv4.tcp_rmem\"]\nmin = 2000\n"));
    governor
        .register(tunable(Scope::Netns), "tcp-buffer")
        .unwrap();
    assert!(matches!(
        governor.decide(&to(9000), &current(200), &machine(), now()),
        Decision::Refuse(Refusal::AtBound { bound: 1000 })
    ));
}

#[test]
fn windows_open_and_close_and_harm_passes() {
    let governor = with("[maintenance]\nwindows = [\"mon-fri 22:00-06:00\"]\nzone = \"utc\"\n");
    let at = |day, hour: u16| Moment {
        utc: WallTime {
            day,
            minute: hour * 60,
        },
        ..Moment::from(Instant::now())
    };
    let decide = |proposal: &Proposal, at| governor.decide(proposal, &current(200), &machine(), at);
    assert!(matches!(decide(&to(400), at(1, 23)), Decision::Apply(_)));
    assert!(matches!(
        decide(&to(400), at(1, 12)),
        Decision::Refuse(Refusal::OutsideWindows { .. })
    ));
    let harm = Proposal {
        urgency: Urgency::Harm,
        ..to(100)
    };
    assert!(matches!(decide(&harm, at(1, 12)), Decision::Apply(_)));
    // Local time is another clock.
    let governor = with("[maintenance]\nwindows = [\"mon-fri 22:00-06:00\"]\n");
    let local = Moment {
        local: WallTime { day: 1, minute: 0 },
        ..at(1, 12)
    };
    assert!(matches!(
        governor.decide(&to(400), &current(200), &machine(), local),
        Decision::Apply(_)
    ));
}

#[test]
fn a_new_policy_holds_from_the_next_decision_on_and_forgets_nothing() {
    let mut governor = with("");
    let start = Instant::now();
    governor.changed(&knob(), 1, start);
    let later = start + Duration::from_secs(30);
    let down = |governor: &Governor| governor.decide(&to(100), &current(200), &machine(), later);
    assert!(matches!(
        down(&governor),
        Decision::Refuse(Refusal::Hysteresis { .. })
    ));
    governor.set_policy(policy("[governor]\nhysteresis = \"1s\"\n"));
    assert!(matches!(down(&governor), Decision::Apply(_)));
    governor.set_policy(policy("[tunable.\"net.*\"]\nchanges_per_hour = 1\n"));
    assert!(matches!(
        governor.decide(&to(400), &current(200), &machine(), later),
        Decision::Refuse(Refusal::HourlyLimit { changes: 1, .. })
    ));
}

#[test]
fn the_budget_is_shared_and_given_back() {
    let mut governor = with("[governor]\nmemory_budget = \"300B\"\n");
    let decide =
        |governor: &Governor| governor.decide(&other(250), &Value::from(50), &machine(), now());
    assert!(matches!(decide(&governor), Decision::Apply(_)));
    governor.reserve(&knob(), &current(200), &current(400));
    assert_eq!(governor.memory_spent(), 200);
    assert!(refusal(decide(&governor)).contains("200 bytes of memory, and 100 are left"));
    // It could not be written.
    governor.release(&knob(), &current(200), &current(200));
    assert_eq!(governor.memory_spent(), 0);
    assert!(matches!(decide(&governor), Decision::Apply(_)));
    governor.charge(&knob(), &current(200), &current(400));
    governor.hold(knob(), "somebody".into());
    assert_eq!(governor.memory_spent(), 0);
}
