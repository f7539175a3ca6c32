/* A sample table that has everything, and the nft command as an oracle. */
#include "tests/support/nft.h"

#include <check.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static void skip_element(void *ctx, const struct element *el)
{
	(void)ctx;
	(void)el;
}

static void skip_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	(void)ctx;
	(void)pick;
	(void)digest;
}

static void skip_ranges(void *ctx, const char *set, const struct prefix *list,
			unsigned int count, uint64_t digest)
{
	(void)ctx;
	(void)set;
	(void)list;
	(void)count;
	(void)digest;
}

struct parts_found {
	unsigned int calls, parts;
};

static void keep_parts(void *ctx, unsigned int parts)
{
	struct parts_found *found = ctx;

	found->calls++;
	found->parts = parts;
}

enum table_state read_parts(struct nlsock *nl, const struct ruleset *ruleset,
			    unsigned int *parts)
{
	struct parts_found seen = { 0, 0 };
	const struct readback found = { .ctx = &seen,
					.element = skip_element,
					.pick = skip_pick,
					.ranges = skip_ranges,
					.parts = keep_parts };
	enum table_state state = 99;
	struct errbuf eb = { "" };

	ck_assert_msg(readback_table(nl, ruleset, &found, &state, &eb) == 0,
		      "%s", eb.text);
	ck_assert_uint_eq(seen.calls, state == TABLE_CURRENT ||
					      state == TABLE_RULES_DIFFER);
	*parts = seen.parts;
	return state;
}

struct addr sample_addr(enum family family, unsigned int n)
{
	struct addr a = { { 0 } };
	unsigned int at = family == FAMILY_IPV4 ? 1 : 13;

	a.bytes[0] = family == FAMILY_IPV4 ? 10 : 0xfd;
	a.bytes[at] = (uint8_t)(n >> 16);
	a.bytes[at + 1] = (uint8_t)(n >> 8);
	a.bytes[at + 2] = (uint8_t)n;
	return a;
}

struct ruleset sample_ruleset(enum family family)
{
	return (struct ruleset){
		.family = family,
		.masquerade_mark = 0x4000,
		.detect = true,
		.detect_local = DETECT_CLUSTER_CIDR,
		.pod_cidr = { .addr = sample_addr(family, 0x100000),
			      .length = family_bits(family) - 13 },
	};
}

struct ruleset sample_ruleset_with(enum family family, unsigned int flags)
{
	struct ruleset ruleset = sample_ruleset(family);

	if (flags & SAMPLE_PARTS)
		ruleset.parts = PART_NO_MASQUERADE | PART_PING_IPS;
	if (flags & SAMPLE_OTHER) {
		ruleset.masquerade_all = ruleset.has_ping_addr = true;
		ruleset.ping_addr = sample_addr(family, 0x300);
	}
	return ruleset;
}

static struct element vip(enum family family, enum set_id set, unsigned int n,
			  uint16_t port)
{
	return (struct element){
		.set = set,
		.addr = sample_addr(family, n),
		.protocol = IPPROTO_TCP,
		.port = port,
	};
}

static void verdict(const struct writer *w, struct element e, struct verdict v)
{
	e.verdict = v;
	e.comment = "default/web:http";
	if (v.kind == VERDICT_FIREWALL)
		e.chain = "firewall/default/web";
	w->element(w->ctx, CHANGE_ADD, &e, NULL);
}

/* Every verdict where it may stand: the kernel refuses loops. The first two maps lead everywhere.
 */
static void write_verdicts(const struct writer *w, enum family family)
{
	static const struct verdict verdicts[] = {
		{ .kind = VERDICT_DROP },
		{ .kind = VERDICT_REJECT },
		{ .kind = VERDICT_PICK, .count = 3 },
		{ .kind = VERDICT_PICK, .pick = PICK_CLUSTER, .count = 3 },
		{ .kind = VERDICT_PICK,
		  .pick = PICK_EXTERNAL | PICK_NODEPORT | PICK_LOCAL,
		  .count = 3 },
		{ .kind = VERDICT_EXTERNAL_LOCAL },
		{ .kind = VERDICT_EXTERNAL_LOCAL, .pick = PICK_NODEPORT },
		{ .kind = VERDICT_FIREWALL },
	};
	unsigned int set, i, n;

	for (set = 0; set < N_SETS; set++) {
		if (!set_has_verdict(set) || set_has_index(set))
			continue;
		n = set == MAP_SERVICE_IPS || set == MAP_SERVICE_NODEPORTS ? 8 : 5;
		for (i = 0; i < n; i++)
			verdict(w,
				vip(family, set, set_is_nodeport(set) ? 0 : i,
				    (uint16_t)(80 + i)),
				verdicts[i]);
	}
}

static void write_endpoints(const struct writer *w, enum family family)
{
	unsigned int set, i;

	for (set = 0; set < N_SETS; set++) {
		if (!set_has_endpoint(set))
			continue;
		for (i = 0; i < 3; i++) {
			struct element e = vip(family, set,
					       set_is_nodeport(set) ? 0 : 7, 80);

			e.index = i;
			e.endpoint = sample_addr(family, 0x100001 + i);
			e.endpoint_port = 8080;
			w->element(w->ctx, CHANGE_ADD, &e, NULL);
		}
	}
}

static struct element cidr(enum family family, unsigned int n, unsigned int host_bits)
{
	return (struct element){
		.set = SET_SERVICE_CIDRS,
		.addr = sample_addr(family, n),
		.range = { .addr = sample_addr(family, n),
			   .length = (uint8_t)(family_bits(family) - host_bits) },
	};
}

/* Ranges that touch, a single address, and one that ends with the last address of all. */
static void write_sets(const struct writer *w, enum family family)
{
	struct element elements[] = {
		vip(family, SET_CLUSTER_IPS, 1, 0),
		vip(family, SET_CLUSTER_IPS, 2, 0),
		vip(family, SET_NODEPORT_IPS, 3, 0),
		cidr(family, 0, 8),
		cidr(family, 0x200, 8),
		cidr(family, 0x401, 0),
		cidr(family, 0xffff00, 8),
		vip(family, SET_HAIRPIN, 4, 8080),
	};
	unsigned int i, n = sizeof(elements) / sizeof(elements[0]);

	for (i = 0; i < n; i++) {
		struct element *e = &elements[i];

		if (e->set <= SET_SERVICE_CIDRS)
			e->protocol = 0;
		if (i == 6)
			memset(e->range.addr.bytes, 0xff, family_size(family) - 1);
		if (i == 6)
			e->addr = e->range.addr;
		w->element(w->ctx, CHANGE_ADD, e, NULL);
	}
}

/* Of the sets that are there only if the ruleset asks for them. */
static void write_parts(const struct writer *w, enum family family)
{
	struct element elements[] = {
		cidr(family, 0x100000, 16),
		cidr(family, 0x110000, 16),
		vip(family, SET_PING_IPS, 1, 0),
		vip(family, SET_PING_IPS, 9, 0),
	};
	unsigned int i, n = sizeof(elements) / sizeof(elements[0]);

	for (i = 0; i < n; i++) {
		if (i < 2)
			elements[i].set = SET_NO_MASQUERADE;
		elements[i].protocol = 0;
		w->element(w->ctx, CHANGE_ADD, &elements[i], NULL);
	}
}

static const char sample_ranges[] = "ranges/default/web",
		  other_ranges[] = "ranges/shop/cart";

/* Two Services; ranges that touch, and one up to the last address of all. */
static void write_ranges(const struct writer *w, enum family family)
{
	struct element elements[] = {
		{ .range = cidr(family, 0x010000, 8).range, .ranges = sample_ranges },
		{ .range = cidr(family, 0x010100, 8).range, .ranges = sample_ranges },
		{ .range = cidr(family, 0x010200, 7).range, .ranges = sample_ranges },
		{ .range = cidr(family, 0x020003, 0).range, .ranges = sample_ranges },
		{ .range = cidr(family, 0x010000, 16).range, .ranges = other_ranges },
		{ .range = cidr(family, 0, 8).range, .ranges = other_ranges },
	};
	unsigned int i, n = sizeof(elements) / sizeof(elements[0]);

	memset(elements[n - 1].range.addr.bytes, 0xff, family_size(family) - 1);
	w->ranges(w->ctx, CHANGE_ADD, sample_ranges);
	w->ranges(w->ctx, CHANGE_ADD, other_ranges);
	for (i = 0; i < n; i++) {
		elements[i].set = SET_SOURCE_RANGES;
		w->element(w->ctx, CHANGE_ADD, &elements[i], NULL);
	}
}

static void write_picks(const struct writer *w)
{
	unsigned int pick;

	for (pick = 0; pick < N_PICKS; pick++) {
		struct verdict v = { .kind = VERDICT_PICK,
				     .pick = (uint8_t)pick,
				     .count = 1 };

		if ((pick & PICK_CLUSTER) && (pick & PICK_EXTERNAL))
			continue;
		w->pick(w->ctx, CHANGE_ADD, &v);
		v.count = 3;
		w->pick(w->ctx, CHANGE_ADD, &v);
	}
}

static void write_sticky(const struct writer *w, enum family family)
{
	static const char map[] = "affinity/default/sticky/tcp/http";
	struct sticky_chain chains[] = {
		{ .name = "sticky/default/sticky/tcp/http/a/8080",
		  .timeout_s = 10800 },
		{ .name = "sticky/default/sticky/tcp/http/b/8080",
		  .timeout_s = 93784 },
	};
	unsigned int set, i;

	w->affinity(w->ctx, CHANGE_ADD, map, "default/sticky:http");
	for (i = 0; i < 2; i++) {
		chains[i].map = map;
		chains[i].endpoint = sample_addr(family, 0x100001 + i);
		chains[i].port = 8080;
		chains[i].protocol = i ? IPPROTO_SCTP : IPPROTO_TCP;
		w->sticky(w->ctx, CHANGE_ADD, &chains[i]);
	}
	for (set = 0; set < N_SETS; set++) {
		if (!set_has_verdict(set) || !set_has_index(set))
			continue;
		for (i = 0; i < 2; i++) {
			struct element e = vip(family, set,
					       set_is_nodeport(set) ? 0 : 7, 80);

			e.index = i;
			e.verdict.kind = VERDICT_STICKY;
			e.chain = chains[i].name;
			w->element(w->ctx, CHANGE_ADD, &e, NULL);
		}
	}
}

void sample_write(const struct writer *w, enum family family, unsigned int flags)
{
	w->table(w->ctx, CHANGE_ADD, 0);
	write_picks(w);
	if (flags & SAMPLE_STICKY)
		write_sticky(w, family);
	write_verdicts(w, family);
	write_endpoints(w, family);
	write_sets(w, family);
	if (flags & SAMPLE_PARTS)
		write_parts(w, family);
	write_ranges(w, family);
}

bool kernel_has_owner(void)
{
	unsigned int major, minor;
	struct utsname kernel;

	if (uname(&kernel) || sscanf(kernel.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 6 || (major == 6 && minor >= 9);
}

int run(const char *command, struct strbuf *out)
{
	char *with_errors = NULL, chunk[4096];
	size_t length;
	FILE *pipe;
	int status;

	if (asprintf(&with_errors, "{ %s ; } 2>&1", command) < 0)
		return -1;
	pipe = popen(with_errors, "r");
	free(with_errors);
	if (!pipe)
		return -1;
	while ((length = fread(chunk, 1, sizeof(chunk), pipe)) > 0)
		strbuf_add(out, chunk, length);
	status = pclose(pipe);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int run_with(const char *command, const char *input, struct strbuf *out)
{
	char path[] = "/tmp/vipmap-test-XXXXXX";
	char text[512];
	int fd = mkstemp(path), status;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
	const char *at = strstr(command, "%s");

	if (!file)
		return -1;
	fputs(input, file);
	fclose(file);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - command), command,
		 path, at + 2);
	status = run(text, out);
	unlink(path);
	return status;
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Appends the elements of the comma-separated @list, sorted. */
static void add_sorted(struct strbuf *out, char *list)
{
	char **items = NULL, *item, *rest = NULL;
	size_t count = 0, i;

	for (item = strtok_r(list, ",", &rest); item;
	     item = strtok_r(NULL, ",", &rest)) {
		item += strspn(item, " \t\n");
		items = reallocarray(items, count + 1, sizeof(*items));
		items[count++] = item;
	}
	qsort(items, count, sizeof(*items), compare_strings);
	for (i = 0; i < count; i++)
		strbuf_addf(out, "\t\t\t%s\n", items[i]);
	free(items);
}

char *normalise_list(const char *list)
{
	static const char mark[] = "elements = { ";
	struct strbuf out = STRBUF_INIT;
	const char *begin, *end;

	while ((begin = strstr(list, mark))) {
		begin += sizeof(mark) - 1;
		end = strstr(begin, " }");
		strbuf_add(&out, list, (size_t)(begin - list));
		strbuf_addc(&out, '\n');
		list = end;
		{
			char *elements = strndup(begin, (size_t)(end - begin));

			add_sorted(&out, elements);
			free(elements);
		}
	}
	strbuf_adds(&out, list);
	return out.text;
}
