//! The goals with fewer seeds than `cargo xtask sim` runs, and what the simulator itself must hold.

use super::{
    suite::{choices, families, goals, guarding, run, trials},
    *,
};
use crate::{learner::Spec, stats::Layout};

#[test]
fn nothing_oscillates_overshoots_or_stays_away() {
    let summaries = run(&families(), 100);
    for goal in goals(&summaries) {
        assert!(goal.reached, "{goal:?}\n{summaries:#?}");
    }
}

#[test]
fn harm_is_reverted_and_the_harmless_stands() {
    for layout in [Layout::BeforeAfter, Layout::Interleaved] {
        let (harmful, harmless) = (
            trials(layout, 0.1, 0.05, 300),
            trials(layout, 0.0, 0.05, 300),
        );
        assert!(harmful.reverted >= 0.98, "{harmful:?}");
        assert!(harmless.reverted <= 0.05, "{harmless:?}");
    }
    let plain = trials(Layout::BeforeAfter, 0.5, 0.05, 50);
    assert!(
        plain.reverted == 1.0 && plain.windows < 15.0,
        "plain harm ends early: {plain:?}"
    );
}

#[test]
fn a_harmful_change_reaches_the_first_hosts_only() {
    let (harmful, harmless) = (fleet::rollout(1000, 0.1, 1), fleet::rollout(300, 0.0, 1));
    assert_eq!(harmful.stages.len(), 1, "{harmful:?}");
    assert!(harmful.tried < 30 && harmful.kept <= 2, "{harmful:?}");
    assert_eq!(harmless.tried, 300);
    assert!(harmless.kept >= 285, "{harmless:?}");
}

#[test]
fn bandits_choose_well() {
    let arms = [1.0, 2.0, 3.0, 4.0];
    for json in [
        r#"{"name": "epsilon-greedy", "arms": [1, 2, 3, 4], "half_life_seconds": 20}"#,
        r#"{"name": "thompson", "arms": [1, 2, 3, 4], "half_life_seconds": 20}"#,
    ] {
        let spec: Spec = serde_json::from_str(json).unwrap();
        let choices = choices(&spec, &arms, 20);
        assert!(
            choices.best > 0.85 && choices.best_after_move > 0.85,
            "{choices:?}"
        );
    }
}

#[test]
fn the_guard_tells_harm_from_chance() {
    let guarding = guarding(200);
    assert!(
        guarding.stopped >= 0.99 && guarding.stopped_wrongly <= 0.05,
        "{guarding:?}"
    );
}

#[test]
fn equal_seeds_give_equal_runs() {
    for family in families() {
        let track = |seed| (family.draw)(seed).run();
        assert_eq!(track(5), track(5), "{}", family.name);
        assert_ne!(track(5), track(6), "{}", family.name);
    }
}

#[test]
fn the_governor_and_the_engines_rules_apply() {
    // No signals, no change; one signal is chance; a change that harms is put back and rests.
    let (mut harmful, mut events) = (0, 0);
    for seed in 0..20 {
        let mut scenario = (families()[0].draw)(seed);
        let knob = scenario.plant.knob().0;
        scenario.host.step(scenario.plant.as_mut());
        assert_eq!(scenario.host.events(), []);
        let track = scenario.run();
        for event in &track.events {
            if let Event::Changed {
                knob: changed,
                old,
                new,
                ..
            } = event
            {
                assert_eq!(changed, &knob);
                assert_ne!(old, new);
                events += 1;
            }
            harmful += usize::from(matches!(
                event,
                Event::Judged {
                    effect: crate::stats::Effect::Worse,
                    ..
                }
            ));
        }
    }
    assert!(events > 20);
    assert_eq!(harmful, 0, "a limit that is raised helps");
}

#[test]
fn a_recording_is_read_or_refused_by_its_line() {
    let line = r#"{"at_ms": 5, "signal": {"scenario": "s", "netns": 7, "subject": "", "count": 1, "figures": []}}"#;
    assert_eq!(
        replay::read(&format!("{line}\n\n{line}\n")).unwrap().len(),
        2
    );
    let error = replay::read(&format!("{line}\n{{}}\n")).unwrap_err();
    assert!(
        error.to_string().starts_with("line 2: missing field"),
        "{error}"
    );
}
