//! stub
use crate::report::Report;
use std::{io, path::Path};
pub(crate) fn write(_report: &Report, dir: &Path) -> io::Result<String> {
    Ok(dir.display().to_string())
}
