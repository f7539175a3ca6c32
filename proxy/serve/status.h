/*
 * "vipmap status": what a running vipmap has programmed, in words. The daemon serves it as a page
 * of its metrics server, the command asks for it there.
 */
#ifndef SERVE_STATUS_H
#define SERVE_STATUS_H

#include "proxy/serve/metrics.h"
#include "proxy/model/model.h"
#include "proxy/base/strbuf.h"

/* Appends the page: last sync, counters, and each service port with its virtual IPs and endpoints.
 */
void status_format(const struct model *m, const struct metrics *metrics, struct strbuf *out);

/*
 * Asks the metrics server at @address ("ADDRESS:PORT"; an unspecified address means this host) for
 * the page. Returns 0 with it in @out, or a negative errno with @eb.
 */
int status_fetch(const char *address, struct strbuf *out, struct errbuf *eb);

#endif
