/* status: how the running vipmap does, at one glance. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proxy/base/clock.h"
#include "proxy/base/table.h"
#include "proxy/commands/ask.h"

enum { WAIT_STEP_MS = 200 };

const struct command_flag status_flags[] = {
	{ "ready", 0, true, "only say whether it is ready, for probes" },
	{ "wait", 0, false, "DURATION to wait until it is ready; 0: not at all" },
	{ "output", 'o', false, "\"json\" or \"yaml\" instead of text" },
	{ NULL, 0, false, NULL },
};

static const char *text_or(const char *text, const char *otherwise)
{
	return *text ? text : otherwise;
}

static void add_head(const struct json *s, struct strbuf *out)
{
	char age[AGE_TEXT_SIZE];
	const char *revision = text_at(s, "revision");

	strbuf_addf(out,
		    "vipmap %s%s%s%s  up %s  pid %lld  node %s  zone %s  kernel %s\n",
		    text_at(s, "version"), *revision ? " (" : "", revision,
		    *revision ? ")" : "",
		    age_format(number_at(s, "uptimeSeconds"), age),
		    (long long)number_at(s, "pid"), text_at(s, "nodeName"),
		    text_or(text_at(s, "zone"), "-"), text_at(s, "kernel"));
}

static void print_source(const struct json *s, struct strbuf *out)
{
	const struct json *api = json_get(s, "apiServer");
	const char *state = text_at(api, "state"),
		   *reason = text_at(api, "reason");
	char age[AGE_TEXT_SIZE];

	if (strcmp(state, "none") == 0) {
		strbuf_adds(out,
			    "API server  none        objects come from manifests\n");
		return;
	}
	if (strcmp(state, "ok") == 0) {
		strbuf_addf(
			out, "API server  ok          %s, last heard of %s ago\n",
			text_at(api, "server"),
			age_format(number_at(api, "lastContactSecondsAgo"), age));
		return;
	}
	strbuf_addf(out, "API server  DEGRADED    %s ", text_at(api, "server"));
	if (number_at(api, "tries"))
		strbuf_addf(out, "unreachable for %s (%lld %s): ",
			    age_format(number_at(api, "unreachableSeconds"), age),
			    (long long)number_at(api, "tries"),
			    number_at(api, "tries") == 1 ? "try" : "tries");
	strbuf_add_visible(out, text_or(reason, "not connected yet"));
	strbuf_addf(out, "; %s\n",
		    is_at(api, "listed")
			    ? "rules stay as they are"
			    : "nothing is programmed before the first lists");
}

static const char *singular_or_plural(int64_t n, const char *one, const char *more)
{
	return n == 1 ? one : more;
}

static void add_family(const struct json *f, struct table *t)
{
	const int64_t ports = number_at(f, "servicePorts"),
		      endpoints = number_at(f, "endpoints");
	const bool well = strcmp(text_at(f, "state"), "ok") == 0;
	char age[AGE_TEXT_SIZE], text[320];

	table_add(t, text_at(f, "family"));
	table_add(t, well				      ? "ok"
		     : strcmp(text_at(f, "state"), "waiting") ? "DEGRADED"
							      : "waiting");
	table_addf(t, "%lld %s", (long long)ports,
		   singular_or_plural(ports, "service port", "service ports"));
	table_addf(t, "%lld %s", (long long)endpoints,
		   singular_or_plural(endpoints, "endpoint", "endpoints"));
	if (json_has(f, "lastSyncSecondsAgo"))
		table_addf(t, "last sync %s ago, %.1f ms",
			   age_format(number_at(f, "lastSyncSecondsAgo"), age),
			   json_number(json_get(f, "lastSyncMilliseconds")));
	else
		table_add(t, "no sync yet");
	snprintf(text, sizeof(text), "%s",
		 is_at(f, "tableOwned") ? "table owned" : "table watched");
	if (number_at(f, "failedSyncs"))
		snprintf(text, sizeof(text),
			 "%lld syncs failed, rules stay as they are: %s",
			 (long long)number_at(f, "failedSyncs"),
			 text_at(f, "reason"));
	table_add(t, text);
}

static void print_families(const struct json *s, struct strbuf *out)
{
	/* in line with what stands above and below */
	static const unsigned int least[] = { 10, 10, 0, 0, 0, 0 };
	struct table t;

	table_begin(&t, NULL, 6);
	t.least = least;
	json_for_each (f, json_get(s, "families"))
		add_family(f, &t);
	table_print(&t, false, 0, out);
	table_free(&t);
}

static void add_health(const struct json *s, struct strbuf *out)
{
	const struct json *h = json_get(s, "health");
	const int64_t warnings = number_at(h, "warningsLastHour");

	strbuf_addf(out,
		    "Health      livez %lld   readyz %lld   healthz %lld   %lld %s in the last "
		    "hour\n",
		    (long long)number_at(h, "livez"),
		    (long long)number_at(h, "readyz"),
		    (long long)number_at(h, "healthz"), (long long)warnings,
		    singular_or_plural(warnings, "warning", "warnings"));
	if (!*text_at(s, "notReady"))
		return;
	strbuf_adds(out, "Not ready   ");
	strbuf_add_visible(out, text_at(s, "notReady"));
	strbuf_addc(out, '\n');
}

/* Only what is asked for and cannot be had. */
static void add_counters(const struct json *s, struct strbuf *out)
{
	if (strcmp(text_at(s, "serviceCounters"), "lacking") == 0)
		strbuf_adds(out, "Counters    LACKING     the kernel cannot count connections; all "
				 "else works\n");
}

static void add_attention(const struct json *s, struct strbuf *out)
{
	int64_t left = number_at(s, "attentionCount");
	struct table t;

	if (!left)
		return;
	table_begin(&t, NULL, 2);
	json_for_each (a, json_get(s, "attention")) {
		table_add(&t, text_at(a, "service"));
		table_addf(&t, "%s%s: %s", text_at(a, "message"),
			   strcmp(text_at(a, "family"), "IPv6") ? "" : " (IPv6)",
			   text_at(a, "consequence"));
		left--;
	}
	strbuf_adds(out, "Attention\n");
	table_print(&t, false, 2, out);
	if (left > 0)
		strbuf_addf(out, "  and %lld more: vipmap get services\n",
			    (long long)left);
	table_free(&t);
}

static int show_status(const struct json *s, const char *output)
{
	const bool well = strcmp(text_at(s, "state"), "ok") == 0;
	struct strbuf out = STRBUF_INIT;
	int status;

	if (output) {
		print_data(s, output, &out);
	} else {
		add_head(s, &out);
		print_source(s, &out);
		print_families(s, &out);
		add_health(s, &out);
		add_counters(s, &out);
		add_attention(s, &out);
	}
	status = put_out(&out);
	return status ? status : well ? EXIT_DONE : EXIT_FAILED;
}

static int show_ready(const struct json *s)
{
	const bool ready = is_at(s, "ready");
	struct strbuf out = STRBUF_INIT;
	int status;

	strbuf_adds(&out, ready ? "ready" : "not ready: ");
	if (!ready)
		strbuf_add_visible(&out, text_at(s, "notReady"));
	strbuf_addc(&out, '\n');
	status = put_out(&out);
	return status ? status : ready ? EXIT_DONE : EXIT_FAILED;
}

/* Not even a vipmap need be there yet. */
static int wait_ready(struct app *app, int64_t wait_ms)
{
	const struct timespec step = { 0, WAIT_STEP_MS * 1000000L };
	const int64_t end_us = clock_monotonic_us(app->clock) + wait_ms * 1000;
	struct json *json = NULL;
	bool ready = false;

	while (!ready && clock_monotonic_us(app->clock) < end_us && !app->ending) {
		ready = ask_json_quietly(app, "/v1/status", &json) == EXIT_DONE &&
			is_at(json, "ready");
		json_free(json);
		json = NULL;
		if (!ready)
			nanosleep(&step, NULL);
	}
	return ready ? EXIT_DONE : EXIT_FAILED;
}

int command_status_check(const struct options *options, struct errbuf *eb)
{
	const char *wait = options_own(options, "wait");
	int64_t ms;

	if (output_check(options, "status", eb))
		return -EINVAL;
	if (wait && duration_parse(wait, &ms))
		return errf(eb, -EINVAL,
			    "status: --wait: \"%s\" is not a duration (such as 30s or 1m)",
			    wait);
	if (options->n_words)
		return errf(eb, -EINVAL, "status: unexpected argument \"%s\"",
			    options->words[0]);
	return 0;
}

int command_status(struct app *app, struct options *options)
{
	const char *wait = options_own(options, "wait");
	struct json *json;
	int64_t ms = 0;
	int status;

	if (wait && duration_parse(wait, &ms) == 0)
		wait_ready(app, ms);
	status = ask_json(app, "/v1/status", &json);
	if (!status)
		status = options_own_is_on(options, "ready") || wait
				 ? show_ready(json)
				 : show_status(json,
					       options_own(options, "output"));
	json_free(json);
	return status;
}
