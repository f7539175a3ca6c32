/* explain: what becomes of one packet. */
#include "proxy/commands/commands.h"

#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "nft/addresses.h"
#include "proxy/base/strbuf.h"
#include "proxy/feed.h"
#include "proxy/sync/dataplane.h"
#include "watch/apisource.h"

enum { EXPLAIN_WAIT_S = 30 };

struct explain {
	struct app *app;
	struct feed *feed;
};

int explain_query_parse(const struct options *options, struct explain_query *query,
			struct errbuf *eb)
{
	const char *const *word = options->words;
	enum family family = FAMILY_IPV4;
	char protocol[8] = "", *end;
	unsigned long port;
	size_t i;

	if (options->n_words != 4)
		return errf(eb, -EINVAL, "explain: needs SRC PROTO DST PORT");
	if (addr_parse(word[0], &query->family, &query->source))
		return errf(eb, -EINVAL, "explain: source \"%s\" is not an IP address", word[0]);
	for (i = 0; word[1][i] && i < sizeof(protocol) - 1; i++)
		protocol[i] = (char)toupper((unsigned char)word[1][i]);
	query->protocol = protocol_parse(protocol);
	if (!query->protocol)
		return errf(eb, -EINVAL, "explain: protocol \"%s\" is not tcp, udp or sctp",
			    word[1]);
	if (addr_parse(word[2], &family, &query->destination))
		return errf(eb, -EINVAL, "explain: destination \"%s\" is not an IP address",
			    word[2]);
	if (family != query->family)
		return errf(eb, -EINVAL, "explain: source and destination are not of one family");
	port = strtoul(word[3], &end, 10);
	if (*word[3] < '0' || *word[3] > '9' || *end || port < 1 || port > UINT16_MAX)
		return errf(eb, -EINVAL, "explain: port \"%s\" is not between 1 and 65535",
			    word[3]);
	query->port = (uint16_t)port;
	return 0;
}

int command_explain_check(const struct options *options, struct errbuf *eb)
{
	struct explain_query query;

	return explain_query_parse(options, &query, eb);
}

/* A packet's source or destination may be any address of this machine, not only its Node's. */
static int ask_addresses(struct explain *x)
{
	struct errbuf eb = { "" };
	struct addresses *machine = addresses_open(&eb);
	bool changed;
	int err;

	if (!machine || addresses_read(machine, &changed, &eb) < 0)
		log_warning(x->app->log, "explain: addresses of this machine: %s", eb.text);
	err = feed_assume_addresses(x->feed, machine);
	if (machine)
		addresses_close(machine);
	return err;
}

static int explain_now(struct explain *x)
{
	struct explain_query query;
	struct dataplane_options options = { .model = x->feed->model };
	struct dataplane *dp = NULL;
	struct strbuf out = STRBUF_INIT;
	struct errbuf eb;
	int err;

	err = explain_query_parse(&x->feed->options, &query, &eb);
	if (!err) {
		options.family = query.family;
		dp = dataplane_new(&options);
		err = dp ? ask_addresses(x) : -ENOMEM;
	}
	if (!err)
		err = dataplane_compile(dp);
	if (!err)
		err = explain_packet(x->feed->model, &query, &out);
	if (!err)
		fputs(out.text, stdout);
	strbuf_free(&out);
	dataplane_free(dp);
	return err ? EXIT_FAILED : EXIT_DONE;
}

static void on_settled(void *ctx)
{
	struct explain *x = ctx;

	if (model_is_complete(x->feed->model))
		app_exit(x->app, EXIT_DONE);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct explain *x = ctx;

	(void)fd;
	(void)what;
	log_error(x->app->log, "explain: no answer from the API server");
	app_exit(x->app, EXIT_FAILED);
}

static int wait_for_objects(struct explain *x)
{
	const struct timeval patience = { EXPLAIN_WAIT_S, 0 };

	apisource_start(x->feed->source);
	event_base_once(x->app->base, -1, EV_TIMEOUT, on_timer, x, &patience);
	event_base_dispatch(x->app->base);
	return x->app->exit_status;
}

int command_explain(struct app *app, struct options *options)
{
	struct explain x = { .app = app };
	struct errbuf eb = { "" };
	int status = EXIT_DONE;

	x.feed = feed_open(app, options, on_settled, &x, &eb);
	if (!x.feed) {
		status = feed_exit_status(errno);
		log_error(app->log, "%s", eb.text);
		return status;
	}
	if (x.feed->source)
		status = wait_for_objects(&x);
	if (!status)
		status = explain_now(&x);
	feed_close(x.feed);
	return status;
}
