/* The answers' bodies are thrown away: what counts is the status. */
#include "watch/apicheck.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/apisource_internal.h"
#include "watch/resource.h"

struct check {
	struct event_base *base;
	struct apicheck *result;
	enum kind kind;
	struct apicall *call;
	unsigned int *left;
};

static void ignore_log(void *ctx, int severity, const char *message)
{
	(void)ctx;
	(void)severity;
	(void)message;
}

static void ignore_event(void *ctx)
{
	(void)ctx;
}

static int ignore_data(void *ctx, const char *bytes, size_t length)
{
	(void)ctx;
	(void)bytes;
	(void)length;
	return 0;
}

static void on_checked(void *ctx, const struct http_result *result)
{
	struct check *c = ctx;

	c->call = NULL;
	c->result->kinds[c->kind].status = result->status;
	snprintf(c->result->kinds[c->kind].message, sizeof(c->result->kinds[c->kind].message), "%s",
		 result->message);
	if (--*c->left == 0)
		event_base_loopbreak(c->base);
}

static void ask_all(struct apiclient *client, struct check checks[N_KINDS], const char *node_name,
		    unsigned int patience_ms)
{
	const struct timeval patience = { patience_ms / 1000, patience_ms % 1000 * 1000 };
	struct strbuf path = STRBUF_INIT;
	unsigned int k;

	for (k = 0; k < N_KINDS; k++) {
		strbuf_reset(&path);
		resource_path(resource_of((enum kind)k), node_name, false, &path);
		strbuf_adds(&path, "limit=1");

		const struct apicall_params params = {
			.path = path.text,
			.accept = "application/json",
			.idle_ms = patience_ms,
			.data = ignore_data,
			.done = on_checked,
			.ctx = &checks[k],
		};

		if (!path.err)
			checks[k].call = apiclient_call(client, &params);
		*checks[k].left += checks[k].call != NULL;
	}
	strbuf_free(&path);
	if (!*checks[0].left)
		return;
	event_base_loopexit(checks[0].base, &patience);
	event_base_dispatch(checks[0].base);
	for (k = 0; k < N_KINDS; k++)
		if (checks[k].call) {
			apicall_cancel(checks[k].call);
			snprintf(checks[k].result->kinds[k].message,
				 sizeof(checks[k].result->kinds[k].message), "no answer for %u s",
				 patience_ms / 1000);
		}
}

int apicheck_run(struct event_base *base, const struct config *config, const char *node_name,
		 unsigned int patience_ms, struct apicheck *result, struct errbuf *eb)
{
	const struct apisource_tuning tuning = apisource_default_tuning();
	const struct credentials_source source = {
		.kubeconfig = config->kubeconfig,
		.master = config->master,
		.service_account = tuning.service_account,
		.host = tuning.host,
		.port = tuning.port,
	};
	const struct apiclient_options options = {
		.base = base,
		.source = &source,
		.timing = &tuning.timing,
		.proxy = tuning.proxy,
		.qps = 100,
		.burst = 100,
		.log = ignore_log,
		.answers = ignore_event,
		.round_end = ignore_event,
	};
	struct apiclient *client = apiclient_new(&options, eb);
	struct check checks[N_KINDS];
	unsigned int left = 0, k;

	memset(result, 0, sizeof(*result));
	if (!client)
		return errno ? -errno : -EINVAL;
	for (k = 0; k < N_KINDS; k++) {
		checks[k] = (struct check){ base, result, (enum kind)k, NULL, &left };
		result->kinds[k].optional = resource_of((enum kind)k)->refusable;
	}
	snprintf(result->server, sizeof(result->server), "%s", apiclient_server(client));
	ask_all(client, checks, node_name, patience_ms);
	apiclient_free(client);
	return 0;
}
