//! The door for a ring of your own: processes among the rest of your completions.
//!
//! A [`Spawner`] belongs to one ring, which you keep: you submit, you wait, you read completions.
//! It starts no thread and makes no ring. Its entries carry a tag in the upper bits of their
//! `user_data` ([`TAG_BITS`]); hand it the completions that bear the tag, or all of them: it says
//! which were its own.
//!
//! ```
//! use io_uring::IoUring;
//! use uring_process::{Command, ring::{Event, Spawner}};
//!
//! let mut ring = IoUring::new(64)?;
//! let mut spawner = Spawner::new(&ring, 0xBEEF)?;
//! let plan = Command::new("true").plan()?;
//! for _ in 0..8 {
//!     spawner.submit(&plan)?;
//! }
//! let mut ended = 0;
//! while ended < 8 {
//!     spawner.push(&mut ring.submission());
//!     ring.submit_and_wait(1)?;
//!     for completion in ring.completion() {
//!         spawner.complete(completion.user_data(), completion.result());
//!     }
//!     while let Some(event) = spawner.next_event() {
//!         match event {
//!             Event::Started(started) => println!("{} runs", started.pid),
//!             Event::Failed { error, .. } => return Err(error.into()),
//!             Event::Ended { status, .. } => {
//!                 assert!(status.is_some_and(|status| status.success()));
//!                 ended += 1;
//!             }
//!         }
//!     }
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! In a program of several threads waiting may be interrupted (`EINTR`) by the SIGCHLD of a child, as by
//! any signal: go round the loop again.
//!
//! # Why pushing entries is safe here
//! An entry is a wait on a pidfd or on a futex word, or it asks the kernel for a process. For the first two the
//! kernel writes to no memory of ours; a wait on a word that has been used again ends at once or is not for anybody, and the
//! words are never freed. What the third points at is kept until the kernel has written there that it is done, whatever
//! becomes of the entry. So a ring or a spawner may be dropped, moved or forgotten at any time, entries
//! may never be submitted, and completions may be handed over late, twice, or forged: what a
//! completion claims is checked before it is believed. (Two exceptions, of the kernel's own operation: the PID or the
//! errno, once it is certain that there is one, and that a ring refuses the operation.)
//!
//! One thing to keep in order: submit what was [pushed](Spawner::push) before you drop the spawner
//! and go on with the ring. An entry that is submitted after that waits for a descriptor by a
//! number that may be another's by then, and keeps that file open, such as the end of a pipe,
//! until it is ready.
//!
//! # A ring and its spawner end
//! Processes that run go on. One that the kernel was asked for and that does not run its program yet is taken back
//! where its ring is closed, or the thread ends that submitted its entry. Those whose spawner was dropped are waited for by a later start in
//! this process, so they do not stay zombies while starts go on.

mod event;
pub(crate) mod orphans;
mod tag;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    process::ExitStatus,
};

use io_uring::{
    IoUring, Probe, cqueue,
    opcode::{FutexWait, PollAdd},
    squeue::{self, SubmissionQueue},
    types::Fd,
};

pub use event::{Event, Started};
use tag::{Kind, Tag};
pub use tag::{TAG_BITS, Token};

use crate::{
    Error, ExecPlan,
    machine::{Machine, News, Signal, Start, World},
    start::{Await, Born, Launch, Pending, Scratch, Watch, ladder},
    sys::pidfd,
};

/// `FUTEX2_SIZE_U32` of `include/uapi/linux/futex.h`, without `FUTEX2_PRIVATE`: the kernel wakes
/// the word that it clears as a shared one.
pub(crate) const FUTEX_SHARED_U32: u32 = 2;

/// With more processes than this at a time, moving a pidfd costs less than the copies of it that the children to
/// come would get.
const CROWD: usize = 8;

/// One process.
struct Live {
    machine: Machine,
    body: Body,
}

/// What the machine asks.
struct Body {
    /// There is a process, and it is known.
    born: Option<Born>,
    launch: Launch,
}

impl Body {
    /// Takes over what has become known of the process; `crowd`: there are many.
    fn settle(&mut self, crowd: bool) {
        if let Some(Born { pid, pidfd }) = self.launch.take_born() {
            let pidfd = if crowd {
                pidfd::out_of_the_way(pidfd)
            } else {
                pidfd
            };
            self.born = Some(Born { pid, pidfd });
        }
    }
}

impl World for Body {
    type Error = Error;
    type Status = Option<ExitStatus>;

    fn start(&mut self) -> Start<Error> {
        match self.launch.look() {
            Start::Early if self.launch.wants_next() => self.launch.next(),
            other => other,
        }
    }

    fn end(&mut self) -> Option<Option<ExitStatus>> {
        let pidfd = self.born.as_ref()?.pidfd.as_fd();
        match pidfd::try_wait(pidfd) {
            Ok(status) => status.map(Some),
            // Somebody else has taken the status, and this kernel does not keep it.
            Err(_) => Some(None),
        }
    }
}

#[derive(Default)]
struct Place {
    /// Counts the processes that this place has had, so that an old token names none.
    generation: u32,
    live: Option<Live>,
}

/// Starts processes and follows them by completions of a ring that is yours.
///
/// See the [module's page](self).
pub struct Spawner {
    tag: Tag,
    watch: Watch,
    /// The ring may be asked to make processes itself.
    by_operation: bool,
    places: Vec<Place>,
    free: Vec<u32>,
    /// What is to be waited for by entries that are not in the submission queue yet. The entries
    /// are made when they get there: what they wait for may be another thing by then.
    waiting: VecDeque<(Token, Kind)>,
    events: VecDeque<Event>,
    scratch: Scratch,
}

impl Spawner {
    /// A spawner for this ring. `tag` takes the upper [`TAG_BITS`] bits of `user_data`: entries
    /// of your own must have others.
    ///
    /// # Errors
    /// A tag that is too large.
    pub fn new<S, C>(ring: &IoUring<S, C>, tag: u64) -> Result<Self, Error>
    where
        S: squeue::EntryMarker,
        C: cqueue::EntryMarker,
    {
        let mut probe = Probe::new();
        let has_futex = ring.submitter().register_probe(&mut probe).is_ok()
            && probe.is_supported(FutexWait::CODE);
        let by_word = has_futex && !ladder::forced().pipe;
        // What the operation refuses: a thread of the kernel's would be the parent, and nobody waits.
        let params = ring.params();
        let by_operation = !params.is_setup_sqpoll() && !params.is_setup_iopoll();
        Ok(Self {
            tag: Tag::new(tag)?,
            watch: if by_word { Watch::Word } else { Watch::Pipe },
            by_operation,
            places: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            scratch: Scratch::default(),
        })
    }

    /// Makes a process and returns at once; what becomes of it, events tell.
    ///
    /// Entries for the ring are made ready, for [`push`](Self::push). Where the kernel's own operation is used, the
    /// process is made as its entry is submitted.
    ///
    /// # Errors
    /// No process could be made: [`Stage::Prepare`](crate::Stage::Prepare) or
    /// [`Stage::Clone`](crate::Stage::Clone). `EAGAIN`, kind `WouldBlock`, at a limit of processes:
    /// try again when one has ended. Everything later is an event, as is all that the kernel finds where it makes the
    /// process itself.
    pub fn submit(&mut self, plan: &ExecPlan) -> Result<Token, Error> {
        orphans::reap();
        let launch = Launch::new(plan, self.watch, self.by_operation, &mut self.scratch)?;
        let crowd = self.in_flight() >= CROWD;
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        let machine = launch.machine();
        let mut body = Body { born: None, launch };
        body.settle(crowd);
        place.live = Some(Live { machine, body });
        let token = Token::new(index, place.generation);
        self.arm(token);
        Ok(token)
    }

    /// Makes a process of each plan, up to the first that fails.
    ///
    /// Returns the tokens, and the error that ended it.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); the processes made before it go on.
    pub fn submit_all<'p>(
        &mut self,
        plans: impl IntoIterator<Item = &'p ExecPlan>,
    ) -> (Vec<Token>, Option<Error>) {
        let mut tokens = Vec::new();
        for plan in plans {
            match self.submit(plan) {
                Ok(token) => tokens.push(token),
                Err(error) => return (tokens, Some(error)),
            }
        }
        (tokens, None)
    }

    fn live(&self, token: Token) -> Option<&Live> {
        let place = self.places.get(token.index() as usize)?;
        place
            .live
            .as_ref()
            .filter(|_| Tag::same_generation(place.generation, token.generation()))
    }

    fn live_mut(&mut self, token: Token) -> Option<&mut Live> {
        let place = self.places.get_mut(token.index() as usize)?;
        place
            .live
            .as_mut()
            .filter(|_| Tag::same_generation(place.generation, token.generation()))
    }

    /// What waits for this now; `None` if the process is not followed any more.
    fn entry(&mut self, token: Token, kind: Kind) -> Option<squeue::Entry> {
        let body = &mut self.live_mut(token)?.body;
        let entry = match kind {
            Kind::Start => match body.launch.entry() {
                Some(entry) => entry,
                None => {
                    let pending = body.launch.pending()?;
                    let entry = start_entry(pending);
                    pending.note_wait();
                    entry
                }
            },
            Kind::End => {
                let fd = Fd(body.born.as_ref()?.pidfd.as_raw_fd());
                PollAdd::new(fd, libc::POLLIN as u32).build()
            }
        };
        Some(entry.user_data(self.tag.of(token, kind)))
    }

    /// Makes entries for all that is to be waited for.
    fn arm(&mut self, token: Token) {
        let Self {
            places, waiting, ..
        } = self;
        let Some(live) = places
            .get_mut(token.index() as usize)
            .and_then(|p| p.live.as_mut())
        else {
            return;
        };
        for signal in live.machine.arm() {
            let kind = match signal {
                Signal::Start => Kind::Start,
                Signal::End => Kind::End,
            };
            waiting.push_back((token, kind));
        }
    }

    /// Moves ready entries to the submission queue of the ring; returns how many still wait for
    /// room in it. Submit, and call it again.
    pub fn push<E>(&mut self, queue: &mut SubmissionQueue<'_, E>) -> usize
    where
        E: squeue::EntryMarker + From<squeue::Entry>,
    {
        while let Some((token, kind)) = self.waiting.front().copied() {
            // An entry that is made is handed over, too.
            if queue.is_full() {
                break;
            }
            self.waiting.pop_front();
            let Some(entry) = self.entry(token, kind) else {
                continue;
            };
            // SAFETY: see the module's page: what an entry points at stays until the kernel is done with it.
            let pushed = unsafe { queue.push(&E::from(entry)) };
            debug_assert!(pushed.is_ok(), "there is room");
        }
        self.waiting.len()
    }

    /// Takes a completion. Returns whether it was one of the spawner's; then look for events, and
    /// [`push`](Self::push) again.
    pub fn complete(&mut self, user_data: u64, result: i32) -> bool {
        let Some((index, generation, kind)) = self.tag.read(user_data) else {
            return false;
        };
        let crowd = self.in_flight() > CROWD;
        let Self {
            places,
            events,
            free,
            by_operation,
            ..
        } = self;
        let Some(place) = places.get_mut(index as usize) else {
            return true;
        };
        if !Tag::same_generation(place.generation, generation) {
            return true;
        }
        let token = Token::new(index, place.generation);
        let Some(live) = &mut place.live else {
            return true;
        };
        let signal = match kind {
            Kind::Start => Signal::Start,
            Kind::End => Signal::End,
        };
        let Live { machine, body } = live;
        if signal == Signal::Start {
            body.launch.hear(result);
        }
        let mut news = [None, None];
        machine.signal(signal, body, |new| {
            let at = usize::from(news[0].is_some());
            news[at] = Some(new);
        });
        *by_operation &= !body.launch.is_refused();
        body.settle(crowd);
        let pid = body.born.as_ref().map_or(0, |born| born.pid);
        for new in news.into_iter().flatten() {
            events.push_back(match new {
                News::Running => Event::Started(Started::new(token, pid, body.launch.take_pipes())),
                News::Failed(error) => Event::Failed { token, error },
                News::Ended(status) => Event::Ended { token, pid, status },
            });
        }
        if machine.is_started()
            && let Some(pending) = body.launch.pending()
        {
            pending.settle();
        }
        if machine.is_finished() {
            place.live = None;
            free.push(index);
        } else {
            self.arm(token);
        }
        true
    }

    /// What has become known and was not told yet.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Processes that have not ended, or whose last completion has not come.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The PID, while the process is followed.
    ///
    /// Where the kernel makes it by the entry itself (executor kernel) there is none before
    /// [`Event::Started`].
    #[must_use]
    pub fn pid(&self, token: Token) -> Option<i32> {
        Some(self.live(token)?.body.born.as_ref()?.pid)
    }

    /// The pidfd, while the process is followed; from when on, see [`pid`](Self::pid).
    #[must_use]
    pub fn pidfd(&self, token: Token) -> Option<BorrowedFd<'_>> {
        Some(self.live(token)?.body.born.as_ref()?.pidfd.as_fd())
    }

    /// Sends a signal, such as `libc::SIGKILL`, to the process and to no other.
    ///
    /// One that the kernel has still to make gets it as soon as its program runs.
    ///
    /// # Errors
    /// `ESRCH` if it is over; `EPERM` if it has other ids; `EINVAL` for a signal that does not
    /// exist.
    pub fn kill(&self, token: Token, signal: i32) -> io::Result<()> {
        match self.live(token) {
            Some(Live { body, .. }) => match &body.born {
                Some(born) => pidfd::signal(born.pidfd.as_fd(), signal),
                None => body.launch.signal_later(signal),
            },
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    }
}

fn start_entry(pending: &Pending) -> squeue::Entry {
    match pending.next() {
        Await::Word(word, held) => {
            let any = u64::from(u32::MAX);
            FutexWait::new(word.as_ptr(), u64::from(held), any, FUTEX_SHARED_U32).build()
        }
        Await::Readable(fd) => PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLIN as u32).build(),
        Await::Nothing => io_uring::opcode::Nop::new().build(),
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        for place in &mut self.places {
            if let Some(Live { body, .. }) = place.live.take()
                && let Some(born) = body.born
            {
                orphans::adopt(born.pidfd);
            }
        }
        orphans::reap();
    }
}

impl std::fmt::Debug for Spawner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spawner")
            .field("tag", &self.tag)
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting.len())
            .finish_non_exhaustive()
    }
}
