/*
 * Requests over libcurl's multi interface, driven by libevent: libcurl tells
 * which descriptors and which timeout it waits for, we tell it what became
 * ready.
 *
 * libcurl must not be called from inside its own callbacks, but those who
 * listen to a response want to start and cancel requests there. So a start is
 * only noted and carried out by an event of its own, and a cancellation inside
 * a callback marks the request and is carried out after libcurl has returned.
 * @depth says whether we are inside.
 *
 * If one of our callbacks fails, libcurl takes the multi handle for dead, and
 * for ever: it is replaced, and what ran on it fails.
 *
 * Silence is watched by one timer per request rather than by libcurl's speed
 * limit, which counts in seconds and averages. After a connection has failed,
 * others in the pool may be just as dead: then the next request asks for a
 * @fresh one.
 */
#include "watch/http.h"

#include <assert.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "proxy/base/strbuf.h"

/*
 * A watch may be silent for minutes, and the bookmarks that a server promises
 * tell no more than that its other end is alive, so the kernel is to ask: after
 * 10 s, then every 5 s. The third question without an answer, after 25 s, ends
 * the connection. This includes bytes that we sent and that nobody
 * acknowledged. Where the user timeout is set, the kernel does not count the
 * questions.
 */
enum {
	KEEPALIVE_IDLE_S = 10,
	KEEPALIVE_INTERVAL_S = 5,
	USER_TIMEOUT_MS = 25 * 1000,
};

struct http_request {
	TAILQ_ENTRY(http_request) link;
	struct http *http;
	CURL *easy;
	struct curl_slist *headers, *connect_to;
	struct event *idle; /* NULL: no deadline */
	struct timeval idle_time;
	bool added;	/* to the multi handle */
	bool cancelled; /* to be removed, callbacks are over */
	bool refused;	/* by the data callback */
	char *secrets[3];
	void (*head)(void *ctx, int status);
	int (*data)(void *ctx, const char *bytes, size_t length);
	void (*done)(void *ctx, const struct http_result *result);
	void *ctx;
	char error[CURL_ERROR_SIZE];
};

TAILQ_HEAD(request_list, http_request);

/* One descriptor that libcurl waits for. */
struct http_socket {
	LIST_ENTRY(http_socket) link;
	struct event *event;
};

LIST_HEAD(socket_list, http_socket);

struct http {
	struct event_base *base;
	const struct clock *clock;
	CURLM *multi;
	struct event *timer, *kick;
	struct request_list requests;
	struct socket_list sockets;
	unsigned int depth;
	int64_t last_byte_us;
	char *user_agent;
	void (*round_end)(void *ctx);
	void *ctx;
};

static void request_free(struct http_request *request)
{
	if (request->added)
		curl_multi_remove_handle(request->http->multi, request->easy);
	TAILQ_REMOVE(&request->http->requests, request, link);
	if (request->idle)
		event_free(request->idle);
	if (request->easy)
		curl_easy_cleanup(request->easy);
	curl_slist_free_all(request->headers);
	curl_slist_free_all(request->connect_to);
	for (size_t i = 0;
	     i < sizeof(request->secrets) / sizeof(request->secrets[0]); i++) {
		if (request->secrets[i])
			explicit_bzero(request->secrets[i],
				       strlen(request->secrets[i]));
		free(request->secrets[i]);
	}
	free(request);
}

/*
 * The system's own words where the library wraps them, since those are what
 * operators look for. NULL: there are none.
 */
static const char *system_words(const struct http_request *request, CURLcode code)
{
	static const char *const wraps[] = { "Recv failure: ", "Send failure: " };
	long err = 0;

	for (size_t i = 0; i < sizeof(wraps) / sizeof(wraps[0]); i++)
		if (!strncmp(request->error, wraps[i], strlen(wraps[i])))
			return request->error + strlen(wraps[i]);
	if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING)
		return "the server closed the connection";
	if (code == CURLE_COULDNT_CONNECT)
		curl_easy_getinfo(request->easy, CURLINFO_OS_ERRNO, &err);
	return err ? strerror((int)err) : NULL;
}

/* libcurl quotes a bad proxy URL, for instance: such a message is replaced by the error's name. */
static void result_message(struct http_result *result,
			   const struct http_request *request, CURLcode code)
{
	const char *words = system_words(request, code), *text;
	struct errbuf eb;

	if (words) {
		errf(&eb, 0, "%c%s", tolower((unsigned char)*words), words + 1);
		memcpy(result->message, eb.text, sizeof(result->message));
		result->message[sizeof(result->message) - 1] = '\0';
		return;
	}
	text = request->error[0] ? request->error : curl_easy_strerror(code);
	for (size_t i = 0;
	     i < sizeof(request->secrets) / sizeof(request->secrets[0]); i++)
		if (request->secrets[i] && request->secrets[i][0] &&
		    strstr(text, request->secrets[i]))
			text = curl_easy_strerror(code);
	errf(&eb, 0, "%s", text);
	memcpy(result->message, eb.text, sizeof(result->message));
	result->message[sizeof(result->message) - 1] = '\0';
}

bool http_timed_out(const struct http_result *result)
{
	return !strcasecmp(result->message, strerror(ETIMEDOUT));
}

static int64_t retry_after_ms(const struct http_request *request)
{
	curl_off_t seconds = 0;

	curl_easy_getinfo(request->easy, CURLINFO_RETRY_AFTER, &seconds);
	return seconds <= 0 || seconds > 24 * 3600 ? -1 : (int64_t)seconds * 1000;
}

static enum http_outcome outcome_of(const struct http_request *request,
				    CURLcode code, int status)
{
	if (code == CURLE_OK)
		return HTTP_COMPLETE;
	if (request->refused)
		return HTTP_REFUSED;
	return status ? HTTP_BROKEN : HTTP_UNREACHED;
}

/* Frees @request and tells its owner. */
static void request_finish(struct http_request *request, CURLcode code)
{
	assert(!request->cancelled && !request->http->depth);
	void (*done)(void *ctx, const struct http_result *result) = request->done;
	struct http_result result = { .retry_after_ms = -1 };
	void *ctx = request->ctx;

	result.status = http_status(request);
	result.outcome = outcome_of(request, code, result.status);
	if (result.outcome == HTTP_COMPLETE)
		result.retry_after_ms = retry_after_ms(request);
	else
		result_message(&result, request, code);
	request_free(request);
	done(ctx, &result);
}

static void request_silent(evutil_socket_t fd, short what, void *ctx)
{
	struct http_request *request = ctx;
	void (*done)(void *ctx, const struct http_result *result) = request->done;
	struct http_result result = { .outcome = HTTP_SILENT,
				      .retry_after_ms = -1 };
	struct errbuf eb;

	assert(!request->cancelled && !request->http->depth);
	(void)fd;
	(void)what;
	errf(&eb, 0, "no byte for %.1f seconds",
	     (double)request->idle_time.tv_sec +
		     (double)request->idle_time.tv_usec / 1e6);
	memcpy(result.message, eb.text, sizeof(result.message));
	result.status = http_status(request);
	ctx = request->ctx;
	request_free(request);
	done(ctx, &result);
}

/* After libcurl has returned: requests that ended, and those cancelled inside a callback. */
static void http_reap(struct http *http)
{
	struct http_request *request, *next;
	CURLMsg *msg;
	CURLcode code;
	int left;

	assert(!http->depth);
	while ((msg = curl_multi_info_read(http->multi, &left))) {
		if (msg->msg != CURLMSG_DONE)
			continue;
		code = msg->data.result;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &request);
		if (request->cancelled)
			request_free(request);
		else
			request_finish(request, code);
	}
	for (request = TAILQ_FIRST(&http->requests); request; request = next) {
		next = TAILQ_NEXT(request, link);
		if (request->cancelled)
			request_free(request);
	}
}

static struct http_request *first_request(struct http *http, bool added)
{
	struct http_request *request;

	TAILQ_FOREACH(request, &http->requests, link)
	if (request->added == added && !request->cancelled)
		return request;
	return NULL;
}

static CURLM *multi_new(struct http *http);

static void socket_free(struct http_socket *sock)
{
	LIST_REMOVE(sock, link);
	if (sock->event)
		event_free(sock->event);
	free(sock);
}

/* A dead handle does not say of all its sockets that they are of no interest any more. */
static void multi_free(struct http *http)
{
	assert(!http->depth);
	if (http->multi)
		curl_multi_cleanup(http->multi);
	http->multi = NULL;
	while (!LIST_EMPTY(&http->sockets))
		socket_free(LIST_FIRST(&http->sockets));
}

static void http_revive(struct http *http)
{
	struct http_request *request;

	/* From the head each time: who is told of a failure may cancel any other. */
	while ((request = first_request(http, true)))
		request_finish(request, CURLE_OUT_OF_MEMORY);
	multi_free(http);
	http->multi = multi_new(http);
}

static void http_run(struct http *http, curl_socket_t fd, int mask)
{
	CURLMcode code;
	int running;

	assert(!http->depth);
	http->depth++;
	code = curl_multi_socket_action(http->multi, fd, mask, &running);
	http->depth--;
	http_reap(http);
	if (code == CURLM_ABORTED_BY_CALLBACK)
		http_revive(http);
	if (http->round_end)
		http->round_end(http->ctx);
}

static void socket_ready(evutil_socket_t fd, short what, void *ctx)
{
	int mask = 0;

	if (what & EV_READ)
		mask |= CURL_CSELECT_IN;
	if (what & EV_WRITE)
		mask |= CURL_CSELECT_OUT;
	http_run(ctx, fd, mask);
}

static void multi_timer_fired(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	http_run(ctx, CURL_SOCKET_TIMEOUT, 0);
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *ctx)
{
	struct http *http = ctx;
	struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

	(void)multi;
	if (timeout_ms < 0)
		event_del(http->timer);
	else if (event_add(http->timer, &tv))
		event_active(http->timer, EV_TIMEOUT,
			     0); /* too early does no harm */
	return 0;
}

static void socket_forget(struct http *http, curl_socket_t fd,
			  struct http_socket *sock)
{
	if (!sock)
		return;
	socket_free(sock);
	curl_multi_assign(http->multi, fd, NULL);
}

static int socket_follow(struct http *http, curl_socket_t fd, int what,
			 struct http_socket *sock)
{
	short flags = EV_PERSIST;

	if (what & CURL_POLL_IN)
		flags |= EV_READ;
	if (what & CURL_POLL_OUT)
		flags |= EV_WRITE;
	if (!sock) {
		sock = calloc(1, sizeof(*sock));
		if (!sock)
			return -1;
		LIST_INSERT_HEAD(&http->sockets, sock, link);
		curl_multi_assign(http->multi, fd, sock);
	}
	if (sock->event)
		event_free(sock->event);
	sock->event = event_new(http->base, fd, flags, socket_ready, http);
	return sock->event && event_add(sock->event, NULL) == 0 ? 0 : -1;
}

static int socket_wanted(CURL *easy, curl_socket_t fd, int what, void *ctx,
			 void *socket_ctx)
{
	(void)easy;
	if (what != CURL_POLL_REMOVE)
		return socket_follow(ctx, fd, what, socket_ctx);
	socket_forget(ctx, fd, socket_ctx);
	return 0;
}

static void request_alive(struct http_request *request)
{
	request->http->last_byte_us = clock_monotonic_us(request->http->clock);
	if (request->idle)
		event_add(request->idle, &request->idle_time);
}

static size_t got_data(char *bytes, size_t size, size_t n, void *ctx)
{
	struct http_request *request = ctx;

	/* Outside of a run nobody could cancel it; no libcurl does that so far. */
	if (!request->http->depth || request->cancelled || request->refused)
		return 0;
	request_alive(request);
	if (request->data && request->data(request->ctx, bytes, size * n)) {
		request->refused = true;
		return 0;
	}
	return size * n;
}

static size_t got_header(char *bytes, size_t size, size_t n, void *ctx)
{
	struct http_request *request = ctx;

	if (request->cancelled)
		return 0;
	request_alive(request);
	/* An empty line ends the head, of an interim response too. */
	if (size * n == 2 && bytes[0] == '\r' && request->head &&
	    http_status(request) >= 200)
		request->head(request->ctx, http_status(request));
	return size * n;
}

/* A peer that vanished while we wait for it to speak is found by the kernel. */
static int socket_options(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
	unsigned int timeout_ms = USER_TIMEOUT_MS;

	(void)ctx;
	(void)purpose;
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms,
		   sizeof(timeout_ms));
	return CURL_SOCKOPT_OK;
}

static CURLM *multi_new(struct http *http)
{
	CURLM *multi = curl_multi_init();

	if (!multi)
		return NULL;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http);
	return multi;
}

static bool request_add(struct http_request *request)
{
	struct http *http = request->http;
	CURLMcode code;

	if (!http->multi)
		http->multi = multi_new(http);
	if (!http->multi)
		return false;
	code = curl_multi_add_handle(http->multi, request->easy);
	if (code == CURLM_ABORTED_BY_CALLBACK)
		http_revive(http);
	return code == CURLM_OK;
}

static void http_kicked(evutil_socket_t fd, short what, void *ctx)
{
	struct http *http = ctx;
	struct http_request *request;

	assert(!http->depth);
	(void)fd;
	(void)what;
	while ((request = first_request(http, false))) {
		request->added = request_add(request);
		if (!request->added)
			request_finish(request, CURLE_OUT_OF_MEMORY);
		else if (request->idle)
			event_add(request->idle, &request->idle_time);
	}
}

struct http *http_new(struct event_base *base, const struct http_options *options)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http)
		return NULL;
	TAILQ_INIT(&http->requests);
	LIST_INIT(&http->sockets);
	http->base = base;
	http->clock = options->clock ? options->clock : clock_system();
	http->round_end = options->round_end;
	http->ctx = options->ctx;
	if (curl_global_init(CURL_GLOBAL_DEFAULT)) {
		free(http);
		return NULL;
	}
	http->user_agent = strdup(options->user_agent);
	http->timer = event_new(base, -1, 0, multi_timer_fired, http);
	http->kick = event_new(base, -1, 0, http_kicked, http);
	http->multi = multi_new(http);
	if (!http->user_agent || !http->timer || !http->kick || !http->multi) {
		http_free(http);
		return NULL;
	}
	return http;
}

void http_free(struct http *http)
{
	struct http_request *request;

	if (!http)
		return;
	assert(!http->depth); /* libcurl is not at work on what goes */
	while ((request = TAILQ_FIRST(&http->requests)))
		request_free(request);
	/* Closes the idle connections. */
	multi_free(http);
	if (http->timer)
		event_free(http->timer);
	if (http->kick)
		event_free(http->kick);
	free(http->user_agent);
	free(http);
	curl_global_cleanup();
}

static int set_blob(CURL *easy, CURLoption option, const struct http_blob *blob)
{
	/* The library does not write to it: CURL_BLOB_COPY. */
	struct curl_blob b = { .len = blob->length, .flags = CURL_BLOB_COPY };

	if (!blob->data)
		return 0;
	memcpy(&b.data, &blob->data, sizeof(b.data));
	return curl_easy_setopt(easy, option, &b) ? -ENOMEM : 0;
}

static int add_header(struct http_request *request, const char *name,
		      const char *value)
{
	struct strbuf line = STRBUF_INIT;
	struct curl_slist *list = NULL;

	strbuf_addf(&line, "%s: %s", name, value);
	if (!line.err)
		list = curl_slist_append(request->headers, line.text);
	if (line.text)
		explicit_bzero(line.text, line.length);
	strbuf_free(&line);
	if (!list)
		return -ENOMEM;
	request->headers = list;
	return 0;
}

static int keep_secret(struct http_request *request, size_t slot, const char *text)
{
	assert(slot < sizeof(request->secrets) / sizeof(request->secrets[0]));
	assert(!request->secrets[slot]);
	if (text)
		request->secrets[slot] = strdup(text);
	return text && !request->secrets[slot] ? -ENOMEM : 0;
}

/*
 * A proxy's port, where it is not said, is its scheme's; libcurl would take
 * 1080 for HTTP. Caller frees; NULL when out of memory.
 */
static char *proxy_address(const char *proxy)
{
	const unsigned int flags = CURLU_NON_SUPPORT_SCHEME;
	struct strbuf text = STRBUF_INIT;
	char *scheme = NULL, *port = NULL, *whole = NULL, *result = NULL;
	CURLU *url = curl_url();

	if (!strstr(proxy, "://"))
		strbuf_adds(&text, "http://");
	strbuf_adds(&text, proxy);
	if (!url || text.err)
		goto out;
	if (!curl_url_set(url, CURLUPART_URL, text.text, flags) &&
	    !curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) &&
	    curl_url_get(url, CURLUPART_PORT, &port, 0) == CURLUE_NO_PORT &&
	    !strcmp(scheme, "http") && !curl_url_set(url, CURLUPART_PORT, "80", 0))
		curl_url_get(url, CURLUPART_URL, &whole, 0);
	/* What cannot be read is left to the transfer, which fails with a word for it. */
	result = strdup(whole ? whole : text.text);
out:
	if (text.text)
		explicit_bzero(text.text, text.length);
	if (whole)
		explicit_bzero(whole, strlen(whole));
	strbuf_free(&text);
	curl_free(scheme);
	curl_free(port);
	curl_free(whole);
	curl_url_cleanup(url);
	return result;
}

/* Always said, with no exceptions: libcurl would look into the environment by itself. */
static int set_proxy(struct http_request *request, const char *proxy)
{
	if (proxy) {
		request->secrets[2] = proxy_address(proxy);
		if (!request->secrets[2])
			return -ENOMEM;
	}
	if (curl_easy_setopt(request->easy, CURLOPT_PROXY,
			     proxy ? request->secrets[2] : "") ||
	    curl_easy_setopt(request->easy, CURLOPT_NOPROXY, ""))
		return -ENOMEM;
	return 0;
}

static int set_identity(struct http_request *request, const struct http_identity *id)
{
	CURL *easy = request->easy;
	struct strbuf bearer = STRBUF_INIT;
	int err = 0;

	if (keep_secret(request, 0, id->token) ||
	    keep_secret(request, 1, id->password))
		return -ENOMEM;
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, id->insecure ? 0L : 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, id->insecure ? 0L : 2L);
	if (set_blob(easy, CURLOPT_CAINFO_BLOB, &id->ca) ||
	    set_blob(easy, CURLOPT_SSLCERT_BLOB, &id->cert) ||
	    set_blob(easy, CURLOPT_SSLKEY_BLOB, &id->key))
		return -ENOMEM;
	if (id->token) {
		strbuf_addf(&bearer, "Bearer %s", id->token);
		err = bearer.err
			      ? bearer.err
			      : add_header(request, "Authorization", bearer.text);
		if (bearer.text)
			explicit_bzero(bearer.text, bearer.length);
		strbuf_free(&bearer);
	} else if (id->username) {
		curl_easy_setopt(easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		if (curl_easy_setopt(easy, CURLOPT_USERNAME, id->username) ||
		    curl_easy_setopt(easy, CURLOPT_PASSWORD,
				     id->password ? id->password : ""))
			return -ENOMEM;
	}
	return err;
}

/*
 * libcurl has no option for the name in the server's certificate. The name becomes the URL's host,
 * and the connection and the Host header go where they belong all the same.
 */
static int rename_server(struct http_request *request, CURLU *url, const char *name)
{
	struct strbuf to = STRBUF_INIT, host_header = STRBUF_INIT;
	char *host = NULL, *port = NULL;
	int err = -ENOMEM;

	if (curl_url_get(url, CURLUPART_HOST, &host, 0) ||
	    curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) ||
	    curl_url_set(url, CURLUPART_HOST, name, 0))
		goto out;
	strbuf_addf(&to, "::%s:%s", host, port);
	strbuf_addf(&host_header, "%s:%s", host, port);
	if (to.err || host_header.err ||
	    add_header(request, "Host", host_header.text))
		goto out;
	request->connect_to = curl_slist_append(NULL, to.text);
	if (request->connect_to &&
	    !curl_easy_setopt(request->easy, CURLOPT_CONNECT_TO, request->connect_to))
		err = 0;
out:
	strbuf_free(&to);
	strbuf_free(&host_header);
	curl_free(host);
	curl_free(port);
	return err;
}

static int set_url(struct http_request *request, const struct http_params *params)
{
	const char *name = params->identity ? params->identity->server_name : NULL;
	struct strbuf text = STRBUF_INIT;
	CURLU *url = curl_url();
	size_t length = strlen(params->server);
	int err = -ENOMEM;

	while (length && params->server[length - 1] == '/')
		length--;
	strbuf_add(&text, params->server, length);
	strbuf_adds(&text, params->path);
	if (!url || text.err)
		goto out;
	if (curl_url_set(url, CURLUPART_URL, text.text, 0)) {
		/* Let the transfer fail with the library's own word for it. */
		err = curl_easy_setopt(request->easy, CURLOPT_URL, text.text)
			      ? -ENOMEM
			      : 0;
		goto out;
	}
	if (name && *name && rename_server(request, url, name))
		goto out;
	strbuf_free(&text);
	char *whole = NULL;
	if (curl_url_get(url, CURLUPART_URL, &whole, 0) == 0)
		err = curl_easy_setopt(request->easy, CURLOPT_URL, whole) ? -ENOMEM
									  : 0;
	curl_free(whole);
out:
	strbuf_free(&text);
	curl_url_cleanup(url);
	return err;
}

static void set_callbacks(struct http_request *request)
{
	CURL *easy = request->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, got_data);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, got_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, socket_options);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->error);
}

static void set_transport(struct http_request *request,
			  const struct http_params *params)
{
	CURL *easy = request->easy;

	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_IDLE_S);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_INTERVAL_S);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)params->connect_ms);
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, params->fresh ? 1L : 0L);
	/*
	 * A connection per watch: one that stalls or breaks does not take the
	 * others along. To share one by HTTP/2, libcurl would have to hold the
	 * other requests back until the first is answered (CURLOPT_PIPEWAIT);
	 * against a server without HTTP/2 it then forgets them.
	 */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
}

static int set_body(struct http_request *request, const struct http_params *params)
{
	if (!params->body)
		return 0;
	if (curl_easy_setopt(request->easy, CURLOPT_COPYPOSTFIELDS, params->body))
		return -ENOMEM;
	return add_header(request, "Content-Type", "application/json");
}

/* Whatever proxy the environment names is not meant for this machine. */
static int set_socket(CURL *easy, const char *name)
{
	if (!name)
		return 0;
	if (curl_easy_setopt(easy, CURLOPT_ABSTRACT_UNIX_SOCKET, name) ||
	    curl_easy_setopt(easy, CURLOPT_PROXY, ""))
		return -ENOMEM;
	return 0;
}

static int request_prepare(struct http_request *request,
			   const struct http_params *params)
{
	struct http *http = request->http;

	request->easy = curl_easy_init();
	if (!request->easy)
		return -ENOMEM;
	if (params->idle_ms) {
		request->idle_time.tv_sec = params->idle_ms / 1000;
		request->idle_time.tv_usec = params->idle_ms % 1000 * 1000;
		request->idle =
			event_new(http->base, -1, 0, request_silent, request);
		if (!request->idle)
			return -ENOMEM;
	}
	set_callbacks(request);
	set_transport(request, params);
	if (curl_easy_setopt(request->easy, CURLOPT_USERAGENT, http->user_agent) ||
	    add_header(request, "Accept",
		       params->accept ? params->accept : "application/json") ||
	    set_body(request, params) ||
	    set_proxy(request, params->identity ? params->identity->proxy : NULL) ||
	    (params->identity && set_identity(request, params->identity)) ||
	    set_socket(request->easy, params->socket) || set_url(request, params))
		return -ENOMEM;
	return curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers)
		       ? -ENOMEM
		       : 0;
}

struct http_request *http_start(struct http *http, const struct http_params *params)
{
	struct http_request *request = calloc(1, sizeof(*request));

	assert(params->done && params->server && params->path);
	if (!request)
		return NULL;
	request->http = http;
	request->head = params->head;
	request->data = params->data;
	request->done = params->done;
	request->ctx = params->ctx;
	TAILQ_INSERT_TAIL(&http->requests, request, link);
	if (request_prepare(request, params)) {
		request_free(request);
		return NULL;
	}
	event_active(http->kick, EV_TIMEOUT, 0);
	return request;
}

void http_cancel(struct http_request *request)
{
	if (!request)
		return;
	if (request->http->depth)
		request->cancelled = true; /* http_reap() frees it */
	else
		request_free(request);
}

void http_set_idle(struct http_request *request, int64_t idle_ms)
{
	assert(idle_ms > 0);
	request->idle_time.tv_sec = idle_ms / 1000;
	request->idle_time.tv_usec = idle_ms % 1000 * 1000;
	if (request->idle)
		event_add(request->idle, &request->idle_time);
}

int http_status(const struct http_request *request)
{
	long status = 0;

	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
	return (int)status;
}

bool http_is_type(const struct http_request *request, const char *type)
{
	const size_t length = strlen(type);
	char *said = NULL;

	curl_easy_getinfo(request->easy, CURLINFO_CONTENT_TYPE, &said);
	return said && strncasecmp(said, type, length) == 0 &&
	       (!said[length] || strchr("; \t", said[length]));
}

int64_t http_last_byte_us(const struct http *http)
{
	return http->last_byte_us;
}

struct fetch {
	struct event_base *base;
	struct strbuf *body;
	struct http_result *result;
};

static int fetch_data(void *ctx, const char *bytes, size_t length)
{
	const struct fetch *fetch = ctx;

	strbuf_add(fetch->body, bytes, length);
	return fetch->body->err;
}

static void fetch_done(void *ctx, const struct http_result *result)
{
	const struct fetch *fetch = ctx;

	*fetch->result = *result;
	event_base_loopbreak(fetch->base);
}

int http_fetch(struct event_base *base, const struct http_params *params,
	       struct strbuf *body, struct http_result *result)
{
	const struct http_options options = { .user_agent =
						      "vipmap/" VIPMAP_VERSION };
	struct fetch fetch = { base, body, result };
	struct http_params own = *params;
	struct http *http = http_new(base, &options);
	int err = -ENOMEM;

	own.head = NULL;
	own.data = fetch_data;
	own.done = fetch_done;
	own.ctx = &fetch;
	*result = (struct http_result){ .outcome = HTTP_UNREACHED,
					.message = "interrupted" };
	if (http && http_start(http, &own)) {
		event_base_dispatch(base);
		err = 0;
	}
	http_free(http);
	return err;
}

static const char *url_fault(CURLUcode code)
{
	switch (code) {
	case CURLUE_BAD_PORT_NUMBER:
		return "no port from 1 to 65535";
	case CURLUE_BAD_IPV6:
		return "not an IPv6 address in the brackets";
	case CURLUE_NO_HOST:
		return "no host";
	case CURLUE_USER_NOT_ALLOWED:
		return "user names and passwords in addresses are not supported";
	default:
		return "not an address";
	}
}

static bool url_part(CURLU *url, CURLUPart what, char *to, size_t size)
{
	char *part = NULL;
	size_t length;
	bool fits;

	if (curl_url_get(url, what, &part, 0))
		return false;
	length = strlen(part);
	fits = length < size;
	if (fits)
		memcpy(to, part, length + 1);
	curl_free(part);
	return fits;
}

const char *http_split(const char *text, struct http_address *address)
{
	CURLU *url = curl_url();
	const char *fault = "out of memory";
	CURLUcode code;
	size_t length;

	*address = (struct http_address){ .scheme = "" };
	if (!url)
		return fault;
	code = curl_url_set(url, CURLUPART_URL, text,
			    CURLU_NON_SUPPORT_SCHEME | CURLU_DISALLOW_USER |
				    CURLU_DEFAULT_SCHEME);
	fault = code ? url_fault(code) : NULL;
	if (!fault &&
	    (!url_part(url, CURLUPART_SCHEME, address->scheme,
		       sizeof(address->scheme)) ||
	     !url_part(url, CURLUPART_HOST, address->host, sizeof(address->host))))
		fault = "not an address";
	if (!fault)
		url_part(url, CURLUPART_PORT, address->port, sizeof(address->port));
	curl_url_cleanup(url);
	length = strlen(address->host);
	if (!fault && length > 2 && address->host[0] == '[') {
		memmove(address->host, address->host + 1, length - 2);
		address->host[length - 2] = '\0';
	}
	return fault;
}

void http_escape(struct strbuf *sb, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		    (*p >= '0' && *p <= '9') || strchr("-._~", *p))
			strbuf_addc(sb, (char)*p);
		else
			strbuf_addf(sb, "%%%02X", *p);
	}
}
