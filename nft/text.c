/*
 * A table as nft text. The verbs only collect; printing sorts, so that the
 * order of calls does not show and the same model gives the same bytes. Each
 * thing is printed in exactly one way, near to how nft itself lists it.
 */
#include "nft/text.h"
#include "nft/flowtable.h"
#include "nft/layout.h"
#include "proxy/base/arena.h"
#include "proxy/base/array.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdlib.h>
#include <string.h>

struct affinity {
	const char *name, *comment;
};

struct array {
	void *items;
	size_t count, room; /* in items */
};

struct text {
	struct writer writer;
	struct ruleset ruleset;
	struct arena strings;
	const char *last_comment,
		*last_ranges; /* neighbours mostly have the same */
	struct array elements, picks, affinities, stickies;
	struct array ranges;	/* const char *: names of sets */
	struct devices devices; /* borrowed; of the flowtable */
	int err;
};

/* Room for one more, or NULL with the error noted. */
static void *array_push(struct text *t, struct array *a, size_t item)
{
	void *items = array_grown(a->items, a->count, &a->room, item);

	assert(item);
	if (!items) {
		t->err = -ENOMEM;
		return NULL;
	}
	a->items = items;
	return (char *)a->items + a->count++ * item;
}

static const char *keep_string(struct text *t, const char *string)
{
	const char *copy = string ? arena_strdup(&t->strings, string) : NULL;

	if (string && !copy)
		t->err = -ENOMEM;
	return copy;
}

/* @last is what was kept before. */
static const char *keep_common(struct text *t, const char **last, const char *string)
{
	if (!string)
		return NULL;
	if (!*last || strcmp(*last, string) != 0)
		*last = keep_string(t, string);
	return *last;
}

/* A text is of a whole table: nothing can change in it. */
static bool is_add(struct text *t, enum change change)
{
	if (change != CHANGE_ADD)
		t->err = -EINVAL;
	return change == CHANGE_ADD;
}

static void print_table_head(void *ctx, enum change change, unsigned int parts)
{
	(void)parts;
	(void)is_add(ctx, change);
}

static void add_pick(void *ctx, enum change change, const struct verdict *pick)
{
	struct text *t = ctx;
	struct verdict *v =
		is_add(t, change) ? array_push(t, &t->picks, sizeof(*v)) : NULL;

	if (v)
		*v = *pick;
}

static void add_affinity(void *ctx, enum change change, const char *name,
			 const char *comment)
{
	struct text *t = ctx;
	struct affinity *a = is_add(t, change)
				     ? array_push(t, &t->affinities, sizeof(*a))
				     : NULL;

	if (a)
		*a = (struct affinity){ keep_string(t, name),
					keep_string(t, comment) };
}

static void add_sticky(void *ctx, enum change change,
		       const struct sticky_chain *chain)
{
	struct text *t = ctx;
	struct sticky_chain *s =
		is_add(t, change) ? array_push(t, &t->stickies, sizeof(*s)) : NULL;

	if (!s)
		return;
	if (!chain->protocol)
		t->err = -EINVAL;
	*s = *chain;
	s->name = keep_string(t, chain->name);
	s->map = keep_string(t, chain->map);
}

static void add_ranges(void *ctx, enum change change, const char *set)
{
	struct text *t = ctx;
	const char **name = is_add(t, change)
				    ? array_push(t, &t->ranges, sizeof(*name))
				    : NULL;

	if (name)
		*name = keep_string(t, set);
}

static void collect_element(void *ctx, enum change change,
			    const struct element *element, void *owner)
{
	struct text *t = ctx;
	struct element *e = is_add(t, change)
				    ? array_push(t, &t->elements, sizeof(*e))
				    : NULL;

	(void)owner;
	if (!e)
		return;
	if (!element_is_whole(element))
		t->err = -EINVAL;
	*e = *element;
	e->chain = keep_string(t, element->chain);
	e->ranges = keep_common(t, &t->last_ranges, element->ranges);
	e->comment = keep_common(t, &t->last_comment, element->comment);
}

struct text *text_new(const struct ruleset *ruleset)
{
	struct text *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ruleset = *ruleset;
	t->writer = (struct writer){
		.ctx = t,
		.table = print_table_head,
		.pick = add_pick,
		.affinity = add_affinity,
		.sticky = add_sticky,
		.ranges = add_ranges,
		.element = collect_element,
	};
	return t;
}

void text_free(struct text *t)
{
	if (!t)
		return;
	free(t->elements.items);
	free(t->picks.items);
	free(t->affinities.items);
	free(t->stickies.items);
	free(t->ranges.items);
	arena_free(&t->strings);
	free(t);
}

void text_set_devices(struct text *t, const struct devices *devices)
{
	t->devices = *devices;
}

const struct writer *text_writer(struct text *t)
{
	return &t->writer;
}

static int element_text_order(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

static int compare_picks(const void *a, const void *b)
{
	const struct verdict *one = a, *two = b;

	if (one->pick != two->pick)
		return one->pick < two->pick ? -1 : 1;
	return (one->count > two->count) - (one->count < two->count);
}

static int compare_affinities(const void *a, const void *b)
{
	return strcmp(((const struct affinity *)a)->name,
		      ((const struct affinity *)b)->name);
}

static int compare_stickies(const void *a, const void *b)
{
	return strcmp(((const struct sticky_chain *)a)->name,
		      ((const struct sticky_chain *)b)->name);
}

static int name_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void sort_array(struct array *a, size_t item,
		       int (*compare)(const void *a, const void *b))
{
	if (a->count)
		qsort(a->items, a->count, item, compare);
}

/* One address needs no length. */
static void print_range(struct strbuf *out, enum family family,
			const struct prefix *range)
{
	char text[PREFIX_TEXT_SIZE];

	if (range->length == family_bits(family))
		strbuf_adds(out, addr_format(family, &range->addr, text));
	else
		strbuf_adds(out, prefix_format(family, range, text));
}

static void print_element_field(struct strbuf *out, enum family family,
				const struct element *e, enum field field)
{
	char text[ADDR_TEXT_SIZE];

	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
		if (set_has_range(e->set))
			print_range(out, family, &e->range);
		else
			strbuf_adds(out, addr_format(family, &e->addr, text));
		break;
	case FIELD_PROTOCOL:
		strbuf_adds(out, protocol_name(e->protocol));
		break;
	case FIELD_PORT:
		strbuf_addf(out, "%u", e->port);
		break;
	case FIELD_INDEX:
		strbuf_addf(out, "%" PRIu32, e->index);
		break;
	case FIELD_ORIGINAL:
		break;
	}
}

static void print_element_data(struct strbuf *out, enum family family,
			       const struct element *e)
{
	char text[ADDR_TEXT_SIZE], name[PICK_NAME_SIZE];
	const char *chain;

	switch (set_layout(e->set)->data) {
	case DATA_VERDICT:
		chain = verdict_chain(&e->verdict, e->chain, name);
		if (chain)
			strbuf_addf(out, " : goto %s", chain);
		else
			strbuf_adds(out, e->verdict.kind == VERDICT_PASS
						 ? " : accept"
						 : " : drop");
		break;
	case DATA_ENDPOINT:
		strbuf_addf(out, " : %s . %u",
			    addr_format(family, &e->endpoint, text),
			    e->endpoint_port);
		break;
	}
}

static void print_comment(struct strbuf *out, const char *comment)
{
	char text[COMMENT_MAX + 1];

	comment_copy(comment, text);
	strbuf_addf(out, "comment \"%s\"", text);
}

static void print_element_key(struct strbuf *out, enum family family,
			      const struct element *e)
{
	const struct key *key = &set_layout(e->set)->key;
	unsigned int i;

	for (i = 0; i < key->n; i++) {
		if (i)
			strbuf_adds(out, " . ");
		print_element_field(out, family, e, key->fields[i]);
	}
}

static void print_element(struct strbuf *out, enum family family,
			  const struct element *e, bool counts)
{
	print_element_key(out, family, e);
	if (counts)
		strbuf_adds(out, " counter");
	if (e->comment) {
		strbuf_addc(out, ' ');
		print_comment(out, e->comment);
	}
	print_element_data(out, family, e);
}

void text_print_element(struct strbuf *out, enum family family,
			const struct element *element, bool with_data)
{
	struct element key;

	if (with_data) {
		print_element(out, family, element, false);
		return;
	}
	key = *element;
	key.comment = NULL;
	print_element_key(out, family, &key);
}

/* What stands at the head of a set: type, size, flags and counter, in nft's order. */
static void print_layout(struct strbuf *out, enum family family,
			 const struct set_layout *layout, bool counts)
{
	strbuf_adds(out, "\t\ttypeof ");
	typeof_print(family, layout, out);
	strbuf_addc(out, '\n');
	if (layout->size)
		strbuf_addf(out, "\t\tsize %" PRIu32 "\n", layout->size);
	if (layout->flags & NFT_SET_INTERVAL)
		strbuf_adds(out, "\t\tflags interval\n");
	if (layout->flags & NFT_SET_EVAL)
		strbuf_adds(out, "\t\tflags dynamic,timeout\n");
	if (counts)
		strbuf_adds(out, "\t\tcounter\n");
}

static bool is_in_set(const struct element *e, enum set_id set, const char *name)
{
	return e->set == set && (!e->ranges || strcmp(e->ranges, name) == 0);
}

/* Prints the elements from @e on that are of the set, and returns the first that is not. */
static const struct element *
print_set(struct strbuf *out, const struct ruleset *ruleset, enum set_id set,
	  const char *name, const struct element *e, const struct element *end)
{
	const enum family family = ruleset->family;
	const struct set_layout *layout = set_layout(set);
	const struct element *first = e;
	const bool counts = set_counts(ruleset->parts, set);

	strbuf_addf(out, "\n\t%s %s {\n", layout->data ? "map" : "set", name);
	print_layout(out, family, layout, counts);
	for (; e < end && is_in_set(e, set, name); e++) {
		strbuf_adds(out, e == first ? "\t\telements = { "
					    : ",\n\t\t\t     ");
		print_element(out, family, e, counts);
	}
	strbuf_adds(out, e == first ? "\t}\n" : " }\n\t}\n");
	return e;
}

static void print_affinity(struct strbuf *out, enum family family,
			   const struct affinity *a)
{
	strbuf_addf(out, "\n\tmap %s {\n", a->name);
	print_layout(out, family, affinity_layout(), false);
	if (a->comment) {
		strbuf_adds(out, "\t\t");
		print_comment(out, a->comment);
		strbuf_addc(out, '\n');
	}
	strbuf_adds(out, "\t}\n");
}

static void print_hook(struct strbuf *out, const struct chain *chain)
{
	switch (chain->hook) {
	case NF_INET_PRE_ROUTING:
		strbuf_adds(out, "\t\ttype nat hook prerouting priority dstnat");
		break;
	case NF_INET_FORWARD:
		strbuf_adds(out,
			    "\t\ttype filter hook forward priority filter + 10");
		break;
	case NF_INET_POST_ROUTING:
		strbuf_adds(out, "\t\ttype nat hook postrouting priority srcnat");
		break;
	default:
		/* No nft before 1.0.7 knows dstnat by name here. */
		strbuf_addf(out, "\t\ttype nat hook output priority %" PRId32,
			    chain->priority);
	}
	strbuf_adds(out, "; policy accept;\n");
}

static void print_chain(struct strbuf *out, enum family family,
			const struct chain *chain)
{
	unsigned int i;

	strbuf_addf(out, "\n\tchain %s {\n", chain->name);
	if (chain->has_hook)
		print_hook(out, chain);
	for (i = 0; i < chain->n_rules; i++) {
		strbuf_adds(out, "\t\t");
		rule_print(family, &chain->rules[i], out);
		strbuf_addc(out, '\n');
	}
	strbuf_adds(out, "\t}\n");
}

static void print_chains(const struct text *t, struct strbuf *out)
{
	const struct sticky_chain *stickies = t->stickies.items;
	const struct verdict *picks = t->picks.items;
	const char *const *ranges = t->ranges.items;
	struct chain chain;
	size_t i;

	for (i = 0; i < N_CHAINS; i++) {
		if (!chain_is_in(t->ruleset.parts, (enum chain_id)i))
			continue;
		chain_constant(&t->ruleset, (enum chain_id)i, &chain);
		print_chain(out, t->ruleset.family, &chain);
	}
	for (i = 0; i < t->picks.count; i++) {
		chain_pick(&t->ruleset, &picks[i], &chain);
		print_chain(out, t->ruleset.family, &chain);
	}
	for (i = 0; i < t->stickies.count; i++) {
		chain_sticky(&stickies[i], &chain);
		print_chain(out, t->ruleset.family, &chain);
	}
	for (i = 0; i < t->ranges.count; i++) {
		chain_firewall(ranges[i], &chain);
		print_chain(out, t->ruleset.family, &chain);
	}
}

static void print_flowtable(const struct text *t, struct strbuf *out)
{
	unsigned int i;

	strbuf_addf(out, "\n\tflowtable %s {\n\t\thook ingress priority filter\n",
		    FLOWTABLE_NAME);
	for (i = 0; i < t->devices.count; i++)
		strbuf_addf(out, "%s%s", i ? ", " : "\t\tdevices = { ",
			    t->devices.names[i]);
	strbuf_adds(out, i ? " }\n\t}\n" : "\t}\n");
}

int text_print(struct text *t, struct strbuf *out)
{
	const struct element *e = t->elements.items,
			     *end = e ? e + t->elements.count : NULL;
	const struct affinity *affinities = t->affinities.items;
	const char *const *ranges = t->ranges.items;
	enum family family = t->ruleset.family;
	size_t i;

	if (t->err)
		return t->err;
	sort_array(&t->elements, sizeof(struct element), element_text_order);
	sort_array(&t->picks, sizeof(struct verdict), compare_picks);
	sort_array(&t->affinities, sizeof(struct affinity), compare_affinities);
	sort_array(&t->stickies, sizeof(struct sticky_chain), compare_stickies);
	sort_array(&t->ranges, sizeof(const char *), name_order);

	strbuf_addf(out, "table %s %s {\n\tcomment \"%s\"\n",
		    family_keyword(family), TABLE_NAME, TABLE_COMMENT);
	for (i = 0; i < N_SETS; i++)
		if (set_is_in(t->ruleset.parts, (enum set_id)i))
			e = print_set(out, &t->ruleset, (enum set_id)i,
				      set_name(i), e, end);
	if (t->ruleset.parts & PART_FAST_PATH)
		print_flowtable(t, out);
	for (i = 0; i < t->affinities.count; i++)
		print_affinity(out, family, &affinities[i]);
	for (i = 0; i < t->ranges.count; i++)
		e = print_set(out, &t->ruleset, SET_SOURCE_RANGES, ranges[i], e,
			      end);
	print_chains(t, out);
	strbuf_adds(out, "}\n");
	return out->err;
}
