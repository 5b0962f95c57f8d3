/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * main.c - shunt OBJECT COMMAND: options, prefixes, help. What a command does is its object's file's.
 */
#include "shunt/shunt.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>

static const struct object *const objects[] = {
	&vip_object,  &backend_object, &probe_object, &slot_object,
	&flow_object, &event_object,   &stats_object, &config_object,
};
#define N_OBJECTS (sizeof(objects) / sizeof(*objects))

int complain(const struct call *call, enum control_code code, const char *format, ...)
{
	struct complaint complaint = { 0 };
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	complaint.text = text;
	call->out->error(&complaint);
	return (int)code;
}

bool is_prefix(const char *word, const char *name)
{
	return *word && !strncmp(word, name, strlen(word));
}

int number_parse(json_int_t *out, const char *text)
{
	char *end;

	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno || *text < '0' || *text > '9' || *end || *out > 1LL << 53 ? -EINVAL : 0;
}

/* ---- help ---- */

static void options_print(void)
{
	puts("\nOPTIONS: -j | --json    JSON on one line\n"
	     "         -p | --pretty  JSON, indented\n"
	     "         -s | --socket PATH  the daemon's socket, also $SHUNT_SOCKET (" SHUNT_CONTROL_SOCKET ")\n"
	     "         -h | --help    help on the object or command before it\n"
	     "Words may be cut short where that leaves no doubt: shunt b s");
}

static void help_main(void)
{
	puts("usage: shunt [OPTIONS] OBJECT COMMAND [ARGUMENTS]\n"
	     "       shunt help [OBJECT [COMMAND]]\n");
	for (size_t i = 0; i < N_OBJECTS; i++) {
		printf("  %-8s  %s:", objects[i]->name, objects[i]->help);
		for (const struct command *c = objects[i]->commands; c->name; c++)
			printf("%s%s", c == objects[i]->commands ? " " : " | ", c->name);
		putchar('\n');
	}
	options_print();
}

static void help_command(const struct object *object, const struct command *c)
{
	printf("  shunt %s %s%s%s\n        %s\n", object->name, c->name, *c->arguments ? " " : "", c->arguments,
	       c->help);
}

static void help_object(const struct object *object)
{
	printf("%s: %s\n", object->name, object->help);
	for (const struct command *c = object->commands; c->name; c++)
		help_command(object, c);
	options_print();
}

/* ---- words ---- */

/*
 * The object that `word` names or begins. Unlike bpftool, which takes the first that fits, a word that fits two is
 * refused: what it means must not change as commands are added.
 */
static const struct object *object_find(const struct call *call, const char *word)
{
	const struct object *found = NULL;

	for (size_t i = 0; i < N_OBJECTS; i++) {
		if (!is_prefix(word, objects[i]->name))
			continue;
		if (!strcmp(word, objects[i]->name))
			return objects[i];
		if (found) {
			complain(call, CONTROL_MISUSE, "'%s' may be '%s' or '%s'", word, found->name, objects[i]->name);
			return NULL;
		}
		found = objects[i];
	}
	if (!found)
		complain(call, CONTROL_MISUSE, "there is no object '%s': see 'shunt help'", word);
	return found;
}

/* The same for an object's commands; `list` is another word for `show`. */
static const struct command *command_find(const struct call *call, const struct object *object, const char *word)
{
	const struct command *found = NULL;

	for (const struct command *c = object->commands; c->name; c++) {
		if (!strcmp(word, c->name) || (!strcmp(c->name, "show") && is_prefix(word, "list")))
			return c;
		if (!is_prefix(word, c->name))
			continue;
		if (found) {
			complain(call, CONTROL_MISUSE, "'%s' may be '%s' or '%s'", word, found->name, c->name);
			return NULL;
		}
		found = c;
	}
	if (!found)
		complain(call, CONTROL_MISUSE, "%s has no command '%s': see 'shunt %s help'", object->name, word,
			 object->name);
	return found;
}

/* `help` is to be written out: a prefix of it could be one of a command. */
static bool is_help(const char *word)
{
	return !strcmp(word, "help");
}

static int help_run(const struct call *call, int argc, char **argv)
{
	const struct object *object;
	const struct command *command;

	if (argc < 1) {
		help_main();
		return CONTROL_DONE;
	}
	object = object_find(call, argv[0]);
	if (!object)
		return CONTROL_MISUSE;
	if (argc < 2) {
		help_object(object);
		return CONTROL_DONE;
	}
	command = command_find(call, object, argv[1]);
	if (!command)
		return CONTROL_MISUSE;
	help_command(object, command);
	return CONTROL_DONE;
}

/* Options that are words of some commands' arguments in another spelling: `--wait` is `wait`. */
struct word {
	const char *name;
	char *value; /* NULL: it has none */
};

static bool takes_option(const struct command *command, const char *name)
{
	size_t length = strlen(name);
	const char *at = command->options ? strstr(command->options, name) : NULL;

	return at && (at == command->options || at[-1] == ' ') && (!at[length] || at[length] == ' ');
}

/* Put the options behind the arguments, as the words they are. Returns the exit status; *all is to be freed. */
static int words_append(struct call *call, const struct object *object, const struct command *command,
			const struct word *words, int n_words, char ***all)
{
	*all = calloc((size_t)(call->argc + 2 * n_words + 1), sizeof(**all));
	if (!*all)
		return complain(call, CONTROL_REFUSED, "out of memory");
	memcpy(*all, call->argv, (size_t)call->argc * sizeof(**all));
	call->argv = *all;
	for (const struct word *w = words; w < words + n_words; w++) {
		if (!takes_option(command, w->name))
			return complain(call, CONTROL_MISUSE, "%s %s has no option '--%s'", object->name, command->name,
					w->name);
		call->argv[call->argc++] = (char *)w->name;
		if (w->value)
			call->argv[call->argc++] = w->value;
	}
	return CONTROL_DONE;
}

static int command_run(struct call *call, int argc, char **argv, const struct word *words, int n_words)
{
	const struct object *object = object_find(call, argv[0]);
	const struct command *command;
	int code = CONTROL_DONE;
	char **all = NULL;

	if (!object)
		return CONTROL_MISUSE;
	command = argc > 1 ? command_find(call, object, argv[1]) : object->commands;
	if (!command)
		return CONTROL_MISUSE;
	call->argc = argc > 2 ? argc - 2 : 0;
	call->argv = argv + argc - call->argc;
	if (call->argc >= command->min_arguments) /* so that no option takes the place of an argument */
		code = words_append(call, object, command, words, n_words, &all);
	if (!code && (call->argc < command->min_arguments || call->argc > command->max_arguments))
		code = complain(call, CONTROL_MISUSE, "usage: shunt %s %s%s%s", object->name, command->name,
				*command->arguments ? " " : "", command->arguments);
	if (!code)
		code = command->run(call);
	free(all);
	return code;
}

/* Everything said to the daemon is JSON, so everything must be UTF-8. */
static bool is_utf8(const char *text)
{
	json_t *string = json_string(text);

	json_decref(string);
	return string;
}

#define OPTION_WORD 256 /* above all characters */

/* Take the options out of argv; the words that are left begin at *argv. `words` has room for argc. 0, or the exit status. */
static int options_parse(struct call *call, int *argc, char ***argv, bool *help, struct word *words, int *n_words)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },          { "pretty", no_argument, NULL, 'p' },
		{ "socket", required_argument, NULL, 's' },  { "help", no_argument, NULL, 'h' },
		{ "wait", no_argument, NULL, OPTION_WORD },  { "deadline", required_argument, NULL, OPTION_WORD },
		{ "force", no_argument, NULL, OPTION_WORD }, { NULL, 0, NULL, 0 },
	};
	char unknown[64] = "";
	const char *incomplete = NULL;
	int option, index = 0;

	opterr = 0;
	while ((option = getopt_long(*argc, *argv, ":jps:h", options, &index)) != -1) {
		switch (option) {
		case 'j':
			if (call->out != &out_json_pretty)
				call->out = &out_json;
			break;
		case 'p':
			call->out = &out_json_pretty;
			break;
		case 's':
			call->socket = optarg;
			break;
		case 'h':
			*help = true;
			break;
		case OPTION_WORD:
			words[(*n_words)++] = (struct word){ options[index].name, optarg };
			break;
		case ':':
			incomplete = optopt == 's' ? "option -s needs the path of a socket"
						   : "option --deadline needs a time, such as 10m";
			break;
		default:
			if (optopt && optopt < OPTION_WORD)
				snprintf(unknown, sizeof(unknown), "-%c", optopt);
			else
				snprintf(unknown, sizeof(unknown), "%s", (*argv)[optind - 1]);
		}
	}
	*argc -= optind;
	*argv += optind;
	/* After the loop, so that a -j that follows is heeded. */
	if (*unknown)
		return complain(call, CONTROL_MISUSE, "there is no option '%s': see 'shunt help'", unknown);
	if (incomplete)
		return complain(call, CONTROL_MISUSE, "%s", incomplete);
	for (int i = 0; i < *argc + *n_words; i++)
		if (!is_utf8(i < *argc ? (*argv)[i] : words[i - *argc].value ? words[i - *argc].value : ""))
			return complain(call, CONTROL_MISUSE, "an argument is not UTF-8");
	return CONTROL_DONE;
}

static int words_run(struct call *call, int argc, char **argv, bool help, const struct word *words, int n_words)
{
	if (help)
		return help_run(call, argc, argv);
	if (argc == 0) {
		help_main();
		return CONTROL_MISUSE;
	}
	if (is_help(argv[0]))
		return help_run(call, argc - 1, argv + 1);
	if (argc > 1 && is_help(argv[1]))
		return help_run(call, 1, argv);
	return command_run(call, argc, argv, words, n_words);
}

int main(int argc, char **argv)
{
	const char *socket = getenv("SHUNT_SOCKET");
	struct call call = { .out = &out_plain, .socket = socket && *socket ? socket : SHUNT_CONTROL_SOCKET };
	struct word *words = calloc((size_t)argc + 1, sizeof(*words));
	int n_words = 0, code = CONTROL_REFUSED;
	bool help = false;

	if (words)
		code = options_parse(&call, &argc, &argv, &help, words, &n_words);
	if (words && !code)
		code = words_run(&call, argc, argv, help, words, n_words);
	free(words);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "shunt: cannot write the output: %s\n", strerror(errno));
		code = code ? code : CONTROL_REFUSED;
	}
	return code;
}
