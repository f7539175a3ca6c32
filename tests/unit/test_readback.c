/*
 * Tables written through a batch and read back: as they were, and after all kinds of damage. Also
 * the forgetting of clients, and the search for other service proxies.
 */
#include "nft/affinity.h"
#include "nft/readback.h"

#include <check.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nft/batch.h"
#include "proxy/base/arena.h"
#include "proxy/model/dispatch.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"

/* What a table has, either as written or as read back. */
struct model {
	struct ruleset ruleset;
	struct arena arena;
	struct element *elements;
	size_t n_elements, room;
	struct strbuf objects; /* a line for each chain and affinity map that is not constant */
};

static void model_free(struct model *m)
{
	free(m->elements);
	arena_free(&m->arena);
	strbuf_free(&m->objects);
}

static void add_element(void *ctx, const struct element *e)
{
	struct model *m = ctx;
	struct element *copy;

	if (m->n_elements == m->room) {
		m->room = m->room ? m->room * 2 : 64;
		m->elements = reallocarray(m->elements, m->room, sizeof(*e));
		ck_assert(m->elements);
	}
	copy = &m->elements[m->n_elements++];
	*copy = *e;
	copy->comment = e->comment ? arena_strdup(&m->arena, e->comment) : NULL;
	copy->chain = e->chain ? arena_strdup(&m->arena, e->chain) : NULL;
	copy->ranges = e->ranges ? arena_strdup(&m->arena, e->ranges) : NULL;
}

static void add_object(struct model *m, const char *name, uint64_t digest)
{
	strbuf_addf(&m->objects, "%s %016llx\n", name, (unsigned long long)digest);
}

static void write_table(void *ctx, enum change change, unsigned int parts)
{
	(void)ctx;
	(void)change;
	(void)parts;
}

static void write_pick(void *ctx, enum change change, const struct verdict *pick)
{
	struct model *m = ctx;
	char name[PICK_NAME_SIZE];

	(void)change;
	add_object(m, pick_name(pick, name), pick_digest(&m->ruleset, pick));
}

static void write_affinity(void *ctx, enum change change, const char *name,
			   const char *comment)
{
	(void)change;
	(void)comment;
	add_object(ctx, name, 0);
}

static void write_sticky(void *ctx, enum change change,
			 const struct sticky_chain *chain)
{
	struct model *m = ctx;

	(void)change;
	add_object(m, chain->name, sticky_digest(&m->ruleset, chain));
}

static void write_ranges(void *ctx, enum change change, const char *set)
{
	struct model *m = ctx;

	(void)change;
	add_object(m, set, firewall_digest(&m->ruleset, set));
}

static void write_element(void *ctx, enum change change,
			  const struct element *e, void *owner)
{
	struct element copy = *e;

	(void)change;
	(void)owner;
	if (set_is_nodeport(e->set))
		memset(&copy.addr, 0,
		       sizeof(copy.addr)); /* the key has no address */
	add_element(ctx, &copy);
}

static struct writer recorder(struct model *m)
{
	return (struct writer){
		.ctx = m,
		.table = write_table,
		.pick = write_pick,
		.affinity = write_affinity,
		.sticky = write_sticky,
		.ranges = write_ranges,
		.element = write_element,
	};
}

static void read_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	char name[PICK_NAME_SIZE];

	add_object(ctx, pick_name(pick, name), digest);
}

static void read_affinity(void *ctx, const char *name)
{
	add_object(ctx, name, 0);
}

static void read_sticky(void *ctx, const char *name, uint64_t digest)
{
	add_object(ctx, name, digest);
}

static void read_ranges(void *ctx, const char *set, const struct prefix *list,
			unsigned int count, uint64_t digest)
{
	struct element e = { .set = SET_SOURCE_RANGES, .ranges = set };
	unsigned int i;

	add_object(ctx, set, digest);
	for (i = 0; i < count; i++) {
		ck_assert(!i || prefix_compare(&list[i - 1], &list[i]) < 0);
		e.range = list[i];
		add_element(ctx, &e);
	}
}

static struct readback reader(struct model *m)
{
	return (struct readback){
		.ctx = m,
		.element = add_element,
		.pick = read_pick,
		.affinity = read_affinity,
		.sticky = read_sticky,
		.ranges = read_ranges,
	};
}

static int compare_elements(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_lines(struct strbuf *sb)
{
	struct strbuf sorted = STRBUF_INIT;
	char *lines[256], *line, *rest = NULL;
	size_t n = 0, i;

	for (line = strtok_r(sb->text, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		ck_assert_uint_lt(n, 256);
		lines[n++] = line;
	}
	qsort(lines, n, sizeof(*lines), compare_lines);
	for (i = 0; i < n; i++)
		strbuf_addf(&sorted, "%s\n", lines[i]);
	strbuf_free(sb);
	*sb = sorted;
}

static void compare_models(struct model *want, struct model *got)
{
	const struct element *w, *g;
	size_t i;

	qsort(want->elements, want->n_elements, sizeof(*want->elements),
	      compare_elements);
	qsort(got->elements, got->n_elements, sizeof(*got->elements),
	      compare_elements);
	for (i = 0; i < want->n_elements && i < got->n_elements; i++) {
		w = &want->elements[i];
		g = &got->elements[i];
		ck_assert_msg(element_key_compare(w, g) == 0,
			      "element %zu, set %s: want set %s", i,
			      set_name(g->set), set_name(w->set));
		ck_assert_msg(element_data_equal(w, g),
			      "element %zu of set %s: other data (%s, %s)", i,
			      set_name(w->set), g->chain ? g->chain : "-",
			      g->comment ? g->comment : "-");
	}
	ck_assert_uint_eq(got->n_elements, want->n_elements);
	if (!want->objects.text)
		return;
	sort_lines(&want->objects);
	sort_lines(&got->objects);
	ck_assert_str_eq(got->objects.text, want->objects.text);
}

static void install(struct nlsock *nl, const struct ruleset *ruleset,
		    unsigned int flags, unsigned int batch_flags)
{
	struct batch *b = batch_new(ruleset, batch_flags);
	struct errbuf eb = { "" };

	ck_assert(b);
	sample_write(batch_writer(b), ruleset->family, flags);
	ck_assert_msg(batch_commit(b, nl, 10000, NULL, &eb) == 0, "%s", eb.text);
	batch_free(b);
}

static struct nlsock *open_socket(void)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);

	ck_assert_msg(nl, "%s", eb.text);
	return nl;
}

static enum table_state read_table(struct nlsock *nl, const struct ruleset *ruleset,
				   struct model *got, struct errbuf *eb)
{
	const struct readback found = reader(got);
	enum table_state state = 99;
	int err = readback_table(nl, ruleset, &found, &state, eb);

	ck_assert_msg(err == 0, "%d: %s", err, eb->text);
	return state;
}

/* Each sample: intact tables are current and come back element by element. */
static const struct {
	const char *name;
	enum family family;
	unsigned int sample, batch;
} intact_cases[] = {
	{ "IPv4", FAMILY_IPV4, 0, 0 },
	{ "IPv4, sticky", FAMILY_IPV4, SAMPLE_STICKY, 0 },
	{ "IPv6, sticky", FAMILY_IPV6, SAMPLE_STICKY, 0 },
	{ "IPv4, owned", FAMILY_IPV4, SAMPLE_STICKY, BATCH_OWNER },
};

START_TEST(intact)
{
	const struct ruleset ruleset = sample_ruleset(intact_cases[_i].family);
	struct model want = { .ruleset = ruleset }, got = { .ruleset = ruleset };
	const struct writer writer = recorder(&want);
	struct errbuf eb = { "" };
	struct nlsock *nl;
	enum table_state state;

	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &ruleset, intact_cases[_i].sample,
		kernel_has_owner() ? intact_cases[_i].batch : 0);
	sample_write(&writer, ruleset.family, intact_cases[_i].sample);
	state = read_table(nl, &ruleset, &got, &eb);
	ck_assert_msg(state == TABLE_CURRENT, "%s: got %d: %s",
		      intact_cases[_i].name, state, eb.text);
	compare_models(&want, &got);
	model_free(&want);
	model_free(&got);
	nlsock_close(nl);
}
END_TEST

START_TEST(absent)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	const struct ruleset other = sample_ruleset(FAMILY_IPV6);
	struct model got = { .ruleset = ruleset };
	struct errbuf eb = { "" };
	struct nlsock *nl;

	if (!new_namespace())
		return;
	nl = open_socket();
	ck_assert_int_eq(read_table(nl, &ruleset, &got, &eb), TABLE_ABSENT);
	install(nl, &other, 0, 0);
	ck_assert_int_eq(read_table(nl, &ruleset, &got, &eb), TABLE_ABSENT);
	ck_assert_uint_eq(got.n_elements, 0);
	model_free(&got);
	nlsock_close(nl);
}
END_TEST

/* RUN-5: what others do to the table. $ is nft with the family and the table. */
static const struct {
	const char *name, *command;
	enum table_state want;
	int elements; /* more than there were */
} damages[] = {
	{ "none", "true", TABLE_CURRENT, 0 },
	{ "rule added at the end", "nft add rule ip vipmap services accept",
	  TABLE_RULES_DIFFER, 0 },
	{ "rule added at the front",
	  "nft insert rule ip vipmap services accept", TABLE_RULES_DIFFER, 0 },
	{ "rule added to an empty hook's chain",
	  "nft add rule ip vipmap nat-output accept", TABLE_RULES_DIFFER, 0 },
	{ "rules flushed", "nft flush chain ip vipmap services",
	  TABLE_RULES_DIFFER, 0 },
	{ "rule deleted",
	  "nft delete rule ip vipmap services handle $(nft -a list chain ip vipmap services | "
	  "sed -n 's/.*@service-ips # handle //p')",
	  TABLE_RULES_DIFFER, 0 },
	{ "rule replaced",
	  "nft replace rule ip vipmap services handle $(nft -a list chain ip vipmap services | "
	  "sed -n 's/.*@service-ips # handle //p') accept",
	  TABLE_RULES_DIFFER, 0 },
	{ "rule replaced by one with a comment",
	  "nft replace rule ip vipmap services handle $(nft -a list chain ip vipmap services | "
	  "sed -n 's/.*@service-ips # handle //p') drop comment '\"mine\"'",
	  TABLE_RULES_DIFFER, 0 },
	{ "rule of a pick chain added", "nft add rule ip vipmap pick-3 accept",
	  TABLE_CURRENT, 0 },
	{ "all reloaded by nft",
	  "nft list table ip vipmap > /tmp/kern-reload && nft delete table ip vipmap && "
	  "nft -f /tmp/kern-reload; rm /tmp/kern-reload",
	  TABLE_RULES_DIFFER, 0 },
	{ "element added", "nft add element ip vipmap cluster-ips { 10.9.9.9 }",
	  TABLE_CURRENT, 1 },
	{ "element deleted", "nft delete element ip vipmap nodeport-ips { 10.0.0.3 }",
	  TABLE_CURRENT, -1 },
	{ "set emptied", "nft flush set ip vipmap cluster-ips", TABLE_CURRENT, -2 },
	{ "range added", "nft add element ip vipmap service-cidrs { 192.168.0.0/16 }",
	  TABLE_CURRENT, 1 },
	{ "range that is no prefix",
	  "nft add element ip vipmap service-cidrs { 192.168.0.1-192.168.0.4 }",
	  TABLE_OTHER, 0 },
	{ "foreign verdict",
	  "nft add element ip vipmap service-ips { 10.9.9.9 . tcp . 80 : return }",
	  TABLE_OTHER, 0 },
	{ "jump instead of goto",
	  "nft add element ip vipmap service-ips { 10.9.9.9 . tcp . 80 : jump pick-3 }",
	  TABLE_OTHER, 0 },
	{ "a client of an affinity map is no element",
	  "nft add element ip vipmap affinity/default/sticky/tcp/http { 10.9.9.9 : 10.0.0.1 . 80 }",
	  TABLE_CURRENT, 0 },
	{ "element with a constant chain that is no verdict",
	  "nft add element ip vipmap local-policy { 10.9.9.9 . tcp . 80 : goto short-circuit }",
	  TABLE_OTHER, 0 },
	{ "hairpin of two addresses",
	  "nft add element ip vipmap hairpin { 10.0.0.1 . 10.0.0.2 . tcp . 80 }",
	  TABLE_OTHER, 0 },
	{ "source range that is no prefix",
	  "nft add element ip vipmap ranges/default/web { 10.0.0.1-10.0.0.4 }",
	  TABLE_OTHER, 0 },
	{ "source range added",
	  "nft add element ip vipmap ranges/default/web { 192.168.0.0/16 }",
	  TABLE_CURRENT, 1 },
	{ "source range deleted, between two others",
	  "nft delete element ip vipmap ranges/default/web { 10.1.1.0/24 }",
	  TABLE_CURRENT, -1 },
	{ "source ranges emptied", "nft flush set ip vipmap ranges/default/web",
	  TABLE_CURRENT, -4 },
	{ "source ranges of another kind",
	  "nft 'add set ip vipmap ranges/x { type ipv4_addr; }'", TABLE_OTHER, 0 },
	{ "source ranges without their chain",
	  "nft 'add set ip vipmap ranges/x { type ipv4_addr; flags interval; }'",
	  TABLE_OTHER, 0 },
	{ "firewall chain without source ranges",
	  "nft add chain ip vipmap firewall/x", TABLE_OTHER, 0 },
	{ "rule of a firewall chain gone",
	  "nft flush chain ip vipmap firewall/default/web", TABLE_CURRENT, 0 },
	{ "foreign chain", "nft add chain ip vipmap mine", TABLE_OTHER, 0 },
	{ "foreign base chain",
	  "nft 'add chain ip vipmap mine { type filter hook input priority 0; }'",
	  TABLE_OTHER, 0 },
	{ "chain that looks like a pick but is hooked",
	  "nft 'add chain ip vipmap pick-77 { type filter hook input priority 0; }'",
	  TABLE_OTHER, 0 },
	{ "pick with a name out of order",
	  "nft add chain ip vipmap sticky-cluster-pick-7", TABLE_OTHER, 0 },
	{ "foreign set", "nft 'add set ip vipmap mine { type ipv4_addr; }'",
	  TABLE_OTHER, 0 },
	{ "optional set that nobody asked for",
	  "nft 'add set ip vipmap ping-ips { type ipv4_addr; }'",
	  TABLE_RULES_DIFFER, 0 },
	{ "optional set of another type",
	  "nft 'add set ip vipmap ping-ips { type inet_service; }'",
	  TABLE_OTHER, 0 },
	{ "foreign counter", "nft add counter ip vipmap mine", TABLE_OTHER, 0 },
	{ "affinity map of another kind",
	  "nft 'add set ip vipmap affinity/x { type ipv4_addr; }'", TABLE_OTHER, 0 },
	{ "constant set missing",
	  "nft 'flush chain ip vipmap services; delete set ip vipmap cluster-ips'",
	  TABLE_OTHER, 0 },
	{ "constant set of another type",
	  "nft 'flush chain ip vipmap services; delete set ip vipmap cluster-ips; "
	  "add set ip vipmap cluster-ips { type ipv4_addr; flags timeout; }'",
	  TABLE_OTHER, 0 },
	{ "constant chain missing",
	  "nft 'flush chain ip vipmap nat-output; delete chain ip vipmap nat-output'",
	  TABLE_OTHER, 0 },
	{ "constant chain at another hook",
	  "nft 'flush chain ip vipmap nat-output; delete chain ip vipmap nat-output; "
	  "add chain ip vipmap nat-output { type nat hook input priority 0; }'",
	  TABLE_OTHER, 0 },
	{ "base chain drops",
	  "nft 'chain ip vipmap nat-output { policy drop; }'", TABLE_OTHER, 0 },
	{ "dormant", "nft 'add table ip vipmap { flags dormant; }'", TABLE_OTHER, 0 },
	{ "flushed and made again", "nft 'flush ruleset; table ip vipmap { }'",
	  TABLE_OTHER, 0 },
	{ "deleted", "nft delete table ip vipmap", TABLE_ABSENT, 0 },
	{ "another table",
	  "nft 'table ip mine { chain c { }; set s { type ipv4_addr; }; }'",
	  TABLE_CURRENT, 0 },
	{ "ours in another family", "nft 'table ip6 vipmap { chain c { }; }'",
	  TABLE_CURRENT, 0 },
};

START_TEST(damaged)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct model want = { .ruleset = ruleset }, got = { .ruleset = ruleset };
	const struct writer writer = recorder(&want);
	struct strbuf out = STRBUF_INIT;
	struct errbuf eb = { "" };
	enum table_state state;
	struct nlsock *nl;

	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &ruleset, SAMPLE_STICKY, 0);
	sample_write(&writer, ruleset.family, SAMPLE_STICKY);
	ck_assert_msg(run(damages[_i].command, &out) == 0, "%s: %s",
		      damages[_i].name, out.text);
	state = read_table(nl, &ruleset, &got, &eb);
	ck_assert_msg(state == damages[_i].want, "%s: want %d got %d: %s",
		      damages[_i].name, damages[_i].want, state, eb.text);
	if (state == TABLE_CURRENT)
		ck_assert_msg((int)got.n_elements ==
				      (int)want.n_elements + damages[_i].elements,
			      "%s: want %zu%+d elements got %zu",
			      damages[_i].name, want.n_elements,
			      damages[_i].elements, got.n_elements);
	if (state == TABLE_ABSENT || state == TABLE_OTHER)
		ck_assert_msg(state != TABLE_OTHER || eb.text[0],
			      "%s: no reason given", damages[_i].name);
	strbuf_free(&out);
	model_free(&want);
	model_free(&got);
	nlsock_close(nl);
}
END_TEST

/* A list so large that its elements are asked for by key. */
enum { LARGE_SERVICES = 5100, LARGE_ENDPOINTS = 10 };

static struct element large_element(unsigned int service, unsigned int index)
{
	return (struct element){
		.set = MAP_ENDPOINTS,
		.addr = sample_addr(FAMILY_IPV4, service),
		.protocol = IPPROTO_UDP,
		.port = 53,
		.index = index,
		.endpoint = sample_addr(
			FAMILY_IPV4, 0x100000 + service * LARGE_ENDPOINTS + index),
		.endpoint_port = 5353,
	};
}

static void large_write(const struct writer *w)
{
	const struct verdict pick = { VERDICT_PICK, PICK_CLUSTER, LARGE_ENDPOINTS };
	const struct verdict same = { VERDICT_PICK, 0, LARGE_ENDPOINTS };
	struct element e;
	unsigned int i, j;

	w->table(w->ctx, CHANGE_ADD, 0);
	w->pick(w->ctx, CHANGE_ADD, &pick);
	w->pick(w->ctx, CHANGE_ADD, &same);
	for (i = 0; i < LARGE_SERVICES; i++) {
		for (j = 0; j < LARGE_ENDPOINTS; j++) {
			e = large_element(i, j);
			w->element(w->ctx, CHANGE_ADD, &e, NULL);
		}
		e = large_element(i, 0);
		e.set = MAP_SERVICE_IPS;
		e.endpoint = (struct addr){ { 0 } };
		e.endpoint_port = 0;
		e.verdict = pick;
		w->element(w->ctx, CHANGE_ADD, &e, NULL);
		/* a second way to the same list, as for internal and external policies */
		e.set = MAP_CLUSTER_POLICY;
		e.verdict = same;
		w->element(w->ctx, CHANGE_ADD, &e, NULL);
	}
}

/* Each step finds what the one before left; the number of elements is compared with the beginning.
 */
static const struct {
	const char *name, *command;
	int elements;
} large_steps[] = {
	{ "intact", "true", 0 },
	{ "first missing",
	  "nft delete element ip vipmap endpoints { 10.0.0.0 . udp . 53 . 0 }", -1 },
	{ "three missing",
	  "nft delete element ip vipmap endpoints { 10.0.0.0 . udp . 53 . 1, 10.0.1.1 . udp . 53 . "
	  "9 }",
	  -3 },
	{ "last missing too",
	  "nft delete element ip vipmap endpoints { 10.0.19.235 . udp . 53 . 9 }",
	  -4 },
	{ "an unknown VIP",
	  "nft add element ip vipmap endpoints { 10.0.0.0 . udp . 54 . 0 : 10.0.0.1 . 80 }",
	  -3 },
	{ "an index too many, as many as are missing",
	  "nft add element ip vipmap endpoints { 10.0.0.0 . udp . 53 . 10 : 10.0.0.1 . 80, "
	  "10.0.0.0 . udp . 53 . 11 : 10.0.0.1 . 80, 10.0.0.0 . udp . 53 . 12 : 10.0.0.1 . 80 }",
	  0 },
	{ "more than ought to be",
	  "nft add element ip vipmap endpoints { 10.0.0.0 . udp . 53 . 13 : 10.0.0.1 . 80 }",
	  1 },
	{ "all missing", "nft flush map ip vipmap endpoints",
	  -LARGE_SERVICES *LARGE_ENDPOINTS },
};

static void read_large_step(struct nlsock *nl, struct model *want, unsigned int step)
{
	struct model got = { .ruleset = want->ruleset };
	struct errbuf eb = { "" };
	size_t i;

	ck_assert_int_eq(read_table(nl, &want->ruleset, &got, &eb), TABLE_CURRENT);
	ck_assert_msg((int)got.n_elements == (int)want->n_elements +
						     large_steps[step].elements,
		      "%s: want %zu%+d elements got %zu",
		      large_steps[step].name, want->n_elements,
		      large_steps[step].elements, got.n_elements);
	qsort(got.elements, got.n_elements, sizeof(*got.elements),
	      compare_elements);
	for (i = 1; i < got.n_elements; i++)
		ck_assert_msg(compare_elements(&got.elements[i - 1],
					       &got.elements[i]),
			      "%s: told twice", large_steps[step].name);
	if (step == 0)
		compare_models(want, &got);
	model_free(&got);
}

START_TEST(large)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct model want = { .ruleset = ruleset };
	const struct writer writer = recorder(&want);
	struct strbuf out = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct batch *b;
	unsigned int step;

	if (!new_namespace())
		return;
	nl = open_socket();
	b = batch_new(&ruleset, 0);
	large_write(&writer);
	large_write(batch_writer(b));
	ck_assert_msg(batch_commit(b, nl, 60000, NULL, &eb) == 0, "%s", eb.text);
	batch_free(b);
	for (step = 0; step < sizeof(large_steps) / sizeof(large_steps[0]); step++) {
		ck_assert_msg(run(large_steps[step].command, &out) == 0,
			      "%s: %s", large_steps[step].name, out.text);
		read_large_step(nl, &want, step);
	}
	strbuf_free(&out);
	model_free(&want);
	nlsock_close(nl);
}
END_TEST

/* Chains that are not constant have their own digest: 0 if a rule is foreign, another if one lacks.
 */
static const struct {
	const char *name, *command, *chain;
	bool zero;
} chain_damages[] = {
	{ "rule added", "nft add rule ip vipmap pick-3 accept", "pick-3", true },
	{ "rules flushed", "nft flush chain ip vipmap pick-3", "pick-3", true },
	{ "rule deleted",
	  "nft delete rule ip vipmap pick-3 handle $(nft -a list chain ip vipmap pick-3 | "
	  "sed -n 's/.*mod 3.* # handle //p')",
	  "pick-3", false },
	{ "rule of a sticky chain deleted",
	  "nft delete rule ip vipmap sticky/default/sticky/tcp/http/a/8080 handle $(nft -a list "
	  "chain ip "
	  "vipmap sticky/default/sticky/tcp/http/a/8080 | sed -n 's/.*update.* # handle //p')",
	  "sticky/default/sticky/tcp/http/a/8080", false },
};

START_TEST(chain_damaged)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct model want = { .ruleset = ruleset }, got = { .ruleset = ruleset };
	const struct writer writer = recorder(&want);
	struct strbuf out = STRBUF_INIT;
	struct errbuf eb = { "" };
	char line[256], *before, *after;
	struct nlsock *nl;

	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &ruleset, SAMPLE_STICKY, 0);
	sample_write(&writer, ruleset.family, SAMPLE_STICKY);
	ck_assert_msg(run(chain_damages[_i].command, &out) == 0, "%s: %s",
		      chain_damages[_i].name, out.text);
	ck_assert_int_eq(read_table(nl, &ruleset, &got, &eb), TABLE_CURRENT);
	sort_lines(&want.objects);
	sort_lines(&got.objects);
	snprintf(line, sizeof(line), "\n%s ", chain_damages[_i].chain);
	before = strstr(want.objects.text, line);
	after = strstr(got.objects.text, line);
	ck_assert_msg(before && after, "%s: no chain", chain_damages[_i].name);
	before += strlen(line);
	after += strlen(line);
	ck_assert_msg(strncmp(before, after, 16), "%s: digest unchanged",
		      chain_damages[_i].name);
	ck_assert_msg((strncmp(after, "0000000000000000", 16) == 0) ==
			      chain_damages[_i].zero,
		      "%s: got %.16s", chain_damages[_i].name, after);
	/* and nothing else changed */
	memcpy(after, before, 16);
	ck_assert_str_eq(got.objects.text, want.objects.text);
	strbuf_free(&out);
	model_free(&want);
	model_free(&got);
	nlsock_close(nl);
}
END_TEST

/* Other settings mean other rules: mended by an update, after which the table is current. */
START_TEST(settings_changed)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct ruleset other = ruleset;
	struct model got = { .ruleset = ruleset };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	struct batch *b;

	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &ruleset, 0, 0);
	other.masquerade_mark = 0x8000;
	ck_assert_int_eq(read_table(nl, &other, &got, &eb), TABLE_RULES_DIFFER);
	b = batch_new(&other, 0);
	batch_writer(b)->table(batch_writer(b)->ctx, CHANGE_UPDATE, 0);
	ck_assert_msg(batch_commit(b, nl, 1000, NULL, &eb) == 0, "%s", eb.text);
	batch_free(b);
	ck_assert_int_eq(read_table(nl, &other, &got, &eb), TABLE_CURRENT);
	model_free(&got);
	nlsock_close(nl);
}
END_TEST

static void nft_list(enum family family, struct strbuf *out)
{
	ck_assert_int_eq(run(family == FAMILY_IPV4
				     ? "nft -s list table ip vipmap | sort"
				     : "nft -s list table ip6 vipmap | sort",
			     out),
			 0);
}

/*
 * Parts of the table that are asked for, or no longer, come and go by an update, with whatever they
 * hold. Then the table is what it would be if it had been made so.
 */
static const unsigned int part_sets[] = {
	0,
	PART_NO_MASQUERADE,
	PART_PING_IPS,
	PART_NO_MASQUERADE | PART_PING_IPS,
};

enum { N_PART_SETS = 4 };

START_TEST(parts_changed)
{
	const enum family family = _i % N_FAMILIES;
	struct ruleset from = sample_ruleset(family), to = from;
	struct strbuf want = STRBUF_INIT, got = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct nlsock *nl;
	unsigned int parts;
	struct batch *b;

	from.parts = part_sets[_i / N_FAMILIES % N_PART_SETS];
	to.parts = part_sets[_i / N_FAMILIES / N_PART_SETS];
	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &to, 0, 0);
	nft_list(family, &want);
	nlsock_close(nl);
	ck_assert(new_namespace());
	nl = open_socket();
	install(nl, &from,
		from.parts == (PART_NO_MASQUERADE | PART_PING_IPS) ? SAMPLE_PARTS
								   : 0,
		0);
	ck_assert_int_eq(read_parts(nl, &to, &parts),
			 from.parts == to.parts ? TABLE_CURRENT
						: TABLE_RULES_DIFFER);
	ck_assert_uint_eq(parts, from.parts);
	b = batch_new(&to, 0);
	batch_writer(b)->table(batch_writer(b)->ctx, CHANGE_UPDATE, parts);
	ck_assert_msg(batch_commit(b, nl, 1000, NULL, &eb) == 0, "%s", eb.text);
	batch_free(b);
	ck_assert_int_eq(read_parts(nl, &to, &parts), TABLE_CURRENT);
	ck_assert_uint_eq(parts, to.parts);
	nft_list(family, &got);
	if (!(from.parts & to.parts)) /* else elements stay */
		ck_assert_str_eq(got.text, want.text);
	strbuf_free(&want);
	strbuf_free(&got);
	nlsock_close(nl);
}
END_TEST

/* Somebody changes something while the elements are read: only what is ours matters. */
static const struct {
	const char *name, *command;
	int want;
} disturbances[] = {
	{ "another table",
	  "nft 'table ip another { chain c { accept; accept; }; }'", 0 },
	{ "ours in the other family",
	  "nft 'table ip6 vipmap { chain c { accept; }; }'", 0 },
	{ "a rule of ours", "nft add rule ip vipmap services accept", -EINTR },
	{ "an element of ours",
	  "nft add element ip vipmap cluster-ips { 10.9.9.9 }", -EINTR },
	{ "deleted", "nft delete table ip vipmap", -EINTR },
};

struct disturbance {
	const char *command;
	unsigned int elements;
};

static void disturb(void *ctx, const struct element *e)
{
	struct disturbance *d = ctx;

	(void)e;
	if (!d->elements++)
		ck_assert_msg(system(d->command) == 0, "failed: %s", d->command);
}

static void count_ranges(void *ctx, const char *set, const struct prefix *list,
			 unsigned int count, uint64_t digest)
{
	struct disturbance *d = ctx;

	(void)set;
	(void)list;
	(void)digest;
	d->elements += count;
}

static void ignore_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	(void)ctx;
	(void)pick;
	(void)digest;
}

START_TEST(changed_meanwhile)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct disturbance disturbance = { .command = disturbances[_i].command };
	const struct readback found = { .ctx = &disturbance,
					.element = disturb,
					.pick = ignore_pick,
					.ranges = count_ranges };
	struct model want = { .ruleset = ruleset };
	const struct writer writer = recorder(&want);
	enum table_state state = 99;
	struct errbuf eb = { "" };
	uint32_t before, after;
	struct nlsock *nl;
	int err;

	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &ruleset, 0, 0);
	sample_write(&writer, ruleset.family, 0);
	ck_assert_int_eq(readback_generation(nl, &before, &eb), 0);
	err = readback_table(nl, &ruleset, &found, &state, &eb);
	ck_assert_msg(err == disturbances[_i].want, "%s: want %d got %d: %s",
		      disturbances[_i].name, disturbances[_i].want, err, eb.text);
	ck_assert_int_eq(state, err ? 99 : TABLE_CURRENT);
	if (!err)
		ck_assert_uint_eq(disturbance.elements, want.n_elements);
	ck_assert_int_eq(readback_generation(nl, &after, &eb), 0);
	ck_assert_uint_ne(before, after);
	/* The next attempt finds it at rest. */
	ck_assert_int_eq(readback_table(nl, &ruleset, &found, &state, &eb), 0);
	model_free(&want);
	nlsock_close(nl);
}
END_TEST

/* Somebody else's changes all the time, to another table: reading does not fail for that. */
START_TEST(busy_neighbour)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct model want = { .ruleset = ruleset }, got;
	const struct writer writer = recorder(&want);
	struct errbuf eb = { "" };
	struct nlsock *nl;
	unsigned int i;
	FILE *nft;

	if (!new_namespace())
		return;
	nl = open_socket();
	install(nl, &ruleset, 0, 0);
	sample_write(&writer, ruleset.family, 0);
	/* It reads commands and commits one by one; how many it gets done does not matter. */
	nft = popen("nft -i > /dev/null", "w");
	ck_assert(nft);
	for (i = 0; i < 2000; i++)
		fprintf(nft,
			"add table ip a { chain c { accept; }; }\ndelete table ip a\n");
	fflush(nft);
	for (i = 0; i < 50; i++) {
		got = (struct model){ .ruleset = ruleset };
		ck_assert_int_eq(read_table(nl, &ruleset, &got, &eb),
				 TABLE_CURRENT);
		ck_assert_uint_eq(got.n_elements, want.n_elements);
		model_free(&got);
	}
	pclose(nft);
	model_free(&want);
	nlsock_close(nl);
}
END_TEST

/* AFF-5: clients of endpoints that are gone are forgotten, the others kept (AFF-6). */
static const char map_name[] = "affinity/default/sticky/tcp/http";

struct wanted {
	enum family family;
	unsigned int asked;
};

static bool keep_first(void *ctx, const struct addr *endpoint, uint16_t port)
{
	struct wanted *w = ctx;
	struct addr first = sample_addr(w->family, 1);

	w->asked++;
	return addr_compare(endpoint, &first) == 0 && port == 80;
}

/* To the end; the number removed or a negative errno. */
static int purge(struct nlsock *nl, struct affinity_stream *stream,
		 enum family family, const char *map, struct wanted *w,
		 struct errbuf *eb)
{
	struct affinity_purge *p =
		affinity_purge_new(nl, stream, family, map, keep_first, w);
	int more, removed;

	ck_assert_ptr_nonnull(p);
	do
		more = affinity_purge_step(p, eb);
	while (more > 0);
	removed = (int)affinity_purge_removed(p);
	affinity_purge_free(p);
	return more < 0 ? more : removed;
}

static unsigned int count_clients(enum family family, const char *endpoint)
{
	struct strbuf out = STRBUF_INIT;
	char command[256];
	unsigned int n;

	snprintf(command, sizeof(command),
		 "nft list map %s vipmap %s | grep -oF ': %s' | wc -l",
		 family == FAMILY_IPV4 ? "ip" : "ip6", map_name, endpoint);
	ck_assert_int_eq(run(command, &out), 0);
	n = (unsigned int)strtoul(out.text, NULL, 10);
	strbuf_free(&out);
	return n;
}

static void add_clients(enum family family, unsigned int from, unsigned int n,
			unsigned int endpoint, unsigned int port)
{
	struct strbuf script = STRBUF_INIT, out = STRBUF_INIT;
	char client[ADDR_TEXT_SIZE], to[ADDR_TEXT_SIZE];
	struct addr a;
	unsigned int i;

	strbuf_addf(&script, "add element %s vipmap %s {\n",
		    family == FAMILY_IPV4 ? "ip" : "ip6", map_name);
	for (i = 0; i < n; i++) {
		a = sample_addr(family, from + i);
		addr_format(family, &a, client);
		a = sample_addr(family, endpoint);
		strbuf_addf(&script, "%s timeout 1h : %s . %u,\n", client,
			    addr_format(family, &a, to), port);
	}
	strbuf_adds(&script, "}\n");
	ck_assert_msg(run_with("nft -f %s", script.text, &out) == 0, "%s",
		      out.text);
	strbuf_free(&script);
	strbuf_free(&out);
}

/* AFF-4, AFF-5; whole or in steps */
START_TEST(purges)
{
	const enum family family = (enum family)(_i % N_FAMILIES);
	const struct ruleset ruleset = sample_ruleset(family);
	const char *ep[2] = {
		family == FAMILY_IPV4 ? "10.0.0.1 . 80" : "fd00::1 . 80",
		family == FAMILY_IPV4 ? "10.0.0.2 . 80" : "fd00::2 . 80"
	};
	struct wanted wanted = { .family = family };
	struct affinity_stream *stream = NULL;
	struct errbuf eb = { "" };
	struct nlsock *nl;
	int n;

	if (!new_namespace())
		return;
	nl = open_socket();
	if (_i >= N_FAMILIES)
		stream = affinity_stream_open(&eb);
	ck_assert_msg(_i < N_FAMILIES || stream, "%s", eb.text);
	ck_assert_int_eq(purge(nl, stream, family, map_name, &wanted, &eb), 0);
	install(nl, &ruleset, SAMPLE_STICKY, 0);
	ck_assert_int_eq(purge(nl, stream, family, map_name, &wanted, &eb), 0);
	ck_assert_int_eq(
		purge(nl, stream, family, "affinity/absent", &wanted, &eb), 0);
	add_clients(family, 1, 3000, 1, 80);
	add_clients(family, 4000, 4500, 2, 80);
	add_clients(family, 10000, 10, 1, 81);
	ck_assert_uint_eq(count_clients(family, ep[0]), 3000);
	n = purge(nl, stream, family, map_name, &wanted, &eb);
	ck_assert_msg(n == 4510, "want 4510 got %d: %s", n, eb.text);
	ck_assert_uint_eq(wanted.asked,
			  7510 + 3000); /* listed until nobody is found */
	ck_assert_uint_eq(count_clients(family, ep[0]), 3000);
	ck_assert_uint_eq(count_clients(family, ep[1]), 0);
	ck_assert_int_eq(purge(nl, stream, family, map_name, &wanted, &eb), 0);
	affinity_stream_close(stream);
	nlsock_close(nl);
}
END_TEST

/* Somebody writes between any two steps, so that no listing is consistent. */
START_TEST(purges_while_others_write)
{
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct wanted wanted = { .family = FAMILY_IPV4 };
	struct affinity_stream *stream;
	struct affinity_purge *p;
	struct errbuf eb = { "" };
	struct nlsock *nl;
	unsigned int steps = 0;
	int more;

	if (!new_namespace())
		return;
	nl = open_socket();
	stream = affinity_stream_open(&eb);
	ck_assert_msg(stream, "%s", eb.text);
	install(nl, &ruleset, SAMPLE_STICKY, 0);
	add_clients(FAMILY_IPV4, 1, 3000, 1, 80);
	add_clients(FAMILY_IPV4, 4000, 9000, 2, 80);

	/* one that is given up in the middle of a listing */
	p = affinity_purge_new(nl, stream, FAMILY_IPV4, map_name, keep_first,
			       &wanted);
	ck_assert_int_eq(affinity_purge_step(p, &eb), 1);
	ck_assert_int_eq(affinity_purge_step(p, &eb), 1);
	affinity_purge_free(p);
	ck_assert_uint_gt(wanted.asked, 0);
	ck_assert_uint_lt(wanted.asked, 12000);

	p = affinity_purge_new(nl, stream, FAMILY_IPV4, map_name, keep_first,
			       &wanted);
	do {
		more = affinity_purge_step(p, &eb);
		steps++;
		ck_assert_int_eq(
			system("nft 'add table ip other; delete table ip other'"),
			0);
	} while (more > 0);
	ck_assert_msg(more == 0, "%s", eb.text);
	ck_assert_uint_eq(affinity_purge_removed(p), 9000);
	ck_assert_uint_eq(count_clients(FAMILY_IPV4, "10.0.0.1 . 80"), 3000);
	ck_assert_uint_eq(count_clients(FAMILY_IPV4, "10.0.0.2 . 80"), 0);
	ck_assert_uint_gt(
		steps,
		20); /* 17 messages of at most 800, and 5 transactions of 2,000 */
	affinity_purge_free(p);
	affinity_stream_close(stream);
	nlsock_close(nl);
}
END_TEST

/* A kernel before 6.3: what it does not know is refused, all else goes to the real one. */
struct old_kernel {
	struct nlsock *nl;
	const char *command; /* run once, before the first deletion */
	unsigned int refused, deletions;
};

static int forward(void *ctx, const struct iovec *iov, unsigned int n_iov,
		   uint32_t last_seq,
		   int (*reply)(const struct nlmsghdr *nlh, void *data),
		   void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	struct old_kernel *k = ctx;
	const struct nlmsghdr *begin = iov[0].iov_base, *second;

	if (iov[0].iov_len > begin->nlmsg_len) {
		second = (const void *)((const char *)iov[0].iov_base +
					begin->nlmsg_len);
		if ((second->nlmsg_type & 0xff) == 30) {
			k->refused++;
			return errf(eb, -EINVAL, "unknown message");
		}
		if (!k->deletions++ && k->command)
			ck_assert_int_eq(system(k->command), 0);
	}
	return nlsock_exchange(k->nl, iov, n_iov, last_seq, reply, data,
			       timeout_ms, eb);
}

START_TEST(purges_on_old_kernels)
{
	static const struct nlsock_ops ops = { .exchange = forward };
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct old_kernel kernel = {
		/* They expire between listing and deletion. */
		.command = "nft delete element ip vipmap affinity/default/sticky/tcp/http "
			   "'{ 10.0.15.160, 10.0.15.163, 10.0.15.164 }'",
	};
	struct wanted wanted = { .family = FAMILY_IPV4 };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	int n;

	if (!new_namespace())
		return;
	kernel.nl = open_socket();
	nl = nlsock_new(&ops, &kernel);
	install(kernel.nl, &ruleset, SAMPLE_STICKY, 0);
	add_clients(FAMILY_IPV4, 1, 20, 1, 80);
	add_clients(FAMILY_IPV4, 4000, 1200, 2, 80);
	n = purge(nl, NULL, FAMILY_IPV4, map_name, &wanted, &eb);
	ck_assert_msg(n == 1200, "want 1200 got %d: %s", n, eb.text);
	ck_assert_uint_eq(count_clients(FAMILY_IPV4, "10.0.0.1 . 80"), 20);
	ck_assert_uint_eq(count_clients(FAMILY_IPV4, "10.0.0.2 . 80"), 0);
	ck_assert_uint_eq(kernel.refused, 1);
	nlsock_close(nl);
	nlsock_close(kernel.nl);
}
END_TEST

/*
 * A kernel whose first listing leaves a message out and does not say so, as
 * happens while the hash table grows: all else goes to the real one.
 */
struct forgetful {
	struct nlsock *nl;
	unsigned int listings, messages;
	int (*reply)(const struct nlmsghdr *nlh, void *data);
	void *data;
};

static int reply_but_one(const struct nlmsghdr *nlh, void *data)
{
	struct forgetful *k = data;

	if (k->listings == 1 && ++k->messages == 2)
		return 0;
	return k->reply(nlh, k->data);
}

static int forget(void *ctx, const struct iovec *iov, unsigned int n_iov,
		  uint32_t last_seq,
		  int (*reply)(const struct nlmsghdr *nlh, void *data),
		  void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	const struct nlmsghdr *first = iov[0].iov_base;
	struct forgetful *k = ctx;

	k->listings += (first->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	k->reply = reply;
	k->data = data;
	return nlsock_exchange(k->nl, iov, n_iov, last_seq, reply_but_one, k,
			       timeout_ms, eb);
}

START_TEST(purges_what_a_listing_left_out)
{
	static const struct nlsock_ops ops = { .exchange = forget };
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct wanted wanted = { .family = FAMILY_IPV4 };
	struct forgetful kernel = { .nl = NULL };
	struct errbuf eb = { "" };
	struct nlsock *nl;
	int n;

	if (!new_namespace())
		return;
	kernel.nl = open_socket();
	nl = nlsock_new(&ops, &kernel);
	install(kernel.nl, &ruleset, SAMPLE_STICKY, 0);
	add_clients(FAMILY_IPV4, 4000, 3000, 2, 80);
	n = purge(nl, NULL, FAMILY_IPV4, map_name, &wanted, &eb);
	ck_assert_msg(n == 3000, "want 3000 got %d: %s", n, eb.text);
	ck_assert_uint_gt(kernel.messages, 2);
	ck_assert_uint_eq(kernel.listings, 3);
	ck_assert_uint_eq(count_clients(FAMILY_IPV4, "10.0.0.2 . 80"), 0);
	nlsock_close(nl);
	nlsock_close(kernel.nl);
}
END_TEST

/* A deletion that is refused, though the exchange itself ends well. */
static int forbid(void *ctx, const struct iovec *iov, unsigned int n_iov,
		  uint32_t last_seq,
		  int (*reply)(const struct nlmsghdr *nlh, void *data),
		  void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	const struct nlmsghdr *begin = iov[0].iov_base, *second;
	struct {
		struct nlmsghdr nlh;
		struct nlmsgerr error;
	} answer = { .nlh = { .nlmsg_len = sizeof(answer),
			      .nlmsg_type = NLMSG_ERROR },
		     .error = { .error = -EPERM } };

	if (iov[0].iov_len == begin->nlmsg_len)
		return nlsock_exchange(ctx, iov, n_iov, last_seq, reply, data,
				       timeout_ms, eb);
	second = (const void *)((const char *)iov[0].iov_base + begin->nlmsg_len);
	answer.nlh.nlmsg_seq = second->nlmsg_seq;
	return reply(&answer.nlh, data);
}

START_TEST(purge_refused)
{
	static const struct nlsock_ops ops = { .exchange = forbid };
	const struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct wanted wanted = { .family = FAMILY_IPV4 };
	struct nlsock *kernel, *nl;
	struct errbuf eb = { "" };

	if (!new_namespace())
		return;
	kernel = open_socket();
	nl = nlsock_new(&ops, kernel);
	install(kernel, &ruleset, SAMPLE_STICKY, 0);
	add_clients(FAMILY_IPV4, 1, 20, 2, 80);
	ck_assert_int_eq(purge(nl, NULL, FAMILY_IPV4, map_name, &wanted, &eb),
			 -EPERM);
	ck_assert_str_eq(eb.text,
			 "map affinity/default/sticky/tcp/http: cannot remove clients: "
			 "the kernel refuses: Operation not permitted");
	nlsock_close(nl);
	nlsock_close(kernel);
}
END_TEST

/* RUN-10 */
static const struct {
	const char *name, *command, *want;
} rivals[] = {
	{ "none", "true", "" },
	{ "only ours", "nft 'table ip vipmap { chain services { }; }'", "" },
	{ "kube-proxy in nftables mode",
	  "nft 'table ip kube-proxy { }; table ip6 kube-proxy { }'",
	  "nftables table ip kube-proxy\nnftables table ip6 kube-proxy\n" },
	{ "iptables-nft",
	  "nft 'table ip nat { chain KUBE-SERVICES { }; }; table ip6 nat { chain X { }; }'",
	  "chain KUBE-SERVICES in table ip nat (iptables-nft)\n" },
};

static void note_rival(void *ctx, const char *what)
{
	strbuf_addf(ctx, "%s\n", what);
}

START_TEST(finds_rivals)
{
	struct strbuf got = STRBUF_INIT, out = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct nlsock *nl;

	if (!new_namespace())
		return;
	ck_assert_msg(run(rivals[_i].command, &out) == 0, "%s", out.text);
	nl = open_socket();
	ck_assert_int_eq(readback_rivals(nl, note_rival, &got, &eb), 0);
	strbuf_adds(&got, "");
	ck_assert_msg(strcmp(got.text ? got.text : "", rivals[_i].want) == 0,
		      "%s: want %s got %s", rivals[_i].name, rivals[_i].want,
		      got.text);
	strbuf_free(&got);
	strbuf_free(&out);
	nlsock_close(nl);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof((table)[0]))

Suite *make_suite(void)
{
	Suite *suite = suite_create("readback");
	TCase *tcase = tcase_create("kernel");
	TCase *load =
		tcase_create("load"); /* much at once, or against the clock */

	tcase_set_timeout(tcase, 60);
	tcase_set_timeout(load, 180);
	tcase_add_loop_test(tcase, intact, 0, ROWS(intact_cases));
	tcase_add_test(tcase, absent);
	tcase_add_loop_test(tcase, damaged, 0, ROWS(damages));
	tcase_add_test(load, large);
	tcase_add_loop_test(tcase, chain_damaged, 0, ROWS(chain_damages));
	tcase_add_test(tcase, settings_changed);
	tcase_add_loop_test(tcase, parts_changed, 0,
			    N_FAMILIES * N_PART_SETS * N_PART_SETS);
	tcase_add_loop_test(tcase, changed_meanwhile, 0, ROWS(disturbances));
	tcase_add_test(load, busy_neighbour);
	tcase_add_loop_test(tcase, purges, 0, 2 * N_FAMILIES);
	tcase_add_test(tcase, purges_while_others_write);
	tcase_add_test(tcase, purges_what_a_listing_left_out);
	tcase_add_test(tcase, purges_on_old_kernels);
	tcase_add_test(tcase, purge_refused);
	tcase_add_loop_test(tcase, finds_rivals, 0, ROWS(rivals));
	suite_add_tcase(suite, tcase);
	suite_add_tcase(suite, load);
	return suite;
}
