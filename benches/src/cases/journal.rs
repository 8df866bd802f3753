//! A journal's commit, and the least that any durable record costs: 4 KiB and fdatasync(2).

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use bpftune_core::{
    Knob, NetnsCookie, Value,
    journal::{Journal, NewDecision},
};

use crate::{Error, Result, result::root};

/// The bare write goes round in a file of this many blocks, as a write-ahead log does: nothing grows.
const BLOCKS: u64 = 1024;
const BLOCK: usize = 4096;

/// As long as the daemon's sentences.
const REASON: &str = "net.ipv4.tcp_rmem in /run/netns/web raised from \"4096 131072 131072\" to \"4096 131072 6291456\" \
                      because 10.0.0.1:443 from 10.0.0.2:40000 fills its window each round trip: 49.8 Mbit/s over a \
                      round trip of 20.1 ms";

/// A directory of its own on the disk of the checkout: /tmp may be none.
///
/// # Errors
/// What the file system says.
pub fn scratch() -> Result<tempfile::TempDir> {
    let parent = root().join("target/bench-journal");
    let dir = std::fs::create_dir_all(&parent).and_then(|()| tempfile::tempdir_in(&parent));
    dir.map_err(Error::doing(format!(
        "cannot write in {}",
        parent.display()
    )))
}

/// 4 KiB and fdatasync(2).
pub struct Bare {
    file: File,
    turn: u64,
}

impl Bare {
    /// A file in this directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(dir: &Path) -> Result<Bare> {
        let failed =
            || Error::doing::<std::io::Error>(format!("cannot write in {}", dir.display()));
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true);
        let file = options.open(dir.join("bare")).map_err(failed())?;
        for block in 0..BLOCKS {
            file.write_all_at(&[1; BLOCK], block * BLOCK as u64)
                .map_err(failed())?;
        }
        file.sync_all().map_err(failed())?;
        Ok(Bare { file, turn: 0 })
    }

    /// How long one took.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self) -> Result<Duration> {
        let block = [self.turn as u8; BLOCK];
        let start = Instant::now();
        let at = self.turn % BLOCKS * BLOCK as u64;
        let written = self.file.write_all_at(&block, at);
        written
            .and_then(|()| self.file.sync_data())
            .map_err(Error::doing("cannot write to disk"))?;
        self.turn += 1;
        Ok(start.elapsed())
    }
}

/// A journal that takes down changes of so many parameters at a time.
pub struct Commits {
    journal: Journal,
    knobs: Vec<Knob>,
    old: Value,
    new: Value,
}

impl Commits {
    /// A new journal in this directory.
    ///
    /// # Errors
    /// What the journal says.
    pub fn new(dir: &Path, group: usize) -> Result<Commits> {
        let mut journal = Journal::open(&dir.join("state")).map_err(said)?;
        journal.begin_run("auto", "bench").map_err(said)?;
        let knob = |netns| Knob {
            tunable: "net.ipv4.tcp_rmem".into(),
            netns: NetnsCookie(netns),
        };
        Ok(Commits {
            journal,
            knobs: (0..group as u64).map(knob).collect(),
            old: Value::new([4096, 131_072, 131_072]),
            new: Value::new([4096, 131_072, 6_291_456]),
        })
    }

    /// How long the commit before the writes took; what comes after them is done as well, as the engine does.
    ///
    /// # Errors
    /// What the journal says.
    pub fn commit(&mut self) -> Result<Duration> {
        let decisions: Vec<NewDecision<'_>> = self
            .knobs
            .iter()
            .map(|knob| NewDecision {
                tuner: "tcp-buffer",
                scenario: "receive-limited",
                knob,
                place: "/run/netns/web",
                old: &self.old,
                new: &self.new,
                reason: REASON,
                signal: None,
                reverts: None,
            })
            .collect();
        let start = Instant::now();
        let ids = self.journal.intend_all(&decisions).map_err(said)?;
        let took = start.elapsed();
        self.journal.applied_all(&ids).map_err(said)?;
        self.journal.rest().map_err(said)?;
        Ok(took)
    }
}

fn said(error: impl std::fmt::Display) -> Error {
    Error::other("the journal", error)
}
