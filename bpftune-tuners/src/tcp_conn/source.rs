//! Tells the BPF program what it may choose from and where, and the log what it has chosen.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::BorrowedFd,
};

use bpftune_core::{
    Chosen, Error, Figure, NetnsCookie, Reach, Result, Signal, Source, Tried,
    bpf::{EventHeader, Feed, Fields, HookStatus, Scenarios},
    netns::Namespaces,
};
use libbpf_rs::{MapCore, MapFlags};

use super::rules::CHOICE;

const SCENARIOS: Scenarios = &[(1, CHOICE), (2, LOSSES), (3, CALMED)];

/// A remote network loses what it is sent, or no longer does: the program's words to this source alone.
const LOSSES: &str = "losses";
const CALMED: &str = "calmed";

/// The program that the kernel asks several times for each connection: attached while there is something to choose.
const CHOOSER: &str = "choose_algorithm";
/// `CALM` of the BPF program, of 65536 segments.
const CALM: f64 = 82.0 / 65536.0;

/// What is worth trying, the best known first, and whether it stands on ECN. Others have a purpose of their own.
const CANDIDATES: [(&str, bool); 4] = [
    ("bbr", false),
    ("cubic", false),
    ("dctcp", true),
    ("htcp", false),
];

/// Arms of the BPF program; the first is the namespace's own algorithm.
const ARMS: usize = 4;
const NAME_BYTES: usize = 16;
/// Remote networks that are told of, at most.
const MOST_TOLD: usize = 64;
const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";

/// The hooks of `tcp_conn.bpf.c`.
pub struct TcpConnSource {
    feed: Feed,
    /// Names of the arms; the first is "the default".
    names: Vec<&'static str>,
    /// Namespaces that the program was told of.
    places: BTreeMap<NetnsCookie, u32>,
    /// Whether it may choose at all, and whether it is attached to.
    acts: bool,
    chooses: bool,
}

/// Those of the candidates that this kernel has at hand, as far as there are arms.
fn offered(available: &str) -> Vec<(&'static str, bool)> {
    let has = |name: &str| available.split_ascii_whitespace().any(|word| word == name);
    CANDIDATES
        .into_iter()
        .filter(|(name, _)| has(name))
        .take(ARMS - 1)
        .collect()
}

fn failed(source: libbpf_rs::Error) -> Error {
    Error::Bpf {
        object: super::NAME.into(),
        source,
    }
}

impl TcpConnSource {
    pub(super) fn new() -> Result<TcpConnSource> {
        let object = include_bytes!(concat!(env!("OUT_DIR"), "/tcp_conn.bpf.o"));
        let feed = Feed::load_detached(super::NAME, object, SCENARIOS, &[CHOOSER])?;
        let offered = offered(&fs::read_to_string(AVAILABLE).unwrap_or_default());
        if let Some(algorithms) = feed.hooks().map("algorithms") {
            for (at, (name, needs_ecn)) in offered.iter().enumerate() {
                let mut value = [0; NAME_BYTES + 8];
                value[..name.len()].copy_from_slice(name.as_bytes());
                value[NAME_BYTES..][..4].copy_from_slice(&(name.len() as u32).to_ne_bytes());
                value[NAME_BYTES + 4..].copy_from_slice(&u32::from(*needs_ecn).to_ne_bytes());
                let key = (at as u32 + 1).to_ne_bytes();
                algorithms
                    .update(&key, &value, MapFlags::ANY)
                    .map_err(failed)?;
            }
        }
        let names = std::iter::once("the default").chain(offered.into_iter().map(|(name, _)| name));
        Ok(TcpConnSource {
            names: names.collect(),
            places: BTreeMap::new(),
            acts: false,
            chooses: false,
            feed,
        })
    }

    /// What is known of each remote network.
    fn remotes(&self) -> Vec<(NetnsCookie, Choice)> {
        let Some(remotes) = self.feed.hooks().map("remotes") else {
            return Vec::new();
        };
        let known = remotes.keys().filter_map(|key| {
            let remote = remotes.lookup(&key, MapFlags::ANY).ok()??;
            let netns = NetnsCookie(Fields(&key).u64(0)?);
            // An event has one number more.
            Some((
                netns,
                Choice::parse(&[&key[..], &remote, &[0; 4]].concat())?,
            ))
        });
        known.collect()
    }

    /// Has connections asked about where there is anything to choose for one of them, and only there.
    fn attach_as_needed(&mut self) {
        self.chooses = self.acts && self.remotes().iter().any(|(_, choice)| !choice.is_calm());
        self.feed.switch(&[CHOOSER], self.chooses);
    }

    fn set_control(&self, acts: bool, confined: bool) -> Result<()> {
        let Some(control) = self.feed.hooks().map("control") else {
            return Ok(());
        };
        let mut value = [0; 8];
        value[..4].copy_from_slice(&u32::from(acts).to_ne_bytes());
        value[4..].copy_from_slice(&u32::from(confined).to_ne_bytes());
        control
            .update(&0u32.to_ne_bytes(), &value, MapFlags::ANY)
            .map_err(failed)
    }

    fn set_places(&mut self, places: BTreeMap<NetnsCookie, u32>) -> Result<()> {
        let Some(map) = self.feed.hooks().map("places") else {
            return Ok(());
        };
        for gone in self
            .places
            .keys()
            .filter(|place| !places.contains_key(place))
        {
            let _ = map.delete(&gone.0.to_ne_bytes());
        }
        for (place, what) in &places {
            map.update(&place.0.to_ne_bytes(), &what.to_ne_bytes(), MapFlags::ANY)
                .map_err(failed)?;
        }
        self.places = places;
        Ok(())
    }
}

/// `struct remote` with its key: what is known of a remote network.
#[derive(Clone, Debug, PartialEq)]
struct Choice {
    network: String,
    arms: Vec<Arm>,
    /// Share of segments sent again.
    lost: f64,
    best: usize,
    before: usize,
    connections: u32,
}

/// `struct arm`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Arm {
    score: u64,
    tried: u32,
    measured: u32,
    failed: u32,
}

impl Choice {
    /// `struct tcp_conn_event` after its head.
    fn parse(body: &[u8]) -> Option<Choice> {
        let body = Fields(body);
        let prefix = body.u64(8)?;
        let network = if body.u64(16)? == 10 {
            let bits = u128::from(prefix) << 64;
            format!("{}/64", Ipv6Addr::from(bits))
        } else {
            format!("{}/24", Ipv4Addr::from((prefix as u32) << 8))
        };
        let arm = |at: usize| {
            Some(Arm {
                score: body.u64(at)?,
                tried: body.u32(at + 8)?,
                measured: body.u32(at + 12)?,
                failed: body.u32(at + 16)?,
            })
        };
        let arms = (0..ARMS)
            .map(|i| arm(24 + i * 24))
            .collect::<Option<Vec<_>>>()?;
        let at = 24 + ARMS * 24;
        let index = |number: u32| (number as usize).min(ARMS - 1);
        Some(Choice {
            network,
            arms,
            lost: f64::from(body.u32(at)?) / 65536.0,
            best: index(body.u32(at + 4)?),
            connections: body.u32(at + 8)?,
            before: index(body.u32(at + 16)?),
        })
    }
}

impl Choice {
    /// Whether nothing is to be chosen.
    fn is_calm(&self) -> bool {
        self.lost < CALM && self.best == 0
    }

    /// Whether anything but the default was ever given.
    fn is_choice(&self) -> bool {
        self.arms[1..].iter().any(|arm| arm.tried > 0)
    }

    /// What it is for whoever asks what was chosen.
    fn told(&self, netns: NetnsCookie, names: &[&str]) -> Chosen {
        let name = |arm: usize| names.get(arm).copied().unwrap_or("?").to_owned();
        let both_measured = |arm: usize| self.arms[0].measured > 0 && self.arms[arm].measured > 0;
        let options = (0..ARMS.min(names.len())).map(|arm| Tried {
            name: name(arm),
            times: self.arms[arm].tried.into(),
            measured: self.arms[arm].measured.into(),
            gain: both_measured(arm).then(|| self.times(arm)),
        });
        Chosen {
            subject: self.network.clone(),
            netns,
            name: name(self.best),
            why: format!(
                "{:.1} % of segments are sent again, {} connections",
                self.lost * 100.0,
                self.connections
            ),
            options: options.collect(),
        }
    }

    /// "connections to 10.0.0.0/24 in web use bbr from now on: ...".
    fn sentence(&self, place: &str, names: &[&str]) -> String {
        let name = |arm: usize| names.get(arm).copied().unwrap_or("?");
        let others: Vec<String> = (0..ARMS)
            .filter(|arm| self.arms[*arm].measured > 0)
            .map(|arm| {
                format!(
                    "{} {:.2} x in {} of {}",
                    name(arm),
                    self.times(arm),
                    self.arms[arm].measured,
                    self.arms[arm].tried
                )
            })
            .collect();
        format!(
            "connections to {} in {place} use {} from now on, not {}: {:.1} % of their segments are sent again; goodput \
             with regard to round trips, by the default's: {}",
            self.network,
            name(self.best),
            name(self.before),
            self.lost * 100.0,
            others.join(", ")
        )
    }

    /// An arm's score by the default's.
    fn times(&self, arm: usize) -> f64 {
        self.arms[arm].score as f64 / (self.arms[0].score as f64).max(1.0)
    }
}

impl Source for TcpConnSource {
    fn fd(&self) -> BorrowedFd<'_> {
        self.feed.fd()
    }

    fn drain(&mut self, namespaces: &mut Namespaces, out: &mut Vec<Signal>) -> Result<()> {
        for (scenario, head, body) in self.feed.drain()? {
            let Some(choice) = Choice::parse(&body) else {
                continue;
            };
            if scenario != CHOICE {
                if self.chooses != (scenario == LOSSES) {
                    self.attach_as_needed();
                }
                continue;
            }
            let place = namespaces.place(head.netns());
            tracing::info!("{}", choice.sentence(&place, &self.names));
            out.push(signal(scenario, &head, &choice));
        }
        Ok(())
    }

    fn hooks(&self) -> &[HookStatus] {
        self.feed.status()
    }

    fn acts_itself(&self) -> bool {
        true
    }

    fn chosen(&self) -> Vec<Chosen> {
        let mut found = self.remotes();
        found.retain(|(_, choice)| choice.is_choice());
        found.sort_by_key(|(_, choice)| std::cmp::Reverse(choice.connections));
        found.truncate(MOST_TOLD);
        let told = found.iter();
        told.map(|(netns, choice)| choice.told(*netns, &self.names))
            .collect()
    }

    fn reach(&mut self, reach: &Reach) -> Result<()> {
        // Nothing is done while the places change.
        self.set_control(false, true)?;
        let only = reach.only.iter().flatten().map(|place| (*place, 1));
        let except = reach.except.iter().map(|place| (*place, 2));
        self.set_places(only.chain(except).collect())?;
        self.set_control(reach.acts, reach.only.is_some())?;
        self.acts = reach.acts;
        self.attach_as_needed();
        Ok(())
    }

    fn map_bytes(&self) -> u64 {
        self.feed.map_bytes()
    }
}

fn signal(scenario: &'static str, head: &EventHeader, choice: &Choice) -> Signal {
    Signal {
        scenario: scenario.into(),
        netns: head.netns(),
        subject: choice.network.clone(),
        count: head.count,
        figures: vec![
            Figure::new("lost", choice.lost * 100.0, "%"),
            Figure::new("algorithm", choice.best as f64, ""),
            Figure::new("gain", choice.times(choice.best), ""),
            Figure::new("connections", choice.connections.into(), ""),
        ],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parses_any_bytes_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(choice) = Choice::parse(&bytes) {
                let _ = choice.sentence("here", &["the default"]);
            }
        }
    }

    /// struct remote_key, struct remote and what follows, as the program sends them.
    fn event(family: u64, prefix: u64) -> Vec<u8> {
        let mut body = Vec::new();
        for number in [7, prefix, family] {
            body.extend(number.to_ne_bytes());
        }
        for (score, tried, measured) in [(100u64, 9u32, 8u32), (950, 2, 2), (90, 2, 1), (0, 0, 0)] {
            body.extend(score.to_ne_bytes());
            for number in [tried, measured, 0, 0] {
                body.extend(number.to_ne_bytes());
            }
        }
        for number in [1311u32, 1, 13, 11, 0, 0] {
            body.extend(number.to_ne_bytes());
        }
        body
    }

    #[test]
    fn a_choice_is_told_with_its_figures() {
        let names = ["the default", "bbr", "cubic"];
        let choice = Choice::parse(&event(2, 0x0a_4d_00)).unwrap();
        let said = choice.sentence("web", &names);
        for part in [
            "connections to 10.77.0.0/24 in web use bbr from now on, not the default: 2.0 %",
            "the default 1.00 x in 8 of 9, bbr 9.50 x in 2 of 2, cubic 0.90 x in 1 of 2",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let v6 = Choice::parse(&event(10, 0xfd77 << 48)).unwrap();
        assert_eq!(v6.network, "fd77::/64");
        assert_eq!(Choice::parse(&event(2, 1)[..139]), None);
    }

    #[test]
    fn who_asks_is_told_what_was_chosen_how_often_and_what_it_gained() {
        let names = ["the default", "bbr", "cubic"];
        let choice = Choice::parse(&event(2, 0x0a_4d_00)).unwrap();
        assert!(choice.is_choice());
        let told = choice.told(NetnsCookie(7), &names);
        assert_eq!(
            (told.subject.as_str(), told.name.as_str()),
            ("10.77.0.0/24", "bbr")
        );
        assert!(
            told.why.contains("2.0 %") && told.why.contains("13 connections"),
            "{}",
            told.why
        );
        let options: Vec<_> = told
            .options
            .iter()
            .map(|o| (o.times, o.measured, o.gain))
            .collect();
        assert_eq!(
            options,
            [(9, 8, Some(1.0)), (2, 2, Some(9.5)), (2, 1, Some(0.9))]
        );
        let default_only = Choice {
            arms: vec![
                choice.arms[0],
                Arm::default(),
                Arm::default(),
                Arm::default(),
            ],
            ..choice
        };
        assert!(!default_only.is_choice(), "nothing to tell");
    }

    #[test]
    fn only_what_the_kernel_offers_is_tried() {
        assert_eq!(
            offered("reno bbr cubic\n"),
            [("bbr", false), ("cubic", false)]
        );
        assert_eq!(offered("reno"), []);
        let all = offered("reno cubic bbr dctcp htcp vegas");
        assert_eq!(all.len(), ARMS - 1, "as many as there are arms");
        assert!(all.contains(&("dctcp", true)));
        assert!(CANDIDATES.iter().all(|(name, _)| name.len() < NAME_BYTES));
    }
}
