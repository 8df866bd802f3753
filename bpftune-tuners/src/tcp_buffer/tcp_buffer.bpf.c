// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which TCP connections are held back by a buffer limit, and by which side's?
 *
 * Receive side, tcp_rcv_space_adjust (runs when the application has read): the
 * limit holds a connection back where the kernel has grown its buffer so far
 * that the next doubling hits the limit, the peer fills the whole window each
 * round trip, and no queue stands in the path (round trip near its minimum). In
 * any other case more buffer would only add delay. Waiting for the limit itself
 * would be too late: the kernel grows a buffer only when more was copied than
 * in any round trip before, which a window at its limit prevents.
 *
 * Its first round trips are another matter: there the window is half of the size that
 * a buffer begins with, tcp_rmem[1].
 *
 * Send side, tcp_probe (runs when a segment arrives, so also for each ACK): the
 * limit holds a connection back where the send buffer has grown to the limit,
 * the application waits for room (SOCK_NOSPACE), everything written is already
 * on its way, and again no queue stands in the path.
 *
 * TCP as a whole: while it holds more than the second number of tcp_mem, the kernel
 * lets no buffer grow, and nothing fails. So one segment a jiffy is used to look.
 *
 * Both are stable tracepoints taken by BTF; nothing is attached to a socket, so
 * connections older than the daemon count too. A healthy connection leaves
 * after a few loads of memory that the reader or sender has just used. What is found is sent at most once per namespace, scenario
 * and INTERVAL_NS.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/event.h"
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 10000000ULL

/* Buffers that begin with this have a first window of 64 KiB, the most that a SYN can say: rules.rs has the same number. */
#define FIRST_ENOUGH 131072

enum scenario {
	RECEIVE_LIMITED = 1,
	SEND_LIMITED = 2,
	MEMORY_EXCEEDED = 3,
	FIRST_WINDOW = 4,
};

struct tcp_buffer_event {
	struct bpftune_event head;
	/* The socket's buffer and the limit it ran into, bytes. */
	__u32 buffer;
	__u32 limit;
	/* Receive: window last advertised. Send: bytes in flight. */
	__u32 window;
	/* Delivery rate, bytes per second. */
	__u32 pad;
	__u64 rate;
	/* Round trip now and at its minimum, microseconds. */
	__u32 rtt_us;
	__u32 min_rtt_us;
	/* Payload per 256 bytes of receive buffer; 0 where this kernel does not say. */
	__u16 scaling_ratio;
	/* 1: the application fixed the size with SO_RCVBUF or SO_SNDBUF. */
	__u8 locked;
	/* net.ipv4.tcp_moderate_rcvbuf of the namespace. */
	__u8 moderate_rcvbuf;
	__u16 family;
	__u16 local_port;
	__be16 remote_port;
	__u8 remote_addr[16];
	__u8 pad2[6];
};

/* A kfunc since 6.2; the verifier turns it into nothing. */
extern void *bpf_rdonly_cast(const void *object, __u32 btf_id) __ksym __weak;

/* bpf_skc_to_tcp_sock() looks at the socket's protocol, a cache line nobody else needs. */
static __always_inline struct tcp_sock *to_tcp_sock(struct sock *sk)
{
	if (bpf_ksym_exists(bpf_rdonly_cast))
		return bpf_rdonly_cast(sk, bpf_core_type_id_kernel(struct tcp_sock));
	return bpf_skc_to_tcp_sock(sk);
}

/* A standing queue in the path shows as a round trip well above its minimum. */
static __always_inline bool path_has_queue(__u32 rtt_us, __u32 min_rtt_us)
{
	return rtt_us > min_rtt_us + min_rtt_us / 2 + 1000;
}

static __always_inline void fill_peer(struct tcp_buffer_event *e, struct sock *sk)
{
	e->family = sk->__sk_common.skc_family;
	e->local_port = sk->__sk_common.skc_num;
	e->remote_port = sk->__sk_common.skc_dport;
	if (e->family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr))
		BPF_CORE_READ_INTO((struct in6_addr *)e->remote_addr, sk, __sk_common.skc_v6_daddr);
	else
		*(__u32 *)e->remote_addr = sk->__sk_common.skc_daddr;
}

/*
 * How far a socket's reader must get before a look is worth while: a window that
 * is full each round trip has at least three quarters of it read since the
 * kernel's last measurement, and the start of that only moves on. The slot is the
 * reader's own, and so is `copied_seq`; what the look itself needs was last
 * written where the packets arrive, most often another CPU. A slot that another
 * socket took costs a look, nothing more.
 */
struct look {
	__u64 sk;
	/* Sequence number at the look, and how many bytes on the next one is due. */
	__u32 from;
	__u32 span;
} __attribute__((aligned(64)));

#define LOOKS 1024

static struct look looks[LOOKS];

/*
 * Apart, and so is at_send_limit(): the common way through each program is then
 * three cache lines of code and saves no registers.
 */
static __noinline int look_at(struct sock *sk, struct look *look, __u64 id, __u32 seq)
{
	struct tcp_sock *tp = to_tcp_sock(sk);

	if (!tp)
		return 0;
	__u32 copied = seq - tp->rcvq_space.seq;
	__u32 window = tp->rcv_wnd;
	__u32 needed = window / 4 * 3;

	if (copied < needed) {
		look->sk = id;
		look->from = seq;
		look->span = needed - copied;
		return 0;
	}
	__u32 rtt = tp->rcv_rtt_est.rtt_us >> 3;
	__u64 elapsed = tp->tcp_mstamp - tp->rcvq_space.time;

	/* One sample per round trip, as the kernel's own autotuning takes it. */
	if (!rtt || elapsed < rtt || elapsed > 64ULL * rtt)
		return 0;

	struct net *net = sk->__sk_common.skc_net.net;
	__u32 locked = BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_RCVBUF_LOCK;
	__u32 buffer = sk->sk_rcvbuf;
	__u32 limit = net->ipv4.sysctl_tcp_rmem[2];
	__u8 moderate = net->ipv4.sysctl_tcp_moderate_rcvbuf;

	__u32 scenario = RECEIVE_LIMITED;

	/* Without autotuning a buffer stays at its first size: that is its limit. */
	if (!locked && moderate && buffer < limit / 2) {
		limit = net->ipv4.sysctl_tcp_rmem[1];
		if (buffer >= FIRST_ENOUGH || limit >= FIRST_ENOUGH)
			return 0;
		scenario = FIRST_WINDOW;
	}

	__u32 min_rtt = tp->rtt_min.s[0].v;

	if (!min_rtt || min_rtt > rtt)
		min_rtt = rtt;
	if (path_has_queue(rtt, min_rtt))
		return 0;

	__u64 per_rtt = (__u64)copied * rtt / elapsed;

	if (per_rtt * 4 < (__u64)window * 3)
		return 0;
	/* A reader that leaves half of the buffer unread is slow itself; two packets may be half of a first one. */
	if (scenario == RECEIVE_LIMITED && (__u32)sk->sk_backlog.rmem_alloc.counter > buffer / 2)
		return 0;

	__u64 cookie = net->net_cookie;
	__u32 count = pass_gate(cookie, scenario, !!locked, INTERVAL_NS);

	if (!count)
		return 0;
	struct tcp_buffer_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = scenario;
	e->head.count = count;
	e->head.netns_cookie = cookie;
	e->buffer = buffer;
	e->limit = limit;
	e->window = window;
	e->rate = (__u64)copied * 1000000 / elapsed;
	e->rtt_us = rtt;
	e->min_rtt_us = min_rtt;
	e->scaling_ratio = bpf_core_field_exists(tp->scaling_ratio) ? tp->scaling_ratio : 0;
	e->locked = !!locked;
	e->moderate_rcvbuf = moderate;
	fill_peer(e, sk);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(receive_space, struct sock *sk)
{
	struct tcp_sock *tp = to_tcp_sock(sk);

	if (!tp)
		return 0;
	/* A difference of pointers is the only arithmetic that makes a number of one. */
	__u64 id = (__u64)sk - (__u64)looks;
	struct look *look = &looks[(id >> 6) % LOOKS];
	__u32 seq = tp->copied_seq;

	if (look->sk != id || seq - look->from >= look->span)
		look_at(sk, look, id, seq);
	return 0;
}

/* The send buffer is at its limit: does the application wait, with everything on its way? */
static __noinline int at_send_limit(struct sock *sk, bool locked)
{
	struct socket *socket = sk->sk_socket;

	if (!socket || !(socket->flags & (1UL << SOCK_NOSPACE)))
		return 0;
	struct tcp_sock *tp = to_tcp_sock(sk);

	if (!tp || tp->write_seq != tp->snd_nxt)
		return 0;
	__u32 in_flight = tp->snd_nxt - tp->snd_una;
	__u32 rtt = tp->srtt_us >> 3;
	__u32 min_rtt = tp->rtt_min.s[0].v;

	if (!in_flight || !rtt)
		return 0;
	if (!min_rtt || min_rtt > rtt)
		min_rtt = rtt;
	/* The peer's window, not our buffer. */
	if (in_flight + tp->mss_cache > tp->snd_wnd)
		return 0;
	if (path_has_queue(rtt, min_rtt))
		return 0;

	struct net *net = sk->__sk_common.skc_net.net;
	__u64 cookie = net->net_cookie;
	__u32 count = pass_gate(cookie, SEND_LIMITED, locked, INTERVAL_NS);

	if (!count)
		return 0;
	struct tcp_buffer_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = SEND_LIMITED;
	e->head.count = count;
	e->head.netns_cookie = cookie;
	e->buffer = sk->sk_sndbuf;
	e->limit = net->ipv4.sysctl_tcp_wmem[2];
	e->window = in_flight;
	e->rate = (__u64)in_flight * 1000000 / rtt;
	e->rtt_us = rtt;
	e->min_rtt_us = min_rtt;
	e->locked = locked;
	e->moderate_rcvbuf = net->ipv4.sysctl_tcp_moderate_rcvbuf;
	fill_peer(e, sk);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __always_inline int tell_memory(struct sock *sk, long allocated)
{
	__u64 cookie = sk->__sk_common.skc_net.net->net_cookie;
	__u32 count = pass_gate(cookie, MEMORY_EXCEEDED, 0, INTERVAL_NS);

	if (!count)
		return 0;
	struct tcp_buffer_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	e->head.scenario = MEMORY_EXCEEDED;
	e->head.count = count;
	e->head.netns_cookie = cookie;
	e->rate = allocated;
	fill_peer(e, sk);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

static __noinline int look_at_memory(struct sock *sk)
{
	unsigned long *flag = sk->__sk_common.skc_prot->memory_pressure;
	unsigned long under = 0;

	if (flag && !bpf_probe_read_kernel(&under, sizeof(under), flag) && under)
		tell_memory(sk, 0);
	return 0;
}

/* The last jiffy in which somebody has looked at TCP's memory. */
static __u64 memory_jiffy;

SEC("tp_btf/tcp_probe")
int BPF_PROG(send_space, struct sock *sk)
{
	__u64 jiffy = bpf_jiffies64();

	if (memory_jiffy != jiffy) {
		memory_jiffy = jiffy;
		look_at_memory(sk);
	}
	struct net *net = sk->__sk_common.skc_net.net;
	bool locked = BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_SNDBUF_LOCK;

	if (locked || sk->sk_sndbuf >= net->ipv4.sysctl_tcp_wmem[2])
		at_send_limit(sk, locked);
	return 0;
}

/* A socket was refused memory: TCP as a whole is at its limit, or under pressure and this socket above its share. */
SEC("tp_btf/sock_exceed_buf_limit")
int BPF_PROG(memory_exceeded, struct sock *sk, struct proto *prot, long allocated)
{
	return bpf_skc_to_tcp_sock(sk) ? tell_memory(sk, allocated) : 0;
}

/*
 * Runs over the connections of one namespace after its receive limit was raised.
 *
 * The kernel grows a receive buffer only when more was copied in a round trip
 * than in any before. A connection whose window stood at the old limit copies
 * exactly that window each time and may never notice the new limit. Setting
 * SO_RCVLOWAT grows the buffer to hold that much (tcp_set_rcvlowat) without
 * fixing its size; putting the old value back leaves the buffer grown. The
 * iterator holds the socket's lock, so the application never sees the value in
 * between.
 */
SEC("iter/tcp")
int grow_waiting(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;

	if (!common)
		return 0;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(common);

	if (!tp || common->skc_state != TCP_ESTABLISHED)
		return 0;
	struct sock *sk = (struct sock *)common;
	__u32 buffer = BPF_CORE_READ(sk, sk_rcvbuf);

	if (BPF_CORE_READ_BITFIELD_PROBED(sk, sk_userlocks) & SOCK_RCVBUF_LOCK)
		return 0;
	__u32 limit = BPF_CORE_READ(common, skc_net.net, ipv4.sysctl_tcp_rmem[2]);

	/* Twice the window, unless autotuning has long grown past it. */
	if (buffer > limit / 2)
		return 0;
	int wanted = tp->rcv_wnd * 2;
	int before = BPF_CORE_READ(sk, sk_rcvlowat);

	/* Only where the window is in use: an idle connection needs nothing. */
	if (tp->rcv_rtt_est.rtt_us == 0 || tp->rcvq_space.space * 4 < tp->rcv_wnd * 3)
		return 0;
	bpf_setsockopt(common, SOL_SOCKET, SO_RCVLOWAT, &wanted, sizeof(wanted));
	bpf_setsockopt(common, SOL_SOCKET, SO_RCVLOWAT, &before, sizeof(before));
	return 0;
}
