//! Which plugins are there, and whether they run: found, started, rested, started anew, taken out.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::{
    Context, Settings,
    directory::{self, Found, Identity, Kind},
    files::Watch,
    limits::BackOff,
    process::{Process, Program, halves},
    rule,
    sandbox::pick,
};
use crate::{Error, Result, bpf::HookStatus, engine::Registration, timer::Timer};

/// After a change in a directory more may follow at once: files are copied, then made executable.
const QUIET: Duration = Duration::from_millis(100);

const TOKEN_FILES: u64 = 0;
const TOKEN_TIMER: u64 = 1;
/// Then two a plugin: its streams until it is registered, its end.
const TOKEN_PLUGINS: u64 = 2;

/// What the engine is to do.
pub enum News {
    /// Register it, and say so by [`Manager::joined`] or [`Manager::refused`].
    Join(Registration),
    /// Unregister it and restore what it changed.
    Leave(String),
}

struct Plugin {
    path: PathBuf,
    /// This state of its file; `None` where that could not be looked at.
    identity: Option<Identity>,
    state: State,
    back_off: BackOff,
    /// What to start, where it is a process.
    program: Option<Program>,
    token: u64,
}

enum State {
    /// Not loaded; tried again when a file or the configuration changes, for another may have had its tunable.
    Refused(String),
    /// A rule, registered.
    Rule,
    /// A process.
    Runs {
        process: Rc<RefCell<Process>>,
        since: Instant,
        registered: bool,
    },
    /// A process that failed.
    Rests { until: Instant, why: String },
}

impl State {
    fn is_registered(&self) -> bool {
        match self {
            State::Rule => true,
            State::Runs { registered, .. } => *registered,
            State::Refused(_) | State::Rests { .. } => false,
        }
    }
}

/// The plugins. One descriptor, ready when [`turn`](Self::turn) has something to do.
pub struct Manager {
    settings: Settings,
    context: Rc<Context>,
    plugins: BTreeMap<String, Plugin>,
    /// Directories that are not read, and why.
    faults: BTreeMap<PathBuf, String>,
    epoll: Epoll,
    timer: Timer,
    files: Option<Watch>,
    scan_at: Option<Instant>,
    next_token: u64,
    hooks: Vec<(String, HookStatus)>,
}

impl Manager {
    /// Finds nothing yet: the first [`turn`](Self::turn) does. `confined` are the paths of the only
    /// namespaces to look into, if any.
    ///
    /// # Errors
    /// Where a descriptor cannot be made, or a path is no namespace.
    pub fn new(settings: Settings, confined: &[PathBuf]) -> Result<Manager> {
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(Error::system("epoll_create1"))?;
        if settings.directories.iter().any(|dir| dir.exists()) {
            super::sandbox::make_room();
        }
        let mut manager = Manager {
            settings,
            context: Rc::new(Context::new(confined)?),
            plugins: BTreeMap::new(),
            faults: BTreeMap::new(),
            epoll,
            timer: Timer::new()?,
            files: None,
            scan_at: Some(Instant::now()),
            next_token: TOKEN_PLUGINS,
            hooks: Vec::new(),
        };
        manager.watch(manager.timer.fd(), TOKEN_TIMER)?;
        manager.arm_timer();
        Ok(manager)
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        self.epoll
            .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
            .map_err(Error::system("epoll_ctl"))
    }

    /// Readable when there is something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Each plugin that does not run, what it does instead ("rests", "refused"), and why.
    pub fn idle(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let of_plugins = self
            .hooks
            .iter()
            .filter(|(_, hook)| hook.section != "directory");
        of_plugins.map(|(name, hook)| {
            let why = hook.off.as_deref().unwrap_or_default();
            (name.as_str(), hook.section.as_str(), why)
        })
    }

    /// The same, and each directory that is not read, for `status`.
    pub fn hooks(&self) -> impl Iterator<Item = (&str, &HookStatus)> {
        self.hooks.iter().map(|(name, hook)| (name.as_str(), hook))
    }

    /// The configuration was read again. Where these settings differ, all plugins are loaded anew; those that were refused
    /// are looked at in any case, for the reason may be gone.
    pub fn configure(&mut self, settings: Settings) {
        if settings != self.settings {
            self.settings = settings;
            // No file is in this state, so each is taken for changed.
            for plugin in self.plugins.values_mut() {
                plugin.identity = None;
            }
        }
        self.scan_at = Some(Instant::now());
        self.arm_timer();
    }

    /// Does what is to be done: a bounded part of it.
    pub fn turn(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        let mut events = [EpollEvent::empty(); 16];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                TOKEN_FILES => {
                    if let Some(files) = &self.files {
                        files.take();
                    }
                    self.scan_at.get_or_insert(Instant::now() + QUIET);
                }
                TOKEN_TIMER => {
                    self.timer.take();
                }
                token if (token - TOKEN_PLUGINS).is_multiple_of(2) => {
                    self.on_streams(token, &mut news)
                }
                token => self.on_end(token - 1, &mut news),
            }
        }
        let now = Instant::now();
        if self.scan_at.is_some_and(|at| at <= now) {
            self.scan_at = None;
            self.watch_files();
            self.scan(&mut news);
        }
        for (name, plugin) in &mut self.plugins {
            if matches!(plugin.state, State::Rests { until, .. } if until <= now) {
                plugin.start(name, &self.epoll, &self.settings, &self.context);
            }
        }
        self.arm_timer();
        self.tell_hooks();
        news
    }

    /// The engine registered it.
    pub fn joined(&mut self, name: &str) {
        let Some(plugin) = self.plugins.get_mut(name) else {
            return;
        };
        tracing::info!("plugin {name} is loaded from {}", plugin.path.display());
        if let State::Runs {
            process,
            registered,
            ..
        } = &mut plugin.state
        {
            *registered = true;
            process.borrow_mut().welcome();
        }
    }

    /// The engine did not register it.
    pub fn refused(&mut self, name: &str, why: &str) {
        if let Some(plugin) = self.plugins.get_mut(name) {
            // Drops the process, which ends it.
            plugin.state = refused(name, why.into());
        }
        self.tell_hooks();
    }

    /// The plugin whose streams have this token.
    fn of_token(&mut self, token: u64) -> Option<(&String, &mut Plugin)> {
        self.plugins
            .iter_mut()
            .find(|(_, plugin)| plugin.token == token)
    }

    /// A process that is not registered yet says something.
    fn on_streams(&mut self, token: u64, news: &mut Vec<News>) {
        let Some((_, plugin)) = self.of_token(token) else {
            return;
        };
        let State::Runs { process, .. } = &plugin.state else {
            return;
        };
        // It cannot propose yet.
        process.borrow_mut().pump(&mut Vec::new());
        if let Some(registration) = halves(process) {
            // From here on the engine waits for its streams.
            let streams = process.borrow().epoll();
            let _ = self.epoll.delete(streams.0.as_fd());
            news.push(News::Join(registration));
        }
    }

    /// A process has ended.
    fn on_end(&mut self, token: u64, news: &mut Vec<News>) {
        let Some((name, plugin)) = self.of_token(token) else {
            return;
        };
        let State::Runs {
            process,
            since,
            registered,
        } = &plugin.state
        else {
            return;
        };
        let why = process.borrow_mut().reap();
        if *registered {
            news.push(News::Leave(name.clone()));
        } else {
            news.retain(|one| !matches!(one, News::Join(r) if r.tuner.name() == name));
        }
        let ran = since.elapsed();
        let name = name.clone();
        plugin.rest(&name, ran, why);
    }

    fn scan(&mut self, news: &mut Vec<News>) {
        let (mut found, faults) = directory::scan(&self.settings.directories, self.settings.trust);
        for (path, why) in &faults {
            if self.faults.get(path) != Some(why) {
                tracing::warn!("no plugins are loaded from {}: {why}", path.display());
            }
        }
        self.faults = faults;
        let stays = |name: &String, plugin: &Plugin| {
            let same = |found: &Found| match &found.what {
                Ok((identity, _)) => {
                    found.path == plugin.path && Some(*identity) == plugin.identity
                }
                Err(_) => false,
            };
            !matches!(plugin.state, State::Refused(_)) && found.get(name).is_some_and(same)
        };
        let (stay, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.plugins)
            .into_iter()
            .partition(|(name, plugin)| stays(name, plugin));
        self.plugins = stay;
        let mut known = HashSet::new();
        for (name, plugin) in gone {
            if plugin.state.is_registered() {
                let what = if found.contains_key(&name) {
                    "is loaded anew"
                } else {
                    "is gone"
                };
                tracing::info!("plugin {name} ({}) {what}", plugin.path.display());
                news.push(News::Leave(name));
            } else if let State::Refused(why) = plugin.state {
                known.insert((name, why));
            }
        }
        found.retain(|name, _| !self.plugins.contains_key(name));
        for (name, found) in found {
            self.add(name, found, &known, news);
        }
    }

    /// `known`: what was refused before, and why, which needs no saying again.
    fn add(
        &mut self,
        name: String,
        found: Found,
        known: &HashSet<(String, String)>,
        news: &mut Vec<News>,
    ) {
        let Found { path, what } = found;
        let identity = what.as_ref().ok().map(|(identity, _)| *identity);
        let token = self.next_token;
        self.next_token += 2;
        let mut plugin = Plugin {
            path: path.clone(),
            identity,
            state: State::Refused(String::new()),
            back_off: BackOff::default(),
            program: None,
            token,
        };
        let refuse = |why: String| {
            if known.contains(&(name.clone(), why.clone())) {
                State::Refused(why)
            } else {
                refused(&name, why)
            }
        };
        match what {
            Err(why) => plugin.state = refuse(why),
            Ok((_, Kind::Rule(file))) => {
                match rule::load(&name, &path, file, &self.settings.permitted, &self.context) {
                    Ok(registration) => {
                        plugin.state = State::Rule;
                        news.push(News::Join(registration));
                    }
                    Err(why) => plugin.state = refuse(why),
                }
            }
            Ok((_, Kind::Process(file))) => {
                plugin.program = Some(self.program(&name, path, file));
                plugin.start(&name, &self.epoll, &self.settings, &self.context);
            }
        }
        self.plugins.insert(name, plugin);
    }

    fn program(&self, name: &str, path: PathBuf, file: File) -> Program {
        let programs = self.plugins.values().filter_map(|p| p.program.as_ref());
        let taken: HashSet<u32> = programs.map(|program| program.uid).collect();
        Program {
            name: name.to_owned(),
            path,
            file,
            uid: pick(name, |id| taken.contains(&id)),
        }
    }

    /// The old watch goes before the directories are read, the new one is there before: nothing is missed.
    fn watch_files(&mut self) {
        self.files = None;
        if self.settings.directories.is_empty() {
            return;
        }
        let watch = Watch::new(&self.settings.directories).map_err(Error::system("inotify"));
        let watched = watch.and_then(|files| self.watch(files.fd(), TOKEN_FILES).map(|()| files));
        match watched {
            Ok(files) => self.files = Some(files),
            Err(error) => tracing::warn!("changes of plugins are not seen: {error}"),
        }
    }

    fn arm_timer(&mut self) {
        let rests = self.plugins.values();
        let rests = rests.filter_map(|plugin| match plugin.state {
            State::Rests { until, .. } => Some(until),
            _ => None,
        });
        self.timer.set(rests.chain(self.scan_at));
    }

    fn tell_hooks(&mut self) {
        let plugins = self.plugins.iter().filter_map(|(name, plugin)| {
            let (state, why) = plugin.idle()?;
            Some((name.clone(), hook(&plugin.path, state, why)))
        });
        let faults = self.faults.iter();
        let faults =
            faults.map(|(path, why)| ("plugins".to_owned(), hook(path, "directory", why.clone())));
        self.hooks = faults.chain(plugins).collect();
    }
}

impl Plugin {
    /// What it does instead of running, and why.
    fn idle(&self) -> Option<(&'static str, String)> {
        match &self.state {
            State::Refused(why) => Some(("refused", why.clone())),
            State::Rests { why, .. } => {
                let failures = self.back_off.failures();
                Some((
                    "rests",
                    format!("{why} (failure {failures}; it is started anew)"),
                ))
            }
            State::Rule | State::Runs { .. } => None,
        }
    }

    fn start(&mut self, name: &str, epoll: &Epoll, settings: &Settings, context: &Rc<Context>) {
        let Some(program) = &self.program else {
            return;
        };
        let started = Process::start(program, settings, context.clone()).and_then(|process| {
            let watch = |fd: BorrowedFd<'_>, token| {
                epoll
                    .add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
                    .map_err(Error::system("epoll_ctl"))
            };
            watch(process.epoll().0.as_fd(), self.token)?;
            if let Some(pidfd) = process.pidfd() {
                watch(pidfd, self.token + 1)?;
            }
            Ok(process)
        });
        match started {
            Ok(process) => {
                self.state = State::Runs {
                    process: Rc::new(RefCell::new(process)),
                    since: Instant::now(),
                    registered: false,
                }
            }
            Err(error) => self.rest(name, Duration::ZERO, error.to_string()),
        }
    }

    /// It failed after it ran so long.
    fn rest(&mut self, name: &str, ran: Duration, why: String) {
        let rest = self.back_off.failed(ran);
        tracing::warn!(
            "plugin {name} ({}) rests for {} s, failure {}: {why}",
            self.path.display(),
            rest.as_secs(),
            self.back_off.failures()
        );
        self.state = State::Rests {
            until: Instant::now() + rest,
            why,
        };
    }
}

fn refused(name: &str, why: String) -> State {
    tracing::warn!("plugin {name} is not loaded: {why}");
    State::Refused(why)
}

fn hook(path: &Path, section: &str, off: String) -> HookStatus {
    HookStatus {
        name: path.display().to_string(),
        section: section.into(),
        off: Some(off),
    }
}
