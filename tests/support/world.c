/* See the header. */
#include "tests/support/world.h"

#include "nft/readback.h"

#include <check.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No lists until there are any: objects come one by one, and are all there are. */
static void ranges_listed(struct model *m)
{
	const struct object_sink *sink = model_sink(m);

	sink->list_begin(sink->ctx, KIND_SERVICE_CIDR);
	sink->list_end(sink->ctx, KIND_SERVICE_CIDR);
}

static void planes_new(struct world *w)
{
	unsigned int f;

	w->model = model_new(w->config, build_log, &w->log);
	ck_assert_ptr_nonnull(w->model);
	ranges_listed(w->model);
	for (f = 0; f < N_FAMILIES; f++) {
		const struct dataplane_options options = {
			.family = (enum family)f,
			.model = w->model,
			.nl = w->nl,
			.stale = w->stale[f] =
				stale_new(w->model, (enum family)f, IPPROTO_UDP),
			.closing = w->closing[f] =
				stale_new(w->model, (enum family)f, IPPROTO_TCP),
			.owner = w->owner,
			.bulk = w->bulk,
		};

		w->dp[f] = dataplane_new(&options);
		ck_assert_ptr_nonnull(w->dp[f]);
	}
}

static void planes_free(struct world *w)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		dataplane_free(w->dp[f]);
		stale_free(w->stale[f]);
		stale_free(w->closing[f]);
	}
	model_free(w->model);
}

static struct world *world_begin(struct fake_kernel *kernel, struct nlsock *nl,
				 bool owner)
{
	struct world *w = calloc(1, sizeof(*w));

	ck_assert_ptr_nonnull(w);
	w->config = build_config();
	w->kernel = kernel;
	w->nl = nl;
	w->now_us = 1000000000;
	w->owner = owner;
	planes_new(w);
	return w;
}

struct world *world_new(unsigned int flags)
{
	struct fake_kernel *k = fake_kernel_new();

	return world_begin(k, fake_kernel_socket(k), flags & WORLD_OWNER);
}

struct world *world_new_real(struct nlsock *nl, bool owner)
{
	return world_begin(NULL, nl, owner);
}

static void object_free(struct world_object *o);

void world_free(struct world *w)
{
	struct world_object *o;

	planes_free(w);
	config_free(w->config);
	nlsock_close(w->nl);
	if (w->kernel)
		fake_kernel_free(w->kernel);
	for_each_hashed (o, &w->objects, node)
		object_free(o);
	hashtab_free(&w->objects);
	strbuf_free(&w->log.text);
	free(w);
}

/* The first two words. */
static char *key_of(const char *text)
{
	const char *end = strchr(text, ' ');

	end = end ? strchr(end + 1, ' ') : NULL;
	return end ? strndup(text, (size_t)(end - text)) : strdup(text);
}

static struct world_object *object_find(const struct world *w, const char *key)
{
	struct world_object *o;

	for_each_hash_match (o, &w->objects, hash_text(HASH_SEED, key), node)
		if (strcmp(o->key, key) == 0)
			break;
	return o;
}

bool world_has(const struct world *w, const char *key)
{
	return object_find(w, key);
}

static void object_free(struct world_object *o)
{
	free(o->key);
	free(o->text);
	free(o);
}

static void object_forget(struct world *w, const char *key)
{
	struct world_object *o = object_find(w, key);

	if (!o)
		return;
	hashtab_remove(&w->objects, &o->node);
	object_free(o);
}

static void object_keep(struct world *w, const char *text)
{
	struct world_object *o = calloc(1, sizeof(*o));

	o->key = key_of(text);
	o->text = strdup(text);
	object_forget(w, o->key);
	hashtab_insert(&w->objects, &o->node, hash_text(HASH_SEED, o->key));
}

void world_remember(struct world *w, const char *text)
{
	if (strncmp(text, "gone ", 5) == 0)
		object_forget(w, text + 5);
	else
		object_keep(w, text);
}

void world_put(struct world *w, const char *text)
{
	world_remember(w, text);
	build_put(w->model, text);
}

void world_putf(struct world *w, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	ck_assert_int_ge(vasprintf(&text, fmt, ap), 0);
	va_end(ap);
	world_put(w, text);
	free(text);
}

static void put_all(const struct world *w, struct model *m)
{
	static const struct {
		const char *prefix;
		enum kind kind;
	} kinds[] = {
		{ "node ", KIND_NODE },
		{ "cidr ", KIND_SERVICE_CIDR },
		{ "slice ", KIND_SLICE },
		{ "service ", KIND_SERVICE },
	};
	const struct object_sink *sink = model_sink(m);
	struct world_object *o;
	unsigned int k;

	for (k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		sink->list_begin(sink->ctx, kinds[k].kind);
		for_each_hashed (o, &w->objects, node)
			if (strncmp(o->text, kinds[k].prefix,
				    strlen(kinds[k].prefix)) == 0)
				build_put(m, o->text);
		sink->list_end(sink->ctx, kinds[k].kind);
	}
}

void world_relist(struct world *w)
{
	put_all(w, w->model);
}

static void copy_addresses(const struct model *from, struct model *to)
{
	struct addr_view local;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		local = model_addresses(from, (enum family)f);
		if (local.items)
			model_set_addresses(to, (enum family)f, local.items,
					    local.count);
	}
}

struct model *world_model_anew(struct world *w)
{
	struct model *m = model_new(w->config, build_log, NULL);

	ck_assert_ptr_nonnull(m);
	copy_addresses(w->model, m);
	put_all(w, m);
	return m;
}

void world_restart(struct world *w)
{
	struct model *old = w->model;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		dataplane_free(w->dp[f]);
		stale_free(w->stale[f]);
		stale_free(w->closing[f]);
	}
	if (!w->kernel) {
		nlsock_close(w->nl);
		w->nl = nlsock_open(&w->eb);
		ck_assert_ptr_nonnull(w->nl);
	}
	planes_new(w);
	copy_addresses(old, w->model);
	model_free(old);
	put_all(w, w->model);
}

int world_sync(struct world *w)
{
	unsigned int f;
	int err = 0, err_one;

	w->report = (struct sync_report){ 0 };
	w->now_us += 1000000;
	for (f = 0; f < N_FAMILIES; f++) {
		err_one = dataplane_sync(w->dp[f], w->now_us, &w->report, &w->eb);
		err = err ? err : err_one;
	}
	return err;
}

void world_must_sync(struct world *w, const char *name)
{
	int err = world_sync(w);

	if (err)
		ck_abort_msg("%s: sync: %s (%s)", name, w->eb.text, strerror(-err));
}

static int order_of_data(const void *va, const void *vb)
{
	const struct element *a = va, *b = vb;
	struct element x = *a, y = *b;
	int order;

	x.index = y.index = 0;
	order = element_key_compare(&x, &y);
	if (!order)
		order = addr_compare(&a->endpoint, &b->endpoint);
	if (!order)
		order = (a->endpoint_port > b->endpoint_port) -
			(a->endpoint_port < b->endpoint_port);
	if (!order && a->chain && b->chain)
		order = strcmp(a->chain, b->chain);
	return order;
}

/* Indices of each list are 0..n-1: then numbers them in the order of their data. */
static bool renumber(struct element *list, size_t n, struct strbuf *sb,
		     enum family family)
{
	struct element previous = { 0 };
	size_t i, at = 0;
	bool good = true;

	for (i = 0; i < n; i++) {
		struct element key = list[i];
		uint32_t want;

		key.index = 0;
		want = i && element_key_compare(&key, &previous) == 0
			       ? (uint32_t)++at
			       : (uint32_t)(at = 0);
		previous = key;
		if (list[i].index == want)
			continue;
		good = false;
		strbuf_adds(sb, "hole before: ");
		element_print(sb, family, &list[i]);
	}
	qsort(list, n, sizeof(*list), order_of_data);
	for (i = 0; i < n; i++) {
		struct element key = list[i];

		key.index = 0;
		at = i && element_key_compare(&key, &previous) == 0 ? at + 1 : 0;
		previous = key;
		if (set_has_index(list[i].set))
			list[i].index = (uint32_t)at;
	}
	return good;
}

static bool elements_same(const struct element *a, size_t n_a,
			  const struct element *b, size_t n_b,
			  enum family family, struct strbuf *sb)
{
	size_t i = 0, j = 0;
	bool same = true;
	int order;

	while (i < n_a || j < n_b) {
		order = i == n_a   ? 1
			: j == n_b ? -1
				   : element_key_compare(&a[i], &b[j]);
		if (order == 0 && element_data_equal(&a[i], &b[j])) {
			i++;
			j++;
			continue;
		}
		same = false;
		if (order <= 0) {
			strbuf_adds(sb, "- ");
			element_print(sb, family, &a[i++]);
		}
		if (order >= 0) {
			strbuf_adds(sb, "+ ");
			element_print(sb, family, &b[j++]);
		}
	}
	return same;
}

bool elements_alike(const struct element *a, size_t n_a, const struct element *b,
		    size_t n_b, enum family family, struct strbuf *sb)
{
	struct element *x = calloc(n_a + 1, sizeof(*x)),
		       *y = calloc(n_b + 1, sizeof(*y));
	bool good;

	memcpy(x, a, n_a * sizeof(*x));
	memcpy(y, b, n_b * sizeof(*y));
	good = renumber(x, n_a, sb, family);
	good &= renumber(y, n_b, sb, family);
	good &= elements_same(x, n_a, y, n_b, family, sb);
	free(x);
	free(y);
	return good;
}

struct listing {
	struct element *items;
	size_t count, size;
	struct arena *scratch;
};

static void list_element(void *ctx, const struct element *element)
{
	struct listing *l = ctx;
	struct element *e;

	if (l->count == l->size) {
		l->size = l->size ? l->size * 2 : 256;
		l->items = reallocarray(l->items, l->size, sizeof(*l->items));
	}
	e = &l->items[l->count++];
	*e = *element;
	e->chain = e->chain ? arena_strdup(l->scratch, e->chain) : NULL;
	e->ranges = e->ranges ? arena_strdup(l->scratch, e->ranges) : NULL;
	e->comment = e->comment ? arena_strdup(l->scratch, e->comment) : NULL;
}

static void list_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	(void)ctx;
	(void)pick;
	(void)digest;
}

static void list_affinity(void *ctx, const char *name)
{
	(void)ctx;
	(void)name;
}

static void list_sticky(void *ctx, const char *name, uint64_t digest)
{
	(void)ctx;
	(void)name;
	(void)digest;
}

static void list_ranges(void *ctx, const char *set, const struct prefix *list,
			unsigned int count, uint64_t digest)
{
	struct element el = { .set = SET_SOURCE_RANGES, .ranges = set };
	unsigned int i;

	(void)digest;
	for (i = 0; i < count; i++) {
		el.range = list[i];
		list_element(ctx, &el);
	}
}

/* Source ranges that no virtual IP leads to are waiting for their removal. */
static size_t drop_idle_ranges(struct element *list, size_t count)
{
	size_t i, v, kept = 0;

	for (i = 0; i < count; i++) {
		for (v = 0; list[i].set == SET_SOURCE_RANGES && v < count; v++)
			if (list[v].verdict.kind == VERDICT_FIREWALL &&
			    strcmp(list[v].chain + strlen(FIREWALL_PREFIX),
				   list[i].ranges + strlen(RANGES_PREFIX)) == 0)
				break;
		if (list[i].set != SET_SOURCE_RANGES || v < count)
			list[kept++] = list[i];
	}
	return kept;
}

static int order_of_key(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

const struct element *world_elements(struct world *w, enum family family,
				     struct arena *scratch, size_t *count)
{
	struct listing l = { .scratch = scratch };
	const struct readback found = {
		.ctx = &l,
		.element = list_element,
		.pick = list_pick,
		.affinity = list_affinity,
		.sticky = list_sticky,
		.ranges = list_ranges,
	};
	struct ruleset ruleset;
	enum table_state state;
	struct element *list;

	if (w->kernel) {
		const struct element *of_fake =
			fake_elements(w->kernel, family, scratch, &l.count);

		list = arena_array(scratch, l.count + 1, sizeof(*list));
		if (l.count)
			memcpy(list, of_fake, l.count * sizeof(*list));
		*count = drop_idle_ranges(list, l.count);
		return list;
	}
	model_ruleset(w->model, family, &ruleset);
	ck_assert_msg(readback_table(w->nl, &ruleset, &found, &state, &w->eb) == 0,
		      "%s", w->eb.text);
	/* of other rules if the configuration has just changed */
	ck_assert(state == TABLE_CURRENT || state == TABLE_RULES_DIFFER);
	list = arena_array(scratch, l.count + 1, sizeof(*list));
	if (l.count)
		memcpy(list, l.items, l.count * sizeof(*list));
	free(l.items);
	qsort(list, l.count, sizeof(*list), order_of_key);
	*count = drop_idle_ranges(list, l.count);
	return list;
}

bool world_is_right(struct world *w, struct strbuf *sb)
{
	struct model *anew = world_model_anew(w);
	struct arena scratch = ARENA_INIT;
	const struct element *have, *want, *from_nothing;
	size_t n_have, n_want, n_from_nothing;
	bool good = true;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		have = world_elements(w, (enum family)f, &scratch, &n_have);
		want = build_elements(w->model, (enum family)f, &scratch, &n_want);
		from_nothing = build_elements(anew, (enum family)f, &scratch,
					      &n_from_nothing);
		if (!elements_same(have, n_have, want, n_want, (enum family)f, sb)) {
			strbuf_adds(sb, "^ kernel (-), desired (+)\n");
			good = false;
		} else if (!elements_alike(have, n_have, from_nothing,
					   n_from_nothing, (enum family)f, sb)) {
			strbuf_adds(sb, "^ kernel (-), from nothing (+)\n");
			good = false;
		}
	}
	arena_free(&scratch);
	model_free(anew);
	return good;
}

void world_verify(struct world *w, const char *name)
{
	struct strbuf sb = STRBUF_INIT;

	if (!world_is_right(w, &sb)) {
		fprintf(stderr, "%s:\n%s\nlog:\n%s\n", name, sb.text,
			w->log.text.text ? w->log.text.text : "");
		ck_abort_msg("%s: the kernel has not what it should, see above",
			     name);
	}
	strbuf_free(&sb);
}

void world_verify_quiet(struct world *w, const char *name)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		dataplane_forget(w->dp[f]);
	world_must_sync(w, name);
	ck_assert_msg(w->report.full && !w->report.wrote,
		      "%s: a full comparison wrote %u added, %u deleted", name,
		      w->report.elements_added, w->report.elements_deleted);
}

/* A bit of everything, and a history that endpoint lists show. */
struct world *world_new_rich(unsigned int flags)
{
	struct world *w = world_new(flags);
	struct addr local[2] = { build_addr("127.0.0.1"),
				 build_addr("192.168.7.1") };

	ck_assert_int_eq(model_set_addresses(w->model, FAMILY_IPV4, local, 2), 0);
	world_put(w, "node n1 192.168.7.1 fd00:7::1 zone=a");
	world_put(w, "cidr c 10.96.0.0/16 fd00:96::/108");
	world_put(w,
		  "service d/web tcp:80:http@30080 tcp:443:https ip=10.96.0.1 ip=fd00:96::1 "
		  "ext=203.0.113.1 lb=203.0.113.2 from=192.0.2.0/24 external-local load-balancer");
	world_put(w, "slice d/web-1 web v4 tcp:8080:http tcp:8443:https 10.244.0.1(local) 10.244.1.1 "
		     "10.244.1.2 10.244.1.3");
	world_put(w, "slice d/web-2 web v6 tcp:8080:http tcp:8443:https fd00:244::1(local) "
		     "fd00:244::2");
	world_put(w, "service d/sticky tcp:80 ip=10.96.0.2 ip=fd00:96::2 ext=203.0.113.3 affinity=60 "
		     "internal-local");
	world_put(w, "slice d/sticky-1 sticky v4 tcp:8080 10.244.0.1(local) 10.244.0.2(local) "
		     "10.244.1.1 10.244.1.2");
	world_put(w, "slice d/sticky-2 sticky v6 tcp:8080 fd00:244::1(local) fd00:244::2");
	world_put(w, "service d/dns udp:53 ip=10.96.0.3");
	world_put(w, "slice d/dns-1 dns v4 udp:53 10.244.0.9 10.244.1.9");
	world_put(w, "service d/empty tcp:80 ip=10.96.0.4");
	world_must_sync(w, "start");
	/* a hole is filled from the end */
	world_put(w, "slice d/web-1 web v4 tcp:8080:http tcp:8443:https 10.244.0.1(local) 10.244.1.2 "
		     "10.244.1.3");
	world_must_sync(w, "history");
	world_verify(w, "rich world");
	return w;
}

void world_scenario(struct world *w, unsigned int scenario)
{
	switch (scenario) {
	case 0: /* a change */
		world_put(w, "slice d/web-1 web v4 tcp:8080:http tcp:8443:https 10.244.1.7 10.244.1.3");
		world_put(w, "slice d/sticky-1 sticky v4 tcp:8080 10.244.0.2(local) 10.244.1.2");
		break;
	case 1: /* a full comparison with something to repair */
		world_put(w, "gone service d/dns");
		fake_delete_element(w->kernel, FAMILY_IPV4, 7);
		dataplane_forget(w->dp[FAMILY_IPV4]);
		break;
	case 2: /* a restart */
		world_remember(
			w, "service d/web tcp:80:http@30081 ip=10.96.0.1 ip=fd00:96::1");
		world_restart(w);
		break;
	case 3: /* another layout */
		fake_add_set(w->kernel, FAMILY_IPV4, "intruder");
		fake_delete_table(w->kernel, FAMILY_IPV6);
		world_restart(w);
		break;
	}
}
