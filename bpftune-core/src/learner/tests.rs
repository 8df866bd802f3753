use proptest::prelude::*;

use super::*;
use crate::stats::normal;

fn input(value: f64, reading: Reading) -> Input {
    Input {
        at: Duration::ZERO,
        value,
        original: 1000.0,
        low: 1.0,
        high: 1e9,
        reading,
        harm: None,
    }
}

fn spec(json: &str) -> Spec {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn every() -> Vec<Spec> {
    [
        r#"{"name": "limit"}"#,
        r#"{"name": "step"}"#,
        r#"{"name": "aimd"}"#,
        r#"{"name": "hill-climb"}"#,
        r#"{"name": "pid", "setpoint": 5000}"#,
        r#"{"name": "epsilon-greedy", "arms": [100, 200, 300]}"#,
        r#"{"name": "thompson", "arms": [100, 200, 300]}"#,
    ]
    .map(spec)
    .to_vec()
}

#[test]
fn the_simple_ones_do_what_they_say() {
    let next =
        |json: &str, value: f64, reading| Learner::new(spec(json), 0).next(&input(value, reading));
    let limit = r#"{"name": "limit", "growth": 4, "least": 2, "most": 8}"#;
    assert_eq!(
        next(limit, 128.0, Reading::Need(64.0)),
        Some(256.0),
        "at least doubled"
    );
    assert_eq!(next(limit, 128.0, Reading::Need(128.0)), Some(512.0));
    assert_eq!(
        next(limit, 128.0, Reading::Need(1e9)),
        Some(1024.0),
        "at most eightfold"
    );
    assert_eq!(
        next(limit, 1600.0, Reading::Less),
        Some(1300.0),
        "halfway back"
    );
    assert_eq!(
        next(limit, 900.0, Reading::Less),
        None,
        "below its start already"
    );
    let step = r#"{"name": "step", "rate": 0.5}"#;
    assert_eq!(next(step, 100.0, Reading::More), Some(150.0));
    assert_eq!(next(step, 150.0, Reading::Less), Some(100.0));
    assert_eq!(next(step, 150.0, Reading::Score(1.0)), None);
    let aimd = r#"{"name": "aimd", "increase": 0.1}"#;
    assert_eq!(next(aimd, 5000.0, Reading::More), Some(5100.0));
    assert_eq!(next(aimd, 5000.0, Reading::Less), Some(2500.0));
    assert_eq!(next(step, 1e9, Reading::More), None, "at its bound");
    assert_eq!(next(step, f64::NAN, Reading::More), None);
}

#[test]
fn a_configuration_is_checked_with_the_way_out() {
    for learner in every() {
        learner.check().unwrap();
        let json = serde_json::to_string(&learner).unwrap();
        assert_eq!(spec(&json), learner);
        assert!(json.contains(learner.name()));
    }
    for bad in [
        r#"{"name": "climb"}"#,
        r#"{"name": "step", "rat": 1}"#,
        r#"{"name": "pid"}"#,
        r#"{"name": "thompson"}"#,
    ] {
        assert!(serde_json::from_str::<Spec>(bad).is_err(), "{bad}");
    }
    for (bad, names) in [
        (
            r#"{"name": "step", "rate": 0}"#,
            "rate = 0 must lie between",
        ),
        (
            r#"{"name": "limit", "least": 9}"#,
            "most = 8 must lie between 9",
        ),
        (r#"{"name": "pid", "setpoint": -1}"#, "setpoint"),
        (r#"{"name": "hill-climb", "samples": 2}"#, "samples"),
        (r#"{"name": "thompson", "arms": [1]}"#, "2 to 64"),
        (r#"{"name": "epsilon-greedy", "arms": [1, 1]}"#, "twice"),
    ] {
        let error = spec(bad).check().unwrap_err();
        assert!(error.contains(names), "{error}");
    }
    let gives = [Kind::Need];
    spec(r#"{"name": "aimd"}"#)
        .check_for("tcp-buffer", &gives)
        .unwrap();
    let error = every()[3].check_for("tcp-buffer", &gives).unwrap_err();
    assert_eq!(
        error,
        "learner \"hill-climb\" needs a score, which tcp-buffer does not give; it can use limit, step, aimd"
    );
}

/// What each learner likes to be told, with a top at 4000.
fn reading(spec: &Spec, value: f64, rng: &mut fastrand::Rng) -> Reading {
    let noise = 1.0 + 0.05 * normal::sample(rng);
    match spec.takes() {
        Kind::Pressure | Kind::Need if value < 4000.0 => Reading::Need(value),
        Kind::Pressure | Kind::Need => Reading::Score(0.0),
        Kind::Score => Reading::Score((-(value / 4000.0).ln().powi(2)).exp() * noise),
        Kind::Measure => Reading::Measure(value * 1.25 * noise),
    }
}

#[test]
fn a_saved_learner_goes_on_as_if_nothing_had_been() {
    for spec in every() {
        let mut learner = Learner::new(spec.clone(), 3).guarded(guard::Params::default());
        let (mut rng, mut value) = (fastrand::Rng::with_seed(5), 1000.0);
        for second in 0..300 {
            let input = Input {
                at: Duration::from_secs(second),
                harm: Some(rng.f64()),
                ..input(value, reading(&spec, value, &mut rng))
            };
            let saved = learner.save();
            let mut twin = Learner::load(&spec, Some(&guard::Params::default()), &saved).unwrap();
            let next = learner.next(&input);
            assert_eq!(
                (twin.next(&input), &twin),
                (next, &learner),
                "{}",
                spec.name()
            );
            value = next.unwrap_or(value);
        }
        assert!(matches!(
            Learner::load(&spec, None, &learner.save()),
            Err(SavedError::Spec)
        ));
        let other = &every()[usize::from(spec.name() == "limit")];
        assert!(matches!(
            Learner::load(other, None, &Learner::new(spec, 0).save()),
            Err(SavedError::Spec)
        ));
    }
    let newer = every()[0].clone();
    let saved = Learner::new(newer.clone(), 0)
        .save()
        .replace("\"version\":1", "\"version\":2");
    assert!(matches!(
        Learner::load(&newer, None, &saved),
        Err(SavedError::Version(2))
    ));
    assert!(matches!(
        Learner::load(&newer, None, "{}"),
        Err(SavedError::Json(_))
    ));
}

#[test]
fn hill_climb_comes_to_the_top_from_both_sides() {
    for (start, seed) in [
        (800.0, 1),
        (1000.0, 2),
        (4000.0, 3),
        (15_000.0, 4),
        (20_000.0, 5),
    ] {
        let mut learner = Learner::new(every()[3].clone(), 0);
        let (mut rng, mut value, mut turns, mut last) =
            (fastrand::Rng::with_seed(seed), start, 0, 0.0);
        for _ in 0..2000 {
            let seen = reading(learner.spec(), value, &mut rng);
            if let Some(next) = learner.next(&input(value, seen)) {
                let direction = (next - value).signum();
                turns += usize::from(direction * last < 0.0);
                (value, last) = (next, direction);
            }
        }
        assert!(
            (0.7..1.4).contains(&(value / 4000.0)),
            "from {start} to {value}"
        );
        assert!(turns <= 2, "from {start} turned {turns} times");
    }
}

#[test]
fn hill_climb_takes_a_revert_as_an_answer_and_a_strangers_value_as_a_new_start() {
    let mut learner = Learner::new(every()[3].clone(), 0);
    let score = |value: f64| Reading::Score(value);
    let until = |value: f64, learner: &mut Learner| {
        (0..100)
            .find_map(|_| learner.next(&input(value, score(value))))
            .unwrap_or(value)
    };
    assert_eq!(until(1000.0, &mut learner), 1250.0);
    assert_eq!(
        until(1000.0, &mut learner),
        1250.0,
        "a step that the governor did not let through yet is asked for again"
    );
    assert_eq!(learner.next(&input(1250.0, score(1250.0))), None);
    let back = until(1000.0, &mut learner);
    assert!(
        back < 1000.0,
        "put back: measured anew, then the other way, not {back}"
    );
    assert_eq!(
        until(5000.0, &mut learner),
        6250.0,
        "from where somebody put it"
    );
}

#[test]
fn pid_leads_to_its_set_point_without_swinging() {
    for inverse in [false, true] {
        let params = pid::Params {
            inverse,
            ..pid::Params::to(5000.0)
        };
        let mut learner = Learner::new(Spec::Pid(params), 0);
        let measure = |value: f64| if inverse { 2e7 / value } else { value * 1.25 };
        let (mut rng, mut value, mut turns, mut last) =
            (fastrand::Rng::with_seed(9), 100.0, 0, 0.0);
        for _ in 0..2000 {
            let seen = measure(value) * (1.0 + 0.05 * normal::sample(&mut rng));
            if let Some(next) = learner.next(&input(value, Reading::Measure(seen))) {
                let direction = (next - value).signum();
                turns += usize::from(direction * last < 0.0);
                (value, last) = (next, direction);
            }
        }
        assert!((0.85..1.15).contains(&(measure(value) / 5000.0)), "{value}");
        assert_eq!(turns, 0);
    }
}

#[test]
fn bandits_find_the_best_and_follow_it_when_it_moves() {
    for (json, least) in [
        (
            r#"{"name": "epsilon-greedy", "arms": [1, 2, 3, 4], "half_life_seconds": 60}"#,
            0.85,
        ),
        (
            r#"{"name": "thompson", "arms": [1, 2, 3, 4], "half_life_seconds": 60}"#,
            0.85,
        ),
    ] {
        let mut learner = Learner::new(spec(json), 11);
        let (mut rng, mut value) = (fastrand::Rng::with_seed(2), 1.0);
        let mut played = [0; 2];
        for second in 0..2000_u64 {
            let best = if second < 1000 { 2.0 } else { 4.0 };
            let score = if value == best { 1.1 } else { 1.0 } + 0.05 * normal::sample(&mut rng);
            let input = Input {
                at: Duration::from_secs(second),
                ..input(value, Reading::Score(score))
            };
            value = learner.next(&input).unwrap_or(value);
            if second % 1000 >= 500 {
                played[usize::from(second >= 1000)] += usize::from(value == best);
            }
        }
        for plays in played {
            assert!(plays as f64 >= 500.0 * least, "{json}: {plays} of 500");
        }
    }
}

#[test]
fn the_guard_stops_where_harm_goes_along_and_lets_go() {
    let mut learner = Learner::new(every()[1].clone(), 0).guarded(guard::Params::default());
    let (mut value, mut rng) = (1000.0, fastrand::Rng::with_seed(4));
    for second in 0..60 {
        let harm = Some(value * (1.0 + 0.05 * normal::sample(&mut rng)));
        let input = Input {
            at: Duration::from_secs(second),
            harm,
            ..input(value, Reading::More)
        };
        value = learner.next(&input).unwrap_or(value);
    }
    assert!(value < 1000.0 * 1.25_f64.powi(25), "stopped, not {value}");
    assert!(
        learner
            .guard
            .as_ref()
            .unwrap()
            .sure(Duration::from_secs(60))
            .unwrap()
            .r
            > 0.5
    );
    let down = Input {
        at: Duration::from_secs(61),
        ..input(value, Reading::Less)
    };
    assert!(learner.next(&down).is_some(), "the way back is free");

    let mut free = Learner::new(every()[1].clone(), 0).guarded(guard::Params::default());
    let mut value = 1000.0;
    for second in 0..30 {
        let input = Input {
            at: Duration::from_secs(second),
            harm: Some(rng.f64()),
            ..input(value, Reading::More)
        };
        value = free.next(&input).unwrap_or(value);
    }
    assert!(
        value > 1000.0 * 1.25_f64.powi(20),
        "harm by chance stops nothing: {value}"
    );
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let number = prop::num::f64::ANY;
    prop_oneof![
        Just(Reading::More),
        Just(Reading::Less),
        number.prop_map(Reading::Need),
        number.prop_map(Reading::Score),
        number.prop_map(Reading::Measure),
    ]
}

proptest! {
    #[test]
    fn none_leaves_its_bounds_or_panics(
        which in 0usize..7,
        readings in prop::collection::vec((any_reading(), prop::option::of(prop::num::f64::ANY)), 1..200),
        low in -10.0f64..1e4,
        room in 0.0f64..1e6,
    ) {
        let mut learner = Learner::new(every()[which].clone(), 1).guarded(guard::Params::default());
        let mut value = low + room / 3.0;
        for (i, (reading, harm)) in readings.into_iter().enumerate() {
            let at = Duration::from_secs(i as u64);
            let input = Input { at, value, original: low, low, high: low + room, reading, harm };
            if let Some(next) = learner.next(&input) {
                prop_assert!((low..=low + room).contains(&next), "{next}");
                prop_assert!(next != value);
                value = next;
            }
        }
    }

    #[test]
    fn a_limit_ends_at_the_need_from_any_start(start in 1u64..1_000_000, need in 1.0f64..1e12) {
        let learner = || Learner::new(every()[0].clone(), 0);
        let (mut limit, mut steps) = (start as f64, 0);
        while limit < need {
            let input = Input { high: f64::MAX, ..input(limit, Reading::Need(limit)) };
            limit = learner().next(&input).unwrap();
            steps += 1;
            prop_assert!(steps < 130);
        }
        prop_assert!(start as f64 >= need || limit < need * 1.2500001);
    }
}
