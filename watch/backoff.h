/*
 * When to ask the API server again: growing pauses after failures, and a limit
 * on the rate of requests. Time and chance are arguments.
 */
#ifndef WATCH_BACKOFF_H
#define WATCH_BACKOFF_H

#include <stdint.h>

struct backoff {
	int64_t initial_ms, max_ms;
	unsigned int failures; /* in a row */
};

/*
 * The pause after one more failure: twice as long each time, of which up to half is chance
 * (@random), at most @max_ms. Nodes that lost the same server do not come back in step.
 */
int64_t backoff_next_ms(struct backoff *b, uint64_t random);
void backoff_reset(struct backoff *b);

/* A token bucket: @qps tokens per second, @burst of them at most. */
struct throttle {
	double qps; /* negative: no limit */
	double burst;
	double tokens;
	int64_t last_us;
};

void throttle_init(struct throttle *t, double qps, int burst, int64_t now_us);
/* Takes a token, from the future if need be: how long to wait before using it. */
int64_t throttle_take_us(struct throttle *t, int64_t now_us);

/* A small generator for jitter (xorshift64*); *state must not be 0. */
uint64_t random_next(uint64_t *state);

#endif
