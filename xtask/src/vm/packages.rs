//! Packages of Debian that are unpacked into the cache, not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    process::{Result, check},
    targets::{available_version, cache_dir},
};

/// Where all of this lies, outside of the checkout.
pub(super) fn home() -> Result<PathBuf> {
    let home = cache_dir()?.join("kernel");
    fs::create_dir_all(&home)
        .map_err(|error| format!("cannot make {}: {error}", home.display()))?;
    Ok(home)
}

/// The directory into which a package has been unpacked, now or before; its name has the version.
pub(super) fn unpacked(package: &str) -> Result<PathBuf> {
    let version = available_version(package)?;
    let to = home()?
        .join("packages")
        .join(format!("{package}-{version}"));
    let done = to.join("complete");
    if done.is_file() {
        return Ok(to);
    }
    println!("fetching Debian's {package} {version}");
    let failed = |error| format!("{}: {error}", to.display());
    // What an interrupted run has left.
    let _ = fs::remove_dir_all(&to);
    fs::create_dir_all(&to).map_err(failed)?;
    check(
        Command::new("apt-get")
            .args(["-q", "download", package])
            .current_dir(&to),
    )?;
    for file in fs::read_dir(&to).map_err(failed)?.flatten() {
        if file
            .path()
            .extension()
            .is_some_and(|ending| ending == "deb")
        {
            check(Command::new("dpkg-deb").arg("-x").arg(file.path()).arg(&to))?;
            fs::remove_file(file.path()).map_err(failed)?;
        }
    }
    fs::write(&done, "").map_err(failed)?;
    Ok(to)
}

/// The newest kernel image of a series, such as "6.12", that Debian has for this release, and these modules of it.
pub(super) fn stock_kernel(series: &str, modules: &[&str]) -> Result<(PathBuf, Vec<PathBuf>)> {
    let pattern = format!(
        "^linux-image-{}[.0-9a-z+-]*-amd64$",
        series.replace('.', "\\.")
    );
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", &pattern])
        .output()
        .map_err(|error| format!("cannot run apt-cache: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let package = newest(
        text.lines().filter_map(|line| line.split(' ').next()),
        series,
    )
    .ok_or(format!("no package of a Linux {series} image here"))?;
    let unpacked = unpacked(package)?;
    let found = modules.iter().map(|name| find_module(&unpacked, name));
    Ok((
        find_image(&unpacked.join("boot"))?,
        found.collect::<Result<_>>()?,
    ))
}

/// A module as the kernel takes it: not compressed.
fn find_module(unpacked: &Path, name: &str) -> Result<PathBuf> {
    let plain = format!("{name}.ko");
    let compressed = format!("{name}.ko.xz");
    let mut left = vec![unpacked.join("lib/modules")];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.ends_with(&plain) {
                return Ok(path);
            } else if path.ends_with(&compressed) {
                check(
                    Command::new("xz")
                        .args(["--decompress", "--keep", "--force"])
                        .arg(&path),
                )?;
                return Ok(path.with_extension(""));
            } else if path.is_dir() && !path.is_symlink() {
                left.push(path);
            }
        }
    }
    Err(format!("no module {name} in {}", unpacked.display()))
}

fn find_image(boot: &Path) -> Result<PathBuf> {
    let files = fs::read_dir(boot).map_err(|error| format!("{}: {error}", boot.display()))?;
    files
        .flatten()
        .map(|file| file.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        })
        .ok_or(format!("no kernel in {}", boot.display()))
}

/// The highest of the versions, without the flavours (cloud, rt).
fn newest<'n>(names: impl Iterator<Item = &'n str>, series: &str) -> Option<&'n str> {
    names
        .filter(|name| !name.contains("cloud") && !name.contains("-rt-"))
        .filter_map(|name| {
            let version = name.strip_prefix("linux-image-")?.strip_suffix("-amd64")?;
            let rest = version.strip_prefix(series)?;
            // Not 6.12 where 6.1 is asked for.
            rest.starts_with(['.', '-', '+']).then_some(())?;
            let numbers: Vec<u32> = version
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|word| word.parse().ok())
                .collect();
            Some((numbers, name))
        })
        .max()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series() {
        let names = [
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-41-amd64",
            "linux-image-6.1.0-42-cloud-amd64",
            "linux-image-6.12.9+deb12-amd64",
            "linux-image-6.12.117+deb12-amd64",
            "linux-image-6.12.118+deb12-rt-amd64",
        ];
        let newest = |series| newest(names.into_iter(), series);
        assert_eq!(newest("6.1"), Some(names[1]));
        assert_eq!(newest("6.12"), Some(names[4]));
        assert_eq!(newest("6.2"), None);
    }
}
