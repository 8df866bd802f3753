// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is anybody about to run into a limit on how many of something the host, or a
 * user, may have?
 *
 * The kernel has no event for that, only the error that the system call ends with,
 * and whoever watches the ends of system calls makes each call of each process
 * slower. So this looks where processes and threads begin and end, which takes some
 * ten thousand times longer than a look: what more the user has of each thing is
 * told by the kernel's own count (ucounts), and half of what there may be is news.
 * A program that gives up at a limit is seen when it ends, for it still has what it
 * has then. A limit that a user namespace has of its own is its owner's business.
 *
 * Tasks are counted there, too: the pid namespace of the daemon knows how many
 * numbers it gave away. From which number on that is news, user space says. What
 * the kernel counts for the host alone (files, AIO, keys) is in /proc only: "census"
 * asks user space to look there, seldom, and only while processes come and go; soon
 * where a thread of a process with AIO ends, as a worker does that got no more of it.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"
#include "bpftune/process.h"
#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define SHORT_INTERVAL_NS 20000000ULL
#define TASKS_INTERVAL_NS 1000000000ULL
#define CENSUS_INTERVAL_NS 5000000000ULL
#define AIO_INTERVAL_NS 100000000ULL

enum scenario {
	TASKS = 1,
	WATCHES = 2,
	INSTANCES = 3,
	USERNS = 4,
	CENSUS = 5,
};

struct limit_event {
	struct bpftune_event head;
	/* Where the kernel's count could be read, else 0. */
	__u64 used;
	__u64 limit;
	__u32 uid;
	__u32 pid;
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

static __always_inline void send(__u32 scenario, __u32 detail, __u64 interval, __u64 used, __u64 limit)
{
	__u32 count = pass_host_gate(scenario, detail, interval);

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
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_ringbuf_submit(e, 0);
}

/*
 * What a user holds of something, and the most that the host gives a user. False
 * where a user namespace between the two has a limit of its own, which is reached.
 */
static __always_inline bool held(struct ucounts *user, __u32 what, __u64 *used, __u64 *limit)
{
	for (int level = 0; level < 8 && user; level++) {
		struct user_namespace *ns = user->ns;
		void *count = (void *)user + bpf_core_field_offset(struct ucounts, ucount);
		void *most = (void *)ns + bpf_core_field_offset(struct user_namespace, ucount_max);
		__s64 has = 0, may = 0;

		bpf_probe_read_kernel(&has, sizeof(has), count + what * sizeof(__s64));
		if (has <= 0)
			return false;
		bpf_probe_read_kernel(&may, sizeof(may), most + what * sizeof(__s64));
		if (!ns->parent) {
			*used = has;
			*limit = may;
			return true;
		}
		if (has >= may)
			return false;
		user = ns->ucounts;
	}
	return false;
}

static __always_inline void look_at(struct ucounts *user, __u32 scenario, __u32 what)
{
	__u64 used = 0, limit = 0;

	if (held(user, what, &used, &limit) && used * 2 > limit)
		send(scenario, 0, SHORT_INTERVAL_NS, used, limit);
}

/* What the user of a process has. */
static __always_inline void look(struct task_struct *task)
{
	const struct cred *cred = task->cred;
	struct ucounts *user = cred->ucounts;

	look_at(user, WATCHES, bpf_core_enum_value(enum ucount_type, UCOUNT_INOTIFY_WATCHES));
	look_at(user, INSTANCES, bpf_core_enum_value(enum ucount_type, UCOUNT_INOTIFY_INSTANCES));
	look_at(user, USERNS, bpf_core_enum_value(enum ucount_type, UCOUNT_USER_NAMESPACES));
}

/* A task that ends may have no memory any more, but the first thread of its process has. */
static __always_inline bool has_aio(struct task_struct *task)
{
	struct mm_struct *mm = BPF_CORE_READ(task, group_leader, mm);

	return mm && bpf_core_field_exists(mm->ioctx_table) && BPF_CORE_READ(mm, ioctx_table);
}

/* Its files, and with them its watches, go after this. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(task_ended, struct task_struct *task)
{
	look(task);
	if (has_aio(task))
		send(CENSUS, 1, AIO_INTERVAL_NS, 0, 0);
	else
		send(CENSUS, 0, CENSUS_INTERVAL_NS, 0, 0);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(task_made, struct task_struct *parent, struct task_struct *child)
{
	__u32 zero = 0;
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	look(parent);
	send(CENSUS, 0, CENSUS_INTERVAL_NS, 0, 0);
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
			send(TASKS, 0, TASKS_INTERVAL_NS, tasks, set->tasks_from);
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
