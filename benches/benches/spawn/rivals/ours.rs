//! uring-process: a plan made once, the blocking door and the ring's.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use lab::cases::process::{Ring, check};
use uring_process::{Command, ExecPlan};

use super::{OTHER, Rival, What};

pub(crate) struct Ours {
    command: Command,
    plan: ExecPlan,
    ring: Ring,
    /// The plan is made anew for each process.
    anew: bool,
}

impl Ours {
    pub(crate) fn new(what: &What) -> io::Result<Self> {
        let mut command = Command::new(&what.program);
        if what.ids {
            command.uid(OTHER).gid(OTHER).setsid(true);
        }
        let plan = command.plan()?;
        Ok(Self {
            plan,
            ring: Ring::new()?,
            command,
            anew: false,
        })
    }

    /// With `Command::start`, which makes a plan each time.
    pub(crate) fn anew(mut self) -> Self {
        self.anew = true;
        self
    }

    pub(crate) fn plan(&self) -> &ExecPlan {
        &self.plan
    }

    pub(crate) fn ring(&mut self) -> (&mut Ring, &ExecPlan) {
        (&mut self.ring, &self.plan)
    }
}

impl Rival for Ours {
    fn name(&self) -> String {
        if self.anew {
            "uring-process, Command::start".into()
        } else {
            "uring-process".into()
        }
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        let starting = if self.anew {
            self.command.start()?
        } else {
            self.plan.start()?
        };
        let blocked = begin.elapsed();
        check(starting.wait()?.wait()?)?;
        Ok(blocked)
    }

    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let begin = Instant::now();
        self.ring.many(&self.plan, count, in_flight)?;
        Ok(begin.elapsed())
    }
}

/// Threads with a plan and a ring each.
pub(crate) struct Threads {
    what: What,
    threads: usize,
}

impl Threads {
    pub(crate) fn new(what: &What, threads: usize) -> Self {
        Self {
            what: what.clone(),
            threads,
        }
    }
}

impl Rival for Threads {
    fn name(&self) -> String {
        "uring-process".into()
    }

    fn blocked(&mut self) -> io::Result<Duration> {
        Ours::new(&self.what)?.blocked()
    }

    /// `in_flight` is each thread's.
    fn many(&mut self, count: usize, in_flight: usize) -> io::Result<Duration> {
        let share = count / self.threads;
        let begin = Instant::now();
        thread::scope(|scope| {
            // A ring is made by the thread that uses it.
            let run = || Ours::new(&self.what)?.many(share, in_flight).map(drop);
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(run)).collect();
            threads.into_iter().try_for_each(|thread| {
                let gone = |_| io::Error::other("a thread panicked");
                thread.join().map_err(gone)?
            })
        })?;
        Ok(begin.elapsed())
    }
}
