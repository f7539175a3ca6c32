/*
 * Whether an API server can be reached with the credentials of a configuration,
 * and lets us list and watch what we need: for each resource a list of one
 * object, and a watch that ends at its first word. For "vipmap preflight".
 */
#ifndef WATCH_APICHECK_H
#define WATCH_APICHECK_H

#include "proxy/base/errbuf.h"
#include "proxy/model/config.h"
#include "proxy/model/objects.h"

struct event_base;

struct apicheck {
	char server[256];
	char user[256]; /* as whom, in the server's words (SelfSubjectReview); "": not known */
	struct {
		int status;	   /* of HTTP, for the list; 0: no answer */
		int watch_status;  /* for the watch */
		bool optional;	   /* it works without */
		char message[256]; /* what was wrong with the connection */
	} kinds[N_KINDS];
};

/* Runs @base for @patience_ms at most. Returns 0, or a negative errno with @eb: bad credentials. */
int apicheck_run(struct event_base *base, const struct config *config,
		 const char *node_name, unsigned int patience_ms,
		 struct apicheck *result, struct errbuf *eb);

#endif
