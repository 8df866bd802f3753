/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How often a tuner's programs may wake user space, and the ring buffer that they
 * do it with. The maps have the names that `bpftune_core::bpf::Feed` looks for.
 *
 * Include it after bpf_helpers.h and event.h. A program that must say more of less
 * may define BPFTUNE_GATES or BPFTUNE_RING_BYTES first; one that watches what the
 * host has once defines BPFTUNE_HOST_GATES.
 */
#ifndef BPFTUNE_GATE_H
#define BPFTUNE_GATE_H

#include "bpftune/clock.h"

/* Gates are one a namespace, scenario and detail; one that was forgotten is open. */
#ifndef BPFTUNE_GATES
#define BPFTUNE_GATES 1024
#endif

#ifndef BPFTUNE_RING_BYTES
#define BPFTUNE_RING_BYTES (64 * 1024)
#endif

/* Rust's mirror is `gate_key` of bpf/feed.rs. */
struct gate_key {
	__u64 netns_cookie;
	/* The tuner's own numbering, from 1. */
	__u32 scenario;
	/* 0 or 1: a kind of the scenario that has a gate of its own. */
	__u32 detail;
};

struct gate {
	__u64 next_ns;
	__u32 count;
	__u32 pad;
};

#ifdef BPFTUNE_HOST_GATES
/* One a scenario and detail, for what the host has once; Rust's mirror is `host_gate` of bpf/feed.rs. */
#define BPFTUNE_HOST_GATE_COUNT 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BPFTUNE_HOST_GATE_COUNT);
	__type(key, __u32);
	__type(value, struct gate);
} gates SEC(".maps");
#else
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BPFTUNE_GATES);
	__type(key, struct gate_key);
	__type(value, struct gate);
} gates SEC(".maps");
#endif

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, BPFTUNE_RING_BYTES);
} events SEC(".maps");

static __always_inline __u32 count_at(struct gate *gate, __u64 now, __u64 interval_ns)
{
	__u32 count = ++gate->count;

	if (now < gate->next_ns)
		return 0;
	gate->next_ns = now + interval_ns;
	gate->count = 0;
	return count;
}

/*
 * The count of events since the last one that passed if this one may be sent now, else 0.
 * The interval is kept to a jiffy.
 */
#ifdef BPFTUNE_HOST_GATES
static __always_inline __u32 pass_host_gate(__u32 scenario, __u32 detail, __u64 interval_ns)
{
	__u32 at = scenario * 2 + detail;
	struct gate *gate = bpf_map_lookup_elem(&gates, &at);

	return gate ? count_at(gate, coarse_ns(), interval_ns) : 0;
}
#else
static __always_inline __u32 pass_gate(__u64 cookie, __u32 scenario, __u32 detail, __u64 interval_ns)
{
	struct gate_key key = { .netns_cookie = cookie, .scenario = scenario, .detail = detail };
	__u64 now = coarse_ns();
	struct gate *gate = bpf_map_lookup_elem(&gates, &key);

	if (gate)
		return count_at(gate, now, interval_ns);
	struct gate first = { .next_ns = now + interval_ns };

	bpf_map_update_elem(&gates, &key, &first, BPF_ANY);
	return 1;
}
#endif

#endif
