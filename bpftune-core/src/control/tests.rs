use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::mpsc,
    thread,
    time::Duration,
};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Error;

mod hostile;
mod interface;

/// A daemon's loop in small: polls every millisecond, answers every call with its own name.
struct Looper {
    path: std::path::PathBuf,
    stop: Option<mpsc::Sender<Event>>,
    thread: Option<thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

/// The groups that tests speak of; nobody is in them.
fn access() -> Access {
    Access {
        readers: "no-such-readers".into(),
        writers: "no-such-writers".into(),
    }
}

impl Looper {
    fn start() -> Looper {
        Looper::with(access())
    }

    fn with(access: Access) -> Looper {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control");
        let mut server = Server::bind(&path, access).unwrap();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut clients = Vec::new();
            loop {
                match stopped.recv_timeout(Duration::from_millis(1)) {
                    Ok(event) => drop(server.publish(&event)),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
                clients.extend(server.accept());
                for &client in &clients {
                    let (read, write) = server.interest(client);
                    if read {
                        server.readable(client);
                    }
                    if write {
                        server.writable(client);
                    }
                }
                for call in server.calls() {
                    answer(&mut server, &call);
                }
                clients.retain(|&client| server.client_fd(client).is_some());
            }
        });
        Looper {
            path,
            stop: Some(stop),
            thread: Some(thread),
            _dir: dir,
        }
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream
    }

    fn publish(&self, event: Event) {
        self.stop.as_ref().unwrap().send(event).unwrap();
    }
}

fn answer(server: &mut Server, call: &Call) {
    match &call.request {
        Request::Explain { id } => {
            server.error(call, "NoSuchDecision", json!({ "id": id, "newest": 3 }))
        }
        Request::GetHistory(filter) => {
            let filler = "x".repeat(filter.limit.unwrap_or(0) as usize);
            server.reply(call, json!({ "decisions": [], "filler": filler }));
        }
        _ => server.reply(
            call,
            Report {
                report: format!("{:?}", call.request),
            },
        ),
    }
}

/// Reverts all, or one decision: the looper's answer.
fn revert(client: &mut Client, id: Option<i64>) -> crate::Result<Report> {
    client.call("Revert", json!({ "id": id }))
}

impl Drop for Looper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        assert!(
            !self.path.exists(),
            "the socket's file goes with the server"
        );
    }
}

fn message(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != 0 {
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

fn call(method: &str, parameters: &str) -> Vec<u8> {
    format!("{{\"method\":\"{method}\",\"parameters\":{parameters}}}\0").into_bytes()
}

#[test]
fn answers_and_describes_itself() {
    let looper = Looper::start();
    let mut client = Client::connect(&looper.path).unwrap();
    let reply = revert(&mut client, Some(7)).unwrap();
    assert_eq!(reply.report, "Revert { id: Some(7) }");
    let error = client
        .call::<Explanation>("Explain", json!({ "id": 9 }))
        .unwrap_err()
        .to_string();
    assert!(error.contains("D9, the newest is D3"), "{error}");

    let mut raw = looper.raw();
    raw.write_all(&call("org.varlink.service.GetInfo", "{}"))
        .unwrap();
    assert!(message(&mut raw).contains(INTERFACE));
    raw.write_all(&call(
        "org.varlink.service.GetInterfaceDescription",
        r#"{"interface":"io.bpftune.Control"}"#,
    ))
    .unwrap();
    assert!(message(&mut raw).contains("method Revert"));
}

#[test]
fn names_what_is_wrong_with_a_call() {
    let looper = Looper::start();
    let mut raw = looper.raw();
    for (method, parameters, error) in [
        ("io.bpftune.Control.Nothing", "{}", "MethodNotFound"),
        ("io.other.Control.GetStatus", "{}", "InterfaceNotFound"),
        (
            "io.bpftune.Control.Explain",
            r#"{"id":"seven"}"#,
            "InvalidParameter",
        ),
        (
            "io.bpftune.Control.GetStatus",
            r#"{"verbose":true}"#,
            "InvalidParameter",
        ),
    ] {
        raw.write_all(&call(method, parameters)).unwrap();
        let reply = message(&mut raw);
        assert!(reply.contains(error), "{method}: {reply}");
    }
}

#[test]
fn split_and_joined_messages() {
    let looper = Looper::start();
    let mut raw = looper.raw();
    let one = call("io.bpftune.Control.Revert", "{}");
    for byte in &one {
        raw.write_all(&[*byte]).unwrap();
    }
    assert!(message(&mut raw).contains("Revert"));
    raw.write_all(&[one.clone(), one].concat()).unwrap();
    assert!(message(&mut raw).contains("Revert") && message(&mut raw).contains("Revert"));
}

#[test]
fn who_speaks_no_varlink_is_dropped() {
    let looper = Looper::start();
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n\0".to_vec(),
        b"\xff\xfe\0".to_vec(),
        vec![b'x'; 200_000],
    ] {
        let mut raw = looper.raw();
        let _ = raw.write_all(&bytes);
        let mut rest = Vec::new();
        // Either end of file or a reset.
        assert!(!matches!(raw.read_to_end(&mut rest), Ok(n) if n > 0));
    }
    assert!(revert(&mut Client::connect(&looper.path).unwrap(), None).is_ok());
}

#[test]
fn replaces_a_dead_socket_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _live = Server::bind(&path, access()).unwrap();
    let error = Server::bind(&path, access()).err().unwrap().to_string();
    assert!(error.contains("another bpftune"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        Server::bind(&file, access()),
        Err(Error::Control(_))
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn nobody_there_is_said() {
    let error = Client::connect(std::path::Path::new("/nonexistent/control"))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("bpftune run"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let mut server = Server::bind(&path, access()).unwrap();
        let mut raw = UnixStream::connect(&path).unwrap();
        raw.write_all(&bytes).unwrap();
        for client in server.accept() {
            server.readable(client);
            // Bounded, whatever was sent.
            for _ in 0..2000 {
                for call in server.calls() {
                    answer(&mut server, &call);
                }
            }
            prop_assert!(!server.has_calls());
        }
    }
}
