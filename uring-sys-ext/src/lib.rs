//! Raw io_uring ABI for creating processes: SQE layouts, opcodes, discovery
