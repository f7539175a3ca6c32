/* Which endpoints count (section 5 of the semantics), and the order that they are kept in. */
#include "proxy/model/select.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SLICES = 4 };

#define HTTP "tcp:8080:http"

/* Slices are given without their first words, "a/s web". Lists come out as last bytes and ports. */
static const struct {
	const char *name;
	const char *slices[MAX_SLICES];
	const char *zone;
	const char *cluster, *local;
	bool dead;
	bool v6;
	const char *port;
	uint8_t protocol;
} cases[] = {
	{ .name = "EPS-11: no slices", .cluster = "", .local = "", .dead = true },
	{ .name = "EPS-4, EPS-7: ready by default",
	  .slices = { "v4 " HTTP " 10.0.0.1 10.0.0.2(local)" },
	  .cluster = "1:8080 2:8080L",
	  .local = "2:8080L" },
	{ .name = "EPS-9: local by node name alone",
	  .slices = { "v4 " HTTP " 192.168.7.1 127.0.0.1" },
	  .cluster = "1:8080 1:8080",
	  .local = "" },
	{ .name = "EPS-3: another name, protocol or no name",
	  .slices = { "v4 tcp:1:https udp:2:http tcp:3 10.0.0.1" },
	  .cluster = "",
	  .local = "",
	  .dead = true },
	{ .name = "EPS-3: an unnamed service port matches only the empty name",
	  .slices = { "v4 tcp:1 tcp:2:http 10.0.0.1" },
	  .cluster = "1:1",
	  .local = "",
	  .port = "" },
	{ .name = "EPS-3: the protocol tells ports of one name apart",
	  .slices = { "v4 tcp:1:http udp:2:http sctp:3:http 10.0.0.1" },
	  .cluster = "1:2",
	  .local = "",
	  .protocol = IPPROTO_UDP },
	{ .name = "EPS-2, DS-3: another family",
	  .slices = { "v4 " HTTP " 10.0.0.1", "v6 " HTTP " fd00::2(unready)" },
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "DS-3: families are judged apart",
	  .slices = { "v4 " HTTP " 10.0.0.1", "v6 " HTTP " fd00::2(unready)" },
	  .cluster = "",
	  .local = "",
	  .dead = true,
	  .v6 = true },
	{ .name = "EPS-5: slices with different numbers",
	  .slices = { "v4 tcp:8080:http 10.0.0.1",
		      "v4 tcp:9090:http 10.0.0.2 10.0.0.1" },
	  .cluster = "1:8080 1:9090 2:9090",
	  .local = "" },
	{ .name = "EPS-8: the union, keyed by address and port",
	  .slices = { "v4 " HTTP " 10.0.0.2 10.0.0.1",
		      "v4 " HTTP " 10.0.0.1 10.0.0.3" },
	  .cluster = "1:8080 2:8080 3:8080",
	  .local = "" },
	{ .name = "EPS-8: not terminating wins, seen first",
	  .slices = { "v4 " HTTP " 10.0.0.1",
		      "v4 " HTTP " 10.0.0.1(unready,terminating)" },
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "EPS-8: not terminating wins, seen last",
	  .slices = { "v4 " HTTP " 10.0.0.1(unready,terminating)",
		      "v4 " HTTP " 10.0.0.1" },
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "EPS-8: unready and not terminating beats a draining one",
	  .slices = { "v4 " HTTP " 10.0.0.1(unready,terminating)",
		      "v4 " HTTP " 10.0.0.1(unready)" },
	  .cluster = "",
	  .local = "",
	  .dead = true },

	{ .name = "SEL-1.3: all that are ready",
	  .slices = { "v4 " HTTP " 10.0.0.1 10.0.0.2(unready) 10.0.0.3" },
	  .cluster = "1:8080 3:8080",
	  .local = "" },
	{ .name = "SEL-1.4: none is ready: serving and terminating, hints aside",
	  .slices = { "v4 " HTTP " 10.0.0.1(unready,terminating,node) 10.0.0.2(unready,terminating,here)"
		      " 10.0.0.3(unready) 10.0.0.4(unready,unserving,terminating)" },
	  .cluster = "1:8080 2:8080",
	  .local = "" },
	{ .name = "SEL-5: ready counts even if terminating or not serving",
	  .slices = { "v4 " HTTP " 10.0.0.1(terminating) 10.0.0.2(unserving)"
		      " 10.0.0.3(unserving,terminating) 10.0.0.4(unready)" },
	  .cluster = "1:8080 2:8080 3:8080",
	  .local = "" },
	{ .name = "SEL-5: serving alone is never used",
	  .slices = { "v4 " HTTP " 10.0.0.1(unready,local)" },
	  .cluster = "",
	  .local = "",
	  .dead = true },
	{ .name = "SEL-1.1, EPS-12: node hints",
	  .slices = { "v4 " HTTP " 10.0.0.1(here) 10.0.0.2(node) 10.0.0.3(here)" },
	  .cluster = "1:8080 3:8080",
	  .local = "" },
	{ .name = "SEL-1.1: one ready endpoint without node hints",
	  .slices = { "v4 " HTTP " 10.0.0.1(here) 10.0.0.2 10.0.0.3(here)" },
	  .cluster = "1:8080 2:8080 3:8080",
	  .local = "" },
	{ .name = "SEL-1.1: nobody names this node",
	  .slices = { "v4 " HTTP " 10.0.0.1(node) 10.0.0.2(node)" },
	  .cluster = "1:8080 2:8080",
	  .local = "" },
	{ .name = "SEL-1: node hints come before zone hints",
	  .slices = { "v4 " HTTP " 10.0.0.1(here,zone:a) 10.0.0.2(node,zone:b)" },
	  .zone = "b",
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "SEL-1.2: node hints do not decide, zone hints do",
	  .slices = { "v4 " HTTP " 10.0.0.1(node,zone:a) 10.0.0.2(node,zone:b)" },
	  .zone = "b",
	  .cluster = "2:8080",
	  .local = "" },
	{ .name = "SEL-1.2, EPS-12: one of several zones",
	  .slices = { "v4 " HTTP
		      " 10.0.0.1(zone:a,zone:b,zone:c) 10.0.0.2(zone:c) 10.0.0.3(zone:b)" },
	  .zone = "b",
	  .cluster = "1:8080 3:8080",
	  .local = "" },
	{ .name = "SEL-1.2: a zone is no prefix",
	  .slices = { "v4 " HTTP " 10.0.0.1(zone:bb) 10.0.0.2(zone:b)" },
	  .zone = "b",
	  .cluster = "2:8080",
	  .local = "" },
	{ .name = "SEL-1.2: no zone known",
	  .slices = { "v4 " HTTP " 10.0.0.1(zone:a) 10.0.0.2(zone:b)" },
	  .cluster = "1:8080 2:8080",
	  .local = "" },
	{ .name = "SEL-1.2: nobody names this zone",
	  .slices = { "v4 " HTTP " 10.0.0.1(zone:a) 10.0.0.2(zone:b)" },
	  .zone = "c",
	  .cluster = "1:8080 2:8080",
	  .local = "" },
	{ .name = "SEL-1.2: one ready endpoint without zone hints",
	  .slices = { "v4 " HTTP " 10.0.0.1(zone:a) 10.0.0.2" },
	  .zone = "a",
	  .cluster = "1:8080 2:8080",
	  .local = "" },
	{ .name = "SEL-2: who is not ready does not demand hints",
	  .slices = { "v4 " HTTP
		      " 10.0.0.1(zone:a) 10.0.0.2(unready) 10.0.0.3(zone:b)" },
	  .zone = "a",
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "SEL-2: who is not ready does not satisfy hints",
	  .slices = { "v4 " HTTP " 10.0.0.1(zone:a,unready,terminating) 10.0.0.2(zone:b)"
		      " 10.0.0.3(here,unready,terminating)" },
	  .zone = "a",
	  .cluster = "2:8080",
	  .local = "" },
	{ .name = "SEL-3: hints of other ports",
	  .slices = { "v4 " HTTP " 10.0.0.1(zone:a) 10.0.0.2(zone:b)",
		      "v4 tcp:1:other 10.0.0.3" },
	  .zone = "a",
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "SEL-4: the local list, hints aside",
	  .slices = { "v4 " HTTP " 10.0.0.1(local,zone:b) 10.0.0.2(zone:a)" },
	  .zone = "a",
	  .cluster = "2:8080",
	  .local = "1:8080L" },
	{ .name = "SEL-4: local ones that drain, when none is ready",
	  .slices = { "v4 " HTTP " 10.0.0.1(local,unready,terminating) 10.0.0.2(local,unready)"
		      " 10.0.0.3" },
	  .cluster = "3:8080",
	  .local = "1:8080L" },
	{ .name = "SEL-4: none that drain, when one is ready",
	  .slices = { "v4 " HTTP
		      " 10.0.0.1(local,unready,terminating) 10.0.0.2(local)" },
	  .cluster = "2:8080L",
	  .local = "2:8080L" },
	{ .name = "SEL-7: lists fall back each on its own",
	  .slices = { "v4 " HTTP " 10.0.0.1(unready,terminating)"
		      " 10.0.0.2(local,unready,terminating)" },
	  .cluster = "1:8080 2:8080L",
	  .local = "2:8080L" },
	{ .name = "SEL-6: alive by one that drains on another node",
	  .slices = { "v4 " HTTP " 10.0.0.1(unready,terminating)" },
	  .cluster = "1:8080",
	  .local = "" },
	{ .name = "sorted by address, then port",
	  .slices = { "v4 tcp:9:http 10.0.0.3 10.0.0.1",
		      "v4 tcp:8:http 10.0.0.3 10.0.0.2" },
	  .cluster = "1:9 2:8 3:8 3:9",
	  .local = "" },
};

static void print_list(struct strbuf *sb, const struct endpoint_list *list, bool v6)
{
	struct endpoint ep;
	unsigned int i;

	for (i = 0; i < list->count; i++) {
		ep = endpoint_list_at(list, i);
		strbuf_addf(sb, "%s%u:%u%s", i ? " " : "",
			    ep.addr.bytes[v6 ? 15 : 3], ep.port,
			    ep.local ? "L" : "");
	}
	strbuf_addc(sb, '\n');
}

/* The chosen ones among all: the same two lists. */
static void print_fates(const struct select_query *query,
			const struct slice *const *slices, unsigned int n,
			struct arena *scratch, struct strbuf *out)
{
	const struct endpoint_fate *fates;
	struct endpoint *items;
	struct endpoint_list list;
	unsigned int count, i, n_items;
	struct addr addr;
	int local;

	ck_assert_int_eq(select_fates(query, slices, n, scratch, &fates, &count),
			 0);
	items = arena_array(scratch, count, sizeof(*items));
	for (local = 0; local < 2; local++) {
		n_items = 0;
		for (i = 0; i < count; i++) {
			addr = slice_endpoint(fates[i].slice, fates[i].index).addr;
			ck_assert(addr_compare(&fates[i].endpoint.addr, &addr) == 0);
			if (local ? fates[i].local : fates[i].cluster)
				items[n_items++] = fates[i].endpoint;
		}
		endpoint_list_pack(query->family, items, n_items, scratch, &list);
		print_list(out, &list, query->family == FAMILY_IPV6);
	}
}

static const struct {
	const char *name, *endpoints, *zone;
	enum endpoint_why why[3];
} whys[] = {
	{ "ready", "10.0.0.1 10.0.0.2(local)", "", { WHY_READY, WHY_READY } },
	{ "not ready", "10.0.0.1 10.0.0.2(unready)", "", { WHY_READY, WHY_NOT_READY } },
	{ "none ready", "10.0.0.1(unready)", "", { WHY_NOT_READY } },
	{ "draining beside a ready one",
	  "10.0.0.1 10.0.0.2(unready,terminating) 10.0.0.3(unready,unserving,terminating)",
	  "",
	  { WHY_READY, WHY_DRAINING_UNUSED, WHY_TERMINATING } },
	{ "draining only",
	  "10.0.0.1(unready,terminating) 10.0.0.2(unready)",
	  "",
	  { WHY_DRAINING, WHY_NOT_READY } },
	{ "hints of zones",
	  "10.0.0.1(zone:a) 10.0.0.2(zone:b)",
	  "a",
	  { WHY_READY, WHY_OTHER_ZONE_HINTS } },
	{ "hints of nodes",
	  "10.0.0.1(node) 10.0.0.2(here)",
	  "",
	  { WHY_OTHER_NODE_HINTS, WHY_READY } },
};

START_TEST(tells_why)
{
	const struct select_query query = {
		.family = FAMILY_IPV4,
		.port_name = "http",
		.protocol = IPPROTO_TCP,
		.zone = whys[_i].zone,
	};
	struct arena scratch = ARENA_INIT;
	struct strbuf text = STRBUF_INIT;
	const struct endpoint_fate *fates;
	unsigned int count, i;
	struct slice *slice;

	strbuf_addf(&text, "a/s web v4 " HTTP " %s", whys[_i].endpoints);
	slice = build_slice(text.text);
	ck_assert_int_eq(select_fates(&query, (const struct slice *const[]){ slice },
				      1, &scratch, &fates, &count),
			 0);
	ck_assert_uint_eq(count, slice->n_endpoints);
	for (i = 0; i < count; i++)
		ck_assert_msg(fates[i].why == whys[_i].why[i],
			      "%s: endpoint %u: want %d, got %d", whys[_i].name,
			      i + 1, (int)whys[_i].why[i], (int)fates[i].why);
	free(slice);
	strbuf_free(&text);
	arena_free(&scratch);
}
END_TEST

START_TEST(selects)
{
	const struct select_query query = {
		.family = cases[_i].v6 ? FAMILY_IPV6 : FAMILY_IPV4,
		.port_name = cases[_i].port ? cases[_i].port : "http",
		.protocol = cases[_i].protocol ? cases[_i].protocol : IPPROTO_TCP,
		.zone = cases[_i].zone ? cases[_i].zone : "",
	};
	struct arena scratch = ARENA_INIT;
	struct strbuf got = STRBUF_INIT, want = STRBUF_INIT, text = STRBUF_INIT;
	struct slice *slices[MAX_SLICES];
	struct selection selection;
	unsigned int n = 0;

	for (; n < MAX_SLICES && cases[_i].slices[n]; n++) {
		strbuf_reset(&text);
		strbuf_addf(&text, "a/s%u web %s", n, cases[_i].slices[n]);
		slices[n] = build_slice(text.text);
	}
	ck_assert_int_eq(select_endpoints(&query, (const struct slice *const *)slices,
					  n, &scratch, &selection),
			 0);
	print_list(&got, &selection.cluster, cases[_i].v6);
	print_list(&got, &selection.local, cases[_i].v6);
	strbuf_adds(&got, selection.alive ? "alive\n" : "dead\n");
	strbuf_addf(&want, "%s\n%s\n%s\n", cases[_i].cluster, cases[_i].local,
		    cases[_i].dead ? "dead" : "alive");
	check_text(cases[_i].name, got.text, want.text);
	strbuf_reset(&got);
	print_fates(&query, (const struct slice *const *)slices, n, &scratch, &got);
	strbuf_reset(&want);
	strbuf_addf(&want, "%s\n%s\n", cases[_i].cluster, cases[_i].local);
	check_text(cases[_i].name, got.text, want.text);
	while (n)
		free(slices[--n]);
	strbuf_free(&got);
	strbuf_free(&want);
	strbuf_free(&text);
	arena_free(&scratch);
}
END_TEST

/* Each letter is an endpoint. */
static const struct {
	const char *name, *applied, *wanted, *ordered;
} orders[] = {
	{ "from nothing", "", "abc", "abc" },
	{ "to nothing", "abc", "", "" },
	{ "nothing changes", "cab", "abc", "cab" },
	{ "one more goes to the end", "cab", "abcd", "cabd" },
	{ "one before all others goes to the end too", "cb", "abc", "cba" },
	{ "the last goes", "cab", "ac", "ca" },
	{ "the last moves into the hole", "cabd", "abd", "dab" },
	{ "one goes, one comes", "cab", "bcd", "cdb" },
	{ "two go, the last two move", "abcde", "bde", "dbe" },
	{ "two go, three come", "abcd", "bcxyz", "xbcyz" },
	{ "all are exchanged", "abc", "xyz", "xyz" },
	{ "found twice in the kernel", "aab", "ab", "ab" },
	{ "found twice, and one is new", "aabb", "abc", "acb" },
};

static struct endpoint_list packed(const struct endpoint *items, unsigned int n,
				   struct arena *scratch)
{
	struct endpoint_list list;

	ck_assert_int_eq(
		endpoint_list_pack(FAMILY_IPV4, items, n, scratch, &list), 0);
	return list;
}

static struct endpoint_list letters(const char *text, struct arena *scratch)
{
	struct endpoint items[8];
	unsigned int i;

	for (i = 0; text[i]; i++)
		items[i] = (struct endpoint){
			.addr = { { 10, 0, 0, (uint8_t)text[i] } }, .port = 1
		};
	return packed(items, i, scratch);
}

START_TEST(keeps_order)
{
	struct endpoint_list applied, wanted, ordered;
	struct arena scratch = ARENA_INIT;
	char got[9] = "";
	unsigned int i;

	applied = letters(orders[_i].applied, &scratch);
	wanted = letters(orders[_i].wanted, &scratch);
	ck_assert_int_eq(endpoints_order(FAMILY_IPV4, &applied, &wanted,
					 &scratch, &ordered),
			 0);
	for (i = 0; i < ordered.count; i++)
		got[i] = (char)endpoint_list_at(&ordered, i).addr.bytes[3];
	ck_assert_msg(strcmp(got, orders[_i].ordered) == 0, "%s: got %s, want %s",
		      orders[_i].name, got, orders[_i].ordered);
	arena_free(&scratch);
}
END_TEST

static unsigned int random_list(struct random *r, struct endpoint *items, bool sorted)
{
	unsigned int i, n = 0, j;

	for (i = 0; i < 40; i++)
		if (random_below(r, 2))
			items[n++] = (struct endpoint){ .addr = { { (uint8_t)i } },
							.port = 80 };
	for (i = 0; !sorted && i + 1 < n; i++) {
		struct endpoint swap = items[i];

		j = i + random_below(r, n - i);
		items[i] = items[j];
		items[j] = swap;
	}
	return n;
}

static bool holds(const struct endpoint_list *list, const struct endpoint *ep)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		if (endpoint_list_has_at(list, i, ep))
			return true;
	return false;
}

/*
 * What stays below the new length keeps its place, nothing is lost or twice, and no more places
 * change than must: those of endpoints that went, and those beyond the former end.
 */
START_TEST(order_is_least_change)
{
	struct random r = { random_seed("VIPMAP_SEED") };
	struct endpoint a[40], w[40], got;
	struct endpoint_list applied, wanted, ordered;
	struct arena scratch = ARENA_INIT;
	unsigned int round, i, j, wrong = 0;

	for (round = 0; round < 2000; round++) {
		applied = packed(a, random_list(&r, a, false), &scratch);
		wanted = packed(w, random_list(&r, w, true), &scratch);
		ck_assert_int_eq(endpoints_order(FAMILY_IPV4, &applied, &wanted,
						 &scratch, &ordered),
				 0);
		ck_assert_uint_eq(ordered.count, wanted.count);
		for (i = 0; i < ordered.count; i++) {
			got = endpoint_list_at(&ordered, i);
			wrong += !holds(&wanted, &got);
			for (j = 0; j < i; j++)
				wrong += endpoint_list_has_at(&ordered, j, &got);
			if (i < applied.count && holds(&wanted, &a[i]))
				wrong += !endpoint_list_has_at(&applied, i, &got);
		}
		ck_assert_msg(!wrong, "round %u: %u wrong", round, wrong);
		arena_reset(&scratch);
	}
	arena_free(&scratch);
}
END_TEST

/* The new description of an endpoint counts: it may have become a local one. */
START_TEST(order_takes_new_flags)
{
	struct endpoint a = { .port = 1 }, w = { .port = 1, .local = true };
	struct endpoint_list applied, wanted, ordered;
	struct arena scratch = ARENA_INIT;

	applied = packed(&a, 1, &scratch);
	wanted = packed(&w, 1, &scratch);
	ck_assert(!endpoint_list_equal(&applied, &wanted));
	ck_assert_int_eq(endpoints_order(FAMILY_IPV4, &applied, &wanted,
					 &scratch, &ordered),
			 0);
	ck_assert(endpoint_list_at(&ordered, 0).local);
	arena_free(&scratch);
}
END_TEST

/* What goes in comes out, in as few bytes as the family needs. */
START_TEST(lists_are_small)
{
	const enum family family = (enum family)_i;
	struct random r = { random_seed("VIPMAP_SEED") };
	struct endpoint items[100] = { 0 }, got[100];
	struct arena scratch = ARENA_INIT;
	struct endpoint_list list, other;
	unsigned int i, b;

	for (i = 0; i < N_ROWS(items); i++) {
		for (b = 0; b < family_size(family); b++)
			items[i].addr.bytes[b] = (uint8_t)random_below(&r, 256);
		items[i].port = (uint16_t)random_below(&r, 65536);
		items[i].local = random_below(&r, 2);
	}
	ck_assert_int_eq(endpoint_list_pack(family, items, N_ROWS(items),
					    &scratch, &list),
			 0);
	ck_assert_uint_eq(endpoint_list_size(&list),
			  N_ROWS(items) * (family_size(family) + 3));
	endpoint_list_unpack(&list, got);
	for (i = 0; i < N_ROWS(items); i++) {
		ck_assert(endpoint_compare(&got[i], &items[i]) == 0);
		ck_assert(got[i].local == items[i].local);
		ck_assert(endpoint_list_has_at(&list, i, &items[i]));
	}
	ck_assert(!endpoint_list_has_at(&list, i, &items[0]));
	ck_assert(endpoint_list_equal(&list, &list));
	items[50].local = !items[50].local;
	endpoint_list_pack(family, items, N_ROWS(items), &scratch, &other);
	ck_assert(!endpoint_list_equal(&list, &other));
	endpoint_list_pack(family, items, 50, &scratch, &other);
	ck_assert(!endpoint_list_equal(&list, &other));
	arena_free(&scratch);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("select");
	TCase *tc = tcase_create("select");

	ADD_LOOP(tc, selects, cases);
	ADD_LOOP(tc, tells_why, whys);
	ADD_LOOP(tc, keeps_order, orders);
	tcase_add_loop_test(tc, lists_are_small, 0, N_FAMILIES);
	tcase_add_test(tc, order_is_least_change);
	tcase_add_test(tc, order_takes_new_flags);
	suite_add_tcase(suite, tc);
	return suite;
}
