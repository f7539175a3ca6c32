/* The kernel's elements, to be compared with what should be there. */
#include "proxy/sync/snapshot.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An element with everything in it, whether its set has that or not. */
static struct element whole(enum set_id set)
{
	return (struct element){
		.set = set,
		.addr = { { 10, 96, 0, 1 } },
		.range = { { { 192, 0, 2 } }, 24 },
		.protocol = IPPROTO_TCP,
		.port = 80,
		.index = 1,
		.verdict = { VERDICT_PICK, PICK_CLUSTER, 3 },
		.endpoint = { { 10, 0, 0, 1 } },
		.endpoint_port = 8080,
		.chain = "sticky/d/w/tcp//10.0.0.1/80",
		.comment = "d/w:http",
	};
}

static void change_addr(struct element *e)
{
	e->addr.bytes[3]++;
}
static void change_last_byte(struct element *e)
{
	e->addr.bytes[15]++;
}
static void change_protocol(struct element *e)
{
	e->protocol = IPPROTO_UDP;
}
static void change_port(struct element *e)
{
	e->port++;
}
static void change_index(struct element *e)
{
	e->index++;
}
static void change_range(struct element *e)
{
	e->range.addr.bytes[0]++;
}
static void change_length(struct element *e)
{
	e->range.length++;
}
static void change_kind(struct element *e)
{
	e->verdict.kind = VERDICT_DROP;
}
static void change_pick(struct element *e)
{
	e->verdict.pick ^= PICK_LOCAL;
}
static void change_count(struct element *e)
{
	e->verdict.count++;
}
static void change_endpoint(struct element *e)
{
	e->endpoint.bytes[3]++;
}
static void change_endpoint_port(struct element *e)
{
	e->endpoint_port++;
}
static void change_chain(struct element *e)
{
	e->chain = "sticky/d/w/tcp//10.0.0.2/80";
}
static void drop_chain(struct element *e)
{
	e->chain = NULL;
}
static void change_comment(struct element *e)
{
	e->comment = "d/w:https";
}
static void drop_comment(struct element *e)
{
	e->comment = NULL;
}
static void change_set(struct element *e)
{
	e->set = MAP_NODEPORT_ENDPOINTS;
}
static void nothing(struct element *e)
{
	(void)e;
}

static const struct {
	const char *name;
	void (*change)(struct element *e);
	enum snapshot_match plain, ranged;
} fields[] = {
	{ "nothing", nothing, SNAPSHOT_SAME, SNAPSHOT_SAME },
	{ "address", change_addr, SNAPSHOT_MISSING, SNAPSHOT_MISSING },
	{ "last byte of the address", change_last_byte, SNAPSHOT_MISSING,
	  SNAPSHOT_MISSING },
	{ "protocol", change_protocol, SNAPSHOT_MISSING, SNAPSHOT_MISSING },
	{ "port", change_port, SNAPSHOT_MISSING, SNAPSHOT_MISSING },
	{ "index", change_index, SNAPSHOT_MISSING, SNAPSHOT_MISSING },
	{ "set", change_set, SNAPSHOT_MISSING, SNAPSHOT_MISSING },
	{ "range", change_range, SNAPSHOT_SAME, SNAPSHOT_MISSING },
	{ "length of the range", change_length, SNAPSHOT_SAME, SNAPSHOT_MISSING },
	{ "kind of verdict", change_kind, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
	{ "pick flags", change_pick, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
	{ "count", change_count, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
	{ "endpoint", change_endpoint, SNAPSHOT_DIFFERS, SNAPSHOT_SAME },
	{ "endpoint's port", change_endpoint_port, SNAPSHOT_DIFFERS,
	  SNAPSHOT_DIFFERS },
	{ "chain", change_chain, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
	{ "no chain", drop_chain, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
	{ "comment", change_comment, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
	{ "no comment", drop_comment, SNAPSHOT_DIFFERS, SNAPSHOT_DIFFERS },
};

static void try_field(enum set_id set, void (*change)(struct element *e),
		      enum snapshot_match want, const char *name)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct element el = whole(set);
	enum snapshot_match got;

	snapshot_add(s, &el);
	change(&el);
	got = snapshot_match(s, &el);
	ck_assert_msg(got == want, "%s: %s: got %d, want %d", set_name(set),
		      name, got, want);
	ck_assert_int_eq(snapshot_error(s), 0);
	snapshot_free(s);
}

static void count_one(void *ctx, const struct element *element)
{
	unsigned int *n = ctx;

	(void)element;
	++*n;
}

/* All, whatever has been matched. */
static unsigned int count_elements(struct snapshot *s)
{
	unsigned int n = 0;

	snapshot_unsee(s);
	snapshot_each_unseen(s, count_one, &n);
	return n;
}

START_TEST(matches)
{
	try_field(MAP_ENDPOINTS, fields[_i].change, fields[_i].plain,
		  fields[_i].name);
	try_field(SET_SERVICE_CIDRS, fields[_i].change, fields[_i].ranged,
		  fields[_i].name);
}
END_TEST

/* Where the kernel's element has no chain and no comment, ours with one differs. */
START_TEST(matches_without)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct element el = whole(MAP_SERVICE_IPS);

	el.chain = el.comment = NULL;
	snapshot_add(s, &el);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	el.comment = "";
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_DIFFERS);
	el.comment = NULL;
	el.chain = "sticky/x";
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_DIFFERS);
	snapshot_free(s);
}
END_TEST

static void collect(void *ctx, const struct element *el)
{
	element_print(ctx, FAMILY_IPV4, el);
}

static struct element cluster_ip(unsigned int i)
{
	return (struct element){ .set = SET_CLUSTER_IPS,
				 .addr = { { 10, 96, 0, (uint8_t)i } } };
}

START_TEST(unseen)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct strbuf sb = STRBUF_INIT;
	struct element el;
	unsigned int i;

	for (i = 1; i < 5; i++) {
		el = cluster_ip(i);
		snapshot_add(s, &el);
	}
	el = cluster_ip(2);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	el = cluster_ip(9);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_MISSING);
	snapshot_each_unseen(s, collect, &sb);
	check_text("but one", sb.text,
		   "cluster-ips 10.96.0.1\ncluster-ips 10.96.0.3\ncluster-ips 10.96.0.4\n");
	strbuf_reset(&sb);
	snapshot_unsee(s);
	snapshot_each_unseen(s, collect, &sb);
	check_text("all", sb.text,
		   "cluster-ips 10.96.0.1\ncluster-ips 10.96.0.2\ncluster-ips 10.96.0.3\n"
		   "cluster-ips 10.96.0.4\n");
	snapshot_clear(s);
	strbuf_reset(&sb);
	snapshot_each_unseen(s, collect, &sb);
	check_text("none", sb.text, "");
	el = cluster_ip(2);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_MISSING);
	snapshot_add(s, &el);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	strbuf_free(&sb);
	snapshot_free(s);
}
END_TEST

/* What is unseen can be deleted with what is said of it: all parts of keys are there. */
START_TEST(unseen_has_its_key)
{
	static const enum set_id sets[] = { SET_HAIRPIN, SET_SERVICE_CIDRS,
					    MAP_ENDPOINTS, MAP_STICKY_ENDPOINTS,
					    MAP_SERVICE_NODEPORTS };
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct strbuf got = STRBUF_INIT, want = STRBUF_INIT;
	struct element el = whole(sets[_i]);

	if (!set_has_index(sets[_i]))
		el.index = 0;
	if (sets[_i] != SET_SERVICE_CIDRS)
		memset(&el.range, 0, sizeof(el.range));
	snapshot_add(s, &el);
	snapshot_each_unseen(s, collect, &got);
	el.comment = NULL;
	element_print(&want, FAMILY_IPV4, &el);
	check_text(set_name(sets[_i]), got.text, want.text);
	strbuf_free(&got);
	strbuf_free(&want);
	snapshot_free(s);
}
END_TEST

/* A dump that brings an element twice leaves no second one to be deleted. */
START_TEST(twice)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct strbuf sb = STRBUF_INIT;
	struct element el = whole(MAP_ENDPOINTS);

	snapshot_add(s, &el);
	el.endpoint_port++;
	snapshot_add(s, &el);
	ck_assert_uint_eq(count_elements(s), 1);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	snapshot_each_unseen(s, collect, &sb);
	ck_assert_uint_eq(sb.length, 0);
	strbuf_free(&sb);
	snapshot_free(s);
}
END_TEST

/* An endpoint of a list as we write it. */
static struct element plain(uint32_t index)
{
	return (struct element){
		.set = MAP_ENDPOINTS,
		.addr = { { 10, 96, 0, 1 } },
		.protocol = IPPROTO_TCP,
		.port = 80,
		.index = index,
		.endpoint = { { 10, 0, (uint8_t)(index >> 8), (uint8_t)index } },
		.endpoint_port = 8080,
	};
}

static const struct {
	const char *name;
	void (*change)(struct element *e);
	enum snapshot_match want;
} plain_fields[] = {
	{ "nothing", nothing, SNAPSHOT_SAME },
	{ "address", change_addr, SNAPSHOT_MISSING },
	{ "last byte of the address", change_last_byte, SNAPSHOT_MISSING },
	{ "protocol", change_protocol, SNAPSHOT_MISSING },
	{ "port", change_port, SNAPSHOT_MISSING },
	{ "index", change_index, SNAPSHOT_MISSING },
	{ "set", change_set, SNAPSHOT_MISSING },
	{ "kind of verdict", change_kind, SNAPSHOT_DIFFERS },
	{ "endpoint", change_endpoint, SNAPSHOT_DIFFERS },
	{ "endpoint's port", change_endpoint_port, SNAPSHOT_DIFFERS },
	{ "chain", change_chain, SNAPSHOT_DIFFERS },
	{ "comment", change_comment, SNAPSHOT_DIFFERS },
};

START_TEST(matches_plain)
{
	const enum family family = _i % 2 ? FAMILY_IPV6 : FAMILY_IPV4;
	struct snapshot *s = snapshot_new(family);
	struct element el = plain(0);
	enum snapshot_match got;

	snapshot_add(s, &el);
	plain_fields[_i / 2].change(&el);
	got = snapshot_match(s, &el);
	ck_assert_msg(got == plain_fields[_i / 2].want, "%s: got %d, want %d",
		      plain_fields[_i / 2].name, got, plain_fields[_i / 2].want);
	ck_assert_int_eq(snapshot_error(s), 0);
	snapshot_free(s);
}
END_TEST

/* All bytes of an IPv6 endpoint count. */
START_TEST(matches_last_byte)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV6);
	struct element el = plain(0);

	snapshot_add(s, &el);
	el.endpoint.bytes[15] = 1;
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_DIFFERS);
	snapshot_add(s, &el);
	ck_assert_uint_eq(count_elements(s), 1);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	snapshot_free(s);
}
END_TEST

static void expect_unseen(struct snapshot *s, const char *name,
			  const uint32_t *indices, unsigned int n)
{
	struct strbuf got = STRBUF_INIT, want = STRBUF_INIT;
	struct element el;
	unsigned int i;

	snapshot_each_unseen(s, collect, &got);
	for (i = 0; i < n; i++) {
		el = plain(indices[i]);
		element_print(&want, FAMILY_IPV4, &el);
	}
	check_text(name, got.text, want.text);
	strbuf_free(&got);
	strbuf_free(&want);
}

/* Of a list with holes, what was not looked for is told, index by index, and nothing else. */
START_TEST(unseen_endpoints)
{
	static const uint32_t there[] = { 0, 7, 8, 15, 16, 4000000000u };
	static const uint32_t odd[] = { 7, 15, 4000000000u };
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct element el;
	unsigned int i;

	for (i = 0; i < N_ROWS(there); i++) {
		el = plain(there[i]);
		snapshot_add(s, &el);
	}
	expect_unseen(s, "all", there, N_ROWS(there));
	el = plain(1);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_MISSING);
	el = plain(17);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_MISSING);
	for (i = 0; i < N_ROWS(there); i += 2) {
		el = plain(there[i]);
		ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	}
	expect_unseen(s, "odd places", odd, N_ROWS(odd));
	snapshot_unsee(s);
	expect_unseen(s, "all again", there, N_ROWS(there));
	snapshot_clear(s);
	ck_assert_uint_eq(count_elements(s), 0);
	el = plain(7);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_MISSING);
	snapshot_add(s, &el);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	snapshot_free(s);
}
END_TEST

/* Many, of keys that differ in one part only: found at once, and none for another. */
static const char *const parts[] = { "address",	   "port",
				     "index",	   "node port",
				     "range",	   "plain address",
				     "plain port", "plain index" };

static struct element numbered(int part, unsigned int i)
{
	struct element el = part < 5 ? whole(MAP_ENDPOINTS) : plain(1);

	if (part >= 5)
		part -= 5;
	if (part == 0) {
		el.addr.bytes[1] = (uint8_t)(i >> 16);
		el.addr.bytes[2] = (uint8_t)(i >> 8);
		el.addr.bytes[3] = (uint8_t)i;
	} else if (part == 1) {
		el.port = (uint16_t)i;
	} else if (part == 2) {
		el.index = i;
	} else if (part == 3) {
		el = (struct element){ .set = MAP_SERVICE_NODEPORTS,
				       .protocol = IPPROTO_TCP,
				       .port = (uint16_t)i };
	} else {
		el.set = SET_SERVICE_CIDRS;
		el.range.addr.bytes[1] = (uint8_t)(i >> 8);
		el.range.addr.bytes[2] = (uint8_t)i;
	}
	return el;
}

START_TEST(many)
{
	enum { N = 30000 };
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	unsigned int i, wrong = 0;
	struct element el;

	for (i = 0; i < N; i++) {
		el = numbered(_i, i);
		snapshot_add(s, &el);
	}
	ck_assert_uint_eq(count_elements(s), N);
	for (i = 0; i < N; i++) {
		el = numbered(_i, i);
		wrong += snapshot_match(s, &el) != SNAPSHOT_SAME;
		el = numbered(_i, N + i);
		wrong += snapshot_match(s, &el) != SNAPSHOT_MISSING;
	}
	ck_assert_msg(!wrong, "%s: %u wrong", parts[_i], wrong);
	snapshot_free(s);
}
END_TEST

/* The kernel's order of endpoints. */

static void add_endpoint(struct snapshot *s, enum set_id set, const char *vip,
			 uint32_t index, const char *endpoint)
{
	struct element el = {
		.set = set,
		.addr = vip ? build_addr(vip) : (struct addr){ { 0 } },
		.protocol = IPPROTO_TCP,
		.port = vip ? 80 : 30080,
		.index = index,
	};

	if (set_has_verdict(set)) {
		el.verdict.kind = VERDICT_STICKY;
		el.chain = endpoint;
	} else {
		el.endpoint = build_addr(endpoint);
		el.endpoint_port = 8080;
	}
	snapshot_add(s, &el);
}

static void order_text(const struct endpoint_list *list, struct strbuf *sb)
{
	char text[ADDR_TEXT_SIZE];
	struct endpoint ep;
	unsigned int i;

	for (i = 0; i < list->count; i++) {
		ep = endpoint_list_at(list, i);
		strbuf_addf(sb, "%s%s:%u", i ? " " : "",
			    addr_format(FAMILY_IPV4, &ep.addr, text), ep.port);
	}
	strbuf_addc(sb, '\n');
}

static void check_order(struct snapshot *s, const char *name, const char *want)
{
	const struct vip vips[] = {
		{ .port = 30080, .role = VIP_NODE_PORT },
		{ .addr = build_addr("10.96.0.1"), .port = 80, .role = VIP_CLUSTER_IP },
		{ .addr = build_addr("203.0.113.1"),
		  .port = 80,
		  .role = VIP_EXTERNAL_IP },
	};
	struct arena scratch = ARENA_INIT;
	struct strbuf got = STRBUF_INIT;
	struct kernel_order order;

	ck_assert_int_eq(
		snapshot_order(s, vips, 3, IPPROTO_TCP, &scratch, &order), 0);
	order_text(&order.cluster, &got);
	order_text(&order.local, &got);
	check_text(name, got.text, want);
	strbuf_free(&got);
	arena_free(&scratch);
}

START_TEST(orders)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);

	check_order(s, "nothing", "\n\n");
	add_endpoint(s, MAP_ENDPOINTS, "10.96.0.9", 0, "10.0.0.9"); /* another's */
	add_endpoint(s, MAP_ENDPOINTS, "203.0.113.1", 1, "10.0.0.1");
	check_order(s, "it does not begin with 0", "\n\n");
	add_endpoint(s, MAP_ENDPOINTS, "203.0.113.1", 0, "10.0.0.2");
	add_endpoint(s, MAP_ENDPOINTS, "203.0.113.1", 3, "10.0.0.3");
	check_order(s, "up to a hole", "10.0.0.2:8080 10.0.0.1:8080\n\n");
	add_endpoint(s, MAP_ENDPOINTS, "10.96.0.1", 0, "10.0.0.4");
	add_endpoint(s, MAP_LOCAL_ENDPOINTS, "203.0.113.1", 0, "10.0.0.5");
	check_order(s, "the first VIP that has a list",
		    "10.0.0.4:8080\n10.0.0.5:8080\n");
	add_endpoint(s, MAP_NODEPORT_ENDPOINTS, NULL, 0, "10.0.0.6");
	check_order(s, "a node port", "10.0.0.6:8080\n10.0.0.5:8080\n");
	snapshot_free(s);
}
END_TEST

/* Somebody's endpoint with a comment among ours: it differs, and has its place in the order. */
START_TEST(foreign_endpoint)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);
	struct strbuf sb = STRBUF_INIT;
	struct element el;
	uint32_t i;

	for (i = 0; i < 3; i++) {
		el = plain(i);
		el.comment = i == 1 ? "mine" : NULL;
		snapshot_add(s, &el);
	}
	check_order(s, "order", "10.0.0.0:8080 10.0.0.1:8080 10.0.0.2:8080\n\n");
	snapshot_each_unseen(s, collect, &sb);
	ck_assert_ptr_nonnull(strstr(sb.text, "10.0.0.1"));
	el = plain(1);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_DIFFERS);
	el = plain(0);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	el = plain(2);
	ck_assert_int_eq(snapshot_match(s, &el), SNAPSHOT_SAME);
	strbuf_reset(&sb);
	snapshot_each_unseen(s, collect, &sb);
	ck_assert_uint_eq(sb.length, 0);
	strbuf_free(&sb);
	snapshot_free(s);
}
END_TEST

/* Session affinity, and what cannot be a chain of ours. */
START_TEST(orders_by_chains)
{
	struct snapshot *s = snapshot_new(FAMILY_IPV4);

	add_endpoint(s, MAP_STICKY_ENDPOINTS, "10.96.0.1", 0,
		     "sticky/d/w/tcp//10.0.0.2/8080");
	add_endpoint(s, MAP_STICKY_ENDPOINTS, "10.96.0.1", 1,
		     "sticky/d/w/tcp//10.0.0.1/8080");
	add_endpoint(s, MAP_STICKY_ENDPOINTS, "10.96.0.1", 2, "sticky/nonsense");
	add_endpoint(s, MAP_STICKY_ENDPOINTS, "10.96.0.1", 3,
		     "sticky/d/w/tcp//10.0.0.4/8080");
	check_order(s, "sticky", "10.0.0.2:8080 10.0.0.1:8080\n\n");
	snapshot_free(s);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("snapshot");
	TCase *tc = tcase_create("snapshot");

	ADD_LOOP(tc, matches, fields);
	tcase_add_test(tc, matches_without);
	tcase_add_test(tc, unseen);
	tcase_add_loop_test(tc, unseen_has_its_key, 0, 5);
	tcase_add_test(tc, twice);
	tcase_add_loop_test(tc, matches_plain, 0, 2 * N_ROWS(plain_fields));
	tcase_add_test(tc, matches_last_byte);
	tcase_add_test(tc, unseen_endpoints);
	tcase_add_test(tc, foreign_endpoint);
	ADD_LOOP(tc, many, parts);
	tcase_add_test(tc, orders);
	tcase_add_test(tc, orders_by_chains);
	suite_add_tcase(suite, tc);
	return suite;
}
