/*
 * The dataplane on a fake kernel: what it writes for a change, what it finds again after a restart
 * or after others were there, and how it bears refusals and answers that are lost.
 */
#include "tests/support/suite.h"
#include "tests/support/world.h"

#include "nft/readback.h"
#include "proxy/model/model_internal.h"
#include "proxy/model/ruleset.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter/nf_tables.h>

/* Service number @i: "s/I", 10.96.X.Y, with endpoints 10.244.... */
static void put_service(struct world *w, unsigned int i, const char *more)
{
	world_putf(w, "service s/%u tcp:80 ip=10.%u.%u.%u %s", i,
		   96 + i / 65536, i / 256 % 256, i % 256, more);
}

static void put_slice(struct world *w, unsigned int i, const char *endpoints)
{
	world_putf(w, "slice s/%u-x %u v4 tcp:8080 %s", i, i, endpoints);
}

/* O(change) */

struct step {
	const char *name, *object;
	unsigned int added, deleted, verdicts, chains, services;
};

/* Of chains: one, that a large table has already. */
enum { ONE_OR_SPARE = 100 };

/* The world has @n services of three endpoints each; one of them is played with. */
static const struct step steps[] = {
	{ "the same again",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.1 10.244.0.2 10.244.0.3", 0, 0, 0,
	  0, 1 },
	{ "an endpoint is another",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.1 10.244.0.9 10.244.0.3", 1, 1, 0,
	  0, 1 },
	{ "one more",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.1 10.244.0.9 10.244.0.3 10.244.0.4",
	  2, 1, 2, ONE_OR_SPARE, 1 },
	{ "one less: the last moves",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.9 10.244.0.3 10.244.0.4", 2, 3, 2,
	  0, 1 },
	{ "one is not ready",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.9 10.244.0.3 10.244.0.4(unready)",
	  2, 3, 2, ONE_OR_SPARE, 1 },
	{ "and ready again",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.9 10.244.0.3 10.244.0.4", 2, 1, 2,
	  0, 1 },
	{ "a local one: hairpin",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.9(local) 10.244.0.3 10.244.0.4",
	  1, 0, 0, 0, 1 },
	{ "another slice joins", "slice s/7-y 7 v4 tcp:8080 10.244.0.5", 2, 1,
	  2, 0, 1 },
	{ "none is left in the first", "slice s/7-x 7 v4 tcp:8080", 2, 6, 2,
	  ONE_OR_SPARE, 1 },
	{ "nobody is left", "gone slice s/7-y", 1, 2, 2, 0, 1 },
	{ "they are back",
	  "slice s/7-x 7 v4 tcp:8080 10.244.0.1 10.244.0.2 10.244.0.3", 4, 1, 2,
	  0, 1 },
	{ "a node port", "service s/7 tcp:80@30007 ip=10.96.0.7", 4, 0, 1, 1, 1 },
	{ "another node port", "service s/7 tcp:80@30008 ip=10.96.0.7", 4, 4, 2,
	  0, 1 },
	{ "no node port", "service s/7 tcp:80 ip=10.96.0.7", 0, 4, 1, 0, 1 },
	{ "a Service that differs in nothing",
	  "service s/7 tcp:80 ip=10.96.0.7 created=9", 0, 0, 0, 0, 1 },
	{ "source ranges of a load balancer",
	  "service s/7 tcp:80:a ip=10.96.0.7 lb=203.0.113.7 from=10.0.0.0/8 from=192.0.2.0/24 "
	  "load-balancer",
	  7, 4, 4, 1, 2 },
	{ "one of them is another",
	  "service s/7 tcp:80:a ip=10.96.0.7 lb=203.0.113.7 from=10.0.0.0/8 from=192.0.3.0/24 "
	  "load-balancer",
	  2, 2, 0, 0, 1 },
	{ "the port is renamed, the ranges stay",
	  "service s/7 tcp:80:b ip=10.96.0.7 lb=203.0.113.7 from=10.0.0.0/8 from=192.0.3.0/24 "
	  "load-balancer",
	  3, 3, 6, 0, 2 },
	{ "no ranges",
	  "service s/7 tcp:80:b ip=10.96.0.7 lb=203.0.113.7 load-balancer", 1,
	  2, 3, 0, 1 },
	{ "the ranges come back",
	  "service s/7 tcp:80:b ip=10.96.0.7 lb=203.0.113.7 from=10.0.0.0/8 from=192.0.3.0/24 "
	  "load-balancer",
	  2, 1, 3, 0, 1 },
	{ "a Service as before", "service s/7 tcp:80 ip=10.96.0.7", 4, 3, 4, 0, 2 },
	{ "a Service goes", "gone service s/7", 0, 5, 1, 0, 1 },
	{ "a Service comes", "service s/7 tcp:80 ip=10.96.0.7", 5, 0, 1, 0, 1 },
	{ "a slice of nobody", "slice s/none-x none v4 tcp:8080 10.244.0.1", 0,
	  0, 0, 0, 0 },
	{ "the zone, which nobody hints at", "node n1 192.168.7.1 zone=a", 0, 0,
	  0, 0, 0 },
	{ "another address of the node", "node n1 192.168.7.2 zone=a", 1, 1, 0,
	  0, 0 },
	{ "a ServiceCIDR", "cidr c 10.96.0.0/12", 2, 0, 0, 0, 0 },
};

static void try_step(struct world *w, const struct step *s, unsigned int n)
{
	const unsigned int chains =
		s->chains == ONE_OR_SPARE ? n <= 100 : s->chains;
	struct fake_counts c;

	fake_counts_reset(w->kernel);
	world_put(w, s->object);
	world_must_sync(w, s->name);
	c = fake_counts(w->kernel);
	ck_assert_msg(
		c.elements_added == s->added && c.elements_deleted == s->deleted &&
			c.verdicts == s->verdicts && c.chains_added == chains &&
			w->report.services == s->services,
		"%s, of %u: added %u, deleted %u, verdicts %u, chains %u, compiled %u",
		s->name, n, c.elements_added, c.elements_deleted, c.verdicts,
		c.chains_added, w->report.services);
	ck_assert_msg(c.exchanges == (s->added + s->deleted ? 1u : 0u) +
					      (chains ? 1u : 0u) &&
			      !w->report.full,
		      "%s, of %u: %u exchanges", s->name, n, c.exchanges);
	ck_assert_msg(c.hasty == 0,
		      "%s, of %u: %u elements lead to chains that are empty yet",
		      s->name, n, c.hasty);
}

/* RUN-6, VER-13, NP-4, SVC-12: the same few elements, whether there are 100 services or 10,000. */
START_TEST(work_follows_change)
{
	const unsigned int n = _i ? 10000 : 100;
	struct world *w = world_new(0);
	unsigned int i;

	world_put(w, "node n1 192.168.7.1");
	for (i = 0; i < n; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1 10.244.0.2 10.244.0.3");
	}
	world_must_sync(w, "start");
	if (n == 100) /* one for each family; 10,000 come in parts */
		ck_assert_uint_eq(fake_counts(w->kernel).transactions, 2);
	for (i = 0; i < (unsigned int)N_ROWS(steps); i++)
		try_step(w, &steps[i], n);
	world_verify(w, "in the end");
	world_free(w);
}
END_TEST

/* One of 1,000 endpoints changes, with a node port and three addresses. */
START_TEST(long_lists)
{
	struct world *w = world_new(0);
	struct strbuf sb = STRBUF_INIT;
	struct fake_counts c;
	unsigned int i;

	for (i = 0; i < 1000; i++)
		strbuf_addf(&sb, " 10.244.%u.%u", i / 250, i % 250);
	world_put(w, "service s/1 tcp:80@30001 ip=10.96.0.1 ext=203.0.113.1 lb=203.0.113.2");
	put_slice(w, 1, sb.text);
	world_must_sync(w, "start");
	fake_counts_reset(w->kernel);
	memcpy(strstr(sb.text, "10.244.1.100"), "10.244.9.100", 12);
	put_slice(w, 1, sb.text);
	world_must_sync(w, "one is another");
	c = fake_counts(w->kernel);
	ck_assert_uint_eq(c.elements_added, 4);
	ck_assert_uint_eq(c.elements_deleted, 4);
	ck_assert_uint_eq(c.verdicts, 0);
	world_verify(w, "one of 1,000");
	world_free(w);
	strbuf_free(&sb);
}
END_TEST

/* Changes that arrive together share a transaction, and a Service is compiled once. */
START_TEST(changes_are_combined)
{
	struct world *w = world_new(0);
	unsigned int i;

	for (i = 0; i < 50; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1");
	}
	world_must_sync(w, "start");
	fake_counts_reset(w->kernel);
	for (i = 0; i < 50; i++) {
		put_slice(w, i, "10.244.0.2");
		put_slice(w, i, "10.244.0.3");
	}
	world_must_sync(w, "a storm");
	ck_assert_uint_eq(fake_counts(w->kernel).transactions, 1);
	ck_assert_uint_eq(fake_counts(w->kernel).elements_added, 50);
	ck_assert_uint_eq(w->report.services, 50);
	world_free(w);
}
END_TEST

/* Restart */

/* RUN-2: a restart with nothing changed writes nothing, and keeps the order of endpoints. */
START_TEST(adopts_what_is_right)
{
	struct world *w = world_new_rich(_i ? WORLD_OWNER : 0);
	struct fake_counts c;

	world_restart(w);
	fake_counts_reset(w->kernel);
	world_must_sync(w, "restart");
	c = fake_counts(w->kernel);
	ck_assert(w->report.full);
	ck_assert_msg(
		!w->report.wrote && !c.elements_added && !c.elements_deleted &&
			!c.rules_added && !c.chains_added && !c.chains_deleted,
		"added %u, deleted %u, rules %u, chains %u", c.elements_added,
		c.elements_deleted, c.rules_added, c.chains_added);
	/* an owner takes each family's table over, with nothing else in the transaction */
	ck_assert_uint_eq(c.transactions, _i ? 2 : 0);
	world_verify(w, "restart");
	world_free(w);
}
END_TEST

/* What happened meanwhile, and what it costs in IPv4. */
static const struct {
	const char *name, *objects[3];
	unsigned int added, deleted;
} meanwhile[] = {
	{ "an endpoint is another",
	  { "slice d/dns-1 dns v4 udp:53 10.244.0.9 10.244.1.8" },
	  1,
	  1 },
	{ "an endpoint went", { "slice d/dns-1 dns v4 udp:53 10.244.1.9" }, 2, 3 },
	{ "a Service went", { "gone service d/dns" }, 0, 4 },
	{ "a Service went, with its slice",
	  { "gone service d/dns", "gone slice d/dns-1" },
	  0,
	  4 },
	{ "a Service came", { "service d/new tcp:1 ip=10.96.0.9" }, 2, 0 },
	{ "endpoints of an empty one came",
	  { "slice d/e empty v4 tcp:8080 10.244.1.1" },
	  2,
	  1 },
	{ "a port's name is another",
	  { "service d/dns udp:53:dns ip=10.96.0.3",
	    "slice d/dns-1 dns v4 udp:53:dns 10.244.0.9 10.244.1.9" },
	  1,
	  1 },
	{ "the range is another", { "cidr c 10.96.0.0/12 fd00:96::/108" }, 2, 2 },
	{ "the node's address is another",
	  { "node n1 192.168.7.2 fd00:7::1 zone=a" },
	  1,
	  1 },
	{ "a ServiceCIDR went", { "gone cidr c" }, 0, 4 },
};

START_TEST(adopts_with_changes)
{
	struct world *w = world_new_rich(0);
	struct fake_counts c;
	unsigned int i;

	for (i = 0; i < 3 && meanwhile[_i].objects[i]; i++)
		world_remember(w, meanwhile[_i].objects[i]);
	world_restart(w);
	fake_counts_reset(w->kernel);
	world_must_sync(w, meanwhile[_i].name);
	c = fake_counts(w->kernel);
	ck_assert_msg(c.elements_added == meanwhile[_i].added &&
			      c.elements_deleted == meanwhile[_i].deleted &&
			      c.transactions <= 2,
		      "%s: added %u, deleted %u in %u", meanwhile[_i].name,
		      c.elements_added, c.elements_deleted, c.transactions);
	world_verify(w, meanwhile[_i].name);
	world_verify_quiet(w, meanwhile[_i].name);
	world_free(w);
}
END_TEST

/*
 * ServiceCIDRs are listed last or never: ranges of an earlier run stay until
 * then (API-8 VER-6), those that are told are added at once (VER-13).
 */
static const struct {
	const char *name, *told;
	unsigned int added,
		deleted; /* before the list is whole; a range has a begin and an end */
	const char *listed;
	unsigned int then_added, then_deleted;
} ranges[] = {
	{ "the same", NULL, 0, 0, "cidr c 10.96.0.0/16 fd00:96::/108", 0, 0 },
	{ "none", NULL, 0, 0, NULL, 0, 4 },
	{ "another", NULL, 0, 0, "cidr c 10.97.0.0/16", 2, 4 },
	{ "a wider one", NULL, 0, 0, "cidr c 10.96.0.0/15", 2, 4 },
	{ "told in time", "cidr d 10.98.0.0/16", 2, 0, "cidr d 10.98.0.0/16", 0, 4 },
	{ "a narrower one in time", "cidr d 10.96.8.0/24", 2, 2,
	  "cidr d 10.96.8.0/24", 0, 2 },
};

static void sync_costs(struct world *w, const char *name, const char *when,
		       unsigned int added, unsigned int deleted)
{
	struct fake_counts c;

	fake_counts_reset(w->kernel);
	world_must_sync(w, name);
	c = fake_counts(w->kernel);
	ck_assert_msg(c.elements_added == added && c.elements_deleted == deleted,
		      "%s, %s: want %u added and %u deleted, got %u and %u", name,
		      when, added, deleted, c.elements_added, c.elements_deleted);
}

START_TEST(ranges_wait_for_their_list)
{
	const char *name = ranges[_i].name;
	struct world *w = world_new_rich(0);
	const struct object_sink *sink;

	world_remember(w, "gone cidr c");
	world_restart(w);
	w->model->complete[KIND_SERVICE_CIDR] = false;
	sync_costs(w, name, "not told", 0, 0);
	if (ranges[_i].told)
		build_put(w->model, ranges[_i].told);
	sync_costs(w, name, "told", ranges[_i].added, ranges[_i].deleted);
	sink = model_sink(w->model);
	sink->list_begin(sink->ctx, KIND_SERVICE_CIDR);
	if (ranges[_i].listed) {
		world_remember(w, ranges[_i].listed);
		build_put(w->model, ranges[_i].listed);
	}
	sink->list_end(sink->ctx, KIND_SERVICE_CIDR);
	sync_costs(w, name, "listed", ranges[_i].then_added,
		   ranges[_i].then_deleted);
	world_verify(w, name);
	world_free(w);
}
END_TEST

static const struct {
	const char *name;
	bool (*spoil)(struct fake_kernel *k, enum family family, const char *name);
	const char *object;
} odd[] = {
	{ "a set", fake_add_set, "service-ips-of-old" },
	{ "a chain", fake_add_chain, "filter-input" },
	{ "no map", fake_delete_set, "firewalled" },
	{ "no chain", fake_delete_chain, "nat-output" },
};

/* A table of an older layout is replaced in one transaction: at no moment is there none. */
START_TEST(replaces_older_layout)
{
	const char *name = odd[_i].name;
	struct world *w = world_new_rich(0);
	struct fake_counts c;

	ck_assert(odd[_i].spoil(w->kernel, FAMILY_IPV4, odd[_i].object));
	world_restart(w);
	fake_counts_reset(w->kernel);
	world_must_sync(w, name);
	c = fake_counts(w->kernel);
	ck_assert_msg(c.transactions == 1, "%s: %u transactions", name,
		      c.transactions);
	world_verify(w, name);
	world_verify_quiet(w, name);
	world_free(w);
}
END_TEST

/* A table that was made without an owner stays so, also where the kernel has owners. */
START_TEST(adopts_a_table_without_owner)
{
	struct world *w = world_new_rich(0);

	w->owner = true;
	world_restart(w);
	world_must_sync(w, "with owner");
	world_put(w, "gone service d/dns");
	world_must_sync(w, "with owner");
	world_verify(w, "with owner");
	world_free(w);
}
END_TEST

/*
 * BEY-6: the fast path comes and goes with a restart, and nothing else is
 * written. Of a table with an owner the former one is gone.
 */
START_TEST(fast_path_comes_and_goes)
{
	char pattern[] = "veth*", *patterns[] = { pattern, NULL };
	struct world *w = world_new_rich(_i ? WORLD_OWNER : 0);
	struct strbuf devices = STRBUF_INIT;
	struct fake_counts c;
	unsigned int step, f;

	for (step = 0; step < 4; step++) {
		const bool with = step == 0 || step == 1;

		w->config->vipmap.fast_path_interfaces = with ? patterns : NULL;
		world_restart(w);
		fake_owner_ends(w->kernel);
		fake_counts_reset(w->kernel);
		world_must_sync(w, "restart");
		c = fake_counts(w->kernel);
		ck_assert_msg(!c.elements_added && !c.elements_deleted,
			      "step %u", step);
		ck_assert_uint_eq(c.chains_added, step == 0 ? 2 * 3 : 0);
		ck_assert_uint_eq(c.chains_deleted, step == 2 ? 2 * 3 : 0);
		ck_assert_msg(step % 2 ? !c.rules_added : c.rules_added > 0,
			      "step %u", step);
		for (f = 0; f < N_FAMILIES; f++) {
			fake_devices(w->kernel, (enum family)f, &devices);
			ck_assert_str_eq(devices.text ? devices.text : "",
					 with ? "" : "none");
			ck_assert(fake_has_chain(w->kernel, (enum family)f,
						 "fast-path") == with);
		}
		world_verify(w, "restart");
		world_verify_quiet(w, "restart");
	}
	strbuf_free(&devices);
	world_free(w);
}
END_TEST

/* Rules follow the configuration, and elements stay where they are. */
START_TEST(rules_follow_configuration)
{
	struct world *w = world_new_rich(0);
	struct fake_counts c;

	w->config->masquerade_all = true;
	fake_counts_reset(w->kernel);
	world_must_sync(w, "masqueradeAll");
	c = fake_counts(w->kernel);
	ck_assert_uint_eq(c.elements_added + c.elements_deleted, 0);
	ck_assert_uint_gt(c.rules_added, 0);
	world_verify(w, "masqueradeAll");
	world_verify_quiet(w, "masqueradeAll");
	world_free(w);
}
END_TEST

/* Damage by others (RUN-5) */

static bool delete_one(struct fake_kernel *k)
{
	const struct element el = { .set = SET_CLUSTER_IPS,
				    .addr = build_addr("10.96.0.3") };

	return fake_delete_key(k, FAMILY_IPV4, &el);
}

static bool delete_verdict(struct fake_kernel *k)
{
	const struct element el = {
		.set = MAP_SERVICE_IPS,
		.addr = build_addr("10.96.0.3"),
		.protocol = IPPROTO_UDP,
		.port = 53,
	};

	return fake_delete_key(k, FAMILY_IPV4, &el);
}

static bool delete_end_of_range(struct fake_kernel *k)
{
	const struct element el = { .set = SET_SERVICE_CIDRS,
				    .addr = build_addr("10.96.0.0") };

	return fake_delete_key(k, FAMILY_IPV4, &el);
}

static bool change_one(struct fake_kernel *k)
{
	unsigned int i = 0;

	while (i < 1000 && !fake_damage_element(k, FAMILY_IPV4, i))
		i++;
	return i < 1000;
}

static bool add_one(struct fake_kernel *k)
{
	const struct element el = { .set = SET_CLUSTER_IPS,
				    .addr = build_addr("10.96.7.7") };

	return fake_add_element(k, FAMILY_IPV4, &el) == 0;
}

static bool add_verdict(struct fake_kernel *k)
{
	const struct element el = {
		.set = MAP_SERVICE_IPS,
		.addr = build_addr("10.96.7.7"),
		.protocol = IPPROTO_TCP,
		.port = 1,
		.verdict.kind = VERDICT_DROP,
		.comment = "intruder",
	};

	return fake_add_element(k, FAMILY_IPV4, &el) == 0;
}

static bool add_range(struct fake_kernel *k)
{
	const struct element el = {
		.set = SET_SERVICE_CIDRS,
		.addr = build_addr("172.16.0.0"),
		.range = build_prefix("172.16.0.0/12"),
	};

	return fake_add_element(k, FAMILY_IPV4, &el) == 0;
}

static bool delete_rule(struct fake_kernel *k)
{
	return fake_delete_rule(k, FAMILY_IPV4, 6); /* of the constant chains */
}

static bool delete_pick_rule(struct fake_kernel *k)
{
	return fake_delete_rule(k, FAMILY_IPV4, fake_n_chains(k, FAMILY_IPV4) - 1);
}

static bool add_rule(struct fake_kernel *k)
{
	return fake_add_rule(k, FAMILY_IPV4, 3);
}

static bool add_pick_rule(struct fake_kernel *k)
{
	return fake_add_rule(k, FAMILY_IPV4, fake_n_chains(k, FAMILY_IPV4) - 1);
}

static bool add_pick_chain(struct fake_kernel *k)
{
	return fake_add_chain(k, FAMILY_IPV4, "pick-77");
}

static bool delete_pick_chain(struct fake_kernel *k)
{
	return fake_delete_chain(k, FAMILY_IPV4, "cluster-pick-2");
}

static bool delete_table(struct fake_kernel *k)
{
	return fake_delete_table(k, FAMILY_IPV4);
}

static bool flush_table(struct fake_kernel *k)
{
	return fake_flush_table(k, FAMILY_IPV4);
}

static bool add_chain(struct fake_kernel *k)
{
	return fake_add_chain(k, FAMILY_IPV4, "intruder");
}

static bool add_set(struct fake_kernel *k)
{
	return fake_add_set(k, FAMILY_IPV4, "intruder");
}

enum { ANY = 9999 };

static const struct {
	const char *name;
	bool (*damage)(struct fake_kernel *k);
	unsigned int added, deleted;
} damages[] = {
	{ "an element deleted", delete_one, 1, 0 },
	{ "a verdict deleted", delete_verdict, 1, 0 },
	{ "half of a range deleted", delete_end_of_range, ANY, ANY },
	{ "an element changed", change_one, 1, 1 },
	{ "an element added", add_one, 0, 1 },
	{ "a verdict added", add_verdict, 0, 1 },
	{ "a range added", add_range, 0, 2 },
	{ "a rule deleted", delete_rule, 0, 0 },
	{ "a rule of a pick chain deleted", delete_pick_rule, 0, 0 },
	{ "a rule added", add_rule, 0, 0 },
	{ "a rule added to a pick chain", add_pick_rule, 0, 0 },
	{ "a pick chain added", add_pick_chain, 0, 0 },
	{ "a pick chain deleted, with what leads there", delete_pick_chain, ANY, 0 },
	{ "the table deleted", delete_table, ANY, ANY },
	{ "all rules deleted", flush_table, 0, 0 },
	{ "a chain added", add_chain, ANY, ANY },
	{ "a set added", add_set, ANY, ANY },
};

START_TEST(repairs_damage)
{
	struct world *w = world_new_rich(0);
	struct fake_counts c;

	ck_assert(damages[_i].damage(w->kernel));
	dataplane_forget(w->dp[FAMILY_IPV4]);
	fake_counts_reset(w->kernel);
	world_must_sync(w, damages[_i].name);
	c = fake_counts(w->kernel);
	ck_assert_msg((damages[_i].added == ANY ||
		       c.elements_added == damages[_i].added) &&
			      (damages[_i].deleted == ANY ||
			       c.elements_deleted == damages[_i].deleted),
		      "%s: added %u, deleted %u", damages[_i].name,
		      c.elements_added, c.elements_deleted);
	ck_assert_uint_le(c.transactions, c.chains_added ? 2 : 1);
	world_verify(w, damages[_i].name);
	world_verify_quiet(w, damages[_i].name);
	world_free(w);
}
END_TEST

/* While a change is on its way. */
START_TEST(repairs_damage_with_changes)
{
	struct world *w = world_new_rich(0);

	ck_assert(damages[_i].damage(w->kernel));
	/* nobody told us: the transaction may fail, and that is when we look */
	world_put(w, "slice d/web-1 web v4 tcp:8080:http tcp:8443:https 10.244.1.2");
	world_put(w, "slice d/sticky-1 sticky v4 tcp:8080 10.244.0.2(local) 10.244.1.2");
	world_put(w, "gone service d/dns");
	world_put(w, "service d/other tcp:80 ip=10.96.0.8 ext=203.0.113.9");
	world_must_sync(w, damages[_i].name);
	dataplane_forget(w->dp[FAMILY_IPV4]);
	world_must_sync(w, damages[_i].name);
	world_verify(w, damages[_i].name);
	world_verify_quiet(w, damages[_i].name);
	world_free(w);
}
END_TEST

/* Refusals (RUN-4) */

struct poison {
	struct addr addr;
	enum set_id only; /* N_SETS: all */
	int err;
	unsigned int times;
};

static int refuse(void *ctx, const struct fake_op *op)
{
	struct poison *p = ctx;

	if (!op->has_element || addr_compare(&op->element.addr, &p->addr) ||
	    (p->only < N_SETS && p->only != op->element.set))
		return 0;
	p->times++;
	return p->err;
}

static void poison(struct world *w, struct poison *p)
{
	fake_faults(w->kernel)->refuse = p ? refuse : NULL;
	fake_faults(w->kernel)->ctx = p;
}

static struct service_port_state *port_of(struct world *w, const char *name)
{
	struct service_entry *s = model_find_service(w->model, "s", name);

	return s ? s->ports[FAMILY_IPV4] : NULL;
}

static const struct element *vip_verdict(struct world *w, const char *addr,
					 struct arena *scratch)
{
	const struct element key = {
		.set = MAP_SERVICE_IPS,
		.addr = build_addr(addr),
		.protocol = IPPROTO_TCP,
		.port = 80,
	};
	const struct element *list;
	size_t n, i;

	list = fake_elements(w->kernel, FAMILY_IPV4, scratch, &n);
	for (i = 0; i < n; i++)
		if (element_key_compare(&list[i], &key) == 0)
			return &list[i];
	return NULL;
}

static const struct {
	const char *name;
	bool no_offsets, running; /* the bad one comes to a table that is there */
	enum set_id only;
} refusals[] = {
	{ "told by the place in the message", false, true, N_SETS },
	{ "told by the place, at start", false, false, N_SETS },
	{ "found by bisection", true, true, N_SETS },
	{ "found by bisection, at start", true, false, N_SETS },
	{ "an endpoint list", false, true, MAP_ENDPOINTS },
	{ "an endpoint list, by bisection", true, false, MAP_ENDPOINTS },
	{ "a shared element, which has no owner", false, true, SET_CLUSTER_IPS },
	{ "a shared element at start", true, false, SET_CLUSTER_IPS },
};

START_TEST(one_bad_apple)
{
	struct poison bad = { .addr = build_addr("10.96.0.20"),
			      .only = refusals[_i].only,
			      .err = -EINVAL };
	struct world *w = world_new(0);
	struct arena scratch = ARENA_INIT;
	unsigned int i;

	fake_faults(w->kernel)->no_offsets = refusals[_i].no_offsets;
	if (refusals[_i].running)
		world_must_sync(w, "empty");
	poison(w, &bad);
	for (i = 1; i < 40; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1 10.244.0.2");
	}
	world_must_sync(w, refusals[_i].name);
	for (i = 1; i < 40; i++) {
		char addr[32];

		snprintf(addr, sizeof(addr), "10.96.0.%u", i);
		ck_assert_msg((vip_verdict(w, addr, &scratch) != NULL) == (i != 20),
			      "%s: %s", refusals[_i].name, addr);
	}
	ck_assert_ptr_nonnull(strstr(w->log.text.text, "Service s/20: set aside"));
	ck_assert_uint_eq(port_of(w, "20")->refusals, 1);

	/* Others go on changing, and the kernel is not bothered with it before its time. */
	bad.times = 0;
	w->now_us = port_of(w, "20")->retry_us - 3000000;
	put_slice(w, 3, "10.244.0.1");
	world_must_sync(w, "others");
	ck_assert_uint_eq(bad.times, 0);
	ck_assert_int_eq(dataplane_retry_us(w->dp[FAMILY_IPV4]),
			 port_of(w, "20")->retry_us);

	/* Tried again, later and later. */
	for (i = 2; i < 8; i++) {
		int64_t before = w->now_us = port_of(w, "20")->retry_us;

		world_must_sync(w, "again");
		ck_assert_uint_eq(port_of(w, "20")->refusals, i);
		ck_assert_int_gt(port_of(w, "20")->retry_us, before + 2000000);
		ck_assert_int_le(port_of(w, "20")->retry_us, w->now_us + 30000000);
	}

	/* It takes part again. */
	poison(w, NULL);
	w->now_us = port_of(w, "20")->retry_us;
	world_must_sync(w, "mended");
	ck_assert_uint_eq(port_of(w, "20")->refusals, 0);
	ck_assert_int_eq(dataplane_retry_us(w->dp[FAMILY_IPV4]), INT64_MAX);
	world_verify(w, "mended");
	world_verify_quiet(w, "mended");
	arena_free(&scratch);
	world_free(w);
}
END_TEST

/* Refused from the beginning, and gone before it was ever in the kernel. */
START_TEST(refused_and_gone)
{
	struct poison bad = { .addr = build_addr("10.96.0.20"),
			      .only = N_SETS,
			      .err = -EINVAL };
	struct world *w = world_new(0);

	world_must_sync(w, "empty");
	poison(w, &bad);
	world_put(w, "service s/20 udp:53 ip=10.96.0.20");
	world_put(w, "slice s/20-x 20 v4 udp:5353 10.244.0.1");
	world_must_sync(w, "refused");
	ck_assert_uint_eq(port_of(w, "20")->refusals, 1);
	world_put(w, "gone slice s/20-x");
	world_put(w, "gone service s/20");
	world_must_sync(w, "gone");
	ck_assert_ptr_null(model_find_service(w->model, "s", "20"));
	world_verify(w, "gone");
	world_free(w);
}
END_TEST

/* What was refused is only a change: the former rules of the Service stay. */
START_TEST(former_rules_stay)
{
	struct poison bad = { .addr = build_addr("10.96.0.2"),
			      .only = N_SETS,
			      .err = -EINVAL };
	struct world *w = world_new(0);
	struct arena scratch = ARENA_INIT;
	unsigned int i;

	for (i = 1; i < 4; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1 10.244.0.2");
	}
	world_must_sync(w, "start");
	poison(w, &bad);
	put_slice(w, 2, "10.244.0.1 10.244.0.2 10.244.0.3");
	put_slice(w, 3, "10.244.0.1 10.244.0.2 10.244.0.3");
	world_must_sync(w, "refused");
	ck_assert_uint_eq(vip_verdict(w, "10.96.0.2", &scratch)->verdict.count, 2);
	ck_assert_uint_eq(vip_verdict(w, "10.96.0.3", &scratch)->verdict.count, 3);
	/* another dispatch is another chance, at once */
	poison(w, NULL);
	put_slice(w, 2, "10.244.0.1");
	w->now_us -= 1000000;
	world_must_sync(w, "another chance");
	world_verify(w, "another chance");
	arena_free(&scratch);
	world_free(w);
}
END_TEST

static int refuse_range(void *ctx, const struct fake_op *op)
{
	return op->has_element && op->element.set == SET_SOURCE_RANGES &&
			       addr_compare(&op->element.range.addr, ctx) == 0
		       ? -EINVAL
		       : 0;
}

static bool has_range(struct world *w, const char *set, const char *range)
{
	const struct prefix want = build_prefix(range);
	struct arena scratch = ARENA_INIT;
	const struct element *list;
	bool found = false;
	size_t n, i;

	list = fake_elements(w->kernel, FAMILY_IPV4, &scratch, &n);
	for (i = 0; i < n; i++)
		found |= list[i].set == SET_SOURCE_RANGES &&
			 strcmp(list[i].ranges, set) == 0 &&
			 prefix_compare(&list[i].range, &want) == 0;
	arena_free(&scratch);
	return found;
}

/* A range that is refused concerns the Service whose it is, whether or not the kernel tells. */
START_TEST(one_bad_range)
{
	struct addr bad = build_addr("192.0.2.0");
	struct world *w = world_new(0);

	fake_faults(w->kernel)->no_offsets = _i;
	world_put(w, "service s/1 tcp:80 ip=10.96.0.1 lb=203.0.113.1 from=10.0.0.0/8");
	world_put(w, "service s/2 tcp:80 ip=10.96.0.2 lb=203.0.113.2 from=10.0.0.0/8");
	world_must_sync(w, "start");
	fake_faults(w->kernel)->refuse = refuse_range;
	fake_faults(w->kernel)->ctx = &bad;
	world_put(w, "service s/1 tcp:80 ip=10.96.0.1 lb=203.0.113.1 from=172.16.0.0/12");
	world_put(w, "service s/2 tcp:80 ip=10.96.0.2 lb=203.0.113.2 from=192.0.2.0/24");
	world_must_sync(w, "refused");
	ck_assert_uint_eq(port_of(w, "1")->refusals, 0);
	ck_assert_uint_eq(port_of(w, "2")->refusals, 1);
	ck_assert(has_range(w, "ranges/s/1", "172.16.0.0/12"));
	ck_assert(has_range(w, "ranges/s/2", "10.0.0.0/8"));
	fake_faults(w->kernel)->refuse = NULL;
	w->now_us = port_of(w, "2")->retry_us;
	world_must_sync(w, "mended");
	ck_assert(!has_range(w, "ranges/s/2", "10.0.0.0/8"));
	world_verify(w, "mended");
	world_verify_quiet(w, "mended");
	world_free(w);
}
END_TEST

static int refuse_port(void *ctx, const struct fake_op *op)
{
	return op->has_element && op->element.port == *(const uint16_t *)ctx
		       ? -EINVAL
		       : 0;
}

/* LB-4: a port that is set aside does not hold back the ranges of its Service. */
START_TEST(ranges_of_a_port_set_aside)
{
	uint16_t bad = (uint16_t)(80 + _i);
	struct world *w = world_new(0);

	world_put(w, "service s/1 tcp:80:a tcp:81:b ip=10.96.0.1 lb=203.0.113.1 from=10.0.0.0/8");
	world_must_sync(w, "start");
	fake_faults(w->kernel)->refuse = refuse_port;
	fake_faults(w->kernel)->ctx = &bad;
	world_put(w, "service s/1 tcp:80:a tcp:81:b ip=10.96.0.1 lb=203.0.113.1 "
		     "from=172.16.0.0/12");
	world_put(w, "slice s/1-x 1 v4 tcp:8080:a tcp:8081:b 10.244.0.1");
	world_must_sync(w, "refused");
	ck_assert_ptr_nonnull(strstr(w->log.text.text, "set aside"));
	ck_assert(has_range(w, "ranges/s/1", "172.16.0.0/12"));
	ck_assert(!has_range(w, "ranges/s/1", "10.0.0.0/8"));
	fake_faults(w->kernel)->refuse = NULL;
	w->now_us += 60 * 1000000;
	world_must_sync(w, "mended");
	world_verify(w, "mended");
	world_verify_quiet(w, "mended");
	world_free(w);
}
END_TEST

/* Large transactions, while nobody listens to notifications. */
static struct {
	struct fake_kernel *kernel;
	unsigned int foreign, begun, ended;
} bulk;

static void on_bulk(void *ctx, bool begin)
{
	const struct element other = { .set = SET_CLUSTER_IPS,
				       .addr = build_addr("10.99.0.1") };

	(void)ctx;
	bulk.begun += begin;
	bulk.ended += !begin;
	if (begin || !bulk.foreign)
		return;
	bulk.foreign--;
	ck_assert_int_eq(fake_add_element(bulk.kernel, FAMILY_IPV4, &other), 0);
}

/* RUN-5: who changed the table meanwhile is found out, and after that it is known. */
START_TEST(large_transactions)
{
	struct world *w = world_new(0);
	unsigned int i;

	w->bulk = on_bulk;
	world_restart(w);
	memset(&bulk, 0, sizeof(bulk));
	bulk.kernel = w->kernel;
	bulk.foreign = (unsigned int)_i;
	for (i = 0; i < 400; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1 10.244.0.2");
	}
	world_must_sync(w, "large");
	ck_assert_uint_eq(bulk.begun, 1);
	ck_assert_uint_eq(bulk.ended, 1);
	ck_assert_int_eq(dataplane_is_known(w->dp[FAMILY_IPV4]), !_i);
	world_must_sync(w, "after it");
	ck_assert(dataplane_is_known(w->dp[FAMILY_IPV4]));
	world_verify(w, "after it");
	/* somebody changed another table: ours is as it should be, and then
	 * there is nothing to write */
	bulk.foreign = 0;
	for (i = 0; i < 400; i++)
		put_slice(w, i, "10.244.0.3 10.244.0.4");
	world_must_sync(w, "large again");
	ck_assert(dataplane_is_known(w->dp[FAMILY_IPV4]));
	ck_assert_uint_eq(bulk.begun, 2);
	world_free(w);
}
END_TEST

static void on_bulk_elsewhere(void *ctx, bool begin)
{
	(void)ctx;
	if (!begin)
		fake_next_generation(bulk.kernel);
}

START_TEST(large_transactions_beside_others)
{
	struct world *w = world_new(0);
	unsigned int i;

	w->bulk = on_bulk_elsewhere;
	world_restart(w);
	bulk.kernel = w->kernel;
	for (i = 0; i < 400; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1 10.244.0.2");
	}
	world_must_sync(w, "large");
	ck_assert(!dataplane_is_known(w->dp[FAMILY_IPV4]));
	world_must_sync(w, "nothing to write");
	ck_assert(!w->report.wrote);
	ck_assert(dataplane_is_known(w->dp[FAMILY_IPV4]));
	world_free(w);
}
END_TEST

/* The table is gone, and then the kernel refuses what it had: the others come back all the same. */
START_TEST(refused_what_was_there)
{
	struct poison bad = { .addr = build_addr("10.96.0.2"),
			      .only = N_SETS,
			      .err = -EINVAL };
	struct world *w = world_new(0);
	struct arena scratch = ARENA_INIT;
	unsigned int i;

	for (i = 1; i < 9; i++) {
		put_service(w, i, "");
		put_slice(w, i, "10.244.0.1 10.244.0.2");
	}
	world_must_sync(w, "start");
	fake_delete_table(w->kernel, FAMILY_IPV4);
	dataplane_forget(w->dp[FAMILY_IPV4]);
	poison(w, &bad);
	world_must_sync(w, "gone and refused");
	ck_assert_ptr_null(vip_verdict(w, "10.96.0.2", &scratch));
	ck_assert_ptr_nonnull(vip_verdict(w, "10.96.0.3", &scratch));
	poison(w, NULL);
	w->now_us += 31000000;
	world_must_sync(w, "mended");
	world_verify(w, "mended");
	arena_free(&scratch);
	world_free(w);
}
END_TEST

/* SVC-11 while the former owner of a virtual IP cannot be changed. */
START_TEST(takeover_from_the_set_aside)
{
	struct poison bad = { .addr = build_addr("10.96.0.1"),
			      .only = N_SETS,
			      .err = -EINVAL };
	struct world *w = world_new(0);
	struct arena scratch = ARENA_INIT;

	put_service(w, 1, "ext=203.0.113.1 created=5");
	put_slice(w, 1, "10.244.0.1 10.244.0.2");
	put_slice(w, 2, "10.244.0.3");
	world_must_sync(w, "start");
	poison(w, &bad);
	put_service(w, 2, "ext=203.0.113.1 created=1"); /* older: it wins */
	put_slice(w, 1, "10.244.0.1 10.244.0.2 10.244.0.4");
	world_must_sync(w, "takeover");
	ck_assert_str_eq(vip_verdict(w, "203.0.113.1", &scratch)->comment, "s/2");
	world_verify_quiet(w, "takeover");
	ck_assert_str_eq(vip_verdict(w, "203.0.113.1", &scratch)->comment, "s/2");
	poison(w, NULL);
	put_slice(w, 1, "10.244.0.1");
	world_must_sync(w, "mended");
	world_verify(w, "mended");
	arena_free(&scratch);
	world_free(w);
}
END_TEST

/* A commit that fails for no element of anybody's: nobody is blamed, all is tried again. */
static int refuse_commit(void *ctx, const struct fake_op *op)
{
	unsigned int *left = ctx;

	if (op->type != -1 || !*left)
		return 0;
	--*left;
	return -EINVAL;
}

START_TEST(nobody_is_to_blame)
{
	struct world *w = world_new_rich(0);
	unsigned int left = 100;

	fake_faults(w->kernel)->refuse = refuse_commit;
	fake_faults(w->kernel)->ctx = &left;
	world_put(w, "gone service d/dns");
	world_put(w, "service d/other tcp:80 ip=10.96.0.8");
	ck_assert_int_ne(world_sync(w), 0);
	ck_assert_ptr_null(
		w->log.text.text ? strstr(w->log.text.text, "set aside") : NULL);
	left = 0;
	world_must_sync(w, "next time");
	world_verify(w, "next time");
	world_free(w);
}
END_TEST

/* A new table that is too large for one transaction. */

enum { N_LARGE = 4000 };

static void put_large(struct world *w)
{
	unsigned int i;

	for (i = 0; i < N_LARGE; i++) {
		put_service(w, i, "");
		put_slice(w, i,
			  "10.244.0.1 10.244.0.2 10.244.0.3 10.244.0.4 10.244.0.5 10.244.0.6 "
			  "10.244.0.7 10.244.0.8 10.244.0.9 10.244.0.10");
	}
}

/* Watches a table being filled. */
struct filling {
	unsigned int commits,
		opened;	    /* the commit that gave base chains their rules */
	unsigned int rules; /* of base chains */
	unsigned int die; /* from this commit on all is refused: we are dead */
};

static int watch_filling(void *ctx, const struct fake_op *op)
{
	struct filling *f = ctx;

	if (op->family != FAMILY_IPV4)
		return 0;
	if (op->type == NFT_MSG_NEWRULE && strncmp(op->name, "nat-", 4) == 0) {
		f->opened = f->commits + 1;
		f->rules++;
	}
	if (op->type == -1)
		f->commits++;
	return f->die && f->commits >= f->die ? -EPERM : 0;
}

/* No packet enters it before all is there. */
START_TEST(a_new_table_in_parts)
{
	struct world *w = world_new(0);
	struct filling f = { 0 };

	fake_faults(w->kernel)->refuse = watch_filling;
	fake_faults(w->kernel)->ctx = &f;
	put_large(w);
	world_must_sync(w, "start");
	ck_assert_uint_gt(f.commits, 2);
	ck_assert_uint_eq(f.opened, f.commits);
	ck_assert_uint_eq(w->report.wrote,
			  f.commits + 1); /* and the other family's */
	ck_assert_uint_eq(f.rules, 4);
	ck_assert(dataplane_is_known(w->dp[FAMILY_IPV4]));
	world_verify(w, "start");
	world_verify_quiet(w, "start");
	world_free(w);
}
END_TEST

/* A few Services with many ranges are large, too. */
START_TEST(ranges_come_in_parts)
{
	struct world *w = world_new(0);
	struct strbuf sb = STRBUF_INIT;
	struct filling f = { 0 };
	unsigned int i, n;

	for (n = 0; n < 10; n++) {
		strbuf_addf(&sb,
			    "service s/%u tcp:80 ip=10.96.0.%u lb=203.0.113.%u",
			    n, n + 1, n + 1);
		for (i = 0; i < 2000; i++)
			strbuf_addf(&sb, " from=20.%u.%u.0/25", n * 8 + i / 256,
				    i % 256);
		world_put(w, sb.text);
		strbuf_reset(&sb);
	}
	fake_faults(w->kernel)->refuse = watch_filling;
	fake_faults(w->kernel)->ctx = &f;
	world_must_sync(w, "start");
	ck_assert_uint_gt(f.commits, 2);
	ck_assert_uint_eq(f.opened, f.commits);
	fake_faults(w->kernel)->refuse = NULL;
	world_verify_quiet(w, "start");
	strbuf_free(&sb);
	world_free(w);
}
END_TEST

/* The process ends before the last part: the next one makes the table whole. */
START_TEST(death_between_parts)
{
	struct world *w = world_new(0);
	struct filling f = { .die = (unsigned int)_i };

	fake_faults(w->kernel)->refuse = watch_filling;
	fake_faults(w->kernel)->ctx = &f;
	put_large(w);
	ck_assert_int_ne(world_sync(w), 0);
	ck_assert_uint_eq(f.rules, 0);
	ck_assert(fake_has_table(w->kernel, FAMILY_IPV4) == (_i > 1));
	fake_faults(w->kernel)->refuse = NULL;
	world_restart(w);
	world_must_sync(w, "next process");
	world_verify(w, "next process");
	world_verify_quiet(w, "next process");
	world_free(w);
}
END_TEST

/* One that is refused in whatever part: the others come. */
START_TEST(one_bad_apple_in_parts)
{
	struct poison bad = { .addr = build_addr("10.96.0.20"),
			      .only = N_SETS,
			      .err = -EINVAL };
	struct world *w = world_new(0);
	struct arena scratch = ARENA_INIT;

	fake_faults(w->kernel)->no_offsets = _i;
	poison(w, &bad);
	put_large(w);
	world_must_sync(w, "start");
	ck_assert_uint_eq(port_of(w, "20")->refusals, 1);
	ck_assert_ptr_null(vip_verdict(w, "10.96.0.20", &scratch));
	ck_assert_ptr_nonnull(vip_verdict(w, "10.96.0.21", &scratch));
	poison(w, NULL);
	w->now_us = port_of(w, "20")->retry_us;
	world_must_sync(w, "mended");
	world_verify(w, "mended");
	arena_free(&scratch);
	world_free(w);
}
END_TEST

/* Lost answers */

static const struct {
	const char *name;
	int err;
	bool applied;
} losses[] = {
	{ "timed out, and was applied", -ETIMEDOUT, true },
	{ "timed out, and was not", -ETIMEDOUT, false },
	{ "no buffer space, and was applied", -ENOBUFS, true },
	{ "no buffer space, and was not", -ENOBUFS, false },
	{ "interrupted", -EINTR, true },
	{ "no memory in the kernel", -ENOMEM, false },
	{ "not permitted", -EPERM, false },
};

/* Each exchange fails once: the next sync brings it right, and nothing is half done. */
START_TEST(each_exchange_fails_once)
{
	unsigned int part = (unsigned int)_i % N_SCENARIOS,
		     loss = (unsigned int)_i / N_SCENARIOS, n, tries;
	struct world *w;
	bool failed;

	for (n = 1;; n++) {
		w = world_new_rich(0);
		fake_add_client(w->kernel, FAMILY_IPV4, "affinity/d/sticky/tcp/",
				&(struct addr){ { 1, 2, 3, 4 } },
				&(struct addr){ { 10, 244, 1, 1 } }, 8080);
		world_scenario(w, part);
		fake_faults(w->kernel)->fail_at = n;
		fake_faults(w->kernel)->fail_err = losses[loss].err;
		fake_faults(w->kernel)->fail_applied = losses[loss].applied;
		world_sync(w);
		failed = !fake_faults(w->kernel)->fail_at;
		fake_faults(w->kernel)->fail_at = 0;
		for (tries = 0;
		     tries < 3 && (!dataplane_is_known(w->dp[FAMILY_IPV4]) ||
				   !dataplane_is_known(w->dp[FAMILY_IPV6]));
		     tries++)
			world_must_sync(w, losses[loss].name);
		world_verify(w, losses[loss].name);
		world_verify_quiet(w, losses[loss].name);
		ck_assert_msg(fake_n_clients(w->kernel, FAMILY_IPV4,
					     "affinity/d/sticky/tcp/") ==
				      (part == 0 || part == 3 ? 0 : 1),
			      "%s, exchange %u, part %u: clients",
			      losses[loss].name, n, part);
		world_free(w);
		if (!failed)
			break;
	}
	ck_assert_uint_gt(n, 2);
}
END_TEST

/* Session affinity */

static unsigned int clients(struct world *w, const char *map)
{
	return fake_n_clients(w->kernel, FAMILY_IPV4, map);
}

static void add_clients(struct world *w, const char *map, const char *endpoint,
			unsigned int first, unsigned int n)
{
	const struct addr ep = build_addr(endpoint);
	unsigned int i;

	for (i = first; i < first + n; i++)
		fake_add_client(w->kernel, FAMILY_IPV4, map,
				&(struct addr){ { 172, 16, (uint8_t)(i / 256),
						  (uint8_t)i } },
				&ep, 8080);
}

#define CLUSTER_MAP "affinity/s/1/tcp/"
#define LOCAL_MAP "affinity-local/s/1/tcp/"

static const struct {
	const char *name, *object;
	unsigned int cluster,
		local; /* clients left of 5 for each of 3 endpoints */
} forgets[] = {
	{ "AFF-6: another endpoint joins",
	  "slice s/1-x 1 v4 tcp:8080 10.244.0.1(local) 10.244.0.2(local) "
	  "10.244.0.3 10.244.0.4",
	  15, 10 },
	{ "AFF-4, AFF-5: an endpoint goes",
	  "slice s/1-x 1 v4 tcp:8080 10.244.0.1(local) 10.244.0.3", 10, 5 },
	{ "AFF-5: all endpoints go", "slice s/1-x 1 v4 tcp:8080", 0, 0 },
	{ "AFF-5: it has another port",
	  "slice s/1-x 1 v4 tcp:8081 10.244.0.1(local) 10.244.0.2(local) "
	  "10.244.0.3",
	  0, 0 },
	{ "AFF-4: an endpoint leaves the local list only",
	  "slice s/1-x 1 v4 tcp:8080 10.244.0.1 10.244.0.2(local) 10.244.0.3",
	  15, 5 },
	{ "AFF-6: an endpoint drains",
	  "slice s/1-x 1 v4 tcp:8080 10.244.0.1(local) 10.244.0.2(local) "
	  "10.244.0.3(unready,terminating)",
	  10, 10 },
	{ "AFF-7: another timeout",
	  "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 affinity=99 "
	  "internal-local",
	  15, 10 },
	{ "AFF-6: another virtual IP",
	  "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.2 affinity=60 "
	  "internal-local",
	  15, 10 },
	{ "AFF-6: other Services",
	  "service s/2 tcp:80 ip=10.96.0.2 affinity=60", 15, 10 },
	{ "AFF-5: the Service goes", "gone service s/1", 0, 0 },
	{ "AFF-6: no affinity any more",
	  "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 internal-local", 0, 0 },
	{ "AFF-8: the local list is not used any more",
	  "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 affinity=60", 15, 0 },
};

static struct world *sticky_world(void)
{
	struct world *w = world_new(0);

	world_put(w, "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 affinity=60 internal-local");
	put_slice(w, 1, "10.244.0.1(local) 10.244.0.2(local) 10.244.0.3");
	world_must_sync(w, "start");
	add_clients(w, CLUSTER_MAP, "10.244.0.1", 0, 5);
	add_clients(w, CLUSTER_MAP, "10.244.0.2", 5, 5);
	add_clients(w, CLUSTER_MAP, "10.244.0.3", 10, 5);
	add_clients(w, LOCAL_MAP, "10.244.0.1", 0, 5);
	add_clients(w, LOCAL_MAP, "10.244.0.2", 5, 5);
	return w;
}

/*
 * Sticky Services have chains of their own, and new ones whenever an endpoint
 * comes: none is led to before it is there, be it after a change or a restart.
 */
START_TEST(chains_come_first)
{
	static const char *const changes[] = {
		"service s/2 tcp:80 ip=10.96.0.2 affinity=60",
		"slice s/2-x 2 v4 tcp:8080 10.244.0.1",
		"slice s/2-x 2 v4 tcp:8080 10.244.0.1 10.244.0.2(local)",
		"service s/2 tcp:80@30002 ip=10.96.0.2 affinity=60",
		"service s/2 tcp:80@30002 ip=10.96.0.2 affinity=70",
		"service s/2 tcp:80@30002 ip=10.96.0.2",
		"slice s/2-x 2 v4 tcp:8080 10.244.0.1 10.244.0.2 10.244.0.3",
	};
	const bool restart = _i & 1;
	struct world *w = sticky_world();
	struct fake_counts c;
	unsigned int i;

	fake_faults(w->kernel)->old = _i & 2;
	fake_counts_reset(w->kernel);
	for (i = 0; i < (unsigned int)N_ROWS(changes); i++) {
		world_put(w, changes[i]);
		if (restart)
			world_restart(w);
		world_must_sync(w, changes[i]);
		c = fake_counts(w->kernel);
		ck_assert_msg(c.hasty == 0,
			      "%s: %u elements lead to chains that are empty yet",
			      changes[i], c.hasty);
	}
	ck_assert_uint_ge(c.chains_added, 5);
	world_verify(w, "in the end");
	world_free(w);
}
END_TEST

START_TEST(clients_are_forgotten)
{
	struct world *w = sticky_world();

	fake_faults(w->kernel)->old = _i % 2;
	world_put(w, forgets[_i].object);
	world_must_sync(w, forgets[_i].name);
	ck_assert_msg(clients(w, CLUSTER_MAP) == forgets[_i].cluster &&
			      clients(w, LOCAL_MAP) == forgets[_i].local,
		      "%s: %u and %u clients left", forgets[_i].name,
		      clients(w, CLUSTER_MAP), clients(w, LOCAL_MAP));
	world_verify(w, forgets[_i].name);
	world_free(w);
}
END_TEST

/* The same while the process is away; but for what is left to be collected. */
START_TEST(clients_are_forgotten_at_restart)
{
	struct world *w = sticky_world();
	bool collected = !forgets[_i].cluster || !forgets[_i].local;
	int64_t again_us;

	world_remember(w, forgets[_i].object);
	world_restart(w);
	world_must_sync(w, forgets[_i].name);
	if (collected)
		dataplane_collect(w->dp[FAMILY_IPV4], w->now_us + 20000000,
				  &again_us, &w->eb);
	ck_assert_msg(clients(w, CLUSTER_MAP) == forgets[_i].cluster &&
			      clients(w, LOCAL_MAP) == forgets[_i].local,
		      "%s: %u and %u clients left", forgets[_i].name,
		      clients(w, CLUSTER_MAP), clients(w, LOCAL_MAP));
	world_free(w);
}
END_TEST

/* AFF-5: the map is still there when the Service is back; its clients are not. */
START_TEST(clients_do_not_outlive_the_service)
{
	struct world *w = sticky_world();

	world_put(w, "gone service s/1");
	world_must_sync(w, "gone");
	world_put(w, "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 affinity=60 internal-local");
	world_must_sync(w, "back");
	ck_assert_uint_eq(clients(w, CLUSTER_MAP), 0);
	ck_assert_uint_eq(clients(w, LOCAL_MAP), 0);
	world_verify(w, "back");
	world_free(w);
}
END_TEST

/* AFF-2, AFF-7: only the rules of endpoints' chains are written. */
START_TEST(timeout_changes)
{
	struct world *w = sticky_world();
	struct fake_counts c;

	fake_counts_reset(w->kernel);
	world_put(w, "service s/1 tcp:80 ip=10.96.0.1 ext=203.0.113.1 affinity=61 internal-local");
	world_must_sync(w, "timeout");
	c = fake_counts(w->kernel);
	ck_assert_uint_eq(c.elements_added + c.elements_deleted + c.chains_added,
			  0);
	ck_assert_uint_eq(c.rules_added, 5 * 3);
	world_verify_quiet(w, "timeout");
	world_free(w);
}
END_TEST

/* Collection (RUN-7) */

static int collect(struct world *w, int64_t after_s, int64_t *again_us)
{
	w->now_us += after_s * 1000000;
	return dataplane_collect(w->dp[FAMILY_IPV4], w->now_us, again_us, &w->eb);
}

START_TEST(unused_chains_are_collected)
{
	struct world *w = world_new(0);
	int64_t again_us;

	fake_faults(w->kernel)->old = _i;
	put_service(w, 1, "");
	put_slice(w, 1, "10.244.0.1 10.244.0.2");
	world_must_sync(w, "start");
	put_slice(w, 1, "10.244.0.1");
	world_must_sync(w, "one less");
	ck_assert(fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-2"));
	ck_assert_int_eq(collect(w, 5, &again_us), 0);
	ck_assert_int_le(again_us - w->now_us, 11000000);
	ck_assert(fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-2"));
	ck_assert_int_eq(collect(w, 6, &again_us), 1);
	ck_assert(!fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-2"));
	ck_assert(fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-1"));
	ck_assert_int_eq(again_us, INT64_MAX);
	/* and made again when it is needed */
	put_slice(w, 1, "10.244.0.1 10.244.0.2");
	world_must_sync(w, "one more");
	world_verify(w, "one more");
	world_verify_quiet(w, "one more");
	world_free(w);
}
END_TEST

/* A chain that is wanted again in time is neither made nor collected. */
START_TEST(idle_chains_are_used_again)
{
	struct world *w = world_new(0);
	int64_t again_us;

	put_service(w, 1, "");
	put_slice(w, 1, "10.244.0.1 10.244.0.2");
	world_must_sync(w, "start");
	put_slice(w, 1, "10.244.0.1");
	world_must_sync(w, "one less");
	put_slice(w, 1, "10.244.0.1 10.244.0.2");
	fake_counts_reset(w->kernel);
	world_must_sync(w, "one more");
	ck_assert_uint_eq(fake_counts(w->kernel).chains_added, 0);
	ck_assert_int_eq(collect(w, 60, &again_us), 1); /* cluster-pick-1 */
	ck_assert(fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-2"));
	world_verify(w, "one more");
	world_free(w);
}
END_TEST

START_TEST(affinity_objects_are_collected)
{
	struct world *w = sticky_world();
	unsigned int before;
	int64_t again_us;

	fake_faults(w->kernel)->old = _i;
	world_put(w, "gone service s/1");
	world_must_sync(w, "gone");
	before = fake_n_chains(w->kernel, FAMILY_IPV4);
	/* 2 pick chains, 5 endpoints' chains, 2 maps */
	ck_assert_int_eq(collect(w, 11, &again_us), 9);
	ck_assert_uint_eq(fake_n_chains(w->kernel, FAMILY_IPV4), before - 7);
	ck_assert(!fake_has_set(w->kernel, FAMILY_IPV4, CLUSTER_MAP));
	ck_assert(!fake_has_set(w->kernel, FAMILY_IPV4, LOCAL_MAP));
	world_verify_quiet(w, "gone");
	world_free(w);
}
END_TEST

/* What a former process left idle is collected too. */
START_TEST(leftovers_are_collected)
{
	struct world *w = sticky_world();
	int64_t again_us;

	world_remember(w, "gone service s/1");
	world_restart(w);
	world_must_sync(w, "restart");
	ck_assert_int_eq(collect(w, 11, &again_us), 9);
	ck_assert(!fake_has_set(w->kernel, FAMILY_IPV4, CLUSTER_MAP));
	world_verify_quiet(w, "restart");
	world_free(w);
}
END_TEST

/* Somebody leads there: it cannot go, and that harms nothing. */
START_TEST(collection_may_fail)
{
	const struct element intruder = {
		.set = MAP_SERVICE_IPS,
		.addr = build_addr("10.96.7.7"),
		.protocol = IPPROTO_TCP,
		.port = 1,
		.verdict = { .kind = VERDICT_PICK, .pick = PICK_CLUSTER, .count = 2 },
	};
	struct world *w = world_new(0);
	int64_t again_us;

	put_service(w, 1, "");
	put_slice(w, 1, "10.244.0.1 10.244.0.2");
	world_must_sync(w, "start");
	put_slice(w, 1, "10.244.0.1");
	world_must_sync(w, "one less");
	ck_assert_int_eq(fake_add_element(w->kernel, FAMILY_IPV4, &intruder), 0);
	ck_assert_int_lt(collect(w, 11, &again_us), 0);
	ck_assert_int_lt(again_us, INT64_MAX);
	world_must_sync(w, "after it");
	world_verify(w, "after it");
	ck_assert_int_eq(collect(w, 11, &again_us), 1);
	ck_assert(!fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-2"));
	world_free(w);
}
END_TEST

/* Pick chains of a large table that nobody wants yet */

/* @n Services of 100 endpoints each; 100 of them make a large table. */
static struct world *world_of_hundreds(unsigned int n)
{
	struct world *w = world_new(0);
	struct strbuf list = STRBUF_INIT;
	unsigned int i;

	for (i = 0; i < 100; i++)
		strbuf_addf(&list, "10.244.0.%u ", i);
	for (i = 1; i <= n; i++) {
		put_service(w, i, "");
		put_slice(w, i, list.text);
	}
	strbuf_free(&list);
	return w;
}

static void put_hundred_and(struct world *w, unsigned int service, unsigned int more)
{
	struct strbuf list = STRBUF_INIT;
	unsigned int i;

	for (i = 0; i < 100 + more; i++)
		strbuf_addf(&list, "10.244.0.%u ", i);
	put_slice(w, service, list.text);
	strbuf_free(&list);
}

static const struct {
	const char *name;
	bool small, large; /* whether such a table begins with it */
} spare_chains[] = {
	{ "cluster-pick-100", true, true },
	{ "cluster-pick-99", false, true },
	{ "cluster-pick-101", false, true },
	{ "cluster-pick-0", false, false },
	{ "cluster-pick-1", true, true },
	{ "cluster-pick-2", false, true },
	{ "cluster-pick-8", false, true },
	{ "cluster-pick-9", false, false },
	{ "cluster-pick-98", false, false },
	{ "external-pick-3", false, true },
	{ "external-pick-4", false, false },
	{ "pick-3", false, true },
	{ "external-nodeport-pick-1", false, false },
	{ "cluster-sticky-pick-1", false, false },
};

/* One of them has a single endpoint, and none fewer is no number to spare a chain for. */
static struct world *world_to_spare(bool large)
{
	struct world *w = world_of_hundreds(large ? 100 : 99);

	put_service(w, 101, "");
	put_slice(w, 101, "10.244.1.1 ");
	return w;
}

START_TEST(large_tables_have_spare_chains)
{
	const bool large = _i;
	struct world *w = world_to_spare(large);
	unsigned int i;

	world_must_sync(w, "start");
	world_verify(w, "start");
	for (i = 0; i < N_ROWS(spare_chains); i++)
		ck_assert_msg(fake_has_chain(w->kernel, FAMILY_IPV4,
					     spare_chains[i].name) ==
				      (large ? spare_chains[i].large
					     : spare_chains[i].small),
			      "%s: %s", large ? "large" : "small",
			      spare_chains[i].name);
	/* the first change of a number of endpoints binds no map anew */
	fake_counts_reset(w->kernel);
	put_hundred_and(w, 7, 1);
	world_must_sync(w, "one more");
	ck_assert_uint_eq(fake_counts(w->kernel).chains_added, large ? 0 : 1);
	world_verify(w, "one more");
	world_verify_quiet(w, "one more");
	world_free(w);
}
END_TEST

/* Printed is what is made. */
START_TEST(spare_chains_are_in_the_text)
{
	const bool large = _i;
	struct world *w = world_to_spare(large);
	struct dataplane *dp = dataplane_new(&(struct dataplane_options){
		.family = FAMILY_IPV4, .model = w->model });
	struct strbuf text = STRBUF_INIT;
	char line[80];
	unsigned int i;

	ck_assert_int_eq(dataplane_print(dp, &text), 0);
	for (i = 0; i < N_ROWS(spare_chains); i++) {
		snprintf(line, sizeof(line), "chain %s {", spare_chains[i].name);
		ck_assert_msg(!!strstr(text.text, line) ==
				      (large ? spare_chains[i].large
					     : spare_chains[i].small),
			      "%s: %s", large ? "large" : "small",
			      spare_chains[i].name);
	}
	strbuf_free(&text);
	dataplane_free(dp);
	world_free(w);
}
END_TEST

/* They and others that become idle stay, until the table is a small one again. */
START_TEST(idle_chains_of_large_tables_stay)
{
	struct world *w = world_of_hundreds(101);
	unsigned int before;
	int64_t again_us;

	world_must_sync(w, "start");
	put_hundred_and(w, 7, 5);
	world_must_sync(w, "five more");
	put_hundred_and(w, 7, 0);
	world_must_sync(w, "five less");
	before = fake_n_chains(w->kernel, FAMILY_IPV4);
	ck_assert_int_eq(collect(w, 60, &again_us), 0);
	ck_assert_int_eq(again_us, INT64_MAX);
	ck_assert_uint_eq(fake_n_chains(w->kernel, FAMILY_IPV4), before);
	ck_assert(fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-105"));
	/* the next process keeps them, and writes nothing */
	world_restart(w);
	fake_counts_reset(w->kernel);
	world_must_sync(w, "restart");
	ck_assert_uint_eq(fake_counts(w->kernel).transactions, 0);
	ck_assert_int_eq(collect(w, 60, &again_us), 0);
	ck_assert_uint_eq(fake_n_chains(w->kernel, FAMILY_IPV4), before);
	world_put(w, "gone service s/1");
	world_put(w, "gone service s/2");
	world_must_sync(w, "smaller");
	ck_assert_int_gt(collect(w, 60, &again_us), 10);
	ck_assert_int_eq(again_us, INT64_MAX);
	ck_assert(!fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-105"));
	ck_assert(!fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-8"));
	ck_assert(fake_has_chain(w->kernel, FAMILY_IPV4, "cluster-pick-100"));
	world_verify_quiet(w, "smaller");
	world_free(w);
}
END_TEST

/* Conntrack: what makes a sweep due */

static const struct {
	const char *name, *object;
	bool due;
} flows[] = {
	{ "CT-1: an endpoint is another",
	  "slice d/u u v4 udp:53 10.244.0.1 10.244.0.9", true },
	{ "CT-4: no endpoint is left", "slice d/u u v4 udp:53", true },
	{ "CT-2, CT-6: it ceases to serve, which changes no list",
	  "slice d/u u v4 udp:53 10.244.0.1 10.244.0.2(unready,unserving,terminating)",
	  true },
	{ "CT-6: one that drained goes, which changes no list",
	  "slice d/u u v4 udp:53 10.244.0.1", true },
	{ "CT-5: the Service goes", "gone service d/u", true },
	{ "CT-5: a virtual IP goes", "service d/u udp:53 ip=10.96.0.1", true },
	{ "CT-6: a virtual IP comes",
	  "service d/u udp:53 ip=10.96.0.1 ext=203.0.113.1 ext=203.0.113.2", true },
	{ "CT-8: of TCP", "slice d/t t v4 tcp:80 10.244.0.1 10.244.0.9", false },
	{ "CT-8: a TCP Service goes", "gone service d/t", false },
	{ "CT-1, NODE-4: node ports come to an address", "node n1 192.168.7.9",
	  true },
	{ "nothing of the kind", "cidr c 10.96.0.0/16", false },
	{ "a slice of nobody", "slice d/v v v4 udp:53 10.244.0.1", false },
};

static struct world *flows_world(void)
{
	struct world *w = world_new(0);

	world_put(w, "service d/u udp:53 ip=10.96.0.1 ext=203.0.113.1");
	world_put(w, "slice d/u u v4 udp:53 10.244.0.1 10.244.0.2(unready,terminating)");
	world_put(w, "service d/t tcp:80 ip=10.96.0.2");
	world_put(w, "slice d/t t v4 tcp:80 10.244.0.1");
	return w;
}

START_TEST(flows_are_looked_for)
{
	struct world *w = flows_world();

	world_must_sync(w, "start");
	ck_assert(stale_is_pending(
		w->stale[FAMILY_IPV4])); /* CT-3: from before it was there */
	ck_assert(!stale_is_pending(w->stale[FAMILY_IPV6]));
	stale_swept(w->stale[FAMILY_IPV4]);
	world_put(w, flows[_i].object);
	ck_assert(!stale_is_pending(
		w->stale[FAMILY_IPV4])); /* not before the rules are there */
	world_must_sync(w, flows[_i].name);
	ck_assert_msg(stale_is_pending(w->stale[FAMILY_IPV4]) == flows[_i].due,
		      "%s", flows[_i].name);
	world_free(w);
}
END_TEST

/* Printing */

static char *printed(const char *const *objects, int n, bool backwards,
		     enum family f)
{
	struct config *config = build_config();
	struct model *m = model_new(config, build_log, NULL);
	const struct dataplane_options options = { .family = f, .model = m };
	struct dataplane *dp = dataplane_new(&options);
	struct strbuf sb = STRBUF_INIT;
	int i;

	for (i = 0; i < n; i++)
		build_put(m, objects[backwards ? n - 1 - i : i]);
	ck_assert_int_eq(dataplane_print(dp, &sb), 0);
	dataplane_free(dp);
	model_free(m);
	config_free(config);
	return sb.text;
}

/* The same model gives the same bytes, in whatever order it came. */
START_TEST(same_objects_same_text)
{
	static const char *const objects[] = {
		"node n1 192.168.7.1 fd00:7::1 zone=a",
		"cidr c 10.96.0.0/16 fd00:96::/108",
		"cidr d 10.97.0.0/16 10.96.128.0/17",
		"service d/web tcp:80:http@30080 tcp:443:https ip=10.96.0.1 ip=fd00:96::1",
		"slice d/web-1 web v4 tcp:8080:http tcp:8443:https 10.244.0.1(local) 10.244.1.1",
		"slice d/web-2 web v4 tcp:8080:http tcp:8443:https 10.244.0.9 10.244.1.1(zone:a)",
		"slice d/web-3 web v6 tcp:8080:http fd00:244::1(local) fd00:244::2",
		"service d/sticky tcp:80 ip=10.96.0.2 affinity=60",
		"slice d/sticky-1 sticky v4 tcp:8080 10.244.0.4 10.244.0.3",
		"slice d/sticky-2 sticky v4 tcp:8080 10.244.0.1 10.244.0.2",
		"service e/loser tcp:80 ip=10.96.0.3 ext=203.0.113.1 created=9",
	};
	const enum family f = (enum family)_i;
	char *forwards = printed(objects, N_ROWS(objects), false, f);
	char *backwards = printed(objects, N_ROWS(objects), true, f);

	ck_assert_ptr_nonnull(
		strstr(forwards, f == FAMILY_IPV4 ? "10.96.0.1" : "fd00:96::1"));
	check_text("backwards", backwards, forwards);
	free(forwards);
	free(backwards);
}
END_TEST

/* RUN-9 */
/*
 * What memory ran out over marks its rivals when it is taken up, and they may
 * have been compiled by then: their changes are in the transaction once.
 */
START_TEST(compiled_twice)
{
	struct world *w = world_new(0);
	struct service_entry *late, *rival;

	world_put(w, "service d/late tcp:80 ip=10.96.0.1 ext=203.0.113.1 created=5");
	world_put(w, "service d/rival tcp:80 ip=10.96.0.2 ext=203.0.113.1 created=9");
	world_put(w, "slice d/rival-1 rival v4 tcp:80 10.244.0.1");
	world_must_sync(w, "start");
	world_put(w, "slice d/rival-1 rival v4 tcp:80 10.244.0.1 10.244.0.2");
	late = model_find_service(w->model, "d", "late");
	rival = model_find_service(w->model, "d", "rival");
	ck_assert(late && rival && !late->dirty[FAMILY_IPV4]);
	/* as service_set() leaves it, the rival being taken first */
	while (model_take_dirty(w->model, FAMILY_IPV4))
		;
	late->unfinished[FAMILY_IPV4] = true;
	model_mark(w->model, late, FAMILY_IPV4);
	model_mark(w->model, rival, FAMILY_IPV4);
	fake_counts_reset(w->kernel);
	world_must_sync(w, "late");
	ck_assert_uint_eq(w->report.services, 3);
	ck_assert_msg(!w->report.full, "the transaction was refused");
	/* an endpoint more: its element, and the VIP's verdict in place of the former one */
	ck_assert_uint_eq(fake_counts(w->kernel).elements_added, 2);
	ck_assert_uint_eq(fake_counts(w->kernel).elements_deleted, 1);
	world_verify(w, "late");
	world_free(w);
}
END_TEST

/* The same, with a port of the rival that went and one that is different only the second time. */
START_TEST(compiled_twice_in_parts)
{
	struct world *w = world_new(0);
	struct service_entry *late, *rival;
	const struct claim *claims;
	struct vip cluster_ip;

	world_put(w, "service d/late tcp:80 ip=10.96.0.1 created=5");
	world_put(w, "service d/rival tcp:80:a tcp:81:b ip=10.96.0.2 ext=203.0.113.1 created=9");
	world_put(w, "slice d/late-1 late v4 tcp:80 10.244.0.3");
	world_put(w, "slice d/rival-1 rival v4 tcp:80:a 10.244.0.1");
	world_put(w, "slice d/rival-2 rival v4 tcp:81:b 10.244.0.1");
	world_must_sync(w, "start");
	world_put(w, "service d/rival tcp:80:a ip=10.96.0.2 ext=203.0.113.1 created=9");
	world_put(w, "service d/late tcp:80 ip=10.96.0.1 ext=203.0.113.1 created=5");
	late = model_find_service(w->model, "d", "late");
	rival = model_find_service(w->model, "d", "rival");
	/* as it is if there was no memory for the claims of the new address */
	claims = late->ports[FAMILY_IPV4]->claims;
	ck_assert_uint_eq(late->ports[FAMILY_IPV4]->n_claims, 2);
	cluster_ip = claims[claims[1].vip.role == VIP_CLUSTER_IP].vip;
	ck_assert_int_eq(claims_set(w->model, FAMILY_IPV4,
				    late->ports[FAMILY_IPV4], &cluster_ip, 1),
			 0);
	while (model_take_dirty(w->model, FAMILY_IPV4))
		;
	late->unfinished[FAMILY_IPV4] = true;
	model_mark(w->model, late, FAMILY_IPV4);
	model_mark(w->model, rival, FAMILY_IPV4);
	world_must_sync(w, "late");
	ck_assert_uint_eq(w->report.services,
			  5); /* the rival's two, twice, and late's */
	ck_assert_msg(!w->report.full, "the transaction was refused");
	ck_assert_ptr_null(rival->ports[FAMILY_IPV4]->next);
	world_verify(w, "late");
	world_put(w, "gone service d/rival");
	world_put(w, "gone slice d/rival-1");
	world_put(w, "gone slice d/rival-2");
	world_must_sync(w, "gone");
	ck_assert_ptr_null(model_find_service(w->model, "d", "rival"));
	world_verify(w, "gone");
	world_free(w);
}
END_TEST

/* Only what others changed, while all was in step, counts as a repair. */
START_TEST(what_is_a_repair)
{
	struct world *w = world_new(0);

	world_put(w, "node n1 192.168.7.1");
	world_must_sync(w, "a new table, without Services");
	ck_assert(w->report.full && w->report.elements_added && !w->report.repair);
	world_put(w, "service d/a tcp:80 ip=10.96.0.1");
	fake_faults(w->kernel)->fail_at = 1;
	fake_faults(w->kernel)->fail_err = -ENOBUFS;
	if (world_sync(w))
		world_must_sync(w, "again");
	ck_assert_msg(!w->report.repair, "after a failure of ours");
	world_must_sync(w, "quiet");
	ck_assert(fake_delete_element(w->kernel, FAMILY_IPV4, 0));
	dataplane_forget(w->dp[FAMILY_IPV4]);
	world_must_sync(w, "damaged");
	ck_assert(w->report.full && w->report.repair && w->report.elements_added);
	world_restart(w);
	world_must_sync(w, "restart");
	ck_assert(w->report.full && !w->report.repair);
	world_free(w);
}
END_TEST

START_TEST(removal)
{
	struct world *w = world_new_rich(_i ? WORLD_OWNER : 0);
	unsigned int i;

	for (i = 0; i < 2; i++) { /* already clean is success */
		ck_assert_int_eq(dataplane_remove(w->nl, FAMILY_IPV4, &w->eb), 0);
		ck_assert(!fake_has_table(w->kernel, FAMILY_IPV4));
		ck_assert(fake_has_table(w->kernel, FAMILY_IPV6));
	}
	world_free(w);
}
END_TEST

/* SVC-11: said once, and again after it was over. */
START_TEST(conflicts_are_reported)
{
	static const char line[] =
		"Service b/new: 203.0.113.1 port 80/tcp is taken by Service "
		"a/old";
	struct world *w = world_new(0);
	const char *first;

	world_put(w, "service a/old tcp:80 ip=10.96.0.1 ext=203.0.113.1 created=1");
	world_put(w, "service b/new tcp:80 ip=10.96.0.2 ext=203.0.113.1 created=2");
	world_must_sync(w, "conflict");
	first = strstr(w->log.text.text, line);
	ck_assert_ptr_nonnull(first);
	world_put(w, "slice b/new-1 new v4 tcp:80 10.244.0.1");
	world_put(w, "slice a/old-1 old v4 tcp:80 10.244.0.1");
	world_must_sync(w, "still");
	first = strstr(w->log.text.text, line);
	ck_assert_ptr_null(strstr(first + 1, line));
	world_put(w, "gone service a/old");
	world_must_sync(w, "over");
	world_verify(w, "over");
	world_put(w, "service a/old tcp:80 ip=10.96.0.1 ext=203.0.113.1 created=1");
	world_must_sync(w, "again");
	first = strstr(w->log.text.text, line);
	ck_assert_ptr_nonnull(strstr(first + 1, line));
	world_verify(w, "again");
	world_free(w);
}
END_TEST

/* DS-6 is the caller's; that families are apart is the dataplane's: DS-4. */
START_TEST(families_are_apart)
{
	struct world *w = world_new(0);
	struct fake_counts c;

	world_put(w, "service d/w tcp:80 ip=10.96.0.1 ip=fd00:96::1");
	world_put(w, "slice d/w-4 w v4 tcp:8080 10.244.0.1");
	world_put(w, "slice d/w-6 w v6 tcp:8080 fd00:244::1");
	world_must_sync(w, "start");
	fake_counts_reset(w->kernel);
	world_put(w, "service d/w tcp:80 ip=10.96.0.1");
	world_must_sync(w, "one family less");
	c = fake_counts(w->kernel);
	ck_assert_uint_eq(c.transactions, 1);
	ck_assert_uint_eq(c.elements_deleted, 3);
	world_verify(w, "one family less");
	fake_counts_reset(w->kernel);
	world_put(w, "service d/w tcp:80 ip=10.96.0.1 ip=fd00:96::1");
	world_must_sync(w, "one family more");
	ck_assert_uint_eq(fake_counts(w->kernel).transactions, 1);
	world_verify(w, "one family more");
	world_free(w);
}
END_TEST

static TCase *tcase(Suite *suite, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 120);
	suite_add_tcase(suite, tc);
	return tc;
}

Suite *make_suite(void)
{
	Suite *suite = suite_create("dataplane");
	TCase *tc = tcase(suite, "change");

	tcase_add_loop_test(tc, work_follows_change, 0, 2);
	tcase_add_test(tc, long_lists);
	tcase_add_test(tc, changes_are_combined);
	tcase_add_loop_test(tc, large_transactions, 0, 2);
	tcase_add_test(tc, large_transactions_beside_others);
	tcase_add_test(tc, rules_follow_configuration);
	tcase_add_test(tc, conflicts_are_reported);
	tcase_add_test(tc, families_are_apart);

	tc = tcase(suite, "restart");
	tcase_add_loop_test(tc, adopts_what_is_right, 0, 2);
	ADD_LOOP(tc, adopts_with_changes, meanwhile);
	ADD_LOOP(tc, ranges_wait_for_their_list, ranges);
	ADD_LOOP(tc, replaces_older_layout, odd);
	tcase_add_test(tc, adopts_a_table_without_owner);
	tcase_add_loop_test(tc, fast_path_comes_and_goes, 0, 2);

	tc = tcase(suite, "damage");
	ADD_LOOP(tc, repairs_damage, damages);
	ADD_LOOP(tc, repairs_damage_with_changes, damages);

	tc = tcase(suite, "refusal");
	ADD_LOOP(tc, one_bad_apple, refusals);
	tcase_add_test(tc, refused_and_gone);
	tcase_add_test(tc, former_rules_stay);
	tcase_add_loop_test(tc, one_bad_range, 0, 2);
	tcase_add_loop_test(tc, ranges_of_a_port_set_aside, 0, 2);
	tcase_add_test(tc, refused_what_was_there);
	tcase_add_test(tc, takeover_from_the_set_aside);
	tcase_add_test(tc, nobody_is_to_blame);
	tcase_add_test(tc, a_new_table_in_parts);
	tcase_add_test(tc, ranges_come_in_parts);
	tcase_add_loop_test(tc, death_between_parts, 1, 3);
	tcase_add_loop_test(tc, one_bad_apple_in_parts, 0, 2);
	tcase_add_loop_test(tc, each_exchange_fails_once, 0,
			    N_ROWS(losses) * N_SCENARIOS);

	tc = tcase(suite, "affinity");
	tcase_add_loop_test(tc, chains_come_first, 0, 4);
	ADD_LOOP(tc, clients_are_forgotten, forgets);
	ADD_LOOP(tc, clients_are_forgotten_at_restart, forgets);
	tcase_add_test(tc, clients_do_not_outlive_the_service);
	tcase_add_test(tc, timeout_changes);

	tc = tcase(suite, "collection");
	tcase_add_loop_test(tc, unused_chains_are_collected, 0, 2);
	tcase_add_test(tc, idle_chains_are_used_again);
	tcase_add_loop_test(tc, affinity_objects_are_collected, 0, 2);
	tcase_add_test(tc, leftovers_are_collected);
	tcase_add_loop_test(tc, large_tables_have_spare_chains, 0, 2);
	tcase_add_loop_test(tc, spare_chains_are_in_the_text, 0, 2);
	tcase_add_test(tc, idle_chains_of_large_tables_stay);
	tcase_add_test(tc, collection_may_fail);

	tc = tcase(suite, "rest");
	ADD_LOOP(tc, flows_are_looked_for, flows);
	tcase_add_loop_test(tc, same_objects_same_text, 0, N_FAMILIES);
	tcase_add_test(tc, compiled_twice);
	tcase_add_test(tc, compiled_twice_in_parts);
	tcase_add_test(tc, what_is_a_repair);
	tcase_add_loop_test(tc, removal, 0, 2);
	return suite;
}
