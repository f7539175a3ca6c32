/*
 * What a running vipmap has programmed, in words: the page /status of the metrics server.
 */
#ifndef SERVE_STATUS_H
#define SERVE_STATUS_H

#include "proxy/base/clock.h"
#include "proxy/serve/metrics.h"
#include "proxy/model/model.h"
#include "proxy/base/strbuf.h"

/* Appends the page: last sync, counters, each service port with its virtual IPs and endpoints. */
void status_format(const struct model *m, const struct metrics *metrics,
		   const struct clock *clock, struct strbuf *out);

#endif
