//! Runs parts and keeps what they found.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::PathBuf,
    time::Instant,
};

use super::{Load, Origin, Part, Results, Verdict, format, root};
use crate::{Error, Result};

/// Arguments that every bench takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Common {
    /// Few samples, for a first look
    #[arg(long)]
    pub quick: bool,
    /// Print JSON only
    #[arg(long)]
    pub json: bool,
    /// Only parts whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Where the figures go
    #[arg(long, value_name = "PATH", default_value = super::BENCH)]
    pub out: PathBuf,
    /// Exit with status 1 where a goal is not met
    #[arg(long)]
    pub strict: bool,
    /// Cargo says so
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Common {
    /// For what `cargo xtask bench` of this name finds.
    #[must_use]
    pub fn recorder(&self, bench: &str) -> Recorder {
        let quickly = if self.quick { " --quick" } else { "" };
        let command = format!("cargo xtask bench {bench}{quickly}");
        Recorder::new(&self.out, command, self.quick)
    }

    /// Whether a part of this name is asked for.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only))
    }
}

/// Runs parts one by one and writes each when it has ended.
pub struct Recorder {
    path: PathBuf,
    command: String,
    quick: bool,
    origin: Origin,
    done: Vec<Part>,
}

impl Recorder {
    /// For a file, from the workspace's root, and the command that a person types; quick are those with few samples.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, command: impl Into<String>, quick: bool) -> Recorder {
        Recorder {
            path: root().join(path.into()),
            command: command.into(),
            quick,
            origin: Origin::now(),
            done: Vec::new(),
        }
    }

    /// Runs a part. What it found is judged by how busy the machine was meanwhile, and written.
    ///
    /// # Errors
    /// The part's own, of which nothing is kept then, or that of writing.
    pub fn part<E>(
        &mut self,
        bench: &str,
        name: &str,
        run: impl FnOnce(&mut Part) -> Result<(), E>,
    ) -> Result<(), E>
    where
        E: From<Error>,
    {
        // A file that nothing can be added to is said before anything runs.
        Results::read(&self.path)?;
        eprintln!("{bench}: {name} ...");
        let mut part = Part {
            bench: bench.into(),
            name: name.into(),
            command: self.command.clone(),
            quick: self.quick,
            libc: libc_version(),
            origin: self.origin.clone(),
            ..Part::default()
        };
        let (load, begin) = (Load::start(), Instant::now());
        run(&mut part)?;
        part.seconds = (begin.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        part.busy = load.stop();
        for row in &mut part.rows {
            row.judge(Some(&part.busy));
        }
        eprintln!(
            "  {:.1} s; others kept {:.2} processors busy",
            part.seconds, part.busy.others
        );
        // Read again: another run may have written meanwhile.
        let mut results = Results::read(&self.path)?;
        results.put(part.clone());
        results.write(&self.path)?;
        self.done.push(part);
        Ok(())
    }

    /// The parts of this run.
    #[must_use]
    pub fn done(&self) -> &[Part] {
        &self.done
    }

    /// Prints the run: a table, or JSON. Returns how many goals were not met.
    ///
    /// # Errors
    /// What writing says.
    pub fn finish(&self, out: &mut impl Write, json: bool) -> Result<usize> {
        let rows = || self.done.iter().flat_map(|part| &part.rows);
        let with = |verdict| rows().filter(|row| row.verdict == Some(verdict)).count();
        let (met, missed, open) = (
            with(Verdict::Met),
            with(Verdict::NotMet),
            with(Verdict::Open),
        );
        let text = if json {
            serde_json::to_string_pretty(&self.done)
                .map_err(|error| Error::other("cannot print the result", error))?
        } else {
            format!(
                "{}\n{}\nGoals: {met} met, {missed} not met, {open} without a verdict. Figures: {}",
                format::table(&self.done),
                format::quiet(&self.done),
                self.path.display()
            )
        };
        writeln!(out, "{text}").map_err(Error::doing("cannot print the result"))?;
        Ok(missed)
    }

    /// Sends what others print on standard output to standard error; the result alone goes to what this returns.
    ///
    /// # Errors
    /// Where standard output is closed.
    pub fn quiet_stdout() -> Result<File> {
        let failed = || Error::doing::<io::Error>("cannot use standard output");
        let out = io::stdout()
            .as_fd()
            .try_clone_to_owned()
            .map_err(failed())?;
        nix::unistd::dup2_stdout(io::stderr().as_fd())
            .map_err(Error::doing("cannot use standard output"))?;
        Ok(File::from(out))
    }
}

#[cfg(target_env = "gnu")]
fn libc_version() -> String {
    // SAFETY: returns a static string.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    format!("glibc {}", version.to_string_lossy())
}

#[cfg(not(target_env = "gnu"))]
fn libc_version() -> String {
    "not glibc".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Row;

    #[test]
    fn an_interrupted_run_keeps_what_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bench.json");
        let mut recorder = Recorder::new(&path, "cargo xtask bench x --quick", true);
        let first = recorder.part("x", "first", |part| -> Result<()> {
            part.row(Row::count("things", "", 1.0).at_most(0.0));
            Ok(())
        });
        first.unwrap();
        let second = recorder.part("x", "second", |part| -> Result<()> {
            part.row(Row::count("things", "", 0.0).at_most(0.0));
            Err(Error::other("the second part", "was ended"))
        });
        second.unwrap_err();
        let kept = Results::read(&path).unwrap();
        assert_eq!(kept.parts.len(), 1);
        assert_eq!(kept.parts[0].command, "cargo xtask bench x --quick");
        assert_eq!(kept.parts[0].rows[0].origin, kept.parts[0].origin);
        let mut out = Vec::new();
        assert_eq!(recorder.finish(&mut out, false).unwrap(), 1);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("0 met, 1 not met, 0 without"), "{out}");
    }
}
