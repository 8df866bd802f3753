//! What can go wrong with the journal, what is safe then, and the way out.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

/// The journal's errors. None of them leaves a half-made change behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// SQLite finds the file damaged. It is left as it is.
    #[error(
        "the journal {} is damaged ({detail}). The file is left as it is and nothing is changed. \
         `bpftune revert --salvage` shows which original values can still be read and restores \
         those that are safe; then move the file away to start anew", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// A newer bpftune wrote it. It is left as it is.
    #[error(
        "the journal {} has schema {found}, this bpftune knows {known}. The file is left as it is \
         and nothing is changed: use the newer bpftune, or give this one its own --state-dir", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The disk is full. What could not be journalled was not done.
    #[error(
        "no space left for the journal {}: what cannot be journalled is not changed. Free some space \
         or choose another --state-dir", path.display()
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("there is no journal at {}: bpftune has changed nothing with this --state-dir", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// The directory cannot be made or used.
    #[error("cannot use the state directory {}: {source}", path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Anything else that SQLite says.
    #[error("cannot {doing} the journal {}: {source}", path.display())]
    Sql {
        /// A verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}

/// Turns SQLite's errors into ours.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, JournalError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, JournalError> {
        self.map_err(|source| {
            let path = path.to_owned();
            match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    JournalError::Damaged {
                        path,
                        detail: source.to_string(),
                    }
                }
                Some(ErrorCode::DiskFull) => JournalError::Full { path },
                _ => JournalError::Sql {
                    doing,
                    path,
                    source,
                },
            }
        })
    }
}
