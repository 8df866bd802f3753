//! From signals to proposals: no I/O, no clock.

use std::time::Duration;

use bpftune_core::{
    Bound, Cost, Knob, Machine, NetnsCookie, Proposal, Scope, Signal, Tunable, Tuner, Value, View,
    give_back, halfway,
    trial::{Guard, Plan, Resource, Windows},
};

pub(super) const FILLING: &str = "connections-filling";

pub(super) const MAX: &str = "net.netfilter.nf_conntrack_max";
const BUCKETS: &str = "net.netfilter.nf_conntrack_buckets";

/// Timeouts that are long, and the least that is safe, seconds. An established connection must be remembered for two
/// hours and four minutes (RFC 5382, REQ-5); one in TIME_WAIT, by its end, for as long as a segment may still come; a
/// handshake as long as its client is likely to go on trying.
const TIMEOUTS: [(&str, i64, &str); 3] = [
    (
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        7440,
        "how long an idle TCP connection is remembered",
    ),
    (
        "net.netfilter.nf_conntrack_tcp_timeout_time_wait",
        60,
        "how long a TCP connection that was closed is remembered",
    ),
    (
        "net.netfilter.nf_conntrack_tcp_timeout_syn_sent",
        60,
        "how long a TCP connection that nobody answered is remembered",
    ),
];

/// What an entry costs the kernel with its extensions, and its place in the hash table.
const ENTRY_BYTES: u64 = 512;
const BUCKET_BYTES: u64 = 8;
const LEAST: i64 = 8192;
const MOST: i64 = 1 << 22;
/// Entries a bucket, each of which stands in two: beyond that packets wait for long chains.
const CHAIN: i64 = 4;
/// So many entries tell what a table consists of; and more handshakes than this share of them are a flood.
const SAMPLE: f64 = 50.0;
const FLOOD: f64 = 0.5;

/// The tuner. It remembers nothing: all it needs is in the signal and the view.
#[derive(Clone, Debug, Default)]
pub struct Conntrack;

/// A 32nd of memory for the table of one namespace: twice what the kernel itself derives, or more.
fn most_entries(machine: &Machine) -> i64 {
    let entries = machine.memory_total / 32 / ENTRY_BYTES;
    i64::try_from(entries).unwrap_or(MOST).clamp(LEAST, MOST)
}

fn cost(value: &Value, each: u64) -> u64 {
    u64::try_from(value.last())
        .unwrap_or(0)
        .saturating_mul(each)
}

impl Tuner for Conntrack {
    fn name(&self) -> &str {
        super::NAME
    }

    fn about(&self) -> &str {
        "gives connection tables room before they are full"
    }

    fn tunables(&self) -> Vec<Tunable> {
        let max = Tunable {
            name: MAX.into(),
            scope: Scope::Global,
            unit: "entries".into(),
            about: "most connections that a namespace tracks".into(),
            bound: Bound::Derived(|machine| vec![(1024, most_entries(machine))]),
            cost: Cost::Derived(|value| cost(value, ENTRY_BYTES)),
        };
        let buckets = Tunable {
            name: BUCKETS.into(),
            scope: Scope::Global,
            unit: "buckets".into(),
            about: "size of the hash table of all tracked connections".into(),
            bound: Bound::Derived(|machine| vec![(1024, most_entries(machine))]),
            cost: Cost::Derived(|value| cost(value, BUCKET_BYTES)),
        };
        let timeout = |(name, least, about): (&'static str, i64, &'static str)| Tunable {
            name: name.into(),
            scope: Scope::Netns,
            unit: "seconds".into(),
            about: about.into(),
            bound: Bound::Fixed(vec![(least, i64::from(i32::MAX))]),
            cost: Cost::Nothing,
        };
        [max, buckets]
            .into_iter()
            .chain(TIMEOUTS.map(timeout))
            .collect()
    }

    /// Waiting for a second signal may be too late.
    fn acts_at_once(&self) -> bool {
        true
    }

    /// For the same reason without windows before; what is watched is whether the host can afford it.
    fn trial(&self, _: &str) -> Plan {
        Plan {
            guards: vec![Guard::stall(Resource::Memory, 0.02)],
            baseline: Windows {
                count: 0,
                length: Duration::from_millis(10),
            },
            ..Plan::default()
        }
    }

    fn on_signal(&mut self, signal: &Signal, view: &dyn View) -> Vec<Proposal> {
        let Some(table) = Table::of(signal) else {
            return Vec::new();
        };
        if signal.scenario != FILLING || table.flood() {
            return Vec::new();
        }
        let proposals = table.grow(view);
        if proposals.is_empty() {
            return table.forget_sooner(view);
        }
        proposals
    }

    fn on_memory_pressure(&mut self, view: &dyn View) -> Vec<Proposal> {
        let owns = |knob: &Knob| knob.tunable == MAX;
        give_back(view, owns, |_, original, now| halfway(original, now))
    }
}

/// The figures of a signal.
struct Table<'a> {
    netns: NetnsCookie,
    place: &'a str,
    count: i64,
    sampled: f64,
    half_open: f64,
}

impl Table<'_> {
    fn of(signal: &Signal) -> Option<Table<'_>> {
        Some(Table {
            netns: signal.netns,
            place: &signal.subject,
            count: signal.figure("count")? as i64,
            sampled: signal.figure("sampled")?,
            half_open: signal.figure("half_open")?,
        })
    }

    /// Handshakes that nobody completes. Where the kernel shows no table, nothing is known.
    fn flood(&self) -> bool {
        self.sampled >= SAMPLE && self.half_open > self.sampled * FLOOD
    }

    fn grow(&self, view: &dyn View) -> Vec<Proposal> {
        let at = |name: &str| Knob {
            tunable: name.into(),
            netns: view.host_netns(),
        };
        let max = at(MAX);
        let Some(now) = view.value(&max).map(|value| value.last()) else {
            return Vec::new();
        };
        let most = most_entries(view.machine());
        let target = now
            .saturating_mul(2)
            .max(self.count.saturating_mul(2))
            .min(most);
        // Room enough: a signal from before the last change. Or at the bound.
        if self.count <= now / 2 || target <= now {
            return Vec::new();
        }
        let reason = format!(
            "{} tracks {} connections of at most {now}, and packets of new ones are dropped once it is full; {}",
            self.place,
            self.count,
            self.proof()
        );
        let mut proposals = vec![Proposal::gain(max, target, reason)];
        let buckets = at(BUCKETS);
        // The kernel makes whole pages of them.
        let page = (view.machine().page_size / BUCKET_BYTES).max(1);
        let wanted = ((target / CHAIN) as u64).next_multiple_of(page) as i64;
        if view
            .value(&buckets)
            .is_some_and(|value| value.last() < wanted)
        {
            let reason = format!(
                "{target} connections may be tracked now: more than {CHAIN} a bucket would make packets wait for long \
                 chains"
            );
            proposals.push(Proposal::gain(buckets, wanted, reason));
        }
        proposals
    }

    /// The limit cannot rise: what is idle or over makes room sooner.
    fn forget_sooner(&self, view: &dyn View) -> Vec<Proposal> {
        let max = Knob {
            tunable: MAX.into(),
            netns: view.host_netns(),
        };
        let full = |max: i64| self.count > max - max / 4;
        if !view.value(&max).is_some_and(|max| full(max.last())) {
            return Vec::new();
        }
        let shorter = |(name, least, what): (&str, i64, &str)| {
            let knob = Knob {
                tunable: name.into(),
                netns: self.netns,
            };
            let now = view.value(&knob)?.last();
            let reason = format!(
                "{} tracks {} connections, more than three quarters of what memory allows; this is {what}",
                self.place, self.count
            );
            (now > least).then(|| Proposal::gain(knob, least, reason))
        };
        TIMEOUTS.into_iter().filter_map(shorter).collect()
    }

    fn proof(&self) -> String {
        if self.sampled < SAMPLE {
            return "whether it is a flood cannot be told".into();
        }
        format!(
            "of {:.0} looked at, {:.0} were handshakes that nobody has completed, so this is no flood",
            self.sampled, self.half_open
        )
    }
}

#[cfg(test)]
mod tests;
