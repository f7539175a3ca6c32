/* The store of objects: who owns a virtual IP, what an event touches, lists,
 * and what is left behind. */
#include "proxy/model/model_internal.h"
#include "tests/support/suite.h"
#include "tests/support/build.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

static struct config *config;
static struct build_log logged;

static struct model *model_begin(void)
{
	config = build_config();
	logged = (struct build_log){ 0 };
	return model_new(config, build_log, &logged);
}

static void model_end(struct model *m)
{
	model_free(m);
	config_free(config);
	strbuf_free(&logged.text);
}

/* Takes all that is dirty: "a/b c/d" sorted, v4 then v6. */
static void take_dirty(struct model *m, struct strbuf *sb)
{
	const char *names[16];
	struct service_entry *s;
	unsigned int f, n, i, j;
	char text[16][64];

	for (f = 0; f < N_FAMILIES; f++) {
		for (n = 0; (s = model_take_dirty(m, (enum family)f)); n++) {
			snprintf(text[n], sizeof(text[n]), "%s/%s",
				 s->namespace, s->name);
			names[n] = text[n];
		}
		for (i = 0; i < n; i++)
			for (j = i + 1; j < n; j++)
				if (strcmp(names[i], names[j]) > 0) {
					const char *swap = names[i];

					names[i] = names[j];
					names[j] = swap;
				}
		for (i = 0; i < n; i++)
			strbuf_addf(sb, "%s%s", i ? " " : "", names[i]);
		strbuf_addc(sb, f ? '\n' : '|');
	}
}

/* Who owns what: events, then the owner of 203.0.113.1 tcp 80, and of node port 30001 */
static const struct {
	const char *name, *events[6], *owner, *nodeport;
} conflicts[] = {
	{ "one alone",
	  { "service a/x tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1" },
	  "a/x",
	  "a/x" },
	{ "SVC-11: the older wins, first come",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2" },
	  "b/old",
	  "b/old" },
	{ "SVC-11: the older wins, last come",
	  { "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1" },
	  "b/old",
	  "b/old" },
	{ "SVC-11: of one age, the smaller namespace",
	  { "service b/x tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/y tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=1" },
	  "a/y",
	  "a/y" },
	{ "SVC-11: of one age and namespace, the smaller name",
	  { "service a/y tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/x tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=1" },
	  "a/x",
	  "a/x" },
	{ "SVC-11: without an age it is the youngest",
	  { "service a/x tcp:80 ip=10.96.0.1 ext=203.0.113.1",
	    "service b/y tcp:80 ip=10.96.0.2 ext=203.0.113.1 created=99" },
	  "b/y",
	  "-" },
	{ "SVC-11: the winner goes",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "gone service b/old" },
	  "a/new",
	  "a/new" },
	{ "SVC-11: the winner is made anew",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=3" },
	  "a/new",
	  "a/new" },
	{ "SVC-11: the winner changes ports",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "service b/old tcp:81@30002 ip=10.96.0.1 ext=203.0.113.1 created=1" },
	  "a/new",
	  "a/new" },
	{ "SVC-11: the winner gives up the address",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "service b/old tcp:80@30001 ip=10.96.0.1 created=1" },
	  "a/new",
	  "b/old" },
	{ "SVC-2: the winner is turned into an ExternalName",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1 ignored" },
	  "a/new",
	  "a/new" },
	{ "SVC-4: the winner loses its ClusterIP of the family",
	  { "service b/old tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/new tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "service b/old tcp:80@30001 ip=fd00:96::1 ext=203.0.113.1 created=1" },
	  "a/new",
	  "a/new" },
	{ "three of them: the second takes over",
	  { "service a/3 tcp:80@30001 ip=10.96.0.3 ext=203.0.113.1 created=3",
	    "service a/1 tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/2 tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2",
	    "gone service a/1" },
	  "a/2",
	  "a/2" },
	{ "another protocol is another VIP (NP-1)",
	  { "service a/1 udp:80@30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/2 tcp:80@30001 ip=10.96.0.2 ext=203.0.113.1 created=2" },
	  "a/2",
	  "a/2" },
	{ "another port is another VIP (LB-8)",
	  { "service a/1 tcp:81@30002 ip=10.96.0.1 lb=203.0.113.1 created=1",
	    "service a/2 tcp:80@30001 ip=10.96.0.2 lb=203.0.113.1 created=2" },
	  "a/2",
	  "a/2" },
	{ "kinds of VIPs contend (an externalIP that is a ClusterIP)",
	  { "service a/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 created=2",
	    "service a/2 tcp:80 ip=203.0.113.1 created=1" },
	  "a/2",
	  "-" },
	{ "a node port does not contend with an address",
	  { "service a/1 tcp:30001 ip=10.96.0.1 ext=203.0.113.1 created=1",
	    "service a/2 tcp:80@30001 ip=10.96.0.2 created=2" },
	  "-",
	  "a/2" },
	{ "two ports of one Service",
	  { "service a/1 tcp:80:b@30001 tcp:80:a@30001 ip=10.96.0.1 ext=203.0.113.1" },
	  "a/1:a",
	  "a/1:a" },
	{ "SVC-12: nobody is left",
	  { "service a/1 tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1",
	    "gone service a/1" },
	  "-",
	  "-" },
};

START_TEST(owners)
{
	const struct addr addr = build_addr("203.0.113.1");
	struct model *m = model_begin();
	const struct service_port_state *p, *np;
	struct strbuf got = STRBUF_INIT, want = STRBUF_INIT, fresh = STRBUF_INIT;
	int i;

	for (i = 0; i < 6 && conflicts[_i].events[i]; i++) {
		build_put(m, conflicts[_i].events[i]);
		/* in the middle, too, the elements follow: whoever must change is dirty */
		strbuf_reset(&got);
		build_compile(m, FAMILY_IPV4, &got);
	}
	p = model_vip_owner(m, FAMILY_IPV4, &addr, IPPROTO_TCP, 80);
	np = model_vip_owner(m, FAMILY_IPV4, NULL, IPPROTO_TCP, 30001);
	strbuf_addf(&fresh, "%s %s\n", p ? p->label : "-", np ? np->label : "-");
	strbuf_addf(&want, "%s %s\n", conflicts[_i].owner, conflicts[_i].nodeport);
	check_text(conflicts[_i].name, fresh.text, want.text);
	/* the elements name the same owner */
	strbuf_reset(&want);
	strbuf_addf(&want, "service-ips 203.0.113.1 tcp 80 : reject # %s\n",
		    conflicts[_i].owner);
	ck_assert_msg((strstr(got.text ? got.text : "", want.text) != NULL) ==
			      (conflicts[_i].owner[0] != '-'),
		      "%s:\n%s", conflicts[_i].name, got.text);
	strbuf_free(&got);
	strbuf_free(&want);
	strbuf_free(&fresh);
	model_end(m);
}
END_TEST

/* All that there was goes: no entry, claim or address stays. */
START_TEST(nothing_stays)
{
	struct model *m = model_begin();
	struct strbuf sb = STRBUF_INIT;
	int i, f;

	for (i = 0; i < N_ROWS(conflicts); i++) {
		build_put(m, conflicts[i].events[0]);
		build_put(m, "slice a/x-1 x v4 tcp:80 10.0.0.1");
		build_put(m, "slice a/lost-1 lost v6 tcp:80 fd00::1");
	}
	for (f = 0; f < N_FAMILIES; f++)
		build_compile(m, (enum family)f, &sb);
	while (m->services.count) {
		struct hash_walk walk = hashtab_walk(&m->services);
		struct service_entry *s = hash_entry(hash_walk_next(&walk),
						     struct service_entry, node);
		struct service_port_state *p;

		strbuf_reset(&sb);
		strbuf_addf(&sb, "gone service %s/%s", s->namespace, s->name);
		build_put(m, "gone slice a/x-1");
		build_put(m, "gone slice a/lost-1");
		if (s != model_find_service(m, s->namespace, s->name))
			continue;
		build_put(m, sb.text);
		/* as the dataplane does, which has nothing of it in the kernel */
		for (f = 0; f < N_FAMILIES; f++)
			while ((s = model_take_dirty(m, (enum family)f))) {
				for (p = s->ports[f]; p; p = p->next) {
					free(p->desired);
					p->desired = NULL;
				}
				model_prune(m, s);
			}
	}
	ck_assert_uint_eq(m->slices.count, 0);
	ck_assert_uint_eq(m->claims[FAMILY_IPV4].count, 0);
	ck_assert_uint_eq(m->claims[FAMILY_IPV6].count, 0);
	strbuf_free(&sb);
	model_end(m);
}
END_TEST

/* What an event makes dirty: IPv4|IPv6. */
static const struct {
	const char *name, *event, *dirty;
	bool globals;
} touches[] = {
	{ "a Service", "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1 ext=1.1.1.1",
	  "a/w|a/w", false },
	{ "a new Service", "service a/n tcp:80 ip=10.96.0.9", "a/n|", false },
	{ "a Service that claims another's VIP",
	  "service a/n tcp:80 ip=10.96.0.1", "a/n a/w|", false },
	{ "a slice of one family", "slice a/w-4 w v4 tcp:80 10.0.0.9", "a/w|",
	  false },
	{ "a slice of the other", "slice a/w-6 w v6 tcp:80 fd00::9", "|a/w", false },
	{ "a slice of nobody", "slice a/n-1 n v4 tcp:80 10.0.0.9", "|", false },
	{ "EPS-10: a slice that moves", "slice a/w-4 hinted v4 tcp:80 10.0.0.1",
	  "a/hinted a/w|", false },
	{ "EPS-1: a slice of that name in another namespace",
	  "slice b/w-4 w v4 tcp:80 10.0.0.9", "|", false },
	{ "API-6: a slice that goes", "gone slice a/w-4", "a/w|", false },
	{ "API-6: a Service that goes", "gone service a/w", "a/w|a/w", false },
	{ "a Service that goes, and was not there", "gone service a/n", "|", false },
	{ "a slice that goes, and was not there", "gone slice a/n-1", "|", false },
	{ "EPS-13: the zone", "node n1 192.168.7.1 zone=b", "a/hinted|", false },
	{ "NODE-4, LB-5: the primary address", "node n1 192.168.7.2 zone=a",
	  "a/ranges|", true },
	{ "a Node that is the same", "node n1 192.168.7.1 zone=a", "|", false },
	{ "the Node goes", "gone node n1", "a/hinted a/ranges|", true },
	{ "another Node goes", "gone node n2", "|", false },
	{ "VER-13: a ServiceCIDR", "cidr c 10.96.0.0/12", "|", true },
	{ "VER-13: a ServiceCIDR goes", "gone cidr b", "|", true },
};

static void put_world(struct model *m)
{
	build_put(m, "node n1 192.168.7.1 zone=a");
	build_put(m, "cidr b 10.96.0.0/16");
	build_put(m, "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1 created=1");
	build_put(m, "slice a/w-4 w v4 tcp:80 10.0.0.1");
	build_put(m, "slice a/w-6 w v6 tcp:80 fd00::1");
	build_put(m, "service a/hinted tcp:80 ip=10.96.0.2");
	build_put(m, "slice a/hinted-1 hinted v4 tcp:80 10.0.0.1(zone:a)");
	build_put(m, "service a/ranges tcp:80 ip=10.96.0.3 lb=203.0.113.3 from=192.168.0.0/16");
}

START_TEST(events_touch)
{
	struct model *m = model_begin();
	struct strbuf got = STRBUF_INIT, want = STRBUF_INIT;
	uint64_t revision;

	put_world(m);
	take_dirty(m, &got);
	m->globals_dirty[0] = m->globals_dirty[1] = false;
	strbuf_reset(&got);
	revision = m->revision;
	build_put(m, touches[_i].event);
	ck_assert_int_eq(model_is_dirty(m, FAMILY_IPV4),
			 touches[_i].dirty[0] != '|' || touches[_i].globals);
	if (touches[_i].dirty[0] != '|')
		ck_assert_uint_gt(m->revision, revision);
	take_dirty(m, &got);
	strbuf_addf(&want, "%s\n", touches[_i].dirty);
	check_text(touches[_i].name, got.text, want.text);
	ck_assert_msg(m->globals_dirty[FAMILY_IPV4] == touches[_i].globals,
		      "%s", touches[_i].name);
	strbuf_free(&got);
	strbuf_free(&want);
	model_end(m);
}
END_TEST

/* EPS-11, EPS-10: the order in which objects arrive makes no difference. */
START_TEST(order_of_arrival)
{
	static const char *const objects[] = {
		"service a/w tcp:80:http@30001 ip=10.96.0.1 ext=203.0.113.1 created=5",
		"slice a/w-1 w v4 tcp:8080:http 10.0.0.2 10.0.0.1(zone:a)",
		"slice a/w-2 w v4 tcp:8080:http 10.0.0.2(unready,terminating) 10.0.0.3(zone:a)",
		"service b/v tcp:80 ip=10.96.0.2 ext=203.0.113.1 created=4",
		"slice b/v-1 v v4 tcp:8080 10.0.0.7",
		"node n1 192.168.7.1 zone=a",
		"cidr c 10.96.0.0/16",
		"slice a/lost-1 lost v4 tcp:80 10.0.0.9",
	};
	struct random r = { random_seed("VIPMAP_SEED") };
	struct strbuf first = STRBUF_INIT, got = STRBUF_INIT;
	int order[N_ROWS(objects)], i, j, swap, round;
	struct model *m;

	for (i = 0; i < N_ROWS(objects); i++)
		order[i] = i;
	for (round = 0; round < 50; round++) {
		m = model_begin();
		for (i = 0; i < N_ROWS(objects); i++) {
			build_put(m, objects[order[i]]);
			if (random_below(&r, 3) == 0) { /* compiled in the middle */
				strbuf_reset(&got);
				build_compile(m, FAMILY_IPV4, &got);
			}
		}
		strbuf_reset(&got);
		build_compile(m, FAMILY_IPV4, &got);
		if (!round)
			strbuf_adds(&first, got.text);
		check_text("another order", got.text, first.text);
		model_end(m);
		for (i = 0; i < N_ROWS(objects); i++) {
			j = i + (int)random_below(
					&r, (uint32_t)(N_ROWS(objects) - i));
			swap = order[i];
			order[i] = order[j];
			order[j] = swap;
		}
	}
	strbuf_free(&first);
	strbuf_free(&got);
}
END_TEST

/* Lists (API-8) */

static unsigned int endpoints_of(struct model *m, const char *addr)
{
	struct arena scratch = ARENA_INIT;
	const struct element *list;
	unsigned int found = 0;
	size_t n, i;
	const struct addr vip = build_addr(addr);

	list = build_elements(m, FAMILY_IPV4, &scratch, &n);
	for (i = 0; i < n; i++)
		found += list[i].set == MAP_ENDPOINTS &&
			 addr_compare(&list[i].addr, &vip) == 0;
	arena_free(&scratch);
	return found;
}

START_TEST(what_is_not_listed_vanishes)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);

	put_world(m);
	sink->list_begin(sink->ctx, KIND_SERVICE);
	ck_assert(!m->complete[KIND_SERVICE]);
	build_put(m, "service a/w tcp:80 ip=10.96.0.1");
	build_put(m, "service a/new tcp:80 ip=10.96.0.7");
	/* not before the end */
	ck_assert_ptr_nonnull(model_find_service(m, "a", "hinted")->object);
	sink->list_end(sink->ctx, KIND_SERVICE);
	ck_assert(m->complete[KIND_SERVICE]);
	ck_assert_ptr_nonnull(model_find_service(m, "a", "w")->object);
	ck_assert_ptr_nonnull(model_find_service(m, "a", "new")->object);
	ck_assert_ptr_null(
		model_find_service(m, "a", "hinted")->object); /* its slice is there */
	ck_assert_uint_eq(m->slices.count, 3);

	sink->list_begin(sink->ctx, KIND_SLICE);
	build_put(m, "slice a/w-6 w v6 tcp:80 fd00::1");
	sink->list_end(sink->ctx, KIND_SLICE);
	ck_assert_uint_eq(m->slices.count, 1);
	ck_assert_uint_eq(endpoints_of(m, "10.96.0.1"), 0);

	sink->list_begin(sink->ctx, KIND_SERVICE_CIDR);
	build_put(m, "cidr other 10.96.0.0/16");
	sink->list_end(sink->ctx, KIND_SERVICE_CIDR);
	ck_assert_str_eq(m->cidrs->object->name, "other");
	ck_assert_ptr_null(m->cidrs->next);
	model_end(m);
}
END_TEST

/* HZ-4, API-8: a Node that went while nobody watched. */
START_TEST(node_is_listed)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);

	build_put(m, "node n1 192.168.7.1 zone=a");
	sink->list_begin(sink->ctx, KIND_NODE);
	build_put(m, "node n1 192.168.7.1 zone=b");
	sink->list_end(sink->ctx, KIND_NODE);
	ck_assert_str_eq(model_zone(m), "b");
	sink->list_begin(sink->ctx, KIND_NODE);
	sink->list_end(sink->ctx, KIND_NODE);
	ck_assert_ptr_null(m->node);
	ck_assert_str_eq(model_zone(m), "");
	ck_assert(m->info.family[FAMILY_IPV4].nodeports_everywhere);
	model_end(m);
}
END_TEST

/* A list that breaks off is begun again; what only the broken one had is gone. */
START_TEST(broken_list)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);

	put_world(m);
	sink->list_begin(sink->ctx, KIND_SERVICE);
	build_put(m, "service a/half tcp:80 ip=10.96.0.8");
	sink->list_begin(sink->ctx, KIND_SERVICE);
	build_put(m, "service a/w tcp:80 ip=10.96.0.1");
	sink->list_end(sink->ctx, KIND_SERVICE);
	ck_assert_ptr_nonnull(model_find_service(m, "a", "w")->object);
	ck_assert(!model_find_service(m, "a", "half") ||
		  !model_find_service(m, "a", "half")->object);
	model_end(m);
}
END_TEST

/* Lists of different kinds overlap, and events come in between. */
START_TEST(lists_overlap)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);

	sink->list_begin(sink->ctx, KIND_SERVICE);
	build_put(m, "service a/w tcp:80 ip=10.96.0.1");
	sink->list_begin(sink->ctx, KIND_SLICE);
	build_put(m, "slice a/w-1 w v4 tcp:80 10.0.0.1");
	sink->list_begin(sink->ctx, KIND_NODE);
	sink->list_end(sink->ctx, KIND_SERVICE);
	sink->list_begin(sink->ctx, KIND_SERVICE_CIDR);
	build_put(m, "slice a/w-2 w v4 tcp:80 10.0.0.2");
	sink->list_end(sink->ctx, KIND_SLICE);
	sink->list_end(sink->ctx, KIND_NODE);
	sink->list_end(sink->ctx, KIND_SERVICE_CIDR);
	ck_assert_uint_eq(endpoints_of(m, "10.96.0.1"), 2);
	ck_assert(model_is_complete(m));
	model_end(m);
}
END_TEST

/* RUN-1 */
START_TEST(complete_with_both)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);

	ck_assert(!model_is_complete(m));
	sink->list_begin(sink->ctx, KIND_SERVICE);
	sink->list_end(sink->ctx, KIND_SERVICE);
	ck_assert(!model_is_complete(m));
	sink->list_begin(sink->ctx, KIND_SLICE);
	ck_assert(!model_is_complete(m));
	sink->list_end(sink->ctx, KIND_SLICE);
	ck_assert(model_is_complete(m));
	model_end(m);
}
END_TEST

/* Elements of no service port */

static const struct {
	const char *name, *objects[4], *want4, *want6;
} globals[] = {
	{ "nothing is known: node ports everywhere, no range", { NULL }, "", "" },
	{ "NP-2: the Node's addresses",
	  { "node n1 192.168.7.1 fd00:7::1" },
	  "nodeport-ips 192.168.7.1\n",
	  "nodeport-ips fd00:7::1\n" },
	{ "VER-13: the union of all",
	  { "cidr a 10.96.0.0/16 fd00:96::/108", "cidr b 10.112.0.0/16" },
	  "service-cidrs 10.96.0.0/16\nservice-cidrs 10.112.0.0/16\n",
	  "service-cidrs fd00:96::/108\n" },
	{ "VER-13: covered, equal and adjacent ranges",
	  { "cidr a 10.96.0.0/12 10.96.0.0/16 10.97.3.0/24",
	    "cidr b 10.96.0.0/12 10.112.0.0/12" },
	  "service-cidrs 10.96.0.0/12\nservice-cidrs 10.112.0.0/12\n",
	  "" },
	{ "VER-13: one covers all others",
	  { "cidr a 10.97.0.0/16 10.98.0.0/16", "cidr b 10.0.0.0/8" },
	  "service-cidrs 10.0.0.0/8\n",
	  "" },
	{ "VER-13: changed and gone",
	  { "cidr a 10.97.0.0/16", "cidr b 10.98.0.0/16", "cidr a 10.99.0.0/16",
	    "gone cidr b" },
	  "service-cidrs 10.99.0.0/16\n",
	  "" },
};

static void globals_text(struct model *m, enum family f, struct strbuf *sb)
{
	struct arena scratch = ARENA_INIT;
	const struct element *list;
	size_t n, i;

	ck_assert_int_eq(model_globals(m, f, &scratch, &list, &n), 0);
	elements_text(sb, f, list, n);
	for (i = 1; i < n; i++)
		ck_assert_int_lt(element_key_compare(&list[i - 1], &list[i]), 0);
	for (i = 0; i < n; i++) /* as it is read back */
		if (list[i].set == SET_SERVICE_CIDRS)
			ck_assert_int_eq(addr_compare(&list[i].addr,
						      &list[i].range.addr),
					 0);
	arena_free(&scratch);
}

START_TEST(global_elements)
{
	struct model *m = model_begin();
	struct strbuf got = STRBUF_INIT;
	int i;

	for (i = 0; i < 4 && globals[_i].objects[i]; i++)
		build_put(m, globals[_i].objects[i]);
	globals_text(m, FAMILY_IPV4, &got);
	check_text(globals[_i].name, got.text, globals[_i].want4);
	strbuf_reset(&got);
	globals_text(m, FAMILY_IPV6, &got);
	check_text(globals[_i].name, got.length ? got.text : "", globals[_i].want6);
	strbuf_free(&got);
	model_end(m);
}
END_TEST

/* NP-4: addresses that come and go. */
START_TEST(addresses_follow)
{
	struct addr list[2] = { build_addr("192.168.7.1"),
				build_addr("192.168.7.2") };
	struct strbuf got = STRBUF_INIT;
	struct model *m;
	struct errbuf eb;

	config = build_config();
	config_append(&config->nodeport_addresses, "192.168.0.0/16");
	ck_assert_int_eq(config_validate(config, NULL, NULL, &eb), 0);
	logged = (struct build_log){ 0 };
	m = model_new(config, build_log, &logged);
	ck_assert_int_eq(model_set_addresses(m, FAMILY_IPV4, list, 1), 0);
	globals_text(m, FAMILY_IPV4, &got);
	check_text("one", got.text, "nodeport-ips 192.168.7.1\n");
	m->globals_dirty[FAMILY_IPV4] = false;
	ck_assert_int_eq(model_set_addresses(m, FAMILY_IPV4, list, 1), 0);
	ck_assert(!model_is_dirty(m, FAMILY_IPV4));
	ck_assert_int_eq(model_set_addresses(m, FAMILY_IPV4, list, 2), 0);
	ck_assert(model_is_dirty(m, FAMILY_IPV4));
	strbuf_reset(&got);
	globals_text(m, FAMILY_IPV4, &got);
	check_text("two", got.text,
		   "nodeport-ips 192.168.7.1\nnodeport-ips 192.168.7.2\n");
	ck_assert_int_eq(model_set_addresses(m, FAMILY_IPV4, NULL, 0), 0);
	strbuf_reset(&got);
	globals_text(m, FAMILY_IPV4, &got);
	check_text("none", got.text, "");
	strbuf_free(&got);
	model_end(m);
}
END_TEST

/* HC-4 */
static const struct {
	const char *name, *slices[2];
	unsigned int v4, v6;
} locals[] = {
	{ "none", { NULL }, 0, 0 },
	{ "HC-4: ready and local",
	  { "slice a/w-1 w v4 tcp:1 10.0.0.1(local) 10.0.0.2 10.0.0.3(local)" },
	  2,
	  0 },
	{ "HC-4: different addresses, over all ports",
	  { "slice a/w-1 w v4 tcp:1 udp:2 10.0.0.1(local)",
	    "slice a/w-2 w v4 tcp:3 10.0.0.1(local)" },
	  1,
	  0 },
	{ "HC-4: not those that drain",
	  { "slice a/w-1 w v4 tcp:1 10.0.0.1(local,unready,terminating)" },
	  0,
	  0 },
	{ "HC-4: of one family",
	  { "slice a/w-1 w v4 tcp:1 10.0.0.1(local)",
	    "slice a/w-2 w v6 tcp:1 fd00::1(local) fd00::2(local)" },
	  1,
	  2 },
};

START_TEST(local_endpoints)
{
	struct arena scratch = ARENA_INIT;
	struct model *m = model_begin();
	struct service_entry *s;
	int i;

	build_put(m, "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1");
	for (i = 0; i < 2 && locals[_i].slices[i]; i++)
		build_put(m, locals[_i].slices[i]);
	s = model_find_service(m, "a", "w");
	ck_assert_msg(model_local_endpoints(s, FAMILY_IPV4, &scratch) ==
				      locals[_i].v4 &&
			      model_local_endpoints(s, FAMILY_IPV6, &scratch) ==
				      locals[_i].v6,
		      "%s", locals[_i].name);
	arena_free(&scratch);
	model_end(m);
}
END_TEST

/* MET-2: every trigger once, per family. */
START_TEST(triggers_are_kept)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);
	struct slice *slice;
	int i;

	for (i = 0; i < 100; i++) {
		slice = build_slice("a/w-1 w v4 tcp:80 10.0.0.1");
		slice->trigger_us = i; /* 0: none */
		sink->put_slice(sink->ctx, slice);
	}
	ck_assert_uint_eq(m->pending[FAMILY_IPV4].n_triggers, 99);
	ck_assert_uint_eq(m->pending[FAMILY_IPV6].n_triggers, 0);
	for (i = 0; i < 99; i++)
		ck_assert_int_eq(m->pending[FAMILY_IPV4].triggers[i], i + 1);
	ck_assert_uint_eq(m->pending[FAMILY_IPV4].slices, 100);
	ck_assert_uint_eq(m->counters.endpoint_changes, 100);
	model_end(m);
}
END_TEST

/* A file or a list that is read again brings most objects as they were: no change, no trigger. */
START_TEST(the_same_again_is_no_change)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);
	struct slice *slice;
	int i;

	for (i = 0; i < 3; i++) {
		build_put(m, "service a/w tcp:80 ip=10.96.0.1 ext=203.0.113.1");
		slice = build_slice("a/w-1 w v4 tcp:80 10.0.0.1");
		slice->trigger_us = 5;
		sink->put_slice(sink->ctx, slice);
		ck_assert_uint_eq(m->counters.service_changes, 1);
		ck_assert_uint_eq(m->counters.endpoint_changes, 1);
		ck_assert_uint_eq(m->pending[FAMILY_IPV4].services, 1);
		ck_assert_uint_eq(m->pending[FAMILY_IPV4].slices, 1);
		ck_assert_uint_eq(m->pending[FAMILY_IPV4].n_triggers, 1);
	}
	build_put(m, "service a/w tcp:80 ip=10.96.0.1 ext=203.0.113.2");
	sink->gone(sink->ctx, KIND_SERVICE, "a", "w");
	sink->gone(sink->ctx, KIND_SERVICE, "a", "w");
	sink->gone(sink->ctx, KIND_SLICE, "a", "w-1");
	ck_assert_uint_eq(m->counters.service_changes, 3);
	ck_assert_uint_eq(m->counters.endpoint_changes, 2);
	model_end(m);
}
END_TEST

/* A family that nobody handles piles up nothing. */
START_TEST(ignored_family)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);
	struct service_entry *s;
	struct slice *slice;

	build_put(m, "service a/w tcp:80 ip=10.96.0.1 ip=fd00:96::1");
	model_ignore_family(m, FAMILY_IPV6);
	ck_assert(!m->dirty[FAMILY_IPV6]);
	slice = build_slice("a/w-6 w v6 tcp:80 fd00::1");
	slice->trigger_us = 1;
	sink->put_slice(sink->ctx, slice);
	build_put(m, "gone slice a/w-6");
	build_put(m, "gone service a/w");
	ck_assert(!m->dirty[FAMILY_IPV6]);
	ck_assert_uint_eq(m->pending[FAMILY_IPV6].n_triggers, 0);
	while ((s = model_take_dirty(m, FAMILY_IPV4)))
		model_prune(m, s);
	ck_assert_uint_eq(m->services.count, 0);
	model_end(m);
}
END_TEST

/* Names: the comment that people see is cut, the name that the kernel keeps is not. */
START_TEST(labels)
{
	struct model *m = model_begin();
	struct strbuf sb = STRBUF_INIT;
	struct service_port_state *p;
	char name[64];

	memset(name, 'n', 63);
	name[63] = '\0';
	strbuf_addf(&sb, "service %s/%s tcp:80:%s ip=10.96.0.1", name, name, name);
	build_put(m, sb.text);
	build_put(m, "service a/w tcp:80 udp:53:dns ip=10.96.0.2");
	p = model_find_service(m, name, name)->ports[FAMILY_IPV4];
	ck_assert_uint_eq(strlen(p->label), 127);
	ck_assert_uint_eq(strlen(p->sticky), 63 * 3 + 3 + 3);
	for (p = model_find_service(m, "a", "w")->ports[FAMILY_IPV4]; p;
	     p = p->next) {
		ck_assert_str_eq(p->label,
				 p->protocol == IPPROTO_TCP ? "a/w" : "a/w:dns");
		ck_assert_str_eq(p->sticky, p->protocol == IPPROTO_TCP
						    ? "a/w/tcp/"
						    : "a/w/udp/dns");
	}
	strbuf_free(&sb);
	model_end(m);
}
END_TEST

static void set(char **field, const char *value)
{
	ck_assert_int_eq(config_set(field, value), 0);
}

static void change_nothing(struct config *c)
{
	(void)c;
}

static void change_periods(struct config *c)
{
	c->sync_period_ms = 60000;
	c->min_sync_period_ms = 1000;
	c->verbosity = 4;
	set(&c->healthz_bind_address, "127.0.0.1:1");
}

static void change_range(struct config *c)
{
	set(&c->cluster_cidr, "10.250.0.0/16,fd00:244::/64");
}

static void change_masquerading(struct config *c)
{
	c->masquerade_all = true;
}

static void change_external_ips(struct config *c)
{
	c->allow_external_ips = !c->allow_external_ips;
}

static void change_nodeports(struct config *c)
{
	ck_assert_int_eq(config_append(&c->nodeport_addresses, "10.0.0.0/8"), 0);
}

static void change_kept_sources(struct config *c)
{
	ck_assert_int_eq(
		config_append(&c->vipmap.no_masquerade_cidrs, "10.0.0.0/8"), 0);
}

/* CFG-3: what another configuration marks, and that the same one marks nothing. */
static const struct {
	const char *name;
	void (*change)(struct config *c);
	const char *want;
} exchanges[] = {
	{ "nothing", change_nothing, "rules - -, globals - -, ||\n" },
	{ "not for the model", change_periods, "rules - -, globals - -, ||\n" },
	{ "clusterCIDR", change_range, "rules 4 -, globals 4 -, ||\n" },
	{ "masqueradeAll", change_masquerading, "rules 4 6, globals 4 6, ||\n" },
	{ "external IPs", change_external_ips, "rules - -, globals - -, |a/ext|\n" },
	{ "nodePortAddresses", change_nodeports,
	  "rules - -, globals 4 6, |a/ranges|\n" },
	{ "the first range of noMasqueradeCIDRs", change_kept_sources,
	  "rules 4 -, globals 4 -, ||\n" },
};

START_TEST(another_configuration)
{
	struct addr local = build_addr("192.168.7.1");
	struct model *m = model_begin();
	struct config *fresh = build_config();
	struct strbuf got = STRBUF_INIT;
	bool rules[N_FAMILIES];
	struct errbuf eb;

	build_put(m, "node n 192.168.7.1");
	build_put(m, "service a/ext ip=10.96.0.1 ext=203.0.113.1 tcp:80");
	build_put(m, "service a/ranges ip=10.96.0.2 lb=203.0.113.2 from=10.0.0.0/8 tcp:80");
	build_put(m, "service a/plain ip=10.96.0.3 tcp:80");
	ck_assert_int_eq(model_set_addresses(m, FAMILY_IPV4, &local, 1), 0);
	while (model_take_dirty(m, FAMILY_IPV4) || model_take_dirty(m, FAMILY_IPV6))
		;
	m->globals_dirty[FAMILY_IPV4] = m->globals_dirty[FAMILY_IPV6] = false;

	exchanges[_i].change(fresh);
	ck_assert_msg(config_validate(fresh, NULL, NULL, &eb) == 0, "%s", eb.text);
	ck_assert_int_eq(model_set_config(m, fresh, rules), 0);
	strbuf_addf(&got, "rules %c %c, globals %c %c, |", rules[0] ? '4' : '-',
		    rules[1] ? '6' : '-', m->globals_dirty[0] ? '4' : '-',
		    m->globals_dirty[1] ? '6' : '-');
	take_dirty(m, &got);
	check_text(exchanges[_i].name, got.text, exchanges[_i].want);
	ck_assert_ptr_eq(m->config, fresh);

	ck_assert_int_eq(model_set_config(m, fresh, rules), 0);
	ck_assert(!rules[0] && !rules[1] && !m->dirty[0] && !m->dirty[1]);
	strbuf_free(&got);
	model_end(m);
	config_free(fresh);
}
END_TEST

/* BEY-3: other ranges are other elements and no other rules. */
static const struct {
	const char *name, *first[3], *second[3], *want, *want4, *want6;
} kept_sources[] = {
	{ "the same ones, otherwise written",
	  { "10.0.0.0/8", "fd00::/64" },
	  { "fd00::1/64", "10.3.0.0/16", "010.0.0.0/8" },
	  "rules - -, globals - -\n",
	  "no-masquerade-cidrs 10.0.0.0/8\n",
	  "no-masquerade-cidrs fd00::/64\n" },
	{ "another one",
	  { "10.0.0.0/8" },
	  { "10.0.0.0/9" },
	  "rules - -, globals 4 -\n",
	  "no-masquerade-cidrs 10.0.0.0/9\n",
	  "" },
	{ "one more, in order",
	  { "10.0.0.0/8", "fd00::/64" },
	  { "fd00::/64", "10.0.0.0/8", "9.0.0.0/8" },
	  "rules - -, globals 4 -\n",
	  "no-masquerade-cidrs 9.0.0.0/8\nno-masquerade-cidrs 10.0.0.0/8\n",
	  "no-masquerade-cidrs fd00::/64\n" },
	{ "the last of a family goes",
	  { "10.0.0.0/8", "fd00::/64" },
	  { "10.0.0.0/8" },
	  "rules - 6, globals - 6\n",
	  "no-masquerade-cidrs 10.0.0.0/8\n",
	  "" },
};

static struct config *config_keeping(const char *const ranges[3])
{
	struct config *c = build_config();
	struct errbuf eb;
	int i;

	for (i = 0; i < 3 && ranges[i]; i++)
		ck_assert_int_eq(config_append(&c->vipmap.no_masquerade_cidrs,
					       ranges[i]),
				 0);
	ck_assert_msg(config_validate(c, NULL, NULL, &eb) == 0, "%s", eb.text);
	return c;
}

START_TEST(ranges_of_kept_sources)
{
	struct config *before = config_keeping(kept_sources[_i].first);
	struct config *after = config_keeping(kept_sources[_i].second);
	struct model *m = model_begin();
	const char *name = kept_sources[_i].name;
	struct strbuf got = STRBUF_INIT;
	bool rules[N_FAMILIES];

	ck_assert_int_eq(model_set_config(m, before, rules), 0);
	m->globals_dirty[FAMILY_IPV4] = m->globals_dirty[FAMILY_IPV6] = false;
	ck_assert_int_eq(model_set_config(m, after, rules), 0);
	strbuf_addf(&got, "rules %c %c, globals %c %c\n", rules[0] ? '4' : '-',
		    rules[1] ? '6' : '-', m->globals_dirty[0] ? '4' : '-',
		    m->globals_dirty[1] ? '6' : '-');
	check_text(name, got.text, kept_sources[_i].want);
	strbuf_reset(&got);
	globals_text(m, FAMILY_IPV4, &got);
	check_text(name, got.text, kept_sources[_i].want4);
	strbuf_reset(&got);
	globals_text(m, FAMILY_IPV6, &got);
	check_text(name, got.length ? got.text : "", kept_sources[_i].want6);
	strbuf_free(&got);
	model_end(m);
	config_free(before);
	config_free(after);
}
END_TEST

START_TEST(complaints_are_logged)
{
	struct model *m = model_begin();
	const struct object_sink *sink = model_sink(m);

	sink->complain(sink->ctx, "Service a/w: spec.clusterIP: 100%s");
	ck_assert_str_eq(logged.text.text,
			 "4 Service a/w: spec.clusterIP: 100%s\n");
	model_end(m);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("model");
	TCase *tc = tcase_create("model");

	ADD_LOOP(tc, owners, conflicts);
	tcase_add_test(tc, nothing_stays);
	ADD_LOOP(tc, events_touch, touches);
	tcase_add_test(tc, order_of_arrival);
	tcase_add_test(tc, what_is_not_listed_vanishes);
	tcase_add_test(tc, node_is_listed);
	tcase_add_test(tc, broken_list);
	tcase_add_test(tc, lists_overlap);
	tcase_add_test(tc, complete_with_both);
	ADD_LOOP(tc, global_elements, globals);
	tcase_add_test(tc, addresses_follow);
	ADD_LOOP(tc, local_endpoints, locals);
	tcase_add_test(tc, triggers_are_kept);
	tcase_add_test(tc, the_same_again_is_no_change);
	tcase_add_test(tc, ignored_family);
	tcase_add_test(tc, labels);
	ADD_LOOP(tc, another_configuration, exchanges);
	ADD_LOOP(tc, ranges_of_kept_sources, kept_sources);
	tcase_add_test(tc, complaints_are_logged);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(suite, tc);
	return suite;
}
