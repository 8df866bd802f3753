//! `bpftune config`: the operator's files.

use std::{fs, path::PathBuf};

use bpftune_core::{
    Machine, Tuner,
    config::{Config, DIRECTORY, Draft, Files, Known, Loaded, Problem, in_canary, plugins_present},
    trust::Trust,
};
use clap::Subcommand;

use crate::{
    exit::{self, Failure, Outcome},
    out::Json,
};

#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    /// Print a file with every key, its documentation and its default
    #[arg(long)]
    default: bool,
    #[command(flatten)]
    directory: Directory,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// Where the files are.
#[derive(clap::Args)]
pub(crate) struct Directory {
    /// The directory of bpftune.toml and conf.d
    #[arg(long, global = true, default_value = DIRECTORY, value_name = "DIR")]
    pub(crate) config_dir: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what is wrong, with line and way out; exit status 78 if anything is
    Check {
        /// Files to check together, in this order, instead of the installed ones; who owns them does not matter then
        paths: Vec<PathBuf>,
    },
    /// What holds, and which file set it
    Show(Json),
}

impl Directory {
    pub(crate) fn files(self) -> Files {
        Files {
            directory: self.config_dir,
            trust: Trust::ROOT,
        }
    }
}

pub(crate) fn config(args: Args) -> Outcome {
    let Args {
        default,
        directory,
        verb,
    } = args;
    match verb {
        Some(_) if default => Err(Failure(exit::USAGE, "--default stands alone".into())),
        None if default => {
            print!("{}", Config::default_file());
            Ok(())
        }
        Some(Verb::Check { paths }) => check(paths, directory.files()),
        Some(Verb::Show(json)) => show(json, &directory.files()),
        None => Err(Failure(
            exit::USAGE,
            "say `config --default`, `config check` or `config show`".into(),
        )),
    }
}

fn check(paths: Vec<PathBuf>, files: Files) -> Outcome {
    let loaded = if paths.is_empty() {
        files.load()?
    } else {
        let mut draft = Draft::default();
        for path in paths {
            match fs::read(&path) {
                Ok(bytes) => draft.add_bytes(path, &bytes),
                Err(error) => draft.problem(Problem::file(&path, error)),
            }
        }
        draft.finish()?
    };
    against_this_host(&loaded)?;
    if loaded.files.is_empty() {
        println!(
            "no files in {}: the defaults hold",
            files.directory.display()
        );
    }
    for file in &loaded.files {
        println!("{} is good", file.display());
    }
    Ok(())
}

/// Whether the files fit the tuners of this build and this machine.
fn against_this_host(loaded: &Loaded) -> Outcome {
    let machine = Machine::now()?;
    let catalogue = bpftune_tuners::catalogue();
    loaded.check(&Known {
        tuners: catalogue
            .iter()
            .map(|tuner| &**tuner as &dyn Tuner)
            .collect(),
        others: plugins_present(loaded),
        machine: &machine,
    })?;
    in_canary(loaded)?;
    Ok(())
}

fn show(json: Json, files: &Files) -> Outcome {
    let loaded = files.load()?;
    json.print(&loaded.effective(), |_| {
        print!("{}", loaded.effective_file())
    })
}
