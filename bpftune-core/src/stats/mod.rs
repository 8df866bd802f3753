//! Statistics for trials and learners: plain functions on numbers, no clock, no I/O.
//!
//! * [`order`]: median, MAD, quantiles, ranks.
//! * [`rank`]: how far two samples lie apart, without an assumption about how they scatter: Mann-Whitney for
//!   windows before and after, Wilcoxon's signed ranks for interleaved pairs, each with its interval.
//! * [`trend`]: does a series drift, and how fast.
//! * [`judge`](mod@judge): better, worse, the same or unclear, from the windows of a trial; how many windows it takes.
//! * [`decayed`], [`correlation`]: means and correlations that forget.
//! * [`normal`]: the normal distribution.
//!
//! Numbers that are not finite never come out as a judgement: functions drop them, or answer `None`.

pub mod correlation;
pub mod decayed;
pub mod judge;
pub mod normal;
pub mod order;
pub mod rank;
pub mod trend;

pub use self::{
    correlation::{DecayedCorrelation, spearman},
    decayed::{Decayed, HalfLife},
    judge::{
        Direction, Effect, Judgement, Layout, Metric, Role, Rule, Samples, Scale, judge,
        windows_needed,
    },
    order::{mad, median, quantile, ranks},
    rank::{Shift, paired_shift, shift},
};

#[cfg(test)]
mod tests;
