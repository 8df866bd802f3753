//! How uring-process compares with other ways to make processes.
//!
//! `cargo xtask bench spawn` runs it. Rivals of one row take turns in one run; nothing is done for
//! one that is not done for the others.

mod alloc;
mod ballast;
mod judge;
mod parts;
mod rivals;
mod rounds;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use lab::result::{Common, Recorder};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Measures making processes: uring-process and its rivals in turn, beside goals
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench spawn")]
struct Args {
    #[command(flatten)]
    common: Common,
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
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench spawn: {error}");
            ExitCode::FAILURE
        }
    }
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

fn run(args: &Args) -> io::Result<ExitCode> {
    ballast::raise_limit();
    let program = args.program.as_deref().unwrap_or(Path::new("/bin/true"));
    if let Some(kind) = &args.helper {
        rivals::serve(kind, program)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(kind) = &args.calls {
        parts::calls_once(kind, program, args.count)?;
        return Ok(ExitCode::SUCCESS);
    }
    let common = &args.common;
    // Criterion and helpers talk; standard output has the result alone.
    let mut result = Recorder::quiet_stdout()?;
    first_in_line();
    let mut recorder = common.recorder("spawn");
    without_cargo();
    let bench = parts::Bench {
        programs: lab::elf::Programs::new()?,
        quick: common.quick,
    };
    parts::run(&bench, common, &mut recorder)?;
    judge::run();
    let missed = recorder.finish(&mut result, common.json)?;
    Ok(ExitCode::from(u8::from(common.strict && missed > 0)))
}
