//! The value of a tunable: one whole number, a row of them, a word, or a set of processors.

use std::{fmt, str::FromStr};

use crate::{Cpus, Error};

/// What a parameter holds: `tcp_rmem` is three numbers, `rmem_max` one, a disk's `scheduler` a word, a device's
/// `rps_cpus` a set of processors.
///
/// ```
/// use bpftune_core::Value;
/// let rmem: Value = "4096\t131072\t6291456\n".parse().unwrap();
/// assert_eq!(rmem.last(), 6291456);
/// assert_eq!(rmem.to_string(), "4096 131072 6291456");
/// let scheduler = Value::shown("none [mq-deadline] kyber\n").unwrap();
/// assert_eq!(scheduler.as_word(), Some("mq-deadline"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Numbers(Vec<i64>),
    Word(Box<str>),
    Cpus(Cpus),
}

/// A set of processors is written as a list behind this word, so that it is neither numbers nor a word.
const CPUS: &str = "cpus ";

impl Value {
    /// A row of numbers; at least one.
    ///
    /// # Panics
    /// On an empty row: no sysctl has one.
    #[must_use]
    pub fn new(numbers: impl Into<Vec<i64>>) -> Value {
        let numbers = numbers.into();
        assert!(!numbers.is_empty(), "a value has at least one number");
        Value(Kind::Numbers(numbers))
    }

    /// One of the words that a parameter takes: "kyber", "madvise".
    ///
    /// # Panics
    /// On what is no word: a letter, then letters, digits, `_`, `-`, `+` and dots.
    #[must_use]
    pub fn word(word: &str) -> Value {
        assert!(is_word(word), "{word:?} is a word");
        Value(Kind::Word(word.into()))
    }

    /// What the kernel shows: numbers, a word, or all the words that there are with the chosen one in square brackets.
    ///
    /// # Errors
    /// [`Error::Value`] where the text is none of these.
    pub fn shown(text: &str) -> Result<Value, Error> {
        let chosen = text
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        chosen.unwrap_or(text).parse()
    }

    /// The numbers in the kernel's order; none of a word, or of processors.
    #[must_use]
    pub fn numbers(&self) -> &[i64] {
        match &self.0 {
            Kind::Numbers(numbers) => numbers,
            Kind::Word(_) | Kind::Cpus(_) => &[],
        }
    }

    /// The word, where it is one.
    #[must_use]
    pub fn as_word(&self) -> Option<&str> {
        match &self.0 {
            Kind::Word(word) => Some(word),
            Kind::Numbers(_) | Kind::Cpus(_) => None,
        }
    }

    /// The processors, where it is a set of them.
    #[must_use]
    pub fn as_cpus(&self) -> Option<&Cpus> {
        match &self.0 {
            Kind::Cpus(cpus) => Some(cpus),
            Kind::Numbers(_) | Kind::Word(_) => None,
        }
    }

    /// The last number: the maximum of `min default max` rows. 0 of anything else.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.numbers().last().copied().unwrap_or(0)
    }

    /// Each number made another by its place; anything else stays.
    fn map(&self, f: impl Fn(usize, i64) -> i64) -> Value {
        Value(match &self.0 {
            Kind::Numbers(numbers) => {
                Kind::Numbers(numbers.iter().enumerate().map(|(i, &n)| f(i, n)).collect())
            }
            other @ (Kind::Word(_) | Kind::Cpus(_)) => other.clone(),
        })
    }

    /// This value with another last number.
    #[must_use]
    pub fn with_last(&self, last: i64) -> Value {
        let end = self.numbers().len().saturating_sub(1);
        self.map(|i, n| if i == end { last } else { n })
    }

    /// Each number moved into its bound; `bounds` may be shorter than the row.
    #[must_use]
    pub fn clamped(&self, bounds: &[(i64, i64)]) -> Value {
        self.map(|i, n| {
            bounds
                .get(i)
                .map_or(n, |&(low, high)| n.clamp(low, high.max(low)))
        })
    }

    /// This value, with each number at most the share of `from`'s away from it; at least one, so that there is always a
    /// way.
    #[must_use]
    pub fn nearer(&self, from: &Value, share: f64) -> Value {
        self.map(|i, n| {
            from.numbers().get(i).map_or(n, |&old| {
                let step = (((old as f64).abs() * share) as i64).max(1);
                n.clamp(old.saturating_sub(step), old.saturating_add(step))
            })
        })
    }

    /// Whether going from `old` to `self` raises, lowers or mixes: the sign of the last number
    /// that differs. Of sets of processors the larger is higher. What else has no size has an order all the same, so that
    /// the way back is the other way.
    #[must_use]
    pub fn direction_from(&self, old: &Value) -> i8 {
        use std::cmp::Ordering;
        let order = match (&self.0, &old.0) {
            (Kind::Numbers(new), Kind::Numbers(old)) => new
                .iter()
                .zip(old)
                .rev()
                .map(|(a, b)| a.cmp(b))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal),
            (Kind::Word(new), Kind::Word(old)) => new.cmp(old),
            (Kind::Cpus(new), Kind::Cpus(old)) => {
                new.len().cmp(&old.len()).then_with(|| new.cmp(old))
            }
            (Kind::Numbers(_), _) | (Kind::Word(_), Kind::Cpus(_)) => Ordering::Less,
            (_, Kind::Numbers(_)) | (Kind::Cpus(_), Kind::Word(_)) => Ordering::Greater,
        };
        order as i8
    }

    /// Whether this is what a kernel that rounds, or has a limit of its own, made of the way from `old` to `new`: one
    /// number, strictly between; or some of the new processors, for isolated ones may be left out.
    #[must_use]
    pub fn is_between(&self, old: &Value, new: &Value) -> bool {
        if let (Some(now), Some(new)) = (self.as_cpus(), new.as_cpus()) {
            return self != old && !now.is_empty() && now != new && now.is_within(new);
        }
        match (self.numbers(), old.numbers(), new.numbers()) {
            (&[n], &[old], &[new]) => old.min(new) < n && n < old.max(new),
            _ => false,
        }
    }
}

impl From<Cpus> for Value {
    fn from(cpus: Cpus) -> Self {
        Value(Kind::Cpus(cpus))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value(Kind::Numbers(vec![number]))
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.'))
}

impl FromStr for Value {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if let Some(list) = text.strip_prefix(CPUS) {
            return list.parse::<Cpus>().map(Value::from);
        }
        if is_word(text) {
            return Ok(Value(Kind::Word(text.into())));
        }
        let bad = || Error::Value {
            text: text.to_owned(),
        };
        let numbers = text
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<i64>, _>>()
            .map_err(|_| bad())?;
        if numbers.is_empty() {
            Err(bad())
        } else {
            Ok(Value(Kind::Numbers(numbers)))
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Word(word) => return f.write_str(word),
            Kind::Cpus(cpus) => return write!(f, "{CPUS}{cpus}"),
            Kind::Numbers(_) => {}
        }
        for (i, number) in self.numbers().iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prints_what_it_parses(numbers in prop::collection::vec(any::<i64>(), 1..5)) {
            let value = Value::new(numbers);
            prop_assert_eq!(value.to_string().parse::<Value>().unwrap(), value);
        }

        #[test]
        fn never_panics_on_text(text in ".*") {
            let _ = text.parse::<Value>();
            let _ = Value::shown(&text);
        }

        #[test]
        fn prints_the_words_that_it_parses(word in "[a-zA-Z][a-z0-9_+.-]{0,12}") {
            prop_assert_eq!(Value::shown(&word).unwrap().to_string(), word);
        }
    }

    #[test]
    fn refuses_what_is_neither_numbers_nor_a_word() {
        for text in [
            "",
            " \n",
            "1 two 3",
            "two three",
            "99999999999999999999",
            "[]",
            "a;b",
            "-",
        ] {
            assert!(text.parse::<Value>().is_err(), "{text:?}");
            assert!(Value::shown(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn takes_the_chosen_word() {
        for (text, chosen) in [
            ("none [mq-deadline] kyber bfq \n", "mq-deadline"),
            ("always defer defer+madvise [madvise] never\n", "madvise"),
            ("[none]", "none"),
            ("none\n", "none"),
        ] {
            assert_eq!(Value::shown(text).unwrap(), Value::word(chosen));
        }
        assert_eq!(Value::shown("75000\n").unwrap(), Value::from(75_000));
        assert!(Value::shown("none mq-deadline").is_err());
    }

    #[test]
    fn words_have_no_size_but_a_way_back() {
        let (none, kyber) = (Value::word("none"), Value::word("kyber"));
        assert_eq!(none.direction_from(&kyber), -kyber.direction_from(&none));
        assert_eq!(none.direction_from(&none), 0);
        assert_eq!((none.last(), none.numbers().len()), (0, 0));
        assert_eq!(none.clamped(&[(1, 2)]), none);
        assert_eq!(none.nearer(&kyber, 0.1), none);
        assert_eq!(none.with_last(7), none);
        assert_ne!(none.direction_from(&7.into()), 0);
    }

    #[test]
    fn processors_are_a_kind_of_their_own() {
        let cpus = |list: &str| Value::from(list.parse::<Cpus>().unwrap());
        for list in ["none", "0", "0-1,7"] {
            let value = cpus(list);
            assert_eq!(value.to_string(), format!("cpus {list}"));
            assert_eq!(value.to_string().parse::<Value>().unwrap(), value);
            assert_eq!((value.last(), value.as_word()), (0, None));
        }
        assert_eq!(cpus("0-1").direction_from(&cpus("none")), 1);
        assert_eq!(cpus("2-3").direction_from(&cpus("0-1")), 1);
        assert_eq!(cpus("none").direction_from(&cpus("0")), -1);
        assert!(cpus("0-2").is_between(&cpus("none"), &cpus("0-3")));
        assert!(!cpus("none").is_between(&cpus("none"), &cpus("0-3")));
        assert!(!cpus("0-3").is_between(&cpus("none"), &cpus("0-3")));
        assert!(!cpus("4").is_between(&cpus("none"), &cpus("0-3")));
        assert!("cpus 3-1".parse::<Value>().is_err() && "cpus".parse::<Value>().is_ok());
    }

    #[test]
    fn knows_what_rounding_made() {
        let between =
            |n: i64, old: i64, new: i64| Value::from(n).is_between(&old.into(), &new.into());
        assert!(between(60, 128, 50) && between(100, 64, 101));
        assert!(!between(128, 128, 50) && !between(50, 128, 50) && !between(40, 128, 50));
        assert!(!Value::word("none").is_between(&1.into(), &3.into()));
    }

    #[test]
    fn knows_the_direction() {
        let old = Value::new([1, 2, 3]);
        assert_eq!(old.with_last(4).direction_from(&old), 1);
        assert_eq!(old.with_last(2).direction_from(&old), -1);
        assert_eq!(old.direction_from(&old), 0);
    }

    #[test]
    fn comes_no_nearer_than_a_step() {
        let old = Value::new([4096, 131_072, 800]);
        let step = |last: i64| old.with_last(last).nearer(&old, 0.125).last();
        assert_eq!(
            [step(10_000), step(850), step(0), step(800)],
            [900, 850, 700, 800]
        );
        assert_eq!(
            Value::from(9).nearer(&Value::from(0), 0.125),
            Value::from(1)
        );
        let _ = Value::from(i64::MAX).nearer(&Value::from(i64::MIN), 0.125);
    }

    #[test]
    fn clamps_each_number() {
        let value = Value::new([1, 50, 500]);
        assert_eq!(
            value.clamped(&[(4, 9), (0, 100), (0, 100)]),
            Value::new([4, 50, 100])
        );
        assert_eq!(Value::from(5).clamped(&[]), Value::from(5));
    }
}
