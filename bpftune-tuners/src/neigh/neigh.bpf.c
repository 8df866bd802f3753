// SPDX-License-Identifier: GPL-2.0-only
/*
 * How full are the neighbour tables?
 *
 * All namespaces share one table a family (arp_tbl, nd_tbl), and gc_thresh3 bounds
 * it: the entry after that is refused, and with it the packet (neigh_alloc). A
 * burst fills a table within milliseconds, so the room that is left is looked at
 * with each entry made, and user space is told long before it ends. How much room
 * is enough depends on how many hosts the network of the new entry can have.
 *
 * Entries that garbage collection may not take (permanent ones, those a control
 * plane manages) do not count in the kernel, so they do not here.
 *
 * neigh_create runs for each new entry and for each that is refused (then without
 * one), neigh_update for each change of state, neigh_cleanup_and_release for each
 * entry that goes: none of them for a packet.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"

/* The tables are the host's. */
#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define FILLING_NS 5000000ULL
#define DRAINED_NS 60000000000ULL

/* Free entries that a burst cannot use up before user space has acted: rules.rs has the same number. */
#define RESERVE 16384

enum scenario {
	FILLING = 1,
	REFUSED = 2,
	DRAINED = 3,
};

struct neigh_event {
	struct bpftune_event head;
	/* Entries that count against the thresholds. */
	__u32 entries;
	__u32 gc_thresh2;
	__u32 gc_thresh3;
	/* Hosts that the networks of the new entry's device can have; ~0 for IPv6. */
	__u32 hosts;
	/* Entries made, and entries that got an address, since the counts were last halved. */
	__u32 made;
	__u32 resolved;
	__u16 family;
	__u8 pad[6];
	char device[16];
};

/* Of each family, IPv4 first. Races lose a count now and then, which does not matter. */
static __u32 made[2];
static __u32 resolved[2];

static __always_inline bool is_v6(const struct neigh_table *tbl)
{
	return tbl->family == AF_INET6;
}

/* The hosts of the four first networks of a device. */
static __always_inline __u32 hosts_of(struct net_device *dev)
{
	struct in_device *in = dev->ip_ptr;
	__u64 sum = 0;

	if (!in)
		return 0;
	struct in_ifaddr *ifa = in->ifa_list;

	for (int i = 0; i < 4 && ifa; i++) {
		__u32 len = ifa->ifa_prefixlen;

		if (len <= 32)
			sum += 1ULL << (32 - len);
		ifa = ifa->ifa_next;
	}
	return sum > 0xffffffff ? 0xffffffff : sum;
}

static __always_inline void send(enum scenario scenario, struct neigh_table *tbl, struct net_device *dev,
				 __u32 hosts, __u64 interval_ns)
{
	bool v6 = is_v6(tbl);
	__u32 count = pass_host_gate(scenario, v6, interval_ns);

	if (!count)
		return;
	struct neigh_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = scenario;
	e->head.count = count;
	e->head.netns_cookie = dev->nd_net.net->net_cookie;
	e->entries = tbl->gc_entries.counter;
	e->gc_thresh2 = tbl->gc_thresh2;
	e->gc_thresh3 = tbl->gc_thresh3;
	e->hosts = hosts;
	e->made = made[v6];
	e->resolved = resolved[v6];
	e->family = tbl->family;
	BPF_CORE_READ_STR_INTO(&e->device, dev, name);
	bpf_ringbuf_submit(e, 0);
}

SEC("tp_btf/neigh_create")
int BPF_PROG(neighbour_made, struct neigh_table *tbl, struct net_device *dev, const void *key,
	     const struct neighbour *n, bool exempt_from_gc)
{
	if (exempt_from_gc)
		return 0;
	bool v6 = is_v6(tbl);
	__u32 now_made = made[v6] + 1;

	/* Half of what was before the last thousand counts half. */
	if (now_made >= 2048) {
		now_made /= 2;
		resolved[v6] /= 2;
	}
	made[v6] = now_made;

	__u32 limit = tbl->gc_thresh3;
	__u32 entries = tbl->gc_entries.counter;
	__u32 room = limit > entries ? limit - entries : 0;

	if (n && room >= RESERVE / 2)
		return 0;
	__u32 hosts = v6 ? 0xffffffff : hosts_of(dev);

	if (!n) {
		send(REFUSED, tbl, dev, hosts, FILLING_NS);
		return 0;
	}
	if (hosts <= room)
		return 0;
	/* In use, or smaller than a network in which neighbours are met. */
	if (entries >= limit / 8 || (!v6 && hosts > limit))
		send(FILLING, tbl, dev, hosts, FILLING_NS);
	return 0;
}

SEC("tp_btf/neigh_update")
int BPF_PROG(neighbour_updated, struct neighbour *n, const __u8 *address, __u8 state)
{
	__u8 before = n->nud_state;

	if ((state & NUD_VALID) && !(before & NUD_VALID)) {
		struct neigh_table *tbl = n->tbl;

		resolved[is_v6(tbl)]++;
	}
	return 0;
}

SEC("tp_btf/neigh_cleanup_and_release")
int BPF_PROG(neighbour_gone, struct neighbour *n)
{
	struct neigh_table *tbl = n->tbl;
	__u32 entries = tbl->gc_entries.counter;
	__u32 limit = tbl->gc_thresh3;

	if (limit / 2 > RESERVE + entries && entries < limit / 4)
		send(DRAINED, tbl, n->dev, 0, DRAINED_NS);
	return 0;
}
