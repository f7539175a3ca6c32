/*
 * The whole source against the fake API server, which misbehaves in every way
 * it can. Whatever happens, in the end the sink holds what the server holds.
 */
#include <check.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/live.h"
#include "watch/backoff.h"

static const char *const plain[] = { "--bookmark-s", "0.05", NULL };
static struct fake *shared;

#define SERVICE(name, more)                                                        \
	"{\"kind\":\"Service\",\"metadata\":{\"namespace\":\"a\",\"name\":\"" name \
	"\"" more "}"
#define IP(ip)                                                                 \
	",\"spec\":{\"clusterIP\":\"" ip "\",\"clusterIPs\":[\"" ip            \
	"\"],\"ipFamilies\":[\"IPv4\"],"                                       \
	"\"ports\":[{\"port\":80}]}}"
#define SLICE(name, ip)                                                                   \
	"{\"kind\":\"EndpointSlice\",\"metadata\":{\"namespace\":\"a\",\"name\":\"" name  \
	"\",\"labels\":{\"kubernetes.io/service-name\":\"s\"}},\"addressType\":\"IPv4\"," \
	"\"endpoints\":[{\"addresses\":[\"" ip                                            \
	"\"]}],\"ports\":[{\"name\":\"\",\"port\":80}]}"
#define PUT(object) "{\"op\":\"put\",\"object\":" object "}"

/* An empty server without memory of earlier tests. */
static void fake_clear(struct fake *fake)
{
	fake_tell(fake, "{\"op\":\"reset\"}");
}

/* Both hold the same if a source that starts now comes to the same. */
static char *fresh_state(struct fake *fake)
{
	struct live live;
	char *state;

	live_open(&live);
	live_master(&live, fake_port(fake));
	live_start(&live);
	live_until(&live, live_all_listed, NULL, "a fresh source lists");
	state = recording_sink_state(live.sink);
	live_close(&live);
	return state;
}

static bool state_is(struct live *live, const void *want)
{
	char *state = recording_sink_state(live->sink);
	bool same = !strcmp(state, want);

	free(state);
	return same;
}

static void expect_fresh_state(struct live *live, struct fake *fake,
			       const char *name)
{
	char *want = fresh_state(fake);

	live_until(live, state_is, want, name);
	free(want);
}

static void begin(struct live *live)
{
	fake_clear(shared);
	live_open(live);
	live_master(live, fake_port(shared));
}

static unsigned int count(const char *text, const char *what)
{
	unsigned int n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void ask_for_json(struct live *live)
{
	ck_assert_int_eq(
		config_set(&live->config->content_type, "application/json"), 0);
}

/* API-1 to API-4, and nothing else (API-9) */
START_TEST(asks_only_what_is_allowed)
{
	static const char *const wanted[] = {
		"\"path\":\"/api/v1/services\",\"query\":{\"labelSelector\":"
		"\"!service.kubernetes.io/service-proxy-name\","
		"\"fieldSelector\":\"spec.clusterIP!=None\"",
		"\"path\":\"/apis/discovery.k8s.io/v1/endpointslices\",\"query\":{"
		"\"labelSelector\":\"!service.kubernetes.io/headless\"",
		"\"path\":\"/apis/networking.k8s.io/v1/servicecidrs\",\"query\":{\"watch\"",
		"\"path\":\"/api/v1/nodes\",\"query\":{\"fieldSelector\":"
		"\"metadata.name=node-a\"",
		"\"sendInitialEvents\":\"true\",\"resourceVersionMatch\":\"NotOlderThan\","
		"\"allowWatchBookmarks\":\"true\",\"timeoutSeconds\":\"",
		"\"user_agent\":\"vipmap/",
		"\"accept\":\"application/vnd.kubernetes.protobuf, application/json\"",
		"\"answered\":\"application/vnd.kubernetes.protobuf\"",
	};
	const char *requests, *p;
	struct live live;
	int n = 0;

	begin(&live);
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	requests = fake_tell(shared, "{\"op\":\"requests\"}");
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		ck_assert_msg(strstr(requests, wanted[i]), "want %s in %s",
			      wanted[i], requests);
	for (p = requests; (p = strstr(p, "\"method\"")); p++)
		n++;
	ck_assert_int_eq(n, 4);
	ck_assert_ptr_null(strstr(requests, "\"answered\":\"application/json\""));
	ck_assert_int_gt(apisource_status(live.source).last_contact_us, 0);
	live_close(&live);
}
END_TEST

#define PROTOBUF "application/vnd.kubernetes.protobuf"
#define BOTH PROTOBUF ", application/json"
#define DROP ";drop=metadata.managedFields"

/* What the configuration asks for, and what the server gives. */
static const struct {
	const char *name, *content_type, *accept, *set; /* NULL: as by default */
	const char *asked, *answered;
} content_types[] = {
	{ "default", NULL, NULL, NULL, BOTH, PROTOBUF },
	{ "JSON as content type", "application/json", NULL, NULL,
	  "application/json", "application/json" },
	{ "JSON accepted", PROTOBUF, "application/json", NULL,
	  "application/json", "application/json" },
	{ "JSON accepted first", NULL, "application/json," PROTOBUF, NULL,
	  "application/json", "application/json" },
	{ "protobuf accepted first", "application/json", BOTH, NULL, BOTH, PROTOBUF },
	{ "something else", "application/yaml", NULL, NULL, "application/json",
	  "application/json" },
	{ "a parameter", PROTOBUF DROP, NULL, "\"parameters\":true",
	  PROTOBUF DROP ", " BOTH, PROTOBUF },
	{ "a parameter that the server does not know", PROTOBUF DROP, NULL,
	  NULL, PROTOBUF DROP ", " BOTH, PROTOBUF },
	{ "a parameter among the types accepted", NULL,
	  "text/plain, " PROTOBUF DROP ",application/json", NULL,
	  PROTOBUF DROP ", " BOTH, PROTOBUF },
	{ "a parameter for JSON", "application/json" DROP, NULL, NULL,
	  "application/json" DROP ", application/json", "application/json" },
	{ "a parameter that would end the header", PROTOBUF ";a\r\nX: y", NULL,
	  NULL, BOTH, PROTOBUF },
	{ "a server without protobuf", NULL, NULL, "\"protobuf\":false", BOTH,
	  "application/json" },
	{ "a server without protobuf and streaming lists", NULL, NULL,
	  "\"protobuf\":false,\"watchlist\":false", BOTH, "application/json" },
	{ "protobuf in pages", NULL, NULL,
	  "\"watchlist\":false,\"page_cached\":true", BOTH, PROTOBUF },
};

START_TEST(content_types_are_chosen)
{
	char want[256];
	const char *requests;
	struct live live;

	begin(&live);
	live.tuning.timing.page_limit = 3;
	if (content_types[_i].content_type)
		ck_assert_int_eq(config_set(&live.config->content_type,
					    content_types[_i].content_type),
				 0);
	if (content_types[_i].accept)
		ck_assert_int_eq(config_set(&live.config->accept_content_types,
					    content_types[_i].accept),
				 0);
	if (content_types[_i].set)
		fake_tell(shared, "{\"op\":\"set\",%s}", content_types[_i].set);
	for (int i = 0; i < 8; i++) {
		fake_tell(shared, "{\"op\":\"touch_service\",\"n\":%d}", i);
		fake_tell(shared, "{\"op\":\"touch_endpoint\",\"n\":%d}", i);
	}
	live_start(&live);
	live_until(&live, live_all_connected, NULL, content_types[_i].name);
	fake_tell(shared, PUT(SERVICE("new", "") IP("172.30.0.2")));
	live_until(&live, live_journal_has, "put Service a/new\n",
		   content_types[_i].name);
	requests = fake_tell(shared, "{\"op\":\"requests\"}");
	snprintf(want, sizeof(want), "\"accept\":\"%s\",\"answered\":\"%s\"",
		 content_types[_i].asked, content_types[_i].answered);
	ck_assert_msg(strstr(requests, want), "%s: want %s in %.1000s",
		      content_types[_i].name, want, requests);
	ck_assert_uint_eq(recording_sink_count(live.sink, KIND_SERVICE), 9);
	ck_assert_uint_eq(recording_sink_count(live.sink, KIND_SLICE), 8);
	expect_fresh_state(&live, shared, content_types[_i].name);
	live_close(&live);
}
END_TEST

/* What the fake encodes is what a real server sends for the same objects. */
START_TEST(the_fake_encodes_as_the_real_one)
{
	ck_assert_int_eq(
		system("python3 tests/support/protobuf.py tests/data/recordings/protobuf"),
		0);
}
END_TEST

/* Something in front of the server does not let protobuf pass: JSON is asked for from then on. */
static const struct {
	const char *name, *fault;
	bool running; /* it comes up while watches run */
} no_protobuf[] = {
	{ "406", "\"code\":406", false },
	{ "415", "\"code\":415", false },
	{ "406 for watches", "\"code\":406", true },
	{ "415 for watches", "\"code\":415", true },
};

START_TEST(refused_protobuf_becomes_json)
{
	const char *requests;
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("s", "") IP("172.30.0.1")));
	live_start(&live);
	if (no_protobuf[_i].running)
		live_until(&live, live_all_connected, NULL, "connected");
	recording_sink_forget_journal(live.sink);
	fake_tell(shared, "{\"op\":\"clear_requests\"}");
	fake_tell(shared,
		  "{\"op\":\"fault\",\"how\":\"status\",%s,\"times\":4,\"answered\":\"" PROTOBUF
		  "\"}",
		  no_protobuf[_i].fault);
	if (no_protobuf[_i].running)
		fake_tell(shared, "{\"op\":\"break\",\"how\":\"end\"}");
	live_until(&live, live_journal_has,
		   no_protobuf[_i].running ? "" : "end Service\n", "a list");
	live_run_ms(&live, 100);
	live_until(&live, live_all_connected, NULL, no_protobuf[_i].name);
	requests = fake_tell(shared, "{\"op\":\"requests\"}");
	/* Each of the four asks for both once, and then for JSON in the same way. */
	ck_assert_uint_eq(count(requests, "\"accept\":\"" BOTH "\""), 4);
	ck_assert_uint_eq(count(requests, "\"accept\":\"application/json\""), 4);
	ck_assert_uint_eq(count(requests, "\"limit\""), 0);
	ck_assert_uint_eq(
		count(recording_sink_journal(live.sink), "begin Service\n"),
		!no_protobuf[_i].running);
	ck_assert_msg(!strstr(live.log.text, " 4 "), "%s: %s",
		      no_protobuf[_i].name, live.log.text);
	expect_fresh_state(&live, shared, no_protobuf[_i].name);
	live_close(&live);
}
END_TEST

START_TEST(follows_changes)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("old", "") IP("172.30.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	ck_assert(live_journal_has(&live, "put Service a/old\n"));
	fake_tell(shared, PUT(SERVICE("new", "") IP("172.30.0.2")));
	fake_tell(shared, PUT(SLICE("e", "10.0.0.1")));
	live_until(&live, live_journal_has, "put Service a/new\n",
		   "an added service");
	live_until(&live, live_journal_has, "put EndpointSlice a/e\n",
		   "an added slice");
	fake_tell(shared, "{\"op\":\"delete\",\"kind\":\"Service\",\"namespace\":\"a\","
			  "\"name\":\"old\"}");
	live_until(&live, live_journal_has, "gone Service a/old\n",
		   "a deleted service");
	ck_assert_uint_gt(live.n_settled, 0);
	live_close(&live);
}
END_TEST

/* API-6 API-7 SVC-3: what stops matching a selector is deleted. */
START_TEST(selectors_delete)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("s", "") IP("172.30.0.1")));
	fake_tell(shared,
		  PUT(SERVICE("none", "") ",\"spec\":{\"clusterIP\":\"None\"}}"));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	ck_assert(!live_journal_has(&live, "a/none"));
	fake_tell(shared, PUT(SERVICE("s", ",\"labels\":{\"service.kubernetes.io/"
					   "service-proxy-name\":\"\"}")
				      IP("172.30.0.1")));
	live_until(&live, live_journal_has, "gone Service a/s\n",
		   "deleted by its label");
	live_close(&live);
}
END_TEST

/* API-10, and that it does not depend on when we started. */
START_TEST(bad_objects_affect_themselves)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("bad", "") IP("nonsense")));
	fake_tell(shared, PUT(SERVICE("good", "") IP("172.30.0.1")));
	fake_tell(shared, PUT(SERVICE("turns", "") IP("172.30.0.2")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	ck_assert(live_journal_has(&live, "complain Service a/bad"));
	ck_assert_uint_eq(recording_sink_count(live.sink, KIND_SERVICE), 2);
	fake_tell(shared, PUT(SERVICE("turns", "") IP("nonsense")));
	live_until(&live, live_journal_has, "gone Service a/turns\n",
		   "a service turned bad");
	expect_fresh_state(&live, shared, "turned bad");
	fake_tell(shared, PUT(SERVICE("bad", "") IP("172.30.0.3")));
	live_until(&live, live_journal_has, "put Service a/bad\n",
		   "a service turned good");
	live_close(&live);
}
END_TEST

/* EPS-10: a slice that loses its label is gone. */
START_TEST(unlabelled_slices_go)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SLICE("e", "10.0.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	fake_tell(shared,
		  PUT("{\"kind\":\"EndpointSlice\",\"metadata\":{\"namespace\":\"a\","
		      "\"name\":\"e\"},\"addressType\":\"IPv4\",\"endpoints\":[]}"));
	live_until(&live, live_journal_has, "gone EndpointSlice a/e\n",
		   "unlabelled");
	ck_assert(!live_journal_has(&live, "complain"));
	live_close(&live);
}
END_TEST

/* API-8: what happens to running watches. Changes are made while they are broken. */
static const struct {
	const char *name, *how;
	bool relists;
} breaks[] = {
	{ "clean end", "\"how\":\"end\"", false },
	{ "connection reset", "\"how\":\"abort\"", false },
	{ "cut in an object", "\"how\":\"mid-object\"", false },
	{ "cut in a chunk", "\"how\":\"mid-chunk\"", false },
	{ "half open", "\"how\":\"stall\"", false },
	{ "nonsense", "\"how\":\"garbage\"", true },
	{ "error event 410", "\"how\":\"error\",\"code\":410", true },
	{ "error event 500", "\"how\":\"error\",\"code\":500", false },
	{ "error event 504", "\"how\":\"error\",\"code\":504", false },
};

enum { N_BREAKS = sizeof(breaks) / sizeof(breaks[0]) };

/* First with protobuf, then with JSON. */
START_TEST(broken_watches_resume)
{
	const int i = _i % N_BREAKS;
	struct live live;
	unsigned int lists;

	begin(&live);
	if (_i >= N_BREAKS)
		ask_for_json(&live);
	live.tuning.timing.watch_idle_ms =
		strstr(breaks[i].how, "stall") ? 300 : 10000;
	fake_tell(shared, PUT(SERVICE("one", "") IP("172.30.0.1")));
	fake_tell(shared, PUT(SERVICE("two", "") IP("172.30.0.2")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	recording_sink_forget_journal(live.sink);
	fake_tell(shared, "{\"op\":\"break\",%s}", breaks[i].how);
	fake_tell(shared, PUT(SERVICE("three", "") IP("172.30.0.3")));
	fake_tell(shared, "{\"op\":\"delete\",\"kind\":\"Service\",\"namespace\":\"a\","
			  "\"name\":\"one\"}");
	expect_fresh_state(&live, shared, breaks[i].name);
	lists = count(recording_sink_journal(live.sink), "begin Service\n");
	ck_assert_msg(lists == breaks[i].relists, "%s: listed %u times",
		      breaks[i].name, lists);
	live_until(&live, live_all_connected, NULL, breaks[i].name);
	live_close(&live);
}
END_TEST

/* What happens to requests, of lists as of watches, at the start and later. */
static const struct {
	const char *name, *fault;
} faults[] = {
	{ "refused connections", "\"how\":\"close\",\"times\":6" },
	{ "401", "\"how\":\"status\",\"code\":401,\"times\":5" },
	{ "403",
	  "\"how\":\"status\",\"code\":403,\"times\":3,\"resource\":\"services\"" },
	{ "404",
	  "\"how\":\"status\",\"code\":404,\"times\":3,\"resource\":\"services\"" },
	{ "410", "\"how\":\"status\",\"code\":410,\"times\":3" },
	{ "410 Gone",
	  "\"how\":\"status\",\"code\":410,\"reason\":\"Gone\",\"times\":3" },
	{ "422", "\"how\":\"status\",\"code\":422,\"times\":3" },
	{ "429", "\"how\":\"status\",\"code\":429,\"retry_after\":1,\"times\":4" },
	{ "500", "\"how\":\"status\",\"code\":500,\"times\":9" },
	{ "503", "\"how\":\"status\",\"code\":503,\"retry_after\":1,\"times\":4" },
	{ "504", "\"how\":\"status\",\"code\":504,\"times\":4" },
	{ "a version of the future",
	  "\"how\":\"status\",\"code\":504,\"reason\":\"Timeout\",\"causes\":[{\"reason\":"
	  "\"ResourceVersionTooLarge\"}],\"times\":3" },
	{ "no API server", "\"how\":\"garbage\",\"times\":5" },
	{ "cut in the head", "\"how\":\"cut\",\"after\":30,\"times\":4" },
	{ "cut before the first object",
	  "\"how\":\"cut\",\"after\":430,\"times\":4" },
	{ "cut in an object", "\"how\":\"cut\",\"after\":700,\"times\":4" },
	{ "cut after some objects", "\"how\":\"cut\",\"after\":1900,\"times\":4" },
	{ "half open from the start", "\"how\":\"stall\",\"times\":4" },
	{ "half open", "\"how\":\"stall\",\"after\":1900,\"times\":4" },
	{ "slow", "\"how\":\"trickle\",\"bytes\":300,\"delay\":0.001,\"times\":8" },
	{ "one byte at a time",
	  "\"how\":\"trickle\",\"bytes\":1,\"delay\":0,\"times\":1,\"resource\":\"services\"" },
};

START_TEST(faulty_requests_are_repeated)
{
	struct live live;

	begin(&live);
	if (strstr(faults[_i].fault, "stall"))
		live.tuning.timing.watch_idle_ms =
			live.tuning.timing.list_idle_ms = 300;
	for (int i = 0; i < 8; i++)
		fake_tell(shared, "{\"op\":\"touch_service\",\"n\":%d}", i);
	fake_tell(shared, "{\"op\":\"fault\",%s}", faults[_i].fault);
	live_start(&live);
	live_until(&live, live_all_connected, NULL, faults[_i].name);
	fake_tell(shared, "{\"op\":\"clear_faults\"}");
	expect_fresh_state(&live, shared, faults[_i].name);

	/* The same while it runs: watches end, and their successors meet the fault. */
	fake_tell(shared, "{\"op\":\"fault\",%s}", faults[_i].fault);
	fake_tell(shared, "{\"op\":\"break\",\"how\":\"abort\"}");
	fake_tell(shared, PUT(SERVICE("late", "") IP("172.30.0.9")));
	live_until(&live, live_journal_has, "put Service a/late\n",
		   faults[_i].name);
	live_until(&live, live_all_connected, NULL, faults[_i].name);
	fake_tell(shared, "{\"op\":\"clear_faults\"}");
	expect_fresh_state(&live, shared, faults[_i].name);
	live_close(&live);
}
END_TEST

/* How long a server may send us away: as long as it says, but not for ever. */
static const struct {
	const char *name;
	int code, retry_after_s, longest_ms;
	double min_s, max_s;
} sent_away[] = {
	{ "429, 1 s", 429, 1, 30000, 0.95, 5 },
	{ "503, 1 s", 503, 1, 30000, 0.95, 5 },
	{ "429, an hour", 429, 3600, 200, 0.15, 5 },
};

/* The times of the first two requests for a path, as the fake notes them. */
static double seconds_between(const char *requests, const char *path)
{
	double time[2] = { 0 };

	for (int i = 0; i < 2; i++) {
		requests = strstr(requests, path);
		ck_assert_ptr_nonnull(requests);
		requests = strstr(requests, "\"time\":");
		ck_assert_ptr_nonnull(requests);
		time[i] = strtod(requests + strlen("\"time\":"), NULL);
	}
	return time[1] - time[0];
}

START_TEST(retry_after_is_honoured)
{
	struct live live;
	double waited;

	begin(&live);
	live.tuning.timing.retry_after_max_ms = sent_away[_i].longest_ms;
	fake_tell(shared, PUT(SERVICE("s", "") IP("172.30.0.1")));
	fake_tell(shared,
		  "{\"op\":\"fault\",\"how\":\"status\",\"code\":%d,\"retry_after\":%d,"
		  "\"times\":1,\"resource\":\"services\"}",
		  sent_away[_i].code, sent_away[_i].retry_after_s);
	live_start(&live);
	live_until(&live, live_all_connected, NULL, sent_away[_i].name);
	waited = seconds_between(fake_tell(shared, "{\"op\":\"requests\"}"),
				 "/services\"");
	ck_assert_msg(waited >= sent_away[_i].min_s && waited < sent_away[_i].max_s,
		      "%s: waited for %.3f s", sent_away[_i].name, waited);
	live_close(&live);
}
END_TEST

/* Nothing is said to be gone because the server is (API-8), nor listed before it is whole (RUN-1).
 */
START_TEST(an_absent_server_changes_nothing)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("s", "") IP("172.30.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	recording_sink_forget_journal(live.sink);
	fake_tell(shared, "{\"op\":\"fault\",\"how\":\"close\",\"times\":100000}");
	fake_tell(shared, "{\"op\":\"drop\"}");
	live_until(&live, live_log_has, "Service: watch: ", "the loss is told");
	live_until(&live, live_log_has,
		   "4 API server unreachable: ", "and what it means");
	live_run_ms(&live, 300);
	ck_assert_str_eq(recording_sink_journal(live.sink), "");
	ck_assert(!apisource_status(live.source).connected[KIND_SERVICE]);
	ck_assert(apisource_status(live.source).listed[KIND_SERVICE]);
	fake_tell(shared, "{\"op\":\"clear_faults\"}");
	live_until(&live, live_all_connected, NULL, "connected again");
	live_until(&live, live_log_has, "Service: watching again",
		   "the return is told");
	ck_assert_uint_eq(count(live.log.text, "API server unreachable: "), 1);
	ck_assert_uint_eq(
		count(live.log.text, "5 API server reachable again after "), 1);
	live_close(&live);
}
END_TEST

/* Changes that a compacted history no longer tells are found by listing. */
START_TEST(expired_history_lists_again)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("one", "") IP("172.30.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	fake_tell(shared, "{\"op\":\"fault\",\"how\":\"close\",\"times\":4}");
	fake_tell(shared, "{\"op\":\"break\",\"how\":\"abort\"}");
	fake_tell(shared, "{\"op\":\"delete\",\"kind\":\"Service\",\"namespace\":\"a\","
			  "\"name\":\"one\"}");
	fake_tell(shared, PUT(SERVICE("two", "") IP("172.30.0.2")));
	fake_tell(shared, "{\"op\":\"compact\"}");
	expect_fresh_state(&live, shared, "compacted");
	live_close(&live);
}
END_TEST

/* An etcd restored from a backup: our version will not be reached for a long time. */
START_TEST(a_server_of_the_past_is_followed)
{
	struct live live;

	begin(&live);
	live.tuning.timing.watch_idle_ms = 200;
	fake_tell(shared, "{\"op\":\"set\",\"rv\":5000}");
	fake_tell(shared, PUT(SERVICE("one", "") IP("172.30.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	fake_clear(shared);
	fake_tell(shared, PUT(SERVICE("two", "") IP("172.30.0.2")));
	live_until(&live, live_journal_has, "put Service a/two\n",
		   "an older server");
	expect_fresh_state(&live, shared, "an older server");
	live_close(&live);
}
END_TEST

/* The same, noticed earlier: a list that shall not be older than what is known cannot be had. */
START_TEST(a_list_of_the_future_is_given_up)
{
	struct live live;

	begin(&live);
	fake_tell(shared, PUT(SERVICE("one", "") IP("172.30.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	recording_sink_forget_journal(live.sink);
	fake_tell(shared,
		  "{\"op\":\"break\",\"how\":\"garbage\",\"resource\":\"services\"}");
	fake_tell(shared, "{\"op\":\"set\",\"rv\":50}");
	fake_tell(shared, PUT(SERVICE("two", "") IP("172.30.0.2")));
	live_until(&live, live_log_has,
		   "504 Timeout: Timeout: Too large resource version",
		   "refused in the stream");
	live_until(&live, live_journal_has, "end Service\n", "listed all the same");
	expect_fresh_state(&live, shared, "a list of the future");
	live_close(&live);
}
END_TEST

/*
 * While the server was away pauses have grown; that it has forgotten our
 * version shows that it is back, and the list is not put off for them (API-8).
 * A history that is always too short is another matter.
 */
START_TEST(expiry_after_an_outage_lists_at_once)
{
	struct live live;

	begin(&live);
	live.tuning.timing.backoff_initial_ms = 50;
	live.tuning.timing.backoff_max_ms = 60000;
	fake_tell(shared, PUT(SERVICE("one", "") IP("172.30.0.1")));
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	fake_tell(shared, "{\"op\":\"fault\",\"how\":\"close\",\"times\":5,"
			  "\"resource\":\"services\"}");
	fake_tell(shared,
		  "{\"op\":\"break\",\"how\":\"abort\",\"resource\":\"services\"}");
	fake_tell(shared, PUT(SERVICE("two", "") IP("172.30.0.2")));
	fake_tell(shared, "{\"op\":\"compact\"}");
	live_until(&live, live_log_has, "410 Expired", "expired");
	live_run_ms(&live, 500);
	ck_assert_msg(live_journal_has(&live, "put Service a/two\nend Service\n"),
		      "not listed half a second later:\n%s", live.log.text);
	live_close(&live);
}
END_TEST

START_TEST(history_that_always_expires_is_backed_off_from)
{
	struct live live;
	unsigned int requests;

	begin(&live);
	live.tuning.timing.backoff_initial_ms = 100;
	live.tuning.timing.backoff_max_ms = 60000;
	fake_tell(shared, "{\"op\":\"set\",\"watchlist\":false}");
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	fake_tell(shared, "{\"op\":\"compact\"}");
	fake_tell(shared, "{\"op\":\"set\",\"rv\":50}");
	fake_tell(shared,
		  "{\"op\":\"break\",\"how\":\"abort\",\"resource\":\"services\"}");
	live_run_ms(&live, 1000);
	requests = count(fake_tell(shared, "{\"op\":\"requests\"}"),
			 "/api/v1/services\"");
	ck_assert_msg(requests >= 6 && requests <= 20,
		      "%u requests in a second", requests);
	live_close(&live);
}
END_TEST

/* While a server starts it knows no roles yet; ServiceCIDRs are not given up for that. */
START_TEST(a_passing_403_is_doubted)
{
	struct live live;

	begin(&live);
	live.tuning.timing.absent_ms = 60000;
	live.tuning.timing.backoff_initial_ms = 10;
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	recording_sink_forget_journal(live.sink);
	fake_tell(shared, "{\"op\":\"set\",\"forbidden\":[\"servicecidrs\"]}");
	fake_tell(shared,
		  "{\"op\":\"break\",\"how\":\"abort\",\"resource\":\"servicecidrs\"}");
	live_until(&live, live_log_has,
		   "403 Forbidden: servicecidrs.networking.k8s.io is forbidden: User",
		   "refused");
	ck_assert_str_eq(recording_sink_journal(live.sink), "");
	fake_tell(shared, "{\"op\":\"set\",\"forbidden\":[]}");
	live_until(&live, live_journal_has, "end ServiceCIDR\n", "listed soon");
	live_close(&live);
}
END_TEST

/* Servers and roles that have less. */
static const struct {
	const char *name, *set;
} older[] = {
	{ "no streaming lists", "\"watchlist\":false" },
	{ "no field selectors of services", "\"field_selectors\":false" },
	{ "neither", "\"watchlist\":false,\"field_selectors\":false" },
	{ "no ServiceCIDRs", "\"missing\":[\"servicecidrs\"]" },
	{ "ServiceCIDRs not allowed", "\"forbidden\":[\"servicecidrs\"]" },
	{ "pages", "\"watchlist\":false,\"page_cached\":true" },
};

static bool needed_connected(struct live *live, const void *unused)
{
	struct apisource_status status = apisource_status(live->source);

	(void)unused;
	return status.connected[KIND_SERVICE] && status.connected[KIND_SLICE] &&
	       status.listed[KIND_SERVICE_CIDR];
}

START_TEST(older_servers_do)
{
	struct live live;

	begin(&live);
	live.tuning.timing.page_limit = 3;
	fake_tell(shared, "{\"op\":\"set\",%s}", older[_i].set);
	for (int i = 0; i < 10; i++)
		fake_tell(shared, "{\"op\":\"touch_service\",\"n\":%d}", i);
	live_start(&live);
	live_until(&live, needed_connected, NULL, older[_i].name);
	ck_assert_uint_eq(recording_sink_count(live.sink, KIND_SERVICE), 10);
	fake_tell(shared, PUT(SERVICE("late", "") IP("172.30.0.9")));
	live_until(&live, live_journal_has, "put Service a/late\n", older[_i].name);
	live_close(&live);
}
END_TEST

/* A page's token expires while the pages are read. */
START_TEST(expired_pages_begin_again)
{
	struct live live;

	begin(&live);
	live.tuning.timing.page_limit = 3;
	fake_tell(shared, "{\"op\":\"set\",\"watchlist\":false,\"page_cached\":true,"
			  "\"expire_pages\":2}");
	for (int i = 0; i < 10; i++)
		fake_tell(shared, "{\"op\":\"touch_service\",\"n\":%d}", i);
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	ck_assert_uint_gt(
		count(recording_sink_journal(live.sink), "begin Service\n"), 1);
	ck_assert_uint_eq(
		count(recording_sink_journal(live.sink), "end Service\n"), 1);
	expect_fresh_state(&live, shared, "expired pages");
	live_close(&live);
}
END_TEST

/* A service's endpoints may arrive before or after it (EPS-11), each on its own watch. */
START_TEST(order_across_kinds_is_free)
{
	struct live live;

	begin(&live);
	fake_tell(shared, "{\"op\":\"set\",\"delay\":{\"services\":0.2}}");
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	recording_sink_forget_journal(live.sink);
	fake_tell(shared, PUT(SERVICE("s", "") IP("172.30.0.1")));
	fake_tell(shared, PUT(SLICE("e", "10.0.0.1")));
	live_until(&live, live_journal_has,
		   "put EndpointSlice a/e\nput Service a/s\n", "reversed");
	live_close(&live);
}
END_TEST

/* The token is read again when it is refused, and is never told. */
START_TEST(tokens_are_renewed_and_kept_secret)
{
	char folder[] = "/tmp/vipmap-test-XXXXXX", config[512], path[128];
	struct live live;

	begin(&live);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(config, sizeof(config),
		 "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{"
		 "\"cluster\":\"c\",\"user\":\"u\"}}],\"clusters\":[{\"name\":\"c\",\"cluster\":{"
		 "\"server\":\"http://127.0.0.1:%d\"}}],\"users\":[{\"name\":\"u\",\"user\":{"
		 "\"tokenFile\":\"token\"}}]}",
		 fake_port(shared));
	write_text(folder, "config", config);
	write_text(folder, "token", "s3cret-one\n");
	snprintf(path, sizeof(path), "%s/config", folder);
	config_set(&live.config->master, "");
	config_set(&live.config->kubeconfig, path);
	live.tuning.timing.token_age_ms = 1000000;
	fake_tell(shared, "{\"op\":\"set\",\"token\":\"s3cret-one\"}");
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");

	fake_tell(shared, "{\"op\":\"set\",\"token\":\"s3cret-two\"}");
	fake_tell(shared, "{\"op\":\"break\",\"how\":\"end\"}");
	live_until(&live, live_log_has, "401", "refused");
	write_text(folder, "token", "s3cret-two\n");
	live_until(&live, live_all_connected, NULL, "connected with the new token");

	/* A kubeconfig that has gone is told, the old one is kept. */
	unlink(path);
	fake_tell(shared, "{\"op\":\"set\",\"token\":\"s3cret-three\"}");
	fake_tell(shared, "{\"op\":\"break\",\"how\":\"end\"}");
	live_until(&live, live_log_has, "/config: No such file",
		   "missing kubeconfig");
	fake_tell(shared, "{\"op\":\"set\",\"token\":\"s3cret-two\"}");
	live_until(&live, live_all_connected, NULL, "connected after all");

	ck_assert_msg(!strstr(live.log.text, "s3cret"), "%s", live.log.text);
	ck_assert(!live_journal_has(&live, "s3cret"));
	live_close(&live);
	snprintf(path, sizeof(path), "%s/token", folder);
	unlink(path);
	rmdir(folder);
}
END_TEST

START_TEST(the_next_server_is_tried)
{
	char masters[128];
	struct live live;

	begin(&live);
	snprintf(masters, sizeof(masters),
		 "http://127.0.0.1:1,http://127.0.0.1:2,127.0.0.1:%d",
		 fake_port(shared));
	config_set(&live.config->master, masters);
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected to the third");
	ck_assert(!live_log_has(&live, "API server unreachable: "));
	ck_assert(live_log_has(&live, "API server http://127.0.0.1:1 failed ("));
	live_close(&live);
}
END_TEST

static const struct {
	const char *host, *url;
	bool warned;
} cluster_addresses[] = {
	{ "::1", "tcp://[::1]:443", true },
	{ "127.0.0.2", "tcp://127.0.0.2:443", true },
	{ "127.0.0.2", "127.0.0.2:443", true },
	/* Replaced by whoever wrote the pod. */
	{ "127.0.0.1", "tcp://172.30.0.1:443", false },
	{ "localhost", "tcp://172.30.0.1:443", false },
	{ "::1", "tcp://172.30.0.1:443", false },
	{ "127.0.0.1", NULL, false },
	{ "127.0.0.1", "", false },
	{ "127.0.0.1", "tcp://nonsense", false },
};

/* Whether the address is a Service is known from the environment that the kubelet makes. */
START_TEST(the_cluster_address_is_warned_about)
{
	char folder[] = "/tmp/vipmap-test-XXXXXX", path[128];
	struct live live;

	begin(&live);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	write_text(folder, "token", "s3cret");
	write_text(folder, "ca.crt", "-----BEGIN CERTIFICATE-----\n");
	config_set(&live.config->master, "");
	live.tuning.service_account = folder;
	live.tuning.host = cluster_addresses[_i].host;
	live.tuning.port = "1";
	live.tuning.service_url = cluster_addresses[_i].url;
	live_start(&live);
	ck_assert_msg(live_log_has(&live, "is the cluster's own service address") ==
			      cluster_addresses[_i].warned,
		      "%s, %s", cluster_addresses[_i].host,
		      cluster_addresses[_i].url);
	live_until(&live, live_log_has, "Service: list: ", "failure");
	ck_assert(!live_log_has(&live, "s3cret"));
	live_close(&live);
	snprintf(path, sizeof(path), "%s/token", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/ca.crt", folder);
	unlink(path);
	rmdir(folder);
}
END_TEST

START_TEST(no_credentials_is_an_error)
{
	struct errbuf eb = { "" };
	struct live live;
	struct apisource_options options = { .node_name = "node-a" };

	live_open(&live);
	options.config = live.config;
	ck_assert_ptr_null(apisource_new_tuned(live.base, &options, &live.tuning,
					       recording_sink_ops(live.sink), &eb));
	ck_assert_ptr_nonnull(strstr(eb.text, "KUBERNETES_SERVICE_HOST"));
	live_close(&live);
}
END_TEST

/* The same message is not told a thousand times. */
START_TEST(log_is_limited)
{
	struct live live;

	begin(&live);
	live.tuning.timing.log_ms = 60000;
	live.tuning.timing.backoff_max_ms = 4;
	fake_tell(shared,
		  "{\"op\":\"fault\",\"how\":\"status\",\"code\":500,\"times\":60}");
	live_start(&live);
	live_until(&live, live_all_connected, NULL, "connected");
	ck_assert_uint_eq(
		count(live.log.text, "Service: list: the API server says 500"), 1);
	live_close(&live);
}
END_TEST

static bool event_came(struct live *live, const void *text)
{
	(void)live;
	return strstr(fake_tell(shared, "{\"op\":\"events\"}"), text);
}

/* API-5 and section 22 */
START_TEST(events_are_posted)
{
	const struct apisource_event about_node = { .kind = KIND_NODE,
						    .name = "node-a",
						    .uid = "u1",
						    .type = "Normal",
						    .reason = "Starting",
						    .action = "StartKubeProxy",
						    .note = "a \"note\"\n" };
	const struct apisource_event about_service = {
		.kind = KIND_SERVICE,
		.namespace = "a",
		.name = "s",
		.type = "Warning",
		.reason = "FailedToStartServiceHealthcheck",
		.action = "Listen",
		.note = "port 1"
	};
	struct live live;

	begin(&live);
	live_start(&live);
	apisource_post_event(live.source, &about_node);
	apisource_post_event(live.source, &about_service);
	live_until(&live, event_came,
		   "\"type\":\"Normal\",\"reason\":\"Starting\",\"action\":\"StartKubeProxy\","
		   "\"note\":\"a \\\"note\\\"\\n\",\"reportingController\":\"vipmap\","
		   "\"reportingInstance\":\"node-a\",\"regarding\":{\"kind\":\"Node\","
		   "\"apiVersion\":\"v1\",\"name\":\"node-a\",\"uid\":\"u1\"}",
		   "an event about the node");
	live_until(&live, event_came,
		   "\"regarding\":{\"kind\":\"Service\",\"apiVersion\":\"v1\",\"name\":\"s\","
		   "\"namespace\":\"a\"}",
		   "an event about a service");
	ck_assert_ptr_nonnull(
		strstr(fake_tell(shared, "{\"op\":\"requests\"}"),
		       "/apis/events.k8s.io/v1/namespaces/default/events"));
	fake_tell(shared,
		  "{\"op\":\"fault\",\"how\":\"status\",\"code\":403,\"times\":100}");
	apisource_post_event(live.source, &about_node);
	live_until(&live, live_log_has,
		   "Event not created: the API server says 403", "refused");
	live_close(&live);
}
END_TEST

static const struct apisource_event knock = { .kind = KIND_NODE,
					      .name = "node-a",
					      .type = "Normal",
					      .reason = "Knock",
					      .action = "Knock",
					      .note = "" };

/* Each has failed twice: what ended the watch, and then no answer. */
static bool three_wait(struct live *live, const void *unused)
{
	(void)unused;
	return count(live->log.text, " Service: ") > 2 &&
	       count(live->log.text, " Node: ") > 2 &&
	       count(live->log.text, " EndpointSlice: ") > 2;
}

/*
 * From a second failure on, everybody waits for 10 to 20 s: three for a server that cannot be
 * reached, though it would take events, one for a server that said to wait.
 */
static void begin_to_wait(struct live *live, const char *how)
{
	static const char *const unreached[] = { "services", "endpointslices",
						 "nodes" };

	begin(live);
	live->tuning.timing.backoff_initial_ms = 10 * 1000;
	live->tuning.timing.backoff_max_ms = 20 * 1000;
	live->tuning.timing.hurry_ms = 50;
	live_start(live);
	live_until(live, live_all_connected, NULL, "connected");
	live_run_ms(live, 200); /* bookmarks come */
	fake_tell(shared, "{\"op\":\"fault\",\"how\":\"status\",\"code\":503,\"retry_after\":9,"
			  "\"times\":100,\"resource\":\"servicecidrs\"}");
	fake_tell(shared, "{\"op\":\"break\",\"how\":\"error\",\"code\":410,\"resource\":"
			  "\"servicecidrs\"}");
	live_until(live, live_log_has,
		   "ServiceCIDR: list: the API server says 503", "told");
	for (size_t i = 0; i < sizeof(unreached) / sizeof(unreached[0]); i++) {
		fake_tell(shared,
			  "{\"op\":\"fault\",\"how\":\"close\",\"times\":100,"
			  "\"resource\":\"%s\"}",
			  unreached[i]);
		fake_tell(shared,
			  "{\"op\":\"break\",\"how\":%s,\"resource\":\"%s\"}",
			  how, unreached[i]);
	}
	live_until(live, three_wait, NULL, "unreached");
	live_until(live, live_log_has, "API server unreachable: ", "told");
	live_run_ms(live, 100);
}

static unsigned int requests_for(const char *path)
{
	return count(fake_tell(shared, "{\"op\":\"requests\"}"), path);
}

/* API-8: what waits for a server goes on as soon as anybody is answered. */
START_TEST(an_answer_ends_the_waiting_of_all)
{
	struct apisource_status status;
	unsigned int told;
	struct live live;

	begin_to_wait(&live, "\"error\",\"code\":410");
	told = requests_for("/servicecidrs\"");
	fake_tell(shared, PUT(SERVICE("late", "") IP("172.30.0.9")));
	fake_tell(shared, PUT(SLICE("late", "10.0.0.1")));
	fake_tell(shared, "{\"op\":\"clear_faults\"}");
	apisource_post_event(live.source, &knock);
	live_until(&live, live_journal_has, "put Service a/late\n", "Services");
	live_until(&live, live_journal_has, "put EndpointSlice a/late\n",
		   "EndpointSlices");
	live_run_ms(&live, 200);
	status = apisource_status(live.source);
	ck_assert(status.connected[KIND_SERVICE] &&
		  status.connected[KIND_SLICE] && status.connected[KIND_NODE]);
	ck_assert(!status.connected[KIND_SERVICE_CIDR]);
	ck_assert_uint_eq(requests_for("/servicecidrs\""), told);
	ck_assert_uint_eq(
		count(live.log.text, "5 API server reachable again after "), 1);
	live_close(&live);
}
END_TEST

/*
 * API-8: that the history is compacted after an absence is no failure, nor does
 * the absence count once a list is complete.
 */
START_TEST(an_absence_does_not_count_afterwards)
{
	struct live live;

	begin_to_wait(&live, "\"abort\"");
	fake_tell(shared, PUT(SERVICE("late", "") IP("172.30.0.9")));
	fake_tell(shared, "{\"op\":\"compact\"}");
	fake_tell(shared, "{\"op\":\"clear_faults\"}");
	apisource_post_event(live.source, &knock);
	live_until(&live, live_log_has,
		   "Service: watch: the API server says 410", "expired");
	live_run_ms(&live, 300);
	ck_assert(live_journal_has(&live, "put Service a/late\n"));
	fake_tell(shared,
		  "{\"op\":\"break\",\"how\":\"abort\",\"resource\":\"services\"}");
	fake_tell(shared, PUT(SERVICE("later", "") IP("172.30.0.10")));
	live_run_ms(&live, 300);
	ck_assert(live_journal_has(&live, "put Service a/later\n"));
	live_close(&live);
}
END_TEST

/* A server that answers one and not the other is not asked more and more often for it. */
START_TEST(answers_to_others_hurry_once)
{
	static const char *const paths[] = { "/services\"", "/endpointslices\"",
					     "/nodes\"", "/servicecidrs\"" };
	unsigned int before[4], now;
	struct live live;

	begin_to_wait(&live, "\"error\",\"code\":410");
	for (int i = 0; i < 4; i++)
		before[i] = requests_for(paths[i]);
	for (int i = 0; i < 5; i++) {
		apisource_post_event(live.source, &knock);
		live_run_ms(&live, 150);
	}
	ck_assert_uint_gt(
		count(live.log.text, "5 API server reachable again after "), 1);
	for (int i = 0; i < 4; i++) {
		now = requests_for(paths[i]);
		ck_assert_msg(now - before[i] == (i < 3), "%s: asked %u times more",
			      paths[i], now - before[i]);
	}
	live_close(&live);
}
END_TEST

/* Ends in the middle of everything. */
START_TEST(may_be_freed_at_any_time)
{
	for (int ms = 0; ms < 60; ms += 4) {
		struct live live;

		begin(&live);
		for (int i = 0; i < 8; i++)
			fake_tell(shared, "{\"op\":\"touch_service\",\"n\":%d}", i);
		fake_tell(shared, "{\"op\":\"fault\",\"how\":\"trickle\",\"bytes\":50,"
				  "\"delay\":0.001,\"times\":100}");
		live_start(&live);
		live_run_ms(&live, ms);
		live_close(&live);
	}
}
END_TEST

/*
 * Thousands of changes while everything goes wrong, one seed per round: in the
 * end the sink is what a fresh start gives. VIPMAP_SEED repeats one.
 */
static void random_change(struct fake *fake, uint64_t *random)
{
	unsigned int n = (unsigned int)(random_next(random) % 40);

	switch (random_next(random) % 8) {
	case 0:
		fake_tell(fake, "{\"op\":\"remove_service\",\"n\":%u}", n);
		break;
	case 1:
		fake_tell(fake, "{\"op\":\"remove_slice\",\"n\":%u}", n);
		break;
	case 2:
	case 3:
		fake_tell(fake, "{\"op\":\"touch_service\",\"n\":%u}", n);
		break;
	case 4:
		fake_tell(fake, "{\"op\":\"hide_service\",\"n\":%u}", n);
		break;
	default:
		fake_tell(fake, "{\"op\":\"touch_endpoint\",\"n\":%u}", n);
	}
}

static void random_fault(struct fake *fake, uint64_t *random)
{
	static const char *const commands[] = {
		"{\"op\":\"break\",\"how\":\"end\"}",
		"{\"op\":\"break\",\"how\":\"abort\"}",
		"{\"op\":\"break\",\"how\":\"abort\",\"resource\":\"services\"}",
		"{\"op\":\"break\",\"how\":\"mid-object\"}",
		"{\"op\":\"break\",\"how\":\"mid-chunk\",\"resource\":\"endpointslices\"}",
		"{\"op\":\"break\",\"how\":\"garbage\"}",
		"{\"op\":\"break\",\"how\":\"error\",\"code\":410}",
		"{\"op\":\"break\",\"how\":\"stall\",\"resource\":\"services\"}",
		"{\"op\":\"compact\"}",
		"{\"op\":\"drop\"}",
		"{\"op\":\"fault\",\"how\":\"status\",\"code\":401}",
		"{\"op\":\"fault\",\"how\":\"status\",\"code\":429,\"retry_after\":1}",
		"{\"op\":\"fault\",\"how\":\"status\",\"code\":500,\"times\":3}",
		"{\"op\":\"fault\",\"how\":\"status\",\"code\":410}",
		"{\"op\":\"fault\",\"how\":\"close\"}",
		"{\"op\":\"fault\",\"how\":\"cut\",\"after\":3000}",
		"{\"op\":\"fault\",\"how\":\"cut\",\"after\":12000}",
		"{\"op\":\"fault\",\"how\":\"trickle\",\"bytes\":200,\"delay\":0}",
		"{\"op\":\"fault\",\"how\":\"garbage\"}",
		"{\"op\":\"set\",\"duplicate\":true}",
		"{\"op\":\"set\",\"duplicate\":false}",
		"{\"op\":\"set\",\"watchlist\":false}",
		"{\"op\":\"set\",\"watchlist\":true}",
		"{\"op\":\"bookmark\"}",
		"{\"op\":\"expire_continue\"}",
	};

	fake_tell(fake, "%s",
		  commands[random_next(random) % (sizeof(commands) / sizeof(char *))]);
}

START_TEST(random_changes_and_faults)
{
	const char *wanted = getenv("VIPMAP_SEED");
	uint64_t random = wanted ? strtoull(wanted, NULL, 0)
				 : (uint64_t)getpid() * 2654435761u + 1;
	uint64_t seed = random;
	char name[64];
	struct live live;

	snprintf(name, sizeof(name), "VIPMAP_SEED=%llu", (unsigned long long)seed);
	printf("random changes: %s\n", name);
	begin(&live);
	if (_i)
		ask_for_json(&live);
	live.tuning.seed = seed;
	live.tuning.timing.watch_idle_ms = 400;
	live.tuning.timing.page_limit = 7;
	fake_tell(shared, "{\"op\":\"set\",\"page_cached\":true}");
	live_start(&live);
	for (int step = 0; step < 3000; step++) {
		random_change(shared, &random);
		if (random_next(&random) % 40 == 0)
			random_fault(shared, &random);
		if (random_next(&random) % 4 == 0)
			event_base_loop(live.base, EVLOOP_NONBLOCK);
		if (step % 1000 == 999) {
			fake_tell(shared, "{\"op\":\"clear_faults\"}");
			fake_tell(shared, "{\"op\":\"set\",\"duplicate\":false}");
			live_until(&live, live_all_connected, NULL, name);
			expect_fresh_state(&live, shared, name);
		}
	}
	live_close(&live);
}
END_TEST

static void start_shared(void)
{
	shared = fake_start(plain);
}

static void stop_shared(void)
{
	fake_stop(shared);
}

static TCase *new_case(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 120);
	tcase_add_unchecked_fixture(tcase, start_shared, stop_shared);
	suite_add_tcase(suite, tcase);
	return tcase;
}

static void add_ways(Suite *suite)
{
	TCase *tcase = new_case(suite, "ways");

	tcase_add_test(tcase, asks_only_what_is_allowed);
	tcase_add_test(tcase, the_fake_encodes_as_the_real_one);
	ADD_LOOP(tcase, content_types_are_chosen, content_types);
	ADD_LOOP(tcase, refused_protobuf_becomes_json, no_protobuf);
	tcase_add_test(tcase, follows_changes);
	tcase_add_test(tcase, selectors_delete);
	tcase_add_test(tcase, bad_objects_affect_themselves);
	tcase_add_test(tcase, unlabelled_slices_go);
	ADD_LOOP(tcase, older_servers_do, older);
	tcase_add_test(tcase, expired_pages_begin_again);
	tcase_add_test(tcase, order_across_kinds_is_free);
	tcase_add_test(tcase, tokens_are_renewed_and_kept_secret);
	tcase_add_test(tcase, the_next_server_is_tried);
	ADD_LOOP(tcase, the_cluster_address_is_warned_about, cluster_addresses);
	tcase_add_test(tcase, no_credentials_is_an_error);
	tcase_add_test(tcase, events_are_posted);
}

static void add_faults(Suite *suite)
{
	TCase *tcase = new_case(suite, "faults");

	tcase_add_loop_test(tcase, broken_watches_resume, 0, 2 * N_BREAKS);
	ADD_LOOP(tcase, faulty_requests_are_repeated, faults);
	ADD_LOOP(tcase, retry_after_is_honoured, sent_away);
	tcase_add_test(tcase, an_absent_server_changes_nothing);
	tcase_add_test(tcase, an_answer_ends_the_waiting_of_all);
	tcase_add_test(tcase, an_absence_does_not_count_afterwards);
	tcase_add_test(tcase, answers_to_others_hurry_once);
	tcase_add_test(tcase, expired_history_lists_again);
	tcase_add_test(tcase, a_server_of_the_past_is_followed);
	tcase_add_test(tcase, a_list_of_the_future_is_given_up);
	tcase_add_test(tcase, a_passing_403_is_doubted);
	tcase_add_test(tcase, expiry_after_an_outage_lists_at_once);
	tcase_add_test(tcase, history_that_always_expires_is_backed_off_from);
	tcase_add_test(tcase, log_is_limited);
	tcase_add_test(tcase, may_be_freed_at_any_time);
	tcase_add_loop_test(tcase, random_changes_and_faults, 0,
			    2); /* protobuf, JSON */
}

Suite *make_suite(void)
{
	Suite *suite = suite_create("apisource");

	add_ways(suite);
	add_faults(suite);
	return suite;
}
