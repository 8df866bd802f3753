//! A plot of each learner, on generated signals and on a recording.

use std::{fs, path::Path};

use bpftune_core::{
    Signal,
    learner::{Input, Learner, Reading, Spec, guard},
    sim::{Event, WINDOW, suite},
};

use bpftune_tuners::tcp_buffer::TcpBuffer;

use super::plot::{Line, Plot};

/// Signals of a real connection: a 1 Gbit/s path with 20 ms round trip, a receive buffer of 128 KiB.
const RECORDING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../bpftune-tuners/tests/signals/receive-1gbit-20ms.jsonl"
);

/// Draws all of them into `dir`.
pub(crate) fn draw(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let mut plots = Vec::new();
    for (family, seed, title, until) in [
        ("limit", 30, "limit: a limit that holds something back", 40),
        ("step", 1, "step: a quarter more while more is wanted", 30),
        (
            "aimd",
            47,
            "aimd: half at once where too much, a bit more where too little",
            60,
        ),
        (
            "hill-climb",
            83,
            "hill-climb: to the best score and back one step",
            300,
        ),
        ("pid", 4, "pid: a measure led to its set point", 100),
    ] {
        plots.push((family, ordered(family, seed, title, until)?));
    }
    for name in ["epsilon-greedy", "thompson"] {
        plots.push((name, bandit(name)));
    }
    plots.push(("guard", guarded()));
    plots.push(("tcp-buffer", recorded(Path::new(RECORDING))?));
    for (name, plot) in plots {
        let file = dir.join(format!("{name}.svg"));
        fs::write(&file, plot.svg())
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(())
}

fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Line {
    Line {
        name: name.into(),
        points,
        steps: false,
        dashed: false,
    }
}

/// A scenario of the suite: its value over time, beside the optimum.
fn ordered(family: &str, seed: u64, title: &str, until: usize) -> Result<Plot, String> {
    let family = suite::families()
        .into_iter()
        .find(|f| f.name == family)
        .ok_or("no such family")?;
    let track = (family.draw)(seed).run();
    let seconds = |window: usize| window as f64 * WINDOW.as_secs_f64();
    let ratio: Vec<(f64, f64)> = track
        .values
        .iter()
        .take(until)
        .enumerate()
        .map(|(window, value)| (seconds(window), value / track.optimum))
        .collect();
    let end = seconds(until - 1);
    Ok(Plot {
        title: title.to_owned(),
        x: "seconds",
        y: "x the optimum",
        log: true,
        lines: vec![
            Line {
                steps: true,
                ..line("the knob", ratio)
            },
            Line {
                dashed: true,
                ..line("the optimum", vec![(0.0, 1.0), (end, 1.0)])
            },
        ],
    })
}

/// How often each value was played lately, while the best one changes halfway.
fn bandit(name: &str) -> Plot {
    let arms = [1.0, 2.0, 3.0, 4.0];
    let spec = serde_json::json!({"name": name, "arms": arms, "half_life_seconds": 20});
    let spec: Spec = serde_json::from_value(spec).expect("a learner");
    let mut learner = Learner::new(spec, 1);
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut value, mut lately) = (1.0, [0.25; 4]);
    let mut lines: Vec<Line> = arms
        .iter()
        .map(|arm| line(format!("value {arm}"), Vec::new()))
        .collect();
    for play in 0..2400_u32 {
        let best = if play < 1200 { 2.0 } else { 4.0 };
        let level = if value == best { 1.1 } else { 1.0 };
        let input = Input {
            at: WINDOW * play,
            value,
            original: 1.0,
            low: f64::MIN,
            high: f64::MAX,
            reading: Reading::Score(
                level * (1.0 + 0.05 * bpftune_core::stats::normal::sample(&mut rng)),
            ),
            harm: None,
        };
        value = learner.next(&input).unwrap_or(value);
        for (arm, share) in lately.iter_mut().enumerate() {
            *share += (f64::from(u8::from(value == arms[arm])) - *share) / 50.0;
            if play % 10 == 0 {
                lines[arm]
                    .points
                    .push(((WINDOW * play).as_secs_f64(), *share));
            }
        }
    }
    Plot {
        title: format!("{name}: 2 is a tenth better, from 120 s on it is 4"),
        x: "seconds",
        y: "share of the last 50 plays",
        log: false,
        lines,
    }
}

/// A knob that always wants more, with harm that goes along.
fn guarded() -> Plot {
    let track = |guard: bool| {
        let spec: Spec = serde_json::from_str(r#"{"name": "step"}"#).expect("a learner");
        let mut learner = Learner::new(spec, 0);
        if guard {
            learner = learner.guarded(guard::Params::default());
        }
        let mut rng = fastrand::Rng::with_seed(3);
        let mut value = 1.0;
        let mut points = Vec::new();
        for window in 0..30_u32 {
            points.push(((WINDOW * window).as_secs_f64(), value));
            let input = Input {
                at: WINDOW * window,
                value,
                original: 1.0,
                low: 0.1,
                high: 1e9,
                reading: Reading::More,
                harm: Some(value * (1.0 + 0.2 * bpftune_core::stats::normal::sample(&mut rng))),
            };
            value = learner.next(&input).unwrap_or(value);
        }
        Line {
            steps: true,
            ..line(if guard { "with the guard" } else { "without" }, points)
        }
    };
    Plot {
        title: "The guard: harm rises with the knob".to_owned(),
        x: "seconds",
        y: "x the start",
        log: true,
        lines: vec![track(true), track(false)],
    }
}

/// What tcp-buffer makes of the recording, with each learner that it can have.
fn recorded(file: &Path) -> Result<Plot, String> {
    let tuner = |json: &str| TcpBuffer::new(serde_json::from_str(json).map_err(|e| e.to_string())?);
    let mut lines = Vec::new();
    for (name, tuner) in [
        ("limit", TcpBuffer::default()),
        ("step", tuner(r#"{"name": "step"}"#)?),
        ("aimd", tuner(r#"{"name": "aimd"}"#)?),
    ] {
        let (recording, events) = super::values(file, tuner)?;
        let seconds = |ms: u64| (ms - recording[0].at_ms) as f64 / 1000.0;
        let start = recording[0].signal.figure("limit").unwrap_or(1.0);
        let mut limits = vec![(0.0, start)];
        limits.extend(events.iter().filter_map(|event| match event {
            Event::Changed { at, new, .. } => Some((at.as_secs_f64(), new.last() as f64)),
            Event::Judged { .. } => None,
        }));
        let end = recording.last().map_or(1.0, |last| seconds(last.at_ms)) + 0.2;
        limits.push((end, limits[limits.len() - 1].1));
        lines.push(Line {
            steps: true,
            ..line(name, limits)
        });
        if lines.len() == 3 {
            let need = |signal: &Signal| {
                // As the tuner has it: twice the bandwidth-delay product, times the buffer's overhead.
                Some(4.0 * signal.figure("rate")? * signal.figure("min_rtt")? / 1e6)
            };
            let needs = recording
                .iter()
                .filter_map(|line| Some((seconds(line.at_ms), need(&line.signal)?)))
                .collect();
            lines.push(Line {
                dashed: true,
                ..line("the measured need", needs)
            });
        }
    }
    Ok(Plot {
        title: "tcp-buffer on recorded signals: 1 Gbit/s, 20 ms round trip".to_owned(),
        x: "seconds",
        y: "net.ipv4.tcp_rmem, last number, bytes",
        log: true,
        lines,
    })
}
