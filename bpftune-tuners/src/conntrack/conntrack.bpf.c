// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where are flows made, so that a connection table may fill up?
 *
 * No hook tells of a new entry. But each packet that leaves carries its entry and
 * the state that the packet found it in: nobody has answered yet (IP_CT_NEW), or
 * somebody has. There are at least as many packets of the first kind as new
 * entries, so after so many of them the table is worth a look, and user space says
 * how many that are: a share of the room that was left when it looked last.
 *
 * On a host that tracks nothing all this is for nothing at every packet. After many
 * packets without an entry in a short time user space is asked whether there is any,
 * and detaches the program for a while.
 *
 * A packet that finds the table full is freed with the reason NETFILTER_DROP, as
 * all are that a firewall drops; user space tells them apart by the table.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"

#define BPFTUNE_GATES 1024
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"
#include "bpftune/relay.h"

char LICENSE[] SEC("license") = "GPL";

#define FLOWS_NS 20000000ULL
#define DROPPED_NS 100000000ULL
#define UNTRACKED_NS 10000000000ULL

/* So many packets without an entry on a processor within BUSY_NS are many. */
#define MANY 1024
#define BUSY_NS 1000000000ULL

/* One packet of so many is looked at closer, and stands for all of them. */
#define SAMPLE 64
/* So many packets of new flows before the first look into a namespace. */
#define FIRST_QUOTA 1024

/* include/uapi/linux/netfilter/nf_conntrack_common.h; the low bits of a pointer to an entry */
#define IP_CT_NEW 2
#define NFCT_INFOMASK 7UL

enum scenario {
	FLOWS = 1,
	DROPPED = 2,
	UNTRACKED = 3,
};

struct quota {
	/* Packets of new flows since the last event. */
	__u32 seen;
	/* As many of them are worth one. */
	__u32 quota;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	/* The namespace's cookie. */
	__type(key, __u64);
	__type(value, struct quota);
} quotas SEC(".maps");

/* A counter a processor, each on a cache line of its own; those beyond share. */
#define PROCESSORS 64
static struct {
	/* Packets of new flows. */
	__u32 seen;
	/* Packets without an entry, and when the last MANY of them were complete. */
	__u32 untracked;
	__u64 complete_ns;
} __attribute__((aligned(64))) processors[PROCESSORS];

static __always_inline void send(__u64 cookie, enum scenario scenario, __u64 interval_ns)
{
	__u32 count = pass_gate(cookie, scenario, 0, interval_ns);

	if (!count)
		return;
	struct bpftune_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->scenario = scenario;
	e->count = count;
	e->netns_cookie = cookie;
	bpf_ringbuf_submit(e, 0);
}

static __noinline int flows_made(struct sk_buff *skb)
{
	__u64 cookie = BPF_CORE_READ(skb, dev, nd_net.net, net_cookie);
	struct quota *quota = bpf_map_lookup_elem(&quotas, &cookie);

	if (!quota) {
		struct quota first = { .seen = SAMPLE, .quota = FIRST_QUOTA };

		bpf_map_update_elem(&quotas, &cookie, &first, BPF_ANY);
		return 0;
	}
	__u32 seen = quota->seen + SAMPLE;

	quota->seen = seen;
	if (seen < quota->quota)
		return 0;
	send(cookie, FLOWS, FLOWS_NS);
	return 0;
}

static __noinline int many_untracked(__u32 processor)
{
	__u64 *complete = &processors[processor % PROCESSORS].complete_ns;
	__u64 now = coarse_ns();
	__u64 took = now - *complete;

	*complete = now;
	/* The host's as a whole, whichever namespace they left from. */
	if (took < BUSY_NS)
		send(0, UNTRACKED, UNTRACKED_NS);
	return 0;
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(packet_leaves, struct sk_buff *skb)
{
	if (!bpf_core_field_exists(skb->_nfct))
		return 0;
	unsigned long entry = skb->_nfct;
	__u32 processor = bpf_get_smp_processor_id() % PROCESSORS;

	if (!(entry & ~NFCT_INFOMASK)) {
		if (++processors[processor].untracked % MANY == 0)
			many_untracked(processor);
	} else if ((entry & NFCT_INFOMASK) == IP_CT_NEW) {
		if (++processors[processor].seen % SAMPLE == 0)
			flows_made(skb);
	}
	return 0;
}

static __always_inline void dropped(struct sk_buff *skb)
{
	/* On its way out it has a socket and no device yet. */
	struct net_device *dev = skb->dev;
	struct sock *sk = skb->sk;

	if (dev)
		send(dev->nd_net.net->net_cookie, DROPPED, DROPPED_NS);
	else if (sk)
		send(sk->__sk_common.skc_net.net->net_cookie, DROPPED, DROPPED_NS);
}

RELAY(packet_dropped);

SEC("tp_btf/kfree_skb")
int BPF_PROG(packet_dropped, struct sk_buff *skb, void *location, enum skb_drop_reason reason)
{
	if (reason == bpf_core_enum_value(enum skb_drop_reason, SKB_DROP_REASON_NETFILTER_DROP))
		dropped(skb);
	return pass_on(ctx, &packet_dropped_next);
}
