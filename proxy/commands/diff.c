/*
 * diff: what is wanted against what the kernel has. The objects of the running vipmap are copied,
 * so that the comparison costs it nothing; if they change on the way, it is done again.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nft/interfaces.h"
#include "nft/nlsock.h"
#include "nft/readback.h"
#include "proxy/commands/ask.h"
#include "proxy/commands/objects.h"

enum { ATTEMPTS = 3 };

int command_diff_check(const struct options *options, struct errbuf *eb)
{
	if (options->n_words)
		return errf(eb, -EINVAL, "diff: unexpected argument \"%s\"",
			    options->words[0]);
	return 0;
}

static int compare_family(struct objects *o, enum family family,
			  const struct interfaces *interfaces, struct strbuf *out)
{
	struct errbuf eb = { "" };
	struct nlsock *nl = nlsock_open(&eb);
	const struct dataplane_options options = {
		.family = family,
		.model = o->feed->model,
		.nl = nl,
		.clock = o->app->clock,
		.interfaces = interfaces,
	};
	struct dataplane *dp = nl ? dataplane_new(&options) : NULL;
	int err = -ENOMEM;

	/* What the kernel cannot do is left out. */
	if (nl && config_has_fast_path(o->feed->options.config))
		model_allow_fast_path(o->feed->model,
				      !kernel_probe_fast_path(nl, family, &eb));
	if (nl && o->feed->options.config->vipmap.service_counters)
		model_allow_counters(o->feed->model,
				     !kernel_probe_counters(nl, family, &eb));
	if (dp)
		err = dataplane_diff(dp, out, &eb);
	dataplane_free(dp);
	nlsock_close(nl);
	if (!err)
		return EXIT_DONE;
	return command_fails(EXIT_FAILED, "diff: %s",
			     err == -EPERM ? "not permitted: CAP_NET_ADMIN is needed"
					   : eb.text);
}

static int compare_sides(struct objects *o, struct strbuf *out)
{
	struct interfaces *interfaces =
		interfaces_now(o->feed->options.config, o->app->log);
	int status = EXIT_DONE;
	unsigned int f;

	strbuf_reset(out);
	for (f = 0; !status && f < N_FAMILIES; f++)
		if (o->app->family[f])
			status = compare_family(o, (enum family)f, interfaces, out);
	interfaces_close(interfaces);
	return status;
}

static int changes_now(struct app *app, int64_t *changes)
{
	struct json *json;
	int status = ask_json(app, "/v1/changes", &json);

	if (!status)
		*changes = number_at(json, "changes");
	json_free(json);
	return status;
}

/* Until nothing has changed between the first question and the last. */
static int compare_running(struct app *app, struct strbuf *out)
{
	int64_t before = 0, after = -1;
	struct objects o = { 0 };
	int status = EXIT_DONE, i;

	for (i = 0; !status && i < ATTEMPTS && before != after; i++) {
		status = changes_now(app, &before);
		if (!status)
			status = objects_copy(&o, app);
		if (!status)
			status = compare_sides(&o, out);
		objects_close(&o);
		if (!status)
			status = changes_now(app, &after);
	}
	return status;
}

/* Up to the value of an element. */
static size_t key_length(const char *line)
{
	const char *comment = strstr(line, " comment \""),
		   *value = strstr(line, " : ");
	const char *end = comment && (!value || comment < value) ? comment : value;

	return end ? (size_t)(end - line) : strlen(line);
}

/* What is about one key stands together, what goes before what comes. */
static int line_order(const void *va, const void *vb)
{
	const char *a = *(const char *const *)va, *b = *(const char *const *)vb;
	const size_t n = key_length(a), m = key_length(b);
	int order = strncmp(a + 1, b + 1, (n < m ? n : m) - 1);

	if (!order && n != m)
		return n < m ? -1 : 1;
	return order ? order : *a == *b ? strcmp(a, b) : *a == '-' ? -1 : 1;
}

static void sort_lines(struct strbuf *out)
{
	struct strbuf sorted = STRBUF_INIT;
	char *rest = out->text, *line;
	const char **lines;
	size_t n = 0, i;

	for (i = 0; i < out->length; i++)
		n += out->text[i] == '\n';
	lines = calloc(n + 1, sizeof(*lines));
	if (!lines || !n)
		goto out;
	for (n = 0; (line = strsep(&rest, "\n")) && *line;)
		lines[n++] = line;
	qsort(lines, n, sizeof(*lines), line_order);
	for (i = 0; i < n; i++)
		strbuf_addf(&sorted, "%s\n", lines[i]);
	strbuf_free(out);
	*out = sorted;
out:
	free(lines);
}

int command_diff(struct app *app, struct options *options)
{
	struct strbuf out = STRBUF_INIT;
	struct objects o = { 0 };
	bool differs;
	int status;

	if (objects_are_named(options)) {
		status = objects_open(&o, app, options);
		if (!status)
			status = compare_sides(&o, &out);
		objects_close(&o);
	} else {
		status = compare_running(app, &out);
	}
	differs = out.length > 0;
	if (status) {
		strbuf_free(&out);
		return status;
	}
	sort_lines(&out);
	status = put_out(&out);
	return status ? status : differs ? EXIT_FAILED : EXIT_DONE;
}
