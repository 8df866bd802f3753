//! The flags themselves, and which command lines are classic ones.

use std::{ffi::OsString, path::PathBuf};

use bpftune_core::control::DEFAULT_SOCKET;
use clap::Parser;

use crate::run;

/// The classic flags
#[derive(Parser, Debug)]
#[command(
    name = "bpftune",
    disable_version_flag = true,
    after_help = "Without a classic flag there are commands: see `bpftune help`."
)]
pub(crate) struct Args {
    /// Run only this tuner (repeat for more): tcp_buffer, tcp-buffer or tcp_buffer_tuner.so
    #[arg(short, long, value_name = "TUNER")]
    pub(super) allow: Vec<String>,
    /// A cgroup v2 directory; taken, and not needed here
    #[arg(short, long, value_name = "DIR")]
    pub(super) cgroup: Option<PathBuf>,
    /// Log every signal
    #[arg(short, long)]
    pub(super) debug: bool,
    /// Go to the background
    #[arg(short = 'D', long)]
    pub(super) daemon: bool,
    /// A folder with plugins besides the usual ones
    #[arg(short, long, value_name = "DIR")]
    pub(super) libdir: Option<PathBuf>,
    /// Taken; each hook falls back by itself here
    #[arg(short = 'L', long)]
    pub(super) legacy: bool,
    /// Answer queries on this loopback port; with -q, ask there
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) port: Option<u16>,
    /// Print the folders of plugins, one a line, and end
    #[arg(short = 'P', long)]
    pub(super) print_libdir: bool,
    /// Ask a running daemon: help, tuners, tunables, jtunables, summary, status, jstatus, rollback
    #[arg(short, long, value_name = "WORD")]
    pub(super) query: Option<String>,
    /// How far one change may go: 0 (1.6 %) to 3 (12.5 %); 4, the default, as far as the tuner says
    #[arg(short = 'r', long = "learning_rate", alias = "learning-rate", value_name = "0-4",
        value_parser = clap::value_parser!(u8).range(0..=4))]
    pub(super) learning_rate: Option<u8>,
    /// Restore every value on exit; without it they stay
    #[arg(short = 'R', long)]
    pub(super) rollback: bool,
    /// Log to standard error, not to syslog
    #[arg(short, long)]
    pub(super) stderr: bool,
    /// Say what this system supports and end
    #[arg(short = 'S', long)]
    pub(super) support: bool,
    /// Print the version and end
    #[arg(short = 'V', long)]
    pub(super) version: bool,
    #[arg(long, hide = true, default_value = run::STATE_DIR)]
    pub(super) state_dir: PathBuf,
    #[arg(long, hide = true, default_value = DEFAULT_SOCKET)]
    pub(super) control: PathBuf,
    #[arg(long, hide = true)]
    pub(super) netns: Vec<PathBuf>,
    #[arg(long, hide = true)]
    pub(super) no_global: bool,
}

/// The command line, where it is a classic one: its first word is a classic flag, or there is none and a service
/// manager started us.
pub(crate) fn wanted(args: impl Iterator<Item = OsString>) -> Option<Vec<OsString>> {
    let args: Vec<OsString> = args.collect();
    let is_classic = match args
        .get(1)
        .map(|first| first.to_string_lossy().into_owned())
    {
        None => std::env::var_os("INVOCATION_ID").is_some(),
        Some(first) => match first.strip_prefix("--") {
            Some(long) => {
                let name = long.split('=').next().unwrap_or(long);
                [
                    "allow",
                    "cgroup",
                    "debug",
                    "daemon",
                    "libdir",
                    "legacy",
                    "port",
                    "print-libdir",
                    "query",
                    "learning_rate",
                    "rollback",
                    "stderr",
                    "support",
                    "version",
                ]
                .contains(&name)
            }
            None => first
                .strip_prefix('-')
                .and_then(|cluster| cluster.chars().next())
                .is_some_and(|flag| "acdDlLpPqrRsSV".contains(flag)),
        },
    };
    is_classic.then_some(args)
}

/// A tuner's name as ours: the peer's are files or have underscores.
pub(super) fn our_name(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.strip_suffix(".so").unwrap_or(name);
    let name = name.strip_suffix("_tuner").unwrap_or(name);
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_classic(line: &str) -> bool {
        wanted(line.split(' ').map(OsString::from)).is_some()
    }

    #[test]
    fn classic_lines_are_told_from_commands() {
        for line in [
            "bpftune -d",
            "bpftune -s",
            "bpftune -ds",
            "bpftune -S",
            "bpftune --support",
            "bpftune -q jstatus",
            "bpftune --query=status",
            "bpftune -V",
            "bpftune --version",
            "bpftune -P",
            "bpftune -r 2 -R -s",
            "bpftune --learning_rate 0",
            "bpftune -a tcp_buffer_tuner.so",
            "bpftune -p 4567",
        ] {
            assert!(is_classic(line), "{line}");
        }
        for line in [
            "bpftune run",
            "bpftune status --json",
            "bpftune --state-dir /x status",
            "bpftune -h",
            "bpftune --help",
            "bpftune help",
            "bpftune --control /x revert",
            "bpftune run --debug",
        ] {
            assert!(!is_classic(line), "{line}");
        }
    }

    #[test]
    fn names_are_taken_in_every_spelling() {
        for name in [
            "tcp-buffer",
            "tcp_buffer",
            "tcp_buffer_tuner",
            "tcp_buffer_tuner.so",
            "/usr/lib64/bpftune/tcp_buffer_tuner.so",
        ] {
            assert_eq!(our_name(name), "tcp-buffer", "{name}");
        }
    }
}
