/*
 * JSON documents as trees, and the only home of cJSON. Whatever text comes in,
 * a tree is bounded in length, depth and number of values, its strings hold no
 * NUL, and reading a field cannot fail in a way that goes unnoticed.
 *
 * As in the Kubernetes API a field that is null counts as absent, and of a key
 * that is repeated the last one counts.
 */
#ifndef WATCH_JSON_H
#define WATCH_JSON_H

#include "proxy/base/arena.h"
#include "proxy/base/errbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	JSON_MAX_LENGTH = 16 * 1024 * 1024,
	JSON_MAX_DEPTH = 64,
	JSON_MAX_VALUES = 1024 * 1024,
	JSON_PATH_SIZE = 256,
	JSON_FOR_NUL = 0x1a, /* "substitute" */
};

enum json_type {
	JSON_NULL,
	JSON_BOOL,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT
};

/* A value in a tree; the root owns all that is below it. */
struct json;

/*
 * @text need not be terminated and is not kept. NULL with @eb (line, column and
 * reason) and errno, ENOMEM if that was it, else EINVAL.
 */
struct json *json_parse(const char *text, size_t length, struct errbuf *eb);
/*
 * The same of an object that an API server has. It lets anybody write a NUL
 * into an annotation; read here as JSON_FOR_NUL, which is in no name, address
 * or word that counts.
 */
struct json *json_parse_object(const char *text, size_t length, struct errbuf *eb);
void json_free(struct json *root); /* NULL is allowed */

/* Questions to one value; NULL is allowed and counts as null. */
enum json_type json_type(const struct json *json);
const char *json_type_name(enum json_type type);  /* "a string" */
const char *json_string(const struct json *json); /* NULL if it is no string */
bool json_is_true(const struct json *json);
double json_number(const struct json *json); /* 0 if it is no number */
bool json_integer(const struct json *json,
		  int64_t *value); /* false if it is no whole number */

/* Members of an object or array, in the order of the text. NULL at the end, or for other types. */
const struct json *json_first(const struct json *parent);
const struct json *json_next(const struct json *json);
const char *json_key(const struct json *json); /* NULL if it is no member of an object */

#define json_for_each(item, parent)                                            \
	for (const struct json *item = json_first(parent); item;               \
	     item = json_next(item))

bool json_has(const struct json *object, const char *key); /* also if it is null */
/* A member that is not null; NULL if there is none, or @object is NULL or no object. */
const struct json *json_get(const struct json *object, const char *key);

/* Where @json stands below @root, "spec.ports[1].port". Takes as long as the tree is large. */
char *json_path(const struct json *root, const struct json *json,
		char text[JSON_PATH_SIZE]);

/*
 * Typed fields. Each returns 1 and *value if the member is there, 0 if it is
 * absent or null (*value stays as it is), or -EINVAL with @eb:
 * "spec.ports[1].port: 70000 is not between 1 and 65535".
 * @root is needed for that path only. @object may be NULL: then it is absent.
 */
int json_get_string(const struct json *root, const struct json *object,
		    const char *key, const char **value, struct errbuf *eb);
int json_get_bool(const struct json *root, const struct json *object,
		  const char *key, bool *value, struct errbuf *eb);
int json_get_integer(const struct json *root, const struct json *object,
		     const char *key, int64_t min, int64_t max, int64_t *value,
		     struct errbuf *eb);
/* @type is JSON_ARRAY or JSON_OBJECT */
int json_get_tree(const struct json *root, const struct json *object,
		  const char *key, enum json_type type,
		  const struct json **value, struct errbuf *eb);

/*
 * Calls @found with the path of each repeated key. Where none may be, this is
 * the way to tell. Returns 0 or -ENOMEM.
 */
int json_duplicates(const struct json *root,
		    void (*found)(void *ctx, const char *path), void *ctx);

/*
 * Building, for what is not JSON text. NULL when out of memory; text is copied.
 */
struct json *json_new(enum json_type type); /* JSON_NULL, JSON_ARRAY or JSON_OBJECT */
struct json *json_new_bool(bool value);
struct json *json_new_number(double value);
struct json *json_new_string(const char *text);
struct json *json_copy(const struct json *json);
size_t json_size(const struct json *json); /* bytes of memory, roughly */

/*
 * A tree on an arena, for what is read from protobuf. It is read as any other, ends with the arena,
 * and must not be given to json_free() or be part of a built one. @key is borrowed.
 *
 * json_place() adds a value without anything in it at the end of @parent, which is NULL for a root;
 * json_placed() finds a member by its key's pointer. NULL, or -ENOMEM, when out of memory.
 */
struct json *json_place(struct arena *arena, struct json *parent,
			const char *key, enum json_type type);
struct json *json_placed(struct json *object, const char *key);
void json_set_string(struct json *json, char *text); /* of the same arena */
void json_set_bool(struct json *json, bool value);
void json_set_number(struct json *json, double value);

/* Take @child over, also when they fail. @child may be NULL (out of memory). Return 0 or -ENOMEM.
 */
int json_append(struct json *array, struct json *child);
int json_insert(struct json *object, const char *key, struct json *child);

#endif
