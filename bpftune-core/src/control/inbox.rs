//! Bytes on their way to being messages, bounded.

use std::io::{self, ErrorKind, Read};

/// Longest message from a client.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// There may be more later.
    Open,
    /// The other end sends no more.
    End,
    /// A message is longer than [`MAX_MESSAGE`].
    TooLong,
}

/// A client's unread bytes. Never more than a message and a read beyond it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Before this all has been taken.
    start: usize,
    /// Up to here there is no end of a message.
    scanned: usize,
}

impl Inbox {
    /// Reads until it has a message, the source would block, or the message is too long.
    pub(super) fn fill(
        &mut self,
        source: &mut (impl Read + ?Sized),
        end: u8,
    ) -> io::Result<Filled> {
        self.bytes.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        let mut buffer = [0; 4096];
        while !self.has_message(end) {
            if self.bytes.len() > MAX_MESSAGE {
                return Ok(Filled::TooLong);
            }
            match source.read(&mut buffer) {
                Ok(0) => return Ok(Filled::End),
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::Open),
                Err(error) => return Err(error),
            }
        }
        Ok(Filled::Open)
    }

    /// Whether a whole message waits.
    pub(super) fn has_message(&mut self, end: u8) -> bool {
        match self.bytes[self.scanned..]
            .iter()
            .position(|&byte| byte == end)
        {
            Some(at) => {
                self.scanned += at;
                true
            }
            None => {
                self.scanned = self.bytes.len();
                false
            }
        }
    }

    /// Takes the next whole message, without the byte that ends it.
    pub(super) fn take(&mut self, end: u8) -> Option<Vec<u8>> {
        if !self.has_message(end) {
            return None;
        }
        let message = self.bytes[self.start..self.scanned].to_vec();
        self.scanned += 1;
        self.start = self.scanned;
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives what it has in pieces, then would block.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(first) = self.0.first_mut() else {
                return Err(ErrorKind::WouldBlock.into());
            };
            let count = first.len().min(buffer.len());
            buffer[..count].copy_from_slice(&first[..count]);
            first.drain(..count);
            if first.is_empty() {
                self.0.remove(0);
            }
            Ok(count)
        }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(1..=255u8, 0..300), 0..20),
            cut in 1..200usize,
        ) {
            let mut wire = Vec::new();
            for message in &messages {
                wire.extend_from_slice(message);
                wire.push(0);
            }
            let mut source = Pieces(wire.chunks(cut).map(<[u8]>::to_vec).collect());
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            loop {
                prop_assert_eq!(inbox.fill(&mut source, 0).unwrap(), Filled::Open);
                let before = found.len();
                while let Some(message) = inbox.take(0) {
                    found.push(message);
                }
                if found.len() == before {
                    break;
                }
            }
            prop_assert_eq!(found, messages);
        }
    }

    #[test]
    fn a_message_without_end_is_bounded() {
        let mut inbox = Inbox::default();
        let filled = inbox.fill(&mut io::repeat(b'x'), 0).unwrap();
        assert_eq!(filled, Filled::TooLong);
        assert!(inbox.bytes.len() <= MAX_MESSAGE + 4096);
    }

    #[test]
    fn a_flood_is_read_no_further_than_the_first_message() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.fill(&mut io::repeat(0), 0).unwrap(), Filled::Open);
        assert_eq!(inbox.bytes.len(), 4096);
    }
}
