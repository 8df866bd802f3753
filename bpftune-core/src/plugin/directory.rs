//! The directories of plugins, read by descriptor, so that nothing can be put in the place of what was checked.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use nix::sys::stat::FileStat;

use super::declare::{NAMES, is_name};
use crate::trust::{Trust, TrustedDir};

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    mode: u32,
    owner: u32,
    changed: (i64, i64),
}

impl From<&FileStat> for Identity {
    #[allow(clippy::unnecessary_cast)] // The fields' widths differ from target to target.
    fn from(stat: &FileStat) -> Identity {
        Identity {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            mode: stat.st_mode,
            owner: stat.st_uid,
            // Any change of content, owner or mode changes it, and nobody can set it.
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// A plugin as it is found.
#[derive(Debug)]
pub(super) struct Found {
    /// Where, for people.
    pub path: PathBuf,
    /// What it is, and in which state; the text says why it is not loaded.
    pub what: Result<(Identity, Kind), String>,
}

/// Which kind of plugin, open for reading.
#[derive(Debug)]
pub(super) enum Kind {
    /// A program.
    Process(File),
    /// A rule file.
    Rule(File),
}

/// What is in the directories by name, and what is wrong with a whole directory. Of two plugins with one name the one
/// in the later directory is taken. A directory that does not exist has none.
pub(super) fn scan(
    directories: &[PathBuf],
    trust: Trust,
) -> (BTreeMap<String, Found>, BTreeMap<PathBuf, String>) {
    let mut found = BTreeMap::new();
    let mut faults = BTreeMap::new();
    for path in directories {
        let read = trust.directory(path).and_then(|directory| {
            if let Some(directory) = directory {
                for file in directory.names()? {
                    found.extend(look_at(path, &directory, &file));
                }
            }
            Ok(())
        });
        if let Err(why) = read {
            faults.insert(path.clone(), why);
        }
    }
    (found, faults)
}

/// `None` for what is no plugin: hidden files, editors' and packagers' leftovers, documents, directories.
fn look_at(path: &Path, directory: &TrustedDir, file: &str) -> Option<(String, Found)> {
    let (stem, extension) = match file.rsplit_once('.') {
        Some((stem, extension)) => (stem, Some(extension)),
        None => (file, None),
    };
    let path = path.join(file);
    if file.starts_with('.') || file.ends_with('~') || path.is_dir() {
        return None;
    }
    let is_rule = extension == Some("toml");
    let what = match directory.open(file) {
        Ok(None) => return None,
        Ok(Some((_, stat))) if !is_rule && stat.st_mode & 0o111 == 0 => return None,
        Ok(Some((file, stat))) => {
            if !is_name(stem) {
                Err(format!("{stem:?} is no plugin's name: {NAMES}"))
            } else if is_rule {
                Ok((Identity::from(&stat), Kind::Rule(file)))
            } else if stat.st_mode & 0o005 != 0o005 {
                Err("it runs as a user of its own, who may not read and run it: chmod a+rx".into())
            } else {
                Ok((Identity::from(&stat), Kind::Process(file)))
            }
        }
        Err(why) => Err(why),
    };
    Some((stem.to_owned(), Found { path, what }))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, "x").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        }

        fn scan(&self) -> BTreeMap<String, Found> {
            scan(&[self.0.path().to_owned()], Trust::own()).0
        }
    }

    #[test]
    fn finds_programs_and_rules_and_nothing_else() {
        let place = Place::new();
        place.file("tuner", 0o755);
        place.file("script.py", 0o755);
        place.file("rule.toml", 0o644);
        place.file("README", 0o644);
        place.file(".hidden", 0o755);
        place.file("old~", 0o755);
        fs::create_dir(place.0.path().join("directory")).unwrap();
        let found = place.scan();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["rule", "script", "tuner"]);
        assert!(matches!(found["rule"].what, Ok((_, Kind::Rule(_)))));
        assert!(matches!(found["tuner"].what, Ok((_, Kind::Process(_)))));
    }

    #[test]
    fn what_others_may_write_is_not_loaded() {
        let place = Place::new();
        let target = place.file("open", 0o777);
        place.file("group", 0o775);
        place.file("Bad_Name", 0o755);
        place.file("closed", 0o700);
        symlink(&target, place.0.path().join("link")).unwrap();
        let found = place.scan();
        for (name, why) in [
            ("open", "go-w"),
            ("group", "go-w"),
            ("Bad_Name", "lower case"),
            ("link", "link"),
            ("closed", "a+rx"),
        ] {
            let said = found[name].what.as_ref().unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
        fs::set_permissions(place.0.path(), Permissions::from_mode(0o777)).unwrap();
        let (found, faults) = scan(&[place.0.path().to_owned()], Trust::own());
        assert!(found.is_empty(), "nor is a whole directory");
        assert!(faults[place.0.path()].contains("go-w"));
    }

    #[test]
    fn a_change_is_seen_and_the_later_directory_wins() {
        let (low, high) = (Place::new(), Place::new());
        let path = low.file("tuner", 0o755);
        let state = || low.scan()["tuner"].what.as_ref().unwrap().0;
        let before = state();
        assert_eq!(state(), before);
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::write(&path, "y").unwrap();
        assert_ne!(state(), before);
        high.file("tuner", 0o755);
        let directories = [low.0.path().to_owned(), high.0.path().to_owned()];
        let (found, _) = scan(&directories, Trust::own());
        assert!(found["tuner"].path.starts_with(high.0.path()));
        assert!(scan(&["/no/such/dir".into()], Trust::own()).0.is_empty());
    }
}
