//! Handshakes from addresses where nobody is.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::{Error, Result, netns::Netns};

/// SYNs at a steady rate, until dropped.
pub(super) struct SynFlood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Sent in one go.
const BATCH: u64 = 16;

impl SynFlood {
    /// From a namespace to an address and port. The sources are forged: the other addresses of its own network, where
    /// nobody is.
    pub(super) fn start(from: &Netns, to: SocketAddrV4, per_second: u64) -> Result<SynFlood> {
        let raw = from
            .run(|| {
                socket(
                    AddressFamily::Inet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::Raw,
                )
            })
            .map_err(Error::doing("cannot make a raw socket"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = from.spawn(move || {
            let target = SockaddrIn::from(to);
            let mut random = fastrand::Rng::with_seed(7);
            let start = Instant::now();
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                let due = (start.elapsed().as_secs_f64() * per_second as f64) as u64;
                if count + BATCH > due {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                for _ in 0..BATCH {
                    let [a, b, c, _] = to.ip().octets();
                    let source = Ipv4Addr::new(a, b, c, random.u8(16..=254));
                    let packet = syn(
                        SocketAddrV4::new(source, random.u16(1024..)),
                        to,
                        random.u32(..),
                    );
                    let _ = sendto(raw.as_raw_fd(), &packet, &target, MsgFlags::empty());
                }
                count += BATCH;
            }
        });
        Ok(SynFlood {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for SynFlood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An IPv4 packet with a SYN and an MSS option (RFC 791, RFC 9293).
fn syn(from: SocketAddrV4, to: SocketAddrV4, sequence: u32) -> [u8; 44] {
    let mut packet = [0; 44];
    let (ip, tcp) = packet.split_at_mut(20);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&44u16.to_be_bytes());
    ip[8] = 64;
    ip[9] = 6;
    ip[12..16].copy_from_slice(&from.ip().octets());
    ip[16..20].copy_from_slice(&to.ip().octets());
    let sum = checksum(&[ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    tcp[0..2].copy_from_slice(&from.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&to.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[12] = 6 << 4;
    tcp[13] = 2;
    tcp[14..16].copy_from_slice(&64240u16.to_be_bytes());
    tcp[20..24].copy_from_slice(&[2, 4, 5, 180]);
    let pseudo = [0, 6, 0, 24];
    let sum = checksum(&[&from.ip().octets(), &to.ip().octets(), &pseudo, tcp]);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Ones' complement of the ones' complement sum of 16-bit words (RFC 1071); each part has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = parts
        .iter()
        .flat_map(|part| part.chunks(2))
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_add_up() {
        let address = |last, port| SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, last), port);
        let packet = syn(address(99, 40000), address(2, 80), 12345);
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let pseudo = [0, 6, 0, 24];
        assert_eq!(checksum(&[&packet[12..20], &pseudo, &packet[20..]]), 0);
    }
}
