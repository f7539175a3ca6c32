/*
 * A queue with one entry for each map. Listing a map costs the kernel the
 * square of its clients, so a map of 300,000 takes seconds, which nothing else
 * should wait for; small ones, which is nearly all, are done before
 * purges_run() returns for the first time.
 */
#include "proxy/sync/purges.h"

#include "nft/affinity.h"
#include "proxy/base/clock.h"
#include "proxy/base/hashtab.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct purge {
	struct hash_node node;
	struct purge *next;
	char *map, *label;
	struct endpoint *wanted; /* sorted */
	unsigned int n_wanted;
	struct affinity_purge *running; /* NULL: not begun */
	bool again;			/* wanted has changed since it began */
};

struct purges {
	enum family family;
	struct nlsock *nl;
	const struct clock *clock;
	bool streaming;
	struct affinity_stream *stream; /* once it is needed */
	struct hashtab by_map;
	struct purge *first, **last;
};

struct purges *purges_new(struct nlsock *nl, const struct clock *clock,
			  enum family family, bool stream)
{
	struct purges *p = calloc(1, sizeof(*p));

	assert(nl && clock && family < N_FAMILIES);
	if (!p)
		return NULL;
	p->family = family;
	p->nl = nl;
	p->clock = clock;
	p->streaming = stream;
	p->last = &p->first;
	return p;
}

static void purge_free(struct purge *job)
{
	affinity_purge_free(job->running);
	free(job->wanted);
	free(job->label);
	free(job->map);
	free(job);
}

static void pop_purge(struct purges *p)
{
	struct purge *job = p->first;

	assert(job);
	p->first = job->next;
	if (!p->first)
		p->last = &p->first;
	hashtab_remove(&p->by_map, &job->node);
	purge_free(job);
}

void purges_free(struct purges *p)
{
	if (!p)
		return;
	while (p->first)
		pop_purge(p);
	hashtab_free(&p->by_map);
	affinity_stream_close(p->stream);
	free(p);
}

bool purges_pending(const struct purges *p)
{
	return p->first;
}

static int purge_endpoint_order(const void *a, const void *b)
{
	return endpoint_compare(a, b);
}

static bool client_is_wanted(void *ctx, const struct addr *endpoint, uint16_t port)
{
	const struct endpoint ep = { .addr = *endpoint, .port = port };
	const struct purge *job = ctx;

	return bsearch(&ep, job->wanted, job->n_wanted, sizeof(ep),
		       purge_endpoint_order);
}

/* NULL: no memory */
static struct endpoint *copy_sorted(const struct endpoint_list *list)
{
	struct endpoint *items = calloc((size_t)list->count + 1, sizeof(*items));

	if (!items)
		return NULL;
	endpoint_list_unpack(list, items);
	qsort(items, list->count, sizeof(*items), purge_endpoint_order);
	return items;
}

static struct purge *purge_find(const struct purges *p, const char *map)
{
	struct purge *job;

	for_each_hash_match (job, &p->by_map, hash_text(HASH_SEED, map), node)
		if (strcmp(job->map, map) == 0)
			break;
	return job;
}

static struct purge *add_new(struct purges *p, const char *map, const char *label)
{
	struct purge *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->map = strdup(map);
	job->label = strdup(label);
	if (!job->map || !job->label) {
		purge_free(job);
		return NULL;
	}
	hashtab_insert(&p->by_map, &job->node, hash_text(HASH_SEED, map));
	assert(!*p->last);
	*p->last = job;
	p->last = &job->next;
	return job;
}

int purges_add(struct purges *p, const char *map, const char *label,
	       const struct endpoint_list *wanted)
{
	struct purge *job = purge_find(p, map);
	struct endpoint *sorted = copy_sorted(wanted);

	if (!sorted)
		return -ENOMEM;
	if (!job)
		job = add_new(p, map, label);
	if (!job) {
		free(sorted);
		return -ENOMEM;
	}
	free(job->wanted);
	job->wanted = sorted;
	job->n_wanted = wanted->count;
	job->again = job->running;
	assert(p->first && p->by_map.count);
	return 0;
}

static int begin_purge(struct purges *p, struct purge *job, struct errbuf *eb)
{
	assert(!job->running);
	if (p->streaming && !p->stream && !(p->stream = affinity_stream_open(eb)))
		return -EIO;
	job->again = false;
	job->running = affinity_purge_new(p->nl, p->stream, p->family, job->map,
					  client_is_wanted, job);
	return job->running ? 0 : errf(eb, -ENOMEM, "out of memory");
}

/* Returns 1 if there is more to do for this map, 0 when it is done, or a negative errno. */
static int step_purge(struct purges *p, struct purge *job, struct errbuf *eb)
{
	int more = job->running ? 0 : begin_purge(p, job, eb);

	if (!more)
		more = affinity_purge_step(job->running, eb);
	if (more != 0 || !job->again)
		return more;
	affinity_purge_free(job->running);
	job->running = NULL;
	return 1;
}

int purges_run(struct purges *p, int64_t until_us, struct errbuf *eb)
{
	struct errbuf reason = { "" };
	int more;

	while (p->first) {
		more = step_purge(p, p->first, &reason);
		if (more < 0)
			errf(eb, more,
			     "Service %s: clients of former endpoints: %s",
			     p->first->label, reason.text);
		if (more <= 0)
			pop_purge(p);
		if (more < 0)
			return more;
		if (p->first && until_us != INT64_MAX &&
		    clock_monotonic_us(p->clock) >= until_us)
			return 1;
	}
	assert(!p->by_map.count);
	return 0;
}
