//! Packets that one processor takes in for another: a burst, and one flow beside others.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket,
        sockopt::{RcvBufForce, ReuseAddr},
    },
    unistd::write,
};

use super::{Scenario, Stage, Values, host::HostValues, rest_of_second};
use crate::{Error, Result, link::open_ethernet, netns::Netns, processor::stay_on};

/// 4,000 broadcasts in a row each second, written by processor 0 into a device whose packets processor 1 is to handle
/// (RPS). It hands each out to 16 receivers, and has a queue of 1,000, the kernel's own.
pub(super) struct Burst;

impl Burst {
    const PACKETS: u16 = 4000;
    const RECEIVERS: usize = 16;
    const PORT: u16 = 9;
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
    const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
}

impl Scenario for Burst {
    fn tuner(&self) -> &'static str {
        "net-backlog"
    }

    fn name(&self) -> &'static str {
        "bursts of 4,000 broadcasts"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("broadcasts received", "%")
    }

    fn by_hand(&self) -> Values {
        &[("net.core.netdev_max_backlog", "10000")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.core.netdev_max_backlog", "1000")?;
        let netns = Netns::new()?;
        netns.set_sysctl("net.core.rps_default_mask", "2")?;
        let frames = netns.run(|| open_ethernet(Burst::ADDRESS, Burst::MASK))?;
        let receivers = (0..Burst::RECEIVERS)
            .map(|_| netns.run(|| receiver(Burst::PORT, 64 << 20)))
            .collect::<nix::Result<Vec<_>>>()
            .map_err(Error::doing("cannot make a receiver"))?;
        let frame = frame(2, Burst::PORT);
        Ok(Box::new(BurstStage {
            netns,
            receivers,
            frames,
            frame,
            _host: host,
        }))
    }

    fn missing(&self) -> Option<&'static str> {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return Some("it takes two processors");
        }
        let mask = std::path::Path::new("/proc/sys/net/core/rps_default_mask");
        (!mask.exists()).then_some("no net.core.rps_default_mask (Linux 6.3)")
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct BurstStage {
    netns: Netns,
    receivers: Vec<UdpSocket>,
    frames: OwnedFd,
    frame: Vec<u8>,
    _host: HostValues,
}

impl Stage for BurstStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.netns]
    }

    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.netns.run(|| self.send())?;
        rest_of_second(start);
        let mut datagram = [0; 2048];
        let mut received = 0usize;
        for receiver in &self.receivers {
            while receiver.recv(&mut datagram).is_ok() {
                received += 1;
            }
        }
        let sent = Burst::RECEIVERS * usize::from(Burst::PACKETS);
        Ok(received as f64 * 100.0 / sent as f64)
    }
}

/// As many broadcasts of one neighbour as processor 0 can write, more than processor 1 can hand out; one packet in 21 is
/// of one of fifty others.
pub(super) struct OneFlow;

impl OneFlow {
    const OTHERS: u8 = 50;
    const OTHERS_PORT: u16 = 10;
    const ROW: usize = 20;
    const SENDS: Duration = Duration::from_millis(900);
}

impl Scenario for OneFlow {
    fn tuner(&self) -> &'static str {
        "net-backlog"
    }

    fn name(&self) -> &'static str {
        "one flow beside fifty"
    }

    fn metric(&self) -> (&'static str, &'static str) {
        ("packets of the fifty received", "%")
    }

    /// A burst is likelier, so the queue is made longer at first, and then as it was.
    fn reversals(&self) -> f64 {
        1.0
    }

    fn by_hand(&self) -> Values {
        &[("net.core.flow_limit_cpu_bitmap", "3")]
    }

    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("net.core.netdev_max_backlog", "1000")?;
        host.set("net.core.flow_limit_cpu_bitmap", "0")?;
        let netns = Netns::new()?;
        netns.set_sysctl("net.core.rps_default_mask", "2")?;
        let frames = netns.run(|| open_ethernet(Burst::ADDRESS, Burst::MASK))?;
        let failed = || Error::doing("cannot make a receiver");
        // What those do not take is lost behind the queue, at the same cost.
        let crowd = (0..Burst::RECEIVERS)
            .map(|_| netns.run(|| receiver(Burst::PORT, 1 << 16)))
            .collect::<nix::Result<Vec<_>>>()
            .map_err(failed())?;
        let receiver = netns
            .run(|| receiver(OneFlow::OTHERS_PORT, 64 << 20))
            .map_err(failed())?;
        let others = (0..OneFlow::OTHERS).map(|at| frame(3 + at, OneFlow::OTHERS_PORT));
        Ok(Box::new(OneFlowStage {
            others: others.collect(),
            netns,
            frames,
            receiver,
            _crowd: crowd,
            _host: host,
        }))
    }

    fn missing(&self) -> Option<&'static str> {
        let limits = std::path::Path::new("/proc/sys/net/core/flow_limit_cpu_bitmap");
        if !limits.exists() {
            return Some("no flow limits (CONFIG_NET_FLOW_LIMIT)");
        }
        Burst.missing()
    }

    fn host_wide(&self) -> bool {
        true
    }
}

struct OneFlowStage {
    netns: Netns,
    frames: OwnedFd,
    receiver: UdpSocket,
    others: Vec<Vec<u8>>,
    _crowd: Vec<UdpSocket>,
    _host: HostValues,
}

impl OneFlowStage {
    /// How many packets of the others were sent.
    fn send(&self) -> Result<usize> {
        stay_on(0)?;
        let one = frame(2, Burst::PORT);
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < OneFlow::SENDS {
            let other = &self.others[sent % self.others.len()];
            for frame in std::iter::repeat_n(&one, OneFlow::ROW).chain([other]) {
                write(&self.frames, frame).map_err(Error::doing("cannot write a frame"))?;
            }
            sent += 1;
        }
        Ok(sent)
    }
}

impl Stage for OneFlowStage {
    fn places(&self) -> Vec<&Netns> {
        vec![&self.netns]
    }

    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let sent = self.netns.run(|| self.send())?;
        rest_of_second(start);
        let mut datagram = [0; 2048];
        let mut received = 0;
        while self.receiver.recv(&mut datagram).is_ok() {
            received += 1;
        }
        Ok(received as f64 * 100.0 / sent as f64)
    }
}

/// One of many on the same port, with room for so many bytes.
fn receiver(port: u16, room: usize) -> nix::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let receiver = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&receiver, ReuseAddr, &true)?;
    setsockopt(&receiver, RcvBufForce, &room)?;
    let any = SockaddrIn::new(0, 0, 0, 0, port);
    bind(receiver.as_raw_fd(), &any)?;
    Ok(receiver.into())
}

impl BurstStage {
    fn send(&self) -> Result<()> {
        stay_on(0)?;
        for _ in 0..Burst::PACKETS {
            write(&self.frames, &self.frame).map_err(Error::doing("cannot write a frame"))?;
        }
        Ok(())
    }
}

/// A UDP packet from a neighbour, by its last octet, to all.
pub(super) fn frame(from: u8, port: u16) -> Vec<u8> {
    let mut frame = vec![0; 14 + 28 + 100];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let packet = &mut frame[14..];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&128u16.to_be_bytes());
    (packet[8], packet[9]) = (64, libc::IPPROTO_UDP as u8);
    packet[12..16].copy_from_slice(&[10, 64, 0, from]);
    packet[16..20].copy_from_slice(&[10, 64, 0, 255]);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet[20..22].copy_from_slice(&4000u16.to_be_bytes());
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[24..26].copy_from_slice(&108u16.to_be_bytes());
    frame
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let sum: u32 = header
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_a_header() {
        // The example of many a textbook.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }
}
