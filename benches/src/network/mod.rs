//! Faults of the network that a tuner is to find, with real traffic: `cargo xtask lab network`.
//!
//! Each scenario runs in four settings, turn about: the fault with the tuner off, with the tuner on, with values set by
//! hand beforehand, and with those of TuneD's profile network-throughput. Every run has namespaces of its own.

mod burst;
mod conntrack;
mod flood;
pub(crate) mod host;
mod ip_frag;
mod neigh;
mod net_backlog;
mod pages;
mod report;
mod rounds;
mod segment;
mod tcp_buffer;
mod tcp_conn;
mod tcp_listen;
mod tcp_ports;
mod udp_buffer;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bpftune_core::stats::Direction;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

pub use self::{
    conntrack::{forget_tracked, track_connections},
    host::{HostValues, interrupted, put_back_on_signals, unless_interrupted},
    pages::{curve, scenarios},
    report::run_all,
};
use crate::{Result, bpf_stats, daemon::Daemon, netns::Netns, result::LEAST};

/// Runs in each setting where nothing else is said: as few as give a verdict.
pub const RUNS: u32 = LEAST as u32;

/// What is written into a namespace: names and values.
pub type Values = &'static [(&'static str, &'static str)];

/// Debian's tuned 2.20, profile network-throughput and those it includes: what concerns the network. "=>" there means
/// that a higher value stays.
pub const TUNED: Values = &[
    ("net.core.somaxconn", "2048"),
    ("net.ipv4.tcp_rmem", "4096 87380 16777216"),
    ("net.ipv4.tcp_wmem", "4096 16384 16777216"),
];

/// What a scenario shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fault that the tuner takes away.
    Fault,
    /// A load with nothing wrong: nothing changes, nothing gets slower.
    NothingWrong,
    /// A load that tempts a tuner to do what does not help, or harms: it ends near what it would be without.
    Trap,
}

/// When a fault counts as mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// At the first of so many turns in a row of which more than half are good again: more where many turns fare badly by
    /// hand, too.
    InARow(usize),
    /// When no turn fares badly any more up to the run's end: where a trial to and fro makes them good and bad by turns.
    ForGood,
}

/// A fault, and the traffic that shows it.
pub trait Scenario {
    /// Whose fault it is.
    fn tuner(&self) -> &'static str;

    /// What it shows.
    fn kind(&self) -> Kind {
        Kind::Fault
    }

    /// The profile of TuneD that suits the load, and what it sets of all this.
    fn tuned(&self) -> (&'static str, Values) {
        ("network-throughput", TUNED)
    }

    /// "burst".
    fn name(&self) -> &'static str;

    /// What a turn measures, and its unit.
    fn metric(&self) -> (&'static str, &'static str);

    /// Which way of it is good.
    fn better(&self) -> Direction {
        Direction::Higher
    }

    /// What else is measured, and its unit, where the figure may be bought with something: reported without a goal.
    fn beside(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The most that the daemon's BPF programs may take of all processors' time, where the load is one that would show it.
    fn bpf_share(&self) -> Option<f64> {
        None
    }

    /// What somebody who knows the fault would have set, or who falls into the trap; nothing, where there is none.
    fn by_hand(&self) -> Values {
        &[]
    }

    /// Namespaces with the fault in them, no traffic yet.
    ///
    /// # Errors
    /// Where anything cannot be set up.
    fn stage(&self) -> Result<Box<dyn Stage>>;

    /// Runs in each setting: as many as it takes for a verdict where the load's figure differs from run to run.
    fn runs(&self) -> u32 {
        RUNS
    }

    /// Turns of each run. By the last half of them a run is judged.
    fn turns(&self) -> usize {
        10
    }

    /// Turns of a run with the tuner on, where that takes its time: they count from the end.
    fn turns_on(&self) -> usize {
        self.turns()
    }

    /// Seconds from the fault's onset within which the tuner is to have mended it.
    fn mended_within(&self) -> f64 {
        10.0
    }

    /// When the fault counts as mended.
    fn mended(&self) -> Mended {
        Mended::InARow(2)
    }

    /// How often the tuner may change its mind: one that tries values takes back what did not help.
    fn reversals(&self) -> f64 {
        0.0
    }

    /// Of a trap: whether nothing may last. Where a load wants two things by turns, the tuner may end between them; then
    /// its [`reversals`](Scenario::reversals) are bounded.
    fn leaves_alone(&self) -> bool {
        true
    }

    /// The tuners that the daemon runs where [`host_wide`](Scenario::host_wide); none named: all of them.
    fn tuners(&self) -> Vec<&'static str> {
        vec![self.tuner()]
    }

    /// Whether it goes badly with the tuner off. Else the tuner has nothing to do, and must do no harm.
    fn is_fault(&self) -> bool {
        true
    }

    /// A program that it needs and where to get it, if that is missing.
    fn missing(&self) -> Option<&'static str> {
        None
    }

    /// Whether parameters of the whole host are part of it: then values are written there and put back after the run, and
    /// the daemon is not confined to the namespaces but to the one tuner.
    fn host_wide(&self) -> bool {
        false
    }
}

/// A scenario set up.
pub trait Stage {
    /// Where values are written and the daemon looks: nowhere but on the host, unless said here.
    fn places(&self) -> Vec<&Netns> {
        Vec::new()
    }

    /// Writes a value where that is neither a namespace of [`places`](Stage::places) nor the host: `false` leaves it to
    /// those.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        let _ = (name, value);
        Ok(false)
    }

    /// A program that starts this one where the stage is, with the same arguments; `None` where it may start anywhere.
    ///
    /// # Errors
    /// Where there is no way to.
    fn launcher(&self, program: &Path) -> Result<Option<PathBuf>> {
        let _ = program;
        Ok(None)
    }

    /// Servers start: the values that they find are those of the setting.
    ///
    /// # Errors
    /// Where they cannot.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// A second or so of traffic, and its figure.
    ///
    /// # Errors
    /// Where traffic cannot be made; that it fares badly is no error.
    fn turn(&mut self) -> Result<f64>;

    /// What [`Scenario::beside`] is about, in the last turn.
    fn beside(&self) -> Option<f64> {
        None
    }
}

/// How a run is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// The fault, and no daemon.
    Off,
    /// The fault, and a daemon from before the traffic.
    On,
    /// Values by hand, before anything starts.
    ByHand,
    /// TuneD's.
    TuneD,
}

impl Setting {
    fn name(self) -> &'static str {
        match self {
            Setting::Off => "tuner off",
            Setting::On => "tuner on",
            Setting::ByHand => "by hand",
            Setting::TuneD => "TuneD",
        }
    }

    fn turns(self, scenario: &dyn Scenario) -> usize {
        match self {
            Setting::On => scenario.turns_on(),
            _ => scenario.turns(),
        }
    }
}

/// All of them.
pub const SETTINGS: [Setting; 4] = [Setting::Off, Setting::On, Setting::ByHand, Setting::TuneD];

/// What a run gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// How it was set.
    pub setting: Setting,
    /// Figure of each turn.
    pub figures: Vec<f64>,
    /// When each turn ended, seconds from the first one's start.
    pub ends: Vec<f64>,
    /// What else was measured in each turn, if anything.
    pub beside: Vec<f64>,
    /// Processor time in the daemon's BPF programs while a last turn ran, as a share of all processors' time.
    pub bpf_share: Option<f64>,
    /// Changes that the daemon made.
    pub changes: u64,
    /// Of these, against the one before of the same parameter.
    pub reversals: u64,
    /// Parameters that differed from the start at its end.
    #[serde(default)]
    pub lasting: u64,
}

impl Run {
    /// The median of the last turns: half of `turns`.
    #[must_use]
    pub fn figure(&self, turns: usize) -> f64 {
        median_of_last(&self.figures, turns)
    }

    /// The same of what else was measured.
    #[must_use]
    pub fn figure_beside(&self, turns: usize) -> f64 {
        median_of_last(&self.beside, turns)
    }

    /// How long it fared badly: from the start of the first turn worse than this figure to the end of the one at which it
    /// was `mended`; 0 where no turn was worse, [`NEVER`] where it did not come back.
    #[must_use]
    pub fn recovered_in(&self, figure: f64, better: Direction, mended: Mended) -> f64 {
        let fine = |f: f64| match better {
            Direction::Higher => f >= figure,
            Direction::Lower => f <= figure,
        };
        let Some(onset) = self.figures.iter().position(|f| !fine(*f)) else {
            return 0.0;
        };
        let since = &self.figures[onset..];
        let good = |row: &[f64]| row.iter().filter(|f| fine(**f)).count() * 2 > row.len();
        let back = match mended {
            Mended::InARow(turns) => since.windows(turns).position(good),
            Mended::ForGood => since.iter().rposition(|f| !fine(*f)).map(|at| at + 1),
        };
        let end = back.and_then(|at| self.ends.get(onset + at));
        let start = onset.checked_sub(1).map_or(0.0, |before| self.ends[before]);
        end.map_or(NEVER, |end| end - start)
    }
}

fn median_of_last(figures: &[f64], turns: usize) -> f64 {
    let judged = turns.div_ceil(2).min(figures.len());
    bpftune_core::stats::median(&figures[figures.len() - judged..]).unwrap_or(f64::NAN)
}

/// Seconds that stand for no time at all: a file of results knows no infinity.
pub const NEVER: f64 = 9999.0;

/// What the longest trial takes, and a second one that follows it.
const JUDGED: Duration = Duration::from_secs(180);

/// Further turns while a change is on trial: what lasts is what the trial lets stay.
fn until_judged(daemon: &Daemon, stage: &mut dyn Stage) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < JUDGED && daemon.knobs()?.on_trial() {
        unless_interrupted()?;
        stage.turn()?;
    }
    Ok(())
}

/// A further turn, in which the kernel takes down what the daemon's BPF programs cost.
fn bpf_share(daemon: &Daemon, stage: &mut dyn Stage) -> Result<Option<f64>> {
    let Some(_stats) = bpf_stats::BpfStats::on() else {
        return Ok(None);
    };
    let (before, start) = (bpf_stats::total(daemon.pid()).0, Instant::now());
    stage.turn()?;
    let ran = bpf_stats::total(daemon.pid()).0.saturating_sub(before);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Some(
        ran.as_secs_f64() / start.elapsed().as_secs_f64() / processors as f64,
    ))
}

/// One run.
fn run(
    bpftune: &Path,
    scenario: &dyn Scenario,
    setting: Setting,
    progress: &ProgressBar,
) -> Result<Run> {
    let mut stage = scenario.stage()?;
    let values = match setting {
        Setting::Off | Setting::On => &[],
        Setting::ByHand => scenario.by_hand(),
        Setting::TuneD => scenario.tuned().1,
    };
    let mut host = HostValues::default();
    for (name, value) in values {
        if stage.set(name, value)? {
            continue;
        }
        if scenario.host_wide() {
            host.set(name, value)?;
        } else {
            for netns in stage.places() {
                netns.set_sysctl(name, value)?;
            }
        }
    }
    stage.begin()?;
    let launcher = stage.launcher(bpftune)?;
    let bpftune = launcher.as_deref().unwrap_or(bpftune);
    let only: Vec<&str> = (scenario.tuners().into_iter())
        .flat_map(|tuner| ["--tuner", tuner])
        .collect();
    let daemon = match setting {
        Setting::On if scenario.host_wide() => Some(Daemon::start(bpftune, &[], &only)?),
        Setting::On => Some(Daemon::start(bpftune, &stage.places(), &[])?),
        _ => None,
    };
    let (start, mut figures, mut ends) = (Instant::now(), Vec::new(), Vec::new());
    let mut beside = Vec::new();
    for _ in 0..setting.turns(scenario) {
        unless_interrupted()?;
        figures.push(stage.turn()?);
        progress.inc(1);
        ends.push(start.elapsed().as_secs_f64());
        beside.extend(stage.beside());
    }
    if scenario.kind() != Kind::Fault
        && let Some(daemon) = &daemon
    {
        until_judged(daemon, &mut *stage)?;
    }
    let bpf_share = match &daemon {
        Some(daemon) if scenario.bpf_share().is_some() => bpf_share(daemon, &mut *stage)?,
        _ => None,
    };
    let knobs = daemon.as_ref().map(Daemon::knobs).transpose()?;
    let ((changes, reversals), lasting) =
        knobs.map_or(((0, 0), 0), |knobs| (knobs.changes(), knobs.lasting()));
    if let Some(daemon) = &daemon
        && std::env::var_os("LAB_LOG").is_some()
    {
        eprintln!("{}", daemon.log().join("\n"));
    }
    Ok(Run {
        setting,
        figures,
        ends,
        beside,
        bpf_share,
        changes,
        reversals,
        lasting,
    })
}

/// Sleeps for what is left of a turn's second.
pub(crate) fn rest_of_second(since: Instant) {
    std::thread::sleep(Duration::from_secs(1).saturating_sub(since.elapsed()));
}

/// Does it again and again for a turn's second; how often a second.
pub(crate) fn rounds_per_second(mut round: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, mut rounds) = (Instant::now(), 0u32);
    while start.elapsed() < Duration::from_secs(1) {
        round()?;
        rounds += 1;
    }
    Ok(f64::from(rounds) / start.elapsed().as_secs_f64())
}

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Box<dyn Scenario>> {
    let mut all: Vec<Box<dyn Scenario>> = vec![
        Box::new(tcp_buffer::Short),
        Box::new(tcp_buffer::Memory),
        Box::new(tcp_listen::Burst),
        Box::new(tcp_listen::Flood),
        Box::new(tcp_ports::TimeWait),
        Box::new(tcp_ports::Held),
        Box::new(conntrack::Flows),
        Box::new(ip_frag::Mixed),
        Box::new(neigh::Burst),
        Box::new(net_backlog::Burst),
        Box::new(net_backlog::OneFlow),
        Box::new(rounds::CutShort),
        Box::new(udp_buffer::Burst),
    ];
    all.extend(tcp_conn::ALL.map(|scenario| Box::new(scenario) as Box<dyn Scenario>));
    all
}

#[cfg(test)]
impl Run {
    /// With a turn a second.
    fn each_second(setting: Setting, figures: &[f64]) -> Run {
        Run {
            setting,
            figures: figures.to_vec(),
            ends: (1..=figures.len()).map(|end| end as f64).collect(),
            beside: Vec::new(),
            bpf_share: None,
            changes: 0,
            reversals: 0,
            lasting: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_is_from_onset_to_good_turns_in_a_row() {
        let run = |figures: &[f64]| Run::each_second(Setting::On, figures);
        for (figures, time) in [
            (&[100.0, 100.0, 100.0][..], 0.0),
            (&[20.0, 100.0, 100.0], 2.0),
            (&[100.0, 20.0, 100.0, 30.0, 100.0, 100.0], 4.0),
            (&[100.0, 20.0, 100.0], NEVER),
        ] {
            assert_eq!(
                run(figures).recovered_in(90.0, Direction::Higher, Mended::InARow(2)),
                time,
                "{figures:?}"
            );
            let inverse: Vec<f64> = figures.iter().map(|f| 1.0 / f).collect();
            let time_lower =
                run(&inverse).recovered_in(1.0 / 90.0, Direction::Lower, Mended::InARow(2));
            assert_eq!(time_lower, time, "{inverse:?}");
        }
        let scattered = run(&[20.0, 30.0, 100.0, 20.0, 100.0, 30.0, 100.0, 100.0]);
        for (mended, time) in [
            (Mended::InARow(2), 7.0),
            (Mended::InARow(5), 3.0),
            (Mended::ForGood, 7.0),
        ] {
            let found = scattered.recovered_in(90.0, Direction::Higher, mended);
            assert_eq!(found, time, "{mended:?}");
        }
        let worse_at_the_end = run(&[20.0, 100.0, 100.0, 20.0]);
        let time = worse_at_the_end.recovered_in(90.0, Direction::Higher, Mended::ForGood);
        assert_eq!(time, NEVER);
    }
}
