// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which connections found no local port?
 *
 * connect(2) puts a socket into SYN_SENT, then looks for a port, and puts it back
 * into CLOSE where there is none (tcp_v4_connect, tcp_v6_connect). A socket that
 * goes from SYN_SENT to CLOSE and has never had a sequence number has sent no SYN:
 * it failed here, not at its peer. One that was bound to a port beforehand says
 * nothing of the range.
 *
 * A tracepoint of system calls would say it with its errno, but having any on
 * makes every system call of the host slower.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"
#include "bpftune/gate.h"
#include "bpftune/relay.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 100000000ULL

enum scenario {
	NO_PORT = 1,
};

struct tcp_ports_event {
	struct bpftune_event head;
	__u16 family;
	__be16 remote_port;
	__u8 remote_addr[16];
	__u8 pad[4];
};

static __always_inline void look_at_failed(const struct sock *sk)
{
	if (BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK)
		return;
	if (BPF_CORE_READ((struct tcp_sock *)sk, write_seq))
		return;
	__u64 cookie = sk->__sk_common.skc_net.net->net_cookie;
	__u32 count = pass_gate(cookie, NO_PORT, 0, INTERVAL_NS);

	if (!count)
		return;
	struct tcp_ports_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = NO_PORT;
	e->head.count = count;
	e->head.netns_cookie = cookie;
	e->family = sk->__sk_common.skc_family;
	e->remote_port = sk->__sk_common.skc_dport;
	if (e->family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr))
		BPF_CORE_READ_INTO((struct in6_addr *)e->remote_addr, sk, __sk_common.skc_v6_daddr);
	else
		*(__u32 *)e->remote_addr = sk->__sk_common.skc_daddr;
	bpf_ringbuf_submit(e, 0);
}

RELAY(no_port);

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(no_port, const struct sock *sk, int oldstate, int newstate)
{
	if (oldstate == TCP_SYN_SENT && newstate == TCP_CLOSE && sk->sk_protocol == IPPROTO_TCP)
		look_at_failed(sk);
	return pass_on(ctx, &no_port_next);
}
