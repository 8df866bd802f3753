//! Tuners that watch the kernel through BPF, and the bpftune daemon
