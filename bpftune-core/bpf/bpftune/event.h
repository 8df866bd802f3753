/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The head of every event that a tuner's BPF program hands to user space.
 * Rust's mirror is `bpftune_core::bpf::EventHeader`; a test compares the two.
 */
#ifndef BPFTUNE_EVENT_H
#define BPFTUNE_EVENT_H

struct bpftune_event {
	/* What happened: the tuner's own numbering. */
	__u32 scenario;
	/* Events of this scenario and namespace since the last one sent, this one included. */
	__u32 count;
	/* SO_NETNS_COOKIE of the network namespace it happened in. */
	__u64 netns_cookie;
};

#endif
