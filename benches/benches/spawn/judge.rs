//! Samples handed to criterion.
//!
//! Criterion measures one function after the other, which a shared machine turns into noise. So the
//! bench takes its samples itself, rivals in turn, and criterion judges them: distribution, outliers,
//! and the change since the last run, kept in target/criterion.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode};

struct Kept {
    group: String,
    name: String,
    /// Seconds.
    samples: Vec<f64>,
}

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// `scale` is the samples' unit in seconds, or 0 where they are processes a second.
pub(crate) fn keep(group: &str, name: &str, samples: &[f64], scale: f64) {
    let seconds = samples.iter().map(|value| {
        if scale == 0.0 {
            1.0 / value
        } else {
            value * scale
        }
    });
    if let Ok(mut kept) = KEPT.lock() {
        kept.push(Kept {
            group: group.into(),
            name: name.into(),
            samples: seconds.collect(),
        });
    }
}

/// Criterion talks on standard output, which the caller has turned away.
pub(crate) fn run() {
    let kept = KEPT.lock().map(|mut kept| std::mem::take(&mut *kept));
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(1))
        .nresamples(2000);
    for Kept {
        group,
        name,
        samples,
    } in kept.unwrap_or_default()
    {
        if samples.len() < 10 {
            continue;
        }
        let mut group = criterion.benchmark_group(format!("spawn: {group}"));
        group
            .sample_size(samples.len().min(100))
            .sampling_mode(SamplingMode::Flat)
            .measurement_time(Duration::from_millis(1));
        let mut next = samples.iter().copied().cycle();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                // Criterion's warm-up goes on for as long as the clock says.
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_micros(20) {}
                let mean = next.next().unwrap_or_default();
                Duration::from_secs_f64(mean * count as f64)
            });
        });
        group.finish();
    }
}
