//! The kernel with the patches: Debian's source, a small configuration, and a build that is kept.
//!
//! One source tree for both flavours, and a directory for the objects of each. A patch that has
//! been edited changes only the files that come out different, so that `make` builds no others.
//! A finished image is kept under the hash of all that it is made of.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::SystemTime,
};

use super::packages;
use crate::process::{Result, check, root, shown};

const PACKAGE: &str = "linux-source-6.12";

/// What a kernel is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Fast.
    Plain,
    /// Watches itself: lockdep, KASAN, kmemleak.
    Debug,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Debug => "debug",
        }
    }

    fn fragments(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &["config"],
            Self::Debug => &["config", "config.debug"],
        }
    }
}

/// The patches and the configuration.
fn ours() -> PathBuf {
    root().join("uring-sys-ext/kernel")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .map_err(|error| format!("cannot make {}: {error}", parent.display()))?;
    }
    fs::write(path, content).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

pub(super) fn patches() -> Result<Vec<PathBuf>> {
    let dir = ours();
    let files = fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut patches: Vec<PathBuf> = files
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "patch"))
        .collect();
    patches.sort();
    Ok(patches)
}

/// The image, from the cache or built now.
pub(super) fn image(flavour: Flavour) -> Result<PathBuf> {
    let package = packages::unpacked(PACKAGE)?;
    let mut hasher = DefaultHasher::new();
    package.hash(&mut hasher);
    for path in patches()? {
        read(&path)?.hash(&mut hasher);
    }
    for name in flavour.fragments() {
        read(&ours().join(name))?.hash(&mut hasher);
    }
    let name = format!("{}-{:016x}", flavour.name(), hasher.finish());
    let image = packages::home()?.join("images").join(name);
    if !image.is_file() {
        let source = source(&package)?;
        let objects = packages::home()?.join(flavour.name());
        configure(&source, &objects, flavour)?;
        println!("building the kernel ({}): minutes at first", flavour.name());
        check(make(&source, &objects).args(["-j2", "bzImage"]))?;
        let built = objects.join("arch/x86/boot/bzImage");
        let bytes = fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
        write(&image, bytes)?;
    }
    Ok(image)
}

/// The tree with the patches, unpacked now where this version is not there yet.
fn source(package: &Path) -> Result<PathBuf> {
    let home = packages::home()?;
    let tree = home.join(PACKAGE);
    let stamp = home.join("source-of");
    let version = package.display().to_string();
    if !tree.is_dir() || fs::read_to_string(&stamp).ok().as_ref() != Some(&version) {
        println!("unpacking {PACKAGE}");
        for old in [PACKAGE, "pristine", "plain", "debug"] {
            let _ = fs::remove_dir_all(home.join(old));
        }
        let archive = package.join(format!("usr/src/{PACKAGE}.tar.xz"));
        check(
            Command::new("tar")
                .arg("-xf")
                .arg(archive)
                .arg("-C")
                .arg(&home),
        )?;
        write(&stamp, version)?;
    }
    let touched = apply(&tree, &home)?;
    let unpacked = modified(&stamp)?;
    match edited(&tree, &tree, unpacked, &touched)? {
        Some(file) => Err(format!(
            "{} was edited by hand, and no patch has it: this kernel would be built nowhere else. Put it into a patch, \
             or remove {} for a fresh one",
            file.display(),
            stamp.display()
        )),
        None => Ok(tree),
    }
}

fn modified(path: &Path) -> Result<SystemTime> {
    fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// A file of the tree that is newer than its unpacking, other than those that the patches touch. The objects lie elsewhere.
fn edited(
    tree: &Path,
    dir: &Path,
    unpacked: SystemTime,
    touched: &BTreeSet<String>,
) -> Result<Option<PathBuf>> {
    let failed = |error| format!("{}: {error}", dir.display());
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            if let Some(file) = edited(tree, &path, unpacked, touched)? {
                return Ok(Some(file));
            }
        } else if modified(&path)? > unpacked {
            let name = path.strip_prefix(tree).unwrap_or(&path);
            if !name.to_str().is_some_and(|name| touched.contains(name)) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Brings the tree to what the patches make of it, writing files that differ only. Returns the names of those that the
/// patches touch, or did before an edit.
fn apply(tree: &Path, home: &Path) -> Result<BTreeSet<String>> {
    let patches = patches()?;
    let mut touched = BTreeSet::new();
    for patch in &patches {
        touched.extend(files_of(&read(patch)?));
    }
    // Those of the patches before an edit: what they no longer touch becomes as it was.
    let list = home.join("touched");
    let before = fs::read_to_string(&list).unwrap_or_default();
    let all: BTreeSet<String> = touched
        .iter()
        .cloned()
        .chain(before.lines().map(str::to_owned))
        .collect();
    let pristine = home.join("pristine");
    for name in &all {
        let kept = pristine.join(name);
        // Before the first patch that has it, the file in the tree is as it came.
        if !before.lines().any(|line| line == name) && tree.join(name).is_file() {
            let bytes = fs::read(tree.join(name)).map_err(|error| format!("{name}: {error}"))?;
            write(&kept, bytes)?;
        }
    }
    write(
        &list,
        all.iter()
            .map(|name| format!("{name}\n"))
            .collect::<String>(),
    )?;

    let staging = home.join("staging");
    let _ = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).map_err(|error| format!("{}: {error}", staging.display()))?;
    for name in &all {
        if let Ok(bytes) = fs::read(pristine.join(name)) {
            write(&staging.join(name), bytes)?;
        }
    }
    for patch in &patches {
        let mut git = Command::new("git");
        git.args(["apply", "--whitespace=error"]).arg(patch);
        // It is not to find a repository that this directory may lie in.
        check(
            git.current_dir(&staging)
                .env("GIT_CEILING_DIRECTORIES", home),
        )?;
    }
    for name in &all {
        let (new, old) = (
            fs::read(staging.join(name)).ok(),
            fs::read(tree.join(name)).ok(),
        );
        match new {
            Some(new) if old.as_ref() != Some(&new) => write(&tree.join(name), new)?,
            None if old.is_some() => {
                fs::remove_file(tree.join(name)).map_err(|error| format!("{name}: {error}"))?;
            }
            _ => {}
        }
    }
    Ok(all)
}

/// Names of the files that a patch changes or makes.
fn files_of(patch: &str) -> impl Iterator<Item = String> {
    patch
        .lines()
        .filter_map(|line| line.strip_prefix("+++ b/").or(line.strip_prefix("--- a/")))
        .map(str::to_owned)
}

fn make(source: &Path, objects: &Path) -> Command {
    // Nobody is to notice that a kernel is being built.
    let mut command = Command::new("nice");
    command
        .args(["-n", "19", "make", "--silent"])
        .arg("-C")
        .arg(source)
        .arg(format!("O={}", objects.display()));
    command
}

/// tinyconfig and the fragments; where that comes out as before, nothing is touched.
fn configure(source: &Path, objects: &Path, flavour: Flavour) -> Result {
    let fragments: Vec<PathBuf> = flavour
        .fragments()
        .iter()
        .map(|name| ours().join(name))
        .collect();
    let mut wanted = String::new();
    for fragment in &fragments {
        wanted += &read(fragment)?;
    }
    let stamp = objects.join("fragments");
    if fs::read_to_string(&stamp).ok().as_ref() == Some(&wanted) {
        return Ok(());
    }
    fs::create_dir_all(objects).map_err(|error| format!("{}: {error}", objects.display()))?;
    let config = objects.join(".config");
    check(
        make(source, objects)
            .arg("tinyconfig")
            .stdout(Stdio::null()),
    )?;
    let mut merge = Command::new("scripts/kconfig/merge_config.sh");
    merge
        .current_dir(source)
        .args(["-m", "-O"])
        .arg(objects)
        .arg(&config)
        .args(&fragments)
        .stdout(Stdio::null());
    check(&mut merge)?;
    check(
        make(source, objects)
            .arg("olddefconfig")
            .stdout(Stdio::null()),
    )?;
    let lost = lost(&wanted, &read(&config)?);
    if !lost.is_empty() {
        return Err(format!("this kernel does not take: {}", lost.join(", ")));
    }
    write(&stamp, wanted)
}

/// Lines of the fragments that the configuration does not follow.
fn lost<'w>(wanted: &'w str, config: &str) -> Vec<&'w str> {
    wanted
        .lines()
        .filter(|line| line.starts_with("CONFIG_"))
        .filter(|line| match line.strip_suffix("=n") {
            Some(name) => config.lines().any(|c| c.starts_with(&format!("{name}="))),
            None => !config.lines().any(|c| c == *line),
        })
        .collect()
}

/// The kernel's own check of the form of the patches.
pub(super) fn check_patches() -> Result {
    let tree = source(&packages::unpacked(PACKAGE)?)?;
    let mut command = Command::new("perl");
    command
        .arg(tree.join("scripts/checkpatch.pl"))
        .args(["--strict", "--no-tree", "--quiet", "--codespell"])
        .args(patches()?);
    command.current_dir(&tree);
    let output = command
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.trim().is_empty() {
        return Ok(());
    }
    Err(format!("checkpatch.pl --strict:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_a_patch_touches() {
        let patch = "--- a/x/old.c\n+++ b/x/old.c\n@@\n-a\n+b\n--- /dev/null\n+++ b/new.c\n";
        let names: BTreeSet<String> = files_of(patch).collect();
        assert!(names.iter().eq(["new.c", "x/old.c"]));
    }

    #[test]
    fn notices_what_was_edited_by_hand() {
        let tree = tempfile::tempdir().unwrap();
        let file = |name: &str| tree.path().join(name);
        for name in ["io_uring/x.c", "io_uring/x.h", "y.c"] {
            write(&file(name), "").unwrap();
        }
        let unpacked = SystemTime::now();
        let found = |touched: &[&str]| {
            let touched = touched.iter().map(|name| (*name).to_owned()).collect();
            edited(tree.path(), tree.path(), unpacked, &touched).unwrap()
        };
        let edit = |name| {
            let later = unpacked + std::time::Duration::from_secs(1);
            fs::File::open(file(name)).unwrap().set_modified(later)
        };
        assert_eq!(found(&[]), None);
        edit("io_uring/x.c").unwrap();
        assert_eq!(found(&["io_uring/x.c"]), None);
        edit("io_uring/x.h").unwrap();
        assert_eq!(found(&["io_uring/x.c"]), Some(file("io_uring/x.h")));
    }

    #[test]
    fn notices_what_a_configuration_lost() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_D=y\n";
        let wanted = "# words\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_C=y\nCONFIG_D=n\n";
        assert_eq!(lost(wanted, config), ["CONFIG_C=y", "CONFIG_D=n"]);
    }
}
