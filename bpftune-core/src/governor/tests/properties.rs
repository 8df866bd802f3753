//! What holds whatever the files say and whatever is proposed.

use std::collections::BTreeMap;

use super::*;
use crate::config::Draft;

const PAGE: u64 = 4096;
const NAMES: [(&str, &str, i64, i64); 3] = [
    ("net.a.bytes", "bytes", 10, 1 << 40),
    ("net.a.pages", "pages", 0, 1 << 20),
    ("net.b.flag", "boolean", 0, 1),
];

/// A part of a file for one key, or nothing.
fn maybe(
    key: &'static str,
    value: impl Strategy<Value = String> + 'static,
) -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        value.prop_map(move |value| format!("{key} = {value}\n"))
    ]
    .boxed()
}

fn mode() -> BoxedStrategy<String> {
    prop_oneof![4 => Just("\"auto\""), 1 => Just("\"advise\""), 1 => Just("\"observe\"")]
        .prop_map(str::to_owned)
        .boxed()
}

fn amount() -> BoxedStrategy<String> {
    prop_oneof![
        (0i64..5_000_000).prop_map(|n| n.to_string()),
        (0u64..5000).prop_map(|n| format!("\"{n}KiB\"")),
        (0u32..=100).prop_map(|n| format!("\"{n}%\"")),
        (1u32..100_000).prop_map(|n| format!("\"1/{n} ram\"")),
    ]
    .boxed()
}

fn patterns() -> BoxedStrategy<String> {
    let one = prop_oneof![
        Just("*"),
        Just("net.*"),
        Just("net.a.*"),
        Just("net.a.bytes"),
        Just("net.?.flag"),
        Just("x")
    ];
    proptest::collection::vec(one, 0..3)
        .prop_map(|all| format!("{all:?}"))
        .boxed()
}

fn rests() -> BoxedStrategy<String> {
    (
        maybe(
            "cool_down",
            (0u64..100_000).prop_map(|ms| format!("\"{ms}ms\"")),
        ),
        maybe("hysteresis", (0u64..1000).prop_map(|s| format!("\"{s}s\""))),
        maybe("changes_per_hour", (0u64..20).prop_map(|n| n.to_string())),
        maybe("reversals_per_hour", (0u64..20).prop_map(|n| n.to_string())),
        maybe(
            "rest_after_harm",
            (0u64..1000).prop_map(|s| format!("\"{s}s\"")),
        ),
        maybe("mode", mode()),
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].concat())
        .boxed()
}

fn file() -> BoxedStrategy<String> {
    let governor = (
        rests(),
        maybe("allow", patterns()),
        maybe("deny", patterns()),
        maybe("allow_places", patterns()),
        maybe(
            "changes_per_hour_total",
            (0u64..40).prop_map(|n| n.to_string()),
        ),
        maybe("memory_budget", amount()),
        maybe("max_step", (0.001f64..8.0).prop_map(|n| format!("{n:?}"))),
        maybe("global", any::<bool>().prop_map(|b| b.to_string())),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| {
            ["[governor]\n".into(), a, b, c, d, e, f, g, h].concat()
        });
    let tunable = |name: &'static str| {
        (rests(), maybe("min", amount()), maybe("max", amount()))
            .prop_map(move |(a, b, c)| format!("[tunable.\"{name}\"]\n{a}{b}{c}"))
    };
    (
        governor,
        rests(),
        tunable("net.a.bytes"),
        tunable("net.a.*"),
        tunable("*"),
    )
        .prop_map(|(g, t, a, b, c)| format!("{g}[tuner.t]\n{t}{a}{b}{c}"))
        .boxed()
}

/// What is proposed next.
#[derive(Clone, Debug)]
struct Step {
    after_ms: u64,
    which: usize,
    netns: u64,
    target: i64,
    harm: bool,
    fails: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (
        prop_oneof![4 => 0u64..200_000, 1 => 0u64..4_000_000],
        0usize..3,
        0u64..3,
        prop_oneof![any::<i64>(), 0i64..6_000_000, 0i64..3],
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(after_ms, which, netns, target, harm, fails)| Step {
            after_ms,
            which,
            netns,
            target,
            harm,
            fails,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1000 } else { 4000 }))]

    #[test]
    fn bounds_limits_and_budget_hold(text in file(), steps in proptest::collection::vec(step(), 1..60)) {
        let mut draft = Draft::default();
        draft.add("x.toml", &text);
        // A minimum above a maximum is refused before any governor sees it.
        let Ok(loaded) = draft.finish() else { return Ok(()) };
        let policy = Policy::from(&loaded);
        let config = &loaded.config;
        let mut governor = Governor::new(policy.clone());
        for (name, unit, low, high) in NAMES {
            governor.register(
                Tunable {
                    name: name.into(),
                    scope: if unit == "pages" { Scope::Global } else { Scope::Netns },
                    unit: unit.into(),
                    about: "".into(),
                    bound: Bound::Fixed(vec![(low, high)]),
                    cost: Cost::ByUnit,
                },
                "t",
            ).unwrap();
        }
        let machine = machine();
        let budget = config.governor.memory_budget.bytes(&machine);
        let mut values: BTreeMap<Knob, i64> = BTreeMap::new();
        let mut all: Vec<Instant> = Vec::new();
        let mut each: BTreeMap<Knob, Vec<Instant>> = BTreeMap::new();
        let mut now = Instant::now();
        let within = |moments: &[Instant], now: Instant| {
            moments.iter().filter(|at| now.duration_since(**at) < HOUR).count()
        };
        for Step { after_ms, which, netns, target, harm, fails } in steps {
            now += Duration::from_millis(after_ms);
            let (name, unit, low, high) = NAMES[which];
            let knob = Knob { tunable: name.into(), netns: NetnsCookie(netns) };
            let old = values.get(&knob).copied().unwrap_or(low);
            let proposal = Proposal {
                knob: knob.clone(),
                target: Value::from(target),
                reason: String::new(),
                urgency: if harm { Urgency::Harm } else { Urgency::Gain },
            };
            let decision = governor.decide(&proposal, &Value::from(old), &machine, now);
            let fitting = |glob: &&Glob| glob.matches(name);
            let mut sections: Vec<&Glob> = config.tunable.keys().filter(fitting).collect();
            sections.sort_by_key(|glob| std::cmp::Reverse(glob.rank()));
            let sections: Vec<_> = sections.into_iter().map(|glob| &config.tunable[glob]).collect();
            let tuner = &config.tuner["t"];
            // Advice is held to the same rules.
            let new = match &decision {
                Decision::Refuse(refusal) => {
                    prop_assert!(!refusal.to_string().is_empty());
                    continue;
                }
                Decision::Apply(new) | Decision::Advise(new) => new.last(),
            };
            // Bounds, and the direction that was asked for.
            prop_assert!((low..=high).contains(&new), "{new} outside of {low} to {high}");
            let number = |amount: Option<crate::config::Amount>| amount.and_then(|amount| amount.in_unit(unit, &machine));
            if let Some(max) = number(sections.iter().find_map(|s| s.max)) {
                prop_assert!(new <= max, "{new} above {max}");
            }
            if let Some(min) = number(sections.iter().find_map(|s| s.min)) {
                prop_assert!(new >= min, "{new} below {min}");
            }
            prop_assert_eq!((new - old).signum(), target.saturating_sub(old).signum());
            // Limits.
            if !harm {
                let most = sections.iter().find_map(|s| s.changes_per_hour)
                    .or(tuner.changes_per_hour)
                    .unwrap_or(config.governor.changes_per_hour);
                let mine = each.get(&knob).map_or(0, |moments| within(moments, now));
                prop_assert!((mine as u64) < most, "{mine} changes, {most} allowed");
                prop_assert!((within(&all, now) as u64) < config.governor.changes_per_hour_total);
            }
            // Selections and modes.
            prop_assert!(policy.tunables.check(name).is_ok());
            prop_assert!(unit != "pages" || config.governor.global);
            let mode = sections.iter().find_map(|s| s.mode).or(tuner.mode).unwrap_or(config.governor.mode);
            prop_assert_eq!(mode == Mode::Auto, matches!(decision, Decision::Apply(_)));
            prop_assert_ne!(mode, Mode::Observe);
            // The budget, counted anew from all values.
            let cost = |knob: &Knob, value: i64| {
                let per = match knob.tunable.as_str() { "net.a.bytes" => 1, "net.a.pages" => PAGE, _ => 0 };
                let original = NAMES.iter().find(|(name, ..)| *name == knob.tunable).unwrap().2;
                u64::try_from(value - original).unwrap_or(0) * per
            };
            let spent = |values: &BTreeMap<Knob, i64>| -> u64 { values.iter().map(|(knob, value)| cost(knob, *value)).sum() };
            let before = spent(&values);
            values.insert(knob.clone(), new);
            prop_assert!(spent(&values) <= budget.max(before));
            governor.reserve(&knob, &Value::from(low), &Value::from(new));
            if fails || mode != Mode::Auto {
                values.insert(knob.clone(), old);
                governor.release(&knob, &Value::from(low), &Value::from(old));
            } else {
                governor.changed(&knob, (new - old).signum() as i8, now);
                all.push(now);
                each.entry(knob).or_default().push(now);
            }
            prop_assert_eq!(governor.memory_spent(), spent(&values));
        }
    }
}
