/*
 * flows: conntrack's entries that were translated, each with the Service whose
 * address it went to. The entries come from the kernel, datagram by datagram,
 * and the names from the running vipmap; so neither is held up, however many
 * there are.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft/conntrack.h"
#include "proxy/base/clock.h"
#include "proxy/base/jsonout.h"
#include "proxy/base/table.h"
#include "proxy/commands/ask.h"
#include "proxy/commands/names.h"
#include "proxy/serve/view.h"
#include "proxy/serve/vips.h"

enum { LIMIT_DEFAULT = 1000 };

const struct command_flag flows_flags[] = {
	{ "output", 'o', false, "\"json\" or \"yaml\" instead of a table" },
	{ "limit", 0, false,
	  "NUMBER of flows to show at most; by default 1000, 0: all" },
	{ "no-headers", 0, true, "leave the headers out" },
	{ NULL, 0, false, NULL },
};

struct flows {
	struct app *app;
	struct names names;
	const char *wanted; /* NAMESPACE/NAME[:PORT], or NULL */
	enum family family; /* that is listed now */
	size_t n, limit;    /* shown, at most */
	struct table table;
	struct strbuf json; /* NULL text: as a table */
	bool as_data;
};

static bool flow_is_wanted(const struct flows *f, const char *name)
{
	size_t length;

	if (!f->wanted)
		return true;
	length = strlen(f->wanted);
	return name && strncmp(name, f->wanted, length) == 0 &&
	       (!name[length] || (name[length] == ':' && !strchr(f->wanted, ':')));
}

static void put_flow(struct flows *f, const char *name,
		     const struct conntrack_entry *e)
{
	char client[ENDPOINT_TEXT_SIZE], to[ENDPOINT_TEXT_SIZE],
		endpoint[ENDPOINT_TEXT_SIZE];
	const char *state = e->tcp_state ? conntrack_state_name(e->tcp_state) : "";
	char age[AGE_TEXT_SIZE];

	endpoint_format(f->family, &e->client, e->client_port, client);
	endpoint_format(f->family, &e->destination, e->destination_port, to);
	endpoint_format(f->family, &e->endpoint, e->endpoint_port, endpoint);
	if (!f->as_data) {
		table_add(&f->table, name);
		table_add(&f->table, client);
		table_addf(&f->table, "%s/%s", to, protocol_name(e->protocol));
		table_add(&f->table, endpoint);
		table_add(&f->table, state);
		table_add(&f->table, age_format(e->timeout_s, age));
		return;
	}
	jsonout_object(&f->json, NULL);
	if (name)
		jsonout_text(&f->json, "service", name);
	jsonout_text(&f->json, "client", client);
	jsonout_text(&f->json, "destination", to);
	jsonout_text(&f->json, "protocol", protocol_name(e->protocol));
	jsonout_text(&f->json, "endpoint", endpoint);
	jsonout_text(&f->json, "state", state);
	jsonout_integer(&f->json, "expiresSeconds", e->timeout_s);
	jsonout_object_end(&f->json);
}

/* Other programs translate, too: without a Service's name an entry is not ours. */
static bool on_flow(void *ctx, const struct conntrack_entry *e)
{
	struct flows *f = ctx;
	const int port = vips_find(f->names.vips, f->family, e);
	const char *name =
		port < 0 ? NULL : vips_name(f->names.vips, (unsigned int)port);

	if (!name || !flow_is_wanted(f, name))
		return true;
	if (f->limit && f->n >= f->limit) {
		f->n++;
		return true;
	}
	f->n++;
	put_flow(f, name, e);
	return true;
}

static int list_flows(struct flows *f)
{
	struct errbuf eb = { "" };
	unsigned int i;
	int err;

	for (i = 0; i < N_FAMILIES; i++) {
		f->family = (enum family)i;
		err = f->app->family[i]
			      ? conntrack_each(f->family, on_flow, f, &eb)
			      : 0;
		if (err && err != -EINTR)
			return command_fails(EXIT_FAILED, "flows: %s",
					     err == -EPERM ? "not permitted: CAP_NET_ADMIN is needed"
							   : eb.text);
	}
	return EXIT_DONE;
}

static int show_flows(struct flows *f, const struct options *options)
{
	const char *output = options_own(options, "output");
	struct strbuf out = STRBUF_INIT;

	if (!f->as_data) {
		if (f->table.n_cells)
			table_print(&f->table,
				    !options_own_is_on(options, "no-headers"),
				    0, &out);
		else
			command_fails(EXIT_DONE, "flows: there are none");
		if (f->limit && f->n > f->limit)
			command_fails(EXIT_DONE,
				      "flows: %zu more are not shown: see --limit",
				      f->n - f->limit);
		return put_out(&out);
	}
	jsonout_array_end(&f->json);
	jsonout_integer(&f->json, "total", (int64_t)f->n);
	jsonout_object_end(&f->json);
	return put_json(&f->json, output,
			"flows: too many for one answer: use --limit");
}

static int read_limit(const struct options *options, size_t *limit)
{
	const char *text = options_own(options, "limit");
	unsigned long n;
	char *end;

	*limit = LIMIT_DEFAULT;
	if (!text)
		return 0;
	n = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end)
		return -EINVAL;
	*limit = n;
	return 0;
}

int command_flows_check(const struct options *options, struct errbuf *eb)
{
	size_t limit;

	if (output_check(options, "flows", eb))
		return -EINVAL;
	if (read_limit(options, &limit))
		return errf(eb, -EINVAL,
			    "flows: --limit: \"%s\" is not a whole number",
			    options_own(options, "limit"));
	if (options->n_words > 1)
		return errf(eb, -EINVAL, "flows: unexpected argument \"%s\"",
			    options->words[1]);
	return 0;
}

/* "NAME" means default/NAME unless it exists elsewhere only. NULL: told why. */
static char *wanted_name(struct flows *f, const char *typed)
{
	const size_t length = strlen(typed);
	const char *whole, *name, *namespace = NULL;
	char *wanted = NULL;
	unsigned int i;

	for (i = 0; i < vips_count(f->names.vips); i++) {
		whole = vips_name(f->names.vips, i);
		name = strchr(typed, '/') ? whole : strchr(whole, '/') + 1;
		if (strncmp(name, typed, length) ||
		    (name[length] && name[length] != ':'))
			continue;
		if (!namespace || strncmp(whole, "default/", 8) == 0)
		namespace = whole;
	}
	if (!namespace) {
		name_unknown(f->app, typed);
		return NULL;
	}
	if (strchr(typed, '/'))
		wanted = strdup(typed);
	else if (asprintf(&wanted, "%.*s/%s", (int)strcspn(namespace, "/"),
			  namespace, typed) < 0)
		wanted = NULL;
	if (!wanted)
		command_fails(EXIT_FAILED, "out of memory");
	return wanted;
}

int command_flows(struct app *app, struct options *options)
{
	static const char *const headers[] = { "SERVICE",     "CLIENT",
					       "DESTINATION", "ENDPOINT",
					       "STATE",	      "EXPIRES" };
	struct flows f = { .app = app, .as_data = options_own(options, "output") };
	char *wanted = NULL;
	int status;

	read_limit(options, &f.limit);
	table_begin(&f.table, headers, sizeof(headers) / sizeof(headers[0]));
	jsonout_object(&f.json, NULL);
	jsonout_array(&f.json, "items");
	status = names_fetch(app, &f.names, false);
	if (!status && options->n_words) {
		f.wanted = wanted = wanted_name(&f, options->words[0]);
		status = wanted ? EXIT_DONE : EXIT_FAILED;
	}
	if (!status)
		status = list_flows(&f);
	if (!status)
		status = show_flows(&f, options);
	names_free(&f.names);
	free(wanted);
	table_free(&f.table);
	strbuf_free(&f.json);
	return status;
}
