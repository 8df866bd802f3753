//! What building and testing need beyond Rust, and where it comes from.

use std::{env, path::Path, process::Command};

/// How to tell whether a need is there.
pub(crate) enum Probe {
    /// A program in PATH.
    Program(&'static str),
    /// A header that the C compiler finds.
    Header(&'static str),
}

/// Something that must be installed.
pub(crate) struct Need {
    pub(crate) probe: Probe,
    pub(crate) what_for: &'static str,
    /// Package names, in the order of [`Manager`].
    pub(crate) packages: [&'static str; 4],
}

/// The package managers whose names we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Apt,
    Dnf,
    Pacman,
    Zypper,
}

pub(crate) const NEEDS: &[Need] = &[
    Need {
        probe: Probe::Program("cc"),
        what_for: "link Rust programs, build SQLite and libbpf",
        packages: ["gcc", "gcc", "gcc", "gcc"],
    },
    Need {
        probe: Probe::Program("clang"),
        what_for: "compile BPF programs",
        packages: ["clang", "clang", "clang", "clang"],
    },
    Need {
        probe: Probe::Program("make"),
        what_for: "build libbpf",
        packages: ["make", "make", "make", "make"],
    },
    Need {
        probe: Probe::Program("pkg-config"),
        what_for: "find libraries",
        packages: ["pkg-config", "pkgconf-pkg-config", "pkgconf", "pkg-config"],
    },
    Need {
        probe: Probe::Header("libelf.h"),
        what_for: "libbpf reads BPF object files with libelf",
        packages: [
            "libelf-dev",
            "elfutils-libelf-devel",
            "libelf",
            "libelf-devel",
        ],
    },
    Need {
        probe: Probe::Header("zlib.h"),
        what_for: "libelf reads compressed sections with zlib",
        packages: ["zlib1g-dev", "zlib-devel", "zlib", "zlib-devel"],
    },
];

impl Need {
    pub(crate) fn name(&self) -> &'static str {
        match self.probe {
            Probe::Program(name) | Probe::Header(name) => name,
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        match self.probe {
            Probe::Program(name) => in_path(name),
            Probe::Header(name) => header(name),
        }
    }
}

pub(crate) fn in_path(name: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(name).is_file())
}

/// The usual places first, for speed; then the compiler, which knows all.
fn header(name: &str) -> bool {
    if Path::new("/usr/include").join(name).exists() {
        return true;
    }
    let mut compiler = Command::new("cc");
    compiler.args([
        "-E",
        "-x",
        "c",
        "-include",
        name,
        "/dev/null",
        "-o",
        "/dev/null",
    ]);
    compiler
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

impl Manager {
    /// From the text of os-release(5): ID, then ID_LIKE.
    pub(crate) fn from_os_release(text: &str) -> Option<Manager> {
        let field = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .unwrap_or_default()
                .trim_matches('"')
        };
        [field("ID"), field("ID_LIKE")]
            .iter()
            .flat_map(|names| names.split(' '))
            .find_map(|name| match name {
                "debian" | "ubuntu" => Some(Manager::Apt),
                "fedora" | "rhel" | "centos" => Some(Manager::Dnf),
                "arch" => Some(Manager::Pacman),
                "suse" | "opensuse" | "sles" => Some(Manager::Zypper),
                _ => None,
            })
    }

    /// The names of packages.
    pub(crate) fn packages(self, needs: &[&Need]) -> Vec<&'static str> {
        let mut names: Vec<_> = needs
            .iter()
            .map(|need| need.packages[self as usize])
            .collect();
        names.dedup();
        names
    }

    /// The command that installs them, without sudo.
    pub(crate) fn install(self, packages: &[&str]) -> Vec<String> {
        let command: &[&str] = match self {
            Manager::Apt => &["apt-get", "install", "-y", "--no-install-recommends"],
            Manager::Dnf => &["dnf", "install"],
            Manager::Pacman => &["pacman", "-S", "--needed"],
            Manager::Zypper => &["zypper", "install"],
        };
        command
            .iter()
            .chain(packages)
            .map(ToString::to_string)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_distributions() {
        for (text, manager) in [
            ("NAME=x\nID=debian\n", Some(Manager::Apt)),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n",
                Some(Manager::Apt),
            ),
            (
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                Some(Manager::Dnf),
            ),
            ("ID=arch\n", Some(Manager::Pacman)),
            (
                "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n",
                Some(Manager::Zypper),
            ),
            ("ID=plan9\n", None),
            ("", None),
        ] {
            assert_eq!(Manager::from_os_release(text), manager, "{text:?}");
        }
    }

    #[test]
    fn every_need_has_a_package_everywhere() {
        for need in NEEDS {
            assert!(
                need.packages.iter().all(|package| !package.is_empty()),
                "{}",
                need.name()
            );
            assert!(!need.what_for.is_empty());
        }
    }

    #[test]
    fn names_the_command() {
        let all: Vec<_> = NEEDS.iter().collect();
        let apt = Manager::Apt.install(&Manager::Apt.packages(&all)).join(" ");
        assert!(
            apt.starts_with("apt-get install -y") && apt.contains("libelf-dev"),
            "{apt}"
        );
        let dnf = Manager::Dnf.install(&Manager::Dnf.packages(&all)).join(" ");
        assert!(
            dnf.starts_with("dnf install") && dnf.contains("elfutils-libelf-devel"),
            "{dnf}"
        );
    }

    #[test]
    fn names_the_packages_of_each_distribution() {
        let all: Vec<_> = NEEDS.iter().collect();
        let said = |manager: Manager| manager.install(&manager.packages(&all)).join(" ");
        assert_eq!(
            said(Manager::Pacman),
            "pacman -S --needed gcc clang make pkgconf libelf zlib"
        );
        assert_eq!(
            said(Manager::Zypper),
            "zypper install gcc clang make pkg-config libelf-devel zlib-devel"
        );
        assert_eq!(
            said(Manager::Dnf),
            "dnf install gcc clang make pkgconf-pkg-config elfutils-libelf-devel zlib-devel"
        );
    }

    #[test]
    fn probes_find_what_is_not_there() {
        let nothing = |probe| Need {
            probe,
            what_for: "",
            packages: [""; 4],
        };
        assert!(!nothing(Probe::Program("no-such-program")).is_there());
        assert!(!nothing(Probe::Header("no_such_header.h")).is_there());
        assert!(nothing(Probe::Program("sh")).is_there());
    }
}
