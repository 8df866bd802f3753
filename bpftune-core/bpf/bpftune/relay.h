/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For a tracepoint that several tuners watch and that runs often. A second program on
 * it costs twice what the first one does, for the kernel then calls all of them by
 * pointers, from a list. So only the first one is attached, and each hands on to the
 * next by a tail call, which the kernel makes a jump. See `bpf/relay.rs`.
 *
 * RELAY(name) before the program of that name makes room for the next one; the
 * program itself ends with `return pass_on(ctx, &name_next)`, on each way through it.
 */
#ifndef BPFTUNE_RELAY_H
#define BPFTUNE_RELAY_H

#define RELAY(name)                                \
	struct {                                   \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY); \
		__uint(max_entries, 1);            \
		__type(key, __u32);                \
		__type(value, __u32);              \
	} name##_next SEC(".maps")

static __always_inline int pass_on(void *ctx, const void *next)
{
	bpf_tail_call_static(ctx, next, 0);
	return 0;
}

#endif
