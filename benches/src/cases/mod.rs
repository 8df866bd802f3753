//! What is measured in more than one way: timed, counted in instructions, compared between commits, against scale.

pub mod decision;
pub mod events;
pub mod journal;
pub mod process;

use std::{
    io,
    time::{Duration, Instant},
};

use uring_sys_ext::process::Attributes;

use self::{
    decision::World,
    events::Ring as Events,
    journal::Commits,
    process::{Ring, check, compile, entry},
};
use crate::{Error, Result, elf::Programs};

/// Does so many operations, and says how long what is measured of them took.
type Run = Box<dyn FnMut(usize) -> Result<Duration>>;

/// Something small that is measured.
pub struct Case {
    /// "plan".
    pub name: &'static str,
    /// What one operation is.
    pub about: &'static str,
    /// Counted in instructions too: it does the same each time and asks the kernel for nothing.
    pub counted: bool,
    make: fn() -> Result<Run>,
}

impl Case {
    /// Makes ready.
    ///
    /// # Errors
    /// Where the machine lacks what it takes.
    pub fn ready(&self) -> Result<Run> {
        (self.make)()
    }
}

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "plan",
        about: "a command compiled to a plan",
        counted: true,
        make: || {
            Ok(timed(|| {
                compile().map(drop).map_err(Error::doing("a plan"))
            }))
        },
    },
    Case {
        name: "entry",
        about: "an entry that asks for a process, built",
        counted: true,
        make: || {
            let mut attributes = Box::<Attributes>::default();
            Ok(timed(move || {
                std::hint::black_box(entry(&mut attributes));
                Ok(())
            }))
        },
    },
    Case {
        name: "decision",
        about: "a signal to the governor's verdict, 10 tuners, 20 namespaces",
        counted: true,
        make: || {
            let mut world = World::new(10, 20);
            let now = Instant::now().into();
            Ok(timed(move || {
                std::hint::black_box(world.decide(None, Some(now)));
                Ok(())
            }))
        },
    },
    Case {
        name: "blocked",
        about: "a process made from a plan: the caller held up",
        counted: false,
        make: blocked,
    },
    Case {
        name: "processes",
        about: "a process, 64 in flight on one ring",
        counted: false,
        make: processes,
    },
    Case {
        name: "commit",
        about: "a journal's commit of one change",
        counted: false,
        make: commit,
    },
    Case {
        name: "events",
        about: "an event read from the ring buffer",
        counted: false,
        make: events,
    },
];

fn timed(mut operation: impl FnMut() -> Result<()> + 'static) -> Run {
    Box::new(move |count| {
        let begin = Instant::now();
        for _ in 0..count {
            operation()?;
        }
        Ok(begin.elapsed())
    })
}

fn failed(error: io::Error) -> Error {
    Error::doing("cannot make a process")(error)
}

fn blocked() -> Result<Run> {
    let programs = Programs::new().map_err(failed)?;
    let command = uring_process::Command::new(programs.exit());
    let plan = command.plan().map_err(failed)?;
    let one = move || -> io::Result<Duration> {
        let _ = &programs;
        let begin = Instant::now();
        let starting = plan.start()?;
        let took = begin.elapsed();
        check(starting.wait()?.wait()?)?;
        Ok(took)
    };
    Ok(Box::new(move |count| {
        (0..count).try_fold(Duration::ZERO, |sum, _| Ok(sum + one().map_err(failed)?))
    }))
}

fn processes() -> Result<Run> {
    let programs = Programs::new().map_err(failed)?;
    let command = uring_process::Command::new(programs.exit());
    let plan = command.plan().map_err(failed)?;
    let mut ring = Ring::new().map_err(failed)?;
    Ok(Box::new(move |count| {
        let _ = &programs;
        let begin = Instant::now();
        ring.many(&plan, count, 64).map_err(failed)?;
        Ok(begin.elapsed())
    }))
}

fn commit() -> Result<Run> {
    let dir = journal::scratch()?;
    let mut commits = Commits::new(dir.path(), 1)?;
    Ok(Box::new(move |count| {
        let _ = &dir;
        (0..count).try_fold(Duration::ZERO, |sum, _| Ok(sum + commits.commit()?))
    }))
}

fn events() -> Result<Run> {
    let mut ring = Events::new()?;
    Ok(Box::new(move |count| {
        let mut sum = Duration::ZERO;
        let mut left = count as u32;
        while left > 0 {
            let some = left.min(events::MOST);
            ring.write(some)?;
            sum += ring.drain()?.1;
            left -= some;
        }
        Ok(sum)
    }))
}
