/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * keepalived.c - see keepalived.h.
 *
 * The track file. keepalived 2.2.7 watches its directory (inotify: IN_CLOSE_WRITE, IN_DELETE, IN_MOVE; process_inotify() of its
 * track_file.c) and reads the file whenever one of its name was written or moved there. An empty file and one that is gone
 * count as 0, as well: so it is moved there whole, and put back if somebody takes it away.
 *
 * The FIFO. keepalived opens it for reading and writing, writes without waiting, and drops what finds no room. Here it is
 * opened the same way, so that a writer that goes away is no end of the file.
 */
#include "shuntd/keepalived.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "core/vrrp_line.h"
#include "shuntd/health.h"
#include "shuntd/loop.h"
#include "shuntd/ownership.h"
#include "shuntd/shuntd.h"

#define CHECK_NS 1000000000ULL /* chosen: how often it is looked whether both files are what they were */
#define LEAVE_NS 1000000000ULL /* chosen: VRRP with adverts of 10 ms takes 20 ms, with those of a second one second */
#define QUIET_NS 50000000ULL /* chosen: nobody sent a packet for so long, so nobody sends any here */
#define READ_MAX 16384 /* bytes of the FIFO at a time: the rest is read in the next turn; chosen */
#define INSTANCES_MAX 64 /* chosen; the names of more of them are not kept */

struct instance {
	struct vrrp_line last;
	uint64_t since_ns; /* CLOCK_MONOTONIC of its newest change of state */
};

struct keepalived {
	struct shuntd *s;
	struct config_keepalived conf;
	int track; /* what the file says; -1: it could not be written */
	int track_error, fifo_error; /* -errno that the ledger knows of; 0: none */
	uint64_t check_ns; /* CLOCK_MONOTONIC: when to look at the files again */
	int fifo;
	char line[256];
	size_t length; /* of `line` so far */
	bool overlong; /* its line is: up to the next newline */
	struct instance instances[INSTANCES_MAX];
	size_t n;
};

/* An error that wasn't there before, or the end of one. */
static void error_tell(struct keepalived *k, int *known, int err, const char *path)
{
	if (err == *known)
		return;
	*known = err;
	ledger_add(k->s->ledger, 0, "keepalived", path, err ? "failed" : "mended",
		   err ? strerror(-err) : "it works again", NULL);
}

/* ---- the track file ---- */

static int track_write(const char *path, int value)
{
	char beside[CONFIG_PATH_MAX + 4], text[2] = { (char)('0' + value), '\n' };
	int fd, err = 0;

	snprintf(beside, sizeof(beside), "%s.new", path);
	fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return -errno;
	if (write(fd, text, sizeof(text)) != sizeof(text))
		err = -EIO;
	if (close(fd) && !err)
		err = -errno;
	if (!err && rename(beside, path))
		err = -errno;
	if (err)
		unlink(beside);
	return err;
}

/* What the file says; -1: it isn't there, or says something else. */
static int track_read(const char *path)
{
	char text[3];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));

	if (fd >= 0)
		close(fd);
	return n == 2 && text[1] == '\n' && (text[0] == '0' || text[0] == '1') ? text[0] - '0' : -1;
}

static int track_set(struct keepalived *k, int value)
{
	int err = track_write(k->conf.track_file, value);

	k->track = err ? -1 : value;
	error_tell(k, &k->track_error, err, k->conf.track_file);
	return err;
}

/* ---- the FIFO ---- */

/* Where it keeps this one; NULL: there is no room. A deleted one's place is free. */
static struct instance *instance_get(struct keepalived *k, const struct vrrp_line *line)
{
	struct instance *unused = NULL;

	for (size_t i = 0; i < k->n; i++) {
		const struct vrrp_line *l = &k->instances[i].last;

		if (l->is_group == line->is_group && !strcmp(l->name, line->name))
			return &k->instances[i];
		if (l->state && !strcmp(l->state, "deleted"))
			unused = &k->instances[i];
	}
	if (!unused && k->n < INSTANCES_MAX)
		unused = &k->instances[k->n++];
	if (unused)
		*unused = (struct instance){ .last = { .is_group = line->is_group } };
	return unused;
}

static void line_take(struct keepalived *k, const char *text, size_t length)
{
	const char *before;
	struct vrrp_line line;
	struct instance *i;
	char why[64];

	if (vrrp_line_parse(&line, text, length))
		return;
	i = instance_get(k, &line);
	if (!i)
		return;
	before = i->last.state;
	i->last = line;
	if (!line.state)
		i->last.state = before;
	if (!line.state || (before && !strcmp(before, line.state)))
		return;
	i->since_ns = monotonic_ns();
	snprintf(why, sizeof(why), "%s%s", before ? "it was " : "says keepalived", before ? before : "");
	ledger_add(k->s->ledger, i->since_ns, line.is_group ? "vrrp group" : "vrrp", line.name, line.state, why,
		   json_pack("{s:i}", "priority", (int)line.priority));
}

static void on_fifo(void *arg)
{
	struct keepalived *k = arg;
	char bytes[4096];
	ssize_t n, total = 0;

	while (total < READ_MAX && (n = read(k->fifo, bytes, sizeof(bytes))) > 0) {
		total += n;
		for (ssize_t i = 0; i < n; i++) {
			if (bytes[i] == '\n') {
				if (!k->overlong)
					line_take(k, k->line, k->length);
				k->length = 0;
				k->overlong = false;
			} else if (k->length == sizeof(k->line)) {
				k->overlong = true;
			} else {
				k->line[k->length++] = bytes[i];
			}
		}
	}
}

static void fifo_close(struct keepalived *k)
{
	if (k->fifo < 0)
		return;
	loop_remove(k->s->loop, k->fifo);
	close(k->fifo);
	k->fifo = -1;
}

static int fifo_open(struct keepalived *k)
{
	const char *path = k->conf.notify_fifo;
	struct stat st;
	int err;

	if (mkfifo(path, 0600) && errno != EEXIST)
		return -errno;
	k->fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (k->fifo < 0)
		return -errno;
	err = fstat(k->fifo, &st) ? -errno : S_ISFIFO(st.st_mode) ? 0 : -EEXIST;
	err = err ? err : loop_add(k->s->loop, k->fifo, on_fifo, k);
	if (err)
		fifo_close(k);
	k->length = 0;
	k->overlong = false;
	return err;
}

/* keepalived removes a FIFO that it made itself when it ends, and makes another one. */
static void fifo_check(struct keepalived *k)
{
	struct stat ours, there;

	if (k->fifo >= 0 && !fstat(k->fifo, &ours) && !lstat(k->conf.notify_fifo, &there) &&
	    ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
		return;
	if (k->fifo >= 0)
		on_fifo(k);
	fifo_close(k);
	error_tell(k, &k->fifo_error, fifo_open(k), k->conf.notify_fifo);
}

/* ---- the interface ---- */

int keepalived_open(struct keepalived **out, struct shuntd *s, bool taken_over, const char **why)
{
	static char sentence[CONFIG_PATH_MAX + 64];
	struct keepalived *k = calloc(1, sizeof(*k));
	int err = 0;

	*why = "no memory for keepalived";
	if (!k)
		return -ENOMEM;
	k->s = s;
	k->conf = s->config->keepalived;
	k->fifo = -1;
	k->track = -1;
	if (*k->conf.track_file) {
		k->track = track_read(k->conf.track_file);
		if (!taken_over || k->track < 0) {
			err = track_write(k->conf.track_file, 1);
			k->track = 1;
		}
		snprintf(sentence, sizeof(sentence), "keepalived.track_file %s: %s", k->conf.track_file,
			 strerror(-err));
	}
	if (!err && *k->conf.notify_fifo) {
		err = fifo_open(k);
		snprintf(sentence, sizeof(sentence), "keepalived.notify_fifo %s: %s", k->conf.notify_fifo,
			 err == -EEXIST ? "it is there, and no FIFO" : strerror(-err));
	}
	*why = sentence;
	if (err) {
		keepalived_close(k);
		return err;
	}
	*out = k;
	return 0;
}

void keepalived_close(struct keepalived *k)
{
	if (!k)
		return;
	fifo_close(k);
	free(k);
}

void keepalived_run(struct keepalived *k, uint64_t now_ns)
{
	char why[256];
	int value = shuntd_ill(k->s, why, sizeof(why)) != NULL;
	bool check = now_ns >= k->check_ns;

	if (check)
		k->check_ns = now_ns + CHECK_NS;
	if (*k->conf.track_file &&
	    (check ? track_read(k->conf.track_file) != value : k->track >= 0 && k->track != value))
		track_set(k, value);
	if (check && *k->conf.notify_fifo)
		fifo_check(k);
}

static uint64_t packets(const struct shuntd *s)
{
	uint64_t sum = 0;
	struct traffic t;

	for (size_t i = 0; i < s->n_vips; i++)
		if (!dataplane_vip_traffic(s->dataplane, s->vips[i]->id, &t))
			sum += t.packets;
	return sum;
}

void keepalived_leave(struct keepalived *k)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t begun_ns = monotonic_ns(), moved_ns = begun_ns, now = begun_ns, seen = 0, n;

	if (!k || !*k->conf.track_file || track_set(k, 1))
		return;
	while (now - begun_ns < LEAVE_NS) {
		netlink_read(k->s->netlink);
		ownership_read(k->s);
		n = packets(k->s);
		if (n != seen || ownership_any(k->s))
			moved_ns = now;
		seen = n;
		if (now - moved_ns >= QUIET_NS)
			return;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
		now = monotonic_ns();
	}
}

json_t *keepalived_track_json(const struct keepalived *k)
{
	return k && k->track >= 0 ? json_integer(k->track) : json_null();
}

json_t *keepalived_instances_json(const struct keepalived *k)
{
	json_t *list = json_array();

	for (size_t i = 0; k && i < k->n; i++) {
		const struct instance *instance = &k->instances[i];

		json_array_append_new(list, json_pack("{s:s, s:b, s:s?, s:i, s:I}", "name", instance->last.name,
						      "group", instance->last.is_group, "state", instance->last.state,
						      "priority", (int)instance->last.priority, "since_ns",
						      (json_int_t)instance->since_ns));
	}
	return list;
}
