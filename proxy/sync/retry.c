#include "proxy/sync/retry.h"

#include <assert.h>

enum {
	FIRST_US = 100 * 1000, /* doubled up to syncPeriod */
	/* A failed sync has read the whole table, so changes that follow it closely wait. */
	CHANGE_LONGEST_US = 1000 * 1000,
	CHANGE_REST = 9,
	OWNED_LONGEST_US =
		5 * 1000 *
		1000, /* to see that another process let go of the table */
};

void retry_init(struct retry *r)
{
	*r = (struct retry){ .at_us = INT64_MAX };
}

void retry_later(struct retry *r, int64_t now_us, int64_t longest_us)
{
	int64_t pause = FIRST_US;
	unsigned int i;

	for (i = 0; i < r->failures && pause < longest_us; i++)
		pause *= 2;
	r->failures++;
	r->at_us = now_us + (pause < longest_us ? pause : longest_us);
	assert(r->at_us >= now_us);
}

void retry_failed(struct retry *r, int64_t now_us, int64_t took_us,
		  uint64_t changes, int64_t longest_us)
{
	int64_t pause;

	retry_later(r, now_us, longest_us);
	pause = r->at_us - now_us;
	if (pause > CHANGE_LONGEST_US)
		pause = CHANGE_LONGEST_US;
	if (pause < took_us * CHANGE_REST)
		pause = took_us * CHANGE_REST;
	r->earliest_us = now_us + pause;
	assert(r->earliest_us >= now_us);
	r->changes = changes;
}

void retry_locked_out(struct retry *r, int64_t now_us, uint64_t changes)
{
	retry_later(r, now_us, OWNED_LONGEST_US);
	r->earliest_us = r->at_us;
	r->changes = changes;
}

int64_t retry_due_us(const struct retry *r, uint64_t changes)
{
	if (!r->earliest_us)
		return 0;
	return r->changes == changes || r->at_us < r->earliest_us
		       ? r->at_us
		       : r->earliest_us;
}
