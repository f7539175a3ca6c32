/*
 * The life of one resource: (stream or pages) -> watch -> watch -> ... -> list
 * again.
 *
 * Objects go to the sink as they arrive. list_begin() is said when a list's
 * response begins and list_end() only when its last object is in, so an
 * unreachable server changes nothing, and a list that breaks off is begun
 * again. While a list streams in, the objects' own resource versions mean nothing
 * for resuming; only the bookmark at the end does, or the list's metadata.
 *
 * What a request's end leads to is decided by reflector_judge() alone, and when
 * the next one is due by struct patience.
 *
 * An object that cannot be understood is taken as absent, also if an older
 * version of it could be: then the state does not depend on when we started
 * (API-10).
 *
 * A watch that stays silent twice from its start on asked for a version that
 * this server will never reach (an etcd restored from a backup): then the
 * version is dropped and the list is read again.
 */
#include "watch/reflector.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "proxy/base/strbuf.h"
#include "watch/decode_protobuf.h"
#include "watch/patience.h"
#include "watch/protobuf_stream.h"
#include "watch/resource.h"

/* Of a watch as well, with a parameter. */
static const char protobuf_type[] = "application/vnd.kubernetes.protobuf";

enum {
	FAILURE_MAX = 16 * 1024, /* of a Status that is read */
};

struct reflector {
	struct reflector_options o;
	const struct resource *resource;
	struct event *timer;
	struct apicall *call;
	/* By enum splitter_mode; which of the two is decided by what the server sends. */
	struct splitter *splitter[2];
	struct protobuf_stream *protobuf_stream[2];
	struct patience patience;

	/* What to do */
	enum reflector_mode mode;
	bool drop_selector, fresh, json_only;
	bool listed; /* ever */
	bool absent; /* the server lacks it, and that was told */
	char *version, *continue_token;
	unsigned int silences;
	unsigned int breaks; /* of watches in a row, without an event between */

	/* The request that runs */
	bool watching; /* past the initial events */
	bool garbled, progress;
	bool protobuf;		/* the answer is, not JSON */
	unsigned int n_objects; /* of this list */
	struct strbuf status;	/* body of a refusal */
	struct api_failure failure;

	/* Log */
	char trouble[512];
	int trouble_severity; /* the worst since all was well */
	int64_t trouble_us;
	unsigned int repeats;
};

/* Log */

static void reflector_log(struct reflector *r, int severity, const char *text)
{
	struct errbuf eb;

	errf(&eb, 0, "%s: %s", kind_name(r->o.kind), text);
	r->o.log(r->o.ctx, severity, eb.text);
}

/* The same trouble only now and then. */
static void reflector_trouble(struct reflector *r, int severity, const char *text)
{
	const int64_t now = clock_monotonic_us(r->o.clock);
	struct errbuf eb;

	if (!strcmp(r->trouble, text) && severity >= r->trouble_severity &&
	    now - r->trouble_us < r->o.timing->log_ms * 1000) {
		r->repeats++;
		return;
	}
	if (!r->trouble[0] || severity < r->trouble_severity)
		r->trouble_severity = severity;
	errf(&eb, 0, "%s", text);
	memcpy(r->trouble, eb.text, sizeof(r->trouble));
	r->trouble_us = now;
	if (r->repeats)
		errf(&eb, 0, "%.400s (and %u times before)", r->trouble,
		     r->repeats);
	r->repeats = 0;
	reflector_log(r, severity, eb.text);
}

static void tell_garbled(struct reflector *r, const char *why)
{
	struct errbuf eb;

	errf(&eb, 0,
	     "the API server's answer cannot be read: %.300s; rules stay as they are",
	     why);
	reflector_trouble(r, LOG_WARNING, eb.text);
}

static void trouble_over(struct reflector *r, const char *text)
{
	const bool told = r->trouble[0] && r->trouble_severity < LOG_DEBUG;

	reflector_log(r, told ? LOG_NOTICE : LOG_DEBUG, text);
	r->trouble[0] = '\0';
	r->repeats = 0;
}

/* Objects */

static const char *text_or_empty(const struct json *json)
{
	const char *text = json_string(json);

	return text ? text : "";
}

/*
 * Gives the object to the sink. Returns 0, -ENOMEM of either, or 1 and @eb if
 * it is a bad one, or of no use (@eb empty).
 */
static int take_object(struct reflector *r, const struct json *json,
		       struct errbuf *eb)
{
	void *object = decode_object(r->o.decoder, r->o.kind, json, eb);

	if (object)
		return sink_put(r->o.sink, r->o.kind, object);
	return errno == ENOMEM ? -ENOMEM : 1;
}

static void object_gone(struct reflector *r, const struct json *object)
{
	const struct json *metadata = json_get(object, "metadata");
	const char *name = text_or_empty(json_get(metadata, "name"));

	if (*name)
		r->o.sink->gone(r->o.sink->ctx, r->o.kind,
				text_or_empty(json_get(metadata, "namespace")),
				name);
	r->o.touched(r->o.ctx);
}

/*
 * Fails only without memory: then the object may be a good one, and must not be
 * taken as absent. The request ends, and what it was about is listed again.
 */
static int object_changed(struct reflector *r, const struct json *object,
			  struct errbuf *eb)
{
	int result;

	eb->text[0] = '\0';
	r->n_objects++;
	r->o.touched(r->o.ctx);
	result = take_object(r, object, eb);
	if (result < 0)
		return errf(eb, result, "out of memory");
	if (result == 0)
		return 0;
	if (eb->text[0])
		r->o.sink->complain(r->o.sink->ctx, eb->text);
	object_gone(r, object);
	return 0;
}

static int replace_text(char **field, const char *text)
{
	char *copy = text && *text ? strdup(text) : NULL;

	if (text && *text && !copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static void list_began(struct reflector *r)
{
	assert(!r->watching);
	r->n_objects = 0;
	r->o.sink->list_begin(r->o.sink->ctx, r->o.kind);
	r->o.touched(r->o.ctx);
}

static void list_ended(struct reflector *r)
{
	struct errbuf eb;

	patience_listed(&r->patience);
	r->listed = true;
	r->absent = false;
	r->silences = 0;
	r->o.sink->list_end(r->o.sink->ctx, r->o.kind);
	r->o.touched(r->o.ctx);
	errf(&eb, 0, "listed, %u objects", r->n_objects);
	trouble_over(r, eb.text);
}

/* A Status object in a response or an ERROR event. */
static void read_failure(struct api_failure *failure, const struct json *status)
{
	const struct json *details = json_get(status, "details");
	const char *message = text_or_empty(json_get(status, "message"));
	const char *reason = text_or_empty(json_get(status, "reason"));
	int64_t code = 0;
	struct errbuf eb;

	json_integer(json_get(status, "code"), &code);
	failure->code = code > 0 && code < 1000 ? (int)code : 500;
	errf(&eb, 0, "%.63s", reason);
	memcpy(failure->reason, eb.text, sizeof(failure->reason));
	errf(&eb, 0, "%.255s", message);
	memcpy(failure->message, eb.text, sizeof(failure->message));
	json_for_each (cause, json_get(details, "causes")) {
		if (!strcmp(text_or_empty(json_get(cause, "reason")),
			    "ResourceVersionTooLarge"))
			failure->too_large = true;
	}
	/* Servers before 1.19 only say it in words. */
	if (strstr(message, "Too large resource version"))
		failure->too_large = true;
}

/* Events */

static bool ends_initial_events(const struct json *object)
{
	const struct json *annotations =
		json_get(json_get(object, "metadata"), "annotations");

	return !strcmp(
		text_or_empty(json_get(annotations, "k8s.io/initial-events-end")),
		"true");
}

/* From here on the request is a watch, and so is what becomes of it. */
static int become_watch(struct reflector *r, const char *version, struct errbuf *eb)
{
	assert(!r->watching && r->call);
	if (!*version)
		return errf(eb, -EPROTO, "a bookmark without resourceVersion");
	r->watching = true;
	r->mode = MODE_WATCH;
	apicall_set_idle(r->call, r->o.timing->watch_idle_ms);
	list_ended(r);
	return replace_text(&r->version, version);
}

static int take_event(struct reflector *r, const struct json *event,
		      struct errbuf *eb)
{
	const char *type = text_or_empty(json_get(event, "type"));
	const struct json *object = json_get(event, "object");
	const char *version = text_or_empty(
		json_get(json_get(object, "metadata"), "resourceVersion"));
	int err = 0;

	if (!strcmp(type, "ERROR")) {
		read_failure(&r->failure, object);
		return errf(eb, -ECANCELED, "error event");
	}
	if (!strcmp(type, "BOOKMARK") && !r->watching && ends_initial_events(object))
		return become_watch(r, version, eb);
	if (!strcmp(type, "ADDED") || !strcmp(type, "MODIFIED"))
		err = object_changed(r, object, eb);
	else if (!strcmp(type, "DELETED"))
		object_gone(r, object);
	else if (strcmp(type, "BOOKMARK"))
		return errf(eb, -EPROTO, "unknown event type");
	if (err || !r->watching)
		return err;
	r->progress = true;
	r->silences = 0;
	patience_works(&r->patience);
	return *version ? replace_text(&r->version, version) : 0;
}

static void complain_unread(struct reflector *r, const struct errbuf *why)
{
	struct errbuf eb;

	errf(&eb, 0, "%s: an object of the list cannot be read: %.400s",
	     kind_name(r->o.kind), why->text);
	r->o.sink->complain(r->o.sink->ctx, eb.text);
}

/* Trees of protobuf live on the arena, those of JSON by themselves. */
static void read_end(struct reflector *r, struct json *tree)
{
	if (r->protobuf)
		arena_reset(r->o.trees);
	else
		json_free(tree);
}

static int take_event_text(void *ctx, const char *text, size_t length,
			   struct errbuf *eb)
{
	struct reflector *r = ctx;
	struct json *event =
		r->protobuf ? protobuf_read_event(r->o.trees, text, length, eb)
			    : json_parse_object(text, length, eb);
	int err = -EPROTO;

	if (event) {
		err = take_event(r, event, eb);
	} else if (!r->watching && errno != ENOMEM) {
		/* One bad object of a list is left out; a lost event would be lost for good. */
		complain_unread(r, eb);
		err = 0;
	}
	read_end(r, event);
	return err;
}

static int take_item_text(void *ctx, const char *text, size_t length,
			  struct errbuf *eb)
{
	struct reflector *r = ctx;
	struct json *object = r->protobuf
				      ? protobuf_read_item(r->o.trees, r->o.kind,
							   text, length, eb)
				      : json_parse_object(text, length, eb);
	int err = 0;

	if (object)
		err = object_changed(r, object, eb);
	else if (errno == ENOMEM)
		err = -ENOMEM;
	else
		complain_unread(r, eb);
	read_end(r, object);
	return err;
}

/* Written in Go, an empty list of items may be null. Anything else is some other object. */
static bool has_items(const struct json *list)
{
	json_for_each (member, list)
		if (!strcmp(json_key(member), "items"))
			return json_type(member) == JSON_ARRAY ||
			       json_type(member) == JSON_NULL;
	return false;
}

static int take_list(struct reflector *r, const struct json *list, struct errbuf *eb)
{
	const struct json *metadata = json_get(list, "metadata");
	const char *version = json_string(json_get(metadata, "resourceVersion"));
	int err;

	assert(r->mode == MODE_PAGES);
	if (!version || !has_items(list) || r->progress)
		err = errf(eb, -EPROTO, "not a list");
	else
		err = replace_text(&r->continue_token,
				   json_string(json_get(metadata, "continue")));
	if (!err)
		err = replace_text(&r->version, version);
	r->progress = true; /* of a list: it is whole */
	return err;
}

/* The list without its items: the version to watch from, and whether there are more pages. */
static int take_rest_text(void *ctx, const char *text, size_t length,
			  struct errbuf *eb)
{
	struct reflector *r = ctx;
	struct json *list =
		r->protobuf ? protobuf_read_list(r->o.trees, text, length, eb)
			    : json_parse_object(text, length, eb);
	int err = list ? take_list(r, list, eb) : -EPROTO;

	read_end(r, list);
	return err;
}

/* Requests */

static bool with_optional_selector(const struct reflector *r)
{
	return r->resource->optional_selector && !r->drop_selector;
}

static void add_parameter(struct strbuf *path, const char *name, const char *value)
{
	strbuf_addf(path, "&%s=", name);
	http_escape(path, value);
}

static void add_timeout(struct reflector *r, struct strbuf *path)
{
	strbuf_addf(path, "&allowWatchBookmarks=true&timeoutSeconds=%u",
		    patience_watch_s(&r->patience));
}

static void build_path(struct reflector *r, struct strbuf *path)
{
	resource_path(r->resource, r->o.node_name, !r->drop_selector, path);
	switch (r->mode) {
	case MODE_STREAM:
		strbuf_adds(path, "watch=true&sendInitialEvents=true"
				  "&resourceVersionMatch=NotOlderThan");
		add_timeout(r, path);
		if (r->version)
			add_parameter(path, "resourceVersion", r->version);
		break;
	case MODE_PAGES:
		strbuf_addf(path, "limit=%u", r->o.timing->page_limit);
		if (r->continue_token) {
			add_parameter(path, "continue", r->continue_token);
		} else if (r->version) {
			strbuf_adds(path, "&resourceVersionMatch=NotOlderThan");
			add_parameter(path, "resourceVersion", r->version);
		} else if (!r->listed) {
			strbuf_adds(path, "&resourceVersion=0");
		}
		break;
	case MODE_WATCH:
		assert(r->version); /* else it would begin anywhere */
		strbuf_adds(path, "watch=true");
		add_timeout(r, path);
		add_parameter(path, "resourceVersion", r->version);
		break;
	}
}

static enum splitter_mode splitter_mode(const struct reflector *r)
{
	return r->mode == MODE_PAGES ? SPLIT_LIST : SPLIT_STREAM;
}

static int split_feed(struct reflector *r, const char *bytes, size_t length,
		      struct errbuf *eb)
{
	const enum splitter_mode mode = splitter_mode(r);

	if (r->protobuf)
		return protobuf_stream_feed(r->protobuf_stream[mode], bytes,
					    length, eb);
	return splitter_feed(r->splitter[mode], bytes, length, eb);
}

static int split_finish(struct reflector *r, struct errbuf *eb)
{
	const enum splitter_mode mode = splitter_mode(r);

	if (r->protobuf)
		return protobuf_stream_finish(r->protobuf_stream[mode], eb);
	return splitter_finish(r->splitter[mode], eb);
}

static void split_reset(struct reflector *r)
{
	protobuf_stream_reset(r->protobuf_stream[splitter_mode(r)]);
	splitter_reset(r->splitter[splitter_mode(r)]);
}

static void reflector_head(void *ctx, int status)
{
	struct reflector *r = ctx;

	r->protobuf = apicall_is_type(r->call, protobuf_type);
	if (status != 200)
		return;
	if (r->mode == MODE_STREAM || (r->mode == MODE_PAGES && !r->continue_token))
		list_began(r);
	patience_answered(&r->patience, clock_monotonic_us(r->o.clock));
	r->watching = r->mode == MODE_WATCH;
	if (r->watching && r->trouble[0])
		trouble_over(r, "watching again");
}

static int reflector_data(void *ctx, const char *bytes, size_t length)
{
	struct reflector *r = ctx;
	struct errbuf eb = { "" };

	assert(r->call);
	if (apicall_status(r->call) != 200) {
		strbuf_add(&r->status, bytes, length);
		return 0;
	}
	if (split_feed(r, bytes, length, &eb) == 0)
		return 0;
	if (!r->failure.code) {
		r->garbled = true;
		tell_garbled(r, eb.text);
	}
	return -1;
}

static void reflector_schedule(struct reflector *r, int64_t wait_ms)
{
	struct timeval tv = { wait_ms / 1000, wait_ms % 1000 * 1000 };

	assert(wait_ms >= 0);
	if (event_add(r->timer, &tv))
		event_active(r->timer, EV_TIMEOUT,
			     0); /* without memory: rather now than never */
}

void reflector_server_answers(struct reflector *r)
{
	int64_t wait_ms;

	if (patience_server_answers(&r->patience,
				    clock_monotonic_us(r->o.clock), &wait_ms) &&
	    event_pending(r->timer, EV_TIMEOUT, NULL))
		reflector_schedule(r, wait_ms);
}

static void list_again(struct reflector *r, bool no_stream)
{
	r->mode = no_stream ? MODE_PAGES : MODE_STREAM;
	replace_text(&r->continue_token, NULL);
}

/* Not there, or not for us. What was there once is not thrown away for that. */
static void list_absent(struct reflector *r)
{
	list_again(r, false);
	if (!r->resource->refusable)
		return;
	if (!r->listed) {
		list_began(r);
		list_ended(r);
	}
	r->absent = true;
}

static void take_step(struct reflector *r, const struct decision *d)
{
	r->fresh = d->fresh;
	r->drop_selector |= d->drop_selector;
	r->json_only |= d->no_protobuf;
	if (d->drop_version)
		replace_text(&r->version, NULL);
	switch (d->step) {
	case NEXT_SAME:
	case NEXT_PAGE:
		break;
	case NEXT_WATCH:
		list_ended(r);
		r->mode = MODE_WATCH;
		break;
	case NEXT_LIST:
		list_again(r, d->no_stream);
		break;
	case NEXT_ABSENT:
		list_absent(r);
		break;
	}
	if (r->mode == MODE_WATCH && !r->version)
		list_again(r, false);
}

/* The end of a response that nobody complained about: is it whole? */
static void check_end(struct reflector *r, const struct http_result *result)
{
	struct errbuf eb = { "" };

	if (result->outcome != HTTP_COMPLETE || result->status != 200 || r->garbled)
		return;
	if (split_finish(r, &eb) || (r->mode == MODE_PAGES && !r->progress)) {
		r->garbled = true;
		tell_garbled(r, eb.text[0] ? eb.text : "no list in it");
	}
}

static void check_refusal(struct reflector *r, const struct http_result *result)
{
	struct json *status;
	struct errbuf eb;

	if (result->status == 200 || !r->status.length)
		return;
	status = r->protobuf ? protobuf_read_body(r->o.trees, r->status.text,
						  r->status.length, &eb)
			     : json_parse(r->status.text, r->status.length, &eb);
	if (json_type(status) == JSON_OBJECT)
		read_failure(&r->failure, status);
	read_end(r, status);
	/* The status line is what counts; a proxy's body may say anything. */
	r->failure.code = result->status;
}

/*
 * What happens in any cluster, and is over with the next request: a connection
 * that the other side closes, and a version that is no longer in the history.
 * If the next request fails, that one is told.
 */
static bool is_routine(struct reflector *r, const struct attempt *a)
{
	if (a->mode != MODE_WATCH)
		return false;
	if (a->failure.code)
		return failure_is_expired(&a->failure);
	if (a->progress || a->lived_ms >= r->o.timing->steady_ms)
		r->breaks = 0;
	return a->result.outcome == HTTP_BROKEN &&
	       !http_timed_out(&a->result) && !r->breaks++;
}

static void tell_request_failure(struct reflector *r, const struct attempt *a,
				 const struct decision *d)
{
	const char *what = a->mode == MODE_WATCH ? "watch" : "list";
	const bool without = d->step == NEXT_ABSENT && !r->listed;
	const char *stay =
		without ? "; going on without" : "; rules stay as they are";
	struct errbuf eb, said;
	int code = a->failure.code ? a->failure.code : a->result.status;

	if (a->garbled || d->pause == PAUSE_NONE ||
	    (d->step == NEXT_ABSENT && r->absent))
		return;
	errf(&said, 0, "%s", a->failure.message);
	if (a->result.outcome != HTTP_COMPLETE && !a->failure.code)
		errf(&eb, 0, "%s: %s%s", what, a->result.message, stay);
	else if (code != 200)
		errf(&eb, 0, "%s: the API server says %d%s%.60s%s%.250s%s", what,
		     code, a->failure.reason[0] ? " " : "", a->failure.reason,
		     said.text[0] ? ": " : "", said.text, stay);
	else
		errf(&eb, 0, "%s: ended too early%s", what, stay);
	/* That no server is there is told once for all kinds, by the client. */
	if (!a->failure.code && !a->result.status &&
	    a->result.outcome != HTTP_REFUSED) {
		reflector_log(r, LOG_DEBUG, eb.text);
		return;
	}
	reflector_trouble(r,
			  is_routine(r, a)		    ? LOG_DEBUG
			  : failure_is_expired(&a->failure) ? LOG_NOTICE
							    : LOG_WARNING,
			  eb.text);
}

static void reflector_done(void *ctx, const struct http_result *result)
{
	struct reflector *r = ctx;
	struct attempt a = { .mode = r->mode };
	struct decision d;
	const int64_t now_us = clock_monotonic_us(r->o.clock);

	assert(r->call);
	r->call = NULL;
	check_end(r, result);
	check_refusal(r, result);
	a.result = *result;
	a.failure = r->failure;
	a.garbled = r->garbled;
	a.progress = r->progress;
	a.more_pages = r->continue_token;
	a.protobuf = !r->json_only;
	a.optional_selector = with_optional_selector(r);
	a.refusable = r->resource->refusable;
	a.repeated = patience_is_worn(&r->patience);
	a.silences = r->silences;
	a.lived_ms = patience_lived_ms(&r->patience, now_us);
	if (r->watching && r->o.watch_ended)
		r->o.watch_ended(r->o.ctx, r->o.kind);
	r->watching = false;
	if (result->status == 200 && a.mode == MODE_WATCH &&
	    a.lived_ms >= r->o.timing->steady_ms)
		patience_works(&r->patience);
	d = reflector_judge(&a, r->o.timing);
	if (a.mode == MODE_WATCH && d.drop_version)
		patience_forgive(&r->patience); /* they were not about this list */
	if (a.mode == MODE_WATCH && result->outcome == HTTP_SILENT && !a.progress)
		r->silences++;
	tell_request_failure(r, &a, &d);
	take_step(r, &d);
	reflector_schedule(r, patience_end(&r->patience, result, d.pause, now_us));
}

static void reflector_ask(struct reflector *r)
{
	const struct api_timing *t = r->o.timing;
	struct strbuf path = STRBUF_INIT;
	struct apicall_params params = {
		.accept = r->json_only == r->o.json_only ? r->o.accept : NULL,
		.idle_ms = r->mode == MODE_WATCH ? t->watch_idle_ms : t->list_idle_ms,
		.fresh = r->fresh,
		.head = reflector_head,
		.data = reflector_data,
		.done = reflector_done,
		.ctx = r,
	};

	assert(!r->call);
	patience_begin(&r->patience, clock_monotonic_us(r->o.clock));
	r->watching = r->garbled = r->progress = r->protobuf = false;
	memset(&r->failure, 0, sizeof(r->failure));
	strbuf_reset(&r->status);
	split_reset(r);
	build_path(r, &path);
	params.path = path.text;
	if (!path.err)
		r->call = apiclient_call(r->o.client, &params);
	strbuf_free(&path);
	if (r->call)
		return;
	reflector_trouble(r, LOG_ERR, "out of memory");
	reflector_schedule(r, r->o.timing->backoff_initial_ms);
}

static void reflector_due(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	reflector_ask(ctx);
}

static int make_splitters(struct reflector *r)
{
	static const struct splitter_ops ops[] = {
		[SPLIT_STREAM] = { .item = take_event_text },
		[SPLIT_LIST] = { .item = take_item_text, .rest = take_rest_text },
	};

	for (int i = 0; i < 2; i++) {
		const enum splitter_mode mode = i ? SPLIT_LIST : SPLIT_STREAM;

		r->splitter[mode] = splitter_new(mode, &ops[mode], r);
		r->protobuf_stream[mode] = protobuf_stream_new(
			mode, r->resource->list_kind, &ops[mode], r);
		if (!r->splitter[mode] || !r->protobuf_stream[mode])
			return -ENOMEM;
	}
	return 0;
}

struct reflector *reflector_new(const struct reflector_options *options)
{
	struct reflector *r = calloc(1, sizeof(*r));

	assert(options->client && options->sink && options->clock &&
	       options->timing);
	if (!r)
		return NULL;
	r->o = *options;
	r->resource = resource_of(options->kind);
	r->json_only = options->json_only;
	patience_init(&r->patience, options->timing, options->seed);
	r->status.max = FAILURE_MAX;
	r->mode = MODE_STREAM;
	r->timer = event_new(options->base, -1, 0, reflector_due, r);
	if (r->timer && make_splitters(r) == 0)
		return r;
	reflector_free(r);
	return NULL;
}

void reflector_free(struct reflector *r)
{
	if (!r)
		return;
	apicall_cancel(r->call);
	if (r->timer)
		event_free(r->timer);
	for (int i = 0; i < 2; i++) {
		splitter_free(r->splitter[i]);
		protobuf_stream_free(r->protobuf_stream[i]);
	}
	strbuf_free(&r->status);
	free(r->version);
	free(r->continue_token);
	free(r);
}

void reflector_start(struct reflector *r)
{
	reflector_schedule(r, 0);
}

bool reflector_is_connected(const struct reflector *r)
{
	return r->call && r->watching;
}

bool reflector_is_listed(const struct reflector *r)
{
	return r->listed;
}

const char *reflector_problem(const struct reflector *r)
{
	return r->trouble;
}
