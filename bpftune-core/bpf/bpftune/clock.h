/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The time for programs that run often and need no better than a jiffy (1 to 10 ms).
 *
 * Reading the clock costs more than the rest of such a program. The count of
 * jiffies is a load from memory (the verifier makes it one), so the clock is read
 * when that has moved on.
 */
#ifndef BPFTUNE_CLOCK_H
#define BPFTUNE_CLOCK_H

static __u64 clock_jiffy;
static __u64 clock_ns;

/*
 * bpf_ktime_get_ns() of this jiffy's first call. Two processors may disagree by a
 * jiffy, so compare `now > then + span`, never `now - then > span`.
 */
static __always_inline __u64 coarse_ns(void)
{
	__u64 jiffy = bpf_jiffies64();

	if (clock_jiffy != jiffy) {
		clock_ns = bpf_ktime_get_ns();
		clock_jiffy = jiffy;
	}
	return clock_ns;
}

#endif
