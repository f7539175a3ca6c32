/*
 * The decision, apart from the doing: what a request was, how it ended, and
 * what follows. It has no state, and nothing but its arguments counts.
 */
#ifndef WATCH_REFLECTOR_JUDGE_H
#define WATCH_REFLECTOR_JUDGE_H

#include "watch/apiclient.h"

enum reflector_mode {
	MODE_STREAM, /* a watch that begins with all objects (sendInitialEvents) */
	MODE_PAGES, /* a list, in pages */
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
	bool refusable;	       /* a resource that older servers or roles lack */
	bool repeated;	       /* by far not the first failure in a row */
	unsigned int silences; /* watches without any event before this one */
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

struct decision {
	enum next_step step;
	enum next_pause pause;
	bool drop_version; /* whatever we have seen, take what the server has */
	bool drop_selector; /* without the optional one */
	bool no_stream;	    /* list in pages */
	bool no_protobuf;   /* ask for JSON alone */
	bool fresh;	    /* the connection may be dead */
};

struct decision reflector_judge(const struct attempt *attempt,
				const struct api_timing *timing);

/* The version that was asked for is not to be had any more, or not yet. */
bool failure_is_expired(const struct api_failure *failure);

#endif
