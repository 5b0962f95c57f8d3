/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * health.c - see health.h. libcurl asks, within the agent's turns; only the status counts, the body is thrown away and,
 * past a bound, not waited for.
 */
#include "agent/health.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#define BODY_MAX 65536 /* bytes, chosen */
#define WAITS_MAX 16 /* descriptors of the agent's own, chosen: more than it has */

struct health {
	const struct config_engine *config;
	CURLM *multi;
	CURL *easy;
	bool asking, asking_full; /* the first or the second URL */
	size_t body_bytes;
	uint64_t next_ns; /* CLOCK_MONOTONIC of the next question */
	uint32_t good, bad; /* answers in a row */
	bool first; /* it hasn't said that it is ready yet */
	bool ready, full;
	char reason[CURL_ERROR_SIZE + 32];
	char error[CURL_ERROR_SIZE];
};

static size_t body_take(char *data, size_t size, size_t n, void *arg)
{
	struct health *h = arg;

	(void)data;
	h->body_bytes += size * n;
	return h->body_bytes > BODY_MAX ? 0 : size * n; /* 0 ends the transfer; the status is known */
}

static bool easy_set(struct health *h)
{
	CURL *e = h->easy;
	CURLcode bad = CURLE_OK;

	bad |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http");
	bad |= curl_easy_setopt(e, CURLOPT_PROXY, ""); /* whatever the environment says */
	bad |= curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(h->config->health_timeout_ns / 1000000));
	/* Who looks up a name for a question that has timed out is not waited for; before 7.87 it is. */
	curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, 1L); /* a kept connection doesn't prove that it accepts */
	bad |= curl_easy_setopt(e, CURLOPT_FORBID_REUSE, 1L);
	bad |= curl_easy_setopt(e, CURLOPT_USERAGENT, "shunt-agent");
	bad |= curl_easy_setopt(e, CURLOPT_ERRORBUFFER, h->error);
	bad |= curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, body_take);
	bad |= curl_easy_setopt(e, CURLOPT_WRITEDATA, h);
	return !bad;
}

struct health *health_open(const struct config_engine *config)
{
	struct health *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->config = config;
	h->first = true;
	h->multi = curl_multi_init();
	h->easy = curl_easy_init();
	if (h->multi && h->easy && easy_set(h))
		return h;
	health_close(h);
	return NULL;
}

static void ask_end(struct health *h)
{
	if (h->asking)
		curl_multi_remove_handle(h->multi, h->easy);
	h->asking = false;
}

void health_rest(struct health *h)
{
	ask_end(h);
}

void health_close(struct health *h)
{
	if (!h)
		return;
	ask_end(h);
	if (h->easy)
		curl_easy_cleanup(h->easy);
	if (h->multi)
		curl_multi_cleanup(h->multi);
	free(h);
}

void health_restart(struct health *h, uint64_t now_ns)
{
	ask_end(h);
	h->first = true;
	h->ready = h->full = false;
	h->good = h->bad = 0;
	h->next_ns = now_ns;
}

void health_resume(struct health *h, bool ready, bool full, uint64_t now_ns)
{
	health_restart(h, now_ns);
	h->first = !ready;
	h->ready = ready;
	h->full = ready && full;
}

static bool ask(struct health *h, const char *url)
{
	h->body_bytes = 0;
	h->error[0] = 0;
	h->asking = !curl_easy_setopt(h->easy, CURLOPT_URL, url) && !curl_multi_add_handle(h->multi, h->easy);
	return h->asking;
}

/* The status of an answer, whose body may have been cut; 0: there was none in time. */
static long answer_status(const struct health *h, CURLcode result)
{
	long status = 0;

	if (!result || (result == CURLE_WRITE_ERROR && h->body_bytes > BODY_MAX))
		curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
	return status;
}

/* Whether it was a good one. */
static bool answer_take(struct health *h, CURLcode result)
{
	long status = answer_status(h, result);
	bool good = (status >= 200 && status < 300) || status == 429;

	if (!good || !*h->config->health_full_url)
		h->full = status == 429;
	h->good = good ? h->good + 1 : 0;
	h->bad = good ? 0 : h->bad + 1;
	if (h->ready ? h->bad < h->config->health_fall : h->good < (h->first ? 1 : h->config->health_rise))
		return good;
	h->ready = !h->ready;
	h->first = false;
	if (status)
		snprintf(h->reason, sizeof(h->reason), "status %ld", status);
	else
		snprintf(h->reason, sizeof(h->reason), "%s", h->error[0] ? h->error : curl_easy_strerror(result));
	return good;
}

/* Anything but these two, no answer too, says nothing of being full. */
static void full_take(struct health *h, CURLcode result)
{
	long status = answer_status(h, result);

	h->full = status == 429 || status == 503;
}

int health_poll(struct health *h, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct curl_waitfd waits[WAITS_MAX];
	int ready = 0;

	if (!h->asking || n > WAITS_MAX)
		return poll(fds, n, timeout_ms);
	for (nfds_t i = 0; i < n; i++)
		waits[i] = (struct curl_waitfd){ .fd = fds[i].fd, .events = CURL_WAIT_POLLIN };
	if (curl_multi_poll(h->multi, waits, (unsigned)n, timeout_ms, NULL))
		return poll(fds, n, timeout_ms);
	for (nfds_t i = 0; i < n; i++) {
		fds[i].revents = waits[i].revents ? POLLIN : 0;
		ready += fds[i].revents != 0;
	}
	return ready;
}

void health_run(struct health *h, uint64_t now_ns)
{
	const CURLMsg *message;
	CURLcode result;
	int left;

	if (!h->asking && now_ns >= h->next_ns) {
		h->next_ns = now_ns + h->config->health_interval_ns;
		h->asking_full = false;
		ask(h, h->config->health_url);
	}
	if (!h->asking)
		return;
	curl_multi_perform(h->multi, &left);
	message = curl_multi_info_read(h->multi, &left);
	if (!message || message->msg != CURLMSG_DONE)
		return;
	result = message->data.result; /* the message ends with the question */
	ask_end(h);
	if (h->asking_full)
		full_take(h, result);
	else if (answer_take(h, result) && *h->config->health_full_url)
		h->asking_full = ask(h, h->config->health_full_url);
}

bool health_is_known(const struct health *h)
{
	return h->ready || h->good || h->bad;
}

bool health_is_ready(const struct health *h)
{
	return h->ready;
}

bool health_is_full(const struct health *h)
{
	return h->full;
}

const char *health_reason(const struct health *h)
{
	return h->reason;
}
