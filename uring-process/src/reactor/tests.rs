//! The thread and both of its backends, without processes.

use std::{io::Write, sync::mpsc};

use super::*;

struct Tell(mpsc::SyncSender<usize>);

impl Listener for Tell {
    fn fired(self: Arc<Self>, what: usize) {
        let _ = self.0.send(what);
    }
}

/// A reactor with this backend; its thread stays.
fn reactor(backend: Box<dyn Backend>) -> &'static Reactor {
    let mut reactor = Reactor::new(this_process()).unwrap();
    reactor.backend = Mutex::new(Some(backend));
    let reactor: &'static Reactor = Box::leak(Box::new(reactor));
    reactor.ensure_thread().unwrap();
    reactor
}

fn all() -> Vec<&'static Reactor> {
    let mut all = vec![reactor(Box::new(epoll::Epoll::new().unwrap()))];
    match uring::Uring::new() {
        Ok(ring) => all.push(reactor(Box::new(ring))),
        Err(error) => println!("SKIP: no io_uring: {error}"),
    }
    all
}

const SOON: Duration = Duration::from_secs(20);
const NOT: Duration = Duration::from_millis(50);

#[test]
fn tells_of_descriptors_and_of_time_once() {
    for reactor in all() {
        let (sender, told) = mpsc::sync_channel(100);
        let tell = Arc::new(Tell(sender));
        let (reader, mut writer) = io::pipe().unwrap();
        let (reader, begun) = (Arc::new(reader), Instant::now());
        reactor.arm(Interest::Readable(reader.clone()), tell.clone(), 1);
        reactor.arm(Interest::Until(begun + NOT), tell.clone(), 2);
        assert_eq!(told.recv_timeout(SOON), Ok(2));
        assert!(begun.elapsed() >= NOT);
        writer.write_all(b"x").unwrap();
        assert_eq!(told.recv_timeout(SOON), Ok(1));
        assert!(told.recv_timeout(NOT).is_err(), "once");
        // It has something to read still.
        reactor.arm(Interest::Readable(reader.clone()), tell.clone(), 3);
        assert_eq!(told.recv_timeout(SOON), Ok(3));
        reactor.arm(Interest::Writable(Arc::new(writer)), tell.clone(), 4);
        assert_eq!(told.recv_timeout(SOON), Ok(4));
    }
}

#[test]
fn a_cancelled_wait_lets_go_of_its_descriptor() {
    for reactor in all() {
        let (sender, told) = mpsc::sync_channel(100);
        let tell = Arc::new(Tell(sender));
        let (reader, mut writer) = io::pipe().unwrap();
        let key = reactor.arm(Interest::Readable(Arc::new(reader)), tell.clone(), 1);
        writer.write_all(b"").unwrap();
        reactor.cancel(key);
        let begun = Instant::now();
        while writer.write_all(b"x").is_ok() {
            assert!(begun.elapsed() < SOON, "the reading end is open still");
            std::thread::sleep(Duration::from_millis(1));
        }
        let late = reactor.arm(Interest::Until(Instant::now() + NOT), tell, 2);
        reactor.cancel(late);
        while let Ok(what) = told.recv_timeout(2 * NOT) {
            assert_ne!(what, 2, "cancelled");
        }
    }
}

#[test]
fn more_waits_than_a_ring_has_room_for() {
    for reactor in all() {
        let (sender, told) = mpsc::sync_channel(10_000);
        let tell = Arc::new(Tell(sender));
        let (reader, mut writer) = io::pipe().unwrap();
        let fds: Vec<Arc<io::PipeReader>> = (0..400)
            .map(|_| Arc::new(reader.try_clone().unwrap()))
            .collect();
        for round in 0..3 {
            for (what, fd) in fds.iter().enumerate() {
                let what = round * fds.len() + what;
                reactor.arm(Interest::Readable(fd.clone()), tell.clone(), what);
            }
            if round == 0 {
                writer.write_all(b"x").unwrap();
            }
            let mut seen: Vec<usize> = (0..fds.len())
                .map(|_| told.recv_timeout(SOON).unwrap())
                .collect();
            seen.sort_unstable();
            assert!(
                seen.into_iter()
                    .eq(round * fds.len()..(round + 1) * fds.len())
            );
        }
    }
}

#[test]
fn a_word_that_changes_is_told() {
    use std::sync::atomic::AtomicU32;
    let Ok(ring) = uring::Uring::new() else {
        println!("SKIP: no io_uring");
        return;
    };
    if !ring.has_words() {
        println!("SKIP: no futex on rings");
        return;
    }
    static WORD: AtomicU32 = AtomicU32::new(7);
    let reactor = reactor(Box::new(ring));
    let (sender, told) = mpsc::sync_channel(100);
    let tell = Arc::new(Tell(sender));
    // SAFETY: a static.
    let word = unsafe { Word::new(&WORD) };
    reactor.arm(Interest::Word(word, 7), tell.clone(), 1);
    assert!(told.recv_timeout(NOT).is_err());
    WORD.store(0, Ordering::Release);
    // SAFETY: wakes whoever waits for the word.
    unsafe { libc::syscall(libc::SYS_futex, WORD.as_ptr(), libc::FUTEX_WAKE, 1) };
    assert_eq!(told.recv_timeout(SOON), Ok(1));
    reactor.arm(Interest::Word(word, 7), tell, 2);
    assert_eq!(told.recv_timeout(SOON), Ok(2), "it has another value");
}

#[test]
fn a_listener_that_panics_stops_nobody() {
    struct Panic;
    impl Listener for Panic {
        fn fired(self: Arc<Self>, _: usize) {
            // Without the hook's output.
            std::panic::resume_unwind(Box::new(()));
        }
    }
    for reactor in all() {
        let (sender, told) = mpsc::sync_channel(100);
        reactor.arm(Interest::Until(Instant::now()), Arc::new(Panic), 0);
        reactor.arm(
            Interest::Until(Instant::now() + NOT),
            Arc::new(Tell(sender)),
            1,
        );
        assert_eq!(told.recv_timeout(SOON), Ok(1));
    }
}
