/*
 * An API source on a loop of its own with a recording sink, and everything that waits made short.
 */
#ifndef TESTS_SUPPORT_LIVE_H
#define TESTS_SUPPORT_LIVE_H

#include "proxy/base/strbuf.h"
#include "tests/support/apiserver.h"
#include "tests/support/sink.h"
#include "watch/apisource_internal.h"

struct live {
	struct event_base *base;
	struct apisource_tuning tuning;
	struct config *config;
	struct apisource *source;
	struct recording_sink *sink;
	struct strbuf log; /* "SEVERITY message" lines */
	unsigned int n_settled;
};

/* Fills in the loop, the tuning and the config; change them, then live_start(). */
void live_open(struct live *live);
void live_master(struct live *live, int port); /* http://127.0.0.1:PORT */
void live_start(struct live *live);
void live_close(struct live *live);

/* Runs the loop until @is_so, or fails the test after 20 s, naming @what. */
void live_until(struct live *live,
		bool (*is_so)(struct live *live, const void *arg),
		const void *arg, const char *what);
void live_run_ms(struct live *live, int ms);

/* For live_until() */
bool live_all_listed(struct live *live, const void *unused);
bool live_all_connected(struct live *live, const void *unused);
bool live_journal_has(struct live *live, const void *text);
bool live_log_has(struct live *live, const void *text);

#endif
