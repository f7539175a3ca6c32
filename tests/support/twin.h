/*
 * One object written twice at the same time, as the API's JSON and as its
 * protobuf. What differs in protobuf as the API writes it, and what may differ
 * as the wire format allows it, does: values that are empty are there, fields
 * come in another order and more than once, and unknown ones in between.
 */
#ifndef TESTS_SUPPORT_TWIN_H
#define TESTS_SUPPORT_TWIN_H

#include "proxy/base/strbuf.h"
#include "tests/support/build.h"

struct twin {
	struct random *random;
	struct strbuf json;	   /* members, each with a comma after it */
	struct strbuf early, late; /* fields, by number in one of them */
	uint64_t salt;
};

void twin_begin(struct twin *t, struct random *random);
void twin_free(struct twin *t);
/* The object: {...} and the message. The caller frees both. */
void twin_end(struct twin *t, struct strbuf *json, struct strbuf *protobuf);

/* In Go a plain value: JSON has it only if it is not empty; protobuf has it always. */
void twin_text(struct twin *t, unsigned int number, const char *name,
	       const char *value);
void twin_integer(struct twin *t, unsigned int number, const char *name,
		  long long value);
/* In Go a pointer, which is set, or an element of a list. */
void twin_text_set(struct twin *t, unsigned int number, const char *name,
		   const char *value);
void twin_bool_set(struct twin *t, unsigned int number, const char *name,
		   bool value);
void twin_integer_set(struct twin *t, unsigned int number, const char *name,
		      long long value);
/* Seconds since 1970; INT64_MAX: there is none */
void twin_time(struct twin *t, unsigned int number, const char *name,
	       long long seconds);

/* @inner becomes a message in @t and ends. */
void twin_message(struct twin *t, unsigned int number, const char *name,
		  struct twin *inner);

/* A list, or a map: elements are added between begin and end, which JSON has one after the other.
 */
void twin_list_begin(struct twin *t, const char *name);
void twin_list_text(struct twin *t, unsigned int number, const char *value);
void twin_list_message(struct twin *t, unsigned int number, struct twin *inner);
void twin_list_end(struct twin *t);
void twin_map_begin(struct twin *t, const char *name);
void twin_map_entry(struct twin *t, unsigned int number, const char *key,
		    const char *value);
void twin_map_end(struct twin *t);

/* For what is around objects. */
void protobuf_add_varint(struct strbuf *sb, uint64_t value);
void protobuf_add_bytes(struct strbuf *sb, unsigned int number,
			const char *bytes, size_t length);
/* "k8s\0" and the message Unknown */
void protobuf_add_body(struct strbuf *sb, const char *kind,
		       const struct strbuf *raw);

#endif
