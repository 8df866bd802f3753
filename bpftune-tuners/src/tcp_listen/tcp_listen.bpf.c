// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which listeners run out of queue?
 *
 * A listener has two queues with one limit, sk_max_ack_backlog: handshakes that
 * wait for their last ACK, and connections that wait for accept(2). The kernel
 * tells of an overflow by counters only. But inet_sock_set_state runs when a
 * handshake ends: the new socket is a copy of its listener just then, with the
 * length of both queues and their limit still in it (inet_csk_clone_lock). So
 * each connection shows how full its listener is, without anything attached to
 * sockets, and whoever shows it is real: it has answered from its address.
 *
 * tcp_retransmit_synack runs where nobody has answered for a second: what a flood
 * from forged addresses leaves in the queue.
 *
 * Both send at most one event per namespace, scenario and interval. The numbers
 * of what was refused are counters that user space reads while this goes on.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/descriptor.h"
#include "bpftune/event.h"
#include "bpftune/gate.h"
#include "bpftune/relay.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 50000000ULL
/* Nothing can be done for who asked for a short queue: said, but not often. */
#define OWN_INTERVAL_NS 60000000000ULL

enum scenario {
	ACCEPT_QUEUE = 1,
	SYN_QUEUE = 2,
	UNANSWERED = 3,
	OWN_BACKLOG = 4,
};

struct tcp_listen_event {
	struct bpftune_event head;
	/* Connections that wait for accept(2), this one included, and handshakes under way. */
	__u32 accept_queue;
	__u32 syn_queue;
	/* The limit of each, and the one that listen(2) may give. */
	__u32 backlog;
	__u32 somaxconn;
	/* Without syncookies, three quarters of it bound the second queue too. */
	__u32 max_syn_backlog;
	__u16 port;
	__u8 syncookies;
	__u8 pad;
};

static __always_inline void send(const struct sock *sk, __u32 scenario, __u64 interval,
				 __u32 accept_queue, __u32 syn_queue)
{
	struct net *net = sk->__sk_common.skc_net.net;
	__u64 cookie = net->net_cookie;
	__u32 count = pass_gate(cookie, scenario, 0, interval);

	if (!count)
		return;
	struct tcp_listen_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->head.scenario = scenario;
	e->head.count = count;
	e->head.netns_cookie = cookie;
	e->accept_queue = accept_queue;
	e->syn_queue = syn_queue;
	e->backlog = sk->sk_max_ack_backlog;
	e->somaxconn = net->core.sysctl_somaxconn;
	e->max_syn_backlog = net->ipv4.sysctl_max_syn_backlog;
	e->port = sk->__sk_common.skc_num;
	e->syncookies = net->ipv4.sysctl_tcp_syncookies;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

static __always_inline __u32 requests(const struct sock *listener)
{
	return BPF_CORE_READ((struct inet_connection_sock *)listener, icsk_accept_queue.qlen.counter);
}

/* At three quarters, so that the limit may be raised before anybody is refused. */
static __always_inline bool nearly(__u32 queue, __u32 limit)
{
	return (__u64)queue * 4 >= (__u64)limit * 3;
}

static __always_inline void look_at_listener(const struct sock *sk)
{
	__u32 limit = sk->sk_max_ack_backlog;
	__u32 accept = sk->sk_ack_backlog + 1;
	bool own = limit < (__u32)sk->__sk_common.skc_net.net->core.sysctl_somaxconn;

	if (nearly(accept, limit)) {
		if (!own)
			send(sk, ACCEPT_QUEUE, INTERVAL_NS, accept, requests(sk));
		else if (accept > limit)
			send(sk, OWN_BACKLOG, OWN_INTERVAL_NS, accept, 0);
		return;
	}
	if (own)
		return;
	__u32 handshakes = requests(sk);

	if (nearly(handshakes, limit))
		send(sk, SYN_QUEUE, INTERVAL_NS, accept, handshakes);
}

RELAY(handshake_done);

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(handshake_done, const struct sock *sk, int oldstate, int newstate)
{
	if (oldstate == TCP_LISTEN && newstate == TCP_SYN_RECV && sk->sk_protocol == IPPROTO_TCP)
		look_at_listener(sk);
	return pass_on(ctx, &handshake_done_next);
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(handshake_late, const struct sock *sk, const struct request_sock *req)
{
	/* Answered, but the other queue was full. */
	if (BPF_CORE_READ_BITFIELD_PROBED((struct inet_request_sock *)req, acked))
		return 0;
	struct net *net = sk->__sk_common.skc_net.net;
	__u32 limit = sk->sk_max_ack_backlog;
	__u32 handshakes = requests(sk);

	if (!net->ipv4.sysctl_tcp_syncookies) {
		__u32 most = net->ipv4.sysctl_max_syn_backlog;

		limit = limit < most / 4 * 3 ? limit : most / 4 * 3;
	}
	/* A scanner's few tries are no news; the kernel itself keeps half of the queue for young handshakes. */
	if (handshakes * 2 > limit && handshakes > 8)
		send(sk, UNANSWERED, INTERVAL_NS, sk->sk_ack_backlog, handshakes);
	return 0;
}

/* Runs over all descriptors of the host after somaxconn has changed. */
SEC("iter/task_file")
int listeners(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct task_struct *task = ctx->task;

	if (!file || !task)
		return 0;
	struct sock *sk = socket_of(file, IPPROTO_TCP);

	if (sk && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN)
		tell_way(ctx, file, task, sk, BPF_CORE_READ(sk, sk_max_ack_backlog));
	return 0;
}
