//! What a plugin writes to its standard error: to the log, within bounds.

use std::{io::PipeReader, time::Instant};

use super::{
    super::{limits::Budget, text::plain},
    lines::{Stream, read_some},
};

/// Bytes that it may write at once, and then each second.
const BYTES: (f64, f64) = (262_144.0, 16_384.0);
/// Lines of these that are logged at once, and then each second.
const LOGGED: (f64, f64) = (20.0, 1.0);
/// Most bytes of a line that are logged.
const MOST: usize = 200;

#[derive(Debug)]
pub(super) struct Stderr {
    bytes: Budget,
    logged: Budget,
    /// A line that has no end yet.
    begun: Vec<u8>,
    last: Option<String>,
}

impl Stderr {
    pub(super) fn new(now: Instant) -> Stderr {
        Stderr {
            bytes: Budget::new(BYTES.0, BYTES.1, now),
            logged: Budget::new(LOGGED.0, LOGGED.1, now),
            begun: Vec::new(),
            last: None,
        }
    }

    /// Reads what is there and logs some of it.
    ///
    /// # Errors
    /// More than it may write.
    pub(super) fn read(&mut self, from: &mut PipeReader, name: &str) -> Result<Stream, String> {
        let mut chunk = Vec::new();
        let stream = read_some(from, &mut chunk)
            .map_err(|error| format!("has a standard error that cannot be read: {error}"))?;
        let now = Instant::now();
        let within = self.bytes.take(chunk.len() as f64, now);
        for part in chunk.split_inclusive(|&b| b == b'\n') {
            let room = MOST.saturating_sub(self.begun.len());
            self.begun.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.line(name, now);
            }
        }
        if stream == Stream::Ended && !self.begun.is_empty() {
            self.line(name, now);
        }
        if within {
            Ok(stream)
        } else {
            Err(format!(
                "writes to its standard error without end: more than {} bytes a second, and {} at once",
                BYTES.1, BYTES.0
            ))
        }
    }

    fn line(&mut self, name: &str, now: Instant) {
        let line = plain(String::from_utf8_lossy(&self.begun).trim_end());
        self.begun.clear();
        if line.is_empty() {
            return;
        }
        if self.logged.take(1.0, now) {
            tracing::info!("plugin {name} says: {line}");
        }
        self.last = Some(line);
    }

    /// The last line.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }
}
