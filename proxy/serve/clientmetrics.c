/*
 * Hosts come from the configuration and statuses from a server, so there could be many. When the
 * room is used up, new combinations are counted together, under "other".
 */
#include "proxy/serve/clientmetrics.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"

enum {
	ANSWERS_MAX = 64,
	DURATIONS_MAX = 16,
	HOST_SIZE = 264,
	METHOD_SIZE = 8,
	CODE_SIZE = 12
};

/* client-go's */
static const double bounds[] = { 0.005, 0.025, 0.1, 0.25, 0.5, 1,
				 2,	4,     8,   15,	  30,  60 };
enum { N_BOUNDS = sizeof(bounds) / sizeof(bounds[0]) };

static const char other[] = "other";

struct answers {
	char method[METHOD_SIZE], host[HOST_SIZE], code[CODE_SIZE];
	unsigned long long count;
};

struct durations {
	char method[METHOD_SIZE], host[HOST_SIZE];
	unsigned long long counts[N_BOUNDS + 1]; /* not cumulative; the last is +Inf */
	double sum;
};

struct client_metrics {
	/* The last of each is the one for all others. */
	unsigned int n_answers, n_durations;
	struct answers answers[ANSWERS_MAX];
	struct durations durations[DURATIONS_MAX];
};

struct client_metrics *client_metrics_new(void)
{
	return calloc(1, sizeof(struct client_metrics));
}

void client_metrics_free(struct client_metrics *c)
{
	free(c);
}

static struct answers *find_answers(struct client_metrics *c, const char *method,
				    const char *host, const char *code)
{
	struct answers *a;

	for (a = c->answers; a < c->answers + c->n_answers; a++)
		if (!strcmp(a->code, code) && !strcmp(a->method, method) &&
		    !strcmp(a->host, host))
			return a;
	if (c->n_answers >= ANSWERS_MAX - 1) {
		a = &c->answers[ANSWERS_MAX - 1];
		method = host = code = other;
		c->n_answers = ANSWERS_MAX;
	} else {
		c->n_answers++;
	}
	snprintf(a->method, sizeof(a->method), "%s", method);
	snprintf(a->host, sizeof(a->host), "%s", host);
	snprintf(a->code, sizeof(a->code), "%s", code);
	return a;
}

static struct durations *find_durations(struct client_metrics *c,
					const char *method, const char *host)
{
	struct durations *d;

	for (d = c->durations; d < c->durations + c->n_durations; d++)
		if (!strcmp(d->method, method) && !strcmp(d->host, host))
			return d;
	if (c->n_durations >= DURATIONS_MAX - 1) {
		d = &c->durations[DURATIONS_MAX - 1];
		method = host = other;
		c->n_durations = DURATIONS_MAX;
	} else {
		c->n_durations++;
	}
	snprintf(d->method, sizeof(d->method), "%s", method);
	snprintf(d->host, sizeof(d->host), "%s", host);
	return d;
}

void client_metrics_answer(struct client_metrics *c, const char *method,
			   const char *host, int status, double seconds)
{
	struct durations *d;
	char cut[HOST_SIZE], code[CODE_SIZE] = "<error>";
	unsigned int i = 0;

	snprintf(cut, sizeof(cut), "%s", host); /* so that it is found again */
	if (status)
		snprintf(code, sizeof(code), "%d", status);
	find_answers(c, method, cut, code)->count++;
	d = find_durations(c, method, cut);
	while (i < N_BOUNDS && seconds > bounds[i])
		i++;
	d->counts[i]++;
	d->sum += seconds;
}

/* In a label's value these three have to be escaped. */
static void put_metrics_text(struct strbuf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			strbuf_addc(out, '\\');
		if (*text == '\n')
			strbuf_adds(out, "\\n");
		else
			strbuf_addc(out, *text);
	}
}

static void put_durations(struct strbuf *out, const struct durations *d)
{
	static const char name[] = "rest_client_request_duration_seconds";
	struct strbuf labels = STRBUF_INIT;
	unsigned long long total = 0;
	unsigned int i;

	strbuf_adds(&labels, "host=\"");
	put_metrics_text(&labels, d->host);
	strbuf_addf(&labels, "\",verb=\"%s\"", d->method);
	for (i = 0; !labels.err && i < N_BOUNDS; i++) {
		total += d->counts[i];
		strbuf_addf(out, "%s_bucket{%s,le=\"%g\"} %llu\n", name,
			    labels.text, bounds[i], total);
	}
	total += d->counts[N_BOUNDS];
	if (labels.err)
		out->err = labels.err;
	else
		strbuf_addf(out,
			    "%s_bucket{%s,le=\"+Inf\"} %llu\n%s_sum{%s} %.15g\n%s_count{%s} %llu\n",
			    name, labels.text, total, name, labels.text, d->sum,
			    name, labels.text, total);
	strbuf_free(&labels);
}

void client_metrics_format(const struct client_metrics *c, struct strbuf *out)
{
	unsigned int i;

	if (!c->n_answers)
		return;
	strbuf_adds(out, "# HELP rest_client_requests_total Requests to an API server.\n"
			 "# TYPE rest_client_requests_total counter\n");
	for (i = 0; i < c->n_answers; i++) {
		const struct answers *a = &c->answers[i];

		if (!a->count)
			continue;
		strbuf_addf(out, "rest_client_requests_total{code=\"%s\",host=\"",
			    a->code);
		put_metrics_text(out, a->host);
		strbuf_addf(out, "\",method=\"%s\"} %llu\n", a->method, a->count);
	}
	strbuf_adds(
		out,
		"# HELP rest_client_request_duration_seconds Time until an API server "
		"answered.\n# TYPE rest_client_request_duration_seconds histogram\n");
	for (i = 0; i < c->n_durations; i++)
		put_durations(out, &c->durations[i]);
}
