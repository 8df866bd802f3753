//! From the BPF program's counts to signals, and figures of the device on trial.

use std::{
    collections::HashMap,
    fs,
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use bpftune_core::{
    Figure, NetnsCookie, Result, Signal, Source,
    bpf::{Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{
    arms::SCHEDULERS,
    rules::{BYTES, READ_TIME, READS_SLOW, READS_TIMED, SLOW, WAITS},
    sums::Sums,
};
use crate::{disks, focus::Focus};

const SCENARIOS: Scenarios = &[(1, WAITS)];

/// A look longer ago than this tells nothing of now.
const STALE: Duration = Duration::from_secs(4);
/// Silence is never longer: other devices speak by the same name.
const MOST_QUIET: Duration = Duration::from_secs(10);
/// The kernel's own number of requests where a scheduler shares them out (BLKDEV_DEFAULT_RQ, twice).
const SHARED_OUT: i64 = 128;

/// The hooks of `blk_queue.bpf.c`.
pub struct BlkQueueSource {
    feed: Feed,
    devices: Option<MapHandle>,
    focus: Focus<u32>,
    /// The last look at each device.
    looks: HashMap<u32, (Instant, Sums)>,
    quiet_until: Option<Instant>,
}

impl BlkQueueSource {
    pub(super) fn new() -> Result<BlkQueueSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/blk_queue.bpf.o"));
        let feed = Feed::load(super::NAME, object, SCENARIOS)?;
        Ok(BlkQueueSource {
            devices: feed.hooks().map("devices"),
            feed,
            focus: Focus::new(disks::FOCUS),
            looks: HashMap::new(),
            quiet_until: None,
        })
    }

    fn sums(&self, dev: u32) -> Option<Sums> {
        let map = self.devices.as_ref()?;
        let each = map
            .lookup_percpu(&dev.to_ne_bytes(), MapFlags::ANY)
            .ok()??;
        Sums::of(&each)
    }

    /// What happened on a device since the last look at it, which was not long ago.
    fn look(&mut self, dev: u32, now: Instant) -> Option<(Sums, f64)> {
        let sums = self.sums(dev)?;
        if self.looks.len() > 64 {
            self.looks
                .retain(|_, (at, _)| now.duration_since(*at) < STALE);
        }
        let (at, before) = self.looks.insert(dev, (now, sums.clone()))?;
        let over = now.duration_since(at);
        (over < STALE).then(|| (sums.since(&before), over.as_secs_f64()))
    }
}

fn signal(disk: String, count: u32, seen: &Sums, seconds: f64, netns: NetnsCookie) -> Signal {
    let rate = |number: u64| number as f64 / seconds.max(1e-3);
    let mut figures = vec![
        Figure::new("reads", rate(seen.bios[0]), "/s"),
        Figure::new("writes", rate(seen.bios[1]), "/s"),
        Figure::new("bytes", rate(seen.bytes[0] + seen.bytes[1]), "B/s"),
        Figure::new("read_mean", seen.mean(0), "s"),
        Figure::new("read_99", seen.read_quantile(0.99), "s"),
        Figure::new("write_mean", seen.mean(1), "s"),
        Figure::new("reading", seen.depth(0, seconds), ""),
        Figure::new("writing", seen.depth(1, seconds), ""),
    ];
    figures.extend(offers(&Path::new("/sys/block").join(&disk)));
    Signal {
        scenario: WAITS.into(),
        netns,
        subject: disk,
        count,
        figures,
    }
}

/// What the device could have: its schedulers, and how many requests it has if nobody says so.
fn offers(device: &Path) -> Vec<Figure> {
    let text = fs::read_to_string(device.join("queue/scheduler")).unwrap_or_default();
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let mut figures: Vec<Figure> = SCHEDULERS
        .iter()
        .filter(|name| {
            words
                .iter()
                .any(|word| word.trim_matches(['[', ']']) == **name)
        })
        .map(|name| Figure::new(name, 1.0, ""))
        .collect();
    let tags = fs::read_to_string(device.join("mq/0/nr_tags")).unwrap_or_default();
    if let Ok(tags) = tags.trim().parse::<i64>() {
        let default = if words.contains(&"[none]") {
            tags
        } else {
            2 * tags.min(SHARED_OUT)
        };
        figures.push(Figure::new("default_requests", default as f64, ""));
    }
    figures
}

impl Source for BlkQueueSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let now = Instant::now();
        for (_, head, body) in self.feed.drain()? {
            let Some(dev) = Fields(&body).u32(0) else {
                continue;
            };
            let seen = self.look(dev, now);
            if self.quiet_until.is_some_and(|until| until > now) {
                continue;
            }
            if let Some((seen, seconds)) = seen
                && let Some(disk) = disks::name(dev)
                && self.focus.takes(&dev, now)
            {
                out.push(signal(disk, head.count, &seen, seconds, namespaces.own()));
            }
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn quiet(&mut self, _: NetnsCookie, _: &str, how_long: Duration) {
        self.quiet_until = Some(Instant::now() + how_long.min(MOST_QUIET));
    }

    fn figure(&mut self, _: NetnsCookie, name: &str) -> Option<f64> {
        let sums = self.sums(*self.focus.on()?)?;
        match name {
            READ_TIME => Some(sums.waited_ns[0] as f64 / 1e9),
            READS_TIMED => Some(sums.timed[0] as f64),
            READS_SLOW => Some(sums.reads_longer(SLOW) as f64),
            BYTES => Some((sums.bytes[0] + sums.bytes[1]) as f64),
            _ => None,
        }
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_offers_is_read_from_its_files() {
        let device = tempfile::tempdir().unwrap();
        for folder in ["queue", "mq/0"] {
            fs::create_dir_all(device.path().join(folder)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(device.path().join(name), text).unwrap();
        let has = |name: &str| {
            let figures = offers(device.path());
            let found = figures.iter().find(|figure| figure.name == name);
            found.map(|figure| figure.value)
        };
        assert!(offers(device.path()).is_empty(), "a device without a queue");
        write("queue/scheduler", "none [mq-deadline] bfq future\n");
        write("mq/0/nr_tags", "128\n");
        assert_eq!(
            (has("bfq"), has("kyber"), has("future")),
            (Some(1.0), None, None)
        );
        assert_eq!(has("default_requests"), Some(256.0));
        write("mq/0/nr_tags", "1023\n");
        assert_eq!(has("default_requests"), Some(256.0));
        write("queue/scheduler", "[none] mq-deadline\n");
        assert_eq!(has("default_requests"), Some(1023.0));
    }

    #[test]
    fn counts_become_rates() {
        let mut seen = Sums::default();
        (seen.bios, seen.bytes) = ([200, 50], [4096 * 200, 50 << 20]);
        (seen.timed, seen.waited_ns) = ([200, 50], [200_000_000, 2_000_000_000]);
        let signal = signal("no-such-disk".into(), 3, &seen, 2.0, NetnsCookie(5));
        for (name, value) in [
            ("reads", 100.0),
            ("writes", 25.0),
            ("read_mean", 0.001),
            ("writing", 1.0),
        ] {
            let found = signal.figure(name).unwrap();
            assert!((found - value).abs() < 1e-9, "{name}: {found}");
        }
        assert_eq!(signal.figure("default_requests"), None);
    }
}
