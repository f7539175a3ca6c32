/* See the header. The numbers are the callers': the decoder's table is not looked at. */
#include "tests/support/twin.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

void protobuf_add_varint(struct strbuf *sb, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		strbuf_addc(sb, (char)(value | 0x80));
	strbuf_addc(sb, (char)value);
}

void protobuf_add_bytes(struct strbuf *sb, unsigned int number,
			const char *bytes, size_t length)
{
	protobuf_add_varint(sb, number << 3 | BYTES);
	protobuf_add_varint(sb, length);
	strbuf_add(sb, bytes, length);
}

void protobuf_add_body(struct strbuf *sb, const char *kind, const struct strbuf *raw)
{
	struct strbuf meta = STRBUF_INIT;

	protobuf_add_bytes(&meta, 1, "v1", 2);
	protobuf_add_bytes(&meta, 2, kind, strlen(kind));
	strbuf_add(sb, "k8s", 4);
	protobuf_add_bytes(sb, 1, meta.text, meta.length);
	protobuf_add_bytes(sb, 2, raw->length ? raw->text : "", raw->length);
	protobuf_add_bytes(sb, 3, "", 0);
	protobuf_add_bytes(sb, 4, "", 0);
	strbuf_free(&meta);
}

static uint64_t chance(struct twin *t, uint32_t n)
{
	return random_below(t->random, n);
}

void twin_begin(struct twin *t, struct random *random)
{
	*t = (struct twin){ .random = random };
	t->salt = chance(t, 1 << 20);
}

void twin_free(struct twin *t)
{
	strbuf_free(&t->json);
	strbuf_free(&t->early);
	strbuf_free(&t->late);
}

/* Fields of one number keep their order. */
static struct strbuf *fields_of(struct twin *t, unsigned int number)
{
	return (t->salt >> number % 20) & 1 ? &t->early : &t->late;
}

static void add_unknown(struct twin *t)
{
	unsigned int number = 900 + (unsigned int)chance(t, 100);
	struct strbuf *sb = fields_of(t, number);

	if (chance(t, 8))
		return;
	switch (chance(t, 4)) {
	case 0:
		protobuf_add_varint(sb, number << 3 | VARINT);
		protobuf_add_varint(sb, chance(t, UINT32_MAX) << 32);
		break;
	case 1:
		protobuf_add_varint(sb, number << 3 | FIXED64);
		strbuf_add(sb, "\xff\xff\0\0abcd", 8);
		break;
	case 2:
		protobuf_add_varint(sb, number << 3 | FIXED32);
		strbuf_add(sb, "\xff\0ab", 4);
		break;
	default:
		protobuf_add_bytes(sb, number, "\x0a\xff\xff", chance(t, 4));
	}
	strbuf_adds(&t->json, "\"unknown\":{\"name\":[1,{}]},");
}

static void add_key(struct twin *t, const char *name)
{
	add_unknown(t);
	strbuf_add_json(&t->json, name);
	strbuf_addc(&t->json, ':');
}

static void add_text(struct twin *t, unsigned int number, const char *value)
{
	protobuf_add_bytes(fields_of(t, number), number, value, strlen(value));
}

static void add_integer(struct twin *t, unsigned int number, long long value)
{
	protobuf_add_varint(fields_of(t, number), number << 3 | VARINT);
	protobuf_add_varint(fields_of(t, number), (uint64_t)value);
}

void twin_text_set(struct twin *t, unsigned int number, const char *name,
		   const char *value)
{
	if (!chance(t, 40))
		twin_text_set(t, number, name, "before");
	add_key(t, name);
	strbuf_add_json(&t->json, value);
	strbuf_addc(&t->json, ',');
	add_text(t, number, value);
}

void twin_text(struct twin *t, unsigned int number, const char *name,
	       const char *value)
{
	if (*value)
		twin_text_set(t, number, name, value);
	else
		add_text(t, number, value);
}

void twin_integer_set(struct twin *t, unsigned int number, const char *name,
		      long long value)
{
	if (!chance(t, 40))
		twin_integer_set(t, number, name, 1);
	add_key(t, name);
	strbuf_addf(&t->json, "%lld,", value);
	add_integer(t, number, value);
}

void twin_integer(struct twin *t, unsigned int number, const char *name,
		  long long value)
{
	if (value)
		twin_integer_set(t, number, name, value);
	else
		add_integer(t, number, value);
}

void twin_bool_set(struct twin *t, unsigned int number, const char *name, bool value)
{
	add_key(t, name);
	strbuf_addf(&t->json, "%s,", value ? "true" : "false");
	add_integer(t, number, value);
}

void twin_time(struct twin *t, unsigned int number, const char *name,
	       long long seconds)
{
	struct strbuf message = STRBUF_INIT;
	time_t time = (time_t)seconds;
	char text[64] = "null";
	struct tm tm;

	if (seconds != INT64_MAX) {
		gmtime_r(&time, &tm);
		snprintf(text, sizeof(text), "\"%04d-%02d-%02dT%02d:%02d:%02dZ\"",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
			 tm.tm_hour, tm.tm_min, tm.tm_sec);
		protobuf_add_varint(&message, 1 << 3 | VARINT);
		protobuf_add_varint(&message, (uint64_t)seconds);
		protobuf_add_varint(&message, 2 << 3 | VARINT);
		protobuf_add_varint(&message, 0);
	}
	add_key(t, name);
	strbuf_addf(&t->json, "%s,", text);
	protobuf_add_bytes(fields_of(t, number), number,
			   message.length ? message.text : "", message.length);
	strbuf_free(&message);
}

/* Without the last comma. */
static void add_members(struct strbuf *sb, const struct strbuf *members)
{
	strbuf_addc(sb, '{');
	if (members->length)
		strbuf_add(sb, members->text, members->length - 1);
	strbuf_addc(sb, '}');
}

void twin_end(struct twin *t, struct strbuf *json, struct strbuf *protobuf)
{
	add_unknown(t);
	add_members(json, &t->json);
	strbuf_adds(protobuf, "");
	if (t->early.length)
		strbuf_add(protobuf, t->early.text, t->early.length);
	if (t->late.length)
		strbuf_add(protobuf, t->late.text, t->late.length);
	ck_assert(!json->err && !protobuf->err && !t->json.err &&
		  !t->early.err && !t->late.err);
	twin_free(t);
}

/* Sometimes in two parts, which are one message. */
static void add_message(struct twin *t, unsigned int number,
			const struct twin *inner, const struct strbuf *whole,
			bool may_part)
{
	struct strbuf *sb = fields_of(t, number);

	if (!may_part || chance(t, 8)) {
		protobuf_add_bytes(sb, number, whole->text, whole->length);
		return;
	}
	protobuf_add_bytes(sb, number, whole->text, inner->early.length);
	protobuf_add_bytes(sb, number, whole->text + inner->early.length,
			   whole->length - inner->early.length);
}

static void add_inner(struct twin *t, unsigned int number, struct twin *inner,
		      bool may_part)
{
	struct strbuf message = STRBUF_INIT;
	size_t early;

	add_unknown(inner);
	early = inner->early.length;
	add_members(&t->json, &inner->json);
	strbuf_addc(&t->json, ',');
	strbuf_adds(&message, "");
	if (early)
		strbuf_add(&message, inner->early.text, early);
	if (inner->late.length)
		strbuf_add(&message, inner->late.text, inner->late.length);
	add_message(t, number, inner, &message, may_part);
	strbuf_free(&message);
	twin_free(inner);
}

void twin_message(struct twin *t, unsigned int number, const char *name,
		  struct twin *inner)
{
	add_key(t, name);
	add_inner(t, number, inner, true);
}

void twin_list_begin(struct twin *t, const char *name)
{
	add_key(t, name);
	strbuf_addc(&t->json, '[');
}

static void close_bracket(struct twin *t, char bracket)
{
	if (t->json.text[t->json.length - 1] == ',')
		t->json.length--;
	strbuf_addc(&t->json, bracket);
	strbuf_addc(&t->json, ',');
}

void twin_list_end(struct twin *t)
{
	close_bracket(t, ']');
}

void twin_list_text(struct twin *t, unsigned int number, const char *value)
{
	strbuf_add_json(&t->json, value);
	strbuf_addc(&t->json, ',');
	add_text(t, number, value);
}

void twin_list_message(struct twin *t, unsigned int number, struct twin *inner)
{
	add_inner(t, number, inner, false);
}

void twin_map_begin(struct twin *t, const char *name)
{
	add_key(t, name);
	strbuf_addc(&t->json, '{');
}

void twin_map_entry(struct twin *t, unsigned int number, const char *key,
		    const char *value)
{
	struct strbuf entry = STRBUF_INIT;

	strbuf_add_json(&t->json, key);
	strbuf_addc(&t->json, ':');
	strbuf_add_json(&t->json, value);
	strbuf_addc(&t->json, ',');
	protobuf_add_bytes(&entry, 1, key, strlen(key));
	protobuf_add_bytes(&entry, 2, value, strlen(value));
	protobuf_add_bytes(fields_of(t, number), number, entry.text, entry.length);
	strbuf_free(&entry);
}

void twin_map_end(struct twin *t)
{
	close_bracket(t, '}');
}
