//! uring-process: a plan made once, the blocking door and the ring's.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use io_uring::IoUring;
use uring_process::{
    Command, ExecPlan,
    ring::{Event, Spawner},
};

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

fn check(status: std::process::ExitStatus) -> io::Result<()> {
    if status.into_raw() == 0 {
        Ok(())
    } else {
        Err(io::Error::other("the child failed"))
    }
}

/// One thread, one ring.
pub(crate) struct Ring {
    ring: IoUring,
    spawner: Spawner,
    /// Calls of io_uring_enter(2) so far.
    pub(crate) enters: u64,
}

impl Ring {
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(4096)
            .or_else(|_| IoUring::new(4096))?;
        let spawner = Spawner::new(&ring, 0xBEEF)?;
        Ok(Self {
            ring,
            spawner,
            enters: 0,
        })
    }

    pub(crate) fn many(
        &mut self,
        plan: &ExecPlan,
        count: usize,
        in_flight: usize,
    ) -> io::Result<()> {
        let Self {
            ring,
            spawner,
            enters,
        } = self;
        let (mut begun, mut ended) = (0, 0);
        while ended < count {
            while begun < count && spawner.in_flight() < in_flight {
                spawner.submit(plan)?;
                begun += 1;
            }
            spawner.push(&mut ring.submission());
            *enters += 1;
            ring.submit_and_wait(1)?;
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
            while let Some(event) = spawner.next_event() {
                match event {
                    Event::Started(_) => {}
                    Event::Failed { error, .. } => return Err(error.into()),
                    Event::Ended { status, .. } => {
                        check(status.ok_or(io::ErrorKind::NotFound)?)?;
                        ended += 1;
                    }
                }
            }
        }
        Ok(())
    }
}
