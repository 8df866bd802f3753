//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    learner::{Input, Kind, Learner, Reading, Spec, limit},
};

pub(super) const RECEIVE_LIMITED: &str = "receive-limited";
pub(super) const SEND_LIMITED: &str = "send-limited";
pub(super) const MEMORY_EXCEEDED: &str = "memory-exceeded";
pub(super) const FIRST_WINDOW: &str = "first-window-used-up";

/// Another tuner's scenario, about a limit that is owned here: a UDP socket whose size `rmem_max` cut down loses datagrams.
const UDP_CUT_DOWN: &str = "udp-buffer-cut-down";

pub(super) const RMEM: &str = "net.ipv4.tcp_rmem";
const WMEM: &str = "net.ipv4.tcp_wmem";
const TCP_MEM: &str = "net.ipv4.tcp_mem";
const MODERATE: &str = "net.ipv4.tcp_moderate_rcvbuf";
const RMEM_MAX: &str = "net.core.rmem_max";
const WMEM_MAX: &str = "net.core.wmem_max";

/// The kernel's autotuning wants twice the window that a round trip fills, so that slow start can
/// double it (tcp_rcv_space_adjust, tcp_sndbuf_expand).
const HEADROOM: f64 = 2.0;
/// A first window of 64 KiB, the most that a SYN can say (its window field has no scale), takes twice that of buffer; it is the
/// kernel's own default. More gained nothing in any trial: from there on the kernel grows the window ahead of slow start.
/// The BPF program has the same number.
const FIRST_ENOUGH: i64 = 131_072;
/// Buffer bytes per payload byte where the kernel does not say (skb overhead).
const OVERHEAD: f64 = 2.0;

/// The tuner. It remembers nothing: all it needs is in the signal and the view.
#[derive(Clone, Debug)]
pub struct TcpBuffer {
    learner: Spec,
}

impl Default for TcpBuffer {
    /// With `limit`. The rate was measured under the limit, so the path's own is unknown: guess four tenths more. The last
    /// step may begin just below the need, so no more than that is ever too much.
    fn default() -> TcpBuffer {
        TcpBuffer {
            learner: Spec::Limit(limit::Params {
                growth: 1.4,
                least: 1.4,
                most: 8.0,
            }),
        }
    }
}

impl TcpBuffer {
    /// With a learner of choice for the buffer limits: one that takes a need or pressure (`limit`, `step`, `aimd`).
    ///
    /// # Errors
    /// Says what is wrong with the learner, and which would do.
    pub fn new(learner: Spec) -> Result<TcpBuffer, String> {
        learner.check_for(super::NAME, &[Kind::Need])?;
        Ok(TcpBuffer { learner })
    }

    /// The learner's next value of a knob, whole. Those of this tuner keep no state: the knob's value is all of it.
    fn next(&self, value: i64, original: i64, reading: Reading) -> Option<i64> {
        let input = Input {
            at: Duration::ZERO,
            value: value as f64,
            original: original as f64,
            // Back at most to where it started; the governor knows the upper bound.
            low: value.min(original) as f64,
            high: i64::MAX as f64,
            reading,
            harm: None,
        };
        Learner::new(self.learner.clone(), 0)
            .next(&input)
            .map(|target| target as i64)
    }
}

/// The most one socket's buffer limit may be: a 64th of memory (twice what the kernel derives at
/// boot), and a quarter of what TCP as a whole has left before it is under pressure.
fn socket_bound(machine: &Machine) -> i64 {
    let free = machine
        .tcp_memory_pressure
        .saturating_sub(machine.tcp_memory);
    i64::try_from((machine.memory_total / 64).min(free / 4))
        .unwrap_or(i64::MAX)
        .min(i64::from(i32::MAX / 2))
}

fn socket_row(machine: &Machine) -> Vec<(i64, i64)> {
    vec![(0, i64::MAX), (0, i64::MAX), (4096, socket_bound(machine))]
}

fn socket_single(machine: &Machine) -> Vec<(i64, i64)> {
    vec![(4096, socket_bound(machine))]
}

/// TCP as a whole: pressure at most an eighth of memory, the hard limit three sixteenths (twice what
/// the kernel derives at boot).
fn tcp_mem_bound(machine: &Machine) -> Vec<(i64, i64)> {
    let pages = (machine.memory_total / machine.page_size.max(1)) as i64;
    vec![(0, pages * 3 / 32), (0, pages / 8), (0, pages * 3 / 16)]
}

impl Tuner for TcpBuffer {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "sizes TCP buffer limits to the bandwidth-delay product of real connections"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let tunable =
            |name: &'static str, scope, unit: &'static str, about: &'static str, bound| Tunable {
                name: name.into(),
                scope,
                unit: unit.into(),
                about: about.into(),
                bound: Bound::Derived(bound),
                cost: Cost::ByUnit,
            };
        vec![
            tunable(
                RMEM,
                Scope::Netns,
                "bytes",
                "receive buffer of a TCP socket: min, default, max",
                socket_row,
            ),
            tunable(
                WMEM,
                Scope::Netns,
                "bytes",
                "send buffer of a TCP socket: min, default, max",
                socket_row,
            ),
            tunable(
                MODERATE,
                Scope::Netns,
                "boolean",
                "receive buffer autotuning",
                |_| vec![(0, 1)],
            ),
            tunable(
                TCP_MEM,
                Scope::Global,
                "pages",
                "memory of all TCP sockets: low, pressure, max",
                tcp_mem_bound,
            ),
            tunable(
                RMEM_MAX,
                Scope::Global,
                "bytes",
                "largest SO_RCVBUF, and receive window scale",
                socket_single,
            ),
            tunable(
                WMEM_MAX,
                Scope::Global,
                "bytes",
                "largest SO_SNDBUF",
                socket_single,
            ),
        ]
    }

    fn check_learner(&self, learner: &Spec) -> Result<(), String> {
        TcpBuffer::new(learner.clone()).map(drop)
    }

    fn set_learner(&mut self, learner: Option<&Spec>) {
        let wanted = learner.and_then(|learner| TcpBuffer::new(learner.clone()).ok());
        *self = wanted.unwrap_or_default();
    }

    fn listens(&self, scenario: &str) -> bool {
        scenario == UDP_CUT_DOWN
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        match signal.scenario.as_ref() {
            UDP_CUT_DOWN => udp_cut_down(self, signal, view),
            RECEIVE_LIMITED => receive_limited(self, signal, view),
            SEND_LIMITED => send_limited(self, signal, view),
            FIRST_WINDOW => first_window(signal, view),
            MEMORY_EXCEEDED => memory_exceeded(self, signal, view),
            _ => Vec::new(),
        }
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        give_back(self, view, "the host is short of memory (PSI)")
    }
}

/// The figures of a signal about one connection.
struct Path {
    buffer: f64,
    limit: u64,
    rate: f64,
    min_rtt_us: f64,
    locked: bool,
}

impl Path {
    fn of(signal: &Signal) -> Option<Path> {
        let figure = |name| signal.figure(name);
        Some(Path {
            buffer: figure("buffer")?,
            limit: figure("limit")? as u64,
            rate: figure("rate")?,
            min_rtt_us: figure("min_rtt")?,
            locked: figure("locked")? != 0.0,
        })
    }

    /// Payload in flight on the path, as far as it was measured: the bandwidth-delay product.
    fn bdp(&self) -> f64 {
        self.rate * self.min_rtt_us / 1e6
    }

    fn story(&self, subject: &str, held_by: &str) -> String {
        format!(
            "the connection on {subject} moves {:.1} Mbit/s over a round trip of {:.1} ms with its {held_by} buffer \
             used up at {} of {}, and no queue stands in the path",
            self.rate * 8e-6,
            self.min_rtt_us / 1e3,
            bytes(self.buffer),
            bytes(self.limit as f64),
        )
    }
}

fn bytes(n: f64) -> String {
    if n >= 1048576.0 {
        format!("{:.1} MiB", n / 1048576.0)
    } else {
        format!("{:.0} KiB", n / 1024.0)
    }
}

fn knob(name: &str, signal: &Signal) -> Knob {
    Knob {
        tunable: name.into(),
        netns: signal.netns,
    }
}

fn gain(knob: Knob, target: Value, reason: String) -> Vec<Proposal> {
    vec![Proposal::gain(knob, target, reason)]
}

/// Raises the last number to what the learner makes of the measured need.
fn raise(
    tuner: &TcpBuffer,
    knob: Knob,
    need: f64,
    reason: String,
    view: &dyn View,
) -> Vec<Proposal> {
    let Some(now) = view.value(&knob) else {
        return Vec::new();
    };
    let original = view
        .original(&knob)
        .map_or(now.last(), |original| original.last());
    match tuner.next(now.last(), original, Reading::Need(need.trunc())) {
        Some(target) => gain(knob, now.with_last(target), reason),
        None => Vec::new(),
    }
}

fn receive_limited(tuner: &TcpBuffer, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let Some(path) = Path::of(signal) else {
        return Vec::new();
    };
    let ratio = signal.figure("scaling_ratio").unwrap_or(0.0);
    let overhead = if ratio > 0.0 {
        (256.0 / ratio).clamp(1.0, 4.0)
    } else {
        OVERHEAD
    };
    let need = path.bdp() * HEADROOM * overhead;
    let story = path.story(&signal.subject, "receive");
    if path.locked {
        return raise_locked(tuner, RMEM_MAX, "SO_RCVBUF", &path, need, &story, view);
    }
    if signal.figure("moderate_rcvbuf") == Some(0.0) {
        let reason = format!("{story}; autotuning is off, so it cannot grow");
        return gain(knob(MODERATE, signal), Value::from(1), reason);
    }
    if stale(&path, view, &knob(RMEM, signal)) {
        return Vec::new();
    }
    let reason = format!(
        "{story}; its window scale bounds what it can use, later connections get all of it"
    );
    raise(tuner, knob(RMEM, signal), need, reason, view)
}

/// The size that buffers begin with; a 4096th of memory at most, so that a small machine's many connections can be afforded.
fn first_window(signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let knob = knob(RMEM, signal);
    let (Some(path), Some(now)) = (Path::of(signal), view.value(&knob)) else {
        return Vec::new();
    };
    let &[least, first, most] = now.numbers() else {
        return Vec::new();
    };
    let affordable = i64::try_from(view.machine().memory_total / 4096).unwrap_or(FIRST_ENOUGH);
    let target = FIRST_ENOUGH.min(affordable).min(most);
    // Raised since this event was sent, or by whoever set it.
    if first as u64 > path.limit || target <= first {
        return Vec::new();
    }
    let reason = format!(
        "the connection on {} had its first window used up, which is half of a new buffer's {}, so it waits a round trip of \
         {:.1} ms each time; short connections end before their buffer has grown",
        signal.subject,
        bytes(first as f64),
        path.min_rtt_us / 1e3
    );
    gain(knob, Value::new([least, target, most]), reason)
}

fn send_limited(tuner: &TcpBuffer, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let Some(path) = Path::of(signal) else {
        return Vec::new();
    };
    let need = path.bdp() * HEADROOM * OVERHEAD;
    let story = path.story(&signal.subject, "send");
    if path.locked {
        return raise_locked(tuner, WMEM_MAX, "SO_SNDBUF", &path, need, &story, view);
    }
    if stale(&path, view, &knob(WMEM, signal)) {
        return Vec::new();
    }
    raise(tuner, knob(WMEM, signal), need, story, view)
}

/// The limit has been raised since this event was sent.
fn stale(path: &Path, view: &dyn View, knob: &Knob) -> bool {
    view.value(knob)
        .is_none_or(|now| now.last() as u64 > path.limit)
}

/// The application fixed its buffer. Only where the kernel cut its wish down to the maximum (it keeps
/// twice what was asked for) does a larger maximum help, and only sockets made later.
fn raise_locked(
    tuner: &TcpBuffer,
    name: &str,
    option: &str,
    path: &Path,
    need: f64,
    story: &str,
    view: &dyn View,
) -> Vec<Proposal> {
    let knob = Knob {
        tunable: name.into(),
        netns: view.host_netns(),
    };
    let Some(now) = view.value(&knob) else {
        return Vec::new();
    };
    if path.buffer < 2.0 * now.last() as f64 {
        return Vec::new();
    }
    let reason = format!(
        "{story}; the application fixed it with {option}, which {name} cut down: applications that ask again get more"
    );
    raise(tuner, knob, need / OVERHEAD, reason, view)
}

/// The kernel keeps twice what it gives, so a socket that was cut down has twice the maximum.
fn udp_cut_down(tuner: &TcpBuffer, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let figure = |name| signal.figure(name);
    let (Some(buffer), Some(queued), Some(lost)) =
        (figure("buffer"), figure("queued"), figure("lost"))
    else {
        return Vec::new();
    };
    let knob = Knob {
        tunable: RMEM_MAX.into(),
        netns: view.host_netns(),
    };
    // A socket from before the last change.
    if view
        .value(&knob)
        .is_none_or(|now| buffer < 2.0 * now.last() as f64)
    {
        return Vec::new();
    }
    let queued = queued.max(1.0);
    let reason = format!(
        "{lost:.0} datagrams to {} were lost with {queued:.0} waiting; the application fixed the size with SO_RCVBUF, \
         which {RMEM_MAX} cut down: applications that ask again get more",
        signal.subject
    );
    let need = buffer / 2.0 * (queued + lost) / queued;
    raise(tuner, knob, need, reason, view)
}

fn memory_exceeded(tuner: &TcpBuffer, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
    let machine = view.machine();
    let knob = Knob {
        tunable: TCP_MEM.into(),
        netns: view.host_netns(),
    };
    let used = machine.tcp_memory as f64 / 1048576.0;
    if machine.memory_available < machine.memory_total / 4 {
        return give_back(
            tuner,
            view,
            &format!("TCP holds {used:.0} MiB, its limit, and the host has little memory free"),
        );
    }
    let Some(now) = view.value(&knob) else {
        return Vec::new();
    };
    let bounds = tcp_mem_bound(machine);
    let target: Vec<i64> = now
        .numbers()
        .iter()
        .zip(&bounds)
        .map(|(&n, &(_, high))| (n + n / 2).min(high).max(n))
        .collect();
    let reason = format!(
        "TCP holds {used:.0} MiB and runs into its limit (the connection on {} was refused more), while {:.0} % of \
         the host's memory is free",
        signal.subject,
        machine.memory_available as f64 * 100.0 / machine.memory_total.max(1) as f64
    );
    gain(knob, Value::new(target), reason)
}

/// Back towards the original as the learner says, for every limit that was raised.
fn give_back(tuner: &TcpBuffer, view: &dyn View, why: &str) -> Vec<Proposal> {
    view.changed()
        .into_iter()
        .filter(|(knob, _)| [RMEM, WMEM, RMEM_MAX, WMEM_MAX].contains(&knob.tunable.as_str()))
        .filter_map(|(knob, original)| {
            let now = view.value(&knob)?;
            let target = tuner.next(now.last(), original.last(), Reading::Less)?;
            let target = now.with_last(target);
            (target != now).then(|| Proposal::against_harm(knob, target, why))
        })
        .collect()
}

#[cfg(test)]
mod tests;
