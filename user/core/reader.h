/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reader.h - typed values out of a document's nodes, driven by tables of keys.
 *
 * Decides what each type looks like and how an error reads: "WHAT is VALUE, expected ...", placed at the node that is
 * wrong. Which keys there are, and what values mean together, is left to config.c and agent_config.c.
 *
 * Every reader returns 0; -EINVAL with *error filled; or -ENOMEM. `what` is the value's name in the sentence.
 */
#ifndef SHUNT_CORE_READER_H
#define SHUNT_CORE_READER_H

#include "core/document.h"

/* One key of a mapping: its value is read into the mapping's object at `offset`. */
struct reader_key {
	const char *name;
	bool required;
	int (*read)(const struct node *node, void *into, struct config_error *error);
	size_t offset;
};

#define READER_KEYS_MAX 16

struct reader_mapping {
	const char *what; /* "a backend" */
	size_t n_keys; /* at most READER_KEYS_MAX */
	struct reader_key keys[READER_KEYS_MAX];
};

/* Every key once, none unknown, none required missing. */
int reader_mapping(const struct node *node, const struct reader_mapping *mapping, void *object,
		   struct config_error *error);

/* The value of a key that reader_mapping() has seen; NULL: the key is absent. */
const struct node *reader_find(const struct node *mapping, const char *key);

/* 0: a list of 1 .. max items, each a `item` ("a backend", for the sentence). */
int reader_list(const struct node *node, const char *what, const char *item, size_t max, struct config_error *error);

/* A whole number, decimal, or hexadecimal after 0x; not in quotes. */
int reader_number(const struct node *node, const char *what, uint64_t min, uint64_t max, uint64_t *out,
		  struct config_error *error);

/* A name in the characters that CONFIG_NAME_MAX allows; `out` has `size` bytes. */
int reader_name(const struct node *node, const char *what, char *out, size_t size, struct config_error *error);

/* One of the words of a list that ends with NULL; *out is its index. */
int reader_choice(const struct node *node, const char *what, const char *const *words, size_t *out,
		  struct config_error *error);

int reader_duration(const struct node *node, const char *what, uint64_t min_ns, uint64_t max_ns, uint64_t *out,
		    struct config_error *error);

/* An address of one host: not unspecified, multicast, loopback, link-local IPv6 or broadcast. */
int reader_address(const struct node *node, const char *what, struct shunt_addr *out, struct config_error *error);

/* The same, but any that a socket may listen on: the loopback's and the unspecified ones too. */
int reader_listen_address(const struct node *node, const char *what, struct shunt_addr *out,
			  struct config_error *error);

/* `true` or `false`; *out is a bool. */
int reader_bool(const struct node *node, const char *what, void *out, struct config_error *error);

/* An absolute path, or the word `none`, which is "". */
int reader_path_or_none(const struct node *node, const char *what, char *out, struct config_error *error);

/* Printable ASCII without spaces that begins with `start` ("an absolute path"); `out` has CONFIG_PATH_MAX bytes. */
int reader_text(const struct node *node, const char *what, const char *start, const char *expected, char *out,
		struct config_error *error);

/* The path of a Unix socket: absolute, printable ASCII; `out` has CONFIG_SOCKET_MAX bytes. */
int reader_socket(const struct node *node, void *out, struct config_error *error);

/* The list of interfaces that both files have: *out is the caller's, even after an error. */
int reader_interfaces(const struct node *node, char (**out)[IF_NAMESIZE], size_t *n, struct config_error *error);

/* "is WHAT-IT-IS, expected EXPECTED" about a node of the wrong type or value. */
int reader_expected(const struct node *node, const char *what, struct config_error *error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Text of a file, made fit for a sentence: in quotes, printable, not long. */
struct reader_quoted {
	char s[72];
};
struct reader_quoted reader_quote(const char *text);

/*
 * Write "one of: a, b, c" (how many, where they are more than READER_KEYS_MAX) and, where one is near to `word`,
 * " (did you mean 'b'?)". Cut to fit; returns buffer.
 */
const char *reader_candidates(const char *word, const char *const *words, size_t n, char *buffer, size_t size);

/*
 * The first item of n that compares equal to one before it in the file, after sorting `places` by `compare` and then
 * by place: *second and *first are the two. False: all differ. Items are pointers into the model.
 */
struct reader_place {
	const void *item;
	const struct node *node; /* the value that must be unique */
};
bool reader_duplicate(struct reader_place *places, size_t n, int (*compare)(const void *, const void *),
		      const struct node **first, const struct node **second);

#endif
