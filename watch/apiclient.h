/*
 * Calls to the API server, or to one of several: credentials, the limit on the
 * rate of requests, deadlines, and the next address when one cannot be reached.
 * What a call is about is its caller's.
 */
#ifndef WATCH_APICLIENT_H
#define WATCH_APICLIENT_H

#include "watch/http.h"
#include "watch/kubeconfig.h"
#include "watch/webproxy.h"

struct apiclient;
struct apicall;

/* Everything that waits. Tests make it shorter. */
struct api_timing {
	int64_t connect_ms;   /* to have a connection, TLS included */
	int64_t list_idle_ms; /* silence of a list */
	int64_t watch_idle_ms; /* silence of a watch, where bookmarks come about once a minute */
	int64_t backoff_initial_ms, backoff_max_ms;
	int64_t hurry_ms; /* at most, once a server answers that could not be reached */
	int64_t absent_ms; /* until a resource that the server lacks is asked for again */
	int64_t retry_after_max_ms; /* no server may send us to sleep for longer */
	int64_t short_watch_ms; /* a watch that ends sooner without an event is a failure */
	int64_t steady_ms; /* a watch that lives longer ends a row of failures */
	int64_t log_ms;	   /* the same message again at the earliest */
	int64_t token_age_ms; /* the token's file is read again */
	unsigned int watch_min_s, watch_max_s; /* asked of the server */
	unsigned int page_limit;
};

extern const struct api_timing api_timing_defaults;

/* How a request went, for those who count. */
struct api_answer {
	const char *method;
	const char *server; /* address in use, an URL */
	int status;	    /* 0: no answer */
	int64_t took_us;    /* until the head of the answer, or the failure */
};

struct apiclient_options {
	struct event_base *base;
	const struct credentials_source *source; /* borrowed */
	const struct api_timing *timing;	 /* borrowed */
	const struct clock *clock;		 /* NULL: the system's */
	struct webproxy_env proxy; /* for credentials without a proxy */
	double qps;
	int burst;
	void (*log)(void *ctx, int severity, const char *message);
	/* A server answers, and before it none could be reached. Not to be used for calls. */
	void (*answers)(void *ctx);
	void (*round_end)(void *ctx); /* as in http_options */
	/* Once for each request that was not cancelled before. May be NULL. */
	void (*answered)(void *ctx, const struct api_answer *answer);
	void *ctx;
};

/* NULL with @eb and errno as from credentials_read(). */
struct apiclient *apiclient_new(const struct apiclient_options *options,
				struct errbuf *eb);
void apiclient_free(struct apiclient *client); /* all calls must be over or cancelled */

struct apicall_params {
	const char *path, *body; /* as in http_params; copied */
	const char *accept;	 /* the same; a constant */
	int64_t idle_ms;
	bool fresh;
	void (*head)(void *ctx, int status); /* may be NULL */
	int (*data)(void *ctx, const char *bytes, size_t length);
	void (*done)(void *ctx, const struct http_result *result);
	void *ctx;
};

/* NULL when out of memory. The call begins when the rate limit allows. */
struct apicall *apiclient_call(struct apiclient *client,
			       const struct apicall_params *params);
void apicall_cancel(struct apicall *call); /* NULL is allowed; not from its own data or head */
void apicall_set_idle(struct apicall *call, int64_t idle_ms);
int apicall_status(const struct apicall *call);
bool apicall_is_type(const struct apicall *call,
		     const char *type); /* as http_is_type() */

int64_t apiclient_last_contact_us(const struct apiclient *client);
const char *apiclient_server(const struct apiclient *client); /* the address in use */

/* No server could be reached of late. */
struct apiclient_outage {
	unsigned int tries; /* calls in a row; 0: there is no outage */
	int64_t since_us;   /* CLOCK_MONOTONIC */
	char reason[256];   /* of the latest try */
};
const struct apiclient_outage *apiclient_outage(const struct apiclient *client);

#endif
