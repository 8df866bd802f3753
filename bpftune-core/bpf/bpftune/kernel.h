/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel types that the tuners' BPF programs read, and of each only the
 * members they read. `preserve_access_index` makes libbpf look every member
 * up in the running kernel's BTF (CO-RE), so neither the order nor the offset
 * here means anything, and no generated vmlinux.h of 130,000 lines is needed.
 *
 * Members that a supported kernel (6.1 or newer) may lack must be guarded by
 * bpf_core_field_exists().
 */
#ifndef BPFTUNE_KERNEL_H
#define BPFTUNE_KERNEL_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef signed short __s16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef unsigned long long __u64;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __le16;
typedef __u32 __le32;
typedef __u64 __le64;
typedef __u16 __sum16;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* include/uapi/linux/bpf.h */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

/* include/net/tcp_states.h */
#define TCP_ESTABLISHED 1
#define TCP_SYN_RECV 3
#define TCP_LISTEN 10

/* include/net/sock.h: sk_userlocks; include/linux/net.h: socket flags */
#define SOCK_SNDBUF_LOCK 1
#define SOCK_RCVBUF_LOCK 2
#define SOCK_NOSPACE 2

/* include/uapi/asm-generic/socket.h */
#define SOL_SOCKET 1
#define SO_RCVLOWAT 18

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

struct netns_ipv4 {
	int sysctl_tcp_rmem[3];
	int sysctl_tcp_wmem[3];
	__u8 sysctl_tcp_moderate_rcvbuf;
	__u8 sysctl_tcp_syncookies;
	int sysctl_max_syn_backlog;
};

struct netns_core {
	int sysctl_somaxconn;
};

struct net {
	__u64 net_cookie;
	struct netns_core core;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
};

struct sock;

struct socket {
	unsigned long flags;
	struct sock *sk;
};

struct sock {
	struct sock_common __sk_common;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	__u8 sk_userlocks;
	int sk_rcvbuf;
	int sk_sndbuf;
	int sk_rcvlowat;
	__u16 sk_protocol;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	struct socket *sk_socket;
};

/* include/net/request_sock.h, include/net/inet_connection_sock.h, include/net/inet_sock.h */
struct request_sock_queue {
	atomic_t qlen;
};

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
};

struct request_sock {
	struct sock_common __req_common;
};

struct inet_request_sock {
	struct request_sock req;
	__u16 acked : 1;
};

struct minmax_sample {
	__u32 t;
	__u32 v;
};

struct minmax {
	struct minmax_sample s[3];
};

struct tcp_sock {
	__u32 snd_wnd;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 write_seq;
	__u32 mss_cache;
	__u32 srtt_us;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	struct minmax rtt_min;
	__u64 tcp_mstamp;
	__u32 copied_seq;
	__u32 rcv_wnd;
	__u8 scaling_ratio;
	struct {
		__u32 rtt_us;
	} rcv_rtt_est;
	struct {
		__u32 space;
		__u32 seq;
		__u64 time;
	} rcvq_space;
};

/* include/net/tcp.h, include/linux/bpf.h: the context of an iter/tcp program. */
struct bpf_iter__tcp {
	struct sock_common *sk_common;
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	int tgid;
	struct nsproxy *nsproxy;
};

/* include/linux/fs.h, include/linux/blk_types.h, include/linux/blkdev.h */
struct gendisk {
	int major;
	int first_minor;
};

struct block_device {
	struct gendisk *bd_disk;
};

struct super_block {
	struct block_device *s_bdev;
};

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
	__u32 i_rdev;
};

struct address_space {
	struct inode *host;
};

struct file_ra_state {
	unsigned int size;
	unsigned int async_size;
	unsigned int ra_pages;
};

struct file {
	struct inode *f_inode;
};

struct seq_file;

/* include/linux/bpf.h, kernel/bpf/task_iter.c: the context of an iter/task_file program. */
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* include/uapi/linux/bpf.h: the context of a cgroup/sysctl program. */
struct bpf_sysctl {
	__u32 write;
	__u32 file_pos;
};

struct bpf_map;
struct bpf_sock;
struct bpf_sock_ops;
struct sk_buff;
struct proto;

#endif
