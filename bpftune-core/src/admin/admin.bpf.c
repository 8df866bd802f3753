// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who else writes sysctls?
 *
 * A cgroup/sysctl program on the root of cgroup v2 sees every write(2) to
 * /proc/sys before it happens. It lets all of them pass and reports the name,
 * the new value and the network namespace of the writer, unless the writer is
 * the daemon itself.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"
#include "bpftune/process.h"

char LICENSE[] SEC("license") = "GPL";

#define NAME_LEN 64
#define VALUE_LEN 64

/*
 * The daemon's own process, whose writes are not the admin's, as it knows itself: in
 * a container its number is another than the host's. Set before loading.
 */
const volatile struct {
	__u32 process;
	__u32 pid_ns;
} own = {};

struct sysctl_write_event {
	struct bpftune_event head;
	__u32 pid;
	__u32 pad;
	char comm[16];
	/* "net/ipv4/tcp_rmem", NUL-terminated */
	char name[NAME_LEN];
	char value[VALUE_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} events SEC(".maps");

SEC("cgroup/sysctl")
int sysctl_write(struct bpf_sysctl *ctx)
{
	if (!ctx->write)
		return 1;
	struct task_struct *task = bpf_get_current_task_btf();
	struct upid writer = innermost(BPF_CORE_READ(task, group_leader));

	if ((__u32)writer.nr == own.process && BPF_CORE_READ(writer.ns, ns.inum) == own.pid_ns)
		return 1;
	struct sysctl_write_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 1;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = 1;
	e->head.count = 1;
	e->head.netns_cookie = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);
	e->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (bpf_sysctl_get_name(ctx, e->name, sizeof(e->name), 0) < 0) {
		bpf_ringbuf_discard(e, 0);
		return 1;
	}
	bpf_sysctl_get_new_value(ctx, e->value, sizeof(e->value));
	bpf_ringbuf_submit(e, 0);
	return 1;
}
