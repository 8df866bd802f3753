/* SPDX-License-Identifier: GPL-2.0-only */
/* Which process is it, seen from its own namespace of process numbers? */
#ifndef BPFTUNE_PROCESS_H
#define BPFTUNE_PROCESS_H
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* The number that a task has in its innermost namespace, and that namespace: what getpid(2) tells it. */
static __always_inline struct upid innermost(struct task_struct *task)
{
	struct upid found = {};
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 level = BPF_CORE_READ(pid, level);
	void *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);

	bpf_probe_read_kernel(&found, sizeof(found), numbers + level * sizeof(found));
	return found;
}

#endif
