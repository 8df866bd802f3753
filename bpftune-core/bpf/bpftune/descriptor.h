/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Sockets of running processes, for an iter/task_file program that tells user space
 * by which descriptors they can be reached.
 */
#ifndef BPFTUNE_DESCRIPTOR_H
#define BPFTUNE_DESCRIPTOR_H

#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* A socket and a descriptor that leads to it; Rust's mirror is in bpftune-tuners/src/reach.rs. */
struct socket_way {
	__u64 netns_cookie;
	__u64 inode;
	__u32 process;
	__u32 descriptor;
	/* The limit of it that may be changed. */
	__u32 size;
	__u32 port;
};

/*
 * The socket of this protocol that a file is, or NULL. Callers read ctx->file and
 * ctx->task once, and check them: the verifier trusts only what it saw checked.
 */
static __always_inline struct sock *socket_of(struct file *file, __u16 protocol)
{
	struct socket *socket = bpf_sock_from_file(file);

	if (!socket)
		return NULL;
	struct sock *sk = BPF_CORE_READ(socket, sk);

	if (!sk || BPF_CORE_READ(sk, sk_protocol) != protocol)
		return NULL;
	return sk;
}

static __always_inline void tell_way(struct bpf_iter__task_file *ctx, struct file *file,
				     struct task_struct *task, struct sock *sk, __u32 size)
{
	struct socket_way way = {
		.netns_cookie = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie),
		.inode = BPF_CORE_READ(file, f_inode, i_ino),
		.process = BPF_CORE_READ(task, tgid),
		.descriptor = ctx->fd,
		.size = size,
		.port = BPF_CORE_READ(sk, __sk_common.skc_num),
	};

	bpf_seq_write(ctx->meta->seq, &way, sizeof(way));
}

#endif
