//! More devices on one processor than a round over its queues has room for.

use std::{
    fs,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::unistd::write;

use super::{Kind, Scenario, Stage, Values, host::HostValues, net_backlog::frame, rest_of_second};
use crate::{
    Error, Result,
    link::{Feature, open_ethernet, set_feature},
    netns::Netns,
    processor::stay_on,
    programs::{self, ip},
};

/// A bridge floods frames to eight virtual devices, each of which has a queue of its own (NAPI). All nine are handled by
/// processor 1, in rounds for 300 packets, the kernel's own budget; processor 0 writes more than it can hand out. It looks
/// as if rounds were too short. But what a round leaves comes in the next one, which begins at once: a larger budget gains little
/// or nothing.
pub(super) struct CutShort;

impl CutShort {
    const DEVICES: usize = 8;
    const SENDS: Duration = Duration::from_millis(900);
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 1);
    const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
    /// Nobody has it, so the bridge knows no port for it.
    const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
}

impl Scenario for CutShort {
    fn tuner(&self) -> &'static str {
        "net-backlog"
    }

    fn kind(&self) -> Kind {
        Kind::Trap
    }

    fn name(&self) -> &'static str {
        "rounds cut short"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("frames handed out", "/s")
    }

    fn by_hand(&self) -> Values {
        &[
            ("net.core.netdev_budget", "1200"),
            ("net.core.netdev_budget_usecs", "16000"),
        ]
    }

    /// What a trial finds better may stay, here as well; the queue's length and two limits are taken back otherwise.
    fn leaves_alone(&self) -> bool {
        false
    }

    fn reversals(&self) -> f64 {
        3.0
    }

    /// Two trials of five seconds each, one after the other.
    fn turns_on(&self) -> usize {
        25
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        for (name, value) in [
            ("net.core.netdev_max_backlog", "1000"),
            ("net.core.netdev_budget", "300"),
            ("net.core.netdev_budget_usecs", "8000"),
        ] {
            host.set(name, value)?;
        }
        let (near, far) = (Netns::new()?, Netns::new()?);
        near.set_sysctl("net.core.rps_default_mask", "2")?;
        let frames = near.run(|| open_ethernet(CutShort::ADDRESS, CutShort::MASK))?;
        fan_out(&near, &far)?;
        let mut frame = frame(2, 9);
        frame[..6].copy_from_slice(&CutShort::NOBODY);
        Ok(Box::new(CutShortStage {
            near,
            far,
            frames,
            frame,
            _host: host,
        }))
    }

    fn missing(&self) -> Option<&'static str> {
        programs::no_ip().or_else(|| super::net_backlog::Burst.missing())
    }

    fn host_wide(&self) -> bool {
        true
    }
}

/// Bridges the near namespace's device of frames to that many pairs of virtual ones, their other ends in the far one. Those take
/// packets in by a queue of their own where they put segments together and the near ends do not.
fn fan_out(near: &Netns, far: &Netns) -> Result<()> {
    let mut script =
        "link add bridge0 type bridge\nlink set bridge0 up\nlink set lab0 master bridge0\n"
            .to_owned();
    let there = far.path();
    let names = |end| (0..CutShort::DEVICES).map(move |at| format!("{end}{at}"));
    for (near, far) in names("near").zip(names("far")) {
        script += &format!(
            "link add {near} type veth peer name {far} netns {}\nlink set {near} up master bridge0\n",
            there.display()
        );
    }
    ip(near, &script)?;
    let up = names("far").map(|far| format!("link set {far} up\n"));
    ip(far, &up.collect::<String>())?;
    near.run(|| names("near").try_for_each(|name| set_feature(&name, Feature::Tso, false)))?;
    far.run(|| names("far").try_for_each(|name| set_feature(&name, Feature::Gro, true)))
}

struct CutShortStage {
    near: Netns,
    far: Netns,
    frames: OwnedFd,
    frame: Vec<u8>,
    _host: HostValues,
}

impl CutShortStage {
    fn send(&self) -> Result<()> {
        stay_on(0)?;
        let start = Instant::now();
        while start.elapsed() < CutShort::SENDS {
            for _ in 0..64 {
                write(&self.frames, &self.frame).map_err(Error::doing("cannot write a frame"))?;
            }
        }
        Ok(())
    }

    /// Frames that the far devices took in.
    fn received(&self) -> Result<u64> {
        let text = self
            .far
            .run(|| fs::read_to_string("/proc/thread-self/net/dev"))
            .map_err(Error::doing("cannot read /proc/net/dev"))?;
        let of_line = |line: &str| {
            let (name, numbers) = line.split_once(':')?;
            name.trim_start().strip_prefix("far")?;
            numbers.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        };
        Ok(text.lines().filter_map(of_line).sum())
    }
}

impl Stage for CutShortStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.near]
    }

    fn turn(&mut self) -> Result<f64> {
        let (start, before) = (Instant::now(), self.received()?);
        self.near.run(|| self.send())?;
        rest_of_second(start);
        Ok((self.received()? - before) as f64 / CutShort::SENDS.as_secs_f64())
    }
}
