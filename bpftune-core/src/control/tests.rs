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

/// A daemon's loop in small: polls every millisecond, answers every call with its own name.
struct Looper {
    path: std::path::PathBuf,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Looper {
    fn start() -> Looper {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control");
        let mut server = Server::bind(&path).unwrap();
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut clients = Vec::new();
            while stopped.recv_timeout(Duration::from_millis(1))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                clients.extend(server.accept());
                for &client in &clients {
                    for call in server.readable(client) {
                        match &call.request {
                            Request::Explain { id } => {
                                server.error(&call, "NoSuchDecision", json!({ "id": id }))
                            }
                            Request::GetHistory { limit } => {
                                let filler = "x".repeat(*limit as usize);
                                server.reply(&call, json!({ "decisions": [], "filler": filler }));
                            }
                            _ => server.reply(
                                &call,
                                Reverted {
                                    report: format!("{:?}", call.request),
                                },
                            ),
                        }
                    }
                    server.writable(client);
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
    let reply = client.revert(Some(7)).unwrap();
    assert_eq!(reply.report, "Revert { id: Some(7) }");
    let error = client.explain(9).unwrap_err().to_string();
    assert!(error.contains("D9"), "{error}");

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
fn a_slow_and_a_silent_client_delay_nobody() {
    let looper = Looper::start();
    let _silent = looper.raw();
    let mut slow = looper.raw();
    for _ in 0..200 {
        // Asks for 60 KB each and never reads: dropped at the backlog limit at the latest.
        if slow
            .write_all(&call("io.bpftune.Control.GetHistory", r#"{"limit":60000}"#))
            .is_err()
        {
            break;
        }
    }
    let started = std::time::Instant::now();
    assert!(Client::connect(&looper.path).unwrap().revert(None).is_ok());
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
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
    assert!(Client::connect(&looper.path).unwrap().revert(None).is_ok());
}

#[test]
fn replaces_a_dead_socket_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _live = Server::bind(&path).unwrap();
    let error = Server::bind(&path).err().unwrap().to_string();
    assert!(error.contains("another bpftune"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file), Err(Error::Control(_))));
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

/// The fields that `types.rs` sends are those that the interface file names.
#[test]
fn types_match_the_interface() {
    fn fields(of: &str) -> Vec<String> {
        let start = DESCRIPTION.find(of).unwrap_or_else(|| panic!("{of}")) + of.len();
        let body = DESCRIPTION[start..].split(')').next().unwrap();
        let mut names: Vec<String> = body
            .split(',')
            .filter_map(|field| Some(field.split(':').next()?.trim().to_owned()))
            .filter(|name| !name.is_empty())
            .collect();
        names.sort();
        names
    }
    fn keys(value: &impl serde::Serialize) -> Vec<String> {
        json!(value).as_object().unwrap().keys().cloned().collect()
    }
    let hook = Hook {
        owner: String::new(),
        name: String::new(),
        section: String::new(),
        off: None,
    };
    assert_eq!(keys(&hook), fields("type Hook ("));
    let tuner = Tuner {
        name: String::new(),
        about: String::new(),
        tunables: Vec::new(),
        signals: 0,
        proposals: 0,
        changes: 0,
    };
    assert_eq!(keys(&tuner), fields("type Tuner ("));
    let knob = KnobStatus {
        tunable: String::new(),
        netns: 0,
        place: String::new(),
        original: None,
        current: None,
        changes: 0,
        reversals: 0,
        held_by: None,
    };
    assert_eq!(keys(&knob), fields("type Knob ("));
    let status = Status {
        version: String::new(),
        mode: String::new(),
        pid: 0,
        started_unix_ms: 0,
        state_dir: String::new(),
        map_bytes: 0,
        hooks: Vec::new(),
        tuners: Vec::new(),
        knobs: Vec::new(),
    };
    assert_eq!(keys(&status), fields("method GetStatus() -> ("));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let mut server = Server::bind(&path).unwrap();
        let mut raw = UnixStream::connect(&path).unwrap();
        raw.write_all(&bytes).unwrap();
        for client in server.accept() {
            let _ = server.readable(client);
        }
    }
}
