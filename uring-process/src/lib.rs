//! The place of the safe spawn API on io_uring: std::process semantics, completions on a ring.
//!
//! Nothing is here yet.
