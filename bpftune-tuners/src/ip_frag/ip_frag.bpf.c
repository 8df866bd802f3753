// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where are fragments refused because the memory for incomplete datagrams is full?
 *
 * Every fragment is dropped while the memory of its namespace is above the limit,
 * also one that would complete a datagram (inet_frag_find). The kernel names no
 * reason for it, and counts it with other failures. So of the packets that are
 * dropped without a reason those are looked at that are fragments, and the memory
 * of their namespace beside them.
 *
 * Whole datagrams have a first and a last fragment each; a flood of pieces without
 * the rest has one kind or neither. So both are counted.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "bpftune/event.h"

#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"
#include "bpftune/relay.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 100000000ULL

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define NEXTHDR_FRAGMENT 44
/* Of the bytes 6 and 7 of an IPv4 header, and 2 and 3 of IPv6's fragment header. */
#define IPV4_OFFSET 0x1fff
#define IPV4_MORE 0x20
#define IPV6_OFFSET 0xfff8
#define IPV6_MORE 1

enum scenario {
	REFUSED = 1,
};

struct ip_frag_event {
	struct bpftune_event head;
	/* Of the incomplete datagrams of the namespace, bytes, and its limit. */
	__u64 memory;
	__u64 high_thresh;
	/* First and last fragments refused since the last event of this namespace and family. */
	__u32 first;
	__u32 last;
	__u16 family;
	__u8 pad[6];
};

/* What was refused in a namespace of one family since its last event, on a cache line of its own. */
struct pieces {
	/* The namespace's cookie and the family: 0 for nobody yet. */
	__u64 place;
	/* When the gate was last asked for it. */
	__u64 asked_ns;
	__u32 count;
	__u32 first;
	__u32 last;
} __attribute__((aligned(64)));

/* A place has one slot; where another one took it, it counts anew. */
#define SLOTS 256

static struct pieces refused[SLOTS];

static __always_inline struct pieces *pieces_of(__u64 place)
{
	struct pieces *pieces = &refused[(place * 0x9e3779b97f4a7c15ULL >> 56) % SLOTS];

	if (pieces->place != place) {
		pieces->place = place;
		pieces->asked_ns = 0;
		pieces->count = 0;
		pieces->first = 0;
		pieces->last = 0;
	}
	return pieces;
}

/* Inlined for each family: a call costs more than it saves. */
static __always_inline int fragment_dropped(struct sk_buff *skb, const bool v6)
{
	struct net_device *dev = skb->dev;

	if (!dev)
		return 0;
	struct net *net = dev->nd_net.net;
	struct fqdir *fqdir = NULL;

	if (!v6)
		fqdir = net->ipv4.fqdir;
	else if (bpf_core_field_exists(net->ipv6.fqdir))
		fqdir = net->ipv6.fqdir;
	if (!fqdir)
		return 0;
	long memory = fqdir->mem.counter;
	long limit = fqdir->high_thresh;

	/* It may have been a little less when the fragment came. */
	if (memory < limit - (long)((__u64)limit / 16))
		return 0;
	/* Last, for this costs as much as all the rest: an IPv6 header with the one that makes it a fragment; of IPv4
	 * the first bytes. */
	__u8 header[44];
	__u16 offset;
	bool more;

	if (bpf_probe_read_kernel(header, v6 ? sizeof(header) : 8,
				  skb->head + skb->network_header))
		return 0;
	if (v6) {
		if (header[6] != NEXTHDR_FRAGMENT)
			return 0;
		offset = (header[42] << 8 | header[43]) & IPV6_OFFSET;
		more = header[43] & IPV6_MORE;
	} else {
		offset = (header[6] << 8 | header[7]) & IPV4_OFFSET;
		more = header[6] & IPV4_MORE;
	}
	if (!offset && !more)
		return 0;
	__u64 cookie = net->net_cookie;
	struct pieces *pieces = pieces_of(cookie << 1 | v6);
	__u64 now = coarse_ns();

	pieces->count++;
	if (!offset)
		pieces->first++;
	else if (!more)
		pieces->last++;
	if (now < pieces->asked_ns + INTERVAL_NS)
		return 0;
	/* No oftener while the gate is closed, too: the lookup costs a third of what an event may. */
	pieces->asked_ns = now;
	if (!pass_gate(cookie, REFUSED, v6, 0))
		return 0;
	struct ip_frag_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = REFUSED;
	e->head.count = pieces->count;
	e->head.netns_cookie = cookie;
	e->memory = memory;
	e->high_thresh = limit;
	e->first = pieces->first;
	e->last = pieces->last;
	pieces->count = 0;
	pieces->first = 0;
	pieces->last = 0;
	e->family = v6 ? AF_INET6 : AF_INET;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline void dropped(struct sk_buff *skb)
{
	__be16 protocol = skb->protocol;

	if (protocol == bpf_htons(ETH_P_IP))
		fragment_dropped(skb, false);
	else if (protocol == bpf_htons(ETH_P_IPV6))
		fragment_dropped(skb, true);
}

RELAY(packet_dropped);

SEC("tp_btf/kfree_skb")
int BPF_PROG(packet_dropped, struct sk_buff *skb, void *location, enum skb_drop_reason reason)
{
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NOT_SPECIFIED))
		dropped(skb);
	return pass_on(ctx, &packet_dropped_next);
}
