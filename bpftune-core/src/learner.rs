//! How far to go: plain functions on numbers.

/// The next size of a limit that holds something back.
///
/// While a limit binds, what was measured is the limit's own doing: the true need is unknown, only
/// known to be larger. So the step goes to `growth` times the measured need, at least doubles, and
/// never goes past eight times the present limit at once. Rises from any start reach the need in
/// logarithmically many steps; overshoot is below `growth` times the need.
///
/// ```
/// use bpftune_core::learner::grow_limit;
/// assert_eq!(grow_limit(128 << 10, 64 << 10, 4.0), 256 << 10);      // at least doubled
/// assert_eq!(grow_limit(128 << 10, 128 << 10, 4.0), 512 << 10);
/// assert_eq!(grow_limit(128 << 10, 1 << 30, 4.0), 1024 << 10);      // at most eightfold
/// ```
#[must_use]
pub fn grow_limit(limit: u64, measured_need: u64, growth: f64) -> u64 {
    let wanted = (measured_need as f64 * growth) as u64;
    wanted.clamp(limit.saturating_mul(2), limit.saturating_mul(8))
}

/// The next size of a limit that takes too much: halfway back to where it started.
///
/// ```
/// use bpftune_core::learner::shrink_towards;
/// assert_eq!(shrink_towards(1000, 200), 600);
/// assert_eq!(shrink_towards(201, 200), 200);
/// ```
#[must_use]
pub fn shrink_towards(limit: u64, original: u64) -> u64 {
    if limit <= original {
        limit
    } else {
        original + (limit - original) / 2
    }
}
