//! While the host is short of processors, looks at all tasks four times a second; else sleeps.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{Fields, HookStatus, Hooks, monotonic_ns},
    netns::Namespaces,
    psi,
    timer::Timer,
    trial::{Counter, Meter, ProcMeter},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    lacks,
    rules::{VERY_LONG, WAITED, WAITS, WOKEN},
    sessions::Woken,
    tasks::{Tally, Task},
};

/// The program that runs over all tasks.
const TASKS: &str = "tasks";
/// Some task waited for a processor a tenth of this time: the host is short of them.
const PRESSURE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// Between two looks.
const EACH: Duration = Duration::from_millis(250);
/// Where there are so many tasks that this takes more than a hundredth of a processor, seldomer, but not so seldom that what
/// is told would be no series.
const SELDOM: Duration = Duration::from_millis(1500);
/// What they have seen in so long is told together.
const TOLD: Duration = Duration::from_secs(1);
/// So long after the last word of pressure the looks end. The kernel has one each two seconds while it lasts.
const PATIENCE: Duration = Duration::from_secs(6);
/// What was seen so lately is seen now: figures that are asked for together are of one look.
const NOW: Duration = Duration::from_millis(20);
/// Fewer wake-ups say nothing.
const LEAST: f64 = 8.0;
/// One in so many that waits for long is worth to be told.
const OFTEN: f64 = 10.0;

/// The program of `cpu_sched.bpf.c`, and what wakes it.
pub struct CpuSchedSource {
    hooks: Hooks,
    /// `None` where the kernel has no such thing, or nobody could look then.
    pressure: Option<File>,
    timer: Timer,
    cpus: f64,
    /// Seconds for which all processors have worked, when that was told last.
    busy: f64,
    tally: Tally,
    /// By the monotonic clock.
    last: Option<Duration>,
    /// When the looks end; `None` while there are none.
    until: Option<Instant>,
    /// The program, and what the kernel lacks.
    status: Vec<HookStatus>,
}

impl CpuSchedSource {
    pub(super) fn new() -> Result<CpuSchedSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/cpu_sched.bpf.o"));
        let hooks = Hooks::load(super::NAME, object, &[], |_| Ok(()))?;
        let path = Path::new(lacks::PRESSURE);
        let pressure = psi::trigger(path, false, PRESSURE.0, PRESSURE.1);
        let sees = hooks.status().iter().all(|hook| hook.off.is_none());
        let mut status = hooks.status().to_vec();
        status.push(lacks::pressure(pressure.as_ref().err()));
        status.extend(lacks::parameters());
        Ok(CpuSchedSource {
            hooks,
            pressure: pressure.ok().filter(|_| sees),
            timer: Timer::new()?,
            cpus: std::thread::available_parallelism().map_or(1.0, |cpus| usize::from(cpus) as f64),
            busy: busy(),
            tally: Tally::default(),
            last: None,
            until: None,
            status,
        })
    }

    /// One look at all tasks, where the last one was not just now.
    fn look(&mut self) -> Result<()> {
        let at = Duration::from_nanos(monotonic_ns());
        if self.last.is_some_and(|last| at.saturating_sub(last) < NOW) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.hooks.iterate_into(TASKS, &mut bytes)?;
        let tasks = bytes.chunks_exact(Task::SIZE).filter_map(Task::parse);
        self.tally.look(at, tasks);
        self.last = Some(at);
        Ok(())
    }

    /// What was seen since it was told last, where that is worth it.
    fn tell(&mut self, netns: NetnsCookie) -> Option<Signal> {
        let sessions = std::mem::take(&mut self.tally.sessions);
        let longest = std::mem::take(&mut self.tally.longest);
        let busy = busy();
        let waits = sessions.waits(self.cpus, busy - self.busy);
        self.busy = busy;
        let often = |woken: Woken| woken.times >= LEAST && woken.long * OFTEN >= woken.times;
        if !often(waits.modest) && !often(waits.rest) {
            return None;
        }
        Some(Signal {
            scenario: WAITS.into(),
            netns,
            subject: Fields(&longest.name).text(0, longest.name.len())?,
            count: 1,
            figures: vec![
                Figure::new("modest_woken", waits.modest.times, ""),
                Figure::new("modest_long", waits.modest.long, ""),
                Figure::new("other_woken", waits.rest.times, ""),
                Figure::new("other_long", waits.rest.long, ""),
                Figure::new("mean", waits.mean * 1e3, "ms"),
                Figure::new("longest", longest.wait.as_secs_f64() * 1e3, "ms"),
            ],
        })
    }
}

fn busy() -> f64 {
    let busy = ProcMeter::default().read(&Counter::CpuBusy);
    busy.unwrap_or_default()
}

/// How long to rest after a look that took so long.
fn rest(took: Duration) -> Duration {
    (took * 100).clamp(EACH, SELDOM)
}

/// Processor time of this thread.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Duration::ZERO, Into::into)
}

impl Source for CpuSchedSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.fd()
    }

    fn pressure(&self) -> Vec<BorrowedFd<'_>> {
        self.pressure.iter().map(|file| file.as_fd()).collect()
    }

    fn pressed(&mut self, _: usize, _: &mut Vec<Signal>) {
        let now = Instant::now();
        if self.until.replace(now + PATIENCE).is_none() {
            // The first look only learns where sums stand.
            self.tally.forget();
            self.timer.set([now]);
        }
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        if !self.timer.take() {
            return Ok(());
        }
        let now = Instant::now();
        if self.until.is_some_and(|until| now < until) {
            let began = worked();
            self.look()?;
            if self.tally.sessions.over >= TOLD {
                out.extend(self.tell(namespaces.own()));
            }
            self.timer.set([now + rest(worked().saturating_sub(began))]);
        } else {
            self.until = None;
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.status
    }

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        if let Err(error) = self.look() {
            tracing::warn!("{}: {error}", super::NAME);
            return None;
        }
        let totals = self.tally.totals;
        match name {
            WOKEN => Some(totals.woken),
            WAITED => Some(totals.waited * 1e3),
            VERY_LONG => Some(totals.very_long),
            _ => None,
        }
    }

    /// There is at most one a second.
    fn quiet(&mut self, _: NetnsCookie, _: &str, _: Duration) {}

    fn map_bytes(&self) -> u64 {
        self.hooks.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bpftune_core::privilege;

    use super::*;

    /// By the program, and by what /proc shows of the same thread before and after.
    #[test]
    fn sums_are_those_that_the_kernel_shows() {
        if !privilege::missing().is_ok_and(|missing| missing.is_empty()) {
            println!("SKIP: needs the daemon's capabilities");
            return;
        }
        let source = CpuSchedSource::new().unwrap();
        let hook = source.hooks().iter().find(|hook| hook.name == TASKS);
        assert_eq!(hook.unwrap().off, None);
        let shown = || -> Vec<u64> {
            let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            let numbers = text.split_ascii_whitespace().map(|word| word.parse());
            numbers.map(Result::unwrap).collect()
        };
        let before = shown();
        let mut bytes = Vec::new();
        source.hooks.iterate_into(TASKS, &mut bytes).unwrap();
        let after = shown();
        let own = std::thread::current().name().unwrap_or_default().to_owned();
        let between = |sum: Duration, at: usize| {
            let (least, most) = (before[at], after[at]);
            (least..=most).contains(&u64::try_from(sum.as_nanos()).unwrap())
        };
        let mut tasks = bytes.chunks_exact(Task::SIZE).filter_map(Task::parse);
        // By its name, for numbers differ between pid namespaces.
        let task = tasks.find(|task| {
            let name = Fields(&task.name).text(0, 15).unwrap_or_default();
            own.starts_with(&name) && between(task.ran, 0) && between(task.waited, 1)
        });
        let task = task.unwrap_or_else(|| panic!("no {own} from {before:?} to {after:?}"));
        assert!(task.pid > 0 && task.began > Duration::ZERO);
        let session = fs::read_to_string("/proc/self/autogroup").unwrap_or_default();
        // Nothing is shown of whoever is in the first session of all.
        let shown = match task.session {
            0 => session.trim().is_empty(),
            number => session.starts_with(&format!("/autogroup-{number} ")),
        };
        assert!(shown, "{} is not {session:?}", task.session);
    }

    #[test]
    fn many_tasks_are_looked_at_seldomer() {
        let ms = Duration::from_millis;
        for (took, wanted) in [(0, 250), (2, 250), (4, 400), (13, 1300), (80, 1500)] {
            assert_eq!(rest(ms(took)), ms(wanted), "{took} ms");
        }
    }

    /// A trigger tells of pressure once; the looks end when it does not come again.
    #[test]
    fn looks_begin_with_pressure_and_end_after_it() {
        if !privilege::missing().is_ok_and(|missing| missing.is_empty()) {
            println!("SKIP: needs the daemon's capabilities");
            return;
        }
        let mut source = CpuSchedSource::new().unwrap();
        let mut namespaces = Namespaces::new().unwrap();
        let mut out = Vec::new();
        source.drain(&mut namespaces, &mut out).unwrap();
        assert_eq!(source.last, None, "nobody looks unasked");
        source.pressed(0, &mut out);
        std::thread::sleep(Duration::from_millis(5));
        source.drain(&mut namespaces, &mut out).unwrap();
        let first = source.last.expect("it has looked");
        // As if no pressure had come for long, and the next look were due.
        source.until = Some(Instant::now());
        source.timer.set([Instant::now()]);
        std::thread::sleep(Duration::from_millis(5));
        source.drain(&mut namespaces, &mut out).unwrap();
        assert_eq!((source.last, source.until), (Some(first), None));
        assert!(!source.timer.take(), "and sleeps now");
        assert_eq!(out, []);
    }
}
