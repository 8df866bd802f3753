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

/// What user 4321, with these supplementary groups, is answered to GetStatus and Revert.
fn answers_to_somebody(
    path: &std::path::Path,
    groups: &'static [u32],
) -> std::io::Result<Vec<String>> {
    let path = path.to_owned();
    let somebody = thread::spawn(move || {
        // By a short way from a directory of this thread alone: somebody may not be let into those above it.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        std::env::set_current_dir(path.parent().unwrap()).unwrap();
        // This thread alone becomes somebody else: raw calls, not the C library's.
        // SAFETY: `groups` is as long as is said; the calls change the credentials of this thread alone, which ends soon.
        let changed = unsafe {
            libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())
                | libc::syscall(libc::SYS_setresgid, 4321, 4321, 4321)
                | libc::syscall(libc::SYS_setresuid, 4321, 4321, 4321)
        };
        assert_eq!(changed, 0);
        let mut raw = UnixStream::connect(path.file_name().unwrap())?;
        Ok(["GetStatus", "Revert"]
            .map(|method| {
                raw.write_all(&call(&format!("{INTERFACE}.{method}"), "{}"))
                    .unwrap();
                message(&mut raw)
            })
            .into())
    });
    somebody.join().unwrap()
}

#[test]
fn groups_give_rights_and_a_stranger_is_told_which() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: being somebody else needs root");
        return;
    }
    // Two groups that every system has, whatever they are for.
    let number = |name: &str| {
        nix::unistd::Group::from_name(name)
            .unwrap()
            .map(|g| g.gid.as_raw())
    };
    let (Some(daemon), Some(_)) = (number("daemon"), number("bin")) else {
        eprintln!("SKIP: no groups daemon and bin here");
        return;
    };
    let access = |readers: &str, writers: &str| Access {
        readers: readers.into(),
        writers: writers.into(),
    };
    let open = |looper: &Looper| {
        let dir = looper.path.parent().unwrap();
        for dir in [dir.parent().unwrap(), dir] {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    };
    let groups: &'static [u32] = Box::leak(Box::new([daemon]));

    let looper = Looper::with(access("daemon", "bin"));
    open(&looper);
    let meta = std::fs::metadata(&looper.path).unwrap();
    assert_eq!((meta.mode() & 0o777, meta.gid()), (0o660, daemon));
    let refused = answers_to_somebody(&looper.path, &[]).unwrap_err();
    assert_eq!(
        refused.kind(),
        std::io::ErrorKind::PermissionDenied,
        "the file's mode"
    );
    // A reader.
    let replies = answers_to_somebody(&looper.path, groups).unwrap();
    assert!(replies[0].contains("GetStatus"), "{}", replies[0]);
    assert!(
        replies[1].contains("PermissionDenied") && replies[1].contains("\"bin\""),
        "{}",
        replies[1]
    );

    // A writer.
    let looper = Looper::with(access("no-such-readers", "daemon"));
    open(&looper);
    let replies = answers_to_somebody(&looper.path, groups).unwrap();
    assert!(replies[1].contains("Revert {"), "{}", replies[1]);

    // A stranger, where the file's mode lets him in.
    let looper = Looper::start();
    open(&looper);
    std::fs::set_permissions(&looper.path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let replies = answers_to_somebody(&looper.path, groups).unwrap();
    for (reply, group) in replies.iter().zip(["no-such-readers", "no-such-writers"]) {
        assert!(
            reply.contains("PermissionDenied") && reply.contains(group),
            "{reply}"
        );
    }
}
