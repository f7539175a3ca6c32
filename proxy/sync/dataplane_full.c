/*
 * The full sync: the table is read back, the registries count afresh, and every
 * dispatch is compared with the table element by element. If the kernel refuses
 * the difference, the service port to blame is found by halving, and set aside.
 */
#include "proxy/sync/dataplane_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

enum {
	FILL_BYTES = 1 << 19, /* of one transaction that fills a new table */
	RANGE_BYTES = 80,     /* of these a source range of IPv6 takes */
	MAX_CULPRITS = 64, /* set aside in one sync; then the transaction counts as failed */
};

struct table_reading {
	struct dataplane *dp;
	struct snapshot *snapshot;
	unsigned int parts;
	int err;
};

static void found_parts(void *ctx, unsigned int parts)
{
	struct table_reading *r = ctx;

	r->parts = parts;
}

static void found_count(void *ctx, const struct element *el)
{
	struct table_reading *r = ctx;

	counts_note(r->dp->counts, el);
}

static void found_element(void *ctx, const struct element *el)
{
	struct table_reading *r = ctx;

	snapshot_add(r->snapshot, el);
	if (r->dp->counts)
		counts_note(r->dp->counts, el);
}

static void found_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	struct table_reading *r = ctx;
	const bool intact = digest == pick_digest(&r->dp->ruleset, pick);

	r->err = r->err ? r->err
			: registry_found_pick(&r->dp->registry, pick, intact,
					      r->dp->now_us);
}

static void found_affinity(void *ctx, const char *name)
{
	struct table_reading *r = ctx;

	r->err = r->err ? r->err
			: registry_found_map(&r->dp->registry, name, r->dp->now_us);
}

static void found_sticky(void *ctx, const char *name, uint64_t digest)
{
	struct table_reading *r = ctx;

	r->err = r->err ? r->err
			: registry_found_chain(&r->dp->registry, name, digest,
					       r->dp->now_us);
}

static void found_ranges(void *ctx, const char *set, const struct prefix *list,
			 unsigned int count, uint64_t digest)
{
	struct table_reading *r = ctx;
	const bool intact = digest == firewall_digest(&r->dp->ruleset, set);

	r->err = r->err ? r->err
			: registry_found_ranges(&r->dp->registry, set, list,
						count, intact, r->dp->now_us);
}

int dp_read_kernel(struct dataplane *dp, bool whoever, struct full_sync *full,
		   struct errbuf *eb)
{
	struct table_reading reading = { .dp = dp };
	const struct readback found = {
		.ctx = &reading,
		.whoever = whoever,
		.element = found_element,
		.pick = found_pick,
		.affinity = found_affinity,
		.sticky = found_sticky,
		.ranges = found_ranges,
		.parts = found_parts,
		.counted = dp->counts ? found_count : NULL,
	};
	enum table_state state = TABLE_ABSENT; /* the loop runs at least once */
	int err, tries;

	for (err = -EINTR, tries = 0; err == -EINTR && tries < 5; tries++) {
		snapshot_free(reading.snapshot);
		reading.snapshot = snapshot_new(dp->family);
		registry_free(&dp->registry);
		if (!reading.snapshot)
			return errf(eb, -ENOMEM,
				    "reading the table: out of memory");
		err = readback_table(dp->nl, &dp->ruleset, &found, &state, eb);
	}
	/* eb says whose it is */
	if (!err && state == TABLE_OWNED)
		err = -EPERM;
	if (!err && (reading.err || snapshot_error(reading.snapshot)))
		err = errf(eb, -ENOMEM, "reading the table: out of memory");
	if (err) {
		snapshot_free(reading.snapshot);
		return err;
	}
	if (state == TABLE_ABSENT || state == TABLE_OTHER) {
		/* nothing of it will stay */
		registry_free(&dp->registry);
		snapshot_clear(reading.snapshot);
	}
	full->snapshot = reading.snapshot;
	full->state = state;
	full->parts = reading.parts;
	return 0;
}

/*
 * Builds the transaction that makes the kernel's table right for the first @n
 * service ports, as if there were no others. The registries count from nothing.
 * @flags of the batch are more than the dataplane's own.
 */
static struct batch *build_full(struct dataplane *dp, const struct full_sync *full,
				unsigned int n, unsigned int flags, int *err)
{
	struct batch *b =
		batch_new(&dp->ruleset, flags | (dp->owner ? BATCH_OWNER : 0));
	struct difference t;
	unsigned int i;

	*err = -ENOMEM;
	if (!b)
		return NULL;
	t = dp_difference(dp, batch_writer(b), full->snapshot);
	registry_unwant(&dp->registry);
	snapshot_unsee(full->snapshot);
	if (full->state == TABLE_OTHER)
		t.writer->table(t.writer->ctx, CHANGE_DELETE, 0);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		t.writer->table(t.writer->ctx, CHANGE_ADD, 0);
	if (full->state == TABLE_RULES_DIFFER)
		t.writer->table(t.writer->ctx, CHANGE_UPDATE, full->parts);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		t.err = dp_want_spares(dp, full->ports, n);
	for (i = 0; i < n; i++)
		difference_port(&t, NULL, dp_target(dp, full->ports[i]),
				full->ports[i]);
	difference_globals(&t, NULL, 0, full->globals, full->n_globals);
	difference_shared(&t);
	difference_unseen(&t);
	*err = t.err;
	if (t.err) {
		batch_free(b);
		return NULL;
	}
	return b;
}

bool dp_is_refusal(int err)
{
	return err != -ENOMEM && err != -EINTR && err != -ETIMEDOUT &&
	       err != -ENOBUFS && err != -EPERM;
}

/* Whether the kernel would take the first @n service ports. Returns 0 or a negative errno. */
static int check_first(struct dataplane *dp, const struct full_sync *full,
		       unsigned int n)
{
	struct refusal refusal;
	struct errbuf eb;
	struct batch *b;
	int err;

	b = build_full(dp, full, n, 0, &err);
	if (!b)
		return err;
	err = batch_check(b, dp->nl, COMMIT_TIMEOUT_MS, &refusal, &eb);
	batch_free(b);
	return err;
}

/*
 * The number of service ports, taken in order, with which the kernel just refuses. 0: that is not
 * known, or it refuses even without any, or none (then it is the commit that fails).
 */
static unsigned int first_refused(struct dataplane *dp, const struct full_sync *full)
{
	unsigned int good = 0, bad = full->n_ports, middle;
	int err;

	if (check_first(dp, full, 0) || !check_first(dp, full, bad))
		return 0;
	while (bad - good > 1) {
		middle = good + (bad - good) / 2;
		err = check_first(dp, full, middle);
		if (err && !dp_is_refusal(err))
			return 0;
		if (err)
			bad = middle;
		else
			good = middle;
	}
	return bad;
}

/* The service port to blame for a refusal, or NULL. */
static struct service_port_state *find_culprit(struct dataplane *dp,
					       const struct full_sync *full,
					       const struct refusal *refusal)
{
	unsigned int n;

	if (refusal->owner)
		return refusal->owner;
	n = full->n_ports ? first_refused(dp, full) : 0;
	return n ? full->ports[n - 1] : NULL;
}

/*
 * The kernel takes no new base chain into a table whose flags change in the same transaction. So a
 * table that an earlier process left is taken over before the fast path is added to it.
 */
static int take_over_table(struct dataplane *dp, const struct full_sync *full,
			   struct sync_report *report, struct errbuf *eb)
{
	struct batch *b;
	int err;

	if (!dp->owner || dp->owned || full->state != TABLE_RULES_DIFFER ||
	    !(dp->ruleset.parts & ~full->parts & PART_FAST_PATH))
		return 0;
	b = batch_new(&dp->ruleset, BATCH_OWNER);
	if (!b)
		return errf(eb, -ENOMEM, "%s: out of memory",
			    family_name(dp->family));
	err = dp_commit(dp, b, 0, report, NULL, eb);
	batch_free(b);
	return err;
}

/*
 * Who looks for the culprit of a refusal tries again without reading the table
 * anew, so it must not be half done.
 */
static int write_full(struct dataplane *dp, const struct full_sync *full,
		      bool blame, struct sync_report *report,
		      struct refusal *refusal, struct errbuf *eb)
{
	const unsigned int flags = blame ? 0 : BATCH_CHAINS_FIRST;
	struct batch *b;
	int err = take_over_table(dp, full, report, eb);

	if (err)
		return err;
	b = build_full(dp, full, full->n_ports, flags, &err);
	if (b && dp_counts_ask(dp)) { /* and then it begins with these */
		batch_free(b);
		counts_begin(dp->counts);
		b = build_full(dp, full, full->n_ports, flags, &err);
	}
	if (!b)
		return errf(eb, err, "%s: out of memory", family_name(dp->family));
	err = dp_commit(dp, b, 0, report, refusal, eb);
	batch_free(b);
	if (!err)
		registry_applied(&dp->registry);
	return err;
}

/*
 * Those set aside come first: of the source ranges of a Service what its other
 * ports say counts, and they say it last.
 */
static void aside_first(const struct dataplane *dp, const struct full_sync *full)
{
	struct service_port_state *p;
	unsigned int i, n = 0;

	for (i = 0; i < full->n_ports; i++) {
		p = full->ports[i];
		if (!dp_is_aside(dp, p))
			continue;
		full->ports[i] = full->ports[n];
		full->ports[n++] = p;
	}
}

/* One of the transactions that fill a new table. */
static int fill_commit(struct dataplane *dp, struct difference *t,
		       struct batch *b, struct sync_report *report,
		       struct refusal *refusal, struct errbuf *eb)
{
	const bool doubtful = dp->doubtful;
	int err;

	difference_shared(t);
	err = dp_commit(dp, b, t->err, report, refusal, eb);
	dp->doubtful |= doubtful;
	if (!err)
		registry_applied(&dp->registry);
	return err;
}

/* @made: whether the table is there, and by us. */
static int fill_table(struct dataplane *dp, const struct full_sync *full,
		      struct batch **b, bool *made, struct sync_report *report,
		      struct refusal *refusal, struct errbuf *eb)
{
	const unsigned int flags = dp->owner ? BATCH_OWNER : 0;
	struct difference t;
	unsigned int i;
	int err;

	*b = batch_new(&dp->ruleset, flags | BATCH_CLOSED);
	if (!*b)
		return errf(eb, -ENOMEM, "%s: out of memory",
			    family_name(dp->family));
	t = dp_difference(dp, batch_writer(*b), NULL);
	t.writer->table(t.writer->ctx, CHANGE_ADD, 0);
	t.err = dp_want_spares(dp, full->ports, full->n_ports);
	for (i = 0; i < full->n_ports; i++) {
		difference_port(&t, NULL, dp_target(dp, full->ports[i]),
				full->ports[i]);
		if (batch_size(*b) + dp->registry.n_ranges * RANGE_BYTES < FILL_BYTES)
			continue;
		err = fill_commit(dp, &t, *b, report, refusal, eb);
		if (err)
			return err;
		*made = true;
		batch_free(*b);
		*b = batch_new(&dp->ruleset, flags);
		if (!*b)
			return errf(eb, -ENOMEM, "%s: out of memory",
				    family_name(dp->family));
		t.writer = batch_writer(*b);
	}
	difference_globals(&t, NULL, 0, full->globals, full->n_globals);
	batch_open(*b);
	return fill_commit(dp, &t, *b, report, refusal, eb);
}

/*
 * A new table may come in several transactions, as no packet enters it before
 * the last: what is on the wire needs little memory then. If one is refused the
 * table goes again, unless it is the first: then it is not ours, but of
 * somebody who was quicker. If we die on the way, whoever reads the table finds
 * base chains without rules.
 */
static int fill_at_once(struct dataplane *dp, const struct full_sync *full,
			struct sync_report *report, struct refusal *refusal,
			struct errbuf *eb)
{
	struct batch *b = NULL;
	struct errbuf ignored;
	bool made = false;
	int err;

	registry_free(&dp->registry);
	dp->doubtful = false;
	err = fill_table(dp, full, &b, &made, report, refusal, eb);
	batch_free(b);
	if (!refusal->err)
		return err;
	registry_free(&dp->registry);
	if (!made)
		return err;
	return dataplane_remove(dp->nl, dp->family, &ignored) ? -EINTR : err;
}

static int commit_full(struct dataplane *dp, const struct full_sync *full,
		       bool blame, struct sync_report *report, struct errbuf *eb)
{
	struct service_port_state *bad;
	struct refusal refusal;
	unsigned int i, tries;
	int err;

	for (tries = 0;; tries++) {
		memset(&refusal, 0, sizeof(refusal));
		aside_first(dp, full);
		if (dp->counts)
			counts_begin(dp->counts);
		if (full->state == TABLE_ABSENT)
			err = fill_at_once(dp, full, report, &refusal, eb);
		else
			err = write_full(dp, full, blame, report, &refusal, eb);
		if (!err)
			break;
		report->refused += refusal.err != 0;
		if (!blame || !refusal.err || !dp_is_refusal(err) ||
		    tries == MAX_CULPRITS)
			return err;
		bad = find_culprit(dp, full, &refusal);
		if (!bad || (dp_is_aside(dp, bad) && bad->dropped))
			return err;
		dp_set_aside(dp, bad, eb->text);
	}
	if (dp->counts)
		counts_applied(dp->counts, true);
	err = dp_globals_applied(dp, full->globals, full->n_globals);
	if (err)
		return err;
	dp->known = !dp->doubtful; /* unless clients of former endpoints remain */
	dp_unseen_applied(dp, full->snapshot);
	for (i = 0; i < full->n_ports; i++)
		dp_port_applied(dp, full->ports[i], true);
	return 0;
}

int dp_sync_full(struct dataplane *dp, bool blame, struct sync_report *report,
		 struct errbuf *eb)
{
	struct full_sync full = { 0 };
	int64_t start;
	int err;

	report->full = true;
	err = dp_read_kernel(dp, false, &full, eb);
	if (err)
		return err;
	report->adopted =
		full.state == TABLE_CURRENT || full.state == TABLE_RULES_DIFFER;
	report->replaced = full.state == TABLE_OTHER;
	start = clock_monotonic_us(dp->clock);
	err = dp_compile_dirty(dp, full.snapshot, report);
	if (!err)
		err = dp_all_ports(dp, &full.ports, &full.n_ports);
	if (!err)
		err = dp_wanted_globals(dp, full.snapshot, &full.globals,
					&full.n_globals);
	report->compile_us += clock_monotonic_us(dp->clock) - start;
	if (err)
		errf(eb, err, "%s: out of memory", family_name(dp->family));
	else
		err = commit_full(dp, &full, blame, report, eb);
	snapshot_free(full.snapshot);
	return err;
}
