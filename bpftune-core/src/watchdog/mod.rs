//! Takes all recent changes back at once when the host does badly.
//!
//! A trial looks at its own namespace for some seconds. The watchdog looks at the host, for [`Settings::window`] after
//! the last change of anything: does it stall for memory or disks, are processes killed for want of memory, do
//! connections send a large share again, do devices drop packets? Where such a signal has risen since the change, all
//! changes of the window are put back together, and their tuners rest, twice as long each time.
//!
//! While nothing was changed lately there is nothing to watch: no trigger is open, nothing is read.

mod host;
mod network;

use std::{
    collections::{HashMap, VecDeque},
    os::fd::BorrowedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

pub use self::{
    host::{OomKills, Stalls},
    network::Network,
};
use crate::{
    Figure, Knob, NetnsCookie, Value, journal::DecisionId, netns::Namespaces, trial::Resource,
};

/// What counts as harm, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether it watches.
    pub enabled: bool,
    /// It watches for so long after the last change, and takes changes back that are so old.
    pub window: Duration,
    /// Share of time in which all tasks waited for memory, over 10 s.
    pub memory_full: f64,
    /// The same for disks.
    pub io_full: f64,
    /// Share of TCP segments sent again in a namespace with a recent change.
    pub retransmits: f64,
    /// Packets dropped in a second by devices of such a namespace, or by the host's backlog.
    pub drops: f64,
    /// Whether an OOM kill is harm.
    pub oom_kills: bool,
    /// The tuners' first rest; doubled each time.
    pub rest: Duration,
    /// Their longest rest. So long without harm, and the next rest is the first again.
    pub longest_rest: Duration,
    /// Where the kernel tells of stalls: memory and io in here.
    pub pressure: PathBuf,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            enabled: true,
            window: Duration::from_secs(300),
            memory_full: 0.1,
            io_full: 0.5,
            retransmits: 0.1,
            drops: 1000.0,
            oom_kills: true,
            rest: Duration::from_secs(600),
            longest_rest: Duration::from_secs(6 * 3600),
            pressure: PathBuf::from("/proc/pressure"),
        }
    }
}

/// A harm that rose.
#[derive(Clone, Debug, PartialEq)]
pub struct Harm {
    /// For a person: "all tasks waited for memory 34 % of the last 10 s, 0 % before the change".
    pub what: String,
    /// Its figures, for the journal.
    pub figures: Vec<Figure>,
}

/// Something that tells of harm to the host.
pub trait HarmSource {
    /// A change may follow in this namespace: how bad it is now, for a source that the kernel does not tell of the past.
    /// Called when a series of signals begins (`begins`), and at the end of each window before the change.
    fn before(
        &mut self,
        now: Instant,
        begins: bool,
        netns: NetnsCookie,
        namespaces: &mut Namespaces,
    ) {
        let _ = (now, begins, netns, namespaces);
    }

    /// Starts to look: a change is about to be, or was just, made. What is bad already is not the change's doing.
    fn arm(&mut self, now: Instant);

    /// Stops.
    fn disarm(&mut self);

    /// While armed: ready by `EPOLLPRI`, as PSI triggers are, when [`harm`](Self::harm) should be asked at once.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Harm that rose since it was armed. `places` have recent changes.
    fn harm(
        &mut self,
        now: Instant,
        places: &[NetnsCookie],
        namespaces: &mut Namespaces,
    ) -> Option<Harm>;
}

/// A change that may have to be taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct Recent {
    /// Its decision.
    pub id: DecisionId,
    /// Whose it is.
    pub tuner: String,
    /// What and where.
    pub knob: Knob,
    /// The value before.
    pub old: Value,
    /// When it was made.
    pub at: Instant,
}

/// Looks at first so often, then less and less.
const FIRST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(8);
/// Changes that are remembered; of more, the oldest are forgotten.
const MAX_RECENT: usize = 65_536;

/// The recent changes and what looks after them.
pub struct Watchdog {
    settings: Settings,
    /// The host's first, then those that were added.
    sources: Vec<Box<dyn HarmSource>>,
    /// How many are the host's.
    own: usize,
    recent: VecDeque<Recent>,
    armed: bool,
    due: Instant,
    every: Duration,
    rests: HashMap<String, (u32, Instant)>,
}

impl Watchdog {
    /// With the host's own signals.
    #[must_use]
    pub fn new(settings: Settings) -> Watchdog {
        let mut sources: Vec<Box<dyn HarmSource>> = vec![
            Box::new(Stalls::new(
                Resource::Memory,
                &settings.pressure,
                settings.memory_full,
            )),
            Box::new(Stalls::new(
                Resource::Io,
                &settings.pressure,
                settings.io_full,
            )),
            Box::new(Network::new(settings.retransmits, settings.drops)),
        ];
        if settings.oom_kills {
            sources.push(Box::new(OomKills::default()));
        }
        Watchdog {
            settings,
            own: sources.len(),
            sources,
            recent: VecDeque::new(),
            armed: false,
            due: Instant::now(),
            every: FIRST,
            rests: HashMap::new(),
        }
    }

    /// Other settings, from now on: thresholds from the next change after a calm window, all else at once.
    pub fn set(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        if !self.armed {
            let own = self.sources.split_off(self.own);
            *self = Watchdog {
                recent: std::mem::take(&mut self.recent),
                rests: std::mem::take(&mut self.rests),
                ..Watchdog::new(settings)
            };
            self.sources.extend(own);
            return;
        }
        if !settings.enabled {
            self.forget_all();
        }
        self.settings = settings;
    }

    /// Looks at one more thing.
    pub fn add(&mut self, source: Box<dyn HarmSource>) {
        self.sources.push(source);
    }

    /// A change may follow in this namespace: see [`HarmSource::before`].
    pub fn before(
        &mut self,
        now: Instant,
        begins: bool,
        netns: NetnsCookie,
        namespaces: &mut Namespaces,
    ) {
        // What a change on watch may have done already is not how it was before.
        let changed = self.recent.iter().any(|recent| recent.knob.netns == netns);
        if self.settings.enabled && !changed {
            for source in &mut self.sources {
                source.before(now, begins, netns, namespaces);
            }
        }
    }

    /// Notes a change that was just made. `true`: it was asleep and is awake now, so its descriptors are new.
    pub fn changed(&mut self, change: Recent) -> bool {
        if !self.settings.enabled {
            return false;
        }
        let now = change.at;
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(change);
        let fresh = !self.armed;
        if fresh {
            self.armed = true;
            self.sources.iter_mut().for_each(|source| source.arm(now));
        }
        if fresh || self.every > FIRST {
            self.every = FIRST;
            self.due = now + FIRST;
        }
        fresh
    }

    /// A knob is back, or somebody else's: there is nothing to take back any more.
    pub fn forget(&mut self, knob: &Knob) {
        self.recent.retain(|recent| recent.knob != *knob);
    }

    /// Forgets every change, and sleeps at the next look.
    pub fn forget_all(&mut self) {
        self.recent.clear();
    }

    /// When to look next, if at all.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.armed.then_some(self.due)
    }

    /// The descriptors to wait for while awake, by source.
    pub fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let awake = if self.armed {
            self.sources.as_slice()
        } else {
            &[]
        };
        awake
            .iter()
            .enumerate()
            .filter_map(|(i, source)| Some((i, source.fd()?)))
    }

    /// Looks, at all or at one source. After the window it goes to sleep, which closes the descriptors.
    pub fn look(
        &mut self,
        now: Instant,
        only: Option<usize>,
        namespaces: &mut Namespaces,
    ) -> Option<Harm> {
        if !self.armed {
            return None;
        }
        self.recent
            .retain(|recent| now.duration_since(recent.at) < self.settings.window);
        if self.recent.is_empty() {
            self.sleep();
            return None;
        }
        let mut places: Vec<NetnsCookie> =
            self.recent.iter().map(|recent| recent.knob.netns).collect();
        places.sort_unstable();
        places.dedup();
        if only.is_none() {
            self.every = (self.every * 2).min(SLOWEST);
            self.due = now + self.every;
            // Three looks a second apart at first: a storm is seen in few seconds.
            if self
                .recent
                .back()
                .is_some_and(|last| now.duration_since(last.at) < FIRST * 5)
            {
                self.every = FIRST;
                self.due = now + FIRST;
            }
        }
        self.sources
            .iter_mut()
            .enumerate()
            .filter(|(i, _)| only.is_none_or(|only| only == *i))
            .find_map(|(_, source)| source.harm(now, &places, namespaces))
    }

    /// What has to go back after harm: for each knob the value before its oldest recent change, and its newest change.
    /// Nothing is recent afterwards, and it sleeps.
    pub fn take_recent(&mut self) -> Vec<(Recent, DecisionId)> {
        let mut knobs: Vec<(Recent, DecisionId)> = Vec::new();
        for recent in self.recent.drain(..) {
            match knobs
                .iter_mut()
                .find(|(first, _)| first.knob == recent.knob)
            {
                Some((_, newest)) => *newest = recent.id,
                None => {
                    let id = recent.id;
                    knobs.push((recent, id));
                }
            }
        }
        self.sleep();
        knobs
    }

    /// How long a tuner rests whose changes were just taken back.
    pub fn rest(&mut self, tuner: &str, now: Instant) -> Duration {
        let Settings {
            rest, longest_rest, ..
        } = self.settings;
        let (times, last) = self.rests.entry(tuner.to_owned()).or_insert((0, now));
        let calm = now
            .duration_since(*last)
            .saturating_sub(rest * 2u32.saturating_pow((*times).min(20)));
        if calm > longest_rest {
            *times = 0;
        }
        let how_long = rest
            .saturating_mul(2u32.saturating_pow((*times).min(20)))
            .min(longest_rest.max(rest));
        *times += 1;
        *last = now;
        how_long
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn sleep(&mut self) {
        self.armed = false;
        self.every = FIRST;
        self.sources.iter_mut().for_each(|source| source.disarm());
    }
}

#[cfg(test)]
mod tests;
