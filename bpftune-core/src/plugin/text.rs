//! What plugins and rule files write alike: times, and what may be a word or a table.

use std::{fmt, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::config::duration;

/// "500ms", "5s", "10min", "1h".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Time, String> {
        let time = duration::parse(&text).map(Time);
        time.map_err(|why| format!("{why}: write such as \"500ms\", \"5s\", \"10min\" or \"1h\""))
    }
}

/// Something that may be a word where its table would say no more than that.
pub(super) trait FromWord: Sized {
    /// What may be written, for the error.
    const EXPECTED: &'static str;

    /// From the word alone.
    ///
    /// # Errors
    /// What is wrong, and the way out.
    fn from_word(word: &str) -> Result<Self, String>;
}

/// For `#[serde(deserialize_with)]`: a word, or a table.
///
/// # Errors
/// Of either.
pub(super) fn word_or_table<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromWord + Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Either<T>(PhantomData<T>);

    impl<'de, T: FromWord + Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_str<E: de::Error>(self, word: &str) -> Result<T, E> {
            T::from_word(word).map_err(E::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Either(PhantomData))
}

/// A counter by its name.
///
/// # Errors
/// That it is none.
pub(super) fn counter<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<crate::trial::Counter, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(de::Error::custom)
}

/// Text of a plugin's, for a log: without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The beginning of a text of a plugin's, for a log.
pub(super) fn excerpt(text: &str) -> String {
    let most: String = text.chars().take(80).collect();
    let dots = if most.len() < text.len() { "..." } else { "" };
    format!("\"{}{dots}\"", plain(&most))
}
