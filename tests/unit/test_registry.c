/* What is shared in a table: counted, written once, and collected when it has been idle for long.
 */
#include "proxy/sync/registry.h"
#include "nft/readback.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* A writer that writes down. */
static const char *const changes[] = { "add", "update", "delete" };

static void on_table(void *ctx, enum change change, unsigned int parts)
{
	(void)parts;
	strbuf_addf(ctx, "%s table\n", changes[change]);
}

static void on_pick(void *ctx, enum change change, const struct verdict *pick)
{
	char name[PICK_NAME_SIZE];

	strbuf_addf(ctx, "%s %s\n", changes[change], pick_name(pick, name));
}

static void on_affinity(void *ctx, enum change change, const char *name,
			const char *comment)
{
	strbuf_addf(ctx, "%s %s%s%s\n", changes[change], name,
		    comment ? " # " : "", comment ? comment : "");
}

static void on_sticky(void *ctx, enum change change, const struct sticky_chain *chain)
{
	strbuf_addf(ctx, "%s %s\n", changes[change], chain->name);
}

static void on_ranges(void *ctx, enum change change, const char *set)
{
	strbuf_addf(ctx, "%s %s\n", changes[change], set);
}

static void on_element(void *ctx, enum change change,
		       const struct element *element, void *owner)
{
	(void)owner;
	strbuf_addf(ctx, "%s ", changes[change]);
	element_print(ctx, FAMILY_IPV4, element);
}

static void on_shared(void *ctx, enum change change, const struct element *element)
{
	on_element(ctx, change, element, NULL);
}

struct play {
	struct registry r;
	struct strbuf text;
	struct writer writer;
	struct ruleset ruleset;
};

static void play_begin(struct play *p)
{
	memset(p, 0, sizeof(*p));
	p->writer =
		(struct writer){ &p->text,  on_table,  on_pick,	  on_affinity,
				 on_sticky, on_ranges, on_element };
}

static void play_end(struct play *p)
{
	registry_free(&p->r);
	strbuf_free(&p->text);
}

/* What the wishes so far ask for; acknowledged if @applied. */
static void expect(struct play *p, const char *name, bool applied, const char *want)
{
	registry_write(&p->r, &p->writer, on_shared, &p->text);
	check_text(name, p->text.text, want);
	strbuf_reset(&p->text);
	if (applied)
		registry_applied(&p->r);
}

static const struct element cluster_ip = { .set = SET_CLUSTER_IPS,
					   .addr = { { 10, 96, 0, 1 } } };
static const struct element other_ip = { .set = SET_CLUSTER_IPS,
					 .addr = { { 10, 96, 0, 2 } } };
static const struct element hairpin = { .set = SET_HAIRPIN,
					.addr = { { 10, 96, 0, 1 } },
					.protocol = IPPROTO_TCP,
					.port = 80 };
static const struct element hairpin_udp = { .set = SET_HAIRPIN,
					    .addr = { { 10, 96, 0, 1 } },
					    .protocol = IPPROTO_UDP,
					    .port = 80 };
static const struct verdict pick2 = { VERDICT_PICK, PICK_CLUSTER, 2 };
static const struct verdict pick3 = { VERDICT_PICK, PICK_CLUSTER, 3 };
static const struct verdict sticky2 = { VERDICT_PICK,
					PICK_CLUSTER | PICK_STICKY, 2 };

START_TEST(shared_elements_are_counted)
{
	struct play p;

	play_begin(&p);
	ck_assert_int_eq(registry_want_shared(&p.r, &cluster_ip, 1), 0);
	expect(&p, "first", true, "add cluster-ips 10.96.0.1\n");
	registry_want_shared(&p.r, &cluster_ip, 1);
	expect(&p, "second", true, "");
	registry_want_shared(&p.r, &cluster_ip, -1);
	expect(&p, "one less", true, "");
	registry_want_shared(&p.r, &cluster_ip, -1);
	registry_want_shared(&p.r, &cluster_ip, 1);
	expect(&p, "to and fro", true, "");
	registry_want_shared(&p.r, &cluster_ip, -1);
	expect(&p, "nobody", true, "delete cluster-ips 10.96.0.1\n");
	ck_assert_uint_eq(p.r.entries.count, 0);
	expect(&p, "nothing", true, "");
	play_end(&p);
}
END_TEST

START_TEST(keys_are_told_apart)
{
	struct play p;

	play_begin(&p);
	registry_want_shared(&p.r, &cluster_ip, 1);
	registry_want_shared(&p.r, &other_ip, 1);
	registry_want_shared(&p.r, &hairpin, 1);
	registry_want_shared(&p.r, &hairpin_udp, 1);
	registry_want_pick(&p.r, &pick2, 1, 0);
	registry_want_pick(&p.r, &pick3, 1, 0);
	registry_want_pick(&p.r, &sticky2, 1, 0);
	ck_assert_uint_eq(p.r.entries.count, 7);
	registry_want_shared(&p.r, &hairpin, 1);
	registry_want_pick(&p.r, &sticky2, 1, 0);
	ck_assert_uint_eq(p.r.entries.count, 7);
	play_end(&p);
}
END_TEST

/* Not acknowledged, so it is asked for again. */
START_TEST(a_lost_transaction)
{
	struct play p;

	play_begin(&p);
	registry_want_shared(&p.r, &cluster_ip, 1);
	registry_want_pick(&p.r, &pick2, 1, 0);
	expect(&p, "lost", false,
	       "add cluster-pick-2\nadd cluster-ips 10.96.0.1\n");
	expect(&p, "again", true,
	       "add cluster-pick-2\nadd cluster-ips 10.96.0.1\n");
	expect(&p, "done", true, "");
	play_end(&p);
}
END_TEST

START_TEST(picks_idle_and_go)
{
	struct play p;

	play_begin(&p);
	registry_want_pick(&p.r, &pick2, 1, 100);
	expect(&p, "first", true, "add cluster-pick-2\n");
	registry_want_pick(&p.r, &pick2, 1, 200);
	registry_want_pick(&p.r, &pick2, -1, 300);
	expect(&p, "one left", true, "");
	ck_assert_uint_eq(p.r.n_idle, 0);
	registry_want_pick(&p.r, &pick2, -1, 400);
	expect(&p, "none left", true, "");
	ck_assert_uint_eq(p.r.n_idle, 1);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 399), 0);
	ck_assert_uint_eq(p.text.length, 0);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 400), 1);
	check_text("collect", p.text.text, "delete cluster-pick-2\n");
	strbuf_reset(&p.text);
	registry_collected(&p.r, false); /* the kernel would not */
	ck_assert_uint_eq(p.r.n_idle, 1);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 400), 1);
	registry_collected(&p.r, true);
	strbuf_reset(&p.text);
	ck_assert_uint_eq(p.r.n_idle, 0);
	ck_assert_uint_eq(p.r.entries.count, 0);
	registry_want_pick(&p.r, &pick2, 1, 500);
	expect(&p, "anew", true, "add cluster-pick-2\n");
	play_end(&p);
}
END_TEST

/* Made though nobody wants them; a number of those that are idle may stay. */
START_TEST(spare_picks)
{
	struct play p;

	play_begin(&p);
	registry_spare_pick(&p.r, &pick2, 1);
	expect(&p, "lost", false, "add cluster-pick-2\n");
	registry_want_pick(&p.r, &pick3, 1, 1);
	expect(&p, "both", true, "add cluster-pick-3\nadd cluster-pick-2\n");
	ck_assert_uint_eq(p.r.n_idle, 1);
	registry_spare_pick(&p.r, &pick2, 2);
	expect(&p, "it is there", true, "");
	registry_want_pick(&p.r, &pick2, 1, 3);
	expect(&p, "it is there for use", true, "");
	ck_assert_uint_eq(p.r.n_idle, 0);
	registry_want_pick(&p.r, &pick2, -1, 4);
	registry_want_pick(&p.r, &pick3, -1, 4);
	registry_want_map(&p.r, "affinity/d/w/tcp/", "d/w:", true, 4);
	expect(&p, "idle", true, "add affinity/d/w/tcp/ # d/w:\n");
	registry_want_map(&p.r, "affinity/d/w/tcp/", "d/w:", false, 4);
	expect(&p, "idle, too", true, "");
	ck_assert_uint_eq(registry_collectable(&p.r), 3);
	p.r.keep_picks = 1;
	ck_assert_uint_eq(registry_collectable(&p.r), 2);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 4), 2);
	registry_collected(&p.r, true);
	ck_assert_uint_eq(p.r.n_idle, 1);
	ck_assert_uint_eq(registry_collectable(&p.r), 0);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 4), 0);
	p.r.keep_picks = 0;
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 4), 1);
	registry_collected(&p.r, true);
	ck_assert_uint_eq(p.r.entries.count, 0);
	strbuf_reset(&p.text);
	play_end(&p);
}
END_TEST

/* What is asked for anew after a refusal is asked for from nothing. */
START_TEST(spare_picks_are_forgotten)
{
	struct play p;

	play_begin(&p);
	registry_spare_pick(&p.r, &pick2, 1);
	registry_unwant(&p.r);
	expect(&p, "unwanted", true, "");
	ck_assert_uint_eq(p.r.entries.count, 0);
	play_end(&p);
}
END_TEST

START_TEST(idle_ones_are_wanted_again)
{
	struct play p;

	play_begin(&p);
	registry_want_pick(&p.r, &pick2, 1, 0);
	expect(&p, "first", true, "add cluster-pick-2\n");
	registry_want_pick(&p.r, &pick2, -1, 1);
	expect(&p, "idle", true, "");
	registry_want_pick(&p.r, &pick2, 1, 2);
	expect(&p, "again", true, "");
	ck_assert_uint_eq(p.r.n_idle, 0);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, INT64_MAX), 0);
	play_end(&p);
}
END_TEST

START_TEST(what_was_found)
{
	struct play p;

	play_begin(&p);
	registry_found_pick(&p.r, &pick2, true, 0);
	registry_found_pick(&p.r, &pick3, false, 0);
	registry_found_map(&p.r, "affinity/d/w/tcp/", 0);
	registry_unwant(&p.r);
	registry_want_pick(&p.r, &pick2, 1, 1);
	registry_want_map(&p.r, "affinity/d/w/tcp/", "d/w", true, 1);
	registry_want_map(&p.r, "affinity/d/v/tcp/", "d/v", true, 1);
	registry_want_shared(&p.r, &cluster_ip, 1);
	/* what is damaged is mended, wanted or not: it may be wanted tomorrow */
	expect(&p, "found", true,
	       "add cluster-ips 10.96.0.1\nadd affinity/d/v/tcp/ # d/v\nupdate cluster-pick-3\n");
	ck_assert_uint_eq(p.r.n_idle, 1);
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 1), 1);
	check_text("collect", p.text.text, "delete cluster-pick-3\n");
	play_end(&p);
}
END_TEST

static struct sticky_chain chain_of(const char *name, uint32_t timeout_s)
{
	return (struct sticky_chain){
		.name = name,
		.map = "affinity/d/w/tcp/",
		.endpoint = { { 10, 0, 0, 1 } },
		.port = 80,
		.protocol = IPPROTO_TCP,
		.timeout_s = timeout_s,
	};
}

START_TEST(chains_by_digest)
{
	const struct sticky_chain chain =
		chain_of("sticky/d/w/tcp//10.0.0.1/80", 60);
	const struct sticky_chain longer =
		chain_of("sticky/d/w/tcp//10.0.0.1/80", 61);
	struct play p;

	play_begin(&p);
	registry_want_chain(&p.r, &chain, true, &p.ruleset, &p.writer, 0);
	expect(&p, "new", true, "add sticky/d/w/tcp//10.0.0.1/80\n");
	registry_want_chain(&p.r, &chain, true, &p.ruleset, &p.writer, 0);
	expect(&p, "the same", true, "");
	registry_want_chain(&p.r, &longer, true, &p.ruleset, &p.writer, 0);
	expect(&p, "another timeout", true, "update sticky/d/w/tcp//10.0.0.1/80\n");
	registry_want_chain(&p.r, &longer, false, &p.ruleset, &p.writer, 5);
	expect(&p, "not wanted", true, "");
	ck_assert_uint_eq(p.r.n_idle, 1);
	registry_want_chain(&p.r, &longer, true, &p.ruleset, &p.writer, 6);
	expect(&p, "wanted again", true, "");
	registry_want_chain(&p.r, &chain, false, &p.ruleset, NULL, 7);
	expect(&p, "not wanted, nothing to write to", true, "");
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 7), 1);
	check_text("collect", p.text.text, "delete sticky/d/w/tcp//10.0.0.1/80\n");
	play_end(&p);
}
END_TEST

START_TEST(chains_that_were_found)
{
	const struct sticky_chain good =
		chain_of("sticky/d/w/tcp//10.0.0.1/80", 60);
	const struct sticky_chain bad =
		chain_of("sticky/d/w/tcp//10.0.0.2/80", 60);
	struct play p;

	play_begin(&p);
	registry_found_chain(&p.r, good.name, sticky_digest(&p.ruleset, &good), 0);
	registry_found_chain(&p.r, bad.name, 0, 0); /* rules that are not ours */
	registry_found_chain(&p.r, "sticky/d/gone/tcp//10.0.0.3/80", 1, 0);
	registry_unwant(&p.r);
	registry_want_chain(&p.r, &good, true, &p.ruleset, &p.writer, 1);
	registry_want_chain(&p.r, &bad, true, &p.ruleset, &p.writer, 1);
	expect(&p, "found", true, "update sticky/d/w/tcp//10.0.0.2/80\n");
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 1), 1);
	check_text("collect", p.text.text,
		   "delete sticky/d/gone/tcp//10.0.0.3/80\n");
	play_end(&p);
}
END_TEST

static const struct prefix nets[] = { { { { 10 } }, 8 },
				      { { { 172, 16 } }, 12 },
				      { { { 192, 0, 2 } }, 24 },
				      { { { 203, 0, 113 } }, 24 } };
static const char of_web[] = "ranges/d/web";

/* LB-4: of a list that changes the difference is written, whoever of the ports says so first. */
START_TEST(ranges_by_difference)
{
	struct play p;

	play_begin(&p);
	registry_want_ranges(&p.r, of_web, nets, 3, 1, NULL, 0);
	registry_want_ranges(&p.r, of_web, nets, 3, 1, NULL, 0);
	expect(&p, "new", true,
	       "add ranges/d/web\nadd ranges/d/web 10.0.0.0/8\nadd ranges/d/web 172.16.0.0/12\n"
	       "add ranges/d/web 192.0.2.0/24\n");
	registry_want_ranges(&p.r, of_web, nets, 3, -1, NULL, 0);
	registry_want_ranges(&p.r, of_web, nets, 3, 1, NULL, 0);
	expect(&p, "a port is renamed", true, "");
	registry_want_ranges(&p.r, of_web, nets + 1, 3, 0, NULL, 0);
	registry_want_ranges(&p.r, of_web, nets + 1, 3, 0, NULL, 0);
	expect(&p, "lost", false,
	       "delete ranges/d/web 10.0.0.0/8\nadd ranges/d/web 203.0.113.0/24\n");
	expect(&p, "one goes and one comes", true,
	       "delete ranges/d/web 10.0.0.0/8\nadd ranges/d/web 203.0.113.0/24\n");
	registry_want_ranges(&p.r, of_web, nets, 4, 0, NULL, 0);
	registry_want_ranges(&p.r, of_web, nets + 1, 3, 0, NULL, 0);
	expect(&p, "to and fro", true, "");
	registry_want_ranges(&p.r, of_web, nets + 1, 3, -1, NULL, 0);
	expect(&p, "one port less", true, "");
	ck_assert_uint_eq(p.r.n_idle, 0);
	registry_want_ranges(&p.r, of_web, nets + 1, 3, -1, NULL, 5);
	expect(&p, "nobody", true, "");
	ck_assert_uint_eq(p.r.n_idle, 1);
	registry_want_ranges(&p.r, of_web, nets, 2, 1, NULL, 6);
	expect(&p, "back with others", true,
	       "add ranges/d/web 10.0.0.0/8\ndelete ranges/d/web 192.0.2.0/24\n"
	       "delete ranges/d/web 203.0.113.0/24\n");
	registry_want_ranges(&p.r, of_web, nets, 2, -1, NULL, 7);
	expect(&p, "nobody again", true, "");
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 7), 1);
	check_text("collect", p.text.text, "delete ranges/d/web\n");
	registry_collected(&p.r, true);
	ck_assert_uint_eq(p.r.entries.count, 0);
	play_end(&p);
}
END_TEST

START_TEST(ranges_that_were_found)
{
	struct play p;

	play_begin(&p);
	registry_found_ranges(&p.r, of_web, nets, 3, true, 0);
	registry_found_ranges(&p.r, "ranges/d/bad", nets, 1, false, 0);
	registry_found_ranges(&p.r, "ranges/d/gone", nets, 1, false, 0);
	registry_unwant(&p.r);
	registry_want_ranges(&p.r, of_web, nets, 2, 1, NULL, 1);
	registry_want_ranges(&p.r, "ranges/d/bad", nets, 1, 1, NULL, 1);
	expect(&p, "found, the chains of two damaged", true,
	       "update ranges/d/gone\nupdate ranges/d/bad\ndelete ranges/d/web 192.0.2.0/24\n");
	ck_assert_int_eq(registry_collect(&p.r, &p.writer, 1), 1);
	check_text("collect", p.text.text, "delete ranges/d/gone\n");
	play_end(&p);
}
END_TEST

/* Counting afresh, after a refusal: a chain that was asked for and did not come is asked for again.
 */
START_TEST(counts_afresh)
{
	const struct sticky_chain chain =
		chain_of("sticky/d/w/tcp//10.0.0.1/80", 60);
	struct play p;

	play_begin(&p);
	registry_want_pick(&p.r, &pick2, 1, 0);
	registry_want_shared(&p.r, &cluster_ip, 1);
	registry_want_chain(&p.r, &chain, true, &p.ruleset, &p.writer, 0);
	strbuf_reset(&p.text);
	registry_unwant(&p.r);
	expect(&p, "nobody wants anything", false, "");
	registry_unwant(&p.r);
	registry_want_shared(&p.r, &cluster_ip, 1);
	registry_want_chain(&p.r, &chain, true, &p.ruleset, &p.writer, 0);
	expect(&p, "afresh", true,
	       "add sticky/d/w/tcp//10.0.0.1/80\nadd cluster-ips 10.96.0.1\n");
	ck_assert_uint_eq(p.r.entries.count,
			  2); /* the pick chain was never there */
	play_end(&p);
}
END_TEST

START_TEST(usable_after_free)
{
	struct play p;

	play_begin(&p);
	registry_want_pick(&p.r, &pick2, 1, 0);
	registry_want_map(&p.r, "affinity/d/w/tcp/", "d/w", true, 0);
	registry_free(&p.r);
	registry_want_pick(&p.r, &pick2, 1, 0);
	expect(&p, "anew", true, "add cluster-pick-2\n");
	play_end(&p);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("registry");
	TCase *tc = tcase_create("registry");

	tcase_add_test(tc, shared_elements_are_counted);
	tcase_add_test(tc, keys_are_told_apart);
	tcase_add_test(tc, a_lost_transaction);
	tcase_add_test(tc, picks_idle_and_go);
	tcase_add_test(tc, idle_ones_are_wanted_again);
	tcase_add_test(tc, spare_picks);
	tcase_add_test(tc, spare_picks_are_forgotten);
	tcase_add_test(tc, what_was_found);
	tcase_add_test(tc, chains_by_digest);
	tcase_add_test(tc, chains_that_were_found);
	tcase_add_test(tc, ranges_by_difference);
	tcase_add_test(tc, ranges_that_were_found);
	tcase_add_test(tc, counts_afresh);
	tcase_add_test(tc, usable_after_free);
	suite_add_tcase(suite, tc);
	return suite;
}
