// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who runs into a limit on how many of something the host, or a user, may have?
 *
 * The kernel has no event for that, only the error that the system call ends
 * with. So the ends of those few calls are watched. An error alone proves little:
 * ENOSPC of inotify_add_watch(2) may come from the limit of a container. Where the
 * kernel keeps the count with the user (ucounts), the count decides, and a limit of
 * a user namespace is its owner's business. The same count tells before anything is
 * refused that half of what there may be is taken.
 *
 * Tasks are counted where they are made: the pid namespace of the daemon knows how
 * many numbers it gave away. From which number on that is news, user space says.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"
#include "bpftune/process.h"
#define BPFTUNE_GATES 64
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define REFUSED_INTERVAL_NS 20000000ULL
#define TASKS_INTERVAL_NS 1000000000ULL

#define EAGAIN 11
#define ENFILE 23
#define EMFILE 24
#define ENOSPC 28
#define EDQUOT 122

enum scenario {
	TASKS = 1,
	FILES = 2,
	WATCHES = 3,
	INSTANCES = 4,
	AIO = 5,
	KEYS = 6,
	USERNS = 7,
	SCENARIOS = 8,
};

struct limit_event {
	struct bpftune_event head;
	/* Where the kernel's count could be read, else 0. */
	__u64 used;
	__u64 limit;
	__u32 uid;
	__u32 pid;
	/* 1: refused. 0: not yet. */
	__u32 refused;
	__u32 pad;
	char comm[16];
};

struct settings {
	/* Tasks from which on a new one is news; 0: never. */
	__u64 tasks_from;
	/* The daemon's pid namespace. */
	__u32 pid_ns;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

/* How often each scenario was refused. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SCENARIOS);
	__type(key, __u32);
	__type(value, __u64);
} refusals SEC(".maps");

static __always_inline void send(__u32 scenario, bool refused, __u64 interval, __u64 used, __u64 limit)
{
	__u64 *refusal = refused ? bpf_map_lookup_elem(&refusals, &scenario) : NULL;

	if (refusal)
		__sync_fetch_and_add(refusal, 1);
	__u32 count = pass_gate(0, scenario, refused, interval);

	if (!count)
		return;
	struct limit_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->head.scenario = scenario;
	e->head.count = count;
	e->head.netns_cookie = 0;
	e->used = used;
	e->limit = limit;
	e->uid = (__u32)bpf_get_current_uid_gid();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->refused = refused;
	e->pad = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
}

/*
 * What the caller holds of something, and the most that the host gives a user. False
 * where a user namespace between the two has a limit of its own, which is reached.
 */
static __always_inline bool held(enum ucount_type what, __u64 *used, __u64 *limit)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct ucounts *user = BPF_CORE_READ(task, cred, ucounts);

	for (int level = 0; level < 8 && user; level++) {
		struct user_namespace *ns = BPF_CORE_READ(user, ns);
		void *count = (void *)user + bpf_core_field_offset(struct ucounts, ucount);
		void *most = (void *)ns + bpf_core_field_offset(struct user_namespace, ucount_max);
		__s64 has = 0, may = 0;

		bpf_probe_read_kernel(&has, sizeof(has), count + what * sizeof(__s64));
		bpf_probe_read_kernel(&may, sizeof(may), most + what * sizeof(__s64));
		if (!BPF_CORE_READ(ns, parent)) {
			*used = has;
			*limit = may;
			return true;
		}
		if (has >= may)
			return false;
		user = BPF_CORE_READ(ns, ucounts);
	}
	return false;
}

static __always_inline int counted(long ret, long error, __u32 scenario, enum ucount_type what)
{
	__u64 used, limit;

	if ((ret < 0 && ret != -error) || !held(what, &used, &limit))
		return 0;
	if (ret < 0 && used >= limit)
		send(scenario, true, REFUSED_INTERVAL_NS, used, limit);
	else if (ret >= 0 && used * 2 > limit)
		send(scenario, false, REFUSED_INTERVAL_NS, used, limit);
	return 0;
}

#define WATCHES_OF bpf_core_enum_value(enum ucount_type, UCOUNT_INOTIFY_WATCHES)
#define INSTANCES_OF bpf_core_enum_value(enum ucount_type, UCOUNT_INOTIFY_INSTANCES)
#define USERNS_OF bpf_core_enum_value(enum ucount_type, UCOUNT_USER_NAMESPACES)

SEC("tracepoint/syscalls/sys_exit_inotify_add_watch")
int inotify_watched(struct syscall_exit *ctx)
{
	return counted(ctx->ret, ENOSPC, WATCHES, WATCHES_OF);
}

SEC("tracepoint/syscalls/sys_exit_inotify_init1")
int inotify_made(struct syscall_exit *ctx)
{
	return counted(ctx->ret, EMFILE, INSTANCES, INSTANCES_OF);
}

SEC("tracepoint/syscalls/sys_exit_inotify_init")
int inotify_made_old(struct syscall_exit *ctx)
{
	return counted(ctx->ret, EMFILE, INSTANCES, INSTANCES_OF);
}

static __always_inline int userns_refused(long ret)
{
	return ret == -ENOSPC ? counted(ret, ENOSPC, USERNS, USERNS_OF) : 0;
}

SEC("tracepoint/syscalls/sys_exit_clone")
int cloned(struct syscall_exit *ctx)
{
	return userns_refused(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_clone3")
int cloned3(struct syscall_exit *ctx)
{
	return userns_refused(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_unshare")
int unshared(struct syscall_exit *ctx)
{
	return userns_refused(ctx->ret);
}

static __always_inline int refused(long ret, long error, __u32 scenario)
{
	if (ret == -error)
		send(scenario, true, REFUSED_INTERVAL_NS, 0, 0);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_io_setup")
int aio_made(struct syscall_exit *ctx)
{
	return refused(ctx->ret, EAGAIN, AIO);
}

SEC("tracepoint/syscalls/sys_exit_add_key")
int key_added(struct syscall_exit *ctx)
{
	return refused(ctx->ret, EDQUOT, KEYS);
}

SEC("tracepoint/syscalls/sys_exit_keyctl")
int key_controlled(struct syscall_exit *ctx)
{
	return refused(ctx->ret, EDQUOT, KEYS);
}

SEC("tracepoint/syscalls/sys_exit_openat")
int opened(struct syscall_exit *ctx)
{
	return refused(ctx->ret, ENFILE, FILES);
}

SEC("tracepoint/syscalls/sys_exit_socket")
int socket_made(struct syscall_exit *ctx)
{
	return refused(ctx->ret, ENFILE, FILES);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int accepted(struct syscall_exit *ctx)
{
	return refused(ctx->ret, ENFILE, FILES);
}

SEC("tracepoint/syscalls/sys_exit_pipe2")
int pipe_made(struct syscall_exit *ctx)
{
	return refused(ctx->ret, ENFILE, FILES);
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(task_made, struct task_struct *parent, struct task_struct *child)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set || !set->tasks_from)
		return 0;
	struct pid *pid = BPF_CORE_READ(child, thread_pid);
	void *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);

	/* The host's is the first; a daemon in a container is a few levels down. */
	for (int level = 0; level < 4; level++) {
		struct upid number = {};

		if (level > BPF_CORE_READ(pid, level))
			return 0;
		bpf_probe_read_kernel(&number, sizeof(number), numbers + level * sizeof(number));
		if (BPF_CORE_READ(number.ns, ns.inum) != set->pid_ns)
			continue;
		__u64 tasks = BPF_CORE_READ(number.ns, pid_allocated) & 0x7fffffff;

		if (tasks >= set->tasks_from)
			send(TASKS, false, TASKS_INTERVAL_NS, tasks, set->tasks_from);
		return 0;
	}
	return 0;
}

/* A process of the daemon's pid namespace; Rust's mirror is in crowd.rs. */
struct process {
	__u32 pid;
	/* 0 where it lost its own parent, so that another took it over. */
	__u32 parent;
	__u32 uid;
	__u32 threads;
	__u64 age_ns;
	char comm[16];
};

/* Runs once over all tasks where they are many. */
SEC("iter/task")
int processes(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (!task || BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid))
		return 0;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	struct signal_struct *shared = BPF_CORE_READ(parent, signal);
	bool orphan = innermost(parent).nr == 1 ||
		      BPF_CORE_READ_BITFIELD_PROBED(shared, is_child_subreaper);
	struct process found = {
		.pid = BPF_CORE_READ(task, tgid),
		.parent = orphan ? 0 : BPF_CORE_READ(parent, tgid),
		.uid = BPF_CORE_READ(task, cred, euid.val),
		.threads = BPF_CORE_READ(task, signal, nr_threads),
		.age_ns = bpf_ktime_get_ns() - BPF_CORE_READ(task, start_time),
	};

	bpf_probe_read_kernel_str(found.comm, sizeof(found.comm), task->comm);
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}
