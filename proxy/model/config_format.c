/*
 * The configuration as a file, along the table of fields: JSON for programs,
 * YAML for people. Both are read back as what they were.
 */
#include "proxy/model/config.h"

#include <math.h>
#include <string.h>

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

static void print_text(struct printer *p, const char *text)
{
	if (p->yaml && is_plain(text))
		strbuf_adds(p->out, text);
	else
		strbuf_add_json(p->out, text);
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

static void print_duration(struct printer *p, int64_t ms)
{
	struct strbuf text = STRBUF_INIT;

	format_duration(ms, &text);
	strbuf_addf(p->out, p->yaml ? "%s" : "\"%s\"",
		    text.text ? text.text : "0s");
	strbuf_free(&text);
}

static void print_list(struct printer *p, char *const *list)
{
	size_t i;

	if (!list) {
		strbuf_adds(p->out, "null");
		return;
	}
	strbuf_addc(p->out, '[');
	for (i = 0; list[i]; i++) {
		if (i)
			strbuf_adds(p->out, p->yaml ? ", " : ",");
		print_text(p, list[i]);
	}
	strbuf_addc(p->out, ']');
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

static void print_value(struct printer *p, const struct config_field *field)
{
	const void *at = (const char *)p->config + field->offset;
	char *const *list;
	double real;

	switch (field->type) {
	case FIELD_TEXT:
		print_text(p, shown_text(field, field_text(p->config, field)));
		break;
	case FIELD_BOOL:
		strbuf_adds(p->out, *(const bool *)at ? "true" : "false");
		break;
	case FIELD_FLOAT:
		memcpy(&real, at, sizeof(real));
		strbuf_addf(p->out, "%.9g", isfinite(real) ? real : 0.0);
		break;
	case FIELD_LIST:
		memcpy(&list, at, sizeof(list));
		print_list(p, list);
		break;
	case FIELD_DURATION:
		print_duration(p, field_number(p->config, field));
		break;
	case FIELD_GATES:
		strbuf_addf(p->out,
			    p->yaml ? "{AllowServiceExternalIPs: %s}"
				    : "{\"AllowServiceExternalIPs\":%s}",
			    p->config->allow_external_ips ? "true" : "false");
		break;
	default:
		strbuf_addf(p->out, "%lld",
			    (long long)field_number(p->config, field));
	}
}

static void print_field_key(struct printer *p, const char *key)
{
	struct strbuf *out = p->out;

	if (p->yaml) {
		strbuf_addf(out, "%s%s: ", *p->object ? "  " : "", key);
		return;
	}
	if (out->length && out->text[out->length - 1] != '{')
		strbuf_addc(out, ',');
	strbuf_addf(out, "\"%s\":", key);
}

static void close_object(struct printer *p)
{
	if (*p->object && !p->yaml)
		strbuf_addc(p->out, '}');
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
	if (!dot || length >= sizeof(p->object))
		return path;
	if (p->yaml) {
		strbuf_add(p->out, path, length);
		strbuf_adds(p->out, ":\n");
		memcpy(p->object, path, length);
		p->object[length] = '\0';
	} else {
		memcpy(p->object, path, length);
		p->object[length] = '\0';
		print_field_key(p, p->object);
		strbuf_addc(p->out, '{');
	}
	return dot + 1;
}

static void print_config(struct printer *p, const struct config_schema *schema)
{
	strbuf_addf(p->out,
		    p->yaml ? "kind: %s\napiVersion: %s\n"
			    : "{\"kind\":\"%s\",\"apiVersion\":\"%s\"",
		    schema->kind, schema->api_version);
	for_each_config_field (field, schema) {
		if (!field_is_stored(field) || field->type == FIELD_HEADER)
			continue;
		print_field_key(p, enter_object(p, field->path));
		print_value(p, field);
		if (p->yaml)
			strbuf_addc(p->out, '\n');
	}
	close_object(p);
	if (!p->yaml)
		strbuf_addc(p->out, '}');
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
