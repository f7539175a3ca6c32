/*
 * What all decoders share: names, messages, typed fields. Everything that may end up in a log, in a
 * comment of the ruleset or on a terminal is checked or made printable here.
 *
 * Finding a field's path walks the whole object, so one with a million bad entries would keep us
 * busy for long. It is allowed a few complaints and a last one that says so.
 */
#include "watch/reading.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_COMPLAINTS = 8, MAX_QUOTED = 64 };

void reading_begin(struct reading *r, const struct decoder *d, const char *kind,
		   const struct json *root)
{
	arena_reset(d->scratch);
	*r = (struct reading){
		.decoder = d,
		.root = root,
		.kind = kind,
		.namespace = "",
		.name = "",
		.uid = "",
	};
}

static char *printable_copy(const char *text, char *out, size_t size)
{
	size_t i;

	for (i = 0; i < size - 1 && text[i]; i++)
		out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
	out[i] = '\0';
	return out;
}

const char *reading_quote(const struct reading *r, const char *text)
{
	char *out = arena_alloc(r->decoder->scratch, MAX_QUOTED + 6);
	size_t length;

	if (!out)
		return "?";
	out[0] = '\'';
	printable_copy(text, out + 1, MAX_QUOTED + 1);
	length = strlen(out);
	snprintf(out + length, 5, "%s", strlen(text) > MAX_QUOTED ? "'..." : "'");
	return out;
}

/* "Service default/web", "Node node-a", "Service" */
static void format_subject(const struct reading *r, char *text, size_t size)
{
	char namespace[MAX_QUOTED], name[256];

	printable_copy(r->namespace, namespace, sizeof(namespace));
	printable_copy(r->name, name, sizeof(name));
	snprintf(text, size, "%s%s%s%s%s", r->kind, *namespace || *name ? " " : "",
		 namespace, *namespace ? "/" : "", name);
}

void reading_report(const struct reading *r, struct errbuf *eb)
{
	char subject[384];

	format_subject(r, subject, sizeof(subject));
	errf(eb, -EINVAL, "%s: %s", subject, r->problem.text);
	errno = r->no_memory ? ENOMEM : EINVAL;
}

/* The path of @key in @parent, which need not be there. */
static void format_path(const struct reading *r, const struct json *parent,
			const char *key, char path[JSON_PATH_SIZE])
{
	size_t length;

	json_path(r->root, parent, path);
	length = strlen(path);
	if (key)
		snprintf(path + length, JSON_PATH_SIZE - length, "%s%s",
			 length ? "." : "", key);
}

int reading_bad(struct reading *r, const struct json *parent, const char *key,
		const char *fmt, ...)
{
	char path[JSON_PATH_SIZE], text[256];
	va_list ap;

	format_path(r, parent, key, path);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return errf(&r->problem, -EINVAL, "%s: %s", path, text);
}

void reading_complain(struct reading *r, const struct json *parent,
		      const char *key, const char *fmt, ...)
{
	char subject[384], path[JSON_PATH_SIZE], text[256], line[1024];
	va_list ap;

	if (!r->decoder->complain || r->complaints > MAX_COMPLAINTS)
		return;
	format_subject(r, subject, sizeof(subject));
	if (r->complaints++ == MAX_COMPLAINTS) {
		snprintf(line, sizeof(line),
			 "%s: more problems of this kind are not shown", subject);
		r->decoder->complain(r->decoder->ctx, line);
		return;
	}
	format_path(r, parent, key, path);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s: %s: %s", subject, path, text);
	r->decoder->complain(r->decoder->ctx, line);
}

int reading_no_memory(struct reading *r)
{
	r->no_memory = true;
	return errf(&r->problem, -ENOMEM, "out of memory");
}

/* ---- fields */

int reading_string(struct reading *r, const struct json *object,
		   const char *key, const char **value)
{
	return json_get_string(r->root, object, key, value, &r->problem);
}

int reading_bool(struct reading *r, const struct json *object, const char *key,
		 bool *value)
{
	return json_get_bool(r->root, object, key, value, &r->problem);
}

int reading_integer(struct reading *r, const struct json *object,
		    const char *key, int64_t min, int64_t max, int64_t *value)
{
	return json_get_integer(r->root, object, key, min, max, value, &r->problem);
}

int reading_port(struct reading *r, const struct json *object, const char *key,
		 uint16_t *value)
{
	int64_t number;
	int ret = reading_integer(r, object, key, INT64_MIN, INT64_MAX, &number);

	if (ret <= 0)
		return ret;
	if (number < 0 || number > UINT16_MAX)
		return reading_bad(r, object, key, "%lld is not a port",
				   (long long)number);
	*value = (uint16_t)number;
	return 1;
}

int reading_list(struct reading *r, const struct json *object, const char *key,
		 const struct json **list)
{
	return json_get_tree(r->root, object, key, JSON_ARRAY, list, &r->problem);
}

int reading_object(struct reading *r, const struct json *object,
		   const char *key, const struct json **value)
{
	return json_get_tree(r->root, object, key, JSON_OBJECT, value, &r->problem);
}

int reading_protocol(struct reading *r, const struct json *object, uint8_t *protocol)
{
	const char *text = "";
	int ret = reading_string(r, object, "protocol", &text);
	uint8_t number;

	if (ret < 0 || !*text)
		return ret < 0 ? ret : 0;
	number = protocol_parse(text);
	if (!number)
		return reading_bad(r, object, "protocol",
				   "%s is not TCP, UDP or SCTP",
				   reading_quote(r, text));
	*protocol = number;
	return 1;
}

unsigned int json_count(const struct json *parent)
{
	unsigned int count = 0;

	json_for_each (item, parent)
		count++;
	return count;
}

void *reading_alloc(struct reading *r, size_t count, size_t size)
{
	void *memory = arena_array(r->decoder->scratch, count, size);

	if (!memory)
		reading_no_memory(r);
	return memory;
}

/* ---- names */

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Length of the label at the start of @text; 0 if there is none that ends well. */
static size_t label_length(const char *text)
{
	size_t length = 0;

	while (is_alphanumeric(text[length]) || text[length] == '-')
		length++;
	if (!length || text[0] == '-' || text[length - 1] == '-')
		return 0;
	return length;
}

bool is_dns_label(const char *text)
{
	size_t length = label_length(text);

	return length && length <= 63 && !text[length];
}

/* Labels and dots, at most 253 bytes. */
static bool is_dns_subdomain(const char *text)
{
	const char *label = text;
	size_t length;

	if (strlen(text) > 253)
		return false;
	for (;; label += length + 1) {
		length = label_length(label);
		if (!length)
			return false;
		if (!label[length])
			return true;
		if (label[length] != '.')
			return false;
	}
}

bool is_port_name(const char *text)
{
	size_t i;

	for (i = 0; text[i]; i++)
		if (!is_alphanumeric(text[i]) && text[i] != '-' && text[i] != '.')
			return false;
	return i <= 63;
}

static int read_name(struct reading *r, const char *key, bool subdomain,
		     const char **name)
{
	int ret = reading_string(r, r->metadata, key, name);

	if (ret < 0)
		return ret;
	if (!**name)
		return reading_bad(r, r->metadata, key, "missing");
	if (!(subdomain ? is_dns_subdomain(*name) : is_dns_label(*name)))
		return reading_bad(r, r->metadata, key, "%s is not a DNS %s",
				   reading_quote(r, *name),
				   subdomain ? "subdomain" : "label");
	return 0;
}

static int read_namespace(struct reading *r)
{
	const char *text = json_string(json_get(r->metadata, "namespace"));

	/* Present and of a wrong type is left to read_name(). */
	if (r->decoder->default_namespace &&
	    (text ? !*text : !json_get(r->metadata, "namespace"))) {
		r->namespace = r->decoder->default_namespace;
		return 0;
	}
	return read_name(r, "namespace", false, &r->namespace);
}

int reading_metadata(struct reading *r, unsigned int flags)
{
	int err = 0;

	if (json_type(r->root) != JSON_OBJECT)
		return errf(&r->problem, -EINVAL, "%s where an object belongs",
			    json_type_name(json_type(r->root)));
	if (reading_object(r, r->root, "metadata", &r->metadata) < 0)
		return -EINVAL;
	if (!r->metadata)
		return reading_bad(r, r->root, "metadata", "missing");
	if (flags & METADATA_NAMESPACED)
		err = read_namespace(r);
	if (!err)
		err = read_name(r, "name", flags & METADATA_NAME_SUBDOMAIN,
				&r->name);
	if (!err && reading_string(r, r->metadata, "uid", &r->uid) < 0)
		err = -EINVAL;
	return err;
}

/* ---- time */

/* @digits decimal digits at *text, which moves on. */
static int take_number(const char **text, unsigned int digits, unsigned int max,
		       unsigned int *value)
{
	unsigned int v = 0;

	for (; digits; digits--, (*text)++) {
		if (**text < '0' || **text > '9')
			return -EINVAL;
		v = v * 10 + (unsigned int)(**text - '0');
	}
	if (v > max)
		return -EINVAL;
	*value = v;
	return 0;
}

static int take_char(const char **text, char c)
{
	if (**text != c)
		return -EINVAL;
	(*text)++;
	return 0;
}

/* Since 1970-01-01, in the Gregorian calendar, for any year from 0 on. */
static int64_t days_since_epoch(unsigned int year, unsigned int month,
				unsigned int day)
{
	/* Years begin in March, so that the leap day is the last. */
	int64_t y = month > 2 ? year : (int64_t)year - 1;
	int64_t m = month > 2 ? month - 3 : month + 9;
	int64_t era_days = 365 * y + (y >= 0 ? y / 4 - y / 100 + y / 400 : -1);

	return era_days + (153 * m + 2) / 5 + day - 1 - 719468;
}

static int take_date(const char **text, int64_t *days)
{
	unsigned int year, month, day;

	if (take_number(text, 4, 9999, &year) || take_char(text, '-') ||
	    take_number(text, 2, 12, &month) || take_char(text, '-') ||
	    take_number(text, 2, 31, &day) || !month || !day)
		return -EINVAL;
	*days = days_since_epoch(year, month, day);
	return 0;
}

static int take_clock(const char **text, int64_t *time_us)
{
	unsigned int hour, minute, second, scale = 100000, fraction = 0;

	if (take_number(text, 2, 23, &hour) || take_char(text, ':') ||
	    take_number(text, 2, 59, &minute) || take_char(text, ':') ||
	    take_number(text, 2, 60, &second))
		return -EINVAL;
	if (**text == '.') {
		(*text)++;
		if (**text < '0' || **text > '9')
			return -EINVAL;
		for (; **text >= '0' && **text <= '9'; (*text)++, scale /= 10)
			fraction += (unsigned int)(**text - '0') * scale;
	}
	*time_us = (int64_t)(hour * 3600 + minute * 60 + second) * 1000000 +
		   fraction;
	return 0;
}

/* Minutes east of Greenwich. */
static int take_zone(const char **text, int64_t *minutes)
{
	int sign = **text == '-' ? -1 : 1;
	unsigned int hour, minute;

	if (**text == 'Z' || **text == 'z') {
		(*text)++;
		*minutes = 0;
		return 0;
	}
	if (**text != '+' && **text != '-')
		return -EINVAL;
	(*text)++;
	if (take_number(text, 2, 23, &hour) || take_char(text, ':') ||
	    take_number(text, 2, 59, &minute))
		return -EINVAL;
	*minutes = sign * (int64_t)(hour * 60 + minute);
	return 0;
}

int time_parse(const char *text, int64_t *time_us)
{
	int64_t days, clock_us, zone;

	if (take_date(&text, &days) || (*text != 'T' && *text != 't'))
		return -EINVAL;
	text++;
	if (take_clock(&text, &clock_us) || take_zone(&text, &zone) || *text)
		return -EINVAL;
	*time_us = (days * 86400 - zone * 60) * 1000000 + clock_us;
	return 0;
}
