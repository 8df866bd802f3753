//! What a tuner is, and what it may see and say.

use std::{
    collections::BTreeSet,
    os::fd::BorrowedFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value as Json;

use crate::{
    Knob, Machine, NetnsCookie, Result, Signal, Tunable, Value,
    bpf::HookStatus,
    config::kinds::Aim,
    governor::Decision,
    learner::Spec,
    netns::Namespaces,
    trial::{Plan, Record},
};

/// Turns signals into proposals.
///
/// A tuner holds no file, no map and no clock: the same signals and the same view give the same
/// proposals, so it is tested with recorded signals. It never writes a parameter; the
/// [`Governor`](crate::governor::Governor) decides and the engine writes.
pub trait Tuner {
    /// Its name, as in the config and on the command line: "tcp-buffer".
    fn name(&self) -> &str;

    /// What it does, in one sentence.
    fn about(&self) -> &str;

    /// The tunables it owns. Two tuners that declare the same are refused at start.
    fn tunables(&self) -> Vec<Tunable>;

    /// Whether this learner would do.
    ///
    /// # Errors
    /// Why not, and which would.
    fn check_learner(&self, learner: &Spec) -> Result<(), String> {
        let _ = learner;
        Err(format!("{} has no learner to choose", self.name()))
    }

    /// Takes the operator's learner, which [`check_learner`](Tuner::check_learner) found good, or its own again. What it
    /// learned with another is forgotten.
    fn set_learner(&mut self, learner: Option<&Spec>) {
        let _ = learner;
    }

    /// Whether it can serve this aim.
    ///
    /// # Errors
    /// Why not.
    fn check_aim(&self, aim: Aim) -> Result<(), String> {
        let _ = aim;
        Err(format!("{} has no aim to choose", self.name()))
    }

    /// Takes the operator's aim, which [`check_aim`](Tuner::check_aim) found good, or its own again. From now on
    /// [`trial`](Tuner::trial) is by it.
    fn set_aim(&mut self, aim: Option<Aim>) {
        let _ = aim;
    }

    /// What should change because of this signal: mostly nothing.
    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal>;

    /// Whether its own signals need no second one: its source watched for long enough before it spoke.
    /// Else the engine passes on the second signal of a series, for one may be chance.
    fn acts_at_once(&self) -> bool {
        false
    }

    /// Whether it wants other tuners' signals of this scenario too. It gets each of them, the first of
    /// a series as well.
    fn listens(&self, scenario: &str) -> bool {
        let _ = scenario;
        false
    }

    /// How a change of one of its tunables is tried: what is watched, for how long, and whether the knob may be switched
    /// to and fro meanwhile.
    fn trial(&self, tunable: &str) -> Plan {
        let _ = tunable;
        Plan::default()
    }

    /// What the trial of a change of its own said.
    fn tried(&mut self, knob: &Knob, record: &Record) {
        let _ = (knob, record);
    }

    /// What became of a proposal of its own.
    fn decided(&mut self, proposal: &Proposal, decision: &Decision) {
        let _ = (proposal, decision);
    }

    /// The name and version of what learns about this tunable, "thompson/1", where that is worth to be kept over a
    /// restart. What another one learned is dropped. [`Learners::name`](crate::learner::Learners::name) has it.
    fn learns(&self, tunable: &str) -> Option<String> {
        let _ = tunable;
        None
    }

    /// What it learned since the last call, knob by knob; the engine keeps it in the journal. Asked after changes and
    /// trials, at the end, and else at most every ten seconds.
    fn learned(&mut self) -> Vec<Lesson> {
        Vec::new()
    }

    /// Goes on from what an earlier run learned. Called before the first signal of a namespace that the knob is in, and
    /// only where kernel, hardware, the configuration and [`learns`](Tuner::learns) are as they were.
    ///
    /// # Errors
    /// Why it is of no use: it is dropped, and the log says so.
    fn recall(&mut self, lesson: &Lesson) -> Result<(), String> {
        let _ = lesson;
        Ok(())
    }

    /// The host is short of memory (PSI): what can be given back? Called at most every two seconds.
    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let _ = view;
        Vec::new()
    }
}

/// What a tuner learned about a knob.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// The knob.
    pub knob: Knob,
    /// All of it, in the tuner's own words; [`Tuner::learns`] names their version.
    pub state: Json,
}

/// What a tuner may look at.
pub trait View {
    /// The value now, or `None` where this kernel or namespace has no such tunable.
    fn value(&self, knob: &Knob) -> Option<Value>;

    /// The host's memory and the like, as they are now.
    fn machine(&self) -> &Machine;

    /// The host's own namespace, where global tunables live.
    fn host_netns(&self) -> NetnsCookie;

    /// The time, for [learners](crate::learner::Input::at): since 1970, so that it goes on over a restart.
    fn now(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }

    /// The knobs that differ from the value they had before the first change, with that value.
    fn changed(&self) -> Vec<(Knob, Value)>;

    /// A knob's value before its first change; `None` where it was not changed.
    fn original(&self, knob: &Knob) -> Option<Value> {
        let changed = self.changed().into_iter();
        changed
            .filter(|(changed, _)| changed == knob)
            .map(|(_, value)| value)
            .next()
    }
}

/// A change that a tuner wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What and where.
    pub knob: Knob,
    /// The wanted value; the governor moves it into the tunable's bounds.
    pub target: Value,
    /// Why, for a person, with the figures: the end of the sentence "... because ".
    pub reason: String,
    /// Whether it may cut through cool-down and hysteresis.
    pub urgency: Urgency,
}

impl Proposal {
    /// One that gains something.
    #[must_use]
    pub fn gain(knob: Knob, target: impl Into<Value>, reason: impl Into<String>) -> Proposal {
        Proposal {
            knob,
            target: target.into(),
            reason: reason.into(),
            urgency: Urgency::Gain,
        }
    }

    /// One that averts harm.
    #[must_use]
    pub fn against_harm(
        knob: Knob,
        target: impl Into<Value>,
        reason: impl Into<String>,
    ) -> Proposal {
        Proposal {
            urgency: Urgency::Harm,
            ..Proposal::gain(knob, target, reason)
        }
    }
}

/// What most tuners answer to [`Tuner::on_memory_pressure`]: each changed knob of theirs, where `to` says less than it has.
/// `to` gets the knob, the last number of its original value, and that of its present one.
#[must_use]
pub fn give_back(
    view: &dyn View,
    owns: impl Fn(&Knob) -> bool,
    to: impl Fn(&Knob, i64, i64) -> i64,
) -> Vec<Proposal> {
    let changed = view.changed().into_iter();
    changed
        .filter(|(knob, _)| owns(knob))
        .filter_map(|(knob, original)| {
            let now = view.value(&knob)?.last();
            let target = to(&knob, original.last(), now);
            let reason = "the host is short of memory (PSI)";
            (target < now).then(|| Proposal::against_harm(knob, target, reason))
        })
        .collect()
}

/// The middle on the way back from `now` to `least`.
#[must_use]
pub const fn halfway(least: i64, now: i64) -> i64 {
    least + (now - least) / 2
}

/// How pressing a proposal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// Gains something: cool-down, hysteresis and the hourly limit apply.
    #[default]
    Gain,
    /// Averts harm (memory pressure): may reverse an earlier change at once.
    Harm,
}

/// Where a source that acts by itself may do so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Every tunable of its tuner may change: the mode is auto, the operator denies none, and nobody paused it.
    pub acts: bool,
    /// The only namespaces; `None` for all.
    pub only: Option<BTreeSet<NetnsCookie>>,
    /// Namespaces in which somebody else wrote one of its tunables.
    pub except: BTreeSet<NetnsCookie>,
}

/// What a source that acts by itself has chosen for a subject, and from what.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Whom it is for: "10.77.0.0/24".
    pub subject: String,
    /// Where that is.
    pub netns: NetnsCookie,
    /// What it gets from now on.
    pub name: String,
    /// Why, with the figures.
    pub why: String,
    /// All that there is to choose from, the one without any choice first.
    pub options: Vec<Tried>,
}

/// One of the options of a [`Chosen`].
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// "bbr".
    pub name: String,
    /// How often it was given.
    pub times: u64,
    /// How often of these there was something to measure.
    pub measured: u64,
    /// How good it was by the first option: 2 is twice as good. `None` where either was never measured.
    pub gain: Option<f64>,
}

/// Where a tuner's signals come from: a file descriptor for the engine's epoll set.
pub trait Source {
    /// Readable when there is something to drain.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Takes everything that waits; never blocks. `namespaces` are the ways into them that the engine knows, for a
    /// source that looks there.
    ///
    /// # Errors
    /// What makes the source useless: the daemon ends.
    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()>;

    /// Each hook, and if it is off, why.
    fn hooks(&self) -> &[HookStatus];

    /// Whether its BPF programs do more than watch, such as choosing something for each connection. Then it is told
    /// where they may, and does nothing before.
    fn acts_itself(&self) -> bool {
        false
    }

    /// Where its programs may act from now on. Only asked of those that [act themselves](Source::acts_itself).
    ///
    /// # Errors
    /// Where the programs cannot be told; nothing may be done then.
    fn reach(&mut self, reach: &Reach) -> Result<()> {
        let _ = reach;
        Ok(())
    }

    /// What its programs have chosen so far, for those that [act themselves](Source::acts_itself): the most used
    /// subjects first, and not many of them.
    fn chosen(&self) -> Vec<Chosen> {
        Vec::new()
    }

    /// Pressure triggers of its own (/proc/pressure), at most 15. The engine waits for each in its own
    /// epoll set, for the kernel tells of a stall once: a set within a set would lose it.
    fn pressure(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    /// One of [`pressure`](Self::pressure) has fired, counted from 0.
    fn pressed(&mut self, which: usize, out: &mut Vec<Signal>) {
        let _ = (which, out);
    }

    /// Asks for silence about this scenario in this namespace for a while: nothing can be done about
    /// it now; no time at all ends an earlier silence. A source may ignore it.
    fn quiet(&mut self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        let _ = (netns, scenario, how_long);
    }

    /// A knob of this source's tuner has been changed. Called inside its namespace, so that running
    /// connections can be made to notice. Most sources need nothing.
    ///
    /// # Errors
    /// What went wrong; the change stands.
    fn after_change(&mut self, knob: &Knob) -> Result<()> {
        let _ = knob;
        Ok(())
    }

    /// A figure of its own for trials, such as a latency that its BPF program measures: see
    /// [`Counter::Own`](crate::trial::Counter::Own). Asked only while a trial runs, with the calling thread inside the
    /// namespace.
    fn figure(&mut self, netns: NetnsCookie, name: &str) -> Option<f64> {
        let _ = (netns, name);
        None
    }

    /// Kernel memory held by its maps, bytes.
    fn map_bytes(&self) -> u64 {
        0
    }
}
