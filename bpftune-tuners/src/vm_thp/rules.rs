//! From signals to proposals: no I/O, no clock but the view's.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    stats::{Direction, Role},
    trial::{Counter, Guard, Harm, Measure, Outcome, Plan, Record, Resource, Windows},
};

/// Tasks stall in faults that want a huge page.
pub(super) const STALLS: &str = "huge-page-stalls";

/// Figures of the source: see [`bpftune_core::Source::figure`]. Seconds lost, faults that missed a huge page, all that
/// wanted one.
pub(super) const LOST: &str = "lost";
pub(super) const MISSED: &str = "missed";
pub(super) const WANTED: &str = "wanted";

/// Who stalls for a huge page: mm/huge_memory.c, Documentation/admin-guide/mm/transhuge.rst.
pub(super) const DEFRAG: &str = "/sys/kernel/mm/transparent_hugepage/defrag";

/// Everybody; who advised it, and kcompactd works for the others; nobody, and kcompactd works for all; who advised it;
/// nobody.
const ALWAYS: &str = "always";
const FOR_THE_ADVISED: &str = "defer+madvise";
const FOR_NOBODY: &str = "defer";
const WORDS: &[&str] = &[ALWAYS, FOR_THE_ADVISED, FOR_NOBODY, "madvise", "never"];

/// What a huge page saves for each small page that it stands for, seconds: the fault, and a bit for what its use saves
/// in translations of addresses. Times 512 it is a millisecond.
pub const SAVED_PER_PAGE: f64 = 2e-6;

/// Tasks that stall at a time, from which on it matters: a twentieth of one's time.
const MATTERS: f64 = 0.05;
/// Of stalls, the share that nobody asked for, from which on those are what is ended first.
const UNASKED: f64 = 0.5;
/// Faults that want a huge page; fewer in a second say nothing of what one costs.
const LEAST_WANTED: f64 = 10.0;
/// Less that a fault loses, or more, is nothing, seconds.
const LOST_MARGIN: f64 = 1e-4;
/// Of a trial. What a fault costs rises within a burst of them, as large pieces run out: a window should see more than a part.
const WINDOW: Duration = Duration::from_secs(2);
/// What did not help is tried again after this.
const AGAIN: Duration = Duration::from_secs(3600);

/// The tuner. It remembers what did not help, and when that was.
#[derive(Clone, Debug, Default)]
pub struct VmThp {
    useless: Vec<(Value, Duration)>,
    now: Duration,
}

/// What stalls less than this word. `None` where no fault stalls for anybody, and of what was counted under another word.
fn next(word: &str, unasked: f64) -> Option<&'static str> {
    match word {
        ALWAYS if unasked >= UNASKED => Some(FOR_THE_ADVISED),
        ALWAYS | FOR_THE_ADVISED | "madvise" if unasked < UNASKED => Some(FOR_NOBODY),
        _ => None,
    }
}

impl VmThp {
    fn wish(&mut self, signal: &Signal, view: &dyn View) -> Option<Proposal> {
        let figure = |name| signal.figure(name);
        let (stalled, unasked) = (figure("stalled")?, figure("unasked")?);
        let (got, missed, saved) = (figure("got")?, figure("missed")?, figure("saved")?);
        self.now = view.now();
        let wanted = got + missed;
        let each = stalled * 1e3 / wanted;
        // A huge page that costs less than it saves is worth to wait for.
        if stalled < MATTERS || wanted < LEAST_WANTED || each <= saved {
            return None;
        }
        let knob = Knob {
            tunable: DEFRAG.into(),
            netns: view.host_netns(),
        };
        let now = view.value(&knob)?;
        let target = Value::word(next(now.as_word()?, unasked / stalled)?);
        let now = self.now;
        self.useless
            .retain(|(_, at)| now.saturating_sub(*at) < AGAIN);
        if self.useless.iter().any(|(value, _)| *value == target) {
            return None;
        }
        let reason = format!(
            "{wanted:.0} faults a second want a huge page and stall {each:.1} ms for it on average, {:.0} ms at the \
             longest, by {}; {:.0} % get one, which saves {saved:.1} ms",
            figure("longest")?,
            signal.subject,
            got * 100.0 / wanted
        );
        Some(Proposal::gain(knob, target, reason))
    }
}

impl Tuner for VmThp {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "ends stalls of faults for huge pages that cost more than a huge page saves"
    }

    fn tunables(&self) -> Vec<Tunable> {
        vec![Tunable {
            name: DEFRAG.into(),
            scope: Scope::Global,
            unit: "".into(),
            about: "which faults compact and reclaim memory for a huge page".into(),
            bound: Bound::Words(WORDS),
            cost: Cost::Nothing,
        }]
    }

    /// Each figure is by the fault, so load that comes and goes does not count. Not to and fro: what one word compacts
    /// the other finds.
    fn trial(&self, _: &str) -> Plan {
        let share = |name: &'static str, part: &'static str| {
            let mut guard = Guard::goal(name, Direction::Lower, Vec::new(), 0.1);
            guard.measure = Measure::Share {
                part: Counter::Own(part.into()),
                whole: Counter::Own(WANTED.into()),
            };
            guard.least = 50.0;
            guard
        };
        // Of seconds, not of shares: a window in which nobody wants a huge page says nothing.
        let mut lost = share("lost a fault", LOST);
        lost.metric.margin = LOST_MARGIN;
        lost.harm = Harm::Counts;
        (lost.factor, lost.unit) = (1e3, "ms".into());
        let mut missed = share("huge pages missed", MISSED);
        missed.metric.role = Role::Guard;
        missed.harm = Harm::PriceUpTo(0.95);
        (missed.factor, missed.unit) = (100.0, "%".into());
        Plan {
            guards: vec![lost, missed, Guard::stall(Resource::Memory, 0.05)],
            baseline: Windows {
                count: 5,
                length: WINDOW,
            },
            settle: Duration::from_secs(3),
            trial: Windows {
                count: 10,
                length: WINDOW,
            },
            only_better: true,
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let heard = Some(signal).filter(|signal| signal.scenario == STALLS);
        heard
            .and_then(|signal| self.wish(signal, view))
            .into_iter()
            .collect()
    }

    fn tried(&mut self, _: &Knob, record: &Record) {
        match record.value_with.parse() {
            Ok(value) if record.outcome != Outcome::Better => self.useless.push((value, self.now)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
