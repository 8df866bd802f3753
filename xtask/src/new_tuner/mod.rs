//! `new-tuner`: a tuner that works, to begin with.
//!
//! The templates beside this file are a whole tuner called `my-tuner`; making one is writing them with another name.

mod name;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use crate::process::{Result, root};

/// What kind of tuner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A Rust crate with a daemon of its own
    Crate,
    /// A program in Python that bpftune starts; any other language does too
    Process,
    /// A TOML file, no code
    Rule,
}

/// A file of a template: where it goes, what is in it, whether it may be executed.
struct Template(&'static str, &'static str, bool);

/// With the folder it lies in here.
macro_rules! template {
    ($folder:literal, $path:literal) => {
        template!($folder, $path, $path, false)
    };
    ($folder:literal, $path:literal, $here:literal, $executable:literal) => {
        Template(
            $path,
            include_str!(concat!("templates/", $folder, "/", $here)),
            $executable,
        )
    };
}

const CRATE: &[Template] = &[
    template!("crate", "Cargo.toml", "Cargo.toml.in", false),
    template!("crate", ".gitignore", "gitignore", false),
    template!("crate", "README.md"),
    template!("crate", "src/lib.rs"),
    template!("crate", "src/main.rs"),
    template!("crate", "src/source.rs"),
    template!("crate", "src/tests.rs"),
    template!("crate", "tests/program.rs"),
];

const PROCESS: &[Template] = &[
    template!("process", "README.md"),
    template!("process", "my-tuner.py", "my-tuner.py", true),
    template!("process", "test.py"),
];

const RULE: &[Template] = &[
    template!("rule", "README.md"),
    template!("rule", "my-tuner.toml"),
];

/// Makes `directory`/`name`.
pub(crate) fn run(name: &str, kind: Kind, directory: Option<&Path>) -> Result {
    name::check(name, kind, &name::built_in(&root()))?;
    let directory = match directory {
        Some(directory) => directory.to_owned(),
        None => std::env::current_dir().map_err(|error| format!("no directory: {error}"))?,
    };
    let place = std::path::absolute(directory.join(name))
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    make(name, kind, &place)?;
    println!("{} is made. Next:\n", place.display());
    for line in next(name, kind, &place) {
        println!("  {line}");
    }
    println!("\ndocs/tutorial-tuner.md goes on from here.");
    Ok(())
}

fn make(name: &str, kind: Kind, place: &Path) -> Result {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    // Made here and nowhere before: nothing of anybody's is written over.
    match fs::create_dir(place) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(format!(
                "{} exists already: take another name, or another place by --dir",
                place.display()
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{}: make that directory first", place.display()));
        }
        done => done.map_err(|error| failed(place, error))?,
    }
    let templates = match kind {
        Kind::Crate => CRATE,
        Kind::Process => PROCESS,
        Kind::Rule => RULE,
    };
    let core = root().join("bpftune-core").display().to_string();
    for Template(path, text, executable) in templates {
        let file = place.join(named(path, name));
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        }
        let text = named(text, name).replace("@CORE@", &core);
        fs::write(&file, text).map_err(|error| failed(&file, error))?;
        let mode = if *executable { 0o755 } else { 0o644 };
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))
            .map_err(|error| failed(&file, error))?;
    }
    if kind == Kind::Crate {
        // The same versions as here: known to work together, and downloaded already.
        let lock = root().join("Cargo.lock");
        fs::copy(&lock, place.join("Cargo.lock")).map_err(|error| failed(&lock, error))?;
    }
    Ok(())
}

/// A template's text, with the name in each of its forms.
fn named(text: &str, name: &str) -> String {
    text.replace("my-tuner", name)
        .replace("my_tuner", &name.replace('-', "_"))
        .replace("MyTuner", &camel(name))
}

fn camel(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| {
            first.to_ascii_uppercase().to_string() + letters.as_str()
        })
    });
    words.collect()
}

/// The commands that come next.
fn next(name: &str, kind: Kind, place: &Path) -> Vec<String> {
    let file = |path: PathBuf| path.display().to_string();
    let check = |end: &str| {
        let plugin = file(place.join(format!("{name}.{end}")));
        format!("sudo target/release/bpftune plugin check {plugin}")
    };
    match kind {
        Kind::Crate => vec![
            format!("cd {}", file(place.to_owned())),
            "cargo test".into(),
            format!("cargo build --release && sudo target/release/{name} --mode advise"),
        ],
        Kind::Process => vec![
            format!("python3 {}", file(place.join("test.py"))),
            check("py"),
        ],
        Kind::Rule => vec![check("toml")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_forms() {
        assert_eq!(
            named("my-tuner my_tuner MyTuner", "tw-room2"),
            "tw-room2 tw_room2 TwRoom2"
        );
    }

    #[test]
    fn no_template_has_a_name_of_its_own() {
        for Template(path, text, _) in CRATE.iter().chain(PROCESS).chain(RULE) {
            let left = named(text, "x").replace("@CORE@", "");
            assert!(!left.contains('@'), "{path}");
            assert!(!left.to_lowercase().contains("mytuner"), "{path}");
        }
    }
}
