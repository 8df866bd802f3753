//! Tables for people, JSON for programs.

use bpftune_core::{Error, journal::now_ms};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::exit::Outcome;

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Json {
    /// JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

impl Json {
    /// Prints `value` as JSON, or has `people` print it.
    pub(crate) fn print<T: serde::Serialize>(self, value: &T, people: impl FnOnce(&T)) -> Outcome {
        if !self.json {
            people(value);
            return Ok(());
        }
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Error::Control(error.to_string()))?;
        println!("{text}");
        Ok(())
    }
}

/// From here on this process ends quietly where nobody reads what it says: `bpftune history | head`.
pub(crate) fn end_with_the_reader() {
    // SAFETY: the default action runs no code of this process.
    let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    debug_assert!(before.is_ok());
}

/// Rows in columns, the last column as long as it is.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in [head.map(str::to_owned)].iter().chain(rows) {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago, in the largest unit that says enough.
pub(crate) fn ago(unix_ms: i64) -> String {
    match (now_ms() - unix_ms).max(0) / 1000 {
        s @ 0..120 => format!("{s} s ago"),
        s @ 120..7200 => format!("{} min ago", s / 60),
        s @ 7200..172_800 => format!("{} h ago", s / 3600),
        s => format!("{} days ago", s / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["longer".to_owned(), String::new()],
        ];
        assert_eq!(
            table(["name", "n"], &rows),
            "name    n\na       1\nlonger\n"
        );
    }
}
