//! The effect of the tuner in under a minute, drawn live.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use lab::{
    daemon,
    link::Shape,
    scenario::{Direction, Progress, compare},
};

/// Two namespaces of its own, a 1 Gbit/s link with 20 ms round trip, buffers too small: a transfer
/// with the tuner off, then on. The host's own network settings are not touched.
#[derive(Parser)]
struct Args {
    /// Print the figures as JSON only
    #[arg(long)]
    json: bool,
    /// Send from b to a
    #[arg(long)]
    reverse: bool,
    /// Link rate in Mbit/s; 0 for no bound
    #[arg(long, default_value_t = 1000)]
    rate: u64,
    /// Round trip in milliseconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=1000))]
    rtt: u64,
    /// The daemon's binary
    #[arg(long, value_name = "PATH")]
    bpftune: Option<PathBuf>,
}

const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws a line of bars, each a tenth of a second, scaled by the highest rate so far.
struct Drawing {
    top: f64,
    bars: Vec<f64>,
    live: bool,
}

impl Drawing {
    fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Part(name) => {
                self.end();
                println!("\n{name}");
            }
            Progress::Rate(rate) => {
                self.top = self.top.max(*rate);
                self.bars.push(*rate);
                if self.live {
                    self.line();
                }
            }
            Progress::Note(line) => {
                let text = line.split_once("INFO ").map_or(*line, |(_, text)| text);
                let short = text.split(" because ").next().unwrap_or(text);
                if self.live {
                    print!("\r\x1b[K");
                }
                println!("  {short}");
            }
        }
    }

    fn line(&self) {
        let bars: String = self
            .bars
            .iter()
            .map(|rate| BARS[((rate / self.top * 8.0).ceil() as usize).clamp(1, 8)])
            .collect();
        let rate = self.bars.last().copied().unwrap_or(0.0);
        print!(
            "{}{bars} {rate:7.1} Mbit/s",
            if self.live { "\r\x1b[K" } else { "" }
        );
        let _ = std::io::stdout().flush();
    }

    fn end(&mut self) {
        if !self.bars.is_empty() {
            self.line();
            println!();
        }
        self.bars.clear();
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(why) = lab::unprivileged() {
        eprintln!("demo: {why}: it makes network namespaces and TUN devices; run it as root");
        return ExitCode::from(77);
    }
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> lab::Result<bool> {
    let bpftune = args.bpftune.clone().map_or_else(daemon::binary, Ok)?;
    let mut shape = Shape::new(Duration::from_micros(args.rtt * 500));
    shape.rate = (args.rate > 0).then_some(args.rate * 1_000_000);
    let direction = if args.reverse {
        Direction::BToA
    } else {
        Direction::AToB
    };
    let mut drawing = Drawing {
        top: 1.0,
        bars: Vec::new(),
        live: std::io::stdout().is_terminal(),
    };
    if !args.json {
        let rate = if args.rate > 0 {
            format!("{} Mbit/s", args.rate)
        } else {
            "no bound on its rate".into()
        };
        println!(
            "Two network namespaces of our own, a link between them: {rate}, {} ms round trip.",
            args.rtt
        );
        println!("Each bar is a tenth of a second of one TCP transfer.");
    }
    let found = compare(&bpftune, shape, direction, &mut |progress| {
        if !args.json {
            drawing.show(&progress);
        }
    })?;
    drawing.end();
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&found).expect("plain numbers")
        );
    } else {
        println!("\n  tuner off      {:8.1} Mbit/s", found.off);
        println!("  tuner on       {:8.1} Mbit/s from 2 s on", found.on);
        println!("  sized by hand  {:8.1} Mbit/s", found.hand_sized);
        println!(
            "  {:.0} % of hand-sized; 90 % reached {}; {} changes, {} reversals; {}",
            found.share_of_hand_sized * 100.0,
            found
                .seconds_to_90_percent
                .map_or("never".into(), |s| format!(
                    "{s:.1} s after the daemon's start"
                )),
            found.changes,
            found.reversals,
            if found.restored {
                "every value restored"
            } else {
                "NOT every value is restored"
            },
        );
    }
    Ok(found.restored)
}
