#include "proxy/commands/ask.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/nearest.h"
#include "proxy/serve/httpd.h"
#include "proxy/serve/local.h"
#include "watch/http.h"

enum {
	CONNECT_MS = 2000,
	IDLE_MS = 10000,
	BODY_MAX = 64 << 20,
	LINE_MAX = 1 << 20,
};

int command_fails(int status, const char *fmt, ...)
{
	struct strbuf visible = STRBUF_INIT;
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fflush(stdout);
	strbuf_add_visible(&visible, text);
	fprintf(stderr, "vipmap: %s\n",
		visible.err ? "out of memory" : visible.text);
	strbuf_free(&visible);
	return status;
}

struct page_exchange {
	struct app *app;
	bool quiet;
	struct strbuf *body;
	void (*line)(void *ctx, const char *line); /* of a stream; else NULL */
	void *ctx;
	struct http_request *request;
	struct http_result result;
};

static void take_lines(struct page_exchange *x)
{
	struct strbuf *b = x->body;
	char *end;
	size_t length;

	while (b->length && (end = memchr(b->text, '\n', b->length))) {
		*end = '\0';
		x->line(x->ctx, b->text);
		length = (size_t)(end + 1 - b->text);
		memmove(b->text, b->text + length, b->length - length + 1);
		b->length -= length;
	}
}

static int on_ask_data(void *ctx, const char *bytes, size_t length)
{
	struct page_exchange *x = ctx;

	strbuf_add(x->body, bytes, length);
	if (x->line && http_status(x->request) == 200)
		take_lines(x);
	return x->body->err;
}

static void on_ask_done(void *ctx, const struct http_result *result)
{
	struct page_exchange *x = ctx;

	x->request = NULL;
	x->result = *result;
	event_base_loopbreak(x->app->base);
}

static int judge_answer(const struct page_exchange *x)
{
	const struct http_result *r = &x->result;
	struct json *json;
	struct errbuf eb;
	int status;

	if (x->quiet)
		return r->outcome == HTTP_COMPLETE && r->status == 200
			       ? EXIT_DONE
			       : EXIT_FAILED;
	if (r->outcome == HTTP_UNREACHED &&
	    httpd_local_owner(LOCAL_SOCKET) == -ECONNREFUSED)
		return command_fails(
			EXIT_ABSENT,
			"no vipmap runs here: nobody listens at @" LOCAL_SOCKET
			" in this network namespace. Start vipmap, or ask in the host's "
			"network namespace, or in a pod with hostNetwork");
	/* Who is refused may find the connection closed before the answer. */
	if (r->status == 403 || (r->outcome == HTTP_UNREACHED && geteuid() != 0))
		return command_fails(EXIT_FAILED,
				     "the running vipmap answers only root and its own user: try "
				     "sudo");
	if (r->outcome != HTTP_COMPLETE)
		return command_fails(EXIT_FAILED,
				     "asking the running vipmap at @" LOCAL_SOCKET
				     ": %s",
				     r->message);
	if (r->status == 200)
		return EXIT_DONE;
	json = x->body->text ? json_parse(x->body->text, x->body->length, &eb)
			     : NULL;
	status = command_fails(EXIT_FAILED, "%s",
			       json && *text_at(json, "error")
				       ? text_at(json, "error")
				       : "unexpected answer");
	json_free(json);
	return status;
}

/* Without a vipmap that runs: the same page, made here. */
static int look_at_view(struct page_exchange *x, const char *target)
{
	const char *query = strchr(target, '?');
	char path[64];

	snprintf(path, sizeof(path), "%.*s",
		 query ? (int)(query - target) : (int)strlen(target), target);
	x->result.outcome = HTTP_COMPLETE;
	x->result.status =
		view_page(x->app->view, path, query ? query + 1 : "", x->body);
	return judge_answer(x);
}

static int ask_exchange(struct page_exchange *x, const char *path)
{
	const struct http_options options = { .user_agent =
						      "vipmap/" VIPMAP_VERSION };
	const struct http_params params = {
		.server = "http://localhost",
		.socket = LOCAL_SOCKET,
		.path = path,
		.connect_ms = CONNECT_MS,
		.idle_ms = x->line ? 0 : IDLE_MS,
		.fresh = true,
		.data = on_ask_data,
		.done = on_ask_done,
		.ctx = x,
	};
	struct http *http;
	int status = EXIT_FAILED;

	if (x->app->view)
		return look_at_view(x, path);
	http = http_new(x->app->base, &options);
	x->result =
		(struct http_result){ .outcome = HTTP_COMPLETE, .status = 200 };
	if (http)
		x->request = http_start(http, &params);
	if (!x->request) {
		command_fails(EXIT_FAILED, "out of memory");
	} else {
		event_base_dispatch(x->app->base);
		status = x->request ? EXIT_DONE
				    : judge_answer(x); /* a signal ended it */
	}
	http_free(http);
	return status;
}

int ask_text(struct app *app, const char *path, struct strbuf *body)
{
	struct page_exchange x = { .app = app, .body = body };

	body->max = BODY_MAX;
	return ask_exchange(&x, path);
}

int ask_json_quietly(struct app *app, const char *path, struct json **json)
{
	struct strbuf body = { .max = BODY_MAX };
	struct page_exchange x = { .app = app, .body = &body, .quiet = true };
	int status = ask_exchange(&x, path);
	struct errbuf eb;

	*json = status || !body.text ? NULL
				     : json_parse(body.text, body.length, &eb);
	strbuf_free(&body);
	return *json ? EXIT_DONE : EXIT_FAILED;
}

int ask_json(struct app *app, const char *path, struct json **json)
{
	struct strbuf body = STRBUF_INIT;
	struct errbuf eb = { "no answer" };
	int status = ask_text(app, path, &body);

	*json = NULL;
	if (!status && body.text)
		*json = json_parse(body.text, body.length, &eb);
	if (!status && !*json)
		status = command_fails(EXIT_FAILED,
				       "the answer of the running vipmap: %s",
				       eb.text);
	strbuf_free(&body);
	return status;
}

typedef int ask_function(struct app *app, const char *path, struct json **json);

static int ask_pages(struct app *app, ask_function *ask, const char *path,
		     int (*page)(void *ctx, const struct json *page), void *ctx)
{
	struct strbuf next = STRBUF_INIT;
	char after[600] = "";
	struct json *json;
	int status;

	do {
		strbuf_reset(&next);
		strbuf_adds(&next, path);
		if (*after)
			strbuf_adds(&next, strchr(path, '?') ? "" : "?");
		ask_add(&next, "continue", after);
		status = ask(app, next.text, &json);
		if (status)
			break;
		status = page(ctx, json);
		snprintf(after, sizeof(after), "%s", text_at(json, "continue"));
		json_free(json);
	} while (!status && *after);
	strbuf_free(&next);
	return status;
}

int ask_list(struct app *app, const char *path,
	     int (*page)(void *ctx, const struct json *page), void *ctx)
{
	return ask_pages(app, ask_json, path, page, ctx);
}

int ask_list_quietly(struct app *app, const char *path,
		     int (*page)(void *ctx, const struct json *page), void *ctx)
{
	return ask_pages(app, ask_json_quietly, path, page, ctx);
}

int ask_stream(struct app *app, const char *path,
	       void (*line)(void *ctx, const char *line), void *ctx)
{
	struct strbuf body = { .max = LINE_MAX };
	struct page_exchange x = {
		.app = app, .body = &body, .line = line, .ctx = ctx
	};
	int status = ask_exchange(&x, path);

	strbuf_free(&body);
	return status;
}

/* Looking for what was meant. */
struct guess {
	const char *namespace, *name; /* as typed; namespace "" for any */
	struct nearest nearest;
	char best[600];
	struct strbuf ports; /* of the Service, if only the port is wrong */
};

static int guess_page(void *ctx, const struct json *page)
{
	struct guess *g = ctx;
	char whole[600];

	json_for_each (item, json_get(page, "items")) {
		const char *name = text_at(item, "name"),
			   *namespace = text_at(item, "namespace"),
			   *port = text_at(item, "port");

		snprintf(whole, sizeof(whole), "%s/%s", namespace, name);
		if (strcmp(name, g->name) == 0 &&
		    (!*g->namespace || strcmp(namespace, g->namespace) == 0)) {
			strbuf_adds(&g->ports, g->ports.length ? ", " : "");
			if (*port)
				strbuf_addf(&g->ports, "%s (%lld/%s)", port,
					    (long long)number_at(item, "servicePort"),
					    text_at(item, "protocol"));
			else
				strbuf_addf(&g->ports, "%lld/%s",
					    (long long)number_at(item, "servicePort"),
					    text_at(item, "protocol"));
		}
		g->nearest.best = NULL;
		nearest_try(&g->nearest, *g->namespace ? whole : name);
		if (g->nearest.best)
			snprintf(g->best, sizeof(g->best), "%s", whole);
	}
	return EXIT_DONE;
}

int name_unknown(struct app *app, const char *typed)
{
	const char *slash = strchr(typed, '/'), *colon;
	char namespace[256] = "", name[256], whole[600];
	struct guess g = { .namespace = namespace, .name = name };
	int status;

	if (slash)
		snprintf(namespace, sizeof(namespace), "%.*s",
			 (int)(slash - typed), typed);
	snprintf(name, sizeof(name), "%s", slash ? slash + 1 : typed);
	colon = strchr(name, ':');
	if (colon)
		name[colon - name] = '\0';
	snprintf(whole, sizeof(whole), "%s%s%s", namespace,
		 *namespace ? "/" : "", name);
	nearest_begin(&g.nearest, whole);
	status = ask_list(app, "/v1/services?", guess_page, &g);
	if (status)
		return status;
	if (g.ports.length && colon)
		status = command_fails(
			EXIT_FAILED, "Service %s has no port %s; its ports: %s",
			whole, strchr(typed, ':') + 1, g.ports.text);
	else if (*g.best)
		status = command_fails(EXIT_FAILED,
				       "there is no Service %s; did you mean %s?",
				       whole, g.best);
	else
		status = command_fails(
			EXIT_FAILED,
			"there is no Service %s; \"vipmap get services\" lists them",
			whole);
	strbuf_free(&g.ports);
	return status;
}

void ask_add(struct strbuf *path, const char *key, const char *value)
{
	if (!value || !*value)
		return;
	strbuf_addf(path, "&%s=", key);
	http_escape(path, value);
}

static void print_number(const struct json *json, struct strbuf *out)
{
	int64_t whole;

	if (json_integer(json, &whole))
		strbuf_addf(out, "%" PRId64, whole);
	else
		strbuf_addf(out, "%.15g", json_number(json));
}

static void print_scalar(const struct json *json, struct strbuf *out)
{
	switch (json_type(json)) {
	case JSON_BOOL:
		strbuf_adds(out, json_is_true(json) ? "true" : "false");
		break;
	case JSON_NUMBER:
		print_number(json, out);
		break;
	case JSON_STRING:
		strbuf_add_json(out, json_string(json));
		break;
	default:
		strbuf_adds(out, "null");
	}
}

static void print_json_at(const struct json *json, unsigned int depth,
			  struct strbuf *out)
{
	const bool is_object = json_type(json) == JSON_OBJECT;
	const char *separator = "";

	if (!is_object && json_type(json) != JSON_ARRAY) {
		print_scalar(json, out);
		return;
	}
	strbuf_addc(out, is_object ? '{' : '[');
	json_for_each (item, json) {
		strbuf_addf(out, "%s\n%*s", separator, (int)(depth + 1) * 2, "");
		if (is_object) {
			strbuf_add_json(out, json_key(item));
			strbuf_adds(out, ": ");
		}
		print_json_at(item, depth + 1, out);
		separator = ",";
	}
	if (*separator)
		strbuf_addf(out, "\n%*s", (int)depth * 2, "");
	strbuf_addc(out, is_object ? '}' : ']');
}

void print_json(const struct json *json, struct strbuf *out)
{
	print_json_at(json, 0, out);
	strbuf_addc(out, '\n');
}

/* Text that could be taken for something else is quoted; quoted JSON is YAML, too. */
static void print_yaml_text(const char *text, struct strbuf *out)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char *const words[] = { "true", "false", "null",
					     "yes",  "no",    "on",
					     "off",  "y",     "n" };
	bool quote = !*text || !strchr(plain, *text) ||
		     text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				       "0123456789./-_")];
	size_t i;

	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		quote |= strcasecmp(text, words[i]) == 0;
	if (quote)
		strbuf_add_json(out, text);
	else
		strbuf_adds(out, text);
}

static void print_yaml_at(const struct json *json, unsigned int depth,
			  bool in_line, struct strbuf *out)
{
	const bool is_object = json_type(json) == JSON_OBJECT;

	if (json_type(json) == JSON_STRING) {
		print_yaml_text(json_string(json), out);
		strbuf_addc(out, '\n');
		return;
	}
	if ((!is_object && json_type(json) != JSON_ARRAY) || !json_first(json)) {
		if (is_object || json_type(json) == JSON_ARRAY)
			strbuf_adds(out, is_object ? "{}" : "[]");
		else
			print_scalar(json, out);
		strbuf_addc(out, '\n');
		return;
	}
	json_for_each (item, json) {
		const enum json_type type = json_type(item);
		const bool nested = (type == JSON_OBJECT || type == JSON_ARRAY) &&
				    json_first(item);

		if (!in_line)
			strbuf_addf(out, "%*s", (int)depth * 2, "");
		in_line = false;
		if (!is_object) {
			strbuf_adds(out, "- ");
			print_yaml_at(item, depth + 1, true, out);
			continue;
		}
		print_yaml_text(json_key(item), out);
		strbuf_adds(out, nested ? ":\n" : ": ");
		print_yaml_at(item, type == JSON_ARRAY ? depth : depth + 1,
			      !nested, out);
	}
}

void print_yaml(const struct json *json, struct strbuf *out)
{
	print_yaml_at(json, 0, false, out);
}

void print_data(const struct json *json, const char *output, struct strbuf *out)
{
	if (strcmp(output, "yaml") == 0)
		print_yaml(json, out);
	else
		print_json(json, out);
}

int output_check(const struct options *options, const char *command,
		 struct errbuf *eb)
{
	const char *output = options_own(options, "output");

	if (!output || strcmp(output, "json") == 0 || strcmp(output, "yaml") == 0)
		return 0;
	return errf(eb, -EINVAL, "%s: --output: \"%s\" is neither json nor yaml",
		    command, output);
}

const char *text_at(const struct json *object, const char *key)
{
	const char *text = json_string(json_get(object, key));

	return text ? text : "";
}

int64_t number_at(const struct json *object, const char *key)
{
	return (int64_t)json_number(json_get(object, key));
}

bool is_at(const struct json *object, const char *key)
{
	return json_is_true(json_get(object, key));
}

int put_out(struct strbuf *text)
{
	int status = EXIT_DONE;

	if (text->err)
		status = command_fails(EXIT_FAILED, "out of memory");
	else if ((text->length && fwrite(text->text, 1, text->length, stdout) !=
					  text->length) ||
		 fflush(stdout))
		status = command_fails(EXIT_FAILED, "standard output: %s",
				       strerror(errno));
	strbuf_free(text);
	return status;
}

int put_json(const struct strbuf *text, const char *output, const char *too_much)
{
	struct strbuf out = STRBUF_INIT;
	struct errbuf eb;
	struct json *json =
		text->err ? NULL : json_parse(text->text, text->length, &eb);

	if (!json)
		return command_fails(EXIT_FAILED, "%s", too_much);
	print_data(json, output, &out);
	json_free(json);
	return put_out(&out);
}
