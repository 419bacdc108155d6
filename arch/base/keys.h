/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of keys: what somebody may say, each with its name, type, range and place in a struct, said
 * once. Options, devices' options, configuration files and printed configurations are such tables.
 * Plain data, any thread. A refusal is one sentence that names the key, the value and what is allowed.
 */
#ifndef VIRGA_ARCH_BASE_KEYS_H
#define VIRGA_ARCH_BASE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_t;

enum key_type {
	KEY_COUNT,   /* uint32_t, a whole number */
	KEY_SECONDS, /* uint32_t, in milliseconds; said in seconds with a fraction */
	KEY_SIZE,    /* uint64_t, bytes in whole pages; said with K, M or G */
	KEY_BOOL,    /* bool */
	KEY_TEXT,    /* char *, owned: UTF-8 of so many bytes; NULL: not given */
	KEY_BYTES,   /* char *, owned: any bytes that argv holds, from text alone; never printed */
	KEY_WORD,    /* uint32_t: which of `words` */
	KEY_LIST,    /* char *[max], owned, and at `count` the uint32_t that counts them */
	KEY_OTHER,   /* by its own functions, from JSON alone */
};

struct key {
	const char *name;
	enum key_type type;
	size_t offset; /* of the member in the struct that the table is of */
	size_t count;  /* of KEY_LIST */
	uint64_t min, max;
	const char *const *words; /* of KEY_WORD, NULL at the end; of KEY_OTHER for its functions */
	/* Of KEY_TEXT: NULL, or what is allowed when the text is not; may be NULL itself. */
	const char *(*check)(const char *text);
	/* Of KEY_OTHER. where: for sentences, as keys_set_json() has it. 0 or -errno with a sentence. */
	int (*set)(const struct key *key, void *object, const char *where,
		   const struct json_t *value);
	/* Of KEY_OTHER: the value for keys_print(), NULL: nothing to print. NULL itself: never printed. */
	struct json_t *(*print)(const void *object);
};

#define KEY_SECONDS_MAX_MS 86400000u

/* clang-format off */
/* NOLINTBEGIN(bugprone-macro-parentheses) */
/* The member's offset, if it is of that type; else it does not compile. */
#define KEY_PLACE(owner, member, type) \
	.offset = _Generic((__typeof__(((owner *)0)->member) *)NULL, type *: offsetof(owner, member))

#define KEY_COUNT(owner, member, key, least, most) \
	{ .name = key, .type = KEY_COUNT, KEY_PLACE(owner, member, uint32_t), .min = least, .max = most }
#define KEY_SECONDS(owner, member, key) \
	{ .name = key, .type = KEY_SECONDS, KEY_PLACE(owner, member, uint32_t), .min = 1, \
	  .max = KEY_SECONDS_MAX_MS }
#define KEY_SIZE(owner, member, key, least, most) \
	{ .name = key, .type = KEY_SIZE, KEY_PLACE(owner, member, uint64_t), .min = least, .max = most }
#define KEY_BOOL(owner, member, key) \
	{ .name = key, .type = KEY_BOOL, KEY_PLACE(owner, member, bool) }
#define KEY_TEXT(owner, member, key, least, most) \
	{ .name = key, .type = KEY_TEXT, KEY_PLACE(owner, member, char *), .min = least, .max = most }
#define KEY_CHECKED(owner, member, key, most, function) \
	{ .name = key, .type = KEY_TEXT, KEY_PLACE(owner, member, char *), .max = most, \
	  .check = function }
#define KEY_BYTES(owner, member, key) \
	{ .name = key, .type = KEY_BYTES, KEY_PLACE(owner, member, char *) }
#define KEY_WORD(owner, member, key, list) \
	{ .name = key, .type = KEY_WORD, KEY_PLACE(owner, member, uint32_t), .words = list }
#define KEY_LIST(owner, member, counter, key) \
	{ .name = key, .type = KEY_LIST, .offset = offsetof(owner, member), \
	  .count = _Generic((__typeof__(((owner *)0)->counter) *)NULL, uint32_t *: offsetof(owner, counter)), \
	  .max = sizeof(((owner *)0)->member) / sizeof(char *) }
#define KEY_OTHER(key, setter) { .name = key, .type = KEY_OTHER, .set = setter }
#define KEY_END { .name = NULL }
/* NOLINTEND(bugprone-macro-parentheses) */
/* clang-format on */

/* The key of that name, NULL when there is none. */
const struct key *key_find(const struct key *keys, const char *name);

/*
 * Sets one from text, or from a JSON value of its type. where: as below; of a text NULL, when a person
 * has typed just that. 0 or -errno with a sentence: "NAME 'TEXT': what is allowed".
 */
int key_set(const struct key *key, void *object, const char *where, const char *text);
int key_set_json(const struct key *key, void *object, const char *where,
		 const struct json_t *value);

/*
 * Sets what a JSON object has. where: "FILE" or "FILE: part", for sentences. An unknown key is
 * refused with those that there are. What was set before the refusal stays set. 0 or -errno with a
 * sentence.
 */
int keys_set_json(const struct key *keys, void *object, const char *where,
		  const struct json_t *from);

/*
 * Calls set for each word of "key=value,key=value": `,,` is a comma in a value, and the value of a key
 * alone is NULL; both are there for the call. What is not 0 ends it and is returned. -ENOMEM with a
 * sentence.
 */
int keys_each_word(const char *words, int (*set)(void *opaque, const char *key, const char *value),
		   void *opaque);

/* A new JSON object of what is given, in the table's order. NULL when out of memory. */
struct json_t *keys_print(const struct key *keys, const void *object);

/* Frees the texts and lists of the table's keys and sets them to not given. */
void keys_fini(const struct key *keys, void *object);

/*
 * The one JSON value that a file holds, no key twice; the caller's to release. 0 or -errno with a
 * sentence that names file and line.
 */
int keys_read(const char *path, struct json_t **value);

/* The same of a text; where is for the sentence. */
int keys_parse(const char *text, const char *where, struct json_t **value);

#endif
