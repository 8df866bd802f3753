//! A rule as the engine sees it: a tuner and a source like any other.

use std::{
    cell::RefCell,
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Of, Rule, state::State};
use crate::{
    Lesson, NetnsCookie, Proposal, Result, Signal, Source, Tunable, Tuner, Urgency, View,
    bpf::HookStatus,
    engine::Registration,
    learner::{Kind, Spec},
    netns::Namespaces,
    plugin::{Context, Subscription, in_words},
    psi,
    timer::Timer,
    trial::Plan,
};

struct RuleTuner {
    name: String,
    about: String,
    state: Rc<RefCell<State>>,
    timer: Rc<Timer>,
}

struct RuleSource {
    state: Rc<RefCell<State>>,
    timer: Rc<Timer>,
    pressure: Option<File>,
    hooks: Vec<HookStatus>,
}

pub(super) fn registration(
    name: &str,
    path: &Path,
    rule: Rule,
    context: Rc<Context>,
) -> std::result::Result<Registration, String> {
    let pressure = match rule.signal {
        Subscription::Pressure {
            resource,
            stall,
            window,
        } => {
            let path = Path::new("/proc/pressure").join(resource.word());
            let trigger = psi::trigger(&path, false, stall, window);
            let cannot = |error| format!("no pressure trigger ({}): {error}", path.display());
            Some(trigger.map_err(cannot)?)
        }
        _ => None,
    };
    let timer = Rc::new(Timer::new().map_err(in_words)?);
    let about = format!("{} (rule)", rule.about);
    let state = State::new(name, rule, context, Instant::now());
    timer.set(state.next());
    let state = Rc::new(RefCell::new(state));
    Ok(Registration {
        tuner: Box::new(RuleTuner {
            name: name.into(),
            about,
            state: state.clone(),
            timer: timer.clone(),
        }),
        source: Box::new(RuleSource {
            state,
            timer,
            pressure,
            hooks: vec![HookStatus {
                name: path.display().to_string(),
                section: "rule".into(),
                off: None,
            }],
        }),
    })
}

impl RuleTuner {
    /// What to propose after a condition that held with this measured value.
    fn step(&self, netns: NetnsCookie, measured: f64, view: &dyn View) -> Vec<Proposal> {
        let mut state = self.state.borrow_mut();
        let knob = state.context.knob(&state.rule.change.tunable.name, netns);
        let Some(current) = view.value(&knob) else {
            return Vec::new();
        };
        let mut changed = view.changed().into_iter();
        let original = changed
            .find(|(other, _)| *other == knob)
            .map_or_else(|| current.clone(), |(_, original)| original);
        let next = state.next_value(&knob, &current, &original, measured, view.now());
        match next {
            Ok(Some(target)) => vec![Proposal {
                knob,
                target,
                reason: reason(&state.rule, measured),
                urgency: Urgency::Gain,
            }],
            Ok(None) => Vec::new(),
            Err(why) => {
                tracing::warn!("rule {}: {why}", self.name);
                Vec::new()
            }
        }
    }
}

fn reason(rule: &Rule, measured: f64) -> String {
    let when = &rule.when;
    let mut text = match (&rule.signal, &when.of) {
        (Subscription::Counter { counter, .. }, Of::Value) => format!("{counter} is {measured:.3}"),
        (Subscription::Counter { counter, .. }, _) => format!("{counter} grows by {measured:.3}/s"),
        (Subscription::Scenario(scenario), Of::Figure(figure)) => {
            format!("{figure} of {scenario} is {measured:.3}")
        }
        (Subscription::Scenario(scenario), _) => {
            format!("{scenario} comes {measured:.3} times a second")
        }
        (Subscription::Pressure { resource, .. }, _) => {
            format!(
                "some task waits for {} {measured:.0} % of the time",
                resource.word()
            )
        }
        (Subscription::Timer(_), _) => String::new(),
    };
    for (word, bound) in [("above", when.above), ("below", when.below)] {
        if let Some(bound) = bound {
            text.push_str(&format!(", {word} {bound}"));
        }
    }
    if !when.sustained.is_zero() {
        text.push_str(&format!(", for {} s", when.sustained.as_secs_f64()));
    }
    text
}

impl Tuner for RuleTuner {
    fn name(&self) -> &str {
        &self.name
    }

    fn about(&self) -> &str {
        &self.about
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![self.state.borrow().rule.change.tunable.tunable()]
    }

    fn check_learner(&self, learner: &Spec) -> std::result::Result<(), String> {
        let gives: &[Kind] = match self.state.borrow().rule.signal {
            Subscription::Pressure { .. } => &[Kind::Pressure],
            _ => &[Kind::Need, Kind::Pressure, Kind::Score, Kind::Measure],
        };
        learner.check_for(&self.name, gives)
    }

    fn set_learner(&mut self, learner: Option<&Spec>) {
        self.state.borrow_mut().set_learner(learner);
    }

    fn learns(&self, _: &str) -> Option<String> {
        self.state.borrow().learners.name()
    }

    fn learned(&mut self) -> Vec<Lesson> {
        self.state.borrow_mut().learners.learned()
    }

    fn recall(&mut self, lesson: &Lesson) -> std::result::Result<(), String> {
        self.state.borrow_mut().learners.recall(lesson)
    }

    /// The condition has to last: that is in the rule.
    fn acts_at_once(&self) -> bool {
        true
    }

    fn listens(&self, scenario: &str) -> bool {
        self.state.borrow().listens(scenario)
    }

    fn trial(&self, _: &str) -> Plan {
        self.state.borrow().rule.change.tunable.plan()
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let own = signal.scenario.strip_prefix(self.name.as_str());
        if own.is_some_and(|rest| rest.starts_with(':')) {
            let measured = signal.figures.first().map_or(0.0, |figure| figure.value);
            return self.step(signal.netns, measured, view);
        }
        let held = self.state.borrow_mut().heard(signal, Instant::now());
        self.timer.set(self.state.borrow().next());
        held.map_or_else(Vec::new, |measured| self.step(signal.netns, measured, view))
    }
}

impl Source for RuleSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.fd()
    }

    fn pressure(&self) -> Vec<BorrowedFd<'_>> {
        self.pressure.iter().map(|file| file.as_fd()).collect()
    }

    fn pressed(&mut self, _: usize, out: &mut Vec<Signal>) {
        self.state.borrow_mut().pressed(Instant::now(), out);
    }

    fn drain(&mut self, _: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        self.timer.take();
        self.state.borrow_mut().sample(Instant::now(), out);
        self.timer.set(self.state.borrow().next());
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    fn quiet(&mut self, netns: NetnsCookie, _: &str, how_long: Duration) {
        self.state
            .borrow_mut()
            .quiet(netns, Instant::now() + how_long);
    }
}
