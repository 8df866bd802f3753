//! Clients that mean harm, or that sleep: nobody else waits for them.

use std::time::Instant;

use super::*;

/// What an honest client may wait while others misbehave: the looper sleeps a millisecond a turn, the machine is busy
/// with other tests.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest that an honest client waits for one of twenty answers.
fn longest_wait(looper: &Looper) -> Duration {
    let mut client = Client::connect(&looper.path).unwrap();
    (0..20)
        .map(|_| {
            let started = Instant::now();
            revert(&mut client, None).unwrap();
            started.elapsed()
        })
        .max()
        .unwrap()
}

/// Whether something comes within a third of a second.
fn waits(stream: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(300u16)).unwrap() > 0
}

fn assert_prompt(looper: &Looper, beside: &str) {
    let waited = longest_wait(looper);
    assert!(waited < PATIENCE, "{waited:?} beside {beside}");
}

#[test]
fn a_flood_of_calls_gets_one_a_turn() {
    let looper = Looper::start();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut raw = looper.raw();
            raw.set_write_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            let stop = stop.clone();
            // Writes and never reads.
            thread::spawn(move || {
                let calls = call("io.bpftune.Control.GetStatus", "{}").repeat(1000);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = raw.write_all(&calls);
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    assert_prompt(&looper, "four floods");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
    assert_prompt(&looper, "floods that have gone");
}

#[test]
fn one_who_never_reads_is_not_served_beyond_the_first_answers() {
    let mut server_side = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let mut server = Server::bind(&path, access()).unwrap();
        let mut raw = UnixStream::connect(&path).unwrap();
        let id = server.accept()[0];
        raw.write_all(&call("io.bpftune.Control.GetHistory", r#"{"limit":60000}"#).repeat(100))
            .unwrap();
        let mut answered = 0;
        for _ in 0..1000 {
            let (read, write) = server.interest(id);
            if read {
                server.readable(id);
            }
            if write {
                server.writable(id);
            }
            for call in server.calls() {
                answered += 1;
                answer(&mut server, &call);
            }
        }
        assert!(answered < 20, "{answered} answers of 60 KB to nobody");
        assert!(!server.has_calls(), "and no turn is spent on it");
        // Once it reads, it gets all of them.
        raw.set_nonblocking(true).unwrap();
        let (mut ends, mut buffer) = (0, [0; 65536]);
        let deadline = Instant::now() + Duration::from_secs(10);
        while ends < 100 {
            assert!(Instant::now() < deadline, "{ends} answers");
            if let Ok(count) = raw.read(&mut buffer) {
                ends += buffer[..count].iter().filter(|&&byte| byte == 0).count();
            }
            let (read, write) = server.interest(id);
            if read {
                server.readable(id);
            }
            if write {
                server.writable(id);
            }
            for call in server.calls() {
                answer(&mut server, &call);
            }
        }
        Some(server)
    };
    drop(server_side.take());
}

#[test]
fn silence_half_messages_and_rubbish_delay_nobody() {
    let looper = Looper::start();
    let _silent = looper.raw();
    let mut half = looper.raw();
    half.write_all(br#"{"method":"io.bpftune."#).unwrap();
    assert_prompt(&looper, "a silent one and half a message");
    for rubbish in [
        b"\xff\xfe\xfd\0".to_vec(),
        b"{\"method\":\"\xc3\x28\"}\0".to_vec(),
        b"[]\0".to_vec(),
        b"\0\0\0\0".to_vec(),
        "[".repeat(50_000).into_bytes(),
        [b"[".repeat(50_000), vec![0]].concat(),
        vec![b'x'; 2_000_000],
    ] {
        let mut raw = looper.raw();
        let _ = raw.write_all(&rubbish);
        assert_prompt(&looper, "rubbish");
    }
    // What was begun can still be ended.
    half.write_all(b"Control.Revert\"}\0").unwrap();
    assert!(message(&mut half).contains("Revert"));
}

#[test]
fn a_user_with_too_many_connections_loses_the_longest_silent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control");
    let mut server = Server::bind(&path, access()).unwrap();
    let connections: Vec<UnixStream> = (0..300)
        .map(|_| {
            let stream = UnixStream::connect(&path).unwrap();
            server.accept();
            stream
        })
        .collect();
    let served = (0..300)
        .filter(|&id| server.client_fd(id).is_some())
        .count();
    assert!(served <= 128, "{served}");
    assert!(server.client_fd(299).is_some(), "the newest is in");
    assert!(server.client_fd(0).is_none(), "the oldest made room");
    drop(connections);
}

#[test]
fn a_watcher_that_sleeps_loses_events_and_is_told_how_many() {
    let looper = Looper::start();
    let mut sleeper = looper.raw();
    let asked = json!({ "method": format!("{INTERFACE}.Watch"), "more": true });
    sleeper.write_all(format!("{asked}\0").as_bytes()).unwrap();
    assert!(message(&mut sleeper).contains("watching"));
    let mut other = Client::connect(&looper.path).unwrap().watch().unwrap();
    other.next_event().unwrap();
    let big = "x".repeat(10_000);
    for number in 0..200 {
        looper.publish(Event::new(&number.to_string(), &big));
        // This one reads all the while and misses nothing.
        assert_eq!(other.next_event().unwrap().kind, number.to_string());
    }
    assert_prompt(&looper, "a watcher that does not read");
    // It wakes, reads what was kept, and the next event tells how many were not.
    let next = |from: &mut UnixStream| -> Event {
        let reply: serde_json::Value = serde_json::from_str(&message(from)).unwrap();
        serde_json::from_value(reply["parameters"]["event"].clone()).unwrap()
    };
    let mut seen = 0;
    while waits(&sleeper) {
        next(&mut sleeper);
        seen += 1;
    }
    looper.publish(Event::new("last", ""));
    let last = next(&mut sleeper);
    assert!(last.lost > 0, "2 MB do not fit");
    assert_eq!(seen + last.lost, 200, "each was seen or counted");
}

#[test]
fn watching_needs_more() {
    let looper = Looper::start();
    let mut raw = looper.raw();
    raw.write_all(&call("io.bpftune.Control.Watch", "{}"))
        .unwrap();
    assert!(message(&mut raw).contains("org.varlink.service.ExpectedMore"));
}

#[test]
fn a_stranger_is_told_which_group_may() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: being somebody else needs root");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let looper = Looper::start();
    // Else the file's mode keeps strangers out before any message.
    for path in [
        looper.path.parent().unwrap().parent().unwrap(),
        &looper.path,
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let path = looper.path.clone();
    let replies: Vec<String> = thread::spawn(move || {
        // This thread alone becomes somebody else: the raw call, not the C library's.
        // SAFETY: changes the credentials of this thread, which ends soon.
        assert_eq!(
            unsafe { libc::syscall(libc::SYS_setresuid, 4321, 4321, 4321) },
            0
        );
        let mut raw = UnixStream::connect(path).unwrap();
        ["GetStatus", "Revert"]
            .map(|method| {
                raw.write_all(&call(&format!("{INTERFACE}.{method}"), "{}"))
                    .unwrap();
                message(&mut raw)
            })
            .into()
    })
    .join()
    .unwrap();
    // The thread's groups are still root's; neither of ours is among them.
    assert!(
        replies[0].contains("PermissionDenied") && replies[0].contains("no-such-readers"),
        "{}",
        replies[0]
    );
    assert!(
        replies[1].contains("PermissionDenied") && replies[1].contains("no-such-writers"),
        "{}",
        replies[1]
    );
    assert!(replies[1].contains("Revert"), "{}", replies[1]);
}
