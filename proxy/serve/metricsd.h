/*
 * The metrics server: /metrics, /proxyMode, /healthz, /configz (section 16).
 */
#ifndef SERVE_METRICSD_H
#define SERVE_METRICSD_H

#include "proxy/model/config.h"
#include "proxy/serve/metrics.h"

struct event_base;
struct metricsd;
struct strbuf;

/* Pointers are borrowed and must outlive the server. */
struct metricsd_options {
	struct event_base *base;
	/* metricsBindAddress, bindAddressHardFail; shown as /configz */
	const struct config *config;
	const struct metrics *metrics;
	void (*refresh)(void *ctx); /* before they are shown; may be NULL */
	/*
	 * Begins to gather what takes a while, and then calls
	 * metricsd_gathered(), later: until then whoever asks for metrics
	 * waits. False: there is nothing more to show. May be NULL
	 */
	bool (*gather)(void *ctx);
	unsigned int retry_ms; /* 0: 5000 */
	void (*log)(void *ctx, int severity, const char *message);
	/*
	 * Any other path, with what follows "?" ("" if nothing does): writes plain text and returns
	 * the status, 404 if there is no such page. NULL: none.
	 */
	int (*page)(void *ctx, const char *path, const char *query,
		    struct strbuf *out);
	void *ctx;
};

/* NULL with @eb: out of memory, or with bindAddressHardFail it cannot listen.
 * With address "" it serves nothing. */
struct metricsd *metricsd_new(const struct metricsd_options *options,
			      struct errbuf *eb);
/* Another configuration takes effect (CFG-3). A negative errno with @eb leaves
 * the old one in force.
 */
int metricsd_set_config(struct metricsd *d, const struct config *config,
			struct errbuf *eb);
/* @text is shown behind the metrics to all who wait. */
void metricsd_gathered(struct metricsd *d, const struct strbuf *text);
void metricsd_free(struct metricsd *d); /* NULL is allowed */

#endif
