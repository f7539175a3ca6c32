/*
 * The only module that decides when. A request runs at once if the pacer
 * allows, else by a timer; a failure is retried with backoff, at the latest
 * after syncPeriod (RUN-4). Whatever puts the kernel's state in doubt makes the
 * dataplane forget it, and the next sync reads it back.
 */
#include "proxy/sync/sync.h"

#include "nft/addresses.h"
#include "nft/monitor.h"
#include "nft/readback.h"
#include "proxy/sync/fastpath.h"
#include "proxy/sync/pacer.h"
#include "proxy/sync/retry.h"
#include "proxy/sync/sweeper.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	CHECK_PERIOD_S = 3600, /* RUN-5 */
	COLLECT_AFTER_S = 11, /* a little more than objects must have been idle */
	AGAIN_US = 100 * 1000, /* what memory ran out over */
	/* Large affinity maps are looked through for half of the time. */
	PURGE_STEP_US = 5000,
};

struct family_sync {
	struct sync *sync;
	enum family family;
	struct dataplane *dataplane; /* NULL: this family is not handled */
	struct stale *udp, *tcp;
	struct sweeper *udp_sweeper, *tcp_sweeper;
	struct event *purge_timer;
	struct retry retry;
	int64_t synced_us, took_us; /* as in struct sync_status */
	uint64_t syncs;
	unsigned int failed;
	char reason[256];
};

struct sync {
	struct sync_options options;
	struct nlsock *nl;
	struct monitor *monitor;
	struct addresses *addresses;
	struct fastpath *fastpath;
	enum fast_path_state fast_path_state;
	enum counters_state counters_state;
	struct family_sync families[N_FAMILIES];
	struct pacer pacer;
	bool addresses_are_old; /* in the model */
	struct event *addresses_timer;
	struct event *timer, *check_timer, *collect_timer, *monitor_event,
		*addresses_event;
	bool started, running;
};

static int64_t now_us(const struct sync *s)
{
	return clock_monotonic_us(s->options.clock);
}

/* A time that was taken is below 0 if the clock went back. */
static void timer_set(struct event *timer, int64_t delay_us)
{
	const int64_t us = delay_us > 0 ? delay_us : 0;
	const struct timeval tv = { us / 1000000, us % 1000000 };

	if (timer)
		event_add(timer, &tv);
}

/* Syncing */

/* RUN-4 */
static int64_t longest_us(const struct sync *s)
{
	return s->options.config->sync_period_ms * 1000;
}

static void family_failed(struct family_sync *f, int err, int64_t took_us,
			  const struct errbuf *eb)
{
	const bool told = f->failed && strncmp(f->reason, eb->text,
					       sizeof(f->reason) - 1) == 0;
	struct sync *s = f->sync;
	const uint64_t changes = model_changes(s->options.model, f->family);
	const char *name = family_name(f->family);

	assert(err < 0);
	f->failed++;
	snprintf(f->reason, sizeof(f->reason), "%s", eb->text);
	if (err != -EPERM) {
		retry_failed(&f->retry, now_us(s), took_us, changes, longest_us(s));
		log_limited(s->options.log, LOG_ERR, name,
			    "sync of %s failed, rules stay as they are: %s",
			    name, *eb->text ? eb->text : strerror(-err));
		return;
	}
	/* While another process has the table: told once, tried quietly. */
	retry_locked_out(&f->retry, now_us(s), changes);
	if (!told)
		log_error(s->options.log,
			  "sync of %s failed, rules stay as they are until it ends: %s",
			  name, eb->text);
}

static void family_succeeded(struct family_sync *f, int64_t end_us, int64_t took_us)
{
	if (f->failed)
		log_info(f->sync->options.log, "sync of %s works again",
			 family_name(f->family));
	f->synced_us = end_us;
	f->took_us = took_us;
	f->failed = 0;
	f->retry.earliest_us = 0;
	model_synced(f->sync->options.model, f->family);
}

static void on_dataplane_bulk(void *ctx, bool begin)
{
	struct sync *s = ctx;

	if (s->options.bulk)
		s->options.bulk(s->options.bulk_ctx, begin);
	if (!s->monitor)
		return;
	if ((begin ? monitor_pause(s->monitor) : monitor_resume(s->monitor)) < 0)
		log_limited(s->options.log, LOG_WARNING, "monitor",
			    "nftables notifications cannot be switched");
}

static unsigned int endpoints_of(const struct dispatch *dispatch)
{
	return dispatch ? dispatch->cluster.count > dispatch->local.count
				  ? dispatch->cluster.count
				  : dispatch->local.count
			: 0;
}

static void on_port_changed(void *ctx, enum family family,
			    const struct service_port_state *port,
			    const struct dispatch *before,
			    const struct dispatch *after)
{
	const struct sync *s = ctx;
	unsigned int was = endpoints_of(before), is = endpoints_of(after);
	const char *event = !before ? "add" : !after ? "delete" : "update";
	const char *where = family_name(family),
		   *protocol = protocol_name(port->protocol);

	if (s->options.changed)
		s->options.changed(s->options.ctx, family, port, before, after);
	if (!log_wants(s->options.log, 1))
		return;

	if (!before)
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): added, %u virtual IPs, endpoints: %u",
			  port->label, protocol, where, after->n_vips, is);
	else if (!after)
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): removed", port->label, protocol, where);
	else if (was != is)
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): changed, endpoints: %u, were %u",
			  port->label, protocol, where, is, was);
	else
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): changed, endpoints: %u as before",
			  port->label, protocol, where, is);
}

static int monitor_begin(struct sync *s, struct errbuf *eb);

/* A table that was made without an owner is open to others after all: it has to be watched. */
static void watch_table(struct family_sync *f)
{
	struct errbuf eb;

	assert(f->dataplane);
	if (dataplane_is_owner(f->dataplane) || f->sync->monitor ||
	    !f->sync->options.base)
		return;
	if (monitor_begin(f->sync, &eb))
		log_error(f->sync->options.log, "%s", eb.text);
	dataplane_forget(f->dataplane);
}

static int family_sync(struct family_sync *f)
{
	struct sync *s = f->sync;
	struct sync_report report = { 0 };
	struct errbuf eb = { "" };
	int64_t start = now_us(s), took;
	int err;

	assert(f->dataplane && s->running);
	err = dataplane_sync(f->dataplane, start, &report, &eb);
	took = now_us(s) - start;
	f->syncs++;
	if (!err) {
		watch_table(f);
		fastpath_synced(s->fastpath, dataplane_ruleset(f->dataplane),
				report.full);
	}
	if (err) {
		fastpath_forget(s->fastpath, f->family);
		family_failed(f, err, took, &eb);
	} else {
		family_succeeded(f, start + took, took);
		f->retry.at_us = dataplane_retry_us(f->dataplane);
		if (dataplane_is_known(f->dataplane))
			f->retry.failures = 0;
		else /* clients of former endpoints are left, or somebody else wrote too */
			retry_later(&f->retry, now_us(s), longest_us(s));
		log_event(s->options.log, 2, "sync", NULL,
			  "synced %s: %s, %u service ports compiled, %u elements added, "
			  "%u deleted, %zu bytes; timing: compile %lld us, commit %lld us, all "
			  "%lld us",
			  family_name(f->family),
			  report.full ? "full" : "partial", report.services,
			  report.elements_added, report.elements_deleted,
			  report.bytes, (long long)report.compile_us,
			  (long long)report.commit_us, (long long)took);
	}
	if (s->options.synced)
		s->options.synced(s->options.ctx, f->family, err, &report, took);
	return err;
}

static bool family_wants(const struct family_sync *f)
{
	return f->dataplane && (model_is_dirty(f->sync->options.model, f->family) ||
				!dataplane_is_known(f->dataplane) ||
				f->retry.at_us <= now_us(f->sync));
}

/* When the family is to be synced. Each backs off on its own. */
static int64_t family_due_us(const struct family_sync *f)
{
	if (!family_wants(f))
		return f->dataplane ? f->retry.at_us : INT64_MAX;
	return retry_due_us(&f->retry,
			    model_changes(f->sync->options.model, f->family));
}

static int64_t next_due_us(const struct sync *s)
{
	int64_t due_us = INT64_MAX, one;
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		one = family_due_us(&s->families[f]);
		due_us = one < due_us ? one : due_us;
	}
	return due_us;
}

static bool is_settled(const struct sync *s)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (family_wants(&s->families[f]))
			return false;
	return true;
}

/* Those that are due; with @all those that back off, too. */
static int sync_families(struct sync *s, bool all)
{
	int64_t cost = clock_cpu_us(s->options.clock);
	unsigned int f;
	int err = 0, err_one;

	assert(!s->running);
	s->running = true;
	for (f = 0; f < N_FAMILIES; f++) {
		if (all ? !family_wants(&s->families[f])
			: family_due_us(&s->families[f]) > now_us(s))
			continue;
		err_one = family_sync(&s->families[f]);
		err = err ? err : err_one;
	}
	s->running = false;
	pacer_spent(&s->pacer, now_us(s), clock_cpu_us(s->options.clock) - cost);
	if (!err && s->options.settled && is_settled(s))
		s->options.settled(s->options.ctx);
	return err;
}

static bool is_ready(const struct sync *s)
{
	return s->started && model_is_complete(s->options.model);
}

/* Retries, of failures and of what was set aside. */
static void schedule_retry(struct sync *s)
{
	int64_t at = INT64_MAX, one, wait;
	unsigned int f;

	assert(s->timer);
	for (f = 0; f < N_FAMILIES; f++) {
		if (!s->families[f].dataplane)
			continue;
		/* what is merely in doubt waits for its pause, too */
		one = s->families[f].retry.earliest_us
			      ? family_due_us(&s->families[f])
			      : s->families[f].retry.at_us;
		at = one < at ? one : at;
	}
	wait = at - now_us(s);
	if (at != INT64_MAX)
		timer_set(s->timer, wait > 0 ? wait : 0);
}

static void on_purge_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct family_sync *f = ctx;
	const bool known = dataplane_is_known(f->dataplane);
	int64_t began_us = now_us(f->sync);

	assert(f->dataplane && f->purge_timer);
	(void)fd;
	(void)what;
	if (dataplane_purge(f->dataplane, PURGE_STEP_US))
		timer_set(f->purge_timer, now_us(f->sync) - began_us);
	/* What others put in doubt has a sync under way, which is not to be put off. */
	if (!known || dataplane_is_known(f->dataplane))
		return;
	retry_later(&f->retry, now_us(f->sync), longest_us(f->sync));
	schedule_retry(f->sync);
}

static void purge_request(struct family_sync *f)
{
	if (f->dataplane && dataplane_is_purging(f->dataplane) &&
	    !event_pending(f->purge_timer, EV_TIMEOUT, NULL))
		timer_set(f->purge_timer, PURGE_STEP_US);
}

static void run_due(struct sync *s)
{
	unsigned int f;

	assert(s->timer && !s->running);
	event_del(s->timer);
	sync_families(s, false);
	schedule_retry(s);
	if (!event_pending(s->collect_timer, EV_TIMEOUT, NULL))
		timer_set(s->collect_timer, (int64_t)COLLECT_AFTER_S * 1000000);
	for (f = 0; f < N_FAMILIES; f++) {
		purge_request(&s->families[f]);
		if (!s->families[f].dataplane)
			continue;
		sweeper_request(s->families[f].udp_sweeper);
		sweeper_request(s->families[f].tcp_sweeper);
	}
}

void sync_request(struct sync *s)
{
	bool wanted = false;
	int64_t wait;
	unsigned int f;

	if (!is_ready(s) || s->running)
		return;
	for (f = 0; f < N_FAMILIES; f++) {
		if (!family_wants(&s->families[f]))
			continue;
		wanted = true;
		if (s->options.queued)
			s->options.queued(s->options.ctx, (enum family)f);
	}
	if (!wanted)
		return;
	if (next_due_us(s) > now_us(s)) {
		schedule_retry(s);
		return;
	}
	wait = pacer_delay_us(&s->pacer, now_us(s));
	if (wait > 0)
		timer_set(s->timer, wait);
	else
		run_due(s);
}

static void on_sync_timer(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	if (is_ready(ctx))
		run_due(ctx);
}

int sync_once(struct sync *s)
{
	unsigned int f;
	int err = sync_families(s, true);

	for (f = 0; f < N_FAMILIES; f++) {
		if (!s->families[f].dataplane)
			continue;
		dataplane_purge(s->families[f].dataplane, INT64_MAX);
		sweeper_run(s->families[f].udp_sweeper);
		sweeper_run(s->families[f].tcp_sweeper);
	}
	return err;
}

const struct dataplane_gauges *sync_gauges(const struct sync *s, enum family family)
{
	const struct dataplane *dp = s->families[family].dataplane;

	assert(family < N_FAMILIES);
	return dp ? dataplane_gauges(dp) : NULL;
}

bool sync_status(const struct sync *s, enum family family, struct sync_status *status)
{
	const struct family_sync *f = &s->families[family];

	assert(family < N_FAMILIES);
	if (!f->dataplane)
		return false;
	*status = (struct sync_status){
		.owner = dataplane_is_owner(f->dataplane),
		.known = dataplane_is_known(f->dataplane),
		.synced_us = f->synced_us,
		.took_us = f->took_us,
		.syncs = f->syncs,
		.failed = f->failed,
		.reason = f->failed ? f->reason : "",
	};
	return true;
}

enum fast_path_state sync_fast_path(const struct sync *s)
{
	return s->fast_path_state;
}

enum counters_state sync_counters(const struct sync *s)
{
	return s->counters_state;
}

int sync_count(const struct sync *s, enum family family, struct element *keys,
	       size_t count, struct errbuf *eb)
{
	struct dataplane *dp = s->families[family].dataplane;

	assert(family < N_FAMILIES);
	return dp ? dataplane_count(dp, keys, count, eb)
		  : errf(eb, -ENODATA, "%s is not handled", family_name(family));
}

void sync_check(struct sync *s)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (s->families[f].dataplane)
			dataplane_forget(s->families[f].dataplane);
	sync_request(s);
}

static void on_check_timer(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	sync_check(ctx);
}

static void on_collect_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;
	int64_t again = INT64_MAX, one, start = now_us(s);
	struct errbuf eb;
	unsigned int f;
	int n;

	(void)fd;
	(void)what;
	for (f = 0; f < N_FAMILIES; f++) {
		if (!s->families[f].dataplane)
			continue;
		n = dataplane_collect(s->families[f].dataplane, start, &one, &eb);
		if (n < 0) {
			log_limited(s->options.log, LOG_WARNING, "collect",
				    "removing unused chains (%s): %s",
				    family_name((enum family)f), eb.text);
			if (s->options.cleanup_failed)
				s->options.cleanup_failed(s->options.ctx,
							  (enum family)f);
		}
		again = one < again ? one : again;
	}
	if (again != INT64_MAX)
		timer_set(s->collect_timer, again - start + 1000000);
	sync_request(s);
}

/* The kernel's notifications */

static void on_monitor_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;
	unsigned int changed = 0, f;
	struct errbuf eb;

	(void)fd;
	(void)what;
	if (monitor_read(s->monitor, &changed, &eb) < 0) {
		log_limited(s->options.log, LOG_WARNING, "monitor",
			    "nftables notifications: %s", eb.text);
		changed = (1u << N_FAMILIES) - 1;
	}
	for (f = 0; f < N_FAMILIES; f++) {
		if (!(changed & 1u << f) || !s->families[f].dataplane)
			continue;
		log_limited(s->options.log, LOG_WARNING, "foreign",
			    "table vipmap (%s) was changed by somebody else: checking it",
			    family_name((enum family)f));
		dataplane_forget(s->families[f].dataplane);
	}
	if (changed)
		sync_request(s);
}

/* What memory runs out over is done a little later. */
static void addresses_to_model(struct sync *s)
{
	const struct addr *list;
	unsigned int f, n;

	s->addresses_are_old = false;
	for (f = 0; f < N_FAMILIES; f++) {
		list = addresses_list(s->addresses, (enum family)f, &n);
		if (model_set_addresses(s->options.model, (enum family)f, list,
					n) == 0)
			continue;
		log_error(s->options.log, "addresses of this node: out of memory");
		s->addresses_are_old = true;
	}
	if (s->addresses_are_old)
		timer_set(s->addresses_timer, AGAIN_US);
}

static void on_addresses_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;

	(void)fd;
	(void)what;
	addresses_to_model(s);
	sync_request(s);
}

static void on_addresses_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;
	bool changed = false;
	struct errbuf eb;

	(void)fd;
	(void)what;
	if (addresses_read(s->addresses, &changed, &eb) < 0)
		log_limited(s->options.log, LOG_WARNING, "addresses",
			    "addresses of this node: %s", eb.text);
	if (!changed)
		return;
	addresses_to_model(s);
	sync_request(s);
	if (s->options.addresses_changed)
		s->options.addresses_changed(s->options.ctx);
}

/* Beginning and end */

static int addresses_follow(struct sync *s, struct errbuf *eb)
{
	bool changed;
	int err;

	s->addresses = addresses_open(eb);
	if (!s->addresses)
		return -EIO;
	err = addresses_read(s->addresses, &changed, eb);
	if (err < 0)
		return err;
	addresses_to_model(s);
	return 0;
}

/*
 * BEY-6. What the rules of other tables do not see any more is said whenever it begins to be so.
 */
static void fast_path_begin(struct sync *s)
{
	const bool was_on = s->fast_path_state == FAST_PATH_ON;
	struct errbuf eb = { "" };
	unsigned int f;
	int err = 0;

	if (!config_has_fast_path(s->options.config)) {
		s->fast_path_state = FAST_PATH_OFF;
		model_allow_fast_path(s->options.model, true);
		return;
	}
	for (f = 0; !err && f < N_FAMILIES; f++)
		if (s->options.family[f])
			err = kernel_probe_fast_path(s->nl, (enum family)f, &eb);
	model_allow_fast_path(s->options.model, !err);
	s->fast_path_state = err ? FAST_PATH_LACKING : FAST_PATH_ON;
	if (err)
		log_warning(s->options.log,
			    "fastPath.interfaces: %s; established connections take the ordinary "
			    "way, and all else works",
			    eb.text);
	else if (!was_on)
		log_warning(s->options.log,
			    "fastPath.interfaces: packets of established connections to Services "
			    "pass by the forward chains of all tables (network policies, "
			    "counters) between the interfaces named");
}

static void on_connections_ended(void *ctx, enum family family,
				 unsigned long count, int64_t took_us)
{
	const struct sync *s = ctx;

	(void)took_us;
	if (s->options.closed)
		s->options.closed(s->options.ctx, family, count);
}

static int sweepers_begin(struct family_sync *f)
{
	const struct sync_options *o = &f->sync->options;
	struct sweeper_options options = {
		.base = o->base,
		.clock = o->clock,
		.log = o->log,
		.family = f->family,
		.stale = f->udp,
		.udp = true,
		.swept = o->swept,
		.ctx = o->ctx,
	};

	f->udp_sweeper = sweeper_new(&options);
	options.stale = f->tcp;
	options.udp = false;
	options.swept = on_connections_ended;
	options.ctx = f->sync;
	f->tcp_sweeper = sweeper_new(&options);
	return f->udp_sweeper && f->tcp_sweeper ? 0 : -ENOMEM;
}

/* BEY-5 */
static void counters_begin(struct sync *s)
{
	struct errbuf eb = { "" };
	unsigned int f;
	int err = 0;

	if (!s->options.config->vipmap.service_counters) {
		s->counters_state = COUNTERS_OFF;
		model_allow_counters(s->options.model, true);
		return;
	}
	for (f = 0; !err && f < N_FAMILIES; f++)
		if (s->options.family[f])
			err = kernel_probe_counters(s->nl, (enum family)f, &eb);
	model_allow_counters(s->options.model, !err);
	s->counters_state = err ? COUNTERS_LACKING : COUNTERS_ON;
	if (err)
		log_warning(s->options.log,
			    "serviceCounters: %s; connections are not counted, and all else works",
			    eb.text);
}

static int family_begin(struct sync *s, enum family family, struct errbuf *eb)
{
	struct family_sync *f = &s->families[family];
	struct dataplane_options options = {
		.family = family,
		.model = s->options.model,
		.nl = s->nl,
		.clock = s->options.clock,
		.purge_later =
			!s->options.nl, /* a kernel that is a stand-in answers at once */
		.compiled = s->options.compiled,
		.ctx = s->options.ctx,
		.bulk = on_dataplane_bulk,
		.changed = on_port_changed,
		.bulk_ctx = s,
	};
	struct ruleset ruleset;
	int err;

	retry_init(&f->retry);
	if (!s->options.family[family]) {
		model_ignore_family(s->options.model, family);
		return 0;
	}
	model_ruleset(s->options.model, family, &ruleset);
	err = kernel_probe(s->nl, &ruleset, &options.owner, eb);
	if (err)
		return err;
	options.owner &= !s->options.no_owner;
	options.stale = f->udp = stale_new(s->options.model, family, IPPROTO_UDP);
	options.closing = f->tcp =
		stale_new(s->options.model, family, IPPROTO_TCP);
	f->dataplane = f->udp && f->tcp ? dataplane_new(&options) : NULL;
	if (!f->dataplane || sweepers_begin(f))
		return errf(eb, -ENOMEM, "out of memory");
	return 0;
}

static int monitor_begin(struct sync *s, struct errbuf *eb)
{
	assert(!s->monitor && s->options.base);
	s->monitor = monitor_open(nlsock_port_id(s->nl), eb);
	if (!s->monitor)
		return -EIO;
	s->monitor_event = event_new(s->options.base, monitor_fd(s->monitor),
				     EV_READ | EV_PERSIST, on_monitor_readable, s);
	if (!s->monitor_event || event_add(s->monitor_event, NULL))
		return errf(eb, -ENOMEM, "event loop: out of memory");
	return 0;
}

static int events_begin(struct sync *s, struct errbuf *eb)
{
	struct event_base *base = s->options.base;
	unsigned int f;

	if (!base)
		return 0;
	s->timer = evtimer_new(base, on_sync_timer, s);
	s->addresses_timer = evtimer_new(base, on_addresses_timer, s);
	s->check_timer = event_new(base, -1, EV_PERSIST, on_check_timer, s);
	s->collect_timer = evtimer_new(base, on_collect_timer, s);
	s->addresses_event =
		event_new(base, addresses_fd(s->addresses),
			  EV_READ | EV_PERSIST, on_addresses_readable, s);
	if (!s->timer || !s->addresses_timer || !s->check_timer ||
	    !s->collect_timer || !s->addresses_event)
		return errf(eb, -ENOMEM, "event loop: out of memory");
	for (f = 0; f < N_FAMILIES; f++) {
		struct family_sync *one = &s->families[f];

		one->purge_timer = evtimer_new(base, on_purge_timer, one);
		if (!one->purge_timer)
			return errf(eb, -ENOMEM, "event loop: out of memory");
	}
	event_add(s->addresses_event, NULL);
	if (s->addresses_are_old)
		timer_set(s->addresses_timer, 0);
	timer_set(s->check_timer, (int64_t)CHECK_PERIOD_S * 1000000);
	/* Nobody else can change a table that is ours alone. */
	for (f = 0; f < N_FAMILIES; f++)
		if (s->families[f].dataplane &&
		    !dataplane_is_owner(s->families[f].dataplane))
			return monitor_begin(s, eb);
	return 0;
}

struct sync *sync_new(const struct sync_options *options, int *err,
		      struct errbuf *eb)
{
	struct sync *s = calloc(1, sizeof(*s));
	unsigned int f;

	assert(options->config && options->model && options->log);
	*err = -ENOMEM;
	if (!s) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	s->options = *options;
	if (!options->clock)
		s->options.clock = clock_system();
	s->nl = options->nl;
	pacer_init(&s->pacer, options->config->min_sync_period_ms * 1000,
		   now_us(s));
	for (f = 0; f < N_FAMILIES; f++) {
		s->families[f].sync = s;
		s->families[f].family = (enum family)f;
	}
	if (!s->nl) {
		s->nl = nlsock_open(eb);
		if (s->nl)
			nlsock_set_clock(s->nl, s->options.clock);
	}
	if (!s->nl)
		*err = -EIO;
	else
		*err = addresses_follow(s, eb);
	if (!*err &&
	    !(s->fastpath = fastpath_new(options->base, s->nl, options->log)))
		*err = errf(eb, -ENOMEM, "out of memory");
	if (!*err) {
		fast_path_begin(s);
		counters_begin(s);
	}
	for (f = 0; !*err && f < N_FAMILIES; f++)
		*err = family_begin(s, (enum family)f, eb);
	if (!*err)
		*err = events_begin(s, eb);
	if (*err) {
		sync_free(s);
		return NULL;
	}
	return s;
}

static void event_drop(struct event *event)
{
	if (event)
		event_free(event);
}

void sync_free(struct sync *s)
{
	unsigned int f;

	if (!s)
		return;
	for (f = 0; f < N_FAMILIES; f++) {
		sweeper_free(s->families[f].udp_sweeper);
		sweeper_free(s->families[f].tcp_sweeper);
		stale_free(s->families[f].udp);
		stale_free(s->families[f].tcp);
		event_drop(s->families[f].purge_timer);
		dataplane_free(s->families[f].dataplane);
	}
	event_drop(s->timer);
	event_drop(s->addresses_timer);
	event_drop(s->check_timer);
	event_drop(s->collect_timer);
	event_drop(s->monitor_event);
	event_drop(s->addresses_event);
	if (s->monitor)
		monitor_close(s->monitor);
	if (s->addresses)
		addresses_close(s->addresses);
	fastpath_free(s->fastpath);
	nlsock_close(s->nl);
	free(s);
}

void sync_start(struct sync *s)
{
	assert(!s->started);
	s->started = true;
	sync_request(s);
}

void sync_set_config(struct sync *s, const struct config *config)
{
	const bool closes = config_closes_connections(config) &&
			    !config_closes_connections(s->options.config);
	unsigned int f;

	assert(config);
	s->options.config = config;
	for (f = 0; closes && f < N_FAMILIES; f++) {
		if (!s->families[f].dataplane)
			continue;
		stale_all_changed(s->families[f].tcp);
		sweeper_request(s->families[f].tcp_sweeper);
	}
	fast_path_begin(s);
	counters_begin(s);
	pacer_set_min_period(&s->pacer, config->min_sync_period_ms * 1000);
}
