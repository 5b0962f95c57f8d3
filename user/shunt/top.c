/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * top.c - shunt top: what happens now, shown anew every second. Rates are made here, from two looks at the daemon's counters.
 *
 * On a terminal it has the whole screen, and gives it back however it ends; elsewhere a look is a block of lines, or a
 * line of JSON. A daemon that goes away is waited for.
 */
#include "common/clock.h"
#include "shunt/shunt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define INTERVAL_NS 1000000000LL /* between two looks unless told */
#define INTERVAL_MIN_NS 100000000LL /* chosen: the daemon has other work */
#define INTERVAL_MAX_NS 3600000000000LL /* chosen */
#define SLOTS_PERIOD 8 /* looks between two at the tables, which cost the daemon more and change seldom; chosen */
#define PATIENCE_MS 2000 /* chosen: whoever looks wants to know that there is no answer */
#define EVENTS_MAX 8 /* newest ones */

/* ---- what is seen ---- */

static const struct column vip_columns[] = {
	{ "name", "VIP", 0 },
	{ "address", "ADDRESS", 0 },
	{ "protocol", "PROTO", 0 },
	{ "port", "PORT", UNIT_PORT },
	{ "packets_per_s", "PKT/S", UNIT_COUNT },
	{ "bits_per_s", "BIT/S", UNIT_COUNT },
	{ "new_flows_per_s", "NEW/S", UNIT_COUNT },
	{ NULL, NULL, 0 },
};

static const struct column backend_columns[] = {
	{ "name", "BACKEND", 0 },
	{ "state", "STATE", 0 },
	{ "verdict", "WHY", 0 },
	{ "since_ns", "FOR", UNIT_SINCE_NS },
	{ "live", "LIVE", 0 },
	{ "packets_per_s", "PKT/S", UNIT_COUNT },
	{ "bits_per_s", "BIT/S", UNIT_COUNT },
	{ "new_flows_per_s", "NEW/S", UNIT_COUNT },
	{ "rtt_p50_us", "P50", UNIT_US },
	{ "loss_permille", "LOSS", UNIT_PERMILLE },
	{ "share_permille", "SHARE", UNIT_PERMILLE },
	{ NULL, NULL, 0 },
};

static const struct column total_columns[] = {
	{ "backends", "BACKENDS", 0 },
	{ "up", "UP", 0 },
	{ "draining", "DRAINING", 0 },
	{ "down", "DOWN", 0 },
	{ "live", "LIVE", 0 },
	{ "packets_per_s", "PKT/S", UNIT_COUNT },
	{ "bits_per_s", "BIT/S", UNIT_COUNT },
	{ "new_flows_per_s", "NEW/S", UNIT_COUNT },
	{ NULL, NULL, 0 },
};

static const struct column event_columns[] = { { "clock", "TIME", 0 }, { "text", "EVENT", 0 }, { NULL, NULL, 0 } };

static const struct view total_views[] = { { SHAPE_TABLE, "total", total_columns, NULL }, { 0 } };
static const struct view vip_views[] = { { SHAPE_TABLE, "vips", vip_columns, NULL }, { 0 } };
static const struct view backend_views[] = { { SHAPE_TABLE, "backends", backend_columns, NULL }, { 0 } };
static const struct view event_views[] = { { SHAPE_LINES, "events", event_columns, NULL }, { 0 } };

/* What servers may be sorted by; on a terminal its first letter says so. */
static const struct {
	const char *word;
	const char *key; /* the largest first; NULL: by name */
} sorts[] = {
	{ "state", NULL }, /* those that want attention first */
	{ "name", NULL },
	{ "live", "live" },
	{ "packets", "packets_per_s" },
	{ "bits", "bits_per_s" },
	{ "flows", "new_flows_per_s" },
};
#define SORT_WORDS "state|name|live|packets|bits|flows"
#define N_SORTS (sizeof(sorts) / sizeof(*sorts))

/* The looks so far: this one, and what the next one is compared with. */
struct top {
	const struct call *call; /* answers to it are quiet */
	json_t *look; /* as programs get it; the last one there was */
	json_t *vips, *backends; /* the daemon's answers before, by name */
	json_t *shares; /* slots of a backend in permille, by name */
	json_t *events; /* the newest */
	int64_t at_ns; /* of the counters */
	json_int_t next_event;
	size_t sort; /* number in sorts[] */
	unsigned n_looks;
	time_t unanswered_since; /* 0: it answers */
};

static json_t *time_json(time_t at)
{
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&at, &tm));
	return json_string(text);
}

/* ---- a look ---- */

/* How fast a counter of `now` runs, in what `scale` makes of it; null without a look before, or where it began anew. */
static json_t *rate_json(const json_t *now, const json_t *before, const char *key, double scale, double seconds)
{
	const json_t *a = json_object_get(before, key), *b = json_object_get(now, key);
	double grown = (double)json_integer_value(b) - (double)json_integer_value(a);

	if (!json_is_integer(a) || !json_is_integer(b) || grown < 0 || seconds <= 0)
		return json_null();
	return json_real(grown * scale / seconds);
}

static void rates_set(json_t *row, const json_t *now, const json_t *before, double seconds)
{
	json_object_set_new(row, "packets_per_s", rate_json(now, before, "packets", 1, seconds));
	json_object_set_new(row, "bits_per_s", rate_json(now, before, "bytes", 8, seconds));
	json_object_set_new(row, "new_flows_per_s", rate_json(now, before, "new_flows", 1, seconds));
}

static void copy(json_t *row, const json_t *from, const char *to_key, const char *from_key)
{
	json_t *value = json_object_get(from, from_key);

	json_object_set(row, to_key, value ? value : json_null());
}

/* The same things of the daemon's list before, or NULL: another one of that name is another thing. */
static const json_t *before_of(const json_t *before, const json_t *now)
{
	const json_t *found = json_object_get(before, json_string_value(json_object_get(now, "name")));

	return json_equal(json_object_get(found, "id"), json_object_get(now, "id")) ? found : NULL;
}

/* The answer's rows by name; of two of a name the last, as the first is being removed. */
static json_t *by_key(const json_t *list, const char *key)
{
	json_t *named = json_object(), *row;
	size_t i;

	json_array_foreach(list, i, row)
	{
		const char *name = json_string_value(json_object_get(row, key));

		if (name)
			json_object_set(named, name, row);
	}
	return named;
}

static json_t *vips_json(const struct top *top, const json_t *list, double seconds)
{
	static const char *const copied[] = { "name", "address", "protocol", "port" };
	json_t *rows = json_array(), *row, *vip;
	size_t i;

	json_array_foreach(list, i, vip)
	{
		row = json_object();
		for (size_t k = 0; k < sizeof(copied) / sizeof(*copied); k++)
			copy(row, vip, copied[k], copied[k]);
		rates_set(row, vip, before_of(top->vips, vip), seconds);
		json_array_append_new(rows, row);
	}
	return rows;
}

static int badness(const json_t *backend)
{
	const char *state = json_string_value(json_object_get(backend, "state"));

	return !state || !strcmp(state, "up") ? 2 : !strcmp(state, "draining") ? 1 : 0;
}

/* As `sort`, a number in sorts[], says; those that are alike by name, gpu9 before gpu10. */
static int backends_compare(const void *a, const void *b, void *sort)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	const char *key = sorts[*(const size_t *)sort].key;
	double x_value = key ? json_number_value(json_object_get(x, key)) : 0;
	double y_value = key ? json_number_value(json_object_get(y, key)) : 0;
	const char *x_name = json_string_value(json_object_get(x, "name"));
	const char *y_name = json_string_value(json_object_get(y, "name"));

	if (x_value != y_value)
		return x_value > y_value ? -1 : 1;
	if (*(const size_t *)sort == 0 && badness(x) != badness(y))
		return badness(x) - badness(y);
	return strverscmp(x_name ? x_name : "", y_name ? y_name : "");
}

/* Takes over the rows. */
static json_t *backends_sort(const struct top *top, json_t *rows)
{
	size_t sort = top->sort;
	size_t n = json_array_size(rows), i;
	json_t **all = calloc(n + 1, sizeof(*all)), *list, *row;

	if (!all)
		return rows;
	json_array_foreach(rows, i, row) all[i] = row;
	qsort_r(all, n, sizeof(*all), backends_compare, &sort);
	list = json_array();
	for (i = 0; i < n; i++)
		json_array_append(list, all[i]);
	free(all);
	json_decref(rows);
	return list;
}

static json_t *backends_json(const struct top *top, const json_t *list, const json_t *probes, double seconds)
{
	static const char *const copied[] = { "name", "pool", "state", "verdict", "since_ns", "live" };
	json_t *rows = json_array(), *row, *backend;
	size_t i;

	json_array_foreach(list, i, backend)
	{
		const char *name = json_string_value(json_object_get(backend, "name"));
		const char *verdict = json_string_value(json_object_get(backend, "verdict"));
		bool removed = verdict && !strcmp(verdict, "removed"); /* another may have its name */
		const json_t *probe = removed ? NULL : json_object_get(probes, name);

		row = json_object();
		for (size_t k = 0; k < sizeof(copied) / sizeof(*copied); k++)
			copy(row, backend, copied[k], copied[k]);
		rates_set(row, backend, before_of(top->backends, backend), seconds);
		copy(row, probe, "rtt_p50_us", "rtt_p50_us");
		copy(row, probe, "loss_permille", "window_loss_permille");
		copy(row, removed ? NULL : top->shares, "share_permille", name);
		json_array_append_new(rows, row);
	}
	return backends_sort(top, rows);
}

/* A column's sum; null where it is not known of anyone. */
static json_t *sum_json(const json_t *rows, const char *key)
{
	bool known = false;
	double sum = 0;
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		known |= json_is_number(json_object_get(row, key));
		sum += json_number_value(json_object_get(row, key));
	}
	return known ? json_real(sum) : json_null();
}

static json_t *total_json(const json_t *vips, const json_t *backends)
{
	json_int_t states[3] = { 0 }, live = 0;
	json_t *row;
	size_t i;

	json_array_foreach(backends, i, row)
	{
		states[badness(row)]++;
		live += json_integer_value(json_object_get(row, "live"));
	}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "backends", (json_int_t)json_array_size(backends),
			 "up", states[2], "draining", states[1], "down", states[0], "live", live, "packets_per_s",
			 sum_json(vips, "packets_per_s"), "bits_per_s", sum_json(vips, "bits_per_s"), "new_flows_per_s",
			 sum_json(vips, "new_flows_per_s"));
}

/* Keep the newest, and note which come next. */
static void events_keep(struct top *top, const json_t *events)
{
	json_t *event;
	size_t i;

	if (top->next_event == 1)
		json_array_clear(top->events);
	json_array_foreach(events, i, event)
	{
		json_array_append(top->events, event);
		top->next_event = json_integer_value(json_object_get(event, "number")) + 1;
	}
	while (json_array_size(top->events) > EVENTS_MAX)
		json_array_remove(top->events, 0);
}

static void shares_keep(struct top *top, const json_t *slots)
{
	json_t *row;
	size_t i;

	json_decref(top->shares);
	top->shares = json_object();
	json_array_foreach(slots, i, row)
	{
		const char *name = json_string_value(json_object_get(row, "backend"));
		double of = json_number_value(json_object_get(row, "slots"));

		if (name && of > 0)
			json_object_set_new(top->shares, name,
					    json_real(json_number_value(json_object_get(row, "owner")) * 1000 / of));
	}
}

/* Ask the daemon everything. 0, or the exit status; then nothing is changed. */
static int look(struct top *top)
{
	json_t *vips = NULL, *backends = NULL, *probes = NULL, *stats = NULL, *events = NULL, *slots = NULL, *probe_of;
	const struct call *call = top->call;
	int64_t at_ns = monotonic_ns();
	double seconds = top->at_ns ? (double)(at_ns - top->at_ns) / 1e9 : 0;
	int code = request_ask(call, "backend", "show", NULL, &backends);

	if (!code)
		code = request_ask(call, "vip", "show", NULL, &vips);
	if (!code)
		code = request_ask(call, "probe", "show", NULL, &probes);
	if (!code)
		code = request_ask(call, "stats", "show", NULL, &stats);
	if (!code)
		code = request_ask(call, "event", "show", json_pack("{s:I}", "from", top->next_event), &events);
	if (!code && (top->n_looks % SLOTS_PERIOD == 0 || json_array_size(events)))
		code = request_ask(call, "slot", "show", NULL, &slots);
	if (code)
		goto out;
	if (slots)
		shares_keep(top, slots);
	events_keep(top, events);
	probe_of = by_key(probes, "backend");
	json_decref(top->look);
	top->look = json_object();
	json_object_set_new(top->look, "time", time_json(time(NULL)));
	json_object_set_new(top->look, "unanswered_since", json_null());
	copy(top->look, stats, "uptime_s", "uptime_s");
	copy(top->look, stats, "health", "health");
	copy(top->look, stats, "ill_because", "ill_because");
	json_object_set_new(top->look, "vips", vips_json(top, vips, seconds));
	json_object_set_new(top->look, "backends", backends_json(top, backends, probe_of, seconds));
	json_object_set_new(top->look, "total",
			    total_json(json_object_get(top->look, "vips"), json_object_get(top->look, "backends")));
	json_object_set(top->look, "events", top->events);
	json_decref(probe_of);
	json_decref(top->vips);
	json_decref(top->backends);
	top->vips = by_key(vips, "name");
	top->backends = by_key(backends, "name");
	top->at_ns = at_ns;
	top->n_looks++;
out:
	json_decref(vips);
	json_decref(backends);
	json_decref(probes);
	json_decref(stats);
	json_decref(events);
	json_decref(slots);
	return code;
}

/* The same; no answer is something to be shown, too. Another daemon may count from the beginning, so nothing is compared. */
static void look_again(struct top *top)
{
	if (!look(top)) {
		top->unanswered_since = 0;
		return;
	}
	if (!top->unanswered_since)
		top->unanswered_since = time(NULL);
	top->at_ns = 0;
	top->next_event = 1;
	json_object_set_new(top->look, "time", time_json(time(NULL)));
	json_object_set_new(top->look, "unanswered_since", time_json(top->unanswered_since));
}

/* ---- for people ---- */

/* The first `n` rows of a part, as its view shows them; then how many follow. */
static void part_print(FILE *f, const struct top *top, const struct view *views, size_t n)
{
	const json_t *rows = json_object_get(top->look, views[0].key);
	json_t *shown = json_array(), *part, *row;
	size_t i;

	json_array_foreach(rows, i, row) if (i < n) json_array_append(shown, row);
	part = json_pack("{s:o}", views[0].key, shown);
	putc('\n', f);
	out_plain_print(f, part, views);
	if (json_array_size(rows) > n)
		fprintf(f, "and %zu more\n", json_array_size(rows) - n);
	json_decref(part);
}

/* The last `n` events, each with the time of its day. */
static void events_print(FILE *f, const struct top *top, size_t n)
{
	const json_t *rows = json_object_get(top->look, "events");
	json_t *shown = json_array(), *part, *row;
	char clock[9];
	size_t i;

	json_array_foreach(rows, i, row)
	{
		const char *time = json_string_value(json_object_get(row, "time")); /* 2026-11-21T07:08:48.168131Z */

		if (i + n < json_array_size(rows))
			continue;
		snprintf(clock, sizeof(clock), "%s", time && strlen(time) > 11 ? time + 11 : "");
		json_array_append_new(shown,
				      json_pack("{s:s, s:O?}", "clock", clock, "text", json_object_get(row, "text")));
	}
	part = json_pack("{s:o}", "events", shown);
	putc('\n', f);
	out_plain_print(f, part, event_views);
	json_decref(part);
}

static size_t part_size(const struct top *top, const char *key)
{
	return json_array_size(json_object_get(top->look, key));
}

static const char *text_of(const struct top *top, const char *key)
{
	return json_string_value(json_object_get(top->look, key));
}

/* How many of `n` rows fit into `room` lines, with a line for those that don't. */
static size_t fitting(size_t n, size_t room)
{
	return n <= room ? n : room > 1 ? room - 1 : 0;
}

/* All of it, or what `lines` have room for (0: any number). */
static void look_print(FILE *f, const struct top *top, size_t lines)
{
	const char *ill = text_of(top, "ill_because"), *unanswered = text_of(top, "unanswered_since");
	size_t n_vips = part_size(top, "vips"), n_backends = part_size(top, "backends"),
	       n_events = part_size(top, "events");
	size_t used = 8 + (ill != NULL); /* lines above the rows: see below */
	json_t *total = json_pack("{s:[O]}", "total", json_object_get(top->look, "total"));

	if (lines) {
		n_events = lines < 24 ? 0 : n_events < lines / 8 ? n_events : lines / 8;
		used += n_events ? n_events + 1 : 0;
		lines = lines > used ? lines - used : 0;
		n_vips = fitting(n_vips, n_vips + n_backends <= lines ? lines : lines / 3);
		n_backends = fitting(n_backends, lines - n_vips - (n_vips < part_size(top, "vips")));
	}
	if (unanswered)
		fprintf(f, "%s: shuntd doesn't answer since %s; what it said last:\n", text_of(top, "time"),
			unanswered);
	else
		fprintf(f, "%s: shuntd answers\n", text_of(top, "time"));
	if (ill)
		fprintf(f, "the balancer is ill: %s\n", ill);
	putc('\n', f);
	out_plain_print(f, total, total_views);
	json_decref(total);
	part_print(f, top, vip_views, n_vips);
	part_print(f, top, backend_views, n_backends);
	if (n_events)
		events_print(f, top, n_events);
}

/* ---- the screen ---- */

static volatile sig_atomic_t ended, stopped; /* by a signal: its number; a wish to be stopped */

static void note_signal(int signal)
{
	if (signal == SIGTSTP)
		stopped = 1;
	else if (signal != SIGWINCH && signal != SIGCONT)
		ended = signal;
}

/* The terminal's own screen is left alone: this is another one (xterm's mode 1049), without a cursor (DECTCEM). */
static void screen_enter(struct termios *before)
{
	struct termios ours;

	if (!tcgetattr(STDIN_FILENO, before)) {
		ours = *before;
		ours.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &ours);
	}
	fputs("\033[?1049h\033[?25l", stdout);
}

static void screen_leave(const struct termios *before)
{
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	if (isatty(STDIN_FILENO))
		tcsetattr(STDIN_FILENO, TCSADRAIN, before);
}

/* One line of at most `width` columns, the rest of it erased. Escape sequences and the inner bytes of UTF-8 take no room. */
static const char *screen_line(const char *text, size_t width)
{
	size_t column = 0;

	for (; *text && *text != '\n'; text++) {
		if (*text == '\033') {
			size_t length = strcspn(text, "m");

			printf("%.*s", (int)length, text);
			text += length;
		} else if ((*text & 0xc0) != 0x80) {
			column++;
		}
		if (column <= width)
			putchar(*text);
	}
	fputs("\033[m\033[K", stdout); /* no colour; to the end of the line */
	return *text ? text + 1 : text;
}

static void screen_draw(const struct top *top)
{
	struct winsize size = { 0 };
	char *text = NULL;
	size_t length;
	FILE *f = open_memstream(&text, &length);

	if (!f)
		return;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_row || !size.ws_col)
		size = (struct winsize){ .ws_row = 24, .ws_col = 80 };
	look_print(f, top, size.ws_row);
	fclose(f);
	fputs("\033[H", stdout); /* the upper left corner */
	for (const char *at = text; *at && size.ws_row--;) {
		at = screen_line(at, size.ws_col);
		if (*at && size.ws_row)
			putchar('\n');
	}
	fputs("\033[J", stdout); /* to the end of the screen */
	fflush(stdout);
	free(text);
}

/* What a key says: how to sort. Whether it is over. */
static bool key_heed(struct top *top, char key)
{
	for (size_t i = 0; i < N_SORTS; i++) {
		if (key == *sorts[i].word && i != top->sort) {
			top->sort = i;
			json_object_set_new(top->look, "backends",
					    backends_sort(top, json_incref(json_object_get(top->look, "backends"))));
		}
	}
	return key == 'q';
}

/* Wait until then, for a key or for a signal. Whether it is over. */
static bool screen_wait(struct top *top, int64_t until_ns, const sigset_t *unblocked)
{
	struct pollfd keys = { .fd = isatty(STDIN_FILENO) ? STDIN_FILENO : -1, .events = POLLIN };
	int64_t left_ns = until_ns - monotonic_ns();
	struct timespec left = { .tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000 };
	char key;

	if (left_ns > 0 && ppoll(&keys, 1, &left, unblocked) > 0)
		return read(STDIN_FILENO, &key, 1) != 1 || key_heed(top, key);
	return ended;
}

static int screen_run(struct top *top, int64_t interval_ns)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT };
	struct sigaction action = { .sa_handler = note_signal };
	int64_t next_ns = monotonic_ns() + interval_ns;
	struct termios before = { 0 };
	sigset_t blocked, unblocked;
	bool over = false;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		sigaddset(&blocked, signals[i]); /* heeded while we wait */
		sigaction(signals[i], &action, NULL);
	}
	sigprocmask(SIG_BLOCK, &blocked, &unblocked);
	screen_enter(&before);
	while (!over && !ferror(stdout)) {
		screen_draw(top);
		over = screen_wait(top, next_ns, &unblocked);
		if (stopped) {
			screen_leave(&before);
			raise(SIGSTOP);
			stopped = 0;
			screen_enter(&before);
		}
		if (!over && (int64_t)monotonic_ns() >= next_ns) {
			look_again(top);
			next_ns = monotonic_ns() + interval_ns;
		}
	}
	screen_leave(&before);
	sigprocmask(SIG_SETMASK, &unblocked, NULL);
	if (!ended)
		return CONTROL_DONE;
	signal(ended, SIG_DFL);
	raise(ended); /* so that whoever called sees why it ended */
	return CONTROL_REFUSED;
}

/* ---- elsewhere ---- */

static int stream_run(const struct call *call, struct top *top, int64_t interval_ns, json_int_t count)
{
	for (json_int_t i = 0; (!count || i < count) && !ferror(stdout); i++) {
		struct timespec interval = { .tv_sec = interval_ns / 1000000000, .tv_nsec = interval_ns % 1000000000 };

		nanosleep(&interval, NULL); /* the first look has nothing to be compared with */
		look_again(top);
		if (!call->out->for_people) {
			call->out->item(top->look, NULL);
			continue;
		}
		if (i)
			putchar('\n');
		look_print(stdout, top, 0);
		fflush(stdout);
	}
	return CONTROL_DONE;
}

/* Which of sorts[] the call wants. 0, or complained of. */
static int sort_parse(const struct call *call, size_t *sort)
{
	const char *word = json_string_value(json_object_get(call->args, "sort"));
	struct words words = { .n = N_SORTS };
	const char *two[2];
	int found;

	for (size_t i = 0; i < N_SORTS; i++)
		words.word[i] = sorts[i].word;
	found = word ? word_find(word, &words, two) : 0;
	if (found < 0)
		return complain(call, CONTROL_MISUSE, "'sort' is one of " SORT_WORDS ", not '%s'", word);
	*sort = (size_t)found;
	return CONTROL_DONE;
}

static int top_run(struct call *call)
{
	const json_t *interval = json_object_get(call->args, "interval");
	json_int_t count = json_integer_value(json_object_get(call->args, "count"));
	int64_t interval_ns = interval ? json_integer_value(interval) : INTERVAL_NS;
	struct call quiet = *call;
	struct top top = { .call = call, .next_event = 1 };
	int code = sort_parse(call, &top.sort);

	if (code)
		return code;
	if (interval_ns < INTERVAL_MIN_NS || interval_ns > INTERVAL_MAX_NS)
		return complain(call, CONTROL_MISUSE, "'interval' is from 100ms to 1h");
	top.events = json_array();
	code = look(&top);
	quiet.out = &out_none;
	quiet.patience_ms = PATIENCE_MS;
	top.call = &quiet;
	if (!code && call->out->for_people && !count && isatty(STDOUT_FILENO))
		code = screen_run(&top, interval_ns);
	else if (!code)
		code = stream_run(call, &top, interval_ns, count);
	json_decref(top.look);
	json_decref(top.vips);
	json_decref(top.backends);
	json_decref(top.shares);
	json_decref(top.events);
	return code;
}

static const struct key keys[] = {
	{ .word = "interval", .value = VALUE_DURATION, .title = "TIME" },
	{ .word = "sort", .value = VALUE_TEXT, .title = SORT_WORDS },
	{ .word = "count", .value = VALUE_NUMBER, .title = "N", .letter = 'n' },
	{ 0 },
};

static const struct command commands[] = {
	{ .name = "",
	  .help = "anew each TIME (1s) on a terminal, until q; elsewhere, or with -n N, block after block",
	  .run = top_run,
	  .keys = keys },
	{ 0 },
};

const struct object top_object = { "top", "what happens now", commands };
