//! Which names a tuner may have.

use std::{fs, path::Path};

use super::Kind;

/// The framework's own, which stand where a tuner's name stands.
const TAKEN: [&str; 3] = ["bpftune", "bpftune-core", "engine"];

/// What cargo or rustc mean by a name: a crate cannot have it.
const CRATES: [&str; 8] = [
    "alloc",
    "core",
    "proc-macro",
    "std",
    "test",
    "build",
    "deps",
    "examples",
];

/// Keywords of Rust that are names by their letters.
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
    "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
    "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
    "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// The longest, as for plugins.
const LONGEST: usize = 32;

/// Names of the tuners in this repository: a folder each.
pub(super) fn built_in(root: &Path) -> Vec<String> {
    let folders = fs::read_dir(root.join("bpftune-tuners/src"));
    folders
        .into_iter()
        .flatten()
        .flatten()
        .filter(|folder| folder.path().join("mod.rs").exists())
        .filter_map(|folder| Some(folder.file_name().to_str()?.replace('_', "-")))
        .collect()
}

/// Whether a new tuner may have this name.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check(name: &str, kind: Kind, built_in: &[String]) -> Result<(), String> {
    let good = name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && !name.contains("--")
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !good {
        return Err(format!(
            "\"{name}\" is no name for a tuner: lower case letters, digits and single hyphens between them, a letter \
             first, at most {LONGEST}"
        ));
    }
    if built_in.iter().any(|known| known == name) {
        return Err(format!(
            "bpftune has a tuner {name} already: take another name"
        ));
    }
    if TAKEN.contains(&name) {
        return Err(format!("{name} is bpftune's own name: take another"));
    }
    if kind == Kind::Process && name == "test" {
        return Err("test.py has the tests: take another name".into());
    }
    if kind == Kind::Crate && (CRATES.contains(&name) || KEYWORDS.contains(&name)) {
        return Err(format!(
            "no crate can be called {name}, it means something in Rust: take another name"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_in_words() {
        let built_in = ["tcp-buffer".to_owned()];
        for (name, kind, why) in [
            ("", Kind::Rule, "no name for a tuner"),
            ("Big", Kind::Rule, "no name for a tuner"),
            ("9lives", Kind::Process, "no name for a tuner"),
            ("a_b", Kind::Crate, "no name for a tuner"),
            ("a--b", Kind::Crate, "no name for a tuner"),
            ("a-", Kind::Rule, "no name for a tuner"),
            ("../up", Kind::Rule, "no name for a tuner"),
            ("ä", Kind::Rule, "no name for a tuner"),
            (
                "tcp-buffer",
                Kind::Process,
                "has a tuner tcp-buffer already",
            ),
            ("engine", Kind::Rule, "bpftune's own name"),
            ("test", Kind::Process, "test.py has the tests"),
            ("match", Kind::Crate, "it means something in Rust"),
            ("std", Kind::Crate, "it means something in Rust"),
        ] {
            let error = check(name, kind, &built_in).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert!(check(&"x".repeat(33), Kind::Rule, &[]).is_err());
        check("match", Kind::Rule, &built_in).unwrap();
        check("tw-room2", Kind::Crate, &built_in).unwrap();
    }

    #[test]
    fn finds_the_tuners_of_this_repository() {
        let found = built_in(&crate::process::root());
        assert!(found.contains(&"tcp-buffer".to_owned()), "{found:?}");
        assert!(!found.contains(&"bin".to_owned()), "{found:?}");
    }
}
