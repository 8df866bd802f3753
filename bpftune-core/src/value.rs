//! The value of a tunable: one whole number or a row of them.

use std::{fmt, str::FromStr};

use crate::Error;

/// What a sysctl holds: `tcp_rmem` is three numbers, `rmem_max` one.
///
/// ```
/// use bpftune_core::Value;
/// let rmem: Value = "4096\t131072\t6291456\n".parse().unwrap();
/// assert_eq!(rmem.last(), 6291456);
/// assert_eq!(rmem.to_string(), "4096 131072 6291456");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value(Vec<i64>);

impl Value {
    /// A row of numbers; at least one.
    ///
    /// # Panics
    /// On an empty row: no sysctl has one.
    #[must_use]
    pub fn new(numbers: impl Into<Vec<i64>>) -> Value {
        let numbers = numbers.into();
        assert!(!numbers.is_empty(), "a value has at least one number");
        Value(numbers)
    }

    /// The numbers in the kernel's order.
    #[must_use]
    pub fn numbers(&self) -> &[i64] {
        &self.0
    }

    /// The last number: the maximum of `min default max` rows.
    #[must_use]
    pub fn last(&self) -> i64 {
        self.0[self.0.len() - 1]
    }

    /// This value with another last number.
    #[must_use]
    pub fn with_last(&self, last: i64) -> Value {
        let mut numbers = self.0.clone();
        let end = numbers.len() - 1;
        numbers[end] = last;
        Value(numbers)
    }

    /// Each number moved into its bound; `bounds` may be shorter than the row.
    #[must_use]
    pub fn clamped(&self, bounds: &[(i64, i64)]) -> Value {
        Value(
            self.0
                .iter()
                .enumerate()
                .map(|(i, &n)| {
                    bounds
                        .get(i)
                        .map_or(n, |&(low, high)| n.clamp(low, high.max(low)))
                })
                .collect(),
        )
    }

    /// This value, with each number at most the share of `from`'s away from it; at least one, so that there is always a
    /// way.
    #[must_use]
    pub fn nearer(&self, from: &Value, share: f64) -> Value {
        Value(
            self.0
                .iter()
                .enumerate()
                .map(|(i, &n)| {
                    from.0.get(i).map_or(n, |&old| {
                        let step = (((old as f64).abs() * share) as i64).max(1);
                        n.clamp(old.saturating_sub(step), old.saturating_add(step))
                    })
                })
                .collect(),
        )
    }

    /// Whether going from `old` to `self` raises, lowers or mixes: the sign of the last number
    /// that differs.
    #[must_use]
    pub fn direction_from(&self, old: &Value) -> i8 {
        self.0
            .iter()
            .zip(&old.0)
            .rev()
            .find(|(a, b)| a != b)
            .map_or(0, |(a, b)| if a > b { 1 } else { -1 })
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value(vec![number])
    }
}

impl FromStr for Value {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::Value {
            text: text.trim().to_owned(),
        };
        let numbers = text
            .split_ascii_whitespace()
            .map(str::parse)
            .collect::<Result<Vec<i64>, _>>()
            .map_err(|_| bad())?;
        if numbers.is_empty() {
            Err(bad())
        } else {
            Ok(Value(numbers))
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, number) in self.0.iter().enumerate() {
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
        }
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", " \n", "cubic", "1 two 3", "99999999999999999999"] {
            assert!(text.parse::<Value>().is_err(), "{text:?}");
        }
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
