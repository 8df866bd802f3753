//! One direction of a link: a thread that holds packets back.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{eventfd::EventFd, time::TimeSpec},
    unistd,
};

use super::{
    Shape, Way,
    gso::{self, Layout},
};

/// A super-packet with its headers.
const BIG: usize = 65_536 + 256;
/// Smaller packets are copied to small buffers: a queue of ACKs must not hold 64 KiB each.
const SMALL: usize = 2048;
/// Buffers held at most: without a rate, nothing else bounds what a flood over a long delay takes.
const HELD_MOST: usize = 1 << 30;
/// Segments of a super-packet that leave the bottleneck within this time arrive together: a slow
/// link must not deliver 64 KiB in one piece, and a fast one must not pay for each segment.
const TOGETHER: Duration = Duration::from_millis(1);
/// Longer delays are taken for this, so that times cannot overflow.
const DELAY_MOST: Duration = Duration::from_secs(3600);

struct Held {
    due: Instant,
    len: usize,
    buffer: Box<[u8]>,
}

/// Segments `first..end` of the packet at hand go on together.
struct Run {
    first: usize,
    end: usize,
    /// When the first of them has left the bottleneck, and the last.
    began: Instant,
    left: Instant,
}

enum Fate {
    /// Has left the bottleneck at that time.
    Leaves(Instant),
    Lost,
    /// The queue was full.
    Dropped,
}

pub(super) struct Forwarder {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    way: Arc<Way>,
    stop: Arc<EventFd>,
    generation: u64,
    delay: Duration,
    rate: Option<u64>,
    loss: f64,
    /// The time that a full queue takes to drain.
    queue: Duration,
    random: u64,
    held: VecDeque<Held>,
    held_bytes: usize,
    small: Vec<Box<[u8]>>,
    big: Vec<Box<[u8]>>,
    scratch: Box<[u8]>,
    runs: Vec<Run>,
    /// When the wire has sent all that was given to it.
    free_at: Instant,
    last_due: Instant,
}

fn buffer(len: usize) -> Box<[u8]> {
    vec![0; len].into_boxed_slice()
}

fn wire_time(bytes: usize, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 * 8.0 / rate.max(1) as f64)
}

impl Forwarder {
    pub(super) fn new(
        from: Arc<OwnedFd>,
        to: Arc<OwnedFd>,
        way: Arc<Way>,
        stop: Arc<EventFd>,
    ) -> Forwarder {
        let now = Instant::now();
        let mut forwarder = Forwarder {
            from,
            to,
            way,
            stop,
            generation: 0,
            delay: Duration::ZERO,
            rate: None,
            loss: 0.0,
            queue: Duration::ZERO,
            random: 0,
            held: VecDeque::with_capacity(4096),
            held_bytes: 0,
            small: (0..64).map(|_| buffer(SMALL)).collect(),
            big: (0..64).map(|_| buffer(BIG)).collect(),
            scratch: buffer(BIG),
            runs: Vec::with_capacity(64),
            free_at: now,
            last_due: now,
        };
        forwarder.adopt();
        forwarder
    }

    /// Takes the shape that is set now.
    fn adopt(&mut self) {
        // Before the shape is read: one set in between is taken again, never missed.
        self.generation = self.way.generation.load(Ordering::Acquire);
        let shape: Shape = self.way.shape().clone();
        let delay = shape.delay.min(DELAY_MOST);
        let queue = if shape.queue > 0 {
            shape.queue
        } else {
            let round_trip = shape
                .rate
                .map_or(0.0, |rate| rate as f64 / 8.0 * 2.0 * delay.as_secs_f64());
            (round_trip as usize).max(256 << 10)
        };
        self.queue = shape
            .rate
            .map_or(Duration::ZERO, |rate| wire_time(queue, rate));
        if shape.rate != self.rate {
            // What waited for the old wire is on its way; the new one begins idle.
            self.free_at = Instant::now();
        }
        (self.delay, self.rate, self.loss) = (delay, shape.rate, shape.loss);
        self.random = shape.seed;
    }

    /// Forwards until `stop` is raised or a device is gone.
    pub(super) fn run(&mut self) {
        // The default slack of 50 us would be added to every delay (PR_SET_TIMERSLACK(2const)).
        let _ = nix::sys::prctl::set_timerslack(1);
        loop {
            if self.generation != self.way.generation.load(Ordering::Relaxed) {
                self.adopt();
            }
            self.send_due();
            // In batches, so that neither side waits for the other.
            for _ in 0..16 {
                match unistd::read(&*self.from, &mut self.scratch) {
                    Ok(len) => self.take_in(len),
                    Err(_) => break,
                }
            }
            let now = Instant::now();
            let wait = match self.held.front() {
                Some(held) if held.due <= now => {
                    // Under steady load this is the only way round: look here too.
                    if self.way.stopping.load(Ordering::Relaxed) {
                        return;
                    }
                    continue;
                }
                Some(held) => Some(TimeSpec::from_duration(held.due - now)),
                None => None,
            };
            let mut fds = [
                PollFd::new(self.from.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            ];
            let _ = ppoll(&mut fds, wait, None);
            let gone = fds[0]
                .revents()
                .is_some_and(|events| events.contains(PollFlags::POLLERR));
            if gone || fds[1].any() == Some(true) {
                return;
            }
        }
    }

    fn chance(&mut self) -> f64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// What becomes of one packet on the wire that came at `now`.
    fn fate(&mut self, bytes: usize, now: Instant) -> Fate {
        let mut left = now;
        if let Some(rate) = self.rate {
            let time = wire_time(bytes, rate);
            let waiting = self.free_at.saturating_duration_since(now);
            // A packet larger than the queue passes an idle wire.
            if rate == 0 || waiting + time > self.queue.max(time) {
                return Fate::Dropped;
            }
            self.free_at = now + waiting + time;
            left = self.free_at;
        }
        if self.loss > 0.0 && self.chance() < self.loss {
            Fate::Lost
        } else {
            Fate::Leaves(left)
        }
    }

    /// Takes in the packet that lies in `scratch`.
    fn take_in(&mut self, len: usize) {
        // Read for each packet: what was written in between took time.
        let now = Instant::now();
        let layout = gso::layout(&self.scratch[..len]);
        self.way.packets.add(layout.segments);
        self.way.bytes.add(layout.wire_bytes);
        if self.held_bytes > HELD_MOST {
            self.way.queue_drops.add(layout.segments);
            return;
        }
        if self.rate.is_none() && self.loss <= 0.0 {
            return self.hold_whole(len, now);
        }
        self.runs.clear();
        for segment in 0..layout.segments {
            match self.fate(layout.wire_bytes_of(segment), now) {
                Fate::Lost => self.way.lost.add(1),
                Fate::Dropped => self.way.queue_drops.add(1),
                Fate::Leaves(left) => match self.runs.last_mut() {
                    Some(run) if run.end == segment && left - run.began <= TOGETHER => {
                        (run.end, run.left) = (segment + 1, left);
                    }
                    _ => self.runs.push(Run {
                        first: segment,
                        end: segment + 1,
                        began: left,
                        left,
                    }),
                },
            }
        }
        let runs = std::mem::take(&mut self.runs);
        match runs[..] {
            [
                Run {
                    first: 0,
                    end,
                    left,
                    ..
                },
            ] if end == layout.segments => {
                self.hold_whole(len, left);
            }
            _ => {
                for run in &runs {
                    self.hold_part(len, &layout, run);
                }
            }
        }
        self.runs = runs;
    }

    /// Keeps what was read, without copying large packets.
    fn hold_whole(&mut self, len: usize, left: Instant) {
        let mut buffer = self.spare(len);
        if len <= SMALL {
            buffer[..len].copy_from_slice(&self.scratch[..len]);
        } else {
            std::mem::swap(&mut buffer, &mut self.scratch);
        }
        self.hold(buffer, len, left);
    }

    fn hold_part(&mut self, len: usize, layout: &Layout, run: &Run) {
        let mut buffer = self.spare(layout.part_len(len, run.first, run.end));
        let packet = &self.scratch[..len];
        let len = gso::part(packet, layout, run.first, run.end, &mut buffer);
        self.hold(buffer, len, run.left);
    }

    fn spare(&mut self, len: usize) -> Box<[u8]> {
        let (spare, size) = if len <= SMALL {
            (&mut self.small, SMALL)
        } else {
            (&mut self.big, BIG)
        };
        spare.pop().unwrap_or_else(|| buffer(size))
    }

    fn hold(&mut self, buffer: Box<[u8]>, len: usize, left: Instant) {
        // A delay that was made shorter must not let packets overtake each other.
        let due = (left + self.delay).max(self.last_due);
        self.last_due = due;
        self.held_bytes += buffer.len();
        self.held.push_back(Held { due, len, buffer });
    }

    fn send_due(&mut self) {
        let now = Instant::now();
        while self.held.front().is_some_and(|held| held.due <= now) {
            let Some(Held { due, len, buffer }) = self.held.pop_front() else {
                return;
            };
            self.way.late(Instant::now().saturating_duration_since(due));
            // EAGAIN does not happen: writing to a TUN device delivers at once.
            let written = loop {
                match unistd::write(&*self.to, &buffer[..len]) {
                    Err(Errno::EINTR) => {}
                    other => break other,
                }
            };
            if written.is_err() {
                self.way.refused.add(1);
            }
            self.held_bytes -= buffer.len();
            if buffer.len() == SMALL {
                &mut self.small
            } else {
                &mut self.big
            }
            .push(buffer);
        }
    }
}
