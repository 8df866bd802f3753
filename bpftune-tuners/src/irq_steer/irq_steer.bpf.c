// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which processor takes in whose packets, and how many?
 *
 * Two places see packets before they are steered to a processor (RPS). Those of
 * virtual devices (veth, tun, bridges' ports in a container) pass netif_rx one by one,
 * on the processor that sent them. Of devices with a driver of its own napi_poll tells
 * after each round how many came; rounds of the processors' own queues have no device
 * there and are those very packets for a second time.
 *
 * Most runs add to a number of this processor's and leave. Each UNIT packets the one
 * that is there stands for all of them: a prime, for a router's packets come and go in
 * turn. From LEAST packets a second on, a device's share of a processor is news, once a
 * second. Whether the processor has too much to do, user space knows better.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"

char LICENSE[] SEC("license") = "GPL";

#define UNIT 61
#define SECOND_NS 1000000000ULL
/* What ended so long ago says nothing of now. */
#define STALE_NS (3 * SECOND_NS)
/* With fewer a second no processor is busy for long. */
#define LEAST 5000

enum scenario {
	TAKEN_IN = 1,
};

/* Rust's mirror is `Lane` of source.rs. */
struct lane {
	__u64 netns_cookie;
	__u32 ifindex;
	__u32 cpu;
};

struct packets {
	__u64 since_ns;
	/* Since then. */
	__u64 now;
	/* In all. */
	__u64 total;
};

struct irq_steer_event {
	struct bpftune_event head;
	__u32 ifindex;
	__u32 cpu;
	__u32 packets;
	/* The time in which they came. */
	__u32 over_ms;
	char device[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, struct lane);
	__type(value, struct packets);
} lanes SEC(".maps");

/* Packets that no lane has yet. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} loose SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024);
} events SEC(".maps");

static __always_inline void tell(const struct lane *lane, struct net_device *dev, __u64 packets, __u64 over_ns)
{
	struct irq_steer_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return;
	__builtin_memset(event, 0, sizeof(*event));
	event->head.scenario = TAKEN_IN;
	event->head.count = packets;
	event->head.netns_cookie = lane->netns_cookie;
	event->ifindex = lane->ifindex;
	event->cpu = lane->cpu;
	event->packets = packets;
	event->over_ms = over_ns / 1000000;
	BPF_CORE_READ_STR_INTO(&event->device, dev, name);
	bpf_ringbuf_submit(event, 0);
}

static __always_inline int took_in(struct net_device *dev, __u32 packets)
{
	__u32 zero = 0, *waiting = bpf_map_lookup_elem(&loose, &zero);

	if (!waiting)
		return 0;
	*waiting += packets;
	if (*waiting < UNIT)
		return 0;
	packets = *waiting;
	*waiting = 0;

	/* A lane is its processor's own, so nobody else writes it meanwhile. */
	struct lane lane = {
		.netns_cookie = BPF_CORE_READ(dev, nd_net.net, net_cookie),
		.ifindex = BPF_CORE_READ(dev, ifindex),
		.cpu = bpf_get_smp_processor_id(),
	};
	__u64 now = bpf_ktime_get_ns();
	struct packets *seen = bpf_map_lookup_elem(&lanes, &lane);

	if (!seen) {
		struct packets first = { .since_ns = now, .total = packets };

		bpf_map_update_elem(&lanes, &lane, &first, BPF_NOEXIST);
		return 0;
	}
	seen->total += packets;
	seen->now += packets;
	__u64 over = now - seen->since_ns;

	if (over < SECOND_NS)
		return 0;
	packets = seen->now;
	seen->now = 0;
	seen->since_ns = now;
	if (over < STALE_NS && packets * SECOND_NS >= LEAST * over)
		tell(&lane, dev, packets, over);
	return 0;
}

SEC("tp_btf/netif_rx")
int BPF_PROG(packet_queued, struct sk_buff *skb)
{
	/* Read without a helper: it runs for each packet. */
	return took_in(skb->dev, 1);
}

SEC("tp_btf/napi_poll")
int BPF_PROG(device_polled, struct napi_struct *napi, int work, int budget)
{
	struct net_device *dev = napi->dev;

	return dev && work > 0 ? took_in(dev, work) : 0;
}
