//! Runs that compare the tuner off, on, and buffers sized by hand, on one link.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Result,
    daemon::Daemon,
    link::{Link, Shape},
    netns::Netns,
    traffic::Transfer,
};

/// The limits that hold a connection back: 128 KiB and 16 KiB.
pub const SMALL: (&str, &str) = ("4096 131072 131072", "4096 16384 16384");
/// Sized by hand, for any path here: 64 MiB.
pub const LARGE: (&str, &str) = ("4096 131072 67108864", "4096 16384 67108864");

/// Sets both limits in both namespaces.
///
/// # Errors
/// Where the kernel refuses.
pub fn set_buffers(link: &Link, (rmem, wmem): (&str, &str)) -> Result<()> {
    for netns in [&link.a, &link.b] {
        netns.set_sysctl("net.ipv4.tcp_rmem", rmem)?;
        netns.set_sysctl("net.ipv4.tcp_wmem", wmem)?;
    }
    Ok(())
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a to b.
    AToB,
    /// From b to a.
    BToA,
}

impl Direction {
    fn ends(self, link: &Link) -> (&Netns, &Netns, std::net::IpAddr) {
        match self {
            Direction::AToB => (&link.a, &link.b, link.addr_b().into()),
            Direction::BToA => (&link.b, &link.a, link.addr_a().into()),
        }
    }

    /// Starts a transfer that way.
    ///
    /// # Errors
    /// Where it cannot connect.
    pub fn transfer(self, link: &Link) -> Result<Transfer> {
        let (from, to, address) = self.ends(link);
        Transfer::start(from, to, address)
    }
}

/// Figures of [`compare`].
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Mbit/s with limits too small and no tuner.
    pub off: f64,
    /// Mbit/s with limits sized by hand.
    pub hand_sized: f64,
    /// Mbit/s with limits too small at first and the tuner, from 2 s on.
    pub on: f64,
    /// `on / hand_sized`.
    pub share_of_hand_sized: f64,
    /// From the daemon's start beside a running transfer until a tenth of a second at 90 % of
    /// `hand_sized`; null where it never got there.
    pub seconds_to_90_percent: Option<f64>,
    /// Changes that the tuner made.
    pub changes: u64,
    /// Of these, against the change before of the same knob.
    pub reversals: u64,
    /// Whether every value was back after the daemon's end.
    pub restored: bool,
}

/// What [`compare`] tells while it runs.
pub enum Progress<'a> {
    /// A new part begins.
    Part(&'a str),
    /// Mbit/s over the last tenth of a second.
    Rate(f64),
    /// The daemon's log lines of changes.
    Note(&'a str),
}

const TICK: Duration = Duration::from_millis(100);

/// Ticks of 100 ms; the mean of those after `settle`.
fn watch(transfer: &Transfer, ticks: u32, settle: u32, tell: &mut dyn FnMut(Progress<'_>)) -> f64 {
    let mut sum = 0.0;
    for tick in 0..ticks {
        let rate = transfer.measure(TICK);
        tell(Progress::Rate(rate));
        if tick >= settle {
            sum += rate;
        }
    }
    sum / f64::from(ticks - settle)
}

/// One link of that shape: a transfer sized by hand, then one with small limits during which the
/// tuner starts.
///
/// # Errors
/// Where anything cannot be set up.
pub fn compare(
    bpftune: &Path,
    shape: Shape,
    direction: Direction,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Comparison> {
    let link = Link::new(shape)?;
    set_buffers(&link, LARGE)?;
    tell(Progress::Part("buffers sized by hand (64 MiB)"));
    let transfer = direction.transfer(&link)?;
    let hand_sized = watch(&transfer, 60, 20, tell);
    transfer.stop()?;

    set_buffers(&link, SMALL)?;
    tell(Progress::Part(
        "buffers too small (128 KiB, 16 KiB), tuner off",
    ));
    let transfer = direction.transfer(&link)?;
    let off = watch(&transfer, 30, 10, tell);

    tell(Progress::Part("the same connection, tuner on"));
    let started = Instant::now();
    let mut daemon = Daemon::start(bpftune, &[&link.a, &link.b], &[])?;
    let mut reached = None;
    let mut told = 0;
    let on = watch(&transfer, 80, 20, &mut |progress| {
        if let Progress::Rate(rate) = progress {
            if reached.is_none() && rate >= 0.9 * hand_sized {
                reached = Some(started.elapsed().as_secs_f64());
            }
            let log = daemon.log();
            for line in log
                .iter()
                .skip(told)
                .filter(|line| line.contains(" raised from "))
            {
                tell(Progress::Note(line));
            }
            told = log.len();
        }
        tell(progress);
    });
    transfer.stop()?;
    let (changes, reversals) = daemon.changes()?;
    daemon.stop(nix::sys::signal::Signal::SIGINT)?;
    let back = |netns: &Netns| -> Result<bool> {
        Ok((
            netns.sysctl("net.ipv4.tcp_rmem")?.as_str(),
            netns.sysctl("net.ipv4.tcp_wmem")?.as_str(),
        ) == SMALL)
    };
    Ok(Comparison {
        off,
        hand_sized,
        on,
        share_of_hand_sized: on / hand_sized,
        seconds_to_90_percent: reached,
        changes,
        reversals,
        restored: back(&link.a)? && back(&link.b)?,
    })
}

/// Figures of [`daemon_first`].
#[derive(Clone, Debug, Serialize)]
pub struct DaemonFirst {
    /// Mbit/s with limits sized by hand.
    pub hand_sized: f64,
    /// Mbit/s of the connection that began under limits too small, from 2 s on.
    pub on: f64,
    /// `on / hand_sized`.
    pub share_of_hand_sized: f64,
    /// From the transfer's start until a tenth of a second at 90 % of `hand_sized`; null where it never
    /// got there.
    pub seconds_to_90_percent: Option<f64>,
    /// Changes that the tuner made.
    pub changes: u64,
    /// Of these, against the change before of the same knob.
    pub reversals: u64,
}

/// The everyday order: the daemon runs already when a connection begins under limits too small.
///
/// # Errors
/// Where anything cannot be set up.
pub fn daemon_first(bpftune: &Path, shape: Shape, direction: Direction) -> Result<DaemonFirst> {
    let link = Link::new(shape)?;
    set_buffers(&link, LARGE)?;
    let transfer = direction.transfer(&link)?;
    let hand_sized = watch(&transfer, 40, 20, &mut |_| {});
    transfer.stop()?;
    set_buffers(&link, SMALL)?;
    let daemon = Daemon::start(bpftune, &[&link.a, &link.b], &[])?;
    let started = Instant::now();
    let transfer = direction.transfer(&link)?;
    let mut reached = None;
    let on = watch(&transfer, 40, 20, &mut |progress| {
        if let Progress::Rate(rate) = progress
            && reached.is_none()
            && rate >= 0.9 * hand_sized
        {
            reached = Some(started.elapsed().as_secs_f64());
        }
    });
    transfer.stop()?;
    let (changes, reversals) = daemon.changes()?;
    Ok(DaemonFirst {
        hand_sized,
        on,
        share_of_hand_sized: on / hand_sized,
        seconds_to_90_percent: reached,
        changes,
        reversals,
    })
}

/// Figures of [`next_connection`], Mbit/s.
#[derive(Clone, Debug, Serialize)]
pub struct NextConnection {
    /// Sized by hand.
    pub hand_sized: f64,
    /// The connection during which the tuner raised the limits.
    pub first: f64,
    /// The connection after it.
    pub next: f64,
    /// `next / hand_sized`.
    pub share_of_hand_sized: f64,
    /// Changes that the tuner made.
    pub changes: u64,
    /// Of these, against the change before.
    pub reversals: u64,
}

/// A link without a bound: what the connection after the first one gets.
///
/// # Errors
/// Where anything cannot be set up.
pub fn next_connection(
    bpftune: &Path,
    shape: Shape,
    direction: Direction,
) -> Result<NextConnection> {
    let link = Link::new(shape)?;
    let run = |ticks| -> Result<f64> {
        let transfer = direction.transfer(&link)?;
        let rate = watch(&transfer, ticks, 20, &mut |_| {});
        transfer.stop()?;
        Ok(rate)
    };
    set_buffers(&link, LARGE)?;
    let hand_before = run(60)?;
    set_buffers(&link, SMALL)?;
    let daemon = Daemon::start(bpftune, &[&link.a, &link.b], &[])?;
    let first = run(60)?;
    let next = run(60)?;
    let (changes, reversals) = daemon.changes()?;
    drop(daemon);
    // Around the tuned runs, so that a drift of the machine's speed cancels out.
    set_buffers(&link, LARGE)?;
    let hand_sized = (hand_before + run(60)?) / 2.0;
    Ok(NextConnection {
        hand_sized,
        first,
        next,
        share_of_hand_sized: next / hand_sized,
        changes,
        reversals,
    })
}
