/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - shunt-agent: loads the backend's program, sets up the VIPs when told, and says every so often that it is still
 * there. Leaves probes and tunnelled packets to bpf/agent.bpf.c, where that is attached to attach.c, taking the host out of
 * service to control.c, the engine's processes to watch.c, its health to health.c.
 *
 * An agent that was killed goes on answering by what it pinned (pins.h). So the order at the start: load, find the engine,
 * know how it is, and only then replace what answers.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/attach.h"
#include "agent/beat.h"
#include "agent/before.h"
#include "agent/control.h"
#include "agent/drain.h"
#include "agent/health.h"
#include "agent/keys.h"
#include "agent/macs.h"
#include "common/clock.h"
#include "common/pins.h"
#include "agent/vips.h"
#include "agent/watch.h"
#include "common/notify.h"
#include "common/privileges.h"
#include "core/cause.h"
#include "core/config.h"
#include "shunt/agent.h"
#include "shunt/heartbeat.h"
#include "agent.skel.h"

#define AGENT_CONFIG "/etc/shunt/agent.yaml"
#define BEAT_PIN "beat"
#define WORD_PERIOD_MS 20 /* how often the agent says that it lives and looks at its engine, chosen */
#define SETTLE_TURNS 150 /* chosen: no engine is waited for longer before what an earlier agent left is replaced */
#define ASKING_NS 10000000000ULL /* a balancer of another version that was silent for so long is gone, chosen */

/* What it works with: maps; XDP links and addresses. */
#define PRIVILEGES (PRIVILEGE(BPF) | PRIVILEGE(NET_ADMIN))
/* And to find the engine by its port: other users' /proc/PID/fd. */
#define PRIVILEGES_PORT (PRIVILEGE(SYS_PTRACE) | PRIVILEGE(DAC_READ_SEARCH))
/* And to start: programs that add to pointers or read kernel memory, the group of a socket. */
#define PRIVILEGES_START (PRIVILEGES | PRIVILEGES_PORT | PRIVILEGE(PERFMON) | PRIVILEGE(CHOWN) | PRIVILEGE(SETPCAP))

static const char usage[] =
	"usage: shunt-agent [-f FILE]          run with this configuration (default " AGENT_CONFIG ")\n"
	"       shunt-agent --check FILE       say what is wrong with it, or nothing\n"
	"       shunt-agent --show-config FILE print it in full, defaults included\n"
	"       shunt-agent --version          say which version it is\n"
	"and of an agent that runs, found by that configuration or by its socket:\n"
	"       shunt-agent [-f FILE | -s SOCKET] drain [--wait [--deadline TIME]]\n"
	"                                      no new connection for this host; wait for the last, until TIME\n"
	"                                      (such as 10m) at most: exit 0 at none, 1 at the deadline\n"
	"       shunt-agent [-f FILE | -s SOCKET] undrain   back into service\n"
	"       shunt-agent [-f FILE | -s SOCKET] status    serving or draining, and how many connections\n";

struct agent {
	const char *config_path;
	struct agent_config *config;
	struct agent_bpf *skel;
	struct pins pins;
	struct before before; /* until what it left is replaced */
	struct attach *attach;
	struct vips_undo *vips;
	char vips_record[CONFIG_PATH_MAX + 8];
	struct agent_word *word;
	uint64_t *beat; /* map `agent_beat` */
	struct control_server *control;
	struct watch *watch; /* NULL: nobody said which processes are the engine */
	struct health *health; /* NULL: nobody is asked */
	struct unix_listener beat_socket;
	uint32_t other_version; /* of the probe, the newest that a balancer asked in and that isn't ours; 0: none */
	uint64_t other_version_ns; /* CLOCK_MONOTONIC, when it was noticed last */
	struct keys keys;
	struct macs macs;
	uint64_t watchdog_ns; /* how long the service manager waits for a sign of life; 0: for ever */
	uint64_t alive_ns; /* CLOCK_MONOTONIC, when one is due */
	const char *told; /* the state that it knows, static; NULL: none yet */
};

static char complaint[512];

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "shunt-agent: %s%s%s\n", what ? what : "", what ? ": " : "", why);
	return 1;
}

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level == LIBBPF_WARN)
		vsnprintf(complaint, sizeof(complaint), format, args);
	return 0;
}

static struct agent_config *config_load(const char *path)
{
	struct config_error error = { 0 };
	struct agent_config *config = NULL;
	char *text = malloc(CONFIG_TEXT_MAX + 1);
	size_t length;
	FILE *file = fopen(path, "re");
	int err;

	if (!file || !text) {
		fail(path, file ? "no memory" : strerror(errno));
		goto out;
	}
	length = fread(text, 1, CONFIG_TEXT_MAX + 1, file);
	if (ferror(file)) {
		fail(path, strerror(errno));
		goto out;
	}
	err = agent_config_parse(&config, text, length, &error);
	if (err == -EINVAL)
		fprintf(stderr, "%s:%u:%u: %s\n", path, error.line, error.column, error.text);
	else if (err)
		fail(path, strerror(-err));
out:
	free(text);
	if (file)
		fclose(file);
	return config;
}

static int addresses_add(const struct bpf_map *map, const struct shunt_addr *addresses, size_t n)
{
	__u32 one = 1;

	for (size_t i = 0; i < n; i++) {
		int err = bpf_map_update_elem(bpf_map__fd(map), &addresses[i], &one, BPF_ANY);

		if (err)
			return err;
	}
	return 0;
}

/* The page of an array. NULL after a sentence on stderr. */
static void *map_share(const struct bpf_map *map)
{
	void *memory =
		mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (memory != MAP_FAILED)
		return memory;
	fail("cannot share the program's memory", strerror(errno));
	return NULL;
}

/* The memory that the engine beats in outlives us where the configuration says, or with everything else. */
static void beat_pin(struct agent *a)
{
	const char *path = a->config->engine.beat_pin;
	char buffer[PINS_PATH_MAX];

	if (!*path && a->config->engine.beat_limit_ns && a->pins.fd >= 0) {
		path = pins_path(&a->pins, BEAT_PIN, buffer);
		if (access(path, F_OK))
			pins_own(&a->pins, BEAT_PIN);
	}
	if (*path)
		bpf_map__set_pin_path(a->skel->maps.agent_beat, path);
}

static int program_load(struct agent *a)
{
	const struct config_engine *engine = &a->config->engine;
	int err;

	libbpf_set_print(keep_complaint);
	a->skel = agent_bpf__open();
	if (!a->skel)
		return fail("BPF", strerror(errno));
	a->skel->rodata->restrict_sources = a->config->n_balancers > 0;
	beat_pin(a);
	err = agent_bpf__load(a->skel);
	if (err == -EPERM)
		return fail("not allowed to load BPF programs", "CAP_BPF and CAP_NET_ADMIN are needed");
	if (err)
		return fail("the kernel refused the BPF program, 6.1 or newer is needed", complaint);
	err = addresses_add(a->skel->maps.agent_vips, a->config->vips, a->config->n_vips);
	if (!err)
		err = addresses_add(a->skel->maps.agent_balancers, a->config->balancers, a->config->n_balancers);
	if (err)
		return fail("cannot fill the program's maps", strerror(-err));
	a->word = map_share(a->skel->maps.agent);
	a->beat = map_share(a->skel->maps.agent_beat);
	if (!a->word || !a->beat)
		return 1;
	a->keys = (struct keys){ .config = a->config,
				 .map_fd = bpf_map__fd(a->skel->maps.probe_keys),
				 .reasons_fd = bpf_map__fd(a->skel->maps.agent_reasons),
				 .word = a->word };
	if (keys_read(&a->keys))
		return 1;
	a->macs.map_fd = bpf_map__fd(a->skel->maps.agent_macs);
	err = macs_run(&a->macs, monotonic_ns());
	if (err)
		return fail("cannot tell the program this host's link addresses", strerror(-err));
	a->word->beat_limit_ns = engine->beat_limit_ns;
	a->word->draining = a->before.draining;
	return 0;
}

/* Whether there is an engine to ask. */
static bool engine_is_there(const struct agent *a)
{
	__u64 life = a->word->life;

	return !a->watch || (life && !ENGINE_LIFE_CAUSE(life));
}

/* What the health URL says, while there is an engine to ask. */
static void health_follow(struct agent *a, uint64_t now_ns)
{
	bool was_ready = health_is_ready(a->health);

	if (!engine_is_there(a)) {
		health_rest(a->health);
		return;
	}
	health_run(a->health, now_ns);
	a->word->engine = health_is_ready(a->health) ? ENGINE_SERVING : ENGINE_LOADING;
	a->word->flags = health_is_full(a->health) ? PROBE_FULL : 0;
	if (was_ready != health_is_ready(a->health))
		fprintf(stderr, "shunt-agent: engine: %sready (%s)\n", was_ready ? "not " : "",
			health_reason(a->health));
}

/* A balancer asks in another version of the probe: the reflector noticed. */
static void version_look(struct agent *a, uint64_t now_ns)
{
	uint32_t version = __atomic_exchange_n(&a->word->other_version, 0, __ATOMIC_RELAXED);

	if (!version)
		return;
	if (version != a->other_version)
		fprintf(stderr,
			"shunt-agent: a balancer asks in version %u of the probe, this agent speaks %u: it hears that "
			"this"
			" host lives, and nothing of the engine\n",
			version, PROBE_VERSION);
	a->other_version = version;
	a->other_version_ns = now_ns;
}

/* The health of an engine that was known before us is taken for what it was. */
static void health_inherit(struct agent *a, uint64_t now_ns)
{
	const struct agent_word *before = a->before.word;

	health_resume(a->health, before->engine != ENGINE_LOADING, before->flags & PROBE_FULL, now_ns);
}

/* One turn: the engine, then the word. */
static void word_refresh(struct agent *a)
{
	uint64_t now = monotonic_ns();
	enum watch_news news = a->watch ? watch_run(a->watch) : WATCH_NOTHING;

	if (news == WATCH_WENT_ON && a->health)
		health_inherit(a, now);
	else if (news && a->health)
		health_restart(a->health, now);
	else if (news)
		a->word->engine = ENGINE_SERVING;
	if (a->health)
		health_follow(a, now);
	if (a->beat_socket.bound)
		beat_run(&a->beat_socket, bpf_map__fd(a->skel->maps.agent_beat));
	version_look(a, now);
	keys_run(&a->keys, now);
	macs_run(&a->macs, now); /* what couldn't be told now will be */
	__atomic_store_n(&a->word->updated_ns, now, __ATOMIC_RELAXED);
}

/* Turns, until as much is known as an agent knew that was killed. */
static void word_settle(struct agent *a)
{
	word_refresh(a);
	for (int i = 0; a->before.found && i < SETTLE_TURNS; i++) {
		if (!(a->watch && watch_seeks(a->watch)) &&
		    !(a->health && engine_is_there(a) && !health_is_known(a->health)))
			return;
		poll(NULL, 0, WORD_PERIOD_MS);
		word_refresh(a);
	}
}

static int engine_start(struct agent *a)
{
	const struct config_engine *config = &a->config->engine;
	const struct watch_options watch = { .config = config,
					     .agent_fd = bpf_map__fd(a->skel->maps.agent),
					     .word = a->word,
					     .beat = a->beat,
					     .before = &a->before };
	const char *why;
	int err = 0;

	a->word->engine = *config->health_url ? ENGINE_LOADING : ENGINE_UNKNOWN;
	if (*config->health_url) {
		a->health = health_open(config);
		if (!a->health)
			return fail(config->health_url, "cannot be asked by this libcurl");
		if (a->before.word && !config->by)
			health_inherit(a, monotonic_ns());
	}
	if (config->by)
		err = watch_open(&a->watch, &watch);
	if (err)
		return fail("engine", strerror(-err));
	if (!config->beat_limit_ns)
		return 0;
	err = beat_open(&a->beat_socket, config, &why);
	return err ? fail(why, err == -ENOENT && why == config->beat_group ? "no such group" : strerror(-err)) : 0;
}

/* What `shunt-agent status` says beside its first line. */
static void agent_describe(FILE *f, void *arg)
{
	const struct agent *a = arg;
	uint64_t now = monotonic_ns();

	if (a->word->draining)
		fprintf(f, "draining: an operator took this host out of service\n");
	if (a->watch)
		watch_describe(a->watch, f);
	if (a->health && engine_is_there(a))
		fprintf(f, "health: %sready%s%s%s\n", health_is_ready(a->health) ? "" : "not ",
			health_is_full(a->health) ? ", full" : "", *health_reason(a->health) ? ": " : "",
			health_reason(a->health));
	if (a->word->beat_limit_ns && *a->beat)
		fprintf(f, "beat: %.1f ms ago\n", now > *a->beat ? (double)(now - *a->beat) / 1e6 : 0);
	else if (a->word->beat_limit_ns)
		fprintf(f, "beat: none yet\n");
	keys_describe(&a->keys, f);
	attach_describe(a->attach, f);
	if (*a->pins.why)
		fprintf(f, "not pinned, so this host falls silent if the agent is killed: %s\n", a->pins.why);
	else
		fprintf(f, "pinned in %s: what answers outlives the agent\n", a->pins.directory);
	if (a->other_version && now - a->other_version_ns < ASKING_NS)
		fprintf(f, "a balancer asks in version %u of the probe, this agent speaks %u\n", a->other_version,
			PROBE_VERSION);
}

static int control_start(struct agent *a)
{
	const struct control_options options = { .path = a->config->control_socket,
						 .vips = a->config->vips,
						 .n_vips = a->config->n_vips,
						 .word = a->word,
						 .beat = a->beat,
						 .describe = agent_describe,
						 .arg = a };
	int err = control_open(&a->control, &options);

	if (err == -EADDRINUSE)
		return fail(options.path, "another shunt-agent answers on this socket");
	return err ? fail(options.path, strerror(-err)) : 0;
}

/* The service manager hears of another state, and, twice as often as it wants, that the loop turns. */
static void service_run(struct agent *a, uint64_t now_ns)
{
	enum engine_state engine = agent_state(a->word, *a->beat, now_ns);
	const char *state = engine == ENGINE_UNKNOWN ? "serving" : engine_name(engine);

	if (!a->told || strcmp(state, a->told))
		notify_send("STATUS=%s", state);
	a->told = state;
	if (!a->watchdog_ns || now_ns < a->alive_ns)
		return;
	a->alive_ns = now_ns + a->watchdog_ns / 2;
	notify_send("WATCHDOG=1");
}

/* A signal has come. True: to end. SIGHUP: the key file may be another; a bad one was complained of, and the keys stay. */
static bool signal_take(struct agent *a, int fd)
{
	struct signalfd_siginfo signal;

	if (read(fd, &signal, sizeof(signal)) != sizeof(signal) || signal.ssi_signo != SIGHUP)
		return true;
	if (!keys_read(&a->keys))
		fprintf(stderr, "shunt-agent: keys of tags read anew: %" PRIu64 "\n", a->keys.n);
	return false;
}

/* Until SIGINT or SIGTERM. 0, or 1 after a sentence on stderr. */
static int loop(struct agent *a, const sigset_t *signals)
{
	struct pollfd fds[2 + AGENT_CLIENTS_MAX] = { { .events = POLLIN } };
	nfds_t n;

	fds[0].fd = signalfd(-1, signals, SFD_CLOEXEC);
	if (fds[0].fd < 0)
		return fail("signalfd", strerror(errno));
	fprintf(stderr, "shunt-agent: ready: %zu interfaces, %zu VIPs%s\n", a->config->n_interfaces, a->config->n_vips,
		a->config->setup_vips ? " on the loopback" : "");
	a->watchdog_ns = notify_watchdog_ns();
	notify_send("READY=1");
	do {
		n = control_poll(a->control, fds + 1);
		fds[0].revents = 0;
		if ((a->health ? health_poll(a->health, fds, n + 1, WORD_PERIOD_MS)
			       : poll(fds, n + 1, WORD_PERIOD_MS)) > 0)
			control_run(a->control, fds + 1, n);
		word_refresh(a);
		attach_run(a->attach, monotonic_ns());
		service_run(a, monotonic_ns());
	} while (!fds[0].revents || !signal_take(a, fds[0].fd));
	close(fds[0].fd);
	notify_send("STOPPING=1");
	return 0;
}

/* Replace what an earlier agent left by what is ready here. See pins.h for the order. */
static int take_over(struct agent *a)
{
	if (attach_open(&a->attach, bpf_program__fd(a->skel->progs.shunt_agent),
			(const char(*)[IF_NAMESIZE])a->config->interfaces, a->config->n_interfaces, &a->pins))
		return 1;
	pins_put_run(&a->pins, "agent", bpf_map__fd(a->skel->maps.agent));
	if (a->watch)
		watch_pin(a->watch, &a->pins);
	if (attach_take_over(a->attach))
		return 1;
	if (a->config->engine.beat_limit_ns && !*a->config->engine.beat_pin)
		pins_own(&a->pins, BEAT_PIN);
	pins_sweep(&a->pins);
	if (a->before.found)
		fprintf(stderr, "shunt-agent: took over from an agent that was killed%s\n",
			a->before.draining ? ", goes on draining" : "");
	before_close(&a->before);
	return 0;
}

/* Without setup_vips there are none to set up, but maybe those of an earlier run to take back. */
static int vips_start(struct agent *a)
{
	const struct agent_config *c = a->config;

	snprintf(a->vips_record, sizeof(a->vips_record), "%s.vips", c->control_socket);
	if (!c->setup_vips && access(a->vips_record, F_OK))
		return 0;
	return vips_setup(c->vips, c->setup_vips ? c->n_vips : 0, (const char(*)[IF_NAMESIZE])c->interfaces,
			  c->setup_vips ? c->n_interfaces : 0, a->vips_record, &a->vips);
}

static void vips_take_over(struct agent *a)
{
	vips_settle(a->vips);
	if (a->config->setup_vips)
		return;
	vips_undo(a->vips);
	a->vips = NULL;
}

static int run(struct agent *a)
{
	uint32_t incarnation;
	sigset_t signals;
	int err;

	/* From here on an end in good order is one that leaves nothing pinned. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (getrandom(&incarnation, sizeof(incarnation), 0) != sizeof(incarnation))
		return fail("getrandom", strerror(errno));
	if (pins_open(&a->pins, a->config->pin))
		return fail(a->config->pin, "another shunt-agent has this directory, expected one of its own in 'pin'");
	pins_run(&a->pins, incarnation);
	before_open(&a->before, &a->pins);
	if (!privileges_have(PRIVILEGE(PERFMON)))
		return fail("not allowed to load BPF programs that add to pointers", "CAP_PERFMON is needed");
	if (program_load(a))
		return 1;
	a->word->incarnation = incarnation;
	if (control_start(a) || engine_start(a))
		return 1;
	word_settle(a);
	if (vips_start(a))
		return 1; /* said there */
	if (take_over(a))
		return 1;
	vips_take_over(a);
	err = privileges_keep(PRIVILEGES | (a->config->engine.by == ENGINE_BY_PORT ? PRIVILEGES_PORT : 0));
	return err ? fail("cannot give up privileges", strerror(-err)) : loop(a, &signals);
}

static void agent_stop(struct agent *a)
{
	control_close(a->control);
	attach_close(a->attach);
	vips_undo(a->vips);
	watch_close(a->watch);
	health_close(a->health);
	unix_close(&a->beat_socket);
	if (a->word)
		munmap(a->word, (size_t)sysconf(_SC_PAGESIZE));
	if (a->beat)
		munmap(a->beat, (size_t)sysconf(_SC_PAGESIZE));
	agent_bpf__destroy(a->skel);
	before_close(&a->before);
	pins_close(&a->pins);
}

/* A command for an agent that runs. The exit status. */
static int command(const char *verb, struct drain_options *options, const char *deadline, const char *config_path)
{
	struct agent_config *config = NULL;
	int status = 2;

	if (deadline && (duration_parse(&options->deadline_ns, deadline) || !options->deadline_ns)) {
		fail(deadline,
		     "not a deadline: a whole number above 0 and its unit (ns, us, ms, s, m or h), such as 10m");
		return 2;
	}
	if ((options->wait && strcmp(verb, "drain")) || (deadline && !options->wait))
		goto out;
	if (!options->socket) {
		config = config_load(config_path);
		if (!config)
			return 1;
		options->socket = config->control_socket;
	}
	status = drain_command(verb, options);
	agent_config_free(config);
out:
	if (status == 2)
		fputs(usage, stderr);
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "file", required_argument, NULL, 'f' },
						 { "check", required_argument, NULL, 'c' },
						 { "show-config", required_argument, NULL, 'S' },
						 { "socket", required_argument, NULL, 's' },
						 { "wait", no_argument, NULL, 'w' },
						 { "deadline", required_argument, NULL, 'd' },
						 { "version", no_argument, NULL, 'V' },
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	struct agent a = {
		.config_path = AGENT_CONFIG,
		.beat_socket = { .fd = -1 },
		.pins = { .program = "shunt-agent", .loss = "this host falls silent if the agent is killed", .fd = -1 },
		.before = { .watched_fd = -1 }
	};
	struct drain_options drain = { 0 };
	const char *deadline = NULL;
	int option, err = 0, mode = 'f';
	char *text;

	while ((option = getopt_long(argc, argv, "f:s:h", options, NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'V':
			printf("shunt-agent " SHUNT_VERSION "\n");
			return 0;
		case 's':
			drain.socket = optarg;
			break;
		case 'w':
			drain.wait = true;
			break;
		case 'd':
			deadline = optarg;
			break;
		case '?':
			fputs(usage, stderr);
			return 2;
		default:
			mode = option;
			a.config_path = optarg;
		}
	}
	if (optind == argc - 1 && mode == 'f')
		return command(argv[optind], &drain, deadline, a.config_path);
	if (optind != argc || drain.socket || drain.wait || deadline) {
		fputs(usage, stderr);
		return 2;
	}
	/* Before anything is read, so that a file that can't be read again is no surprise then. */
	err = mode == 'f' ? privileges_keep(PRIVILEGES_START) : 0;
	if (err)
		return fail("cannot give up privileges", strerror(-err));
	a.config = config_load(a.config_path);
	if (!a.config)
		return 1;
	if (mode == 'f') {
		err = run(&a);
		agent_stop(&a);
	} else if (mode == 'S') {
		text = agent_config_format(a.config);
		if (text)
			fputs(text, stdout);
		free(text);
	}
	agent_config_free(a.config);
	return err;
}
