//! The daemon: this tuner in bpftune's engine. `--help` lists its options.

use std::process::ExitCode;

fn main() -> ExitCode {
    bpftune_core::daemon::main(&[(my_tuner::NAME, my_tuner::load)])
}
