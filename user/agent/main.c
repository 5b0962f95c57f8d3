/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - shunt-agent: attaches the backend's program, sets up the VIPs when told, and says every so often that it is
 * still there. Leaves probes and tunnelled packets to bpf/agent.bpf.c, taking the host out of service to control.c, the
 * engine's processes to watch.c, its health to health.c.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/if_link.h>
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

#include "agent/beat.h"
#include "agent/control.h"
#include "agent/drain.h"
#include "agent/health.h"
#include "agent/vips.h"
#include "agent/watch.h"
#include "core/config.h"
#include "shunt/agent.h"
#include "shunt/heartbeat.h"
#include "agent.skel.h"

#define AGENT_CONFIG "/etc/shunt/agent.yaml"
#define WORD_PERIOD_MS 20 /* how often the agent says that it lives and looks at its engine, chosen */

static const char usage[] =
	"usage: shunt-agent [-f FILE]          run with this configuration (default " AGENT_CONFIG ")\n"
	"       shunt-agent --check FILE       say what is wrong with it, or nothing\n"
	"       shunt-agent --show-config FILE print it in full, defaults included\n"
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
	int *links;
	size_t n_links;
	struct vips_undo *vips;
	struct agent_word *word;
	uint64_t *beat; /* map `agent_beat` */
	struct control_server *control;
	struct watch *watch; /* NULL: nobody said which processes are the engine */
	struct health *health; /* NULL: nobody is asked */
	struct unix_listener beat_socket;
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

static int program_load(struct agent *a)
{
	const struct config_engine *engine = &a->config->engine;
	int err;

	libbpf_set_print(keep_complaint);
	a->skel = agent_bpf__open();
	if (!a->skel)
		return fail("BPF", strerror(errno));
	a->skel->rodata->restrict_sources = a->config->n_balancers > 0;
	if (*engine->beat_pin)
		bpf_map__set_pin_path(a->skel->maps.agent_beat, engine->beat_pin);
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
	a->word->beat_limit_ns = engine->beat_limit_ns;
	return 0;
}

static int program_attach(struct agent *a, const char *interface)
{
	static const __u32 modes[] = { XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE };
	unsigned ifindex = if_nametoindex(interface);
	char what[64];
	int link = -EINVAL;

	snprintf(what, sizeof(what), "interface %s", interface);
	if (!ifindex)
		return fail(what, "no such interface");
	for (size_t i = 0; i < 2 && link < 0 && link != -EBUSY && link != -EEXIST; i++) {
		LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = modes[i]);

		link = bpf_link_create(bpf_program__fd(a->skel->progs.shunt_agent), (int)ifindex, BPF_XDP, &opts);
	}
	if (link == -EBUSY || link == -EEXIST)
		return fail(what, "an XDP program is already attached there and shunt-agent does not replace it");
	if (link < 0)
		return fail(what, strerror(-link));
	a->links[a->n_links++] = link;
	return 0;
}

/* What the health URL says, while there is an engine to ask. */
static void health_follow(struct agent *a, uint64_t now_ns)
{
	bool was_ready = health_is_ready(a->health);
	__u64 life = a->word->life;

	if (a->watch && (!life || ENGINE_LIFE_CAUSE(life)))
		return;
	health_run(a->health, now_ns);
	a->word->engine = health_is_ready(a->health) ? ENGINE_SERVING : ENGINE_LOADING;
	a->word->flags = health_is_full(a->health) ? PROBE_FULL : 0;
	if (was_ready != health_is_ready(a->health))
		fprintf(stderr, "shunt-agent: engine: %sready (%s)\n", was_ready ? "not " : "",
			health_reason(a->health));
}

/* One turn: the engine, then the word. */
static void word_refresh(struct agent *a)
{
	struct timespec t;
	uint64_t now_ns;
	bool began = a->watch && watch_run(a->watch);

	clock_gettime(CLOCK_MONOTONIC, &t);
	now_ns = (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
	if (began && a->health)
		health_restart(a->health, now_ns);
	else if (began)
		a->word->engine = ENGINE_SERVING;
	if (a->health)
		health_follow(a, now_ns);
	if (a->beat_socket.bound)
		beat_run(&a->beat_socket, bpf_map__fd(a->skel->maps.agent_beat));
	__atomic_store_n(&a->word->updated_ns, now_ns, __ATOMIC_RELAXED);
}

static int engine_start(struct agent *a)
{
	const struct config_engine *config = &a->config->engine;
	const struct watch_options watch = {
		.config = config, .agent_fd = bpf_map__fd(a->skel->maps.agent), .word = a->word, .beat = a->beat
	};
	const char *why;
	int err = 0;

	a->word->engine = *config->health_url ? ENGINE_LOADING : ENGINE_UNKNOWN;
	if (*config->health_url) {
		a->health = health_open(config);
		if (!a->health)
			return fail(config->health_url, "cannot be asked by this libcurl");
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

static int control_start(struct agent *a)
{
	const struct control_options options = { .path = a->config->control_socket,
						 .vips = a->config->vips,
						 .n_vips = a->config->n_vips,
						 .word = a->word,
						 .beat = a->beat };
	int err = control_open(&a->control, &options);

	if (err == -EADDRINUSE)
		return fail(options.path, "another shunt-agent answers on this socket");
	return err ? fail(options.path, strerror(-err)) : 0;
}

/* Until SIGINT or SIGTERM. 0, or 1 after a sentence on stderr. */
static int loop(struct agent *a)
{
	struct pollfd fds[2 + AGENT_CLIENTS_MAX] = { { .events = POLLIN } };
	sigset_t signals;
	nfds_t n;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	fds[0].fd = signalfd(-1, &signals, SFD_CLOEXEC);
	if (fds[0].fd < 0)
		return fail("signalfd", strerror(errno));
	fprintf(stderr, "shunt-agent: ready: %zu interfaces, %zu VIPs%s\n", a->config->n_interfaces, a->config->n_vips,
		a->config->setup_vips ? " on the loopback" : "");
	do {
		n = control_poll(a->control, fds + 1);
		fds[0].revents = 0;
		if ((a->health ? health_poll(a->health, fds, n + 1, WORD_PERIOD_MS)
			       : poll(fds, n + 1, WORD_PERIOD_MS)) > 0)
			control_run(a->control, fds + 1, n);
		word_refresh(a);
	} while (!fds[0].revents);
	close(fds[0].fd);
	return 0;
}

static int run(struct agent *a)
{
	int err;

	if (program_load(a))
		return 1;
	a->links = calloc(a->config->n_interfaces, sizeof(*a->links));
	if (!a->links)
		return fail(NULL, "no memory");
	if (getrandom(&a->word->incarnation, sizeof(a->word->incarnation), 0) != sizeof(a->word->incarnation))
		return fail("getrandom", strerror(errno));
	if (control_start(a) || engine_start(a))
		return 1;
	word_refresh(a);
	if (a->config->setup_vips) {
		err = vips_setup(a->config->vips, a->config->n_vips, (const char(*)[IF_NAMESIZE])a->config->interfaces,
				 a->config->n_interfaces, &a->vips);
		if (err)
			return 1; /* said there */
	}
	for (size_t i = 0; i < a->config->n_interfaces; i++)
		if (program_attach(a, a->config->interfaces[i]))
			return 1;
	return loop(a);
}

static void agent_stop(struct agent *a)
{
	control_close(a->control);
	for (size_t i = 0; i < a->n_links; i++)
		close(a->links[i]);
	free(a->links);
	vips_undo(a->vips);
	watch_close(a->watch);
	health_close(a->health);
	unix_close(&a->beat_socket);
	if (a->word)
		munmap(a->word, (size_t)sysconf(_SC_PAGESIZE));
	if (a->beat)
		munmap(a->beat, (size_t)sysconf(_SC_PAGESIZE));
	agent_bpf__destroy(a->skel);
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
						 { "help", no_argument, NULL, 'h' },
						 { 0 } };
	struct agent a = { .config_path = AGENT_CONFIG, .beat_socket = { .fd = -1 } };
	struct drain_options drain = { 0 };
	const char *deadline = NULL;
	int option, err = 0, mode = 'f';
	char *text;

	while ((option = getopt_long(argc, argv, "f:s:h", options, NULL)) != -1) {
		switch (option) {
		case 'h':
			fputs(usage, stdout);
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
