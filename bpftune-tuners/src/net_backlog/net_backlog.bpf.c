// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which packets are lost because a processor's queue of incoming packets is full?
 *
 * What one processor takes in for another (RPS), and what virtual devices and the
 * loopback hand over, waits in a queue a processor, net.core.netdev_max_backlog
 * long. A packet that finds it full is freed with the reason CPU_BACKLOG
 * (enqueue_to_backlog).
 *
 * A burst that the processor takes before the next one needs a queue as long as
 * itself. A processor that cannot keep up loses as much with any queue: so it is
 * noted since when packets have been lost without a pause.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"

#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 50000000ULL
/* Losses further apart are not one series. */
#define PAUSE_NS 250000000ULL

enum scenario {
	LOST = 1,
};

struct net_backlog_event {
	struct bpftune_event head;
	/* Since when packets are lost without a pause, milliseconds; and which such series it is. */
	__u32 lasting_ms;
	__u32 series;
	char device[16];
};

/* Packets lost on the whole host. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

/* Races between processors only blur the edges of a series. */
static __u64 began_ns;
static __u64 last_ns;
static __u32 series;

static __noinline int packet_lost(struct sk_buff *skb)
{
	__u64 now = coarse_ns();
	__u32 zero = 0;
	__u64 *sum = bpf_map_lookup_elem(&total, &zero);

	if (sum)
		__sync_fetch_and_add(sum, 1);
	if (now > last_ns + PAUSE_NS) {
		began_ns = now;
		series++;
	}
	last_ns = now;
	__u32 count = pass_host_gate(LOST, 0, INTERVAL_NS);

	if (!count)
		return 0;
	struct net_backlog_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = LOST;
	e->head.count = count;
	e->head.netns_cookie = BPF_CORE_READ(skb, dev, nd_net.net, net_cookie);
	e->lasting_ms = (now - began_ns) / 1000000;
	e->series = series;
	BPF_CORE_READ_STR_INTO(&e->device, skb, dev, name);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(packet_dropped, struct sk_buff *skb, void *location, enum skb_drop_reason reason)
{
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_CPU_BACKLOG))
		packet_lost(skb);
	return 0;
}
