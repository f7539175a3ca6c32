/*
 * What the kernel has is remembered as each service port's applied dispatch,
 * and as three small registries of what service ports share: elements that
 * several may want (cluster-ips, hairpin), pick chains, and objects of session
 * affinity. A transaction walks the dispatches that differ.
 *
 * When the kernel's state is not known (start, foreign change, any failure),
 * the table is read back, the registries count afresh, and every dispatch is
 * compared with the table element by element. That is the only other path.
 *
 * Regret: a service port is compared whole, so an event costs time in
 * proportion to the endpoints of its Service, though the transaction contains
 * only what differs.
 */
#include "proxy/sync/dataplane_internal.h"

#include "proxy/sync/spares.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	IDLE_US = 10 * 1000 *
		  1000, /* unused objects wait this long for another use */
	COLLECT_RETRY_US = 60 * 1000 * 1000,
	PURGE_AT_ONCE_US = 5000, /* enough for a map with 5,000 clients */
};

struct dataplane *dataplane_new(const struct dataplane_options *options)
{
	struct dataplane *dp = calloc(1, sizeof(*dp));

	assert(options->model && options->family < N_FAMILIES);
	if (!dp)
		return NULL;
	dp->family = options->family;
	dp->model = options->model;
	dp->nl = options->nl;
	dp->clock = options->clock ? options->clock : clock_system();
	dp->stale = options->stale;
	dp->closing = options->closing;
	dp->compiled = options->compiled;
	dp->ctx = options->ctx;
	dp->bulk = options->bulk;
	dp->port_changed = options->changed;
	dp->bulk_ctx = options->bulk_ctx;
	dp->owner = options->owner;
	dp->interfaces = options->interfaces;
	dp->purge_later = options->purge_later;
	dp->retry_us = INT64_MAX;
	if (dp->nl) {
		dp->purges = purges_new(dp->nl, dp->clock, dp->family,
					dp->purge_later);
		if (!dp->purges) {
			free(dp);
			return NULL;
		}
	}
	return dp;
}

void dataplane_free(struct dataplane *dp)
{
	if (!dp)
		return;
	registry_free(&dp->registry);
	purges_free(dp->purges);
	counts_free(dp->counts);
	free(dp->globals);
	free(dp->changed);
	arena_free(&dp->scratch);
	arena_free(&dp->brief);
	free(dp);
}

void dataplane_forget(struct dataplane *dp)
{
	dp->known = false;
}

const struct dataplane_gauges *dataplane_gauges(const struct dataplane *dp)
{
	return &dp->gauges;
}

bool dataplane_is_owner(const struct dataplane *dp)
{
	return dp->owner;
}

const struct ruleset *dataplane_ruleset(const struct dataplane *dp)
{
	return &dp->ruleset;
}

bool dataplane_is_known(const struct dataplane *dp)
{
	return dp->known;
}

int64_t dataplane_retry_us(const struct dataplane *dp)
{
	return dp->retry_us;
}

static int sync_changes(struct dataplane *dp, struct sync_report *report,
			struct errbuf *eb)
{
	struct batch *b = batch_new(
		&dp->ruleset, BATCH_CHAINS_FIRST | (dp->owner ? BATCH_OWNER : 0));
	struct difference t;
	const struct element *globals = NULL;
	size_t n_globals = 0;
	struct refusal refusal = { 0 };
	unsigned int i;
	int err;

	if (!b)
		return errf(eb, -ENOMEM, "%s: out of memory",
			    family_name(dp->family));
	t = dp_difference(dp, batch_writer(b), NULL);
	dp_counts_foresee(dp, &t);
	for (i = 0; i < dp->n_changed; i++)
		if (!dp->changed[i]->desired_is_applied)
			difference_port(&t, dp->changed[i]->applied,
					dp->changed[i]->desired, dp->changed[i]);
	if (!t.err)
		t.err = dp_wanted_globals(dp, NULL, &globals, &n_globals);
	if (!t.err)
		difference_globals(&t, dp->globals, dp->n_globals, globals,
				   n_globals);
	difference_shared(&t);
	err = dp_commit(dp, b, t.err, report, &refusal, eb);
	if (!err)
		err = dp_globals_applied(dp, globals, n_globals);
	batch_free(b);
	if (err) {
		report->refused += refusal.err != 0;
		return err;
	}
	registry_applied(&dp->registry);
	if (dp->counts)
		counts_applied(dp->counts, false);
	dp->known = !dp->doubtful;
	for (i = 0; i < dp->n_changed; i++)
		dp_port_applied(dp, dp->changed[i], false);
	return 0;
}

static int service_order(const void *a, const void *b)
{
	const struct service_port_state *const *x = a, *const *y = b;
	const uintptr_t left = (uintptr_t)(*x)->service,
			right = (uintptr_t)(*y)->service;

	return (left > right) - (left < right);
}

/*
 * Forgets service ports and Services that are neither wanted nor applied any
 * more. Ports may be freed with their Service, so those of one Service are
 * brought together first: one that was compiled twice may have them at two
 * places of the list.
 */
static void prune_changed(struct dataplane *dp)
{
	struct service_entry *s;
	unsigned int i = 0;

	assert(dp->n_changed <= dp->changed_room);
	if (dp->n_changed > 1)
		qsort(dp->changed, dp->n_changed,
		      sizeof(struct service_port_state *), service_order);
	while (i < dp->n_changed) {
		for (s = dp->changed[i]->service; i < dp->n_changed; i++)
			if (dp->changed[i]->service != s)
				break;
		model_prune(dp->model, s);
	}
}

static void prune_all(struct dataplane *dp)
{
	struct service_entry *s;

	for_each_service_entry (s, dp->model)
		model_prune(dp->model, s);
}

int dataplane_sync(struct dataplane *dp, int64_t now_us,
		   struct sync_report *report, struct errbuf *eb)
{
	struct ruleset ruleset;
	int64_t start = clock_monotonic_us(dp->clock);
	bool partial = false;
	/* put in doubt by others, not by a failure or change of ours */
	bool repair = dp->in_step && !dp->known &&
		      !model_is_dirty(dp->model, dp->family);
	int err = 0;

	assert(dp->nl);
	if (model_catch_up(dp->model))
		return errf(eb, -ENOMEM, "%s: the node's addresses: out of memory",
			    family_name(dp->family));
	dp->now_us = now_us;
	dp->in_step = false;
	dp_changed_begin(dp);
	model_ruleset(dp->model, dp->family, &ruleset);
	if (memcmp(&ruleset, &dp->ruleset, sizeof(ruleset))) {
		memcpy(&dp->ruleset, &ruleset, sizeof(ruleset));
		dp->known = repair = false;
	}
	if (dp->retry_us <= now_us)
		dp->known = repair = false;
	if (dp_counts_begin(dp))
		return errf(eb, -ENOMEM, "%s: counting connections: out of memory",
			    family_name(dp->family));
	if (dp->known) {
		err = dp_compile_dirty(dp, NULL, report);
		report->compile_us += clock_monotonic_us(dp->clock) - start;
		if (err)
			errf(eb, err, "%s: out of memory", family_name(dp->family));
		else if (!dp_any_refused(dp))
			err = sync_changes(dp, report, eb);
		partial = !err && !dp_any_refused(dp);
		if (!partial)
			dp->known = false;
	}
	if (!partial && err != -ENOMEM) {
		err = dp_sync_full(dp, false, report, eb);
		if (err && dp_is_refusal(err))
			err = dp_sync_full(dp, true, report, eb);
	}
	if (report->full)
		dp_find_retry(dp);
	if (!err) {
		report->repair |= repair;
		dp->in_step = true;
		model_globals_settled(dp->model, dp->family);
		if (report->full)
			prune_all(dp);
		else
			prune_changed(dp);
	}
	dp_changed_begin(dp); /* after a failure the full sync looks at all of them */
	arena_reset(&dp->scratch);
	dataplane_purge(dp, dp->purge_later ? PURGE_AT_ONCE_US : INT64_MAX);
	return err;
}

int dataplane_collect(struct dataplane *dp, int64_t now_us, int64_t *again_us,
		      struct errbuf *eb)
{
	struct batch *b;
	int n, err;

	*again_us = INT64_MAX;
	if (!dp->known)
		return 0;
	assert(dp->nl);
	b = batch_new(&dp->ruleset, dp->owner ? BATCH_OWNER : 0);
	if (!b)
		return errf(eb, -ENOMEM, "out of memory");
	dp->registry.keep_picks =
		dp->gauges.endpoints >= SPARES_FROM ? SPARES_KEPT : 0;
	n = registry_collect(&dp->registry, batch_writer(b), now_us - IDLE_US);
	err = n ? batch_commit(b, dp->nl, COMMIT_TIMEOUT_MS, NULL, eb) : 0;
	batch_free(b);
	registry_collected(&dp->registry, err == 0);
	if (err) {
		dp->known = false;
		*again_us = now_us + COLLECT_RETRY_US;
		return err;
	}
	if (registry_collectable(&dp->registry))
		*again_us = now_us + IDLE_US;
	return n;
}

int dataplane_compile(struct dataplane *dp)
{
	struct sync_report report = { 0 };
	int err;

	dp_changed_begin(dp);
	err = dp_compile_dirty(dp, NULL, &report);
	dp_changed_begin(dp);
	return err;
}
