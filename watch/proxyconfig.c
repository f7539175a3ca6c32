/*
 * One table says which fields there are, of what type, and where they go; the rest walks the
 * document along it. Values are not judged here (config_validate() does), only types, since an int
 * that is no int has no value to be judged.
 *
 * A field without effect is mentioned if it is set to something: kubeadm writes every field there
 * is, most of them null, 0, false or empty, and that should not make a page of warnings.
 */
#include "watch/proxyconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "proxy/model/fields.h"
#include "watch/json.h"
#include "watch/yaml.h"

typedef void warn_fn(void *ctx, const char *message);

struct filler {
	const struct config_schema *schema;
	const struct json *root;
	struct config *config;
	warn_fn *warn;
	void *ctx;
	struct errbuf *eb;
	int err; /* found where only a callback is */
};

static void warn_unused_field(const struct filler *f, const char *path,
			      const char *problem)
{
	char text[JSON_PATH_SIZE + 128];

	if (!f->warn)
		return;
	snprintf(text, sizeof(text), "%s: %s", path, problem);
	f->warn(f->ctx, text);
}

/* ---- one value of each type: into the config, or only looked at */

/* @json has the type that field @path needs, or -EINVAL. */
static int need_type(const struct filler *f, const char *path,
		     const struct json *json, enum json_type type)
{
	if (json_type(json) == type)
		return 0;
	return errf(f->eb, -EINVAL, "%s: %s where %s belongs", path,
		    json_type_name(json_type(json)), json_type_name(type));
}

static int get_integer(const struct filler *f, const char *path,
		       const struct json *json, int64_t min, int64_t max,
		       int64_t *value)
{
	int err = need_type(f, path, json, JSON_NUMBER);
	int64_t number;

	if (err)
		return err;
	if (!json_integer(json, &number))
		return errf(f->eb, -EINVAL, "%s: %.17g is not a whole number",
			    path, json_number(json));
	if (number < min || number > max)
		return errf(f->eb, -EINVAL,
			    "%s: %lld is not between %lld and %lld", path,
			    (long long)number, (long long)min, (long long)max);
	*value = number;
	return 0;
}

static int get_duration(const struct filler *f, const char *path,
			const struct json *json, int64_t *value)
{
	int err = need_type(f, path, json, JSON_STRING);

	if (err)
		return err;
	if (duration_parse(json_string(json), value))
		return errf(f->eb, -EINVAL,
			    "%s: \"%.64s\" is not a duration like 1h30m or 500ms",
			    path, json_string(json));
	return 0;
}

static int set_string(const struct filler *f, const char *path,
		      const struct json *json, char **target)
{
	int err = need_type(f, path, json, JSON_STRING);

	if (!err && config_set(target, json_string(json)))
		err = err_no_memory(f->eb);
	return err;
}

/* The whole list is replaced; an empty one is as good as none. */
static int set_list(const struct filler *f, const char *path,
		    const struct json *json, char ***target)
{
	char item_path[JSON_PATH_SIZE];
	int err = need_type(f, path, json, JSON_ARRAY);

	if (err)
		return err;
	config_list_free(*target);
	*target = NULL;
	json_for_each (item, json) {
		err = need_type(f, json_path(f->root, item, item_path), item,
				JSON_STRING);
		if (err)
			return err;
		if (config_append(target, json_string(item)))
			return err_no_memory(f->eb);
	}
	return 0;
}

static int set_gates(const struct filler *f, const char *path,
		     const struct json *json)
{
	char gate_path[JSON_PATH_SIZE];
	int err = need_type(f, path, json, JSON_OBJECT);

	json_for_each (gate, json) {
		if (err)
			break;
		err = need_type(f, json_path(f->root, gate, gate_path), gate,
				JSON_BOOL);
		if (!err)
			err = config_set_gate(f->config, json_key(gate),
					      json_is_true(gate), f->warn,
					      f->ctx, f->eb);
	}
	return err;
}

static int set_number(const struct filler *f, const struct config_field *field,
		      const struct json *json)
{
	void *at = field_at(f->config, field);
	double real = json_number(json);
	int64_t number = 0;
	int narrow, err;

	if (field->type == FIELD_FLOAT) {
		err = need_type(f, field->path, json, JSON_NUMBER);
		if (!err)
			memcpy(at, &real, sizeof(real));
		return err;
	}
	if (field->type == FIELD_DURATION)
		err = get_duration(f, field->path, json, &number);
	else
		err = get_integer(f, field->path, json, INT_MIN, INT_MAX, &number);
	if (err)
		return err;
	narrow = (int)number;
	if (field->type == FIELD_INT)
		memcpy(at, &narrow, sizeof(narrow));
	else
		memcpy(at, &number, sizeof(number));
	return 0;
}

/* ---- fields without effect */

/* As good as absent: what a struct has when nobody sets it. */
static bool is_empty(const struct json *json)
{
	const char *text = json_string(json);
	int64_t duration;

	if (text)
		return !*text ||
		       (duration_parse(text, &duration) == 0 && duration == 0);
	json_for_each (item, json)
		if (!is_empty(item))
			return false;
	return !json_is_true(json) && json_number(json) == 0;
}

/* What the reference writes when nobody says anything else. */
static bool is_usual(const struct config_field *field, const struct json *json)
{
	const char *text = json_string(json), *usual = field->fallback;
	int64_t a, b;
	char number[32];

	if (!usual)
		return false;
	if (text && duration_parse(text, &a) == 0 && duration_parse(usual, &b) == 0)
		return a == b;
	if (json_type(json) == JSON_BOOL)
		text = json_is_true(json) ? "true" : "false";
	if (json_type(json) == JSON_NUMBER) {
		snprintf(number, sizeof(number), "%.17g", json_number(json));
		text = number;
	}
	return text && strcmp(text, usual) == 0;
}

static int check_unused(const struct filler *f, const struct config_field *field,
			const struct json *json)
{
	int64_t number;
	int err = 0;

	switch (field->type) {
	case FIELD_TEXT:
		err = need_type(f, field->path, json, JSON_STRING);
		break;
	case FIELD_BOOL:
		err = need_type(f, field->path, json, JSON_BOOL);
		break;
	case FIELD_INT:
		err = get_integer(f, field->path, json, field->min, field->max,
				  &number);
		break;
	case FIELD_DURATION:
		err = get_duration(f, field->path, json, &number);
		break;
	case FIELD_LIST:
		err = need_type(f, field->path, json, JSON_ARRAY);
		break;
	default:
		break;
	}
	if (!err && !is_empty(json) && !is_usual(field, json))
		warn_unused_field(f, field->path, "has no effect here");
	return err;
}

/* ---- along the document */

static int set_field(const struct filler *f, const struct config_field *field,
		     const struct json *json)
{
	int err = 0;

	if (field->type == FIELD_HEADER)
		return 0;
	if (field->traits & FIELD_UNUSED)
		err = check_unused(f, field, json);
	if (err || !field_is_stored(field))
		return err;
	switch (field->type) {
	case FIELD_TEXT:
		return set_string(f, field->path, json, field_at(f->config, field));
	case FIELD_LIST:
		return set_list(f, field->path, json, field_at(f->config, field));
	case FIELD_GATES:
		return set_gates(f, field->path, json);
	case FIELD_BOOL:
		err = need_type(f, field->path, json, JSON_BOOL);
		if (!err)
			*(bool *)field_at(f->config, field) = json_is_true(json);
		return err;
	default:
		return set_number(f, field, json);
	}
}

/* Whether there are fields "@path.x". */
static bool is_section(const struct config_schema *schema, const char *path)
{
	size_t length = strlen(path);

	for_each_config_field (field, schema)
		if (strncmp(field->path, path, length) == 0 &&
		    field->path[length] == '.')
			return true;
	return false;
}

static int fill_section(const struct filler *f, const char *section,
			const struct json *json)
{
	const struct config_field *field;
	char path[JSON_PATH_SIZE];
	int err = 0;

	json_for_each (member, json) {
		snprintf(path, sizeof(path), "%s%s%s", section,
			 *section ? "." : "", json_key(member));
		field = field_find(f->schema, path);
		if (!field && !is_section(f->schema, path)) {
			/* Once more from the tree, printable. */
			json_path(f->root, member, path);
			if (f->schema->strict)
				return errf(f->eb, -EINVAL, "%s: unknown field",
					    path);
			warn_unused_field(f, path, "unknown field, ignored");
			continue;
		}
		if (json_type(member) == JSON_NULL)
			continue;
		if (field)
			err = set_field(f, field, member);
		else
			err = need_type(f, path, member, JSON_OBJECT);
		if (!err && !field)
			err = fill_section(f, path, member);
		if (err)
			break;
	}
	return err;
}

static int check_header(const struct filler *f, const char *key, const char *want)
{
	const char *text = "";

	if (json_get_string(f->root, f->root, key, &text, f->eb) < 0)
		return -EINVAL;
	if (!*text)
		return errf(f->eb, -EINVAL, "%s: missing, %s is expected", key,
			    want);
	if (strcmp(text, want))
		return errf(f->eb, -EINVAL, "%s: \"%.64s\" is not %s", key,
			    text, want);
	return 0;
}

static void on_repeated(void *ctx, const char *path)
{
	struct filler *f = ctx;

	if (f->schema->strict)
		f->err = errf(f->eb, -EINVAL, "%s: repeated", path);
	else
		warn_unused_field(f, path, "repeated, the last one counts");
}

static int fill_fields(struct filler *f)
{
	int err;

	if (json_type(f->root) != JSON_OBJECT)
		return errf(f->eb, -EINVAL, "%s where a %s belongs",
			    json_type_name(json_type(f->root)), f->schema->kind);
	err = check_header(f, "apiVersion", f->schema->api_version);
	if (!err)
		err = check_header(f, "kind", f->schema->kind);
	if (err)
		return err;
	if (json_duplicates(f->root, on_repeated, f))
		return err_no_memory(f->eb);
	if (f->err)
		return f->err;
	return fill_section(f, "", f->root);
}

/* CFG-7 */
static void add_other(void *ctx, const struct json *document)
{
	const char *kind = json_string(json_get(document, "kind"));
	struct strbuf *others = ctx;

	if (others->length)
		strbuf_adds(others, ", ");
	strbuf_addf(others, "%.64s", kind ? kind : "one without a kind");
}

/* JSON first, for what only that can be; what is neither is most likely meant as YAML. */
static struct json *parse_text(const char *text, size_t length,
			       struct strbuf *others, struct errbuf *eb)
{
	struct json *json = NULL;
	size_t i = 0;

	while (i < length && strchr(" \t\r\n", text[i]) && text[i])
		i++;
	if (i < length && text[i] == '{')
		json = json_parse(text, length, eb);
	return json ? json : yaml_parse_first(text, length, add_other, others, eb);
}

static int parse_config(const struct config_schema *schema, const char *text,
			size_t length, struct config *config, warn_fn *warn,
			void *ctx, struct errbuf *eb)
{
	struct strbuf others = { .max = 512 };
	struct json *root = parse_text(text, length, &others, eb);
	struct filler f = { schema, root, config, warn, ctx, eb, 0 };
	int err;

	if (!root) {
		strbuf_free(&others);
		return -EINVAL;
	}
	if (others.length)
		warn_unused_field(&f, "only the first document counts, ignored",
				  others.text);
	strbuf_free(&others);
	err = fill_fields(&f);
	json_free(root);
	return err;
}

int proxyconfig_parse(const char *text, size_t length, struct config *config,
		      warn_fn *warn, void *ctx, struct errbuf *eb)
{
	return parse_config(&proxy_schema, text, length, config, warn, ctx, eb);
}

int vipmapconfig_parse(const char *text, size_t length, struct config *config,
		       warn_fn *warn, void *ctx, struct errbuf *eb)
{
	return parse_config(&vipmap_schema, text, length, config, warn, ctx, eb);
}

static int read_whole_file(const char *path, struct strbuf *sb, struct errbuf *eb)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char bytes[4096];
	ssize_t n = 0;
	int err = 0;

	sb->max = JSON_MAX_LENGTH;
	if (fd < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	while (!sb->err && (n = read(fd, bytes, sizeof(bytes))) != 0) {
		if (n > 0)
			strbuf_add(sb, bytes, (size_t)n);
		else if (errno != EINTR)
			break;
	}
	if (n < 0)
		err = errf(eb, -errno, "%s: %s", path, strerror(errno));
	else if (sb->err)
		err = errf(eb, sb->err, "%s: %s", path, strerror(-sb->err));
	close(fd);
	return err;
}

static int read_config_document(const struct config_schema *schema,
				const char *path, struct config *config,
				warn_fn *warn, void *ctx, struct errbuf *eb)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf problem = { "" };
	int err = read_whole_file(path, &sb, eb);

	if (!err) {
		err = parse_config(schema, sb.length ? sb.text : "", sb.length,
				   config, warn, ctx, &problem);
		if (err)
			errf(eb, err, "%s: %.400s", path, problem.text);
	}
	strbuf_free(&sb);
	return err;
}

int proxyconfig_read(const char *path, struct config *config, warn_fn *warn,
		     void *ctx, struct errbuf *eb)
{
	return read_config_document(&proxy_schema, path, config, warn, ctx, eb);
}

int vipmapconfig_read(const char *path, struct config *config, warn_fn *warn,
		      void *ctx, struct errbuf *eb)
{
	return read_config_document(&vipmap_schema, path, config, warn, ctx, eb);
}
