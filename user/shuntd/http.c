/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * http.c - see http.h. libmicrohttpd (MHD) speaks HTTP; what is said is here, in answer.c and in metrics.c.
 *
 * MHD has an epoll descriptor of its own and no thread: MHD_run() does what is ready and returns. A client that neither
 * begins nor ends a request for HTTP_PATIENCE_NS is cut off, whatever it sends or takes meanwhile.
 */
#include "shuntd/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "page.h"
#include "shuntd/answer.h"
#include "shuntd/health.h"
#include "shuntd/loop.h"
#include "shuntd/metrics.h"

#define SECOND_NS 1000000000ULL
#define PERIOD_NS SECOND_NS /* between looks at who is slow */
#define SOON_NS 500000ULL /* until the next slice: the main loop's other half; chosen */
#define SLICE_NS \
	500000ULL /* of metrics that are being made, chosen: clients of a dead backend are told by the same loop */
#define METRICS_KEPT_NS SECOND_NS
#define ANSWER_KEPT 20 /* an answer is kept for so many times as long as it took to make: it costs 5 % at most */
#define ANSWER_BURST_NS 50000000ULL /* chosen: answers that can't be kept may take so long at once, and 5 % for long */

/* /api/v1/PATH: the command that answers. */
static const struct path {
	const char *path, *object, *command;
} paths[] = {
	{ "vips", "vip", "show" },      { "backends", "backend", "show" },  { "pools", "pool", "show" },
	{ "probes", "probe", "show" },  { "slots", "slot", "show" },        { "stats", "stats", "show" },
	{ "events", "event", "show" },  { "flows/count", "flow", "count" }, { "peer", "peer", "show" },
	{ "daemon", "daemon", "show" },
};
#define N_PATHS (sizeof(paths) / sizeof(*paths))
#define API "/api/v1/"

struct http_client {
	int fd; /* -1: free */
	bool is_cut; /* it ends when MHD notices */
	uint64_t since_ns; /* CLOCK_MONOTONIC: its newest begin or end of a request */
};

struct http {
	struct shuntd *shuntd;
	struct MHD_Daemon *daemon;
	int epoll_fd, timer_fd; /* the first is MHD's */
	struct http_client clients[HTTP_CLIENTS_MAX];
	uint64_t looked_ns; /* CLOCK_MONOTONIC: the newest look at who is slow, and at what is kept */
	struct MHD_Response *page;
	struct kept {
		struct MHD_Response *response; /* NULL: none */
		uint64_t until_ns; /* CLOCK_MONOTONIC */
	} answers[N_PATHS], metrics[METRICS_FORMATS];
	struct metrics *making; /* NULL: no metrics are being made */
	struct MHD_Connection *waiting[HTTP_CLIENTS_MAX]; /* for them, suspended */
	int n_waiting;
	uint64_t due_ns; /* CLOCK_MONOTONIC: when the answers that weren't kept are paid for */
};

/* ---- responses ---- */

/* NULL: no memory. */
static struct MHD_Response *response_finish(struct MHD_Response *r, const char *type)
{
	if (!r)
		return NULL;
	MHD_add_response_header(r, "Content-Type", type);
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	return r;
}

/* Of a text that is to be freed by MHD, or that stays (MHD_RESPMEM_PERSISTENT). */
static struct MHD_Response *response_make(const char *text, size_t length, enum MHD_ResponseMemoryMode mode,
					  const char *type)
{
	return response_finish(text ? MHD_create_response_from_buffer(length, (void *)text, mode) : NULL, type);
}

/* Takes over the reference to the value. */
static struct MHD_Response *response_json(json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

	json_decref(value);
	return response_make(text, text ? strlen(text) : 0, MHD_RESPMEM_MUST_FREE, "application/json");
}

/* Queue and give up our reference. */
static enum MHD_Result respond(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
	enum MHD_Result result = response ? MHD_queue_response(connection, status, response) : MHD_NO;

	if (response)
		MHD_destroy_response(response);
	return result;
}

static enum MHD_Result respond_kept(struct MHD_Connection *connection, const struct kept *kept)
{
	return kept->response ? MHD_queue_response(connection, MHD_HTTP_OK, kept->response) : MHD_NO;
}

static enum MHD_Result respond_error(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return respond(connection, status, response_json(json_pack("{s:s}", "error", text)));
}

/* Answers to questions with arguments take too much of the main loop. */
static enum MHD_Result respond_busy(struct MHD_Connection *connection)
{
	struct MHD_Response *r =
		response_json(json_pack("{s:s}", "error", "too many questions: ask again in a second"));

	if (r)
		MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	return respond(connection, MHD_HTTP_SERVICE_UNAVAILABLE, r);
}

static void kept_drop(struct kept *kept)
{
	if (kept->response)
		MHD_destroy_response(kept->response);
	*kept = (struct kept){ 0 };
}

/* ---- the objects ---- */

/* MHD_KeyValueIterator: into a JSON object; a value that is not UTF-8 is nobody's name. */
static enum MHD_Result word_add(void *words, enum MHD_ValueKind kind, const char *key, const char *value)
{
	json_t *text = json_string(value ? value : "");

	(void)kind;
	json_object_set_new(words, key, text ? text : json_string(""));
	return MHD_YES;
}

static enum MHD_Result api_answer(struct http *http, struct MHD_Connection *connection, const struct path *path)
{
	struct kept *kept = &http->answers[path - paths];
	struct request request = { .shuntd = http->shuntd, .uid = (uid_t)-1 };
	json_t *words = json_object(), *args, *result;
	struct MHD_Response *response;
	uint64_t begun_ns = monotonic_ns();
	bool is_plain = MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, word_add, words) == 0;

	if (is_plain && kept->response && begun_ns < kept->until_ns) {
		json_decref(words);
		return respond_kept(connection, kept);
	}
	/* The generic cell rate algorithm (ITU-T I.371), in time that they take. */
	if (!is_plain && http->due_ns > begun_ns + ANSWER_KEPT * ANSWER_BURST_NS) {
		json_decref(words);
		return respond_busy(connection);
	}
	args = answer_arguments(path->object, path->command, words);
	result = answer_command(&request, path->object, path->command, args);
	json_decref(args);
	json_decref(words);
	if (!result)
		return respond_error(connection,
				     request.code == CONTROL_MISUSE ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_NOT_FOUND,
				     request.error);
	if (!is_plain) {
		response = response_json(result);
		http->due_ns =
			(http->due_ns > begun_ns ? http->due_ns : begun_ns) + ANSWER_KEPT * (monotonic_ns() - begun_ns);
		return respond(connection, MHD_HTTP_OK, response);
	}
	kept_drop(kept);
	kept->response = response_json(result);
	kept->until_ns = monotonic_ns() + ANSWER_KEPT * (monotonic_ns() - begun_ns);
	return respond_kept(connection, kept);
}

static const struct path *path_find(const char *url)
{
	if (strncmp(url, API, strlen(API)) != 0)
		return NULL;
	for (const struct path *p = paths; p < paths + N_PATHS; p++)
		if (!strcmp(url + strlen(API), p->path))
			return p;
	return NULL;
}

/* ---- metrics ---- */

/* How much a media type is wanted: 1000 times its q (RFC 9110 12.4.2); 0 where it isn't named. */
static int accept_quality(const char *accept, const char *type)
{
	const char *at = accept ? strstr(accept, type) : NULL, *end, *q;

	if (!at)
		return 0;
	end = at + strcspn(at, ",");
	q = strstr(at, "q=");
	return q && q < end ? (int)(1000 * strtod(q + 2, NULL)) : 1000;
}

/* OpenMetrics for who asks for it; who says nothing gets what every scraper and every person can read. */
static enum metrics_format format_choose(struct MHD_Connection *connection)
{
	const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Accept");
	int open = accept_quality(accept, "application/openmetrics-text");

	return open && open >= accept_quality(accept, "text/plain") ? METRICS_OPEN : METRICS_TEXT;
}

static void metrics_release(void *metrics)
{
	metrics_free(metrics);
}

/* The pieces are sent from where they are: to join megabytes takes milliseconds. */
static struct MHD_Response *response_metrics(struct metrics *metrics, enum metrics_format format)
{
	static const char *const types[METRICS_FORMATS] = {
		[METRICS_TEXT] = "text/plain; version=0.0.4; charset=utf-8",
		[METRICS_OPEN] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
	};
	struct metrics_part parts[METRICS_PARTS_MAX];
	struct MHD_IoVec pieces[METRICS_PARTS_MAX];
	size_t n = metrics_parts(metrics, format, parts);
	struct MHD_Response *r;

	for (size_t i = 0; i < n; i++)
		pieces[i] = (struct MHD_IoVec){ parts[i].data, parts[i].length };
	r = n ? MHD_create_response_from_iovec(pieces, (unsigned)n, metrics_release, metrics) : NULL;
	if (r)
		metrics_share(metrics);
	return response_finish(r, types[format]);
}

static void metrics_go_on(struct http *http)
{
	if (!http->making || !metrics_run(http->making, monotonic_ns() + SLICE_NS))
		return;
	for (int i = 0; i < METRICS_FORMATS; i++) {
		kept_drop(&http->metrics[i]);
		http->metrics[i].response = response_metrics(http->making, (enum metrics_format)i);
		http->metrics[i].until_ns = monotonic_ns() + METRICS_KEPT_NS;
	}
	metrics_free(http->making);
	http->making = NULL;
	while (http->n_waiting) /* the handler is called once more for each */
		MHD_resume_connection(http->waiting[--http->n_waiting]);
}

static enum MHD_Result metrics_answer(struct http *http, struct MHD_Connection *connection)
{
	const struct kept *kept = &http->metrics[format_choose(connection)];

	if (!http->making && monotonic_ns() >= kept->until_ns) {
		http->making = metrics_begin(http->shuntd);
		metrics_go_on(http);
	}
	if (!http->making)
		return respond_kept(connection, kept);
	if (http->n_waiting == HTTP_CLIENTS_MAX)
		return MHD_NO;
	http->waiting[http->n_waiting++] = connection;
	MHD_suspend_connection(connection);
	return MHD_YES;
}

/* ---- requests ---- */

static enum MHD_Result health_answer(struct http *http, struct MHD_Connection *connection)
{
	char why[256], text[300];
	bool ill = shuntd_ill(http->shuntd, why, sizeof(why)) != NULL;

	snprintf(text, sizeof(text), "%s\n", ill ? why : "well");
	return respond(connection, ill ? MHD_HTTP_SERVICE_UNAVAILABLE : MHD_HTTP_OK,
		       response_make(text, strlen(text), MHD_RESPMEM_MUST_COPY, "text/plain; charset=utf-8"));
}

static enum MHD_Result url_answer(struct http *http, struct MHD_Connection *connection, const char *url)
{
	const struct path *path = path_find(url);

	if (path)
		return api_answer(http, connection, path);
	if (!strcmp(url, "/metrics"))
		return metrics_answer(http, connection);
	if (!strcmp(url, "/healthz"))
		return health_answer(http, connection);
	if (!strcmp(url, "/"))
		return MHD_queue_response(connection, MHD_HTTP_OK, http->page);
	return respond_error(connection, MHD_HTTP_NOT_FOUND, "there is nothing of this name: see shuntd(8)");
}

static enum MHD_Result method_refuse(struct MHD_Connection *connection)
{
	struct MHD_Response *r = response_json(json_pack("{s:s}", "error", "it can only be read: GET or HEAD"));

	if (r)
		MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	return respond(connection, MHD_HTTP_METHOD_NOT_ALLOWED, r);
}

static void client_touch(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct http_client *client = info ? info->socket_context : NULL;

	if (client)
		client->since_ns = monotonic_ns();
}

/* MHD_AccessHandlerCallback: when the headers are there, for each part of a body, and when the request is complete. */
static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method,
				  const char *version, const char *body, size_t *body_size, void **seen)
{
	struct http *http = arg;

	(void)version;
	(void)body;
	if (!*seen) {
		*seen = http;
		client_touch(connection);
		if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
			return method_refuse(connection); /* now: its body isn't waited for */
		return MHD_YES;
	}
	return *body_size ? MHD_NO : url_answer(http, connection, url);
}

static void on_complete(void *arg, struct MHD_Connection *connection, void **seen, enum MHD_RequestTerminationCode why)
{
	(void)arg;
	(void)seen;
	(void)why;
	client_touch(connection);
}

/* ---- clients ---- */

static void client_cut(struct http_client *client, uint64_t now)
{
	shutdown(client->fd, SHUT_RDWR); /* MHD finds the connection ended */
	client->is_cut = true;
	client->since_ns = now;
}

/* Make room, before MHD accepts no more. */
static void clients_displace(struct http *http)
{
	struct http_client *oldest = NULL;
	int n = 0;

	for (struct http_client *c = http->clients; c < http->clients + HTTP_CLIENTS_MAX; c++) {
		if (c->fd < 0 || c->is_cut)
			continue;
		n++;
		if (!oldest || c->since_ns < oldest->since_ns)
			oldest = c;
	}
	if (n > HTTP_CLIENTS_MAX - HTTP_CLIENTS_SPARE)
		client_cut(oldest, monotonic_ns());
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
			  enum MHD_ConnectionNotificationCode code)
{
	const union MHD_ConnectionInfo *info;
	struct http *http = arg;
	struct http_client *client = *context;

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (client)
			client->fd = -1;
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (int i = 0; info && !client && i < HTTP_CLIENTS_MAX; i++)
		if (http->clients[i].fd < 0)
			client = &http->clients[i];
	if (!client)
		return;
	*client = (struct http_client){ .fd = info->connect_fd, .since_ns = monotonic_ns() };
	*context = client;
	clients_displace(http);
}

/* Who sends nothing, a request byte by byte, or doesn't take its answer. */
static void clients_cut(struct http *http, uint64_t now)
{
	for (int i = 0; i < HTTP_CLIENTS_MAX; i++) {
		struct http_client *client = &http->clients[i];

		if (client->fd >= 0 && now - client->since_ns > HTTP_PATIENCE_NS)
			client_cut(client, now);
	}
}

static void answers_drop(struct http *http, uint64_t now)
{
	for (size_t i = 0; i < N_PATHS; i++)
		if (now >= http->answers[i].until_ns)
			kept_drop(&http->answers[i]);
	for (int i = 0; i < METRICS_FORMATS; i++)
		if (now >= http->metrics[i].until_ns)
			kept_drop(&http->metrics[i]);
}

/* MHD is told of its sockets once: what it has not dealt with yet, it has to be asked for. */
static void http_run(struct http *http)
{
	struct itimerspec at = { 0 };
	MHD_UNSIGNED_LONG_LONG wait_ms;
	uint64_t soon_ns = PERIOD_NS, now = monotonic_ns();

	if (now - http->looked_ns >= PERIOD_NS) {
		http->looked_ns = now;
		clients_cut(http, now);
		answers_drop(http, now);
	}
	metrics_go_on(http);
	MHD_run(http->daemon);
	if (http->making || (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES && !wait_ms))
		soon_ns = SOON_NS;
	at.it_value.tv_sec = (time_t)(soon_ns / SECOND_NS);
	at.it_value.tv_nsec = (long)(soon_ns % SECOND_NS);
	timerfd_settime(http->timer_fd, 0, &at, NULL);
}

static void on_socket(void *arg)
{
	http_run(arg);
}

static void on_timer(void *arg)
{
	struct http *http = arg;
	uint64_t expirations;

	if (read(http->timer_fd, &expirations, sizeof(expirations)) == sizeof(expirations))
		http_run(http);
}

/* ---- the socket ---- */

static int listener_open(const struct config_http *conf)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(conf->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(conf->port) };
	bool is_v4 = address_is_v4(&conf->address);
	const int on = 1;
	int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;

	if (fd < 0)
		return -errno;
	v4.sin_addr.s_addr = conf->address.w[3];
	memcpy(&v6.sin6_addr, &conf->address, sizeof(v6.sin6_addr));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6, is_v4 ? sizeof(v4) : sizeof(v6)) ||
	    listen(fd, SOMAXCONN)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* The page's own script and style, and its own host to ask: nothing else (W3C Content Security Policy Level 3). */
static struct MHD_Response *page_make(void)
{
	struct MHD_Response *r = response_make((const char *)page_html, sizeof(page_html), MHD_RESPMEM_PERSISTENT,
					       "text/html; charset=utf-8");

	if (!r)
		return NULL;
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'none'; script-src '" PAGE_SCRIPT_HASH "'; style-src '" PAGE_STYLE_HASH
				"'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
				"frame-ancestors 'none'");
	MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
	return r;
}

int http_open(struct http **out, struct shuntd *s)
{
	const union MHD_DaemonInfo *info;
	struct http *http;
	int listener, err;

	*out = NULL;
	if (!s->config->http.on)
		return 0;
	listener = listener_open(&s->config->http);
	if (listener < 0)
		return listener;
	http = calloc(1, sizeof(*http));
	if (!http) {
		close(listener);
		return -ENOMEM;
	}
	http->shuntd = s;
	http->epoll_fd = -1;
	for (int i = 0; i < HTTP_CLIENTS_MAX; i++)
		http->clients[i].fd = -1;
	http->page = page_make();
	http->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (http->page && http->timer_fd >= 0)
		http->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
						http, MHD_OPTION_LISTEN_SOCKET, listener, MHD_OPTION_CONNECTION_LIMIT,
						(unsigned)HTTP_CLIENTS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
						(unsigned)HTTP_CLIENTS_PER_ADDRESS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
						(size_t)HTTP_REQUEST_MAX, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
						http, MHD_OPTION_NOTIFY_COMPLETED, on_complete, http, MHD_OPTION_END);
	if (!http->daemon) {
		close(listener); /* else MHD's from here on */
		http_close(http);
		return -ENOMEM;
	}
	info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	http->epoll_fd = info ? info->epoll_fd : -1;
	err = http->epoll_fd < 0 ? -EINVAL : loop_add(s->loop, http->epoll_fd, on_socket, http);
	err = err ? err : loop_add(s->loop, http->timer_fd, on_timer, http);
	if (err) {
		http_close(http);
		return err;
	}
	http_run(http);
	*out = http;
	return 0;
}

void http_close(struct http *http)
{
	if (!http)
		return;
	loop_remove(http->shuntd->loop, http->epoll_fd);
	loop_remove(http->shuntd->loop, http->timer_fd);
	while (http->n_waiting)
		MHD_resume_connection(http->waiting[--http->n_waiting]);
	if (http->daemon)
		MHD_stop_daemon(http->daemon);
	metrics_free(http->making);
	for (size_t i = 0; i < N_PATHS; i++)
		kept_drop(&http->answers[i]);
	for (int i = 0; i < METRICS_FORMATS; i++)
		kept_drop(&http->metrics[i]);
	if (http->page)
		MHD_destroy_response(http->page);
	if (http->timer_fd >= 0)
		close(http->timer_fd);
	free(http);
}
