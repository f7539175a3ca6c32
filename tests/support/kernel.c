/*
 * Objects are kept as the attributes that made them, which is what dumps give back. Every change is
 * noted in a journal: a batch that fails, or that has no END, is taken back by it.
 *
 * Regret: expressions are only looked at for the chains and sets that they name.
 */
#include "tests/support/kernel.h"

#include "nft/attr.h"
#include "nft/batch.h"
#include "nft/decode_elements.h"
#include "nft/request.h"
#include "nft/layout.h"
#include "proxy/base/hashtab.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

enum {
	NO_SET = N_ELEMENT_SETS,
	DESTROY_SETELEM = 30,
	KEY_MAX = 96,
	NAME_MAX_LENGTH = 256
};

/* A copy of attributes. */
struct blob {
	size_t length;
	char *bytes;
};

struct felement {
	struct hash_node node;
	struct fset *set;
	struct felement *next_all; /* of the set */
	struct felement **at;
	uint8_t key[KEY_MAX + 1]; /* the last byte: end of an interval */
	size_t key_length;
	struct fchain *chain; /* that the verdict goes to */
	struct blob blob; /* what is nested in NFTA_LIST_ELEM, but a counter */
	uint64_t count;	  /* of a set that counts */
};

struct fset {
	char name[NAME_MAX_LENGTH];
	unsigned int id; /* enum set_id, NO_SET for others */
	bool counts;
	struct blob blob;
	struct hashtab index;
	struct felement *all;
	unsigned int use, count;
	struct fset *next;
};

/* One at most, since we make no more. */
struct fflowtable {
	bool there;
	unsigned int use, count;
	char devices[FAKE_DEVICES_MAX][16];
};

struct frule {
	struct blob blob;
	struct fflowtable *flowtable; /* handed over to; NULL: none */
	struct fchain *chains[4];     /* gone to */
	struct fset *sets[4];	      /* looked into */
	unsigned int n_chains, n_sets;
};

struct rules {
	struct frule **items;
	unsigned int count;
};

struct fchain {
	struct hash_node node;
	char name[NAME_MAX_LENGTH];
	struct blob blob;
	struct rules rules;
	unsigned int use, made_in;	    /* that transaction */
	unsigned int released, released_in; /* uses given up in that transaction */
	struct fchain *next, *previous;	    /* in the order of creation */
};

struct ftable {
	struct fflowtable flowtable;
	bool is_orphan;
	unsigned int taken_in;	 /* that transaction it got another owner */
	unsigned int open_since; /* that transaction packets enter; 0: none yet */
	struct blob blob;
	uint32_t flags;
	struct fset *sets;
	struct hashtab chains;
	struct fchain *first, *last;
	unsigned int n_chains;
};

enum undo_kind {
	UNDO_NEW_TABLE,
	UNDO_DELETE_TABLE,
	UNDO_NEW_SET,
	UNDO_DELETE_SET,
	UNDO_NEW_CHAIN,
	UNDO_DELETE_CHAIN,
	UNDO_NEW_RULE,
	UNDO_FLUSH_RULES,
	UNDO_NEW_ELEMENT,
	UNDO_DELETE_ELEMENT,
	UNDO_FLOWTABLE,
};

struct undo {
	enum undo_kind kind;
	enum family family;
	struct ftable *table;
	struct fset *set;
	struct fchain *chain;
	struct felement *element;
	struct rules rules;
	struct fflowtable *flowtable; /* as it was */
};

struct fake_kernel {
	struct ftable *tables[N_FAMILIES];
	uint32_t generation;
	unsigned int transaction;
	struct fake_faults faults;
	struct fake_counts counts, pending;
	struct undo *journal;
	unsigned int n_journal, journal_size;
};

struct fake_faults *fake_faults(struct fake_kernel *k)
{
	return &k->faults;
}

struct fake_counts fake_counts(const struct fake_kernel *k)
{
	return k->counts;
}

void fake_counts_reset(struct fake_kernel *k)
{
	k->counts = (struct fake_counts){ 0 };
}

struct fake_kernel *fake_kernel_new(void)
{
	struct fake_kernel *k = calloc(1, sizeof(*k));

	assert(k);
	k->generation = 1;
	return k;
}

/* Objects */

static struct blob blob_of(const void *bytes, size_t length)
{
	struct blob b = { length, malloc(length + 1) };

	assert(b.bytes);
	if (length)
		memcpy(b.bytes, bytes, length);
	return b;
}

static struct blob message_blob(const struct nlmsghdr *nlh)
{
	return blob_of(mnl_nlmsg_get_payload_offset(nlh, sizeof(struct nfgenmsg)),
		       mnl_nlmsg_get_payload_len(nlh) -
			       NLMSG_ALIGN(sizeof(struct nfgenmsg)));
}

static void set_name_copy(char *to, const char *name)
{
	assert(strlen(name) < NAME_MAX_LENGTH);
	snprintf(to, NAME_MAX_LENGTH, "%s", name);
}

static struct fchain *chain_find(const struct ftable *t, const char *name)
{
	struct fchain *c;

	for_each_hash_match (c, &t->chains, hash_text(HASH_SEED, name), node)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static void chain_link(struct ftable *t, struct fchain *c)
{
	hashtab_insert(&t->chains, &c->node, hash_text(HASH_SEED, c->name));
	c->next = NULL;
	c->previous = t->last;
	*(t->last ? &t->last->next : &t->first) = c;
	t->last = c;
	t->n_chains++;
}

static void chain_unlink(struct ftable *t, struct fchain *c)
{
	hashtab_remove(&t->chains, &c->node);
	*(c->previous ? &c->previous->next : &t->first) = c->next;
	*(c->next ? &c->next->previous : &t->last) = c->previous;
	t->n_chains--;
}

static struct fset *set_find(const struct ftable *t, const char *name)
{
	struct fset *s = t->sets;

	while (s && strcmp(s->name, name))
		s = s->next;
	return s;
}

static void set_link(struct ftable *t, struct fset *s)
{
	s->next = t->sets;
	t->sets = s;
}

static void set_unlink(struct ftable *t, struct fset *s)
{
	struct fset **at = &t->sets;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
}

static void chain_use(struct fake_kernel *k, struct fchain *c, int by)
{
	if (!c)
		return;
	c->use += (unsigned int)by;
	if (by > 0)
		return;
	if (c->released_in != k->transaction)
		c->released = 0;
	c->released_in = k->transaction;
	c->released++;
}

static void element_link(struct fake_kernel *k, struct felement *e)
{
	struct fset *s = e->set;

	hashtab_insert(&s->index, &e->node,
		       hash_bytes(HASH_SEED, e->key, e->key_length));
	e->next_all = s->all;
	e->at = &s->all;
	if (e->next_all)
		e->next_all->at = &e->next_all;
	s->all = e;
	s->count++;
	chain_use(k, e->chain, 1);
}

static void element_unlink(struct fake_kernel *k, struct felement *e)
{
	hashtab_remove(&e->set->index, &e->node);
	*e->at = e->next_all;
	if (e->next_all)
		e->next_all->at = e->at;
	e->set->count--;
	chain_use(k, e->chain, -1);
}

static struct felement *element_find(const struct fset *s, const uint8_t *key,
				     size_t length)
{
	const uint64_t hash = hash_bytes(HASH_SEED, key, length);
	struct felement *e;

	for_each_hash_match (e, &s->index, hash, node)
		if (e->key_length == length && memcmp(e->key, key, length) == 0)
			return e;
	return NULL;
}

static void element_free(struct felement *e)
{
	free(e->blob.bytes);
	free(e);
}

static void set_free(struct fset *s)
{
	struct felement *e, *next;

	for (e = s->all; e; e = next) {
		next = e->next_all;
		element_free(e);
	}
	hashtab_free(&s->index);
	free(s->blob.bytes);
	free(s);
}

static void rules_use(struct fake_kernel *k, const struct rules *rules, int by)
{
	unsigned int i, n;

	for (i = 0; i < rules->count; i++) {
		for (n = 0; n < rules->items[i]->n_chains; n++)
			chain_use(k, rules->items[i]->chains[n], by);
		for (n = 0; n < rules->items[i]->n_sets; n++)
			rules->items[i]->sets[n]->use += (unsigned int)by;
		if (rules->items[i]->flowtable)
			rules->items[i]->flowtable->use += (unsigned int)by;
	}
}

static void rules_free(struct rules *rules)
{
	unsigned int i;

	for (i = 0; i < rules->count; i++) {
		free(rules->items[i]->blob.bytes);
		free(rules->items[i]);
	}
	free(rules->items);
	*rules = (struct rules){ 0 };
}

static void chain_free(struct fchain *c)
{
	rules_free(&c->rules);
	free(c->blob.bytes);
	free(c);
}

static void table_free(struct ftable *t)
{
	struct fchain *c, *next;
	struct fset *s;

	if (!t)
		return;
	for (c = t->first; c; c = next) {
		next = c->next;
		chain_free(c);
	}
	while ((s = t->sets)) {
		t->sets = s->next;
		set_free(s);
	}
	hashtab_free(&t->chains);
	free(t->blob.bytes);
	free(t);
}

void fake_kernel_free(struct fake_kernel *k)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		table_free(k->tables[f]);
	free(k->journal);
	free(k);
}

/* The journal */

static struct undo *note(struct fake_kernel *k, enum undo_kind kind,
			 enum family family)
{
	struct undo *u;

	if (k->n_journal == k->journal_size) {
		k->journal_size = k->journal_size ? k->journal_size * 2 : 256;
		k->journal = reallocarray(k->journal, k->journal_size,
					  sizeof(*k->journal));
		assert(k->journal);
	}
	u = &k->journal[k->n_journal++];
	*u = (struct undo){ .kind = kind,
			    .family = family,
			    .table = k->tables[family] };
	return u;
}

static void undo_one(struct fake_kernel *k, struct undo *u)
{
	switch (u->kind) {
	case UNDO_NEW_TABLE:
		k->tables[u->family] = NULL;
		table_free(u->table);
		break;
	case UNDO_DELETE_TABLE:
		k->tables[u->family] = u->table;
		break;
	case UNDO_NEW_SET:
		set_unlink(u->table, u->set);
		set_free(u->set);
		break;
	case UNDO_DELETE_SET:
		set_link(u->table, u->set);
		break;
	case UNDO_NEW_CHAIN:
		chain_unlink(u->table, u->chain);
		chain_free(u->chain);
		break;
	case UNDO_DELETE_CHAIN:
		chain_link(u->table, u->chain);
		rules_use(k, &u->chain->rules, 1);
		break;
	case UNDO_NEW_RULE:
		u->rules.items = &u->chain->rules.items[--u->chain->rules.count];
		u->rules.count = 1;
		rules_use(k, &u->rules, -1);
		free(u->rules.items[0]->blob.bytes);
		free(u->rules.items[0]);
		break;
	case UNDO_FLUSH_RULES:
		rules_free(&u->chain->rules);
		u->chain->rules = u->rules;
		rules_use(k, &u->rules, 1);
		break;
	case UNDO_NEW_ELEMENT:
		element_unlink(k, u->element);
		element_free(u->element);
		break;
	case UNDO_DELETE_ELEMENT:
		element_link(k, u->element);
		break;
	case UNDO_FLOWTABLE:
		u->table->flowtable = *u->flowtable;
		free(u->flowtable);
		break;
	}
}

static void journal_undo(struct fake_kernel *k)
{
	while (k->n_journal)
		undo_one(k, &k->journal[--k->n_journal]);
}

static void journal_commit(struct fake_kernel *k)
{
	unsigned int i;

	for (i = 0; i < k->n_journal; i++) {
		struct undo *u = &k->journal[i];

		if (u->kind == UNDO_DELETE_TABLE)
			table_free(u->table);
		else if (u->kind == UNDO_DELETE_SET)
			set_free(u->set);
		else if (u->kind == UNDO_DELETE_CHAIN)
			chain_free(u->chain);
		else if (u->kind == UNDO_FLUSH_RULES)
			rules_free(&u->rules);
		else if (u->kind == UNDO_DELETE_ELEMENT)
			element_free(u->element);
		else if (u->kind == UNDO_FLOWTABLE)
			free(u->flowtable);
	}
	k->n_journal = 0;
}

/* Messages of a batch. Each returns 0 or a negative errno. */

struct message {
	struct fake_kernel *k;
	const struct nlmsghdr *nlh;
	enum family family;
	int type;
	uint32_t offset; /* of what is wrong; 0: unknown */
};

static int ask(const struct message *m, int type, const char *name,
	       const struct element *el)
{
	struct fake_op op = { .type = type, .family = m->family, .name = name };

	if (!m->k->faults.refuse)
		return 0;
	if (el) {
		op.has_element = true;
		op.element = *el;
	}
	return m->k->faults.refuse(m->k->faults.ctx, &op);
}

static bool creates(const struct message *m, uint16_t flag)
{
	return m->nlh->nlmsg_flags & flag;
}

static int new_table(struct message *m)
{
	const struct nlattr *attrs[NFTA_TABLE_MAX + 1];
	struct ftable *t = m->k->tables[m->family];
	uint32_t flags;

	message_attrs(m->nlh, attrs, NFTA_TABLE_MAX + 1);
	flags = attr_u32(attrs[NFTA_TABLE_FLAGS], 0);
	if (t) {
		if (creates(m, NLM_F_EXCL))
			return -EEXIST;
		if (attrs[NFTA_TABLE_FLAGS] && flags != t->flags)
			return -EOPNOTSUPP;
		if (attrs[NFTA_TABLE_FLAGS] && t->is_orphan)
			t->taken_in = m->k->transaction;
		if (attrs[NFTA_TABLE_FLAGS])
			t->is_orphan = false;
		return 0;
	}
	if (!creates(m, NLM_F_CREATE))
		return -ENOENT;
	t = calloc(1, sizeof(*t));
	assert(t);
	t->blob = message_blob(m->nlh);
	t->flags = flags;
	m->k->tables[m->family] = t;
	note(m->k, UNDO_NEW_TABLE, m->family);
	return 0;
}

static int delete_table(struct message *m)
{
	if (!m->k->tables[m->family])
		return -ENOENT;
	note(m->k, UNDO_DELETE_TABLE, m->family);
	m->k->tables[m->family] = NULL;
	return 0;
}

static unsigned int set_id_of(const char *name)
{
	unsigned int id = 0;

	if (strncmp(name, RANGES_PREFIX, strlen(RANGES_PREFIX)) == 0)
		return SET_SOURCE_RANGES;
	while (id < N_SETS && strcmp(set_name(id), name))
		id++;
	return id < N_SETS ? id : NO_SET;
}

static int new_set(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_SET_MAX + 1];
	const char *name;
	struct fset *s;

	message_attrs(m->nlh, attrs, NFTA_SET_MAX + 1);
	name = attr_string(attrs[NFTA_SET_NAME]);
	if (!name || strlen(name) >= NAME_MAX_LENGTH)
		return -EINVAL;
	if (set_find(t, name))
		return creates(m, NLM_F_EXCL) ? -EEXIST : 0;
	s = calloc(1, sizeof(*s));
	assert(s);
	set_name_copy(s->name, name);
	s->id = set_id_of(name);
	s->counts = expression_is(attrs[NFTA_SET_EXPR], "counter");
	s->blob = message_blob(m->nlh);
	set_link(t, s);
	note(m->k, UNDO_NEW_SET, m->family)->set = s;
	return 0;
}

static int delete_set(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_SET_MAX + 1];
	struct fset *s;

	message_attrs(m->nlh, attrs, NFTA_SET_MAX + 1);
	s = set_find(t, attr_string(attrs[NFTA_SET_NAME]));
	if (!s)
		return -ENOENT;
	if (s->use)
		return -EBUSY;
	set_unlink(t, s);
	note(m->k, UNDO_DELETE_SET, m->family)->set = s;
	return 0;
}

static int new_chain(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_CHAIN_MAX + 1];
	const char *name;
	struct fchain *c;

	message_attrs(m->nlh, attrs, NFTA_CHAIN_MAX + 1);
	name = attr_string(attrs[NFTA_CHAIN_NAME]);
	if (!name || strlen(name) >= NAME_MAX_LENGTH)
		return -EINVAL;
	if (chain_find(t, name))
		return creates(m, NLM_F_EXCL) ? -EEXIST : 0;
	if (attrs[NFTA_CHAIN_HOOK] && t->taken_in == m->k->transaction)
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	assert(c);
	set_name_copy(c->name, name);
	c->blob = message_blob(m->nlh);
	c->made_in = m->k->transaction;
	chain_link(t, c);
	note(m->k, UNDO_NEW_CHAIN, m->family)->chain = c;
	m->k->pending.chains_added++;
	return 0;
}

static int delete_chain(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_CHAIN_MAX + 1];
	struct fchain *c;

	message_attrs(m->nlh, attrs, NFTA_CHAIN_MAX + 1);
	c = chain_find(t, attr_string(attrs[NFTA_CHAIN_NAME]));
	if (!c)
		return -ENOENT;
	if (c->use || (m->k->faults.old &&
		       c->released_in == m->k->transaction && c->released))
		return -EBUSY;
	rules_use(m->k, &c->rules, -1);
	chain_unlink(t, c);
	note(m->k, UNDO_DELETE_CHAIN, m->family)->chain = c;
	m->k->pending.chains_deleted++;
	return 0;
}

/* What an expression refers to. */
static int rule_refer(struct ftable *t, struct frule *r, const struct nlattr *expr)
{
	const struct nlattr *attrs[NFTA_EXPR_MAX + 1], *data[NFTA_DYNSET_MAX + 1];
	const struct nlattr *value[NFTA_DATA_MAX + 1],
		*verdict[NFTA_VERDICT_MAX + 1];
	const char *kind, *set = NULL, *chain = NULL;

	nested_attrs(expr, attrs, NFTA_EXPR_MAX + 1);
	nested_attrs(attrs[NFTA_EXPR_DATA], data, NFTA_DYNSET_MAX + 1);
	kind = attr_string(attrs[NFTA_EXPR_NAME]);
	if (!kind)
		return -EINVAL;
	if (strcmp(kind, "lookup") == 0) {
		set = attr_string(data[NFTA_LOOKUP_SET]);
	} else if (strcmp(kind, "dynset") == 0) {
		set = attr_string(data[NFTA_DYNSET_SET_NAME]);
	} else if (strcmp(kind, "flow_offload") == 0) {
		if (!t->flowtable.there)
			return -ENOENT;
		r->flowtable = &t->flowtable;
	} else if (strcmp(kind, "immediate") == 0) {
		nested_attrs(data[NFTA_IMMEDIATE_DATA], value, NFTA_DATA_MAX + 1);
		nested_attrs(value[NFTA_DATA_VERDICT], verdict,
			     NFTA_VERDICT_MAX + 1);
		chain = attr_string(verdict[NFTA_VERDICT_CHAIN]);
	}
	if (set) {
		r->sets[r->n_sets] = set_find(t, set);
		if (!r->sets[r->n_sets++])
			return -ENOENT;
	}
	if (chain) {
		r->chains[r->n_chains] = chain_find(t, chain);
		if (!r->chains[r->n_chains++])
			return -ENOENT;
	}
	return 0;
}

static void rules_push(struct rules *rules, struct frule *r)
{
	rules->items = reallocarray(rules->items, rules->count + 1,
				    sizeof(struct frule *));
	assert(rules->items);
	rules->items[rules->count++] = r;
}

static struct fflowtable *change_flowtable(struct message *m, struct ftable *t)
{
	struct undo *u = note(m->k, UNDO_FLOWTABLE, m->family);

	u->flowtable = malloc(sizeof(*u->flowtable));
	assert(u->flowtable);
	*u->flowtable = t->flowtable;
	return &t->flowtable;
}

static unsigned int device_at(const struct fflowtable *f, const char *name)
{
	unsigned int i;

	for (i = 0; i < f->count && strcmp(f->devices[i], name) != 0; i++)
		;
	return i;
}

/* A message with a device is about that. */
static const char *device_of(const struct nlmsghdr *nlh)
{
	const struct nlattr *attrs[NFTA_FLOWTABLE_MAX + 1],
		*hook[NFTA_FLOWTABLE_HOOK_MAX + 1];
	const struct nlattr *device[NFTA_DEVICE_MAX + 1];

	message_attrs(nlh, attrs, NFTA_FLOWTABLE_MAX + 1);
	nested_attrs(attrs[NFTA_FLOWTABLE_HOOK], hook, NFTA_FLOWTABLE_HOOK_MAX + 1);
	nested_attrs(hook[NFTA_FLOWTABLE_HOOK_DEVS], device, NFTA_DEVICE_MAX + 1);
	return attr_string(device[NFTA_DEVICE_NAME]);
}

static int new_flowtable(struct message *m, struct ftable *t)
{
	const char *device = device_of(m->nlh);
	struct fflowtable *f;

	if (t->flowtable.there && !device)
		return creates(m, NLM_F_EXCL) ? -EEXIST : 0;
	if (!t->flowtable.there && !creates(m, NLM_F_CREATE))
		return -ENOENT;
	if (device && device_at(&t->flowtable, device) < t->flowtable.count)
		return 0;
	f = change_flowtable(m, t);
	f->there = true;
	if (device) {
		assert(f->count < FAKE_DEVICES_MAX);
		snprintf(f->devices[f->count++], sizeof(f->devices[0]), "%s",
			 device);
	}
	return 0;
}

static int delete_flowtable(struct message *m, struct ftable *t)
{
	const char *device = device_of(m->nlh);
	struct fflowtable *f;
	unsigned int i;

	if (!t->flowtable.there)
		return -ENOENT;
	if (!device && t->flowtable.use)
		return -EBUSY;
	i = device ? device_at(&t->flowtable, device) : 0;
	if (device && i == t->flowtable.count)
		return -ENOENT;
	f = change_flowtable(m, t);
	if (device)
		memcpy(f->devices[i], f->devices[--f->count],
		       sizeof(f->devices[0]));
	else
		*f = (struct fflowtable){ 0 };
	return 0;
}

static void blob_attrs(const struct blob *blob, const struct nlattr **attrs,
		       unsigned int max)
{
	const char *end = blob->bytes + blob->length;
	const struct nlattr *attr;

	memset(attrs, 0, max * sizeof(*attrs));
	for (attr = attr_if_ok((const struct nlattr *)(const void *)blob->bytes, end);
	     attr; attr = attr_if_ok(mnl_attr_next(attr), end))
		if (mnl_attr_get_type(attr) < max)
			attrs[mnl_attr_get_type(attr)] = attr;
}

static bool has_hook(const struct fchain *c)
{
	const struct nlattr *attrs[NFTA_CHAIN_MAX + 1];

	blob_attrs(&c->blob, attrs, NFTA_CHAIN_MAX + 1);
	return attrs[NFTA_CHAIN_HOOK];
}

static int new_rule(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_RULE_MAX + 1], *expr;
	struct frule *r = calloc(1, sizeof(*r));
	struct rules one = { &r, 1 };
	struct fchain *c;
	int err = 0;

	assert(r);
	message_attrs(m->nlh, attrs, NFTA_RULE_MAX + 1);
	c = chain_find(t, attr_string(attrs[NFTA_RULE_CHAIN]));
	if (!c)
		err = -ENOENT;
	if (!err && attrs[NFTA_RULE_EXPRESSIONS])
		for_each_attr_in (expr, attrs[NFTA_RULE_EXPRESSIONS])
			err = err ? err : rule_refer(t, r, expr);
	if (err) {
		free(r);
		return err;
	}
	r->blob = message_blob(m->nlh);
	rules_push(&c->rules, r);
	rules_use(m->k, &one, 1);
	if (!t->open_since && has_hook(c))
		t->open_since = m->k->transaction;
	note(m->k, UNDO_NEW_RULE, m->family)->chain = c;
	m->k->pending.rules_added++;
	return 0;
}

/* Only whole chains are flushed here. */
static int delete_rules(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_RULE_MAX + 1];
	struct fchain *c;
	struct undo *u;

	message_attrs(m->nlh, attrs, NFTA_RULE_MAX + 1);
	c = chain_find(t, attr_string(attrs[NFTA_RULE_CHAIN]));
	if (!c)
		return -ENOENT;
	rules_use(m->k, &c->rules, -1);
	u = note(m->k, UNDO_FLUSH_RULES, m->family);
	u->chain = c;
	u->rules = c->rules;
	c->rules = (struct rules){ 0 };
	return 0;
}

/* The key with the flag of an interval's end behind it; 0 if there is none. */
static size_t element_key(const struct nlattr *const *attrs,
			  uint8_t key[KEY_MAX + 1])
{
	const struct nlattr *value[NFTA_DATA_MAX + 1];
	size_t length;

	nested_attrs(attrs[NFTA_SET_ELEM_KEY], value, NFTA_DATA_MAX + 1);
	if (!value[NFTA_DATA_VALUE])
		return 0;
	length = mnl_attr_get_payload_len(value[NFTA_DATA_VALUE]);
	if (length > KEY_MAX / 2)
		return 0;
	memcpy(key, mnl_attr_get_payload(value[NFTA_DATA_VALUE]), length);
	key[length++] = attr_u32(attrs[NFTA_SET_ELEM_FLAGS], 0) &
			NFT_SET_ELEM_INTERVAL_END;
	if (!attrs[NFTA_SET_ELEM_KEY_END])
		return length;
	nested_attrs(attrs[NFTA_SET_ELEM_KEY_END], value, NFTA_DATA_MAX + 1);
	if (!value[NFTA_DATA_VALUE] ||
	    length + mnl_attr_get_payload_len(value[NFTA_DATA_VALUE]) > KEY_MAX + 1)
		return 0;
	memcpy(key + length, mnl_attr_get_payload(value[NFTA_DATA_VALUE]),
	       mnl_attr_get_payload_len(value[NFTA_DATA_VALUE]));
	return length + mnl_attr_get_payload_len(value[NFTA_DATA_VALUE]);
}

static bool same_attr(const struct nlattr *a, const struct nlattr *b)
{
	return a == b || (a && b && a->nla_len == b->nla_len &&
			  memcmp(mnl_attr_get_payload(a), mnl_attr_get_payload(b),
				 mnl_attr_get_payload_len(a)) == 0);
}

/* The kernel compares data, and nothing but data, with what is there. */
static int element_exists(const struct felement *e, const struct nlattr *data)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1];

	blob_attrs(&e->blob, attrs, NFTA_SET_ELEM_MAX + 1);
	return same_attr(attrs[NFTA_SET_ELEM_DATA], data) ? 0 : -EEXIST;
}

static int verdict_target(const struct ftable *t, const struct nlattr *data,
			  struct fchain **chain)
{
	const struct nlattr *value[NFTA_DATA_MAX + 1],
		*verdict[NFTA_VERDICT_MAX + 1];
	const char *name;

	*chain = NULL;
	nested_attrs(data, value, NFTA_DATA_MAX + 1);
	if (!value[NFTA_DATA_VERDICT])
		return 0;
	nested_attrs(value[NFTA_DATA_VERDICT], verdict, NFTA_VERDICT_MAX + 1);
	name = attr_string(verdict[NFTA_VERDICT_CHAIN]);
	if (!name)
		return 0;
	*chain = chain_find(t, name);
	return *chain ? 0 : -ENOENT;
}

/* All attributes but the counter, of which the packets go to @count. */
static struct blob element_blob(const struct nlattr *element, uint64_t *count)
{
	const struct nlattr *attr, *expr[NFTA_EXPR_MAX + 1],
		*data[NFTA_COUNTER_MAX + 1];
	struct blob blob = blob_of(NULL, 0);
	size_t size;

	*count = 0;
	for_each_attr_in (attr, element) {
		if (mnl_attr_get_type(attr) == NFTA_SET_ELEM_EXPR) {
			nested_attrs(attr, expr, NFTA_EXPR_MAX + 1);
			nested_attrs(expr[NFTA_EXPR_DATA], data,
				     NFTA_COUNTER_MAX + 1);
			assert(data[NFTA_COUNTER_PACKETS]);
			memcpy(count,
			       mnl_attr_get_payload(data[NFTA_COUNTER_PACKETS]),
			       8);
			*count = be64toh(*count);
			continue;
		}
		size = MNL_ALIGN(attr->nla_len);
		blob.bytes = realloc(blob.bytes, blob.length + size);
		assert(blob.bytes);
		memset(blob.bytes + blob.length, 0, size);
		memcpy(blob.bytes + blob.length, attr, attr->nla_len);
		blob.length += size;
	}
	return blob;
}

/* As the kernel lists it. */
static void put_element(struct nlmsghdr *nlh, const struct felement *e)
{
	struct nlattr *element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM),
		      *expr, *data;

	memcpy(mnl_nlmsg_get_payload_tail(nlh), e->blob.bytes, e->blob.length);
	nlh->nlmsg_len += (uint32_t)e->blob.length;
	if (e->set->counts) {
		expr = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_EXPR);
		mnl_attr_put_strz(nlh, NFTA_EXPR_NAME, "counter");
		data = mnl_attr_nest_start(nlh, NFTA_EXPR_DATA);
		mnl_attr_put_u64(nlh, NFTA_COUNTER_BYTES, htobe64(e->count * 60));
		mnl_attr_put_u64(nlh, NFTA_COUNTER_PACKETS, htobe64(e->count));
		mnl_attr_nest_end(nlh, data);
		mnl_attr_nest_end(nlh, expr);
	}
	mnl_attr_nest_end(nlh, element);
}

static int new_element(struct message *m, struct ftable *t, struct fset *s,
		       const struct nlattr *attr)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1];
	uint8_t key[KEY_MAX + 1];
	struct felement *e;
	struct fchain *chain;
	size_t length;
	int err;

	nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
	length = element_key(attrs, key);
	if (!length)
		return -EINVAL;
	if (attrs[NFTA_SET_ELEM_EXPR] && !s->counts)
		return -EOPNOTSUPP;
	err = verdict_target(t, attrs[NFTA_SET_ELEM_DATA], &chain);
	if (err)
		return err;
	e = element_find(s, key, length);
	if (e)
		return element_exists(e, attrs[NFTA_SET_ELEM_DATA]);
	e = calloc(1, sizeof(*e));
	assert(e);
	e->set = s;
	e->chain = chain;
	memcpy(e->key, key, length);
	e->key_length = length;
	e->blob = element_blob(attr, &e->count);
	element_link(m->k, e);
	note(m->k, UNDO_NEW_ELEMENT, m->family)->element = e;
	m->k->pending.elements_added++;
	m->k->pending.hasty += chain && chain->made_in == m->k->transaction &&
			       t->open_since && t->open_since != m->k->transaction;
	m->k->pending.verdicts += s->id < N_ELEMENT_SETS && set_has_verdict(s->id);
	return 0;
}

static int delete_element(struct message *m, struct fset *s,
			  const struct nlattr *attr)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1];
	uint8_t key[KEY_MAX + 1];
	struct felement *e;
	size_t length;

	nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
	length = element_key(attrs, key);
	e = length ? element_find(s, key, length) : NULL;
	if (!e)
		return m->type == DESTROY_SETELEM ? 0 : -ENOENT;
	element_unlink(m->k, e);
	note(m->k, UNDO_DELETE_ELEMENT, m->family)->element = e;
	m->k->pending.elements_deleted++;
	m->k->pending.verdicts += s->id < N_ELEMENT_SETS && set_has_verdict(s->id);
	return 0;
}

/* Where a source range begins stands for it. */
static int ask_bound(const struct message *m, const struct fset *s,
		     const struct nlattr *attr)
{
	struct element el = { .set = SET_SOURCE_RANGES, .ranges = s->name };
	struct bound bound;

	if (bound_decode(m->family, attr, &bound))
		return -EINVAL;
	el.range = (struct prefix){ bound.addr, (uint8_t)family_bits(m->family) };
	return bound.is_end ? 0 : ask(m, m->type, s->name, &el);
}

static int ask_element(const struct message *m, const struct fset *s,
		       const struct nlattr *attr)
{
	struct element el;

	if (!m->k->faults.refuse || s->id >= N_ELEMENT_SETS ||
	    (set_has_range(s->id) && s->id != SET_SOURCE_RANGES))
		return ask(m, m->type, s->name, NULL);
	if (m->type != NFT_MSG_NEWSETELEM)
		return 0;
	if (s->id == SET_SOURCE_RANGES)
		return ask_bound(m, s, attr);
	if (element_decode(m->family, s->id, attr, &el))
		return -EINVAL;
	return ask(m, m->type, s->name, &el);
}

static int change_elements(struct message *m, struct ftable *t)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_LIST_MAX + 1], *attr;
	struct fset *s;
	int err = 0;

	message_attrs(m->nlh, attrs, NFTA_SET_ELEM_LIST_MAX + 1);
	s = set_find(t, attr_string(attrs[NFTA_SET_ELEM_LIST_SET]));
	if (!s)
		return -ENOENT;
	for_each_attr_in (attr, attrs[NFTA_SET_ELEM_LIST_ELEMENTS]) {
		err = ask_element(m, s, attr);
		if (!err)
			err = m->type == NFT_MSG_NEWSETELEM
				      ? new_element(m, t, s, attr)
				      : delete_element(m, s, attr);
		if (err) {
			m->offset = (uint32_t)((const char *)attr -
					       (const char *)m->nlh);
			return err;
		}
	}
	return 0;
}

static const char *object_name(const struct message *m)
{
	const struct nlattr *attrs[4];
	const char *name;

	if (m->type == NFT_MSG_NEWFLOWTABLE && device_of(m->nlh))
		return device_of(m->nlh);
	message_attrs(m->nlh, attrs, 4);
	name = m->type == NFT_MSG_NEWCHAIN || m->type == NFT_MSG_DELCHAIN
		       ? attr_string(attrs[NFTA_CHAIN_NAME])
		       : attr_string(attrs[2]);
	return name ? name : "";
}

static int apply(struct message *m)
{
	struct ftable *t = m->k->tables[m->family];
	int err = 0;

	if (m->type != NFT_MSG_NEWSETELEM && m->type != NFT_MSG_DELSETELEM)
		err = ask(m, m->type, object_name(m), NULL);
	if (err)
		return err;
	if (m->type == NFT_MSG_NEWTABLE)
		return new_table(m);
	if (!t)
		return -ENOENT;
	switch (m->type) {
	case NFT_MSG_DELTABLE:
		return delete_table(m);
	case NFT_MSG_NEWSET:
		return new_set(m, t);
	case NFT_MSG_DELSET:
		return delete_set(m, t);
	case NFT_MSG_NEWCHAIN:
		return new_chain(m, t);
	case NFT_MSG_DELCHAIN:
		return delete_chain(m, t);
	case NFT_MSG_NEWRULE:
		return new_rule(m, t);
	case NFT_MSG_DELRULE:
		return delete_rules(m, t);
	case NFT_MSG_NEWFLOWTABLE:
		return new_flowtable(m, t);
	case NFT_MSG_DELFLOWTABLE:
		return delete_flowtable(m, t);
	case NFT_MSG_NEWSETELEM:
	case NFT_MSG_DELSETELEM:
		return change_elements(m, t);
	case DESTROY_SETELEM:
		return m->k->faults.old ? -EINVAL : change_elements(m, t);
	}
	return -EINVAL;
}

/* Exchanges */

struct exchange {
	struct fake_kernel *k;
	const struct iovec *iov;
	unsigned int n_iov;
	uint32_t last_seq;
	int (*reply)(const struct nlmsghdr *nlh, void *data);
	void *data;
};

static void guard(const struct fake_kernel *k, bool inside)
{
	if (k->faults.guard)
		k->faults.guard(inside);
}

static int answer(const struct exchange *x, const struct nlmsghdr *nlh)
{
	int err;

	if (!x->reply)
		return 0;
	guard(x->k, false);
	err = x->reply(nlh, x->data);
	guard(x->k, true);
	return err;
}

static int answer_error(const struct exchange *x, const struct nlmsghdr *about,
			int error, uint32_t offset)
{
	union {
		struct nlmsghdr nlh;
		char bytes[128];
	} buf = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(&buf);
	struct nlmsgerr *e = mnl_nlmsg_put_extra_header(nlh, sizeof(*e));

	nlh->nlmsg_type = NLMSG_ERROR;
	nlh->nlmsg_seq = about->nlmsg_seq;
	nlh->nlmsg_flags = NLM_F_CAPPED;
	e->error = error;
	e->msg = *about;
	if (offset && !x->k->faults.no_offsets) {
		nlh->nlmsg_flags |= NLM_F_ACK_TLVS;
		mnl_attr_put_u32(nlh, NLMSGERR_ATTR_OFFS, offset);
	}
	return answer(x, nlh);
}

static const struct nlmsghdr *next_message(const struct exchange *x,
					   unsigned int *i, size_t *at)
{
	const struct nlmsghdr *nlh;

	while (*i < x->n_iov && *at >= x->iov[*i].iov_len) {
		++*i;
		*at = 0;
	}
	if (*i == x->n_iov)
		return NULL;
	nlh = (const struct nlmsghdr *)(const void *)((const char *)x->iov[*i].iov_base +
						      *at);
	assert(nlh->nlmsg_len >= NLMSG_HDRLEN &&
	       nlh->nlmsg_len <= x->iov[*i].iov_len - *at);
	*at += NLMSG_ALIGN(nlh->nlmsg_len);
	return nlh;
}

static enum family family_of(const struct nlmsghdr *nlh)
{
	return message_family(nlh) == NFPROTO_IPV6 ? FAMILY_IPV6 : FAMILY_IPV4;
}

static void counts_add(struct fake_counts *to, const struct fake_counts *more)
{
	to->elements_added += more->elements_added;
	to->elements_deleted += more->elements_deleted;
	to->verdicts += more->verdicts;
	to->hasty += more->hasty;
	to->chains_added += more->chains_added;
	to->chains_deleted += more->chains_deleted;
	to->rules_added += more->rules_added;
	to->transactions++;
}

/* Replies wait until the transaction is decided, as they do in the kernel. */
struct verdicts {
	const struct nlmsghdr **about;
	int *errors;
	uint32_t *offsets;
	unsigned int count, size;
};

static void verdicts_push(struct verdicts *v, const struct nlmsghdr *about,
			  int error, uint32_t offset)
{
	if (v->count == v->size) {
		v->size = v->size ? v->size * 2 : 16;
		v->about = reallocarray(v->about, v->size, sizeof(*v->about));
		v->errors = reallocarray(v->errors, v->size, sizeof(*v->errors));
		v->offsets =
			reallocarray(v->offsets, v->size, sizeof(*v->offsets));
		assert(v->about && v->errors && v->offsets);
	}
	v->about[v->count] = about;
	v->errors[v->count] = error;
	v->offsets[v->count++] = offset;
}

static int deliver(const struct exchange *x, struct verdicts *v, struct errbuf *eb)
{
	int err = 0, last = 0;
	unsigned int i;

	for (i = 0; i < v->count && !err; i++) {
		err = answer_error(x, v->about[i], v->errors[i], v->offsets[i]);
		if (v->about[i]->nlmsg_seq == x->last_seq)
			last = v->errors[i];
	}
	free(v->about);
	free(v->errors);
	free(v->offsets);
	if (!err && last)
		err = errf(eb, last, "fake kernel refuses: %s", strerror(-last));
	return err;
}

static int transact(const struct exchange *x, struct errbuf *eb)
{
	const struct nlmsghdr *nlh, *begin = x->iov[0].iov_base;
	struct message m = { .k = x->k };
	struct verdicts v = { 0 };
	bool failed = false, end = false;
	unsigned int i = 0;
	size_t at = 0;
	int err;

	x->k->transaction++;
	x->k->pending = (struct fake_counts){ 0 };
	while ((nlh = next_message(x, &i, &at))) {
		if (nlh->nlmsg_type == NFNL_MSG_BATCH_BEGIN)
			continue;
		end = nlh->nlmsg_type == NFNL_MSG_BATCH_END;
		if (end)
			break;
		m.nlh = nlh;
		m.family = family_of(nlh);
		m.type = nlh->nlmsg_type & 0xff;
		m.offset = 0;
		err = apply(&m);
		failed |= err != 0;
		if (err || (nlh->nlmsg_flags & NLM_F_ACK))
			verdicts_push(&v, nlh, err, m.offset);
	}
	m.type = -1;
	err = failed || !end ? 0 : ask(&m, -1, "", NULL);
	if (err) {
		v.count = 0;
		verdicts_push(&v, begin, err, 0);
	}
	if (failed || err || !end) {
		journal_undo(x->k);
	} else {
		journal_commit(x->k);
		x->k->generation++;
		counts_add(&x->k->counts, &x->k->pending);
	}
	return deliver(x, &v, eb);
}

/* Dumps */

static int send_object(const struct exchange *x, enum family family, int type,
		       const struct nlmsghdr *about, const struct blob *blob)
{
	size_t size = 64 + blob->length;
	void *buf = calloc(1, size);
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	int err;

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nlh->nlmsg_seq = about->nlmsg_seq;
	nfg->nfgen_family = family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	if (blob->length)
		memcpy(mnl_nlmsg_get_payload_tail(nlh), blob->bytes, blob->length);
	nlh->nlmsg_len += (uint32_t)blob->length;
	err = answer(x, nlh);
	free(buf);
	return err;
}

static int send_generation(const struct exchange *x, const struct nlmsghdr *about)
{
	union {
		struct nlmsghdr nlh;
		char bytes[64];
	} buf = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(&buf);

	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN;
	nlh->nlmsg_seq = about->nlmsg_seq;
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct nfgenmsg));
	mnl_attr_put_u32(nlh, NFTA_GEN_ID, htonl(x->k->generation));
	return answer(x, nlh);
}

/* Begins a message in zeroed @room with elements of @s, and their list in it. */
static struct nlmsghdr *begin_elements(void *room, enum family family,
				       const struct fset *s,
				       const struct nlmsghdr *about,
				       struct nlattr **list)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(room);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWSETELEM;
	nlh->nlmsg_seq = about->nlmsg_seq;
	nfg->nfgen_family = family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, s->name);
	*list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	return nlh;
}

static int send_elements(const struct exchange *x, enum family family,
			 const struct fset *s, const struct nlmsghdr *about)
{
	enum { ROOM = 16384, FULL = 8192 };
	const struct felement *e = s->all;
	struct nlmsghdr *nlh;
	struct nlattr *list;
	void *buf = malloc(ROOM);
	int err = 0;

	while (e && !err) {
		memset(buf, 0, ROOM);
		nlh = begin_elements(buf, family, s, about, &list);
		for (; e && nlh->nlmsg_len < FULL; e = e->next_all)
			put_element(nlh, e);
		mnl_attr_nest_end(nlh, list);
		err = answer(x, nlh);
	}
	free(buf);
	return err;
}

/* Those that are asked for, each in a message of its own, up to the first that is not there. */
static int send_some(const struct exchange *x, enum family family,
		     const struct fset *s, const struct nlmsghdr *about,
		     const struct nlattr *keys)
{
	const struct nlattr *attr, *attrs[NFTA_SET_ELEM_MAX + 1];
	uint8_t key[KEY_MAX + 1];
	const struct felement *e;
	struct nlmsghdr *nlh;
	struct nlattr *list;
	size_t length;
	int err = 0;

	for_each_attr_in (attr, keys) {
		nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
		length = element_key(attrs, key);
		e = length ? element_find(s, key, length) : NULL;
		if (!e)
			return -ENOENT;
		nlh = begin_elements(calloc(1, 1024 + e->blob.length), family,
				     s, about, &list);
		put_element(nlh, e);
		mnl_attr_nest_end(nlh, list);
		err = answer(x, nlh);
		free(nlh);
		if (err)
			return err;
	}
	return 0;
}

static int send_table(const struct exchange *x, const struct nlmsghdr *about,
		      enum family f)
{
	if (!x->k->tables[f])
		return 0;
	return send_object(x, f, NFT_MSG_NEWTABLE, about, &x->k->tables[f]->blob);
}

static int send_flowtable(const struct exchange *x,
			  const struct nlmsghdr *about, enum family f)
{
	const struct fflowtable *flow = &x->k->tables[f]->flowtable;
	struct nlmsghdr *nlh =
		mnl_nlmsg_put_header(calloc(1, 256 + 32 * FAKE_DEVICES_MAX));
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	struct nlattr *hook, *devices;
	unsigned int i;
	int err = 0;

	nlh->nlmsg_type =
		(uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWFLOWTABLE);
	nlh->nlmsg_seq = about->nlmsg_seq;
	nfg->nfgen_family = f == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	mnl_attr_put_strz(nlh, NFTA_FLOWTABLE_TABLE, "vipmap");
	mnl_attr_put_strz(nlh, NFTA_FLOWTABLE_NAME, "fast");
	hook = mnl_attr_nest_start(nlh, NFTA_FLOWTABLE_HOOK);
	mnl_attr_put_u32(nlh, NFTA_FLOWTABLE_HOOK_NUM, htonl(NF_NETDEV_INGRESS));
	mnl_attr_put_u32(nlh, NFTA_FLOWTABLE_HOOK_PRIORITY, 0);
	devices = mnl_attr_nest_start(nlh, NFTA_FLOWTABLE_HOOK_DEVS);
	for (i = 0; i < flow->count; i++)
		mnl_attr_put_strz(nlh, NFTA_DEVICE_NAME, flow->devices[i]);
	mnl_attr_nest_end(nlh, devices);
	mnl_attr_nest_end(nlh, hook);
	if (flow->there)
		err = answer(x, nlh);
	free(nlh);
	return err;
}

static int send_all(const struct exchange *x, const struct nlmsghdr *about,
		    enum family f, int type)
{
	const struct ftable *t = x->k->tables[f];
	const struct fchain *c;
	const struct fset *s;
	unsigned int i;
	int err = 0;

	if (type == NFT_MSG_GETFLOWTABLE)
		return send_flowtable(x, about, f);
	if (type == NFT_MSG_GETSET)
		for (s = t->sets; s && !err; s = s->next)
			err = send_object(x, f, NFT_MSG_NEWSET, about, &s->blob);
	for (c = t->first; c && !err; c = c->next) {
		if (type == NFT_MSG_GETCHAIN)
			err = send_object(x, f, NFT_MSG_NEWCHAIN, about, &c->blob);
		for (i = 0;
		     type == NFT_MSG_GETRULE && !err && i < c->rules.count; i++)
			err = send_object(x, f, NFT_MSG_NEWRULE, about,
					  &c->rules.items[i]->blob);
	}
	return err;
}

static int ask_kernel(const struct exchange *x, struct errbuf *eb)
{
	const struct nlmsghdr *nlh = x->iov[0].iov_base;
	const enum family f = family_of(nlh);
	const int type = nlh->nlmsg_type & 0xff;
	const struct nlattr *attrs[4];
	const struct fset *s;
	int err = 0;

	message_attrs(nlh, attrs, 4);
	if (type == NFT_MSG_GETGEN) {
		err = send_generation(x, nlh);
	} else if (type == NFT_MSG_GETTABLE && !attrs[NFTA_TABLE_NAME]) {
		err = send_table(x, nlh, FAMILY_IPV4);
		err = err ? err : send_table(x, nlh, FAMILY_IPV6);
	} else if (!x->k->tables[f]) {
		if (type == NFT_MSG_GETTABLE || type == NFT_MSG_GETSETELEM)
			return errf(eb, -ENOENT, "fake kernel: no such table");
	} else if (type == NFT_MSG_GETTABLE) {
		err = send_table(x, nlh, f);
	} else if (type == NFT_MSG_GETSETELEM) {
		s = set_find(x->k->tables[f],
			     attr_string(attrs[NFTA_SET_ELEM_LIST_SET]));
		if (!s)
			return errf(eb, -ENOENT, "fake kernel: no such set");
		if (attrs[NFTA_SET_ELEM_LIST_ELEMENTS])
			err = send_some(x, f, s, nlh,
					attrs[NFTA_SET_ELEM_LIST_ELEMENTS]);
		else
			err = send_elements(x, f, s, nlh);
		if (err == -ENOENT)
			return errf(eb, err, "fake kernel: no such element");
	} else {
		err = send_all(x, nlh, f, type);
	}
	if (!err && (nlh->nlmsg_flags & NLM_F_ACK) &&
	    !(nlh->nlmsg_flags & NLM_F_DUMP))
		err = answer_error(x, nlh, 0, 0);
	return err;
}

static int fake_exchange(void *ctx, const struct iovec *iov, unsigned int n_iov,
			 uint32_t last_seq,
			 int (*reply)(const struct nlmsghdr *nlh, void *data),
			 void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	struct exchange x = { ctx, iov, n_iov, last_seq, reply, data };
	struct fake_faults *faults = &x.k->faults;
	const struct nlmsghdr *nlh = iov[0].iov_base;
	bool fail = faults->fail_at && --faults->fail_at == 0;
	int err = 0;

	(void)timeout_ms;
	guard(x.k, true);
	x.k->counts.exchanges++;
	if (fail)
		x.reply = NULL;
	if (!fail || faults->fail_applied)
		err = nlh->nlmsg_type == NFNL_MSG_BATCH_BEGIN
			      ? transact(&x, eb)
			      : ask_kernel(&x, eb);
	if (fail)
		err = errf(eb, faults->fail_err, "fake kernel: %s",
			   strerror(-faults->fail_err));
	guard(x.k, false);
	return err;
}

struct nlsock *fake_kernel_socket(struct fake_kernel *k)
{
	static const struct nlsock_ops ops = { .exchange = fake_exchange };

	return nlsock_new(&ops, k);
}

/* Looking in */

bool fake_has_table(const struct fake_kernel *k, enum family family)
{
	return k->tables[family];
}

bool fake_has_chain(const struct fake_kernel *k, enum family family,
		    const char *name)
{
	return k->tables[family] && chain_find(k->tables[family], name);
}

bool fake_has_set(const struct fake_kernel *k, enum family family, const char *name)
{
	return k->tables[family] && set_find(k->tables[family], name);
}

unsigned int fake_n_chains(const struct fake_kernel *k, enum family family)
{
	return k->tables[family] ? k->tables[family]->n_chains : 0;
}

static int key_order(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

struct listing {
	struct element *items;
	size_t count;
	const struct fset *set;
};

static int add_range(void *ctx, const struct prefix *prefix)
{
	struct listing *l = ctx;
	struct element *el = &l->items[l->count++];

	*el = (struct element){ .set = l->set->id, .range = *prefix };
	if (el->set == SET_SOURCE_RANGES)
		el->ranges = l->set->name;
	else
		el->addr = prefix->addr;
	return 0;
}

static void list_ranges(struct listing *l, enum family family, const struct fset *s)
{
	struct bound *bounds = calloc(s->count + 1, sizeof(*bounds));
	const struct felement *e;
	unsigned int n = 0;
	int err = 0;

	for (e = s->all; e && !err; e = e->next_all) {
		struct blob whole = { e->blob.length + NLA_HDRLEN,
				      malloc(e->blob.length + NLA_HDRLEN) };
		struct nlattr *attr = (struct nlattr *)(void *)whole.bytes;

		attr->nla_len = (uint16_t)whole.length;
		attr->nla_type = NFTA_LIST_ELEM | NLA_F_NESTED;
		memcpy(whole.bytes + NLA_HDRLEN, e->blob.bytes, e->blob.length);
		err = bound_decode(family, attr, &bounds[n++]);
		free(whole.bytes);
	}
	l->set = s;
	if (err || bounds_join(family, bounds, n, add_range, l))
		l->items[l->count++] = (struct element){
			.set = s->id,
			.index = ~0u,
			.ranges = s->id == SET_SOURCE_RANGES ? s->name : NULL,
		};
	free(bounds);
}

/* Elements keep a header in front of them, so that what points into them lives as long as they. */
static void list_set_elements(struct listing *l, enum family family,
			      const struct fset *s, struct arena *scratch)
{
	const struct felement *e;
	struct nlattr *attr;

	for (e = s->all; e; e = e->next_all) {
		attr = arena_alloc(scratch, NLA_HDRLEN + e->blob.length);
		attr->nla_len = (uint16_t)(NLA_HDRLEN + e->blob.length);
		attr->nla_type = NFTA_LIST_ELEM | NLA_F_NESTED;
		memcpy(attr + 1, e->blob.bytes, e->blob.length);
		if (element_decode(family, s->id, attr, &l->items[l->count]))
			l->items[l->count] =
				(struct element){ .set = s->id, .index = ~0u };
		l->items[l->count].count = e->count;
		l->count++;
	}
}

const struct element *fake_elements(const struct fake_kernel *k, enum family family,
				    struct arena *scratch, size_t *count)
{
	const struct ftable *t = k->tables[family];
	struct listing l = { 0 };
	const struct fset *s;
	size_t total = 0;

	for (s = t ? t->sets : NULL; s; s = s->next)
		total += s->count;
	l.items = arena_array(scratch, total + 1, sizeof(*l.items));
	for (s = t ? t->sets : NULL; s; s = s->next) {
		if (s->id < N_ELEMENT_SETS && set_has_range(s->id))
			list_ranges(&l, family, s);
		else if (s->id < N_SETS)
			list_set_elements(&l, family, s, scratch);
	}
	qsort(l.items, l.count, sizeof(*l.items), key_order);
	*count = l.count;
	return l.items;
}

void fake_add_client(struct fake_kernel *k, enum family family, const char *map,
		     const struct addr *client, const struct addr *endpoint,
		     uint16_t port)
{
	const size_t size = family_size(family);
	struct fset *s = set_find(k->tables[family], map);
	struct felement *e = calloc(1, sizeof(*e));
	uint8_t data[20] = { 0 };
	union {
		struct nlmsghdr nlh;
		char bytes[256];
	} buf = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(&buf);
	struct nlattr *nest;

	assert(s && e);
	memcpy(data, endpoint->bytes, size);
	data[size] = (uint8_t)(port >> 8);
	data[size + 1] = (uint8_t)port;
	nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, size, client->bytes);
	mnl_attr_nest_end(nlh, nest);
	nest = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_DATA);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, size + 4, data);
	mnl_attr_nest_end(nlh, nest);
	memcpy(e->key, client->bytes, size);
	e->key_length = size + 1;
	e->set = s;
	e->blob = blob_of(mnl_nlmsg_get_payload(nlh),
			  mnl_nlmsg_get_payload_len(nlh));
	if (element_find(s, e->key, e->key_length))
		element_free(e);
	else
		element_link(k, e);
}

unsigned int fake_n_clients(const struct fake_kernel *k, enum family family,
			    const char *map)
{
	const struct fset *s =
		k->tables[family] ? set_find(k->tables[family], map) : NULL;

	return s ? s->count : 0;
}

bool fake_has_client(const struct fake_kernel *k, enum family family,
		     const char *map, const struct addr *client)
{
	const struct fset *s =
		k->tables[family] ? set_find(k->tables[family], map) : NULL;
	uint8_t key[KEY_MAX + 1] = { 0 };

	memcpy(key, client->bytes, family_size(family));
	return s && element_find(s, key, family_size(family) + 1);
}

/* Foreigners */

static bool foreign(struct fake_kernel *k)
{
	journal_commit(k);
	k->generation++;
	return true;
}

void fake_next_generation(struct fake_kernel *k)
{
	k->generation++;
}

bool fake_delete_table(struct fake_kernel *k, enum family family)
{
	struct message m = { .k = k, .family = family };

	return delete_table(&m) == 0 && foreign(k);
}

bool fake_flush_table(struct fake_kernel *k, enum family family)
{
	struct ftable *t = k->tables[family];
	struct fchain *c;

	for (c = t ? t->first : NULL; c; c = c->next) {
		rules_use(k, &c->rules, -1);
		rules_free(&c->rules);
	}
	return t && foreign(k);
}

static struct felement *nth_element(struct fake_kernel *k, enum family family,
				    unsigned int which)
{
	struct ftable *t = k->tables[family];
	unsigned int total = 0;
	struct felement *e;
	struct fset *s;

	for (s = t ? t->sets : NULL; s; s = s->next)
		total += s->id < N_ELEMENT_SETS ? s->count : 0;
	if (!total)
		return NULL;
	which %= total;
	for (s = t->sets; s; s = s->next)
		for (e = s->id < N_ELEMENT_SETS ? s->all : NULL; e; e = e->next_all)
			if (which-- == 0)
				return e;
	return NULL;
}

bool fake_delete_element(struct fake_kernel *k, enum family family,
			 unsigned int which)
{
	struct felement *e = nth_element(k, family, which);

	if (!e)
		return false;
	element_unlink(k, e);
	element_free(e);
	return foreign(k);
}

/* The first that matches: of a set of ranges, by where one begins. */
static struct felement *key_find(struct fake_kernel *k, enum family family,
				 const struct element *key)
{
	struct arena scratch = ARENA_INIT;
	struct ftable *t = k->tables[family];
	struct fset *s =
		t ? set_find(t, key->ranges ? key->ranges : set_name(key->set))
		  : NULL;
	struct felement *e = s ? s->all : NULL;
	const size_t size = family_size(family);
	struct element el;
	struct nlattr *attr;

	for (; e; e = e->next_all) {
		if (set_has_range(key->set)) {
			if (memcmp(e->key,
				   key->ranges ? &key->range.addr : &key->addr,
				   size) == 0)
				break;
			continue;
		}
		attr = arena_alloc(&scratch, NLA_HDRLEN + e->blob.length);
		attr->nla_len = (uint16_t)(NLA_HDRLEN + e->blob.length);
		attr->nla_type = NFTA_LIST_ELEM | NLA_F_NESTED;
		memcpy(attr + 1, e->blob.bytes, e->blob.length);
		if (element_decode(family, key->set, attr, &el) == 0 &&
		    element_key_compare(&el, key) == 0)
			break;
	}
	arena_free(&scratch);
	return e;
}

bool fake_delete_key(struct fake_kernel *k, enum family family,
		     const struct element *key)
{
	struct felement *e = key_find(k, family, key);

	if (!e)
		return false;
	element_unlink(k, e);
	element_free(e);
	return foreign(k);
}

bool fake_counts_in(const struct fake_kernel *k, enum family family, enum set_id set)
{
	const struct fset *s =
		k->tables[family] ? set_find(k->tables[family], set_name(set))
				  : NULL;

	return s && s->counts;
}

bool fake_count(struct fake_kernel *k, enum family family,
		const struct element *key, uint64_t connections)
{
	struct felement *e = key_find(k, family, key);

	if (!e || !e->set->counts)
		return false;
	e->count += connections;
	return true;
}

bool fake_damage_element(struct fake_kernel *k, enum family family,
			 unsigned int which)
{
	struct felement *e = nth_element(k, family, which);
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1],
		*value[NFTA_DATA_MAX + 1];
	size_t at;

	if (!e)
		return false;
	blob_attrs(&e->blob, attrs, NFTA_SET_ELEM_MAX + 1);
	nested_attrs(attrs[NFTA_SET_ELEM_DATA], value, NFTA_DATA_MAX + 1);
	if (!value[NFTA_DATA_VALUE])
		return false;
	at = (size_t)((const char *)mnl_attr_get_payload(value[NFTA_DATA_VALUE]) -
		      e->blob.bytes);
	e->blob.bytes[at + 1] ^= 0x40;
	return foreign(k);
}

static struct fchain *nth_chain(struct fake_kernel *k, enum family family,
				unsigned int which)
{
	struct ftable *t = k->tables[family];
	struct fchain *c = t ? t->first : NULL;

	for (which = t && t->n_chains ? which % t->n_chains : 0; c && which; which--)
		c = c->next;
	return c;
}

bool fake_delete_rule(struct fake_kernel *k, enum family family, unsigned int which)
{
	struct fchain *c = nth_chain(k, family, which);
	struct rules last;

	if (!c || !c->rules.count)
		return false;
	last = (struct rules){ &c->rules.items[--c->rules.count], 1 };
	rules_use(k, &last, -1);
	free(last.items[0]->blob.bytes);
	free(last.items[0]);
	return foreign(k);
}

bool fake_add_rule(struct fake_kernel *k, enum family family, unsigned int which)
{
	struct fchain *c = nth_chain(k, family, which);
	struct frule *r = calloc(1, sizeof(*r));
	union {
		struct nlmsghdr nlh;
		char bytes[512];
	} buf = { 0 };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(&buf);

	if (!c) {
		free(r);
		return false;
	}
	mnl_attr_put_strz(nlh, NFTA_RULE_TABLE, TABLE_NAME);
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, c->name);
	r->blob = blob_of(mnl_nlmsg_get_payload(nlh),
			  mnl_nlmsg_get_payload_len(nlh));
	rules_push(&c->rules, r);
	return foreign(k);
}

/* With the rules that look into it, or the kernel would not let them. */
void fake_owner_ends(struct fake_kernel *k)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (k->tables[f])
			k->tables[f]->is_orphan = k->tables[f]->flags != 0;
}

void fake_devices(const struct fake_kernel *k, enum family family,
		  struct strbuf *out)
{
	const struct ftable *t = k->tables[family];
	unsigned int i;

	strbuf_reset(out);
	if (!t || !t->flowtable.there)
		strbuf_adds(out, "none");
	for (i = 0; t && i < t->flowtable.count; i++)
		strbuf_addf(out, "%s%s", i ? " " : "", t->flowtable.devices[i]);
}

bool fake_delete_set(struct fake_kernel *k, enum family family, const char *name)
{
	struct ftable *t = k->tables[family];
	struct fset *s = t ? set_find(t, name) : NULL;
	struct felement *e;

	if (!s)
		return false;
	if (s->use)
		fake_flush_table(k, family);
	for (e = s->all; e; e = e->next_all)
		chain_use(k, e->chain, -1);
	set_unlink(t, s);
	set_free(s);
	return foreign(k);
}

/* With the elements that go there, and the rules. */
bool fake_delete_chain(struct fake_kernel *k, enum family family, const char *name)
{
	struct ftable *t = k->tables[family];
	struct fchain *c = t ? chain_find(t, name) : NULL;
	struct felement *e, *next;
	struct fset *s;

	if (!c)
		return false;
	for (s = t->sets; s; s = s->next)
		for (e = s->all; e; e = next) {
			next = e->next_all;
			if (e->chain != c)
				continue;
			element_unlink(k, e);
			element_free(e);
		}
	if (c->use)
		fake_flush_table(k, family);
	rules_use(k, &c->rules, -1);
	chain_unlink(t, c);
	chain_free(c);
	return foreign(k);
}

static struct nlmsghdr *object_message(void *buf, enum family family, uint16_t type,
				       uint16_t attribute, const char *name)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nlh->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
	nfg->nfgen_family = family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
	mnl_attr_put_strz(nlh, 1, TABLE_NAME);
	mnl_attr_put_strz(nlh, attribute, name);
	return nlh;
}

bool fake_add_chain(struct fake_kernel *k, enum family family, const char *name)
{
	union {
		struct nlmsghdr nlh;
		char bytes[1024];
	} buf = { 0 };
	struct message m = { .k = k, .family = family, .type = NFT_MSG_NEWCHAIN };

	m.nlh = object_message(&buf, family, NFT_MSG_NEWCHAIN, NFTA_CHAIN_NAME,
			       name);
	return k->tables[family] && new_chain(&m, k->tables[family]) == 0 &&
	       foreign(k);
}

bool fake_add_set(struct fake_kernel *k, enum family family, const char *name)
{
	union {
		struct nlmsghdr nlh;
		char bytes[1024];
	} buf = { 0 };
	struct message m = { .k = k, .family = family, .type = NFT_MSG_NEWSET };

	m.nlh = object_message(&buf, family, NFT_MSG_NEWSET, NFTA_SET_NAME, name);
	return k->tables[family] && new_set(&m, k->tables[family]) == 0 &&
	       foreign(k);
}

int fake_add_element(struct fake_kernel *k, enum family family,
		     const struct element *el)
{
	const struct ruleset ruleset = { .family = family };
	struct fake_faults saved = k->faults;
	struct fake_counts counts = k->counts;
	struct nlsock *nl = fake_kernel_socket(k);
	struct batch *b = batch_new(&ruleset, 0);
	struct errbuf eb;
	int err;

	k->faults = (struct fake_faults){ 0 };
	batch_writer(b)->element(batch_writer(b)->ctx, CHANGE_ADD, el, NULL);
	err = batch_commit(b, nl, 1000, NULL, &eb);
	batch_free(b);
	nlsock_close(nl);
	k->faults = saved;
	k->counts = counts;
	return err;
}
