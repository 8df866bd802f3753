//! Running other programs.

use std::{
    env,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

/// What a chore returns: nothing, or what went wrong.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
        .to_owned()
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs it; its failure is ours.
pub(crate) fn check(command: &mut Command) -> Result {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{}` failed ({status})", shown(command))),
        Err(error) => Err(format!("cannot run `{}`: {error}", shown(command))),
    }
}

/// Becomes it, through sudo where we are not root.
pub(crate) fn become_root(program: &Path, args: &[String]) -> Result {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        eprintln!(
            "xtask: {} needs root: running it through sudo",
            program.display()
        );
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    };
    command.args(args);
    Err(format!(
        "cannot run `{}`: {}",
        shown(&command),
        command.exec()
    ))
}

/// `cargo metadata` of the whole graph.
pub(crate) fn metadata(args: &[&str]) -> Result<serde_json::Value> {
    let output = cargo()
        .args(["metadata", "--format-version", "1"])
        .args(args)
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let metadata = metadata(&["--no-deps"])?;
    Ok(metadata["target_directory"]
        .as_str()
        .unwrap_or("target")
        .into())
}
