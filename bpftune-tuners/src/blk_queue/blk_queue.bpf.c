// SPDX-License-Identifier: GPL-2.0-only
/*
 * How long do requests wait, and behind what?
 *
 * A read or write is a bio from when a file system hands it down until it is told of
 * its end, so a bio's time has all of the waiting in it: for room in the queue, in
 * the scheduler, in the device. (A request's own time begins only once it has got
 * room.) Each device's bios are counted here, and of some the time is taken: of all
 * where they are few, of one in so many where there are thousands a second. Reads
 * ahead of need are left out, for nobody waits for them.
 *
 * Times go into a histogram for each device and processor, which user space reads
 * when it is told that something waited for long, once a second and device at most.
 */
#include "bpftune/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "bpftune/disk.h"
#include "bpftune/event.h"
#define BPFTUNE_GATES 64
#define BPFTUNE_RING_BYTES (16 * 1024)
#include "bpftune/gate.h"

char LICENSE[] SEC("license") = "GPL";

#define SECOND_NS 1000000000ULL
/* Longer than any request needs of a device that has nothing else to do, but a disk that turns. */
#define LONG_NS 2000000ULL
/* Of so many bios a second and processor the time of each is taken. */
#define EACH 1024
/* So many bios of a request are looked at. */
#define MERGED 32
/* Steps of the histogram: four for each power of two, from a microsecond on. */
#define STEPS 96
#define FIRST_BIT 10

enum scenario {
	WAITS = 1,
};

enum way {
	READ = 0,
	WRITE = 1,
	WAYS = 2,
};

struct blk_queue_event {
	struct bpftune_event head;
	__u32 dev;
	__u32 pad;
};

/* Rust's mirror is in sums.rs. */
struct sums {
	__u64 bios[WAYS];
	__u64 bytes[WAYS];
	/* Of those whose time was taken. */
	__u64 timed[WAYS];
	__u64 waited_ns[WAYS];
	/* Reads by their time. */
	__u32 reads[STEPS];
	/* When `bios` were `then`, and of how many bios the time of one is taken. */
	__u64 since_ns[WAYS];
	__u64 then[WAYS];
	__u64 each[WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, struct sums);
} devices SEC(".maps");

struct start {
	__u64 at_ns;
	__u32 dev;
	__u32 way;
};

/* Bios under way whose time is taken, by their address. One whose end is never told of makes room in time. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct start);
} under_way SEC(".maps");

/* include/linux/blk_types.h */
#define REQ_OP_MASK 0xff

/* May be beyond the last one. */
static __always_inline __u64 step_of(__u64 ns)
{
	__u32 bit = FIRST_BIT;
	__u64 value = ns >> FIRST_BIT;

	if (!value)
		return 0;
	/* The highest bit, by halves. */
	__u32 high = 0;

	if (value >> 16) {
		value >>= 16;
		high += 16;
	}
	if (value >> 8) {
		value >>= 8;
		high += 8;
	}
	if (value >> 4) {
		value >>= 4;
		high += 4;
	}
	if (value >> 2) {
		value >>= 2;
		high += 2;
	}
	if (value >> 1)
		high += 1;
	/* The two bits below it. */
	return high * 4 + ((ns >> (bit + high - 2)) & 3);
}

static __always_inline struct sums *sums_of(__u32 dev)
{
	struct sums *sums = bpf_map_lookup_elem(&devices, &dev);

	if (sums)
		return sums;
	/* Too large for the stack. */
	static const struct sums none;

	bpf_map_update_elem(&devices, &dev, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&devices, &dev);
}

SEC("tp_btf/block_bio_queue")
int BPF_PROG(bio_queued, struct bio *bio)
{
	__u32 opf = bio->bi_opf, way = opf & REQ_OP_MASK, size = bio->bi_iter.bi_size;

	if (way >= WAYS || !size)
		return 0;
	if (way == READ && opf & (1U << bpf_core_enum_value(enum req_flag_bits, __REQ_RAHEAD)))
		return 0;
	struct block_device *bdev = bio->bi_bdev;
	__u32 dev = dev_of(bdev->bd_disk);
	struct sums *sums = sums_of(dev);

	if (!sums)
		return 0;
	sums->bytes[way] += size;
	__u64 count = ++sums->bios[way];

	if (sums->each[way] > 1 && count % sums->each[way])
		return 0;
	struct start start = { .at_ns = bpf_ktime_get_ns(), .dev = dev, .way = way };
	__u64 key = (__u64)bio, over = start.at_ns - sums->since_ns[way];

	bpf_map_update_elem(&under_way, &key, &start, BPF_ANY);
	if (over >= SECOND_NS) {
		/* What came before a pause tells nothing of now. */
		sums->each[way] = over < 2 * SECOND_NS ? (count - sums->then[way]) / EACH + 1 : 1;
		sums->since_ns[way] = start.at_ns;
		sums->then[way] = count;
	}
	return 0;
}

static __always_inline void ended(__u64 key)
{
	struct start *start = bpf_map_lookup_elem(&under_way, &key);

	if (!start)
		return;
	__u64 waited = bpf_ktime_get_ns() - start->at_ns;
	__u32 dev = start->dev, way = start->way;

	bpf_map_delete_elem(&under_way, &key);
	struct sums *sums = sums_of(dev);

	if (!sums || way >= WAYS)
		return;
	sums->timed[way]++;
	sums->waited_ns[way] += waited;
	if (way == READ) {
		__u64 step = step_of(waited);

		/* Compared as it is used: Linux 6.1 follows nothing else. */
		barrier_var(step);
		if (step < STEPS)
			sums->reads[step]++;
		else
			sums->reads[STEPS - 1]++;
	}
	if (waited < LONG_NS)
		return;
	__u32 count = pass_gate(dev, WAITS, 0, SECOND_NS);
	struct blk_queue_event *e = count ? bpf_ringbuf_reserve(&events, sizeof(*e), 0) : NULL;

	if (!e)
		return;
	e->head.scenario = WAITS;
	e->head.count = count;
	e->head.netns_cookie = 0;
	e->dev = dev;
	e->pad = 0;
	bpf_ringbuf_submit(e, 0);
}

/* Of devices that take bios as they are. */
SEC("tp_btf/block_bio_complete")
int BPF_PROG(bio_ended, void *queue, struct bio *bio)
{
	ended((__u64)bio);
	return 0;
}

/* Bios that were merged into one request end with it; the kernel tells of none of them by itself. */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(request_ended, struct request *rq)
{
	struct bio *bio = rq->bio;

	for (int at = 0; at < MERGED && bio; at++) {
		ended((__u64)bio);
		bio = bio->bi_next;
	}
	return 0;
}
