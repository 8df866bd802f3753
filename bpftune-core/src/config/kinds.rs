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
    /// What a tuner that can serve two ends is to serve.
    pub enum Aim {
        /// That nobody waits long.
        Latency = "latency",
        /// That as much as possible is done.
        Throughput = "throughput",
    }
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
