/*
 * Every field of the configuration files, in one table: where it stands, what
 * type and default it has, which values are right, and which flag sets it.
 * Files, flags, checks, --write-config-to, /configz and the list in vipmap(8)
 * all go along it, so that a new field is one line here.
 */
#ifndef MODEL_FIELDS_H
#define MODEL_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config;

/* How the value is written in a file; in struct config as the comment says. */
enum field_type {
	FIELD_TEXT,	/* char *, never NULL */
	FIELD_BOOL,	/* bool */
	FIELD_INT,	/* int */
	FIELD_INT64,	/* int64_t */
	FIELD_FLOAT,	/* double */
	FIELD_DURATION, /* int64_t, milliseconds */
	FIELD_LIST,	/* char **, NULL-terminated, or NULL */
	FIELD_GATES,	/* names and booleans: config_set_gate() */
	FIELD_HEADER,	/* kind and apiVersion, looked at before all others */
	FIELD_ANY,	/* whatever: only without effect */
};

enum field_traits {
	FIELD_UNUSED = 1 << 0, /* accepted and without effect */
	FIELD_STORED =
		1 << 1, /* without effect, but in struct config all the same */
	FIELD_FLAG_WINS = 1 << 2,	 /* over the file (CFG-4) */
	FIELD_EMPTY_IS_DEFAULT = 1 << 3, /* "" or 0 in a file is the same as none */
};

struct config_field {
	const char *path;     /* "a.b" is field b of object a */
	const char *flag;     /* with its dashes; NULL: none */
	const char *help;     /* of the flag */
	const char *fallback; /* as in a file; NULL: "", 0, false or none */
	const char *const *words; /* all that a text may be, NULL-terminated; NULL: not so simple */
	size_t offset;	  /* in struct config, unless it is unused */
	int64_t min, max; /* of numbers and durations; both 0: any */
	uint8_t type, traits;
};

/* A kind of file. */
struct config_schema {
	const char *kind, *api_version;
	const struct config_field *fields;
	unsigned int n_fields;
	bool strict; /* unknown and repeated fields are errors, not warnings */
};

extern const struct config_schema proxy_schema;	 /* KubeProxyConfiguration */
extern const struct config_schema vipmap_schema; /* VipmapConfiguration */

#define for_each_config_field(field, schema)                                   \
	for (const struct config_field *field = (schema)->fields;              \
	     field < (schema)->fields + (schema)->n_fields; field++)

/* Whether struct config has it. */
static inline bool field_is_stored(const struct config_field *field)
{
	return !(field->traits & FIELD_UNUSED) || field->traits & FIELD_STORED;
}

static inline bool field_is_boolean(const struct config_field *field)
{
	return field->type == FIELD_BOOL;
}

const struct config_field *field_find(const struct config_schema *schema,
				      const char *path);
const struct config_field *field_find_flag(const char *flag,
					   size_t length); /* without dashes */

/* Where it is stored; the type is that of the field. */
void *field_at(struct config *config, const struct config_field *field);
int64_t field_number(const struct config *config, const struct config_field *field);
char *field_text(const struct config *config, const struct config_field *field);

/* "", 0, false or no list. */
bool field_is_empty(const struct config *config, const struct config_field *field);

/* For texts, and for others whose default is empty. */
bool field_is_default(const struct config *config,
		      const struct config_field *field);

/* Sets it to its default. Returns 0 or -ENOMEM. */
int field_set_default(struct config *config, const struct config_field *field);

/* Remembers that a flag has set it, for messages. */
void field_mark_flag(struct config *config, const struct config_field *field);
/* What an operator typed: the flag, or the field of the file. */
const char *field_name(const struct config *config,
		       const struct config_field *field);

#endif
