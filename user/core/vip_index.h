/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * vip_index.h - writes what shunt/vips.h describes, while packets read it. Pure: the memory is the caller's.
 */
#ifndef SHUNT_CORE_VIP_INDEX_H
#define SHUNT_CORE_VIP_INDEX_H

#include "shunt/abi.h"

struct vip_index {
	__u64 *buckets; /* VIP_BUCKETS of them, 0 at first */
	struct vip *records; /* VIP_RECORDS of them; 0 is never used */
	__u32 next; /* where to look for a free record; starts at 0 */
};

/*
 * Add a VIP or replace it, in one step for packets: a new record is written, then the bucket points to it. The old record is
 * left as it is and is the last to be used again, VIP_RECORDS / 2 changes later, when no packet can still be reading it.
 * 0, or -ENOSPC: no bucket near its hash is free (more VIPs than SHUNT_MAX_VIPS, or a very odd set of them).
 */
int vip_index_set(struct vip_index *index, const struct vip *vip);

/* Take a VIP out; 0 or -ENOENT. */
int vip_index_delete(struct vip_index *index, const struct vip_key *key);

/* Its record, or NULL. */
const struct vip *vip_index_find(const struct vip_index *index, const struct vip_key *key);

#endif
