//! Between the making of a process and the running of its program.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::atomic::AtomicU32,
};

use super::Watch;
use crate::{Error, ExecPlan, Stage, slot::Slot};

/// A start whose outcome is open.
///
/// The caller waits for what [`Pending::next`] says and calls [`Pending::advance`], until that is
/// done. Nothing here blocks. May be dropped at any time.
#[derive(Debug)]
pub(crate) struct Pending {
    plan: ExecPlan,
    phase: Phase,
    /// Our end of the pipe for reports.
    report: Option<OwnedFd>,
    slot: Option<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Word,
    Pipe,
    Over,
}

/// What to wait for.
#[derive(Debug)]
pub(crate) enum Await<'a> {
    /// Until the word has no longer this value (futex(2), not private).
    Word(&'a AtomicU32, u32),
    /// Until there is something to read, or the end.
    Readable(BorrowedFd<'a>),
    Nothing,
}

/// Where a start is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Wait again for [`Pending::next`], which may be something else now.
    Again,
    /// The program runs, or the child has ended by a signal before it could; that shows as its
    /// status.
    Running,
    /// It failed; the child is over, or about to be.
    Failed(Error),
}

impl Pending {
    pub(super) fn new(plan: ExecPlan, slot: Slot, watch: Watch, report: Option<OwnedFd>) -> Self {
        let phase = match watch {
            Watch::Word => Phase::Word,
            Watch::Pipe => Phase::Pipe,
        };
        Self {
            plan,
            phase,
            report,
            slot: Some(slot),
        }
    }

    /// One whose program runs.
    pub(super) fn decided(plan: ExecPlan) -> Self {
        Self {
            plan,
            phase: Phase::Over,
            report: None,
            slot: None,
        }
    }

    pub(super) fn forked(plan: ExecPlan, report: Option<(OwnedFd, OwnedFd)>) -> Self {
        let report = report.map(|(ours, _)| ours);
        Self {
            plan,
            phase: Phase::Pipe,
            report,
            slot: None,
        }
    }

    pub(crate) fn next(&self) -> Await<'_> {
        match (self.phase, &self.slot, &self.report) {
            (Phase::Word, Some(slot), _) => {
                let (word, held) = slot.word();
                Await::Word(word, held)
            }
            (Phase::Pipe, _, Some(report)) => Await::Readable(report.as_fd()),
            _ => Await::Nothing,
        }
    }

    /// An entry that waits for [`Pending::next`] is going to be handed out.
    pub(crate) fn note_wait(&mut self) {
        if let (Phase::Word, Some(slot)) = (self.phase, &mut self.slot) {
            slot.note_wait();
        }
    }

    /// Nobody waits for it any more: closes what was waited for, once that is decided.
    ///
    /// Not before: an entry that waits for a descriptor may not be submitted yet, and would wait for
    /// whatever has its number then.
    pub(crate) fn settle(&mut self) {
        if self.phase == Phase::Over {
            self.report = None;
        }
    }

    /// Looks where it is now. To be called when what was waited for has happened, or at any time.
    pub(crate) fn advance(&mut self) -> Progress {
        if self.phase == Phase::Word {
            let Some(slot) = &mut self.slot else {
                return self.over(None);
            };
            if slot.is_held() {
                return Progress::Again;
            }
            let failure = slot.failure();
            slot.close_ends();
            if failure.is_some() || self.report.is_none() {
                return self.over(failure);
            }
            // The launcher runs; what comes of it, the pipe says.
            self.phase = Phase::Pipe;
        }
        match self.read_report() {
            Some(outcome) => self.over(outcome),
            None => Progress::Again,
        }
    }

    /// `None`: nothing to read yet.
    fn read_report(&self) -> Option<Option<(u32, i32)>> {
        let Some(report) = &self.report else {
            return Some(None);
        };
        let mut poll = libc::pollfd {
            fd: report.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, for the time of the call, which does not wait.
        if unsafe { libc::poll(&raw mut poll, 1, 0) } != 1 {
            return None;
        }
        let mut words = [0u32; 2];
        let at = (&raw mut words).cast();
        // SAFETY: eight bytes are there to write to.
        match unsafe { libc::read(report.as_raw_fd(), at, size_of_val(&words)) } {
            8 => Some(Some((words[0], words[1] as i32))),
            _ => Some(None),
        }
    }

    fn over(&mut self, failure: Option<(u32, i32)>) -> Progress {
        self.phase = Phase::Over;
        // The memory is another child's now, however long this one runs.
        self.slot = None;
        match failure {
            None => Progress::Running,
            Some((stage, errno)) => {
                let stage = Stage::from_raw(stage).unwrap_or(Stage::Exec);
                Progress::Failed(
                    self.plan
                        .0
                        .error(stage, io::Error::from_raw_os_error(errno)),
                )
            }
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot")
            .field("held", &self.is_held())
            .finish_non_exhaustive()
    }
}
