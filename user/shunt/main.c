/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - shunt OBJECT COMMAND: the program's options, and which command is meant. What a command does is its object's
 * file's.
 */
#include "shunt/shunt.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>

const struct object *const objects[] = { &vip_object,    &backend_object, &pool_object,  &probe_object, &slot_object,
					 &flow_object,   &event_object,   &stats_object, &peer_object,  &config_object,
					 &daemon_object, &top_object,     NULL };

const struct program_option program_options[] = {
	{ 'j', "json", NULL, VALUE_NONE, "JSON on one line" },
	{ 'p', "pretty", NULL, VALUE_NONE, "JSON, indented" },
	{ 'b', "batch", "FILE", VALUE_FILE, "the commands of a file, one a line; - is standard input" },
	{ 's', "socket", "PATH", VALUE_FILE, "the daemon's socket, also $SHUNT_SOCKET (" SHUNT_CONTROL_SOCKET ")" },
	{ 'h', "help", NULL, VALUE_NONE, "help on the object or command before it" },
	{ 'v', "version", NULL, VALUE_NONE, "which version of shunt this is" },
	{ 0 },
};

#define PATIENCE_MS 10000 /* chosen: far above what any answer takes */

/* ---- complaints ---- */

int complain_at(const struct call *call, const char *file, unsigned line, unsigned column, const char *text)
{
	call->out->error(&(struct complaint){ text, file, line, column, call->batch, call->batch_line });
	return CONTROL_REFUSED;
}

int complain(const struct call *call, enum control_code code, const char *format, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	complain_at(call, NULL, 0, 0, text);
	return (int)code;
}

/* ---- options ---- */

/* What the options of a line say. */
struct line {
	bool help, version;
	bool of_program; /* -j, -p, -s, -b or -v */
	const char *batch; /* NULL: none */
	struct option_word *words; /* those that are words of a command's arguments: `--wait` is `wait` */
	int n_words;
};

#define OPTION_WORD 256 /* and above, above all characters: a command's words */

/* The options that there are: the program's own, then all words of all commands. Their values are numbers from OPTION_WORD. */
struct options {
	struct option option[WORDS_MAX];
	char letter[WORDS_MAX]; /* 0: it has none */
	const char *title[WORDS_MAX]; /* of their values; NULL: they have none */
	int n;
	char letters[2 * WORDS_MAX + 2]; /* as getopt() takes them */
};

static void option_add(struct options *all, const char *word, char letter, const char *title)
{
	char *letters = all->letters + strlen(all->letters);

	for (int i = 0; i < all->n; i++)
		if (!strcmp(all->option[i].name, word))
			return;
	if (all->n + 1 == WORDS_MAX)
		return;
	all->option[all->n] =
		(struct option){ word, title ? required_argument : no_argument, NULL, OPTION_WORD + all->n };
	all->letter[all->n] = letter;
	all->title[all->n++] = title;
	if (letter)
		*letters++ = letter;
	if (letter && title)
		*letters++ = ':';
}

static void options_collect(struct options *all)
{
	memset(all, 0, sizeof(*all));
	all->letters[0] = ':'; /* complaints are ours */
	for (const struct program_option *o = program_options; o->word; o++)
		option_add(all, o->word, o->letter, o->title);
	for (int i = 0; objects[i]; i++)
		for (const struct command *c = objects[i]->commands; c->name; c++)
			for (const struct key *key = c->keys; key && key->word; key++)
				option_add(all, key->word, key->letter, key->title);
}

/* The number of the option that getopt() came to, by its word or letter; -1: none. */
static int option_number(const struct options *all, int option)
{
	for (int i = 0; i < all->n; i++)
		if (option == OPTION_WORD + i || (option && option == all->letter[i]))
			return i;
	return -1;
}

/* Complain of an option that there isn't, or, `number`, that lacks its value. */
static int option_complain(const struct call *call, const struct options *all, int number, const char *text)
{
	struct words words = { .n = 0 };
	const char *near;

	if (number >= 0)
		return complain(call, CONTROL_MISUSE, "option '%s' needs a value after it: %s%s", text,
				all->title[number], strcmp(all->title[number], "TIME") ? "" : ", such as 10m");
	for (; words.n < all->n; words.n++)
		words.word[words.n] = all->option[words.n].name;
	near = !strncmp(text, "--", 2) ? word_near(text + 2, &words) : NULL;
	if (near)
		return complain(call, CONTROL_MISUSE, "there is no option '%s': did you mean '--%s'?", text, near);
	return complain(call, CONTROL_MISUSE, "there is no option '%s': see 'shunt help'", text);
}

/* Take the options out of argv; the words that are left begin at *argv. `line->words` has room for argc. Returns the exit status. */
static int options_parse(struct call *call, int *argc, char ***argv, struct line *line)
{
	struct options all;
	char wrong[64] = "";
	int option, lacks_value = -1;

	options_collect(&all);
	opterr = 0;
	optind = 0; /* anew */
	while ((option = getopt_long(*argc, *argv, all.letters, all.option, NULL)) != -1) {
		int number = option_number(&all, option == ':' ? optopt : option);

		if (option == ':' || option == '?') {
			/* Of a cluster of letters only the wrong one is told. */
			if (optopt && optopt < OPTION_WORD && strncmp((*argv)[optind - 1], "--", 2))
				snprintf(wrong, sizeof(wrong), "-%c", optopt);
			else
				snprintf(wrong, sizeof(wrong), "%s", (*argv)[optind - 1]);
			lacks_value = option == ':' ? number : -1;
			continue;
		}
		line->of_program |= all.letter[number] && strchr("jpsbv", all.letter[number]);
		switch (all.letter[number]) {
		case 'j':
			if (call->out != &out_json_pretty)
				call->out = &out_json;
			break;
		case 'p':
			call->out = &out_json_pretty;
			break;
		case 'b':
			line->batch = optarg;
			break;
		case 's':
			call->socket = optarg;
			break;
		case 'h':
			line->help = true;
			break;
		case 'v':
			line->version = true;
			break;
		default:
			line->words[line->n_words++] = (struct option_word){ all.option[number].name, optarg };
		}
	}
	*argc -= optind;
	*argv += optind;
	/* After the loop, so that a -j that follows is heeded. */
	return *wrong ? option_complain(call, &all, lacks_value, wrong) : CONTROL_DONE;
}

/* Everything said to the daemon is JSON, so everything must be UTF-8. */
static bool is_utf8(const char *text)
{
	json_t *string = json_string(text);

	json_decref(string);
	return string;
}

static bool are_utf8(int argc, char **argv, const struct line *line)
{
	for (int i = 0; i < argc; i++)
		if (!is_utf8(argv[i]))
			return false;
	for (int i = 0; i < line->n_words; i++)
		if (line->words[i].value && !is_utf8(line->words[i].value))
			return false;
	return true;
}

/* ---- which command ---- */

/* `help` is to be written out: a prefix of it could be one of a command. */
static bool is_help(const char *word)
{
	return !strcmp(word, "help");
}

/* The command that argv names; *n: how many words that takes. NULL: complained of. */
static const struct command *command_of(const struct call *call, const struct object *object, int argc, char **argv,
					int *n)
{
	*n = 1;
	if (argc < 2 || !*object->commands->name)
		return object->commands;
	*n = 2;
	return command_find(call, object, argv[1]);
}

static int help_run(const struct call *call, int argc, char **argv)
{
	const struct object *object = argc > 0 ? object_find(call, argv[0]) : NULL;
	const struct command *command = NULL;
	int n;

	if (argc > 0 && !object)
		return CONTROL_MISUSE;
	if (argc > 1) {
		command = command_of(call, object, argc, argv, &n);
		if (!command)
			return CONTROL_MISUSE;
	}
	help_show(call, object, command);
	return CONTROL_DONE;
}

static int words_run(struct call *call, int argc, char **argv, const struct line *line)
{
	const struct object *object;
	const struct command *command;
	int n, code;

	if (line->version) {
		puts("shunt " SHUNT_VERSION);
		return CONTROL_DONE;
	}
	if (argc == 0 && !line->help) {
		help_show(call, NULL, NULL);
		return CONTROL_MISUSE;
	}
	if (argc > 0 && is_help(argv[0]))
		return help_run(call, argc - 1, argv + 1);
	if (argc > 1 && is_help(argv[1]))
		return help_run(call, 1, argv);
	if (line->help)
		return help_run(call, argc, argv);
	object = object_find(call, argv[0]);
	command = object ? command_of(call, object, argc, argv, &n) : NULL;
	if (!command)
		return CONTROL_MISUSE;
	call->args = json_object();
	code = arguments_parse(call, object, command, argc - n, argv + n, line->words, line->n_words);
	if (!code)
		code = command->run(call);
	json_decref(call->args);
	return code;
}

/* Run what stands behind the program's name: options, words, or a batch of them. */
static int argv_run(struct call *call, int argc, char **argv)
{
	struct line line = { .words = calloc((size_t)argc + 1, sizeof(*line.words)) };
	const struct output *out = call->out;
	int code;

	if (!line.words)
		return complain(call, CONTROL_REFUSED, "out of memory");
	code = options_parse(call, &argc, &argv, &line);
	if (!code && !are_utf8(argc, argv, &line))
		code = complain(call, CONTROL_MISUSE, "an argument is not UTF-8");
	if (!code && call->batch && line.of_program) {
		call->out = out;
		code = complain(call, CONTROL_MISUSE, "-j, -p, -s, -b and -v are for the batch as a whole");
	}
	if (!code && line.batch && (argc || line.n_words))
		code = complain(call, CONTROL_MISUSE, "with -b the commands are in the file, not on the command line");
	if (!code)
		code = line.batch ? batch_run(call, line.batch) : words_run(call, argc, argv, &line);
	free(line.words);
	return code;
}

int line_run(struct call *call, int argc, char **argv)
{
	struct call own = *call;

	return argv_run(&own, argc, argv);
}

/* So that no socket takes the place of a standard stream that is closed: what is meant for that fails, as it would have. */
static void streams_hold(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			(void)!open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
	const char *socket = getenv("SHUNT_SOCKET");
	struct call call = { .out = &out_plain,
			     .socket = socket && *socket ? socket : SHUNT_CONTROL_SOCKET,
			     .patience_ms = PATIENCE_MS };
	int code;

	streams_hold();
	if (argc > 1 && !strcmp(argv[1], "--complete")) {
		complete(&call, argc - 2, argv + 2);
		return CONTROL_DONE;
	}
	code = argv_run(&call, argc, argv);
	if (fflush(stdout) || ferror(stdout)) {
		complain(&call, CONTROL_REFUSED, "cannot write the output: %s", strerror(errno));
		code = code ? code : CONTROL_REFUSED;
	}
	return code;
}
