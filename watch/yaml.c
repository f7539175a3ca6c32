/*
 * libyaml's events to trees. A tree is built recursively, JSON_MAX_DEPTH deep
 * at most; libyaml itself keeps its state on the heap.
 *
 * An anchor's value is copied when it is complete, since with "items" the tree
 * that it is in does not live as long as the document; so an alias inside its
 * own anchor does not exist yet. All copies of a document together have a
 * budget, which is what stops a billion laughs.
 *
 * libyaml reads a scalar to its end before we hear of it. The bytes handed to
 * it between two events are therefore bounded, too.
 */
#include "watch/yaml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

enum {
	ALIAS_BUDGET = 16 * 1024 * 1024, /* bytes of memory, for each document */
	MAX_ANCHORS = 1000,		 /* they are searched in a row */
};

#define TAG_PREFIX "tag:yaml.org,2002:"

struct anchor {
	char *name;
	struct json *value;
	unsigned int depth; /* levels in value */
};

struct yaml_reader {
	yaml_parser_t parser;
	yaml_event_t event; /* the current one, if has_event */
	bool has_event;
	ssize_t (*read)(void *ctx, char *bytes, size_t size);
	void *read_ctx;
	size_t unanswered; /* bytes read since the last event */
	int read_err;

	const struct yaml_ops *ops;
	void *ctx;
	struct anchor *anchors;
	unsigned int n_anchors;
	size_t copied;	       /* of ALIAS_BUDGET */
	unsigned int n_values; /* of the current tree */
	size_t tree_start;     /* byte offset */
	struct errbuf *eb;
};

/* ---- events */

static int problem_at(struct yaml_reader *y, const yaml_mark_t *mark, int err,
		      const char *problem)
{
	return errf(y->eb, err, "line %zu, column %zu: %s", mark->line + 1,
		    mark->column + 1, problem);
}

static int bad_event(struct yaml_reader *y, const char *problem)
{
	return problem_at(y, &y->event.start_mark, -EINVAL, problem);
}

static int on_read(void *data, unsigned char *buffer, size_t size, size_t *size_read)
{
	struct yaml_reader *y = data;
	ssize_t n;

	if (y->unanswered > JSON_MAX_LENGTH) {
		y->read_err = -E2BIG;
		return 0;
	}
	n = y->read(y->read_ctx, (char *)buffer, size);
	if (n < 0) {
		y->read_err = (int)n;
		return 0;
	}
	y->unanswered += (size_t)n;
	*size_read = (size_t)n;
	return 1;
}

static int parser_error(struct yaml_reader *y)
{
	const yaml_parser_t *p = &y->parser;

	if (y->read_err == -E2BIG)
		return errf(y->eb, -E2BIG,
			    "line %zu: a value of more than %d bytes",
			    p->mark.line + 1, JSON_MAX_LENGTH);
	if (y->read_err)
		return errf(y->eb, y->read_err, "cannot be read: %s",
			    strerror(-y->read_err));
	if (p->error == YAML_MEMORY_ERROR)
		return err_no_memory(y->eb);
	if (p->error == YAML_READER_ERROR)
		return errf(y->eb, -EINVAL, "byte %zu: %s", p->problem_offset,
			    p->problem);
	return problem_at(y, &p->problem_mark, -EINVAL,
			  p->problem ? p->problem : "not YAML");
}

static int next_event(struct yaml_reader *y)
{
	if (y->has_event)
		yaml_event_delete(&y->event);
	y->has_event = false;
	if (!yaml_parser_parse(&y->parser, &y->event))
		return parser_error(y);
	y->has_event = true;
	y->unanswered = 0;
	return 0;
}

/* ---- scalars */

static bool is_one_of(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(text, *words) == 0)
			return true;
	return false;
}

static bool is_null(const char *text)
{
	static const char *const words[] = { "",     "~",    "null",
					     "Null", "NULL", NULL };

	return is_one_of(text, words);
}

static bool is_true(const char *text)
{
	static const char *const words[] = { "true", "True", "TRUE", "yes",
					     "Yes",  "YES",  "on",   "On",
					     "ON",   NULL };

	return is_one_of(text, words);
}

static bool is_false(const char *text)
{
	static const char *const words[] = { "false", "False", "FALSE", "no",
					     "No",    "NO",    "off",	"Off",
					     "OFF",   NULL };

	return is_one_of(text, words);
}

/* 0x1f, 0o17, 017, 0b11, 12. Returns whether all of @text is one. */
static bool parse_integer(const char *text, double *value)
{
	bool negative = *text == '-';
	unsigned long long number;
	int base = 10;
	char *end;

	if (*text == '-' || *text == '+')
		text++;
	if (*text == '0' && text[1]) {
		base = text[1] == 'x' || text[1] == 'X'	  ? 16
		       : text[1] == 'b' || text[1] == 'B' ? 2
							  : 8;
		if (base != 8 || text[1] == 'o' || text[1] == 'O')
			text += 2;
	}
	/* strtoull() would take white space and one more sign. */
	if (!((*text >= '0' && *text <= '9') ||
	      (base == 16 && strchr("abcdefABCDEF", *text) && *text)))
		return false;
	errno = 0;
	number = strtoull(text, &end, base);
	if (errno || *end)
		return false;
	*value = negative ? -(double)number : (double)number;
	return true;
}

static const char *skip_digits(const char *text)
{
	while (*text >= '0' && *text <= '9')
		text++;
	return text;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool looks_like_float(const char *text)
{
	const char *p;

	if (*text == '-' || *text == '+')
		text++;
	p = skip_digits(text);
	if (*p == '.') {
		const char *fraction = p + 1;

		if (p == text && skip_digits(fraction) == fraction)
			return false;
		p = skip_digits(fraction);
	} else if (p == text) {
		return false;
	}
	if (*p == 'e' || *p == 'E') {
		p++;
		if (*p == '-' || *p == '+')
			p++;
		if (skip_digits(p) == p)
			return false;
		p = skip_digits(p);
	}
	return !*p;
}

static struct json *plain_to_json(const char *text)
{
	double number;

	if (is_null(text))
		return json_new(JSON_NULL);
	if (is_true(text) || is_false(text))
		return json_new_bool(is_true(text));
	if (parse_integer(text, &number))
		return json_new_number(number);
	if (looks_like_float(text))
		return json_new_number(strtod(text, NULL));
	return json_new_string(text);
}

/* @type: what is behind the prefix of YAML's own tags. Returns whether @text can be that. */
static bool tagged_to_json(const char *type, const char *text, struct json **json)
{
	double number;

	if (strcmp(type, "str") == 0) {
		*json = json_new_string(text);
	} else if (strcmp(type, "null") == 0 && is_null(text)) {
		*json = json_new(JSON_NULL);
	} else if (strcmp(type, "bool") == 0 && (is_true(text) || is_false(text))) {
		*json = json_new_bool(is_true(text));
	} else if (strcmp(type, "int") == 0 && parse_integer(text, &number)) {
		*json = json_new_number(number);
	} else if (strcmp(type, "float") == 0 && looks_like_float(text)) {
		*json = json_new_number(strtod(text, NULL));
	} else {
		return false;
	}
	return true;
}

static int build_scalar(struct yaml_reader *y, struct json **json)
{
	const char *text = (const char *)y->event.data.scalar.value;
	const char *tag = (const char *)y->event.data.scalar.tag;

	if (strlen(text) != y->event.data.scalar.length)
		return bad_event(y, "NUL in a string");
	if (!tag || strcmp(tag, "!") == 0) {
		if (!tag && y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
			*json = plain_to_json(text);
		else
			*json = json_new_string(text);
	} else if (strncmp(tag, TAG_PREFIX, strlen(TAG_PREFIX)) ||
		   !tagged_to_json(tag + strlen(TAG_PREFIX), text, json)) {
		return bad_event(y, "unknown tag, or not of that type");
	}
	return *json ? 0 : err_no_memory(y->eb);
}

/* ---- anchors */

static void forget_anchors(struct yaml_reader *y)
{
	unsigned int i;

	for (i = 0; i < y->n_anchors; i++) {
		free(y->anchors[i].name);
		json_free(y->anchors[i].value);
	}
	y->n_anchors = 0;
	y->copied = 0;
}

/* Takes @size from what aliases may still multiply to. */
static int spend_budget(struct yaml_reader *y, size_t size)
{
	if (size > ALIAS_BUDGET - y->copied)
		return bad_event(y, "anchors and aliases multiply to too much");
	y->copied += size;
	return 0;
}

static int copy_value(struct yaml_reader *y, const struct json *value,
		      struct json **copy)
{
	if (spend_budget(y, json_size(value)))
		return -EINVAL;
	*copy = json_copy(value);
	return *copy ? 0 : err_no_memory(y->eb);
}

static unsigned int path_levels(const struct json *json)
{
	unsigned int deepest = 0, n;

	json_for_each (child, json) {
		n = path_levels(child);
		deepest = n > deepest ? n : deepest;
	}
	return deepest + 1;
}

/* The latest of a name counts. Takes @name over. */
static int add_anchor(struct yaml_reader *y, char *name, const struct json *value)
{
	struct json *copy;
	int err;

	if (!y->anchors)
		y->anchors = calloc(MAX_ANCHORS, sizeof(*y->anchors));
	if (!y->anchors)
		err = err_no_memory(y->eb);
	else if (y->n_anchors == MAX_ANCHORS)
		err = bad_event(y, "too many anchors");
	else
		err = copy_value(y, value, &copy);
	if (err)
		free(name);
	else
		y->anchors[y->n_anchors++] =
			(struct anchor){ name, copy, path_levels(copy) };
	return err;
}

/* Aliases in what others stand for add up: a tree must not become deeper by them either. */
static int build_alias(struct yaml_reader *y, unsigned int depth, struct json **json)
{
	const char *name = (const char *)y->event.data.alias.anchor;
	const struct anchor *anchor = NULL;
	unsigned int i = y->n_anchors;

	while (i-- > 0 && !anchor)
		if (strcmp(y->anchors[i].name, name) == 0)
			anchor = &y->anchors[i];
	if (!anchor)
		return bad_event(y, "no such anchor");
	if (depth + anchor->depth - 1 > JSON_MAX_DEPTH)
		return bad_event(y, "nested too deeply");
	return copy_value(y, anchor->value, json);
}

/* ---- trees */

static int build_document(struct yaml_reader *y, unsigned int depth,
			  struct json **json);

static void begin_tree(struct yaml_reader *y)
{
	y->n_values = 0;
	y->tree_start = y->event.start_mark.index;
}

static int check_bounds(struct yaml_reader *y, unsigned int depth)
{
	if (depth > JSON_MAX_DEPTH)
		return bad_event(y, "nested too deeply");
	if (++y->n_values > JSON_MAX_VALUES)
		return bad_event(y, "an object of too many values");
	if (y->event.end_mark.index - y->tree_start > JSON_MAX_LENGTH)
		return bad_event(y, "an object of too many bytes");
	return 0;
}

static int build_sequence(struct yaml_reader *y, unsigned int depth,
			  struct json *list)
{
	struct json *item;
	int err;

	for (;;) {
		err = next_event(y);
		if (err || y->event.type == YAML_SEQUENCE_END_EVENT)
			return err;
		err = build_document(y, depth + 1, &item);
		if (err)
			return err;
		if (json_append(list, item))
			return err_no_memory(y->eb);
	}
}

/* "<<": the members of one mapping, or of each in a list, as far as the object does not have them.
 */
static int merge_mapping(struct yaml_reader *y, struct json *object,
			 const struct json *from)
{
	struct json *copy;
	int err = 0;

	if (json_type(from) == JSON_ARRAY) {
		json_for_each (item, from) {
			if (json_type(item) != JSON_OBJECT)
				return bad_event(y, "only a mapping can be merged");
			err = merge_mapping(y, object, item);
			if (err)
				return err;
		}
		return 0;
	}
	if (json_type(from) != JSON_OBJECT)
		return bad_event(y, "only a mapping can be merged");
	json_for_each (member, from) {
		if (json_has(object, json_key(member)))
			continue;
		err = copy_value(y, member, &copy);
		if (err)
			return err;
		if (json_insert(object, json_key(member), copy))
			return err_no_memory(y->eb);
	}
	return 0;
}

/* The current event's key, as text of its own. */
static int take_key(struct yaml_reader *y, char **key, bool *is_merge)
{
	const char *text = (const char *)y->event.data.scalar.value;

	if (y->event.type != YAML_SCALAR_EVENT)
		return bad_event(y, "a key that is no plain text");
	if (strlen(text) != y->event.data.scalar.length)
		return bad_event(y, "NUL in a key");
	*is_merge = strcmp(text, "<<") == 0 &&
		    y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	*key = strdup(text);
	return *key ? 0 : err_no_memory(y->eb);
}

/* The elements of "items" one by one; the list itself is then empty. */
static int stream_items(struct yaml_reader *y, struct json *document)
{
	struct json *item;
	int err;

	for (;;) {
		err = next_event(y);
		if (err || y->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		begin_tree(y);
		err = build_document(y, 1, &item);
		if (!err)
			err = y->ops->item(y->ctx, document, item, y->eb);
		if (err)
			return err;
	}
	begin_tree(y);
	if (!err && json_insert(document, "items", json_new(JSON_ARRAY)))
		return err_no_memory(y->eb);
	return err;
}

static int build_member(struct yaml_reader *y, unsigned int depth,
			struct json *object, const char *key,
			struct json **to_merge, bool is_merge)
{
	struct json *value;
	int err;

	if (depth == 1 && y->ops->item && strcmp(key, "items") == 0 &&
	    y->event.type == YAML_SEQUENCE_START_EVENT &&
	    !y->event.data.sequence_start.anchor)
		return stream_items(y, object);
	err = build_document(y, depth + 1, &value);
	if (err)
		return err;
	if (is_merge) {
		json_free(*to_merge);
		*to_merge = value;
	} else if (json_insert(object, key, value)) {
		return err_no_memory(y->eb);
	}
	return 0;
}

static int build_mapping(struct yaml_reader *y, unsigned int depth,
			 struct json *object)
{
	struct json *to_merge = NULL;
	bool is_merge = false;
	char *key = NULL;
	int err;

	for (;;) {
		err = next_event(y);
		if (err || y->event.type == YAML_MAPPING_END_EVENT)
			break;
		err = take_key(y, &key, &is_merge);
		if (err)
			break;
		err = next_event(y);
		if (!err)
			err = build_member(y, depth, object, key, &to_merge,
					   is_merge);
		free(key);
		if (err)
			break;
	}
	/* Last, since the object's own members come first wherever they stand. */
	if (!err && to_merge)
		err = merge_mapping(y, object, to_merge);
	json_free(to_merge);
	return err;
}

/* A sequence or mapping, up to its end. */
static int build_collection(struct yaml_reader *y, unsigned int depth,
			    struct json **json)
{
	bool is_mapping = y->event.type == YAML_MAPPING_START_EVENT;
	int err;

	*json = json_new(is_mapping ? JSON_OBJECT : JSON_ARRAY);
	if (!*json)
		return err_no_memory(y->eb);
	err = is_mapping ? build_mapping(y, depth, *json)
			 : build_sequence(y, depth, *json);
	if (err) {
		json_free(*json);
		*json = NULL;
	}
	return err;
}

/* The anchor of the current event, as text of its own; NULL if there is none. */
static int take_anchor(struct yaml_reader *y, char **anchor)
{
	const yaml_char_t *name = NULL;

	if (y->event.type == YAML_SCALAR_EVENT)
		name = y->event.data.scalar.anchor;
	else if (y->event.type == YAML_SEQUENCE_START_EVENT)
		name = y->event.data.sequence_start.anchor;
	else if (y->event.type == YAML_MAPPING_START_EVENT)
		name = y->event.data.mapping_start.anchor;
	*anchor = name ? strdup((const char *)name) : NULL;
	return name && !*anchor ? err_no_memory(y->eb) : 0;
}

/* The value that begins with the current event. Afterwards its last event is the current one. */
static int build_document(struct yaml_reader *y, unsigned int depth,
			  struct json **json)
{
	int err = check_bounds(y, depth);
	char *anchor = NULL;

	*json = NULL;
	if (!err)
		err = take_anchor(y, &anchor);
	if (err)
		return err;
	if (y->event.type == YAML_SCALAR_EVENT)
		err = build_scalar(y, json);
	else if (y->event.type == YAML_ALIAS_EVENT)
		err = build_alias(y, depth, json);
	else
		err = build_collection(y, depth, json);
	if (err)
		free(anchor);
	else if (anchor)
		err = add_anchor(y, anchor, *json);
	if (err) {
		json_free(*json);
		*json = NULL;
	}
	return err;
}

/* From a document's start event to its end event. */
static int read_document(struct yaml_reader *y)
{
	struct json *document;
	int err = next_event(y);

	if (err)
		return err;
	begin_tree(y);
	err = build_document(y, 1, &document);
	if (err)
		return err;
	err = next_event(y);
	if (err) {
		json_free(document);
		return err;
	}
	forget_anchors(y);
	return y->ops->document(y->ctx, document, y->eb);
}

static int read_documents(struct yaml_reader *y)
{
	int err = next_event(y); /* the stream's start */

	while (!err) {
		err = next_event(y);
		if (err || y->event.type == YAML_STREAM_END_EVENT)
			break;
		err = read_document(y);
	}
	return err;
}

int yaml_read(ssize_t (*read)(void *ctx, char *bytes, size_t size), void *read_ctx,
	      const struct yaml_ops *ops, void *ctx, struct errbuf *eb)
{
	struct yaml_reader y = {
		.read = read, .read_ctx = read_ctx, .ops = ops, .ctx = ctx, .eb = eb
	};
	int err;

	if (!yaml_parser_initialize(&y.parser))
		return err_no_memory(y.eb);
	yaml_parser_set_input(&y.parser, on_read, &y);
	err = read_documents(&y);
	if (y.has_event)
		yaml_event_delete(&y.event);
	forget_anchors(&y);
	free(y.anchors);
	yaml_parser_delete(&y.parser);
	return err;
}

/* ---- a single document from memory */

struct memory {
	const char *at, *end;
};

static ssize_t read_memory(void *ctx, char *bytes, size_t size)
{
	struct memory *m = ctx;
	size_t n = (size_t)(m->end - m->at);

	n = n < size ? n : size;
	memcpy(bytes, m->at, n);
	m->at += n;
	return (ssize_t)n;
}

struct first_document {
	struct json *kept;
	void (*other)(void *ctx,
		      const struct json *document); /* NULL: there must be none */
	void *ctx;
};

static int keep_document(void *ctx, struct json *document, struct errbuf *eb)
{
	struct first_document *first = ctx;

	/* A "---" at the end is no second document. */
	if (first->kept && json_type(document) == JSON_NULL) {
		json_free(document);
		return 0;
	}
	if (first->kept && json_type(first->kept) != JSON_NULL) {
		if (first->other)
			first->other(first->ctx, document);
		json_free(document);
		return first->other ? 0
				    : errf(eb, -EINVAL, "more than one document");
	}
	json_free(first->kept);
	first->kept = document;
	return 0;
}

static struct json *parse_memory(const char *text, size_t length,
				 struct first_document *first, struct errbuf *eb)
{
	static const struct yaml_ops ops = { .document = keep_document };
	struct memory m = { text, text + length };
	struct errbuf why = { "" };

	if (length > JSON_MAX_LENGTH) {
		errf(eb, -E2BIG, "more than %d bytes", JSON_MAX_LENGTH);
		return NULL;
	}
	if (yaml_read(read_memory, &m, &ops, first, &why) &&
	    !(first->other && first->kept)) {
		errf(eb, 0, "%s", why.text);
		json_free(first->kept);
		return NULL;
	}
	if (!first->kept) {
		first->kept = json_new(JSON_NULL);
		if (!first->kept)
			errf(eb, -ENOMEM, "out of memory");
	}
	return first->kept;
}

struct json *yaml_parse(const char *text, size_t length, struct errbuf *eb)
{
	struct first_document first = { 0 };

	return parse_memory(text, length, &first, eb);
}

struct json *yaml_parse_first(const char *text, size_t length,
			      void (*other)(void *ctx, const struct json *document),
			      void *ctx, struct errbuf *eb)
{
	struct first_document first = { .other = other, .ctx = ctx };

	return parse_memory(text, length, &first, eb);
}
