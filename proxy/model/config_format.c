/*
 * The configuration as a file, along the table of fields: JSON for programs,
 * YAML for people. Both are read back as what they were.
 */
#include "proxy/model/config.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "proxy/base/jsonout.h"
#include "proxy/base/strbuf.h"
#include "proxy/model/fields.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)

enum { OBJECT_NAME_MAX = 64 };

struct printer {
	const struct config *config;
	struct strbuf *out;
	bool yaml;
	char object[OBJECT_NAME_MAX]; /* that is open; "": none */
};

/* A text that YAML takes for a text without quotes. The other words are too many to be listed. */
static bool is_plain(const char *text)
{
	static const char *const not_texts[] = { "true", "false", "null",
						 "yes",	 "no",	  "on",
						 "off",	 "y",	  "n" };
	size_t i;

	for (i = 0; i < sizeof(not_texts) / sizeof(not_texts[0]); i++)
		if (strcasecmp(text, not_texts[i]) == 0)
			return false;
	if (!(*text >= 'a' && *text <= 'z') &&
	    !(*text >= 'A' && *text <= 'Z') && *text != '/')
		return false;
	return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
			    "-_./") == strlen(text);
}

static void print_text(struct strbuf *out, const char *text)
{
	if (is_plain(text))
		strbuf_adds(out, text);
	else
		strbuf_add_json(out, text);
}

/* As Go prints durations: 24h0m0s, 15m0s, 1.5s, 250ms, 0s. */
static void format_duration(int64_t ms, struct strbuf *out)
{
	uint64_t rest = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;

	if (ms < 0)
		strbuf_addc(out, '-');
	if (rest > 0 && rest < (uint64_t)SECOND_MS) {
		strbuf_addf(out, "%ums", (unsigned int)rest);
		return;
	}
	if (rest >= (uint64_t)HOUR_MS)
		strbuf_addf(out, "%lluh", (unsigned long long)(rest / HOUR_MS));
	if (rest >= (uint64_t)MINUTE_MS)
		strbuf_addf(out, "%um", (unsigned int)(rest / MINUTE_MS % 60));
	rest %= MINUTE_MS;
	strbuf_addf(out, "%u", (unsigned int)(rest / SECOND_MS));
	rest %= SECOND_MS;
	if (rest) {
		strbuf_addf(out, ".%03u", (unsigned int)rest);
		while (!out->err && out->text[out->length - 1] == '0')
			out->text[--out->length] = '\0';
	}
	strbuf_addc(out, 's');
}

/* "" stands for the only mode that there is, and for the mode of detection that is usual. */
static const char *shown_text(const struct config_field *field, const char *text)
{
	if (!*text && strcmp(field->path, "mode") == 0)
		return "nftables";
	if (!*text && strcmp(field->path, "detectLocalMode") == 0)
		return field->words[0];
	return text;
}

static char *const *field_list(const struct config *config,
			       const struct config_field *field)
{
	char *const *list;

	memcpy(&list, (const char *)config + field->offset, sizeof(list));
	return list;
}

static bool field_is_on(const struct config *config, const struct config_field *field)
{
	return *(const bool *)((const char *)config + field->offset);
}

static void put_real(const struct config *config,
		     const struct config_field *field, struct strbuf *out)
{
	double real;

	memcpy(&real, (const char *)config + field->offset, sizeof(real));
	strbuf_addf(out, "%.9g", isfinite(real) ? real : 0.0);
}

/* YAML */

static void print_yaml_list(struct strbuf *out, char *const *list)
{
	const char *comma = "";

	if (!list) {
		strbuf_adds(out, "null");
		return;
	}
	strbuf_addc(out, '[');
	for (; *list; list++, comma = ", ") {
		strbuf_adds(out, comma);
		print_text(out, *list);
	}
	strbuf_addc(out, ']');
}

static void print_yaml_value(const struct config *c,
			     const struct config_field *field, struct strbuf *out)
{
	switch (field->type) {
	case FIELD_TEXT:
		print_text(out, shown_text(field, field_text(c, field)));
		break;
	case FIELD_BOOL:
		strbuf_adds(out, field_is_on(c, field) ? "true" : "false");
		break;
	case FIELD_FLOAT:
		put_real(c, field, out);
		break;
	case FIELD_LIST:
		print_yaml_list(out, field_list(c, field));
		break;
	case FIELD_DURATION:
		format_duration(field_number(c, field), out);
		break;
	case FIELD_GATES:
		strbuf_addf(out, "{AllowServiceExternalIPs: %s}",
			    c->allow_external_ips ? "true" : "false");
		break;
	default:
		strbuf_addf(out, "%lld", (long long)field_number(c, field));
	}
}

/* JSON */

static void put_json_list(struct strbuf *out, const char *key, char *const *list)
{
	if (!list) {
		jsonout_key(out, key);
		strbuf_adds(out, "null");
		return;
	}
	jsonout_array(out, key);
	for (; *list; list++)
		jsonout_text(out, NULL, *list);
	jsonout_array_end(out);
}

static void put_json_duration(struct strbuf *out, const char *key, int64_t ms)
{
	struct strbuf text = STRBUF_INIT;

	format_duration(ms, &text);
	jsonout_text(out, key, text.text ? text.text : "0s");
	strbuf_free(&text);
}

static void put_json_value(const struct config *c, const struct config_field *field,
			   const char *key, struct strbuf *out)
{
	switch (field->type) {
	case FIELD_TEXT:
		jsonout_text(out, key, shown_text(field, field_text(c, field)));
		break;
	case FIELD_BOOL:
		jsonout_bool(out, key, field_is_on(c, field));
		break;
	case FIELD_FLOAT:
		jsonout_key(out, key);
		put_real(c, field, out);
		break;
	case FIELD_LIST:
		put_json_list(out, key, field_list(c, field));
		break;
	case FIELD_DURATION:
		put_json_duration(out, key, field_number(c, field));
		break;
	case FIELD_GATES:
		jsonout_object(out, key);
		jsonout_bool(out, "AllowServiceExternalIPs", c->allow_external_ips);
		jsonout_object_end(out);
		break;
	default:
		jsonout_integer(out, key, field_number(c, field));
	}
}

static void close_object(struct printer *p)
{
	if (*p->object && !p->yaml)
		jsonout_object_end(p->out);
	p->object[0] = '\0';
}

/* Opens and closes objects as the path of the next field demands, and returns its last part. */
static const char *enter_object(struct printer *p, const char *path)
{
	const char *dot = strchr(path, '.');
	size_t length = dot ? (size_t)(dot - path) : 0;

	if (strlen(p->object) == length && strncmp(p->object, path, length) == 0)
		return dot ? dot + 1 : path;
	close_object(p);
	if (!dot)
		return path;
	assert(length < sizeof(p->object));
	memcpy(p->object, path, length);
	p->object[length] = '\0';
	if (p->yaml)
		strbuf_addf(p->out, "%s:\n", p->object);
	else
		jsonout_object(p->out, p->object);
	return dot + 1;
}

static void print_begin(struct printer *p, const struct config_schema *schema)
{
	if (p->yaml) {
		strbuf_addf(p->out, "kind: %s\napiVersion: %s\n", schema->kind,
			    schema->api_version);
		return;
	}
	jsonout_object(p->out, NULL);
	jsonout_text(p->out, "kind", schema->kind);
	jsonout_text(p->out, "apiVersion", schema->api_version);
}

static void print_field(struct printer *p, const struct config_field *field)
{
	const char *key = enter_object(p, field->path);

	if (!p->yaml) {
		put_json_value(p->config, field, key, p->out);
		return;
	}
	strbuf_addf(p->out, "%s%s: ", *p->object ? "  " : "", key);
	print_yaml_value(p->config, field, p->out);
	strbuf_addc(p->out, '\n');
}

static void print_config(struct printer *p, const struct config_schema *schema)
{
	print_begin(p, schema);
	for_each_config_field (field, schema)
		if (field_is_stored(field) && field->type != FIELD_HEADER)
			print_field(p, field);
	close_object(p);
	if (!p->yaml)
		jsonout_object_end(p->out);
}

void config_format(const struct config *config, struct strbuf *json)
{
	struct printer p = { .config = config, .out = json };

	print_config(&p, &proxy_schema);
}

void config_format_vipmap(const struct config *config, struct strbuf *json)
{
	struct printer p = { .config = config, .out = json };

	print_config(&p, &vipmap_schema);
}

static bool vipmap_says_something(const struct config *config)
{
	for_each_config_field (field, &vipmap_schema)
		if (field_is_stored(field) && field->type != FIELD_HEADER &&
		    !field_is_default(config, field))
			return true;
	return false;
}

void config_format_yaml(const struct config *config, struct strbuf *yaml)
{
	struct printer p = { .config = config, .out = yaml, .yaml = true };

	print_config(&p, &proxy_schema);
	if (!vipmap_says_something(config))
		return;
	strbuf_adds(yaml, "---\n");
	print_config(&p, &vipmap_schema);
}
