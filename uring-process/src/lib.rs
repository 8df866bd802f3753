//! Create processes without blocking: std::process semantics, completions on an io_uring
