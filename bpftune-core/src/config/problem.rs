//! What is wrong, and where: file, line, column, the line itself, and a way out.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// Counted from 1.
    pub line: usize,
    /// Characters, counted from 1.
    pub column: usize,
    /// The line as it is written.
    text: String,
    /// Characters that are meant.
    width: usize,
}

/// So much of a line is shown.
const SHOWN: usize = 160;

impl Place {
    /// Of a range of bytes.
    #[must_use]
    pub(crate) fn new(file: &Arc<Path>, text: &str, span: Range<usize>) -> Place {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or("");
        let column = before[line_start..].chars().count() + 1;
        let left = line.chars().count().saturating_sub(column - 1).max(1);
        let meant = text
            .get(start..span.end.max(start))
            .map_or(1, |meant| meant.chars().count());
        Place {
            file: file.clone(),
            line: before.matches('\n').count() + 1,
            column,
            text: line
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            width: meant.clamp(1, left),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` where it is no line's fault, as with a file that cannot be read.
    pub place: Option<Place>,
    /// What.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// At a place.
    #[must_use]
    pub fn at(place: Place, message: impl Into<String>) -> Problem {
        Problem {
            place: Some(place),
            message: message.into(),
            hint: None,
        }
    }

    /// No line's fault.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Problem {
        Problem {
            place: None,
            message: message.into(),
            hint: None,
        }
    }

    /// About a file as a whole.
    #[must_use]
    pub fn file(path: &Path, message: impl fmt::Display) -> Problem {
        Problem::new(format!("{}: {message}", path.display()))
    }

    /// With a way out.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// In one line, for a log.
    #[must_use]
    pub fn line(&self) -> String {
        let Problem {
            place,
            message,
            hint,
        } = self;
        let place = place
            .as_ref()
            .map(|place| format!("{place}: "))
            .unwrap_or_default();
        let hint = hint
            .as_ref()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!("{place}{message}{hint}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            place,
            message,
            hint,
        } = self;
        if let Some(place) = place {
            write!(f, "{place}: {message}")?;
            if place.column <= SHOWN {
                let text: String = place.text.chars().take(SHOWN).collect();
                let dots = if text.len() < place.text.len() {
                    "..."
                } else {
                    ""
                };
                let under = "^".repeat(place.width.min(SHOWN + 1 - place.column));
                write!(f, "\n{:5} | {text}{dots}", place.line)?;
                write!(
                    f,
                    "\n      | {:>width$}",
                    under,
                    width = place.column - 1 + under.len()
                )?;
            }
        } else {
            f.write_str(message)?;
        }
        match hint {
            Some(hint) => write!(f, "\n      = {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The first in one line, with the number of the others.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.0[..] {
            [] => String::new(),
            [one] => one.line(),
            [first, others @ ..] => format!("{} (and {} more)", first.line(), others.len()),
        }
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Problems {
        Problems(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A path to show where the file has no name yet.
pub(super) fn shared(path: impl Into<PathBuf>) -> Arc<Path> {
    Arc::from(path.into())
}
