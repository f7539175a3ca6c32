/*
 * One object while it is read: who it is, and how problems with it are
 * reported. For the decoders.
 *
 * A wrong type anywhere, or a value that the object makes no sense without,
 * condemns the object: reading_bad() notes it and the decoder returns NULL. A
 * value in a list that is of no use is passed over with reading_complain().
 */
#ifndef WATCH_READING_H
#define WATCH_READING_H

#include "watch/decode.h"

struct reading {
	const struct decoder *decoder;
	const struct json *root;
	const char *kind;	      /* for messages */
	const char *namespace, *name; /* "" if unknown, or if there is none */
	const char *uid;	      /* "" if absent */
	const struct json *metadata;
	unsigned int complaints;
	bool no_memory;
	struct errbuf problem; /* what condemns the object, without its name */
};

enum metadata_flags {
	METADATA_NAMESPACED = 1 << 0,
	METADATA_NAME_SUBDOMAIN = 1 << 1, /* dots are allowed in the name */
};

void reading_begin(struct reading *r, const struct decoder *d, const char *kind,
		   const struct json *root);
/* Checks and fills in namespace, name and uid. Returns 0 or -EINVAL. */
int reading_metadata(struct reading *r, unsigned int flags);
/* The end of an object that is condemned: @eb gets "KIND NAMESPACE/NAME: PROBLEM", errno is set. */
void reading_report(const struct reading *r, struct errbuf *eb);

/*
 * The problem is with @key in @parent, whether it is there or not, or with
 * @parent itself if @key is NULL. reading_bad() returns -EINVAL.
 */
int reading_bad(struct reading *r, const struct json *parent, const char *key,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void reading_complain(struct reading *r, const struct json *parent,
		      const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int reading_no_memory(struct reading *r); /* returns -ENOMEM */

/* "'text'", cut and made fit for a terminal; lives in the scratch arena. */
const char *reading_quote(const struct reading *r, const char *text);

/* As json_get_*(): 1, 0 if absent, or -EINVAL. */
int reading_string(struct reading *r, const struct json *object,
		   const char *key, const char **value);
int reading_bool(struct reading *r, const struct json *object, const char *key,
		 bool *value);
int reading_integer(struct reading *r, const struct json *object,
		    const char *key, int64_t min, int64_t max, int64_t *value);
int reading_port(struct reading *r, const struct json *object, const char *key,
		 uint16_t *value);
int reading_list(struct reading *r, const struct json *object, const char *key,
		 const struct json **list);
int reading_object(struct reading *r, const struct json *object,
		   const char *key, const struct json **value);
/* "" counts as absent; an unknown one is bad. */
int reading_protocol(struct reading *r, const struct json *object,
		     uint8_t *protocol);

unsigned int json_count(const struct json *parent);
void *reading_alloc(struct reading *r, size_t count,
		    size_t size); /* scratch; sets the problem */

bool is_dns_label(const char *text); /* a-z 0-9 -, at most 63 bytes */
bool is_port_name(const char *text); /* a-z 0-9 - ., at most 63 bytes; may be empty */

/* RFC 3339 to microseconds since 1970. Returns 0 or -EINVAL. */
int time_parse(const char *text, int64_t *time_us);

#endif
