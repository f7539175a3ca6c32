/*
 * A reflector keeps an object_sink equal to one resource of the API server: it
 * lists, watches from where the list ended, resumes when the watch ends, and
 * lists again when it cannot resume.
 */
#ifndef WATCH_REFLECTOR_H
#define WATCH_REFLECTOR_H

#include "proxy/base/clock.h"
#include "proxy/model/objects.h"
#include "watch/apiclient.h"
#include "watch/decode.h"

struct reflector;

struct reflector_options {
	enum kind kind;
	const char *node_name; /* for KIND_NODE: the one that is followed; borrowed */
	struct apiclient *client; /* borrowed, as are the next three */
	const struct api_timing *timing;
	const struct object_sink *sink;
	struct decoder *decoder;
	struct arena *trees; /* of what is read from protobuf; all reflectors can share it */
	const char *accept; /* of requests, until protobuf is refused; borrowed */
	bool json_only;	    /* protobuf is not in it */
	struct event_base *base;
	const struct clock *clock; /* borrowed */
	uint64_t seed;		   /* of jitter; not 0 */
	void (*log)(void *ctx, int severity, const char *message);
	void (*touched)(void *ctx); /* the sink was given something */
	void (*watch_ended)(void *ctx,
			    enum kind kind); /* for any reason; may be NULL */
	void *ctx;
};

struct reflector *
reflector_new(const struct reflector_options *options); /* NULL: out of memory */
void reflector_free(struct reflector *r);		/* NULL is allowed */
void reflector_start(struct reflector *r);
/* Somebody was answered after no server could be reached: who waits for that need not wait on. */
void reflector_server_answers(struct reflector *r);
bool reflector_is_connected(const struct reflector *r); /* a watch is running */
bool reflector_is_listed(const struct reflector *r); /* a complete list has arrived */
const char *
reflector_problem(const struct reflector *r); /* of its latest call; "" if none */

#endif
