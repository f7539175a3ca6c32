/*
 * cJSON, fenced in. It is handed a terminated copy of the text that has been
 * scanned before: depth, NULs and length are settled when it starts, since its
 * own nesting limit is 1000, it takes a NUL for white space or for the end of a
 * string, and old versions read beyond an unterminated text.
 *
 * From an API server comes protobuf as a rule, so this is simple rather than
 * fast.
 *
 * A value does not know its parent; json_path() finds it by walking from the
 * root, which only the reporting of errors does. Errors of a hostile document
 * are therefore expensive: report a few.
 */
#include "watch/json.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "watch/scan.h"

/* 2^53: beyond it doubles skip integers. */
static const double max_exact = 9007199254740992.0;

struct json {
	cJSON node;
};

static const struct json *from_node(const cJSON *node)
{
	return (const struct json *)node;
}

static struct json *from_new_node(cJSON *node)
{
	return (struct json *)node;
}

/* ---- text to tree: the scan before cJSON */

struct scan {
	const char *at, *end;
	unsigned int depth, n_values;
	const char *problem;
	bool nul_is_fine, has_nul; /* escaped, in a string */
};

static int scan_fail(struct scan *s, const char *problem)
{
	assert(problem && s->at <= s->end);
	s->problem = problem;
	return -EINVAL;
}

/* What matters in a string, and outside of one. Most bytes are neither, so that pays. */
static const bool ends_run_in_string[256] = {
	[0 ... 0x1f] = true, ['"'] = true, ['\\'] = true
};
static const bool ends_run[256] = {
	['"'] = true, [','] = true, ['{'] = true,  ['['] = true,
	['}'] = true, [']'] = true, ['\0'] = true,
};

/* From an opening quote to behind the closing one. */
static int scan_string(struct scan *s)
{
	const char *p = s->at + 1;

	while ((p = skip_run(p, s->end, ends_run_in_string)) < s->end && *p != '"') {
		s->at = p;
		if (*p != '\\')
			return scan_fail(s, "control character in a string");
		p++;
		if (s->end - p >= 5 && memcmp(p, "u0000", 5) == 0) {
			if (!s->nul_is_fine)
				return scan_fail(s, "NUL in a string");
			s->has_nul = true;
		}
		if (p == s->end || *p == '\0')
			return scan_fail(s, "unterminated string");
		p++;
	}
	if (p >= s->end) {
		s->at = s->end - 1;
		return scan_fail(s, "unterminated string");
	}
	s->at = p + 1;
	return 0;
}

static int scan_token(struct scan *s)
{
	switch (*s->at) {
	case '"':
		return scan_string(s);
	case '{':
	case '[':
		if (++s->depth > JSON_MAX_DEPTH)
			return scan_fail(s, "nested too deeply");
		/* each value but the first has one of these before it */
		__attribute__((fallthrough));
	case ',':
		if (++s->n_values > JSON_MAX_VALUES)
			return scan_fail(s, "too many values");
		break;
	case '}':
	case ']':
		if (s->depth)
			s->depth--;
		break;
	case '\0':
		return scan_fail(s, "NUL");
	}
	s->at++;
	return 0;
}

static int scan_all(struct scan *s)
{
	int err = 0;

	while (!err && (s->at = skip_run(s->at, s->end, ends_run)) < s->end)
		err = scan_token(s);
	return err;
}

static int syntax_error(const char *text, const char *at, const char *reason,
			struct errbuf *eb)
{
	unsigned int line = 1, column = 1;

	for (; text < at; text++) {
		column++;
		if (*text == '\n') {
			line++;
			column = 1;
		}
	}
	return errf(eb, -EINVAL, "line %u, column %u: %s", line, column, reason);
}

/* @copy is terminated; its length without the terminator is @length. */
static struct json *parse_copy(const char *copy, size_t length, struct errbuf *eb)
{
	const char *end = copy;
	cJSON *node = cJSON_ParseWithLengthOpts(copy, length + 1, &end, 0);

	if (!node) {
		syntax_error(copy, end,
			     errno == ENOMEM ? "out of memory" : "not JSON", eb);
		return NULL;
	}
	while (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r')
		end++;
	if (end != copy + length) {
		syntax_error(copy, end, "more text after the end", eb);
		cJSON_Delete(node);
		return NULL;
	}
	return from_new_node(node);
}

/* Each backslash that is found begins an escape, of two characters at least. */
static void replace_nuls(char *text)
{
	for (; (text = strchr(text, '\\')) && text[1]; text += 2)
		if (strncmp(text + 1, "u0000", 5) == 0)
			memcpy(text + 4, "1a", 2);
}

static struct json *parse_scanned(const char *text, size_t length, bool has_nul,
				  struct errbuf *eb)
{
	char *copy = malloc(length + 1);
	struct json *json;

	if (!copy) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (has_nul)
		replace_nuls(copy);
	json = parse_copy(copy, length, eb);
	free(copy);
	return json;
}

/* malloc() leaves ENOMEM behind also when cJSON calls it; strtod() may leave something else. */
static struct json *parse_failed(void)
{
	if (errno != ENOMEM)
		errno = EINVAL;
	return NULL;
}

static struct json *scan_and_parse(const char *text, size_t length,
				   bool nul_is_fine, struct errbuf *eb)
{
	struct scan s = {
		.at = text,
		.end = text + length,
		.nul_is_fine = nul_is_fine,
	};
	struct json *json = NULL;

	errno = 0;
	if (length > JSON_MAX_LENGTH)
		errf(eb, -E2BIG, "more than %d bytes", JSON_MAX_LENGTH);
	else if (scan_all(&s))
		syntax_error(text, s.at, s.problem, eb);
	else
		json = parse_scanned(text, length, s.has_nul, eb);
	return json ? json : parse_failed();
}

struct json *json_parse(const char *text, size_t length, struct errbuf *eb)
{
	return scan_and_parse(text, length, false, eb);
}

struct json *json_parse_object(const char *text, size_t length, struct errbuf *eb)
{
	return scan_and_parse(text, length, true, eb);
}

void json_free(struct json *root)
{
	if (root)
		cJSON_Delete(&root->node);
}

/* ---- reading */

enum json_type json_type(const struct json *json)
{
	if (!json)
		return JSON_NULL;
	switch (json->node.type & 0xff) {
	case cJSON_False:
	case cJSON_True:
		return JSON_BOOL;
	case cJSON_Number:
		return JSON_NUMBER;
	case cJSON_String:
		return JSON_STRING;
	case cJSON_Array:
		return JSON_ARRAY;
	case cJSON_Object:
		return JSON_OBJECT;
	}
	return JSON_NULL;
}

const char *json_type_name(enum json_type type)
{
	static const char *const names[] = {
		[JSON_NULL] = "null",	    [JSON_BOOL] = "a boolean",
		[JSON_NUMBER] = "a number", [JSON_STRING] = "a string",
		[JSON_ARRAY] = "a list",    [JSON_OBJECT] = "an object",
	};

	assert(type < sizeof(names) / sizeof(names[0]));
	return names[type];
}

const char *json_string(const struct json *json)
{
	return json_type(json) == JSON_STRING ? json->node.valuestring : NULL;
}

bool json_is_true(const struct json *json)
{
	return json && (json->node.type & 0xff) == cJSON_True;
}

double json_number(const struct json *json)
{
	return json_type(json) == JSON_NUMBER ? json->node.valuedouble : 0;
}

bool json_integer(const struct json *json, int64_t *value)
{
	double number;

	if (json_type(json) != JSON_NUMBER)
		return false;
	number = json->node.valuedouble;
	if (!(fabs(number) <= max_exact) || number != floor(number))
		return false;
	*value = (int64_t)number;
	return true;
}

const struct json *json_first(const struct json *parent)
{
	return parent ? from_node(parent->node.child) : NULL;
}

const struct json *json_next(const struct json *json)
{
	return from_node(json->node.next);
}

const char *json_key(const struct json *json)
{
	return json->node.string;
}

const struct json *json_get(const struct json *object, const char *key)
{
	const cJSON *node, *found = NULL;

	if (json_type(object) != JSON_OBJECT)
		return NULL;
	for (node = object->node.child; node; node = node->next)
		if (node->string[0] == key[0] && strcmp(node->string, key) == 0)
			found = node;
	if (!found || cJSON_IsNull(found))
		return NULL;
	return from_node(found);
}

bool json_has(const struct json *object, const char *key)
{
	if (json_type(object) != JSON_OBJECT)
		return false;
	json_for_each (member, object)
		if (strcmp(json_key(member), key) == 0)
			return true;
	return false;
}

/* ---- paths */

/* Like snprintf() at the end of what is there already; a path too long is cut. */
static size_t path_add(char text[JSON_PATH_SIZE], size_t length,
		       const cJSON *node, unsigned int index)
{
	const char *dot = length ? "." : "";
	int n;

	if (node->string)
		n = snprintf(text + length, JSON_PATH_SIZE - length, "%s%s",
			     dot, node->string);
	else
		n = snprintf(text + length, JSON_PATH_SIZE - length, "[%u]", index);
	length += n > 0 ? (size_t)n : 0;
	return length < JSON_PATH_SIZE ? length : JSON_PATH_SIZE - 1;
}

static bool path_find(const cJSON *parent, const cJSON *wanted,
		      char text[JSON_PATH_SIZE], size_t length)
{
	unsigned int index = 0;
	const cJSON *node;
	size_t longer;

	for (node = parent->child; node; node = node->next, index++) {
		if (node != wanted && !node->child)
			continue;
		longer = path_add(text, length, node, index);
		if (node == wanted || path_find(node, wanted, text, longer))
			return true;
	}
	return false;
}

/* Keys are whatever the document says; the path goes to a terminal or a log. */
static void make_printable(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
}

char *json_path(const struct json *root, const struct json *json,
		char text[JSON_PATH_SIZE])
{
	text[0] = '\0';
	if (json && root && json != root &&
	    !path_find(&root->node, &json->node, text, 0))
		text[0] = '\0';
	make_printable(text);
	return text;
}

/* ---- typed fields */

static int json_field_error(const struct json *root, const struct json *json,
			    struct errbuf *eb, const char *problem)
{
	char path[JSON_PATH_SIZE];

	return errf(eb, -EINVAL, "%s: %s", json_path(root, json, path), problem);
}

static int type_error(const struct json *root, const struct json *json,
		      enum json_type want, struct errbuf *eb)
{
	char problem[64];

	snprintf(problem, sizeof(problem), "%s where %s belongs",
		 json_type_name(json_type(json)), json_type_name(want));
	return json_field_error(root, json, eb, problem);
}

/* 1 with *found, 0 if there is no such member. */
static int field_get(const struct json *root, const struct json *object,
		     const char *key, enum json_type type,
		     const struct json **found, struct errbuf *eb)
{
	const struct json *json = json_get(object, key);

	if (!json)
		return 0;
	if (json_type(json) != type)
		return type_error(root, json, type, eb);
	*found = json;
	return 1;
}

int json_get_string(const struct json *root, const struct json *object,
		    const char *key, const char **value, struct errbuf *eb)
{
	const struct json *json;
	int ret = field_get(root, object, key, JSON_STRING, &json, eb);

	if (ret > 0)
		*value = json->node.valuestring;
	return ret;
}

int json_get_bool(const struct json *root, const struct json *object,
		  const char *key, bool *value, struct errbuf *eb)
{
	const struct json *json;
	int ret = field_get(root, object, key, JSON_BOOL, &json, eb);

	if (ret > 0)
		*value = json_is_true(json);
	return ret;
}

int json_get_integer(const struct json *root, const struct json *object,
		     const char *key, int64_t min, int64_t max, int64_t *value,
		     struct errbuf *eb)
{
	const struct json *json;
	char problem[128];
	int64_t number;
	int ret = field_get(root, object, key, JSON_NUMBER, &json, eb);

	if (ret <= 0)
		return ret;
	if (!json_integer(json, &number)) {
		snprintf(problem, sizeof(problem),
			 "%.17g is not a whole number", json->node.valuedouble);
		return json_field_error(root, json, eb, problem);
	}
	if (number < min || number > max) {
		snprintf(problem, sizeof(problem),
			 "%lld is not between %lld and %lld", (long long)number,
			 (long long)min, (long long)max);
		return json_field_error(root, json, eb, problem);
	}
	*value = number;
	return 1;
}

int json_get_tree(const struct json *root, const struct json *object,
		  const char *key, enum json_type type,
		  const struct json **value, struct errbuf *eb)
{
	return field_get(root, object, key, type, value, eb);
}

/* ---- repeated keys */

struct duplicate_search {
	const cJSON *root;
	void (*found)(void *ctx, const char *path);
	void *ctx;
};

static int compare_keys(const void *a, const void *b)
{
	const cJSON *const *left = a, *const *right = b;

	return strcmp((*left)->string, (*right)->string);
}

static size_t count_children(const cJSON *parent)
{
	const cJSON *node;
	size_t count = 0;

	for (node = parent->child; node; node = node->next)
		count++;
	return count;
}

/* Sorted, so that an object with a million keys takes no million squared steps. */
static int object_duplicates(const struct duplicate_search *search,
			     const cJSON *object)
{
	size_t count = count_children(object), i = 0;
	char path[JSON_PATH_SIZE];
	const cJSON **sorted, *node;

	if (count < 2)
		return 0;
	sorted = calloc(count, sizeof(const cJSON *));
	if (!sorted)
		return -ENOMEM;
	for (node = object->child; node; node = node->next)
		sorted[i++] = node;
	qsort(sorted, count, sizeof(const cJSON *), compare_keys);
	for (i = 1; i < count; i++)
		if (compare_keys(&sorted[i - 1], &sorted[i]) == 0)
			search->found(search->ctx,
				      json_path(from_node(search->root),
						from_node(sorted[i]), path));
	free(sorted);
	return 0;
}

static int find_duplicates(const struct duplicate_search *search, const cJSON *parent)
{
	const cJSON *node;
	int err = 0;

	if (cJSON_IsObject(parent))
		err = object_duplicates(search, parent);
	for (node = parent->child; node && !err; node = node->next)
		if (node->child)
			err = find_duplicates(search, node);
	return err;
}

int json_duplicates(const struct json *root,
		    void (*found)(void *ctx, const char *path), void *ctx)
{
	struct duplicate_search search = { &root->node, found, ctx };

	return find_duplicates(&search, &root->node);
}

/* ---- building */

struct json *json_new(enum json_type type)
{
	if (type == JSON_ARRAY)
		return from_new_node(cJSON_CreateArray());
	if (type == JSON_OBJECT)
		return from_new_node(cJSON_CreateObject());
	return from_new_node(cJSON_CreateNull());
}

struct json *json_new_bool(bool value)
{
	return from_new_node(cJSON_CreateBool(value));
}

struct json *json_new_number(double value)
{
	return from_new_node(cJSON_CreateNumber(value));
}

struct json *json_new_string(const char *text)
{
	return from_new_node(cJSON_CreateString(text));
}

struct json *json_copy(const struct json *json)
{
	return from_new_node(cJSON_Duplicate(&json->node, 1));
}

size_t json_size(const struct json *json)
{
	const cJSON *node = &json->node;
	size_t size = sizeof(*node);

	if (node->string)
		size += strlen(node->string) + 1;
	if (node->valuestring)
		size += strlen(node->valuestring) + 1;
	json_for_each (child, json)
		size += json_size(child);
	return size;
}

int json_append(struct json *array, struct json *child)
{
	if (!child)
		return -ENOMEM;
	if (!cJSON_AddItemToArray(&array->node, &child->node)) {
		json_free(child);
		return -ENOMEM;
	}
	return 0;
}

int json_insert(struct json *object, const char *key, struct json *child)
{
	if (!child)
		return -ENOMEM;
	if (!cJSON_AddItemToObject(&object->node, key, &child->node)) {
		json_free(child);
		return -ENOMEM;
	}
	return 0;
}

/* ---- trees on an arena */

/* cJSON's list: the first child's prev is the last one. */
static void link_last(cJSON *parent, cJSON *node)
{
	cJSON *first = parent->child;

	if (!first) {
		parent->child = node->prev = node;
		return;
	}
	node->prev = first->prev;
	first->prev->next = node;
	first->prev = node;
}

struct json *json_place(struct arena *arena, struct json *parent,
			const char *key, enum json_type type)
{
	static const int types[] = {
		[JSON_NULL] = cJSON_NULL,     [JSON_BOOL] = cJSON_False,
		[JSON_NUMBER] = cJSON_Number, [JSON_STRING] = cJSON_String,
		[JSON_ARRAY] = cJSON_Array,   [JSON_OBJECT] = cJSON_Object,
	};
	struct json *json = arena_alloc(arena, sizeof(*json));

	if (!json)
		return NULL;
	json->node.type = types[type];
	/* Nobody writes to a key. */
	memcpy(&json->node.string, &key, sizeof(key));
	if (parent)
		link_last(&parent->node, &json->node);
	return json;
}

struct json *json_placed(struct json *object, const char *key)
{
	cJSON *node;

	for (node = object->node.child; node; node = node->next)
		if (node->string == key)
			return from_new_node(node);
	return NULL;
}

void json_set_string(struct json *json, char *text)
{
	json->node.valuestring = text;
}

void json_set_bool(struct json *json, bool value)
{
	json->node.type = value ? cJSON_True : cJSON_False;
}

void json_set_number(struct json *json, double value)
{
	json->node.valuedouble = value;
}
