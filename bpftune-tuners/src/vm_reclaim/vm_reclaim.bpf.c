// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long do tasks that want a page free pages themselves, for there are none left?
 *
 * kswapd begins to free pages at the low watermark and ends at the high one. A task that
 * finds fewer than the minimum has to free some itself ("direct reclaim",
 * mm/vmscan.c: try_to_free_pages()). These tracepoints lie on that way only. A control
 * group that is at its own limit frees pages by mm_vmscan_memcg_reclaim, which is not
 * attached: no watermark helps there.
 *
 * Sums and a histogram are kept here. User space is told once a second at most, and not
 * of seconds in which all tasks together waited for less than MATTERS_NS.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "bpftune/event.h"
#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES 4096
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define STALLS 1
#define SECOND_NS 1000000000ULL
#define MATTERS_NS 1000000ULL
#define SLOTS 1024

/* A task that frees pages now; another one with the same slot takes it, and the first is not counted. */
struct slot {
	__u64 began_ns;
	__u32 pid;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

/* Since the programs were loaded; Rust reads them by index. */
enum sum {
	CALLS = 0,
	STALLED_NS = 1,
	/* Calls of less than 128 us, 256 us, 512 us, and so on; the last one of all that took longer. */
	HISTOGRAM = 2,
	SUMS = HISTOGRAM + 16,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, SUMS);
	__type(key, __u32);
	__type(value, __u64);
} sums SEC(".maps");

/* The second that goes on. Two processors at once may lose a call here, not in the sums. */
struct second {
	__u64 since_ns;
	__u64 stalled_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct second);
} seconds SEC(".maps");

static __always_inline void add(__u32 index, __u64 more)
{
	__u64 *sum = bpf_map_lookup_elem(&sums, &index);

	if (sum)
		*sum += more;
}

static __always_inline __u32 bucket(__u64 took_ns)
{
	__u64 rest = took_ns >> 17;
	__u32 index = 0;

	for (int bit = 0; bit < 15; bit++) {
		if (!rest)
			break;
		rest >>= 1;
		index++;
	}
	return index;
}

static __always_inline void tell(void)
{
	__u32 count = pass_host_gate(STALLS, 0, SECOND_NS);

	if (!count)
		return;
	struct bpftune_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->scenario = STALLS;
	e->count = count;
	e->netns_cookie = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline bool matters(__u64 now, __u64 took)
{
	__u32 zero = 0;
	struct second *second = bpf_map_lookup_elem(&seconds, &zero);

	if (!second)
		return false;
	if (now > second->since_ns + SECOND_NS) {
		second->since_ns = now;
		second->stalled_ns = 0;
	}
	second->stalled_ns += took;
	return second->stalled_ns >= MATTERS_NS;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(reclaim_begins)
{
	__u32 pid = bpf_get_current_pid_tgid();
	__u32 at = pid % SLOTS;
	struct slot *slot = bpf_map_lookup_elem(&slots, &at);

	if (!slot)
		return 0;
	slot->began_ns = bpf_ktime_get_ns();
	slot->pid = pid;
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(reclaim_ends)
{
	__u32 pid = bpf_get_current_pid_tgid();
	__u32 at = pid % SLOTS;
	struct slot *slot = bpf_map_lookup_elem(&slots, &at);

	if (!slot || slot->pid != pid)
		return 0;
	__u64 now = bpf_ktime_get_ns(), took = now - slot->began_ns;

	slot->pid = 0;
	add(CALLS, 1);
	add(STALLED_NS, took);
	add(HISTOGRAM + bucket(took), 1);
	if (matters(now, took))
		tell();
	return 0;
}
