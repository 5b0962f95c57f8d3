/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * pools.h - the pools' tables and the VIPs' records as they run: brought into line with who is alive and with what the
 * configuration says, and handed to the kernel so that no flow notices. Runs in the main loop.
 */
#ifndef SHUNTD_POOLS_H
#define SHUNTD_POOLS_H

#include "shuntd/shuntd.h"

/* A new pool's first table, or the table anew where nothing is to be led over. 0 or -errno. */
int pool_load(struct shuntd *shuntd, struct pool_run *pool);

/* The same, in two steps, for a pool that an earlier run has left: the table as it should be, from who is in the pool... */
int pool_table(struct shuntd *shuntd, struct pool_run *pool);
/* ...then the kernel's is compared with it, and what that run has begun is brought to its end: pool->moving, as below. */
int pool_adopt(struct shuntd *shuntd, struct pool_run *pool);

/* A backend of the pool may be an heir from now on, or no more. pools_swap() hands the table to the kernel. */
void pool_follow(const struct backend_run *backend, bool alive);

/*
 * Swap in the tables whose heirs changed, once for all that happened together: the kernel's call returns only after
 * every packet that may still read the old table has gone (some 10 ms), though packets see the new one from its start.
 * While clients are being told nothing is swapped: it waits for a later call.
 */
void pools_swap(struct shuntd *shuntd);

/*
 * The pool's members, weights or number of slots changed: build its table anew and lead its flows over. Packets see the
 * old table or the new one; flows that nobody recorded follow the old one until all recorded ones know their new owner
 * (journal.h). pool->moving until then. 0 or -errno, and then the old table serves on.
 */
int pool_rebuild(struct shuntd *shuntd, struct pool_run *pool, uint32_t n_slots);

/*
 * Lead one VIP over to another pool, or to another part of its flows that is hashed: as pool_rebuild(). `conf` is what
 * holds from now on. No pool may be moving.
 */
int vip_switch(struct shuntd *shuntd, struct vip_run *vip, const struct config_vip *conf, struct pool_run *pool);

/* Whether any pool's flows are being led over. */
bool pools_moving(const struct shuntd *shuntd);

/* Write a VIP's record and its policing. 0 or -errno. */
int vip_load(struct shuntd *shuntd, const struct vip_run *vip);

/*
 * Write every VIP's record anew with the flags that hold now: VIP_JOURNAL (TCP), VIP_POLICED, VIP_MIGRATING while its
 * slots move, VIP_CONFIRM while shuntd->confirm. 0 or -errno of the first that failed.
 */
int vips_flags_apply(struct shuntd *shuntd);

#endif
