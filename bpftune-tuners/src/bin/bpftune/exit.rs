//! Exit statuses, as docs/cli.md lists them. They do not change.

use bpftune_core::{Error, journal::JournalError};

/// It failed; the message says what and the way out.
pub(crate) const FAILED: u8 = 1;
/// Wrong words on the command line. Clap's own status.
pub(crate) const USAGE: u8 = 2;
/// sysexits.h EX_NOINPUT: no such decision, tuner or journal.
pub(crate) const NO_INPUT: u8 = 66;
/// sysexits.h EX_UNAVAILABLE: no daemon listens.
pub(crate) const UNAVAILABLE: u8 = 69;
/// sysexits.h EX_IOERR: the journal cannot be used.
pub(crate) const JOURNAL: u8 = 74;
/// sysexits.h EX_NOPERM.
pub(crate) const PRIVILEGE: u8 = 77;

/// sysexits.h EX_CONFIG: the configuration files are refused.
pub(crate) const CONFIG: u8 = 78;

/// An error with the exit status it deserves.
pub(crate) struct Failure(pub(crate) u8, pub(crate) String);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        let error = error.into();
        let status = match &error {
            Error::Journal(JournalError::Missing { .. })
            | Error::NoSuchDecision { .. }
            | Error::NoSuchTuner { .. } => NO_INPUT,
            Error::Journal(_) => JOURNAL,
            Error::NoDaemon { .. } => UNAVAILABLE,
            Error::Denied(_) => PRIVILEGE,
            Error::Config(_) => CONFIG,
            _ => FAILED,
        };
        Failure(status, error.to_string())
    }
}

pub(crate) type Outcome = Result<(), Failure>;
