//! The place of the raw io_uring ABI of process creation: SQE layouts, opcodes, discovery.
//!
//! Nothing is here yet.
