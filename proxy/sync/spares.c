/*
 * What is made follows from the dispatches alone, so that the text of a ruleset
 * has the same chains as a table that is filled.
 *
 * Chains of one map differ in how they masquerade. The first Service with an
 * external address must not find that map full, so there are some for it. A map
 * that nobody uses is empty when somebody begins to, and nothing is made for
 * it.
 *
 * There is a price, so they are few: whenever an element comes, the kernel
 * visits all rules that bind its map, two of each chain, 13 ns each. A hundred
 * more make the filling of a table take half as long again.
 */
#include "proxy/sync/spares.h"

#include <assert.h>
#include <errno.h>

enum {
	SMALL_COUNT =
		8, /* every number of endpoints up to it, of kinds that are in use */
	FIRST_COUNT = 3, /* of kinds that are not, in a map that is */
};

struct spares {
	struct registry *registry;
	int64_t now_us;
	uint32_t kinds; /* a bit for each combination of enum pick_flags */
	struct verdict last;
	int err;
};

_Static_assert(N_PICKS <= 32, "a bit for each kind of pick chain");

static void spare_pick(struct spares *s, unsigned int pick, uint32_t count)
{
	const struct verdict v = { VERDICT_PICK, (uint8_t)pick, count };

	assert(pick < N_PICKS);
	if (!s->err && count)
		s->err = registry_spare_pick(s->registry, &v, s->now_us);
}

/* Neighbours mostly go to the same chain. */
static void note_verdict(struct spares *s, const struct verdict *v)
{
	if (v->kind != VERDICT_PICK ||
	    (v->pick == s->last.pick && v->count == s->last.count))
		return;
	assert(v->count && v->pick < N_PICKS);
	s->last = *v;
	s->kinds |= 1u << v->pick;
	spare_pick(s, v->pick, v->count - 1);
	spare_pick(s, v->pick, v->count);
	if (v->count < UINT32_MAX)
		spare_pick(s, v->pick, v->count + 1);
}

static void note_program(struct spares *s, const struct dispatch *dispatch,
			 enum family family, struct arena *scratch)
{
	const struct element *list;
	size_t i, count;

	if (!s->err)
		s->err = dispatch_elements(dispatch, family, scratch, &list,
					   &count);
	for (i = 0; !s->err && i < count; i++)
		note_verdict(s, &list[i].verdict);
	arena_reset(scratch);
}

static void small_counts(struct spares *s, unsigned int pick)
{
	const uint32_t last = s->kinds & 1u << pick ? SMALL_COUNT : FIRST_COUNT;
	uint32_t count;

	assert(pick < N_PICKS);
	for (count = 1; count <= last; count++)
		spare_pick(s, pick, count);
}

unsigned int spares_weight(const struct dispatch *dispatch)
{
	if (!dispatch || !dispatch->n_vips)
		return 0;
	return dispatch->cluster.count > dispatch->local.count
		       ? dispatch->cluster.count
		       : dispatch->local.count;
}

int spares_want(struct registry *r,
		const struct dispatch *(*dispatch)(void *ctx, unsigned int i),
		void *ctx, unsigned int n, enum family family,
		struct arena *scratch, int64_t now_us)
{
	struct spares s = { .registry = r, .now_us = now_us };
	uint64_t weight = 0;
	unsigned int i, pick;

	for (i = 0; i < n; i++)
		weight += spares_weight(dispatch(ctx, i));
	if (weight < SPARES_FROM)
		return 0;
	for (i = 0; i < n; i++)
		note_program(&s, dispatch(ctx, i), family, scratch);
	for (pick = 0; pick < N_PICKS; pick++) {
		const unsigned int map =
			pick & ~(unsigned int)(PICK_CLUSTER | PICK_EXTERNAL);

		if (!(s.kinds & 1u << pick))
			continue;
		small_counts(&s, map);
		small_counts(&s, map | PICK_CLUSTER);
		small_counts(&s, map | PICK_EXTERNAL);
	}
	return s.err;
}
