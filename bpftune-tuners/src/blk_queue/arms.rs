//! What may be tried with a device's queue, and in which order.

use bpftune_core::{Value, config::kinds::Aim};

pub(super) const SCHEDULER: &str = "/sys/block/*/queue/scheduler";
pub(super) const NR_REQUESTS: &str = "/sys/block/*/queue/nr_requests";
pub(super) const WBT: &str = "/sys/block/*/queue/wbt_lat_usec";
pub(super) const AFFINITY: &str = "/sys/block/*/queue/rq_affinity";

/// The schedulers that Linux has. A device offers "none" and those that are built in or loaded.
pub(super) const SCHEDULERS: &[&str] = &["none", "mq-deadline", "kyber", "bfq"];

/// Requests in a queue: the kernel's least, and more than any device takes at once.
pub(super) const LEAST_REQUESTS: i64 = 4;
pub(super) const MOST_REQUESTS: i64 = 4096;
/// From which wait of reads on writes are held back, microseconds; the kernel's own is 2,000 for devices that do not turn.
pub(super) const LOW_WBT: i64 = 2000;

/// A device's queue as it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Queue {
    pub(super) scheduler: String,
    /// Schedulers that it offers.
    pub(super) offered: Vec<&'static str>,
    /// Requests, and how many there are if nobody says so: a new scheduler makes the kernel go back to that.
    pub(super) requests: i64,
    pub(super) default_requests: i64,
    /// `None` where it has no such parameter, or it is off.
    pub(super) wbt: Option<i64>,
    pub(super) affinity: Option<i64>,
}

/// One value of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arm {
    /// The family's name.
    pub(super) tunable: &'static str,
    pub(super) target: Value,
}

fn arm(tunable: &'static str, target: impl Into<Value>) -> Arm {
    Arm {
        tunable,
        target: target.into(),
    }
}

impl Queue {
    /// A scheduler is tried only where the kernel would not forget a number of requests that somebody chose.
    fn schedulers<'a>(&self, order: &[&'a str]) -> Vec<&'a str> {
        if self.requests != self.default_requests {
            return Vec::new();
        }
        let other = |name: &&&str| **name != self.scheduler && self.offered.contains(*name);
        order.iter().filter(other).copied().collect()
    }

    /// What may help this aim, the most promising first.
    pub(super) fn arms(&self, aim: Aim) -> Vec<Arm> {
        let mut arms = Vec::new();
        let schedulers = |arms: &mut Vec<Arm>, order: &[&str]| {
            let words = self.schedulers(order).into_iter();
            arms.extend(words.map(|word| arm(SCHEDULER, Value::word(word))));
        };
        match aim {
            Aim::Latency => {
                // What the device has taken nobody can overtake, so few requests; or a scheduler that serves who waits
                // before who only writes.
                if self.requests > LEAST_REQUESTS {
                    arms.push(arm(NR_REQUESTS, LEAST_REQUESTS));
                }
                schedulers(&mut arms, &["bfq", "kyber"]);
                if self.wbt.is_some_and(|wbt| wbt > LOW_WBT) {
                    arms.push(arm(WBT, LOW_WBT));
                }
            }
            Aim::Throughput => {
                schedulers(&mut arms, &["none", "mq-deadline"]);
                if self.scheduler != "none" && self.requests < MOST_REQUESTS {
                    let more = (self.requests * 4).clamp(LEAST_REQUESTS, MOST_REQUESTS);
                    arms.push(arm(NR_REQUESTS, more));
                }
            }
        }
        if self.affinity == Some(1) {
            // Ends where it began: on this very processor, not on one of its neighbours.
            arms.push(arm(AFFINITY, 2));
        }
        arms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn queue() -> Queue {
        Queue {
            scheduler: "mq-deadline".into(),
            offered: SCHEDULERS.to_vec(),
            requests: 256,
            default_requests: 256,
            wbt: Some(75_000),
            affinity: Some(1),
        }
    }

    fn names(queue: &Queue, aim: Aim) -> Vec<String> {
        let arms = queue.arms(aim).into_iter();
        arms.map(|arm| format!("{}={}", arm.tunable.rsplit('/').next().unwrap(), arm.target))
            .collect()
    }

    #[test]
    fn what_is_tried_follows_the_aim() {
        assert_eq!(
            names(&queue(), Aim::Latency),
            [
                "nr_requests=4",
                "scheduler=bfq",
                "scheduler=kyber",
                "wbt_lat_usec=2000",
                "rq_affinity=2"
            ]
        );
        assert_eq!(
            names(&queue(), Aim::Throughput),
            ["scheduler=none", "nr_requests=1024", "rq_affinity=2"]
        );
    }

    #[test]
    fn a_number_of_requests_that_somebody_chose_is_not_forgotten() {
        let chosen = Queue {
            requests: 64,
            ..queue()
        };
        let arms = names(&chosen, Aim::Latency);
        assert!(
            !arms.iter().any(|arm| arm.starts_with("scheduler")),
            "{arms:?}"
        );
        assert!(arms.contains(&"nr_requests=4".to_owned()));
    }

    #[test]
    fn what_a_device_lacks_is_not_tried() {
        let plain = Queue {
            scheduler: "none".into(),
            offered: vec!["none"],
            wbt: None,
            affinity: None,
            requests: 4,
            default_requests: 4,
        };
        assert!(plain.arms(Aim::Latency).is_empty());
        assert!(plain.arms(Aim::Throughput).is_empty());
    }
}
