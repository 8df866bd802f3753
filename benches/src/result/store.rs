//! The file.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::{Busy, Curve, Origin, Row};
use crate::{Error, Result};

/// What one part of a bench, or one scenario of the lab, found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// "spawn", "tcp-buffer".
    pub bench: String,
    /// "blocked".
    pub name: String,
    /// What a person types to repeat it.
    pub command: String,
    /// With few samples.
    pub quick: bool,
    /// How long it took.
    pub seconds: f64,
    /// The C library.
    pub libc: String,
    /// What others did meanwhile.
    pub busy: Busy,
    /// On what, when.
    #[serde(flatten)]
    pub origin: Origin,
    /// The figures.
    pub rows: Vec<Row>,
    /// The plots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curves: Vec<Curve>,
    /// What was left out, and what else a reader must know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Part {
    /// Adds a figure and says it on standard error.
    pub fn row(&mut self, mut row: Row) {
        row.origin.clone_from(&self.origin);
        row.judge(None);
        eprintln!("  {}", super::line(&row));
        self.rows.push(row);
    }

    /// Adds a remark and says it on standard error.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("  note: {note}");
        self.notes.push(note);
    }
}

/// A file of parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Of the file's format: 1.
    pub format: u32,
    /// In the order of their first run.
    pub parts: Vec<Part>,
}

impl Default for Results {
    fn default() -> Results {
        Results {
            format: 1,
            parts: Vec::new(),
        }
    }
}

impl Results {
    /// Reads a file; nothing where there is none.
    ///
    /// # Errors
    /// Where it is not such a file; the way out is in the error.
    pub fn read(path: &Path) -> Result<Results> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Results::default()),
            Err(error) => {
                return Err(Error::doing(format!("cannot read {}", path.display()))(
                    error,
                ));
            }
        };
        let results: Results = serde_json::from_str(&text).map_err(|error| {
            let what = format!("{} is no file of results", path.display());
            Error::other(what, format!("{error}; remove it and measure again"))
        })?;
        match results.format {
            1 => Ok(results),
            other => Err(Error::other(
                format!("{} has format {other}, not 1", path.display()),
                "remove it and measure again",
            )),
        }
    }

    /// Replaces a part of the same name, or adds it.
    pub fn put(&mut self, part: Part) {
        let same = |old: &&mut Part| old.bench == part.bench && old.name == part.name;
        match self.parts.iter_mut().find(same) {
            Some(old) => *old = part,
            None => self.parts.push(part),
        }
    }

    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |what: &str| format!("cannot {what} {}", path.display());
        let dir = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(Error::doing(failed("make the directory of")))?;
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::other(failed("write"), error))?;
        let mut new =
            tempfile::NamedTempFile::new_in(dir).map_err(Error::doing(failed("write")))?;
        io::Write::write_all(&mut new, (text + "\n").as_bytes())
            .map_err(Error::doing(failed("write")))?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(new.path(), readable).map_err(Error::doing(failed("write")))?;
        new.persist(path)
            .map_err(|error| Error::doing(failed("write"))(error.error))?;
        Ok(())
    }

    /// The parts of one bench.
    pub fn of<'a>(&'a self, bench: &'a str) -> impl Iterator<Item = &'a Part> {
        self.parts.iter().filter(move |part| part.bench == bench)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bench: &str, name: &str, seconds: f64) -> Part {
        Part {
            bench: bench.into(),
            name: name.into(),
            seconds,
            rows: vec![Row::count("things", "", seconds).at_most(3.0)],
            ..Part::default()
        }
    }

    #[test]
    fn a_part_replaces_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/bench.json");
        let mut results = Results::read(&path).unwrap();
        for (bench, name, seconds) in [
            ("a", "x", 1.0),
            ("a", "y", 2.0),
            ("b", "x", 3.0),
            ("a", "x", 4.0),
        ] {
            results.put(part(bench, name, seconds));
            results.write(&path).unwrap();
        }
        let read = Results::read(&path).unwrap();
        let seconds: Vec<f64> = read.parts.iter().map(|part| part.seconds).collect();
        assert_eq!(seconds, [4.0, 2.0, 3.0]);
        assert_eq!(read, results);
        assert_eq!(read.of("a").count(), 2);
    }

    #[test]
    fn another_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        for text in ["{}", "[1", r#"{"format": 2, "parts": []}"#] {
            fs::write(&path, text).unwrap();
            let error = Results::read(&path).unwrap_err().to_string();
            assert!(
                error.contains("bench.json") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
