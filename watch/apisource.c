/*
 * Four reflectors and one API client, and the Events that we write. All of it
 * lives on the caller's loop.
 *
 * settled() is said once per round of the loop in which the sink was given
 * something: what arrived together can be synced together, and by then libcurl
 * has returned, so that the listener may do whatever it likes.
 */
#include "watch/apisource.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <syslog.h>

#include "proxy/base/arena.h"
#include "proxy/base/jsonout.h"
#include "proxy/base/strbuf.h"
#include "watch/apisource_internal.h"
#include "watch/reflector.h"

enum {
	EVENTS_MAX = 16, /* that wait for the server; more are dropped */
	EVENT_IDLE_MS = 30 * 1000,
	NOTE_MAX = 1024, /* the API's limit */
};

struct event_call {
	struct apisource *source;
	struct apicall *call;
};

struct apisource {
	struct apisource_options o;
	struct apisource_tuning tuning;
	struct credentials_source credentials;
	struct apiclient *client;
	struct reflector *reflectors[N_KINDS];
	struct arena scratch, trees;
	struct strbuf accept;
	bool json_only;
	struct decoder decoder;
	struct object_sink sink;
	bool touched;
	uint64_t random;
	struct event_call events[EVENTS_MAX];
};

static void source_log(void *ctx, int severity, const char *message)
{
	struct apisource *source = ctx;

	source->o.log(source->o.ctx, severity, message);
}

static void source_touched(void *ctx)
{
	struct apisource *source = ctx;

	source->touched = true;
}

static void source_round_end(void *ctx)
{
	struct apisource *source = ctx;

	if (!source->touched)
		return;
	source->touched = false;
	source->o.settled(source->o.ctx);
}

static void source_answers(void *ctx)
{
	struct apisource *source = ctx;

	for (int kind = 0; kind < N_KINDS; kind++)
		reflector_server_answers(source->reflectors[kind]);
}

/* @server without scheme and prefix; http.h has no user information in it. */
static void source_answered(void *ctx, const struct api_answer *answer)
{
	struct apisource *source = ctx;
	const char *host = strstr(answer->server, "://");
	char text[264];

	if (!source->o.answered)
		return;
	host = host ? host + 3 : answer->server;
	snprintf(text, sizeof(text), "%.*s", (int)strcspn(host, "/"), host);
	source->o.answered(source->o.ctx, answer->method, text, answer->status,
			   answer->took_us);
}

static void source_watch_ended(void *ctx, enum kind kind)
{
	struct apisource *source = ctx;

	if (source->o.watch_ended)
		source->o.watch_ended(source->o.ctx, kind);
}

static void source_complain(void *ctx, const char *message)
{
	struct apisource *source = ctx;

	source->sink.complain(source->sink.ctx, message);
}

struct apisource_tuning apisource_default_tuning(void)
{
	return (struct apisource_tuning){
		.timing = api_timing_defaults,
		.clock = clock_system(),
		.service_account = "/var/run/secrets/kubernetes.io/serviceaccount",
		.host = getenv("KUBERNETES_SERVICE_HOST"),
		.port = getenv("KUBERNETES_SERVICE_PORT"),
		.service_url = getenv("KUBERNETES_PORT"),
		.proxy = webproxy_environment(),
	};
}

static uint64_t fresh_seed(const struct apisource_tuning *tuning)
{
	uint64_t seed = tuning->seed;

	if (!seed && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = (uint64_t)clock_realtime_us(tuning->clock);
	return seed | 1;
}

static const char json_media[] = "application/json";
static const char protobuf_media[] = "application/vnd.kubernetes.protobuf";

/* What @types, separated by commas, says of the first of them that we read; *length is 0 if none.
 */
static const char *first_known(const char *types, size_t *length, bool *is_protobuf)
{
	const char *at = types;

	for (; *at; at += *length + (at[*length] == ',')) {
		at += strspn(at, " \t");
		*length = strcspn(at, ",");
		*is_protobuf =
			!strncmp(at, protobuf_media, sizeof(protobuf_media) - 1);
		if (*is_protobuf ||
		    !strncmp(at, json_media, sizeof(json_media) - 1))
			return at;
	}
	*length = 0;
	return at;
}

/* Nothing that would end the line of a header. */
static bool is_header_text(const char *text, size_t length)
{
	while (length && text[length - 1] >= ' ' && text[length - 1] < 127)
		length--;
	return !length;
}

/*
 * What is accepted: the type that the configuration names first, JSON if it
 * names none, with its parameters; then, for a server that does not know those,
 * the same without; and JSON. This is how kube-proxy asks, for watches too.
 */
static int choose_types(struct apisource *source)
{
	const struct config *config = source->o.config;
	struct strbuf *accept = &source->accept;
	bool is_protobuf = false;
	size_t length;
	const char *named = first_known(*config->accept_content_types
						? config->accept_content_types
						: config->content_type,
					&length, &is_protobuf);

	if (memchr(named, ';', length) && is_header_text(named, length)) {
		strbuf_add(accept, named, length);
		strbuf_adds(accept, ", ");
	}
	if (is_protobuf)
		strbuf_addf(accept, "%s, ", protobuf_media);
	strbuf_adds(accept, json_media);
	source->json_only = !is_protobuf;
	return accept->err;
}

static int make_reflectors(struct apisource *source, struct event_base *base)
{
	struct reflector_options options = {
		.node_name = source->o.node_name,
		.client = source->client,
		.timing = &source->tuning.timing,
		.sink = &source->sink,
		.decoder = &source->decoder,
		.trees = &source->trees,
		.accept = source->accept.text,
		.json_only = source->json_only,
		.base = base,
		.clock = source->tuning.clock,
		.log = source_log,
		.touched = source_touched,
		.watch_ended = source_watch_ended,
		.ctx = source,
	};

	for (int kind = 0; kind < N_KINDS; kind++) {
		options.kind = (enum kind)kind;
		options.seed = source->random + (uint64_t)kind * 2;
		source->reflectors[kind] = reflector_new(&options);
		if (!source->reflectors[kind])
			return -ENOMEM;
	}
	return 0;
}

/* kube-proxy's zero values mean its defaults. */
static struct apiclient *make_client(struct apisource *source,
				     struct event_base *base, struct errbuf *eb)
{
	const struct config *config = source->o.config;
	const struct apiclient_options options = {
		.base = base,
		.source = &source->credentials,
		.timing = &source->tuning.timing,
		.clock = source->tuning.clock,
		.proxy = source->tuning.proxy,
		.qps = config->qps == 0 ? 5 : config->qps,
		.burst = config->burst == 0 ? 10 : config->burst,
		.log = source_log,
		.answers = source_answers,
		.round_end = source_round_end,
		.answered = source_answered,
		.ctx = source,
	};

	source->credentials = (struct credentials_source){
		.kubeconfig = config->kubeconfig,
		.master = config->master,
		.service_account = source->tuning.service_account,
		.host = source->tuning.host,
		.port = source->tuning.port,
	};
	return apiclient_new(&options, eb);
}

struct apisource *apisource_new_tuned(struct event_base *base,
				      const struct apisource_options *options,
				      const struct apisource_tuning *tuning,
				      const struct object_sink *sink,
				      struct errbuf *eb)
{
	struct apisource *source;

	errno = 0;
	source = calloc(1, sizeof(*source));
	if (!source) {
		errf(eb, -ENOMEM, "API server: out of memory");
		return NULL;
	}
	source->o = *options;
	source->tuning = *tuning;
	source->sink = *sink;
	source->random = fresh_seed(tuning);
	source->decoder = (struct decoder){
		.node_name = options->node_name,
		.scratch = &source->scratch,
		.complain = source_complain,
		.ctx = source,
	};
	source->client = make_client(source, base, eb);
	if (source->client && choose_types(source) == 0 &&
	    make_reflectors(source, base) == 0)
		return source;
	if (source->client)
		errf(eb, -ENOMEM, "API server: out of memory");
	apisource_free(source);
	return NULL;
}

struct apisource *apisource_new(struct event_base *base,
				const struct apisource_options *options,
				const struct object_sink *sink, struct errbuf *eb)
{
	struct apisource_tuning tuning = apisource_default_tuning();

	if (options->clock)
		tuning.clock = options->clock;
	return apisource_new_tuned(base, options, &tuning, sink, eb);
}

void apisource_free(struct apisource *source)
{
	if (!source)
		return;
	for (int kind = 0; kind < N_KINDS; kind++)
		reflector_free(source->reflectors[kind]);
	apiclient_free(source->client);
	arena_free(&source->scratch);
	arena_free(&source->trees);
	strbuf_free(&source->accept);
	free(source);
}

/*
 * Whether the API server's address is that of the Service default/kubernetes.
 * The kubelet says this Service's address twice: KUBERNETES_SERVICE_HOST, which
 * whoever writes the pod may replace by a real address, and KUBERNETES_PORT
 * (tcp://ADDRESS:PORT), which nobody has a reason to replace.
 */
static bool is_service_address(const struct apisource *source)
{
	const struct config *config = source->o.config;
	const char *host = source->tuning.host, *url = source->tuning.service_url;
	enum family family, service_family;
	struct addr addr, service;
	struct http_address parts;

	if (*config->kubeconfig || *config->master || !host || !url)
		return false;
	return addr_parse(host, &family, &addr) == 0 && !http_split(url, &parts) &&
	       addr_parse(parts.host, &service_family, &service) == 0 &&
	       service_family == family && addr_compare(&service, &addr) == 0;
}

/* Who stands between us and what we are asked to program? */
static void warn_about_address(struct apisource *source)
{
	struct errbuf eb;

	if (!is_service_address(source))
		return;
	errf(&eb, 0,
	     "API server: %.200s is the cluster's own service address, which may work only once "
	     "vipmap or another proxy has programmed it; better give a server's real address with "
	     "a kubeconfig or --master",
	     apiclient_server(source->client));
	source_log(source, LOG_WARNING, eb.text);
}

void apisource_start(struct apisource *source)
{
	warn_about_address(source);
	for (int kind = 0; kind < N_KINDS; kind++)
		reflector_start(source->reflectors[kind]);
}

struct apisource_status apisource_status(const struct apisource *source)
{
	const struct apiclient_outage *outage = apiclient_outage(source->client);
	struct apisource_status status = {
		.last_contact_us = apiclient_last_contact_us(source->client),
		.reason = "",
	};

	for (int kind = 0; kind < N_KINDS; kind++) {
		status.connected[kind] =
			reflector_is_connected(source->reflectors[kind]);
		status.listed[kind] =
			reflector_is_listed(source->reflectors[kind]);
		if (!*status.reason && !status.connected[kind])
			status.reason =
				reflector_problem(source->reflectors[kind]);
	}
	status.server = apiclient_server(source->client);
	status.tries = outage->tries;
	status.lost_us = outage->since_us;
	if (outage->tries)
		status.reason = outage->reason;
	return status;
}

/* Events */

/* Cut after @max bytes, but not inside a character. */
static void put_cut(struct strbuf *sb, const char *key, const char *text, size_t max)
{
	char cut[NOTE_MAX + 1];
	size_t length = strnlen(text, max);

	while (length && text[length] && ((unsigned char)text[length] & 0xc0) == 0x80)
		length--;
	memcpy(cut, text, length);
	cut[length] = '\0';
	jsonout_text(sb, key, cut);
}

/* events.k8s.io/v1; about a Node, which has no namespace, they are kept in "default". */
static void build_event(const struct apisource *source,
			const struct apisource_event *event,
			const char *namespace, struct strbuf *sb)
{
	const int64_t now_us = clock_realtime_us(source->tuning.clock);
	char time_text[CLOCK_TEXT_SIZE];

	jsonout_object(sb, NULL);
	jsonout_text(sb, "apiVersion", "events.k8s.io/v1");
	jsonout_text(sb, "kind", "Event");
	jsonout_object(sb, "metadata");
	jsonout_textf(sb, "name", "%.200s.%llx", event->name,
		      (unsigned long long)now_us * 1000);
	put_cut(sb, "namespace", namespace, 253);
	jsonout_object_end(sb);
	jsonout_text(sb, "eventTime", clock_format(now_us, time_text));
	put_cut(sb, "type", event->type, 64);
	put_cut(sb, "reason", event->reason, 128);
	put_cut(sb, "action", event->action, 128);
	put_cut(sb, "note", event->note, NOTE_MAX);
	jsonout_text(sb, "reportingController", "vipmap");
	put_cut(sb, "reportingInstance", source->o.node_name, 128);
	jsonout_object(sb, "regarding");
	jsonout_text(sb, "kind", kind_name(event->kind));
	jsonout_text(sb, "apiVersion", "v1");
	put_cut(sb, "name", event->name, 253);
	if (event->namespace && *event->namespace)
		put_cut(sb, "namespace", event->namespace, 253);
	if (event->uid && *event->uid)
		put_cut(sb, "uid", event->uid, 128);
	jsonout_object_end(sb);
	jsonout_object_end(sb);
}

static void event_failed(struct apisource *source, const char *why)
{
	struct errbuf eb;

	errf(&eb, 0, "Event not created: %.300s; traffic is not concerned", why);
	source_log(source, LOG_WARNING, eb.text);
}

static void event_done(void *ctx, const struct http_result *result)
{
	struct event_call *slot = ctx;
	struct errbuf eb;

	slot->call = NULL;
	if (result->outcome != HTTP_COMPLETE) {
		event_failed(slot->source, result->message);
	} else if (result->status >= 300) {
		errf(&eb, 0, "the API server says %d", result->status);
		event_failed(slot->source, eb.text);
	}
}

static int event_data(void *ctx, const char *bytes, size_t length)
{
	(void)ctx;
	(void)bytes;
	(void)length;
	return 0;
}

static struct event_call *free_slot(struct apisource *source)
{
	for (int i = 0; i < EVENTS_MAX; i++)
		if (!source->events[i].call)
			return &source->events[i];
	return NULL;
}

void apisource_post_event(struct apisource *source,
			  const struct apisource_event *event)
{
	const char *namespace = event->namespace && *event->namespace
					? event->namespace
					: "default";
	struct strbuf path = STRBUF_INIT, body = STRBUF_INIT;
	struct event_call *slot = free_slot(source);
	struct apicall_params params = {
		.idle_ms = EVENT_IDLE_MS,
		.data = event_data,
		.done = event_done,
		.ctx = slot,
	};

	if (!slot) {
		event_failed(source, "too many are waiting");
		return;
	}
	strbuf_adds(&path, "/apis/events.k8s.io/v1/namespaces/");
	http_escape(&path, namespace);
	strbuf_adds(&path, "/events");
	build_event(source, event, namespace, &body);
	slot->source = source;
	params.path = path.text;
	params.body = body.text;
	if (!path.err && !body.err)
		slot->call = apiclient_call(source->client, &params);
	if (!slot->call)
		event_failed(source, "out of memory");
	strbuf_free(&path);
	strbuf_free(&body);
}

bool apisource_is_posting(const struct apisource *source)
{
	for (int i = 0; i < EVENTS_MAX; i++)
		if (source->events[i].call)
			return true;
	return false;
}
