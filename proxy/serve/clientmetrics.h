/*
 * Requests to API servers, counted as client-go does, whose names the dashboards for kube-proxy
 * know (MET-6). Their labels are not known before, but bounded.
 */
#ifndef SERVE_CLIENTMETRICS_H
#define SERVE_CLIENTMETRICS_H

struct client_metrics;
struct strbuf;

struct client_metrics *client_metrics_new(void); /* NULL when out of memory */
void client_metrics_free(struct client_metrics *c);

/*
 * A request by @method to @host ("10.0.0.1:6443") was answered after @seconds
 * with @status; 0: it failed without an answer.
 */
void client_metrics_answer(struct client_metrics *c, const char *method,
			   const char *host, int status, double seconds);

/* Appends nothing as long as there was no request. */
void client_metrics_format(const struct client_metrics *c, struct strbuf *out);

#endif
