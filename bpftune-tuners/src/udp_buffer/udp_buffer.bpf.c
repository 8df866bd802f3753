// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which UDP sockets lose datagrams because their buffer is full?
 *
 * udp_fail_queue_rcv_skb runs for a datagram that finds no room, and for no other.
 * A socket's buffer is as large as net.core.rmem_default was when the socket was
 * made, or as its application asked for.
 *
 * A burst that the reader takes before the next one needs a buffer as large as
 * itself. A reader that is slower than its senders loses as much with any buffer,
 * only later: so it is noted since when datagrams have been lost without a pause.
 *
 * sock_exceed_buf_limit runs where UDP as a whole is at its limit (udp_mem).
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/descriptor.h"
#include "bpftune/event.h"

#define BPFTUNE_HOST_GATES
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 50000000ULL
/* Losses further apart are not one series. */
#define PAUSE_NS 250000000ULL

#define ENOMEM 12

enum scenario {
	FULL = 1,
	MEMORY_EXCEEDED = 2,
};

struct udp_buffer_event {
	struct bpftune_event head;
	/* The socket's buffer, bytes, and the datagrams that wait in it. */
	__u32 buffer;
	__u32 queued;
	/* Lost since the last event about this port. */
	__u32 lost;
	/* Since when datagrams are lost without a pause, milliseconds; and which such series it is. */
	__u32 lasting_ms;
	__u32 series;
	__u16 port;
	/* 1: its size was fixed by SO_RCVBUF. */
	__u8 locked;
	__u8 pad;
};

/* What was lost on a port of a namespace, on a cache line of its own. */
struct losses {
	/* The namespace's cookie and the port: 0 for nobody yet. */
	__u64 place;
	__u64 began_ns;
	__u64 last_ns;
	__u64 sent_ns;
	__u32 lost;
	__u32 series;
} __attribute__((aligned(64)));

/* A place has one slot; where another one took it, its series begins anew. */
#define SLOTS 256

static struct losses ports[SLOTS];

/* Datagrams lost by full buffers on the whole host. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} total SEC(".maps");

static __always_inline struct losses *losses_of(__u64 place, __u64 now)
{
	struct losses *losses = &ports[(place * 0x9e3779b97f4a7c15ULL >> 56) % SLOTS];

	if (losses->place != place) {
		losses->place = place;
		losses->began_ns = now;
		losses->last_ns = now;
		losses->sent_ns = 0;
		losses->lost = 0;
		losses->series = 0;
	}
	return losses;
}

SEC("tp_btf/udp_fail_queue_rcv_skb")
int BPF_PROG(datagram_lost, int rc, struct sock *sk)
{
	__u32 zero = 0;
	__u64 *sum = bpf_map_lookup_elem(&total, &zero);

	/* Anything else is no room in udp_mem. */
	if (rc != -ENOMEM)
		return 0;
	if (sum)
		__sync_fetch_and_add(sum, 1);
	__u64 cookie = sk->__sk_common.skc_net.net->net_cookie;
	__u16 port = sk->__sk_common.skc_num;
	__u64 now = coarse_ns();
	struct losses *losses = losses_of(cookie << 16 | port, now);

	if (now > losses->last_ns + PAUSE_NS) {
		losses->began_ns = now;
		losses->series++;
	}
	losses->last_ns = now;
	losses->lost++;
	if (now < losses->sent_ns + INTERVAL_NS)
		return 0;
	__u32 count = pass_host_gate(FULL, 0, INTERVAL_NS / 8);

	if (!count)
		return 0;
	struct udp_buffer_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = FULL;
	e->head.count = losses->lost;
	e->head.netns_cookie = cookie;
	e->buffer = sk->sk_rcvbuf;
	e->queued = sk->sk_receive_queue.qlen + BPF_CORE_READ((struct udp_sock *)sk, reader_queue.qlen);
	e->lost = losses->lost;
	e->lasting_ms = (now - losses->began_ns) / 1000000;
	e->series = losses->series;
	e->port = port;
	e->locked = !!(BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_RCVBUF_LOCK);
	bpf_ringbuf_submit(e, 0);
	losses->sent_ns = now;
	losses->lost = 0;
	return 0;
}

SEC("tp_btf/sock_exceed_buf_limit")
int BPF_PROG(memory_exceeded, struct sock *sk)
{
	if (sk->sk_protocol != IPPROTO_UDP)
		return 0;
	__u32 count = pass_host_gate(MEMORY_EXCEEDED, 0, INTERVAL_NS);

	if (!count)
		return 0;
	struct udp_buffer_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = MEMORY_EXCEEDED;
	e->head.count = count;
	e->head.netns_cookie = sk->__sk_common.skc_net.net->net_cookie;
	e->port = sk->__sk_common.skc_num;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/* Runs over all descriptors of the host after rmem_default has changed. */
SEC("iter/task_file")
int sockets(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct task_struct *task = ctx->task;

	if (!file || !task)
		return 0;
	struct sock *sk = socket_of(file, IPPROTO_UDP);

	if (!sk)
		return 0;
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family == AF_INET || family == AF_INET6)
		tell_way(ctx, file, task, sk, BPF_CORE_READ(sk, sk_rcvbuf));
	return 0;
}
