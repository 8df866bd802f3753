// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which congestion control suits the path to a remote network?
 *
 * A connection that ends shows how fast it was while it had something to send,
 * how far its round trip stood above the minimum, and what it had to send again.
 * That is kept for each remote prefix (/24, /64) and algorithm. The namespace's
 * own algorithm stays until its connections lose more than LOSSY; then each of the
 * others is tried twice, and the best of them is chosen for new connections, with
 * one in EXPLORE that tries again. Where nothing is lost, nothing is tried.
 *
 * To measure costs a run of a program for a connection. To choose is dear: the
 * kernel asks a sockops program nine times or more for each connection. So that one is
 * attached only while there is a remote with something to choose, as user space is
 * told.
 *
 * Sockets whose application (or route) chose an algorithm are left alone.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "bpftune/event.h"
#define BPFTUNE_GATES 256
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define INTERVAL_NS 1000000000ULL
#define CALMED_NS 1000000ULL
/* The namespace's own, and three others. */
#define ARMS 4
/* Of 65536 segments: half of a hundredth, from which on others are tried; and below which they are forgotten. */
#define LOSSY 328
#define CALM 82
/* Two of a hundred: thin streams time out linearly. */
#define THIN 1310
#define TRIES 2
#define EXPLORE 32
/* What is sent by less says more of start-up than of the path. */
#define BYTES_LEAST 32768
#define SEGMENTS_LEAST 20

enum scenario {
	CHOICE = 1,
	/* A remote loses what it is sent: said again and again, for one may be swallowed. */
	LOSSES = 2,
	/* It no longer does: said once. */
	CALMED = 3,
};

struct algorithm {
	char name[16];
	/* 0: there is none at this place. */
	__u32 length;
	__u32 needs_ecn;
};

struct arm {
	/* Bytes a jiffy of busy time, less for a round trip above its minimum; smoothed. */
	__u64 score;
	__u32 tried;
	__u32 measured;
	/* The kernel refused it. */
	__u32 failed;
	__u32 pad;
};

struct remote_key {
	__u64 netns_cookie;
	/* The upper half of an IPv6 address; of IPv4 its upper three bytes, in order. */
	__u64 prefix;
	__u64 family;
};

struct remote {
	struct arm arms[ARMS];
	/* Share of segments sent again, of 65536, smoothed. */
	__u32 lost;
	__u32 best;
	__u32 connections;
	__u32 pad;
};

struct control {
	/* 1: algorithms may be set. */
	__u32 acts;
	/* 1: only where `places` says so. */
	__u32 confined;
};

/* Rust's mirror is `Choice` of source.rs. */
struct tcp_conn_event {
	struct bpftune_event head;
	struct remote_key key;
	struct remote remote;
	__u32 before;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ARMS);
	__type(key, __u32);
	__type(value, struct algorithm);
} algorithms SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

/* Namespaces by cookie: 1 may be changed, 2 must not. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, 1 /* BPF_F_NO_PREALLOC */);
	__type(key, __u64);
	__type(value, __u32);
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 2048);
	__type(key, struct remote_key);
	__type(value, struct remote);
} remotes SEC(".maps");

static __always_inline bool may_act(__u64 cookie)
{
	__u32 zero = 0;
	struct control *now = bpf_map_lookup_elem(&control, &zero);

	if (!now || !now->acts)
		return false;
	__u32 *place = bpf_map_lookup_elem(&places, &cookie);

	return now->confined ? place && *place == 1 : !place || *place != 2;
}

/* false: the connection does not leave the host. Addresses are as on the wire. */
static __always_inline bool remote_v4(struct remote_key *key, __u32 remote, __u32 local)
{
	__u32 v4 = bpf_ntohl(remote);

	key->family = AF_INET;
	key->prefix = v4 >> 8;
	return remote != local && v4 >> 24 != 127;
}

static __always_inline bool remote_v6(struct remote_key *key, const __u32 remote[4], __u32 local_v4)
{
	if (!remote[0] && !remote[1])
		return remote[2] == bpf_htonl(0xffff) && remote_v4(key, remote[3], local_v4);
	key->family = AF_INET6;
	key->prefix = (__u64)bpf_ntohl(remote[0]) << 32 | bpf_ntohl(remote[1]);
	return true;
}

static __always_inline bool calm(const struct remote *remote)
{
	return remote->lost < CALM && !remote->best;
}

static __always_inline bool same_name(const char *a, const char *b)
{
	const __u64 *left = (const __u64 *)a, *right = (const __u64 *)b;

	return left[0] == right[0] && left[1] == right[1];
}

/* Whether it may be tried here: it exists, is not the namespace's own, and has the ECN that it needs. */
static __always_inline bool usable(const struct arm *arm, const struct algorithm *algorithm,
				   const char *own, __u32 ecn)
{
	return algorithm && algorithm->length && arm->failed < TRIES &&
	       !same_name(algorithm->name, own) && (!algorithm->needs_ecn || (ecn & TCP_ECN_OK));
}

static __noinline __u32 choose(struct remote *remote, struct bpf_sock_ops *ctx, __u64 own_a, __u64 own_b)
{
	__u64 own[2] = { own_a, own_b };
	__u32 ecn = ctx->ecn_flags;
	__u32 best = remote->best;

	if (remote->lost < LOSSY || !remote->arms[0].measured)
		return best;
#pragma unroll
	for (__u32 i = 1; i < ARMS; i++) {
		/* A copy: the index that the verifier knows must not leave its register. */
		__u32 at = i;
		struct algorithm *algorithm = bpf_map_lookup_elem(&algorithms, &at);
		struct arm *arm = &remote->arms[i];

		if (arm->tried < TRIES && usable(arm, algorithm, (const char *)own, ecn))
			return i;
	}
	__u32 chance = bpf_get_prandom_u32();

	if (chance % EXPLORE == 0) {
		__u32 at = (chance >> 16) & (ARMS - 1);
		struct algorithm *algorithm = bpf_map_lookup_elem(&algorithms, &at);
		/* Index 0 has no algorithm: then it is the namespace's own. */
		__u32 i = (chance >> 16) & (ARMS - 1);
		struct arm *arm = &remote->arms[i];
		__u64 most = remote->arms[best & (ARMS - 1)].score;

		/* What was far worse is tried again an eighth as often. */
		if (arm->measured >= TRIES && arm->score < most / 2 && (chance >> 24) % 8)
			return best;
		if (usable(arm, algorithm, (const char *)own, ecn))
			return i;
		return 0;
	}
	return best;
}

static __noinline int established(struct bpf_sock_ops *ctx)
{
	struct remote_key key = { .netns_cookie = bpf_get_netns_cookie(ctx) };
	__u32 local = ctx->local_ip4;

	if (ctx->family == AF_INET6) {
		__u32 remote[4] = { ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3] };

		if (!remote_v6(&key, remote, local))
			return 0;
	} else if (!remote_v4(&key, ctx->remote_ip4, local)) {
		return 0;
	}
	struct remote *remote = bpf_map_lookup_elem(&remotes, &key);

	if (!remote || calm(remote))
		return 0;
	struct bpf_sock *bpf_sk = ctx->sk;

	if (!bpf_sk || !may_act(key.netns_cookie))
		return 0;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(bpf_sk);

	if (!tp)
		return 0;
	struct net *net = ((struct sock *)tp)->__sk_common.skc_net.net;
	const struct tcp_congestion_ops *own = net->ipv4.tcp_congestion_control;
	const struct tcp_congestion_ops *has = tp->inet_conn.icsk_ca_ops;

	/* Somebody has chosen: the application, or a route. */
	if (!own || has != own)
		return 0;
	if (remote->lost >= THIN) {
		int one = 1;

		bpf_setsockopt(ctx, SOL_TCP, TCP_THIN_LINEAR_TIMEOUTS, &one, sizeof(one));
	}
	__u64 name[2];

	bpf_probe_read_kernel(name, sizeof(name), own->name);
	__u32 chosen = choose(remote, ctx, name[0], name[1]);

	__u32 at = chosen & (ARMS - 1);
	struct arm *arm = &remote->arms[chosen & (ARMS - 1)];

	/* The first one's are counted as they end. */
	if (!chosen)
		return 0;
	arm->tried++;
	struct algorithm *algorithm = bpf_map_lookup_elem(&algorithms, &at);

	if (!algorithm || !algorithm->length)
		return 0;
	if (bpf_setsockopt(ctx, SOL_TCP, TCP_CONGESTION, algorithm->name, sizeof(algorithm->name))) {
		arm->failed++;
		if (remote->best == chosen)
			remote->best = 0;
	}
	return 0;
}

static __always_inline void tell(__u32 scenario, __u64 interval_ns, const struct remote_key *key,
				 const struct remote *remote, __u32 before)
{
	__u32 count = pass_gate(key->netns_cookie, scenario, 0, interval_ns);

	if (!count)
		return;
	struct tcp_conn_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return;
	e->head.scenario = scenario;
	e->head.count = count;
	e->head.netns_cookie = key->netns_cookie;
	e->key = *key;
	e->remote = *remote;
	e->before = before;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

/* The best of those that were measured; the namespace's own unless another is an eighth better. */
static __always_inline __u32 best_of(const struct remote *remote)
{
	__u64 most = remote->arms[0].score + remote->arms[0].score / 8;
	__u32 best = 0;

	for (__u32 i = 1; i < ARMS; i++) {
		const struct arm *arm = &remote->arms[i];

		if (arm->measured && arm->failed < TRIES && arm->score > most) {
			most = arm->score;
			best = i;
		}
	}
	return best;
}

static __always_inline __u64 smoothed(__u64 old, __u64 now, bool first)
{
	return first ? now : old - old / 4 + now / 4;
}

/* Of one connection: see struct arm. */
static __always_inline __u64 score(struct tcp_sock *tp)
{
	__u64 busy = (__u64)tp->chrono_stat[0] + tp->chrono_stat[1] + tp->chrono_stat[2] + 1;

	if (BPF_CORE_READ_BITFIELD(tp, chrono_type))
		busy += (__u32)((__u32)bpf_jiffies64() - tp->chrono_start);
	/* Sixteenths of the minimum that the round trip stands above it: at most twice the minimum. */
	__u32 rtt = tp->srtt_us >> 3, least = tp->rtt_min.s[0].v;
	__u64 excess = least && rtt > least ? (__u64)(rtt - least) * 16 / least : 0;

	if (excess > 32)
		excess = 32;
	return tp->bytes_acked * 64 / (64 + excess) / busy;
}

static __noinline int ended(struct tcp_sock *tp)
{
	const struct sock *sk = (struct sock *)tp;
	__u32 segments = tp->data_segs_out;

	if (tp->bytes_acked < BYTES_LEAST || segments < SEGMENTS_LEAST)
		return 0;
	struct net *net = sk->__sk_common.skc_net.net;
	struct remote_key key = { .netns_cookie = net->net_cookie };
	__u32 local = sk->__sk_common.skc_rcv_saddr;

	if (sk->__sk_common.skc_family == AF_INET6) {
		__u32 to[4];

		bpf_probe_read_kernel(to, sizeof(to), &sk->__sk_common.skc_v6_daddr);
		if (!remote_v6(&key, to, local))
			return 0;
	} else if (!remote_v4(&key, sk->__sk_common.skc_daddr, local)) {
		return 0;
	}
	struct remote *remote = bpf_map_lookup_elem(&remotes, &key);
	bool first = !remote;

	if (first) {
		struct remote new = {};

		bpf_map_update_elem(&remotes, &key, &new, BPF_NOEXIST);
		remote = bpf_map_lookup_elem(&remotes, &key);
		if (!remote)
			return 0;
	}
	bool was_calm = calm(remote);
	__u64 lost = (__u64)tp->total_retrans * 65536 / segments;

	remote->lost = smoothed(remote->lost, lost < 65536 ? lost : 65536, first);
	remote->connections++;

	/* Which one was it? */
	const struct tcp_congestion_ops *own = net->ipv4.tcp_congestion_control;
	const struct tcp_congestion_ops *has = tp->inet_conn.icsk_ca_ops;
	__u32 which = 0;

	if (!has)
		return 0;
	if (has != own) {
		__u64 name[2];

		bpf_probe_read_kernel(name, sizeof(name), has->name);
		for (__u32 i = 1; i < ARMS; i++) {
			__u32 at = i;
			struct algorithm *algorithm = bpf_map_lookup_elem(&algorithms, &at);

			if (algorithm && algorithm->length && same_name(algorithm->name, (const char *)name))
				which = i;
		}
	}
	struct arm *arm = &remote->arms[which & (ARMS - 1)];
	__u32 before = remote->best;
	__u32 best = before;

	/* Not where an application has chosen something else. */
	if (has == own || which) {
		arm->score = smoothed(arm->score, score(tp), !arm->measured);
		arm->measured++;
		if (!which)
			arm->tried++;
		if (remote->lost >= LOSSY)
			best = best_of(remote);
		else if (remote->lost < CALM)
			best = 0;
	}
	remote->best = best;
	if (!calm(remote))
		tell(LOSSES, INTERVAL_NS, &key, remote, before);
	else if (!was_calm)
		tell(CALMED, CALMED_NS, &key, remote, before);
	if (best != before)
		tell(CHOICE, INTERVAL_NS, &key, remote, before);
	return 0;
}

/* Once for each socket, when nothing more can happen to its connection. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(connection_ended, struct sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (tp)
		ended(tp);
	return 0;
}

SEC("sockops")
int choose_algorithm(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		established(ctx);
	return 1;
}
