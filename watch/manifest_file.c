/*
 * What begins like JSON is read as JSON, the rest as YAML. Either way a
 * document is an object or a list of objects, and text is decoded one object at
 * a time, so memory goes with the decoded objects and not with the text.
 *
 * A list may tell what it is of only after its items. Those wait until then, in
 * bounded memory.
 */
#include "watch/manifest_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/array.h"
#include "watch/manifest_object.h"
#include "watch/splitter.h"
#include "watch/yaml.h"

enum {
	INPUT_SIZE = 64 * 1024,
	/* Elements of a list whose kind is not known yet: bytes of memory. */
	HELD_MAX = 64 * 1024 * 1024,
};

struct file {
	struct manifest m;
	/* A list under way: what stood before its items, and those that wait to learn their kind.
	 */
	bool in_list;
	char *list_kind, *list_api_version; /* NULL: not known yet */
	struct json **held;
	size_t n_held, held_room, held_size;
	unsigned int n_documents;
};

static void list_reset(struct file *file)
{
	size_t i;

	for (i = 0; i < file->n_held; i++)
		json_free(file->held[i]);
	free(file->held);
	free(file->list_kind);
	free(file->list_api_version);
	file->held = NULL;
	file->list_kind = file->list_api_version = NULL;
	file->n_held = file->held_room = file->held_size = 0;
	file->in_list = false;
}

/* Forgets what was read of the file. */
static void file_reset(struct file *file)
{
	list_reset(file);
	entries_free(&file->m.entries);
	file->n_documents = 0;
}

/* ---- documents and lists */

static bool is_list_kind(const char *kind)
{
	size_t length = strlen(kind);

	return length >= 4 && strcmp(kind + length - 4, "List") == 0;
}

/*
 * An element of a list of @list_kind. Those of a ServiceList are Services
 * without saying so; those of a List have kinds of their own.
 */
static int handle_item(struct file *file, const char *list_kind,
		       const char *list_api_version, const struct json *json)
{
	const char *kind = json_string(json_get(json, "kind"));
	const char *api_version = json_string(json_get(json, "apiVersion"));
	char own_kind[64];

	if (json_type(json) != JSON_OBJECT) {
		manifest_complain(&file->m,
				  "an element of a list that is no object");
		return 0;
	}
	if (!kind && strcmp(list_kind, "List")) {
		snprintf(own_kind, sizeof(own_kind), "%.*s",
			 (int)strlen(list_kind) - 4, list_kind);
		kind = own_kind;
	}
	if (!kind || !*kind) {
		manifest_complain_about(&file->m, "an object", json,
					"kind: missing");
		return 0;
	}
	if (!api_version)
		api_version = strcmp(list_kind, "List") ? list_api_version : "";
	return manifest_add(&file->m, kind, api_version, json);
}

static int hold_item(struct file *file, struct json *json, struct errbuf *eb)
{
	file->held_size += json_size(json);
	if (file->held_size > HELD_MAX)
		return errf(eb, -E2BIG,
			    "a long list whose kind comes after its items");
	if (array_grow(file->held, file->n_held, file->held_room))
		return err_no_memory(eb);
	file->held[file->n_held++] = json;
	return 0;
}

/* Takes @json over. */
static int on_item(struct file *file, struct json *json, struct errbuf *eb)
{
	int err = 0;

	file->in_list = true;
	if (!file->list_kind && !json_get(json, "kind")) {
		err = hold_item(file, json, eb);
		if (err)
			json_free(json);
		return err;
	}
	/* Something else may have items, too. */
	if (!file->list_kind || is_list_kind(file->list_kind))
		err = handle_item(
			file, file->list_kind ? file->list_kind : "List",
			file->list_api_version ? file->list_api_version : "",
			json);
	json_free(json);
	return err ? err_no_memory(eb) : 0;
}

static int learn_text(char **target, const struct json *json, const char *key)
{
	const char *text = json_string(json_get(json, key));

	if (*target || !text)
		return 0;
	*target = strdup(text);
	return *target ? 0 : -ENOMEM;
}

/* @json is what is known of the list so far. */
static int learn_list(struct file *file, const struct json *json, struct errbuf *eb)
{
	if (learn_text(&file->list_kind, json, "kind") ||
	    learn_text(&file->list_api_version, json, "apiVersion"))
		return err_no_memory(eb);
	return 0;
}

static int finish_list(struct file *file, const struct json *json, struct errbuf *eb)
{
	int err = learn_list(file, json, eb);
	const char *kind = file->list_kind ? file->list_kind : "";
	size_t i;

	if (!err && is_list_kind(kind)) {
		for (i = 0; i < file->n_held && !err; i++)
			err = handle_item(file, kind,
					  file->list_api_version
						  ? file->list_api_version
						  : "",
					  file->held[i]);
		err = err ? err_no_memory(eb) : 0;
	} else if (!err && *kind) {
		store_note_unused(file->m.store, kind,
				  file->list_api_version ? file->list_api_version
							 : "");
	} else if (!err) {
		manifest_complain_about(&file->m, "an object", json,
					"kind: missing");
	}
	return err;
}

static int handle_document(struct file *file, const struct json *json,
			   struct errbuf *eb)
{
	const char *kind = json_string(json_get(json, "kind"));
	const char *api_version = json_string(json_get(json, "apiVersion"));
	enum json_type items = json_type(json_get(json, "items"));
	int err;

	if (json_type(json) == JSON_NULL)
		return 0;
	if (json_type(json) != JSON_OBJECT)
		return errf(eb, -EINVAL, "document %u: %s where an object belongs",
			    file->n_documents, json_type_name(json_type(json)));
	if (file->in_list || (kind && is_list_kind(kind) &&
			      (items == JSON_ARRAY || items == JSON_NULL)))
		return finish_list(file, json, eb);
	if (!kind || !*kind) {
		manifest_complain_about(&file->m, "an object", json,
					"kind: missing");
		return 0;
	}
	err = manifest_add(&file->m, kind, api_version ? api_version : "", json);
	return err ? err_no_memory(eb) : 0;
}

static int on_document(struct file *file, const struct json *json, struct errbuf *eb)
{
	int err;

	file->n_documents++;
	err = handle_document(file, json, eb);
	list_reset(file);
	return err;
}

/* ---- the two syntaxes */

static int on_json_head(void *ctx, const char *text, size_t length,
			struct errbuf *eb)
{
	struct json *json = json_parse(text, length, eb);
	int err;

	if (!json)
		return -errno;
	err = learn_list(ctx, json, eb);
	json_free(json);
	return err;
}

/* Says which object could not be parsed, since lines are counted from its beginning. */
static struct json *parse_piece(const char *text, size_t length, struct errbuf *eb)
{
	struct errbuf problem = { "" };
	struct json *json = json_parse(text, length, &problem);

	if (!json)
		errf(eb, -errno, "in the object '%.*s...': %.200s",
		     length < 60 ? (int)length : 60, text, problem.text);
	return json;
}

static int on_json_item(void *ctx, const char *text, size_t length,
			struct errbuf *eb)
{
	struct json *json = parse_piece(text, length, eb);

	return json ? on_item(ctx, json, eb) : -errno;
}

static int on_json_rest(void *ctx, const char *text, size_t length,
			struct errbuf *eb)
{
	struct json *json = parse_piece(text, length, eb);
	int err;

	if (!json)
		return -errno;
	err = on_document(ctx, json, eb);
	json_free(json);
	return err;
}

static int on_yaml_item(void *ctx, const struct json *document,
			struct json *item, struct errbuf *eb)
{
	struct file *file = ctx;
	int err = file->in_list ? 0 : learn_list(file, document, eb);

	if (!err)
		return on_item(file, item, eb);
	json_free(item);
	return err;
}

static int on_yaml_document(void *ctx, struct json *document, struct errbuf *eb)
{
	int err = on_document(ctx, document, eb);

	json_free(document);
	return err;
}

/* ---- bytes */

struct input {
	int fd;
	size_t start, end;
	char bytes[INPUT_SIZE];
};

/* At least one byte in the buffer, or *n is 0 at the end. */
static int input_fill(struct input *in, size_t *n)
{
	ssize_t got = 0;

	if (in->start == in->end) {
		do {
			got = read(in->fd, in->bytes, sizeof(in->bytes));
		} while (got < 0 && errno == EINTR);
		if (got < 0)
			return -errno;
		in->start = 0;
		in->end = (size_t)got;
	}
	*n = in->end - in->start;
	return 0;
}

static ssize_t input_read(void *ctx, char *bytes, size_t size)
{
	struct input *in = ctx;
	size_t n;
	int err = input_fill(in, &n);

	if (err)
		return err;
	n = n < size ? n : size;
	memcpy(bytes, in->bytes + in->start, n);
	in->start += n;
	return (ssize_t)n;
}

/* JSON begins with a brace. White space before it is consumed, which YAML can do without as well.
 */
static int looks_like_json(struct input *in, bool *json)
{
	size_t n;
	int err;

	while ((err = input_fill(in, &n)) == 0 && n) {
		if (!strchr(" \t\r\n", in->bytes[in->start]) ||
		    !in->bytes[in->start])
			break;
		in->start++;
	}
	*json = !err && n && in->bytes[in->start] == '{';
	return err;
}

static int read_json(struct file *file, struct input *in, struct errbuf *eb)
{
	static const struct splitter_ops ops = { on_json_head, on_json_item,
						 on_json_rest };
	struct splitter *s = splitter_new(SPLIT_LIST, &ops, file);
	size_t n;
	int err;

	if (!s)
		return err_no_memory(eb);
	file->m.is_yaml = false;
	do {
		err = input_fill(in, &n);
		if (err) {
			errf(eb, err, "%s", strerror(-err));
			break;
		}
		err = splitter_feed(s, in->bytes + in->start, n, eb);
		in->start += n;
	} while (!err && n);
	if (!err)
		err = splitter_finish(s, eb);
	splitter_free(s);
	return err;
}

static int read_yaml(struct file *file, struct input *in, struct errbuf *eb)
{
	static const struct yaml_ops ops = { on_yaml_item, on_yaml_document };

	file->m.is_yaml = true;
	return yaml_read(input_read, in, &ops, file, eb);
}

/* Whether a file that is no JSON may still be YAML. */
static bool may_be_yaml(const struct file *file, const struct input *in)
{
	size_t length = strlen(file->m.source);

	if (length > 5 && strcmp(file->m.source + length - 5, ".json") == 0)
		return false;
	return lseek(in->fd, 0, SEEK_SET) == 0;
}

/*
 * What begins like JSON may be YAML with braces, or JSON documents between "---". If it can be read
 * again it is tried as that, too; if neither fits, it is called bad JSON.
 */
static int read_input(struct file *file, struct input *in, struct errbuf *eb)
{
	struct store_notes notes = store_save_notes(file->m.store);
	struct errbuf second = { "" };
	bool json;
	int err = looks_like_json(in, &json);

	if (err)
		return errf(eb, err, "%s", strerror(-err));
	if (!json)
		return read_yaml(file, in, eb);
	err = read_json(file, in, eb);
	if (err != -EINVAL || !may_be_yaml(file, in))
		return err;
	file_reset(file);
	store_restore_notes(file->m.store, &notes);
	in->start = in->end = 0;
	return read_yaml(file, in, &second) ? err : 0;
}

int manifest_read(struct store *store, int fd, const char *source,
		  const char *node_name, struct arena *scratch, struct errbuf *eb)
{
	struct file file = {
		.m = { .store = store, .node_name = node_name, .scratch = scratch }
	};
	struct entries *read = &file.m.entries;
	struct input *in = malloc(sizeof(*in));
	struct errbuf problem = { "" };
	struct entry e;
	size_t i;
	int err;

	file.m.source = arena_strdup(&store->arena, source);
	if (!in || !file.m.source) {
		free(in);
		return err_no_memory(eb);
	}
	in->fd = fd;
	in->start = in->end = 0;
	err = read_input(&file, in, &problem);
	if (err)
		errf(eb, err, "%s: %s", source, problem.text);
	for (i = 0; i < read->count && !err; i++) {
		e = read->items[i];
		read->items[i].object = NULL; /* moved */
		if (entries_add(&store->entries, &e))
			err = err_no_memory(eb);
	}
	file_reset(&file);
	free(in);
	return err;
}
