/* monitor: what changes, line by line, as the running vipmap tells it. */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/commands/ask.h"
#include "proxy/serve/httpd.h"
#include "proxy/serve/local.h"

enum { SUBJECT_PLACES = 26, END_STEPS = 40, END_STEP_MS = 50 };

const struct command_flag monitor_flags[] = {
	{ "output", 'o', false, "\"json\": each change as an object on a line" },
	{ NULL, 0, false, NULL },
};

struct monitoring {
	struct app *app;
	const char *filter; /* NULL: none */
	bool as_data;
};

/* "2026-11-26T04:11:00.123456Z" as the time of day here. */
static void print_time(const char *text, struct strbuf *out)
{
	const char *dot = strchr(text, '.');
	struct tm utc = { 0 }, here;
	char clock[16];
	time_t seconds;

	if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &utc))
		return;
	seconds = timegm(&utc);
	if (!localtime_r(&seconds, &here))
		return;
	strftime(clock, sizeof(clock), "%H:%M:%S", &here);
	strbuf_addf(out, "%s%.4s  ", clock, dot && strlen(dot) > 4 ? dot : ".000");
}

static void print_subject(struct strbuf *out, const char *subject, const char *family)
{
	char text[640];

	snprintf(text, sizeof(text), "%s%s", subject,
		 strcmp(family, "IPv6") ? "" : " (IPv6)");
	strbuf_addf(out, "%-*s  ", SUBJECT_PLACES, text);
}

static int count_members(const struct json *list)
{
	int n = 0;

	json_for_each (item, list)
		n += item != NULL;
	return n;
}

/* "+10.0.0.1:80" each, of text or of endpoints */
static void print_items(const struct json *list, char sign, bool *begun,
			struct strbuf *out)
{
	json_for_each (item, list) {
		const char *text = json_string(item),
			   *reason = text_at(item, "reason");

		strbuf_addf(out, "%s%c%s", *begun ? ", " : "", sign,
			    text ? text : text_at(item, "address"));
		if (*reason)
			strbuf_addf(out, " %s", reason);
		*begun = true;
	}
}

static void print_endpoints(const struct json *line, struct strbuf *out)
{
	const int64_t before = number_at(line, "endpointsBefore"),
		      now = number_at(line, "endpoints");
	const struct json *added = json_get(line, "added"),
			  *removed = json_get(line, "removed");
	const bool named = json_first(added) || json_first(removed);
	bool begun = false;

	if (before != now)
		strbuf_addf(out, "endpoints %lld -> %lld", (long long)before,
			    (long long)now);
	else
		strbuf_addf(out, "endpoints %lld", (long long)now);
	if (!named)
		return;
	strbuf_adds(out, " (");
	print_items(removed, '-', &begun, out);
	print_items(added, '+', &begun, out);
	/* As many as are named, and no more. */
	if (now - before != count_members(added) - count_members(removed))
		strbuf_adds(out, ", and more");
	strbuf_adds(out, ")");
}

static void print_addresses(const struct json *line, struct strbuf *out)
{
	bool begun = false;

	print_items(json_get(line, "addressesRemoved"), '-', &begun, out);
	print_items(json_get(line, "addressesAdded"), '+', &begun, out);
	strbuf_adds(out, begun ? "; " : "");
}

static void print_commit(const struct json *line, struct strbuf *out)
{
	const int64_t elements = number_at(line, "elements"),
		      ports = number_at(line, "servicePorts");

	strbuf_addf(out, "   %lld element%s", (long long)elements,
		    elements == 1 ? "" : "s");
	if (ports > 1)
		strbuf_addf(out, " for %lld service ports", (long long)ports);
	strbuf_addf(out, ", in the kernel after %.1f ms",
		    json_number(json_get(line, "milliseconds")));
}

static void print_service_port(const struct json *line, struct strbuf *out)
{
	const char *change = text_at(line, "change");

	print_subject(out, text_at(line, "service"), text_at(line, "family"));
	if (strcmp(change, "removed") == 0) {
		strbuf_adds(out, "removed");
	} else {
		if (strcmp(change, "added") == 0)
			strbuf_adds(out, "added ");
		print_addresses(line, out);
		print_endpoints(line, out);
		if (is_at(line, "refused"))
			strbuf_adds(out, "; connections are refused");
	}
	print_commit(line, out);
}

static void print_sync(const struct json *line, struct strbuf *out)
{
	const int64_t more = number_at(line, "servicePortsNotTold");

	print_subject(out, text_at(line, "family"), "");
	if (is_at(line, "repair"))
		strbuf_adds(out, "repaired what somebody else had changed");
	else if (more)
		strbuf_addf(out, "and %lld more service ports", (long long)more);
	else
		strbuf_adds(out, "node-wide rules");
	print_commit(line, out);
}

static void print_node(const struct json *line, struct strbuf *out)
{
	char subject[300];
	const char *separator = "";

	snprintf(subject, sizeof(subject), "Node %s", text_at(line, "node"));
	print_subject(out, subject, "");
	json_for_each (change, json_get(line, "changes")) {
		const char *from = text_at(change, "from"),
			   *to = text_at(change, "to");

		strbuf_addf(out, "%s%s %s -> %s", separator,
			    text_at(change, "field"), *from ? from : "none",
			    *to ? to : "none");
		separator = "; ";
	}
}

static void print_greeting(const struct json *line, struct strbuf *out)
{
	char subject[300];

	snprintf(subject, sizeof(subject), "Node %s", text_at(line, "node"));
	print_subject(out, subject, "");
	strbuf_addf(out, "vipmap %s: what changes follows",
		    text_at(line, "version"));
}

static void print_lost(const struct json *line, struct strbuf *out)
{
	print_subject(out, "monitor", "");
	strbuf_addf(out, "%lld lines are lost: they were not read in time",
		    (long long)number_at(line, "lines"));
}

static void print_message(const struct json *line, struct strbuf *out)
{
	print_subject(out, text_at(line, "severity"), "");
	strbuf_adds(out, text_at(line, "message"));
}

static void print_line(const struct json *line, struct strbuf *out)
{
	static const struct {
		const char *type;
		void (*put)(const struct json *line, struct strbuf *out);
	} types[] = {
		{ "servicePort", print_service_port },
		{ "sync", print_sync },
		{ "node", print_node },
		{ "begin", print_greeting },
		{ "lost", print_lost },
	};
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(text_at(line, "type"), types[i].type) == 0) {
			types[i].put(line, out);
			return;
		}
	print_message(line, out);
}

static bool is_wanted(const struct monitoring *m, const struct json *line)
{
	return !m->filter || !json_has(line, "service") ||
	       strstr(text_at(line, "service"), m->filter);
}

static void on_streamed_line(void *ctx, const char *text)
{
	struct monitoring *m = ctx;
	struct strbuf raw = STRBUF_INIT, out = STRBUF_INIT;
	struct errbuf eb;
	struct json *line = json_parse(text, strlen(text), &eb);

	if (line && is_wanted(m, line)) {
		if (m->as_data) {
			strbuf_adds(&out, text);
		} else {
			print_time(text_at(line, "time"), &raw);
			print_line(line, &raw);
			strbuf_add_visible(&out, raw.text ? raw.text : "");
		}
		strbuf_addc(&out, '\n');
		if (put_out(&out))
			app_exit(m->app, EXIT_FAILED);
	}
	strbuf_free(&raw);
	json_free(line);
}

int command_monitor_check(const struct options *options, struct errbuf *eb)
{
	const char *output = options_own(options, "output");

	if (output && strcmp(output, "json"))
		return errf(eb, -EINVAL,
			    "monitor: --output: \"%s\" is not json", output);
	if (options->n_words > 1)
		return errf(eb, -EINVAL, "monitor: unexpected argument \"%s\"",
			    options->words[1]);
	return 0;
}

/* It closes connections before it ends. */
static bool has_ended(void)
{
	const struct timespec step = { 0, END_STEP_MS * 1000000L };
	unsigned int i;

	for (i = 0; i < END_STEPS; i++) {
		if (httpd_local_owner(LOCAL_SOCKET) < 0)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

int command_monitor(struct app *app, struct options *options)
{
	struct monitoring m = {
		.app = app,
		.filter = options->n_words ? options->words[0] : NULL,
		.as_data = options_own(options, "output"),
	};
	int status;

	if (app_watch_signals(app, NULL, NULL))
		return command_fails(EXIT_FAILED, "out of memory");
	status = ask_stream(app, "/v1/monitor", on_streamed_line, &m);
	if (app->ending)
		return app->exit_status;
	if (status)
		return status;
	if (has_ended())
		return command_fails(EXIT_ABSENT,
				     "monitor: the running vipmap has ended");
	return command_fails(EXIT_FAILED,
			     "monitor: the running vipmap has closed the connection: "
			     "this one did not read, or too many ask");
}
