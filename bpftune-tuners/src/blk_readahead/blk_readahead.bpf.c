// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is a device's readahead as long as its readers can use?
 *
 * page_cache_ra_order runs when a window of pages is about to be read ahead of
 * need: never for pages that are in memory, and once for a whole window, so at most
 * once for each request that the device gets. The file's readahead state says which
 * kind of window it is (mm/readahead.c, mm/filemap.c):
 *
 *  - Read around: a page of a mapped file was touched, and as much as readahead may
 *    be long is read around it. Marked after three quarters; a program that goes on
 *    to the mark gets the next window as a stream.
 *  - Stream: a reader has reached the mark of the window before. These double until
 *    they are as long as readahead may be: "full".
 *
 * Counted here for each device and length of readahead: a file keeps the length
 * that its device had when the file was opened, and only files that have today's
 * length say anything about today's value. One event a second at most, for each of
 * them, and only where something can be done. Nothing is attached to anything that
 * runs when pages are in memory, except while a trial asks for it ("demand").
 *
 * The tracepoints are in Linux since 6.18.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/disk.h"
#include "bpftune/event.h"

char LICENSE[] SEC("license") = "GPL";

#define SECOND_NS 1000000000ULL
/* Windows that ended so late were followed by silence: they say nothing of now. */
#define STALE_NS (3 * SECOND_NS)
/* The kernel pays no attention to what so few windows cost. */
#define LEAST_AROUND 8
#define LEAST_FULL 64

enum scenario {
	WASTED = 1,
	SHORT = 2,
};

struct key {
	/* The disk, also where a partition of it is mounted: the length is the disk's. */
	__u32 dev;
	/* How long readahead may be, pages. */
	__u32 ra_pages;
};

struct windows {
	__u64 since_ns;
	__u32 around;
	__u32 full;
	/* Streams that are still growing, and whatever else. */
	__u32 other;
	__u32 pad;
};

struct blk_readahead_event {
	struct bpftune_event head;
	__u32 dev;
	__u32 ra_pages;
	__u32 around;
	__u32 full;
	__u32 other;
	/* The time in which these were counted. */
	__u32 over_ms;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 128);
	__type(key, struct key);
	__type(value, struct windows);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 * 1024);
} events SEC(".maps");

/* The device whose demand is counted, 0 for none: set while a trial may need it. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} focus SEC(".maps");

/* How programs asked for pages. */
enum way {
	BY_READ,
	BY_MAPPING,
	WAYS,
};

/* Pages of its files that programs asked for, in memory or not: by each way. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WAYS);
	__type(key, __u32);
	__type(value, __u64);
} demand SEC(".maps");

/* The last read(2) of a wanted file on this processor. */
struct reading {
	__u64 mapping;
	__u64 index;
	__u64 last;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct reading);
} reading SEC(".maps");

/* The disk below a file; 0 where there is none (a network file system, memory). */
static __always_inline __u32 disk_of(const struct inode *inode)
{
	struct super_block *sb = inode->i_sb;
	struct block_device *bdev = sb->s_bdev;

	if (bdev)
		return dev_of(bdev->bd_disk);
	/* The device file itself. */
	return inode->i_rdev;
}

static __always_inline void tell(const struct key *key, const struct windows *seen, __u64 over_ns)
{
	__u32 scenario;
	struct blk_readahead_event *event;

	if (seen->around >= LEAST_AROUND && seen->around >= 4 * (seen->full + seen->other))
		scenario = WASTED;
	else if (seen->full >= LEAST_FULL)
		scenario = SHORT;
	else
		return;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return;
	event->head.scenario = scenario;
	event->head.count = scenario == WASTED ? seen->around : seen->full;
	event->head.netns_cookie = 0;
	event->dev = key->dev;
	event->ra_pages = key->ra_pages;
	event->around = seen->around;
	event->full = seen->full;
	event->other = seen->other;
	event->over_ms = over_ns / 1000000;
	bpf_ringbuf_submit(event, 0);
}

SEC("tp_btf/page_cache_ra_order")
int BPF_PROG(page_cache_ra_order, struct inode *inode, unsigned long index, struct file_ra_state *ra)
{
	__u32 size = ra->size, async_size = ra->async_size;
	struct key key = { .dev = disk_of(inode), .ra_pages = ra->ra_pages };
	__u64 now = bpf_ktime_get_ns();
	struct windows *seen;

	if (!key.dev || !key.ra_pages)
		return 0;
	seen = bpf_map_lookup_elem(&windows, &key);
	if (!seen) {
		struct windows first = { .since_ns = now };

		bpf_map_update_elem(&windows, &key, &first, BPF_NOEXIST);
		return 0;
	}
	__u64 since = seen->since_ns, over = now - since;

	/* Two CPUs at once: one of them tells, and what the other counts meanwhile is a window more or less. */
	if (over >= SECOND_NS && __sync_val_compare_and_swap(&seen->since_ns, since, now) == since) {
		struct windows last = *seen;

		seen->around = 0;
		seen->full = 0;
		seen->other = 0;
		if (over < STALE_NS)
			tell(&key, &last, over);
	}
	/* do_sync_mmap_readahead() makes exactly these. */
	if (size == key.ra_pages && size >= 4 && async_size == size / 4)
		__sync_fetch_and_add(&seen->around, 1);
	else if (size >= key.ra_pages && async_size == size)
		__sync_fetch_and_add(&seen->full, 1);
	else
		__sync_fetch_and_add(&seen->other, 1);
	return 0;
}

static __always_inline bool wanted(const struct address_space *mapping)
{
	__u32 zero = 0, *device = bpf_map_lookup_elem(&focus, &zero);

	return device && *device && disk_of(mapping->host) == *device;
}

static __always_inline void add_demand(__u32 way, __u64 pages)
{
	__u64 *sum = bpf_map_lookup_elem(&demand, &way);

	if (sum)
		*sum += pages;
}

/*
 * Once for each run of pages that are in memory. Where one is still on its way, the same
 * read(2) comes back for the rest: that is no more demand, or slow readahead would look
 * like much of it.
 */
SEC("tp_btf/mm_filemap_get_pages")
int BPF_PROG(mm_filemap_get_pages, struct address_space *mapping, unsigned long index, unsigned long last)
{
	__u32 zero = 0;
	struct reading *before;

	if (!wanted(mapping))
		return 0;
	before = bpf_map_lookup_elem(&reading, &zero);
	if (!before)
		return 0;
	bool the_rest = before->mapping == (__u64)mapping && before->last == last && index > before->index;

	before->mapping = (__u64)mapping;
	before->index = index;
	before->last = last;
	if (!the_rest)
		add_demand(BY_READ, last > index ? last - index : 1);
	return 0;
}

/* Pages that were in memory, mapped at once around the one that was touched. */
SEC("tp_btf/mm_filemap_map_pages")
int BPF_PROG(mm_filemap_map_pages, struct address_space *mapping, unsigned long first, unsigned long last)
{
	if (wanted(mapping))
		add_demand(BY_MAPPING, 1);
	return 0;
}

SEC("tp_btf/mm_filemap_fault")
int BPF_PROG(mm_filemap_fault, struct address_space *mapping, unsigned long index)
{
	if (wanted(mapping))
		add_demand(BY_MAPPING, 1);
	return 0;
}
