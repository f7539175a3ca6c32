/*
 * One table of entries of four kinds. An entry that was touched is looked at when a transaction is
 * written and again when it is acknowledged; entries that are neither wanted nor in the kernel go.
 */
#include "proxy/registry.h"

#include "nft/readback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum entry_kind { ENTRY_SHARED, ENTRY_PICK, ENTRY_MAP, ENTRY_CHAIN };

struct registry_entry {
	struct hash_node node;
	struct registry_entry *next_touched;
	enum entry_kind kind;
	int wanted;
	bool touched, in_kernel, pending, broken, idle, collecting;
	int64_t idle_since_us;
	uint64_t digest, pending_digest; /* of a chain's rules */
	struct element element;		 /* shared: the key; pick: the verdict */
	char *comment;			 /* of a map; owned */
	char name[];			 /* of maps and chains */
};

static uint64_t element_hash(enum entry_kind kind, const struct element *el)
{
	const uint32_t parts[5] = { kind, el->set, (uint32_t)el->protocol << 16 | el->port,
				    el->verdict.count, el->verdict.pick };

	return hash_bytes(hash_bytes(HASH_SEED, parts, sizeof(parts)), &el->addr, sizeof(el->addr));
}

static bool is_entry(const struct registry_entry *e, enum entry_kind kind,
		     const struct element *key, const char *name)
{
	return e->kind == kind && strcmp(e->name, name) == 0 &&
	       element_key_compare(&e->element, key) == 0 &&
	       e->element.verdict.count == key->verdict.count &&
	       e->element.verdict.pick == key->verdict.pick;
}

static void touch(struct registry *r, struct registry_entry *e)
{
	if (e->touched)
		return;
	e->touched = true;
	e->next_touched = r->touched;
	r->touched = e;
}

/* Finds or makes the entry, and touches it. @name is "" and @key all zero where they do not apply.
 */
static struct registry_entry *entry_get(struct registry *r, enum entry_kind kind,
					const struct element *key, const char *name)
{
	const uint64_t hash = hash_text(element_hash(kind, key), name);
	size_t size = strlen(name) + 1;
	struct registry_entry *e;
	struct hash_node *n;

	for (n = hashtab_find(&r->entries, hash); n; n = hashtab_find_next(n)) {
		e = hash_entry(n, struct registry_entry, node);
		if (is_entry(e, kind, key, name)) {
			touch(r, e);
			return e;
		}
	}
	e = calloc(1, sizeof(*e) + size);
	if (!e)
		return NULL;
	e->kind = kind;
	e->element = *key;
	memcpy(e->name, name, size);
	hashtab_insert(&r->entries, &e->node, hash);
	touch(r, e);
	return e;
}

static void entry_free(struct registry *r, struct registry_entry *e)
{
	if (e->idle)
		r->n_idle--;
	hashtab_remove(&r->entries, &e->node);
	free(e->comment);
	free(e);
}

void registry_free(struct registry *r)
{
	struct hash_walk walk;
	struct hash_node *n;

	for (n = hashtab_first(&r->entries, &walk); n; n = hashtab_next(&r->entries, &walk)) {
		struct registry_entry *e = hash_entry(n, struct registry_entry, node);

		free(e->comment);
		free(e);
	}
	hashtab_free(&r->entries);
	memset(r, 0, sizeof(*r));
}

static const struct element no_element;

static struct registry_entry *pick_get(struct registry *r, const struct verdict *pick)
{
	const struct element key = { .verdict = *pick };

	return entry_get(r, ENTRY_PICK, &key, "");
}

int registry_want_shared(struct registry *r, const struct element *el, int by)
{
	const struct element key = {
		.set = el->set,
		.addr = el->addr,
		.protocol = el->protocol,
		.port = el->port,
	};
	struct registry_entry *e = entry_get(r, ENTRY_SHARED, &key, "");

	if (!e)
		return -ENOMEM;
	e->wanted += by;
	return 0;
}

int registry_want_pick(struct registry *r, const struct verdict *pick, int by, int64_t now_us)
{
	struct registry_entry *e = pick_get(r, pick);

	if (!e)
		return -ENOMEM;
	e->wanted += by;
	e->idle_since_us = now_us;
	return 0;
}

int registry_want_map(struct registry *r, const char *name, const char *comment, bool wanted,
		      int64_t now_us)
{
	struct registry_entry *e = entry_get(r, ENTRY_MAP, &no_element, name);

	if (!e)
		return -ENOMEM;
	if (wanted && !e->comment && !(e->comment = strdup(comment)))
		return -ENOMEM;
	e->wanted = wanted;
	e->idle_since_us = now_us;
	return 0;
}

int registry_want_chain(struct registry *r, const struct sticky_chain *chain, bool wanted,
			const struct ruleset *ruleset, const struct writer *writer, int64_t now_us)
{
	struct registry_entry *e = entry_get(r, ENTRY_CHAIN, &no_element, chain->name);
	uint64_t digest;

	if (!e)
		return -ENOMEM;
	e->wanted = wanted;
	e->idle_since_us = now_us;
	if (!wanted || !writer)
		return 0;
	digest = sticky_digest(ruleset, chain);
	if (e->in_kernel && e->digest == digest)
		return 0;
	writer->sticky(writer->ctx, e->in_kernel ? CHANGE_UPDATE : CHANGE_ADD, chain);
	e->pending = true;
	e->pending_digest = digest;
	return 0;
}

static int found(struct registry_entry *e, int64_t now_us)
{
	if (!e)
		return -ENOMEM;
	e->in_kernel = true;
	e->idle_since_us = now_us;
	return 0;
}

int registry_found_pick(struct registry *r, const struct verdict *pick, bool intact, int64_t now_us)
{
	struct registry_entry *e = pick_get(r, pick);

	if (e)
		e->broken = !intact;
	return found(e, now_us);
}

int registry_found_map(struct registry *r, const char *name, int64_t now_us)
{
	return found(entry_get(r, ENTRY_MAP, &no_element, name), now_us);
}

int registry_found_chain(struct registry *r, const char *name, uint64_t digest, int64_t now_us)
{
	struct registry_entry *e = entry_get(r, ENTRY_CHAIN, &no_element, name);

	if (e)
		e->digest = digest;
	return found(e, now_us);
}

void registry_unwant(struct registry *r)
{
	struct hash_walk walk;
	struct hash_node *n;

	for (n = hashtab_first(&r->entries, &walk); n; n = hashtab_next(&r->entries, &walk)) {
		struct registry_entry *e = hash_entry(n, struct registry_entry, node);

		e->wanted = 0;
		e->pending = false;
		touch(r, e);
	}
}

void registry_write(struct registry *r, const struct writer *writer,
		    void (*shared)(void *ctx, enum change change, const struct element *el),
		    void *ctx)
{
	struct registry_entry *e;

	for (e = r->touched; e; e = e->next_touched) {
		const bool add = e->wanted > 0 && !e->in_kernel;

		if (e->kind == ENTRY_SHARED && (add || (e->wanted <= 0 && e->in_kernel)))
			shared(ctx, add ? CHANGE_ADD : CHANGE_DELETE, &e->element);
		else if (e->kind == ENTRY_PICK && (add || e->broken))
			writer->pick(writer->ctx, add ? CHANGE_ADD : CHANGE_UPDATE,
				     &e->element.verdict);
		else if (e->kind == ENTRY_MAP && add)
			writer->affinity(writer->ctx, CHANGE_ADD, e->name, e->comment);
	}
}

static void entry_applied(struct registry *r, struct registry_entry *e)
{
	bool idle;

	if (e->kind == ENTRY_SHARED)
		e->in_kernel = e->wanted > 0;
	else if (e->kind == ENTRY_CHAIN)
		e->in_kernel |= e->pending;
	else
		e->in_kernel |= e->wanted > 0;
	if (e->pending)
		e->digest = e->pending_digest;
	e->pending = e->broken = false;
	idle = e->kind != ENTRY_SHARED && e->wanted <= 0 && e->in_kernel;
	if (idle != e->idle)
		r->n_idle += idle ? 1u : -1u;
	e->idle = idle;
	if (!e->in_kernel && e->wanted <= 0)
		entry_free(r, e);
}

void registry_applied(struct registry *r)
{
	struct registry_entry *e, *next;

	for (e = r->touched; e; e = next) {
		next = e->next_touched;
		e->touched = false;
		e->next_touched = NULL;
		entry_applied(r, e);
	}
	r->touched = NULL;
}

int registry_collect(struct registry *r, const struct writer *writer, int64_t before_us)
{
	struct hash_walk walk;
	struct hash_node *n;
	int count = 0;

	if (!r->n_idle)
		return 0;
	for (n = hashtab_first(&r->entries, &walk); n; n = hashtab_next(&r->entries, &walk)) {
		struct registry_entry *e = hash_entry(n, struct registry_entry, node);
		const struct sticky_chain chain = { .name = e->name };

		if (!e->idle || e->idle_since_us > before_us)
			continue;
		e->collecting = true;
		count++;
		if (e->kind == ENTRY_PICK)
			writer->pick(writer->ctx, CHANGE_DELETE, &e->element.verdict);
		else if (e->kind == ENTRY_CHAIN)
			writer->sticky(writer->ctx, CHANGE_DELETE, &chain);
		else
			writer->affinity(writer->ctx, CHANGE_DELETE, e->name, NULL);
	}
	return count;
}

void registry_collected(struct registry *r, bool done)
{
	struct hash_walk walk;
	struct hash_node *n;

	for (n = hashtab_first(&r->entries, &walk); n; n = hashtab_next(&r->entries, &walk)) {
		struct registry_entry *e = hash_entry(n, struct registry_entry, node);

		if (e->collecting && done)
			entry_free(r, e);
		else
			e->collecting = false;
	}
}
