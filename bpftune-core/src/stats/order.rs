//! Order statistics.

/// Finite numbers, sorted.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The middle one, or the mean of the two in the middle. `None` without a finite number.
///
/// ```
/// use bpftune_core::stats::median;
/// assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
/// assert_eq!(median(&[1.0, f64::NAN, 4.0]), Some(2.5));
/// assert_eq!(median(&[]), None);
/// ```
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    median_sorted(&sorted(values))
}

pub(crate) fn median_sorted(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    if sorted.is_empty() {
        None
    } else if sorted.len() % 2 == 1 {
        Some(sorted[half])
    } else {
        Some(f64::midpoint(sorted[half - 1], sorted[half]))
    }
}

/// What makes the MAD of normally distributed numbers their standard deviation.
pub const MAD_TO_SIGMA: f64 = 1.482_602_218_505_602;

/// The median absolute deviation from the median. Times [`MAD_TO_SIGMA`] it estimates the standard deviation, and up to
/// half of the numbers may be outliers.
#[must_use]
pub fn mad(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let deviations: Vec<f64> = values.iter().map(|v| (v - middle).abs()).collect();
    median(&deviations)
}

/// The value below which a share `q` of the numbers lies, interpolated between neighbours; `q` is moved into 0..=1.
///
/// ```
/// use bpftune_core::stats::quantile;
/// assert_eq!(quantile(&[10.0, 20.0, 30.0], 0.75), Some(25.0));
/// ```
#[must_use]
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let at = if q.is_finite() {
        q.clamp(0.0, 1.0)
    } else {
        return None;
    } * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(low + (high - low) * at.fract())
}

/// Ranks from 1; equal numbers share the mean of theirs. Numbers that are not finite are ranked in the order of
/// [`f64::total_cmp`].
///
/// ```
/// use bpftune_core::stats::ranks;
/// assert_eq!(ranks(&[30.0, 10.0, 30.0, 20.0]), [3.5, 1.0, 3.5, 2.0]);
/// ```
#[must_use]
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let tied = order[start..]
            .iter()
            .take_while(|&&i| values[i] == values[order[start]])
            .count()
            .max(1);
        for &i in &order[start..start + tied] {
            ranks[i] = (2 * start + tied + 1) as f64 / 2.0;
        }
        start += tied;
    }
    ranks
}
