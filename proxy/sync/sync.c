/*
 * The only module that decides when. A request runs at once if the pacer allows, else by a timer; a
 * failure is retried with backoff, at the latest after syncPeriod (RUN-4). Whatever puts the
 * kernel's state in doubt makes the dataplane forget it, and the next sync reads it back.
 */
#include "proxy/sync/sync.h"

#include "nft/addresses.h"
#include "nft/monitor.h"
#include "nft/readback.h"
#include "proxy/sync/fastpath.h"
#include "proxy/sync/pacer.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	CHECK_PERIOD_S = 3600, /* RUN-5 */
	COLLECT_AFTER_S = 11,  /* a little more than objects must have been idle */
	/* Sweeps of a family begin this far apart, and take a tenth of a core at most. */
	SWEEP_PERIOD_US = 100 * 1000,
	SWEEP_REST = 9,
	SWEEP_STEP_ENTRIES = 500, /* 1 ms, 3 ms if all are deleted */
	/*
	 * Connections are ended a little later: an endpoint that moves to another slice may be in
	 * none for a moment. Steps take a fifth of a core at most.
	 */
	CLOSE_DELAY_US = 200 * 1000,
	CLOSE_STEP_ENTRIES = 250, /* two datagrams, 2 ms if all are deleted */
	CLOSE_REST = 4,
	CLOSE_PAUSE_US = 500,	     /* and a little more */
	RETRY_FIRST_US = 100 * 1000, /* doubled up to syncPeriod */
	/* A failed sync has read the whole table, so changes that follow it closely wait. */
	CHANGE_LONGEST_US = 1000 * 1000,
	CHANGE_REST = 9,
	OWNED_LONGEST_US = 5 * 1000 * 1000, /* to see that another process let go of the table */
	/* Large affinity maps are looked through for half of the time. */
	PURGE_STEP_US = 5000,
};

/* Conntrack sweeps of one protocol */
struct sweeper {
	struct family_sync *family;
	struct stale *stale;
	struct event *event, *timer;
	int64_t began_us, next_us;
	int64_t spent_us; /* processor time of the sweep under way */
};

struct family_sync {
	struct sync *sync;
	enum family family;
	struct dataplane *dataplane; /* NULL: this family is not handled */
	struct sweeper udp, tcp;
	struct event *purge_timer;
	unsigned int failures; /* in a row */
	int64_t retry_us;      /* after a failure; INT64_MAX: none */
	/* What failed is tried again before that only for a change, and not before... */
	int64_t earliest_us;
	uint64_t failed_changes;    /* model->changes of what failed */
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
	struct family_sync families[N_FAMILIES];
	struct pacer pacer;
	bool addresses_are_old; /* in the model */
	struct event *addresses_timer;
	struct event *timer, *check_timer, *collect_timer, *monitor_event, *addresses_event;
	bool started, running;
};

static int64_t clock_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static void timer_set(struct event *timer, int64_t delay_us)
{
	const struct timeval tv = { delay_us / 1000000, delay_us % 1000000 };

	if (timer)
		event_add(timer, &tv);
}

/* Conntrack sweeps */

static bool is_udp(const struct sweeper *w)
{
	return w == &w->family->udp;
}

static void sweep_tell(struct sweeper *w, int64_t took_us)
{
	const struct family_sync *f = w->family;
	const struct sync_options *o = &f->sync->options;
	const unsigned long deleted = stale_deleted(w->stale);

	if (is_udp(w) && o->swept)
		o->swept(o->ctx, f->family, deleted, took_us);
	if (!is_udp(w) && o->closed)
		o->closed(o->ctx, f->family, deleted);
}

static void sweep_finished(struct sweeper *w, int err, const struct errbuf *eb)
{
	const int64_t end = now_us(), took = end - w->began_us;
	const struct family_sync *f = w->family;
	const char *what = is_udp(w) ? "conntrack cleanup" : "ending connections";
	int64_t rest = is_udp(w) ? w->spent_us * SWEEP_REST : 0;

	w->next_us = end + (rest > SWEEP_PERIOD_US ? rest : SWEEP_PERIOD_US);
	if (w->event)
		event_del(w->event);
	if (err < 0)
		log_limited(f->sync->options.log, LOG_WARNING, "conntrack", "%s (%s): %s", what,
			    family_name(f->family), eb->text);
	else
		log_debug(f->sync->options.log, 2, "%s (%s): %lu entries deleted", what,
			  family_name(f->family), stale_deleted(w->stale));
	sweep_tell(w, took);
}

static int sweep_begin(struct sweeper *w)
{
	struct errbuf eb;
	int err;

	w->began_us = now_us();
	w->spent_us = -clock_us(CLOCK_THREAD_CPUTIME_ID);
	err = stale_begin(w->stale, &eb);
	w->spent_us += clock_us(CLOCK_THREAD_CPUTIME_ID);
	if (err < 0)
		sweep_finished(w, err, &eb);
	return err;
}

static int sweep_step_timed(struct sweeper *w, unsigned int max_entries, struct errbuf *eb)
{
	int64_t start = clock_us(CLOCK_THREAD_CPUTIME_ID);
	int more = stale_step(w->stale, max_entries, eb);

	w->spent_us += clock_us(CLOCK_THREAD_CPUTIME_ID) - start;
	return more;
}

/* UDP: as fast as the loop allows, and a long rest afterwards. */

static void udp_request(struct sweeper *w);

static void on_udp_sweep(evutil_socket_t fd, short what, void *ctx)
{
	struct sweeper *w = ctx;
	struct errbuf eb;
	int more = sweep_step_timed(w, SWEEP_STEP_ENTRIES, &eb);

	(void)fd;
	(void)what;
	if (more > 0)
		return;
	sweep_finished(w, more, &eb);
	udp_request(w);
}

static void on_udp_timer(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	udp_request(ctx);
}

/* Begins a sweep if one is due, or sees to it that it begins later. */
static void udp_request(struct sweeper *w)
{
	struct event_base *base = w->family->sync->options.base;
	int64_t wait = w->next_us - now_us();

	if (!w->stale || !stale_is_pending(w->stale) || stale_is_sweeping(w->stale))
		return;
	if (wait > 0) {
		timer_set(w->timer, wait);
		return;
	}
	if (sweep_begin(w) < 0)
		return;
	if (!w->event)
		w->event =
			event_new(base, stale_fd(w->stale), EV_READ | EV_PERSIST, on_udp_sweep, w);
	if (!w->event)
		return;
	/* The dump is readable until it ends: whatever else there is comes first. */
	event_priority_set(w->event, event_base_get_npriorities(base) - 1);
	event_add(w->event, NULL);
}

/* TCP (BEY-1): a little at a time. The kernel always has more of the dump to give. */

static void tcp_request(struct sweeper *w);

static void on_tcp_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct sweeper *w = ctx;
	struct errbuf eb;
	int64_t before;
	int more;

	(void)fd;
	(void)what;
	if (!stale_is_sweeping(w->stale) && sweep_begin(w) < 0)
		return;
	before = w->spent_us;
	more = sweep_step_timed(w, CLOSE_STEP_ENTRIES, &eb);
	if (more > 0) {
		timer_set(w->timer, (w->spent_us - before) * CLOSE_REST + CLOSE_PAUSE_US);
		return;
	}
	sweep_finished(w, more, &eb);
	tcp_request(w);
}

static void tcp_request(struct sweeper *w)
{
	int64_t wait = w->next_us - now_us();

	if (w->stale && stale_is_pending(w->stale) && !event_pending(w->timer, EV_TIMEOUT, NULL))
		timer_set(w->timer, wait > CLOSE_DELAY_US ? wait : CLOSE_DELAY_US);
}

static void sweep_whole(struct sweeper *w)
{
	struct pollfd pfd;
	struct errbuf eb;
	int more = 1;

	if (!w->stale || !stale_is_pending(w->stale) || sweep_begin(w) < 0)
		return;
	pfd = (struct pollfd){ .fd = stale_fd(w->stale), .events = POLLIN };
	while (more > 0 && poll(&pfd, 1, 5000) > 0)
		more = stale_step(w->stale, SWEEP_STEP_ENTRIES, &eb);
	sweep_finished(w, more, &eb);
}

/* Syncing */

/* Each time in a row twice as long, at most @longest_us. Returns the pause. */
static int64_t retry_within(struct family_sync *f, int64_t longest_us)
{
	int64_t wait = RETRY_FIRST_US;
	unsigned int i;

	for (i = 0; i < f->failures && wait < longest_us; i++)
		wait *= 2;
	if (wait > longest_us)
		wait = longest_us;
	f->failures++;
	f->retry_us = now_us() + wait;
	return wait;
}

/* RUN-4 */
static int64_t retry_later(struct family_sync *f)
{
	return retry_within(f, f->sync->options.config->sync_period_ms * 1000);
}

/* While another process has the table, no change of ours can help: told once, tried quietly. */
static void family_locked_out(struct family_sync *f, bool told, const struct errbuf *eb)
{
	retry_within(f, OWNED_LONGEST_US);
	f->earliest_us = f->retry_us;
	if (!told)
		log_error(f->sync->options.log,
			  "sync of %s failed, rules stay as they are until it ends: %s",
			  family_name(f->family), eb->text);
}

static void family_failed(struct family_sync *f, int err, int64_t took_us, const struct errbuf *eb)
{
	const bool told = f->failed && strncmp(f->reason, eb->text, sizeof(f->reason) - 1) == 0;
	struct sync *s = f->sync;
	int64_t wait;

	f->failed_changes = model_changes(s->options.model, f->family);
	f->failed++;
	snprintf(f->reason, sizeof(f->reason), "%s", eb->text);
	if (err == -EPERM) {
		family_locked_out(f, told, eb);
		return;
	}
	wait = retry_later(f);
	if (wait > CHANGE_LONGEST_US)
		wait = CHANGE_LONGEST_US;
	if (wait < took_us * CHANGE_REST)
		wait = took_us * CHANGE_REST;
	f->earliest_us = now_us() + wait;
	log_limited(s->options.log, LOG_ERR, family_name(f->family),
		    "sync of %s failed, rules stay as they are: %s", family_name(f->family),
		    *eb->text ? eb->text : strerror(-err));
}

static void family_succeeded(struct family_sync *f, int64_t end_us, int64_t took_us)
{
	if (f->failed)
		log_info(f->sync->options.log, "sync of %s works again", family_name(f->family));
	f->synced_us = end_us;
	f->took_us = took_us;
	f->failed = 0;
	f->earliest_us = 0;
	model_synced(f->sync->options.model, f->family);
}

static void on_bulk(void *ctx, bool begin)
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

static unsigned int endpoints_of(const struct program *program)
{
	return program ? program->cluster.count > program->local.count ? program->cluster.count
								       : program->local.count
		       : 0;
}

static void on_changed(void *ctx, enum family family, const struct service_port_state *port,
		       const struct program *before, const struct program *after)
{
	const struct sync *s = ctx;
	unsigned int was = endpoints_of(before), is = endpoints_of(after);
	const char *event = !before ? "add" : !after ? "delete" : "update";
	const char *where = family_name(family), *protocol = protocol_name(port->protocol);

	if (!log_wants(s->options.log, 1))
		return;

	if (!before)
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): added, %u virtual IPs, endpoints: %u", port->label,
			  protocol, where, after->n_vips, is);
	else if (!after)
		log_event(s->options.log, 1, event, port->label, "%s (%s, %s): removed",
			  port->label, protocol, where);
	else if (was != is)
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): changed, endpoints: %u, were %u", port->label, protocol,
			  where, is, was);
	else
		log_event(s->options.log, 1, event, port->label,
			  "%s (%s, %s): changed, endpoints: %u as before", port->label, protocol,
			  where, is);
}

static int monitor_begin(struct sync *s, struct errbuf *eb);

/* A table that was made without an owner is open to others after all: it has to be watched. */
static void watch_table(struct family_sync *f)
{
	struct errbuf eb;

	if (dataplane_is_owner(f->dataplane) || f->sync->monitor || !f->sync->options.base)
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
	int64_t start = now_us(), took;
	int err;

	err = dataplane_sync(f->dataplane, start, &report, &eb);
	took = now_us() - start;
	f->syncs++;
	if (!err) {
		watch_table(f);
		fastpath_synced(s->fastpath, dataplane_ruleset(f->dataplane), report.full);
	}
	if (err) {
		fastpath_forget(s->fastpath, f->family);
		family_failed(f, err, took, &eb);
	} else {
		family_succeeded(f, start + took, took);
		f->retry_us = dataplane_retry_us(f->dataplane);
		if (dataplane_is_known(f->dataplane))
			f->failures = 0;
		else /* clients of former endpoints are left, or somebody else wrote too */
			retry_later(f);
		log_event(s->options.log, 2, "sync", NULL,
			  "synced %s: %s, %u service ports compiled, %u elements added, "
			  "%u deleted, %zu bytes; timing: compile %lld us, commit %lld us, all "
			  "%lld us",
			  family_name(f->family), report.full ? "full" : "partial", report.services,
			  report.elements_added, report.elements_deleted, report.bytes,
			  (long long)report.compile_us, (long long)report.commit_us,
			  (long long)took);
	}
	if (s->options.synced)
		s->options.synced(s->options.ctx, f->family, err, &report, took);
	return err;
}

static bool family_wants(const struct family_sync *f)
{
	return f->dataplane && (model_is_dirty(f->sync->options.model, f->family) ||
				!dataplane_is_known(f->dataplane) || f->retry_us <= now_us());
}

/* When the family is to be synced. Each backs off on its own. */
static int64_t family_due_us(const struct family_sync *f)
{
	if (!family_wants(f))
		return f->dataplane ? f->retry_us : INT64_MAX;
	if (!f->earliest_us)
		return 0;
	/* after a failure */
	if (f->failed_changes == model_changes(f->sync->options.model, f->family) ||
	    f->retry_us < f->earliest_us)
		return f->retry_us;
	return f->earliest_us;
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
	int64_t cost = clock_us(CLOCK_THREAD_CPUTIME_ID);
	unsigned int f;
	int err = 0, err_one;

	s->running = true;
	for (f = 0; f < N_FAMILIES; f++) {
		if (all ? !family_wants(&s->families[f])
			: family_due_us(&s->families[f]) > now_us())
			continue;
		err_one = family_sync(&s->families[f]);
		err = err ? err : err_one;
	}
	s->running = false;
	pacer_spent(&s->pacer, now_us(), clock_us(CLOCK_THREAD_CPUTIME_ID) - cost);
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

	for (f = 0; f < N_FAMILIES; f++) {
		if (!s->families[f].dataplane)
			continue;
		/* what is merely in doubt waits for its pause, too */
		one = s->families[f].earliest_us ? family_due_us(&s->families[f])
						 : s->families[f].retry_us;
		at = one < at ? one : at;
	}
	wait = at - now_us();
	if (at != INT64_MAX)
		timer_set(s->timer, wait > 0 ? wait : 0);
}

static void on_purge_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct family_sync *f = ctx;
	const bool known = dataplane_is_known(f->dataplane);
	int64_t began_us = now_us();

	(void)fd;
	(void)what;
	if (dataplane_purge(f->dataplane, PURGE_STEP_US))
		timer_set(f->purge_timer, now_us() - began_us);
	/* What others put in doubt has a sync under way, which is not to be put off. */
	if (!known || dataplane_is_known(f->dataplane))
		return;
	retry_later(f);
	schedule_retry(f->sync);
}

static void purge_request(struct family_sync *f)
{
	if (f->dataplane && dataplane_is_purging(f->dataplane) &&
	    !event_pending(f->purge_timer, EV_TIMEOUT, NULL))
		timer_set(f->purge_timer, PURGE_STEP_US);
}

static void run(struct sync *s)
{
	unsigned int f;

	event_del(s->timer);
	sync_families(s, false);
	schedule_retry(s);
	if (!event_pending(s->collect_timer, EV_TIMEOUT, NULL))
		timer_set(s->collect_timer, (int64_t)COLLECT_AFTER_S * 1000000);
	for (f = 0; f < N_FAMILIES; f++) {
		purge_request(&s->families[f]);
		udp_request(&s->families[f].udp);
		tcp_request(&s->families[f].tcp);
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
	if (next_due_us(s) > now_us()) {
		schedule_retry(s);
		return;
	}
	wait = pacer_delay_us(&s->pacer, now_us());
	if (wait > 0)
		timer_set(s->timer, wait);
	else
		run(s);
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	if (is_ready(ctx))
		run(ctx);
}

int sync_once(struct sync *s)
{
	unsigned int f;
	int err = sync_families(s, true);

	for (f = 0; f < N_FAMILIES; f++) {
		if (s->families[f].dataplane)
			dataplane_purge(s->families[f].dataplane, INT64_MAX);
		sweep_whole(&s->families[f].udp);
		sweep_whole(&s->families[f].tcp);
	}
	return err;
}

const struct dataplane_gauges *sync_gauges(const struct sync *s, enum family family)
{
	const struct dataplane *dp = s->families[family].dataplane;

	return dp ? dataplane_gauges(dp) : NULL;
}

bool sync_status(const struct sync *s, enum family family, struct sync_status *status)
{
	const struct family_sync *f = &s->families[family];

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
	int64_t again = INT64_MAX, one, start = now_us();
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
				    "removing unused chains (%s): %s", family_name((enum family)f),
				    eb.text);
			if (s->options.cleanup_failed)
				s->options.cleanup_failed(s->options.ctx, (enum family)f);
		}
		again = one < again ? one : again;
	}
	if (again != INT64_MAX)
		timer_set(s->collect_timer, again - start + 1000000);
	sync_request(s);
}

/* The kernel's notifications */

static void on_monitor(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;
	unsigned int changed = 0, f;
	struct errbuf eb;

	(void)fd;
	(void)what;
	if (monitor_read(s->monitor, &changed, &eb) < 0) {
		log_limited(s->options.log, LOG_WARNING, "monitor", "nftables notifications: %s",
			    eb.text);
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
		if (model_set_addresses(s->options.model, (enum family)f, list, n) == 0)
			continue;
		log_error(s->options.log, "addresses of this node: out of memory");
		s->addresses_are_old = true;
	}
	if (s->addresses_are_old)
		timer_set(s->addresses_timer, RETRY_FIRST_US);
}

static void on_addresses_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;

	(void)fd;
	(void)what;
	addresses_to_model(s);
	sync_request(s);
}

static void on_addresses(evutil_socket_t fd, short what, void *ctx)
{
	struct sync *s = ctx;
	bool changed = false;
	struct errbuf eb;

	(void)fd;
	(void)what;
	if (addresses_read(s->addresses, &changed, &eb) < 0)
		log_limited(s->options.log, LOG_WARNING, "addresses", "addresses of this node: %s",
			    eb.text);
	if (!changed)
		return;
	addresses_to_model(s);
	sync_request(s);
	if (s->options.addresses_changed)
		s->options.addresses_changed(s->options.ctx);
}

/* Beginning and end */

static int addresses_begin(struct sync *s, struct errbuf *eb)
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

static int family_begin(struct sync *s, enum family family, struct errbuf *eb)
{
	struct family_sync *f = &s->families[family];
	struct dataplane_options options = {
		.family = family,
		.model = s->options.model,
		.nl = s->nl,
		.purge_later = !s->options.nl, /* a kernel that is a stand-in answers at once */
		.compiled = s->options.compiled,
		.ctx = s->options.ctx,
		.bulk = on_bulk,
		.changed = on_changed,
		.bulk_ctx = s,
	};
	struct ruleset ruleset;
	int err;

	f->retry_us = INT64_MAX;
	if (!s->options.family[family]) {
		model_ignore_family(s->options.model, family);
		return 0;
	}
	model_ruleset(s->options.model, family, &ruleset);
	err = kernel_probe(s->nl, &ruleset, &options.owner, eb);
	if (err)
		return err;
	options.owner &= !s->options.no_owner;
	options.stale = f->udp.stale = stale_new(s->options.model, family, IPPROTO_UDP);
	options.closing = f->tcp.stale = stale_new(s->options.model, family, IPPROTO_TCP);
	f->dataplane = dataplane_new(&options);
	if (!f->udp.stale || !f->tcp.stale || !f->dataplane)
		return errf(eb, -ENOMEM, "out of memory");
	return 0;
}

static int monitor_begin(struct sync *s, struct errbuf *eb)
{
	s->monitor = monitor_open(nlsock_port_id(s->nl), eb);
	if (!s->monitor)
		return -EIO;
	s->monitor_event = event_new(s->options.base, monitor_fd(s->monitor), EV_READ | EV_PERSIST,
				     on_monitor, s);
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
	s->timer = evtimer_new(base, on_timer, s);
	s->addresses_timer = evtimer_new(base, on_addresses_timer, s);
	s->check_timer = event_new(base, -1, EV_PERSIST, on_check_timer, s);
	s->collect_timer = evtimer_new(base, on_collect_timer, s);
	s->addresses_event =
		event_new(base, addresses_fd(s->addresses), EV_READ | EV_PERSIST, on_addresses, s);
	if (!s->timer || !s->addresses_timer || !s->check_timer || !s->collect_timer ||
	    !s->addresses_event)
		return errf(eb, -ENOMEM, "event loop: out of memory");
	for (f = 0; f < N_FAMILIES; f++) {
		struct family_sync *one = &s->families[f];

		one->udp.timer = evtimer_new(base, on_udp_timer, &one->udp);
		one->tcp.timer = evtimer_new(base, on_tcp_timer, &one->tcp);
		one->purge_timer = evtimer_new(base, on_purge_timer, one);
		if (!one->udp.timer || !one->tcp.timer || !one->purge_timer)
			return errf(eb, -ENOMEM, "event loop: out of memory");
		event_priority_set(one->tcp.timer, event_base_get_npriorities(base) - 1);
	}
	event_add(s->addresses_event, NULL);
	if (s->addresses_are_old)
		timer_set(s->addresses_timer, 0);
	timer_set(s->check_timer, (int64_t)CHECK_PERIOD_S * 1000000);
	/* Nobody else can change a table that is ours alone. */
	for (f = 0; f < N_FAMILIES; f++)
		if (s->families[f].dataplane && !dataplane_is_owner(s->families[f].dataplane))
			return monitor_begin(s, eb);
	return 0;
}

struct sync *sync_new(const struct sync_options *options, int *err, struct errbuf *eb)
{
	struct sync *s = calloc(1, sizeof(*s));
	unsigned int f;

	*err = -ENOMEM;
	if (!s) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	s->options = *options;
	s->nl = options->nl;
	pacer_init(&s->pacer, options->config->min_sync_period_ms * 1000, now_us());
	for (f = 0; f < N_FAMILIES; f++) {
		s->families[f].sync = s;
		s->families[f].family = (enum family)f;
		s->families[f].udp.family = s->families[f].tcp.family = &s->families[f];
	}
	if (!s->nl && !(s->nl = nlsock_open(eb)))
		*err = -EIO;
	else
		*err = addresses_begin(s, eb);
	if (!*err && !(s->fastpath = fastpath_new(options->base, s->nl, options->log)))
		*err = errf(eb, -ENOMEM, "out of memory");
	if (!*err)
		fast_path_begin(s);
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

static void sweeper_end(struct sweeper *w)
{
	event_drop(w->event);
	event_drop(w->timer);
	stale_free(w->stale);
}

void sync_free(struct sync *s)
{
	unsigned int f;

	if (!s)
		return;
	for (f = 0; f < N_FAMILIES; f++) {
		sweeper_end(&s->families[f].udp);
		sweeper_end(&s->families[f].tcp);
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
	s->started = true;
	sync_request(s);
}

void sync_set_config(struct sync *s, const struct config *config)
{
	const bool closes =
		config_closes_connections(config) && !config_closes_connections(s->options.config);
	unsigned int f;

	s->options.config = config;
	for (f = 0; closes && f < N_FAMILIES; f++) {
		if (!s->families[f].tcp.stale)
			continue;
		stale_all_changed(s->families[f].tcp.stale);
		tcp_request(&s->families[f].tcp);
	}
	fast_path_begin(s);
	pacer_set_min_period(&s->pacer, config->min_sync_period_ms * 1000);
}
