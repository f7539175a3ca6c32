/* Pauses and the rate limit: arithmetic, with time and chance given. */
#include "watch/backoff.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/suite.h"

/* The pause after the n-th failure lies between these. */
static const struct {
	unsigned int failures;
	int64_t low, high;
} pauses[] = {
	{ 0, 800, 1600 },    { 1, 1600, 3200 },	     { 2, 3200, 6400 },
	{ 3, 6400, 12800 },  { 4, 12800, 25600 },    { 5, 15000, 30000 },
	{ 6, 15000, 30000 }, { 1000, 15000, 30000 },
};

START_TEST(pause_grows_to_a_limit)
{
	uint64_t random = 1;

	for (int i = 0; i < 1000; i++) {
		struct backoff b = { 800, 30000, pauses[_i].failures };
		int64_t ms = backoff_next_ms(&b, random_next(&random));

		ck_assert_msg(ms >= pauses[_i].low && ms <= pauses[_i].high,
			      "failure %u: want %lld to %lld ms, got %lld",
			      pauses[_i].failures, (long long)pauses[_i].low,
			      (long long)pauses[_i].high, (long long)ms);
		ck_assert_uint_eq(b.failures, pauses[_i].failures + 1);
	}
}
END_TEST

START_TEST(pause_is_spread)
{
	uint64_t random = 7;
	int early = 0;

	for (int i = 0; i < 1000; i++) {
		struct backoff b = { 800, 30000, 9 };

		early += backoff_next_ms(&b, random_next(&random)) < 22500;
	}
	ck_assert_msg(early > 400 && early < 600,
		      "%d of 1000 in the earlier half", early);
}
END_TEST

START_TEST(reset_starts_over)
{
	struct backoff b = { 800, 30000, 4 };

	backoff_reset(&b);
	ck_assert_int_lt(backoff_next_ms(&b, 0), 1601);
}
END_TEST

static const struct {
	const char *name;
	double qps;
	int burst;
	size_t n;
	int64_t at_us[5], want_us[5];
} limits[] = {
	{ "no limit", -1, 1, 3, { 0, 0, 0 }, { 0, 0, 0 } },
	{ "burst, then spaced", 5, 3, 5, { 0, 0, 0, 0, 0 }, { 0, 0, 0, 200000, 400000 } },
	{ "refills", 5, 1, 4, { 0, 200000, 400000, 400000 }, { 0, 0, 0, 200000 } },
	{ "no more than the burst",
	  5,
	  2,
	  3,
	  { 60000000, 60000000, 60000000 },
	  { 0, 0, 200000 } },
	{ "half a token", 2, 1, 2, { 0, 250000 }, { 0, 250000 } },
};

START_TEST(throttle_spaces_requests)
{
	struct throttle t;

	throttle_init(&t, limits[_i].qps, limits[_i].burst, 0);
	for (size_t i = 0; i < limits[_i].n; i++) {
		int64_t got = throttle_take_us(&t, limits[_i].at_us[i]);

		ck_assert_msg(llabs(got - limits[_i].want_us[i]) < 10,
			      "%s: request %zu: want %lld us, got %lld",
			      limits[_i].name, i,
			      (long long)limits[_i].want_us[i], (long long)got);
	}
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("backoff");
	TCase *tcase = tcase_create("backoff");

	ADD_LOOP(tcase, pause_grows_to_a_limit, pauses);
	tcase_add_test(tcase, pause_is_spread);
	tcase_add_test(tcase, reset_starts_over);
	ADD_LOOP(tcase, throttle_spaces_requests, limits);
	suite_add_tcase(suite, tcase);
	return suite;
}
