//! Events from a BPF ring buffer.

use std::{
    cell::RefCell,
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
};

use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};

use crate::{Error, NetnsCookie, Result};

/// The head of every event: `struct bpftune_event` in `bpf/bpftune/event.h`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// The tuner's own number for what happened.
    pub scenario: u32,
    /// Events that this one stands for.
    pub count: u32,
    /// Where it happened.
    pub netns_cookie: u64,
}

impl EventHeader {
    /// Its size in bytes.
    pub const SIZE: usize = size_of::<EventHeader>();

    /// Splits an event into its head and the tuner's own bytes; `None` where it is too short.
    #[must_use]
    pub fn split(event: &[u8]) -> Option<(EventHeader, &[u8])> {
        let (head, body) = event.split_at_checked(Self::SIZE)?;
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let cookie = u64::from_ne_bytes(head[8..16].try_into().expect("eight bytes"));
        Some((
            EventHeader {
                scenario: word(0),
                count: word(4),
                netns_cookie: cookie,
            },
            body,
        ))
    }

    /// The namespace.
    #[must_use]
    pub fn netns(&self) -> NetnsCookie {
        NetnsCookie(self.netns_cookie)
    }
}

/// A ring buffer map, drained without blocking.
pub struct Events {
    ring: RingBuffer<'static>,
    waiting: Rc<RefCell<Vec<Vec<u8>>>>,
    map: MapHandle,
}

impl Events {
    /// Opens the consumer side of a `BPF_MAP_TYPE_RINGBUF`.
    ///
    /// # Errors
    /// Where the map is of another type or cannot be mapped.
    pub fn new(map: MapHandle) -> Result<Events> {
        let waiting = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&waiting);
        let failed = |source| Error::Bpf {
            object: "ring buffer".into(),
            source,
        };
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&map, move |event: &[u8]| {
                sink.borrow_mut().push(event.to_vec());
                0
            })
            .map_err(failed)?;
        let ring = builder.build().map_err(failed)?;
        Ok(Events { ring, waiting, map })
    }

    /// Readable where events wait.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // The map's own descriptor polls readable, without the epoll instance in between.
        self.map.as_fd()
    }

    /// All waiting events, oldest first.
    ///
    /// # Errors
    /// What libbpf says.
    pub fn drain(&mut self) -> Result<Vec<Vec<u8>>> {
        self.ring.consume().map_err(|source| Error::Bpf {
            object: "ring buffer".into(),
            source,
        })?;
        Ok(std::mem::take(&mut *self.waiting.borrow_mut()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_the_c_header() {
        let header = include_str!("../../bpf/bpftune/event.h");
        let body = header.split_once("struct bpftune_event {").unwrap().1;
        let fields: Vec<_> = body
            .lines()
            .filter_map(|line| line.trim().strip_suffix(';')?.split_once(' '))
            .collect();
        assert_eq!(
            fields,
            [
                ("__u32", "scenario"),
                ("__u32", "count"),
                ("__u64", "netns_cookie")
            ]
        );
        assert_eq!(EventHeader::SIZE, 16);
    }

    #[test]
    fn short_events_are_refused() {
        assert_eq!(EventHeader::split(&[0; 15]), None);
        let (head, body) = EventHeader::split(&[1; 18]).unwrap();
        assert_eq!((head.netns().0, body.len()), (0x0101_0101_0101_0101, 2));
    }
}
