//! Programs that wake up often, beside a session that computes.

use std::{path::Path, process::Command, time::Instant};

use super::{
    THROUGHPUT,
    load::{self, Running},
    no_fault::NoFault,
};
use crate::{
    Result,
    network::{HostValues, Mended, Scenario, Stage, Values, rest_of_second},
    programs,
};

const TUNER: &str = "cpu-sched";

/// What runs: `load jobs` in one session all the time, `load frames` in a new one each turn.
#[derive(Clone, Copy)]
struct Beside {
    computing: &'static str,
    /// Tasks of the session that wakes up, and what each of them works for a frame, microseconds.
    tasks: &'static str,
    work_us: &'static str,
}

/// Sessions are not parted, as where somebody switched autogroups off.
fn unparted() -> Result<HostValues> {
    let mut host = HostValues::default();
    host.set("kernel.sched_autogroup_enabled", "0")?;
    Ok(host)
}

struct Desk {
    beside: Beside,
    /// The session that computes.
    computing: Option<Running>,
    _host: HostValues,
}

impl Desk {
    fn new(beside: Beside) -> Result<Desk> {
        Ok(Desk {
            beside,
            computing: None,
            _host: unparted()?,
        })
    }

    fn compute(&self) -> Result<Running> {
        Running::start(session(&["jobs", self.beside.computing])?)
    }

    fn frames(&self) -> Result<f64> {
        let start = Instant::now();
        let Beside { tasks, work_us, .. } = self.beside;
        let mut frames = session(&["frames", "1000", tasks, work_us])?;
        let figure = programs::figure(&mut frames)?;
        rest_of_second(start);
        Ok(figure)
    }
}

/// `load` in a session of its own.
fn session(words: &[&str]) -> Result<Command> {
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(load::program()?).args(words);
    Ok(command)
}

impl Stage for Desk {
    fn begin(&mut self) -> Result<()> {
        self.computing = Some(self.compute()?);
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        self.frames()
    }
}

fn needs() -> Option<&'static str> {
    let autogroup = Path::new("/proc/sys/kernel/sched_autogroup_enabled");
    if !autogroup.exists() {
        return Some("this kernel has no autogroups (CONFIG_SCHED_AUTOGROUP)");
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    in_a_group(&groups).then_some("in a control group of its own, so no session is an autogroup")
}

/// Whether processors are given out by control groups here (cgroups(7)): then those decide.
fn in_a_group(groups: &str) -> bool {
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next());
        let given = controllers.split(',').any(|name| name == "cpu");
        given && path.is_some_and(|path| path != "/")
    })
}

const IN_TIME: (&str, &str) = ("frames finished in time", "%");

/// Fifty frames a second, 5 ms of work each, beside 16 jobs of a build in another session.
pub(super) struct Frames;

impl Scenario for Frames {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "50 frames a second beside a build of 16 jobs"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        IN_TIME
    }
    fn by_hand(&self) -> Values {
        &[("kernel.sched_autogroup_enabled", "1")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn turns(&self) -> usize {
        4
    }
    /// A trial to and fro, and some more.
    fn turns_on(&self) -> usize {
        90
    }
    fn mended_within(&self) -> f64 {
        75.0
    }
    fn mended(&self) -> Mended {
        Mended::ForGood
    }
    fn missing(&self) -> Option<&'static str> {
        needs()
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Ok(Box::new(Desk::new(Beside {
            computing: "16",
            tasks: "1",
            work_us: "5000",
        })?))
    }
}

/// Eight tasks of one session that need more than its half would be, beside six jobs of another one: parting the
/// sessions would help those six, and whoever else wakes up.
pub(super) const CROWD: NoFault =
    NoFault::trap(TUNER, "8 tasks with frames in one session", IN_TIME, || {
        Ok(Box::new(Desk::new(EIGHT)?))
    })
    .needs(needs)
    .turns(10, 28);

const EIGHT: Beside = Beside {
    computing: "6",
    tasks: "8",
    work_us: "2500",
};

/// The same eight, but the other session computes for three seconds of each six: parting the sessions would be tried
/// while it does, and judged while it does not.
pub(super) const BY_TURNS: NoFault = NoFault::trap(
    TUNER,
    "8 tasks with frames, and jobs that come and go",
    IN_TIME,
    || Ok(Box::new(NowAndThen(Desk::new(EIGHT)?))),
)
.needs(needs)
.turns(3, 14);

struct NowAndThen(Desk);

impl NowAndThen {
    const SECONDS: u32 = 3;
}

impl Stage for NowAndThen {
    fn turn(&mut self) -> Result<f64> {
        let mut in_time = 0.0;
        for computes in [true, false] {
            self.0.computing = computes.then(|| self.0.compute()).transpose()?;
            for _ in 0..NowAndThen::SECONDS {
                in_time += self.0.frames()?;
            }
        }
        Ok(in_time / f64::from(2 * NowAndThen::SECONDS))
    }
}

/// The same frames beside one job: there is a processor for each.
pub(super) const NOTHING_WRONG: NoFault =
    NoFault::nothing_wrong(TUNER, "50 frames a second beside one job", IN_TIME, || {
        Ok(Box::new(Desk::new(Beside {
            computing: "1",
            tasks: "1",
            work_us: "5000",
        })?))
    })
    .needs(needs);

/// Two tasks on each processor that wake each other, and nothing else: what it costs that somebody looks at waits.
pub(super) const PAIRS: NoFault = NoFault::nothing_wrong(
    TUNER,
    "tasks that wake each other",
    ("switches of tasks", "/s"),
    || Ok(Box::new(Waking { _host: unparted()? })),
)
.needs(needs)
.runs(20)
.bpf_share(0.02);

struct Waking {
    _host: HostValues,
}

impl Stage for Waking {
    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let figure = programs::figure(&mut session(&["pairs", "1000"])?)?;
        rest_of_second(start);
        Ok(figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_give_out_processors_are_known() {
        for (groups, wanted) in [
            ("1:cpu:/\n0::/\n", false),
            ("4:memory:/x\n1:cpu,cpuacct:/user.slice\n", true),
            ("5:cpuset:/x\n0::/user.slice\n", false),
        ] {
            assert_eq!(in_a_group(groups), wanted, "{groups:?}");
        }
    }
}
