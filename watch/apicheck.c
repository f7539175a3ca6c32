/*
 * Of the lists, the answers' bodies are thrown away: what counts is the status.
 * Who we are, the server is asked by a SelfSubjectReview, which is posted and
 * changes nothing (authentication.k8s.io, KEP-3325).
 */
#include "watch/apicheck.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/apisource_internal.h"
#include "watch/json.h"
#include "watch/resource.h"

#define REVIEW_PATH "/apis/authentication.k8s.io/v1/selfsubjectreviews"
#define REVIEW                                                                 \
	"{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"SelfSubjectReview\"}"

enum { REVIEW_MAX = 65536 };

/* One question that is not about a resource. */
struct whoami {
	struct event_base *base;
	struct apicall *call;
	struct strbuf answer;
	bool known;
	unsigned int *left;
};

enum { WATCH_S = 1, N_CHECKS = 2 * N_KINDS };

struct check {
	struct event_base *base;
	struct apicheck *result;
	enum kind kind;
	bool is_watch;
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

/* The status is known by now; what the watch would tell is not wanted. */
static int end_watch(void *ctx, const char *bytes, size_t length)
{
	(void)ctx;
	(void)bytes;
	(void)length;
	return -1;
}

static void on_checked(void *ctx, const struct http_result *result)
{
	struct check *c = ctx;

	c->call = NULL;
	if (c->is_watch) {
		c->result->kinds[c->kind].watch_status = result->status;
	} else {
		c->result->kinds[c->kind].status = result->status;
		snprintf(c->result->kinds[c->kind].message,
			 sizeof(c->result->kinds[c->kind].message), "%s",
			 result->message);
	}
	if (--*c->left == 0)
		event_base_loopbreak(c->base);
}

static int on_review_data(void *ctx, const char *bytes, size_t length)
{
	struct whoami *w = ctx;

	strbuf_add(&w->answer, bytes, length);
	return 0;
}

static void on_reviewed(void *ctx, const struct http_result *result)
{
	struct whoami *w = ctx;

	w->call = NULL;
	w->known = result->status >= 200 && result->status < 300;
	if (--*w->left == 0)
		event_base_loopbreak(w->base);
}

static void ask_who(struct apiclient *client, struct whoami *w,
		    unsigned int patience_ms)
{
	const struct apicall_params params = {
		.path = REVIEW_PATH,
		.body = REVIEW,
		.accept = "application/json",
		.idle_ms = patience_ms,
		.data = on_review_data,
		.done = on_reviewed,
		.ctx = w,
	};

	w->call = apiclient_call(client, &params);
	*w->left += w->call != NULL;
}

/* Left empty by a server that does not know the question, or does not answer it to us. */
static void take_user(const struct whoami *w, struct apicheck *result)
{
	const char *name = NULL;
	struct errbuf eb;
	struct json *root;

	if (!w->known || w->answer.err || !w->answer.text)
		return;
	root = json_parse(w->answer.text, w->answer.length, &eb);
	name = json_string(json_get(
		json_get(json_get(root, "status"), "userInfo"), "username"));
	if (name)
		snprintf(result->user, sizeof(result->user), "%s", name);
	json_free(root);
}

static void ask_right(struct apiclient *client, struct check *c,
		      const char *node_name, unsigned int patience_ms)
{
	struct strbuf path = STRBUF_INIT;

	resource_path(resource_of(c->kind), node_name, false, &path);
	if (c->is_watch)
		strbuf_addf(&path, "watch=true&timeoutSeconds=%d", WATCH_S);
	else
		strbuf_adds(&path, "limit=1");

	const struct apicall_params params = {
		.path = path.text,
		.accept = "application/json",
		.idle_ms = patience_ms,
		.data = c->is_watch ? end_watch : ignore_data,
		.done = on_checked,
		.ctx = c,
	};

	if (!path.err)
		c->call = apiclient_call(client, &params);
	*c->left += c->call != NULL;
	strbuf_free(&path);
}

static void ask_all(struct apiclient *client, struct check checks[N_CHECKS],
		    struct whoami *who, const char *node_name,
		    unsigned int patience_ms)
{
	const struct timeval patience = { patience_ms / 1000,
					  patience_ms % 1000 * 1000 };
	unsigned int i;

	for (i = 0; i < N_CHECKS; i++)
		ask_right(client, &checks[i], node_name, patience_ms);
	ask_who(client, who, patience_ms);
	if (!*checks[0].left)
		return;
	event_base_loopexit(checks[0].base, &patience);
	event_base_dispatch(checks[0].base);
	apicall_cancel(who->call);
	for (i = 0; i < N_CHECKS; i++) {
		if (!checks[i].call)
			continue;
		apicall_cancel(checks[i].call);
		if (!checks[i].is_watch)
			snprintf(checks[i].result->kinds[checks[i].kind].message,
				 sizeof(checks[i].result->kinds[0].message),
				 "no answer for %u s", patience_ms / 1000);
	}
}

int apicheck_run(struct event_base *base, const struct config *config,
		 const char *node_name, unsigned int patience_ms,
		 struct apicheck *result, struct errbuf *eb)
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
	struct check checks[N_CHECKS];
	unsigned int left = 0, i;
	struct whoami who = { .base = base,
			      .answer = { .max = REVIEW_MAX },
			      .left = &left };

	memset(result, 0, sizeof(*result));
	if (!client)
		return errno ? -errno : -EINVAL;
	for (i = 0; i < N_CHECKS; i++) {
		const enum kind kind = (enum kind)(i % N_KINDS);

		checks[i] = (struct check){ .base = base,
					    .result = result,
					    .kind = kind,
					    .is_watch = i >= N_KINDS,
					    .left = &left };
		result->kinds[kind].optional = resource_of(kind)->refusable;
	}
	snprintf(result->server, sizeof(result->server), "%s",
		 apiclient_server(client));
	ask_all(client, checks, &who, node_name, patience_ms);
	take_user(&who, result);
	strbuf_free(&who.answer);
	apiclient_free(client);
	return 0;
}
