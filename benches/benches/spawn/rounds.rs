//! Rivals in turn.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use crate::rivals::Rival;

/// Samples by rival.
#[derive(Default)]
pub(crate) struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    pub(crate) fn of(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[f64])> {
        self.0
            .iter()
            .map(|(name, samples)| (name.as_str(), samples.as_slice()))
    }

    pub(crate) fn push(&mut self, name: String, value: f64) {
        self.0.entry(name).or_default().push(value);
    }
}

pub(crate) type Rivals<'a> = Vec<&'a mut dyn Rival>;

/// Microseconds that making one process held the caller up, `count` of each rival, one of each in
/// turn, in another order each round: what one leaves behind must not always meet the same one. A rival whose processes took longer than `budget` in all
/// sits the rest out.
pub(crate) fn blocked(
    rivals: &mut Rivals<'_>,
    count: usize,
    budget: Duration,
    samples: &mut Samples,
) -> io::Result<()> {
    let mut used = vec![Duration::ZERO; rivals.len()];
    for rival in rivals.iter_mut() {
        rival.blocked()?;
    }
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..count {
        for at in order(&mut random, rivals.len()) {
            if used[at] > budget {
                continue;
            }
            let begin = Instant::now();
            let took = rivals[at].blocked()?;
            used[at] += begin.elapsed();
            samples.push(rivals[at].name(), took.as_secs_f64() * 1e6);
        }
    }
    Ok(())
}

/// The numbers below `len` in a random order.
pub(crate) fn order(random: &mut fastrand::Rng, len: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..len).collect();
    random.shuffle(&mut order);
    order
}

/// Processes a second: batches of about `batch`, of each rival in turn. Before each is a rest: what the one before leaves to the
/// kernel's threads, such as tables of descriptors to free, is not the next one's to pay.
pub(crate) fn throughput(
    rivals: &mut Rivals<'_>,
    rounds: usize,
    batch: Duration,
    in_flight: usize,
    samples: &mut Samples,
) -> io::Result<()> {
    let mut counts = Vec::new();
    for rival in rivals.iter_mut() {
        let trial = (2 * in_flight).max(60);
        let took = rival.many(trial, in_flight)?;
        let fit = trial as f64 * batch.as_secs_f64() / took.as_secs_f64();
        counts.push((fit as usize).max(in_flight * 2) & !1);
    }
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..rounds {
        for at in order(&mut random, rivals.len()) {
            std::thread::sleep(batch / 4);
            let took = rivals[at].many(counts[at], in_flight)?;
            samples.push(rivals[at].name(), counts[at] as f64 / took.as_secs_f64());
        }
    }
    Ok(())
}
