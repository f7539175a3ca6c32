/* Arithmetic on pauses only; whoever owns the loop sets the timers. */
#include "watch/backoff.h"

#include <assert.h>

int64_t backoff_next_ms(struct backoff *b, uint64_t random)
{
	int64_t low = b->initial_ms, high;

	for (unsigned int i = 0; i < b->failures && low < b->max_ms; i++)
		low *= 2;
	b->failures++;
	/* At the limit, too, a part is left to chance. */
	high = low * 2 < b->max_ms ? low * 2 : b->max_ms;
	if (low > high / 2)
		low = high / 2;
	assert(low >= 0 && low <= high && high <= b->max_ms);
	return low + (int64_t)(random % (uint64_t)(high - low + 1));
}

void backoff_reset(struct backoff *b)
{
	b->failures = 0;
}

void throttle_init(struct throttle *t, double qps, int burst, int64_t now_us)
{
	t->qps = qps;
	t->burst = burst > 1 ? burst : 1;
	t->tokens = t->burst;
	t->last_us = now_us;
}

int64_t throttle_take_us(struct throttle *t, int64_t now_us)
{
	if (t->qps <= 0)
		return 0;
	t->tokens += (double)(now_us - t->last_us) / 1e6 * t->qps;
	if (t->tokens > t->burst)
		t->tokens = t->burst;
	assert(t->burst >= 1);
	t->last_us = now_us;
	t->tokens -= 1;
	return t->tokens >= 0 ? 0 : (int64_t)(-t->tokens / t->qps * 1e6);
}

uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	assert(*state);
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545F4914F6CDD1Du;
}
