//! Where signals come from: a counter of the kernel, read every two seconds, in this process's own network namespace.
//!
//! The engine waits for any file descriptor: a timer here, a BPF ring buffer in bpftune's own tuners (see its
//! tcp-buffer). Prefer what is silent while nothing happens; a timer wakes the daemon each time.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use bpftune_core::{
    Error, Figure, NetnsCookie, Result, Signal, Source,
    bpf::HookStatus,
    netns::{self, Namespaces},
    trial::{Counter, Meter, ProcMeter},
};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};

use super::SCENARIO;

/// A column of /proc/net/netstat or /proc/net/snmp, as nstat shows it.
const COUNTER: &str = "TcpExt.TCPTimeWaitOverflow";
const EVERY: Duration = Duration::from_secs(2);

/// The counter, and when it was read last.
pub struct Overflows {
    timer: TimerFd,
    counter: Counter,
    netns: NetnsCookie,
    last: Option<(Instant, f64)>,
}

impl Overflows {
    /// Begins to look.
    ///
    /// # Errors
    /// Where the kernel gives no timer.
    pub fn new() -> Result<Overflows> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let failed = |errno: nix::Error| Error::System {
            what: "a timer (timerfd)".into(),
            source: errno.into(),
        };
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map_err(failed)?;
        let every = Expiration::Interval(TimeSpec::from_duration(EVERY));
        timer
            .set(every, TimerSetTimeFlags::empty())
            .map_err(failed)?;
        Ok(Overflows {
            timer,
            counter: COUNTER.parse().expect("the name of a counter"),
            netns: netns::current_cookie()?,
            last: None,
        })
    }

    /// The growth a second since the last look; `None` in the first.
    pub(crate) fn rate(&mut self) -> Option<f64> {
        let value = ProcMeter::default().read(&self.counter)?;
        let now = Instant::now();
        let (then, before) = self.last.replace((now, value))?;
        Some((value - before) / (now - then).as_secs_f64())
    }
}

impl Source for Overflows {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn drain(&mut self, _: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        // Not due: it was drained already.
        if self.timer.wait().is_err() {
            return Ok(());
        }
        if let Some(rate) = self.rate().filter(|rate| *rate > 0.0) {
            out.push(signal(self.netns, rate));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &[]
    }
}

pub(crate) fn signal(netns: NetnsCookie, rate: f64) -> Signal {
    Signal {
        scenario: SCENARIO.into(),
        netns,
        subject: COUNTER.into(),
        count: 1,
        figures: vec![Figure::new("rate", rate, "/s")],
    }
}
