//! The client's side: blocking, with a timeout.

use std::{
    io::{BufRead, BufReader, ErrorKind},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, send},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};

use super::{Event, INTERFACE, Watched};
use crate::{Error, Result, journal::DecisionId};

/// A connection to a daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Control(format!("the daemon does not answer: {error}"))
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// [`Error::NoDaemon`] where none listens there, [`Error::Denied`] where the caller may not connect.
    pub fn connect(path: &Path) -> Result<Client> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NoDaemon {
                path: path.to_owned(),
            },
            ErrorKind::PermissionDenied => Error::Denied(format!(
                "you may not connect to {}: root may, and members of the group that the socket belongs to",
                path.display()
            )),
            _ => Error::Control(format!("cannot connect to {}: {error}", path.display())),
        })?;
        let timeout = Some(Duration::from_secs(10));
        stream
            .set_read_timeout(timeout)
            .map_err(Error::file("use", path))?;
        stream
            .set_write_timeout(timeout)
            .map_err(Error::file("use", path))?;
        Ok(Client {
            stream: BufReader::new(stream),
        })
    }

    /// Calls a method of our interface.
    ///
    /// # Errors
    /// The daemon's error, or a broken connection.
    pub fn call<T: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: impl Serialize,
    ) -> Result<T> {
        self.send(
            json!({ "method": format!("{INTERFACE}.{method}"), "parameters": json!(parameters) }),
        )?;
        self.receive()
    }

    /// Watches what happens.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub fn watch(mut self) -> Result<Watch> {
        self.send(
            json!({ "method": format!("{INTERFACE}.Watch"), "parameters": {}, "more": true }),
        )?;
        // Nothing may happen for days.
        self.stream
            .get_ref()
            .set_read_timeout(None)
            .map_err(broken)?;
        Ok(Watch { client: self })
    }

    fn send(&mut self, message: Json) -> Result<()> {
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let mut left = &bytes[..];
        // A daemon that has gone is an error, whatever SIGPIPE does in this process.
        while !left.is_empty() {
            match send(
                self.stream.get_ref().as_raw_fd(),
                left,
                MsgFlags::MSG_NOSIGNAL,
            ) {
                Ok(sent) => left = &left[sent..],
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(broken(errno)),
            }
        }
        Ok(())
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut reply = Vec::new();
        self.stream.read_until(0, &mut reply).map_err(broken)?;
        if reply.pop() != Some(0) {
            return Err(Error::Control("the daemon closed the connection".into()));
        }
        let mut reply: Json =
            serde_json::from_slice(&reply).map_err(|error| Error::Control(error.to_string()))?;
        let parameters = reply["parameters"].take();
        let Some(name) = reply["error"].as_str() else {
            return serde_json::from_value(parameters).map_err(|error| {
                Error::Control(format!("the daemon's answer is not understood: {error}"))
            });
        };
        Err(named(name, &parameters))
    }
}

/// The daemon's error as ours.
fn named(name: &str, parameters: &Json) -> Error {
    let text = |member: &str| parameters[member].as_str().unwrap_or_default().to_owned();
    match name.strip_prefix(INTERFACE).unwrap_or(name) {
        ".NoSuchDecision" => Error::NoSuchDecision {
            id: DecisionId(parameters["id"].as_i64().unwrap_or_default()),
            newest: parameters["newest"].as_i64().map(DecisionId),
        },
        ".NoSuchTuner" => Error::NoSuchTuner {
            name: text("tuner"),
            near: parameters["near"].as_str().map(str::to_owned),
        },
        ".PermissionDenied" => Error::Denied(format!(
            "only root and members of group {} may call {}",
            text("group"),
            text("method")
        )),
        ".NotPossible" => Error::Control(text("reason")),
        _ => Error::Control(format!("{name} {parameters}")),
    }
}

/// Events as they happen.
pub struct Watch {
    client: Client,
}

impl Watch {
    /// The next event; waits for it.
    ///
    /// # Errors
    /// The daemon's error, or its end.
    pub fn next_event(&mut self) -> Result<Event> {
        self.client
            .receive::<Watched>()
            .map(|watched| watched.event)
    }
}
