// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * check_series.c - what tcp and http have in common: one question after another, `rise` and `fall`.
 *
 * Questions are asked at whole multiples of the interval, so that backends of one interval are asked together and each
 * one's answer can bear witness to the silence of another.
 */
#include "core/config.h"
#include "shunt/heartbeat.h"
#include "shuntd/check_kind.h"

void series_begin(struct check *k, uint64_t now_ns)
{
	struct check_series *s = &k->series;

	s->sent_ns = now_ns;
	s->round = __atomic_load_n(&k->checker->o.detector->round, __ATOMIC_ACQUIRE);
	s->next_ns = (now_ns / k->of.check.interval_ns + 1) * k->of.check.interval_ns;
	s->pardoned = false;
}

static void answered(struct check *k, uint64_t now_ns)
{
	check_answered(k, now_ns, k->series.sent_ns, k->series.round);
}

static void bad(struct check *k)
{
	k->series.good = 0;
	k->series.bad++;
}

/* Nobody took the connection. However often an engine said before that it isn't ready, it did say so. */
static void lost(struct check *k)
{
	struct check_series *s = &k->series;

	bad(k);
	if (!s->lost++)
		s->first_lost_ns = s->sent_ns;
}

static void silent(struct check *k, uint64_t now_ns)
{
	struct check_series *s = &k->series;

	if (s->pardoned)
		return;
	lost(k);
	if (s->lost >= k->of.check.fall)
		check_accuse(k, &(struct accusation){ .kind = EVENT_SILENT,
						      .witness_ns = s->sent_ns,
						      .until_ns = now_ns,
						      .first_sent_ns = s->first_lost_ns });
}

void series_end(struct check *k, enum outcome outcome, uint64_t now_ns, const char *text)
{
	struct check_series *s = &k->series;
	bool serves = k->session->engine == ENGINE_SERVING;

	snprintf(s->text, sizeof(s->text), "%s", text);
	if (outcome != OUTCOME_NOT_ASKED)
		check_asked(k);
	switch (outcome) {
	case OUTCOME_GOOD:
		s->bad = s->lost = 0;
		s->good++;
		check_heard(k, now_ns);
		if (s->good >= k->of.check.rise) {
			check_engine(k, ENGINE_SERVING);
			answered(k, now_ns);
		} else if (!serves && k->of.check.type == CHECK_HTTP) {
			check_engine(k, ENGINE_LOADING);
		}
		break;
	case OUTCOME_WRONG:
		bad(k);
		s->lost = 0;
		answered(k, now_ns);
		if (!serves || s->bad >= k->of.check.fall)
			check_engine(k, ENGINE_LOADING);
		break;
	case OUTCOME_REFUSED:
		lost(k);
		check_heard(k, now_ns);
		if (s->lost >= k->of.check.fall)
			check_convict(k, EVENT_DEAD, ENGINE_CAUSE(ENGINE_NOT_LISTENING, 0), s->first_lost_ns, 0);
		break;
	case OUTCOME_SILENT:
		silent(k, now_ns);
		break;
	case OUTCOME_NOT_ASKED:
		break;
	}
	s->sent_ns = 0;
}

void series_late(struct check *k, uint64_t late_ns, uint64_t now_ns)
{
	(void)now_ns;
	/* Its answer may be there, and is read before the question is given up. If it isn't, this one proves nothing. */
	if (late_ns > k->of.check.timeout_ns / 2)
		k->series.pardoned = true;
}

void series_pardon(struct check *k, uint64_t now_ns)
{
	(void)now_ns;
	k->series.bad = k->series.lost = 0;
	k->series.pardoned = true;
}

uint64_t series_gap_ns(const struct check *k)
{
	return 3 * k->of.check.interval_ns + k->of.check.timeout_ns;
}

void series_describe(const struct check *k, char *text, size_t size)
{
	const struct check_series *s = &k->series;

	if (!s->text[0])
		snprintf(text, size, "port %u: not asked yet", k->of.check.port);
	else
		snprintf(text, size, "port %u: %s, %u in a row", k->of.check.port, s->text, s->good ? s->good : s->bad);
}
