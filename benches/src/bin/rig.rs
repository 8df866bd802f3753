//! A daemon with a tuner made for tests: it changes what it is told to change, as often as it is told.
//!
//! The whole-system tests of trials, watchdog and reverter start it, for the real tuners change too little and too
//! well. It is also the smallest daemon with a tuner of its own.

use std::{
    io::Read,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use bpftune_core::{
    Bound, Cost, Error, Knob, Lesson, NetnsCookie, Proposal, Result, Scope, Signal, Source,
    Tunable, Tuner, Urgency, Value, View,
    bpf::HookStatus,
    config::{Files, Live, Overrides},
    engine::{Engine, Registration, Settings},
    governor::{ExitPolicy, Policy},
    learner::{Input, Kind, Learners, Reading, Spec},
    netns::Namespaces,
    reverter,
    trial::{self, Guard, Harm, Plan, Record, Windows},
    watchdog::{self, HarmSource},
};
use clap::Parser;
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

const WMEM: &str = "net.ipv4.tcp_wmem";
const RMEM: &str = "net.ipv4.tcp_rmem";

/// A daemon that changes tcp_wmem (and for `--churn` tcp_rmem) of the given namespaces
#[derive(Parser)]
struct Args {
    /// `run`, as of any daemon
    verb: String,
    #[arg(long)]
    state_dir: PathBuf,
    #[arg(long)]
    control: PathBuf,
    #[arg(long)]
    netns: Vec<PathBuf>,
    /// What tcp_wmem becomes, once in each namespace
    #[arg(long)]
    to: Option<String>,
    /// What it becomes when that has been tried
    #[arg(long, requires = "to")]
    then: Option<String>,
    /// Switch it to and fro while it is on trial
    #[arg(long)]
    interleaved: bool,
    /// Change both to something else every millisecond, with trials of a few milliseconds
    #[arg(long)]
    churn: bool,
    /// Harm to the host is there while this file is
    #[arg(long)]
    harm: Option<PathBuf>,
    /// Where the watchdog finds memory and io instead of /proc/pressure
    #[arg(long)]
    pressure: Option<PathBuf>,
    /// How long the watchdog watches after a change, in seconds
    #[arg(long, default_value_t = 300)]
    watch: u64,
    /// Stop for ever inside the tuner once all is changed
    #[arg(long)]
    hang: bool,
    /// Take back what a trial cannot tell
    #[arg(long)]
    unclear_reverts: bool,
    /// No reverter
    #[arg(long)]
    alone: bool,
    /// Let a learner choose tcp_wmem; the files name it, and say all else too
    #[arg(long, requires = "config_dir")]
    learn: bool,
    #[arg(long)]
    config_dir: Option<PathBuf>,
    /// Most changes of one parameter in one namespace in an hour
    #[arg(long)]
    changes_per_hour: Option<usize>,
    /// Leave changed values on exit
    #[arg(long)]
    keep: bool,
}

struct Rig {
    to: Option<Value>,
    then: Option<Value>,
    tried: bool,
    interleaved: bool,
    churn: bool,
    rng: fastrand::Rng,
    learners: Option<Learners>,
}

impl Tuner for Rig {
    fn name(&self) -> &str {
        "rig"
    }

    fn about(&self) -> &str {
        "changes what a test tells it to"
    }

    fn tunables(&self) -> Vec<Tunable> {
        [WMEM, RMEM]
            .into_iter()
            .map(|name| Tunable {
                name: name.into(),
                scope: Scope::Netns,
                unit: "bytes".into(),
                about: "buffer of a TCP socket: min, default, max".into(),
                bound: Bound::Fixed(vec![(4096, 1 << 30); 3]),
                cost: Cost::Nothing,
            })
            .collect()
    }

    fn acts_at_once(&self) -> bool {
        true
    }

    fn check_learner(&self, learner: &Spec) -> std::result::Result<(), String> {
        learner.check_for(self.name(), &[Kind::Score])
    }

    fn set_learner(&mut self, learner: Option<&Spec>) {
        self.learners = learner.map(|spec| Learners::new(spec.clone()));
    }

    fn learns(&self, tunable: &str) -> Option<String> {
        let learners = self.learners.as_ref().filter(|_| tunable == WMEM)?;
        learners.name()
    }

    fn learned(&mut self) -> Vec<Lesson> {
        self.learners
            .as_mut()
            .map_or_else(Vec::new, Learners::learned)
    }

    fn recall(&mut self, lesson: &Lesson) -> std::result::Result<(), String> {
        let learners = self.learners.as_mut().ok_or("no learner")?;
        learners.recall(lesson)
    }

    fn tried(&mut self, _: &Knob, _: &Record) {
        self.tried = true;
    }

    fn trial(&self, tunable: &str) -> Plan {
        let ms = Duration::from_millis;
        if self.churn || self.learners.is_some() {
            let short = Plan {
                baseline: Windows {
                    count: 0,
                    length: ms(1),
                },
                settle: ms(3),
                trial: Windows {
                    count: 4,
                    length: ms(2),
                },
                ..Plan::default()
            };
            return match tunable {
                RMEM => short.interleaved(ms(1), 4, ms(2)),
                _ => short,
            };
        }
        let mut goodput = Guard::goodput();
        // The test's traffic never ends, so less of it is harm.
        goodput.harm = Harm::Counts;
        let plan = Plan {
            guards: vec![goodput, Guard::retransmits()],
            baseline: Windows {
                count: 14,
                length: ms(100),
            },
            settle: ms(400),
            trial: Windows {
                count: 14,
                length: ms(100),
            },
            ..Plan::default()
        };
        if self.interleaved {
            plan.interleaved(ms(150), 14, ms(100))
        } else {
            plan
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let knob = |tunable: &str| Knob {
            tunable: tunable.into(),
            netns: signal.netns,
        };
        let mut wanted = Vec::new();
        if let Some(learners) = &mut self.learners {
            let here = knob(WMEM);
            let Some(now) = view.value(&here) else {
                return Vec::new();
            };
            let value = now.last() as f64;
            let input = Input {
                at: view.now(),
                value,
                original: value,
                low: 4096.0,
                high: 1e9,
                // The smaller, the better.
                reading: Reading::Score(1e6 / value),
                harm: None,
            };
            let target = learners.next(&here, &input);
            wanted.extend(target.map(|target| (WMEM, now.with_last(target as i64))));
        } else if self.churn {
            for name in [WMEM, RMEM] {
                let now = view.value(&knob(name));
                wanted.extend(
                    now.map(|now| (name, now.with_last(self.rng.i64(100_000..10_000_000)))),
                );
            }
        } else if self.tried {
            wanted.extend(self.then.clone().map(|then| (WMEM, then)));
        } else if view
            .changed()
            .iter()
            .all(|(changed, _)| *changed != knob(WMEM))
        {
            wanted.extend(self.to.clone().map(|to| (WMEM, to)));
        }
        wanted
            .into_iter()
            .map(|(name, target)| Proposal {
                knob: knob(name),
                target,
                reason: "a test wants it".into(),
                urgency: Urgency::Gain,
            })
            .collect()
    }
}

/// A signal of one namespace each tick.
struct Ticks {
    timer: TimerFd,
    places: Vec<NetnsCookie>,
    next: usize,
    /// Ticks for ever, or twice a namespace.
    endless: bool,
    hang: bool,
    started: Instant,
}

impl Ticks {
    fn new(places: Vec<NetnsCookie>, args: &Args) -> Result<Ticks> {
        let failed = |errno: nix::Error| Error::Control(format!("timerfd: {errno}"));
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )
        .map_err(failed)?;
        let tick = Duration::from_millis(if args.learn { 20 } else { 1 });
        let tick = TimeSpec::from_duration(tick);
        timer
            .set(Expiration::Interval(tick), TimerSetTimeFlags::empty())
            .map_err(failed)?;
        Ok(Ticks {
            timer,
            places,
            next: 0,
            endless: args.churn || args.learn || args.then.is_some(),
            hang: args.hang,
            started: Instant::now(),
        })
    }
}

impl Source for Ticks {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn drain(&mut self, _: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let mut ticks = [0; 8];
        let _ = nix::unistd::read(&self.timer, &mut ticks);
        if !self.endless && self.next >= self.places.len() {
            if !self.hang {
                let _ = self.timer.unset();
            } else if self.started.elapsed() > Duration::from_secs(4) {
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
            return Ok(());
        }
        out.push(Signal {
            scenario: "tick".into(),
            netns: self.places[self.next % self.places.len()],
            subject: "a test".into(),
            count: 1,
            figures: Vec::new(),
        });
        self.next += 1;
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &[]
    }
}

/// Harm while a file exists.
struct Told(PathBuf);

impl HarmSource for Told {
    fn arm(&mut self, _: Instant) {}
    fn disarm(&mut self) {}
    fn harm(
        &mut self,
        _: Instant,
        _: &[NetnsCookie],
        _: &mut Namespaces,
    ) -> Option<watchdog::Harm> {
        let mut what = String::new();
        std::fs::File::open(&self.0)
            .ok()?
            .read_to_string(&mut what)
            .ok()?;
        Some(watchdog::Harm {
            what,
            figures: Vec::new(),
        })
    }
}

fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let mut namespaces = Namespaces::new()?;
    let places = args
        .netns
        .iter()
        .map(|path| namespaces.add(path))
        .collect::<Result<Vec<_>>>()?;
    let live = match &args.config_dir {
        Some(directory) => {
            let files = Files {
                directory: directory.clone(),
                ..Files::default()
            };
            Some(Live::new(files, Overrides::default())?)
        }
        None => None,
    };
    let mut policy = Policy {
        global: false,
        ..live.as_ref().map_or_else(Policy::default, Live::policy)
    };
    if args.then.is_some() {
        policy.hysteresis = Duration::ZERO;
    }
    if let Some(most) = args.changes_per_hour {
        policy.changes_per_hour = most;
    }
    if args.churn {
        policy.cool_down = Duration::ZERO;
        policy.hysteresis = Duration::ZERO;
        policy.rest_after_harm = Duration::ZERO;
        policy.changes_per_hour = usize::MAX;
        policy.reversals_per_hour = usize::MAX;
    }
    let mut watch = watchdog::Settings {
        window: Duration::from_secs(args.watch),
        ..watchdog::Settings::default()
    };
    if let Some(pressure) = &args.pressure {
        watch.pressure.clone_from(pressure);
    }
    let settings = Settings {
        policy,
        control: Some(args.control.clone()),
        exit: if args.keep {
            ExitPolicy::Keep
        } else {
            ExitPolicy::Restore
        },
        config: live,
        only_netns: args.netns.clone(),
        trial: trial::Policy {
            unclear: if args.unclear_reverts {
                bpftune_core::config::kinds::Unclear::Revert
            } else {
                bpftune_core::config::kinds::Unclear::Keep
            },
        },
        watchdog: watch,
        reverter: (!args.alone).then(|| "/proc/self/exe".into()),
        ..Settings::new(&args.state_dir)
    };
    let tuner = Rig {
        to: args.to.as_deref().map(str::parse).transpose()?,
        then: args.then.as_deref().map(str::parse).transpose()?,
        tried: false,
        interleaved: args.interleaved,
        churn: args.churn,
        rng: fastrand::Rng::new(),
        learners: None,
    };
    let registration = Registration {
        tuner: Box::new(tuner),
        source: Box::new(Ticks::new(places, args)?),
    };
    let mut engine = Engine::new(settings, vec![registration])?;
    if let Some(file) = &args.harm {
        engine.watch_for(Box::new(Told(file.clone())));
    }
    engine.run(|| {
        eprintln!("ready after {} ms", started.elapsed().as_millis());
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    })
}

fn main() -> ExitCode {
    if let Some(status) = reverter::run_if_asked() {
        return status;
    }
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    if args.verb != "run" {
        eprintln!("rig: only `run`");
        return ExitCode::FAILURE;
    }
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rig: {error}");
            ExitCode::FAILURE
        }
    }
}
