/*
 * The objects that the local socket tells are those that run: read as manifests
 * they make the same ruleset. "vipmap diff" relies on that.
 */
#include "tests/support/suite.h"
#include "tests/support/world.h"

#include "proxy/serve/view.h"
#include "watch/manifests.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What all dispatches of @m amount to, as text. */
static void print_model(struct model *m, struct strbuf *out)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		const struct dataplane_options options = {
			.family = (enum family)f,
			.model = m,
		};
		struct dataplane *dp = dataplane_new(&options);

		ck_assert_ptr_nonnull(dp);
		ck_assert_int_eq(dataplane_print(dp, out), 0);
		dataplane_free(dp);
	}
}

static struct model *read_back(struct world *w, const struct strbuf *page)
{
	struct addr local[2] = { build_addr("127.0.0.1"),
				 build_addr("192.168.7.1") };
	struct model *m = model_new(w->config, build_log, NULL);
	const int fd = memfd_create("objects", MFD_CLOEXEC);
	char path[32], *paths[] = { path, NULL };
	struct manifests *manifests;
	struct errbuf eb = { "" };

	ck_assert(write(fd, page->text, page->length) == (ssize_t)page->length);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ck_assert_int_eq(model_set_addresses(m, FAMILY_IPV4, local, 2), 0);
	manifests = manifests_new(paths, "n1");
	ck_assert_msg(manifests_load(manifests, model_sink(m), &eb) == 0, "%s",
		      eb.text);
	manifests_free(manifests);
	close(fd);
	return m;
}

/* The line in which two texts begin to differ. */
static const char *first_difference(const char *a, const char *b)
{
	const char *line = a;

	for (; *a && *a == *b; a++, b++)
		if (*a == '\n')
			line = a + 1;
	return line;
}

static void expect_same(struct world *w, const char *name)
{
	const struct view view = { .config = w->config,
				   .model = w->model,
				   .node_name = "n1" };
	struct strbuf page = STRBUF_INIT, want = STRBUF_INIT, got = STRBUF_INIT;
	struct model *again,
		*anew = world_model_anew(w); /* endpoints in their first order */

	ck_assert_int_eq(view_page(&view, "/v1/objects", "", &page), 200);
	again = read_back(w, &page);
	print_model(anew, &want);
	print_model(again, &got);
	ck_assert_msg(strcmp(want.text, got.text) == 0,
		      "%s: want %.300s\ngot %.300s", name,
		      first_difference(want.text, got.text),
		      first_difference(got.text, want.text));
	model_free(again);
	model_free(anew);
	strbuf_free(&page);
	strbuf_free(&want);
	strbuf_free(&got);
}

/* One more object in a world that has a bit of everything, and what must be told of it. */
static const struct {
	const char *name, *objects[2];
} rows[] = {
	{ "a bit of everything", { NULL } },
	{ "two external addresses",
	  { "service x/a tcp:81 ip=10.96.9.1 ext=203.0.113.60 ext=203.0.113.61",
	    "slice x/a-1 a v4 tcp:81 10.244.3.1" } },
	{ "two addresses of a load balancer, two ranges, two families",
	  { "service x/a tcp:81 ip=10.96.9.1 ip=fd00:96::9 lb=203.0.113.60 lb=203.0.113.61 "
	    "from=192.0.2.0/24 from=198.51.100.0/25 load-balancer",
	    "slice x/a-1 a v4 tcp:81 10.244.3.1" } },
	{ "both policies are Local",
	  { "service x/a tcp:81@30900 ip=10.96.9.1 internal-local external-local load-balancer",
	    "slice x/a-1 a v4 tcp:81 10.244.3.1(local) 10.244.3.2" } },
	{ "another time of affinity",
	  { "service x/a tcp:81 udp:81:b ip=10.96.9.1 affinity=77",
	    "slice x/a-1 a v4 tcp:81 10.244.3.1 10.244.3.2" } },
	{ "endpoints that are not ready",
	  { "service x/a tcp:81 ip=10.96.9.1",
	    "slice x/a-1 a v4 tcp:81 10.244.3.1(unready) 10.244.3.2" } },
	{ "another range of Services", { "cidr c2 10.97.0.0/16 fd00:97::/112" } },
	{ "the older one has the address",
	  { "service a/a tcp:80 ip=10.96.0.3 ext=203.0.113.1 created=7",
	    "slice a/a-1 a v4 tcp:80 10.244.3.1" } },
};

START_TEST(are_those_that_run)
{
	struct world *w = world_new_rich(0);
	unsigned int i;

	for (i = 0; i < 2 && rows[_i].objects[i]; i++)
		world_put(w, rows[_i].objects[i]);
	expect_same(w, rows[_i].name);
	world_free(w);
}
END_TEST

static unsigned int times(const char *text, const char *what)
{
	unsigned int n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

enum { MANY_SERVICES = 6000, PAGES_MAX = 20 };

/* More than one page holds: each object is on one of them, and the last one says that it is. */
START_TEST(pages_end)
{
	struct world *w = world_new_rich(0);
	const struct view view = { .config = w->config,
				   .model = w->model,
				   .node_name = "n1" };
	struct strbuf page = STRBUF_INIT;
	unsigned int i, pages = 0, services = 0, first = 0;
	char text[128], query[300] = "";
	const char *next;

	for (i = 0; i < MANY_SERVICES; i++) {
		snprintf(text, sizeof(text),
			 "service many/s%u tcp:80 ip=10.97.%u.%u", i, i / 250,
			 i % 250 + 1);
		world_put(w, text);
	}
	do {
		strbuf_reset(&page);
		ck_assert_int_eq(view_page(&view, "/v1/objects", query, &page),
				 200);
		services += times(page.text, "\"namespace\":\"many\"");
		first += times(page.text, "\"kind\":\"Node\"");
		next = strstr(page.text, "\"continue\":\"");
		if (next)
			snprintf(query, sizeof(query), "continue=%.*s",
				 (int)strcspn(next + 12, "\""), next + 12);
	} while (++pages < PAGES_MAX && next);
	ck_assert_ptr_null(next);
	ck_assert_uint_gt(pages, 1);
	ck_assert_uint_eq(services, MANY_SERVICES);
	ck_assert_uint_eq(first, 1);
	strbuf_free(&page);
	world_free(w);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("objects_view");
	TCase *tc = tcase_create("pages");

	tcase_set_timeout(tc, 30);
	ADD_LOOP(tc, are_those_that_run, rows);
	tcase_add_test(tc, pages_end);
	suite_add_tcase(suite, tc);
	return suite;
}
