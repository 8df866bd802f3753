//! `cargo xtask vm`: the process operation in a kernel, in a virtual machine.
//!
//! The machine is QEMU's by software emulation, so it needs no rights and no hardware: good for
//! truth, and for times only as a ratio within one run.

mod initramfs;
mod kernel;
mod packages;
mod qemu;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use initramfs::Archive;
use kernel::Flavour;
use serde_json::Value as Json;

use crate::{
    needs::{Need, Probe},
    process::{Result, cargo, check, root},
    setup,
    test::Tally,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What only this verb needs.
const NEEDS: &[Need] = &[
    Need {
        probe: Probe::Program("qemu-system-x86_64"),
        what_for: "run the virtual machine",
        packages: [
            "qemu-system-x86",
            "qemu-system-x86-core",
            "qemu-system-x86",
            "qemu-x86",
        ],
    },
    Need {
        probe: Probe::Program("flex"),
        what_for: "build a kernel",
        packages: ["flex"; 4],
    },
    Need {
        probe: Probe::Program("bison"),
        what_for: "build a kernel",
        packages: ["bison"; 4],
    },
    Need {
        probe: Probe::Program("bc"),
        what_for: "build a kernel",
        packages: ["bc"; 4],
    },
    Need {
        probe: Probe::Program("xz"),
        what_for: "unpack the kernel's source",
        packages: ["xz-utils", "xz", "xz", "xz"],
    },
    Need {
        probe: Probe::Program("perl"),
        what_for: "check the form of kernel patches",
        packages: ["perl"; 4],
    },
];

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Build the kernel with the patches; about ten minutes once, less than one after an edit
    Kernel {
        /// With lockdep, KASAN and kmemleak
        #[arg(long)]
        debug: bool,
        /// Only check the patches with checkpatch.pl --strict
        #[arg(long)]
        check: bool,
    },
    /// Boot it, run the tests of uring-sys-ext there, and count them
    Test(TestArgs),
    /// Boot it, and compare what a process costs by the operation and by other ways
    Rate,
    /// Boot it into a shell
    Shell {
        /// With lockdep, KASAN and kmemleak
        #[arg(long)]
        debug: bool,
    },
}

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Only tests whose name contains one of these
    filter: Vec<String>,
    /// Tests of this package; those of lab get the daemon beside them
    #[arg(long, value_name = "NAME", default_value = "uring-sys-ext")]
    package: String,
    /// Only this file of tests, once or more often
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// With these features of it, too, separated by commas
    #[arg(long, value_name = "NAMES", default_value = "")]
    features: String,
    /// On the kernel with lockdep, KASAN and kmemleak
    #[arg(long, conflicts_with = "stock")]
    debug: bool,
    /// On a kernel of Debian's instead, where there is no such operation to be found
    #[arg(long)]
    stock: Option<Stock>,
    /// Words for the kernel's command line: GUEST_SPAWNS=10000 GUEST_FUZZ=1000000
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Switch the machine off after this many seconds
    #[arg(long, default_value_t = 900)]
    limit: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stock {
    #[value(name = "6.1")]
    Linux6_1,
    #[value(name = "6.12")]
    Linux6_12,
}

impl Stock {
    fn series(self) -> &'static str {
        match self {
            Stock::Linux6_1 => "6.1",
            Stock::Linux6_12 => "6.12",
        }
    }
}

/// What Debian's kernels have as modules and tests need: the lab's link is made of tun devices, a service's disk is a loop
/// device.
const MODULES: &[&str] = &["tun", "loop"];

pub(crate) fn run(verb: &Verb) -> Result {
    setup::ensure()?;
    setup::ensure_all(NEEDS)?;
    match verb {
        Verb::Kernel { check: true, .. } => kernel::check_patches(),
        Verb::Kernel { debug, .. } => {
            println!("{}", kernel::image(flavour(*debug))?.display());
            Ok(())
        }
        Verb::Test(args) => test(args),
        Verb::Rate => rate(),
        Verb::Shell { debug } => {
            let image = kernel::image(flavour(*debug))?;
            qemu::shell(&image, &initramfs(&[], &[])?)
        }
    }
}

fn flavour(debug: bool) -> Flavour {
    if debug {
        Flavour::Debug
    } else {
        Flavour::Plain
    }
}

fn test(args: &TestArgs) -> Result {
    let (image, modules) = match args.stock {
        None => (kernel::image(flavour(args.debug))?, Vec::new()),
        Some(stock) => packages::stock_kernel(stock.series(), MODULES)?,
    };
    let mut arguments: Vec<&str> = args.filter.iter().map(String::as_str).collect();
    // Runs of a whole suite again by another executor are the host's business: each takes minutes here.
    arguments.extend(["--show-output", "--skip", "forced_", "--skip", "again_by_"]);
    let mut files = tests(&args.package, &args.features, &args.test)?;
    files.extend(modules.into_iter().map(|path| File::new("modules", path)));
    if args.package == "lab" {
        files.extend(daemon()?);
    }
    let archive = initramfs(&files, &arguments)?;

    let words = args.set.join(" ");
    boot(&image, &archive, &words, args.limit).report()
}

/// Boots, prints every line, and counts what tests say. What goes wrong is a fault of the tally.
fn boot(image: &Path, archive: &Path, words: &str, seconds: u64) -> Tally {
    let (mut tally, mut guest) = (Tally::default(), Guest::default());
    let limit = Duration::from_secs(seconds);
    let ran = qemu::run(image, archive, words, limit, |line| {
        println!("{line}");
        match line.strip_prefix("GUEST: ") {
            Some(said) => guest.read(said, &mut tally),
            None => tally.read(line),
        }
    });
    tally.end_of_binary();
    tally.faults.extend(ran.err());
    tally.faults.extend(guest.fault());
    tally
}

/// Runs the example of uring-process that measures.
fn rate() -> Result {
    const NAME: &str = "kernel_rate";
    let image = kernel::image(Flavour::Plain)?;
    let package = ["--package", "uring-process", "--release", "--example", NAME];
    check(static_cargo("build").args(package))?;
    let built = target_dir().join(TARGET).join("release/examples");
    let program = File::new("tests", built.join(NAME));
    let archive = initramfs(&[program], &[])?;
    match boot(&image, &archive, "", 600).faults.pop() {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// What the first process of the machine has said.
#[derive(Default)]
struct Guest {
    done: bool,
    complaints: usize,
}

impl Guest {
    fn read(&mut self, said: &str, tally: &mut Tally) {
        if said == "done" {
            self.done = true;
        } else if said.starts_with("kernel: ") {
            self.complaints += 1;
        } else if let Some(exit) = said.strip_prefix("exit ") {
            tally.end_of_binary();
            if !exit.ends_with(" exit status: 0") {
                tally.faults.push(exit.to_owned());
            }
        }
    }

    fn fault(&self) -> Option<String> {
        if self.complaints > 0 {
            return Some(format!(
                "the kernel complained, in {} lines",
                self.complaints
            ));
        }
        (!self.done).then(|| "the machine did not get to its end".to_owned())
    }
}

/// Cargo for programs that need no library beside them.
fn static_cargo(verb: &str) -> Command {
    let mut command = cargo();
    command
        .args([verb, "--quiet", "--target", TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", target_dir());
    command
}

fn target_dir() -> PathBuf {
    root().join("target/guest")
}

/// A file for the machine, under its own name.
struct File {
    directory: &'static str,
    name: String,
    from: PathBuf,
}

impl File {
    fn new(directory: &'static str, from: PathBuf) -> File {
        let name = from.file_name().unwrap_or_default();
        File {
            directory,
            name: name.to_string_lossy().into_owned(),
            from,
        }
    }
}

/// Builds the test binaries of a package, all or those named.
fn tests(package: &str, features: &str, only: &[String]) -> Result<Vec<File>> {
    let mut command = static_cargo("test");
    command.args(["--no-run", "--message-format=json", "--package", package]);
    command.args(["--features", features]);
    match only {
        [] => command.arg("--tests"),
        names => command.args(names.iter().flat_map(|name| ["--test", name])),
    };
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not compile".into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().filter_map(|line| {
        let message: Json = serde_json::from_str(line).ok()?;
        // The package's programs come too, as what they are.
        if message["profile"]["test"] != true {
            return None;
        }
        let from = PathBuf::from(message["executable"].as_str()?);
        let name = message["target"]["name"].as_str()?;
        Some(File {
            directory: "tests",
            name: format!("{package}-{name}"),
            from,
        })
    });
    Ok(found.collect())
}

/// Builds the daemon with every tuner, and the rig that tests do harm with. They lie above the tests, where those look
/// for them.
fn daemon() -> Result<Vec<File>> {
    let built = target_dir().join(TARGET).join("debug");
    let programs = [("bpftune-tuners", "bpftune"), ("lab", "rig")];
    programs
        .into_iter()
        .map(|(package, program)| {
            let mut build = static_cargo("build");
            build.args(["--package", package, "--bin", program, "--all-features"]);
            check(&mut build)?;
            Ok(File::new(".", built.join(program)))
        })
        .collect()
}

/// What busybox has not, or only under its own name.
const TOOLS: [&str; 3] = ["nice", "sh", "true"];

/// true(1) under any name, and what is measured with: the x86-64 program that ends with 0 at once, an ELF header, a program header, three instructions.
const TRUE: &[u8] =
    b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0\x78\0\x40\0\0\0\0\0\
    \x40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\
    \x01\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\x40\0\0\0\0\0\
    \x81\0\0\0\0\0\0\0\x81\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\
    \x31\xff\xb8\x3c\0\0\0\x0f\x05";

/// An archive with the first process, busybox, and these files.
fn initramfs(files: &[File], arguments: &[&str]) -> Result<PathBuf> {
    let bins = ["--bin", "guest-init", "--bin", "guest-nice"];
    check(
        static_cargo("build")
            .args(["--package", "xtask"])
            .args(bins),
    )?;
    let built = target_dir().join(TARGET).join("debug");
    let busybox = packages::unpacked("busybox-static")?.join("bin/busybox");
    let mut archive = Archive::default();
    for name in [
        "bin", "dev", "etc", "modules", "proc", "root", "run", "sys", "tests", "tmp", "usr",
        "usr/bin", "var", "var/lib",
    ] {
        archive.directory(name);
    }
    archive.device("dev/console", (5, 1));
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0::/tmp:/bin/sh\nnobody:x:65534:65534::/:\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    archive.file("arguments", 0o644, arguments.join("\n").as_bytes());
    let copied = |error| format!("cannot read a file for the machine: {error}");
    let init = built.join("guest-init");
    archive.copy("init", &init).map_err(copied)?;
    archive.copy("bin/busybox", &busybox).map_err(copied)?;
    let shell = packages::unpacked("bash-static")?.join("bin/bash-static");
    archive.copy("bin/sh", &shell).map_err(copied)?;
    archive.file("bin/true", 0o755, TRUE);
    archive
        .copy("bin/nice", &built.join("guest-nice"))
        .map_err(copied)?;
    let applets = applets(&busybox)?;
    let others = applets
        .iter()
        .filter(|applet| !TOOLS.contains(&applet.as_str()));
    for applet in others {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.link("usr/bin/env", "/bin/busybox");
    for file in files {
        archive
            .copy(&format!("{}/{}", file.directory, file.name), &file.from)
            .map_err(copied)?;
    }
    let path = target_dir().join("initramfs");
    fs::write(&path, archive.finish())
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output = Command::new(busybox)
        .arg("--list")
        .output()
        .map_err(|error| format!("cannot run {}: {error}", busybox.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|name| *name != "busybox")
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_is_not_well_is_a_fault() {
        let read = |lines: &[&str]| {
            let (mut guest, mut tally) = (Guest::default(), Tally::default());
            lines.iter().for_each(|line| guest.read(line, &mut tally));
            (guest.fault().is_some(), tally.faults.len())
        };
        assert_eq!(
            read(&["run x", "exit x exit status: 0", "done"]),
            (false, 0)
        );
        assert_eq!(read(&["exit x exit status: 101", "done"]), (false, 1));
        assert_eq!(read(&["kernel: BUG", "done"]), (true, 0));
        assert_eq!(read(&["run x"]), (true, 0));
    }

    #[test]
    fn every_need_says_what_it_is_for() {
        assert!(NEEDS.iter().all(|need| !need.what_for.is_empty()));
    }
}
