/*
 * Between the reflectors and HTTP. A call is throttled, takes credentials as
 * they are at the moment it really starts, and its end is looked at here before
 * its owner hears of it: a 401 has the credentials read anew, a server that
 * cannot be reached makes room for the next address.
 *
 * Several calls fail together when a server goes down. Only the first of them
 * moves on: a call remembers the address it used.
 */
#include "watch/apiclient.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <syslog.h>

#include "proxy/base/hashtab.h"
#include "watch/backoff.h"

enum {
	/* A server that answers but fails this often in a row is left, too. */
	FAILURES_MAX = 3,
	REASONS_MAX = 4, /* that are told of one outage */
};

const struct api_timing api_timing_defaults = {
	.connect_ms = 10 * 1000,
	.list_idle_ms = 60 * 1000,
	.watch_idle_ms = 150 * 1000,
	.backoff_initial_ms = 800,
	.backoff_max_ms = 30 * 1000,
	.hurry_ms = 800,
	.absent_ms = 300 * 1000,
	.retry_after_max_ms = 120 * 1000,
	.short_watch_ms = 1000,
	.steady_ms = 10 * 1000,
	.log_ms = 60 * 1000,
	.token_age_ms = TOKEN_AGE_MS,
	.watch_min_s = 300,
	.watch_max_s = 600,
	.page_limit = 500,
};

struct apicall {
	TAILQ_ENTRY(apicall) link;
	struct apiclient *client;
	struct event *start;
	struct http_request *request; /* NULL: not started yet */
	unsigned int server;
	int64_t started_us;
	bool answered; /* its head has come */
	char *path, *body;
	const char *accept;
	int64_t idle_ms;
	bool fresh;
	void (*head)(void *ctx, int status);
	int (*data)(void *ctx, const char *bytes, size_t length);
	void (*done)(void *ctx, const struct http_result *result);
	void *ctx;
};

TAILQ_HEAD(call_list, apicall);

struct apiclient {
	struct event_base *base;
	const struct credentials_source *source;
	const struct api_timing *timing;
	const struct clock *clock;
	struct webproxy_env proxy;
	struct http *http;
	struct credentials *credentials;
	struct throttle throttle;
	unsigned int server, failures;
	unsigned int unreached; /* servers in a row */
	bool reread;		/* the last credentials were refused */
	struct call_list calls;
	void (*log)(void *ctx, int severity, const char *message);
	void (*answers)(void *ctx);
	void (*answered)(void *ctx, const struct api_answer *answer);
	void *ctx;
	struct apiclient_outage outage;
	uint64_t told[REASONS_MAX]; /* of this outage */
	unsigned int n_told;
	char trouble[512]; /* last logged about credentials */
};

struct apiclient *apiclient_new(const struct apiclient_options *options,
				struct errbuf *eb)
{
	const struct http_options http_options = {
		.user_agent = "vipmap/" VIPMAP_VERSION,
		.clock = options->clock,
		.round_end = options->round_end,
		.ctx = options->ctx,
	};
	struct apiclient *client = calloc(1, sizeof(*client));

	assert(options->base && options->source && options->timing && options->log);
	if (!client) {
		errf(eb, -ENOMEM, "API client: out of memory");
		return NULL;
	}
	TAILQ_INIT(&client->calls);
	client->base = options->base;
	client->source = options->source;
	client->timing = options->timing;
	client->clock = options->clock ? options->clock : clock_system();
	client->proxy = options->proxy;
	client->log = options->log;
	client->answers = options->answers;
	client->answered = options->answered;
	client->ctx = options->ctx;
	throttle_init(&client->throttle, options->qps, options->burst,
		      clock_monotonic_us(client->clock));
	client->credentials = credentials_read(
		options->source, clock_monotonic_us(client->clock), eb);
	if (client->credentials) {
		client->http = http_new(options->base, &http_options);
		if (client->http)
			return client;
		errf(eb, -ENOMEM, "API client: out of memory");
	}
	apiclient_free(client);
	return NULL;
}

void apiclient_free(struct apiclient *client)
{
	if (!client)
		return;
	while (!TAILQ_EMPTY(&client->calls))
		apicall_cancel(TAILQ_FIRST(&client->calls));
	http_free(client->http);
	credentials_free(client->credentials);
	free(client);
}

static void apicall_free(struct apicall *call)
{
	assert(call->client);
	TAILQ_REMOVE(&call->client->calls, call, link);
	if (call->start)
		event_free(call->start);
	free(call->path);
	free(call->body);
	free(call);
}

/* The same trouble is told once, until it is over or another one. */
static void client_trouble(struct apiclient *client, const char *text)
{
	if (!strcmp(client->trouble, text))
		return;
	memcpy(client->trouble, text, strlen(text) + 1);
	client->log(client->ctx, LOG_ERR, text);
}

/* After a 401 the whole kubeconfig may be another one. */
static void reread_credentials(struct apiclient *client)
{
	struct credentials *fresh;
	struct errbuf eb = { "" };

	client->reread = false;
	fresh = credentials_read(client->source,
				 clock_monotonic_us(client->clock), &eb);
	if (fresh && !credentials_ready(fresh)) {
		credentials_refresh(fresh, clock_monotonic_us(client->clock),
				    INT64_MAX, &eb);
		credentials_free(fresh);
		fresh = NULL;
	}
	if (!fresh) {
		client_trouble(client, eb.text);
		return;
	}
	credentials_free(client->credentials);
	assert(fresh->n_servers);
	client->credentials = fresh;
	client->server %= fresh->n_servers;
	client->trouble[0] = '\0';
}

static void refresh_credentials(struct apiclient *client)
{
	struct errbuf eb = { "" };

	if (client->reread)
		reread_credentials(client);
	else if (credentials_refresh(client->credentials,
				     clock_monotonic_us(client->clock),
				     client->timing->token_age_ms * 1000, &eb))
		client_trouble(client, eb.text);
	else
		client->trouble[0] = '\0';
}

static void server_failed(struct apiclient *client, const struct apicall *call,
			  const char *why)
{
	const struct credentials *c = client->credentials;
	struct errbuf eb;

	client->failures = 0;
	if (c->n_servers < 2 || call->server != client->server)
		return;
	client->server = (client->server + 1) % c->n_servers;
	assert(client->server < c->n_servers);
	errf(&eb, 0,
	     "API server %.120s failed (%.120s), trying %.120s; rules stay as they are",
	     c->servers[call->server], why, c->servers[client->server]);
	client->log(client->ctx, LOG_NOTICE, eb.text);
}

/* Of the words alone: the same trouble comes with other ports and other times. */
static uint64_t hash_reason(const char *reason)
{
	uint64_t hash = HASH_SEED;

	for (; *reason; reason++)
		if (*reason < '0' || *reason > '9')
			hash = hash_bytes(hash, reason, 1);
	return hash;
}

/* Whether the reason was not told in this outage, and may still be. */
static bool is_other_reason(struct apiclient *client)
{
	const uint64_t hash = hash_reason(client->outage.reason);
	unsigned int i;

	for (i = 0; i < client->n_told; i++)
		if (client->told[i] == hash)
			return false;
	if (client->n_told == REASONS_MAX)
		return false;
	assert(client->n_told < REASONS_MAX);
	client->told[client->n_told++] = hash;
	return true;
}

/* Said once for all calls, again for each other reason, and when it is over. */
static void tell_unreached(struct apiclient *client, const struct apicall *call)
{
	const unsigned int n_servers = client->credentials->n_servers;
	struct errbuf eb;

	if (call->server != client->server || ++client->unreached < n_servers ||
	    !is_other_reason(client))
		return;
	errf(&eb, 0,
	     client->n_told == 1
		     ? "API server unreachable: %s; rules stay as they are"
		     : "API server still unreachable, for another reason: %s; rules "
		       "stay as they are",
	     client->outage.reason);
	client->log(client->ctx, LOG_WARNING, eb.text);
}

static void note_unreached(struct apiclient *client, const struct http_result *result)
{
	if (!client->outage.tries++)
		client->outage.since_us = clock_monotonic_us(client->clock);
	memcpy(client->outage.reason, result->message,
	       sizeof(client->outage.reason));
}

static void tell_reached(struct apiclient *client)
{
	const bool again = client->unreached >= client->credentials->n_servers;
	const int64_t since_us = client->outage.since_us;
	char age[AGE_TEXT_SIZE];
	struct errbuf eb;

	client->outage.tries = 0;
	client->unreached = 0;
	client->n_told = 0;
	if (!again)
		return;
	errf(&eb, 0, "API server reachable again after %s",
	     age_format((clock_monotonic_us(client->clock) - since_us) / 1000000,
			age));
	client->log(client->ctx, LOG_NOTICE, eb.text);
	client->answers(client->ctx);
}

/* One line when a request goes out, and one when its answer ends. Bodies are never told. */
static void tell_request(struct apiclient *client, const struct apicall *call,
			 const struct http_result *result)
{
	const char *method = call->body ? "POST" : "GET";
	struct errbuf eb;

	assert(call->path);
	if (!result)
		errf(&eb, 0, "request: %s %.300s", method, call->path);
	else if (result->outcome == HTTP_COMPLETE)
		errf(&eb, 0, "answer %d: %s %.300s", result->status, method,
		     call->path);
	else
		errf(&eb, 0, "no answer (%.100s): %s %.300s", result->message,
		     method, call->path);
	client->log(client->ctx, LOG_DEBUG, eb.text);
}

static void look_at_result(struct apiclient *client, const struct apicall *call,
			   const struct http_result *result)
{
	switch (result->outcome) {
	case HTTP_UNREACHED:
	case HTTP_SILENT:
		if (!result->status) {
			note_unreached(client, result);
			tell_unreached(client, call);
		}
		server_failed(client, call, result->message);
		break;
	case HTTP_COMPLETE:
		if (result->status == 401)
			client->reread = true;
		if (result->status < 500)
			client->failures = 0;
		else if (++client->failures >= FAILURES_MAX)
			server_failed(client, call, "its answers are 5xx");
		break;
	case HTTP_BROKEN:
	case HTTP_REFUSED:
		break;
	}
}

static void tell_answered(struct apicall *call, int status)
{
	const struct apiclient *client = call->client;
	struct api_answer answer = {
		.method = call->body ? "POST" : "GET",
		.status = status,
		.took_us = clock_monotonic_us(client->clock) - call->started_us,
	};

	if (call->answered || !client->answered)
		return;
	call->answered = true;
	/* Credentials that were read anew may have fewer servers. */
	answer.server =
		client->credentials->servers[call->server % client->credentials->n_servers];
	client->answered(client->ctx, &answer);
}

static void apicall_done(void *ctx, const struct http_result *result)
{
	struct apicall *call = ctx;
	void (*done)(void *ctx, const struct http_result *result) = call->done;

	ctx = call->ctx;
	tell_request(call->client, call, result);
	tell_answered(call, result->status);
	look_at_result(call->client, call, result);
	apicall_free(call);
	done(ctx, result);
}

static int apicall_data(void *ctx, const char *bytes, size_t length)
{
	struct apicall *call = ctx;

	return call->data ? call->data(call->ctx, bytes, length) : 0;
}

static void apicall_head(void *ctx, int status)
{
	struct apicall *call = ctx;

	tell_answered(call, status);
	tell_reached(call->client);
	if (call->head)
		call->head(call->ctx, status);
}

/* It has not even begun. */
static void apicall_fail(struct apicall *call, const char *why)
{
	struct http_result result = { .outcome = HTTP_REFUSED,
				      .retry_after_ms = -1 };

	snprintf(result.message, sizeof(result.message), "%.255s", why);
	apicall_done(call, &result);
}

static void apicall_start(evutil_socket_t fd, short what, void *ctx)
{
	struct apicall *call = ctx;
	struct apiclient *client = call->client;
	struct http_params params = {
		.path = call->path,
		.body = call->body,
		.accept = call->accept,
		.connect_ms = client->timing->connect_ms,
		.idle_ms = call->idle_ms,
		.fresh = call->fresh,
		.head = apicall_head,
		.data = apicall_data,
		.done = apicall_done,
		.ctx = call,
	};
	struct http_identity identity;

	assert(!call->request);
	(void)fd;
	(void)what;
	refresh_credentials(client);
	if (!credentials_ready(client->credentials)) {
		apicall_fail(call, client->trouble);
		return;
	}
	identity = credentials_identity(client->credentials);
	assert(client->server < client->credentials->n_servers);
	params.identity = &identity;
	params.server = client->credentials->servers[client->server];
	if (!identity.proxy)
		identity.proxy = webproxy_choose(&client->proxy, params.server);
	call->server = client->server;
	tell_request(client, call, NULL);
	call->started_us = clock_monotonic_us(client->clock);
	call->request = http_start(client->http, &params);
	if (!call->request)
		apicall_fail(call, "out of memory");
}

struct apicall *apiclient_call(struct apiclient *client,
			       const struct apicall_params *params)
{
	struct apicall *call = calloc(1, sizeof(*call));
	struct timeval wait = { 0, 0 };
	int64_t wait_us;

	if (!call)
		return NULL;
	TAILQ_INSERT_TAIL(&client->calls, call, link);
	call->client = client;
	call->accept = params->accept;
	call->idle_ms = params->idle_ms;
	call->fresh = params->fresh;
	call->head = params->head;
	call->data = params->data;
	call->done = params->done;
	call->ctx = params->ctx;
	call->path = strdup(params->path);
	call->body = params->body ? strdup(params->body) : NULL;
	call->start = event_new(client->base, -1, 0, apicall_start, call);
	wait_us = throttle_take_us(&client->throttle,
				   clock_monotonic_us(client->clock));
	wait.tv_sec = wait_us / 1000000;
	wait.tv_usec = wait_us % 1000000;
	if (!call->path || (params->body && !call->body) || !call->start ||
	    event_add(call->start, &wait)) {
		apicall_free(call);
		return NULL;
	}
	return call;
}

void apicall_cancel(struct apicall *call)
{
	if (!call)
		return;
	http_cancel(call->request);
	apicall_free(call);
}

void apicall_set_idle(struct apicall *call, int64_t idle_ms)
{
	call->idle_ms = idle_ms;
	if (call->request)
		http_set_idle(call->request, idle_ms);
}

int apicall_status(const struct apicall *call)
{
	return call->request ? http_status(call->request) : 0;
}

bool apicall_is_type(const struct apicall *call, const char *type)
{
	return call->request && http_is_type(call->request, type);
}

int64_t apiclient_last_contact_us(const struct apiclient *client)
{
	return http_last_byte_us(client->http);
}

const struct apiclient_outage *apiclient_outage(const struct apiclient *client)
{
	return &client->outage;
}

const char *apiclient_server(const struct apiclient *client)
{
	return client->credentials->servers[client->server];
}
