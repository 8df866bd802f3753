//! Waiting on a ring of the reactor's own.

use std::{collections::VecDeque, io, os::fd::AsRawFd, time::Duration};

use io_uring::{
    IoUring, Probe,
    opcode::{AsyncCancel, FutexWait, PollAdd},
    squeue,
    types::{Fd, SubmitArgs, Timespec},
};

use super::{Backend, Interest, Key, Word};
use crate::ring::FUTEX_SHARED_U32;

const ENTRIES: u32 = 128;
const COMPLETIONS: u32 = 1024;
/// Of the answers to cancellations, which say nothing.
const CANCEL: u64 = u64::MAX;

pub(super) struct Uring {
    ring: IoUring,
    has_words: bool,
    /// Entries that the ring has not taken yet.
    waiting: VecDeque<squeue::Entry>,
}

impl Uring {
    /// # Errors
    /// The kernel has no io_uring that can wait with a timeout (5.11), or refuses it.
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_clamp()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut probe = Probe::new();
        let probed = ring.submitter().register_probe(&mut probe).is_ok();
        if !probed || !probe.is_supported(PollAdd::CODE) || !probe.is_supported(AsyncCancel::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self {
            ring,
            has_words: probe.is_supported(FutexWait::CODE),
            waiting: VecDeque::new(),
        })
    }

    /// Moves entries to the ring; returns whether all have found room.
    fn fill(&mut self) -> bool {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.waiting.front() {
            // SAFETY: the kernel writes to no memory for these entries; it reads a word that is
            // never freed, and descriptors that stay open till their entry has come back.
            if unsafe { queue.push(entry) }.is_err() {
                return false;
            }
            self.waiting.pop_front();
        }
        true
    }

    fn reap(&mut self, fired: &mut Vec<(Key, bool)>) {
        for completion in self.ring.completion() {
            if completion.user_data() == CANCEL {
                continue;
            }
            // EAGAIN: the word had another value already.
            let result = completion.result();
            let good = result >= 0 || result == -libc::EAGAIN;
            fired.push((Key(completion.user_data()), good));
        }
    }
}

impl Backend for Uring {
    fn arm(&mut self, key: Key, interest: &Interest) -> io::Result<()> {
        let poll = |events: i16| {
            let fd = interest.fd().map_or(-1, |fd| fd.as_raw_fd());
            PollAdd::new(Fd(fd), events as u32).build()
        };
        let entry = match interest {
            Interest::Readable(_) => poll(libc::POLLIN),
            Interest::Writable(_) => poll(libc::POLLOUT),
            Interest::Word(Word(word), held) => {
                let any = u64::from(u32::MAX);
                FutexWait::new(*word, u64::from(*held), any, FUTEX_SHARED_U32).build()
            }
            Interest::Until(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        self.waiting.push_back(entry.user_data(key.0));
        Ok(())
    }

    fn cancel(&mut self, key: Key) -> bool {
        self.waiting
            .push_back(AsyncCancel::new(key.0).build().user_data(CANCEL));
        false
    }

    fn wait(&mut self, timeout: Option<Duration>, fired: &mut Vec<(Key, bool)>) {
        let submitted = loop {
            if self.fill() {
                break self.enter(timeout);
            }
            if let Err(error) = self.ring.submit() {
                break Err(error);
            }
        };
        self.reap(fired);
        if let Err(error) = submitted
            && fired.is_empty()
            && !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR))
        {
            // The kernel has no memory for it: again after a while.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_words(&self) -> bool {
        self.has_words
    }
}

impl Uring {
    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match timeout {
            None => self.ring.submit_and_wait(1),
            Some(Duration::ZERO) => self.ring.submit(),
            Some(time) => {
                let time = Timespec::from(time);
                let args = SubmitArgs::new().timespec(&time);
                self.ring.submitter().submit_with_args(1, &args)
            }
        }
        .map(drop)
    }
}
