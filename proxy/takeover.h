/*
 * takeOver: KubeProxy (BEY-7): what kube-proxy left in the kernel is removed
 * once nobody refreshes it any more, and nothing else is touched.
 */
#ifndef PROXY_TAKEOVER_H
#define PROXY_TAKEOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/base/clock.h"

struct event_base;
struct takeover;

struct takeover_options {
	struct event_base *base;
	const struct clock *clock;
	void (*log)(void *ctx, int severity, const char *message);
	/* Whether all that is wanted is in the kernel now. */
	bool (*in_force)(void *ctx);
	void *ctx;
};

/* NULL when out of memory. Idle until takeover_begin(). */
struct takeover *takeover_new(const struct takeover_options *options);
void takeover_free(struct takeover *t); /* NULL is allowed */

/* The first complete sync is in the kernel. Further calls do nothing. */
void takeover_begin(struct takeover *t);
/* Whether it is wanted, which may change at any time. */
void takeover_enable(struct takeover *t, bool wanted);
/* Before and after a large transaction of ours: it need not be reported to us. */
void takeover_bulk(struct takeover *t, bool begin);

/* What is known of kube-proxy, and what follows from it. Pure. */
struct takeover_facts {
	bool was_answering;  /* one of its ports did, since it is watched */
	unsigned int silent; /* looks in a row at which none did */
	int64_t refreshed_us_ago; /* by whomever; since it is watched if never */
};
bool takeover_may_remove(const struct takeover_facts *facts);

#endif
