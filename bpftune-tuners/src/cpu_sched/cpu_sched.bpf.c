// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which tasks had to wait for a processor, and how much of one did each get?
 *
 * The scheduler keeps both for each task anyway: the time it was ready without a
 * processor, whether it had just been woken or was made to step back for others, and
 * the time it ran. So nothing is attached to switches of tasks, of which there are
 * hundreds of thousands a second. While the host is short of processors, and only then,
 * this runs over all tasks four times a second and writes down the sums.
 *
 * With autogroups (sched(7)) each session is one competitor, whatever the number of its
 * tasks; without, each task is. A task in a control group of its own for processors is
 * in no session: those take precedence.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#define SECOND_NS 1000000000ULL
/* Who has not run for so long takes nothing from anybody. */
#define RESTS_NS (10 * SECOND_NS)

/* include/uapi/linux/sched.h */
#define SCHED_NORMAL 0
#define SCHED_BATCH 3

/* Rust's mirror is `Task` of tasks.rs. Sums since the task's beginning. */
struct task {
	__u64 session;
	__u64 began_ns;
	__u64 ran_ns;
	__u64 waited_ns;
	/* How often it went to sleep. */
	__u64 slept;
	__u32 pid;
	/* In a control group of its own. */
	__u32 grouped;
	char comm[16];
};

/* By the scheduler's clock, the last time that any task got a processor. */
__u64 newest_ns;

static __always_inline __u64 session(struct task_struct *task)
{
	if (!bpf_core_field_exists(struct signal_struct, autogroup))
		return 0;
	return BPF_CORE_READ(task, signal, autogroup, id);
}

/* Not the root of all, nor its session's autogroup. */
static __always_inline bool grouped(struct task_struct *task)
{
	struct task_group *group = BPF_CORE_READ(task, sched_task_group);

	if (!BPF_CORE_READ(group, parent))
		return false;
	return !bpf_core_field_exists(struct task_group, autogroup) || !BPF_CORE_READ(group, autogroup);
}

SEC("iter/task")
int tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (!task)
		return 0;
	__u32 policy = BPF_CORE_READ(task, policy);

	/* Others do not stand in the queue that the parameters are about. */
	if (BPF_CORE_READ(task, flags) & PF_KTHREAD || (policy != SCHED_NORMAL && policy != SCHED_BATCH))
		return 0;
	__u64 arrived_ns = BPF_CORE_READ(task, sched_info.last_arrival);

	if (arrived_ns > newest_ns)
		newest_ns = arrived_ns;
	if (arrived_ns + RESTS_NS < newest_ns)
		return 0;
	struct task found = {
		.session = session(task),
		.began_ns = BPF_CORE_READ(task, start_time),
		.ran_ns = BPF_CORE_READ(task, se.sum_exec_runtime),
		.waited_ns = BPF_CORE_READ(task, sched_info.run_delay),
		.slept = BPF_CORE_READ(task, nvcsw),
		.pid = BPF_CORE_READ(task, pid),
		.grouped = grouped(task),
	};

	BPF_CORE_READ_STR_INTO(&found.comm, task, comm);
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}
