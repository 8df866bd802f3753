//! The server's side: never blocks, bounded in all it keeps.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value as Json, json};

use super::{DESCRIPTION, INTERFACE, Request};
use crate::{Error, Result};

/// Names a client until it leaves.
pub type ClientId = u64;

/// Clients served at once; more are turned away.
const MAX_CLIENTS: usize = 64;
/// Longest message from a client.
const MAX_MESSAGE: usize = 64 * 1024;
/// Longest unread reply before a client is dropped.
const MAX_BACKLOG: usize = 1024 * 1024;

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// The listening socket and its clients.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    clients: HashMap<ClientId, Client>,
    next: ClientId,
}

/// A call of our interface that waits for its answer.
#[derive(Debug)]
pub struct Call {
    /// Who asked.
    pub client: ClientId,
    /// What.
    pub request: Request,
    oneway: bool,
}

#[derive(Deserialize)]
struct Message {
    method: String,
    #[serde(default)]
    parameters: Option<Json>,
    #[serde(default)]
    oneway: bool,
}

impl Server {
    /// Listens at `path`, mode 0660. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// Where somebody listens there, or the directory cannot be written.
    pub fn bind(path: &Path) -> Result<Server> {
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
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .map_err(Error::file("set the mode of", path))?;
        listener
            .set_nonblocking(true)
            .map_err(Error::file("listen on", path))?;
        Ok(Server {
            listener,
            path: path.to_owned(),
            clients: HashMap::new(),
            next: 0,
        })
    }

    /// Readable when a client waits.
    #[must_use]
    pub fn listener_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes in whoever waits.
    pub fn accept(&mut self) -> Vec<ClientId> {
        let mut new = Vec::new();
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.clients.insert(
                self.next,
                Client {
                    stream,
                    input: Vec::new(),
                    output: Vec::new(),
                },
            );
            new.push(self.next);
            self.next += 1;
        }
        new
    }

    /// The client's descriptor; `None` once it has left.
    #[must_use]
    pub fn client_fd(&self, id: ClientId) -> Option<BorrowedFd<'_>> {
        self.clients.get(&id).map(|client| client.stream.as_fd())
    }

    /// Whether output waits for the client to read.
    #[must_use]
    pub fn wants_write(&self, id: ClientId) -> bool {
        self.clients
            .get(&id)
            .is_some_and(|client| !client.output.is_empty())
    }

    /// Reads what a client sent. Calls of `org.varlink.service` and unknown ones are answered here;
    /// calls of our interface are handed back.
    pub fn readable(&mut self, id: ClientId) -> Vec<Call> {
        let Some(client) = self.clients.get_mut(&id) else {
            return Vec::new();
        };
        let mut buffer = [0; 4096];
        let mut open = true;
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => open = false,
                Ok(count) => {
                    client.input.extend_from_slice(&buffer[..count]);
                    if client.input.len() <= MAX_MESSAGE {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => open = false,
            }
            break;
        }
        let mut messages = Vec::new();
        while let Some(end) = client.input.iter().position(|&byte| byte == 0) {
            messages.push(client.input.drain(..=end).take(end).collect::<Vec<u8>>());
        }
        // What remains is one message still on its way.
        if client.input.len() > MAX_MESSAGE {
            open = false;
        }
        let mut calls = Vec::new();
        for message in messages {
            // Who does not speak Varlink gets no answer in it.
            let Ok(message) = serde_json::from_slice::<Message>(&message) else {
                open = false;
                break;
            };
            calls.extend(self.dispatch(id, message));
        }
        if !open {
            self.clients.remove(&id);
            calls.clear();
        }
        calls
    }

    fn dispatch(&mut self, id: ClientId, message: Message) -> Option<Call> {
        let Message {
            method,
            parameters,
            oneway,
        } = message;
        let parameters = parameters.unwrap_or_else(|| json!({}));
        let answer = match method.as_str() {
            "org.varlink.service.GetInfo" => Ok(json!({
                "vendor": "bpftune", "product": "bpftune", "version": env!("CARGO_PKG_VERSION"),
                "url": env!("CARGO_PKG_NAME"), "interfaces": ["org.varlink.service", INTERFACE],
            })),
            "org.varlink.service.GetInterfaceDescription" => match parameters["interface"].as_str()
            {
                Some(INTERFACE) => Ok(json!({ "description": DESCRIPTION })),
                Some("org.varlink.service") => Ok(json!({ "description": SERVICE })),
                other => Err((
                    "org.varlink.service.InterfaceNotFound",
                    json!({ "interface": other }),
                )),
            },
            _ => match parse(&method, parameters) {
                Ok(request) => {
                    return Some(Call {
                        client: id,
                        request,
                        oneway,
                    });
                }
                Err(error) => Err(error),
            },
        };
        if !oneway {
            match answer {
                Ok(reply) => self.send(id, &json!({ "parameters": reply })),
                Err((name, parameters)) => {
                    self.send(id, &json!({ "error": name, "parameters": parameters }))
                }
            }
        }
        None
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
            self.send(
                call.client,
                &json!({ "error": name, "parameters": parameters }),
            );
        }
    }

    fn send(&mut self, id: ClientId, message: &Json) {
        if let Some(client) = self.clients.get_mut(&id) {
            client
                .output
                .extend_from_slice(message.to_string().as_bytes());
            client.output.push(0);
        }
        self.writable(id);
    }

    /// Writes what the client is ready to read; drops who has gone or lets too much pile up.
    pub fn writable(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else {
            return;
        };
        while !client.output.is_empty() {
            match client.stream.write(&client.output) {
                Ok(count) => drop(client.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && client.output.len() <= MAX_BACKLOG =>
                {
                    return;
                }
                Err(_) => {
                    self.clients.remove(&id);
                    return;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

type VarlinkError = (&'static str, Json);

/// The parameters of a call as `T`, or Varlink's error that names the wrong one.
fn typed<T: DeserializeOwned>(parameters: Json) -> Result<T, VarlinkError> {
    serde_json::from_value(parameters).map_err(|error| {
        (
            "org.varlink.service.InvalidParameter",
            json!({ "parameter": error.to_string() }),
        )
    })
}

fn parse(method: &str, parameters: Json) -> Result<Request, VarlinkError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct None {}
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        limit: u32,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Id {
        id: i64,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Which {
        tunable: Option<String>,
        netns: Option<u64>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct MaybeId {
        id: Option<i64>,
    }
    let Some(name) = method
        .strip_prefix(INTERFACE)
        .and_then(|rest| rest.strip_prefix('.'))
    else {
        let interface = method
            .rsplit_once('.')
            .map_or(method, |(interface, _)| interface);
        return Err((
            "org.varlink.service.InterfaceNotFound",
            json!({ "interface": interface }),
        ));
    };
    Ok(match name {
        "GetStatus" => typed::<None>(parameters).map(|None {}| Request::GetStatus)?,
        "GetHistory" => typed(parameters).map(|Limit { limit }| Request::GetHistory { limit })?,
        "Explain" => typed(parameters).map(|Id { id }| Request::Explain { id })?,
        "Rearm" => {
            typed(parameters).map(|Which { tunable, netns }| Request::Rearm { tunable, netns })?
        }
        "Revert" => typed(parameters).map(|MaybeId { id }| Request::Revert { id })?,
        _ => {
            return Err((
                "org.varlink.service.MethodNotFound",
                json!({ "method": method }),
            ));
        }
    })
}

const SERVICE: &str = "\
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)

error MethodNotFound (method: string)

error MethodNotImplemented (method: string)

error InvalidParameter (parameter: string)
";
