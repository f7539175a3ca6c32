/*
 * Counting connections (BEY-5): when counts are asked for, so that what is
 * replaced does not lose them.
 */
#include "proxy/sync/dataplane_internal.h"

#include "nft/lookup.h"

#include <errno.h>
#include <syslog.h>

int dp_counts_begin(struct dataplane *dp)
{
	if (!(dp->ruleset.parts & PART_COUNTERS)) {
		counts_free(dp->counts);
		dp->counts = NULL;
		return 0;
	}
	if (!dp->counts)
		dp->counts = counts_new();
	if (!dp->counts)
		return -ENOMEM;
	counts_begin(dp->counts);
	return 0;
}

static void note_count(void *ctx, const struct element *el)
{
	counts_note(ctx, el);
}

/*
 * Connections that come between this and the commit, a few milliseconds, are not counted. Rules
 * matter more than counts: after a failure these begin with what was known before.
 */
bool dp_counts_ask(struct dataplane *dp)
{
	const struct element *keys;
	struct errbuf eb;
	size_t count;

	if (!dp->counts)
		return false;
	keys = counts_questions(dp->counts, &count);
	if (lookup_elements(dp->nl, dp->family, keys, count, note_count,
			    dp->counts, &eb))
		model_log(dp->model, LOG_WARNING,
			  "%s: some connections are not counted: %s",
			  family_name(dp->family), eb.text);
	return count;
}

void dp_counts_foresee(struct dataplane *dp, struct difference *t)
{
	unsigned int i;

	if (!dp->counts)
		return;
	for (i = 0; i < dp->n_changed; i++)
		if (!dp->changed[i]->desired_is_applied)
			difference_foresee(t, dp->changed[i]->applied,
					   dp->changed[i]->desired);
	dp_counts_ask(dp);
}

int dataplane_count(struct dataplane *dp, struct element *keys, size_t count,
		    struct errbuf *eb)
{
	size_t i;
	int err;

	if (!dp->counts)
		return errf(eb, -ENODATA, "%s: connections are not counted",
			    family_name(dp->family));
	err = lookup_elements(dp->nl, dp->family, keys, count, note_count,
			      dp->counts, eb);
	for (i = 0; !err && i < count; i++)
		keys[i].count = counts_of(dp->counts, &keys[i]);
	return err;
}
