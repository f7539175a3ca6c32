/*
 * When a reflector asks again: how long it waits after a request has ended, and
 * what makes that shorter. Time is an argument, and nothing here sets a timer.
 */
#ifndef WATCH_PATIENCE_H
#define WATCH_PATIENCE_H

#include "watch/backoff.h"
#include "watch/reflector_judge.h"

struct patience {
	const struct api_timing *timing; /* borrowed */
	struct backoff backoff;
	uint64_t random;
	unsigned int lists; /* since a watch brought something */
	int64_t began_us;   /* of the request that runs, or of its answer */
	int64_t due_us;	    /* of the next request */
	bool unreached;	    /* it waits since no server could be reached */
	int64_t answered_us; /* when the last one answered somebody after such a time; 0: never */
	int64_t hurried_us; /* when that last shortened a pause, in vain so far; 0: never */
};

void patience_init(struct patience *p, const struct api_timing *timing,
		   uint64_t seed);

/* A request begins, and then its answer does. */
void patience_begin(struct patience *p, int64_t now_us);
void patience_answered(struct patience *p, int64_t now_us);

/* What a watch is to be asked for: they end at different times, not all nodes' at once. */
unsigned int patience_watch_s(struct patience *p);
int64_t patience_lived_ms(const struct patience *p, int64_t now_us);

/* By far not the first failure in a row. */
bool patience_is_worn(const struct patience *p);

/* A list is complete; a watch brought something; failures were not about what comes next. */
void patience_listed(struct patience *p);
void patience_works(struct patience *p);
void patience_forgive(struct patience *p);

/* The request has ended. Returns how long to wait until the next, in milliseconds. */
int64_t patience_end(struct patience *p, const struct http_result *result,
		     enum next_pause pause, int64_t now_us);

/*
 * Somebody was answered after no server could be reached. Whether the pause under
 * way, if there is one, gets shorter; *wait_ms is what is left of it then.
 */
bool patience_server_answers(struct patience *p, int64_t now_us, int64_t *wait_ms);

#endif
