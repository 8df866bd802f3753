//! How far apart two samples lie, by ranks.
//!
//! Ranks take the numbers' order only, so bursts and heavy tails cannot carry a result, and the false-alarm rate holds
//! for any distribution. Small samples are counted exactly, larger ones by the normal approximation.

use std::sync::OnceLock;

use super::{
    normal,
    order::{median_sorted, sorted},
};

/// Up to here distributions are counted exactly.
const EXACT: usize = 24;

/// How far `after` lies above `before`, with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The Hodges-Lehmann estimate: the median of all differences.
    pub estimate: f64,
    /// Lower end of the interval; minus infinity where the samples are too small to bound it.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Shift {
    /// Widened by an independent error of `half_width` at the same level.
    #[must_use]
    pub fn widened(self, half_width: f64) -> Shift {
        let wider = |side: f64| side.hypot(half_width);
        Shift {
            estimate: self.estimate,
            low: self.estimate - wider(self.estimate - self.low),
            high: self.estimate + wider(self.high - self.estimate),
        }
    }
}

/// How far `after` lies above `before`, for independent windows (Mann-Whitney).
///
/// Each end of the interval is beyond the truth with a probability of at most `alpha`, so `high < 0` is a one-sided
/// test at level `alpha`. `None` where a sample has no finite number.
///
/// ```
/// use bpftune_core::stats::shift;
/// let before = [10.0, 11.0, 12.0, 13.0, 14.0];
/// let after = [20.0, 21.0, 22.0, 23.0, 24.0];
/// let shift = shift(&before, &after, 0.05).unwrap();
/// assert_eq!((shift.low, shift.estimate, shift.high), (8.0, 10.0, 12.0));
/// ```
#[must_use]
pub fn shift(before: &[f64], after: &[f64], alpha: f64) -> Option<Shift> {
    let (before, after) = (sorted(before), sorted(after));
    let differences: Vec<f64> = after
        .iter()
        .flat_map(|a| before.iter().map(move |b| a - b))
        .collect();
    let (n, m) = (before.len(), after.len());
    let below = if n.max(m) <= EXACT {
        below_exact(mann_whitney_counts(n, m), alpha)
    } else {
        let mean = (n * m) as f64 / 2.0;
        let sigma = ((n * m * (n + m + 1)) as f64 / 12.0).sqrt();
        below_normal(mean, sigma, alpha)
    };
    interval(&sorted(&differences), below)
}

/// How far the differences of pairs lie above 0 (Wilcoxon's signed ranks). What both of a pair share, such as slow
/// drift, cancels. As [`shift`] otherwise.
#[must_use]
pub fn paired_shift(differences: &[f64], alpha: f64) -> Option<Shift> {
    let differences = sorted(differences);
    let n = differences.len();
    let mut averages = Vec::with_capacity(n * (n + 1) / 2);
    for (i, a) in differences.iter().enumerate() {
        averages.extend(differences[i..].iter().map(|b| f64::midpoint(*a, *b)));
    }
    let below = if n <= EXACT {
        below_exact(&signed_rank_counts(n), alpha)
    } else {
        let mean = (n * (n + 1)) as f64 / 4.0;
        let sigma = ((n * (n + 1) * (2 * n + 1)) as f64 / 24.0).sqrt();
        below_normal(mean, sigma, alpha)
    };
    interval(&sorted(&averages), below)
}

/// One-sided probability of a Mann-Whitney statistic as far down as that of `after` against `before`: small where
/// `after` lies lower. Normal approximation with ties where there are any or the samples are large.
#[must_use]
pub fn p_lower(before: &[f64], after: &[f64]) -> Option<f64> {
    let (before, after) = (sorted(before), sorted(after));
    let (n, m) = (before.len(), after.len());
    if n == 0 || m == 0 {
        return None;
    }
    let mut u = 0.0;
    for a in &after {
        for b in &before {
            u += if a > b {
                1.0
            } else if a == b {
                0.5
            } else {
                0.0
            };
        }
    }
    let mut all = before;
    all.extend(after);
    all.sort_unstable_by(f64::total_cmp);
    let ties: f64 = all
        .chunk_by(|a, b| a == b)
        .map(|run| (run.len() as f64).powi(3) - run.len() as f64)
        .sum();
    if ties == 0.0 && n.max(m) <= EXACT {
        let counts = mann_whitney_counts(n, m);
        return Some(counts[..=u as usize].iter().sum::<f64>() / counts.iter().sum::<f64>());
    }
    let total = (n + m) as f64;
    let variance = (n * m) as f64 / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return Some(1.0);
    }
    Some(normal::cdf(
        (u + 0.5 - (n * m) as f64 / 2.0) / variance.sqrt(),
    ))
}

/// The ends of the interval that leaves out `below` values on each side.
fn interval(sorted: &[f64], below: usize) -> Option<Shift> {
    let estimate = median_sorted(sorted)?;
    let (low, high) = match below.checked_sub(1) {
        Some(i) if i < sorted.len() => (sorted[i], sorted[sorted.len() - 1 - i]),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    };
    Some(Shift {
        estimate,
        low,
        high,
    })
}

/// The largest c with P(statistic < c) <= alpha.
fn below_exact(counts: &[f64], alpha: f64) -> usize {
    let limit = alpha * counts.iter().sum::<f64>();
    let mut sum = 0.0;
    counts
        .iter()
        .take_while(|&&count| {
            sum += count;
            sum <= limit
        })
        .count()
}

fn below_normal(mean: f64, sigma: f64, alpha: f64) -> usize {
    (mean + normal::quantile(alpha) * sigma).floor().max(0.0) as usize
}

/// In how many ways each value of U comes about, of all ways to choose n out of n + m ranks. Counted once a pair of sizes: a trial
/// asks at each look, and its sizes are few.
fn mann_whitney_counts(n: usize, m: usize) -> &'static [f64] {
    static COUNTS: [[OnceLock<Vec<f64>>; EXACT + 1]; EXACT + 1] =
        [const { [const { OnceLock::new() }; EXACT + 1] }; EXACT + 1];
    COUNTS[n][m].get_or_init(|| {
        // ways[j][u]: j of the ranks seen so far chosen, with u pairs in which a chosen one lies above one left out.
        let mut ways = vec![vec![0.0; n * m + 1]; n + 1];
        ways[0][0] = 1.0;
        for seen in 0..n + m {
            for j in (1..=n.min(seen + 1)).rev() {
                let left_out = seen + 1 - j;
                for u in (left_out..=n * m).rev() {
                    let more = ways[j - 1][u - left_out];
                    ways[j][u] += more;
                }
            }
        }
        ways.swap_remove(n)
    })
}

/// In how many ways each sum of positive ranks comes about.
fn signed_rank_counts(n: usize) -> Vec<f64> {
    let most = n * (n + 1) / 2;
    let mut ways = vec![0.0; most + 1];
    ways[0] = 1.0;
    for rank in 1..=n {
        for sum in (rank..=most).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    ways
}
