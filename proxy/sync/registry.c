/*
 * One table of entries of five kinds. An entry that was touched is looked at when a transaction is
 * written and again when it is acknowledged; entries that are neither wanted nor in the kernel go.
 * There is a shared element for each Service, so these entries are small.
 *
 * Source ranges are as many as people like, so they are kept as one list for each Service, as the
 * kernel has it. What is to be written is the difference to another list.
 */
#include "proxy/sync/registry.h"

#include "nft/readback.h"
#include "proxy/model/dispatch.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum entry_kind {
	ENTRY_SHARED,
	ENTRY_PICK,
	ENTRY_MAP,
	ENTRY_CHAIN,
	ENTRY_RANGES
};

struct registry_entry {
	struct hash_node node;
	struct registry_entry *next_touched;
	int wanted;
	uint8_t kind; /* enum entry_kind */
	bool touched : 1, in_kernel : 1, pending : 1, broken : 1, idle : 1,
		collecting : 1;
	bool spare : 1; /* to be made, though nobody wants it */
};

struct shared_entry {
	struct registry_entry entry;
	uint8_t set, protocol;
	uint16_t port;
	struct addr addr;
};

struct ranges_entry {
	struct prefix *have, *want; /* in the kernel; wanted, NULL: the same */
	unsigned int n_have, n_want;
	void *owner;
};

/* What stays for a while when nobody wants it any more. */
struct lasting_entry {
	struct registry_entry entry;
	int64_t idle_since_us;
	uint64_t digest, pending_digest; /* of a chain's rules */
	struct verdict pick;
	char *comment;		     /* of a map; owned */
	struct ranges_entry *ranges; /* of a set; owned */
	char name[];		     /* of maps, chains and sets */
};

static struct shared_entry *shared_entry(struct registry_entry *e)
{
	assert(!e || e->kind == ENTRY_SHARED);
	return (struct shared_entry *)e;
}

static struct lasting_entry *lasting_entry(struct registry_entry *e)
{
	assert(!e || e->kind != ENTRY_SHARED);
	return (struct lasting_entry *)e;
}

static void touch_entry(struct registry *r, struct registry_entry *e)
{
	assert(e->touched || !e->next_touched);
	if (e->touched)
		return;
	e->touched = true;
	e->next_touched = r->touched;
	r->touched = e;
}

/* A new entry of @size bytes. */
static struct registry_entry *entry_new(struct registry *r, enum entry_kind kind,
					uint64_t hash, size_t size)
{
	struct registry_entry *e = calloc(1, size);

	if (!e)
		return NULL;
	e->kind = kind;
	hashtab_insert(&r->entries, &e->node, hash);
	touch_entry(r, e);
	return e;
}

static bool is_shared(struct registry_entry *e, const struct element *el)
{
	const struct shared_entry *s;

	if (e->kind != ENTRY_SHARED)
		return false;
	s = shared_entry(e);
	return s->set == el->set && s->protocol == el->protocol &&
	       s->port == el->port &&
	       memcmp(&s->addr, &el->addr, sizeof(s->addr)) == 0;
}

/* Finds or makes the entry, and touches it; so does lasting_get(). */
static struct shared_entry *shared_get(struct registry *r, const struct element *el)
{
	const uint32_t parts[2] = { el->set,
				    (uint32_t)el->protocol << 16 | el->port };
	const uint64_t hash =
		hash_bytes(hash_bytes(HASH_SEED, parts, sizeof(parts)),
			   &el->addr, sizeof(el->addr));
	struct registry_entry *e;
	struct shared_entry *s;

	for_each_hash_match (e, &r->entries, hash, node) {
		if (is_shared(e, el)) {
			touch_entry(r, e);
			return shared_entry(e);
		}
	}
	s = shared_entry(entry_new(r, ENTRY_SHARED, hash, sizeof(*s)));
	if (!s)
		return NULL;
	s->set = (uint8_t)el->set;
	s->protocol = el->protocol;
	s->port = el->port;
	s->addr = el->addr;
	return s;
}

static bool is_lasting(struct registry_entry *e, enum entry_kind kind,
		       const struct verdict *pick, const char *name)
{
	const struct lasting_entry *l;

	if (e->kind != kind)
		return false;
	l = lasting_entry(e);
	return strcmp(l->name, name) == 0 && l->pick.count == pick->count &&
	       l->pick.pick == pick->pick;
}

/* @pick of chains that pick and @name of the others; the other one is empty. */
static struct lasting_entry *lasting_get(struct registry *r, enum entry_kind kind,
					 const struct verdict *pick,
					 const char *name)
{
	const uint32_t parts[3] = { kind, pick->count, pick->pick };
	const uint64_t hash =
		hash_text(hash_bytes(HASH_SEED, parts, sizeof(parts)), name);
	const size_t size = strlen(name) + 1;
	struct registry_entry *e;
	struct lasting_entry *l;

	assert(kind != ENTRY_SHARED);
	for_each_hash_match (e, &r->entries, hash, node) {
		if (is_lasting(e, kind, pick, name)) {
			touch_entry(r, e);
			return lasting_entry(e);
		}
	}
	l = lasting_entry(entry_new(r, kind, hash, sizeof(*l) + size));
	if (!l)
		return NULL;
	l->pick = *pick;
	memcpy(l->name, name, size);
	return l;
}

static struct lasting_entry *pick_get(struct registry *r, const struct verdict *pick)
{
	return lasting_get(r, ENTRY_PICK, pick, "");
}

static struct lasting_entry *named_get(struct registry *r, enum entry_kind kind,
				       const char *name)
{
	static const struct verdict no_pick;

	return lasting_get(r, kind, &no_pick, name);
}

static void ranges_free(struct ranges_entry *ranges)
{
	if (!ranges)
		return;
	free(ranges->have);
	free(ranges->want);
	free(ranges);
}

static void entry_release(struct registry_entry *e)
{
	if (e->kind != ENTRY_SHARED) {
		free(lasting_entry(e)->comment);
		ranges_free(lasting_entry(e)->ranges);
	}
	free(e);
}

static void set_idle(struct registry *r, struct registry_entry *e, bool idle)
{
	const unsigned int by = idle ? 1u : -1u;

	assert(!idle || (e->in_kernel && e->kind != ENTRY_SHARED));
	if (idle == e->idle)
		return;
	e->idle = idle;
	r->n_idle += by;
	if (e->kind == ENTRY_PICK)
		r->n_idle_picks += by;
	assert(r->n_idle_picks <= r->n_idle);
	assert(r->n_idle <= r->entries.count);
}

static void entry_free(struct registry *r, struct registry_entry *e)
{
	set_idle(r, e, false);
	hashtab_remove(&r->entries, &e->node);
	entry_release(e);
}

void registry_free(struct registry *r)
{
	struct registry_entry *e;

	for_each_hashed (e, &r->entries, node)
		entry_release(e);
	hashtab_free(&r->entries);
	memset(r, 0, sizeof(*r));
}

int registry_want_shared(struct registry *r, const struct element *el, int by)
{
	struct shared_entry *s = shared_get(r, el);

	assert(set_is_shared(el->set));
	assert(by == 1 || by == -1);
	if (!s)
		return -ENOMEM;
	s->entry.wanted += by;
	return 0;
}

int registry_want_pick(struct registry *r, const struct verdict *pick, int by,
		       int64_t now_us)
{
	struct lasting_entry *l = pick_get(r, pick);

	assert(pick->kind == VERDICT_PICK && pick->count);
	assert(by == 1 || by == -1);
	if (!l)
		return -ENOMEM;
	l->entry.wanted += by;
	l->idle_since_us = now_us;
	return 0;
}

int registry_spare_pick(struct registry *r, const struct verdict *pick,
			int64_t now_us)
{
	struct lasting_entry *l = pick_get(r, pick);

	assert(pick->kind == VERDICT_PICK && pick->count);
	if (!l)
		return -ENOMEM;
	l->entry.spare = true;
	l->idle_since_us = now_us;
	return 0;
}

int registry_want_map(struct registry *r, const char *name, const char *comment,
		      bool wanted, int64_t now_us)
{
	struct lasting_entry *l = named_get(r, ENTRY_MAP, name);

	if (!l)
		return -ENOMEM;
	if (wanted && !l->comment && !(l->comment = strdup(comment)))
		return -ENOMEM;
	l->entry.wanted = wanted;
	l->idle_since_us = now_us;
	return 0;
}

int registry_want_chain(struct registry *r, const struct sticky_chain *chain,
			bool wanted, const struct ruleset *ruleset,
			const struct writer *writer, int64_t now_us)
{
	struct lasting_entry *l = named_get(r, ENTRY_CHAIN, chain->name);
	uint64_t digest;

	if (!l)
		return -ENOMEM;
	l->entry.wanted = wanted;
	l->idle_since_us = now_us;
	if (!wanted || !writer)
		return 0;
	digest = sticky_digest(ruleset, chain);
	if (l->entry.in_kernel && l->digest == digest)
		return 0;
	writer->sticky(writer->ctx,
		       l->entry.in_kernel ? CHANGE_UPDATE : CHANGE_ADD, chain);
	l->entry.pending = true;
	l->pending_digest = digest;
	return 0;
}

static struct lasting_entry *ranges_get(struct registry *r, const char *set)
{
	struct lasting_entry *l = named_get(r, ENTRY_RANGES, set);

	if (l && !l->ranges)
		l->ranges = calloc(1, sizeof(*l->ranges));
	return l && l->ranges ? l : NULL;
}

static bool prefixes_equal(const struct prefix *a, const struct prefix *b,
			   unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (prefix_compare(&a[i], &b[i]))
			return false;
	return true;
}

static struct prefix *prefixes_copy(const struct prefix *list, unsigned int count)
{
	struct prefix *copy = calloc(count + 1, sizeof(*copy));

	if (copy && count)
		memcpy(copy, list, count * sizeof(*copy));
	return copy;
}

static int ranges_want(struct ranges_entry *ranges, const struct prefix *list,
		       unsigned int count)
{
	struct prefix *copy = NULL;

	if (count != ranges->n_have || !prefixes_equal(list, ranges->have, count)) {
		copy = prefixes_copy(list, count);
		if (!copy)
			return -ENOMEM;
	}
	free(ranges->want);
	ranges->want = copy;
	ranges->n_want = copy ? count : 0;
	return 0;
}

static void ranges_unwant(struct ranges_entry *ranges)
{
	free(ranges->want);
	ranges->want = NULL;
	ranges->n_want = 0;
}

int registry_want_ranges(struct registry *r, const char *set,
			 const struct prefix *list, unsigned int count, int by,
			 void *owner, int64_t now_us)
{
	struct lasting_entry *l = ranges_get(r, set);

	assert(by >= -1 && by <= 1);
	assert(list || !count);
	if (!l)
		return -ENOMEM;
	/* Who leaves has no say in what the others want. */
	if (by >= 0 && ranges_want(l->ranges, list, count))
		return -ENOMEM;
	if (by >= 0)
		l->ranges->owner = owner;
	l->entry.wanted += by;
	l->idle_since_us = now_us;
	r->n_ranges += l->ranges->n_want;
	return 0;
}

static int note_found(struct lasting_entry *l, int64_t now_us)
{
	if (!l)
		return -ENOMEM;
	l->entry.in_kernel = true;
	l->idle_since_us = now_us;
	return 0;
}

int registry_found_pick(struct registry *r, const struct verdict *pick,
			bool intact, int64_t now_us)
{
	struct lasting_entry *l = pick_get(r, pick);

	if (l)
		l->entry.broken = !intact;
	return note_found(l, now_us);
}

int registry_found_map(struct registry *r, const char *name, int64_t now_us)
{
	return note_found(named_get(r, ENTRY_MAP, name), now_us);
}

int registry_found_chain(struct registry *r, const char *name, uint64_t digest,
			 int64_t now_us)
{
	struct lasting_entry *l = named_get(r, ENTRY_CHAIN, name);

	if (l)
		l->digest = digest;
	return note_found(l, now_us);
}

int registry_found_ranges(struct registry *r, const char *set,
			  const struct prefix *list, unsigned int count,
			  bool intact, int64_t now_us)
{
	struct lasting_entry *l = ranges_get(r, set);
	struct prefix *copy = prefixes_copy(list, count);

	if (!l || !copy) {
		free(copy);
		return -ENOMEM;
	}
	free(l->ranges->have);
	l->ranges->have = copy;
	l->ranges->n_have = count;
	l->entry.broken = !intact;
	return note_found(l, now_us);
}

void registry_unwant(struct registry *r)
{
	struct registry_entry *e;

	for_each_hashed (e, &r->entries, node) {
		e->wanted = 0;
		e->pending = e->spare = false;
		/* without memory there is none */
		if (e->kind == ENTRY_RANGES && lasting_entry(e)->ranges)
			ranges_unwant(lasting_entry(e)->ranges);
		touch_entry(r, e);
	}
	r->n_ranges = 0;
}

static void write_range(const struct lasting_entry *l, const struct writer *writer,
			enum change change, const struct prefix *range)
{
	const struct element el = {
		.set = SET_SOURCE_RANGES,
		.range = *range,
		.ranges = l->name,
	};

	writer->element(writer->ctx, change, &el, l->ranges->owner);
}

static void write_ranges(const struct lasting_entry *l,
			 const struct writer *writer, bool add)
{
	const struct ranges_entry *ranges = l->ranges;
	unsigned int i = 0, j = 0;
	int order;

	if (add || l->entry.broken)
		writer->ranges(writer->ctx, add ? CHANGE_ADD : CHANGE_UPDATE,
			       l->name);
	if (l->entry.wanted <= 0)
		return;
	while (ranges->want && (i < ranges->n_have || j < ranges->n_want)) {
		order = i == ranges->n_have   ? 1
			: j == ranges->n_want ? -1
					      : prefix_compare(&ranges->have[i],
							       &ranges->want[j]);
		if (order < 0)
			write_range(l, writer, CHANGE_DELETE, &ranges->have[i]);
		else if (order > 0)
			write_range(l, writer, CHANGE_ADD, &ranges->want[j]);
		i += order <= 0;
		j += order >= 0;
	}
}

static void write_lasting(const struct lasting_entry *l,
			  const struct writer *writer, bool add)
{
	if (l->entry.kind == ENTRY_PICK && (add || l->entry.broken))
		writer->pick(writer->ctx, add ? CHANGE_ADD : CHANGE_UPDATE,
			     &l->pick);
	else if (l->entry.kind == ENTRY_MAP && add)
		writer->affinity(writer->ctx, CHANGE_ADD, l->name, l->comment);
	else if (l->entry.kind == ENTRY_RANGES)
		write_ranges(l, writer, add);
}

void registry_write(struct registry *r, const struct writer *writer,
		    void (*shared)(void *ctx, enum change change,
				   const struct element *el),
		    void *ctx)
{
	struct registry_entry *e;

	r->n_ranges = 0;
	for (e = r->touched; e; e = e->next_touched) {
		const bool add = (e->wanted > 0 || e->spare) && !e->in_kernel;

		if (e->kind != ENTRY_SHARED) {
			write_lasting(lasting_entry(e), writer, add);
		} else if (add || (e->wanted <= 0 && e->in_kernel)) {
			const struct shared_entry *s = shared_entry(e);
			const struct element el = {
				.set = s->set,
				.addr = s->addr,
				.protocol = s->protocol,
				.port = s->port,
			};

			shared(ctx, add ? CHANGE_ADD : CHANGE_DELETE, &el);
		}
	}
}

static void ranges_applied(struct ranges_entry *ranges)
{
	if (!ranges->want)
		return;
	free(ranges->have);
	ranges->have = ranges->want;
	ranges->n_have = ranges->n_want;
	ranges->want = NULL;
	ranges->n_want = 0;
}

static void entry_applied(struct registry *r, struct registry_entry *e)
{
	assert(e->wanted >= 0);
	if (e->kind == ENTRY_SHARED)
		e->in_kernel = e->wanted > 0;
	else if (e->kind == ENTRY_CHAIN)
		e->in_kernel |= e->pending;
	else
		e->in_kernel |= e->wanted > 0 || e->spare;
	if (e->pending)
		lasting_entry(e)->digest = lasting_entry(e)->pending_digest;
	if (e->kind == ENTRY_RANGES && e->wanted > 0)
		ranges_applied(lasting_entry(e)->ranges);
	e->pending = e->broken = e->spare = false;
	set_idle(r, e, e->kind != ENTRY_SHARED && e->wanted <= 0 && e->in_kernel);
	if (!e->in_kernel && e->wanted <= 0)
		entry_free(r, e);
}

void registry_applied(struct registry *r)
{
	struct registry_entry *e, *next;

	for (e = r->touched; e; e = next) {
		next = e->next_touched;
		assert(e->touched);
		e->touched = false;
		e->next_touched = NULL;
		entry_applied(r, e);
	}
	r->touched = NULL;
}

static void delete_lasting(const struct lasting_entry *l, const struct writer *writer)
{
	const struct sticky_chain chain = { .name = l->name };

	if (l->entry.kind == ENTRY_PICK)
		writer->pick(writer->ctx, CHANGE_DELETE, &l->pick);
	else if (l->entry.kind == ENTRY_CHAIN)
		writer->sticky(writer->ctx, CHANGE_DELETE, &chain);
	else if (l->entry.kind == ENTRY_RANGES)
		writer->ranges(writer->ctx, CHANGE_DELETE, l->name);
	else
		writer->affinity(writer->ctx, CHANGE_DELETE, l->name, NULL);
}

static unsigned int excess_picks(const struct registry *r)
{
	return r->n_idle_picks > r->keep_picks ? r->n_idle_picks - r->keep_picks
					       : 0;
}

unsigned int registry_collectable(const struct registry *r)
{
	assert(r->n_idle >= r->n_idle_picks);
	return r->n_idle - r->n_idle_picks + excess_picks(r);
}

int registry_collect(struct registry *r, const struct writer *writer,
		     int64_t before_us)
{
	unsigned int picks = excess_picks(r);
	struct registry_entry *e;
	int count = 0;

	if (!registry_collectable(r))
		return 0;
	for_each_hashed (e, &r->entries, node) {
		/* never true of a shared one */
		if (!e->idle || lasting_entry(e)->idle_since_us > before_us)
			continue;
		if (e->kind == ENTRY_PICK && !picks)
			continue;
		picks -= e->kind == ENTRY_PICK;
		assert(e->in_kernel);
		e->collecting = true;
		count++;
		delete_lasting(lasting_entry(e), writer);
	}
	return count;
}

void registry_collected(struct registry *r, bool done)
{
	struct registry_entry *e;

	for_each_hashed (e, &r->entries, node) {
		if (e->collecting && done)
			entry_free(r, e);
		else
			e->collecting = false;
	}
}
