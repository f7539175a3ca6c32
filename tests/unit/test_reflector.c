/*
 * What a request's end leads to, as a table; and the recorded exchanges with a
 * real API server, played byte for byte through HTTP, splitting and decoding
 * into a sink that writes down what it was told.
 */
#include "watch/reflector_judge.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/suite.h"
#include "tests/support/live.h"

#define OK HTTP_COMPLETE

/* API-8 */
static const struct {
	const char *name;
	struct attempt attempt;
	struct decision want;
} judgements[] = {
	{ "page with more",
	  { .mode = MODE_PAGES, .result = { OK, 200, -1, "" }, .more_pages = true },
	  { .step = NEXT_PAGE } },
	{ "last page",
	  { .mode = MODE_PAGES, .result = { OK, 200, -1, "" } },
	  { .step = NEXT_WATCH } },
	{ "stream refused: 422",
	  { .mode = MODE_STREAM,
	    .result = { OK, 422, -1, "" },
	    .failure = { .code = 422 } },
	  { .step = NEXT_LIST, .no_stream = true } },
	{ "stream refused: 400 without a Status",
	  { .mode = MODE_STREAM, .result = { OK, 400, -1, "" } },
	  { .step = NEXT_LIST, .no_stream = true } },
	{ "stream ends before its bookmark",
	  { .mode = MODE_STREAM, .result = { OK, 200, -1, "" } },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF, .no_stream = true } },
	{ "stream goes silent",
	  { .mode = MODE_STREAM, .result = { HTTP_SILENT, 200, -1, "" } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .no_stream = true, .fresh = true } },
	{ "stream breaks",
	  { .mode = MODE_STREAM, .result = { HTTP_BROKEN, 200, -1, "" } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .fresh = true } },
	{ "protobuf refused: 406",
	  { .mode = MODE_STREAM, .result = { OK, 406, -1, "" }, .protobuf = true },
	  { .step = NEXT_LIST, .no_protobuf = true } },
	{ "protobuf refused: 415",
	  { .mode = MODE_PAGES,
	    .result = { OK, 415, -1, "" },
	    .failure = { .code = 415, .reason = "UnsupportedMediaType" },
	    .protobuf = true,
	    .more_pages = true },
	  { .step = NEXT_LIST, .no_protobuf = true } },
	{ "protobuf refused: a watch",
	  { .mode = MODE_WATCH, .result = { OK, 406, -1, "" }, .protobuf = true },
	  { .step = NEXT_SAME, .no_protobuf = true } },
	{ "stream refused: 406, without protobuf",
	  { .mode = MODE_STREAM, .result = { OK, 406, -1, "" } },
	  { .step = NEXT_LIST, .no_stream = true } },
	{ "field selector refused",
	  { .mode = MODE_PAGES,
	    .result = { OK, 400, -1, "" },
	    .failure = { .code = 400, .reason = "BadRequest" },
	    .optional_selector = true },
	  { .step = NEXT_LIST,
	    .pause = PAUSE_SOON,
	    .drop_selector = true,
	    .no_stream = true } },
	{ "list refused for good",
	  { .mode = MODE_PAGES,
	    .result = { OK, 400, -1, "" },
	    .failure = { .code = 400 } },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF } },
	{ "continue expired: 410",
	  { .mode = MODE_PAGES,
	    .result = { OK, 410, -1, "" },
	    .failure = { .code = 410, .reason = "Expired" },
	    .more_pages = true },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .drop_version = true } },
	{ "list of the future: 504",
	  { .mode = MODE_PAGES,
	    .result = { OK, 504, 1000, "" },
	    .failure = { .code = 504, .reason = "Timeout", .too_large = true } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .drop_version = true } },
	{ "gateway timeout, another 504",
	  { .mode = MODE_PAGES,
	    .result = { OK, 504, -1, "" },
	    .failure = { .code = 504 } },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF } },
	{ "list unreachable",
	  { .mode = MODE_STREAM, .result = { HTTP_UNREACHED, 0, -1, "" } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .fresh = true } },
	{ "clean end of a watch",
	  { .mode = MODE_WATCH, .result = { OK, 200, -1, "" }, .lived_ms = 300000 },
	  { .step = NEXT_SAME } },
	{ "clean end at once, without an event",
	  { .mode = MODE_WATCH, .result = { OK, 200, -1, "" }, .lived_ms = 3 },
	  { .step = NEXT_SAME, .pause = PAUSE_BACKOFF } },
	{ "clean end at once, after an event",
	  { .mode = MODE_WATCH,
	    .result = { OK, 200, -1, "" },
	    .lived_ms = 3,
	    .progress = true },
	  { .step = NEXT_SAME } },
	{ "watch cut",
	  { .mode = MODE_WATCH, .result = { HTTP_BROKEN, 200, -1, "" } },
	  { .step = NEXT_SAME, .pause = PAUSE_SOON, .fresh = true } },
	{ "watch silent",
	  { .mode = MODE_WATCH, .result = { HTTP_SILENT, 200, -1, "" } },
	  { .step = NEXT_SAME, .pause = PAUSE_SOON, .fresh = true } },
	{ "watch silent from its start, again",
	  { .mode = MODE_WATCH, .result = { HTTP_SILENT, 200, -1, "" }, .silences = 1 },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .fresh = true, .drop_version = true } },
	{ "watch silent after events, again",
	  { .mode = MODE_WATCH,
	    .result = { HTTP_SILENT, 200, -1, "" },
	    .silences = 1,
	    .progress = true },
	  { .step = NEXT_SAME, .pause = PAUSE_SOON, .fresh = true } },
	{ "watch unreachable",
	  { .mode = MODE_WATCH, .result = { HTTP_UNREACHED, 0, -1, "" } },
	  { .step = NEXT_SAME, .pause = PAUSE_SOON, .fresh = true } },
	{ "watch: HTTP 410",
	  { .mode = MODE_WATCH,
	    .result = { OK, 410, -1, "" },
	    .failure = { .code = 410, .reason = "Gone" } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .drop_version = true } },
	{ "watch: event with code 410",
	  { .mode = MODE_WATCH,
	    .result = { HTTP_REFUSED, 200, -1, "" },
	    .failure = { .code = 410, .reason = "" } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .drop_version = true } },
	{ "watch: event with reason Expired",
	  { .mode = MODE_WATCH,
	    .result = { HTTP_REFUSED, 200, -1, "" },
	    .failure = { .code = 500, .reason = "Expired" } },
	  { .step = NEXT_LIST, .pause = PAUSE_SOON, .drop_version = true } },
	{ "watch: another event",
	  { .mode = MODE_WATCH,
	    .result = { HTTP_REFUSED, 200, -1, "" },
	    .failure = { .code = 500, .reason = "InternalError" } },
	  { .step = NEXT_SAME, .pause = PAUSE_BACKOFF } },
	{ "watch: 401",
	  { .mode = MODE_WATCH,
	    .result = { OK, 401, -1, "" },
	    .failure = { .code = 401 } },
	  { .step = NEXT_SAME, .pause = PAUSE_BACKOFF } },
	{ "watch: 429",
	  { .mode = MODE_WATCH,
	    .result = { OK, 429, 1000, "" },
	    .failure = { .code = 429 } },
	  { .step = NEXT_SAME, .pause = PAUSE_BACKOFF } },
	{ "watch: 422",
	  { .mode = MODE_WATCH,
	    .result = { OK, 422, -1, "" },
	    .failure = { .code = 422 } },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF } },
	{ "watch: nonsense",
	  { .mode = MODE_WATCH, .result = { HTTP_REFUSED, 200, -1, "" }, .garbled = true },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF, .fresh = true } },
	{ "no such resource, not needed",
	  { .mode = MODE_STREAM,
	    .result = { OK, 404, -1, "" },
	    .failure = { .code = 404 },
	    .refusable = true },
	  { .step = NEXT_ABSENT, .pause = PAUSE_LONG } },
	{ "not allowed, not needed",
	  { .mode = MODE_STREAM,
	    .result = { OK, 403, -1, "" },
	    .failure = { .code = 403 },
	    .refusable = true },
	  { .step = NEXT_ABSENT, .pause = PAUSE_BACKOFF } },
	{ "not allowed again and again, not needed",
	  { .mode = MODE_STREAM,
	    .result = { OK, 403, -1, "" },
	    .failure = { .code = 403 },
	    .refusable = true,
	    .repeated = true },
	  { .step = NEXT_ABSENT, .pause = PAUSE_LONG } },
	{ "no such resource, needed",
	  { .mode = MODE_STREAM,
	    .result = { OK, 404, -1, "" },
	    .failure = { .code = 404 } },
	  { .step = NEXT_ABSENT, .pause = PAUSE_BACKOFF } },
	{ "not allowed, needed",
	  { .mode = MODE_STREAM,
	    .result = { OK, 403, -1, "" },
	    .failure = { .code = 403 } },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF } },
	{ "a redirect",
	  { .mode = MODE_STREAM, .result = { OK, 302, -1, "" } },
	  { .step = NEXT_LIST, .pause = PAUSE_BACKOFF } },
};

static const char *decision_text(const struct decision *v, char *text, size_t size)
{
	static const char *const steps[] = { "same", "page", "watch", "list",
					     "absent" };
	static const char *const pauses[] = { "none", "soon", "backoff", "long" };

	snprintf(text, size, "%s, pause %s%s%s%s%s%s", steps[v->step],
		 pauses[v->pause], v->drop_version ? ", drop version" : "",
		 v->drop_selector ? ", drop selector" : "",
		 v->no_stream ? ", no stream" : "",
		 v->no_protobuf ? ", no protobuf" : "", v->fresh ? ", fresh" : "");
	return text;
}

START_TEST(judges)
{
	struct decision got =
		reflector_judge(&judgements[_i].attempt, &api_timing_defaults);
	char want_text[100], got_text[100];

	decision_text(&judgements[_i].want, want_text, sizeof(want_text));
	decision_text(&got, got_text, sizeof(got_text));
	ck_assert_msg(!strcmp(want_text, got_text), "%s: want %s, got %s",
		      judgements[_i].name, want_text, got_text);
}
END_TEST

#define EMPTY_LIST                                                                             \
	"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"       \
	"{\"kind\":\"List\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"109\"}," \
	"\"items\":[]}"
#define REFUSED                                                                \
	"HTTP/1.1 422 Unprocessable Entity\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

/* The other kinds, in as few words as possible. */
#define NO_SLICES                                                              \
	{                                                                      \
		{ "endpointslices", "limit=" }, NULL, EMPTY_LIST, 0            \
	}
#define NO_SERVICES                                                            \
	{                                                                      \
		{ "/services?", "limit=" }, NULL, EMPTY_LIST, 0                \
	}
#define NO_CIDRS                                                               \
	{                                                                      \
		{ "servicecidrs", "limit=" }, NULL, EMPTY_LIST, 0              \
	}
#define NO_NODE                                                                \
	{                                                                      \
		{ "/nodes?", "limit=" }, NULL, EMPTY_LIST, 0                   \
	}
#define NO_STREAM                                                              \
	{                                                                      \
		{ "sendInitialEvents" }, NULL, REFUSED, 0                      \
	}

struct replay {
	const char *name;
	const char *until; /* in the journal */
	const char *journal; /* of kinds that matter, as a whole; NULL: see requests */
	const char *requests[4]; /* parts of request lines that must occur, in this order */
	struct play plays[12];
};

static const struct replay replays[] = {
	{ "streaming list of services, then the watch", /* API-1 API-6 */
	  "gone Service default/extra\n",
	  "begin Service\nput Service default/ext\nput Service default/headless\n"
	  "put Service default/kubernetes\nput Service default/lb\nput Service default/multi\n"
	  "put Service default/my-service\nput Service default/nginx-service\n"
	  "put Service default/np\nend Service\n"
	  "put Service default/my-service\nput Service default/extra\nput Service default/extra\n"
	  "gone Service default/extra\n",
	  { "sendInitialEvents=true", "resourceVersion=109" },
	  { { { "/services?", "sendInitialEvents" }, "watchlist-services", NULL, 1 },
	    { { "/services?", "watch=true" }, "watch-services-live", NULL, 1 },
	    NO_STREAM,
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "streaming list of slices, then the watch", /* API-2 */
	  "put EndpointSlice default/extra-5krxk\n",
	  NULL,
	  { "sendInitialEvents=true", "resourceVersion=109", "resourceVersion=139" },
	  { { { "endpointslices?", "sendInitialEvents" },
	      "watchlist-endpointslices",
	      NULL,
	      1 },
	    { { "endpointslices?", "watch=true" }, "watch-endpointslices-live", NULL, 1 },
	    NO_STREAM,
	    NO_SERVICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "services in pages",
	  "end Service\n",
	  "begin Service\nput Service default/ext\nput Service default/headless\n"
	  "put Service default/kubernetes\n"
	  "put Service default/lb\nput Service default/multi\nput Service default/my-service\n"
	  "put Service default/nginx-service\nput Service default/np\nend Service\n",
	  { "limit=500&resourceVersion=0", "continue=eyJ2Ijoib", "watch=true" },
	  { NO_STREAM,
	    { { "/services?", "continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MTA5LCJzdGFydCI6Ii9k"
			      "ZWZhdWx0L215LXNlcnZpY2VcdTAwMDAifQ" },
	      NULL,
	      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"metadata\":{\"resourceVersion\":"
	      "\"109\"},\"items\":[{\"metadata\":{\"name\":\"nginx-service\",\"namespace\":"
	      "\"default\"},\"spec\":{}},{\"metadata\":{\"name\":\"np\",\"namespace\":"
	      "\"default\"},\"spec\":{}}]}",
	      1 },
	    { { "/services?", "continue=" }, "list-services-page2", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services-page1", NULL, 1 },
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "an expired continue token begins the list again",
	  "end Service\n",
	  "begin Service\nput Service default/ext\nput Service default/headless\n"
	  "put Service default/kubernetes\nbegin Service\nput Service default/ext\n"
	  "put Service default/headless\nput Service default/kubernetes\n"
	  "put Service default/lb\nput Service default/multi\nput Service default/my-service\n"
	  "put Service default/nginx-service\nput Service default/np\nend Service\n",
	  { "limit=500", "continue=", "limit=500", "watch=true" },
	  { NO_STREAM,
	    { { "/services?", "continue=" }, "error-410-list-expired-continue", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services-page1", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services", NULL, 1 },
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "a list from the watch cache, and 410 when watching it", /* API-8 */
	  "end Service\n",
	  "begin Service\nput Service default/ext\nput Service default/headless\n"
	  "put Service default/kubernetes\nput Service default/lb\nput Service default/multi\n"
	  "put Service default/my-service\nput Service default/nginx-service\n"
	  "put Service default/np\nend Service\n"
	  "begin Service\nput Service default/ext\nput Service default/headless\n"
	  "put Service default/kubernetes\nput Service default/lb\nput Service default/multi\n"
	  "put Service default/my-service\nput Service default/nginx-service\n"
	  "put Service default/np\nend Service\n",
	  { "limit=500&resourceVersion=0", "watch=true&allow",
	    "sendInitialEvents", "resourceVersion=109" },
	  { { { "/services?", "sendInitialEvents" }, NULL, REFUSED, 1 },
	    { { "/services?", "limit=" }, "list-services", NULL, 1 },
	    { { "/services?", "watch=true&allow" }, "watch-410-too-old", NULL, 1 },
	    { { "/services?", "sendInitialEvents" }, "watchlist-services", NULL, 1 },
	    NO_STREAM,
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "a version of the future is dropped",
	  "end Service\n",
	  NULL,
	  { "limit=500&resourceVersion=0", "sendInitialEvents", "limit=500" },
	  { NO_STREAM,
	    { { "/services?", "limit=" }, "list-504-future", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services", NULL, 1 },
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "the own node and the service ranges", /* API-3 API-4 */
	  "put Node node-a\nend Node\n",
	  NULL,
	  { "/nodes?fieldSelector=metadata.name%3Dnode-a&limit=500", "watch=true" },
	  { NO_STREAM,
	    { { "/nodes?", "limit=" }, "list-node-fieldselector", NULL, 1 },
	    { { "servicecidrs", "limit=" }, "list-servicecidrs", NULL, 1 },
	    NO_SLICES,
	    NO_SERVICES } },
	{ "an empty list may be null",
	  "end Service\n",
	  "begin Service\nend Service\n",
	  { "/services?", "watch=true" },
	  { NO_STREAM,
	    { { "/services?", "limit=" },
	      NULL,
	      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"metadata\":{\"resourceVersion\":"
	      "\"109\"},\"items\":null}",
	      0 },
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "another object is no empty list",
	  "end Service\n",
	  "begin Service\nbegin Service\nput Service default/np\nend Service\n",
	  { "limit=", "limit=", "watch=true" },
	  { NO_STREAM,
	    { { "/services?", "limit=" },
	      NULL,
	      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"metadata\":{\"resourceVersion\":"
	      "\"109\"},\"items\":{}}",
	      1 },
	    { { "/services?", "limit=" },
	      NULL,
	      "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"metadata\":{\"resourceVersion\":"
	      "\"109\"},\"items\":[{\"metadata\":{\"name\":\"np\",\"namespace\":\"default\"},"
	      "\"spec\":{}}]}",
	      0 },
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "no ServiceCIDRs on an older server",
	  "begin ServiceCIDR\nend ServiceCIDR\n",
	  NULL,
	  { "servicecidrs", "servicecidrs" },
	  { { { "servicecidrs" }, "error-404", NULL, 0 },
	    NO_STREAM,
	    NO_SLICES,
	    NO_SERVICES,
	    NO_NODE } },
	{ "unauthorized, then let in",
	  "end Service\n",
	  NULL,
	  { "sendInitialEvents", "sendInitialEvents" },
	  { { { "/services?" }, "error-401", NULL, 1 },
	    { { "/services?", "sendInitialEvents" }, "watchlist-services", NULL, 1 },
	    NO_STREAM,
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "a watch that waits for a future version and ends is resumed",
	  "gone Service default/extra\n",
	  NULL,
	  { "sendInitialEvents", "resourceVersion=109", "resourceVersion=109" },
	  { { { "/services?", "sendInitialEvents" }, "watchlist-services", NULL, 1 },
	    { { "/services?", "watch=true" }, "watch-future-resourceversion", NULL, 1 },
	    { { "/services?", "watch=true" }, "watch-services-live", NULL, 1 },
	    NO_STREAM,
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
	{ "bookmarks move the place to resume from",
	  "gone Service default/extra\n",
	  NULL,
	  { "sendInitialEvents", "resourceVersion=109", "resourceVersion=126" },
	  { { { "/services?", "sendInitialEvents" }, "watchlist-services", NULL, 1 },
	    { { "/services?", "watch=true" }, "watch-services-live", NULL, 1 },
	    NO_STREAM,
	    NO_SLICES,
	    NO_CIDRS,
	    NO_NODE } },
};

/* Lines of @journal about @kind */
static char *lines_about(const char *journal, const char *kind)
{
	struct strbuf sb = STRBUF_INIT;

	strbuf_adds(&sb, "");
	for (const char *line = journal; *line;) {
		const char *end = strchr(line, '\n') + 1,
			   *word = strchr(line, ' ') + 1;
		size_t length = strlen(kind);

		if (!strncmp(word, kind, length) && strchr(" \n", word[length]))
			strbuf_add(&sb, line, (size_t)(end - line));
		line = end;
	}
	return sb.text;
}

static bool requests_in_order(const struct replay *replay, const char *requests)
{
	for (size_t i = 0; i < 4 && replay->requests[i]; i++) {
		requests = strstr(requests, replay->requests[i]);
		if (!requests)
			return false;
		requests = strchr(requests, '\n');
	}
	return true;
}

struct replay_run {
	const struct replay *replay;
	struct player *player;
};

static bool replay_over(struct live *live, const void *arg)
{
	const struct replay_run *run = arg;

	return strstr(recording_sink_journal(live->sink), run->replay->until) &&
	       requests_in_order(run->replay, player_requests(run->player)) &&
	       live_all_listed(live, NULL);
}

START_TEST(replays_recordings)
{
	struct replay_run run = { .replay = &replays[_i] };
	struct live live;
	char *got;

	live_open(&live);
	run.player = player_start(live.base, run.replay->plays);
	live_master(&live, player_port(run.player));
	live_start(&live);
	live_until(&live, replay_over, &run, run.replay->name);
	got = lines_about(recording_sink_journal(live.sink), "Service");
	if (run.replay->journal)
		ck_assert_msg(!strcmp(got, run.replay->journal),
			      "%s: want\n%s\ngot\n%s", run.replay->name,
			      run.replay->journal, got);
	ck_assert_msg(!strstr(recording_sink_journal(live.sink), "complain"),
		      "%s: %s", run.replay->name,
		      recording_sink_journal(live.sink));
	ck_assert_uint_gt(live.n_settled, 0);
	free(got);
	player_stop(run.player);
	live_close(&live);
}
END_TEST

/* Every way of listing gives the same objects, and the selector of API-1 is understood. */
START_TEST(all_lists_agree)
{
	static const char *const ways[] = { "watchlist-services", "list-services",
					    "list-services-selector" };
	char *state[3];

	for (int i = 0; i < 3; i++) {
		const struct play plays[] = { { { "/services?",
						  i ? "limit=" : "sendInitial" },
						ways[i],
						NULL,
						1 },
					      NO_STREAM,
					      NO_SLICES,
					      NO_CIDRS,
					      NO_NODE,
					      { { NULL }, NULL, NULL, 0 } };
		struct player *player;
		struct live live;

		live_open(&live);
		player = player_start(live.base, plays);
		live_master(&live, player_port(player));
		live_start(&live);
		live_until(&live, live_all_listed, NULL, ways[i]);
		state[i] = recording_sink_state(live.sink);
		ck_assert_uint_eq(recording_sink_count(live.sink, KIND_SERVICE), 8);
		player_stop(player);
		live_close(&live);
	}
	ck_assert_str_eq(state[1], state[0]);
	ck_assert_str_eq(state[2], state[0]);
	for (int i = 0; i < 3; i++)
		free(state[i]);
}
END_TEST

/*
 * The same state of a real server, in both encodings: objects, order and complaints are the same.
 * The live watches begin with all objects, in no order.
 */
static const struct {
	const char *name, *kind;
	struct play plays[3]; /* of JSON; then the others */
} pairs[] = {
	{ "list of services",
	  "Service",
	  { { { "/services?", "limit=" }, "list-services", NULL, 1 } } },
	{ "list with selectors",
	  "Service",
	  { { { "/services?", "limit=" }, "list-services-selector", NULL, 1 } } },
	{ "list of slices",
	  "EndpointSlice",
	  { { { "endpointslices?", "limit=" }, "list-endpointslices", NULL, 1 } } },
	{ "list of ranges",
	  "ServiceCIDR",
	  { { { "servicecidrs?", "limit=" }, "list-servicecidrs", NULL, 1 } } },
	{ "node", "Node", { { { "/nodes?", "limit=" }, "list-node", NULL, 1 } } },
	{ "stream of services",
	  "Service",
	  { { { "/services?", "sendInitial" }, "watchlist-services", NULL, 1 } } },
	{ "stream of slices",
	  "EndpointSlice",
	  { { { "endpointslices?", "sendInitial" }, "watchlist-endpointslices", NULL, 1 } } },
	{ "stream of ranges",
	  "ServiceCIDR",
	  { { { "servicecidrs?", "sendInitial" }, "watchlist-servicecidrs", NULL, 1 } } },
	{ "stream of nodes",
	  "Node",
	  { { { "/nodes?", "sendInitial" }, "watchlist-node", NULL, 1 } } },
	{ "watch of services",
	  "Service",
	  { { { "/services?", "limit=" }, "list-services", NULL, 1 },
	    { { "/services?", "watch=true&allow" }, "watch-services-live", NULL, 1 } } },
	{ "watch of slices",
	  "EndpointSlice",
	  { { { "endpointslices?", "limit=" }, "list-endpointslices", NULL, 1 },
	    { { "endpointslices?", "watch=true&allow" },
	      "watch-endpointslices-live",
	      NULL,
	      1 } } },
	{ "version too old, then a list",
	  "Service",
	  { { { "/services?", "limit=" }, "list-services", NULL, 1 },
	    { { "/services?", "watch=true&allow" }, "watch-410-too-old", NULL, 1 },
	    { { "/services?", "sendInitial" }, "watchlist-services", NULL, 1 } } },
	{ "unauthorized, then let in",
	  "Service",
	  { { { "/services?" }, "error-401", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services", NULL, 1 } } },
	{ "a page that expires, then a list",
	  "Service",
	  { { { "/services?", "limit=" }, "list-services-page1", NULL, 1 },
	    { { "/services?", "continue=" }, "error-410-list", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services", NULL, 1 } } },
	{ "a version of the future, then a list",
	  "Service",
	  { { { "/services?", "limit=" }, "list-504-future", NULL, 1 },
	    { { "/services?", "limit=" }, "list-services", NULL, 1 } } },
};

enum { PAIR_PLAYS = 3 };

struct pair_run {
	struct player *player;
	const char *path;
};

/* All recordings were played and read: what is asked for next gets no answer. */
static bool pair_over(struct live *live, const void *arg)
{
	const struct pair_run *run = arg;

	return strstr(player_unanswered(run->player), run->path) &&
	       live_all_listed(live, NULL);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The lines of @text about @kind, sorted. */
static char *sorted_lines(const char *text, const char *kind)
{
	char *about = lines_about(text, kind), *lines[512], *next = about;
	struct strbuf sb = STRBUF_INIT;
	size_t n = 0;

	while ((lines[n] = strsep(&next, "\n")) && n < 511)
		n++;
	qsort(lines, n, sizeof(lines[0]), compare_lines);
	strbuf_adds(&sb, "");
	for (size_t i = 0; i < n; i++)
		strbuf_addf(&sb, "%s\n", lines[i]);
	free(about);
	return sb.text;
}

static char *play_pair(int i, const char *suffix)
{
	struct play plays[PAIR_PLAYS + 6] = { NO_STREAM, NO_STREAM, NO_STREAM,
					      NO_STREAM, NO_SLICES, NO_SERVICES,
					      NO_CIDRS,	 NO_NODE };
	char files[PAIR_PLAYS][64], *state, *journal;
	struct pair_run run = { .path = pairs[i].plays[0].wants[0] };
	struct strbuf sb = STRBUF_INIT;
	struct live live;

	for (int n = 0; n < PAIR_PLAYS && pairs[i].plays[n].file; n++) {
		snprintf(files[n], sizeof(files[n]), "protobuf/%s.%s",
			 pairs[i].plays[n].file, suffix);
		plays[n] = pairs[i].plays[n];
		plays[n].file = files[n];
	}
	live_open(&live);
	run.player = player_start(live.base, plays);
	live_master(&live, player_port(run.player));
	live_start(&live);
	live_until(&live, pair_over, &run, pairs[i].name);
	journal = sorted_lines(recording_sink_journal(live.sink), pairs[i].kind);
	state = recording_sink_state(live.sink);
	strbuf_addf(&sb, "%s%s", journal, state);
	ck_assert_msg(strstr(journal, "put "), "%s %s: %s", pairs[i].name,
		      suffix, sb.text);
	ck_assert_msg(!strstr(sb.text, "complain"), "%s %s: %s", pairs[i].name,
		      suffix, sb.text);
	free(journal);
	free(state);
	player_stop(run.player);
	live_close(&live);
	return sb.text;
}

START_TEST(both_encodings_agree)
{
	char *json = play_pair(_i, "json"), *protobuf = play_pair(_i, "pb");

	ck_assert_msg(!strcmp(json, protobuf), "%s: JSON\n%.700s\nprotobuf\n%.700s",
		      pairs[_i].name, json, protobuf);
	free(json);
	free(protobuf);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("reflector");
	TCase *tcase = tcase_create("judge"), *played = tcase_create("recordings");

	ADD_LOOP(tcase, judges, judgements);
	tcase_set_timeout(played, 60);
	ADD_LOOP(played, replays_recordings, replays);
	tcase_add_test(played, all_lists_agree);
	ADD_LOOP(played, both_encodings_agree, pairs);
	suite_add_tcase(suite, tcase);
	suite_add_tcase(suite, played);
	return suite;
}
