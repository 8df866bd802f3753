//! `cargo xtask targets`: do the uring crates compile for every target that they promise?
//!
//! Where the toolchain in use has a target's standard library, that is what it takes. Elsewhere
//! Debian's own compiler with its library's source does (packages `rustc-web`, `rust-web-src`),
//! which are unpacked into a cache, not installed; its name is made of their versions.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::{Result, cargo, check};

/// What is promised, and one of the other architectures, which take the last executor.
const TARGETS: [&str; 5] = [
    "x86_64-unknown-linux-gnu",
    "x86_64-unknown-linux-musl",
    "aarch64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "riscv64gc-unknown-linux-gnu",
];

const PACKAGES: [&str; 5] = [
    "rustc-web",
    "libstd-rust-web-1.96",
    "libstd-rust-web-dev",
    "rust-web-src",
    "libllvm22",
];

const CRATES: [&str; 4] = ["--package", "uring-sys-ext", "--package", "uring-process"];

pub(crate) fn run() -> Result {
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        TARGETS.into_iter().partition(|target| has_library(target));
    let mut faults = Vec::new();
    if !here.is_empty() {
        let mut command = cargo();
        command.args(["check", "--all-features"]).args(CRATES);
        faults.extend(check(targets(&mut command, &here)).err());
    }
    let mut skipped = 0;
    if !elsewhere.is_empty() {
        match other_compiler() {
            Ok(compiler) => faults.extend(compiler.check(&elsewhere).err()),
            Err(reason) => {
                skipped = elsewhere.len();
                for target in &elsewhere {
                    println!("SKIP: {target}: {reason}; or `rustup target add {target}`");
                }
            }
        }
    }
    println!(
        "targets: {} checked, {skipped} skipped",
        TARGETS.len() - skipped
    );
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

fn targets<'c>(command: &'c mut Command, names: &[&str]) -> &'c mut Command {
    for name in names {
        command.args(["--target", name]);
    }
    command
}

/// Whether the toolchain in use can compile for it.
fn has_library(target: &str) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output();
    output.is_ok_and(|output| {
        let dir = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        fs::read_dir(dir).is_ok_and(|mut files| {
            files.any(|file| {
                file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
            })
        })
    })
}

/// A compiler that has its library's source beside it.
struct Compiler {
    root: PathBuf,
}

impl Compiler {
    /// Checks for these targets, building their libraries first; those are kept in the cache.
    fn check(&self, names: &[&str]) -> Result {
        let usr = self.root.join("usr");
        let mut command = cargo();
        command
            .args(["check", "-Zbuild-std=std,panic_abort", "--all-features"])
            .args(CRATES)
            .env("CARGO_TARGET_DIR", self.root.join("target"))
            .env("RUSTC", usr.join("bin/rustc"))
            .env("LD_LIBRARY_PATH", usr.join("lib/x86_64-linux-gnu"))
            // Building the library is not for stable compilers otherwise.
            .env("RUSTC_BOOTSTRAP", "1");
        check(targets(&mut command, names))
    }
}

/// Debian's compiler from the cache, or unpacked into it now.
fn other_compiler() -> Result<Compiler> {
    let version = available_version(PACKAGES[0])?;
    let root = cache_dir()?.join(format!("rustc-web-{version}"));
    let done = root.join("complete");
    if !done.is_file() {
        println!(
            "fetching Debian's {} {version} into {}",
            PACKAGES.join(", "),
            root.display()
        );
        unpack(&root)?;
        fs::write(&done, "")
            .map_err(|error| format!("cannot write {}: {error}", done.display()))?;
    }
    Ok(Compiler { root })
}

pub(crate) fn available_version(package: &str) -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["show", "--no-all-versions", package])
        .output();
    let output = output.map_err(|_| "no standard library for it, and no apt".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version
        .ok_or("no standard library for it, and no package rustc-web")?
        .replace(':', "_"))
}

fn unpack(root: &Path) -> Result {
    let debs = root.join("debs");
    fs::create_dir_all(&debs)
        .map_err(|error| format!("cannot make {}: {error}", debs.display()))?;
    check(
        Command::new("apt-get")
            .args(["-q", "download"])
            .args(PACKAGES)
            .current_dir(&debs),
    )?;
    let files = fs::read_dir(&debs).map_err(|error| format!("{}: {error}", debs.display()))?;
    for file in files.flatten() {
        check(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(file.path())
                .arg(root),
        )?;
    }
    fs::remove_dir_all(&debs).map_err(|error| format!("cannot remove {}: {error}", debs.display()))
}

/// Outside of the checkout, so that it outlives it.
pub(crate) fn cache_dir() -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| env::home_dir().map(|home| home.join(".cache")));
    Ok(base
        .ok_or("no home directory for a cache")?
        .join("bpftune-xtask"))
}
