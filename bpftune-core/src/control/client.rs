//! The client's side: blocking, with a timeout.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};

use super::{Explanation, History, INTERFACE, Rearmed, Reverted, Status};
use crate::{Error, Result};

/// A connection to a daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// Where no daemon listens there.
    pub fn connect(path: &Path) -> Result<Client> {
        let stream = UnixStream::connect(path).map_err(|error| {
            Error::Control(match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    format!(
                        "no bpftune listens on {}: start it with `bpftune run`",
                        path.display()
                    )
                }
                _ => format!("cannot connect to {}: {error}", path.display()),
            })
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
        let broken =
            |error: std::io::Error| Error::Control(format!("the daemon does not answer: {error}"));
        let message =
            json!({ "method": format!("{INTERFACE}.{method}"), "parameters": json!(parameters) });
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.stream.get_mut().write_all(&bytes).map_err(broken)?;
        let mut reply = Vec::new();
        self.stream.read_until(0, &mut reply).map_err(broken)?;
        if reply.pop() != Some(0) {
            return Err(Error::Control("the daemon closed the connection".into()));
        }
        let mut reply: Json =
            serde_json::from_slice(&reply).map_err(|error| Error::Control(error.to_string()))?;
        let parameters = reply["parameters"].take();
        match reply["error"].as_str() {
            None => serde_json::from_value(parameters).map_err(|error| {
                Error::Control(format!("the daemon's answer is not understood: {error}"))
            }),
            Some(name) if name.ends_with(".NoSuchDecision") => Err(Error::Control(format!(
                "there is no decision D{}: see `bpftune history`",
                parameters["id"]
            ))),
            Some(name) if name.ends_with(".NotPossible") => Err(Error::Control(
                parameters["reason"].as_str().unwrap_or_default().to_owned(),
            )),
            Some(name) => Err(Error::Control(format!("{name} {parameters}"))),
        }
    }

    /// The daemon's state.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub fn status(&mut self) -> Result<Status> {
        self.call("GetStatus", json!({}))
    }

    /// The last decisions.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub fn history(&mut self, limit: u32) -> Result<History> {
        self.call("GetHistory", json!({ "limit": limit }))
    }

    /// One decision.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub fn explain(&mut self, id: i64) -> Result<Explanation> {
        self.call("Explain", json!({ "id": id }))
    }

    /// Takes holds back.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub fn rearm(&mut self, tunable: Option<&str>, netns: Option<u64>) -> Result<Rearmed> {
        self.call("Rearm", json!({ "tunable": tunable, "netns": netns }))
    }

    /// Restores all, or takes one decision back.
    ///
    /// # Errors
    /// See [`Client::call`].
    pub fn revert(&mut self, id: Option<i64>) -> Result<Reverted> {
        self.call("Revert", json!({ "id": id }))
    }
}
