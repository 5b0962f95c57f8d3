/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * names.h - writes down who has an id, and how it stands, in maps that outlive shuntd: what the next run needs to go on
 * with the others (adopt.h). The layout and its order of writing: shunt/abi.h.
 *
 * A backend's is written whenever something of it changes, and before anything else uses its id; a pool's too. A VIP's
 * details are written after its record, which is what packets see.
 */
#ifndef SHUNTD_NAMES_H
#define SHUNTD_NAMES_H

#include "shuntd/shuntd.h"

void names_backend(struct shuntd *shuntd, const struct backend_run *backend);
void names_backend_forget(struct shuntd *shuntd, uint32_t id);

/* The pool's newest id, and with it that of all its backends; gone ones too. */
void names_pool(struct shuntd *shuntd, const struct pool_run *pool);
void names_pool_forget(struct shuntd *shuntd, uint32_t id);

void names_vip_begin(struct shuntd *shuntd,
		     const struct vip_run *vip); /* before its record; nothing, if it has its name */
void names_vip(struct shuntd *shuntd, const struct vip_run *vip);
void names_vip_rename(struct shuntd *shuntd, const struct vip_run *vip);
void names_vip_forget(struct shuntd *shuntd, uint32_t id);

/* The reverse, of an entry that has a name. */
void names_backend_read(const struct backend_name *name, struct backend_run *backend);
void names_vip_read(const struct vip_name *name, struct config_vip *conf);

#endif
