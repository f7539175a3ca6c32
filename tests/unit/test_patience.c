/* When a reflector asks again: with a clock of the test's own, so that hours take no time. */
#include "watch/patience.h"

#include <check.h>

#include "tests/support/suite.h"

#define S 1000000LL /* microseconds */

static const struct http_result unreached = { HTTP_UNREACHED, 0, -1, "no route" };

/* The defaults, as the program has them. */
static struct patience p;
static int64_t now_us;

static void fresh(void)
{
	patience_init(&p, &api_timing_defaults, 4711);
	now_us = 5000 * S;
}

/* A request that lasts for @lasts_us, with what its end leads to. */
static int64_t request(int64_t lasts_us, struct http_result result,
		       enum next_pause pause)
{
	patience_begin(&p, now_us);
	if (result.status)
		patience_answered(&p, now_us);
	now_us += lasts_us;
	return patience_end(&p, &result, pause, now_us);
}

static int64_t fails(void)
{
	int64_t wait_ms = request(1000, unreached, PAUSE_SOON);

	now_us += wait_ms * 1000;
	return wait_ms;
}

static void ck_between(int64_t got, int64_t low, int64_t high)
{
	ck_assert_msg(got >= low && got <= high, "want %lld to %lld, got %lld",
		      (long long)low, (long long)high, (long long)got);
}

/* API-8: at once, then 0.8 to 1.6 s more or less, twice as long each time, 30 s at most. */
START_TEST(reconnecting_backs_off)
{
	static const int64_t highest_ms[] = { 3200,  6400,  12800,
					      25600, 30000, 30000 };

	fresh();
	ck_assert_int_eq(fails(), 0);
	for (size_t i = 0; i < sizeof(highest_ms) / sizeof(highest_ms[0]); i++)
		ck_between(fails(), highest_ms[i] / 2, highest_ms[i]);
	for (int i = 0; i < 1000; i++)
		ck_between(fails(), 15000, 30000);
}
END_TEST

START_TEST(what_works_ends_the_row)
{
	fresh();
	for (int i = 0; i < 9; i++)
		fails();
	ck_assert(patience_is_worn(&p));
	patience_works(&p);
	ck_assert(!patience_is_worn(&p));
	ck_assert_int_eq(fails(), 0);
	ck_between(fails(), 1600, 3200);
}
END_TEST

/* API-9 */
static const struct {
	const char *name;
	int64_t retry_after_ms, low_ms, high_ms;
	unsigned int failures; /* before */
} rests[] = {
	{ "a second", 1000, 1000, 1600, 0 },
	{ "ten seconds", 10000, 10000, 10000, 0 },
	{ "a second, when it is backed off from anyway", 1000, 15000, 30000, 9 },
	{ "an hour, which nobody can ask for", 3600 * 1000, 120 * 1000,
	  120 * 1000, 0 },
	{ "not said", -1, 800, 1600, 0 },
};

START_TEST(rest_after_429)
{
	const struct http_result result = { HTTP_COMPLETE, 429,
					    rests[_i].retry_after_ms, "" };
	int64_t wait_ms;

	fresh();
	for (unsigned int i = 0; i < rests[_i].failures; i++)
		fails();
	wait_ms = request(S, result, PAUSE_BACKOFF);
	ck_assert_msg(wait_ms >= rests[_i].low_ms && wait_ms <= rests[_i].high_ms,
		      "%s: got %lld ms", rests[_i].name, (long long)wait_ms);
}
END_TEST

/* Five to ten minutes, and the next one begins at once. */
START_TEST(watches_are_renewed)
{
	const struct http_result ended = { HTTP_COMPLETE, 200, -1, "" };
	unsigned int lowest = 1000, highest = 0;

	fresh();
	for (int i = 0; i < 1000; i++) {
		const unsigned int s = patience_watch_s(&p);

		ck_between(s, 300, 600);
		lowest = s < lowest ? s : lowest;
		highest = s > highest ? s : highest;
		ck_assert_int_eq(request(s * S, ended, PAUSE_NONE), 0);
		ck_assert_int_eq(patience_lived_ms(&p, now_us), s * 1000LL);
	}
	ck_assert(lowest < 310 && highest > 590);
}
END_TEST

START_TEST(what_is_absent_is_asked_for_rarely)
{
	const struct http_result missing = { HTTP_COMPLETE, 404, -1, "" };

	fresh();
	ck_assert_int_eq(request(S, missing, PAUSE_LONG), 300 * 1000);
}
END_TEST

/* Lists that lead to watches which bring nothing are not asked for in a loop. */
START_TEST(lists_are_forgiven_twice)
{
	fresh();
	for (int i = 0; i < 2; i++) {
		fails();
		patience_listed(&p);
		ck_assert_int_eq(p.backoff.failures, 0);
	}
	fails();
	patience_listed(&p);
	ck_assert_int_eq(p.backoff.failures, 1);
	patience_works(&p);
	fails();
	patience_listed(&p);
	ck_assert_int_eq(p.backoff.failures, 0);
}
END_TEST

static void wait_long(void)
{
	fresh();
	for (int i = 0; i < 9; i++)
		fails();
	ck_between(request(1000, unreached, PAUSE_SOON), 15000, 30000);
}

START_TEST(an_answer_to_others_hurries)
{
	int64_t wait_ms = -1;

	wait_long();
	now_us += S;
	ck_assert(patience_server_answers(&p, now_us, &wait_ms));
	ck_between(wait_ms, 0, 800);
	ck_assert_int_eq(p.due_us, now_us + wait_ms * 1000);
}
END_TEST

START_TEST(an_answer_hurries_once_only)
{
	int64_t hurried_us, wait_ms;

	wait_long();
	hurried_us = now_us + S;
	ck_assert(patience_server_answers(&p, hurried_us, &wait_ms));
	now_us = hurried_us + wait_ms * 1000;
	request(1000, unreached, PAUSE_SOON); /* in vain */
	ck_assert(!patience_server_answers(&p, now_us + S, &wait_ms));
	now_us = hurried_us + 31 * S;
	request(1000, unreached, PAUSE_SOON);
	ck_assert(patience_server_answers(&p, now_us + S, &wait_ms));
}
END_TEST

START_TEST(an_answer_during_the_try_counts)
{
	int64_t wait_ms;

	fresh();
	for (int i = 0; i < 9; i++)
		fails();
	patience_begin(&p, now_us);
	now_us += S;
	ck_assert(!patience_server_answers(&p, now_us, &wait_ms)); /* nothing waits */
	now_us += S;
	ck_between(patience_end(&p, &unreached, PAUSE_SOON, now_us), 0, 800);
}
END_TEST

START_TEST(who_was_told_to_wait_is_not_hurried)
{
	const struct http_result busy = { HTTP_COMPLETE, 429, 20000, "" };
	int64_t wait_ms;

	fresh();
	request(S, busy, PAUSE_BACKOFF);
	ck_assert(!patience_server_answers(&p, now_us + S, &wait_ms));
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("patience");
	TCase *tc = tcase_create("patience");

	tcase_add_test(tc, reconnecting_backs_off);
	tcase_add_test(tc, what_works_ends_the_row);
	ADD_LOOP(tc, rest_after_429, rests);
	tcase_add_test(tc, watches_are_renewed);
	tcase_add_test(tc, what_is_absent_is_asked_for_rarely);
	tcase_add_test(tc, lists_are_forgiven_twice);
	tcase_add_test(tc, an_answer_to_others_hurries);
	tcase_add_test(tc, an_answer_hurries_once_only);
	tcase_add_test(tc, an_answer_during_the_try_counts);
	tcase_add_test(tc, who_was_told_to_wait_is_not_hurried);
	suite_add_tcase(suite, tc);
	return suite;
}
