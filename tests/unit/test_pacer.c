/* RUN-3: at once after a quiet time, spaced by cost under load, minSyncPeriod honoured. */
#include "proxy/sync/pacer.h"

#include <check.h>
#include <stdlib.h>

#include "tests/support/suite.h"

enum { MS = 1000, S = 1000000 };

START_TEST(idle_is_at_once)
{
	struct pacer p;

	pacer_init(&p, 0, 5 * S);
	ck_assert_int_eq(pacer_delay_us(&p, 5 * S), 0);
	pacer_spent(&p, 5 * S + 1 * MS, 1 * MS);
	ck_assert_int_eq(pacer_delay_us(&p, 5 * S + 1 * MS), 0);
	pacer_spent(&p, 6 * S, 40 * MS);
	ck_assert_int_eq(pacer_delay_us(&p, 6 * S + 100 * MS), 0);
}
END_TEST

/* One costly sync is not made up for after a quiet time. */
START_TEST(debt_is_bounded)
{
	struct pacer p;

	pacer_init(&p, 0, 0);
	pacer_spent(&p, 2 * S, 2 * S);
	ck_assert_int_gt(pacer_delay_us(&p, 2 * S), 50 * MS);
	ck_assert_int_le(pacer_delay_us(&p, 2 * S), 100 * MS);
	ck_assert_int_eq(pacer_delay_us(&p, 2 * S + 100 * MS), 0);
}
END_TEST

/* By a second each: that may cost a pause of as much, and nothing else. */
START_TEST(clocks_that_go_back)
{
	struct pacer p;

	pacer_init(&p, 0, 5 * S);
	ck_assert_int_le(pacer_delay_us(&p, 4 * S), 1 * S);
	pacer_spent(&p, 4 * S, -1 * S);
	ck_assert_int_eq(pacer_delay_us(&p, 4 * S), 0);
}
END_TEST

static const struct {
	const char *name;
	int64_t min_period_us, cost_us, every_us; /* an event comes so often */
	double share_min, share_max;
	int64_t lag_max_us;
} loads[] = {
	{ "200 cheap changes per second are not held up", 0, 200, 5 * MS, 0.03,
	  0.05, 0 },
	{ "200 changes of 3 ms keep to a fifth of a core", 0, 3 * MS, 5 * MS,
	  0.10, 0.2, 100 * MS },
	{ "a flood of 1 ms each keeps to a fifth", 0, 1 * MS, 100, 0.10, 0.2,
	  100 * MS },
	{ "costly ones lag less than a tenth of a second", 0, 30 * MS, 1 * MS,
	  0.2, 0.35, 100 * MS },
	{ "minSyncPeriod of 1 s", 1 * S, 1 * MS, 5 * MS, 0.0, 0.002, 1100 * MS },
	{ "minSyncPeriod of 1 s, costly", 1 * S, 200 * MS, 5 * MS, 0.1, 0.2,
	  1300 * MS },
};

/* A clock that runs by events and timers: ten seconds of load. */
START_TEST(under_load)
{
	int64_t now = 0, due = INT64_MAX, next = 0, waiting = -1, busy = 0,
		lag = 0, delay;
	struct pacer p;

	pacer_init(&p, loads[_i].min_period_us, 0);
	while (now < 10 * S) {
		now = next < due ? next : due;
		if (now == next) {
			next += loads[_i].every_us;
			waiting = waiting < 0 ? now : waiting;
		}
		delay = pacer_delay_us(&p, now);
		if (delay > 0) {
			due = now + delay;
			continue;
		}
		due = INT64_MAX;
		lag = now - waiting > lag ? now - waiting : lag;
		waiting = -1;
		now += loads[_i].cost_us;
		busy += loads[_i].cost_us;
		pacer_spent(&p, now, loads[_i].cost_us);
		while (next < now)
			next += loads[_i].every_us;
	}
	ck_assert_msg(busy >= loads[_i].share_min * 10 * S &&
			      busy <= loads[_i].share_max * 10 * S,
		      "%s: a share of %.3f", loads[_i].name,
		      (double)busy / (10 * S));
	ck_assert_msg(lag <= loads[_i].lag_max_us, "%s: a lag of %lld us",
		      loads[_i].name, (long long)lag);
}
END_TEST

/* "no earlier than that after the end of the last" */
START_TEST(min_period_counts_from_the_end)
{
	struct pacer p;

	pacer_init(&p, 10 * S, 100 * S);
	ck_assert_int_eq(pacer_delay_us(&p, 100 * S), 0);
	pacer_spent(&p, 103 * S, 1 * MS);
	ck_assert_int_eq(pacer_delay_us(&p, 103 * S), 10 * S);
	ck_assert_int_eq(pacer_delay_us(&p, 112 * S), 1 * S);
	ck_assert_int_eq(pacer_delay_us(&p, 113 * S), 0);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("pacer");
	TCase *tc = tcase_create("pacer");

	tcase_add_test(tc, idle_is_at_once);
	tcase_add_test(tc, debt_is_bounded);
	tcase_add_test(tc, clocks_that_go_back);
	ADD_LOOP(tc, under_load, loads);
	tcase_add_test(tc, min_period_counts_from_the_end);
	suite_add_tcase(suite, tc);
	return suite;
}
