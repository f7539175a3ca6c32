/* Requests against the fake API server: what arrives, how failures are called, that nothing secret
 * is in a message, and that the callbacks may start and cancel as they like. */
#include "watch/http.h"

#include <check.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "tests/support/suite.h"
#include "tests/support/apiserver.h"

#define SERVICES "/api/v1/services"
#define NODES "/api/v1/nodes"

static const char *const small[] = { "--generate", "300x2", NULL };
static char *certificates;
/* for all tests that want no more than @small: to start one takes time */
static struct fake *shared;

struct got {
	struct event_base *base;
	struct strbuf body;
	struct http_result result;
	unsigned int n_head, n_data, n_done, n_rounds;
	int refuse_after; /* bytes; 0: never */
	struct http_request *other;
	bool cancel_other;
};

static void on_head(void *ctx, int status)
{
	struct got *got = ctx;

	ck_assert_int_ge(status, 200);
	got->n_head++;
}

static int on_data(void *ctx, const char *bytes, size_t length)
{
	struct got *got = ctx;

	got->n_data++;
	strbuf_add(&got->body, bytes, length);
	if (got->cancel_other) {
		http_cancel(got->other);
		got->cancel_other = false;
	}
	return got->refuse_after && got->body.length >= (size_t)got->refuse_after;
}

static void on_done(void *ctx, const struct http_result *result)
{
	struct got *got = ctx;

	got->n_done++;
	got->result = *result;
	event_base_loopbreak(got->base);
}

static void on_round_end(void *ctx)
{
	struct got *got = ctx;

	got->n_rounds++;
}

struct world {
	struct event_base *base;
	struct http *http;
	struct fake *fake;
	struct got got;
	char server[64];
};

static void world_open(struct world *w, const char *const *arguments)
{
	struct http_options options = { .user_agent = "vipmap/test",
					.round_end = on_round_end };

	memset(w, 0, sizeof(*w));
	options.ctx = &w->got;
	w->base = event_base_new();
	w->got.base = w->base;
	w->http = http_new(w->base, &options);
	if (arguments == small)
		w->fake = shared;
	else if (arguments)
		w->fake = fake_start(arguments);
	if (w->fake) {
		fake_tell(w->fake, "{\"op\":\"set\",\"token\":null}");
		fake_tell(w->fake, "{\"op\":\"clear_faults\"}");
		fake_tell(w->fake, "{\"op\":\"clear_requests\"}");
	}
	if (w->fake)
		snprintf(w->server, sizeof(w->server), "http://127.0.0.1:%d",
			 fake_port(w->fake));
}

static void world_close(struct world *w)
{
	http_free(w->http);
	event_base_free(w->base);
	if (w->fake != shared)
		fake_stop(w->fake);
	strbuf_free(&w->got.body);
}

static struct http_params world_params(struct world *w, const char *path)
{
	return (struct http_params){
		.server = w->server,
		.path = path,
		.connect_ms = 2000,
		.idle_ms = 3000,
		.head = on_head,
		.data = on_data,
		.done = on_done,
		.ctx = &w->got,
	};
}

static const struct http_result *world_run(struct world *w,
					   const struct http_params *params)
{
	w->got.n_done = 0;
	strbuf_reset(&w->got.body);
	ck_assert_ptr_nonnull(http_start(w->http, params));
	event_base_dispatch(w->base);
	ck_assert_uint_eq(w->got.n_done, 1);
	return &w->got.result;
}

START_TEST(a_list_arrives)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	params = world_params(&w, SERVICES);
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.outcome, HTTP_COMPLETE);
	ck_assert_int_eq(w.got.result.status, 200);
	ck_assert_str_eq(w.got.result.message, "");
	ck_assert_uint_eq(w.got.n_head, 1);
	ck_assert_uint_ge(w.got.n_rounds, 1);
	ck_assert_ptr_nonnull(strstr(w.got.body.text, "service-00004"));
	ck_assert_int_gt(http_last_byte_us(w.http), 0);
	ck_assert_ptr_nonnull(strstr(fake_tell(w.fake, "{\"op\":\"requests\"}"),
				     "\"user_agent\":\"vipmap/test\""));
	ck_assert_ptr_nonnull(strstr(fake_tell(w.fake, "{\"op\":\"requests\"}"),
				     "\"accept\":\"application/json\",\"answered\":\"application/"
				     "json\",\"accept_encoding\":\"gzip\""));
	world_close(&w);
}
END_TEST

/* Large lists come compressed. */
START_TEST(gzip_is_undone)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	params = world_params(&w, SERVICES);
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.outcome, HTTP_COMPLETE);
	ck_assert_uint_gt(w.got.body.length, 128 * 1024);
	ck_assert_ptr_nonnull(strstr(w.got.body.text, "service-00299"));
	world_close(&w);
}
END_TEST

START_TEST(a_post_arrives)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	params = world_params(&w,
			      "/apis/events.k8s.io/v1/namespaces/default/events");
	params.body = "{\"note\":\"hello\"}";
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.status, 201);
	ck_assert_ptr_nonnull(
		strstr(fake_tell(w.fake, "{\"op\":\"events\"}"), "hello"));
	world_close(&w);
}
END_TEST

static const struct {
	const char *name, *fault;
	enum http_outcome outcome;
	int status;
	int64_t retry_after_ms;
} failures[] = {
	{ "refused", "\"how\":\"status\",\"code\":403", HTTP_COMPLETE, 403, -1 },
	{ "busy", "\"how\":\"status\",\"code\":429,\"retry_after\":7",
	  HTTP_COMPLETE, 429, 7000 },
	{ "away for long",
	  "\"how\":\"status\",\"code\":503,\"retry_after\":999999999",
	  HTTP_COMPLETE, 503, -1 },
	{ "no answer", "\"how\":\"close\"", HTTP_UNREACHED, 0, -1 },
	{ "cut in the head", "\"how\":\"cut\",\"after\":10", HTTP_UNREACHED, 0, -1 },
	{ "cut in the body", "\"how\":\"cut\",\"after\":600", HTTP_BROKEN, 200, -1 },
	{ "half open", "\"how\":\"stall\",\"after\":600", HTTP_SILENT, 200, -1 },
	{ "half open from the start", "\"how\":\"stall\"", HTTP_SILENT, 0, -1 },
	{ "slow", "\"how\":\"trickle\",\"bytes\":40,\"delay\":0.002",
	  HTTP_COMPLETE, 200, -1 },
};

START_TEST(failures_have_names)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	fake_tell(w.fake, "{\"op\":\"fault\",%s}", failures[_i].fault);
	params = world_params(&w, NODES);
	if (strstr(failures[_i].fault, "stall"))
		params.idle_ms = 100;
	world_run(&w, &params);
	ck_assert_msg(
		w.got.result.outcome == failures[_i].outcome &&
			w.got.result.status == failures[_i].status &&
			w.got.result.retry_after_ms == failures[_i].retry_after_ms,
		"%s: want %d, %d, %lld, got %d, %d, %lld (%s)",
		failures[_i].name, (int)failures[_i].outcome,
		failures[_i].status, (long long)failures[_i].retry_after_ms,
		(int)w.got.result.outcome, w.got.result.status,
		(long long)w.got.result.retry_after_ms, w.got.result.message);
	ck_assert_int_eq(!w.got.result.message[0],
			 failures[_i].outcome == HTTP_COMPLETE);
	/* The next request is none the worse for it. */
	params.idle_ms = 3000;
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.status, 200);
	world_close(&w);
}
END_TEST

/* Silence counts from the last byte, not from the beginning. */
START_TEST(slower_than_its_patience)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	fake_tell(w.fake,
		  "{\"op\":\"fault\",\"how\":\"trickle\",\"bytes\":40,\"delay\":0.2}");
	params = world_params(&w, NODES);
	params.idle_ms = 1000;
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.outcome, HTTP_COMPLETE);
	ck_assert_uint_ge(w.got.body.length, 300);
	world_close(&w);
}
END_TEST

START_TEST(nobody_listens)
{
	struct http_params params;
	struct world w;

	world_open(&w, NULL);
	params = world_params(&w, "/");
	params.server = "http://127.0.0.1:1";
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.outcome, HTTP_UNREACHED);
	ck_assert_str_eq(w.got.result.message, "connection refused");
	world_close(&w);
}
END_TEST

START_TEST(listener_may_refuse)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	w.got.refuse_after = 1;
	params = world_params(&w, SERVICES);
	world_run(&w, &params);
	ck_assert_int_eq(w.got.result.outcome, HTTP_REFUSED);
	ck_assert_uint_eq(w.got.n_data, 1);
	world_close(&w);
}
END_TEST

static void never_done(void *ctx, const struct http_result *result)
{
	(void)ctx;
	(void)result;
	ck_abort_msg("a cancelled request spoke: %d %s", result->status,
		     result->message);
}

/* From inside another request's data callback, where libcurl must not be called. */
START_TEST(others_may_be_cancelled_in_a_callback)
{
	struct http_params params, other;
	struct world w;

	world_open(&w, small);
	other = world_params(&w, SERVICES "?watch=true&timeoutSeconds=60");
	other.done = never_done;
	other.data = NULL;
	w.got.other = http_start(w.http, &other);
	w.got.cancel_other = true;
	params = world_params(&w, SERVICES);
	world_run(&w, &params);
	ck_assert_msg(w.got.result.status == 200, "%s", w.got.result.message);
	ck_assert(!w.got.cancel_other);
	world_close(&w);
}
END_TEST

START_TEST(cancel_before_and_during)
{
	struct http_params params;
	struct http_request *request;
	struct world w;

	world_open(&w, small);
	params = world_params(&w, SERVICES "?watch=true&timeoutSeconds=60");
	params.done = never_done;
	request = http_start(w.http, &params);
	http_cancel(request);
	event_base_loop(w.base, EVLOOP_NONBLOCK);
	request = http_start(w.http, &params);
	while (!w.got.n_data)
		event_base_loop(w.base, EVLOOP_ONCE);
	http_cancel(request);
	http_cancel(NULL);
	/* What still runs is cancelled with the client. */
	http_start(w.http, &params);
	event_base_loop(w.base, EVLOOP_NONBLOCK);
	world_close(&w);
}
END_TEST

enum tls_server { GOOD, WRONG, EXPIRED, DEMANDING, N_TLS_SERVERS };

static struct fake *tls_servers[N_TLS_SERVERS];

static const struct {
	const char *name;
	enum tls_server server;
	const char *server_name;
	bool with_ca, insecure, client_cert;
	int status; /* 0: not reached */
	const char *message;
} tls[] = {
	{ "good", GOOD, NULL, true, false, false, 200, "" },
	{ "other authority", GOOD, NULL, false, false, false, 0, "certificate" },
	{ "wrong name", WRONG, NULL, true, false, false, 0, "no alternative" },
	{ "wrong name, asked for", WRONG, "other.example", true, false, false,
	  200, "" },
	{ "right name, not asked for", GOOD, "other.example", true, false,
	  false, 0, "no alternative" },
	{ "another name of the same", GOOD, "apiserver.example", true, false,
	  false, 200, "" },
	{ "expired", EXPIRED, NULL, true, false, false, 0, "expired" },
	{ "expired, but insecure", EXPIRED, NULL, false, true, false, 200, "" },
	{ "client certificate", DEMANDING, NULL, true, false, true, 200, "" },
	{ "no client certificate", DEMANDING, NULL, true, false, false, 0, "" },
};

static struct http_blob blob(const char *text)
{
	return (struct http_blob){ text, strlen(text) };
}

START_TEST(tls_is_verified)
{
	char *ca_text = read_text(certificates, "ca.crt");
	char *client_cert = read_text(certificates, "client.crt");
	char *client_key = read_text(certificates, "client.key");
	struct http_identity identity = { .server_name = tls[_i].server_name,
					  .insecure = tls[_i].insecure };
	struct http_params params;
	struct world w;

	if (tls[_i].with_ca)
		identity.ca = blob(ca_text);
	if (tls[_i].client_cert) {
		identity.cert = blob(client_cert);
		identity.key = blob(client_key);
	}
	world_open(&w, NULL);
	w.fake = tls_servers[tls[_i].server];
	snprintf(w.server, sizeof(w.server), "https://127.0.0.1:%d/",
		 fake_port(w.fake));
	params = world_params(&w, SERVICES);
	params.identity = &identity;
	world_run(&w, &params);
	ck_assert_msg(w.got.result.status == tls[_i].status &&
			      strstr(w.got.result.message, tls[_i].message),
		      "%s: want %d (%s), got %d (%s)", tls[_i].name,
		      tls[_i].status, tls[_i].message, w.got.result.status,
		      w.got.result.message);
	/* The name to verify is not the name to speak to. */
	if (tls[_i].status && tls[_i].server_name)
		ck_assert_ptr_nonnull(
			strstr(fake_tell(w.fake, "{\"op\":\"requests\"}"),
			       "\"host\":\"127.0.0.1:"));
	w.fake = NULL;
	world_close(&w);
	free(ca_text);
	free(client_cert);
	free(client_key);
}
END_TEST

static const struct {
	const char *name;
	struct http_identity identity;
	const char *server; /* NULL: the fake */
	int status;
} secrets[] = {
	{ "token", { .token = "s3cret" }, NULL, 200 },
	{ "wrong token", { .token = "s3cret2" }, NULL, 401 },
	{ "no token", { .token = NULL }, NULL, 403 }, /* as system:anonymous */
	{ "token, nobody there", { .token = "s3cret" }, "http://127.0.0.1:1", 0 },
	{ "password",
	  { .username = "me", .password = "s3cret" },
	  "http://127.0.0.1:1",
	  0 },
	{ "strange proxy", { .proxy = "zzz://me:s3cret@127.0.0.1:1" }, NULL, 0 },
	{ "broken proxy", { .proxy = "http://me:s3cret@127.0.0.1:port" }, NULL, 0 },
	{ "proxy away", { .proxy = "http://me:s3cret@127.0.0.1:1" }, NULL, 0 },
	{ "address that is none", { .token = "s3cret" }, "http://me:s3cret@[::", 0 },
};

START_TEST(secrets_are_not_in_messages)
{
	struct http_params params;
	struct world w;

	world_open(&w, small);
	fake_tell(w.fake, "{\"op\":\"set\",\"token\":\"s3cret\"}");
	params = world_params(&w, SERVICES);
	params.identity = &secrets[_i].identity;
	if (secrets[_i].server)
		params.server = secrets[_i].server;
	world_run(&w, &params);
	ck_assert_msg(w.got.result.status == secrets[_i].status,
		      "%s: want %d, got %d (%s)", secrets[_i].name,
		      secrets[_i].status, w.got.result.status,
		      w.got.result.message);
	ck_assert_msg(!strstr(w.got.result.message, "s3cret"), "%s: %s",
		      secrets[_i].name, w.got.result.message);
	world_close(&w);
}
END_TEST

START_TEST(escape_keeps_only_the_harmless)
{
	struct strbuf sb = STRBUF_INIT;

	http_escape(&sb, "aZ09-._~ /&=?%+\xc3\xbc\n");
	ck_assert_str_eq(sb.text, "aZ09-._~%20%2F%26%3D%3F%25%2B%C3%BC%0A");
	strbuf_free(&sb);
}
END_TEST

START_TEST(a_fetch_waits_for_the_end)
{
	struct strbuf body = STRBUF_INIT;
	struct http_result result;
	struct http_params params;
	struct world w;

	world_open(&w, small);
	params = world_params(&w, SERVICES);
	ck_assert_int_eq(http_fetch(w.base, &params, &body, &result), 0);
	ck_assert_int_eq(result.outcome, HTTP_COMPLETE);
	ck_assert_int_eq(result.status, 200);
	ck_assert_ptr_nonnull(strstr(body.text, "service-00004"));
	ck_assert_uint_eq(w.got.n_done, 0);
	strbuf_reset(&body);
	params.server = "http://127.0.0.1:1";
	ck_assert_int_eq(http_fetch(w.base, &params, &body, &result), 0);
	ck_assert_int_eq(result.outcome, HTTP_UNREACHED);
	ck_assert_uint_eq(body.length, 0);
	strbuf_free(&body);
	world_close(&w);
}
END_TEST

static const struct {
	const char *url, *scheme, *host,
		*port; /* scheme NULL: @host is what is wrong */
} urls[] = {
	{ "https://h", "https", "h", "" },
	{ "HTTP://Host.example:8080/a/b", "http", "Host.example", "8080" },
	{ "https://[fd00::1]:6443", "https", "fd00::1", "6443" },
	{ "https://[fd00::1]/x", "https", "fd00::1", "" },
	{ "tcp://172.30.0.1:443", "tcp", "172.30.0.1", "443" },
	{ "127.0.0.2:443", "https", "127.0.0.2", "443" },
	{ "https://me:s3cret@h", NULL,
	  "user names and passwords in addresses are not supported", "" },
	{ "https://h:65536", NULL, "no port from 1 to 65535", "" },
	{ "https://[10.0.0.1]", NULL, "not an IPv6 address in the brackets", "" },
	{ "https://", NULL, "no host", "" },
};

START_TEST(urls_are_split)
{
	struct http_address address;
	const char *fault = http_split(urls[_i].url, &address);

	if (!urls[_i].scheme) {
		ck_assert_ptr_nonnull(fault);
		ck_assert_str_eq(fault, urls[_i].host);
		return;
	}
	ck_assert_msg(!fault, "%s: %s", urls[_i].url, fault);
	ck_assert_str_eq(address.scheme, urls[_i].scheme);
	ck_assert_str_eq(address.host, urls[_i].host);
	ck_assert_str_eq(address.port, urls[_i].port);
}
END_TEST

static void start_shared(void)
{
	shared = fake_start(small);
}

static void stop_shared(void)
{
	fake_stop(shared);
}

static void start_tls_servers(void)
{
	static const char *const names[] = { "good", "wrong", "expired", "good" };
	char cert[128], key[128], ca[128];
	const char *arguments[] = { "--cert", cert, "--key", key, NULL, ca, NULL };

	certificates = certificates_new();
	snprintf(ca, sizeof(ca), "%s/ca.crt", certificates);
	for (int i = 0; i < N_TLS_SERVERS; i++) {
		snprintf(cert, sizeof(cert), "%s/%s.crt", certificates, names[i]);
		snprintf(key, sizeof(key), "%s/%s.key", certificates, names[i]);
		arguments[4] = i == DEMANDING ? "--client-ca" : NULL;
		tls_servers[i] = fake_start(arguments);
	}
}

struct proxy {
	pid_t pid;
	FILE *out;
	int port;
};

static void proxy_start(struct proxy *proxy, const char *user)
{
	int from[2];

	ck_assert_int_eq(pipe2(from, O_CLOEXEC), 0);
	proxy->pid = fork();
	ck_assert_int_ge(proxy->pid, 0);
	if (!proxy->pid) {
		dup2(from[1], 1);
		execl("tests/support/fake_proxy.py", "fake_proxy.py",
		      user ? "--user" : NULL, user, NULL);
		_exit(127);
	}
	close(from[1]);
	proxy->out = fdopen(from[0], "r");
	ck_assert_int_eq(fscanf(proxy->out, "port %d", &proxy->port), 1);
}

static void proxy_stop(struct proxy *proxy)
{
	kill(proxy->pid, SIGKILL);
	waitpid(proxy->pid, NULL, 0);
	fclose(proxy->out);
}

/* proxy-url: TLS goes through it and ends at the API server, whose name is verified. */
static const struct {
	const char *name, *user, *given, *server_name;
	bool https;
	int status;
	const char *seen; /* what the proxy saw, but for the server's port */
} proxies[] = {
	{ "TLS through a tunnel", NULL, "", NULL, true, 200,
	  "CONNECT HTTP/1.1 nobody" },
	{ "the server's certificate names another", NULL, "", "other.example",
	  true, 0, "CONNECT HTTP/1.1 nobody" },
	{ "with a password", "me:s3cret", "me:s3cret@", NULL, true, 200,
	  "CONNECT HTTP/1.1 me:s3cret" },
	{ "with a wrong password", "me:s3cret", "me:guess@", NULL, true, 0,
	  "CONNECT HTTP/1.1 me:guess" },
	{ "without TLS", NULL, "", NULL, false, 200, "GET HTTP/1.1 nobody" },
};

START_TEST(proxies_are_gone_through)
{
	char *ca_text = read_text(certificates, "ca.crt"), url[96], method[16],
	     user[32];
	struct http_identity identity = { .ca = blob(ca_text),
					  .token = "t0ken",
					  .server_name = proxies[_i].server_name,
					  .proxy = url };
	struct strbuf seen = STRBUF_INIT;
	struct http_params params;
	struct proxy proxy;
	struct world w;

	world_open(&w, proxies[_i].https ? NULL : small);
	if (proxies[_i].https) {
		w.fake = tls_servers[GOOD];
		snprintf(w.server, sizeof(w.server), "https://127.0.0.1:%d",
			 fake_port(w.fake));
	}
	proxy_start(&proxy, proxies[_i].user);
	snprintf(url, sizeof(url), "http://%s127.0.0.1:%d", proxies[_i].given,
		 proxy.port);
	params = world_params(&w, SERVICES);
	params.identity = &identity;
	world_run(&w, &params);
	ck_assert_msg(w.got.result.status == proxies[_i].status,
		      "%s: want %d, got %d (%s)", proxies[_i].name,
		      proxies[_i].status, w.got.result.status,
		      w.got.result.message);
	if (proxies[_i].status)
		ck_assert_msg(strstr(w.got.body.text, "ServiceList"),
			      "%s: a list", proxies[_i].name);
	ck_assert(!strstr(w.got.result.message, "s3cret") &&
		  !strstr(w.got.result.message, "guess"));
	ck_assert_int_eq(
		fscanf(proxy.out, "%15s %*s HTTP/1.1 %31s", method, user), 2);
	strbuf_addf(&seen, "%s HTTP/1.1 %s", method, user);
	ck_assert_str_eq(seen.text, proxies[_i].seen);
	strbuf_free(&seen);
	proxy_stop(&proxy);
	w.fake = w.fake == shared ? shared : NULL;
	world_close(&w);
	free(ca_text);
}
END_TEST

static void stop_tls_servers(void)
{
	for (int i = 0; i < N_TLS_SERVERS; i++)
		fake_stop(tls_servers[i]);
	certificates_free(certificates);
}

Suite *make_suite(void)
{
	Suite *suite = suite_create("http");
	TCase *plain = tcase_create("plain"), *secure = tcase_create("tls");

	tcase_set_timeout(plain, 60);
	tcase_add_unchecked_fixture(plain, start_shared, stop_shared);
	tcase_add_test(plain, a_list_arrives);
	tcase_add_test(plain, gzip_is_undone);
	tcase_add_test(plain, a_post_arrives);
	ADD_LOOP(plain, failures_have_names, failures);
	tcase_add_test(plain, slower_than_its_patience);
	tcase_add_test(plain, nobody_listens);
	tcase_add_test(plain, listener_may_refuse);
	tcase_add_test(plain, others_may_be_cancelled_in_a_callback);
	tcase_add_test(plain, cancel_before_and_during);
	ADD_LOOP(plain, secrets_are_not_in_messages, secrets);
	tcase_add_test(plain, escape_keeps_only_the_harmless);
	tcase_add_test(plain, a_fetch_waits_for_the_end);
	ADD_LOOP(plain, urls_are_split, urls);
	tcase_set_timeout(secure, 60);
	tcase_add_unchecked_fixture(secure, start_tls_servers, stop_tls_servers);
	ADD_LOOP(secure, tls_is_verified, tls);
	tcase_add_unchecked_fixture(secure, start_shared, stop_shared);
	ADD_LOOP(secure, proxies_are_gone_through, proxies);
	suite_add_tcase(suite, plain);
	suite_add_tcase(suite, secure);
	return suite;
}
