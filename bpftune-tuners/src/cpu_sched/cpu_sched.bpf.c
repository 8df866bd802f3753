// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long do programs that were woken wait for a processor, and behind whom?
 *
 * Processors switch tasks up to hundreds of thousands of times a second, so nearly all
 * runs only look. A processor has one slot. A wake-up takes it, at most once a tick of
 * the timer; the switch to that very task empties it, and tells how long that
 * took. What is found is summed up in the kernel. User space hears of it once a second
 * at most from each processor, and only where many waits were long.
 *
 * Behind whom: with autogroups (sched(7)) each session is one competitor, whatever the
 * number of its tasks; without, each task is. So where tasks of another session were
 * what ran, autogroups would help, unless either is in a control group of its own:
 * those take precedence.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"

char LICENSE[] SEC("license") = "GPL";

#define MILLISECOND_NS 1000000ULL
#define SECOND_NS 1000000000ULL
#define STALE_NS (3 * SECOND_NS)
/* A person notices so much in a few wake-ups in a row. */
#define LONG_NS (4 * MILLISECOND_NS)
/* And this in a single one. */
#define VERY_LONG_NS (50 * MILLISECOND_NS)
/* A woken task that ended or was moved elsewhere must not hold a slot for ever: a second or so, by HZ. */
#define FORGOTTEN_TICKS 250
/* Fewer waits say nothing. */
#define LEAST 8
/* One in so many waits is long: worth to be told. */
#define OFTEN 10

/* include/linux/sched.h, include/uapi/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define SCHED_NORMAL 0

enum scenario {
	WAITS = 1,
};

/* A cache line each: a wake-up writes it from any processor. */
struct slot {
	__u64 woken_ns;
	__u64 tick;
	__u32 pid;
	__u32 pad[11];
};

struct cpu_sched_event {
	struct bpftune_event head;
	/* Wake-ups looked at, and those that waited for long: behind their own session, or another one. */
	__u32 woken;
	__u32 behind_own;
	__u32 behind_others;
	__u32 waited_us;
	/* The longest, and whose. */
	__u32 longest_us;
	__u32 cpu;
	char comm[16];
};

struct window {
	__u64 since_ns;
	__u64 longest_ns;
	__u64 waited_ns;
	__u32 woken;
	__u32 behind_own;
	__u32 behind_others;
	__u32 pad;
	char comm[16];
};

/* Since the beginning; Rust reads them by index. */
enum total {
	WOKEN = 0,
	WAITED_NS = 1,
	VERY_LONG = 2,
	/* Waits of up to 2 us, 4 us, 8 us, and so on. */
	HISTOGRAM = 3,
	TOTALS = HISTOGRAM + 24,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 512);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct window);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TOTALS);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024);
} events SEC(".maps");

static __always_inline void add(__u32 index, __u64 amount)
{
	__u64 *total = bpf_map_lookup_elem(&totals, &index);

	if (total)
		*total += amount;
}

static __always_inline __u32 bucket(__u64 wait_ns)
{
	__u64 us = wait_ns / 2000;
	__u32 index = 0;

	for (int bit = 0; bit < 23; bit++) {
		if (!us)
			break;
		us >>= 1;
		index++;
	}
	return index;
}

/* In no control group of its own: the root of all, or its session's autogroup. */
static __always_inline bool ungrouped(struct task_struct *task)
{
	struct task_group *group = BPF_CORE_READ(task, sched_task_group);

	return !BPF_CORE_READ(group, parent) || BPF_CORE_READ(group, autogroup);
}

static __always_inline bool autogroup_would_part(struct task_struct *ran, struct task_struct *waited)
{
	if (!bpf_core_field_exists(struct signal_struct, autogroup) || !BPF_CORE_READ(ran, pid))
		return false;
	return BPF_CORE_READ(ran, signal, autogroup) != BPF_CORE_READ(waited, signal, autogroup) &&
	       ungrouped(ran) && ungrouped(waited);
}

static __always_inline void tell(const struct window *window, __u32 cpu)
{
	struct cpu_sched_event *event;
	__u32 often = window->behind_own + window->behind_others;

	if (window->woken < LEAST || often * OFTEN < window->woken)
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event->head.scenario = WAITS;
	event->head.count = often;
	event->head.netns_cookie = 0;
	event->woken = window->woken;
	event->behind_own = window->behind_own;
	event->behind_others = window->behind_others;
	event->waited_us = window->waited_ns / 1000;
	event->longest_us = window->longest_ns / 1000;
	event->cpu = cpu;
	__builtin_memcpy(event->comm, window->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
}

static __noinline int waited(struct task_struct *ran, struct task_struct *task, __u64 now, __u64 wait)
{
	__u32 zero = 0;
	struct window *window = bpf_map_lookup_elem(&windows, &zero);

	if (!window)
		return 0;
	add(WOKEN, 1);
	add(WAITED_NS, wait);
	add(HISTOGRAM + bucket(wait), 1);
	if (wait >= VERY_LONG_NS)
		add(VERY_LONG, 1);
	__u64 over = now - window->since_ns;

	if (over >= SECOND_NS) {
		if (over < STALE_NS)
			tell(window, bpf_get_smp_processor_id());
		__builtin_memset(window, 0, sizeof(*window));
		window->since_ns = now;
	}
	window->woken++;
	window->waited_ns += wait;
	if (wait >= LONG_NS) {
		if (autogroup_would_part(ran, task))
			window->behind_others++;
		else
			window->behind_own++;
	}
	if (wait >= window->longest_ns) {
		window->longest_ns = wait;
		BPF_CORE_READ_STR_INTO(&window->comm, task, comm);
	}
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(task_woken, struct task_struct *task)
{
	__u32 cpu = task->thread_info.cpu;
	struct slot *slot = bpf_map_lookup_elem(&slots, &cpu);
	__u64 tick;

	if (!slot)
		return 0;
	tick = bpf_jiffies64();
	if (slot->tick == tick || (slot->pid && tick - slot->tick < FORGOTTEN_TICKS))
		return 0;
	/* Others do not stand in the queue that the parameters are about. */
	if (task->policy != SCHED_NORMAL || task->flags & PF_KTHREAD)
		return 0;
	slot->tick = tick;
	slot->woken_ns = bpf_ktime_get_ns();
	slot->pid = task->pid;
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(task_switched, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct slot *slot = bpf_map_lookup_elem(&slots, &cpu);

	if (!slot || !slot->pid || slot->pid != next->pid)
		return 0;
	__u64 now = bpf_ktime_get_ns();
	__u64 woken = slot->woken_ns;

	slot->pid = 0;
	return now > woken ? waited(prev, next, now, now - woken) : 0;
}
