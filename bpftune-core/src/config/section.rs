//! How a table of the file becomes a struct: each field is declared once, with its documentation,
//! default and range, and everything else (rustdoc, `config --default`, checks, hints) is made of that.

use toml::de::DeValue;

/// A key of a section as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the table.
    pub name: &'static str,
    /// What it does, line by line.
    pub docs: &'static [&'static str],
    /// Its value as TOML; `None` where it is unset.
    pub value: Option<String>,
    /// What may be written there, for people.
    pub expected: String,
    /// A value that may be written there, as TOML.
    pub example: String,
}

/// A table of the file.
pub trait Section {
    /// Every key, in the order of its declaration.
    fn keys(&self) -> Vec<Key>;

    /// Sets a key.
    ///
    /// # Errors
    /// What is wrong with the value, for a person.
    ///
    /// # Panics
    /// On a key that is none of [`keys`](Section::keys).
    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String>;
}

/// Declares a section: `/// documentation`, `name: Type = default;`, and where the type allows more than
/// makes sense `name: Type = default, lowest => highest;`.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        pub struct $name:ident {
            $( $(#[doc = $field_doc:literal])+ $field:ident: $type:ty = $default:expr $(, $low:expr => $high:expr)?; )+
        }
    ) => {
        $(#[doc = $doc])+
        // The same words are printed by `config --default`, where [governor] is a section and no link.
        #[allow(rustdoc::broken_intra_doc_links)]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $field_doc])+ pub $field: $type, )+
        }

        impl $name {
            /// What the section is for, line by line.
            pub const DOCS: &[&str] = &[$($doc),+];
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        impl $crate::config::Section for $name {
            fn keys(&self) -> Vec<$crate::config::Key> {
                use $crate::config::setting::{Setting, expected_within};
                vec![$(
                    $crate::config::Key {
                        name: stringify!($field),
                        docs: &[$($field_doc),+],
                        value: self.$field.write(),
                        expected: {
                            #[allow(unused_mut, unused_assignments)]
                            let mut range = None;
                            $( range = Some(($low, $high)); )?
                            expected_within::<$type>(range)
                        },
                        example: <$type as Setting>::example(),
                    },
                )+]
            }

            fn set(&mut self, key: &str, value: &toml::de::DeValue<'_>) -> Result<(), String> {
                use $crate::config::setting::{Setting, expected_within, within};
                match key {
                    $(
                        stringify!($field) => {
                            #[allow(unused_mut, unused_assignments)]
                            let mut range = None;
                            $( range = Some(($low, $high)); )?
                            let new = <$type as Setting>::read(value)
                                .map_err(|error| error.said(&expected_within::<$type>(range.clone())))?;
                            within(&new, range)?;
                            self.$field = new;
                        }
                    )+
                    _ => unreachable!("only declared keys are set"),
                }
                Ok(())
            }
        }
    };
}

pub(super) use section;
