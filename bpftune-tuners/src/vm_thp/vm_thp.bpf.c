// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long do tasks stall for huge pages?
 *
 * A fault that wants a huge page and finds none may compact memory first, and reclaim
 * some (mm/page_alloc.c). The pairs of tracepoints around both run for nobody else, and
 * each such pair takes tens of microseconds at least, so nothing here is on a fast path.
 * What the kernel's own threads do for it (kcompactd, kswapd, khugepaged) makes nobody
 * wait. Time is summed up here; user space hears once a second, where there is enough.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"
#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES 4096
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define STALLED 1
#define INTERVAL_NS 1000000000ULL
/* Less since user space was told last is not worth a word. */
#define WORTH_NS 20000000ULL

/*
 * include/linux/gfp_types.h. All that a huge page is asked for with, GFP_TRANSHUGE, has
 * the two first, and hardly anything else has both; memory that was not advised to be
 * huge is asked for without retries (vma_thp_gfp_mask of mm/huge_memory.c).
 */
#define GFP_COMP 0x40000
#define GFP_NOMEMALLOC 0x80000
#define GFP_NORETRY 0x10000
/* include/linux/mmzone.h: PAGE_ALLOC_COSTLY_ORDER. */
#define COSTLY_ORDER 3

enum sum {
	/* ns that tasks stalled */
	STALLED_NS = 0,
	/* of these, for memory that nobody advised to be huge */
	UNASKED_NS = 1,
	STALLS = 2,
	/* the longest since user space looked */
	LONGEST_NS = 3,
	/* STALLED_NS when user space was told last */
	TOLD_NS = 4,
	SUMS = 5,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SUMS);
	__type(key, __u32);
	__type(value, __u64);
} sums SEC(".maps");

struct stall {
	__u64 began_ns;
	__u32 unasked;
	__u32 pad;
};

/* Tasks that stall now. One that ends never: the kernel forgets the oldest. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct stall);
} stalling SEC(".maps");

struct vm_thp_event {
	struct bpftune_event head;
	char comm[16];
};

static __always_inline __u64 *sum(__u32 which)
{
	return bpf_map_lookup_elem(&sums, &which);
}

static __always_inline void add(__u32 which, __u64 more)
{
	__u64 *total = sum(which);

	if (total)
		__sync_fetch_and_add(total, more);
}

static __always_inline void tell(void)
{
	__u64 *stalled = sum(STALLED_NS);
	__u64 *told = sum(TOLD_NS);

	if (!stalled || !told || *stalled - *told < WORTH_NS)
		return;
	__u32 count = pass_host_gate(STALLED, 0, INTERVAL_NS);

	if (!count)
		return;
	struct vm_thp_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	*told = *stalled;
	e->head.scenario = STALLED;
	e->head.count = count;
	e->head.netns_cookie = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
}

static __always_inline int begins(int order, __u32 gfp)
{
	if (order <= COSTLY_ORDER || !(gfp & GFP_COMP) || !(gfp & GFP_NOMEMALLOC))
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();

	if (task->flags & PF_KTHREAD)
		return 0;
	struct stall stall = { .began_ns = bpf_ktime_get_ns(), .unasked = !!(gfp & GFP_NORETRY) };
	__u64 id = bpf_get_current_pid_tgid();

	bpf_map_update_elem(&stalling, &id, &stall, BPF_ANY);
	return 0;
}

static __always_inline int ends(void)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct stall *stall = bpf_map_lookup_elem(&stalling, &id);

	if (!stall)
		return 0;
	__u64 took = bpf_ktime_get_ns() - stall->began_ns;
	__u32 unasked = stall->unasked;
	__u64 *longest = sum(LONGEST_NS);

	bpf_map_delete_elem(&stalling, &id);
	add(STALLED_NS, took);
	add(STALLS, 1);
	if (unasked)
		add(UNASKED_NS, took);
	if (longest && took > *longest)
		*longest = took;
	tell();
	return 0;
}

SEC("tp_btf/mm_compaction_begin")
int BPF_PROG(compaction_begins, struct compact_control *cc)
{
	return cc->direct_compaction ? begins(cc->order, cc->gfp_mask) : 0;
}

SEC("tp_btf/mm_compaction_end")
int BPF_PROG(compaction_ends, struct compact_control *cc)
{
	return cc->direct_compaction ? ends() : 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(reclaim_begins, int order, __u32 gfp)
{
	return begins(order, gfp);
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(reclaim_ends)
{
	return ends();
}
