// SPDX-License-Identifier: GPL-2.0-only
/*
 * How much waits to be written, how fast do the devices write, and who waits for it?
 *
 * The kernel measures the write rate of each device itself. While more waits than a
 * device writes in a quarter of a second, user space is told once a second. Only then
 * are the programs on fsync(2) and fdatasync(2) attached, for any hook on the ends of
 * system calls makes every system call a little slower.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "bpftune/event.h"
#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES 4096
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define BACKLOG 1
#define INTERVAL_NS 1000000000ULL

/* Rust's mirror is `Rate` of source.rs. */
struct rate {
	__u64 seen_ns;
	/* pages a second */
	__u64 pages;
};

/* By the kernel's address of the device's writeback, of which a control group may have its own. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct rate);
} rates SEC(".maps");

enum sum {
	/* ms that writers were held */
	HELD = 0,
	/* calls that ended, ns that they took together, and the longest since user space looked */
	SYNCS = 1,
	SYNC_NS = 2,
	SLOWEST_NS = 3,
	SUMS = 4,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SUMS);
	__type(key, __u32);
	__type(value, __u64);
} sums SEC(".maps");

/* When each task that is in fsync(2) or fdatasync(2) now has entered it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, __u64);
} syncing SEC(".maps");

static __always_inline void add(__u32 which, __u64 more)
{
	__u64 *sum = bpf_map_lookup_elem(&sums, &which);

	if (sum)
		__sync_fetch_and_add(sum, more);
}

static __always_inline void tell(void)
{
	__u32 count = pass_host_gate(BACKLOG, 0, INTERVAL_NS);

	if (!count)
		return;
	struct bpftune_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->scenario = BACKLOG;
	e->count = count;
	e->netns_cookie = 0;
	bpf_ringbuf_submit(e, 0);
}

SEC("tp_btf/writeback_written")
int BPF_PROG(written, struct bdi_writeback *wb)
{
	__s64 waits = wb->stat[0].count + wb->stat[1].count;
	struct rate rate = { .seen_ns = bpf_ktime_get_ns(), .pages = wb->avg_write_bandwidth };
	__u64 key = (__u64)wb;

	if (waits * 4 < (__s64)rate.pages)
		return 0;
	bpf_map_update_elem(&rates, &key, &rate, BPF_ANY);
	tell();
	return 0;
}

SEC("tracepoint/writeback/balance_dirty_pages")
int writer_held(struct trace_event_raw_balance_dirty_pages *ctx)
{
	long pause = ctx->pause;

	if (pause <= 0)
		return 0;
	add(HELD, pause);
	tell();
	return 0;
}

static __always_inline int sync_begins(void)
{
	__u64 task = bpf_get_current_pid_tgid();
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&syncing, &task, &now, BPF_ANY);
	return 0;
}

static __always_inline int sync_ends(void)
{
	__u64 task = bpf_get_current_pid_tgid();
	__u64 *began = bpf_map_lookup_elem(&syncing, &task);

	if (!began)
		return 0;
	__u64 took = bpf_ktime_get_ns() - *began;
	__u32 which = SLOWEST_NS;
	__u64 *slowest = bpf_map_lookup_elem(&sums, &which);

	bpf_map_delete_elem(&syncing, &task);
	add(SYNCS, 1);
	add(SYNC_NS, took);
	if (slowest && took > *slowest)
		*slowest = took;
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_fsync")
int fsync_begins(void *ctx)
{
	return sync_begins();
}

SEC("tracepoint/syscalls/sys_exit_fsync")
int fsync_ends(void *ctx)
{
	return sync_ends();
}

SEC("tracepoint/syscalls/sys_enter_fdatasync")
int fdatasync_begins(void *ctx)
{
	return sync_begins();
}

SEC("tracepoint/syscalls/sys_exit_fdatasync")
int fdatasync_ends(void *ctx)
{
	return sync_ends();
}
