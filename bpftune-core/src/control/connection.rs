//! One client: its socket, what it sent, what waits for it to read.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use serde_json::Value as Json;

use super::{
    calls::{self, Parsed},
    inbox::{Filled, Inbox},
    peer::Peer,
};

/// While so much waits to be read, no further call is taken: who does not read does not ask.
const MAX_BACKLOG: usize = 64 * 1024;

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Varlink,
    /// A word a line; the answer is text, then the connection ends.
    Text,
}

impl Language {
    fn end(self) -> u8 {
        match self {
            Language::Varlink => 0,
            Language::Text => b'\n',
        }
    }
}

pub(super) struct Connection {
    stream: Stream,
    pub(super) peer: Peer,
    pub(super) language: Language,
    inbox: Inbox,
    output: Vec<u8>,
    /// Before this all has been written.
    written: usize,
    /// Sends no more.
    ended: bool,
    /// Nothing more is taken from it: it goes once it has read.
    closing: bool,
    /// It watches, and so many events were lost since the last one it got.
    pub(super) watch: Option<u64>,
    /// When it did something last, in the server's count.
    pub(super) active: u64,
}

impl Connection {
    pub(super) fn unix(stream: UnixStream, peer: Peer) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        Ok(Connection::new(
            Stream::Unix(stream),
            peer,
            Language::Varlink,
        ))
    }

    pub(super) fn loopback(stream: TcpStream, remote: SocketAddr) -> io::Result<Connection> {
        stream.set_nonblocking(true)?;
        let peer = Peer::of_loopback(stream.local_addr()?, remote);
        Ok(Connection::new(Stream::Tcp(stream), peer, Language::Text))
    }

    fn new(stream: Stream, peer: Peer, language: Language) -> Connection {
        Connection {
            stream,
            peer,
            language,
            inbox: Inbox::default(),
            output: Vec::new(),
            written: 0,
            ended: false,
            closing: false,
            watch: None,
            active: 0,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }

    /// Reads up to a whole message. An error: drop it.
    pub(super) fn read(&mut self) -> io::Result<()> {
        let source: &mut dyn Read = match &mut self.stream {
            Stream::Unix(stream) => stream,
            Stream::Tcp(stream) => stream,
        };
        match self.inbox.fill(source, self.language.end())? {
            Filled::Open => Ok(()),
            Filled::End => {
                self.ended = true;
                Ok(())
            }
            Filled::TooLong => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Writes what the client takes. An error: drop it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while self.has_output() {
            let rest = &self.output[self.written..];
            let done = match &mut self.stream {
                Stream::Unix(stream) => stream.write(rest),
                Stream::Tcp(stream) => stream.write(rest),
            };
            match done {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    pub(super) fn has_output(&self) -> bool {
        self.output_bytes() > 0
    }

    pub(super) fn output_bytes(&self) -> usize {
        self.output.len() - self.written
    }

    pub(super) fn push(&mut self, message: &Json) {
        match self.language {
            Language::Varlink => {
                self.output
                    .extend_from_slice(message.to_string().as_bytes());
                self.output.push(0);
            }
            Language::Text => {
                self.output
                    .extend_from_slice(calls::as_text(message).as_bytes());
                self.closing = true;
            }
        }
    }

    /// Whether a call can be taken now.
    pub(super) fn has_call(&mut self) -> bool {
        let may = !self.closing && self.watch.is_none() && self.output_bytes() <= MAX_BACKLOG;
        may && self.inbox.has_message(self.language.end())
    }

    /// Nothing more to do for it.
    pub(super) fn is_over(&mut self) -> bool {
        if self.closing {
            return !self.has_output();
        }
        // A watcher that ends its side has left.
        self.ended && (self.watch.is_some() || !self.has_output() && !self.has_call())
    }

    /// Takes the next call. An error: it does not speak the language.
    pub(super) fn take_call(&mut self) -> Option<Result<Parsed, ()>> {
        if !self.has_call() {
            return None;
        }
        let message = self.inbox.take(self.language.end())?;
        Some(match self.language {
            Language::Varlink => calls::varlink(&message),
            Language::Text => Ok(calls::text(&message)),
        })
    }
}
