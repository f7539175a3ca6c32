/*
 * /v1/status: the one-glance answer. What is wrong is said with what it means
 * for traffic, and the list of Services with something wrong ends after a
 * screenful: the rest is in /v1/services.
 */
#include "proxy/serve/view.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "proxy/base/jsonout.h"
#include "proxy/serve/health.h"
#include "proxy/serve/metrics.h"

enum { ATTENTION_MAX = 50 };

static int64_t since_us(const struct view *v, int64_t monotonic_us)
{
	return clock_monotonic_us(v->clock) - monotonic_us;
}

static const char *counters_name(enum counters_state state)
{
	return state == COUNTERS_ON    ? "on"
	       : state == COUNTERS_OFF ? "off"
				       : "lacking";
}

static void put_program(const struct view *v, struct strbuf *out)
{
	struct utsname kernel;
	char time[CLOCK_TEXT_SIZE];

	assert(v->clock && v->revision);
	jsonout_text(out, "version", VIPMAP_VERSION);
	jsonout_text(out, "revision", v->revision);
	jsonout_integer(out, "pid", getpid());
	jsonout_text(out, "startTime", clock_format(v->started_us, time));
	jsonout_integer(out, "uptimeSeconds",
			(clock_realtime_us(v->clock) - v->started_us) / 1000000);
	jsonout_text(out, "nodeName", v->node_name);
	jsonout_text(out, "zone", model_zone(v->model));
	jsonout_text(out, "kernel", uname(&kernel) ? "" : kernel.release);
	jsonout_text(out, "serviceCounters", counters_name(sync_counters(v->sync)));
}

static bool source_is_well(const struct view *v)
{
	return !v->source.server || (v->source.connected && v->source.listed);
}

static void put_source(const struct view *v, struct strbuf *out)
{
	const struct view_source *s = &v->source;

	jsonout_object(out, "apiServer");
	if (!s->server) {
		jsonout_text(out, "state", "none");
		jsonout_object_end(out);
		return;
	}
	jsonout_text(out, "state", source_is_well(v) ? "ok" : "degraded");
	jsonout_text(out, "server", s->server);
	jsonout_bool(out, "listed", s->listed);
	if (s->contact_us)
		jsonout_integer(out, "lastContactSecondsAgo",
				since_us(v, s->contact_us) / 1000000);
	if (s->tries) {
		jsonout_integer(out, "unreachableSeconds",
				since_us(v, s->lost_us) / 1000000);
		jsonout_integer(out, "tries", s->tries);
	}
	jsonout_text(out, "reason", source_is_well(v) ? "" : s->reason);
	jsonout_object_end(out);
}

static bool family_is_well(const struct sync_status *s)
{
	return s->synced_us && !s->failed;
}

static void put_family_status(const struct view *v, enum family family,
			      const struct sync_status *s, struct strbuf *out)
{
	const struct dataplane_gauges *g = sync_gauges(v->sync, family);

	jsonout_object(out, NULL);
	jsonout_text(out, "family", family_name(family));
	jsonout_text(out, "state",
		     family_is_well(s) ? "ok"
		     : s->failed       ? "degraded"
				       : "waiting");
	jsonout_integer(out, "servicePorts", g->service_ports);
	jsonout_integer(out, "endpoints", g->endpoints);
	jsonout_integer(out, "setAside", g->set_aside);
	jsonout_integer(out, "conflicts", model_conflicts(v->model, family));
	if (s->synced_us) {
		jsonout_real(out, "lastSyncSecondsAgo",
			     (double)since_us(v, s->synced_us) / 1e6);
		jsonout_real(out, "lastSyncMilliseconds", (double)s->took_us / 1e3);
	}
	jsonout_bool(out, "tableOwned", s->owner);
	jsonout_integer(out, "failedSyncs", s->failed);
	jsonout_text(out, "reason", s->reason);
	jsonout_object_end(out);
}

static bool put_families(const struct view *v, struct strbuf *out)
{
	struct sync_status status;
	bool well = true;
	unsigned int f;

	jsonout_array(out, "families");
	for (f = 0; f < N_FAMILIES; f++) {
		if (!sync_status(v->sync, (enum family)f, &status))
			continue;
		put_family_status(v, (enum family)f, &status, out);
		well &= family_is_well(&status);
	}
	jsonout_array_end(out);
	return well;
}

/* @text stays empty if it can do its work. Else why not, for people. */
static void why_not_ready(const struct view *v, char *text, size_t size)
{
	const struct view_source *s = &v->source;
	struct strbuf why = STRBUF_INIT;
	struct sync_status status;
	unsigned int f;

	assert(text && size);
	/* HZ-7 is judged in one place; here stand more words for it. */
	text[0] = '\0';
	if (v->health && !health_is_ready(v->health, &why))
		snprintf(text, size, "%s", why.text ? why.text : "not ready");
	strbuf_free(&why);
	if (!*text)
		return;
	if (!model_is_complete(v->model)) {
		snprintf(text, size, "no list of %s yet%s%s%s%s",
			 model_has_list(v->model, KIND_SERVICE) ? "EndpointSlices"
								: "Services",
			 s->server ? "; " : "", s->server ? s->server : "",
			 s->reason && *s->reason ? ": " : "",
			 s->reason ? s->reason : "");
		return;
	}
	for (f = 0; f < N_FAMILIES; f++)
		if (sync_status(v->sync, (enum family)f, &status) &&
		    !status.synced_us)
			snprintf(text, size, "%s: %s", family_name((enum family)f),
				 status.failed
					 ? status.reason
					 : "rules are not in the kernel yet");
}

static void put_health(const struct view *v, struct strbuf *out)
{
	const bool healthy = health_is_healthy(v->health);
	char why[320];

	assert(v->health && v->log);
	why_not_ready(v, why, sizeof(why));
	jsonout_object(out, "health");
	jsonout_integer(out, "livez", healthy ? 200 : 503);
	jsonout_integer(out, "readyz", *why ? 503 : 200);
	jsonout_integer(out, "healthz",
			healthy && health_is_eligible(v->health) ? 200 : 503);
	jsonout_integer(out, "warningsLastHour", log_warnings(v->log, 3600));
	jsonout_object_end(out);
	jsonout_bool(out, "ready", !*why);
	jsonout_text(out, "notReady", why);
}

struct attention {
	const struct view *v;
	struct strbuf *out;
	unsigned int count;
};

static void attend_to_port(struct attention *a, enum family family,
			   const struct service_port_state *port)
{
	char text[512];
	enum port_state state =
		port ? view_port_state(a->v, family, port, text, sizeof(text))
		     : PORT_OK;

	if (state == PORT_OK)
		return;
	if (++a->count > ATTENTION_MAX)
		return;
	jsonout_object(a->out, NULL);
	jsonout_text(a->out, "service", port->label);
	jsonout_text(a->out, "protocol", protocol_name(port->protocol));
	jsonout_text(a->out, "family", family_name(family));
	jsonout_text(a->out, "state", port_state_name(state));
	jsonout_text(a->out, "message", text);
	jsonout_text(a->out, "consequence", port_state_consequence(state));
	jsonout_object_end(a->out);
}

static void attend_service(struct attention *a, const struct service_entry *s)
{
	struct sync_status status;
	unsigned int i, f;

	for (i = 0; i < s->object->n_ports; i++)
		for (f = 0; f < N_FAMILIES; f++)
			if (s->object->family[f].has_cluster_ip &&
			    sync_status(a->v->sync, (enum family)f, &status))
				attend_to_port(
					a, (enum family)f,
					view_find_port(s, (enum family)f,
						       &s->object->ports[i]));
}

static int put_attention(const struct view *v, struct strbuf *out)
{
	const struct service_entry *const *list;
	struct arena scratch = ARENA_INIT;
	struct attention a = { v, out, 0 };
	size_t i, n;
	int err = view_entries(v, "", &scratch, &list, &n);

	jsonout_array(out, "attention");
	for (i = 0; !err && i < n; i++)
		attend_service(&a, list[i]);
	jsonout_array_end(out);
	jsonout_integer(out, "attentionCount", a.count);
	arena_free(&scratch);
	return err;
}

int view_status(const struct view *v, const char *query, struct strbuf *out)
{
	bool well;

	(void)query;
	jsonout_object(out, NULL);
	put_program(v, out);
	put_source(v, out);
	well = put_families(v, out) && source_is_well(v);
	jsonout_text(out, "state", well ? "ok" : "degraded");
	put_health(v, out);
	if (put_attention(v, out))
		return 500;
	jsonout_object_end(out);
	return out->err ? 500 : 200;
}
