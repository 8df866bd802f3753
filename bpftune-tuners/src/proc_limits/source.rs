//! From the BPF program's events, and what /proc says about the limit, to signals.

use std::{
    fs,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, Knob, NetnsCookie, Result, Signal, Source,
    bpf::{EventHeader, Feed, Fields, HookStatus, SHARED, Scenarios},
    netns::Namespaces,
    sysctl,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{
    crowd::{Crowd, bomb},
    limits::{
        AIO, FILES, INSTANCES, KEYS, MAX_KEY_BYTES, MAX_KEYS, PID_MAX, TASKS, THREADS_MAX, USERNS,
        WATCHES,
    },
};

/// Scenario numbers of the BPF program and their names.
const SCENARIOS: Scenarios = &[
    (1, TASKS),
    (2, WATCHES),
    (3, INSTANCES),
    (4, USERNS),
    (5, CENSUS),
];

/// No signal: time to look at what the kernel counts for the host alone.
const CENSUS: &str = "census";

/// A crowd that is a bomb is looked at again so much later, and told of so often at most.
const BOMB_REST: Duration = Duration::from_secs(5);
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// `struct limit_event` of the BPF program after its head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Event {
    used: u64,
    limit: u64,
    uid: u32,
    pid: u32,
    name: String,
}

impl Event {
    fn parse(body: &[u8]) -> Option<Event> {
        let body = Fields(body);
        Some(Event {
            used: body.u64(0)?,
            limit: body.u64(8)?,
            uid: body.u32(16)?,
            pid: body.u32(20)?,
            name: body.text(24, 16)?,
        })
    }

    fn subject(&self) -> String {
        let Event { name, pid, uid, .. } = self;
        format!("{name} (process {pid} of user {uid})")
    }
}

/// The hooks of `proc_limits.bpf.c`.
pub struct ProcLimitsSource {
    feed: Feed,
    settings: Option<MapHandle>,
    told: Option<Instant>,
}

impl ProcLimitsSource {
    pub(super) fn new() -> Result<ProcLimitsSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/proc_limits.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        let source = ProcLimitsSource {
            settings: feed.hooks().map("settings"),
            feed,
            told: None,
        };
        source.watch_tasks();
        Ok(source)
    }

    /// Tells the program from how many tasks on a new one is news: three quarters of what there may be.
    fn watch_tasks(&self) {
        let Some(settings) = &self.settings else {
            return;
        };
        let from = task_limit().map_or(0, |limit| limit / 4 * 3);
        // The number that /proc shows of a namespace is its inode.
        let pid_ns = fs::metadata("/proc/self/ns/pid").map_or(0, |ns| ns.ino() as u32);
        let mut value = [0; 16];
        value[..8].copy_from_slice(&from.to_ne_bytes());
        value[8..12].copy_from_slice(&pid_ns.to_ne_bytes());
        if let Err(error) = settings.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY) {
            tracing::warn!("{}: tasks are not watched: {error}", super::NAME);
        }
    }

    /// Who the tasks are. `None` where there are not so many after all, or it is a bomb.
    fn crowd(&mut self, event: &Event) -> Result<Option<Vec<Figure>>> {
        self.watch_tasks();
        let mut bytes = Vec::new();
        if self
            .feed
            .hooks()
            .iterate_into("processes", &mut bytes)?
            .is_none()
        {
            // Nothing is known of them, so nothing is raised.
            return Ok(None);
        }
        let crowd = Crowd::parse(&bytes);
        let Some(why) = bomb(crowd.tasks, crowd.kin, crowd.brood, crowd.young) else {
            return Ok(Some(crowd.figures().to_vec()));
        };
        self.feed.quiet(SHARED, TASKS, BOMB_REST);
        if self.told.is_none_or(|told| told.elapsed() > TELL_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(
                "{} tasks, of which {} are processes \"{}\" of user {}: {why}. That is a fork bomb, or looks like one, and \
                 no limit is raised for it. The last one was made by {}",
                crowd.tasks,
                crowd.kin,
                crowd.name,
                crowd.uid,
                event.subject()
            );
        }
        Ok(None)
    }

    fn signal(
        &mut self,
        scenario: &'static str,
        head: &EventHeader,
        event: &Event,
    ) -> Result<Option<Signal>> {
        let mut figures = match scenario {
            TASKS => match self.crowd(event)? {
                Some(figures) => figures,
                None => return Ok(None),
            },
            _ => vec![number("used", event.used), number("limit", event.limit)],
        };
        figures.push(number("uid", event.uid.into()));
        let subject = match scenario {
            TASKS => event.subject(),
            // Seen where some process of the user began or ended.
            _ => format!("user {}", event.uid),
        };
        Ok(Some(signal(scenario, subject, head.count, figures)))
    }
}

fn number(name: &'static str, value: u64) -> Figure {
    Figure::new(name, value as f64, "")
}

fn signal(scenario: &'static str, subject: String, count: u32, figures: Vec<Figure>) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: SHARED,
        subject,
        count,
        figures,
    }
}

/// What is nearly used up of that which the kernel counts in /proc only.
fn census() -> Vec<Signal> {
    let files = numbers("fs.file-nr");
    let of_host = [
        (FILES, files.first().copied(), files.get(2).copied()),
        (
            AIO,
            numbers("fs.aio-nr").first().copied(),
            numbers("fs.aio-max-nr").first().copied(),
        ),
    ];
    let mut found: Vec<Signal> = of_host
        .into_iter()
        .filter_map(|(scenario, used, limit)| {
            let (used, limit) = (used?, limit?);
            let figures = vec![number("used", used), number("limit", limit)];
            let short = used.saturating_mul(2) > limit;
            short.then(|| signal(scenario, "this host".into(), 1, figures))
        })
        .collect();
    let most = [MAX_KEYS, MAX_KEY_BYTES].map(|name| numbers(name).first().copied());
    if let [Some(max_keys), Some(max_bytes)] = most {
        let users = fs::read_to_string("/proc/key-users").unwrap_or_default();
        let short = |used: u64, limit: u64| used.saturating_mul(2) > limit;
        let users = users.lines().filter_map(key_user);
        found.extend(
            users
                .filter(|(_, [keys, bytes])| short(*keys, max_keys) || short(*bytes, max_bytes))
                .map(|(uid, [keys, bytes])| {
                    let figures = vec![
                        number("used", keys),
                        number("limit", max_keys),
                        number("used_bytes", bytes),
                        number("limit_bytes", max_bytes),
                        number("uid", uid),
                    ];
                    signal(KEYS, format!("user {uid}"), 1, figures)
                }),
        );
    }
    found
}

/// The numbers of a sysctl; none where there is no such.
fn numbers(name: &str) -> Vec<u64> {
    let text = fs::read_to_string(sysctl::path(name)).unwrap_or_default();
    text.split_ascii_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

fn task_limit() -> Option<u64> {
    let limits = [PID_MAX, THREADS_MAX].map(|name| numbers(name).first().copied());
    limits.into_iter().flatten().min()
}

/// A user's number, keys and bytes in keys: "1000: 9 8/8 3/200 40/20000" of proc_key_users(5).
fn key_user(line: &str) -> Option<(u64, [u64; 2])> {
    let (user, rest) = line.split_once(':')?;
    let quota = |at: usize| {
        let word = rest.split_ascii_whitespace().nth(at)?;
        word.split_once('/')?.0.parse().ok()
    };
    Some((user.trim().parse().ok()?, [quota(2)?, quota(3)?]))
}

impl Source for ProcLimitsSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let Some(event) = Event::parse(&body) else {
                continue;
            };
            if scenario == CENSUS {
                for mut signal in census() {
                    signal.netns = namespaces.own();
                    out.push(signal);
                }
                continue;
            }
            if let Some(mut signal) = self.signal(scenario, &head, &event)? {
                signal.netns = namespaces.own();
                out.push(signal);
            }
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(SHARED, scenario, how_long);
    }

    fn after_change(&mut self, knob: &Knob) -> Result<()> {
        if [PID_MAX, THREADS_MAX].contains(&knob.tunable.as_str()) {
            self.watch_tasks();
        }
        Ok(())
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Event::parse(&bytes);
        }

        #[test]
        fn reads_any_text_without_panic(text in ".*") {
            let _ = key_user(&text);
        }
    }

    #[test]
    fn parses_an_event() {
        let mut body = [0; 40];
        body[..8].copy_from_slice(&8193u64.to_ne_bytes());
        body[8..16].copy_from_slice(&8192u64.to_ne_bytes());
        body[16..20].copy_from_slice(&1000u32.to_ne_bytes());
        body[20..24].copy_from_slice(&42u32.to_ne_bytes());
        body[24..28].copy_from_slice(b"code");
        let event = Event::parse(&body).unwrap();
        assert_eq!((event.used, event.limit), (8193, 8192));
        assert_eq!(event.subject(), "code (process 42 of user 1000)");
    }

    #[test]
    fn reads_users_of_keys() {
        let line = " 1000:   201 200/200 199/200 4000/20000";
        assert_eq!(key_user(line), Some((1000, [199, 4000])));
        assert_eq!(
            key_user("    0:     9 8/8 3/1000000 40/25000000"),
            Some((0, [3, 40]))
        );
        assert_eq!(key_user("0: 1 2/3"), None);
    }

    #[test]
    fn a_host_at_rest_is_short_of_nothing_that_is_counted_in_proc() {
        for signal in census() {
            let short = signal.figure("used") > signal.figure("limit").map(|limit| limit / 2.0)
                || signal.figure("used_bytes")
                    > signal.figure("limit_bytes").map(|limit| limit / 2.0);
            assert!(short, "{signal:?}");
        }
    }

    #[test]
    fn this_host_has_limits_on_tasks() {
        assert!(task_limit().unwrap() > 300);
    }
}
