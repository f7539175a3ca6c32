#include "watch/patience.h"

#include <assert.h>

enum {
	LISTS_FORGIVEN = 2,
	REFUSALS_MAX = 5, /* in a row, until they are believed */
};

void patience_init(struct patience *p, const struct api_timing *timing, uint64_t seed)
{
	assert(seed); /* the generator would give nothing but 0 */
	assert(timing->watch_min_s <= timing->watch_max_s);
	*p = (struct patience){
		.timing = timing,
		.backoff = { timing->backoff_initial_ms, timing->backoff_max_ms, 0 },
		.random = seed,
	};
}

void patience_begin(struct patience *p, int64_t now_us)
{
	p->began_us = now_us;
	p->unreached = false;
}

void patience_answered(struct patience *p, int64_t now_us)
{
	p->began_us = now_us;
	p->hurried_us = 0;
}

unsigned int patience_watch_s(struct patience *p)
{
	const unsigned int min_s = p->timing->watch_min_s;

	assert(p->timing->watch_min_s <= p->timing->watch_max_s);
	return min_s + (unsigned int)(random_next(&p->random) %
				      (p->timing->watch_max_s - min_s + 1));
}

int64_t patience_lived_ms(const struct patience *p, int64_t now_us)
{
	return (now_us - p->began_us) / 1000;
}

bool patience_is_worn(const struct patience *p)
{
	return p->backoff.failures >= REFUSALS_MAX;
}

/*
 * A server that completes a list is well, whatever was before. But one whose
 * lists lead to watches that bring nothing and end in the next list must not be
 * asked for them in a loop. Two, since one may come just before the server goes
 * away.
 */
void patience_forgive(struct patience *p)
{
	if (p->lists < LISTS_FORGIVEN)
		backoff_reset(&p->backoff);
}

void patience_listed(struct patience *p)
{
	patience_forgive(p);
	p->lists++;
}

void patience_works(struct patience *p)
{
	p->lists = 0;
	backoff_reset(&p->backoff);
}

static int64_t pause_ms(struct patience *p, int64_t retry_ms, enum next_pause pause)
{
	const bool first = p->backoff.failures == 0;
	int64_t wait_ms = 0;

	if (pause == PAUSE_LONG)
		wait_ms = p->timing->absent_ms;
	else if (pause != PAUSE_NONE)
		wait_ms = backoff_next_ms(&p->backoff, random_next(&p->random));
	if (pause == PAUSE_SOON && first)
		wait_ms = 0;
	if (retry_ms > p->timing->retry_after_max_ms)
		retry_ms = p->timing->retry_after_max_ms;
	return retry_ms > wait_ms ? retry_ms : wait_ms;
}

/*
 * A server answers again: what is left of a pause that began without one is cut
 * down to chance. Where this does not help, not again before the longest pause is
 * over: a server that answers others and never us is not asked more often for it.
 */
static int64_t hurried_ms(struct patience *p, int64_t wait_ms, int64_t now_us)
{
	const int64_t soon_ms = (int64_t)(random_next(&p->random) %
					  (uint64_t)(p->timing->hurry_ms + 1));

	if (wait_ms <= soon_ms ||
	    (p->hurried_us &&
	     now_us - p->hurried_us < p->timing->backoff_max_ms * 1000))
		return wait_ms;
	p->hurried_us = now_us;
	return soon_ms;
}

int64_t patience_end(struct patience *p, const struct http_result *result,
		     enum next_pause pause, int64_t now_us)
{
	int64_t wait_ms = pause_ms(p, result->retry_after_ms, pause);

	p->unreached = result->outcome == HTTP_UNREACHED;
	/* Another call was answered while this one still tried. */
	if (p->unreached && p->answered_us > p->began_us)
		wait_ms = hurried_ms(p, wait_ms, now_us);
	assert(wait_ms >= 0);
	p->due_us = now_us + wait_ms * 1000;
	return wait_ms;
}

bool patience_server_answers(struct patience *p, int64_t now_us, int64_t *wait_ms)
{
	const int64_t left_ms = (p->due_us - now_us) / 1000;

	p->answered_us = now_us;
	if (!p->unreached)
		return false;
	*wait_ms = hurried_ms(p, left_ms, now_us);
	if (*wait_ms >= left_ms)
		return false;
	p->due_us = now_us + *wait_ms * 1000;
	return true;
}
