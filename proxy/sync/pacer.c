/*
 * A bucket of processor time, refilled at a share of one core. Sparse events
 * always find credit and are committed at once; a storm is spaced so that the
 * share is kept, but never by more than WAIT_MAX_US, since a stale dataplane
 * costs our users more than our share costs them.
 */
#include "proxy/sync/pacer.h"

#include <assert.h>

enum {
	SHARE_PERCENT =
		12, /* of one core; reading 200 events a second takes another 6.5 */
	CREDIT_MAX_US = 100000, /* a burst of tens of syncs */
	WAIT_MAX_US = 80 * 1000, /* so that lag stays below a tenth of a second */
};

void pacer_init(struct pacer *p, int64_t min_period_us, int64_t now_us)
{
	assert(min_period_us >= 0);
	p->min_period_us = min_period_us;
	p->credit_us = CREDIT_MAX_US;
	p->updated_us = now_us;
	p->ended_us = now_us - min_period_us;
}

void pacer_set_min_period(struct pacer *p, int64_t min_period_us)
{
	assert(min_period_us >= 0);
	p->min_period_us = min_period_us;
}

/* Time too short for a whole microsecond of credit is left for the next call,
 * or many calls get none. */
static void refill_credit(struct pacer *p, int64_t now_us)
{
	const int64_t gained = (now_us - p->updated_us) * SHARE_PERCENT / 100;

	p->credit_us += gained;
	p->updated_us += gained * 100 / SHARE_PERCENT;
	if (p->credit_us < CREDIT_MAX_US)
		return;
	p->credit_us = CREDIT_MAX_US;
	p->updated_us = now_us;
}

int64_t pacer_delay_us(struct pacer *p, int64_t now_us)
{
	int64_t period = p->ended_us + p->min_period_us - now_us, wait = 0;

	refill_credit(p, now_us);
	if (p->credit_us < 0)
		wait = (-p->credit_us * 100 + SHARE_PERCENT - 1) / SHARE_PERCENT;
	if (wait > WAIT_MAX_US)
		wait = WAIT_MAX_US;
	assert(wait >= 0);
	return period > wait ? period : wait;
}

void pacer_spent(struct pacer *p, int64_t now_us, int64_t cost_us)
{
	const int64_t debt_max = (int64_t)WAIT_MAX_US * SHARE_PERCENT / 100;

	refill_credit(p, now_us);
	p->credit_us -= cost_us;
	if (p->credit_us < -debt_max)
		p->credit_us = -debt_max;
	p->ended_us = now_us;
}
