/* The pages of the metrics server. Each is made when it is asked for. */
#include "proxy/serve/metricsd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "proxy/serve/httpd.h"
#include "proxy/base/strbuf.h"

enum { MAX_CONNECTIONS = 64 };

static const char plain_text[] = "text/plain; charset=utf-8";

struct waiter {
	LIST_ENTRY(waiter) others;
	struct httpd_stream *stream;
};

struct metricsd {
	LIST_HEAD(, waiter) waiters; /* for what is gathered */
	struct metricsd_options options;
	struct httpd_pool *pool;
	struct httpd *httpd;
};

static void add_configz(const struct metricsd *d, struct strbuf *body)
{
	strbuf_adds(body, "{\"kubeproxy.config.k8s.io\":");
	config_format(d->options.config, body);
	strbuf_adds(body, ",\"vipmap\":");
	config_format_vipmap(d->options.config, body);
	strbuf_addc(body, '}');
}

static int other_page(const struct metricsd *d, struct httpd_request *req,
		      const char *path, struct strbuf *body)
{
	int status = 404;

	if (d->options.page)
		status = d->options.page(d->options.ctx, path, httpd_query(req),
					 body);
	if (status == 404) {
		strbuf_reset(body);
		strbuf_adds(body, "404 page not found\n");
	}
	return status;
}

static void on_gone(void *ctx)
{
	struct waiter *w = ctx;

	LIST_REMOVE(w, others);
	free(w);
}

/* False: it is to be answered at once. */
static bool wait_for_more(struct metricsd *d, struct httpd_request *req)
{
	struct waiter *w;

	if (!d->options.gather || !d->options.gather(d->options.ctx))
		return false;
	w = calloc(1, sizeof(*w));
	if (!w)
		return false;
	w->stream = httpd_stream_begin(req, metrics_content_type, on_gone, w);
	if (w->stream)
		LIST_INSERT_HEAD(&d->waiters, w, others);
	else /* only the head was asked for */
		free(w);
	return true;
}

void metricsd_gathered(struct metricsd *d, const struct strbuf *text)
{
	struct strbuf body = STRBUF_INIT;
	struct httpd_stream *stream;
	struct waiter *w;

	if (d->options.refresh)
		d->options.refresh(d->options.ctx);
	metrics_format(d->options.metrics, &body);
	if (text->length)
		strbuf_add(&body, text->text, text->length);
	while ((w = LIST_FIRST(&d->waiters))) {
		stream = w->stream;
		LIST_REMOVE(w, others);
		free(w);
		httpd_stream_finish(stream, &body);
	}
	strbuf_free(&body);
}

static void answer_metrics(void *ctx, struct httpd_request *req, const char *path)
{
	struct metricsd *d = ctx;
	struct strbuf body = STRBUF_INIT;
	const char *type = plain_text;
	int status = 200;

	if (strcmp(path, "/metrics") == 0 && wait_for_more(d, req))
		return;
	if (strcmp(path, "/metrics") == 0) {
		type = metrics_content_type;
		if (d->options.refresh)
			d->options.refresh(d->options.ctx);
		metrics_format(d->options.metrics, &body);
	} else if (strcmp(path, "/proxyMode") == 0) {
		strbuf_adds(&body, "nftables");
	} else if (strcmp(path, "/healthz") == 0) {
		strbuf_adds(&body, "ok");
	} else if (strcmp(path, "/configz") == 0) {
		type = "application/json";
		add_configz(d, &body);
	} else {
		status = other_page(d, req, path, &body);
	}
	httpd_reply(req, status, type, &body);
	strbuf_free(&body);
}

int metricsd_set_config(struct metricsd *d, const struct config *config,
			struct errbuf *eb)
{
	const struct httpd_keep keep = {
		.what = "metrics server",
		.address = config->metrics_bind_address,
		.hard_fail = config->bind_address_hard_fail,
		.retry_ms = d->options.retry_ms,
		.log = d->options.log,
		.ctx = d->options.ctx,
	};
	int err = httpd_keep(d->httpd, &keep, eb);

	if (!err)
		d->options.config = config;
	return err;
}

struct metricsd *metricsd_new(const struct metricsd_options *options,
			      struct errbuf *eb)
{
	struct metricsd *d = calloc(1, sizeof(*d));

	if (!d) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	d->options = *options;
	d->pool = httpd_pool_new(MAX_CONNECTIONS);
	if (d->pool)
		d->httpd = httpd_new(options->base, d->pool, answer_metrics, d);
	if (!d->httpd)
		errf(eb, -ENOMEM, "out of memory");
	if (!d->httpd || metricsd_set_config(d, options->config, eb)) {
		metricsd_free(d);
		return NULL;
	}
	return d;
}

void metricsd_free(struct metricsd *d)
{
	if (!d)
		return;
	httpd_free(d->httpd);
	httpd_pool_free(d->pool);
	free(d);
}
