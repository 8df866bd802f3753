//! Bytes to lines, and lines to bytes, each within bounds.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
};

use super::super::protocol::MAX_LINE;

/// Most bytes taken from one stream in one turn of the loop.
const A_TURN: usize = 64 << 10;

/// Lines as they come.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    /// Up to here there is no line end.
    seen: usize,
}

/// How a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Open,
    Ended,
}

/// Reads what is there, at most [`A_TURN`] bytes.
pub(super) fn read_some(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<Stream> {
    let mut chunk = [0; 8192];
    let mut left = A_TURN;
    while left > 0 {
        let most = chunk.len().min(left);
        match from.read(&mut chunk[..most]) {
            Ok(0) => return Ok(Stream::Ended),
            Ok(n) => {
                into.extend_from_slice(&chunk[..n]);
                left -= n;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Stream::Open)
}

impl Inbox {
    /// Reads what is there.
    pub(super) fn fill(&mut self, from: &mut impl Read) -> io::Result<Stream> {
        read_some(from, &mut self.buffer)
    }

    /// The next whole line, without its end. An error names what is wrong with it.
    pub(super) fn next(&mut self) -> Option<Result<String, String>> {
        match self.buffer[self.seen..].iter().position(|&b| b == b'\n') {
            Some(at) => {
                let end = self.seen + at;
                self.seen = 0;
                if end > MAX_LINE {
                    return Some(Err(too_long()));
                }
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                let line = String::from_utf8(line).map_err(|error| {
                    let at = error.utf8_error().valid_up_to();
                    format!("a line is not UTF-8, from its byte {at} on")
                });
                Some(line)
            }
            None => {
                self.seen = self.buffer.len();
                (self.seen > MAX_LINE).then(|| Err(too_long()))
            }
        }
    }
}

fn too_long() -> String {
    format!("a line is longer than {MAX_LINE} bytes")
}

/// Lines that wait to be taken by the plugin.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Of the first line so much is written.
    written: usize,
    /// Lines that found no room.
    pub(super) dropped: u64,
}

/// Most bytes that wait for a plugin.
const ROOM: usize = 64 << 10;

impl Outbox {
    /// Adds a line; drops it where there is no room.
    pub(super) fn push(&mut self, mut line: Vec<u8>) {
        line.push(b'\n');
        if self.bytes + line.len() > ROOM {
            self.dropped += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Writes what the pipe takes; says whether it took anything.
    pub(super) fn flush(&mut self, to: &mut impl Write) -> io::Result<bool> {
        let mut took = false;
        while let Some(line) = self.lines.front() {
            match to.write(&line[self.written..]) {
                Ok(n) => {
                    took = took || n > 0;
                    self.written += n;
                    if self.written == line.len() {
                        self.bytes -= line.len();
                        self.written = 0;
                        self.lines.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(took)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(inbox: &mut Inbox) -> Vec<Result<String, String>> {
        std::iter::from_fn(|| inbox.next()).take(100_000).collect()
    }

    #[test]
    fn lines_come_whole() {
        let mut inbox = Inbox::default();
        inbox.fill(&mut &b"one\ntw"[..]).unwrap();
        assert_eq!(all(&mut inbox), [Ok("one".to_owned())]);
        inbox.fill(&mut &b"o\n\nthree"[..]).unwrap();
        assert_eq!(all(&mut inbox), [Ok("two".to_owned()), Ok(String::new())]);
    }

    #[test]
    fn a_huge_line_and_bad_bytes_are_named() {
        let mut inbox = Inbox::default();
        for _ in 0..2 {
            inbox.fill(&mut &vec![b'x'; A_TURN][..]).unwrap();
        }
        assert!(inbox.next().unwrap().unwrap_err().contains("longer"));
        let mut inbox = Inbox::default();
        inbox.fill(&mut &b"ab\xff\n"[..]).unwrap();
        assert!(inbox.next().unwrap().unwrap_err().contains("byte 2"));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outbox = Outbox::default();
        for _ in 0..1000 {
            outbox.push(vec![b'x'; 1000]);
        }
        assert!(outbox.bytes <= ROOM && outbox.dropped > 900);
        let mut taken = Vec::new();
        assert!(outbox.flush(&mut taken).unwrap());
        assert!(outbox.is_empty() && outbox.bytes == 0);
        assert_eq!(taken.len() % 1001, 0);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(text in "([a-z]{0,9}\n){0,20}", cut in 0..200_usize) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let mut inbox = Inbox::default();
            inbox.fill(&mut &bytes[..cut]).unwrap();
            let mut lines = all(&mut inbox);
            inbox.fill(&mut &bytes[cut..]).unwrap();
            lines.extend(all(&mut inbox));
            let expected: Vec<_> = text.lines().map(|line| Ok(line.to_owned())).collect();
            prop_assert_eq!(lines, expected);
        }
    }
}
