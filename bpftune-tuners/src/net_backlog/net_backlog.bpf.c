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
 *
 * One flow may fill a queue and have all others lose what they send. So the losses
 * of the flow that most of them belong to are counted apart, where packets carry
 * the hash of their flow: with RPS all do.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"

#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"
#include "bpftune/relay.h"

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
	/* Of the count: of the flow that most of those before belonged to, and of all others. */
	__u32 of_one;
	__u32 of_others;
	char device[16];
};

/* Packets lost on the whole host: all, and those of others than that one flow. */
enum {
	ALL = 0,
	OTHERS = 1,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

/* Races between processors only blur the edges of a series. */
static __u64 began_ns;
static __u64 last_ns;
static __u32 series;

/* The flow that is counted apart, and what it lost since the last event. */
static __u32 flow;
static __u32 of_one;
static __u32 of_others;
/* The next one: whoever has more than half of the losses is left after all have voted (Boyer, Moore). */
static __u32 candidate;
static __u32 votes;

static __always_inline void add(__u32 which)
{
	__u64 *sum = bpf_map_lookup_elem(&total, &which);

	if (sum)
		__sync_fetch_and_add(sum, 1);
}

static __always_inline void vote(__u32 hash)
{
	if (hash == candidate) {
		votes++;
	} else if (votes) {
		votes--;
	} else {
		candidate = hash;
		votes = 1;
	}
}

static __always_inline void count_flow(__u32 hash)
{
	if (!hash)
		return;
	vote(hash);
	if (hash == flow) {
		of_one++;
	} else {
		of_others++;
		add(OTHERS);
	}
}

static __noinline int packet_lost(struct sk_buff *skb)
{
	__u64 now = coarse_ns();

	add(ALL);
	count_flow(skb->hash);
	if (now > last_ns + PAUSE_NS) {
		began_ns = now;
		series++;
	}
	last_ns = now;
	__u32 count = pass_host_gate(LOST, 0, INTERVAL_NS);

	if (!count)
		return 0;
	__u32 one = of_one, others = of_others;

	of_one = 0;
	of_others = 0;
	flow = candidate;
	votes = 0;
	struct net_backlog_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = LOST;
	e->head.count = count;
	struct net_device *dev = skb->dev;

	if (dev)
		e->head.netns_cookie = dev->nd_net.net->net_cookie;
	e->lasting_ms = (now - began_ns) / 1000000;
	e->series = series;
	e->of_one = one;
	e->of_others = others;
	if (dev)
		BPF_CORE_READ_STR_INTO(&e->device, dev, name);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

RELAY(packet_dropped);

SEC("tp_btf/kfree_skb")
int BPF_PROG(packet_dropped, struct sk_buff *skb, void *location, enum skb_drop_reason reason)
{
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_CPU_BACKLOG))
		packet_lost(skb);
	return pass_on(ctx, &packet_dropped_next);
}
