/*
 * With a snapshot every element that is wanted is looked up in it, and the registry decides only
 * about chains and maps; without, only the difference between two dispatches is written.
 */
#include "proxy/sync/difference.h"

#include <assert.h>
#include <errno.h>

static bool is_counted(const struct difference *t, const struct element *el)
{
	return t->counts && set_is_counted(el->set);
}

/*
 * Without a snapshot, what is deleted was foreseen. With one, what takes the
 * place of an element may have another key, so all counts are of interest.
 */
static void write_element(struct difference *t, enum change change,
			  const struct element *el, struct service_port_state *port)
{
	struct element counted;

	assert(change == CHANGE_ADD || change == CHANGE_DELETE);
	if (is_counted(t, el) && change == CHANGE_ADD) {
		counted = *el;
		counted.count = counts_stay(t->counts, el);
		el = &counted;
	} else if (is_counted(t, el) && t->snapshot) {
		counts_gone(t->counts, el);
	}
	t->writer->element(t->writer->ctx, change, el, port);
}

/* An element begins or ceases to be wanted by a service port. */
static void tell_element(struct difference *t, enum change change,
			 const struct element *el, struct service_port_state *port)
{
	struct registry *r = t->registry;
	const int by = change == CHANGE_ADD ? 1 : -1;

	assert(change == CHANGE_ADD || change == CHANGE_DELETE);
	/* What was set aside may be of a time when the set was asked for. */
	if (el->set == SET_PING_IPS && !(t->ruleset->parts & PART_PING_IPS))
		return;
	if (set_is_shared(el->set)) {
		t->err = t->err ? t->err : registry_want_shared(r, el, by);
		return;
	}
	if (el->verdict.kind == VERDICT_PICK && !t->err)
		t->err = registry_want_pick(r, &el->verdict, by, t->now_us);
	if (t->snapshot)
		return; /* what to write is decided by comparison */
	write_element(t, change, el, port);
}

static void match_element(struct difference *t, const struct element *el,
			  struct service_port_state *port)
{
	assert(t->snapshot);
	switch (snapshot_match(t->snapshot, el)) {
	case SNAPSHOT_SAME:
		if (is_counted(t, el))
			counts_stay(t->counts, el);
		return;
	case SNAPSHOT_DIFFERS:
		write_element(t, CHANGE_DELETE, el, port);
		break;
	case SNAPSHOT_MISSING:
		break;
	}
	write_element(t, CHANGE_ADD, el, port);
}

/* Merges two sorted lists of elements. */
static void merge_elements(struct difference *t, const struct element *from,
			   size_t n_from, const struct element *to, size_t n_to,
			   struct service_port_state *port)
{
	size_t i = 0, j = 0;
	int order;

	while (i < n_from || j < n_to) {
		order = i == n_from ? 1
			: j == n_to ? -1
				    : element_key_compare(&from[i], &to[j]);
		if (order == 0 && element_data_equal(&from[i], &to[j])) {
			i++;
			j++;
			continue;
		}
		if (order <= 0)
			tell_element(t, CHANGE_DELETE, &from[i++], port);
		if (order >= 0)
			tell_element(t, CHANGE_ADD, &to[j++], port);
	}
}

/* As merge_elements(), but only what is deleted. */
void difference_foresee(struct difference *t, const struct dispatch *from,
			const struct dispatch *to)
{
	const struct element *old, *new;
	size_t n_old, n_new, i = 0, j = 0;
	int order;

	if (!t->counts || t->err)
		return;
	t->err = dispatch_elements(from, t->ruleset->family, t->scratch, &old,
				   &n_old);
	if (!t->err)
		t->err = dispatch_elements(to, t->ruleset->family, t->scratch,
					   &new, &n_new);
	while (!t->err && i < n_old) {
		order = j == n_new ? -1 : element_key_compare(&old[i], &new[j]);
		if (order > 0) {
			j++;
			continue;
		}
		if (set_is_counted(old[i].set) &&
		    (order < 0 || !element_data_equal(&old[i], &new[j])))
			counts_gone(t->counts, &old[i]);
		i++;
		j += order == 0;
	}
	arena_reset(t->scratch);
}

/* The affinity objects of @p; those that the dispatch @other on the far side shares are left out.
 */
static void tell_sticky(struct difference *t, enum change change,
			const struct dispatch *p, const struct dispatch *other,
			bool local)
{
	const bool shares = dispatch_remembers(other, local) &&
			    other->affinity_timeout_s == p->affinity_timeout_s;
	const struct endpoint_list *list = dispatch_list(p, local);
	struct sticky_chain chain = { .protocol = p->protocol,
				      .timeout_s = p->affinity_timeout_s };
	char *map = affinity_map_name(p->sticky, local, t->scratch), *name;
	struct endpoint ep;
	unsigned int i;

	assert(p->affinity_timeout_s);
	if (!map)
		t->err = -ENOMEM;
	else if (!t->err)
		t->err = registry_want_map(t->registry, map, p->label,
					   change == CHANGE_ADD, t->now_us);
	chain.map = map;
	for (i = 0; !t->err && i < list->count; i++) {
		ep = endpoint_list_at(list, i);
		if (shares &&
		    endpoint_list_has_at(dispatch_list(other, local), i, &ep))
			continue;
		name = sticky_chain_name(p->sticky, local, t->ruleset->family,
					 &ep, t->scratch);
		if (!name) {
			t->err = -ENOMEM;
			return;
		}
		chain.name = name;
		chain.endpoint = ep.addr;
		chain.port = ep.port;
		t->err = registry_want_chain(t->registry, &chain,
					     change == CHANGE_ADD, t->ruleset,
					     t->writer, t->now_us);
	}
}

/* The Service's ranges, of which its ports have the same lists, but for one that is set aside. */
static void tell_ranges(struct difference *t, const struct dispatch *from,
			const struct dispatch *to, struct service_port_state *port)
{
	const bool had = dispatch_firewalled(from), has = dispatch_firewalled(to);
	const struct dispatch *p = has ? to : from;
	const char *set;

	if (!had && !has)
		return;
	assert(p && p->n_ranges);
	set = ranges_set_name(p->sticky, t->scratch);
	if (!set)
		t->err = -ENOMEM;
	else if (!t->err)
		t->err = registry_want_ranges(t->registry, set, p->ranges,
					      p->n_ranges, has - had, port,
					      t->now_us);
}

void difference_port(struct difference *t, const struct dispatch *from,
		     const struct dispatch *to, struct service_port_state *port)
{
	const struct element *old, *new;
	size_t n_old, n_new, i;
	int local, err;

	assert(!t->snapshot || !from);
	err = dispatch_elements(from, t->ruleset->family, t->scratch, &old, &n_old);
	if (!err)
		err = dispatch_elements(to, t->ruleset->family, t->scratch,
					&new, &n_new);
	if (err) {
		t->err = err;
		return;
	}
	for (local = 0; local < 2; local++)
		if (dispatch_remembers(from, local))
			tell_sticky(t, CHANGE_DELETE, from, to, local);
	for (local = 0; local < 2; local++)
		if (dispatch_remembers(to, local))
			tell_sticky(t, CHANGE_ADD, to, from, local);
	tell_ranges(t, from, to, port);
	merge_elements(t, old, n_old, new, n_new, port);
	for (i = 0; t->snapshot && i < n_new; i++)
		if (!set_is_shared(new[i].set))
			match_element(t, &new[i], port);
	arena_reset(t->scratch);
}

void difference_globals(struct difference *t, const struct element *from,
			size_t n_from, const struct element *to, size_t n_to)
{
	size_t i;

	assert((from || !n_from) && (to || !n_to));
	if (t->snapshot)
		for (i = 0; i < n_to; i++)
			match_element(t, &to[i], NULL);
	else
		merge_elements(t, from, n_from, to, n_to, NULL);
}

static void write_shared(void *ctx, enum change change, const struct element *el)
{
	write_element(ctx, change, el, NULL);
}

/* Only additions: what is not wanted shows by the snapshot. */
static void match_shared(void *ctx, enum change change, const struct element *el)
{
	if (change == CHANGE_ADD)
		match_element(ctx, el, NULL);
}

void difference_shared(struct difference *t)
{
	if (!t->err)
		registry_write(t->registry, t->writer,
			       t->snapshot ? match_shared : write_shared, t);
}

static void delete_element(void *ctx, const struct element *el)
{
	write_element(ctx, CHANGE_DELETE, el, NULL);
}

void difference_unseen(struct difference *t)
{
	assert(t->snapshot);
	snapshot_each_unseen(t->snapshot, delete_element, t);
}
