/* The table as nft text: goldens of a table with everything, the forms of each
 * rule, and what nft says. */
#include "nft/text.h"
#include "nft/layout.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"

#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *sample_text(enum family family, unsigned int flags)
{
	struct ruleset ruleset = sample_ruleset(family);
	struct text *t = text_new(&ruleset);
	struct strbuf out = STRBUF_INIT;

	ck_assert_ptr_nonnull(t);
	sample_write(text_writer(t), family, flags);
	ck_assert_int_eq(text_print(t, &out), 0);
	text_free(t);
	return out.text;
}

static const struct {
	const char *name, *file;
	enum family family;
} goldens[] = {
	{ "IPv4", "tests/data/table-ip.nft", FAMILY_IPV4 },
	{ "IPv6", "tests/data/table-ip6.nft", FAMILY_IPV6 },
};

static char *read_file(const char *path)
{
	struct strbuf out = STRBUF_INIT;
	char chunk[4096];
	size_t length;
	FILE *file = fopen(path, "r");

	ck_assert_msg(file, "%s: cannot be read", path);
	while ((length = fread(chunk, 1, sizeof(chunk), file)) > 0)
		strbuf_add(&out, chunk, length);
	fclose(file);
	return out.text;
}

/* GOLDENS=1 writes them anew. */
START_TEST(test_golden)
{
	char *got = sample_text(goldens[_i].family, SAMPLE_STICKY), *want;
	FILE *file;

	if (getenv("GOLDENS")) {
		file = fopen(goldens[_i].file, "w");
		ck_assert_ptr_nonnull(file);
		fputs(got, file);
		fclose(file);
	}
	want = read_file(goldens[_i].file);
	ck_assert_msg(strcmp(got, want) == 0, "%s: differs from %s:\n%s",
		      goldens[_i].name, goldens[_i].file, got);
	free(want);
	free(got);
}
END_TEST

START_TEST(test_nft_accepts)
{
	char *text =
		sample_text(goldens[_i].family,
			    goldens[_i].family == FAMILY_IPV4 ? SAMPLE_STICKY : 0);
	struct strbuf out = STRBUF_INIT;

	if (new_namespace())
		ck_assert_msg(run_with("nft -c -f %s", text, &out) == 0,
			      "%s: nft refuses: %s", goldens[_i].name, out.text);
	strbuf_free(&out);
	free(text);
}
END_TEST

/* Text of the rules of a chain, one per line. */
static char *chain_text(const struct ruleset *ruleset, const struct chain *chain)
{
	struct strbuf out = STRBUF_INIT;
	unsigned int i;

	for (i = 0; i < chain->n_rules; i++) {
		rule_print(ruleset->family, &chain->rules[i], &out);
		strbuf_addc(&out, '\n');
	}
	return out.text ? out.text : strdup("");
}

#define PICK(n)                                                                 \
	"dnat ip to ip daddr . meta l4proto . th dport . numgen random mod " #n \
	" map "                                                                 \
	"@endpoints\n"
#define MARK "meta mark set meta mark or 0x4000\n"

/* Which packets to a service are marked for masquerade: MASQ-1 to MASQ-4, MASQ-6 to MASQ-8. */
static const struct {
	const char *name;
	struct ruleset ruleset;
	uint8_t pick;
	const char *want;
} picks[] = {
	{ "no detection (MASQ-3)", { .detect = false }, PICK_CLUSTER, PICK(2) PICK(1) },
	{ "masqueradeAll (MASQ-1)",
	  { .masquerade_all = true, .detect = true, .pod_cidr = { { { 10 } }, 8 } },
	  PICK_CLUSTER,
	  MARK PICK(2) PICK(1) },
	{ "masqueradeAll leaves short-circuited traffic alone (MASQ-4)",
	  { .masquerade_all = true },
	  0,
	  PICK(2) PICK(1) },
	{ "outside of the cluster's range (MASQ-2)",
	  { .detect = true, .pod_cidr = { { { 10, 180 } }, 16 } },
	  PICK_CLUSTER,
	  "ip saddr != 10.180.0.0/16 " MARK PICK(2) PICK(1) },
	{ "outside of the node's range (MASQ-8)",
	  { .detect = true,
	    .detect_local = DETECT_NODE_CIDR,
	    .pod_cidr = { { { 10, 180, 3 } }, 25 } },
	  PICK_CLUSTER,
	  "ip saddr != 10.180.3.0/25 " MARK PICK(2) PICK(1) },
	{ "every source is a pod", { .detect = true }, PICK_CLUSTER, PICK(2) PICK(1) },
	{ "range of one address",
	  { .detect = true, .pod_cidr = { { { 10, 1, 2, 3 } }, 32 } },
	  PICK_CLUSTER,
	  "ip saddr != 10.1.2.3 " MARK PICK(2) PICK(1) },
	{ "bridge (MASQ-7)",
	  { .detect = true, .detect_local = DETECT_BRIDGE_INTERFACE, .interface = "br0" },
	  PICK_CLUSTER,
	  "iifname != \"br0\" " MARK PICK(2) PICK(1) },
	{ "bridge whose name ends with an asterisk",
	  { .detect = true, .detect_local = DETECT_BRIDGE_INTERFACE, .interface = "br*" },
	  PICK_CLUSTER,
	  "iifname != \"br\\*\" " MARK PICK(2) PICK(1) },
	{ "interface prefix (MASQ-7)",
	  { .detect = true,
	    .detect_local = DETECT_INTERFACE_NAME_PREFIX,
	    .interface = "veth" },
	  PICK_CLUSTER,
	  "iifname != \"veth*\" " MARK PICK(2) PICK(1) },
	{ "external (MASQ-4)",
	  { .detect = true, .pod_cidr = { { { 10 } }, 8 } },
	  PICK_EXTERNAL,
	  MARK PICK(2) PICK(1) },
	{ "external by node port, local list",
	  { .detect = false },
	  PICK_EXTERNAL | PICK_NODEPORT | PICK_LOCAL,
	  MARK "dnat ip to meta l4proto . th dport . numgen random mod 2 map "
	       "@nodeport-local-endpoints\n"
	       "dnat ip to meta l4proto . th dport . numgen random mod 1 map "
	       "@nodeport-local-endpoints\n" },
	{ "sticky",
	  { .detect = false },
	  PICK_STICKY | PICK_LOCAL,
	  "ip daddr . meta l4proto . th dport . numgen random mod 2 vmap "
	  "@sticky-local-endpoints\n"
	  "ip daddr . meta l4proto . th dport . numgen random mod 1 vmap "
	  "@sticky-local-endpoints\n" },
};

enum { N_PICK_CASES = sizeof(picks) / sizeof(picks[0]) };

START_TEST(test_pick)
{
	const struct verdict v = { .kind = VERDICT_PICK,
				   .pick = picks[_i].pick,
				   .count = 2 };
	struct ruleset ruleset = picks[_i].ruleset;
	struct chain chain;
	char *got;

	ruleset.masquerade_mark = 0x4000;
	chain_pick(&ruleset, &v, &chain);
	got = chain_text(&ruleset, &chain);
	ck_assert_msg(strcmp(got, picks[_i].want) == 0, "%s: want:\n%sgot:\n%s",
		      picks[_i].name, picks[_i].want, got);
	free(got);
}
END_TEST

#define VIP4 "ip daddr . meta l4proto . th dport"
#define VIP6 "ip6 daddr . meta l4proto . th dport"

static const struct {
	const char *name;
	struct ruleset ruleset;
	enum chain_id chain;
	const char *want;
} constants[] = {
	{ "refused at once (VER-18)",
	  { .family = FAMILY_IPV4 },
	  CHAIN_REJECT,
	  "meta l4proto tcp reject with tcp reset\nreject\n" },
	{ "sources that are allowed (LB-4, VER-1, VER-9)",
	  { .family = FAMILY_IPV4 },
	  CHAIN_FIREWALLED,
	  VIP4 " vmap @firewalled\ndrop\n" },
	{ "Local policy with detection (POL-2, POL-5, POL-7)",
	  { .detect = true, .pod_cidr = { { { 10 } }, 8 } },
	  CHAIN_EXTERNAL_LOCAL,
	  "ip saddr 10.0.0.0/8 goto short-circuit\n"
	  "fib saddr type local meta mark set meta mark or 0x4000 goto short-circuit\n" VIP4
	  " vmap @local-policy\n" },
	{ "Local policy without detection (POL-6)",
	  { .family = FAMILY_IPV6 },
	  CHAIN_EXTERNAL_LOCAL,
	  "fib saddr type local meta mark set meta mark or 0x4000 goto short-circuit\n" VIP6
	  " vmap @local-policy\n" },
	{ "Local policy, node ports, bridge",
	  { .detect = true, .detect_local = DETECT_BRIDGE_INTERFACE, .interface = "cni0" },
	  CHAIN_NODEPORT_EXTERNAL_LOCAL,
	  "iifname \"cni0\" goto nodeport-short-circuit\n"
	  "fib saddr type local meta mark set meta mark or 0x4000 goto nodeport-short-circuit\n"
	  "meta l4proto . th dport vmap @nodeport-local-policy\n" },
	{ "Local policy, every source is a pod",
	  { .family = FAMILY_IPV6, .detect = true },
	  CHAIN_EXTERNAL_LOCAL,
	  "goto short-circuit\n"
	  "fib saddr type local meta mark set meta mark or 0x4000 goto short-circuit\n" VIP6
	  " vmap @local-policy\n" },
	{ "short-circuit",
	  { .family = FAMILY_IPV4 },
	  CHAIN_SHORT_CIRCUIT,
	  VIP4 " vmap @cluster-policy\n" },
	{ "order of services (VER-5, VER-6, VER-14)",
	  { .family = FAMILY_IPV4 },
	  CHAIN_SERVICES,
	  VIP4 " vmap @service-ips\n"
	       "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n"
	       "ip daddr @cluster-ips goto reject-chain\n"
	       "ip daddr @service-cidrs fib daddr type != local drop\n" },
	{ "node ports everywhere but on loopback (NP-3, NP-4)",
	  { .family = FAMILY_IPV4, .nodeports_everywhere = true },
	  CHAIN_SERVICES,
	  VIP4 " vmap @service-ips\n"
	       "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap "
	       "@service-nodeports\n"
	       "ip daddr @cluster-ips goto reject-chain\n"
	       "ip daddr @service-cidrs fib daddr type != local drop\n" },
	{ "the same, IPv6",
	  { .family = FAMILY_IPV6, .nodeports_everywhere = true },
	  CHAIN_SERVICES,
	  VIP6 " vmap @service-ips\n"
	       "fib daddr type local ip6 daddr != ::1 meta l4proto . th dport vmap "
	       "@service-nodeports\n"
	       "ip6 daddr @cluster-ips goto reject-chain\n"
	       "ip6 daddr @service-cidrs fib daddr type != local drop\n" },
	{ "masquerade (MASQ-5, MASQ-10, MASQ-11)",
	  { .family = FAMILY_IPV4 },
	  CHAIN_NAT_POSTROUTING,
	  "meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random\n"
	  "ct status dnat ip saddr . " VIP4 " @hairpin masquerade fully-random\n" },
};

enum { N_CONSTANT_CASES = sizeof(constants) / sizeof(constants[0]) };

START_TEST(test_constant)
{
	struct ruleset ruleset = constants[_i].ruleset;
	struct chain chain;
	char *got;

	ruleset.masquerade_mark = 0x4000;
	chain_constant(&ruleset, constants[_i].chain, &chain);
	got = chain_text(&ruleset, &chain);
	ck_assert_msg(strcmp(got, constants[_i].want) == 0, "%s: want:\n%sgot:\n%s",
		      constants[_i].name, constants[_i].want, got);
	free(got);
}
END_TEST

static const struct {
	const char *name;
	enum family family;
	uint8_t protocol;
	uint32_t timeout_s;
	const char *want;
} stickies[] = {
	{ "default timeout (AFF-2)", FAMILY_IPV4, IPPROTO_TCP, 10800,
	  "update @affinity { ip saddr timeout 3h : 10.0.0.7 . 8080 }\n"
	  "meta l4proto tcp dnat ip to ip saddr map @affinity\n"
	  "meta l4proto tcp dnat to 10.0.0.7:8080\n" },
	{ "shortest timeout, UDP", FAMILY_IPV4, IPPROTO_UDP, 1,
	  "update @affinity { ip saddr timeout 1s : 10.0.0.7 . 8080 }\n"
	  "meta l4proto udp dnat ip to ip saddr map @affinity\n"
	  "meta l4proto udp dnat to 10.0.0.7:8080\n" },
	{ "longest timeout, SCTP, IPv6", FAMILY_IPV6, IPPROTO_SCTP, 86400,
	  "update @affinity { ip6 saddr timeout 1d : fd00::7 . 8080 }\n"
	  "meta l4proto sctp dnat ip6 to ip6 saddr map @affinity\n"
	  "meta l4proto sctp dnat to [fd00::7]:8080\n" },
	{ "odd timeout", FAMILY_IPV4, IPPROTO_TCP, 86399,
	  "update @affinity { ip saddr timeout 23h59m59s : 10.0.0.7 . 8080 }\n"
	  "meta l4proto tcp dnat ip to ip saddr map @affinity\n"
	  "meta l4proto tcp dnat to 10.0.0.7:8080\n" },
};

enum { N_STICKY_CASES = sizeof(stickies) / sizeof(stickies[0]) };

START_TEST(test_firewall)
{
	const struct ruleset ruleset = { .family = FAMILY_IPV6 };
	struct chain chain;
	char *got;

	chain_firewall("ranges/default/web", &chain);
	ck_assert_str_eq(chain.name, "firewall/default/web");
	got = chain_text(&ruleset, &chain);
	ck_assert_str_eq(
		got,
		"ip6 saddr @ranges/default/web goto firewalled-sources\ndrop\n");
	free(got);
}
END_TEST

START_TEST(test_sticky)
{
	const struct sticky_chain sticky = {
		.name = "sticky",
		.map = "affinity",
		.endpoint = sample_addr(stickies[_i].family, 7),
		.port = 8080,
		.protocol = stickies[_i].protocol,
		.timeout_s = stickies[_i].timeout_s,
	};
	const struct ruleset ruleset = { .family = stickies[_i].family };
	struct chain chain;
	char *got;

	chain_sticky(&sticky, &chain);
	got = chain_text(&ruleset, &chain);
	ck_assert_msg(strcmp(got, stickies[_i].want) == 0, "%s: want:\n%sgot:\n%s",
		      stickies[_i].name, stickies[_i].want, got);
	free(got);
}
END_TEST

/* Calls of a writer, kept and played back the other way round. */
struct recorder {
	struct writer writer;
	struct element elements[512];
	struct verdict picks[128];
	const char *ranges[8];
	unsigned int n_elements, n_picks, n_ranges;
};

static void record_table(void *ctx, enum change change, unsigned int parts)
{
	(void)ctx;
	(void)change;
	(void)parts;
}

static void record_pick(void *ctx, enum change change, const struct verdict *pick)
{
	struct recorder *r = ctx;

	(void)change;
	r->picks[r->n_picks++] = *pick;
}

static void record_ranges(void *ctx, enum change change, const char *set)
{
	struct recorder *r = ctx;

	(void)change;
	r->ranges[r->n_ranges++] = set;
}

static void record_element(void *ctx, enum change change,
			   const struct element *e, void *owner)
{
	struct recorder *r = ctx;

	(void)change;
	(void)owner;
	r->elements[r->n_elements++] = *e;
}

START_TEST(test_order_does_not_show)
{
	enum family family = goldens[_i].family;
	struct recorder r = { .writer = { .ctx = &r,
					  .table = record_table,
					  .pick = record_pick,
					  .ranges = record_ranges,
					  .element = record_element } };
	struct ruleset ruleset = sample_ruleset(family);
	struct text *t = text_new(&ruleset);
	const struct writer *w = text_writer(t);
	char *want = sample_text(family, 0);
	struct strbuf got = STRBUF_INIT;

	sample_write(&r.writer, family, 0);
	while (r.n_elements)
		w->element(w->ctx, CHANGE_ADD, &r.elements[--r.n_elements], NULL);
	while (r.n_picks)
		w->pick(w->ctx, CHANGE_ADD, &r.picks[--r.n_picks]);
	while (r.n_ranges)
		w->ranges(w->ctx, CHANGE_ADD, r.ranges[--r.n_ranges]);
	w->table(w->ctx, CHANGE_ADD, 0);
	ck_assert_int_eq(text_print(t, &got), 0);
	ck_assert_str_eq(got.text, want);
	strbuf_free(&got);
	free(want);
	text_free(t);
}
END_TEST

static void delete_pick(const struct writer *w)
{
	w->pick(w->ctx, CHANGE_DELETE,
		&(struct verdict){ .kind = VERDICT_PICK, .count = 1 });
}

static void update_table(const struct writer *w)
{
	w->table(w->ctx, CHANGE_UPDATE, 0);
}

static void add_sticky_without_protocol(const struct writer *w)
{
	w->sticky(w->ctx, CHANGE_ADD,
		  &(struct sticky_chain){ .name = "a", .map = "b" });
}

static void add_element_without_verdict(const struct writer *w)
{
	w->element(w->ctx, CHANGE_ADD,
		   &(struct element){ .set = MAP_LOCAL_POLICY }, NULL);
}

static void (*const refused[])(const struct writer *w) = {
	delete_pick,
	update_table,
	add_sticky_without_protocol,
	add_element_without_verdict,
};

/* A text is of a whole table, and of whole things. */
START_TEST(test_changes_refused)
{
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct text *t = text_new(&ruleset);
	struct strbuf out = STRBUF_INIT;

	refused[_i](text_writer(t));
	ck_assert_int_eq(text_print(t, &out), -EINVAL);
	ck_assert_ptr_null(out.text);
	text_free(t);
}
END_TEST

START_TEST(test_limit)
{
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	struct text *t = text_new(&ruleset);
	struct strbuf out = { .max = 1000 };

	ck_assert_int_eq(text_print(t, &out), -E2BIG);
	strbuf_free(&out);
	text_free(t);
}
END_TEST

static const struct {
	const char *name, *comment, *want;
} comments[] = {
	{ "plain", "default/web:http", "default/web:http" },
	{ "empty", "", "" },
	{ "what nft text cannot hold", "a\"b\\c\nd\x7f", "a?b?c?d?" },
	{ "bytes of UTF-8", "\xc3\xa4", "\xc3\xa4" },
};

START_TEST(test_comment)
{
	char text[COMMENT_MAX + 1];

	ck_assert_uint_eq(comment_copy(comments[_i].comment, text),
			  strlen(comments[_i].want));
	ck_assert_msg(strcmp(text, comments[_i].want) == 0, "%s: want %s, got %s",
		      comments[_i].name, comments[_i].want, text);
}
END_TEST

START_TEST(test_long_comment)
{
	char comment[COMMENT_MAX + 10], text[COMMENT_MAX + 1];

	memset(comment, 'x', sizeof(comment));
	comment[sizeof(comment) - 1] = '\0';
	ck_assert_uint_eq(comment_copy(comment, text), COMMENT_MAX);
	ck_assert_uint_eq(strlen(text), COMMENT_MAX);
}
END_TEST

/* Digests are compared with what an older or newer version left in the kernel: they may not drift.
 */
START_TEST(test_digest)
{
	const struct verdict pick = { .kind = VERDICT_PICK, .count = 2 };
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	uint8_t userdata[RULE_UDATA_SIZE];
	struct chain chain;
	uint64_t digest;

	chain_pick(&ruleset, &pick, &chain);
	digest = rule_digest(FAMILY_IPV4, &chain.rules[0]);
	ck_assert_uint_eq(digest, 86769539592500095u);
	ck_assert_uint_ne(digest, rule_digest(FAMILY_IPV4, &chain.rules[1]));
	ck_assert_uint_ne(digest, rule_digest(FAMILY_IPV6, &chain.rules[0]));

	rule_userdata(digest, userdata);
	ck_assert_uint_eq(rule_userdata_digest(userdata, sizeof(userdata)), digest);
	ck_assert_uint_eq(rule_userdata_digest(userdata, sizeof(userdata) - 1), 0);
	userdata[0] = 0;
	ck_assert_uint_eq(rule_userdata_digest(userdata, sizeof(userdata)), 0);
	ck_assert_uint_eq(rule_userdata_digest(NULL, 0), 0);
}
END_TEST

/* The order of rules, and each of them, counts. */
START_TEST(test_chain_digest)
{
	struct chain chain = { 0 }, other;
	struct ruleset ruleset = sample_ruleset(FAMILY_IPV4);
	uint64_t digest;

	ck_assert_uint_eq(chain_digest(FAMILY_IPV4, &chain), 0);
	/* The text counts, not the version that wrote it: a table with these rules stays. */
	chain_constant(&ruleset, CHAIN_SHORT_CIRCUIT, &chain);
	ck_assert_uint_eq(chain_digest(FAMILY_IPV4, &chain), 12005638872231315586u);
	chain_constant(&ruleset, CHAIN_SERVICES, &chain);
	chain_constant(&ruleset, CHAIN_SERVICES, &other);
	digest = chain_digest(FAMILY_IPV4, &chain);
	ck_assert_uint_eq(digest, chain_digest(FAMILY_IPV4, &other));
	other.rules[0] = chain.rules[1];
	other.rules[1] = chain.rules[0];
	ck_assert_uint_ne(digest, chain_digest(FAMILY_IPV4, &other));
	chain.n_rules--;
	ck_assert_uint_ne(digest, chain_digest(FAMILY_IPV4, &chain));
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("text");
	TCase *tc = tcase_create("text");

	tcase_add_loop_test(tc, test_golden, 0, 2);
	tcase_add_loop_test(tc, test_nft_accepts, 0, 2);
	tcase_add_loop_test(tc, test_pick, 0, N_PICK_CASES);
	tcase_add_loop_test(tc, test_constant, 0, N_CONSTANT_CASES);
	tcase_add_test(tc, test_firewall);
	tcase_add_loop_test(tc, test_sticky, 0, N_STICKY_CASES);
	tcase_add_loop_test(tc, test_order_does_not_show, 0, 2);
	ADD_LOOP(tc, test_changes_refused, refused);
	tcase_add_test(tc, test_limit);
	ADD_LOOP(tc, test_comment, comments);
	tcase_add_test(tc, test_long_comment);
	tcase_add_test(tc, test_digest);
	tcase_add_test(tc, test_chain_digest);
	suite_add_tcase(suite, tc);
	return suite;
}
