/*
 * An object_sink that remembers: what was said, in order, and what there is now, as text.
 */
#ifndef TESTS_SUPPORT_SINK_H
#define TESTS_SUPPORT_SINK_H

#include "proxy/model/objects.h"

struct recording_sink;

struct recording_sink *recording_sink_new(void);
void recording_sink_free(struct recording_sink *sink);
const struct object_sink *recording_sink_ops(struct recording_sink *sink);

/* "begin Service", "put Service default/lb", "gone ...", "end Service", "complain ..."; a line each
 */
const char *recording_sink_journal(const struct recording_sink *sink);
void recording_sink_forget_journal(struct recording_sink *sink);
/* Every object with all its fields, a line each, sorted. The caller frees it. */
char *recording_sink_state(const struct recording_sink *sink);
unsigned int recording_sink_count(const struct recording_sink *sink,
				  enum kind kind);
bool recording_sink_listed(const struct recording_sink *sink, enum kind kind);

#endif
