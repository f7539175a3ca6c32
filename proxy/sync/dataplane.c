/*
 * What the kernel has is remembered as each service port's applied program, and as three small
 * registries of what service ports share: elements that several may want (cluster-ips, hairpin),
 * pick chains, and objects of session affinity. A transaction walks the programs that differ.
 *
 * When the kernel's state is not known (start, foreign change, any failure), the table is read
 * back, the registries count afresh, and every program is compared with the table element by
 * element. That is the only other path.
 *
 * Regret: a service port is compared whole, so an event costs time in proportion to the endpoints
 * of its Service, though the transaction contains only what differs.
 */
#include "proxy/sync/dataplane.h"

#include "nft/batch.h"
#include "nft/flowtable.h"
#include "nft/lookup.h"
#include "nft/readback.h"
#include "nft/text.h"
#include "proxy/model/compile.h"
#include "proxy/sync/purges.h"
#include "proxy/sync/registry.h"
#include "proxy/sync/snapshot.h"
#include "proxy/sync/spares.h"
#include "proxy/sync/transaction.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

enum {
	COMMIT_TIMEOUT_MS = 30 * 1000, /* a load of 100,000 services takes seconds */
	IDLE_US = 10 * 1000 * 1000,    /* unused objects wait this long for another use */
	COLLECT_RETRY_US = 60 * 1000 * 1000,
	RETRY_FIRST_US =
		1000 * 1000,	 /* a service port that was refused: doubled up to syncPeriod */
	BULK = 1000,		 /* elements of a large transaction */
	FILL_BYTES = 1 << 19,	 /* of one transaction that fills a new table */
	RANGE_BYTES = 80,	 /* of these a source range of IPv6 takes */
	MAX_CULPRITS = 64,	 /* set aside in one sync; then the transaction counts as failed */
	PURGE_AT_ONCE_US = 5000, /* enough for a map with 5,000 clients */
};

struct dataplane {
	enum family family;
	struct model *model;
	struct nlsock *nl;
	struct stale *stale, *closing;
	void (*compiled)(void *ctx, struct service_entry *service, enum family family);
	void (*bulk)(void *ctx, bool begin);
	void (*port_changed)(void *ctx, enum family family, const struct service_port_state *port,
			     const struct program *before, const struct program *after);
	void *ctx, *bulk_ctx;
	struct dataplane_gauges gauges;
	const struct interfaces *interfaces; /* NULL: none */
	bool owner;			     /* tables are ours alone ... */
	bool owned;    /* ... and this one is: a transaction of ours took it */
	bool doubtful; /* somebody may have changed the table while nobody listened */
	bool known;    /* applied programs and registries are what the kernel has */
	bool in_step;  /* the latest sync left nothing to do */
	struct ruleset ruleset;
	struct registry registry;
	struct purges *purges; /* NULL without a kernel */
	bool purge_later;
	struct element *globals; /* applied elements of no service port, sorted */
	size_t n_globals;
	struct arena scratch; /* of a sync */
	struct arena brief;   /* of one service port */
	/* compiled, and different from what is applied, or with flows that may be stale; each once
	 */
	struct service_port_state **changed;
	unsigned int n_changed, changed_size;
	uint64_t round; /* counts these lists */
	int64_t now_us, retry_us;
};

static int64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

struct dataplane *dataplane_new(const struct dataplane_options *options)
{
	struct dataplane *dp = calloc(1, sizeof(*dp));

	if (!dp)
		return NULL;
	dp->family = options->family;
	dp->model = options->model;
	dp->nl = options->nl;
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
		dp->purges = purges_new(dp->nl, dp->family, dp->purge_later);
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

static void dp_log(const struct dataplane *dp, int severity, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void dp_log(const struct dataplane *dp, int severity, const char *fmt, ...)
{
	char text[640];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	dp->model->log(dp->model->log_ctx, severity, text);
}

/* Compilation */

static void changed_begin(struct dataplane *dp)
{
	dp->n_changed = 0;
	dp->round++;
}

/*
 * A Service may be compiled twice: what memory ran out over is taken up at its turn, and then marks
 * rivals that had theirs.
 */
static int changed_add(struct dataplane *dp, struct service_port_state *port)
{
	unsigned int size = dp->changed_size ? dp->changed_size * 2 : 64;
	struct service_port_state **more;

	if (port->changed_in == dp->round)
		return 0;
	if (dp->n_changed == dp->changed_size) {
		more = realloc(dp->changed, size * sizeof(*more));
		if (!more)
			return -ENOMEM;
		dp->changed = more;
		dp->changed_size = size;
	}
	dp->changed[dp->n_changed++] = port;
	port->changed_in = dp->round;
	return 0;
}

static int compile_one(struct dataplane *dp, struct service_port_state *port,
		       const struct snapshot *snapshot)
{
	struct kernel_order order;
	const struct vip *vips;
	unsigned int n;
	int err;

	if (!snapshot || port->applied)
		return compile_port(dp->model, dp->family, port, NULL, &dp->brief);
	err = compile_vips(dp->model, dp->family, port, &dp->brief, &vips, &n);
	if (!err)
		err = snapshot_order(snapshot, vips, n, port->protocol, &dp->brief, &order);
	if (!err)
		err = compile_port(dp->model, dp->family, port, &order, &dp->brief);
	return err;
}

/* SVC-11: said once, until the claim wins or goes. */
static void report_conflicts(struct dataplane *dp, struct service_port_state *port)
{
	const struct service_port_state *winner;
	char addr[ADDR_TEXT_SIZE];
	struct claim *c;
	unsigned int i;

	for (i = 0; i < port->n_claims; i++) {
		bool lost = !claim_wins(dp->model, dp->family, &port->claims[i]);

		c = &port->claims[i];
		if (lost && !c->lost) {
			winner = model_vip_owner(dp->model, dp->family,
						 c->vip.role == VIP_NODE_PORT ? NULL : &c->vip.addr,
						 port->protocol, c->vip.port);
			dp_log(dp, LOG_WARNING,
			       "Service %s: %s%s port %u/%s is taken by Service %s", port->label,
			       c->vip.role == VIP_NODE_PORT ? "node" : "",
			       c->vip.role == VIP_NODE_PORT
				       ? ""
				       : addr_format(dp->family, &c->vip.addr, addr),
			       c->vip.port, protocol_name(port->protocol),
			       winner ? winner->label : "?");
		}
		dp->model->n_lost[dp->family] += (unsigned int)lost - (unsigned int)c->lost;
		c->lost = lost;
	}
}

/*
 * Endpoints may cease to serve without any change of the program: those that were draining are on
 * no list while others are ready. So UDP flows are looked at after each compilation (CT-2, CT-6),
 * TCP connections after one that may have left some without their endpoint (BEY-1).
 */
static bool has_flows(const struct dataplane *dp, const struct service_port_state *p)
{
	const struct service_entry *s = p->service;

	if (p->protocol == IPPROTO_UDP)
		return dp->stale && (p->applied || p->desired);
	return p->protocol == IPPROTO_TCP && dp->closing && p->desired &&
	       (!p->applied || s->endpoints_left[dp->family]) &&
	       model_closes_connections(dp->model, s);
}

static int compile_service(struct dataplane *dp, struct service_entry *s,
			   const struct snapshot *snapshot, struct sync_report *report)
{
	struct service_port_state *p;
	int err = model_settle(dp->model, s, dp->family);

	if (!err && dp->compiled)
		dp->compiled(dp->ctx, s, dp->family);
	for (p = s->ports[dp->family]; !err && p; p = p->next) {
		err = compile_one(dp, p, snapshot);
		arena_reset(&dp->brief);
		if (!err && has_flows(dp, p))
			p->flows_touched = true;
		if (!err && (!p->desired_is_applied || p->flows_touched))
			err = changed_add(dp, p);
		if (err)
			break;
		p->retry_us = dp->now_us; /* another program, another chance */
		report_conflicts(dp, p);
		report->services++;
	}
	if (!err)
		s->endpoints_left[dp->family] = false;
	return err;
}

/* A port may be without any program and yet be looked at in this round, for its UDP flows. */
static bool has_changed(const struct dataplane *dp, const struct service_entry *s)
{
	const struct service_port_state *p;

	for (p = s->ports[dp->family]; p; p = p->next)
		if (p->changed_in == dp->round)
			return true;
	return false;
}

/*
 * Compiles all that is dirty. What cannot be compiled for lack of memory stays dirty. What is in
 * the list of changes is pruned when the round is over.
 */
static int compile_dirty(struct dataplane *dp, const struct snapshot *snapshot,
			 struct sync_report *report)
{
	struct service_entry *s;
	int err = 0;

	while (!err && (s = model_take_dirty(dp->model, dp->family))) {
		err = compile_service(dp, s, snapshot, report);
		if (err)
			model_mark(dp->model, s, dp->family);
		else if ((!s->ports[dp->family] || !s->object) && !has_changed(dp, s))
			model_prune(dp->model, s);
	}
	return err;
}

/* Writing */

static bool is_aside(const struct dataplane *dp, const struct service_port_state *p)
{
	return p->refusals && p->retry_us > dp->now_us;
}

/* A service port that was set aside keeps what the kernel has of it, if possible. */
static const struct program *target(const struct dataplane *dp, const struct service_port_state *p)
{
	if (is_aside(dp, p))
		return p->dropped ? NULL : p->applied;
	return p->desired;
}

static int globals_keep(struct dataplane *dp, const struct element *list, size_t n)
{
	struct element *copy = calloc(n + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	if (n)
		memcpy(copy, list, n * sizeof(*copy));
	free(dp->globals);
	dp->globals = copy;
	dp->n_globals = n;
	return 0;
}

struct kept_ranges {
	const struct element *wanted;
	size_t n_wanted;
	struct element *list; /* NULL: only counted */
	size_t count;
};

static bool ranges_overlap(const struct prefix *a, const struct prefix *b)
{
	return prefix_contains(a, &b->addr) || prefix_contains(b, &a->addr);
}

static void keep_range(void *ctx, const struct element *el)
{
	struct kept_ranges *kept = ctx;
	size_t i;

	if (el->set != SET_SERVICE_CIDRS)
		return;
	for (i = 0; i < kept->n_wanted; i++)
		if (kept->wanted[i].set == SET_SERVICE_CIDRS &&
		    ranges_overlap(&kept->wanted[i].range, &el->range))
			return;
	if (kept->list)
		kept->list[kept->count] = *el;
	kept->count++;
}

static void each_range(const struct dataplane *dp, struct snapshot *snapshot,
		       struct kept_ranges *kept)
{
	size_t i;

	kept->count = kept->n_wanted;
	if (snapshot)
		snapshot_each_unseen(snapshot, keep_range, kept);
	for (i = 0; !snapshot && i < dp->n_globals; i++)
		keep_range(kept, &dp->globals[i]);
}

static int key_order(const void *a, const void *b)
{
	return element_key_compare(a, b);
}

/*
 * What is wanted apart from service ports. Until ServiceCIDRs are listed, the ranges that the table
 * has from an earlier run stay: their list may come later than the others, or not at all (API-8).
 * @snapshot is NULL if what is in the kernel is known.
 */
static int wanted_globals(struct dataplane *dp, struct snapshot *snapshot,
			  const struct element **list, size_t *count)
{
	struct kept_ranges kept = { 0 };
	int err = model_globals(dp->model, dp->family, &dp->scratch, list, count);

	if (err || dp->model->complete[KIND_SERVICE_CIDR])
		return err;
	kept.wanted = *list;
	kept.n_wanted = *count;
	if (snapshot)
		snapshot_unsee(snapshot);
	each_range(dp, snapshot, &kept);
	if (kept.count == *count)
		return 0;
	kept.list = arena_array(&dp->scratch, kept.count, sizeof(*kept.list));
	if (!kept.list)
		return -ENOMEM;
	memcpy(kept.list, *list, *count * sizeof(**list));
	each_range(dp, snapshot, &kept);
	qsort(kept.list, kept.count, sizeof(*kept.list), key_order);
	*list = kept.list;
	*count = kept.count;
	return 0;
}

/* After a commit */

static bool list_holds(const struct endpoint_list *list, const struct endpoint *ep)
{
	unsigned int i;

	for (i = 0; i < list->count; i++)
		if (endpoint_compare(&list->items[i], ep) == 0)
			return true;
	return false;
}

/* What stays keeps its index, so most of it is found at once. */
static bool list_lost(const struct endpoint_list *old, const struct endpoint_list *new)
{
	unsigned int i;

	for (i = 0; i < old->count; i++)
		if (!endpoint_list_has_at(new, i, &old->items[i]) &&
		    !list_holds(new, &old->items[i]))
			return true;
	return false;
}

/*
 * AFF-4, AFF-5: clients must not be sent to an endpoint that has left the list. A failure is not
 * worth failing the sync for: the whole table is read back, and this is done again, soon. Without
 * @keep nobody is kept: the Service is gone, or all of its endpoints are, and may come back.
 */
static void purge_clients(struct dataplane *dp, const struct program *p, bool local, bool keep)
{
	static const struct endpoint_list nobody;
	const char *map = affinity_map_name(p->sticky, local, &dp->brief);

	if (!map ||
	    purges_add(dp->purges, map, p->label, keep ? program_list(p, local) : &nobody)) {
		dp_log(dp, LOG_WARNING, "Service %s: clients of former endpoints: out of memory",
		       p->label);
		dp->known = false;
	}
	arena_reset(&dp->brief);
}

bool dataplane_purge(struct dataplane *dp, int64_t budget_us)
{
	const int64_t until_us = budget_us == INT64_MAX ? INT64_MAX : clock_us() + budget_us;
	struct errbuf eb;
	int more;

	do {
		more = purges_run(dp->purges, until_us, &eb);
		if (more < 0) {
			dp_log(dp, LOG_WARNING, "%s", eb.text);
			dp->known = false;
		}
	} while (more < 0);
	return more;
}

bool dataplane_is_purging(const struct dataplane *dp)
{
	return purges_pending(dp->purges);
}

static void purge_after(struct dataplane *dp, const struct program *from, const struct program *to,
			bool all)
{
	int local;

	for (local = 0; local < 2; local++) {
		const bool before = program_remembers(from, local);

		if (!program_remembers(to, local)) {
			if (before)
				purge_clients(dp, from, local, false);
		} else if (all || !before ||
			   list_lost(program_list(from, local), program_list(to, local))) {
			purge_clients(dp, to, local, true);
		}
	}
}

static bool has_vip(const struct program *p, const struct vip *vip)
{
	unsigned int i;

	for (i = 0; p && i < p->n_vips; i++)
		if (vip_compare(&p->vips[i], vip) == 0)
			return true;
	return false;
}

static void flows_changed(struct dataplane *dp, struct service_port_state *port,
			  const struct program *from, const struct program *to)
{
	unsigned int i;

	if (port->protocol == IPPROTO_TCP && dp->closing && port->flows_touched && to)
		stale_port_changed(dp->closing, port);
	if (!dp->stale || port->protocol != IPPROTO_UDP)
		return;
	stale_port_changed(dp->stale, port);
	for (i = 0; from && i < from->n_vips; i++)
		if (!has_vip(to, &from->vips[i]))
			stale_vip_removed(dp->stale, &from->vips[i]);
}

static bool has_external(const struct program *p)
{
	unsigned int i;

	for (i = 0; i < p->n_vips; i++)
		if (p->vips[i].role != VIP_CLUSTER_IP)
			return true;
	return false;
}

/* MET-3 speaks of service ports that are alive and have nobody here for a policy Local. */
static void gauges_count(struct dataplane_gauges *g, const struct program *p, unsigned int by)
{
	const bool lonely = p && (p->flags & PROGRAM_ALIVE) && !p->local.count;

	if (!p || !p->n_vips)
		return;
	g->service_ports += by;
	g->endpoints += by * spares_weight(p);
	if (lonely && (p->flags & PROGRAM_INTERNAL_LOCAL))
		g->no_local[0] += by;
	if (lonely && (p->flags & PROGRAM_EXTERNAL_LOCAL) && has_external(p))
		g->no_local[1] += by;
}

/* What was set aside has nothing in the kernel any more, if it was dropped. */
static void port_dropped(struct dataplane *dp, struct service_port_state *p)
{
	if (!p->dropped)
		return;
	gauges_count(&dp->gauges, p->applied, -1u);
	if (!p->desired_is_applied)
		free(p->applied);
	p->applied = NULL;
	p->desired_is_applied = !p->desired;
}

static void port_applied(struct dataplane *dp, struct service_port_state *p, bool full)
{
	struct program *old = p->applied;

	if (is_aside(dp, p)) {
		port_dropped(dp, p);
		return;
	}
	purge_after(dp, old, p->desired, full);
	if (!p->desired_is_applied || p->flows_touched)
		flows_changed(dp, p, old, p->desired);
	p->flows_touched = false;
	if (!p->desired_is_applied) {
		if (dp->port_changed)
			dp->port_changed(dp->bulk_ctx, dp->family, p, old, p->desired);
		gauges_count(&dp->gauges, old, -1u);
		gauges_count(&dp->gauges, p->desired, 1);
		p->applied = p->desired;
		p->desired_is_applied = true;
		free(old);
	}
	p->refusals = 0;
	p->dropped = false;
}

/* Refusals */

/* Whether all that is applied is still the service port's own. */
static bool owns_vips(const struct dataplane *dp, const struct service_port_state *p)
{
	const struct vip *vip;
	unsigned int i;

	for (i = 0; p->applied && i < p->applied->n_vips; i++) {
		vip = &p->applied->vips[i];
		if (model_vip_owner(dp->model, dp->family,
				    vip->role == VIP_NODE_PORT ? NULL : &vip->addr, p->protocol,
				    vip->port) != p)
			return false;
	}
	return true;
}

static void set_aside(struct dataplane *dp, struct service_port_state *p, const char *reason)
{
	const int64_t longest = dp->model->config->sync_period_ms * 1000; /* RUN-4 */
	int64_t wait = RETRY_FIRST_US;
	unsigned int i;

	/* Refused although only what was there is asked for, or others have its virtual IPs by now
	 */
	p->dropped = is_aside(dp, p) || p->desired_is_applied || !owns_vips(dp, p);
	for (i = 0; i < p->refusals && wait < longest; i++)
		wait *= 2;
	if (wait > longest)
		wait = longest;
	p->refusals++;
	p->retry_us = dp->now_us + wait;
	dp_log(dp, LOG_ERR, "Service %s: set aside for %d s: %s", p->label, (int)(wait / 1000000),
	       reason);
}

/* Incremental sync */

/*
 * A large transaction is committed while nobody listens to notifications. What others may have
 * changed meanwhile shows in the ruleset's generation, of which ours takes one.
 */
static int commit_bulk(struct dataplane *dp, struct batch *b, struct refusal *refusal,
		       struct errbuf *eb)
{
	uint32_t before = 0, after = 0;
	struct errbuf ignored;
	bool counted;
	int err;

	counted = readback_generation(dp->nl, &before, &ignored) == 0;
	dp->bulk(dp->bulk_ctx, true);
	err = batch_commit(b, dp->nl, COMMIT_TIMEOUT_MS, refusal, eb);
	dp->bulk(dp->bulk_ctx, false);
	counted = counted && readback_generation(dp->nl, &after, &ignored) == 0;
	dp->doubtful = !counted || after - before != 1;
	return err;
}

static int commit(struct dataplane *dp, struct batch *b, struct refusal *refusal, struct errbuf *eb)
{
	const struct batch_counts counts = batch_counts(b);

	if (dp->bulk && !dp->owner && counts.elements_added + counts.elements_deleted > BULK)
		return commit_bulk(dp, b, refusal, eb);
	return batch_commit(b, dp->nl, COMMIT_TIMEOUT_MS, refusal, eb);
}

static struct transaction transaction(struct dataplane *dp, const struct writer *writer,
				      struct snapshot *snapshot)
{
	return (struct transaction){
		.ruleset = &dp->ruleset,
		.registry = &dp->registry,
		.writer = writer,
		.snapshot = snapshot,
		.scratch = &dp->brief,
		.now_us = dp->now_us,
	};
}

/* @err is what came of building it. */
static int transaction_end(struct dataplane *dp, struct batch *b, int err,
			   struct sync_report *report, struct refusal *refusal, struct errbuf *eb)
{
	struct batch_counts counts;
	int64_t start;

	dp->doubtful = false;
	if (err)
		return errf(eb, err, "%s: out of memory", family_name(dp->family));
	/* Nothing to write, but a table that an earlier process left is taken over all the same. */
	if (batch_is_empty(b) && (!dp->owner || dp->owned))
		return 0;
	start = clock_us();
	err = commit(dp, b, refusal, eb);
	report->commit_us += clock_us() - start;
	if (err)
		return err;
	dp->owner = dp->owned = dp->owner && batch_is_owned(b);
	counts = batch_counts(b);
	report->wrote += !batch_is_empty(b);
	report->bytes += batch_size(b);
	report->elements_added += counts.elements_added;
	report->elements_deleted += counts.elements_deleted;
	return 0;
}

static int sync_changes(struct dataplane *dp, struct sync_report *report, struct errbuf *eb)
{
	struct batch *b = batch_new(&dp->ruleset, dp->owner ? BATCH_OWNER : 0);
	struct transaction t;
	const struct element *globals = NULL;
	size_t n_globals = 0;
	struct refusal refusal = { 0 };
	unsigned int i;
	int err;

	if (!b)
		return errf(eb, -ENOMEM, "%s: out of memory", family_name(dp->family));
	t = transaction(dp, batch_writer(b), NULL);
	for (i = 0; i < dp->n_changed; i++)
		if (!dp->changed[i]->desired_is_applied)
			transaction_program(&t, dp->changed[i]->applied, dp->changed[i]->desired,
					    dp->changed[i]);
	if (!t.err)
		t.err = wanted_globals(dp, NULL, &globals, &n_globals);
	if (!t.err)
		transaction_globals(&t, dp->globals, dp->n_globals, globals, n_globals);
	transaction_shared(&t);
	err = transaction_end(dp, b, t.err, report, &refusal, eb);
	if (!err)
		err = globals_keep(dp, globals, n_globals);
	batch_free(b);
	if (err) {
		report->refused += refusal.err != 0;
		return err;
	}
	registry_applied(&dp->registry);
	dp->known = !dp->doubtful;
	for (i = 0; i < dp->n_changed; i++)
		port_applied(dp, dp->changed[i], false);
	return 0;
}

/*
 * What others have of the virtual IPs of a service port that was set aside cannot be told from its
 * program: only a full comparison is safe.
 */
static bool any_refused(const struct dataplane *dp)
{
	unsigned int i;

	for (i = 0; i < dp->n_changed; i++)
		if (dp->changed[i]->refusals)
			return true;
	return false;
}

/* Full sync: compare with the kernel */

static int all_ports(struct dataplane *dp, struct service_port_state ***ports, unsigned int *count)
{
	struct model *m = dp->model;
	struct service_port_state **list, *p;
	struct hash_walk walk;
	struct hash_node *n;
	unsigned int pass, i = 0;

	for (list = NULL, pass = 0; pass < 2; pass++) {
		for (i = 0, n = hashtab_first(&m->services, &walk); n;
		     n = hashtab_next(&m->services, &walk))
			for (p = hash_entry(n, struct service_entry, node)->ports[dp->family]; p;
			     p = p->next, i++)
				if (list)
					list[i] = p;
		if (!list &&
		    !(list = arena_array(&dp->scratch, i, sizeof(struct service_port_state *))))
			return -ENOMEM;
	}
	*ports = list;
	*count = i;
	return 0;
}

struct full {
	struct snapshot *snapshot;
	enum table_state state;
	unsigned int parts; /* enum table_part, that the table has */
	struct service_port_state **ports;
	unsigned int n_ports;
	const struct element *globals;
	size_t n_globals;
};

struct reading {
	struct dataplane *dp;
	struct snapshot *snapshot;
	unsigned int parts;
	int err;
};

static void read_parts(void *ctx, unsigned int parts)
{
	struct reading *r = ctx;

	r->parts = parts;
}

static void read_element(void *ctx, const struct element *el)
{
	struct reading *r = ctx;

	snapshot_add(r->snapshot, el);
}

static void read_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	struct reading *r = ctx;
	const bool intact = digest == pick_digest(&r->dp->ruleset, pick);

	r->err = r->err ? r->err
			: registry_found_pick(&r->dp->registry, pick, intact, r->dp->now_us);
}

static void read_affinity(void *ctx, const char *name)
{
	struct reading *r = ctx;

	r->err = r->err ? r->err : registry_found_map(&r->dp->registry, name, r->dp->now_us);
}

static void read_sticky(void *ctx, const char *name, uint64_t digest)
{
	struct reading *r = ctx;

	r->err = r->err ? r->err
			: registry_found_chain(&r->dp->registry, name, digest, r->dp->now_us);
}

static void read_ranges(void *ctx, const char *set, const struct prefix *list, unsigned int count,
			uint64_t digest)
{
	struct reading *r = ctx;
	const bool intact = digest == firewall_digest(&r->dp->ruleset, set);

	r->err = r->err ? r->err
			: registry_found_ranges(&r->dp->registry, set, list, count, intact,
						r->dp->now_us);
}

/* Reads the table; the registries know afterwards what is there, and that nothing is wanted yet. */
static int read_kernel(struct dataplane *dp, bool whoever, struct full *full, struct errbuf *eb)
{
	struct reading reading = { .dp = dp };
	const struct readback found = {
		.ctx = &reading,
		.whoever = whoever,
		.element = read_element,
		.pick = read_pick,
		.affinity = read_affinity,
		.sticky = read_sticky,
		.ranges = read_ranges,
		.parts = read_parts,
	};
	enum table_state state;
	int err, tries;

	for (err = -EINTR, tries = 0; err == -EINTR && tries < 5; tries++) {
		snapshot_free(reading.snapshot);
		reading.snapshot = snapshot_new(dp->family);
		registry_free(&dp->registry);
		if (!reading.snapshot)
			return errf(eb, -ENOMEM, "reading the table: out of memory");
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

struct port_list {
	const struct dataplane *dp;
	struct service_port_state **ports;
};

static const struct program *listed_target(void *ctx, unsigned int i)
{
	const struct port_list *list = ctx;

	return target(list->dp, list->ports[i]);
}

/* For a table that is made now. */
static int want_spares(struct dataplane *dp, struct service_port_state **ports, unsigned int n)
{
	struct port_list list = { dp, ports };

	return spares_want(&dp->registry, listed_target, &list, n, dp->family, &dp->brief,
			   dp->now_us);
}

/*
 * Builds the transaction that makes the kernel's table right for the first @n service ports, as if
 * there were no others. The registries count from nothing.
 */
static struct batch *build_full(struct dataplane *dp, const struct full *full, unsigned int n,
				int *err)
{
	struct batch *b = batch_new(&dp->ruleset, dp->owner ? BATCH_OWNER : 0);
	struct transaction t;
	unsigned int i;

	*err = -ENOMEM;
	if (!b)
		return NULL;
	t = transaction(dp, batch_writer(b), full->snapshot);
	registry_unwant(&dp->registry);
	snapshot_unsee(full->snapshot);
	if (full->state == TABLE_OTHER)
		t.writer->table(t.writer->ctx, CHANGE_DELETE, 0);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		t.writer->table(t.writer->ctx, CHANGE_ADD, 0);
	if (full->state == TABLE_RULES_DIFFER)
		t.writer->table(t.writer->ctx, CHANGE_UPDATE, full->parts);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		t.err = want_spares(dp, full->ports, n);
	for (i = 0; i < n; i++)
		transaction_program(&t, NULL, target(dp, full->ports[i]), full->ports[i]);
	transaction_globals(&t, NULL, 0, full->globals, full->n_globals);
	transaction_shared(&t);
	transaction_unseen(&t);
	*err = t.err;
	if (t.err) {
		batch_free(b);
		return NULL;
	}
	return b;
}

static bool is_refusal(int err)
{
	return err != -ENOMEM && err != -EINTR && err != -ETIMEDOUT && err != -ENOBUFS &&
	       err != -EPERM;
}

/* Whether the kernel would take the first @n service ports. Returns 0 or a negative errno. */
static int check_first(struct dataplane *dp, const struct full *full, unsigned int n)
{
	struct refusal refusal;
	struct errbuf eb;
	struct batch *b;
	int err;

	b = build_full(dp, full, n, &err);
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
static unsigned int first_refused(struct dataplane *dp, const struct full *full)
{
	unsigned int good = 0, bad = full->n_ports, middle;
	int err;

	if (check_first(dp, full, 0) || !check_first(dp, full, bad))
		return 0;
	while (bad - good > 1) {
		middle = good + (bad - good) / 2;
		err = check_first(dp, full, middle);
		if (err && !is_refusal(err))
			return 0;
		if (err)
			bad = middle;
		else
			good = middle;
	}
	return bad;
}

/* The service port to blame for a refusal, or NULL. */
static struct service_port_state *culprit(struct dataplane *dp, const struct full *full,
					  const struct refusal *refusal)
{
	unsigned int n;

	if (refusal->owner)
		return refusal->owner;
	n = full->n_ports ? first_refused(dp, full) : 0;
	return n ? full->ports[n - 1] : NULL;
}

/* A VIP that was in the kernel and that nobody wants: it went while we were away (CT-5). */
static void vip_unseen(void *ctx, const struct element *el)
{
	struct dataplane *dp = ctx;
	const struct vip vip = {
		.addr = el->addr,
		.port = el->port,
		.role = el->set == MAP_SERVICE_NODEPORTS ? VIP_NODE_PORT : VIP_EXTERNAL_IP,
	};

	if (el->protocol == IPPROTO_UDP &&
	    (el->set == MAP_SERVICE_IPS || el->set == MAP_SERVICE_NODEPORTS))
		stale_vip_removed(dp->stale, &vip);
}

/*
 * The kernel takes no new base chain into a table whose flags change in the same transaction. So a
 * table that an earlier process left is taken over before the fast path is added to it.
 */
static int take_over(struct dataplane *dp, const struct full *full, struct sync_report *report,
		     struct errbuf *eb)
{
	struct batch *b;
	int err;

	if (!dp->owner || dp->owned || full->state != TABLE_RULES_DIFFER ||
	    !(dp->ruleset.parts & ~full->parts & PART_FAST_PATH))
		return 0;
	b = batch_new(&dp->ruleset, BATCH_OWNER);
	if (!b)
		return errf(eb, -ENOMEM, "%s: out of memory", family_name(dp->family));
	err = transaction_end(dp, b, 0, report, NULL, eb);
	batch_free(b);
	return err;
}

static int write_full(struct dataplane *dp, const struct full *full, struct sync_report *report,
		      struct refusal *refusal, struct errbuf *eb)
{
	struct batch *b;
	int err = take_over(dp, full, report, eb);

	if (err)
		return err;
	b = build_full(dp, full, full->n_ports, &err);
	if (!b)
		return errf(eb, err, "%s: out of memory", family_name(dp->family));
	err = transaction_end(dp, b, 0, report, refusal, eb);
	batch_free(b);
	if (!err)
		registry_applied(&dp->registry);
	return err;
}

/*
 * Those set aside come first: of the source ranges of a Service what its other ports say counts,
 * and they say it last.
 */
static void aside_first(const struct dataplane *dp, const struct full *full)
{
	struct service_port_state *p;
	unsigned int i, n = 0;

	for (i = 0; i < full->n_ports; i++) {
		p = full->ports[i];
		if (!is_aside(dp, p))
			continue;
		full->ports[i] = full->ports[n];
		full->ports[n++] = p;
	}
}

/* One of the transactions that fill a new table. */
static int fill_commit(struct dataplane *dp, struct transaction *t, struct batch *b,
		       struct sync_report *report, struct refusal *refusal, struct errbuf *eb)
{
	const bool doubtful = dp->doubtful;
	int err;

	transaction_shared(t);
	err = transaction_end(dp, b, t->err, report, refusal, eb);
	dp->doubtful |= doubtful;
	if (!err)
		registry_applied(&dp->registry);
	return err;
}

/* @made: whether the table is there, and by us. */
static int fill_table(struct dataplane *dp, const struct full *full, struct batch **b, bool *made,
		      struct sync_report *report, struct refusal *refusal, struct errbuf *eb)
{
	const unsigned int flags = dp->owner ? BATCH_OWNER : 0;
	struct transaction t;
	unsigned int i;
	int err;

	*b = batch_new(&dp->ruleset, flags | BATCH_CLOSED);
	if (!*b)
		return errf(eb, -ENOMEM, "%s: out of memory", family_name(dp->family));
	t = transaction(dp, batch_writer(*b), NULL);
	t.writer->table(t.writer->ctx, CHANGE_ADD, 0);
	t.err = want_spares(dp, full->ports, full->n_ports);
	for (i = 0; i < full->n_ports; i++) {
		transaction_program(&t, NULL, target(dp, full->ports[i]), full->ports[i]);
		if (batch_size(*b) + dp->registry.n_ranges * RANGE_BYTES < FILL_BYTES)
			continue;
		err = fill_commit(dp, &t, *b, report, refusal, eb);
		if (err)
			return err;
		*made = true;
		batch_free(*b);
		*b = batch_new(&dp->ruleset, flags);
		if (!*b)
			return errf(eb, -ENOMEM, "%s: out of memory", family_name(dp->family));
		t.writer = batch_writer(*b);
	}
	transaction_globals(&t, NULL, 0, full->globals, full->n_globals);
	batch_open(*b);
	return fill_commit(dp, &t, *b, report, refusal, eb);
}

/*
 * A new table may come in several transactions, as no packet enters it before the last: what is on
 * the wire needs little memory then. If one is refused the table goes again, unless it is the
 * first: then it is not ours, but of somebody who was quicker. If we die on the way, whoever reads
 * the table finds base chains without rules.
 */
static int fill(struct dataplane *dp, const struct full *full, struct sync_report *report,
		struct refusal *refusal, struct errbuf *eb)
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

/*
 * Without @blame a refusal ends it: the table may have changed since it was read, and then nobody
 * is to blame.
 */
static int commit_full(struct dataplane *dp, const struct full *full, bool blame,
		       struct sync_report *report, struct errbuf *eb)
{
	struct service_port_state *bad;
	struct refusal refusal;
	unsigned int i, tries;
	int err;

	for (tries = 0;; tries++) {
		memset(&refusal, 0, sizeof(refusal));
		aside_first(dp, full);
		if (full->state == TABLE_ABSENT)
			err = fill(dp, full, report, &refusal, eb);
		else
			err = write_full(dp, full, report, &refusal, eb);
		if (!err)
			break;
		report->refused += refusal.err != 0;
		if (!blame || !refusal.err || !is_refusal(err) || tries == MAX_CULPRITS)
			return err;
		bad = culprit(dp, full, &refusal);
		if (!bad || (is_aside(dp, bad) && bad->dropped))
			return err;
		set_aside(dp, bad, eb->text);
	}
	err = globals_keep(dp, full->globals, full->n_globals);
	if (err)
		return err;
	dp->known = !dp->doubtful; /* unless clients of former endpoints remain */
	if (dp->stale)
		snapshot_each_unseen(full->snapshot, vip_unseen, dp);
	for (i = 0; i < full->n_ports; i++)
		port_applied(dp, full->ports[i], true);
	return 0;
}

static int sync_full(struct dataplane *dp, bool blame, struct sync_report *report,
		     struct errbuf *eb)
{
	struct full full = { 0 };
	int64_t start;
	int err;

	report->full = true;
	err = read_kernel(dp, false, &full, eb);
	if (err)
		return err;
	report->adopted = full.state == TABLE_CURRENT || full.state == TABLE_RULES_DIFFER;
	report->replaced = full.state == TABLE_OTHER;
	start = clock_us();
	err = compile_dirty(dp, full.snapshot, report);
	if (!err)
		err = all_ports(dp, &full.ports, &full.n_ports);
	if (!err)
		err = wanted_globals(dp, full.snapshot, &full.globals, &full.n_globals);
	report->compile_us += clock_us() - start;
	if (err)
		errf(eb, err, "%s: out of memory", family_name(dp->family));
	else
		err = commit_full(dp, &full, blame, report, eb);
	snapshot_free(full.snapshot);
	return err;
}

/* When the earliest of those set aside is due. Only looked for while there are any. */
static void find_retry(struct dataplane *dp)
{
	struct service_port_state **ports;
	unsigned int i, n;

	dp->retry_us = INT64_MAX;
	dp->gauges.set_aside = 0;
	if (all_ports(dp, &ports, &n))
		return;
	for (i = 0; i < n; i++) {
		dp->gauges.set_aside += ports[i]->refusals > 0;
		if (ports[i]->refusals && ports[i]->retry_us < dp->retry_us)
			dp->retry_us = ports[i]->retry_us;
	}
}

/* Forgets service ports and Services that are neither wanted nor applied any more. */
static void prune_changed(struct dataplane *dp)
{
	struct service_entry *s;
	unsigned int i = 0;

	while (i < dp->n_changed) {
		/* ports of one Service stand together; they may be freed with it */
		for (s = dp->changed[i]->service; i < dp->n_changed; i++)
			if (dp->changed[i]->service != s)
				break;
		model_prune(dp->model, s);
	}
}

static void prune_all(struct dataplane *dp)
{
	struct hash_walk walk;
	struct hash_node *n;

	for (n = hashtab_first(&dp->model->services, &walk); n;
	     n = hashtab_next(&dp->model->services, &walk))
		model_prune(dp->model, hash_entry(n, struct service_entry, node));
}

int dataplane_sync(struct dataplane *dp, int64_t now_us, struct sync_report *report,
		   struct errbuf *eb)
{
	struct ruleset ruleset;
	int64_t start = clock_us();
	bool partial = false;
	/* put in doubt by others, not by a failure or change of ours */
	bool repair = dp->in_step && !dp->known && !model_is_dirty(dp->model, dp->family);
	int err = 0;

	if (model_catch_up(dp->model))
		return errf(eb, -ENOMEM, "%s: the node's addresses: out of memory",
			    family_name(dp->family));
	dp->now_us = now_us;
	dp->in_step = false;
	changed_begin(dp);
	model_ruleset(dp->model, dp->family, &ruleset);
	if (memcmp(&ruleset, &dp->ruleset, sizeof(ruleset))) {
		memcpy(&dp->ruleset, &ruleset, sizeof(ruleset));
		dp->known = repair = false;
	}
	if (dp->retry_us <= now_us)
		dp->known = repair = false;
	if (dp->known) {
		err = compile_dirty(dp, NULL, report);
		report->compile_us += clock_us() - start;
		if (err)
			errf(eb, err, "%s: out of memory", family_name(dp->family));
		else if (!any_refused(dp))
			err = sync_changes(dp, report, eb);
		partial = !err && !any_refused(dp);
		if (!partial)
			dp->known = false;
	}
	if (!partial && err != -ENOMEM) {
		err = sync_full(dp, false, report, eb);
		if (err && is_refusal(err))
			err = sync_full(dp, true, report, eb);
	}
	if (report->full)
		find_retry(dp);
	if (!err) {
		report->repair |= repair;
		dp->in_step = true;
		dp->model->globals_dirty[dp->family] = false;
		if (report->full)
			prune_all(dp);
		else
			prune_changed(dp);
	}
	changed_begin(dp); /* after a failure the full sync looks at all of them */
	arena_reset(&dp->scratch);
	dataplane_purge(dp, dp->purge_later ? PURGE_AT_ONCE_US : INT64_MAX);
	return err;
}

int dataplane_collect(struct dataplane *dp, int64_t now_us, int64_t *again_us, struct errbuf *eb)
{
	struct batch *b;
	int n, err;

	*again_us = INT64_MAX;
	if (!dp->known)
		return 0;
	b = batch_new(&dp->ruleset, dp->owner ? BATCH_OWNER : 0);
	if (!b)
		return errf(eb, -ENOMEM, "out of memory");
	dp->registry.keep_picks = dp->gauges.endpoints >= SPARES_FROM ? SPARES_KEPT : 0;
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

	changed_begin(dp);
	err = compile_dirty(dp, NULL, &report);
	changed_begin(dp);
	return err;
}

/* Those of this machine; the caller frees them after success. */
static int fast_devices(const struct dataplane *dp, struct devices *devices)
{
	*devices = (struct devices){ NULL, 0 };
	return dp->interfaces ? devices_choose(&dp->ruleset, dp->interfaces, devices) : 0;
}

int dataplane_print(struct dataplane *dp, struct strbuf *out)
{
	struct service_port_state **ports;
	const struct element *globals;
	struct devices devices = { NULL, 0 };
	struct text *text;
	struct transaction t;
	unsigned int i, n;
	size_t n_globals;
	int err;

	model_ruleset(dp->model, dp->family, &dp->ruleset);
	text = text_new(&dp->ruleset);
	if (!text)
		return -ENOMEM;
	err = fast_devices(dp, &devices);
	if (err)
		goto out;
	text_set_devices(text, &devices);
	t = transaction(dp, text_writer(text), NULL);
	t.writer->table(t.writer->ctx, CHANGE_ADD, 0);
	err = dataplane_compile(dp);
	if (!err)
		err = all_ports(dp, &ports, &n);
	if (!err)
		err = model_globals(dp->model, dp->family, &dp->scratch, &globals, &n_globals);
	if (!err)
		err = want_spares(dp, ports, n);
	for (i = 0; !err && i < n; i++)
		transaction_program(&t, NULL, ports[i]->desired, ports[i]);
	if (!err && !t.err) {
		transaction_globals(&t, NULL, 0, globals, n_globals);
		transaction_shared(&t);
	}
	err = err ? err : t.err;
	if (!err)
		err = text_print(text, out);
out:
	devices_free(&devices);
	text_free(text);
	arena_reset(&dp->scratch);
	return err;
}

/* Differences as text */

struct diff {
	struct dataplane *dp;
	struct strbuf *out;
};

static void diff_line(struct diff *d, enum change change, const char *what, const char *name)
{
	strbuf_addf(d->out, "%c %s %s vipmap%s%s", change == CHANGE_DELETE ? '-' : '+', what,
		    d->dp->family == FAMILY_IPV4 ? "ip" : "ip6", *name ? " " : "", name);
}

static void diff_table(void *ctx, enum change change, unsigned int parts)
{
	struct diff *d = ctx;

	(void)parts; /* their elements are shown */

	diff_line(d, change, "table",
		  change == CHANGE_UPDATE ? "{ rules of constant chains }" : "");
	strbuf_addc(d->out, '\n');
}

static void diff_pick(void *ctx, enum change change, const struct verdict *pick)
{
	char name[PICK_NAME_SIZE];
	struct diff *d = ctx;

	diff_line(d, change, "chain", pick_name(pick, name));
	strbuf_addc(d->out, '\n');
}

static void diff_affinity(void *ctx, enum change change, const char *name, const char *comment)
{
	struct diff *d = ctx;

	(void)comment;
	diff_line(d, change, "map", name);
	strbuf_addc(d->out, '\n');
}

static void diff_sticky(void *ctx, enum change change, const struct sticky_chain *chain)
{
	struct diff *d = ctx;

	diff_line(d, change, "chain", chain->name);
	strbuf_addc(d->out, '\n');
}

/* The set and its chain. */
static void diff_ranges(void *ctx, enum change change, const char *set)
{
	struct diff *d = ctx;

	diff_line(d, change, change == CHANGE_UPDATE ? "rules of the chain for set" : "set", set);
	strbuf_addc(d->out, '\n');
}

/* What is deleted is known by its key alone; its value is asked for, except for ranges. */
static void diff_element(void *ctx, enum change change, const struct element *element, void *owner)
{
	const bool is_range = set_has_range(element->set);
	struct diff *d = ctx;
	struct lookup found;
	struct errbuf eb;
	bool whole = change != CHANGE_DELETE;

	(void)owner;
	diff_line(d, change, "element", element->ranges ? element->ranges : set_name(element->set));
	strbuf_adds(d->out, " { ");
	if (!whole && !is_range &&
	    lookup_element(d->dp->nl, d->dp->family, element, &found, &eb) == 0) {
		element = &found.element;
		whole = true;
	}
	text_print_element(d->out, d->dp->family, element, whole);
	strbuf_adds(d->out, " }\n");
}

static int diff_full(struct dataplane *dp, struct full *full, struct strbuf *out)
{
	struct diff d = { dp, out };
	const struct writer writer = {
		.ctx = &d,
		.table = diff_table,
		.pick = diff_pick,
		.affinity = diff_affinity,
		.sticky = diff_sticky,
		.ranges = diff_ranges,
		.element = diff_element,
	};
	struct transaction t = transaction(dp, &writer, full->snapshot);
	unsigned int i;

	registry_unwant(&dp->registry);
	snapshot_unsee(full->snapshot);
	if (full->state == TABLE_OTHER)
		diff_table(&d, CHANGE_DELETE, 0);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		diff_table(&d, CHANGE_ADD, 0);
	if (full->state == TABLE_RULES_DIFFER)
		diff_table(&d, CHANGE_UPDATE, full->parts);
	if (full->state == TABLE_OTHER || full->state == TABLE_ABSENT)
		t.err = want_spares(dp, full->ports, full->n_ports);
	for (i = 0; i < full->n_ports; i++)
		transaction_program(&t, NULL, full->ports[i]->desired, full->ports[i]);
	transaction_globals(&t, NULL, 0, full->globals, full->n_globals);
	transaction_shared(&t);
	transaction_unseen(&t);
	return t.err ? t.err : out->err;
}

static void diff_device(struct diff *d, enum change change, const char *device)
{
	diff_line(d, change, "flowtable", FLOWTABLE_NAME);
	strbuf_addf(d->out, " { devices = { %s } }\n", device);
}

/* A table that is not there, or is replaced, has none. */
static int diff_devices(struct dataplane *dp, enum table_state state, struct strbuf *out,
			struct errbuf *eb)
{
	struct devices wanted, have = { NULL, 0 };
	struct diff d = { dp, out };
	unsigned int i;
	int err = fast_devices(dp, &wanted);

	if (!err && (state == TABLE_CURRENT || state == TABLE_RULES_DIFFER))
		err = flowtable_devices(dp->nl, dp->family, &have, eb);
	if (err && err != -ENOENT)
		goto out;
	err = 0;
	for (i = 0; i < have.count; i++)
		if (!devices_have(&wanted, have.names[i]))
			diff_device(&d, CHANGE_DELETE, have.names[i]);
	for (i = 0; i < wanted.count; i++)
		if (!devices_have(&have, wanted.names[i]))
			diff_device(&d, CHANGE_ADD, wanted.names[i]);
out:
	devices_free(&wanted);
	devices_free(&have);
	return err ? err : out->err;
}

int dataplane_diff(struct dataplane *dp, struct strbuf *out, struct errbuf *eb)
{
	struct sync_report report = { 0 };
	struct full full = { 0 };
	int err;

	model_ruleset(dp->model, dp->family, &dp->ruleset);
	err = read_kernel(dp, true, &full, eb);
	if (err)
		return err;
	err = compile_dirty(dp, full.snapshot, &report);
	if (!err)
		err = all_ports(dp, &full.ports, &full.n_ports);
	if (!err)
		err = wanted_globals(dp, full.snapshot, &full.globals, &full.n_globals);
	if (!err)
		err = diff_full(dp, &full, out);
	if (!err && (dp->ruleset.parts & PART_FAST_PATH))
		err = diff_devices(dp, full.state, out, eb);
	if (err)
		errf(eb, err, "%s: %s", family_name(dp->family), strerror(-err));
	snapshot_free(full.snapshot);
	arena_reset(&dp->scratch);
	dp->n_changed = 0;
	return err;
}

static void ignore_element(void *ctx, const struct element *el)
{
	(void)ctx;
	(void)el;
}

static void ignore_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	(void)ctx;
	(void)pick;
	(void)digest;
}

static void ignore_affinity(void *ctx, const char *name)
{
	(void)ctx;
	(void)name;
}

static void ignore_sticky(void *ctx, const char *name, uint64_t digest)
{
	(void)ctx;
	(void)name;
	(void)digest;
}

static void ignore_ranges(void *ctx, const char *set, const struct prefix *list, unsigned int count,
			  uint64_t digest)
{
	(void)ctx;
	(void)set;
	(void)list;
	(void)count;
	(void)digest;
}

int dataplane_remove(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	static const struct readback ignore = {
		.element = ignore_element,
		.pick = ignore_pick,
		.affinity = ignore_affinity,
		.sticky = ignore_sticky,
		.ranges = ignore_ranges,
	};
	const struct ruleset ruleset = { .family = family };
	enum table_state state;
	struct batch *b;
	int err;

	err = readback_table(nl, &ruleset, &ignore, &state, eb);
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
