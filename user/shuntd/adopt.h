/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * adopt.h - from the maps of an earlier run back to what ran. The maps are the truth of how things were, wherever that run
 * was killed; the file says how they shall be. What leads from the one to the other is a reload: shuntd_take_over().
 */
#ifndef SHUNTD_ADOPT_H
#define SHUNTD_ADOPT_H

#include "shuntd/shuntd.h"

/*
 * Make shuntd->backends, pools and vips from the maps, and shuntd->config: what it was, which becomes shuntd->wanted, but with
 * the backends, pools and VIPs that ran, and seed and capacity that they ran with. Nothing is written. 0; -EINVAL: the maps
 * make no sense; or -ENOMEM. After an error nothing has changed.
 */
int adopt_read(struct shuntd *shuntd);

/*
 * After that, before any round is asked: finish what the earlier run had begun, so that it goes on as if shuntd had been
 * there all the time. Tables may have to be led over: pools_moving(). 0 or -errno with *why.
 */
int adopt_resume(struct shuntd *shuntd, const char **why);

#endif
