/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - shuntd's start, loop and stop: opens the parts in an order in which each failure is one sentence and leaves
 * nothing behind, then waits for whatever happens. Decides nothing about backends.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/privileges.h"
#include "shuntd/adopt.h"
#include "shuntd/attach.h"
#include "shuntd/backends.h"
#include "shuntd/checker.h"
#include "shuntd/control.h"
#include "shuntd/health.h"
#include "shuntd/http.h"
#include "shuntd/journal.h"
#include "shuntd/keepalived.h"
#include "shuntd/loop.h"
#include "shuntd/offline.h"
#include "shuntd/ownership.h"
#include "shuntd/peer.h"
#include "shuntd/probes.h"
#include "shuntd/record.h"
#include "shuntd/reload.h"
#include "shuntd/rounds.h"
#include "shuntd/service.h"
#include "shuntd/shuntd.h"
#include "shuntd/state.h"

#define SHUNTD_CONFIG "/etc/shunt/shunt.yaml"

/* What it works with: maps, XDP links, neighbours, raw packets, the prober's priority, pages that stay in memory. */
#define PRIVILEGES \
	(PRIVILEGE(BPF) | PRIVILEGE(NET_ADMIN) | PRIVILEGE(NET_RAW) | PRIVILEGE(SYS_NICE) | PRIVILEGE(IPC_LOCK))
/* And to start: programs that add to pointers, the group of the socket. */
#define PRIVILEGES_START (PRIVILEGES | PRIVILEGE(PERFMON) | PRIVILEGE(CHOWN) | PRIVILEGE(SETPCAP))

static const char usage[] = "usage: shuntd [-f FILE]          run with this configuration (default " SHUNTD_CONFIG ")\n"
			    "       shuntd --check FILE       say what is wrong with it, or nothing\n"
			    "       shuntd --show-config FILE print it in full, defaults included\n"
			    "       shuntd --answer SOCKET [-f FILE]\n"
			    "                                 answer a request on standard input from what is pinned\n"
			    "       shuntd --version          say which version it is\n";

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "shuntd: %s%s%s\n", what ? what : "", what ? ": " : "", why);
	return 1;
}

static int group_check(const char *key, const char *name)
{
	char why[CONFIG_NAME_MAX + 32];

	if (getgrnam(name))
		return 0;
	snprintf(why, sizeof(why), "no such group '%s'", name);
	return fail(key, why);
}

static void on_change(void *arg)
{
	backends_resolve(arg);
}

static void on_event(void *arg, const struct event *event)
{
	struct shuntd *s = arg;

	s->events_taken++;
	backends_event(s, event);
}

/* From the prober's thread and the checker's: a pipe hands the event to the main loop. A full pipe loses the story, not the verdict. */
static void on_thread_event(void *arg, const struct event *event)
{
	struct shuntd *s = arg;

	if (write(s->pipe[1], event, sizeof(*event)) < 0)
		return;
}

static void on_ledger(void *arg)
{
	struct shuntd *s = arg;

	if (s->control)
		control_push_events(s->control);
}

/* What the detector said, and what follows from it. */
static void take_events(struct shuntd *s)
{
	struct event e;
	uint64_t taken = s->events_taken;

	dataplane_drain_events(s->dataplane);
	while (read(s->pipe[0], &e, sizeof(e)) == sizeof(e))
		on_event(s, &e);
	if (s->events_taken != taken)
		backends_run(s);
}

/* A socket that fails for good must not wake the loop for ever: the ways are then what they were. */
static void netlink_followed(struct shuntd *s, int err)
{
	if (netlink_addresses_changed(s->netlink))
		ownership_read(s);
	if (!err)
		return;
	loop_remove(s->loop, netlink_fd(s->netlink));
	ledger_add(s->ledger, 0, "shuntd", "self", "netlink lost", strerror(-err), NULL);
}

static void on_netlink(void *arg)
{
	struct shuntd *s = arg;

	netlink_followed(s, netlink_read(s->netlink));
}

static void on_control(void *arg)
{
	struct shuntd *s = arg;

	control_run(s->control);
}

static void on_period(void *arg)
{
	struct shuntd *s = arg;
	uint64_t ticks, now_ns;

	if (read(s->timer, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	netlink_followed(s, netlink_run(s->netlink));
	backends_run(s);
	probes_run(s);
	rounds_run(s);
	service_run(s);
	record_run(s->record);
	peering_run(s->peering);
	ledger_run(s->ledger);
	state_run(s->state);
	now_ns = monotonic_ns();
	attach_run(s, now_ns);
	health_run(s->health, now_ns);
	keepalived_run(s->keepalived, now_ns);
}

static void on_doubt(void *arg)
{
	struct shuntd *s = arg;
	uint64_t n;

	if (read(s->doubts, &n, sizeof(n)) == sizeof(n))
		backends_doubts_run(s);
}

static void on_signal(void *arg)
{
	struct shuntd *s = arg;
	struct signalfd_siginfo signal;

	if (read(s->signals, &signal, sizeof(signal)) != sizeof(signal))
		return;
	if (signal.ssi_signo != SIGHUP) {
		s->ending = true;
		return;
	}
	service_reloading(s);
	shuntd_reload_asked(s);
}

/* Verdicts are taken first in each turn, whatever else is ready. */
static void on_turn(void *arg)
{
	take_events(arg);
}

static void on_verdict(void *arg)
{
	(void)arg; /* taken already */
}

static int loop_run(struct shuntd *s)
{
	struct itimerspec period = { .it_interval.tv_nsec = BACKENDS_PERIOD_NS,
				     .it_value.tv_nsec = BACKENDS_PERIOD_NS };
	bool more = false; /* the journal has work to go on with at once */
	sigset_t stop;
	int err;

	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGHUP);
	s->signals = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	s->doubts = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer < 0 || s->signals < 0 || s->doubts < 0 || timerfd_settime(s->timer, 0, &period, NULL))
		return fail("main loop", strerror(errno));
	err = loop_add(s->loop, s->timer, on_period, s);
	err = err ? err : loop_add(s->loop, s->doubts, on_doubt, s);
	err = err ? err : loop_add(s->loop, s->signals, on_signal, s);
	err = err ? err : loop_add(s->loop, s->pipe[0], on_verdict, s);
	err = err ? err : loop_add(s->loop, dataplane_event_fd(s->dataplane), on_verdict, s);
	err = err ? err : loop_add(s->loop, netlink_fd(s->netlink), on_netlink, s);
	err = err ? err : loop_add(s->loop, control_fd(s->control), on_control, s);
	if (!err)
		service_ready(s);
	while (!err && !s->ending) {
		err = loop_turn(s->loop, more, on_turn, s);
		more = journal_run(s->journal);
		reload_run(s);
	}
	service_stopping();
	return err ? fail("main loop", strerror(-err)) : 0;
}

/* The tick in the kernel, where it can run; it finds nothing to judge before the prober asks. Else the prober judges. */
static void detector_choose(struct shuntd *s)
{
	const char *why = "this kernel has no bpf_timer (PREEMPT_RT?), so the tick cannot run in it";
	int err = 0;

	s->detector = s->config->detector;
	dataplane_detector(s->dataplane)->tick_stopped = s->detector != DETECTOR_KERNEL;
	if (s->detector != DETECTOR_KERNEL)
		return;
	if (dataplane_has_timer(s->dataplane)) {
		dataplane_detector(s->dataplane)->tick_ns = s->config->probe_interval_ns / 2;
		err = dataplane_start_tick(s->dataplane, s->cpu);
		if (!err)
			return;
		why = "the kernel does not start the tick";
	}
	s->detector = DETECTOR_CONTROLLER;
	ledger_add(s->ledger, 0, "shuntd", "self", "detector: controller", why,
		   err ? json_pack("{s:s}", "error", strerror(-err)) : NULL);
}

static int http_start(struct shuntd *s)
{
	char address[ADDRESS_TEXT_MAX], what[ADDRESS_TEXT_MAX + 32];
	int err = http_open(&s->http, s);

	if (!err)
		return 0;
	address_format(&s->config->http.address, address, sizeof(address));
	snprintf(what, sizeof(what), "http on %s port %u", address, s->config->http.port);
	return fail(what, err == -EADDRINUSE      ? "something listens there already: give http another port"
			  : err == -EADDRNOTAVAIL ? "this host does not have that address"
						  : strerror(-err));
}

/* The maps, an earlier run's with what it left in them, or new ones, filled from the configuration. */
static int dataplane_start(struct shuntd *s)
{
	struct dataplane_options options = { .seed = s->config->seed,
					     .flows_max = s->config->flows_max,
					     .on_event = on_event,
					     .arg = s,
					     .pins = &s->pins };
	const char *why = "";
	int err = dataplane_open(&s->dataplane, &options, &why);

	if (!err && dataplane_inherited(s->dataplane) && adopt_read(s)) {
		dataplane_close(s->dataplane, DATAPLANE_AGAIN);
		s->dataplane = NULL;
		options.anew = true;
		err = dataplane_open(&s->dataplane, &options, &why);
	}
	if (err)
		return fail(NULL, why);
	state_heed(s->state, s->wanted ? s->wanted : s->config);
	err = dataplane_set_keys(s->dataplane, &s->keys);
	if (err)
		return fail("probe keys", strerror(-err));
	err = journal_open(&s->journal, s);
	if (err)
		return fail("journal",
			    err == -EPERM ? "not allowed to open raw sockets, CAP_NET_RAW is needed" : strerror(-err));
	err = dataplane_inherited(s->dataplane) ? adopt_resume(s, &why)
						: backends_open(s, dataplane_replaces(s->dataplane), &why);
	if (err)
		return fail(NULL, why);
	detector_choose(s);
	return 0;
}

/* From here on it is our run; whether and by what the kernel's side outlives it. */
static void run_tell(struct shuntd *s)
{
	struct about *about = dataplane_about(s->dataplane);

	about->began_ns = about->n_runs ? about->began_ns : s->started_ns;
	about->started_ns = s->started_ns;
	about->pid = (uint32_t)getpid();
	about->n_runs++;
	if (dataplane_inherited(s->dataplane))
		ledger_add(s->ledger, 0, "shuntd", "self", "took over", "from an earlier run, by its pinned maps",
			   json_pack("{s:s, s:i, s:i}", "pin", s->pins.directory, "backends", (int)s->n_backends,
				     "runs", (int)about->n_runs));
	else if (dataplane_replaces(s->dataplane))
		ledger_add(
			s->ledger, 0, "shuntd", "self", "began anew",
			"what was left is of another layout, seed or flows.max: its recorded flows are not known here",
			json_pack("{s:s}", "pin", s->pins.directory));
	if (*s->pins.why && *s->config->pin)
		ledger_add(s->ledger, 0, "shuntd", "self", "not pinned", s->pins.why, NULL);
}

static int run(struct shuntd *s)
{
	struct prober_options prober = { .arg = s, .on_event = on_thread_event };
	struct ledger_options ledger = { .limit_bytes = LEDGER_FILE_BYTES, .on_event = record_event };
	struct checker_options checker = { .arg = s, .on_event = on_thread_event };
	const char *why = "";
	char line[512];
	struct config_fault fault = { 0 };
	int cpu = config_cpu(s->config), err;
	bool taken_over;

	if (pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK))
		return fail("pipe", strerror(errno));
	err = loop_open(&s->loop);
	if (err)
		return fail("main loop", strerror(-err));
	if (pins_open(&s->pins, s->config->pin)) /* first of all that another shuntd may have */
		return fail(s->config->pin, "another shuntd has this directory, expected one of its own in 'pin'");
	err = record_open(&s->record, s);
	if (err)
		return fail("record", strerror(-err));
	ledger.directory = s->config->state;
	ledger.arg = s->record;
	err = ledger_open(&s->ledger, &ledger);
	if (err)
		return fail("ledger", strerror(-err));
	ledger_listen(s->ledger, on_ledger, s);
	s->xdp_mode = calloc(s->config->n_interfaces, sizeof(*s->xdp_mode));
	err = s->xdp_mode ? netlink_open(&s->netlink, on_change, s) : -ENOMEM;
	if (err)
		return fail("netlink", strerror(-err));
	s->cpu = cpu;
	err = config_check(s, s->config, &fault);
	if (err == -ENODEV)
		return fail(NULL, fault.error.text);
	if (err) {
		fprintf(stderr, "%s:%u:%u: %s\n", s->config_path, fault.error.line, fault.error.column,
			fault.error.text);
		return 1;
	}
	/* The default one isn't where shunt was installed from its source. */
	if (strcmp(s->config->control_group, CONFIG_CONTROL_GROUP) &&
	    group_check("control.group", s->config->control_group))
		return 1;
	if (s->config->control_admins[0] && group_check("control.admins", s->config->control_admins))
		return 1;
	if (getrandom(&s->keys.echo, sizeof(s->keys.echo), 0) != sizeof(s->keys.echo))
		return fail("getrandom", strerror(errno));
	if (config_keys(&s->keys, s->config, line, sizeof(line)))
		return fail(NULL, line);
	if (!privileges_have(PRIVILEGE(PERFMON)))
		return fail("not allowed to load BPF programs that add to pointers", "CAP_PERFMON is needed");
	err = state_open(&s->state, s);
	if (err)
		return fail("state", strerror(-err));
	if (dataplane_start(s))
		return 1;
	taken_over = dataplane_inherited(s->dataplane) || dataplane_replaces(s->dataplane);
	err = health_open(&s->health, s, taken_over);
	if (err)
		return fail("health", strerror(-err));
	if (keepalived_open(&s->keepalived, s, taken_over, &why))
		return fail(NULL, why);
	if (!s->wanted)
		state_restore(s->state);
	err = control_open(&s->control, s, s->config->control_socket, s->config->control_group);
	if (err)
		return fail(s->config->control_socket,
			    err == -EADDRINUSE ? "another shuntd answers on this socket" : strerror(-err));
	if (http_start(s))
		return 1;
	if (peering_open(&s->peering, s, line, sizeof(line)))
		return fail(NULL, line);
	dataplane_pin(s->dataplane);
	if (attach_open(s))
		return 1;
	run_tell(s);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		return fail("not allowed to lock memory", "CAP_IPC_LOCK is needed");
	err = privileges_keep(PRIVILEGES);
	if (err)
		return fail("cannot give up privileges", strerror(-err));
	prober.detector = dataplane_detector(s->dataplane);
	prober.sessions = dataplane_sessions(s->dataplane);
	prober.backends = dataplane_backends(s->dataplane);
	prober.flows = dataplane_backend_flows(s->dataplane);
	prober.cpu = cpu;
	if (rounds_start(s, &prober, &why))
		return fail(NULL, why);
	checker.detector = prober.detector;
	checker.sessions = prober.sessions;
	checker.backends = prober.backends;
	checker.cpu = cpu;
	if (checker_open(&s->checker, &checker, &why) || backends_check(s, &why))
		return fail(NULL, why);
	if (s->wanted) {
		shuntd_take_over(s);
		state_restore(s->state);
	}
	ledger_add(s->ledger, 0, "shuntd", "self", "ready",
		   s->detector == DETECTOR_KERNEL ? "detector kernel" : "detector controller",
		   json_pack("{s:i, s:i, s:i, s:i}", "interfaces", (int)s->config->n_interfaces, "vips",
			     (int)s->config->n_vips, "backends", (int)s->n_backends, "cpu", cpu));
	s->started = true;
	ownership_read(s);
	err = loop_run(s);
	if (s->detach || s->pins.fd < 0)
		keepalived_leave(s->keepalived); /* while everything still runs */
	return err;
}

static void stop(struct shuntd *s)
{
	/* Sockets and threads first, the program last: packets are served for as long as possible. */
	record_end(s->record);
	http_close(s->http);
	control_close(s->control);
	prober_stop(s->prober);
	checker_close(s->checker);
	peering_close(s->peering);
	journal_close(s->journal);
	dataplane_close(s->dataplane, s->detach ? DATAPLANE_REMOVE : s->started ? DATAPLANE_LEAVE : DATAPLANE_FAILED);
	pins_close(&s->pins);
	netlink_close(s->netlink);
	state_close(s->state);
	backends_close(s);
	keepalived_close(s->keepalived);
	health_close(s->health);
	record_close(s->record);
	ledger_close(s->ledger);
	loop_close(s->loop);
	json_decref(s->reload_by);
	free(s->xdp_mode);
	close(s->timer);
	close(s->doubts);
	close(s->signals);
	close(s->pipe[0]);
	close(s->pipe[1]);
}

/* For those who are elsewhere: `shunt config save`. To be freed; NULL: no memory, or nowhere to begin. */
static char *path_absolute(const char *path)
{
	char *here = *path == '/' ? strdup("") : getcwd(NULL, 0), *absolute = NULL;

	if (here && asprintf(&absolute, "%s%s%s", here, *path == '/' ? "" : "/", path) < 0)
		absolute = NULL;
	free(here);
	return absolute;
}

/* A question of tcp or http is an open file, and so is each BFD session: as many as we may have, not as many as usual. */
static void files_allow(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files))
		return;
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "file", required_argument, NULL, 'f' },
						 { "check", required_argument, NULL, 'c' },
						 { "show-config", required_argument, NULL, 's' },
						 { "answer", required_argument, NULL, 'a' },
						 { "version", no_argument, NULL, 'V' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	struct shuntd s = { .config_path = SHUNTD_CONFIG,
			    .pins = { .program = "shuntd", .loss = "traffic ends with shuntd", .fd = -1 },
			    .pipe = { -1, -1 },
			    .timer = -1,
			    .doubts = -1,
			    .signals = -1 };
	sigset_t handled;
	char *text, *absolute, *socket = NULL, why[512];
	int option, err, mode = 'f';

	while ((option = getopt_long(argc, argv, "f:h", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (option == 'V') {
			puts("shuntd " SHUNT_VERSION);
			return 0;
		}
		if (option == '?') {
			fputs(usage, stderr);
			return 2;
		}
		if (option == 'a')
			socket = optarg;
		else
			s.config_path = optarg;
		mode = mode == 'a' ? mode : option;
	}
	if (optind != argc) {
		fputs(usage, stderr);
		return 2;
	}
	/* Before anything is read, so that a file that a reload couldn't read is no surprise then. */
	err = mode == 'f' ? privileges_keep(PRIVILEGES_START) : 0;
	if (err)
		return fail("cannot give up privileges", strerror(-err));
	err = config_load(&s.config, s.config_path, why, sizeof(why));
	if (err) {
		fprintf(stderr, "%s%s\n", err == -EINVAL ? "" : "shuntd: ", why);
		return 1;
	}
	if (mode == 'a') {
		err = offline_answer(&s, socket);
		config_free(s.config);
		return err;
	}
	if (mode != 'f') {
		text = mode == 's' ? config_format(s.config) : NULL;
		if (text)
			fputs(text, stdout);
		free(text);
		config_free(s.config);
		return 0;
	}
	absolute = path_absolute(s.config_path);
	s.config_path = absolute ? absolute : s.config_path;
	/* Blocked before the prober's thread exists, so that only the loop gets them. */
	sigemptyset(&handled);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGHUP);
	sigprocmask(SIG_BLOCK, &handled, NULL);
	signal(SIGPIPE, SIG_IGN);
	setlinebuf(stderr);
	files_allow();
	s.started_ns = monotonic_ns();

	err = run(&s);
	stop(&s);
	config_free(s.config);
	config_free(s.wanted);
	free(absolute);
	return err;
}
