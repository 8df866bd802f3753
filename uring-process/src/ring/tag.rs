//! How a spawner marks its entries: tag, kind, generation and place within 64 bits.

use crate::Error;

/// Number of upper bits of `user_data` that are the tag.
pub const TAG_BITS: u32 = 16;

const KIND_BITS: u32 = 1;
const GENERATION_BITS: u32 = 25;
const INDEX_BITS: u32 = 22;
const _: () = assert!(TAG_BITS + KIND_BITS + GENERATION_BITS + INDEX_BITS == 64);

const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

/// Names a process of one [`Spawner`](super::Spawner). One that has ended is never meant again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub(super) fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    pub(super) fn index(self) -> u32 {
        self.index
    }

    pub(super) fn generation(self) -> u32 {
        self.generation
    }
}

/// What an entry waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Start,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    pub(super) fn new(given: u64) -> Result<Self, Error> {
        let bound = 1 << TAG_BITS;
        if given >= bound {
            return Err(Error::Tag {
                given,
                bits: TAG_BITS,
                bound,
            });
        }
        Ok(Self(given))
    }

    pub(super) fn of(self, token: Token, kind: Kind) -> u64 {
        let kind = u64::from(kind == Kind::End);
        let generation = u64::from(token.generation & GENERATION_MASK);
        self.0 << (64 - TAG_BITS)
            | kind << (GENERATION_BITS + INDEX_BITS)
            | generation << INDEX_BITS
            | u64::from(token.index) & INDEX_MASK
    }

    /// Place, generation and kind; `None` for another tag.
    pub(super) fn read(self, user_data: u64) -> Option<(u32, u32, Kind)> {
        if user_data >> (64 - TAG_BITS) != self.0 {
            return None;
        }
        let kind = match user_data >> (GENERATION_BITS + INDEX_BITS) & 1 {
            0 => Kind::Start,
            _ => Kind::End,
        };
        let generation = (user_data >> INDEX_BITS) as u32 & GENERATION_MASK;
        Some(((user_data & INDEX_MASK) as u32, generation, kind))
    }

    /// Whether two generations are the same, as far as `user_data` can say.
    pub(super) fn same_generation(one: u32, other: u32) -> bool {
        (one ^ other) & GENERATION_MASK == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            tag in 0u64..1 << TAG_BITS,
            index in 0u32..1 << INDEX_BITS,
            generation: u32,
            end: bool,
        ) {
            let tag = Tag::new(tag).unwrap();
            let kind = if end { Kind::End } else { Kind::Start };
            let user_data = tag.of(Token::new(index, generation), kind);
            let (at, read, what) = tag.read(user_data).unwrap();
            prop_assert_eq!((at, what), (index, kind));
            prop_assert!(Tag::same_generation(read, generation));
            prop_assert!(!Tag::same_generation(read, generation.wrapping_add(1)));
            prop_assert_eq!(Tag(tag.0 ^ 1).read(user_data), None);
        }
    }

    #[test]
    fn a_tag_that_does_not_fit_is_refused() {
        let error = Tag::new(1 << TAG_BITS).unwrap_err();
        assert!(
            error.to_string().contains("below 65536; got 65536"),
            "{error}"
        );
    }
}
