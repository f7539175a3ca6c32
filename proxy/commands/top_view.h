/*
 * What top shows, and what its keys do: a frame is made from data alone, so
 * that neither a terminal nor a kernel is needed to try it.
 */
#ifndef COMMANDS_TOP_VIEW_H
#define COMMANDS_TOP_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/commands/names.h"
#include "proxy/commands/tally.h"

struct strbuf;

/* An endpoint of the service port that is looked into. All text is owned. */
struct top_endpoint {
	char *address, *pod, *node, *reason;
	unsigned long connections, fresh;
};

struct top_flow {
	enum family family;
	struct conntrack_entry entry;
};

struct top_data {
	const struct names *names;
	const struct tally *tally; /* the latest whole look; NULL: none yet */
	double seconds; /* from the look before to that one; 0: there was none */
	const char *node;
	struct top_endpoint *endpoints;
	size_t n_endpoints;
	const struct top_flow *flows;
	size_t n_flows, more_flows; /* more: that are not kept */
};

enum top_level { TOP_SERVICES, TOP_ENDPOINTS, TOP_FLOWS };
enum top_sort { TOP_BY_CONNECTIONS, TOP_BY_NEW, TOP_BY_NAME };
enum { TOP_FILTER_SIZE = 64, TOP_KEY_SIZE = 600 };

struct top_view {
	enum top_level level;
	enum top_sort sort;
	char service[TOP_KEY_SIZE]; /* that is looked into; "" at the first level */
	char endpoint[TOP_KEY_SIZE]; /* at the third */
	char filter[3][TOP_FILTER_SIZE];
	bool typing; /* the filter */
	/* Where the cursor is, by name: rows change their places. "": at the first row. */
	char cursor[3][TOP_KEY_SIZE];
	size_t at, first,
		page; /* of the latest frame: the cursor, the first row and rows in all */
	size_t n_rows;
	bool utf8;
};

enum top_action {
	TOP_STAY, /* draw again */
	TOP_QUIT,
	TOP_LOOK, /* another level: other data is wanted */
};
enum top_action top_key(struct top_view *v, const struct top_data *data, int key);

/* Appends lines for a screen of @rows. Returns the number of the cursor's line, or -1. */
int top_frame(struct top_view *v, const struct top_data *data,
	      unsigned int rows, const char *time, struct strbuf *out);

/* Numbers of service ports that @filter leaves, in order. The caller frees; NULL: no memory. */
unsigned int *top_order(const struct top_data *data, enum top_sort sort,
			const char *filter, size_t *n);
/* Endpoints of a service port that have connections, most first; the caller frees the array. */
const struct tally_endpoint **top_endpoints(const struct tally_port *port);
double top_rate(const struct top_data *data, unsigned long fresh);
/* "310", "0.5", "-": unknown. */
enum { RATE_TEXT_SIZE = 24 };
char *rate_format(const struct top_data *data, unsigned long fresh,
		  char text[RATE_TEXT_SIZE]);

#endif
