//! What is measured in more than one way: timed, counted in instructions, compared between commits, against scale.

pub mod decision;
pub mod events;
pub mod journal;
