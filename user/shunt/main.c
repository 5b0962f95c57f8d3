/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - shunt OBJECT COMMAND: the program's options, and which command is meant. What a command does is its object's
 * file's.
 */
#include "shunt/shunt.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>

const struct object *const objects[] = { &vip_object,   &backend_object, &probe_object,  &slot_object, &flow_object,
					 &event_object, &stats_object,   &config_object, NULL };

const struct program_option program_options[] = {
	{ 'j', "json", NULL, VALUE_NONE, "JSON on one line" },
	{ 'p', "pretty", NULL, VALUE_NONE, "JSON, indented" },
	{ 'b', "batch", "FILE", VALUE_FILE, "the commands of a file, one a line; - is standard input" },
	{ 's', "socket", "PATH", VALUE_FILE, "the daemon's socket, also $SHUNT_SOCKET (" SHUNT_CONTROL_SOCKET ")" },
	{ 'h', "help", NULL, VALUE_NONE, "help on the object or command before it" },
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
	bool help;
	const char *batch; /* NULL: none */
	struct option_word *words; /* those that are words of a command's arguments: `--wait` is `wait` */
	int n_words;
};

#define OPTION_WORD 256 /* and above, above all characters: a command's words */

/* The options that there are: the program's own, then all words of all commands. */
struct options {
	struct option option[WORDS_MAX];
	const char *title[WORDS_MAX]; /* of their values */
	int n;
};

static void option_add(struct options *all, const char *word, const char *title, int value)
{
	for (int i = 0; i < all->n; i++)
		if (!strcmp(all->option[i].name, word))
			return;
	if (all->n + 1 == WORDS_MAX)
		return;
	all->title[all->n] = title;
	all->option[all->n++] = (struct option){ word, title ? required_argument : no_argument, NULL,
						 value ? value : OPTION_WORD + all->n };
}

static void options_collect(struct options *all)
{
	memset(all, 0, sizeof(*all));
	for (const struct program_option *o = program_options; o->word; o++)
		option_add(all, o->word, o->title, o->letter);
	for (int i = 0; objects[i]; i++)
		for (const struct command *c = objects[i]->commands; c->name; c++)
			for (const struct key *key = c->keys; key && key->word; key++)
				option_add(all, key->word, key->title, 0);
}

/* Complain of an option that there isn't, or that lacks its value. */
static int option_complain(const struct call *call, const struct options *all, int option, const char *text)
{
	struct words words = { .n = 0 };
	const char *near;

	for (; words.n < all->n; words.n++) {
		words.word[words.n] = all->option[words.n].name;
		if (option == ':' && all->option[words.n].val == optopt)
			return complain(call, CONTROL_MISUSE, "option '%s' needs a value after it: %s%s", text,
					all->title[words.n],
					strcmp(all->title[words.n], "TIME") ? "" : ", such as 10m");
	}
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
	int option, wrong_option = 0, wrong_optopt = 0, index = 0;

	options_collect(&all);
	opterr = 0;
	optind = 0; /* anew */
	while ((option = getopt_long(*argc, *argv, ":jpb:s:h", all.option, &index)) != -1) {
		switch (option) {
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
		case ':':
		case '?':
			if (optopt && optopt < OPTION_WORD && (*argv)[optind - 1][1] != '-')
				snprintf(wrong, sizeof(wrong), "-%c", optopt);
			else
				snprintf(wrong, sizeof(wrong), "%s", (*argv)[optind - 1]);
			wrong_option = option;
			wrong_optopt = optopt;
			break;
		default:
			line->words[line->n_words++] = (struct option_word){ all.option[index].name, optarg };
		}
	}
	*argc -= optind;
	*argv += optind;
	optopt = wrong_optopt;
	return wrong_option ? option_complain(call, &all, wrong_option, wrong)
			    : CONTROL_DONE; /* now: a -j that follows is heeded */
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
	const struct call before = *call;
	int code;

	if (!line.words)
		return complain(call, CONTROL_REFUSED, "out of memory");
	code = options_parse(call, &argc, &argv, &line);
	if (!code && !are_utf8(argc, argv, &line))
		code = complain(call, CONTROL_MISUSE, "an argument is not UTF-8");
	if (!code && call->batch && (line.batch || call->out != before.out || call->socket != before.socket)) {
		call->out = before.out;
		code = complain(call, CONTROL_MISUSE, "-j, -p, -s and -b are for the batch as a whole");
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

int main(int argc, char **argv)
{
	const char *socket = getenv("SHUNT_SOCKET");
	struct call call = { .out = &out_plain,
			     .socket = socket && *socket ? socket : SHUNT_CONTROL_SOCKET,
			     .patience_ms = PATIENCE_MS };
	int code;

	if (argc > 1 && !strcmp(argv[1], "--complete")) {
		complete(&call, argc - 2, argv + 2);
		return CONTROL_DONE;
	}
	code = argv_run(&call, argc, argv);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "shunt: cannot write the output: %s\n", strerror(errno));
		code = code ? code : CONTROL_REFUSED;
	}
	return code;
}
