//! From the BPF program's events, and a look at the table, to signals.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{Feed, HookStatus, Scenarios},
    netns::Namespaces,
    sysctl::number,
    timer::Timer,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use nix::sys::epoll::Epoll;

use super::rules::{FILLING, MAX};

const FLOWS: &str = "flows-made";
const DROPPED: &str = "packet-dropped";
const UNTRACKED: &str = "packets-untracked";
const COUNT: &str = "net.netfilter.nf_conntrack_count";
/// Shows the table of the calling thread's namespace (CONFIG_NF_CONNTRACK_PROCFS).
const TABLE: &str = "/proc/thread-self/net/nf_conntrack";

/// Scenario numbers of the BPF program and their names; the first two only say where to look.
const SCENARIOS: Scenarios = &[(1, FLOWS), (2, DROPPED), (3, UNTRACKED)];

/// The table is worth a look when so much of its room may be used up: an eighth.
const SHARE_OF_ROOM: u64 = 8;
/// But not with fewer packets than this, and not with more.
const QUOTA: (u64, u64) = (256, 65536);
/// A firewall that drops packets says nothing while the table has room.
const FIREWALL: Duration = Duration::from_secs(10);
/// Of the table, which is in no order: a few hundred entries.
const SAMPLE_BYTES: u64 = 32 * 1024;

/// The program that runs at each packet. A busy host that tracks nothing does without it.
const PACKETS: &str = "packet_leaves";
/// Where the kernel says what it keeps of each kind of object (CONFIG_SLUB_DEBUG).
const SLABS: &str = "/sys/kernel/slab";
/// Without it, whether anything is tracked by now is looked at so often.
const EVERY: Duration = Duration::from_secs(1);
/// And after so long the program is back: only on a busy host is it worth a look a second to do without.
const AWAY: Duration = Duration::from_secs(60);

/// Whether any namespace tracks connections, or did lately: all take their entries from the same slabs, of which there is
/// none before. Where the kernel does not say, it may.
fn something_is_tracked(slabs: &Path) -> bool {
    match fs::read_to_string(slabs.join("nf_conntrack/slabs")) {
        // "7 N0=7"
        Ok(text) => text.split_ascii_whitespace().next() != Some("0"),
        // A module that is not loaded has no slabs.
        Err(error) => error.kind() != ErrorKind::NotFound || !slabs.exists(),
    }
}

/// The hooks of `conntrack.bpf.c`.
pub struct ConntrackSource {
    feed: Feed,
    quotas: Option<MapHandle>,
    /// For the next look whether anything is tracked.
    timer: Timer,
    /// Events and the timer.
    either: Epoll,
    /// [`PACKETS`] is detached until then at the latest.
    away: Option<Instant>,
}

/// A namespace's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Table {
    count: u64,
    max: u64,
}

impl Table {
    fn room(self) -> u64 {
        self.max.saturating_sub(self.count)
    }

    fn filling(self) -> bool {
        self.max > 0 && self.count > self.max / 2
    }

    /// After how many packets of new flows to look again.
    fn quota(self) -> u32 {
        (self.room() / SHARE_OF_ROOM).clamp(QUOTA.0, QUOTA.1) as u32
    }
}

/// What a sample of the table consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    entries: u32,
    /// TCP handshakes that are not complete.
    half_open: u32,
}

impl Sample {
    /// Of the text of /proc/net/nf_conntrack, whose last line may be cut off.
    fn of(text: &str) -> Sample {
        let mut sample = Sample::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace().skip(2);
            let Some(protocol) = words.next() else {
                continue;
            };
            sample.entries += 1;
            // The protocol's number, seconds left, the state.
            let state = words.nth(2).unwrap_or_default();
            if protocol == "tcp" && ["SYN_SENT", "SYN_SENT2", "SYN_RECV"].contains(&state) {
                sample.half_open += 1;
            }
        }
        sample
    }

    fn take() -> Sample {
        let mut text = Vec::new();
        // Where the kernel shows no table nothing is known of it.
        let read = File::open(TABLE).and_then(|file| {
            file.take(SAMPLE_BYTES).read_to_end(&mut text)?;
            Ok(())
        });
        match read {
            Ok(()) => Sample::of(&String::from_utf8_lossy(&text)),
            Err(_) => Sample::default(),
        }
    }
}

impl ConntrackSource {
    pub(super) fn new() -> Result<ConntrackSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/conntrack.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        let timer = Timer::new()?;
        let either = feed.beside(timer.fd())?;
        Ok(ConntrackSource {
            quotas: feed.hooks().map("quotas"),
            feed,
            timer,
            either,
            away: None,
        })
    }

    /// Many packets have left this host, and no table knew them.
    fn leave(&mut self) {
        if self.away.is_none() && !something_is_tracked(Path::new(SLABS)) {
            self.feed.switch(&[PACKETS], false);
            let now = Instant::now();
            self.away = Some(now + AWAY);
            self.timer.set([now + EVERY]);
        }
    }

    /// Comes back where it is time to, or something is tracked.
    fn look_around(&mut self, until: Instant) {
        let now = Instant::now();
        if now < until && !something_is_tracked(Path::new(SLABS)) {
            self.timer.set([now + EVERY]);
            return;
        }
        self.away = None;
        self.feed.switch(&[PACKETS], true);
    }

    /// Looks into a namespace. `None` where it cannot be entered, tracks nothing, or has room.
    fn look(
        &self,
        netns: NetnsCookie,
        dropped: bool,
        namespaces: &mut Namespaces,
    ) -> Option<Signal> {
        // One limit for all; in other namespaces the parameter is a copy that is read-only.
        let max = number(MAX)?;
        let count = namespaces.within(netns, || number(COUNT)).ok()??;
        let table = Table { count, max };
        self.next_look(netns, table.quota());
        if !table.filling() {
            if dropped {
                self.feed.quiet(netns, DROPPED, FIREWALL);
            }
            return None;
        }
        let sample = namespaces.within(netns, Sample::take).ok()?;
        Some(Signal {
            scenario: FILLING.into(),
            netns,
            subject: namespaces.place(netns),
            count: 1,
            figures: vec![
                Figure::new("count", count as f64, ""),
                Figure::new("max", max as f64, ""),
                Figure::new("sampled", sample.entries.into(), ""),
                Figure::new("half_open", sample.half_open.into(), ""),
            ],
        })
    }

    fn next_look(&self, netns: NetnsCookie, quota: u32) {
        let Some(quotas) = &self.quotas else { return };
        let mut value = [0; 8];
        value[4..].copy_from_slice(&quota.to_ne_bytes());
        // Fails only where the kernel has no memory for it: then the old one holds.
        let _ = quotas.update(&netns.0.to_ne_bytes(), &value, MapFlags::ANY);
    }
}

impl Source for ConntrackSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.either.0.as_fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let events = self.feed.drain()?;
        let due = self.timer.take();
        if let Some(until) = self.away.filter(|_| due || !events.is_empty()) {
            self.look_around(until);
        }
        for (scenario, head, _) in events {
            if scenario == UNTRACKED {
                self.leave();
                continue;
            }
            out.extend(self.look(head.netns(), scenario == DROPPED, namespaces));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, netns: NetnsCookie, _: &str, how_long: Duration) {
        self.feed.quiet(netns, FLOWS, how_long);
        self.feed.quiet(netns, DROPPED, how_long);
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80 src=10.0.0.2 dst=10.0.0.1 sport=80 dport=4000 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 57 SYN_RECV src=10.9.0.1 dst=10.0.0.2 sport=4001 dport=80 src=10.0.0.2 dst=10.9.0.1 sport=80 dport=4001 mark=0 zone=0 use=2
ipv6     10 tcp      6 117 SYN_SENT src=fd00::1 dst=fd00::2 sport=1 dport=2 [UNREPLIED] src=fd00::2 dst=fd00::1 sport=2 dport=1 mark=0 use=2
ipv4     2 udp      17 29 src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=53 [UNREPLIED] src=10.0.0.2 dst=10.0.0.1 sport=53 dport=4000 mark=0 use=2
ipv4     2 unknown  2 599 src=10.0.0.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=10.0.0.1 mark=0 use=2
ipv4     2 t";

    #[test]
    fn counts_handshakes_that_are_not_complete() {
        assert_eq!(
            Sample::of(TEXT),
            Sample {
                entries: 6,
                half_open: 2
            }
        );
        assert_eq!(Sample::of(""), Sample::default());
    }

    proptest! {
        #[test]
        fn reads_any_text_without_panic(text in ".*") {
            let _ = Sample::of(&text);
        }
    }

    #[test]
    fn without_slabs_of_entries_nothing_is_tracked() {
        let slabs = tempfile::tempdir().unwrap();
        let tracked = something_is_tracked;
        assert!(!tracked(slabs.path()), "no module");
        assert!(tracked(&slabs.path().join("none")), "nobody can tell");
        let entries = slabs.path().join("nf_conntrack");
        fs::create_dir(&entries).unwrap();
        for (text, any) in [
            ("0\n", false),
            ("0 N0=0\n", false),
            ("7 N0=7\n", true),
            ("", true),
        ] {
            fs::write(entries.join("slabs"), text).unwrap();
            assert_eq!(tracked(slabs.path()), any, "{text:?}");
        }
        fs::remove_file(entries.join("slabs")).unwrap();
        fs::create_dir(entries.join("slabs")).unwrap();
        assert!(tracked(slabs.path()), "it cannot be read");
    }

    #[test]
    fn looks_more_often_the_less_room_is_left() {
        let quota = |count, max| Table { count, max }.quota();
        assert_eq!(quota(0, 262_144), 32768);
        assert_eq!(quota(200_000, 262_144), 7768);
        // A table that is over its limit, none, and a very large one.
        assert_eq!(
            [quota(9000, 8192), quota(0, 0), quota(0, 1 << 30)],
            [256, 256, 65536]
        );
        let filling = |count, max| Table { count, max }.filling();
        assert!(filling(4097, 8192) && !filling(4096, 8192) && !filling(5, 0));
    }
}
