//! One direction of a link: a thread that holds packets back.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
    unistd,
};

use super::{Counters, Shape, gso};

/// A super-packet with its headers.
const BIG: usize = 65_536 + 256;
/// Smaller packets are copied to small buffers: a queue of ACKs must not hold 64 KiB each.
const SMALL: usize = 2048;

struct Held {
    due: Instant,
    buffer: Vec<u8>,
}

pub(super) struct Forwarder {
    from: Arc<OwnedFd>,
    to: Arc<OwnedFd>,
    shape: Shape,
    queue: usize,
    counters: Arc<Counters>,
    held: VecDeque<Held>,
    small: Vec<Vec<u8>>,
    big: Vec<Vec<u8>>,
    scratch: Vec<u8>,
    /// When the wire has sent all that was given to it.
    free_at: Instant,
    random: u64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Forwarder {
    pub(super) fn new(
        from: Arc<OwnedFd>,
        to: Arc<OwnedFd>,
        shape: Shape,
        counters: Arc<Counters>,
    ) -> Forwarder {
        let round_trip = shape.rate.map_or(0.0, |rate| {
            rate as f64 / 8.0 * 2.0 * shape.delay.as_secs_f64()
        });
        let queue = if shape.queue > 0 {
            shape.queue
        } else {
            (round_trip as usize).max(256 << 10)
        };
        Forwarder {
            from,
            to,
            queue,
            counters,
            held: VecDeque::new(),
            small: Vec::new(),
            big: Vec::new(),
            scratch: vec![0; BIG],
            free_at: Instant::now(),
            random: shape.seed,
            shape,
        }
    }

    pub(super) fn run(&mut self, stop: &AtomicBool) {
        // The default slack of 50 us would be added to every delay (PR_SET_TIMERSLACK(2const)).
        let _ = nix::sys::prctl::set_timerslack(1);
        while !stop.load(Ordering::Relaxed) {
            let mut now = Instant::now();
            self.send_due(now);
            // In batches, so that neither side waits for the other.
            for _ in 0..16 {
                match unistd::read(&*self.from, &mut self.scratch) {
                    Ok(len) => self.take_in(len, now),
                    Err(_) => break,
                }
            }
            now = Instant::now();
            let wait = match self.held.front() {
                Some(held) if held.due <= now => continue,
                Some(held) => held.due - now,
                None => Duration::from_millis(50),
            };
            let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(
                &mut fds,
                Some(TimeSpec::from_duration(wait.min(Duration::from_millis(50)))),
                None,
            );
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

    fn take_in(&mut self, len: usize, now: Instant) {
        let layout = gso::layout(&self.scratch[..len]);
        add(&self.counters.packets, layout.segments);
        add(&self.counters.bytes, layout.wire_bytes);
        let mut due = now;
        if let Some(rate) = self.shape.rate {
            let seconds = |bytes: usize| Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
            let waiting = self.free_at.saturating_duration_since(now);
            if waiting + seconds(layout.wire_bytes) > seconds(self.queue.max(layout.wire_bytes)) {
                add(&self.counters.queue_drops, layout.segments);
                return;
            }
            self.free_at = now.max(self.free_at) + seconds(layout.wire_bytes);
            due = self.free_at;
        }
        due += self.shape.delay;
        if self.shape.loss <= 0.0 {
            return self.hold(len, due);
        }
        // Runs of segments that survive.
        let mut first = 0;
        let packet = std::mem::take(&mut self.scratch);
        for segment in 0..=layout.segments {
            let lost = segment < layout.segments && self.chance() < self.shape.loss;
            if lost {
                add(&self.counters.lost, 1);
            }
            if lost || segment == layout.segments {
                if segment > first {
                    let mut out = self.big.pop().unwrap_or_else(|| Vec::with_capacity(BIG));
                    gso::part(&packet[..len], &layout, first, segment, &mut out);
                    self.held.push_back(Held { due, buffer: out });
                }
                first = segment + 1;
            }
        }
        self.scratch = packet;
    }

    /// Keeps what was read, without copying large packets.
    fn hold(&mut self, len: usize, due: Instant) {
        let buffer = if len <= SMALL {
            let mut small = self
                .small
                .pop()
                .unwrap_or_else(|| Vec::with_capacity(SMALL));
            small.clear();
            small.extend_from_slice(&self.scratch[..len]);
            small
        } else {
            let mut spare = self.big.pop().unwrap_or_else(|| Vec::with_capacity(BIG));
            spare.resize(BIG, 0);
            let mut full = std::mem::replace(&mut self.scratch, spare);
            full.truncate(len);
            full
        };
        self.held.push_back(Held { due, buffer });
    }

    fn send_due(&mut self, now: Instant) {
        while self.held.front().is_some_and(|held| held.due <= now) {
            let Some(Held { buffer, .. }) = self.held.pop_front() else {
                return;
            };
            // EAGAIN does not happen: writing to a TUN device delivers at once.
            while unistd::write(&*self.to, &buffer) == Err(Errno::EINTR) {}
            if buffer.capacity() < BIG {
                &mut self.small
            } else {
                &mut self.big
            }
            .push(buffer);
        }
    }
}
