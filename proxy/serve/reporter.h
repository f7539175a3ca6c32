/*
 * What the sync does, told to the metrics and the health server: the callbacks
 * of struct sync_options, and nothing else.
 */
#ifndef SERVE_REPORTER_H
#define SERVE_REPORTER_H

#include "proxy/base/clock.h"
#include "proxy/serve/health.h"
#include "proxy/serve/metrics.h"
#include "proxy/sync/sync.h"

struct localports;
struct news;
struct notify;
struct reporter;

/* All borrowed; NULL when out of memory. */
struct reporter *reporter_new(struct model *model, struct metrics *metrics,
			      struct health *health, const struct clock *clock,
			      const bool family[N_FAMILIES]);
void reporter_free(struct reporter *r); /* NULL is allowed */

/* Fills the callbacks and ctx. */
void reporter_attach(struct reporter *r, struct sync_options *options);
/* Hears that the first sync is done, and how much is programmed; NULL: nobody does. */
void reporter_set_notify(struct reporter *r, struct notify *notify);
/*
 * A reload for the service manager: nothing else is told between the two. @refused: the new
 * configuration is not in force. Without effect before the first sync is done.
 */
void reporter_reload_begins(struct reporter *r);
void reporter_reload_ended(struct reporter *r, bool refused);
/* When the changes that sync_request() hears of now came, monotonic; 0: now. */
void reporter_set_arrival(struct reporter *r, int64_t arrived_us);
/* Hears of what is in the kernel, too. Not NULL. */
void reporter_set_localports(struct reporter *r, struct localports *localports);
/* Those who listen to what changes hear of it, too. NULL: there are none. */
void reporter_set_news(struct reporter *r, struct news *news);
/* Counts Services whose rules change from now on, each once; @on again: from the begin. */
void reporter_count_services(struct reporter *r, bool on);
size_t reporter_counted_services(const struct reporter *r);
/* What the syncs until the first ready found and wrote. */
struct reporter_beginning {
	bool adopted, replaced; /* as in struct sync_report, of any family */
	unsigned int elements;
};
struct reporter_beginning reporter_beginning(const struct reporter *r);
/* For the gauges; the reporter lives shorter than the sync. */
void reporter_set_sync(struct reporter *r, const struct sync *sync);
/* Another configuration may ask for the fast path. */
void reporter_set_fast_path(struct reporter *r);

#endif
