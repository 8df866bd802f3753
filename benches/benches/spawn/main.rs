//! How uring-process compares with other ways to make processes.
//!
//! `cargo xtask bench spawn` runs it. Rivals of one row take turns in one run; nothing is done for
//! one that is not done for the others.

mod alloc;
mod ballast;
mod docs;
mod elf;
mod judge;
mod load;
mod parts;
mod plot;
mod report;
mod rivals;
mod rounds;
mod stats;

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::Parser;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Measures making processes: uring-process and its rivals in turn, beside goals
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench spawn")]
struct Args {
    /// Under three minutes, with fewer samples
    #[arg(long)]
    quick: bool,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Write docs/spawn.md and docs/spawn.svg from the last run's target/report/bench.json
    #[arg(long)]
    report: bool,
    /// Only parts whose name contains this; nothing is kept then
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Where the figures go
    #[arg(long, value_name = "PATH", default_value = "target/report/bench.json")]
    out: PathBuf,
    /// A rival in a process of its own
    #[arg(long, hide = true, value_name = "KIND")]
    helper: Option<String>,
    /// Some processes, for strace
    #[arg(long, hide = true, value_name = "KIND")]
    calls: Option<String>,
    #[arg(long, hide = true, default_value_t = 0)]
    count: usize,
    #[arg(hide = true)]
    program: Option<PathBuf>,
    /// Cargo says so
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench spawn: {error}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Above the other programs of the machine, where that is allowed; all rivals and their children
/// inherit it.
fn first_in_line() {
    // SAFETY: integers only. A refusal leaves things as they are.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Takes what cargo adds out of the environment: the children shall have that of a shell's command.
fn without_cargo() {
    let added = |name: &str| {
        ["CARGO", "RUSTUP", "RUST_RECURSION"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || name == "LD_LIBRARY_PATH"
    };
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(added) {
            // SAFETY: the only thread so far.
            unsafe { std::env::remove_var(&name) };
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    ballast::raise_limit();
    let program = args.program.as_deref().unwrap_or(Path::new("/bin/true"));
    if let Some(kind) = &args.helper {
        return rivals::serve(kind, program);
    }
    if let Some(kind) = &args.calls {
        return parts::calls_once(kind, program, args.count);
    }
    let out = root().join(&args.out);
    if args.report {
        let written = docs::write(&report::Report::read(&out)?, &root().join("docs"))?;
        eprintln!("wrote {written}");
        return Ok(());
    }
    // Talk goes to standard error; standard output has the result alone.
    let mut result = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // SAFETY: both descriptors are open.
    unsafe { libc::dup2(io::stderr().as_raw_fd(), io::stdout().as_raw_fd()) };
    first_in_line();
    without_cargo();
    let begin = Instant::now();
    let mut bench = parts::Bench {
        programs: elf::Programs::new()?,
        quick: args.quick,
        report: report::Report::new(args.quick),
    };
    parts::run(&mut bench, args.only.as_deref().unwrap_or_default())?;
    judge::run();
    let mut report = bench.report;
    report.seconds = begin.elapsed().as_secs_f64();
    if args.only.is_none() {
        report.write(&out)?;
    }
    if args.json {
        writeln!(result, "{}", report.json()?)
    } else {
        let missed = report.rows.iter().filter(|row| row.met == Some(false));
        writeln!(
            result,
            "{}\n{} {:.0} s in all. Goals missed: {}. Figures: {}",
            report.table(),
            report.quiet(),
            report.seconds,
            missed.count(),
            out.display()
        )
    }
}
