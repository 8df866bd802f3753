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
 *
 * Of devices whose packets are steered by a hash (RPS) it is worth knowing, too, whether
 * they go where they are read. tcp_rcv_space_adjust runs on the reader's processor
 * after each read; the socket says which one handled its last packet. One read in UNIT is
 * looked at.
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
	READ = 2,
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
	/* READ: reads. */
	__u32 packets;
	/* The time in which they came. */
	__u32 over_ms;
	char device[16];
	/* READ: those whose packets another processor handled. */
	__u32 elsewhere;
	/* TAKEN_IN: receive queues of the device, and 1 where a hash alone says where its packets go. */
	__u32 queues;
	__u32 by_hash;
	__u32 pad;
};

struct device_key {
	__u64 netns_cookie;
	__u32 ifindex;
	__u32 pad;
};

/* A device whose packets are steered by nothing but a hash. */
struct steered {
	__u64 until_ns;
	char name[16];
};

/* Looks at reads. */
struct reads {
	__u64 since_ns;
	__u32 now;
	__u32 elsewhere;
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
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__type(key, struct device_key);
	__type(value, struct steered);
} steered SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, struct lane);
	__type(value, struct reads);
} readers SEC(".maps");

/* Reads since the last look. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} unlooked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024);
} events SEC(".maps");

static __always_inline struct irq_steer_event *event_of(const struct lane *lane, __u32 scenario, __u32 packets,
							__u64 over_ns)
{
	struct irq_steer_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event)
		return NULL;
	__builtin_memset(event, 0, sizeof(*event));
	event->head.scenario = scenario;
	event->head.count = packets;
	event->head.netns_cookie = lane->netns_cookie;
	event->ifindex = lane->ifindex;
	event->cpu = lane->cpu;
	event->packets = packets;
	event->over_ms = over_ns / 1000000;
	return event;
}

static __always_inline void tell(const struct lane *lane, struct net_device *dev, __u64 packets, __u64 over_ns,
				 bool by_hash)
{
	struct irq_steer_event *event = event_of(lane, TAKEN_IN, packets, over_ns);

	if (!event)
		return;
	event->queues = BPF_CORE_READ(dev, real_num_rx_queues);
	event->by_hash = by_hash;
	BPF_CORE_READ_STR_INTO(&event->device, dev, name);
	bpf_ringbuf_submit(event, 0);
}

/* Whether the device's only queue is steered by a hash, and by nothing else: then it is noted for readers. */
static __always_inline bool note(const struct lane *lane, struct net_device *dev, __u64 now)
{
	struct netdev_rx_queue *queue = BPF_CORE_READ(dev, _rx);

	if (BPF_CORE_READ(dev, real_num_rx_queues) != 1 || !queue || !BPF_CORE_READ(queue, rps_map) ||
	    BPF_CORE_READ(queue, rps_flow_table))
		return false;
	struct device_key key = { .netns_cookie = lane->netns_cookie, .ifindex = lane->ifindex };
	struct steered found = { .until_ns = now + STALE_NS };

	BPF_CORE_READ_STR_INTO(&found.name, dev, name);
	bpf_map_update_elem(&steered, &key, &found, BPF_ANY);
	return true;
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
	if (over >= STALE_NS || packets * SECOND_NS < LEAST * over)
		return 0;
	bool by_hash = bpf_core_field_exists(struct netdev_rx_queue, rps_map) && note(&lane, dev, now);

	tell(&lane, dev, packets, over, by_hash);
	return 0;
}

static __noinline int look_at_reader(struct sock *sk)
{
	struct device_key key = {
		.netns_cookie = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie),
		.ifindex = BPF_CORE_READ(sk, sk_rx_dst_ifindex),
	};
	struct steered *device = bpf_map_lookup_elem(&steered, &key);
	__u64 now = bpf_ktime_get_ns();

	if (!device || device->until_ns < now)
		return 0;
	struct lane lane = {
		.netns_cookie = key.netns_cookie,
		.ifindex = key.ifindex,
		.cpu = bpf_get_smp_processor_id(),
	};
	bool elsewhere = BPF_CORE_READ(sk, __sk_common.skc_incoming_cpu) != lane.cpu;
	struct reads *seen = bpf_map_lookup_elem(&readers, &lane);

	if (!seen) {
		struct reads first = { .since_ns = now };

		bpf_map_update_elem(&readers, &lane, &first, BPF_NOEXIST);
		return 0;
	}
	seen->now += UNIT;
	seen->elsewhere += elsewhere ? UNIT : 0;
	__u64 over = now - seen->since_ns;

	if (over < SECOND_NS)
		return 0;
	__u32 reads = seen->now, strayed = seen->elsewhere;

	seen->since_ns = now;
	seen->now = 0;
	seen->elsewhere = 0;
	if (over >= STALE_NS || reads * SECOND_NS < LEAST * over)
		return 0;
	struct irq_steer_event *event = event_of(&lane, READ, reads, over);

	if (!event)
		return 0;
	event->elsewhere = strayed;
	__builtin_memcpy(event->device, device->name, sizeof(event->device));
	bpf_ringbuf_submit(event, 0);
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

/* Attached only while there is a device that readers are looked at for. */
SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(connection_read, struct sock *sk)
{
	__u32 zero = 0, *reads = bpf_map_lookup_elem(&unlooked, &zero);

	if (!reads)
		return 0;
	*reads += 1;
	if (*reads < UNIT)
		return 0;
	*reads = 0;
	return look_at_reader(sk);
}
