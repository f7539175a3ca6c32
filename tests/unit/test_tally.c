/* Whose a connection is, and which of them a look before has not seen; and frames of top. */
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "proxy/commands/tally.h"
#include "proxy/commands/screen.h"
#include "proxy/commands/top_view.h"
#include "proxy/serve/vips.h"
#include "tests/support/suite.h"

static struct addr address(const char *text, enum family *family)
{
	struct addr addr;

	ck_assert_int_eq(addr_parse(text, family, &addr), 0);
	return addr;
}

static struct conntrack_entry entry(const char *to, uint16_t port, uint8_t protocol)
{
	enum family family;

	return (struct conntrack_entry){
		.client = address("10.9.9.9", &family),
		.client_port = 1000,
		.destination = address(to, &family),
		.destination_port = port,
		.endpoint = address("10.1.0.1", &family),
		.endpoint_port = 8080,
		.protocol = protocol,
	};
}

static void add_vip(struct vips *v, const char *name, const char *text,
		    uint16_t number, uint8_t protocol)
{
	enum family family = FAMILY_IPV4;
	struct addr addr = { { 0 } };
	int port = vips_add_port(v, name);

	ck_assert_int_ge(port, 0);
	if (text)
		addr = address(text, &family);
	ck_assert_int_eq(vips_add(v, (unsigned int)port, family,
				  text ? &addr : NULL, number, protocol),
			 0);
}

static struct vips *some_vips(void)
{
	struct vips *v = vips_new();

	ck_assert_ptr_nonnull(v);
	add_vip(v, "a/shop:web", "10.0.0.1", 80, IPPROTO_TCP);
	add_vip(v, "a/shop:dns", "10.0.0.1", 80, IPPROTO_UDP);
	add_vip(v, "b/other", "10.0.0.2", 80, IPPROTO_TCP);
	add_vip(v, "a/shop:web", "fd00::1", 80, IPPROTO_TCP);
	add_vip(v, "a/shop:web", NULL, 30080, IPPROTO_TCP);
	vips_sort(v);
	return v;
}

static const struct {
	const char *name, *to;
	uint16_t port;
	uint8_t protocol;
	const char *want; /* NULL: nobody's */
} owners[] = {
	{ "by address, port and protocol", "10.0.0.1", 80, IPPROTO_TCP,
	  "a/shop:web" },
	{ "another protocol", "10.0.0.1", 80, IPPROTO_UDP, "a/shop:dns" },
	{ "another address", "10.0.0.2", 80, IPPROTO_TCP, "b/other" },
	{ "the other family", "fd00::1", 80, IPPROTO_TCP, "a/shop:web" },
	{ "a node port, wherever it is", "192.0.2.7", 30080, IPPROTO_TCP,
	  "a/shop:web" },
	{ "a node port of the other family", "fd01::7", 30080, IPPROTO_TCP,
	  "a/shop:web" },
	{ "not that protocol's", "192.0.2.7", 30080, IPPROTO_UDP, NULL },
	{ "another port", "10.0.0.1", 81, IPPROTO_TCP, NULL },
	{ "nobody's address", "10.0.0.3", 80, IPPROTO_TCP, NULL },
	{ "the same bytes in the other family", "a00:2::", 80, IPPROTO_TCP, NULL },
};

START_TEST(owner_is_found)
{
	struct vips *v = some_vips();
	const struct conntrack_entry e =
		entry(owners[_i].to, owners[_i].port, owners[_i].protocol);
	enum family family;
	int port;

	address(owners[_i].to, &family);
	port = vips_find(v, family, &e);
	ck_assert_msg((port < 0) == !owners[_i].want, "%s: %d", owners[_i].name,
		      port);
	if (port >= 0)
		ck_assert_str_eq(vips_name(v, (unsigned int)port), owners[_i].want);
	ck_assert_uint_eq(vips_count(v), 3);
	vips_free(v);
}
END_TEST

enum { MANY = 100000 };

static void add_many(struct tally *t, unsigned int from, unsigned int to)
{
	struct conntrack_entry e = entry("10.0.0.1", 80, IPPROTO_TCP);
	unsigned int i, refused = 0;

	for (i = from; i < to; i++) {
		e.client_port = (uint16_t)i;
		e.id = i >> 16;
		e.endpoint_port = (uint16_t)(8080 + i % 3);
		refused += tally_add(t, FAMILY_IPV4, &e) != 0;
	}
	ck_assert_uint_eq(refused,
			  0); /* once: each assertion is a message to the runner */
}

START_TEST(what_is_new_is_counted)
{
	struct vips *v = some_vips();
	struct tally *first = tally_new(v, NULL), *second;
	struct conntrack_entry e = entry("10.9.9.9", 80, IPPROTO_TCP);
	struct seen *seen;
	unsigned long sum = 0;
	const struct tally_endpoint *x;

	add_many(first, 0, MANY);
	ck_assert_int_eq(tally_add(first, FAMILY_IPV4, &e), -1);
	ck_assert_uint_eq(first->connections, MANY);
	ck_assert_uint_eq(first->fresh, 0);
	ck_assert_uint_eq(first->ports[0].n_endpoints, 3);
	seen = tally_take_seen(first);
	tally_free(first);

	second = tally_new(v, seen);
	add_many(second, 1000, MANY + 500);
	e = entry("10.0.0.2", 80, IPPROTO_TCP);
	ck_assert_int_eq(tally_add(second, FAMILY_IPV4, &e), 2);
	ck_assert_uint_eq(second->connections, MANY - 500 + 1);
	ck_assert_uint_eq(second->fresh, 500 + 1);
	ck_assert_uint_eq(second->ports[0].fresh, 500);
	ck_assert_uint_eq(second->ports[1].connections, 0);
	ck_assert_uint_eq(second->ports[2].fresh, 1);
	for (x = second->ports[0].endpoints; x; x = x->next)
		sum += x->fresh;
	ck_assert_uint_eq(sum, 500);
	ck_assert(!second->out_of_memory);
	tally_free(second);
	seen_free(seen);
	vips_free(v);
}
END_TEST

/* A frame without a terminal. */
struct stage {
	struct names names;
	struct port_facts facts[3];
	struct tally *tally;
	struct top_data data;
	struct top_view view;
};

static void stage_set(struct stage *s)
{
	struct conntrack_entry e = entry("10.0.0.2", 80, IPPROTO_TCP);

	memset(s, 0, sizeof(*s));
	s->names.vips = some_vips();
	s->names.facts = s->facts;
	s->facts[0] = (struct port_facts){ 10800, 2 };
	s->facts[2].used = 1;
	s->tally = tally_new(s->names.vips, NULL);
	add_many(s->tally, 0, 3);
	ck_assert_int_ge(tally_add(s->tally, FAMILY_IPV4, &e), 0);
	s->data = (struct top_data){ .names = &s->names,
				     .tally = s->tally,
				     .node = "n1" };
	s->data.seconds = 2;
}

static void stage_end(struct stage *s)
{
	tally_free(s->tally);
	vips_free(s->names.vips);
}

static void stage_shows(struct stage *s, unsigned int rows, const char *want)
{
	struct strbuf out = STRBUF_INIT;

	top_frame(&s->view, &s->data, rows, "12:01:07", &out);
	ck_assert_str_eq(out.text, want);
	strbuf_free(&out);
}

static void press(struct stage *s, const char *keys)
{
	for (; *keys; keys++)
		top_key(&s->view, &s->data, (unsigned char)*keys);
}

START_TEST(frames)
{
	struct stage s;
	int i;

	stage_set(&s);
	stage_shows(
		&s, 9,
		"vipmap top  node n1  4 connections, 0 new/s  12:01:07\n"
		"Services by connections: 3\n"
		"  SERVICE       CONNS   NEW/s  USED  ENDPOINTS\n"
		"> a/shop:web        3       0     2  10.1.0.1:8080 ### 1   10.1.0.1:8081 ### 1   "
		"10.1.0.1:8082 ### 1   <- affinity\n"
		"  b/other           1       0     1  10.1.0.1:8080 ########## 1\n"
		"  a/shop:dns        0       0     0  -\n"
		" \n \n"
		"q quit  c n s sort by conns, new, name  / filter  Enter endpoints");
	press(&s, "j");
	press(&s, "/b/");
	top_key(&s.view, &s.data, KEY_ENTER);
	stage_shows(
		&s, 5,
		"vipmap top  node n1  4 connections, 0 new/s  12:01:07\n"
		"Services by connections: 1 with \"b/\"\n"
		"  SERVICE    CONNS   NEW/s  USED  ENDPOINTS\n"
		"> b/other        1       0     1  10.1.0.1:8080 ########## 1\n"
		"q quit  c n s sort by conns, new, name  / filter  Enter endpoints");
	ck_assert_int_eq(top_key(&s.view, &s.data, KEY_ENTER), TOP_LOOK);
	ck_assert_str_eq(s.view.service, "b/other");
	stage_shows(&s, 4,
		    "vipmap top  node n1  4 connections, 0 new/s  12:01:07\n"
		    "b/other endpoints by connections: 0\n"
		    "  ENDPOINT    CONNS   NEW/s  POD  NODE  USED\n"
		    "q quit  c n s sort by conns, new, address  / filter  Enter flows  Esc back");
	ck_assert_int_eq(top_key(&s.view, &s.data, KEY_ENTER),
			 TOP_STAY); /* there is none */
	ck_assert_int_eq(top_key(&s.view, &s.data, KEY_ESCAPE), TOP_LOOK);
	ck_assert_int_eq(s.view.level, TOP_SERVICES);
	ck_assert_int_eq(top_key(&s.view, &s.data, 'q'), TOP_QUIT);
	press(&s, "/q");
	ck_assert_str_eq(s.view.filter[TOP_SERVICES], "b/q");
	top_key(&s.view, &s.data, KEY_ESCAPE);
	ck_assert_str_eq(s.view.filter[TOP_SERVICES], "");
	press(&s, "/");
	for (i = 0; i < 2 * TOP_FILTER_SIZE; i++)
		press(&s, "x");
	ck_assert_uint_eq(strlen(s.view.filter[TOP_SERVICES]), TOP_FILTER_SIZE - 1);
	ck_assert_str_eq(s.view.filter[TOP_ENDPOINTS], "");
	press(&s, "\b");
	stage_end(&s);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("tally");
	TCase *tc = tcase_create("tally");

	ADD_LOOP(tc, owner_is_found, owners);
	tcase_add_test(tc, what_is_new_is_counted);
	tcase_add_test(tc, frames);
	suite_add_tcase(suite, tc);
	return suite;
}
