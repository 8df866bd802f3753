//! The server's side: never blocks, bounded in all it keeps, a call a client and turn.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    net::{Ipv4Addr, TcpListener},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::{PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::{
    Access, Event, INTERFACE, Request,
    access::{Resolved, Right},
    calls::{self, Parsed},
    connection::{Connection, Language},
    peer::Peer,
};
use crate::{Error, Result};

/// Names a client until it leaves.
pub type ClientId = u64;

/// Clients served at once.
const MAX_CLIENTS: usize = 128;
/// Of these, so many of one user; root has no such limit.
const MAX_CLIENTS_OF_USER: usize = 16;
/// Taken in in one turn.
const MAX_ACCEPTED: usize = 16;
/// Events that wait for a watcher to read them: beyond this they are counted, not kept.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// The listening sockets and their clients.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    query: Option<TcpListener>,
    access: Resolved,
    clients: HashMap<ClientId, Connection>,
    /// Those with a whole message that waits for its turn.
    waiting: BTreeSet<ClientId>,
    next: ClientId,
    /// Counts what clients do: who did the least lately has been silent the longest.
    clock: u64,
}

/// A call that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// Who asked.
    pub client: ClientId,
    /// The user that asked.
    pub uid: u32,
    /// What.
    pub request: Request,
    oneway: bool,
}

impl Server {
    /// Listens at `path`, mode 0660, of the readers' group. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// Where somebody listens there, or the directory cannot be written.
    pub fn bind(path: &Path, access: Access) -> Result<Server> {
        if UnixStream::connect(path).is_ok() {
            return Err(Error::Control(format!(
                "another bpftune listens on {}: stop it, or choose another --control",
                path.display()
            )));
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        }
        match fs::symlink_metadata(path) {
            Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
                fs::remove_file(path).map_err(Error::file("remove", path))?;
            }
            Ok(_) => {
                return Err(Error::Control(format!(
                    "{} exists and is no socket: it is left alone",
                    path.display()
                )));
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(Error::file("listen on", path))?;
        let access = Resolved::new(access);
        if let Some(group) = access.socket_group()
            && let Err(error) = chown(path, None, Some(group))
        {
            tracing::warn!(
                "cannot give {} to group {group}, so only root can connect: {error}",
                path.display()
            );
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .map_err(Error::file("set the mode of", path))?;
        listener
            .set_nonblocking(true)
            .map_err(Error::file("listen on", path))?;
        Ok(Server {
            listener,
            path: path.to_owned(),
            query: None,
            access,
            clients: HashMap::new(),
            waiting: BTreeSet::new(),
            next: 0,
            clock: 0,
        })
    }

    /// Answers the classic queries in text on this loopback port too.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn listen_for_queries(&mut self, port: u16) -> Result<()> {
        let what = format!("cannot listen on 127.0.0.1:{port}");
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(Error::system(&what))?;
        listener
            .set_nonblocking(true)
            .map_err(Error::system(&what))?;
        self.query = Some(listener);
        Ok(())
    }

    /// Readable when a client waits.
    pub fn listeners(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let query = self.query.as_ref().map(AsFd::as_fd);
        [self.listener.as_fd()].into_iter().chain(query)
    }

    /// Takes in who waits; the rest at the next call.
    pub fn accept(&mut self) -> Vec<ClientId> {
        let mut new = Vec::new();
        while new.len() < MAX_ACCEPTED {
            let connection = if let Ok((stream, _)) = self.listener.accept() {
                Peer::of_unix(&stream).and_then(|peer| Connection::unix(stream, peer))
            } else if let Some(Ok((stream, remote))) = self.query.as_ref().map(TcpListener::accept)
            {
                Connection::loopback(stream, remote)
            } else {
                break;
            };
            let Ok(mut connection) = connection else {
                continue;
            };
            self.clock += 1;
            connection.active = self.clock;
            self.make_room(&connection.peer);
            let id = self.next;
            self.next += 1;
            self.clients.insert(id, connection);
            new.push(id);
        }
        new
    }

    /// The client that was silent the longest goes, where the user or all together have too many.
    fn make_room(&mut self, peer: &Peer) {
        let of_user = |c: &Connection| c.peer.uid == peer.uid;
        let count = self.clients.values().filter(|c| of_user(c)).count();
        let only_theirs = peer.uid != 0 && count >= MAX_CLIENTS_OF_USER;
        if !only_theirs && self.clients.len() < MAX_CLIENTS {
            return;
        }
        let silent = self
            .clients
            .iter()
            .filter(|(_, c)| !only_theirs || of_user(c))
            .min_by_key(|(id, c)| (c.active, **id))
            .map(|(id, _)| *id);
        if let Some(id) = silent {
            self.drop_client(id);
        }
    }

    fn drop_client(&mut self, id: ClientId) {
        self.clients.remove(&id);
        self.waiting.remove(&id);
    }

    /// The client's descriptor; `None` once it has left.
    #[must_use]
    pub fn client_fd(&self, id: ClientId) -> Option<BorrowedFd<'_>> {
        self.clients.get(&id).map(Connection::fd)
    }

    /// What to wait for: readable, writable. Neither while a message of the client's waits for its turn.
    #[must_use]
    pub fn interest(&self, id: ClientId) -> (bool, bool) {
        self.clients.get(&id).map_or((false, false), |client| {
            let writes = client.has_output();
            (!writes && !self.waiting.contains(&id), writes)
        })
    }

    /// Whether a call could be taken now, without waiting for any descriptor.
    #[must_use]
    pub fn has_calls(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whose turn it is.
    #[must_use]
    pub fn waiting(&self) -> Vec<ClientId> {
        self.waiting.iter().copied().collect()
    }

    /// Reads what a client sent, at most one message beyond those that wait.
    pub fn readable(&mut self, id: ClientId) {
        self.clock += 1;
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        client.active = self.clock;
        if client.read().is_err() {
            return self.drop_client(id);
        }
        self.settle(id);
    }

    /// Writes what the client is ready to read.
    pub fn writable(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.write().is_err() {
            return self.drop_client(id);
        }
        self.settle(id);
    }

    /// After something was read or written: does a call wait, is the client done?
    fn settle(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        if client.is_over() {
            self.drop_client(id);
        } else if client.has_call() {
            self.waiting.insert(id);
        } else {
            self.waiting.remove(&id);
        }
    }

    /// Takes one call of each client that has one, so that a flood of one delays no other by more than a call. Calls of
    /// `org.varlink.service`, unknown and forbidden ones are answered here.
    pub fn calls(&mut self) -> Vec<Call> {
        let mut calls = Vec::new();
        for id in self.waiting() {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let uid = client.peer.uid;
            match client.take_call() {
                None => {}
                // Who does not speak the language gets no answer in it.
                Some(Err(())) => self.drop_client(id),
                Some(Ok(parsed)) => calls.extend(self.sort_out(id, uid, parsed)),
            }
            self.settle(id);
        }
        calls
    }

    fn sort_out(&mut self, id: ClientId, uid: u32, parsed: Parsed) -> Option<Call> {
        let Parsed {
            method,
            oneway,
            more,
            request,
        } = parsed;
        let request = match request {
            Ok(request) => request,
            Err(answer) => {
                if !oneway {
                    self.send(id, &answer);
                }
                return None;
            }
        };
        let client = self.clients.get_mut(&id)?;
        if let Err(group) = self.access.check(&client.peer, request.right())
            && (client.language != Language::Text || request.right() == Right::Write)
        {
            let error = calls::error(
                &format!("{INTERFACE}.PermissionDenied"),
                json!({ "method": method, "group": group }),
            );
            if !oneway {
                self.send(id, &error);
            }
            return None;
        }
        if request == Request::Watch {
            if more {
                client.watch = Some(0);
                self.publish_to(id, &Event::new("watching", "events follow"));
            } else {
                let expected = calls::error("org.varlink.service.ExpectedMore", json!({}));
                self.send(id, &expected);
            }
            return None;
        }
        Some(Call {
            client: id,
            uid,
            request,
            oneway,
        })
    }

    /// Answers a call.
    pub fn reply(&mut self, call: &Call, parameters: impl Serialize) {
        if !call.oneway {
            self.send(call.client, &json!({ "parameters": json!(parameters) }));
        }
    }

    /// Answers a call with an error of our interface.
    pub fn error(&mut self, call: &Call, name: &str, parameters: Json) {
        if !call.oneway {
            let name = format!("{INTERFACE}.{name}");
            self.send(call.client, &calls::error(&name, parameters));
        }
    }

    fn send(&mut self, id: ClientId, message: &Json) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.push(message);
        }
        self.writable(id);
    }

    /// Whether anybody watches.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.clients.values().any(|client| client.watch.is_some())
    }

    /// Tells everybody who watches, and returns them. Who does not read loses events, is told how many, and delays
    /// nobody.
    pub fn publish(&mut self, event: &Event) -> Vec<ClientId> {
        let watchers: Vec<ClientId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.watch.is_some())
            .map(|(id, _)| *id)
            .collect();
        for &id in &watchers {
            self.publish_to(id, event);
        }
        watchers
    }

    fn publish_to(&mut self, id: ClientId, event: &Event) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        let pending = client.output_bytes();
        let Some(lost) = &mut client.watch else {
            return;
        };
        if pending > MAX_EVENT_BYTES {
            *lost += 1;
            return;
        }
        let event = Event {
            lost: std::mem::take(lost),
            ..event.clone()
        };
        self.send(
            id,
            &json!({ "continues": true, "parameters": { "event": event } }),
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
