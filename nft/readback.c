/*
 * The table as the kernel has it. First everything but elements is read and
 * judged: sets by their types, base chains by their hooks, rules by the digests
 * that we left in their userdata. A rule without one, or of another digest, is
 * not ours, whatever it does; nft drops them when somebody replaces or reloads
 * a rule. Only if the layout is ours are elements walked, one datagram after
 * the other, and handed on one by one.
 *
 * Large endpoint lists are asked for key by key, as dumps of large sets take
 * too long (lists.c). What else may be in the set shows by its number of
 * elements, which Linux tells from 6.16 on. Regret: before, an element that
 * somebody added to a list of a very large table stays unnoticed.
 *
 * The kernel counts changes to all tables, also those of others, and on some
 * nodes there are many. So while it reads this module listens for changes to
 * our table, and only such a change makes it begin again. Lists of chains,
 * rules and sets run over all tables. One during which any table changes is
 * read again, alone: a neighbour that writes all the time leaves no moment in
 * which all of them could be read. Elements are listed per set. A change whose
 * notification is still on its way when we end is not missed by whoever listens
 * all the time (monitor.h).
 */
#include "nft/readback.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include "nft/attr.h"
#include "nft/decode_elements.h"
#include "nft/flowtable.h"
#include "nft/lists.h"
#include "nft/monitor.h"
#include "nft/request.h"
#include "nft/layout.h"
#include "proxy/base/arena.h"
#include "proxy/base/array.h"

enum {
	SET_COUNT = 20, /* NFTA_SET_COUNT, which older headers lack */
	/* From here on questions are cheaper than a dump: 0.15 s for either. */
	MANY_ELEMENTS = 50000,
	/* Without a count a dump is worth this much. */
	VERY_MANY_ELEMENTS = 200000,
	MAX_MISSING = 1000,
	PROCESS_NAME_SIZE = 32, /* the kernel's have 16 */
	/* Of one list, which is short: a neighbour seldom comes in between this often. */
	LIST_ATTEMPTS = 10,
	LIST_TRIED_MS = 1000, /* if it does, because we seldom get the processor */
};

enum chain_kind {
	CHAIN_IS_CONSTANT,
	CHAIN_IS_PICK,
	CHAIN_IS_STICKY,
	CHAIN_IS_FIREWALL
};

struct found_chain {
	const char *name; /* in the arena */
	enum chain_kind kind;
	enum chain_id id;
	struct verdict pick;
	uint64_t digest; /* of the rules so far */
	bool foreign;	 /* some rule is not ours */
};

struct table_names {
	const char **items; /* in the arena */
	unsigned int count, size;
};

struct table_reader {
	struct nlsock *nl;
	const struct ruleset *ruleset;
	enum family family;
	const struct readback *found;
	enum table_state state;
	uint32_t owner; /* port of the socket that owns the table; 0: none */
	struct errbuf *eb;
	bool interrupted; /* some table changed while elements were listed */

	struct arena arena;
	struct found_chain *chains; /* in the kernel's order */
	unsigned int n_chains, chains_size, current;
	struct table_names affinities, ranges; /* of sets */
	bool has_set[N_SETS], has_chain[N_CHAINS], has_flowtable;
	bool only_counts; /* of elements: the table will be replaced */
	struct {
		bool known;
		uint32_t n;
	} set_count[N_SETS];

	/* of the set being walked */
	enum set_id set;
	struct lists lists;
	uint32_t n_asked;   /* elements that were there when asked for by key */
	bool skip_expected; /* a dump after that: these have been told already */
	const char *set_name;
	struct bound *bounds;
	unsigned int n_bounds, bounds_size;
	struct prefix *prefixes; /* that they make; for source ranges */
	unsigned int n_prefixes, prefixes_size;
};

/* The reason stays in the error buffer, for whoever wants to log it. */
static int judge_table(struct table_reader *r, enum table_state state,
		       const char *what, const char *name)
{
	if (state > r->state) {
		r->state = state;
		errf(r->eb, 0, "table %s vipmap: %s %s",
		     family_keyword(r->family), what, name);
	}
	return 0;
}

static bool is_ours(const struct table_reader *r, const struct nlmsghdr *nlh,
		    unsigned int type, const struct nlattr *table)
{
	const char *name = attr_string(table);

	return message_is(nlh, type) && name && strcmp(name, TABLE_NAME) == 0 &&
	       message_family(nlh) ==
		       (r->family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
}

static int on_table(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_TABLE_MAX + 1];
	struct table_reader *r = data;

	if (!message_is(nlh, NFT_MSG_NEWTABLE))
		return 0;
	message_attrs(nlh, attrs, NFTA_TABLE_MAX + 1);
	r->state = TABLE_CURRENT;
	r->owner = attr_u32(attrs[NFTA_TABLE_OWNER], 0);
	if (attr_u32(attrs[NFTA_TABLE_FLAGS], 0) & NFT_TABLE_F_DORMANT)
		judge_table(r, TABLE_OTHER, "is", "dormant");
	return 0;
}

/* Chains */

static bool hook_is(const struct chain *want, const struct nlattr *const *attrs)
{
	const struct nlattr *hook[NFTA_HOOK_MAX + 1];
	const char *type = attr_string(attrs[NFTA_CHAIN_TYPE]);

	if (!want->has_hook)
		return !attrs[NFTA_CHAIN_HOOK];
	nested_attrs(attrs[NFTA_CHAIN_HOOK], hook, NFTA_HOOK_MAX + 1);
	return type && strcmp(type, want->type) == 0 &&
	       attr_u32(hook[NFTA_HOOK_HOOKNUM], UINT32_MAX) == want->hook &&
	       (int32_t)attr_u32(hook[NFTA_HOOK_PRIORITY], INT32_MAX) ==
		       want->priority &&
	       attr_u32(attrs[NFTA_CHAIN_POLICY], NF_ACCEPT) == NF_ACCEPT;
}

/* Fills kind and identity; false if the chain is none of ours. */
static bool chain_identify(const struct table_reader *r, const char *name,
			   const struct nlattr *const *attrs,
			   struct found_chain *c)
{
	struct chain constant;
	unsigned int id;

	for (id = 0; id < N_CHAINS; id++) {
		if (strcmp(name, chain_id_name(id)))
			continue;
		chain_constant(r->ruleset, id, &constant);
		c->kind = CHAIN_IS_CONSTANT;
		c->id = id;
		return hook_is(&constant, attrs);
	}
	if (attrs[NFTA_CHAIN_HOOK] || verdict_parse(name, &c->pick))
		return false;
	switch (c->pick.kind) {
	case VERDICT_PICK:
		c->kind = CHAIN_IS_PICK;
		break;
	case VERDICT_FIREWALL:
		c->kind = CHAIN_IS_FIREWALL;
		break;
	default:
		c->kind = CHAIN_IS_STICKY;
	}
	return true;
}

static int on_chain(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_CHAIN_MAX + 1];
	struct found_chain chain = { .digest = 0 };
	struct table_reader *r = data;
	const char *name;

	message_attrs(nlh, attrs, NFTA_CHAIN_MAX + 1);
	if (!is_ours(r, nlh, NFT_MSG_NEWCHAIN, attrs[NFTA_CHAIN_TABLE]))
		return 0;
	name = attr_string(attrs[NFTA_CHAIN_NAME]);
	if (!name || !chain_identify(r, name, attrs, &chain))
		return judge_table(r, TABLE_OTHER, "foreign chain",
				   name ? name : "");
	chain.name = arena_strdup(&r->arena, name);
	if (!chain.name || array_grow(r->chains, r->n_chains, r->chains_size))
		return -ENOMEM;
	r->chains[r->n_chains++] = chain;
	if (chain.kind == CHAIN_IS_CONSTANT)
		r->has_chain[chain.id] = true;
	return 0;
}

/* Rules come in the order of chains, so this is one step on nearly always. */
static struct found_chain *find_chain(struct table_reader *r, const char *name)
{
	unsigned int i;

	assert(!r->n_chains || r->current < r->n_chains);
	for (i = 0; i < r->n_chains; i++) {
		if (strcmp(r->chains[r->current].name, name) == 0)
			return &r->chains[r->current];
		r->current = (r->current + 1) % r->n_chains;
	}
	return NULL;
}

static int on_rule(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_RULE_MAX + 1], *userdata;
	struct table_reader *r = data;
	struct found_chain *chain;
	uint64_t digest = 0;
	const char *name;

	message_attrs(nlh, attrs, NFTA_RULE_MAX + 1);
	if (!is_ours(r, nlh, NFT_MSG_NEWRULE, attrs[NFTA_RULE_TABLE]))
		return 0;
	name = attr_string(attrs[NFTA_RULE_CHAIN]);
	chain = name ? find_chain(r, name) : NULL;
	if (!chain)
		return judge_table(r, TABLE_OTHER, "rule of an unknown chain",
				   name ? name : "");
	userdata = attrs[NFTA_RULE_USERDATA];
	if (userdata)
		digest = rule_userdata_digest(mnl_attr_get_payload(userdata),
					      mnl_attr_get_payload_len(userdata));
	if (digest)
		chain->digest = digest_add(chain->digest, digest);
	else
		chain->foreign = true;
	return 0;
}

/* @always: it is no optional part. */
static void judge_presence(struct table_reader *r, bool there, bool wanted,
			   bool always, const char *what, const char *name)
{
	char text[32];

	if (there == wanted)
		return;
	snprintf(text, sizeof(text), there ? "has %s" : "lacks %s", what);
	judge_table(r, always ? TABLE_OTHER : TABLE_RULES_DIFFER, text, name);
}

static void check_chains(struct table_reader *r)
{
	struct chain constant;
	unsigned int i;

	for (i = 0; i < N_CHAINS; i++)
		judge_presence(r, r->has_chain[i],
			       chain_is_in(r->ruleset->parts, i),
			       chain_is_in(0, i), "chain", chain_id_name(i));
	for (i = 0; i < r->n_chains; i++) {
		if (r->chains[i].foreign)
			r->chains[i].digest = 0;
		if (r->chains[i].kind != CHAIN_IS_CONSTANT ||
		    !chain_is_in(r->ruleset->parts, r->chains[i].id))
			continue;
		chain_constant(r->ruleset, r->chains[i].id, &constant);
		if (r->chains[i].digest != chain_digest(r->family, &constant))
			judge_table(r, TABLE_RULES_DIFFER,
				    "other rules in chain", constant.name);
	}
}

/* Sets */

static bool layout_is(const struct table_reader *r, const struct set_layout *want,
		      const struct nlattr *const *attrs)
{
	const struct nlattr *desc[NFTA_SET_DESC_MAX + 1];
	const uint32_t flags = attr_u32(attrs[NFTA_SET_FLAGS], 0);

	nested_attrs(attrs[NFTA_SET_DESC], desc, NFTA_SET_DESC_MAX + 1);
	if (flags != want->flags ||
	    attr_u32(attrs[NFTA_SET_KEY_TYPE], 0) !=
		    key_type(r->family, &want->key) ||
	    attr_u32(attrs[NFTA_SET_KEY_LEN], 0) != key_size(r->family, &want->key) ||
	    attr_u32(desc[NFTA_SET_DESC_SIZE], 0) != want->size)
		return false;
	if (want->data == DATA_NONE)
		return true;
	if (attr_u32(attrs[NFTA_SET_DATA_TYPE], 0) != set_data_type(r->family, want))
		return false;
	return want->data == DATA_VERDICT ||
	       attr_u32(attrs[NFTA_SET_DATA_LEN], 0) ==
		       set_data_size(r->family, want);
}

/* Counting cannot be begun or ended in a set that is there. */
static bool counter_is(const struct nlattr *const *attrs, bool wanted)
{
	if (attrs[NFTA_SET_EXPRESSIONS])
		return false;
	return wanted ? expression_is(attrs[NFTA_SET_EXPR], "counter")
		      : !attrs[NFTA_SET_EXPR];
}

static int note_name(struct table_reader *r, struct table_names *names,
		     const char *name)
{
	const char *copy = arena_strdup(&r->arena, name);

	if (!copy || array_grow(names->items, names->count, names->size))
		return -ENOMEM;
	names->items[names->count++] = copy;
	return 0;
}

static int on_set(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[SET_COUNT + 1];
	struct table_reader *r = data;
	const char *name;
	unsigned int id;

	message_attrs(nlh, attrs, SET_COUNT + 1);
	if (!is_ours(r, nlh, NFT_MSG_NEWSET, attrs[NFTA_SET_TABLE]))
		return 0;
	/* Belongs to a rule, which is judged by its digest. */
	if (attr_u32(attrs[NFTA_SET_FLAGS], 0) & NFT_SET_ANONYMOUS)
		return 0;
	name = attr_string(attrs[NFTA_SET_NAME]);
	if (name && name_is_affinity(name) && layout_is(r, affinity_layout(), attrs))
		return note_name(r, &r->affinities, name);
	if (name && name_is_ranges(name) &&
	    layout_is(r, set_layout(SET_SOURCE_RANGES), attrs))
		return note_name(r, &r->ranges, name);
	for (id = 0; name && id < N_SETS; id++)
		if (strcmp(name, set_name(id)) == 0 &&
		    layout_is(r, set_layout(id), attrs)) {
			if (!counter_is(attrs, set_counts(r->ruleset->parts, id)))
				return judge_table(r, TABLE_OTHER,
						   attrs[NFTA_SET_EXPR]
							   ? "counts in"
							   : "does not count in",
						   name);
			r->has_set[id] = true;
			r->set_count[id].known = attrs[SET_COUNT];
			r->set_count[id].n = attr_u32(attrs[SET_COUNT], 0);
			return 0;
		}
	return judge_table(r, TABLE_OTHER, "foreign or changed set",
			   name ? name : "");
}

static void check_sets(struct table_reader *r)
{
	unsigned int i;

	for (i = 0; i < N_SETS; i++)
		judge_presence(r, r->has_set[i], set_is_in(r->ruleset->parts, i),
			       set_is_in(0, i), "set", set_name(i));
}

/* Those of which the table has a set or a chain. */
static unsigned int parts_found(const struct table_reader *r)
{
	unsigned int i, part, parts = 0;

	for (part = 1; part; part <<= 1) {
		for (i = 0; i < N_SETS; i++)
			if (r->has_set[i] && set_is_in(part, i) && !set_is_in(0, i))
				parts |= part;
		for (i = 0; i < N_CHAINS; i++)
			if (r->has_chain[i] && chain_is_in(part, i) &&
			    !chain_is_in(0, i))
				parts |= part;
	}
	return parts;
}

/* Its devices come and go, and are read by themselves (flowtable.h). */
static bool flowtable_is_ours(const struct nlattr *const *attrs)
{
	const struct nlattr *hook[NFTA_FLOWTABLE_HOOK_MAX + 1];
	const char *name = attr_string(attrs[NFTA_FLOWTABLE_NAME]);

	nested_attrs(attrs[NFTA_FLOWTABLE_HOOK], hook, NFTA_FLOWTABLE_HOOK_MAX + 1);
	return name && strcmp(name, FLOWTABLE_NAME) == 0 &&
	       attr_u32(attrs[NFTA_FLOWTABLE_FLAGS], 0) == 0 &&
	       attr_u32(hook[NFTA_FLOWTABLE_HOOK_NUM], UINT32_MAX) ==
		       NF_NETDEV_INGRESS &&
	       attr_u32(hook[NFTA_FLOWTABLE_HOOK_PRIORITY], UINT32_MAX) == 0;
}

static int on_flowtable(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_FLOWTABLE_MAX + 1];
	struct table_reader *r = data;
	const char *name;

	message_attrs(nlh, attrs, NFTA_FLOWTABLE_MAX + 1);
	if (!is_ours(r, nlh, NFT_MSG_NEWFLOWTABLE, attrs[NFTA_FLOWTABLE_TABLE]))
		return 0;
	name = attr_string(attrs[NFTA_FLOWTABLE_NAME]);
	if (!flowtable_is_ours(attrs))
		return judge_table(r, TABLE_OTHER, "foreign or changed flowtable",
				   name ? name : "");
	r->has_flowtable = true;
	return 0;
}

/* All of it, or nothing: a part of it cannot be mended by adding and removing the whole. */
static void check_flowtable_chain(struct table_reader *r)
{
	unsigned int i, n = r->has_flowtable;

	for (i = CHAIN_FAST_PATH; i < N_CHAINS; i++)
		n += r->has_chain[i];
	if (n && n != N_CHAINS - CHAIN_FAST_PATH + 1)
		judge_table(r, TABLE_OTHER, "lacks a part of", "the fast path");
}

/* Named counters and the like: we have none. */
static int on_object(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[2];
	struct table_reader *r = data;

	message_attrs(nlh, attrs, 2);
	if (is_ours(r, nlh, NFT_MSG_NEWOBJ, attrs[1]))
		judge_table(r, TABLE_OTHER, "foreign", "object");
	return 0;
}

/* Elements */

static int note_bound(struct table_reader *r, const struct nlattr *attr)
{
	struct bound bound;

	if (bound_decode(r->family, attr, &bound))
		return judge_table(r, TABLE_OTHER, "foreign element in",
				   r->set_name);
	if (array_grow(r->bounds, r->n_bounds, r->bounds_size))
		return -ENOMEM;
	r->bounds[r->n_bounds++] = bound;
	return 0;
}

static int on_element(void *ctx, const struct nlattr *attr)
{
	struct element element;
	struct table_reader *r = ctx;

	if (set_has_range(r->set))
		return note_bound(r, attr);
	if (element_decode(r->family, r->set, attr, &element))
		return judge_table(r, TABLE_OTHER, "foreign element in",
				   set_name(r->set));
	if (r->only_counts) {
		if (element.count)
			r->found->counted(r->found->ctx, &element);
		return 0;
	}
	if (r->skip_expected && lists_has(&r->lists, &element))
		return 0;
	if (r->found->element)
		r->found->element(r->found->ctx, &element);
	return set_has_verdict(r->set) ? lists_note(&r->lists, &element) : 0;
}

static int on_elements(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_LIST_MAX + 1], *attr;
	struct table_reader *r = data;
	int err = 0;

	message_attrs(nlh, attrs, NFTA_SET_ELEM_LIST_MAX + 1);
	if (!is_ours(r, nlh, NFT_MSG_NEWSETELEM, attrs[NFTA_SET_ELEM_LIST_TABLE]) ||
	    !attrs[NFTA_SET_ELEM_LIST_ELEMENTS])
		return 0;
	for_each_attr_in (attr, attrs[NFTA_SET_ELEM_LIST_ELEMENTS]) {
		err = on_element(r, attr);
		if (err)
			break;
	}
	return err;
}

static int on_prefix(void *ctx, const struct prefix *prefix)
{
	struct table_reader *r = ctx;
	const struct element element = {
		.set = r->set,
		.addr = prefix->addr,
		.range = *prefix,
	};

	if (r->set != SET_SOURCE_RANGES) {
		if (r->found->element)
			r->found->element(r->found->ctx, &element);
		return 0;
	}
	if (array_grow(r->prefixes, r->n_prefixes, r->prefixes_size))
		return -ENOMEM;
	r->prefixes[r->n_prefixes++] = *prefix;
	return 0;
}

/* -ENOENT if there is no such object, -EINTR if the answer is not consistent. */
static int read_objects(struct table_reader *r, uint16_t type, const char *set,
			int (*reply)(const struct nlmsghdr *nlh, void *data))
{
	const struct request request = {
		.family = r->family,
		.type = type,
		.dump = type != NFT_MSG_GETTABLE,
		.table = TABLE_NAME,
		.set = set,
	};
	struct errbuf eb;
	int err = request_send(r->nl, &request, reply, r, &eb);

	if (err && err != -ENOENT)
		errf(r->eb, err, "table %s vipmap: cannot read it: %s",
		     family_keyword(r->family), eb.text);
	return err;
}

/* What a list that is read again leaves behind. */

static void forget_chains(struct table_reader *r)
{
	r->n_chains = r->current = 0;
	memset(r->has_chain, 0, sizeof(r->has_chain));
}

static void forget_rules(struct table_reader *r)
{
	unsigned int i;

	for (i = 0; i < r->n_chains; i++) {
		r->chains[i].digest = 0;
		r->chains[i].foreign = false;
	}
}

static void forget_sets(struct table_reader *r)
{
	r->affinities.count = r->ranges.count = 0;
	memset(r->has_set, 0, sizeof(r->has_set));
}

static void forget_flowtable(struct table_reader *r)
{
	r->has_flowtable = false;
}

static const struct table_list {
	uint16_t type;
	int (*reply)(const struct nlmsghdr *nlh, void *data);
	void (*forget)(struct table_reader *r);
} lists[] = {
	{ NFT_MSG_GETCHAIN, on_chain, forget_chains },
	{ NFT_MSG_GETRULE, on_rule, forget_rules },
	{ NFT_MSG_GETSET, on_set, forget_sets },
	{ NFT_MSG_GETOBJ, on_object, NULL },
	{ NFT_MSG_GETFLOWTABLE, on_flowtable, forget_flowtable },
};

static int read_list(struct table_reader *r, const struct table_list *list)
{
	const enum table_state before = r->state;
	const int64_t until_ms = nlsock_now_ms(r->nl) + LIST_TRIED_MS;
	int err = -EINTR, attempt;

	for (attempt = 0; err == -EINTR && (attempt < LIST_ATTEMPTS ||
					    nlsock_now_ms(r->nl) < until_ms);
	     attempt++) {
		r->state = before;
		if (list->forget)
			list->forget(r);
		err = read_objects(r, list->type, NULL, list->reply);
	}
	return err == -ENOENT ? -EINTR : err;
}

/* The program's name, "" if there is no such process or it cannot be told. */
static void process_name(uint32_t pid, char name[PROCESS_NAME_SIZE])
{
	char path[32];
	FILE *f;

	name[0] = '\0';
	snprintf(path, sizeof(path), "/proc/%" PRIu32 "/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(name, PROCESS_NAME_SIZE, f))
		name[strcspn(name, "\n")] = '\0';
	fclose(f);
}

/*
 * The first netlink socket of a process has its pid as port, as seen in its own pid namespace, and
 * others have made-up ones. So the number is worth a look, and no more.
 */
static void judge_owned(struct table_reader *r)
{
	const char *family = family_keyword(r->family);
	char name[PROCESS_NAME_SIZE] = "";

	r->state = TABLE_OWNED;
	if (r->owner != (uint32_t)getpid())
		process_name(r->owner, name);
	if (strcmp(name, "vipmap") == 0)
		errf(r->eb, 0,
		     "another vipmap (pid %" PRIu32 ") owns table %s vipmap",
		     r->owner, family);
	else if (name[0])
		errf(r->eb, 0,
		     "another process (%s, pid %" PRIu32 ") owns table %s vipmap",
		     name, r->owner, family);
	else
		errf(r->eb, 0,
		     "another process (netlink port %" PRIu32
		     ") owns table %s vipmap, a vipmap in "
		     "a container perhaps",
		     r->owner, family);
}

static int read_layout(struct table_reader *r)
{
	unsigned int i;
	int err;

	r->state = TABLE_ABSENT;
	err = read_objects(r, NFT_MSG_GETTABLE, NULL, on_table);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (r->owner && r->owner != nlsock_port_id(r->nl) && !r->found->whoever) {
		judge_owned(r);
		return 0;
	}
	for (i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		err = read_list(r, &lists[i]);
		if (err)
			return err;
	}
	check_sets(r);
	check_chains(r);
	check_flowtable_chain(r);
	return 0;
}

/* Whether to ask for the elements of a set that ought to be there, instead of listing all. */
static bool by_key(struct table_reader *r)
{
	uint64_t expected, count = r->set_count[r->set].n;

	if (!set_has_index(r->set))
		return false;
	expected = lists_expect(&r->lists, r->set);
	if (!r->set_count[r->set].known)
		return expected >= VERY_MANY_ELEMENTS;
	return expected >= MANY_ELEMENTS && count <= expected &&
	       expected - count <= MAX_MISSING;
}

static int on_asked(void *ctx, const struct nlattr *attr)
{
	struct table_reader *r = ctx;

	r->n_asked++;
	return on_element(r, attr);
}

static int read_by_key(struct table_reader *r)
{
	const unsigned int max_missing =
		r->set_count[r->set].known ? MAX_MISSING : UINT32_MAX;
	struct errbuf eb;
	int err;

	r->n_asked = 0;
	err = lists_fetch(&r->lists, r->nl, r->family, r->set, max_missing,
			  on_asked, r, &eb);
	if (err)
		errf(r->eb, err, "table %s vipmap: cannot read set %s: %s",
		     family_keyword(r->family), r->set_name, eb.text);
	return err;
}

static int read_by_dump(struct table_reader *r)
{
	int err = read_objects(r, NFT_MSG_GETSETELEM, r->set_name, on_elements);

	if (err != -EINTR)
		return err;
	r->interrupted = true;
	return 0;
}

static int read_set(struct table_reader *r)
{
	int err;

	r->skip_expected = false;
	if (by_key(r)) {
		err = read_by_key(r);
		if (err || !r->set_count[r->set].known ||
		    r->n_asked == r->set_count[r->set].n)
			return err;
		/* There is something else in the set. */
		r->skip_expected = true;
	}
	return read_by_dump(r);
}

/*
 * Of the set that was just read. A bound without its partner, or a range that
 * is no prefix, is not of our making, and with it nobody can tell which of the
 * other bounds belong together, so no single element can be mended. The table
 * is replaced, in one transaction: packets notice nothing but that session
 * affinity begins anew. Where tables are owned, only a process that ran while
 * we did not can have written such a thing.
 */
static int join_bounds(struct table_reader *r)
{
	int err = bounds_join(r->family, r->bounds, r->n_bounds, on_prefix, r);

	r->n_bounds = 0;
	return err == -EINVAL ? judge_table(r, TABLE_OTHER,
					    "foreign element in", r->set_name)
			      : err;
}

static int read_elements(struct table_reader *r)
{
	int err;

	for (r->set = 0; r->set < N_SETS && r->state != TABLE_OTHER; r->set++) {
		if (!r->has_set[r->set] || !set_is_in(r->ruleset->parts, r->set))
			continue;
		r->set_name = set_name(r->set);
		err = read_set(r);
		if (err)
			return err == -ENOENT ? -EINTR : err;
		if (r->n_bounds)
			err = join_bounds(r);
		if (err)
			return err;
	}
	return 0;
}

/* Sets and their chains are made together, so both come in the same order. */
static const struct found_chain *firewall_of(struct table_reader *r,
					     const char *ranges)
{
	struct chain chain;

	chain_firewall(ranges, &chain);
	return find_chain(r, chain.name);
}

static unsigned int count_firewalls(const struct table_reader *r)
{
	unsigned int i, n = 0;

	for (i = 0; i < r->n_chains; i++)
		n += r->chains[i].kind == CHAIN_IS_FIREWALL;
	return n;
}

static int read_range_sets(struct table_reader *r)
{
	const struct readback *found = r->found;
	const struct found_chain *chain;
	unsigned int i;
	int err;

	if (r->state != TABLE_OTHER && count_firewalls(r) != r->ranges.count)
		judge_table(r, TABLE_OTHER, "has firewall chains without",
			    "source ranges");
	r->set = SET_SOURCE_RANGES;
	for (i = 0; i < r->ranges.count && r->state != TABLE_OTHER; i++) {
		r->set_name = r->ranges.items[i];
		r->n_prefixes = 0;
		chain = firewall_of(r, r->set_name);
		if (!chain)
			return judge_table(r, TABLE_OTHER,
					   "lacks the chain that looks into",
					   r->set_name);
		err = read_by_dump(r);
		if (!err)
			err = join_bounds(r);
		if (err)
			return err == -ENOENT ? -EINTR : err;
		if (found->ranges)
			found->ranges(found->ctx, r->set_name, r->prefixes,
				      r->n_prefixes, chain->digest);
	}
	return 0;
}

static void report_objects(const struct table_reader *r)
{
	const struct readback *found = r->found;
	unsigned int i;

	if (found->parts)
		found->parts(found->ctx, parts_found(r));
	for (i = 0; found->affinity && i < r->affinities.count; i++)
		found->affinity(found->ctx, r->affinities.items[i]);
	for (i = 0; i < r->n_chains; i++) {
		if (found->pick && r->chains[i].kind == CHAIN_IS_PICK)
			found->pick(found->ctx, &r->chains[i].pick,
				    r->chains[i].digest);
		if (found->sticky && r->chains[i].kind == CHAIN_IS_STICKY)
			found->sticky(found->ctx, r->chains[i].name,
				      r->chains[i].digest);
	}
}

static int read_counts(struct table_reader *r)
{
	int err = 0;

	r->only_counts = true;
	for (r->set = 0; !err && r->set < N_SETS; r->set++) {
		if (!r->has_set[r->set] || !set_counts(r->ruleset->parts, r->set))
			continue;
		r->set_name = set_name(r->set);
		err = read_by_dump(r);
	}
	return err == -ENOENT ? -EINTR : err;
}

static int read_table(struct table_reader *r)
{
	int err = read_layout(r);

	if (!err && r->state == TABLE_OTHER && r->found->counted)
		return read_counts(r);
	if (err || (r->state != TABLE_CURRENT && r->state != TABLE_RULES_DIFFER))
		return err;
	report_objects(r);
	err = read_elements(r);
	return err ? err : read_range_sets(r);
}

/* Whether our table is not what it was when reading began. @m: listens since then, or NULL. */
static int check_unchanged(struct table_reader *r, uint32_t generation_before,
			   struct monitor *m)
{
	unsigned int changed = 1u << r->family;
	uint32_t generation;
	int err = readback_generation(r->nl, &generation, r->eb);

	if (err || (generation == generation_before && !r->interrupted))
		return err;
	err = m ? monitor_read(m, &changed, r->eb) : 0;
	if (!err && (changed & 1u << r->family))
		err = errf(r->eb, -EINTR,
			   "table %s vipmap: it changed while it was read",
			   family_keyword(r->family));
	return err;
}

int readback_table(struct nlsock *nl, const struct ruleset *ruleset,
		   const struct readback *found, enum table_state *state,
		   struct errbuf *eb)
{
	struct table_reader r = { .nl = nl,
				  .ruleset = ruleset,
				  .family = ruleset->family,
				  .found = found,
				  .eb = eb };
	/* A stand-in for the kernel has no port and sends no notifications. */
	struct monitor *m = nlsock_port_id(nl) ? monitor_open(0, eb) : NULL;
	uint32_t generation;
	int err;

	err = readback_generation(nl, &generation, eb);
	if (!err)
		err = read_table(&r);
	if (!err)
		err = check_unchanged(&r, generation, m);
	if (!err)
		*state = r.state;
	monitor_close(m);
	arena_free(&r.arena);
	free(r.chains);
	free(r.affinities.items);
	free(r.ranges.items);
	free(r.bounds);
	free(r.prefixes);
	lists_free(&r.lists);
	return err;
}

uint64_t pick_digest(const struct ruleset *ruleset, const struct verdict *pick)
{
	struct chain chain;

	chain_pick(ruleset, pick, &chain);
	return chain_digest(ruleset->family, &chain);
}

uint64_t sticky_digest(const struct ruleset *ruleset,
		       const struct sticky_chain *sticky)
{
	struct chain chain;

	chain_sticky(sticky, &chain);
	return chain_digest(ruleset->family, &chain);
}

uint64_t firewall_digest(const struct ruleset *ruleset, const char *ranges)
{
	struct chain chain;

	chain_firewall(ranges, &chain);
	return chain_digest(ruleset->family, &chain);
}

static int on_generation(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_GEN_MAX + 1];

	if (!message_is(nlh, NFT_MSG_NEWGEN))
		return 0;
	message_attrs(nlh, attrs, NFTA_GEN_MAX + 1);
	*(uint32_t *)data = attr_u32(attrs[NFTA_GEN_ID], 0);
	return 0;
}

int readback_generation(struct nlsock *nl, uint32_t *generation, struct errbuf *eb)
{
	const struct request request = { .family = ANY_FAMILY,
					 .type = NFT_MSG_GETGEN };
	uint32_t id = 0;
	int err = request_send(nl, &request, on_generation, &id, eb);

	if (!err)
		*generation = id;
	return err;
}
