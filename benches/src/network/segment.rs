//! An Ethernet segment on which every address answers.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{read, write},
};

use crate::{Result, link::open_ethernet, netns::Netns};

/// The network's first two octets.
const NETWORK: [u8; 2] = [10, 64];

/// A namespace at a network of 65536 addresses, whose hosts answer ARP and swallow all else.
pub(super) struct Segment {
    /// The only end of it that exists.
    pub(super) netns: Netns,
    seen: Arc<Mutex<Vec<bool>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Segment {
    /// Makes the namespace and a thread that answers.
    pub(super) fn new() -> Result<Segment> {
        let netns = Netns::new()?;
        let [a, b] = NETWORK;
        let own = Ipv4Addr::new(a, b, 255, 254);
        let frames = netns.run(|| open_ethernet(own, Ipv4Addr::new(255, 255, 0, 0)))?;
        let seen = Arc::new(Mutex::new(vec![false; 1 << 16]));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || answer(&frames, &seen, &stop)
        });
        Ok(Segment {
            netns,
            seen,
            stop,
            thread: Some(thread),
        })
    }

    /// The address of a host, by number.
    pub(super) fn host(number: u16) -> Ipv4Addr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(NETWORK[0], NETWORK[1], high, low)
    }

    /// How many hosts got an IPv4 packet since [`Segment::forget`].
    pub(super) fn reached(&self) -> usize {
        let seen = self.seen.lock().expect("no panic under the lock");
        seen.iter().filter(|seen| **seen).count()
    }

    /// Nobody got anything.
    pub(super) fn forget(&self) {
        self.seen
            .lock()
            .expect("no panic under the lock")
            .fill(false);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(frames: &OwnedFd, seen: &Mutex<Vec<bool>>, stop: &AtomicBool) {
    let mut frame = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let mut wait = [PollFd::new(frames.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut wait, PollTimeout::from(50u8));
        while let Ok(length) = read(frames, &mut frame) {
            let frame = &frame[..length];
            if let Some(reply) = arp_reply(frame) {
                let _ = write(frames, &reply);
            } else if let Some(number) = destination(frame) {
                seen.lock().expect("no panic under the lock")[usize::from(number)] = true;
            }
        }
    }
}

/// The answer to an ARP request (RFC 826): each host's address is that of its number.
fn arp_reply(frame: &[u8]) -> Option<[u8; 42]> {
    let request: &[u8; 42] = frame.get(..42)?.try_into().ok()?;
    if request[12..14] != [8, 6] || request[20..22] != [0, 1] || request[38..40] != NETWORK {
        return None;
    }
    let host = [2, 0, 0, 0, request[40], request[41]];
    let mut reply = *request;
    reply[..6].copy_from_slice(&request[6..12]);
    reply[6..12].copy_from_slice(&host);
    reply[21] = 2;
    reply[22..28].copy_from_slice(&host);
    reply[28..32].copy_from_slice(&request[38..42]);
    reply[32..42].copy_from_slice(&request[22..32]);
    Some(reply)
}

/// Whom an IPv4 packet is for.
fn destination(frame: &[u8]) -> Option<u16> {
    let (kind, address) = (frame.get(12..14)?, frame.get(30..34)?);
    (kind == [8, 0] && address[..2] == NETWORK)
        .then(|| u16::from_be_bytes([address[2], address[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_to_who_asked() {
        let mut request = [0u8; 42];
        request[..6].fill(0xff);
        request[6..12].copy_from_slice(&[2, 1, 1, 1, 1, 1]);
        request[12..14].copy_from_slice(&[8, 6]);
        request[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        request[22..28].copy_from_slice(&[2, 1, 1, 1, 1, 1]);
        request[28..32].copy_from_slice(&[10, 64, 255, 254]);
        request[38..42].copy_from_slice(&[10, 64, 1, 2]);
        let reply = arp_reply(&request).unwrap();
        assert_eq!(reply[..6], [2, 1, 1, 1, 1, 1]);
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!(reply[22..32], [2, 0, 0, 0, 1, 2, 10, 64, 1, 2]);
        assert_eq!(reply[32..42], [2, 1, 1, 1, 1, 1, 10, 64, 255, 254]);
        assert!(arp_reply(&reply).is_none() && arp_reply(&request[..41]).is_none());
    }
}
