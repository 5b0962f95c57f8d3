/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * shuntd.h - the controller's state, as its parts see it. One thread owns all of it (the main loop); the prober's
 * thread touches only what prober.h names.
 *
 * What runs outlives the configuration it came from: backends, pools and VIPs are known by ids that a reload doesn't
 * change, and own a copy of what the configuration says of them.
 */
#ifndef SHUNTD_H
#define SHUNTD_H

#include "common/pins.h"
#include "core/admission.h"
#include "core/config.h"
#include "core/pace.h"
#include "core/table.h"
#include "shunt/heartbeat.h"
#include "shuntd/dataplane.h"
#include "shuntd/ledger.h"
#include "shuntd/netlink.h"
#include "shuntd/prober.h"
#include "shuntd/service.h"

/* A pool as it runs. */
struct pool_run {
	uint32_t id; /* index in the maps `tables` and `tables_before` */
	uint32_t id_before; /* the same, but while its number of slots changes: then it has two */
	char name[CONFIG_NAME_MAX];
	uint32_t n_slots;
	uint32_t n_slots_wanted; /* by the configuration: another while it is stale */
	uint8_t max_soft_eject; /* percent: config_pool */
	bool stale; /* its table is not yet what the configuration says: reload.c */
	bool removed; /* the configuration no longer has it; it waits for its backends to go */
	bool moving; /* slots changed owner and not all flows know it yet: journal_move() */
	uint64_t moved_ns; /* CLOCK_MONOTONIC, when that began */
	struct table *table;
	uint32_t heirs_changed; /* slots, since the newest table swap */
	uint64_t build_ns; /* time it took to find them */
	uint32_t heirs_swapped; /* slots whose heir became another by the newest table swap */
	uint64_t rebuilt_ns; /* CLOCK_MONOTONIC of the newest table swap */
};

/* What a backend's probes had come to at a moment: probes.c. */
struct probe_window {
	uint64_t at_ns; /* CLOCK_MONOTONIC; 0: not yet */
	uint64_t asked, answers;
	struct round_trips trips;
};

/* A backend as it runs. */
struct backend_run {
	uint16_t id; /* index into the shared arrays; also its session's */
	struct config_backend conf;
	char identity[CONFIG_NAME_MAX]; /* of its name and address: with another address it is another, to a peer too */
	struct pool_run *pool;
	struct admission admission; /* the way back up */
	bool resolved; /* route, neighbour and link are known */
	bool ever_resolved;
	int way_error; /* why it is not resolved, -errno */
	uint64_t way_lost_ns; /* CLOCK_MONOTONIC: since when there is no way at all */
	struct nexthop nexthop;
	uint64_t rtt_ns; /* smoothed round trip of its probes */
	bool leaving; /* removed, and takes new flows until those who come in its place do */
	uint64_t flip_found_ns; /* its word went down, and no event said why yet; 0: no such thing */
	uint64_t since_ns; /* CLOCK_MONOTONIC of the newest change of its word */
	int64_t since_wall_s; /* the same, CLOCK_REALTIME, seconds */
	uint32_t last_word; /* as last seen by the main loop */
	/* draining: kept while it is down too, so that it doesn't come back as up */
	enum verdict draining; /* _DRAINED, _ASKED, _LOADING or _REMOVED: why it gets no new flow; _NONE: it does */
	uint64_t drain_since_ns; /* CLOCK_MONOTONIC */
	uint64_t drain_deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	bool ending; /* not known yet whether flows go on whose clients have sent a FIN */
	bool drained; /* its end is in the ledger: no live flow, or cut at the deadline */
	uint64_t n_cut; /* flows that were reset at the deadline */
	bool gone; /* removed and drained: neither shown nor asked; its id is not free yet */
	uint64_t n_failures; /* verdicts that took it down */
	struct event doubt; /* `silent`, and not yet acted upon: its answers may only be late. at_ns 0: none */
	uint64_t n_late; /* such verdicts that its answers took back */
	uint64_t late_told_ns, late_told; /* when the ledger was told of one, and how many there had been */
	uint32_t engine; /* enum engine_state of its agent, as last acted upon */
	json_t *evidence; /* of its newest verdict, as the ledger has it; NULL: there was none */
	struct probe_window windows[2]; /* [0]: 10 to 20 s ago, what "lately" is counted from; [1]: up to 10 s ago */
	uint64_t trips_before[ROUND_TRIP_BUCKETS]; /* round trips counted until windows[1] began */
	uint32_t agent_version; /* that the ledger knows of; 0: none */
	uint64_t answers_seen; /* its answers at the newest look */
	struct { /* answers that count for nothing */
		uint32_t seen; /* how many, when one last counted */
		bool only; /* all that come are such, and the ledger says so */
	} too_late, forged;
	bool agent_is_old; /* its agent's word is old, and the ledger says so */
	bool kept; /* its engine is not ready, and it serves all the same: the ledger says so */
	struct { /* what operators said of it, here or at the peer: peer.c */
		bool known, drained; /* known: it was looked at */
		uint16_t weight; /* 0: the configured one */
		uint64_t deadline_ns; /* as drain_deadline_ns */
		uint64_t drain_at_ns, weight_at_ns; /* CLOCK_REALTIME of that word; 0: there was none */
	} said;
};

/* A VIP as it runs. */
struct vip_run {
	uint32_t id; /* index in the maps `vip_stats` and `police` */
	struct config_vip conf; /* its `pool` is the configuration's index; what counts is: */
	struct pool_run *pool;
	uint32_t held_ifindex; /* interface that has its address; 0: this host has it not. ownership.c */
	bool ever_served; /* its pool had a living backend once: health.c */
	bool migrating; /* slots moved: its unrecorded flows follow `tables_before` */
	uint32_t n_slots_before; /* migrating: slots of that table */
};

/* The search for ids of gone backends that nothing names any more: backends.c. */
struct forgetting {
	uint32_t n; /* candidates of the round that is under way; 0: none is */
	uint32_t at; /* next entry of the journal */
	uint64_t next_ns; /* CLOCK_MONOTONIC of the next round */
	bool named[SHUNT_MAX_BACKENDS]; /* by id: no candidate, or an entry names it */
};

/* The search for flows of draining backends that go on though a FIN or RST was seen: backends.c. */
struct ending {
	uint32_t n; /* backends of the round that is under way; 0: none is */
	uint32_t at; /* next entry of the journal */
	uint64_t next_ns; /* CLOCK_MONOTONIC: no round before */
	uint64_t since_ns[SHUNT_MAX_BACKENDS]; /* by id: a flow that was seen since goes on; 0: not looked for */
	bool heard[SHUNT_MAX_BACKENDS]; /* by id: one does */
};

struct shuntd {
	const char *config_path;
	struct config *config; /* the newest that was applied */
	struct config *wanted; /* after adopt_read(): the file's, until it is applied; then NULL */
	struct pins pins; /* where the kernel's side is pinned */
	struct probe_keys keys; /* of its probe.key_file as it was read then; that of echoes is drawn at the start */
	struct dataplane *dataplane;
	struct netlink *netlink;
	struct prober *prober;
	struct checker *checker;
	struct ledger *ledger; /* NULL: no shuntd runs, and what is pinned is shown: offline.c */
	struct record *record;
	struct health *health;
	struct keepalived *keepalived;
	struct control *control;
	struct http *http; /* NULL: off */
	struct journal *journal;
	struct state *state; /* drains and weights that outlive a restart */
	const uid_t *commander; /* whose command is being carried out; NULL: none is */
	struct peering *peering; /* NULL: there is no peer */
	struct loop *loop; /* parts with descriptors of their own add them: loop.h */
	/* For showing: sorted by name, owned. By id: NULL where nobody has it; use the functions below. */
	struct backend_run *
		*backends; /* n_backends; those that drain because they were removed included, gone ones not */
	struct pool_run **pools; /* n_pools, removed ones included */
	struct vip_run **vips; /* n_vips */
	size_t n_backends, n_pools, n_vips;
	struct backend_run *backend_ids[SHUNT_MAX_BACKENDS];
	struct pool_run *pool_ids[SHUNT_MAX_POOLS];
	struct vip_run *vip_ids[SHUNT_MAX_VIPS];
	uint32_t next_vip_id; /* where the search for a free one begins: flows outlive their VIP in the journal */
	struct forgetting forgetting;
	struct ending endings;
	uint64_t checks_again_ns; /* to try those again that couldn't be opened; 0: there are none */
	/* reload.c */
	bool reloading; /* a reload, or another weight, was begun and has flows to lead over yet */
	char reload_name[CONFIG_PATH_MAX]; /* of its file, for the ledger's "reloaded"; "": it is about weights alone */
	json_t *reload_by; /* that event's evidence */
	bool reload_asked; /* by SIGHUP, meanwhile */
	bool reload_waits; /* for those who come to a pool to serve */
	bool reload_force;
	uint64_t reload_ns, reload_retry_ns; /* CLOCK_MONOTONIC: its begin; not to try again before */
	struct service service; /* as the service manager knows it */
	/* rounds.c */
	struct pace pace; /* the interval in force, and what becomes of it */
	uint64_t configured_interval_ns; /* that it was made from */
	size_t n_asked; /* backends that the prober was told to ask */
	uint64_t rounds_seen_ns, rounds_seen,
		late_seen; /* the newest look: when (0: none yet), rounds and late ones till then */
	bool confirm; /* the journal fills: VIP_CONFIRM is to be set; journal.c sets it, then calls vips_flags_apply() */
	char (*xdp_mode)[16]; /* per interface of config: "native" or "generic"; "": not attached */
	uint64_t attach_ns; /* CLOCK_MONOTONIC, the newest attempt to attach again */
	int timer, signals; /* the main loop's period, and what ends it */
	int doubts; /* a timer: the end of the first of those that are in doubt */
	bool ending; /* set: the main loop ends */
	bool detach; /* and the kernel's side with it */
	bool started; /* the start succeeded: what is pinned stays */
	int pipe[2]; /* events from the prober's thread, when it judges, and from the checker's */
	int cpu; /* that asks and evaluates; -1: any */
	enum config_detector detector; /* the one that runs, after fallback */
	uint64_t events_taken; /* from the detector */
	uint64_t started_ns;
};

/* By id or name; NULL: there is none. Of two backends of a name, one of them removed, the one that is configured. */
struct backend_run *backend_by_id(const struct shuntd *shuntd, uint32_t id);
struct backend_run *backend_find(const struct shuntd *shuntd, const char *name);
bool backend_is_replaced(const struct shuntd *shuntd, const struct backend_run *backend); /* its name finds another */
struct pool_run *pool_by_id(const struct shuntd *shuntd, uint32_t id);
struct pool_run *pool_find(const struct shuntd *shuntd, const char *name);
struct vip_run *vip_by_id(const struct shuntd *shuntd, uint32_t id);
struct vip_run *vip_find(const struct shuntd *shuntd, const char *name);

/*
 * Add one that isn't there, with the lowest free id (VIPs: the one free for longest); owned by shuntd. NULL: no memory
 * or no id left. Remove frees it and its id: no table, flow or other object may name it any more. Nothing else happens.
 */
struct backend_run *backend_run_add(struct shuntd *shuntd, const struct config_backend *conf, struct pool_run *pool);
struct pool_run *pool_run_add(struct shuntd *shuntd, const struct config_pool *conf);
struct vip_run *vip_run_add(struct shuntd *shuntd, const struct config_vip *conf, struct pool_run *pool);
/* The same with an id that nobody has. */
struct backend_run *backend_run_put(struct shuntd *shuntd, uint16_t id, const struct config_backend *conf,
				    struct pool_run *pool);
struct pool_run *pool_run_put(struct shuntd *shuntd, uint32_t id, const struct config_pool *conf);
struct vip_run *vip_run_put(struct shuntd *shuntd, uint32_t id, const struct config_vip *conf, struct pool_run *pool);
void backend_run_remove(struct shuntd *shuntd, struct backend_run *backend);
void pool_run_remove(struct shuntd *shuntd, struct pool_run *pool);
void vip_run_rename(struct shuntd *shuntd, struct vip_run *vip, const char *name);
void vip_run_remove(struct shuntd *shuntd, struct vip_run *vip);
void backend_run_hide(struct shuntd *shuntd, struct backend_run *backend); /* gone: out of the list, the id is kept */
void runs_free(struct shuntd *shuntd); /* all of them */

/* An event's evidence, with the "uid" of whose command is being carried out, if one is; takes over the reference. */
json_t *commanded(const struct shuntd *shuntd, json_t *evidence);

/* ledger_add() of a backend. One that was replaced is marked: whose name it has by now has no part in what becomes of it. */
void backend_tell(const struct shuntd *shuntd, const struct backend_run *backend, uint64_t at_ns, const char *what,
		  const char *why, json_t *evidence);
bool event_is_of_replaced(const json_t *event);

/* Name of the states and verdicts above as users see them. */
const char *backend_state_name(uint32_t word);
const char *backend_verdict_name(uint32_t word);

#endif
