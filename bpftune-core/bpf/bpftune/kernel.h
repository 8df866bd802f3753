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
#define IPPROTO_UDP 17

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

/* include/net/neighbour.h: states in which an entry has an address */
#define NUD_VALID (0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08)

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

struct in_ifaddr {
	struct in_ifaddr *ifa_next;
	unsigned char ifa_prefixlen;
};

struct in_device {
	struct in_ifaddr *ifa_list;
};

struct net_device {
	char name[16];
	possible_net_t nd_net;
	struct in_device *ip_ptr;
};

/* include/net/neighbour.h */
struct neigh_table {
	int family;
	int gc_thresh2;
	int gc_thresh3;
	atomic_t gc_entries;
};

struct neighbour {
	struct neigh_table *tbl;
	__u8 nud_state;
	struct net_device *dev;
};

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

struct sk_buff_head {
	__u32 qlen;
};

struct sock {
	struct sock_common __sk_common;
	struct sk_buff_head sk_receive_queue;
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

/* include/linux/udp.h */
struct udp_sock {
	struct sk_buff_head reader_queue;
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

/* include/linux/ns_common.h, include/linux/pid_namespace.h, include/linux/pid.h */
struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	/* The highest bit is no part of the number. */
	unsigned int pid_allocated;
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

/* include/linux/user_namespace.h: what a user holds in a user namespace, and the most that one there may */
typedef struct {
	__s64 counter;
} atomic64_t;

enum ucount_type {
	UCOUNT_USER_NAMESPACES = 0,
	UCOUNT_INOTIFY_INSTANCES = 8,
	UCOUNT_INOTIFY_WATCHES = 9,
};

struct ucounts;

struct user_namespace {
	struct user_namespace *parent;
	struct ucounts *ucounts;
	long ucount_max[10];
};

struct ucounts {
	struct user_namespace *ns;
	atomic64_t ucount[10];
};

typedef struct {
	__u32 val;
} kuid_t;

/* include/linux/cred.h, include/linux/sched/signal.h, include/linux/sched.h */
struct cred {
	kuid_t euid;
	struct ucounts *ucounts;
};

struct signal_struct {
	int nr_threads;
	unsigned int is_child_subreaper : 1;
};

struct task_struct {
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct pid *thread_pid;
	__u64 start_time;
	const struct cred *cred;
	char comm[16];
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
};

struct inode {
	unsigned long i_ino;
};

struct file {
	struct inode *f_inode;
};

struct seq_file;

/* include/linux/bpf.h, kernel/bpf/task_iter.c: the contexts of iter/task and iter/task_file programs. */
struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

/* A program on tracepoint/syscalls/sys_exit_*: /sys/kernel/tracing/events/syscalls/<name>/format. */
struct syscall_exit {
	__u64 common;
	long number;
	long ret;
};

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
