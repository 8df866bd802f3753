//! Log lines to the system's log, as the peer does without `-s`.

use std::{
    io::{self, Write},
    os::unix::net::UnixDatagram,
    sync::Arc,
};

use tracing_subscriber::fmt::MakeWriter;

/// RFC 3164: facility daemon (3), severity info (6).
const PRIORITY: u8 = 3 * 8 + 6;

/// A connection to /dev/log.
#[derive(Clone)]
pub(super) struct Syslog(Arc<UnixDatagram>);

impl Syslog {
    /// `None` where nobody listens there.
    pub(super) fn connect() -> Option<Syslog> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect("/dev/log").ok()?;
        // A log that is stuck must not stop the daemon.
        socket.set_nonblocking(true).ok()?;
        Some(Syslog(Arc::new(socket)))
    }
}

/// A line a write.
impl Write for Syslog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let message = format!(
            "<{PRIORITY}>bpftune[{}]: {}",
            std::process::id(),
            text.trim_end()
        );
        // Lost where the log does not keep up.
        let _ = self.0.send(message.as_bytes());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Syslog;

    fn make_writer(&'a self) -> Syslog {
        self.clone()
    }
}
