use std::time::Duration;

use proptest::prelude::*;

use super::{
    correlation::{Correlation, DecayedCorrelation, spearman},
    normal,
    rank::p_lower,
    trend::trend,
    *,
};

fn close(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within
}

#[test]
fn the_normal_distribution_has_its_known_values() {
    for (z, p) in [
        (0.0, 0.5),
        (1.644_853_627, 0.95),
        (-2.326_347_874, 0.01),
        (1.959_963_985, 0.975),
    ] {
        assert!(close(normal::cdf(z), p, 1e-9), "{z}");
        assert!(close(normal::quantile(p), z, 1e-8), "{p}");
    }
    let mut rng = fastrand::Rng::with_seed(7);
    let drawn: Vec<f64> = (0..20_000).map(|_| normal::sample(&mut rng)).collect();
    assert!(median(&drawn).unwrap().abs() < 0.03);
    assert!(close(mad(&drawn).unwrap() * order::MAD_TO_SIGMA, 1.0, 0.03));
}

#[test]
fn mann_whitney_has_its_known_probabilities() {
    // All below all: 1 of C(2n, n) orders.
    let (low, high) = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]);
    assert!(close(p_lower(&high, &low).unwrap(), 1.0 / 20.0, 1e-12));
    assert!(close(p_lower(&low, &high).unwrap(), 1.0, 1e-12));
    // n = 4, m = 5, U = 3: the table has P = 0.056 (7 of 126 orders).
    let (before, after) = ([1.5, 4.5, 8.0, 9.0, 10.0], [1.0, 2.0, 3.0, 4.0]);
    assert!(close(p_lower(&before, &after).unwrap(), 7.0 / 126.0, 1e-12));
    // Ties: nothing tells two equal constants apart.
    assert_eq!(p_lower(&[5.0; 8], &[5.0; 8]), Some(1.0));
    assert_eq!(p_lower(&[], &[1.0]), None);
}

#[test]
fn the_paired_interval_is_that_of_the_table() {
    // n = 10 at a two-sided 0.1: the critical sum is 10, so the 11th smallest of 55 Walsh averages.
    let differences: Vec<f64> = (1..=10).map(f64::from).collect();
    let mut averages: Vec<f64> = Vec::new();
    for i in 1..=10 {
        averages.extend((i..=10).map(|j| f64::from(i + j) / 2.0));
    }
    averages.sort_unstable_by(f64::total_cmp);
    let shift = paired_shift(&differences, 0.05).unwrap();
    assert_eq!(
        (shift.low, shift.estimate, shift.high),
        (averages[10], 5.5, averages[44])
    );
    // Three pairs cannot be rarer than 1 in 8.
    assert_eq!(
        paired_shift(&[1.0, 2.0, 3.0], 0.05).unwrap().low,
        f64::NEG_INFINITY
    );
}

#[test]
fn intervals_cover_the_truth_as_often_as_they_say() {
    let mut rng = fastrand::Rng::with_seed(1);
    for size in [8, 13, 30] {
        let (mut over, mut paired_over) = (0, 0);
        for _ in 0..4000 {
            let mut draw = |by: f64| -> Vec<f64> {
                (0..size).map(|_| normal::sample(&mut rng) + by).collect()
            };
            let (before, after) = (draw(0.0), draw(0.7));
            over += usize::from(shift(&before, &after, 0.05).unwrap().high < 0.7);
            let differences: Vec<f64> = before.iter().zip(&after).map(|(b, a)| a - b).collect();
            paired_over += usize::from(paired_shift(&differences, 0.05).unwrap().high < 0.7);
        }
        for over in [over, paired_over] {
            assert!(
                (120..=240).contains(&over),
                "{over} of 4000 beyond a bound at 5 %, {size} windows"
            );
        }
    }
}

#[test]
fn drift_is_found_and_measured() {
    let rising: Vec<f64> = (0..12).map(|i| 5.0 + 0.5 * f64::from(i)).collect();
    let later: Vec<f64> = rising.iter().map(|v| v + 100.0).collect();
    let found = trend(&[&rising, &later]).unwrap();
    assert_eq!(found.slope, 0.5);
    assert!(found.z > 5.0);
    assert_eq!(trend(&[&[1.0]]), None);
    assert!(
        trend(&[&[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0]])
            .unwrap()
            .z
            .abs()
            < 1.0
    );
}

#[test]
fn decayed_moments_are_those_of_the_weights() {
    let mut decayed = Decayed::new(HalfLife(Duration::from_secs(1)));
    assert_eq!(
        (decayed.mean(), decayed.variance(), decayed.effective()),
        (None, None, 0.0)
    );
    for (at, value) in [(0, 8.0), (1, 4.0), (2, 6.0)] {
        decayed.add(Duration::from_secs(at), value);
    }
    // Weights 1/4, 1/2, 1.
    let mean: f64 = (2.0 + 2.0 + 6.0) / 1.75;
    let deviation = 0.25 * (8.0 - mean).powi(2) + 0.5 * (4.0 - mean).powi(2) + (6.0 - mean).powi(2);
    assert!(close(decayed.mean().unwrap(), mean, 1e-12));
    assert!(close(
        decayed.variance().unwrap(),
        deviation / (1.75 - 1.3125 / 1.75),
        1e-12
    ));
    assert!(close(decayed.effective(), 1.75 * 1.75 / 1.3125, 1e-12));
    decayed.add(Duration::from_secs(3), f64::NAN);
    assert_eq!(decayed.count(), 3);
}

#[test]
fn correlation_forgets_and_knows_its_worth() {
    let mut seen = DecayedCorrelation::new(HalfLife(Duration::from_secs(8)));
    for i in 0..40u32 {
        // First against each other, then together.
        let y = if i < 20 { -f64::from(i) } else { f64::from(i) };
        seen.add(Duration::from_secs(u64::from(i) * 5), f64::from(i), y);
    }
    let now = Duration::from_secs(200);
    let recent = seen.pearson(now).unwrap();
    assert!(recent.r > 0.95, "{recent:?}");
    assert!(recent.effective < 8.0, "{recent:?}");
    assert!(recent.low(0.05) < recent.r && recent.low(0.05) > 0.0);
    assert_eq!(
        Correlation {
            r: 0.9,
            effective: 3.0
        }
        .low(0.05),
        -1.0
    );
    // Known: Spearman of this column is 1 - 6 * 8 / (5 * 24) = 0.6.
    assert!(close(
        spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[2.0, 1.0, 5.0, 3.0, 4.0]).unwrap(),
        0.6,
        1e-12
    ));
    assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
}

fn goodput() -> Metric {
    Metric {
        name: "goodput".into(),
        better: Direction::Higher,
        scale: Scale::Relative,
        role: Role::Goal,
        margin: 0.02,
    }
}

/// `drift` is the growth from one window to the next.
fn windows(
    rng: &mut fastrand::Rng,
    noise: f64,
    factor: f64,
    drift: f64,
    rule: &Rule,
) -> (Vec<f64>, Vec<f64>) {
    let mut window = |i: usize, factor: f64| {
        100.0
            * factor
            * (1.0 + drift).powi(i as i32)
            * (1.0 + noise * normal::sample(rng)).max(0.01)
    };
    (
        (0..rule.windows).map(|i| window(i, 1.0)).collect(),
        (0..rule.windows)
            .map(|i| window(rule.windows + i, factor))
            .collect(),
    )
}

/// The share that a trial with every early look ends as worse.
fn reverted(factor: f64, drift: f64, rule: &Rule, layout: Layout) -> f64 {
    let (metric, mut rng, runs) = (goodput(), fastrand::Rng::with_seed(42), 600_u32);
    let worse = (0..runs)
        .filter(|_| {
            let (mut before, mut after) = windows(&mut rng, 0.05, factor, drift, rule);
            if layout == Layout::Interleaved {
                // The same windows as they lie when they alternate: without, with, with, without.
                let growth = |i: usize| (1.0 + drift).powi(i as i32);
                for i in 0..rule.windows {
                    let (b, a) = if i % 2 == 0 {
                        (2 * i, 2 * i + 1)
                    } else {
                        (2 * i + 1, 2 * i)
                    };
                    before[i] *= growth(b) / growth(i);
                    after[i] *= growth(a) / growth(rule.windows + i);
                }
            }
            (4..=rule.windows).any(|k| {
                let first = if layout == Layout::BeforeAfter {
                    rule.windows
                } else {
                    k
                };
                let samples = Samples {
                    metric: &metric,
                    before: &before[..first],
                    after: &after[..k],
                };
                judge(rule, layout, &[samples]).effect == Effect::Worse
            })
        })
        .count();
    worse as f64 / f64::from(runs)
}

#[test]
fn harm_of_a_tenth_is_found_and_the_harmless_stands() {
    let rule = Rule::default();
    for layout in [Layout::BeforeAfter, Layout::Interleaved] {
        assert_eq!(
            windows_needed(0.1, 0.05, 0.02, rule.alpha, 0.99, layout),
            Some(rule.windows)
        );
        let (harmful, harmless) = (
            reverted(0.9, 0.0, &rule, layout),
            reverted(1.0, 0.0, &rule, layout),
        );
        assert!(harmful >= 0.985, "{layout:?}: {harmful}");
        assert!(harmless <= 0.05, "{layout:?}: {harmless}");
        // The margin's edge is where the level is used up; early looks add to it. Bounds are three standard errors wide.
        let edge = reverted(1.0 / 1.02, 0.0, &rule, layout);
        assert!(edge <= 0.085, "{layout:?}: {edge}");
    }
}

#[test]
fn drift_is_not_taken_for_harm() {
    let rule = Rule::default();
    // A steep fall is seen and taken out; between windows that alternate any drift cancels.
    assert!(reverted(1.0, -0.03, &rule, Layout::BeforeAfter) <= 0.06);
    for drift in [-0.003, -0.03, 0.03] {
        let (harmful, harmless) = (
            reverted(0.9, drift, &rule, Layout::Interleaved),
            reverted(1.0, drift, &rule, Layout::Interleaved),
        );
        assert!(
            harmful >= 0.98 && harmless <= 0.05,
            "drift {drift}: {harmful}, {harmless}"
        );
    }
}

#[test]
fn a_guard_vetoes_and_cannot_persuade() {
    let latency = Metric {
        name: "latency".into(),
        better: Direction::Lower,
        role: Role::Guard,
        ..goodput()
    };
    let goodput = goodput();
    let base: Vec<f64> = (0..15)
        .map(|i| 100.0 + f64::from(i * 7 % 15) / 5.0)
        .collect();
    let times = |factor: f64| -> Vec<f64> { base.iter().map(|v| v * factor).collect() };
    let effect = |goal: f64, guard: f64| {
        let (goal, guard) = (times(goal), times(guard));
        let judgement = judge(
            &Rule::default(),
            Layout::BeforeAfter,
            &[
                Samples {
                    metric: &goodput,
                    before: &base,
                    after: &goal,
                },
                Samples {
                    metric: &latency,
                    before: &base,
                    after: &guard,
                },
            ],
        );
        assert!(judgement.settled);
        judgement.effect
    };
    assert_eq!(effect(1.2, 1.0), Effect::Better);
    assert_eq!(effect(1.2, 1.2), Effect::Worse, "the guard suffers");
    assert_eq!(effect(1.0, 0.8), Effect::Same, "a guard's gain is no goal");
    assert_eq!(effect(1.0, 1.0), Effect::Same);
    assert_eq!(effect(0.8, 1.0), Effect::Worse);
}

#[test]
fn early_looks_end_plain_harm_and_nothing_else() {
    let metric = goodput();
    let base: Vec<f64> = (0..15).map(|i| 100.0 + f64::from(i)).collect();
    let half: Vec<f64> = base[..8].iter().map(|v| v / 2.0).collect();
    let double: Vec<f64> = base[..8].iter().map(|v| v * 2.0).collect();
    let look = |after: &[f64]| {
        let samples = Samples {
            metric: &metric,
            before: &base,
            after,
        };
        let judgement = judge(&Rule::default(), Layout::BeforeAfter, &[samples]);
        (judgement.effect, judgement.settled)
    };
    assert_eq!(look(&half), (Effect::Worse, true));
    assert_eq!(look(&double), (Effect::Unclear, false));
    assert_eq!(look(&[]), (Effect::Unclear, false));
    assert_eq!(
        judge(&Rule::default(), Layout::BeforeAfter, &[]).effect,
        Effect::Unclear
    );
}

#[test]
fn windows_that_say_nothing_are_left_out() {
    let metric = goodput();
    let base: Vec<f64> = (0..15).map(|i| 100.0 + f64::from(i % 5)).collect();
    let mut after = base.clone();
    after[3..10].fill(f64::NAN);
    let samples = Samples {
        metric: &metric,
        before: &base,
        after: &after,
    };
    let judgement = judge(&Rule::default(), Layout::BeforeAfter, &[samples]);
    assert_ne!(judgement.effect, Effect::Worse);
    assert!(judgement.shifts[0].unwrap().estimate.abs() < 0.02);
}

#[test]
fn drops_that_were_none_are_judged_by_difference() {
    let drops = Metric {
        name: "drops".into(),
        better: Direction::Lower,
        scale: Scale::Absolute,
        role: Role::Guard,
        margin: 5.0,
    };
    let effect = |after: f64| {
        let samples = Samples {
            metric: &drops,
            before: &[0.0; 15],
            after: &[after; 15],
        };
        judge(&Rule::default(), Layout::BeforeAfter, &[samples]).effect
    };
    assert_eq!(
        (effect(0.0), effect(4.0), effect(6.0)),
        (Effect::Same, Effect::Same, Effect::Worse)
    );
    // Goodput that is gone altogether is harm; none before and none after says nothing.
    let metric = goodput();
    let gone = Samples {
        metric: &metric,
        before: &[10.0; 15],
        after: &[0.0; 15],
    };
    assert_eq!(
        judge(&Rule::default(), Layout::BeforeAfter, &[gone]).effect,
        Effect::Worse
    );
}

fn numbers() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop::num::f64::ANY, 0..20)
}

proptest! {
    #[test]
    fn nothing_panics_or_leaves_its_range(x in numbers(), y in numbers(), q in prop::num::f64::ANY) {
        let finite = |v: Option<f64>| v.is_none_or(|v| !v.is_nan());
        prop_assert!(finite(median(&x)) && finite(mad(&x)) && finite(quantile(&x, q)));
        if let Some(shift) = shift(&x, &y, 0.05) {
            prop_assert!(shift.low <= shift.estimate && shift.estimate <= shift.high, "{shift:?}");
        }
        prop_assert!(p_lower(&x, &y).is_none_or(|p| (0.0..=1.0 + 1e-12).contains(&p)));
        let mut seen = DecayedCorrelation::new(HalfLife(Duration::from_secs(3)));
        let mut mean = Decayed::new(HalfLife(Duration::from_secs(3)));
        for (i, (x, y)) in x.iter().zip(&y).enumerate() {
            seen.add(Duration::from_secs(i as u64), *x, *y);
            mean.add(Duration::from_secs(i as u64), *x);
            prop_assert!(mean.mean().is_none_or(f64::is_finite));
            prop_assert!(mean.variance().is_none_or(|v| v.is_finite() && v >= 0.0));
        }
        for r in [seen.pearson(Duration::from_secs(99)), seen.spearman(Duration::ZERO)].into_iter().flatten() {
            prop_assert!((-1.0..=1.0).contains(&r.r), "{r:?}");
        }
        for metric in [goodput(), Metric { scale: Scale::Absolute, better: Direction::Lower, ..goodput() }] {
            for layout in [Layout::BeforeAfter, Layout::Interleaved] {
                let _ = judge(&Rule::default(), layout, &[Samples { metric: &metric, before: &x, after: &y }]);
            }
        }
    }

    #[test]
    fn ranks_are_a_permutation_with_shared_places(x in prop::collection::vec(-5i32..5, 0..30)) {
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let ranks = ranks(&x);
        let n = x.len() as f64;
        prop_assert!(close(ranks.iter().sum::<f64>(), n * (n + 1.0) / 2.0, 1e-9));
        for i in 0..x.len() {
            for j in 0..x.len() {
                prop_assert_eq!(x[i] < x[j], ranks[i] < ranks[j]);
            }
        }
    }

    #[test]
    fn a_shift_follows_its_samples(
        x in prop::collection::vec(-1e6f64..1e6, 2..15),
        y in prop::collection::vec(-1e6f64..1e6, 2..15),
        by in -1e6f64..1e6,
    ) {
        let moved: Vec<f64> = y.iter().map(|v| v + by).collect();
        let (plain, moved, back) =
            (shift(&x, &y, 0.05).unwrap(), shift(&x, &moved, 0.05).unwrap(), shift(&y, &x, 0.05).unwrap());
        prop_assert!(close(plain.estimate + by, moved.estimate, 1e-3));
        prop_assert!(close(plain.estimate, -back.estimate, 1e-6));
        prop_assert!(plain.low.is_infinite() || close(plain.low, -back.high, 1e-6));
    }
}
