// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * check_http.c - `http`: a GET is answered with a status from 200 to 299. libcurl asks, driven by the checker's epoll;
 * the connection is taken to be there when it is made, and the answer to be known when its header is: of the body
 * not a byte is waited for.
 *
 * A slow, wrong or missing answer on a connection that was made is a soft verdict; only what concerns the connection
 * itself is judged as `tcp` judges it.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "common/clock.h"
#include "shuntd/check_kind.h"

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	struct checker *c = arg;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0U) | (what & CURL_POLL_OUT ? EPOLLOUT : 0U);

	(void)easy;
	(void)socket_arg;
	if (what == CURL_POLL_REMOVE) {
		epoll_ctl(c->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	return checker_watch(c, fd, SOURCE_HTTP, (uint32_t)fd, events) ? -1 : 0;
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *arg)
{
	struct checker *c = arg;

	(void)multi;
	c->curl_ns = timeout_ms < 0 ? UINT64_MAX : monotonic_ns() + (uint64_t)timeout_ms * 1000000ULL;
	if (c->curl_ns < c->wake_ns)
		c->wake_ns = c->curl_ns;
	return 0;
}

int check_http_open(struct checker *c)
{
	if (c->multi)
		return 0;
	if (curl_global_init(CURL_GLOBAL_NOTHING))
		return -ENOMEM;
	c->multi = curl_multi_init();
	if (!c->multi)
		return -ENOMEM;
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
	curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
	curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	return 0;
}

void check_http_close(struct checker *c)
{
	if (!c->multi)
		return;
	curl_multi_cleanup(c->multi);
	curl_global_cleanup();
}

/* A line of the header. The empty one ends a header, and the status that came with it says all, unless more is to follow (1xx). */
static size_t header_take(char *data, size_t size, size_t n, void *arg)
{
	const struct check *k = arg; /* size is 1 */
	bool is_end = n && (data[0] == '\r' || data[0] == '\n');
	long status = 0;

	curl_easy_getinfo(k->http.easy, CURLINFO_RESPONSE_CODE, &status);
	return is_end && status >= 200 ? 0 : size * n;
}

/* After a 101 libcurl takes what follows for a body. */
static size_t body_refuse(char *data, size_t size, size_t n, void *arg)
{
	(void)data;
	(void)size;
	(void)n;
	(void)arg;
	return 0;
}

static bool easy_set(struct check *k)
{
	CURL *e = k->http.easy;
	CURLcode bad = CURLE_OK;

	bad |= curl_easy_setopt(e, CURLOPT_PRIVATE, k);
	bad |= curl_easy_setopt(e, CURLOPT_URL, k->http.url);
	bad |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http");
	bad |= curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	bad |= curl_easy_setopt(e, CURLOPT_PROXY, ""); /* whatever the environment says */
	bad |= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(k->of.check.timeout_ns / 1000000));
	bad |= curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L); /* a kept connection doesn't prove that it accepts */
	bad |= curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_USERAGENT, "shuntd");
	bad |= curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, header_take);
	bad |= curl_easy_setopt(e, CURLOPT_HEADERDATA, k);
	bad |= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, body_refuse);
	return !bad;
}

static int http_open(struct check *k, uint64_t now_ns, const char **why)
{
	const struct config_check *conf = &k->of.check;
	bool v4 = address_is_v4(&k->of.address);
	char address[ADDRESS_TEXT_MAX];

	(void)now_ns;
	*why = "no memory for an http check";
	address_format(&k->of.address, address, sizeof(address));
	snprintf(k->http.url, sizeof(k->http.url), "http://%s%s%s:%u%s", v4 ? "" : "[", address, v4 ? "" : "]",
		 conf->port, conf->path);
	k->http.easy = check_http_open(k->checker) ? NULL : curl_easy_init();
	return k->http.easy && easy_set(k) ? 0 : -ENOMEM;
}

static void ask_end(struct check *k)
{
	if (k->http.asking)
		curl_multi_remove_handle(k->checker->multi, k->http.easy);
	k->http.asking = false;
}

static void http_close(struct check *k)
{
	ask_end(k);
	if (k->http.easy)
		curl_easy_cleanup(k->http.easy);
}

/* How far it came, in the words of a series. */
static enum outcome outcome_of(CURL *easy, CURLcode result, char *text, size_t size)
{
	long status = 0, error = 0;
	curl_off_t connected = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &error);
	curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected);
	if (!result || (result == CURLE_WRITE_ERROR && status)) {
		snprintf(text, size, "status %ld", status);
		return status >= 200 && status < 300 ? OUTCOME_GOOD : OUTCOME_WRONG;
	}
	if (connected) {
		snprintf(text, size, "%s",
			 result == CURLE_OPERATION_TIMEDOUT ? "no answer to its GET" : curl_easy_strerror(result));
		return OUTCOME_WRONG;
	}
	if (result == CURLE_OPERATION_TIMEDOUT) {
		snprintf(text, size, "no answer");
		return OUTCOME_SILENT;
	}
	if (result == CURLE_COULDNT_CONNECT && error == ECONNREFUSED) {
		snprintf(text, size, "refused");
		return OUTCOME_REFUSED;
	}
	if (result == CURLE_COULDNT_CONNECT && (error == EHOSTUNREACH || error == ETIMEDOUT)) {
		snprintf(text, size, "%s", strerror((int)error));
		return OUTCOME_SILENT;
	}
	snprintf(text, size, "not asked: %s", error ? strerror((int)error) : curl_easy_strerror(result));
	return OUTCOME_NOT_ASKED;
}

void check_http_step(struct checker *c, int fd, int events, uint64_t now_ns)
{
	CURLMsg *message;
	int left;

	if (!c->multi)
		return;
	curl_multi_socket_action(c->multi, fd, events, &left);
	while ((message = curl_multi_info_read(c->multi, &left))) {
		struct check *k = NULL;
		enum outcome outcome;
		char text[80];

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &k);
		outcome = outcome_of(message->easy_handle, message->data.result, text, sizeof(text));
		ask_end(k);
		series_end(k, outcome, now_ns, text);
		check_wake(k);
	}
}

static uint64_t http_run(struct check *k, uint64_t now_ns)
{
	if (!k->http.asking && now_ns >= k->series.next_ns) {
		series_begin(k, now_ns);
		k->http.asking = !curl_multi_add_handle(k->checker->multi, k->http.easy);
		if (!k->http.asking)
			series_end(k, OUTCOME_NOT_ASKED, now_ns, "not asked: no memory");
	}
	return k->http.asking ? UINT64_MAX : k->series.next_ns; /* libcurl counts the time */
}

const struct check_kind check_http = {
	.open = http_open,
	.close = http_close,
	.run = http_run,
	.late = series_late,
	.pardon = series_pardon,
	.gap_ns = series_gap_ns,
	.describe = series_describe,
};
