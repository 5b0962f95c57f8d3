/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * watch.c - see watch.h. The order of steps when an engine begins is what keeps a death from being missed: processes
 * first, then the life, then a look whether they are still there.
 */
#include "agent/watch.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/process.h"
#include "common/clock.h"
#include "core/cause.h"
#include "agent_watch.skel.h"

#define MAINS_MAX 64 /* chosen: listeners with SO_REUSEPORT, one a process */
#define INODES_MAX 256
#define PROGRAMS 4
#define SEARCH_PERIOD_NS 50000000ULL /* chosen: a search goes through all processes' files */
#define MISSED_NS 15000000ULL /* no look found a listener for so long; chosen: one that is replaced is away for less */
#define SEEK_TURNS 15 /* chosen: several searches for an engine that was there a moment ago */
#define SAME_BIRTH_NS 100000000ULL /* chosen: /proc knows births to 10 ms, and no number is used again so soon */
#define FIRST_PID_NAMESPACE 0xeffffffcU /* PROC_PID_INIT_INO, include/linux/proc_ns.h */

struct watch {
	struct watch_options o;
	struct agent_watch_bpf *skel; /* NULL: the kernel has none of it */
	struct bpf_link *links[PROGRAMS];
	size_t n_links;
	struct process mains[MAINS_MAX]; /* of the newest engine */
	size_t n_mains;
	uint32_t inodes[INODES_MAX]; /* of the listeners, as last searched for */
	size_t n_inodes;
	uint64_t missed_ns; /* the first look that found no listener; 0: the newest found one */
	uint64_t next_search_ns;
	uint64_t told; /* life that was last said on stderr */
	bool absence_told;
	struct stat pid_file; /* as it was when a process was last found by it */
	unsigned seeking; /* turns left to find the engine that an earlier agent knew */
	bool same; /* the newest engine is one that was known before */
};

static uint64_t life(const struct watch *w)
{
	return __atomic_load_n(&w->o.word->life, __ATOMIC_SEQ_CST);
}

static bool is_alive(uint64_t l)
{
	return ENGINE_LIFE_NUMBER(l) && !ENGINE_LIFE_CAUSE(l);
}

/* What the programs didn't see: the engine `l` ended. */
static void engine_end(struct watch *w, uint64_t l, enum engine_end end)
{
	if (!__atomic_compare_exchange_n(&w->o.word->life, &l, l | ENGINE_CAUSE(end, 0U), false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return;
	w->o.word->ended_tgid = w->n_mains ? (uint32_t)w->mains[0].pid : 0;
	__atomic_store_n(&w->o.word->ended_ns, monotonic_ns(), __ATOMIC_RELEASE);
}

/* ---- who it is ---- */

static size_t mains_by_port(struct watch *w, struct process *mains)
{
	struct process *all, *holders;
	size_t n_all, n = 0, n_mains = 0;

	all = processes_read(&n_all);
	holders = calloc(n_all + 1, sizeof(*holders));
	if (!all || !holders)
		goto out;
	for (size_t i = 0; i < n_all;
	     i++) /* the first process holds the sockets of services that it starts on demand */
		if (all[i].pid != 1 && all[i].pid != getpid() && process_holds(all[i].pid, w->inodes, w->n_inodes))
			holders[n++] = all[i];
	for (size_t i = 0; i < n && n_mains < MAINS_MAX; i++)
		if (!process_ancestor(all, n_all, &holders[i], holders, n))
			mains[n_mains++] = holders[i];
out:
	free(all);
	free(holders);
	return n_mains;
}

static bool mains_live(const struct process *mains, size_t n)
{
	struct process p;

	for (size_t i = 0; i < n; i++)
		if (process_read(&p, mains[i].pid) || !process_is(&p, &mains[i]) || p.ending)
			return false;
	return true;
}

/*
 * Who was born before is a worker that didn't die with its engine, and no engine; 0: there is none. One whose main process left
 * with status 0 may have become a daemon: then a survivor is it.
 */
static uint64_t survivors_until_ns(const struct watch *w)
{
	uint32_t cause = ENGINE_LIFE_CAUSE(life(w));
	uint64_t ended_ns = w->o.word->ended_ns;

	if (!cause || (ENGINE_CAUSE_END(cause) == ENGINE_EXITED && !ENGINE_CAUSE_DETAIL(cause)) ||
	    (w->n_mains && mains_live(w->mains, w->n_mains)))
		return 0;
	return ended_ns > SAME_BIRTH_NS ? ended_ns - SAME_BIRTH_NS : 0;
}

/* Of those born since. */
static void cgroup_oldest(const char *path, uint64_t since_ns, struct process *oldest, size_t *n, unsigned depth)
{
	char file[2 * CONFIG_PATH_MAX];
	struct dirent *entry;
	struct process p;
	FILE *f;
	DIR *d;
	int pid;

	snprintf(file, sizeof(file), "%s/cgroup.procs", path);
	f = fopen(file, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		if (!process_read(&p, pid) && !p.ending && (!*n || p.start_ticks < oldest->start_ticks) &&
		    (!since_ns || process_born_ns(&p) >= since_ns)) {
			*oldest = p;
			*n = 1;
		}
	if (f)
		fclose(f);
	d = depth ? opendir(path) : NULL;
	while (d && (entry = readdir(d))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
		    (size_t)snprintf(file, sizeof(file), "%s/%s", path, entry->d_name) >= sizeof(file))
			continue;
		cgroup_oldest(file, since_ns, oldest, n, depth - 1);
	}
	if (d)
		closedir(d);
}

static bool pid_file_is(const struct watch *w, const struct stat *st)
{
	return st->st_ino == w->pid_file.st_ino && st->st_size == w->pid_file.st_size &&
	       !memcmp(&st->st_mtim, &w->pid_file.st_mtim, sizeof(st->st_mtim));
}

/* A file that still names a process that ended names nobody, whoever has that number now. */
static size_t main_by_pid_file(struct watch *w, struct process *main)
{
	FILE *f = fopen(w->o.config->pid_file, "re");
	struct stat st = { 0 };
	int pid = 0;
	bool stale;

	if (f && (fstat(fileno(f), &st) || fscanf(f, "%d", &pid) != 1))
		pid = 0;
	if (f)
		fclose(f);
	stale = w->n_mains && pid == w->mains[0].pid && pid_file_is(w, &st);
	if (stale || pid <= 1 || process_read(main, pid))
		return 0;
	w->pid_file = st;
	return 1;
}

/* Main processes as they are now; at most MAINS_MAX. */
static size_t mains_find(struct watch *w, struct process *mains)
{
	size_t n = 0;

	switch (w->o.config->by) {
	case ENGINE_BY_PORT:
		return w->n_inodes ? mains_by_port(w, mains) : 0;
	case ENGINE_BY_CGROUP:
		cgroup_oldest(w->o.config->cgroup, survivors_until_ns(w), mains, &n, 4);
		return n;
	case ENGINE_BY_PID_FILE:
		return main_by_pid_file(w, mains);
	default:
		return 0;
	}
}

/* Why nobody is found, once: a wrong number, path or right looks the same as an engine that isn't there yet. */
static void absence_tell(struct watch *w)
{
	const struct config_engine *c = w->o.config;

	if (w->absence_told || w->told)
		return;
	w->absence_told = true;
	if (c->by == ENGINE_BY_PORT && w->n_inodes)
		fprintf(stderr,
			"shunt-agent: engine: the process that listens on port %u can't be seen (of another pid"
			" namespace, or no CAP_SYS_PTRACE)\n",
			c->port);
	else if (c->by == ENGINE_BY_PORT)
		fprintf(stderr, "shunt-agent: engine: nobody listens on port %u yet\n", c->port);
	else
		fprintf(stderr, "shunt-agent: engine: no process in %s yet\n",
			c->by == ENGINE_BY_CGROUP ? c->cgroup : c->pid_file);
}

static bool was_main(const struct watch *w, const struct process *p)
{
	for (size_t i = 0; i < w->n_mains; i++)
		if (process_is(&w->mains[i], p))
			return true;
	return false;
}

/* ---- how it begins ---- */

/* A main process, or a worker of it. */
static void watched_put(struct watch *w, const struct process *p, const struct process *main, uint64_t l)
{
	struct watched watched = { .life = l, .born_ns = process_born_ns(p), .main = (uint32_t)main->pid }, known;
	uint32_t tgid = (uint32_t)p->pid;
	int fd = bpf_map__fd(w->skel->maps.agent_watched);

	if (tgid == watched.main)
		watched.flags |= WATCHED_MAIN;
	if (!w->o.config->only_main)
		watched.flags |= WATCHED_FOLLOW;
	/* One that was born meanwhile is there by its parent, with its true birth. */
	if (watched.flags & WATCHED_MAIN || bpf_map_lookup_elem(fd, &tgid, &known) || known.life != l ||
	    (known.main != watched.main && !(known.flags & WATCHED_MAIN)))
		bpf_map_update_elem(fd, &tgid, &watched, BPF_ANY);
}

/* Those who descend from the main processes now; who is born from here on is followed by the kernel. */
static void workers_put(struct watch *w, const struct process *mains, size_t n_mains, uint64_t l)
{
	size_t n;
	struct process *all = processes_read(&n);
	const struct process *main;

	for (size_t i = 0; all && i < n; i++) {
		main = process_ancestor(all, n, &all[i], mains, n_mains);
		if (main && !all[i].ending)
			watched_put(w, &all[i], main, l);
	}
	free(all);
}

static void mains_put(struct watch *w, const struct process *mains, size_t n, uint64_t l)
{
	for (size_t i = 0; w->skel && i < n; i++)
		watched_put(w, &mains[i], &mains[i], l);
	/* Twice: a child of a child that was born while the list was read may be missing from it. */
	for (int i = 0; w->skel && !w->o.config->only_main && i < 2; i++)
		workers_put(w, mains, n, l);
}

static void engine_begin(struct watch *w, const struct process *mains, size_t n)
{
	uint32_t before = ENGINE_LIFE_NUMBER(life(w)), number = before + 1;
	uint64_t l = ENGINE_LIFE(number ? number : 1, 0);
	struct agent_word *word = w->o.word;

	w->same = false;
	for (size_t i = 0; i < n; i++)
		w->same = w->same || was_main(w, &mains[i]);
	word->engine = ENGINE_LOADING;
	word->ended_ns = 0;
	word->ended_tgid = 0;
	if (!w->same)
		__atomic_store_n(w->o.beat, 0, __ATOMIC_RELAXED); /* that was another's */
	else if (word->stopping && word->stopping == before)
		word->stopping = ENGINE_LIFE_NUMBER(l);
	mains_put(w, mains, n, l);
	memmove(w->mains, mains, n * sizeof(*mains));
	w->n_mains = n;
	w->missed_ns = 0;
	__atomic_store_n(&word->life, l, __ATOMIC_SEQ_CST);
	/* One that ended before could not end this life. */
	if (!mains_live(mains, n))
		engine_end(w, l, ENGINE_VANISHED);
}

/* Nobody is the engine, or a dead one is: look for one to begin. */
static bool engine_search(struct watch *w, uint64_t l)
{
	struct process mains[MAINS_MAX];
	bool same_may = !ENGINE_LIFE_CAUSE(l) || ENGINE_CAUSE_END(ENGINE_LIFE_CAUSE(l)) == ENGINE_NOT_LISTENING;
	size_t found, n = 0;
	uint64_t now = monotonic_ns();

	if (now < w->next_search_ns)
		return false;
	w->next_search_ns = now + SEARCH_PERIOD_NS;
	found = mains_find(w, mains);
	for (size_t i = 0; i < found; i++) /* a process that dies keeps its socket until its memory is gone */
		if (!mains[i].ending && (same_may || !was_main(w, &mains[i])))
			mains[n++] = mains[i];
	if (!found)
		absence_tell(w);
	if (n)
		engine_begin(w, mains, n);
	return n;
}

/* ---- how it is ---- */

static bool is_born_as(const struct watched *watched, const struct process *p)
{
	uint64_t born = process_born_ns(p);

	return (born > watched->born_ns ? born - watched->born_ns : watched->born_ns - born) < SAME_BIRTH_NS;
}

/* Whether it was a main process of an engine before this one, or leaves it: it may listen to its end. */
static bool is_predecessor(const struct watch *w, const struct process *p, uint64_t l)
{
	uint32_t tgid = (uint32_t)p->pid;
	struct watched watched;

	return w->skel && !bpf_map_lookup_elem(bpf_map__fd(w->skel->maps.agent_watched), &tgid, &watched) &&
	       watched.flags & WATCHED_MAIN && (watched.flags & WATCHED_LEAVING || watched.life != l) &&
	       is_born_as(&watched, p);
}

static void main_join(struct watch *w, const struct process *main, uint64_t l)
{
	uint32_t tgid = (uint32_t)main->pid;

	if (w->n_mains == MAINS_MAX)
		return;
	mains_put(w, main, 1, l);
	if (mains_live(main, 1)) {
		w->mains[w->n_mains++] = *main;
		fprintf(stderr, "shunt-agent: engine: process %d listens too\n", main->pid);
	} else if (w->skel) { /* nobody sees it end any more */
		bpf_map_delete_elem(bpf_map__fd(w->skel->maps.agent_watched), &tgid);
	}
}

/*
 * Others listen than before: who is new among them is a main process too. But if the engine was asked to stop, it is the
 * next engine, unless it is one of its workers. True: an engine began.
 */
static bool mains_join(struct watch *w, uint64_t l)
{
	bool stopping = w->o.word->stopping == ENGINE_LIFE_NUMBER(l);
	struct process mains[MAINS_MAX], *all = NULL;
	size_t n_all, n_next = 0, n = mains_find(w, mains);

	if (stopping)
		all = processes_read(&n_all);
	for (size_t i = 0; i < n; i++) {
		if (mains[i].ending || was_main(w, &mains[i]) || is_predecessor(w, &mains[i], l))
			continue;
		if (all && !process_ancestor(all, n_all, &mains[i], w->mains, w->n_mains))
			mains[n_next++] = mains[i];
		else
			main_join(w, &mains[i], l);
	}
	free(all);
	if (n_next)
		engine_begin(w, mains, n_next);
	return n_next;
}

/* True: an engine began. */
static bool listeners_look(struct watch *w, uint64_t l)
{
	uint32_t inodes[INODES_MAX];
	int n = listeners_find(w->o.config->port, inodes, INODES_MAX);
	uint64_t now = monotonic_ns();
	bool changed;

	if (n < 0)
		return false; /* no memory: ask again */
	changed = (size_t)n != w->n_inodes || memcmp(inodes, w->inodes, (size_t)n * sizeof(*inodes));
	if (n)
		w->missed_ns = 0;
	else if (!w->missed_ns)
		w->missed_ns = now;
	if (is_alive(l) && !n) {
		/* One that was asked to stop accepts nothing more, and serves to the end what it has. */
		if (now - w->missed_ns >= MISSED_NS && w->o.word->stopping != ENGINE_LIFE_NUMBER(l))
			engine_end(w, l, ENGINE_NOT_LISTENING);
		return false;
	}
	memcpy(w->inodes, inodes, (size_t)n * sizeof(*inodes));
	w->n_inodes = (size_t)n;
	return is_alive(l) && changed && mains_join(w, l);
}

/* The engine lives, but its file may name another by now: it was an old file, or it has a successor. True: that began. */
static bool pid_file_look(struct watch *w)
{
	struct process main;
	struct stat st;

	if (stat(w->o.config->pid_file, &st) || pid_file_is(w, &st) || !main_by_pid_file(w, &main) || main.ending ||
	    was_main(w, &main))
		return false;
	engine_begin(w, &main, 1);
	return true;
}

static bool watched_is_main(const struct watch *w, const struct process *p, uint64_t l)
{
	uint32_t tgid = (uint32_t)p->pid;
	struct watched watched;

	return !bpf_map_lookup_elem(bpf_map__fd(w->skel->maps.agent_watched), &tgid, &watched) && watched.life == l &&
	       watched.flags & WATCHED_MAIN;
}

/*
 * Whether the engine that the programs didn't see end is no more. A main process whose end they did see has left it to the
 * others; one that is on its way out will be seen.
 */
static bool mains_vanished(struct watch *w, uint64_t l)
{
	struct process rest[MAINS_MAX], p;
	size_t n = 0;
	bool gone;

	if (!w->skel || w->n_mains < 2)
		return !mains_live(w->mains, w->n_mains);
	for (size_t i = 0; i < w->n_mains; i++) {
		gone = process_read(&p, w->mains[i].pid) || !process_is(&p, &w->mains[i]);
		if ((gone || p.ending) && !watched_is_main(w, &w->mains[i], l))
			continue;
		if (gone)
			return true;
		rest[n++] = w->mains[i];
	}
	if (!n || life(w) != l)
		return true;
	if (n < w->n_mains)
		fprintf(stderr, "shunt-agent: engine: a process ended in good order, process %d goes on\n",
			rest[0].pid);
	memcpy(w->mains, rest, n * sizeof(*rest));
	w->n_mains = n;
	return false;
}

static void engine_tell(struct watch *w, uint64_t l)
{
	char text[CAUSE_TEXT_MAX];

	if (l == w->told)
		return;
	w->told = l;
	if (is_alive(l))
		fprintf(stderr, "shunt-agent: engine: process %d found\n", w->mains[0].pid);
	else
		fprintf(stderr, "shunt-agent: engine: dead (%s, process %u%s)\n",
			cause_format(ENGINE_LIFE_CAUSE(l), text, sizeof(text)), w->o.word->ended_tgid,
			ENGINE_LIFE_CAUSE(l) & ENGINE_CAUSE_PLANNED ? ", planned" : "");
}

/* ---- what an earlier agent knew ---- */

/* The main processes of its newest engine that are still there. */
static void mains_recall(struct watch *w, uint32_t number)
{
	int fd = w->o.before->watched_fd;
	struct watched watched;
	struct process p;
	uint32_t tgid;

	if (fd < 0)
		return;
	for (int err = bpf_map_get_next_key(fd, NULL, &tgid); !err && w->n_mains < MAINS_MAX;
	     err = bpf_map_get_next_key(fd, &tgid, &tgid)) {
		if (bpf_map_lookup_elem(fd, &tgid, &watched) || !(watched.flags & WATCHED_MAIN) ||
		    ENGINE_LIFE_NUMBER(watched.life) != number || process_read(&p, (pid_t)tgid))
			continue;
		if (is_born_as(&watched, &p))
			w->mains[w->n_mains++] = p;
	}
}

/* A dead engine stays dead, until another comes. One that lived has to be found again, or did end. */
static void before_take(struct watch *w)
{
	const struct agent_word *before = w->o.before->word;
	struct agent_word *word = w->o.word;
	uint64_t l = before ? __atomic_load_n(&before->life, __ATOMIC_SEQ_CST) : 0;

	if (!l)
		return;
	word->ended_ns = before->ended_ns;
	word->ended_tgid = before->ended_tgid;
	word->stopping = before->stopping;
	word->life = is_alive(l) ? l | ENGINE_CAUSE(ENGINE_NOT_LISTENING, 0U) : l; /* and may listen again */
	mains_recall(w, ENGINE_LIFE_NUMBER(l));
	if (!is_alive(l))
		return;
	w->told = word->life;
	w->seeking = SEEK_TURNS;
	if (word->stopping == ENGINE_LIFE_NUMBER(l) && w->n_mains && mains_live(w->mains, w->n_mains))
		engine_begin(w, w->mains, w->n_mains); /* it needn't listen any more */
}

/* It was found, or is no more. */
static void before_leave(struct watch *w, uint64_t l)
{
	const struct agent_word *before = w->o.before->word;
	uint32_t cause = ENGINE_LIFE_CAUSE(__atomic_load_n(&before->life, __ATOMIC_SEQ_CST));

	w->seeking = 0;
	if (is_alive(l) && !(w->same && cause))
		return;
	/* A worker may have died before it was watched anew. */
	w->o.word->life = ENGINE_LIFE(ENGINE_LIFE_NUMBER(l), cause ? cause : ENGINE_CAUSE(ENGINE_VANISHED, 0U));
	w->o.word->ended_tgid = before->ended_tgid;
	w->o.word->ended_ns = cause ? before->ended_ns : monotonic_ns();
}

bool watch_seeks(const struct watch *w)
{
	return w->seeking;
}

enum watch_news watch_run(struct watch *w)
{
	uint64_t l = life(w);
	bool began = false, sought = w->seeking;

	if (w->o.config->by == ENGINE_BY_PORT)
		began = listeners_look(w, l);
	else if (w->o.config->by == ENGINE_BY_PID_FILE && is_alive(l))
		began = pid_file_look(w);
	l = life(w);
	if (is_alive(l) && mains_vanished(w, l))
		engine_end(w, l, ENGINE_VANISHED); /* unless the programs saw how */
	l = life(w);
	if (!is_alive(l)) {
		if (l)
			engine_tell(w, l);
		began = engine_search(w, l);
	} else if (sought) {
		began = true;
	}
	l = life(w);
	if (sought && (is_alive(l) || !--w->seeking)) {
		before_leave(w, l);
		l = life(w);
	}
	if (l)
		engine_tell(w, l);
	return !began ? WATCH_NOTHING : sought && w->same ? WATCH_WENT_ON : WATCH_BEGAN;
}

/* ---- the programs ---- */

static char complaint[512];

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level == LIBBPF_WARN)
		vsnprintf(complaint, sizeof(complaint), format, args);
	return 0;
}

static int programs_load(struct watch *w)
{
	struct bpf_program *program;
	int err;

	w->skel = agent_watch_bpf__open();
	if (!w->skel)
		return -errno;
	w->skel->rodata->worker_age_ns = w->o.config->worker_age_ns;
	err = bpf_map__reuse_fd(w->skel->maps.agent, w->o.agent_fd);
	if (!err)
		err = agent_watch_bpf__load(w->skel);
	if (err)
		return err;
	bpf_object__for_each_program(program, w->skel->obj)
	{
		struct bpf_link *link = bpf_program__attach(program);

		if (!link)
			return -errno;
		w->links[w->n_links++] = link;
	}
	return 0;
}

static void programs_unload(struct watch *w)
{
	while (w->n_links)
		bpf_link__destroy(w->links[--w->n_links]);
	agent_watch_bpf__destroy(w->skel);
	w->skel = NULL;
}

int watch_open(struct watch **out, const struct watch_options *options)
{
	struct watch *w = calloc(1, sizeof(*w));
	libbpf_print_fn_t print;
	struct stat st;
	int err;

	if (!w)
		return -ENOMEM;
	w->o = *options;
	w->o.word->engine = ENGINE_LOADING;
	*out = w;
	if (stat("/proc/self/ns/pid", &st) || st.st_ino != FIRST_PID_NAMESPACE) {
		fprintf(stderr,
			"shunt-agent: engine: processes have other numbers here than for the kernel (a container?),"
			" so their ends are noticed later\n");
		before_take(w);
		return 0;
	}
	print = libbpf_set_print(keep_complaint);
	err = programs_load(w);
	libbpf_set_print(print);
	if (err) {
		fprintf(stderr,
			"shunt-agent: engine: the kernel does not let its end be watched (%s), so it is noticed"
			" later\n",
			*complaint ? complaint : strerror(-err));
		programs_unload(w);
	}
	before_take(w);
	return 0;
}

void watch_pin(const struct watch *w, struct pins *pins)
{
	struct bpf_program *program;
	size_t i = 0;

	if (!w->skel)
		return;
	pins_put_run(pins, "watched", bpf_map__fd(w->skel->maps.agent_watched));
	bpf_object__for_each_program(program, w->skel->obj)
		pins_put_run(pins, bpf_program__name(program), bpf_link__fd(w->links[i++]));
}

void watch_describe(const struct watch *w, FILE *f)
{
	uint64_t l = life(w);
	char text[CAUSE_TEXT_MAX];

	if (is_alive(l))
		fprintf(f, "engine: process %d\n", w->mains[0].pid);
	else if (l)
		fprintf(f, "engine: dead (%s, process %u)\n", cause_format(ENGINE_LIFE_CAUSE(l), text, sizeof(text)),
			w->o.word->ended_tgid);
	else
		fprintf(f, "engine: none seen yet\n");
	if (!w->skel)
		fprintf(f, "engine: the kernel doesn't let its end be watched, so it is noticed late\n");
}

void watch_close(struct watch *w)
{
	if (!w)
		return;
	programs_unload(w);
	free(w);
}
