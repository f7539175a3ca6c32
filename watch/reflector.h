/*
 * A reflector keeps an object_sink equal to one resource of the API server: it lists, watches from
 * where the list ended, resumes when the watch ends, and lists again when it cannot resume.
 */
#ifndef WATCH_REFLECTOR_H
#define WATCH_REFLECTOR_H

#include "proxy/model/objects.h"
#include "watch/apiclient.h"
#include "watch/decode.h"

struct reflector;

struct reflector_options {
	enum kind kind;
	const char *node_name;	  /* for KIND_NODE: the one that is followed; borrowed */
	struct apiclient *client; /* borrowed, as are the next three */
	const struct api_timing *timing;
	const struct object_sink *sink;
	struct decoder *decoder;
	struct arena *trees; /* of what is read from protobuf; all reflectors can share it */
	const char *accept;  /* of requests, until protobuf is refused; borrowed */
	bool json_only;	     /* protobuf is not in it */
	struct event_base *base;
	uint64_t seed; /* of jitter; not 0 */
	void (*log)(void *ctx, int severity, const char *message);
	void (*touched)(void *ctx);			/* the sink was given something */
	void (*watch_ended)(void *ctx, enum kind kind); /* for any reason; may be NULL */
	void *ctx;
};

struct reflector *reflector_new(const struct reflector_options *options); /* NULL: out of memory */
void reflector_free(struct reflector *r);				  /* NULL is allowed */
void reflector_start(struct reflector *r);
/* Somebody was answered after no server could be reached: who waits for that need not wait on. */
void reflector_server_answers(struct reflector *r);
bool reflector_is_connected(const struct reflector *r);	  /* a watch is running */
bool reflector_is_listed(const struct reflector *r);	  /* a complete list has arrived */
const char *reflector_problem(const struct reflector *r); /* of its latest call; "" if none */

/*
 * The decision, apart from the doing: what a request was, how it ended, and what follows. For
 * tests.
 */
enum reflector_mode {
	MODE_STREAM, /* a watch that begins with all objects (sendInitialEvents) */
	MODE_PAGES,  /* a list, in pages */
	MODE_WATCH,
};

/* What the server said went wrong: a Status object, as a response or in an ERROR event. */
struct api_failure {
	int code; /* 0: nothing said */
	char reason[64];
	char message[256];
	bool too_large; /* our resource version is from this server's future */
};

struct attempt {
	enum reflector_mode mode;
	struct http_result result;
	struct api_failure failure;
	bool garbled;		/* a stream that makes no sense */
	bool progress;		/* a watch brought an event or a bookmark */
	bool more_pages;	/* a page ended with a continue token */
	bool protobuf;		/* asked for, besides JSON */
	bool optional_selector; /* asked with a selector that older servers refuse */
	bool refusable;		/* a resource that older servers or roles lack */
	bool repeated;		/* by far not the first failure in a row */
	unsigned int silences;	/* watches without any event before this one */
	int64_t lived_ms;
};

enum next_step {
	NEXT_SAME, /* watch on, or list again in the same way */
	NEXT_PAGE,
	NEXT_WATCH,
	NEXT_LIST,   /* from the beginning */
	NEXT_ABSENT, /* take the list as empty, ask again much later */
};

enum next_pause {
	PAUSE_NONE,
	PAUSE_SOON, /* none for a first failure, then backoff */
	PAUSE_BACKOFF,
	PAUSE_LONG,
};

struct verdict {
	enum next_step step;
	enum next_pause pause;
	bool drop_version;  /* whatever we have seen, take what the server has */
	bool drop_selector; /* without the optional one */
	bool no_stream;	    /* list in pages */
	bool no_protobuf;   /* ask for JSON alone */
	bool fresh;	    /* the connection may be dead */
};

struct verdict reflector_judge(const struct attempt *attempt, const struct api_timing *timing);

#endif
