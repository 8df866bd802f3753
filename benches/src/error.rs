//! One error for the crate.

use std::io;

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was attempted, the kernel's answer, and the way out where there is one.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct Error {
    /// What was attempted, on what.
    pub what: String,
    /// The answer.
    pub source: io::Error,
}

impl Error {
    /// For `map_err`.
    pub fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error {
            what,
            source: source.into(),
        }
    }

    /// An error of our own making.
    pub fn other(what: impl Into<String>, why: impl std::fmt::Display) -> Error {
        Error {
            what: what.into(),
            source: io::Error::other(why.to_string()),
        }
    }
}

/// For those who speak std's error only.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.source.kind(), error)
    }
}
