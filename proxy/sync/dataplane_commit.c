/*
 * Committing one transaction: a large one while nobody listens to notifications, and the table is
 * taken over from an earlier process by the first.
 */
#include "proxy/sync/dataplane_internal.h"

#include <assert.h>
#include <errno.h>

enum {
	BULK = 1000, /* elements of a large transaction */
};

/*
 * A large transaction is committed while nobody listens to notifications. What
 * others may have changed meanwhile shows in the ruleset's generation, of which
 * each of ours takes one.
 */
static int send_bulk(struct dataplane *dp, struct batch *b,
		     struct refusal *refusal, struct errbuf *eb)
{
	uint32_t before = 0, after = 0;
	struct errbuf ignored;
	bool counted;
	int err;

	assert(dp->bulk && !dp->owner);
	counted = readback_generation(dp->nl, &before, &ignored) == 0;
	dp->bulk(dp->bulk_ctx, true);
	err = batch_commit(b, dp->nl, COMMIT_TIMEOUT_MS, refusal, eb);
	dp->bulk(dp->bulk_ctx, false);
	counted = counted && readback_generation(dp->nl, &after, &ignored) == 0;
	dp->doubtful = !counted || after - before != batch_transactions(b);
	return err;
}

static int send_batch(struct dataplane *dp, struct batch *b,
		      struct refusal *refusal, struct errbuf *eb)
{
	const struct batch_counts counts = batch_counts(b);

	if (dp->bulk && !dp->owner &&
	    counts.elements_added + counts.elements_deleted > BULK)
		return send_bulk(dp, b, refusal, eb);
	return batch_commit(b, dp->nl, COMMIT_TIMEOUT_MS, refusal, eb);
}

struct difference dp_difference(struct dataplane *dp, const struct writer *writer,
				struct snapshot *snapshot)
{
	assert(writer);
	return (struct difference){
		.ruleset = &dp->ruleset,
		.registry = &dp->registry,
		.writer = writer,
		.snapshot = snapshot,
		.counts = dp->counts,
		.scratch = &dp->brief,
		.now_us = dp->now_us,
	};
}

int dp_commit(struct dataplane *dp, struct batch *b, int err,
	      struct sync_report *report, struct refusal *refusal,
	      struct errbuf *eb)
{
	struct batch_counts counts;
	int64_t start;

	assert(!dp->owned || dp->owner);
	assert(dp->nl);
	dp->doubtful = false;
	if (err)
		return errf(eb, err, "%s: out of memory", family_name(dp->family));
	/* Nothing to write, but a table that an earlier process left is taken over all the same. */
	if (batch_is_empty(b) && (!dp->owner || dp->owned))
		return 0;
	start = clock_monotonic_us(dp->clock);
	err = send_batch(dp, b, refusal, eb);
	report->commit_us += clock_monotonic_us(dp->clock) - start;
	if (err)
		return err;
	dp->owner = dp->owned = dp->owner && batch_is_owned(b);
	counts = batch_counts(b);
	report->wrote += batch_is_empty(b) ? 0 : batch_transactions(b);
	report->bytes += batch_size(b);
	report->elements_added += counts.elements_added;
	report->elements_deleted += counts.elements_deleted;
	return 0;
}

int dataplane_remove(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	static const struct readback nothing = { .ctx = NULL };
	const struct ruleset ruleset = { .family = family };
	enum table_state state;
	struct batch *b;
	int err;

	err = readback_table(nl, &ruleset, &nothing, &state, eb);
	if (err && err != -EINTR)
		return err;
	if (!err && state == TABLE_ABSENT)
		return 0;
	if (!err && state == TABLE_OWNED)
		return -EBUSY; /* eb says by whom */
	b = batch_new(&ruleset, 0);
	if (!b)
		return errf(eb, -ENOMEM, "out of memory");
	batch_writer(b)->table(batch_writer(b)->ctx, CHANGE_DELETE, 0);
	err = batch_commit(b, nl, COMMIT_TIMEOUT_MS, NULL, eb);
	batch_free(b);
	return err;
}
