//! Programs of the host that scenarios need.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::{Error, Result, netns::Netns};

/// Whether a program is in one of the folders of `PATH`.
pub(crate) fn found(name: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(name).is_file())
}

/// Why there is no nft(8), if so.
pub(crate) fn no_nft() -> Option<&'static str> {
    (!found("nft")).then_some("no nft: apt install nftables")
}

/// Why there is no ip(8), if so.
pub(crate) fn no_ip() -> Option<&'static str> {
    (!found("ip")).then_some("no ip: apt install iproute2")
}

/// Loads rules into a namespace.
///
/// # Errors
/// Where there is no nft(8), or the kernel refuses the rules.
pub fn nft(netns: &Netns, rules: &str) -> Result<()> {
    let nft = netns.command("nft");
    feed(nft, &["-f", "-"], rules, "cannot load rules into nft")
}

/// Runs the lines of a script by ip(8), in a namespace.
pub(crate) fn ip(netns: &Netns, script: &str) -> Result<()> {
    let ip = netns.command("ip");
    feed(ip, &["-batch", "-"], script, "cannot do by ip")
}

/// Has a program read a text. `what` is what could not be done, if so.
fn feed(mut program: Command, args: &[&str], text: &str, what: &str) -> Result<()> {
    let failed = || Error::doing(what);
    let mut program = program
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    let mut input = program.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).map_err(failed())?;
    drop(input);
    let status = program.wait().map_err(failed())?;
    if status.success() {
        return Ok(());
    }
    Err(Error::other(what, status))
}

/// The figure that a load prints.
pub(crate) fn figure(load: &mut Command) -> Result<f64> {
    let output = load
        .stdin(Stdio::null())
        .output()
        .map_err(Error::doing(format!(
            "cannot start {:?}",
            load.get_program()
        )))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim()
        .parse()
        .map_err(|_| Error::other("the load gave no figure", text))
}
