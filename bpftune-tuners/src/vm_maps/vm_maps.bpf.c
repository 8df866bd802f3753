// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has a process nearly as many mappings as it may have?
 *
 * mmap(2), mprotect(2) and munmap(2) end with ENOMEM at the limit, for many a cause has
 * that error. No hook is needed on the ends of system calls: whatever makes a mapping
 * of one into two stores it in the tree of the address space, and that can be watched.
 * So this tells from half of the limit on, before anything is refused.
 *
 * Two other causes of ENOMEM are told of as well, but only the ends of system calls show
 * them. User space attaches those programs where the host is set up so that the causes
 * can come.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "bpftune/event.h"
#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES 4096
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define MAPS_INTERVAL_NS 5000000ULL
#define REFUSED_INTERVAL_NS 1000000000ULL
#define ENOMEM 12

enum scenario {
	MAPS = 1,
	REFUSED = 2,
};

struct maps_event {
	struct bpftune_event head;
	__u32 maps;
	__u32 uid;
	__u32 pid;
	__u32 pad;
	char comm[16];
};

/* Mappings of a process from which on it is news; 0: never. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} news SEC(".maps");

static __always_inline void send(__u32 scenario, __u32 maps, __u64 interval)
{
	__u32 count = pass_host_gate(scenario, 0, interval);

	if (!count)
		return;
	struct maps_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->head.scenario = scenario;
	e->head.count = count;
	e->head.netns_cookie = 0;
	e->maps = maps;
	e->uid = (__u32)bpf_get_current_uid_gid();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->pad = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
}

SEC("tp_btf/ma_write")
int BPF_PROG(mapping_stored)
{
	__u32 zero = 0;
	__u32 *from = bpf_map_lookup_elem(&news, &zero);
	__u32 maps = bpf_get_current_task_btf()->mm->map_count;

	if (from && *from && maps >= *from)
		send(MAPS, maps, MAPS_INTERVAL_NS);
	return 0;
}

static __always_inline int ended(long ret)
{
	if (ret == -ENOMEM)
		send(REFUSED, bpf_get_current_task_btf()->mm->map_count, REFUSED_INTERVAL_NS);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_mmap")
int mmap_ended(struct trace_event_raw_sys_exit *ctx)
{
	return ended(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_mremap")
int mremap_ended(struct trace_event_raw_sys_exit *ctx)
{
	return ended(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_mprotect")
int mprotect_ended(struct trace_event_raw_sys_exit *ctx)
{
	return ended(ctx->ret);
}
