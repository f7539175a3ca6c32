/* See the header. Words are cut by strtok_r; everything goes through the *_pack() functions. */
#include "tests/support/build.h"

#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ITEMS = 4096 };

static void bad(const char *what, const char *word)
{
	fprintf(stderr, "test data: %s: %s\n", what, word);
	abort();
}

static const char *after(const char *word, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(word, prefix, n) == 0 ? word + n : NULL;
}

static enum family parse_addr(const char *text, struct addr *addr)
{
	enum family family;

	if (addr_parse(text, &family, addr))
		bad("address", text);
	return family;
}

struct addr build_addr(const char *text)
{
	struct addr addr;

	parse_addr(text, &addr);
	return addr;
}

struct prefix build_prefix(const char *text)
{
	enum family family;
	struct prefix prefix;

	if (prefix_parse(text, &family, &prefix))
		bad("range", text);
	return prefix;
}

static uint64_t parse_number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*end || end == text)
		bad("number", text);
	return n;
}

/* Lists that grow, per family. */
struct addrs {
	struct addr items[N_FAMILIES][MAX_ITEMS];
	unsigned int n[N_FAMILIES];
};

struct prefixes {
	struct prefix items[N_FAMILIES][MAX_ITEMS];
	unsigned int n[N_FAMILIES];
};

static void addrs_add(struct addrs *list, const char *text)
{
	struct addr addr;
	enum family f = parse_addr(text, &addr);

	list->items[f][list->n[f]++] = addr;
}

static void prefixes_add(struct prefixes *list, const char *text)
{
	struct prefix prefix;
	enum family f;

	if (prefix_parse(text, &f, &prefix))
		bad("range", text);
	list->items[f][list->n[f]++] = prefix;
}

/* PROTOCOL:PORT[:NAME][@NODEPORT]; false if the word is no such thing. Cuts the word. */
static bool parse_port(char *word, struct service_port *port)
{
	char *colon = strchr(word, ':'), *at, *name;

	if (!colon)
		return false;
	*colon = '\0';
	port->protocol = protocol_parse(strcmp(word, "tcp") == 0    ? "TCP"
					: strcmp(word, "udp") == 0  ? "UDP"
					: strcmp(word, "sctp") == 0 ? "SCTP"
								    : "");
	if (!port->protocol) {
		*colon = ':';
		return false;
	}
	at = strchr(colon + 1, '@');
	if (at)
		*at = '\0';
	name = strchr(colon + 1, ':');
	if (name)
		*name = '\0';
	port->port = (uint16_t)parse_number(colon + 1);
	port->name = name ? name + 1 : "";
	port->node_port = at ? (uint16_t)parse_number(at + 1) : 0;
	return true;
}

static void parse_names(char *word, const char **namespace, const char **name)
{
	char *slash = word ? strchr(word, '/') : NULL;

	if (!slash)
		bad("namespace/name", word ? word : "");
	*slash = '\0';
	*namespace = word;
	*name = slash + 1;
}

struct service_builder {
	struct service s;
	struct service_port ports[64];
	struct addrs external, balancer;
	struct prefixes ranges;
};

static void service_word(struct service_builder *b, char *word)
{
	static const struct {
		const char *word;
		unsigned int flag;
	} flags[] = {
		{ "ignored", SERVICE_IGNORED },
		{ "load-balancer", SERVICE_LOAD_BALANCER },
		{ "internal-local", SERVICE_INTERNAL_LOCAL },
		{ "external-local", SERVICE_EXTERNAL_LOCAL },
		{ "close-never", SERVICE_CLOSE_NEVER },
		{ "close-gone", SERVICE_CLOSE_GONE },
		{ "pass", SERVICE_PASS },
		{ "no-pass", SERVICE_NO_PASS },
	};
	const char *value;
	struct addr addr;
	enum family f;
	size_t i;

	for (i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		if (strcmp(word, flags[i].word) == 0) {
			b->s.flags |= flags[i].flag;
			return;
		}
	if ((value = after(word, "ip="))) {
		f = parse_addr(value, &addr);
		b->s.family[f].has_cluster_ip = true;
		b->s.family[f].cluster_ip = addr;
	} else if ((value = after(word, "ext="))) {
		addrs_add(&b->external, value);
	} else if ((value = after(word, "lb="))) {
		addrs_add(&b->balancer, value);
	} else if ((value = after(word, "from="))) {
		prefixes_add(&b->ranges, value);
	} else if ((value = after(word, "affinity="))) {
		b->s.affinity_timeout_s = (uint32_t)parse_number(value);
	} else if ((value = after(word, "created="))) {
		b->s.created_s = (int64_t)parse_number(value);
	} else if ((value = after(word, "health="))) {
		b->s.health_check_node_port = (uint16_t)parse_number(value);
	} else if (parse_port(word, &b->ports[b->s.n_ports])) {
		b->s.n_ports++;
	} else {
		bad("service", word);
	}
}

struct service *build_service(const char *text)
{
	struct service_builder *b = calloc(1, sizeof(*b));
	char *copy = strdup(text), *at, *word;
	struct service_extra extra[N_FAMILIES];
	struct service *packed;
	unsigned int f;

	b->s.created_s = INT64_MAX;
	b->s.uid = "";
	parse_names(strtok_r(copy, " \n", &at), &b->s.namespace, &b->s.name);
	while ((word = strtok_r(NULL, " \n", &at)))
		service_word(b, word);
	b->s.ports = b->ports;
	for (f = 0; f < N_FAMILIES; f++) {
		extra[f] = (struct service_extra){
			{ b->external.n[f], b->external.items[f] },
			{ b->balancer.n[f], b->balancer.items[f] },
			{ b->ranges.n[f], b->ranges.items[f] },
		};
		b->s.family[f].extra = &extra[f];
	}
	packed = service_pack(&b->s);
	free(copy);
	free(b);
	return packed;
}

struct slice_builder {
	struct slice s;
	struct slice_port ports[64];
	struct slice_endpoint endpoints[MAX_ITEMS];
	uint8_t packed[MAX_ITEMS * sizeof(struct slice_endpoint)];
	char zones[65536];
};

static void endpoint_flag(struct slice_builder *b, struct slice_endpoint *ep,
			  const char *flag)
{
	const char *zone = after(flag, "zone:");
	size_t n;

	if (zone) {
		if (!(ep->flags & ENDPOINT_ZONE_HINTS))
			ep->zones = b->s.zones_size;
		ep->flags |= ENDPOINT_ZONE_HINTS;
		n = strlen(zone) + 1;
		memcpy(b->zones + b->s.zones_size, zone, n);
		b->s.zones_size += (uint32_t)n;
	} else if (strcmp(flag, "unready") == 0) {
		ep->flags &= (uint8_t)~ENDPOINT_READY;
	} else if (strcmp(flag, "unserving") == 0) {
		ep->flags &= (uint8_t)~ENDPOINT_SERVING;
	} else if (strcmp(flag, "terminating") == 0) {
		ep->flags |= ENDPOINT_TERMINATING;
	} else if (strcmp(flag, "local") == 0) {
		ep->flags |= ENDPOINT_LOCAL;
	} else if (strcmp(flag, "node") == 0) {
		ep->flags |= ENDPOINT_NODE_HINTS;
	} else if (strcmp(flag, "here") == 0) {
		ep->flags |= ENDPOINT_NODE_HINTS | ENDPOINT_NODE_HINTED;
	} else {
		bad("endpoint", flag);
	}
}

static void slice_word(struct slice_builder *b, char *word)
{
	struct slice_endpoint *ep = &b->endpoints[b->s.n_endpoints];
	struct service_port port;
	char *open, *flag, *at;

	if (parse_port(word, &port)) {
		b->ports[b->s.n_ports++] = (struct slice_port){
			.name = port.name,
			.port = port.port,
			.protocol = port.protocol,
		};
		return;
	}
	open = strchr(word, '(');
	if (open)
		*open = '\0';
	if (parse_addr(word, &ep->addr) != b->s.family)
		bad("family", word);
	ep->flags = ENDPOINT_READY | ENDPOINT_SERVING;
	for (flag = open ? strtok_r(open + 1, ",)", &at) : NULL; flag;
	     flag = strtok_r(NULL, ",)", &at))
		endpoint_flag(b, ep, flag);
	if (ep->flags & ENDPOINT_ZONE_HINTS)
		b->zones[b->s.zones_size++] = '\0';
	b->s.n_endpoints++;
}

struct slice *build_slice(const char *text)
{
	struct slice_builder *b = calloc(1, sizeof(*b));
	char *copy = strdup(text), *at, *word;
	struct slice *packed;

	parse_names(strtok_r(copy, " \n", &at), &b->s.namespace, &b->s.name);
	b->s.service = strtok_r(NULL, " \n", &at);
	word = strtok_r(NULL, " \n", &at);
	if (!word || (strcmp(word, "v4") && strcmp(word, "v6")))
		bad("family", word ? word : "");
	b->s.family = strcmp(word, "v4") ? FAMILY_IPV6 : FAMILY_IPV4;
	while ((word = strtok_r(NULL, " \n", &at)))
		slice_word(b, word);
	b->s.ports = b->ports;
	b->s.endpoints = b->packed;
	endpoints_pack(&b->s, b->endpoints, b->packed);
	b->s.zones = b->zones;
	packed = slice_pack(&b->s);
	free(copy);
	free(b);
	return packed;
}

struct node *build_node(const char *text)
{
	struct node_address addresses[16];
	struct prefixes *pods = calloc(1, sizeof(*pods));
	struct node n = { .uid = "", .zone = "", .addresses = addresses }, *packed;
	char *copy = strdup(text), *at, *word;
	const char *value;
	unsigned int f;

	n.name = strtok_r(copy, " \n", &at);
	while ((word = strtok_r(NULL, " \n", &at))) {
		if ((value = after(word, "zone="))) {
			n.zone = value;
		} else if ((value = after(word, "pods="))) {
			prefixes_add(pods, value);
		} else if (strcmp(word, "deleted") == 0) {
			n.flags |= NODE_DELETED;
		} else {
			addresses[n.n_addresses].family =
				parse_addr(word, &addresses[n.n_addresses].addr);
			n.n_addresses++;
		}
	}
	for (f = 0; f < N_FAMILIES; f++)
		n.pod_cidrs[f] =
			(struct prefix_list){ pods->n[f], pods->items[f] };
	packed = node_pack(&n);
	free(copy);
	free(pods);
	return packed;
}

struct service_cidr *build_service_cidr(const char *text)
{
	struct prefixes *ranges = calloc(1, sizeof(*ranges));
	struct service_cidr c = { 0 }, *packed;
	char *copy = strdup(text), *at, *word;
	unsigned int f;

	c.name = strtok_r(copy, " \n", &at);
	while ((word = strtok_r(NULL, " \n", &at)))
		prefixes_add(ranges, word);
	for (f = 0; f < N_FAMILIES; f++)
		c.family[f] =
			(struct prefix_list){ ranges->n[f], ranges->items[f] };
	packed = service_cidr_pack(&c);
	free(copy);
	free(ranges);
	return packed;
}

static void put_gone(const struct object_sink *sink, const char *text)
{
	static const struct {
		const char *word;
		enum kind kind;
	} kinds[] = {
		{ "service ", KIND_SERVICE },
		{ "slice ", KIND_SLICE },
		{ "cidr ", KIND_SERVICE_CIDR },
		{ "node ", KIND_NODE },
	};
	char *copy = strdup(text), *slash = strchr(copy, '/'), *name;
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!after(copy, kinds[i].word))
			continue;
		name = copy + strlen(kinds[i].word);
		if (slash)
			*slash = '\0';
		sink->gone(sink->ctx, kinds[i].kind, slash ? name : "",
			   slash ? slash + 1 : name);
	}
	free(copy);
}

void build_put(struct model *m, const char *text)
{
	const struct object_sink *sink = model_sink(m);
	const char *rest;

	if ((rest = after(text, "service ")))
		sink->put_service(sink->ctx, build_service(rest));
	else if ((rest = after(text, "slice ")))
		sink->put_slice(sink->ctx, build_slice(rest));
	else if ((rest = after(text, "node ")))
		sink->put_node(sink->ctx, build_node(rest));
	else if ((rest = after(text, "cidr ")))
		sink->put_service_cidr(sink->ctx, build_service_cidr(rest));
	else if ((rest = after(text, "gone ")))
		put_gone(sink, rest);
	else
		bad("object", text);
}

struct config *build_config(void)
{
	struct config *c = config_new();
	struct errbuf eb;

	if (!c || config_set(&c->cluster_cidr, "10.244.0.0/16,fd00:244::/64") ||
	    config_validate(c, NULL, NULL, &eb))
		bad("configuration", "default");
	return c;
}

void build_log(void *ctx, int severity, const char *message)
{
	struct build_log *log = ctx;

	if (log)
		strbuf_addf(&log->text, "%d %s\n", severity, message);
}

static void print_verdict(struct strbuf *sb, const struct element *el)
{
	char name[PICK_NAME_SIZE];

	switch (el->verdict.kind) {
	case VERDICT_DROP:
		strbuf_adds(sb, " : drop");
		break;
	case VERDICT_PASS:
		strbuf_adds(sb, " : accept");
		break;
	case VERDICT_REJECT:
		strbuf_adds(sb, " : reject");
		break;
	case VERDICT_EXTERNAL_LOCAL:
		strbuf_addf(sb, " : %sexternal-local",
			    el->verdict.pick & PICK_NODEPORT ? "nodeport-" : "");
		break;
	case VERDICT_PICK:
		strbuf_addf(sb, " : %s", pick_name(&el->verdict, name));
		break;
	case VERDICT_FIREWALL:
	case VERDICT_STICKY:
		strbuf_addf(sb, " : %s", el->chain ? el->chain : "(null)");
		break;
	default:
		strbuf_addf(sb, " : ?%d", el->verdict.kind);
	}
}

void element_print(struct strbuf *sb, enum family family, const struct element *el)
{
	char text[PREFIX_TEXT_SIZE];

	const bool is_range = set_has_range(el->set);

	strbuf_adds(sb, el->ranges ? el->ranges : set_name(el->set));
	if (!set_is_nodeport(el->set) && !is_range)
		strbuf_addf(sb, " %s", addr_format(family, &el->addr, text));
	if (el->protocol)
		strbuf_addf(sb, " %s %u", protocol_name(el->protocol), el->port);
	if (is_range)
		strbuf_addf(sb, " %s", prefix_format(family, &el->range, text));
	if (set_has_index(el->set))
		strbuf_addf(sb, " [%u]", el->index);
	if (set_has_verdict(el->set))
		print_verdict(sb, el);
	if (set_has_endpoint(el->set))
		strbuf_addf(sb, " : %s %u",
			    addr_format(family, &el->endpoint, text),
			    el->endpoint_port);
	if (el->comment)
		strbuf_addf(sb, " # %s", el->comment);
	strbuf_addc(sb, '\n');
}

void elements_text(struct strbuf *sb, enum family family,
		   const struct element *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		element_print(sb, family, &list[i]);
}

static void compile_all(struct model *m, enum family family)
{
	struct arena scratch = ARENA_INIT;
	struct service_port_state *p;
	struct service_entry *s;

	while ((s = model_take_dirty(m, family))) {
		for (p = s->ports[family]; p; p = p->next)
			ck_assert_int_eq(
				compile_port(m, family, p, NULL, &scratch), 0);
		arena_reset(&scratch);
	}
	arena_free(&scratch);
}

static int key_order(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

/* The elements of @p and, behind them, its source ranges. */
static size_t elements_and_ranges(const struct dispatch *p, enum family family,
				  struct arena *scratch, struct element **list)
{
	const size_t n_ranges = dispatch_firewalled(p) ? p->n_ranges : 0;
	const struct element *part;
	size_t n, i;

	ck_assert_int_eq(dispatch_elements(p, family, scratch, &part, &n), 0);
	*list = arena_array(scratch, n + n_ranges + 1, sizeof(**list));
	if (n)
		memcpy(*list, part, n * sizeof(**list));
	for (i = 0; i < n_ranges; i++)
		(*list)[n + i] = (struct element){
			.set = SET_SOURCE_RANGES,
			.range = p->ranges[i],
			.ranges = ranges_set_name(p->sticky, scratch),
		};
	return n + n_ranges;
}

const struct element *build_elements(struct model *m, enum family family,
				     struct arena *scratch, size_t *count)
{
	const struct element *part;
	struct element *all = NULL, *of_port;
	struct service_port_state *p;
	struct service_entry *s;
	size_t total = 0, size = 0, n_part, i, kept = 0;

	compile_all(m, family);
	for_each_service_entry (s, m)
		for (p = s->ports[family]; p; p = p->next) {
			n_part = elements_and_ranges(p->desired, family,
						     scratch, &of_port);
			if (total + n_part > size) {
				size = (total + n_part) * 2;
				all = reallocarray(all, size, sizeof(*all));
			}
			if (n_part)
				memcpy(all + total, of_port, n_part * sizeof(*all));
			total += n_part;
		}
	ck_assert_int_eq(model_globals(m, family, scratch, &part, &n_part), 0);
	all = reallocarray(all, total + n_part + 1, sizeof(*all));
	if (n_part)
		memcpy(all + total, part, n_part * sizeof(*all));
	total += n_part;
	qsort(all, total, sizeof(*all), key_order);
	for (i = 0; i < total; i++)
		if (!kept || element_key_compare(&all[kept - 1], &all[i]))
			all[kept++] = all[i];
	part = arena_array(scratch, kept + 1, sizeof(*part));
	memcpy((void *)(uintptr_t)part, all, kept * sizeof(*all));
	free(all);
	*count = kept;
	return part;
}

void build_compile(struct model *m, enum family family, struct strbuf *sb)
{
	struct arena scratch = ARENA_INIT;
	size_t n;
	const struct element *list = build_elements(m, family, &scratch, &n);

	elements_text(sb, family, list, n);
	arena_free(&scratch);
}

void check_text(const char *name, const char *got, const char *want)
{
	if (!got)
		got = "";
	if (strcmp(got, want) == 0)
		return;
	fprintf(stderr, "%s:\n--- want\n%s--- got\n%s---\n", name, want, got);
	ck_abort_msg("%s: differs, see above", name);
}

/* splitmix64: https://prng.di.unimi.it names the constants */
uint32_t random_below(struct random *r, uint32_t bound)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return (uint32_t)((z >> 32) * bound >> 32);
}

uint64_t random_seed(const char *variable)
{
	const char *text = getenv(variable);
	uint64_t seed = text ? strtoull(text, NULL, 0)
			     : (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();

	printf("%s=%llu\n", variable, (unsigned long long)seed);
	fflush(stdout);
	return seed;
}
