/* SPDX-License-Identifier: GPL-2.0-only */
/* The number of a disk, as the kernel has it inside. Include it after kernel.h. */
#ifndef BPFTUNE_DISK_H
#define BPFTUNE_DISK_H

/* include/linux/kdev_t.h */
#define MINORBITS 20

static __always_inline __u32 dev_of(const struct gendisk *disk)
{
	return (__u32)disk->major << MINORBITS | (__u32)disk->first_minor;
}

#endif
