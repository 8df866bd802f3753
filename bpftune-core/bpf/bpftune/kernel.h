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
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
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
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT1 4
#define TCP_FIN_WAIT2 5
#define TCP_CLOSE_WAIT 8
#define TCP_LAST_ACK 9
#define TCP_SYN_RECV 3
#define TCP_CLOSE 7
#define TCP_LISTEN 10

/* include/net/sock.h: sk_userlocks; include/linux/net.h: socket flags */
#define SOCK_SNDBUF_LOCK 1
#define SOCK_RCVBUF_LOCK 2
#define SOCK_BINDPORT_LOCK 8
#define SOCK_NOSPACE 2

/* include/uapi/asm-generic/socket.h */
#define SOL_SOCKET 1
#define SO_RCVLOWAT 18

/* include/uapi/linux/tcp.h */
#define SOL_TCP 6
#define TCP_CONGESTION 13
#define TCP_THIN_LINEAR_TIMEOUTS 16

/* include/net/tcp.h: ecn_flags */
#define TCP_ECN_OK 1

/* include/net/neighbour.h: states in which an entry has an address */
#define NUD_VALID (0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08)

/* include/net/dropreason-core.h: read by bpf_core_enum_value() only, for the numbers differ between kernels */
enum skb_drop_reason {
	SKB_DROP_REASON_NOT_SPECIFIED,
	SKB_DROP_REASON_NETFILTER_DROP,
	SKB_DROP_REASON_CPU_BACKLOG,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	long counter;
} atomic_long_t;

/* include/net/inet_frag.h */
struct fqdir {
	long high_thresh;
	atomic_long_t mem;
};

/* include/net/tcp.h */
struct tcp_congestion_ops {
	char name[16];
};

struct netns_ipv4 {
	struct fqdir *fqdir;
	int sysctl_tcp_rmem[3];
	int sysctl_tcp_wmem[3];
	__u8 sysctl_tcp_moderate_rcvbuf;
	__u8 sysctl_tcp_syncookies;
	int sysctl_max_syn_backlog;
	const struct tcp_congestion_ops *tcp_congestion_control;
};

struct netns_core {
	int sysctl_somaxconn;
};

/* Absent from struct net in a kernel without IPv6. */
struct netns_ipv6 {
	struct fqdir *fqdir;
};

struct net {
	__u64 net_cookie;
	struct netns_core core;
	struct netns_ipv4 ipv4;
	struct netns_ipv6 ipv6;
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

/* include/net/netdev_rx_queue.h, before Linux 6.5 include/linux/netdevice.h; both members need CONFIG_RPS */
struct rps_map;
struct rps_dev_flow_table;

struct netdev_rx_queue {
	struct rps_map *rps_map;
	struct rps_dev_flow_table *rps_flow_table;
};

struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
	struct in_device *ip_ptr;
	struct netdev_rx_queue *_rx;
	unsigned int real_num_rx_queues;
};

struct napi_struct {
	/* None where it is a processor's own queue. */
	struct net_device *dev;
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

/* include/net/sock.h */
struct proto {
	unsigned long *memory_pressure;
};

struct sock_common {
	struct proto *skc_prot;
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	/* That which handled the last packet. */
	int skc_incoming_cpu;
};

struct sock;

struct socket {
	unsigned long flags;
	struct sock *sk;
};

/* include/linux/skbuff.h; without connection tracking an skb has no _nfct */
struct sk_buff {
	struct sock *sk;
	struct net_device *dev;
	__be16 protocol;
	/* Of the flow; 0 where nobody has asked for it yet. */
	__u32 hash;
	__u16 network_header;
	unsigned char *head;
	unsigned long _nfct;
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
	/* Four bits of a byte before Linux 6.5: read by BPF_CORE_READ_BITFIELD, which takes whole bytes, too. */
	__u8 sk_userlocks;
	int sk_rcvbuf;
	int sk_sndbuf;
	int sk_rcvlowat;
	__u16 sk_protocol;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	struct socket *sk_socket;
	/* Of the device that packets come by. */
	int sk_rx_dst_ifindex;
};

/* include/net/request_sock.h, include/net/inet_connection_sock.h, include/net/inet_sock.h */
struct request_sock_queue {
	atomic_t qlen;
};

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
	const struct tcp_congestion_ops *icsk_ca_ops;
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
	struct inet_connection_sock inet_conn;
	__u8 chrono_type : 2;
	__u32 chrono_start;
	__u32 chrono_stat[3];
	__u32 snd_wnd;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 write_seq;
	__u32 mss_cache;
	__u32 srtt_us;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	struct minmax rtt_min;
	__u64 bytes_acked;
	__u32 data_segs_out;
	__u32 total_retrans;
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

/* kernel/sched/autogroup.h, kernel/sched/sched.h */
struct autogroup {
	/* As /proc/PID/autogroup shows it. */
	unsigned long id;
};

struct task_group {
	struct task_group *parent;
	struct autogroup *autogroup;
};

struct signal_struct {
	int nr_threads;
	unsigned int is_child_subreaper : 1;
	struct autogroup *autogroup;
};

/* include/linux/sched.h: what the scheduler has summed up of a task, ns. The first needs CONFIG_SCHED_INFO. */
struct sched_info {
	unsigned long long run_delay;
	unsigned long long last_arrival;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

/* include/linux/mm_types.h */
struct mm_struct {
	int map_count;
	/* Not null once the process had a context of io_setup(2); needs CONFIG_AIO. */
	struct kioctx_table *ioctx_table;
};

/* include/linux/sched.h: of task_struct.flags */
#define PF_KTHREAD 0x00200000

struct task_struct {
	struct mm_struct *mm;
	unsigned int flags;
	unsigned int policy;
	struct sched_entity se;
	struct task_group *sched_task_group;
	struct sched_info sched_info;
	/* How often it gave up its processor by itself. */
	unsigned long nvcsw;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_time;
	const struct cred *cred;
	char comm[16];
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
};

/* include/linux/fs.h, include/linux/blk_types.h, include/linux/blkdev.h */
struct gendisk {
	int major;
	int first_minor;
};

struct block_device {
	struct gendisk *bd_disk;
};

/* Numbers of flags differ between kernels: bpf_core_enum_value() only. */
enum req_flag_bits {
	__REQ_RAHEAD = 19,
};

struct bvec_iter {
	unsigned int bi_size;
};

struct bio {
	struct bio *bi_next;
	struct block_device *bi_bdev;
	__u32 bi_opf;
	struct bvec_iter bi_iter;
};

struct request {
	struct bio *bio;
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

/* include/linux/percpu_counter.h, include/linux/backing-dev-defs.h, include/trace/events/writeback.h */
struct percpu_counter {
	__s64 count;
};

struct bdi_writeback {
	/* WB_RECLAIMABLE, WB_WRITEBACK, and two more */
	struct percpu_counter stat[4];
	/* pages a second */
	unsigned long avg_write_bandwidth;
};

/* mm/internal.h */
struct compact_control {
	unsigned int gfp_mask;
	int order;
	/* for the task itself, not by kcompactd */
	bool direct_compaction;
};

/* include/trace/events/syscalls.h: the context of tracepoint/syscalls/sys_exit_*. */
struct trace_event_raw_sys_exit {
	long ret;
};

struct trace_event_raw_balance_dirty_pages {
	/* ms; not positive where the writer may go on */
	long pause;
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

/* include/uapi/linux/bpf.h: the context of a cgroup/sysctl program. */
struct bpf_sysctl {
	__u32 write;
	__u32 file_pos;
};

/* include/uapi/linux/bpf.h: the context of a sockops program, as far as it is read. */
struct bpf_sock;

struct bpf_sock_ops {
	__u32 op;
	union {
		__u32 args[4];
		__u32 reply;
		__u32 replylong[4];
	};
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;
	__u32 snd_ssthresh;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

enum {
	BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB = 4,
	BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB = 5,
	BPF_SOCK_OPS_STATE_CB = 10,
};

#define BPF_SOCK_OPS_STATE_CB_FLAG (1 << 2)

struct bpf_map;

#endif
