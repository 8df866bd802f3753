//! One epoll loop on one thread: signals in, decisions out. Idle means asleep.

mod act;
mod batch;
mod change;
mod config;
mod learned;
mod lock;
mod namespaces;
mod onset;
mod operator;
#[cfg(feature = "plugins")]
mod plugins;
mod pulse;
mod query;
mod registry;
mod requests;
mod settings;
mod show;
mod trials;
mod view;
mod watch;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    fcntl::Flock,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signal::{SigSet, Signal as UnixSignal},
        signalfd::{SfdFlags, SignalFd},
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

use crate::{
    Error, Knob, Machine, NetnsCookie, Reach, Result, Signal, Source, Tuner, Value,
    admin::AdminWatch,
    bpf::HookStatus,
    config::{Watch, kinds::Aim},
    control::{Event, Server},
    governor::{self, ExitPolicy, Governor, Mode, Policy},
    journal::{Journal, OriginalState},
    learner::Spec,
    netns::{Departures, Namespaces},
    psi, resident, restore,
    reverter::Reverter,
    sysctl,
    trial::{Outcome, Plan, Trial},
    watchdog::{HarmSource, Watchdog},
};

pub use self::{
    lock::{lock_state, lock_state_to_revert},
    settings::Settings,
};

/// A tuner with the source of its signals.
pub struct Registration {
    /// Decides what to propose.
    pub tuner: Box<dyn Tuner>,
    /// Gives it signals.
    pub source: Box<dyn Source>,
}

#[derive(Default)]
struct Counts {
    signals: u64,
    proposals: u64,
    changes: u64,
}

struct Registered {
    /// What the epoll set calls its source; never used again.
    token: u64,
    tuner: Box<dyn Tuner>,
    source: Box<dyn Source>,
    /// The one that the files name; else its own.
    learner: Option<Spec>,
    /// The same of its aim.
    aim: Option<Aim>,
    counts: Counts,
    /// How each of its tunables is tried.
    plans: HashMap<String, Rc<Plan>>,
    baseline: Rc<onset::Baseline>,
    /// What its source was told last.
    reach: Option<Reach>,
    known: learned::Known,
    /// What its source was asked to be silent about, since the configuration was read.
    quieted: HashSet<(NetnsCookie, Cow<'static, str>)>,
}

/// So many are remembered: the silence about others ends by itself.
const MOST_QUIETED: usize = 1024;

impl Registered {
    /// Asks for silence about a signal's like for a while.
    fn quiet(&mut self, signal: &Signal, how_long: Duration) {
        if self.quieted.len() >= MOST_QUIETED {
            self.quieted.clear();
        }
        self.quieted.insert((signal.netns, signal.scenario.clone()));
        self.source.quiet(signal.netns, &signal.scenario, how_long);
    }

    /// What could not be done may be possible now: it is to be heard of at once.
    fn listen_again(&mut self) {
        for (netns, scenario) in self.quieted.drain() {
            self.source.quiet(netns, &scenario, Duration::ZERO);
        }
    }
}

/// The daemon.
pub struct Engine {
    settings: Settings,
    governor: Governor,
    journal: Journal,
    namespaces: Namespaces,
    scope: Option<HashSet<NetnsCookie>>,
    tuners: Vec<Registered>,
    next_token: u64,
    #[cfg(feature = "plugins")]
    plugins: Option<crate::plugin::Manager>,
    admin: AdminWatch,
    control: Option<Server>,
    /// The value before our first change, of every knob that we changed.
    originals: HashMap<Knob, Value>,
    next_look: namespaces::NextLook,
    departures: Option<Departures>,
    /// What we wrote last, and when.
    written: HashMap<Knob, (Value, Instant)>,
    trials: HashMap<Knob, Trial>,
    /// This turn's changes, not announced yet.
    batch: Vec<batch::Change>,
    operator: operator::Operator,
    config_watch: Option<Watch>,
    /// The machine as it was just now.
    machine: Option<(Machine, Instant)>,
    /// What the last trial of a knob said.
    outcomes: HashMap<Knob, Outcome>,
    /// The series of signals that go on now, with the windows before the change.
    onset: HashMap<(NetnsCookie, usize), onset::Onset>,
    watchdog: Watchdog,
    pulse: pulse::Pulse,
    learned: learned::Keeper,
    /// What was said of a knob last, so that it is said once.
    said: HashMap<Knob, String>,
    started: i64,
    epoll: Epoll,
    timer: TimerFd,
    pressure: Option<File>,
    _lock: Flock<File>,
}

/// What is free of memory changes more slowly than signals come.
const MACHINE_HOLDS: Duration = Duration::from_millis(100);

/// Old decisions deleted before the first signal; more go later.
const PRUNE_AT_START: usize = 2000;

const TOKEN_SIGNAL: u64 = 0;
const TOKEN_TIMER: u64 = 1;
const TOKEN_ADMIN: u64 = 2;
const TOKEN_PRESSURE: u64 = 3;
const TOKEN_CONTROL: u64 = 4;
const TOKEN_CONFIG: u64 = 5;
#[cfg(feature = "plugins")]
const TOKEN_PLUGINS: u64 = 6;
const TOKEN_DEPARTURES: u64 = 7;
/// And one for each source of harm.
const TOKEN_HARM: u64 = 50;
/// From here on [`SOURCE_TOKENS`] a tuner: its source, then its pressure triggers.
const TOKEN_SOURCES: u64 = 1 << 10;
const SOURCE_TOKENS: u64 = 16;
const TOKEN_CLIENTS: u64 = 1 << 32;

impl Engine {
    /// Takes the state directory, restores what a killed run left changed, loads the admin watch and
    /// registers the tuners.
    ///
    /// # Errors
    /// [`Error::Locked`] where another daemon runs, [`Error::Journal`], [`Error::Owner`], a control
    /// socket that cannot be made.
    pub fn new(mut settings: Settings, tuners: Vec<Registration>) -> Result<Engine> {
        let mut namespaces = Namespaces::new()?;
        let scope = if settings.only_netns.is_empty() {
            None
        } else {
            confine(&mut settings.policy);
            Some(
                settings
                    .only_netns
                    .iter()
                    .map(|path| namespaces.add(path))
                    .collect::<Result<_>>()?,
            )
        };
        let mut journal = Journal::open(&settings.state_dir)?;
        let lock = lock::lock(&settings.state_dir, "")?;
        let left_over = restore::restore_after_crash(&mut journal, &mut namespaces)?;
        for line in left_over
            .to_string()
            .lines()
            .filter(|line| *line != "nothing to restore")
        {
            tracing::warn!("an earlier run ended without restoring: {line}");
        }
        // First of all, so that what it adopts and does not change is told from what it changes.
        journal.begin_run(&settings.policy.mode.to_string(), env!("CARGO_PKG_VERSION"))?;
        journal.adopt_kept(settings.exit != ExitPolicy::Restore)?;
        let mut originals = HashMap::new();
        let mut written = HashMap::new();
        for held in journal.held()? {
            let now = sysctl::read(&mut namespaces, &held.knob);
            if let Some(ours) = now.ok().filter(|now| held.is_ours(now)) {
                written.insert(held.knob.clone(), (ours, Instant::now()));
            }
            originals.insert(held.knob, held.value);
        }
        let reverter = match &settings.reverter {
            Some(program) => Some(Reverter::start(program, &settings.state_dir)?),
            None => None,
        };
        let mut governor = Governor::new(settings.policy.clone());
        for hold in journal.holds()? {
            governor.hold(hold.knob, hold.by);
        }
        let admin = AdminWatch::new()?;
        let mut control = match &settings.control {
            Some(path) => Some(Server::bind(path, settings.access.clone())?),
            None => None,
        };
        if let (Some(control), Some(port)) = (&mut control, settings.query_port) {
            control.listen_for_queries(port)?;
        }
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )
        .map_err(Error::system("timerfd_create"))?;
        let mut engine = Engine {
            watchdog: Watchdog::new(settings.watchdog.clone()),
            pulse: pulse::Pulse::new(reverter),
            settings,
            governor,
            journal,
            namespaces,
            scope,
            tuners: Vec::new(),
            next_token: TOKEN_SOURCES,
            #[cfg(feature = "plugins")]
            plugins: None,
            admin,
            control,
            originals,
            next_look: namespaces::NextLook::default(),
            departures: Departures::new()
                .inspect_err(|error| tracing::debug!("no ends of namespaces are heard of: {error}"))
                .ok(),
            written,
            trials: HashMap::new(),
            batch: Vec::new(),
            operator: operator::Operator::default(),
            config_watch: None,
            machine: None,
            outcomes: HashMap::new(),
            onset: HashMap::new(),
            learned: learned::Keeper::default(),
            said: HashMap::new(),
            started: crate::journal::now_ms(),
            epoll,
            timer,
            pressure: open_pressure(),
            _lock: lock,
        };
        for registration in tuners {
            engine.register(registration)?;
        }
        engine.remember_changes()?;
        engine.begin_departures()?;
        engine.begin_config()?;
        engine.begin_learned();
        engine.log_hooks();
        engine.prune(PRUNE_AT_START);
        #[cfg(feature = "plugins")]
        engine.open_plugins()?;
        Ok(engine)
    }

    /// What earlier runs of this boot changed within the hour counts for this one's limits too: a daemon that is
    /// killed and started again and again must not change more than one that runs.
    fn remember_changes(&mut self) -> Result<()> {
        let (now, now_ms) = (Instant::now(), crate::journal::now_ms());
        let hour = i64::try_from(governor::HOUR.as_millis()).unwrap_or(i64::MAX);
        for decision in self.journal.changes_since(now_ms - hour)? {
            let ago = Duration::from_millis(u64::try_from(now_ms - decision.at).unwrap_or(0));
            // Before the boot: not of this boot.
            let Some(at) = now.checked_sub(ago) else {
                continue;
            };
            let (Ok(old), Ok(new)) = (decision.old.parse::<Value>(), decision.new.parse()) else {
                continue;
            };
            let direction = Value::direction_from(&new, &old);
            let averted_harm = batch::AVERTS_HARM.contains(&decision.scenario.as_str());
            self.governor
                .remember(&decision.knob, direction, averted_harm, at);
            if decision.reverts.is_some() {
                self.governor.harmed(&decision.knob, at);
            }
        }
        Ok(())
    }

    /// How far to go where no section says more.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.governor.policy().mode
    }

    /// What happens to changed values at the end, as the configuration is now.
    #[must_use]
    pub fn exit(&self) -> ExitPolicy {
        self.settings.exit
    }

    /// Has every event told to `observer` too, as watchers are told, from the engine's own thread.
    pub fn observe(&mut self, observer: impl FnMut(&Event) + 'static) {
        self.operator.observer = Some(Box::new(observer));
    }

    /// Has the watchdog look at one more thing.
    pub fn watch_for(&mut self, source: Box<dyn HarmSource>) {
        self.watchdog.add(source);
    }

    fn log_hooks(&self) {
        for fault in self.hook_faults() {
            tracing::warn!("{fault}");
        }
    }

    /// A line for each hook that is off, and why.
    #[must_use]
    pub fn hook_faults(&self) -> Vec<String> {
        self.hooks()
            .filter_map(|(owner, hook)| {
                let why = hook.off.as_ref()?;
                Some(format!(
                    "{owner}: {} {} ({}) is off: {why}",
                    hook.kind(),
                    hook.name,
                    hook.section
                ))
            })
            .collect()
    }

    fn hooks(&self) -> impl Iterator<Item = (&str, &HookStatus)> {
        let admin = self
            .admin
            .hooks()
            .iter()
            .map(|hook| (crate::admin::NAME, hook));
        let tuners = self
            .tuners
            .iter()
            .flat_map(|t| t.source.hooks().iter().map(|hook| (t.tuner.name(), hook)));
        #[cfg(feature = "plugins")]
        let tuners = tuners.chain(self.plugins.iter().flat_map(crate::plugin::Manager::hooks));
        admin.chain(tuners)
    }

    /// Runs until SIGINT or SIGTERM, then restores or keeps. `ready` is called once everything is attached and the loop
    /// is about to wait.
    ///
    /// SIGHUP has two meanings. To a run with a controlling terminal it says that the terminal was closed, which must not
    /// leave values changed: it ends. To any other, a service, it says that the configuration is to be read again.
    ///
    /// # Errors
    /// Where the loop itself fails; values are restored all the same.
    pub fn run(mut self, ready: impl FnOnce()) -> Result<()> {
        let mut mask = SigSet::empty();
        mask.add(UnixSignal::SIGINT);
        mask.add(UnixSignal::SIGTERM);
        mask.add(UnixSignal::SIGHUP);
        mask.thread_block()
            .map_err(Error::system("cannot block signals"))?;
        let mut signals =
            SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
                .map_err(Error::system("signalfd"))?;
        let result = self.turn(&mut signals, ready);
        let how = match &result {
            Ok(signal) => signal.clone(),
            Err(error) => error.to_string(),
        };
        self.finish(&how);
        self.pulse.goodbye();
        result.map(|_| ())
    }

    fn turn(&mut self, signals: &mut SignalFd, ready: impl FnOnce()) -> Result<String> {
        self.wait_for(signals.as_fd(), TOKEN_SIGNAL, EpollFlags::EPOLLIN)?;
        self.wait_for(self.timer.as_fd(), TOKEN_TIMER, EpollFlags::EPOLLIN)?;
        if let Some(fd) = self.admin.fd() {
            self.wait_for(fd, TOKEN_ADMIN, EpollFlags::EPOLLIN)?;
        }
        if let Some(pressure) = &self.pressure {
            self.wait_for(pressure.as_fd(), TOKEN_PRESSURE, EpollFlags::EPOLLPRI)?;
        }
        if let Some(control) = &self.control {
            for listener in control.listeners() {
                self.wait_for(listener, TOKEN_CONTROL, EpollFlags::EPOLLIN)?;
            }
        }
        self.tell_reach();
        ready();
        resident::let_go_of_code();
        let on_terminal = File::open("/dev/tty").is_ok();
        let mut events = [EpollEvent::empty(); 16];
        let mut more = false;
        loop {
            let timeout = if more {
                EpollTimeout::ZERO
            } else {
                EpollTimeout::NONE
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(Error::system("epoll_wait")(errno)),
            };
            // The admin's writes first: a signal beside them must find them known.
            let waiting = &mut events[..count];
            waiting.sort_by_key(|event| event.data() != TOKEN_ADMIN);
            for event in waiting {
                match event.data() {
                    TOKEN_SIGNAL => {
                        if let Ok(Some(info)) = signals.read_signal() {
                            let name = UnixSignal::try_from(info.ssi_signo as i32)
                                .map_or("signal", UnixSignal::as_str);
                            if name == "SIGHUP" && !on_terminal && self.settings.config.is_some() {
                                self.reload_config("SIGHUP");
                                continue;
                            }
                            return Ok(name.to_owned());
                        }
                    }
                    TOKEN_TIMER => {
                        let _ = self.timer.wait();
                        self.on_timer()?;
                    }
                    TOKEN_ADMIN => self.admin_wrote()?,
                    TOKEN_PRESSURE => self.memory_pressure()?,
                    TOKEN_CONTROL => self.accept_clients()?,
                    TOKEN_CONFIG => self.config_changed(),
                    TOKEN_DEPARTURES => self.departed(),
                    #[cfg(feature = "plugins")]
                    TOKEN_PLUGINS => self.plugins_turn(),
                    token if token >= TOKEN_CLIENTS => {
                        self.serve(token - TOKEN_CLIENTS, event.events())?
                    }
                    token if token < TOKEN_SOURCES => {
                        self.watch(Some((token - TOKEN_HARM) as usize))
                    }
                    token => self.drain(token)?,
                }
            }
            more = self.end_turn()?;
        }
    }

    fn wait_for(&self, fd: BorrowedFd<'_>, token: u64, flags: EpollFlags) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(flags, token))
            .map_err(Error::system("epoll_ctl"))
    }

    fn drain(&mut self, token: u64) -> Result<()> {
        let mut signals = Vec::new();
        let which = token % SOURCE_TOKENS;
        // Gone where it was unregistered by an earlier event of the same turn.
        let Some(index) = self.tuners.iter().position(|t| t.token == token - which) else {
            return Ok(());
        };
        let source = &mut self.tuners[index].source;
        match which {
            0 => source.drain(&mut self.namespaces, &mut signals)?,
            trigger => source.pressed(trigger as usize - 1, &mut signals),
        }
        for signal in signals {
            self.on_signal(index, &signal)?;
        }
        Ok(())
    }

    fn on_signal(&mut self, index: usize, signal: &Signal) -> Result<()> {
        let tuner = &mut self.tuners[index];
        tuner.counts.signals += u64::from(signal.count);
        tracing::debug!(scenario = %signal.scenario, netns = %signal.netns, subject = %signal.subject, "signal");
        if self
            .scope
            .as_ref()
            .is_some_and(|scope| !scope.contains(&signal.netns))
            || self.governor.observes(tuner.tuner.name())
        {
            tuner.quiet(signal, Duration::from_secs(60));
            return Ok(());
        }
        let now = Instant::now();
        if self.operator.rest(tuner.tuner.name(), now).is_some() {
            // Short, so that it works soon after it is let.
            let second = Duration::from_secs(1);
            tuner.quiet(signal, second);
            return Ok(());
        }
        self.tell_listeners(index, signal)?;
        self.series(index, signal, now)
    }

    /// Takes a signal to a tuner, and what it proposes to the governor.
    fn ask(&mut self, index: usize, signal: &Signal) -> Result<()> {
        // A change that it asked for just now must not be asked for again.
        let (tuner, netns) = (self.tuners[index].tuner.name(), signal.netns);
        if self
            .batch
            .iter()
            .any(|change| change.tuner == tuner && change.knob.netns == netns)
        {
            self.carry_out();
        }
        let machine = self.machine()?;
        self.give_back(index, signal.netns);
        self.tuners[index].known.stirred = true;
        let view = view::EngineView::new(&mut self.namespaces, &self.originals, &machine);
        let proposals = self.tuners[index].tuner.on_signal(signal, &view);
        let seen = view.into_seen();
        for proposal in proposals {
            self.propose(index, Some(signal), proposal, &machine, &seen)?;
        }
        Ok(())
    }

    /// The machine as it is, or was a moment ago: reading it takes longer than a decision.
    fn machine(&mut self) -> Result<Machine> {
        let fresh = |(_, at): &&(Machine, Instant)| at.elapsed() < MACHINE_HOLDS;
        if let Some((machine, _)) = self.machine.as_ref().filter(fresh) {
            return Ok(machine.clone());
        }
        let machine = Machine::now()?;
        self.machine = Some((machine.clone(), Instant::now()));
        Ok(machine)
    }

    fn memory_pressure(&mut self) -> Result<()> {
        let machine = Machine::now()?;
        if machine.has_memory_to_spare() {
            tracing::debug!(
                "tasks wait for memory (PSI some over 10 % for 2 s), but the host has some to spare"
            );
            return Ok(());
        }
        tracing::info!("the host is short of memory (PSI some over 10 % for 2 s)");
        for index in 0..self.tuners.len() {
            let name = self.tuners[index].tuner.name();
            if self.operator.rest(name, Instant::now()).is_some() {
                continue;
            }
            let view = view::EngineView::new(&mut self.namespaces, &self.originals, &machine);
            let proposals = self.tuners[index].tuner.on_memory_pressure(&view);
            let seen = view.into_seen();
            for proposal in proposals {
                self.propose(index, None, proposal, &machine, &seen)?;
            }
        }
        Ok(())
    }

    /// What was due: windows before changes, windows of trials, the watchdog's look.
    fn on_timer(&mut self) -> Result<()> {
        self.sample_onsets()?;
        self.sample_trials();
        if self.watchdog.due().is_some_and(|due| due <= Instant::now()) {
            self.watch(None);
        }
        Ok(())
    }

    /// One timer for everything that is measured; none where nothing is. Set once a turn of the loop.
    fn arm_timer(&mut self) -> Result<()> {
        let what = "timerfd_settime";
        let pending = self
            .watchdog
            .due()
            .into_iter()
            .chain(self.trials.values().map(Trial::due));
        let due = pending
            .min()
            .map(|due| due.min(Instant::now() + self.pulse.every()));
        self.pulse.beat(due.is_some());
        let onsets = self.onset.values().filter_map(onset::Onset::due);
        match due.into_iter().chain(onsets).min() {
            Some(due) => {
                let left = due
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(left));
                self.timer
                    .set(expiration, TimerSetTimeFlags::empty())
                    .map_err(Error::system(what))
            }
            None => self.timer.unset().map_err(Error::system(what)),
        }
    }

    fn finish(&mut self, how: &str) {
        // Writes that came in just before are the admin's word too.
        if let Err(error) = self.admin_wrote() {
            tracing::warn!("{error}");
        }
        for knob in self.trials.keys().cloned().collect::<Vec<_>>() {
            self.end_trial(&knob);
        }
        // Which ones stay.
        let stays = |knob: &Knob, outcomes: &HashMap<Knob, Outcome>| match self.settings.exit {
            ExitPolicy::Keep => true,
            ExitPolicy::Restore => false,
            ExitPolicy::RestoreIfWorse => outcomes.get(knob) == Some(&Outcome::Better),
        };
        for knob in self
            .originals
            .keys()
            .filter(|knob| stays(knob, &self.outcomes))
        {
            tracing::info!("keeps {knob}; `bpftune revert` restores it");
            if let Err(error) = self.journal.close(knob, OriginalState::Kept, how) {
                tracing::warn!("{error}");
            }
        }
        if self.settings.exit == ExitPolicy::RestoreIfWorse {
            // Better according to an earlier run's trial.
            self.warn_on_error(|me| me.journal.keep_adopted().map(drop));
        }
        if self.settings.exit != ExitPolicy::Keep {
            match restore::restore(&mut self.journal, &mut self.namespaces) {
                Ok(report) => report
                    .to_string()
                    .lines()
                    .for_each(|line| tracing::info!("{line}")),
                Err(error) => tracing::error!("could not restore: {error}; run `bpftune revert`"),
            }
        }
        if let Err(error) = self.publish() {
            tracing::warn!("{error}");
        }
        self.learned.at_once = true;
        self.keep_learned();
        if let Err(error) = self.journal.end_run(how) {
            tracing::warn!("{error}");
        }
    }
}

/// Only some namespaces are to be touched: the host's own parameters are not among them.
fn confine(policy: &mut Policy) {
    policy.global = false;
    policy.origins.option(
        "governor",
        "global",
        "only some network namespaces are tuned: netns in [daemon], or --netns",
    );
}

/// Ready when tasks stalled for memory for 200 ms of 2 s.
fn open_pressure() -> Option<File> {
    let path = Path::new("/proc/pressure/memory");
    let (stall, window) = (Duration::from_millis(200), Duration::from_secs(2));
    psi::trigger(path, false, stall, window)
        .inspect_err(|error| {
            tracing::warn!("no memory pressure signal ({}): {error}", path.display())
        })
        .ok()
}
