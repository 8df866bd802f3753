//! Choices by name that belong to no other module.

use std::{fmt, str::FromStr};

/// A choice among names: parsed, printed, and refused with all the names.
macro_rules! choice {
    ($(#[$meta:meta])* pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $( $name::$variant => $text, )+ })
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<$name, String> {
                match text {
                    $( $text => Ok($name::$variant), )+
                    _ => Err(format!("\"{text}\" is none of the choices")),
                }
            }
        }
    };
}

choice! {
    /// What happens to a change whose trial says neither better nor worse.
    pub enum Unclear {
        /// It stays.
        Keep = "keep",
        /// It is taken back.
        Revert = "revert",
    }
}

choice! {
    /// How a tuner finds the next value.
    pub enum LearnerKind {
        /// Towards the measured need, in few large steps.
        Step = "step",
        /// Up by a fixed amount, down by a factor.
        Aimd = "aimd",
        /// Tries a direction, keeps it while it helps, with shrinking steps.
        HillClimb = "hill-climb",
        /// Holds a measured figure at a wanted one.
        Pid = "pid",
        /// The best of a few values, with a share of tries at others.
        EpsilonGreedy = "epsilon-greedy",
        /// The best of a few values, tried as often as they may be the best.
        Thompson = "thompson",
    }
}
