//! The types that a key can have: how each is read, written and described.

use std::{fmt::Display, path::PathBuf, str::FromStr, time::Duration};

use toml::de::DeValue;

use super::duration;

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is of another type.
    Type(&'static str),
    /// It is of the right type and makes no sense; the text says why.
    Value(String),
}

impl Wrong {
    /// For a person, with what may be there instead.
    pub(super) fn said(&self, expected: &str) -> String {
        match self {
            Wrong::Type(found) => format!("expected {expected}, found {found}"),
            Wrong::Value(why) => format!("{why}; expected {expected}"),
        }
    }
}

pub(super) fn wrong_type(value: &DeValue<'_>) -> Wrong {
    Wrong::Type(match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    })
}

/// A type of a key.
pub trait Setting: Sized {
    /// What ranges are made of: the type itself, without `Option`.
    type Plain: PartialOrd + Setting;

    /// Takes it from the file.
    ///
    /// # Errors
    /// What is wrong.
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong>;

    /// As TOML; `None` where it is unset.
    fn write(&self) -> Option<String>;

    /// What may be there, for people.
    fn expected() -> String;

    /// A value as TOML.
    fn example() -> String;

    /// The value, if it is set.
    fn plain(&self) -> Option<&Self::Plain>;
}

/// The description with the range, if there is one.
pub(super) fn expected_within<T: Setting>(range: Option<(T::Plain, T::Plain)>) -> String {
    let expected = T::expected();
    match range.and_then(|(low, high)| Some((low.write()?, high.write()?))) {
        Some((low, high)) => format!("{expected} from {low} to {high}"),
        None => expected,
    }
}

/// Refuses what is outside the range.
pub(super) fn within<T: Setting>(
    value: &T,
    range: Option<(T::Plain, T::Plain)>,
) -> Result<(), String> {
    match (value.plain(), range) {
        (Some(plain), Some((low, high))) if !(low <= *plain && *plain <= high) => Err(format!(
            "out of range; expected {}",
            expected_within::<T>(Some((low, high)))
        )),
        _ => Ok(()),
    }
}

/// What is written as a string and has a grammar of its own.
pub trait Word: FromStr<Err: Display> + Display {
    /// What may be there, for people.
    const EXPECTED: &str;
    /// One that may be there.
    const EXAMPLE: &str;
}

/// A string as TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn read_word<T: Word>(value: &DeValue<'_>) -> Result<T, Wrong> {
    let text = value.as_str().ok_or_else(|| wrong_type(value))?;
    text.parse()
        .map_err(|error: T::Err| Wrong::Value(error.to_string()))
}

/// Makes a [`Word`] a [`Setting`].
macro_rules! word {
    ($($type:ty: $expected:literal, $example:literal;)+) => {$(
        impl Word for $type {
            const EXPECTED: &str = $expected;
            const EXAMPLE: &str = $example;
        }

        impl Setting for $type {
            type Plain = $type;

            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                read_word(value)
            }

            fn write(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }

            fn expected() -> String {
                Self::EXPECTED.into()
            }

            fn example() -> String {
                quoted(Self::EXAMPLE)
            }

            fn plain(&self) -> Option<&Self> {
                Some(self)
            }
        }
    )+};
}

word! {
    String: "a string", "name";
    crate::governor::Mode: "\"observe\", \"advise\" or \"auto\"", "advise";
    crate::governor::ExitPolicy: "\"restore\", \"keep\" or \"restore-if-worse\"", "restore";
    crate::governor::Zone: "\"local\" or \"utc\"", "utc";
    super::kinds::Aim: "\"latency\" or \"throughput\"", "throughput";
    super::kinds::Unclear: "\"keep\" or \"revert\"", "revert";
}

/// Lists of words.
impl<T: Word + PartialOrd> Setting for Vec<T> {
    type Plain = Vec<T>;

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let items = value.as_array().ok_or_else(|| wrong_type(value))?;
        items.iter().map(|item| read_word(item.get_ref())).collect()
    }

    fn write(&self) -> Option<String> {
        let items: Vec<String> = self.iter().map(|item| quoted(&item.to_string())).collect();
        Some(format!("[{}]", items.join(", ")))
    }

    fn expected() -> String {
        format!("a list of strings, each {}", T::EXPECTED)
    }

    fn example() -> String {
        format!("[{}]", quoted(T::EXAMPLE))
    }

    fn plain(&self) -> Option<&Self> {
        Some(self)
    }
}

impl Word for crate::governor::Glob {
    const EXPECTED: &str = "a name in which * stands for any text and ? for one character";
    const EXAMPLE: &str = "net.ipv4.*";
}

impl Word for crate::governor::Window {
    const EXPECTED: &str = "days and hours such as \"mon-fri 22:00-06:00\"";
    const EXAMPLE: &str = "mon-fri 22:00-06:00";
}

/// Unset unless written.
impl<T: Setting<Plain = T> + PartialOrd> Setting for Option<T> {
    type Plain = T;

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        T::read(value).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(Setting::write)
    }

    fn expected() -> String {
        T::expected()
    }

    fn example() -> String {
        T::example()
    }

    fn plain(&self) -> Option<&T> {
        self.as_ref()
    }
}

/// Types that are written as they are read, without a grammar of their own.
macro_rules! plain {
    ($($type:ty, $expected:literal, $example:expr, $read:expr, $write:expr;)+) => {$(
        impl Setting for $type {
            type Plain = $type;

            fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
                let read: fn(&DeValue<'_>) -> Result<$type, Wrong> = $read;
                read(value)
            }

            fn write(&self) -> Option<String> {
                let write: fn(&$type) -> String = $write;
                Some(write(self))
            }

            fn expected() -> String {
                $expected.into()
            }

            fn example() -> String {
                $example.into()
            }

            fn plain(&self) -> Option<&Self> {
                Some(self)
            }
        }
    )+};
}

plain! {
    bool, "true or false", "true",
        |value| value.as_bool().ok_or_else(|| wrong_type(value)),
        bool::to_string;
    u64, "a whole number", "60",
        read_number,
        u64::to_string;
    f64, "a number", "0.5",
        |value| match value {
            DeValue::Float(number) => number.as_str().parse().map_err(|_| wrong_type(value)),
            _ => read_number(value).map(|number| number as f64),
        },
        |number| format!("{number:?}");
    PathBuf, "an absolute path", "\"/run/netns/web\"",
        |value| {
            let text = value.as_str().ok_or_else(|| wrong_type(value))?;
            if text.starts_with('/') {
                Ok(PathBuf::from(text))
            } else {
                Err(Wrong::Value(format!("{} does not start with /", quoted(text))))
            }
        },
        |path| quoted(&path.to_string_lossy());
    Duration, "a time such as \"40ms\", \"60s\", \"10min\", \"1h\" or \"90d\"", "\"60s\"",
        |value| {
            let text = value.as_str().ok_or_else(|| wrong_type(value))?;
            duration::parse(text).map_err(Wrong::Value)
        },
        |duration| quoted(&duration::text(*duration));
    super::Amount, "a number, a size such as \"64MiB\", or a share of memory such as \"2%\" or \"1/64 ram\"",
        "\"1/64 ram\"",
        |value| match value {
            DeValue::Integer(_) => whole(value).map(super::Amount::Number),
            DeValue::String(text) => text.parse().map_err(Wrong::Value),
            _ => Err(wrong_type(value)),
        },
        super::Amount::as_toml;
}

fn whole(value: &DeValue<'_>) -> Result<i64, Wrong> {
    let number = value.as_integer().ok_or_else(|| wrong_type(value))?;
    i64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| Wrong::Value(format!("{number} is too large")))
}

fn read_number(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let number = whole(value)?;
    u64::try_from(number).map_err(|_| Wrong::Value(format!("{number} is negative")))
}

/// Lists of paths.
impl Setting for Vec<PathBuf> {
    type Plain = Vec<PathBuf>;

    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let items = value.as_array().ok_or_else(|| wrong_type(value))?;
        items
            .iter()
            .map(|item| PathBuf::read(item.get_ref()))
            .collect()
    }

    fn write(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(Setting::write).collect();
        Some(format!("[{}]", items.join(", ")))
    }

    fn expected() -> String {
        "a list of absolute paths".into()
    }

    fn example() -> String {
        format!("[{}]", PathBuf::example())
    }

    fn plain(&self) -> Option<&Self> {
        Some(self)
    }
}
