/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * check_kind.h - what checker.c and the kinds of checks share. A kind asks one backend in its own way and says what it
 * learnt: heard, answered, accused. Whether an accusation convicts is for checker.c, which knows the other backends.
 * All of it runs in the checker's thread, or under its lock.
 */
#ifndef SHUNTD_CHECK_KIND_H
#define SHUNTD_CHECK_KIND_H

#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>

#include "core/bfd.h"
#include "shuntd/checker.h"

/* What woke the thread: the high half of epoll's data; the low half is a backend's id or a descriptor. */
enum source { SOURCE_TIMER, SOURCE_WAKE, SOURCE_BFD, SOURCE_CONNECT, SOURCE_HTTP };

/* An accusation holds until the backend is well, or a witness is found, or it is time to doubt ourselves. */
struct accusation {
	enum event_kind kind; /* EVENT_SILENT or EVENT_PEER_DOWN; 0: none */
	uint64_t witness_ns; /* who is heard then or later is a witness */
	uint64_t until_ns; /* nobody by then: we may be the ones who are ill */
	uint64_t up_before_ns; /* not 0: only a BFD session that has been Up since before that is a witness */
	uint64_t first_sent_ns; /* evidence: the oldest question left open */
	uint32_t cause;
};

struct check_bfd {
	struct bfd session;
	int fd; /* sends */
	uint64_t up_since_ns; /* 0: not Up */
	uint64_t recover_ns; /* to be Up again by then; 0: no such time is set */
	uint64_t late_ns; /* our newest packet that was late or could not be sent */
	int error; /* of the newest packet, -errno */
};

/* Questions one after another, each with an outcome: tcp and http. */
struct check_series {
	uint64_t next_ns; /* when the next is due */
	uint64_t sent_ns; /* the one that is open; 0: none is */
	uint64_t round; /* the newest when it was sent */
	uint64_t first_lost_ns; /* when the oldest of the lost ones in a row was sent */
	uint32_t good, bad; /* in a row */
	uint32_t lost; /* of the bad ones the newest in a row without an answer: refused, or silent */
	bool pardoned; /* the outcome of the open one doesn't count if it is bad */
	char text[80]; /* the newest outcome */
};

struct check {
	struct checker *checker;
	struct checked of;
	const struct check_kind *kind;
	struct session *session;
	uint64_t heard_ns; /* newest sign that packets go there and back */
	uint64_t wake_ns; /* when kind->run() wants to be called */
	struct accusation accusation;
	struct check_series series;
	union {
		struct check_bfd bfd;
		int connect_fd; /* of the question that is open; -1: none is */
		struct {
			CURL *easy;
			bool asking;
			char url[CONFIG_PATH_MAX + 64];
		} http;
	};
};

struct check_kind {
	int (*open)(struct check *k, uint64_t now_ns, const char **why); /* 0 or -errno */
	void (*close)(struct check *k); /* also after a failed open() */
	uint64_t (*run)(struct check *k, uint64_t now_ns); /* do what is due; when again */
	void (*late)(struct check *k, uint64_t late_ns, uint64_t now_ns); /* the thread was not there for so long */
	void (*pardon)(struct check *k,
		       uint64_t now_ns); /* nobody was heard for a while: what it left open doesn't count */
	uint64_t (*gap_ns)(const struct check *k); /* longest time without an answer while all is well */
	void (*describe)(const struct check *k, char *text, size_t size);
};

extern const struct check_kind check_bfd, check_connect, check_http;

/* ---- checker.c, for the kinds ---- */

struct checker {
	struct checker_options o;
	pthread_mutex_t lock; /* held by the thread but while it waits */
	pthread_t thread;
	bool started, stop;
	int epoll_fd, timer_fd, wake_fd;
	int bfd_fd[2]; /* they receive: IPv4, IPv6; -1: not needed yet */
	CURLM *multi; /* NULL: no http check yet */
	uint64_t curl_ns; /* when libcurl wants to be called; UINT64_MAX: it doesn't */
	struct check *checks[SHUNT_MAX_BACKENDS]; /* by backend id */
	uint32_t n_ids; /* all of them are below */
	uint64_t wake_ns; /* no later than the first thing that is due */
	uint64_t late_until_ns; /* the thread came late: nobody is judged before */
	uint64_t deaf_ns; /* nobody bore witness then, and nobody was heard since; 0: not so */
	uint64_t pardoned_ns; /* when he was heard whose answer ended the newest suspicion */
	uint64_t random; /* state of the generator */
};

uint32_t checker_random(struct checker *c);
int checker_watch(struct checker *c, int fd, enum source source, uint32_t value, uint32_t events); /* 0 or -errno */

/* A question was sent. */
void check_asked(struct check *k);

/* Packets go there and back, whatever they say: it isn't silent. */
void check_heard(struct check *k, uint64_t now_ns);

/* An answer that speaks for the backend; to a question sent at sent_ns, in this round (0: no witness to rounds). */
void check_answered(struct check *k, uint64_t now_ns, uint64_t sent_ns, uint64_t round);

void check_engine(struct check *k, enum engine_state engine);

/* It failed in a way that a witness must confirm. An accusation that stands stays. */
void check_accuse(struct check *k, const struct accusation *accusation);

/* It said itself that it is no more, which is a fact: takes it down at once. */
void check_convict(struct check *k, enum event_kind kind, uint32_t cause, uint64_t first_sent_ns, uint32_t witness);

/* Somebody else whose answers came, not before that. 0: nobody. `answered`: one who is asked questions, not a BFD peer. */
uint32_t check_witness(const struct check *k, uint64_t heard_ns, bool answered);

/* kind->run() wants to be called in this turn. */
void check_wake(struct check *k);

/* The address as a socket address; its size. */
socklen_t check_address(const struct check *k, uint16_t port, struct sockaddr_storage *to);

/* check_bfd.c: read what has come on a receiving socket. */
/* The socket that receives for all sessions of a family, if there is none yet. 0 or -errno with *why. */
int check_bfd_receiver(struct checker *c, int family, const char **why);
void check_bfd_receive(struct checker *c, int which, uint64_t now_ns);

/* check_http.c: events of one of libcurl's descriptors, or CURL_SOCKET_TIMEOUT. */
void check_http_step(struct checker *c, int fd, int events, uint64_t now_ns);
int check_http_open(struct checker *c);
void check_http_close(struct checker *c);

/* check_connect.c: its socket is ready. */
void check_connect_ready(struct check *k, uint64_t now_ns);

/* check_series.c: what tcp and http have in common. begin: sets series.sent_ns and so on; the outcome then ends it. */
enum outcome { OUTCOME_GOOD, OUTCOME_WRONG, OUTCOME_REFUSED, OUTCOME_SILENT, OUTCOME_NOT_ASKED };
void series_begin(struct check *k, uint64_t now_ns);
void series_end(struct check *k, enum outcome outcome, uint64_t now_ns, const char *text);
void series_late(struct check *k, uint64_t late_ns, uint64_t now_ns);
void series_pardon(struct check *k, uint64_t now_ns);
uint64_t series_gap_ns(const struct check *k);
void series_describe(const struct check *k, char *text, size_t size);

#endif
