//! From the BPF programs' events to signals, and what a device took in on trial.

use std::{
    collections::HashMap,
    fs,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use bpftune_core::{
    Cpus, Figure, NetnsCookie, Result, Signal, Source,
    bpf::{EventHeader, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle, num_possible_cpus};

use super::{
    company::Company,
    follow::{READ_ELSEWHERE, strays},
    interrupts::Interrupts,
    load::Load,
    rules::{ONE_SIDED, PACKETS, one_sided},
    spread::{LEFT, is_shared},
};
use crate::focus::Focus;

const SCENARIOS: Scenarios = &[(1, "taken-in"), (READ, "read")];
const READ: u32 = 2;

/// The hook at each read, attached while packets of some device are steered by a hash alone.
const READER: &str = "connection_read";
/// It stays so long after the last one.
const STEERED: Duration = Duration::from_secs(10);

/// So long after its last signal a device is the one of its namespace that a trial may be about.
const FOCUS: Duration = Duration::from_secs(10);

/// The hooks of `irq_steer.bpf.c`.
pub struct IrqSteerSource {
    feed: Feed,
    lanes: Option<MapHandle>,
    cpus: u32,
    places: Vec<Cpus>,
    load: Load,
    company: Company,
    interrupts: Interrupts,
    /// Its programs, and whether interrupts may be moved.
    status: Vec<HookStatus>,
    /// Of each namespace the device that is looked at now.
    focus: HashMap<NetnsCookie, Focus<Device>>,
    /// The processor that had too much to do when a focus began.
    busy: HashMap<NetnsCookie, u32>,
    /// When a device's packets were last steered by a hash alone, while readers are watched for it.
    steered: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    ifindex: u32,
    name: String,
}

/// `struct irq_steer_event` after its head.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    device: Device,
    cpu: u32,
    /// Or reads.
    packets: u32,
    over_ms: u32,
    elsewhere: u32,
    queues: u32,
    by_hash: bool,
}

impl Taken {
    fn parse(body: &[u8]) -> Option<Taken> {
        let body = Fields(body);
        Some(Taken {
            device: Device {
                ifindex: body.u32(0)?,
                name: body.text(16, 16)?,
            },
            cpu: body.u32(4)?,
            packets: body.u32(8)?,
            over_ms: body.u32(12)?,
            elsewhere: body.u32(32)?,
            queues: body.u32(36)?,
            by_hash: body.u32(40)? != 0,
        })
    }

    fn per_second(&self) -> f64 {
        f64::from(self.packets) * 1000.0 / f64::from(self.over_ms.max(1))
    }
}

/// `struct lane`.
fn lane(netns: NetnsCookie, ifindex: u32, cpu: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&netns.0.to_ne_bytes());
    key[8..12].copy_from_slice(&ifindex.to_ne_bytes());
    key[12..].copy_from_slice(&cpu.to_ne_bytes());
    key
}

impl IrqSteerSource {
    pub(super) fn new(places: Vec<Cpus>) -> Result<IrqSteerSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/irq_steer.bpf.o"));
        let feed = Feed::load_detached(super::NAME, object, SCENARIOS, &[READER])?;
        let interrupts = Interrupts::default();
        let mut status = feed.status().to_vec();
        status.push(interrupts.status());
        Ok(IrqSteerSource {
            status,
            company: Company::default(),
            interrupts,
            lanes: feed.hooks().map("lanes"),
            cpus: num_possible_cpus().map_or(1, |cpus| cpus as u32),
            feed,
            places,
            load: Load::default(),
            focus: HashMap::new(),
            busy: HashMap::new(),
            steered: None,
        })
    }

    /// A processor that a device brings too much to; `own`: this process's namespace, whose devices have their files in /sys.
    fn signal(
        &mut self,
        head: &EventHeader,
        taken: Taken,
        own: NetnsCookie,
        now: Instant,
    ) -> Option<Signal> {
        let (netns, packets) = (head.netns(), taken.per_second());
        let place = (netns, taken.device.ifindex);
        let company = self.company.of(taken.cpu, place, packets, now);
        let share = self.load.of(taken.cpu)?;
        let place = self.places.iter().find(|place| place.contains(taken.cpu))?;
        let others = place.iter().filter(|cpu| *cpu != taken.cpu);
        let (to, spare) = others
            .filter_map(|cpu| Some((cpu, self.load.of(cpu)?.idle)))
            .max_by(|one, other| one.1.total_cmp(&other.1))?;
        if !one_sided(share.softirq, share.idle, spare) {
            return None;
        }
        let interrupt = (netns == own && company > 0.0 && is_shared(packets, company))
            .then(|| self.interrupt(&taken))
            .flatten();
        let goes_on = self.focus.get(&netns).is_some_and(|focus| focus.holds(now));
        if interrupt.is_none() && taken.queues > 1 || !self.looks_at(netns, &taken.device, now) {
            return None;
        }
        if !goes_on {
            self.busy.insert(netns, taken.cpu);
        }
        let mut figures = vec![
            Figure::new("cpu", taken.cpu.into(), ""),
            Figure::new("packets", packets, "/s"),
            Figure::new("softirq", share.softirq, "of its time"),
            Figure::new("idle", share.idle, "of its time"),
            Figure::new("spare", spare, "of another one's time"),
            Figure::new("queues", taken.queues.into(), ""),
        ];
        if let Some(number) = interrupt {
            figures.push(Figure::new("interrupt", number.into(), ""));
            figures.push(Figure::new("to", to.into(), ""));
            figures.push(Figure::new("company", company, "/s"));
        }
        Some(Signal {
            scenario: ONE_SIDED.into(),
            netns,
            count: head.count,
            figures,
            subject: taken.device.name,
        })
    }

    /// The interrupt that brings a device's packets to a processor, where it may be moved.
    fn interrupt(&mut self, taken: &Taken) -> Option<u32> {
        let status = self.status.last_mut()?;
        *status = self.interrupts.status();
        if status.off.is_some() {
            return None;
        }
        self.interrupts.of_device(&taken.device.name, taken.cpu)
    }

    /// Readers of a device whose packets are steered by a hash.
    fn readers(&mut self, head: &EventHeader, reads: Taken, now: Instant) -> Option<Signal> {
        let share = f64::from(reads.elsewhere) / f64::from(reads.packets.max(1));
        if !strays(share) || !self.looks_at(head.netns(), &reads.device, now) {
            return None;
        }
        Some(Signal {
            scenario: READ_ELSEWHERE.into(),
            netns: head.netns(),
            count: head.count,
            figures: vec![
                Figure::new("cpu", reads.cpu.into(), ""),
                Figure::new("reads", reads.per_second(), "/s"),
                Figure::new("elsewhere", share, "of them"),
            ],
            subject: reads.device.name,
        })
    }

    /// Watches readers while there is a device to watch them for. Nothing is counted, so nothing is lost between.
    fn watch_readers(&mut self, seen: bool, now: Instant) {
        if seen && self.steered.replace(now).is_none() {
            self.feed.switch(&[READER], true);
            let hooks = ..self.status.len() - 1;
            self.status[hooks].clone_from_slice(self.feed.status());
        } else if self.steered.is_some_and(|last| now - last >= STEERED) {
            self.steered = None;
            self.feed.switch(&[READER], false);
        }
    }

    /// Whether a device may be heard now; then it is the one whose packets are counted.
    fn looks_at(&mut self, netns: NetnsCookie, device: &Device, now: Instant) -> bool {
        self.focus.retain(|_, focus| focus.holds(now));
        let focus = &self.focus;
        self.busy.retain(|netns, _| focus.contains_key(netns));
        let focus = self.focus.entry(netns);
        focus
            .or_insert_with(|| Focus::new(FOCUS))
            .takes(device, now)
    }
}

impl Source for IrqSteerSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        let events = self.feed.drain()?;
        if events.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        self.load
            .look(now, || fs::read_to_string("/proc/stat").unwrap_or_default());
        let mut by_hash = false;
        for (_, head, body) in events {
            let signal = Taken::parse(&body).and_then(|taken| {
                by_hash |= taken.by_hash;
                match head.scenario {
                    READ => self.readers(&head, taken, now),
                    _ => self.signal(&head, taken, namespaces.own(), now),
                }
            });
            out.extend(signal);
        }
        self.watch_readers(by_hash, now);
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        &self.status
    }

    fn figure(&mut self, netns: NetnsCookie, name: &str) -> Option<f64> {
        if name == LEFT {
            let text = fs::read_to_string("/proc/stat").ok()?;
            return Load::left(&text, *self.busy.get(&netns)?);
        }
        let device = self.focus.get(&netns)?.on()?;
        let lanes = self.lanes.as_ref().filter(|_| name == PACKETS)?;
        let mut packets = 0;
        for cpu in 0..self.cpus {
            let key = lane(netns, device.ifindex, cpu);
            if let Some(lane) = lanes.lookup(&key, MapFlags::ANY).ok()? {
                packets += Fields(&lane).u64(16)?;
            }
        }
        Some(packets as f64)
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

#[cfg(test)]
mod tests;
