//! A start by whichever executor, as doors with a ring see it.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicI32, Ordering},
};

use io_uring::squeue;

use super::{Born, Heard, Operation, Pending, Pipes, Progress, Scratch, Started, Watch};
use crate::{
    Error, ExecPlan,
    machine::{Machine, Start},
    sys::pidfd,
};

/// From the plan to the program that runs.
pub(crate) struct Launch {
    way: Way,
    watch: Watch,
    /// There is a process from here on; taken by whoever follows it.
    born: Option<Born>,
    pipes: Pipes,
    /// The last completion of the operation's entry that was not looked at.
    heard: Option<i32>,
    /// To be sent as soon as there is a process; 0 for none.
    signal: AtomicI32,
    /// The ring has refused the operation.
    refused: bool,
}

enum Way {
    Made(Pending),
    Asked(Operation),
    /// The next executor's turn.
    Next(ExecPlan),
    /// It could not be made.
    Lost(Option<Error>),
}

impl Launch {
    /// Makes a process of the plan, or an entry that asks the kernel for it where `by_operation` allows.
    ///
    /// # Errors
    /// The process could not be made; there is none.
    pub(crate) fn new(
        plan: &ExecPlan,
        watch: Watch,
        by_operation: bool,
        scratch: &mut Scratch,
    ) -> Result<Self, Error> {
        let asked = if by_operation {
            Operation::new(plan, scratch)?
        } else {
            None
        };
        Ok(match asked {
            Some((operation, pipes)) => Self::with(Way::Asked(operation), watch, None, pipes),
            None => Self::made(super::start(plan, watch, scratch)?, watch),
        })
    }

    /// Of a process that has been made.
    pub(crate) fn made(started: Started, watch: Watch) -> Self {
        let Started {
            pid,
            pidfd,
            pending,
            pipes,
        } = started;
        Self::with(Way::Made(pending), watch, Some(Born { pid, pidfd }), pipes)
    }

    fn with(way: Way, watch: Watch, born: Option<Born>, pipes: Pipes) -> Self {
        Self {
            way,
            watch,
            born,
            pipes,
            heard: None,
            signal: AtomicI32::new(0),
            refused: false,
        }
    }

    pub(crate) fn machine(&self) -> Machine {
        match self.way {
            Way::Made(_) => Machine::new(),
            _ => Machine::asked(),
        }
    }

    /// A completion of the start's entry.
    pub(crate) fn hear(&mut self, result: i32) {
        self.heard = Some(result);
    }

    /// Where it is now.
    pub(crate) fn look(&mut self) -> Start<Error> {
        match &mut self.way {
            Way::Made(pending) => match pending.advance() {
                Progress::Again => Start::Open,
                Progress::Running => Start::Running,
                Progress::Failed(error) => Start::Failed(error),
            },
            Way::Asked(operation) => {
                let Some(result) = self.heard.take() else {
                    return Start::Early;
                };
                match operation.heard(result) {
                    Heard::Open => Start::Early,
                    Heard::Runs(born) => {
                        self.born(born);
                        Start::Running
                    }
                    Heard::Failed(error) => {
                        self.pipes = Pipes::default();
                        Start::Gone(error)
                    }
                    Heard::Next { refused } => {
                        self.refused |= refused;
                        self.pipes = Pipes::default();
                        self.way = Way::Next(operation.plan().clone());
                        Start::Early
                    }
                }
            }
            Way::Next(_) => Start::Early,
            Way::Lost(error) => match error.take() {
                Some(error) => Start::Gone(error),
                None => Start::Early,
            },
        }
    }

    /// It is the next executor's turn: [`Launch::next`].
    pub(crate) fn wants_next(&self) -> bool {
        matches!(self.way, Way::Next(_))
    }

    /// The ring has refused the operation, and would again.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Makes the process by the next executor, in this thread. Says what is to be told then.
    pub(crate) fn next(&mut self) -> Start<Error> {
        let Way::Next(plan) = &self.way else {
            return Start::Early;
        };
        match super::start(plan, self.watch, &mut Scratch::default()) {
            Ok(started) => {
                let made = Self::made(started, self.watch);
                (self.way, self.pipes) = (made.way, made.pipes);
                made.born.into_iter().for_each(|born| self.born(born));
                Start::Made
            }
            Err(error) => {
                self.way = Way::Lost(None);
                Start::Gone(error)
            }
        }
    }

    fn born(&mut self, born: Born) {
        let signal = std::mem::take(self.signal.get_mut());
        if signal != 0 {
            let _ = pidfd::signal(born.pidfd.as_fd(), signal);
        }
        self.born = Some(born);
    }

    /// The operation's entry, where it has not been handed out.
    pub(crate) fn entry(&mut self) -> Option<squeue::Entry> {
        match &mut self.way {
            Way::Asked(operation) => operation.entry(),
            _ => None,
        }
    }

    /// What the start is waited for by, where there is a process.
    pub(crate) fn pending(&mut self) -> Option<&mut Pending> {
        match &mut self.way {
            Way::Made(pending) => Some(pending),
            _ => None,
        }
    }

    pub(crate) fn take_born(&mut self) -> Option<Born> {
        self.born.take()
    }

    pub(crate) fn take_pipes(&mut self) -> Pipes {
        std::mem::take(&mut self.pipes)
    }

    /// Sends a signal to the process as soon as there is one.
    ///
    /// # Errors
    /// `EINVAL` for a signal that does not exist.
    pub(crate) fn signal_later(&self, signal: i32) -> io::Result<()> {
        if !(0..=64).contains(&signal) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // Nothing takes the place of SIGKILL.
        if signal != 0 && self.signal.load(Ordering::Relaxed) != libc::SIGKILL {
            self.signal.store(signal, Ordering::Relaxed);
        }
        Ok(())
    }
}
