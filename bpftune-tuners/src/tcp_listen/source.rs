//! From the BPF program's events, and the counters read meanwhile, to signals.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use bpftune_core::{
    Error, Figure, Knob, NetnsCookie, Result, Signal, Source,
    bpf::{EventHeader, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
    rounds::{Round, Rounds},
    sysctl,
    trial::Counter,
};
use nix::sys::epoll::Epoll;

use super::{
    relisten::relisten,
    rules::{ACCEPT_QUEUE, SOMAXCONN, SYN_QUEUE},
};
use crate::reach::Done;

const UNANSWERED: &str = "unanswered";
const OWN_BACKLOG: &str = "own-backlog";

/// Scenario numbers of the BPF program and their names. The last two are no signals: one adds to a figure, one is told.
const SCENARIOS: Scenarios = &[
    (1, ACCEPT_QUEUE),
    (2, SYN_QUEUE),
    (3, UNANSWERED),
    (4, OWN_BACKLOG),
];

/// A round; and as many of them after the last event. Bursts that come each second are one story.
const ROUND: Duration = Duration::from_millis(100);
const PATIENCE: u32 = 20;

/// What is counted in each round, in this order.
const COUNTERS: [Counter; 6] = [
    Counter::net("TcpExt", "ListenOverflows"),
    Counter::net("TcpExt", "ListenDrops"),
    Counter::net("TcpExt", "TCPReqQFullDoCookies"),
    Counter::net("TcpExt", "SyncookiesSent"),
    Counter::net("TcpExt", "SyncookiesRecv"),
    Counter::net("Tcp", "PassiveOpens"),
];

/// The hooks of `tcp_listen.bpf.c`, and counters of the namespaces in which they fire.
pub struct TcpListenSource {
    feed: Feed,
    rounds: Rounds,
    /// Both of them.
    either: Epoll,
    places: HashMap<NetnsCookie, Place>,
    quiet: HashMap<(NetnsCookie, &'static str), Instant>,
    /// Ports whose own backlog was told of.
    told: HashSet<(NetnsCookie, u16)>,
}

/// What is known of a namespace while it is watched.
#[derive(Debug, Default)]
struct Place {
    listener: Listener,
    /// Events of this round.
    accept_events: u32,
    syn_events: u32,
    unanswered: u32,
    /// Handshakes of the last rounds, the newest last.
    handshakes: VecDeque<Handshakes>,
}

/// What became of the handshakes of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Handshakes {
    answered: f64,
    unanswered: f64,
    over: Duration,
}

/// `struct tcp_listen_event` after its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Listener {
    accept_queue: u32,
    syn_queue: u32,
    backlog: u32,
    somaxconn: u32,
    max_syn_backlog: u32,
    port: u16,
    syncookies: u8,
}

impl Listener {
    fn parse(body: &[u8]) -> Option<Listener> {
        let body = Fields(body);
        Some(Listener {
            accept_queue: body.u32(0)?,
            syn_queue: body.u32(4)?,
            backlog: body.u32(8)?,
            somaxconn: body.u32(12)?,
            max_syn_backlog: body.u32(16)?,
            port: body.u16(20)?,
            syncookies: body.u8(22)?,
        })
    }
}

impl TcpListenSource {
    pub(super) fn new() -> Result<TcpListenSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/tcp_listen.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        let rounds = Rounds::new(COUNTERS.to_vec(), ROUND, PATIENCE)?;
        let either = feed.beside(rounds.fd())?;
        Ok(TcpListenSource {
            feed,
            rounds,
            either,
            places: HashMap::new(),
            quiet: HashMap::new(),
            told: HashSet::new(),
        })
    }

    fn on_event(
        &mut self,
        scenario: &'static str,
        head: &EventHeader,
        listener: Listener,
        namespaces: &mut Namespaces,
    ) -> Result<()> {
        let netns = head.netns();
        if scenario == OWN_BACKLOG {
            if self.told.len() < 1024 && self.told.insert((netns, listener.port)) {
                tracing::info!("{}", own_backlog(&namespaces.place(netns), &listener));
            }
            return Ok(());
        }
        if self.is_quiet(netns, scenario) || !self.rounds.keep(netns, namespaces)? {
            return Ok(());
        }
        self.places
            .entry(netns)
            .or_default()
            .add(scenario, head.count, listener);
        Ok(())
    }

    fn is_quiet(&self, netns: NetnsCookie, scenario: &'static str) -> bool {
        let until = self.quiet.get(&(netns, scenario));
        until.is_some_and(|until| *until > Instant::now())
    }

    fn on_round(&mut self, round: &Round, namespaces: &mut Namespaces, out: &mut Vec<Signal>) {
        let Some(place) = self.places.get_mut(&round.netns) else {
            return;
        };
        let signals = place.end(round);
        if round.last && signals.is_empty() {
            self.places.remove(&round.netns);
        }
        for signal in signals {
            let scenario = if signal.scenario == ACCEPT_QUEUE {
                ACCEPT_QUEUE
            } else {
                SYN_QUEUE
            };
            if !self.is_quiet(round.netns, scenario) {
                // Refused ones raise no event: as long as there are any, there is something to see.
                let _ = self.rounds.keep(round.netns, namespaces);
                out.push(signal);
            }
        }
    }
}

/// For whom no limit of the kernel can do anything.
fn own_backlog(place: &str, listener: &Listener) -> String {
    format!(
        "the accept queue of port {} in {place} is full at {}: the backlog that its application asked listen(2) for, \
         less than the {} that net.core.somaxconn allows. Only the application can ask for more",
        listener.port, listener.backlog, listener.somaxconn
    )
}

impl Place {
    fn add(&mut self, scenario: &str, count: u32, listener: Listener) {
        let before = self.listener;
        self.listener = Listener {
            accept_queue: before.accept_queue.max(listener.accept_queue),
            syn_queue: before.syn_queue.max(listener.syn_queue),
            ..listener
        };
        let events = match scenario {
            ACCEPT_QUEUE => &mut self.accept_events,
            SYN_QUEUE => &mut self.syn_events,
            _ => &mut self.unanswered,
        };
        *events = events.saturating_add(count);
    }

    /// What a round tells; the next one begins.
    fn end(&mut self, round: &Round) -> Vec<Signal> {
        let [overflows, dropped, cookies, sent, received, opened] = round.grew[..] else {
            return Vec::new();
        };
        // Those of the accept queue are among them.
        let dropped = (dropped - overflows).max(0.0);
        self.handshakes.push_back(Handshakes {
            answered: opened,
            // A cookie that was sent in this round may come back in the next one.
            unanswered: f64::from(self.unanswered) + sent - received,
            over: round.over,
        });
        if self.handshakes.len() > PATIENCE as usize {
            self.handshakes.pop_front();
        }
        let sum = self
            .handshakes
            .iter()
            .fold(Handshakes::default(), |sum, one| Handshakes {
                answered: sum.answered + one.answered,
                unanswered: sum.unanswered + one.unanswered,
                over: sum.over + one.over,
            });
        let signal = |scenario: &'static str, events: u32, refused: f64| Signal {
            scenario: scenario.into(),
            netns: round.netns,
            subject: format!("port {}", self.listener.port),
            count: events.max(1),
            figures: vec![
                Figure::new("accept_queue", self.listener.accept_queue.into(), ""),
                Figure::new("syn_queue", self.listener.syn_queue.into(), ""),
                Figure::new("backlog", self.listener.backlog.into(), ""),
                Figure::new("somaxconn", self.listener.somaxconn.into(), ""),
                Figure::new("max_syn_backlog", self.listener.max_syn_backlog.into(), ""),
                Figure::new("syncookies", self.listener.syncookies.into(), ""),
                Figure::new("refused", refused, ""),
                Figure::new("answered", sum.answered, ""),
                Figure::new("unanswered", sum.unanswered.max(0.0), ""),
                Figure::new("watched", sum.over.as_secs_f64(), "s"),
            ],
        };
        let mut signals = Vec::new();
        if overflows > 0.0 || self.accept_events > 0 {
            signals.push(signal(ACCEPT_QUEUE, self.accept_events, overflows));
        }
        if dropped + cookies > 0.0 || self.syn_events + self.unanswered > 0 {
            let events = self.syn_events.saturating_add(self.unanswered);
            signals.push(signal(SYN_QUEUE, events, dropped + cookies));
        }
        (self.accept_events, self.syn_events, self.unanswered) = (0, 0, 0);
        (self.listener.accept_queue, self.listener.syn_queue) = (0, 0);
        signals
    }
}

impl Source for TcpListenSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.either.0.as_fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            if let Some(listener) = Listener::parse(&body) {
                self.on_event(scenario, &head, listener, namespaces)?;
            }
        }
        for round in self.rounds.look(namespaces)? {
            self.on_round(&round, namespaces, out);
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, netns: NetnsCookie, scenario: &str, how_long: Duration) {
        self.feed.quiet(netns, scenario, how_long);
        let now = Instant::now();
        self.quiet.retain(|_, until| *until > now);
        if let Some((_, scenario)) = SCENARIOS.iter().find(|(_, name)| *name == scenario) {
            self.quiet.insert((netns, scenario), now + how_long);
        }
    }

    /// Listeners that were cut down to the old limit get the new one.
    fn after_change(&mut self, knob: &Knob) -> Result<()> {
        let Some(place) = self.places.get_mut(&knob.netns) else {
            return Ok(());
        };
        if knob.tunable != SOMAXCONN {
            return Ok(());
        }
        let path = sysctl::path(SOMAXCONN);
        let text = fs::read_to_string(&path).map_err(|source| Error::File {
            action: "read",
            path,
            source,
        })?;
        let Ok(new) = text.trim().parse::<u32>() else {
            return Ok(());
        };
        let old = std::mem::replace(&mut place.listener.somaxconn, new);
        place.listener.backlog = place.listener.backlog.max(new);
        if let Some(done) = relisten(self.feed.hooks(), knob.netns, old, new)? {
            tell(&done, old, new);
        }
        Ok(())
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

fn tell(done: &Done, old: u32, new: u32) {
    let Done { reached, kept, why } = done;
    if let Some(why) = why {
        tracing::warn!(
            "{kept} listeners keep a backlog of {old} until their application calls listen(2) again: pidfd_getfd(2) or \
             listen(2): {why}; {reached} have {new} now"
        );
    } else if *reached > 0 {
        tracing::info!("{reached} running listeners have a backlog of {new} now instead of {old}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Listener::parse(&bytes);
        }
    }

    fn event() -> Listener {
        let mut body = [0; 24];
        for (at, number) in [129u32, 3, 128, 128, 512].into_iter().enumerate() {
            body[at * 4..][..4].copy_from_slice(&number.to_ne_bytes());
        }
        body[20..22].copy_from_slice(&8080u16.to_ne_bytes());
        body[22] = 1;
        Listener::parse(&body).unwrap()
    }

    fn round(grew: [f64; 6]) -> Round {
        Round {
            netns: NetnsCookie(7),
            over: Duration::from_millis(100),
            grew: grew.to_vec(),
            now: grew.to_vec(),
            last: false,
        }
    }

    #[test]
    fn a_round_with_an_event_tells_of_the_accept_queue() {
        let mut place = Place::default();
        place.add(ACCEPT_QUEUE, 5, event());
        let signals = place.end(&round([40.0, 40.0, 0.0, 0.0, 0.0, 129.0]));
        assert_eq!(signals.len(), 1);
        assert_eq!(
            (&*signals[0].scenario, signals[0].count),
            ("accept-queue-full", 5)
        );
        for (name, value) in [
            ("accept_queue", 129.0),
            ("backlog", 128.0),
            ("somaxconn", 128.0),
            ("refused", 40.0),
            ("answered", 129.0),
            ("unanswered", 0.0),
        ] {
            assert_eq!(signals[0].figure(name), Some(value), "{name}");
        }
        assert!(place.end(&round([0.0; 6])).is_empty(), "it is over");
    }

    #[test]
    fn cookies_that_come_back_late_are_answered() {
        let mut place = Place::default();
        place.add(SYN_QUEUE, 1, event());
        let first = place.end(&round([0.0, 0.0, 500.0, 500.0, 0.0, 0.0]));
        assert_eq!(first[0].scenario, "syn-queue-full");
        assert_eq!(first[0].figure("unanswered"), Some(500.0));
        place.add(UNANSWERED, 7, event());
        let second = place.end(&round([0.0, 0.0, 0.0, 0.0, 490.0, 618.0]));
        assert_eq!(second[0].figure("unanswered"), Some(17.0));
        assert_eq!(second[0].figure("answered"), Some(618.0));
    }

    #[test]
    fn only_the_last_rounds_count() {
        let mut place = Place::default();
        for _ in 0..100 {
            place.end(&round([0.0, 0.0, 0.0, 0.0, 0.0, 10.0]));
        }
        place.add(ACCEPT_QUEUE, 1, event());
        let signals = place.end(&round([0.0; 6]));
        assert_eq!(signals[0].figure("answered"), Some(190.0));
        let watched = signals[0].figure("watched").unwrap();
        assert!((watched - 2.0).abs() < 1e-9, "{watched}");
    }

    #[test]
    fn who_asked_for_less_is_told() {
        let said = own_backlog(
            "host",
            &Listener {
                backlog: 5,
                somaxconn: 4096,
                port: 8080,
                ..Listener::default()
            },
        );
        assert!(said.contains("port 8080 in host is full at 5"), "{said}");
    }
}
