#include "proxy/sync/sweeper.h"

#include <assert.h>
#include <event2/event.h>
#include <poll.h>
#include <stdlib.h>
#include <syslog.h>

enum {
	/* Sweeps of a family begin this far apart, and take a tenth of a core at most... */
	SWEEP_PERIOD_US = 100 * 1000,
	SWEEP_REST = 9,
	/* ... but who ceases to serve may do so a few times in a row: so much
	   may be saved up in quiet times. */
	SWEEP_CREDIT_US = 200 * 1000,
	SWEEP_STEP_ENTRIES = 500, /* 1 ms, 3 ms if all are deleted */
	/*
	 * Connections are ended a little later: an endpoint that moves to another slice may be in
	 * none for a moment. Steps take a fifth of a core at most.
	 */
	CLOSE_DELAY_US = 200 * 1000,
	CLOSE_STEP_ENTRIES = 250, /* two datagrams, 2 ms if all are deleted */
	CLOSE_REST = 4,
	CLOSE_PAUSE_US = 500, /* and a little more */
};

struct sweeper {
	struct sweeper_options options;
	struct event *event, *timer; /* the event is of UDP alone */
	int64_t began_us, next_us, next_urgent_us;
	bool urgent;	  /* the sweep under way is; see stale_begin() */
	int64_t spent_us; /* processor time of the sweep under way */
	int64_t credit_us,
		credited_us; /* for urgent ones, and when it was right */
};

/* A time that was taken is below 0 if the clock went back. */
static void set_timer(struct sweeper *w, int64_t delay_us)
{
	const int64_t us = delay_us > 0 ? delay_us : 0;
	const struct timeval tv = { us / 1000000, us % 1000000 };

	if (w->timer)
		event_add(w->timer, &tv);
}

static int64_t longer(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* When the next sweep of urgent ones may begin. */
static int64_t urgent_rest(struct sweeper *w, int64_t end_us)
{
	w->credit_us += (end_us - w->credited_us) / (1 + SWEEP_REST);
	w->credited_us = end_us;
	if (w->credit_us > SWEEP_CREDIT_US)
		w->credit_us = SWEEP_CREDIT_US;
	w->credit_us -= w->spent_us;
	return longer(SWEEP_PERIOD_US, -w->credit_us * (1 + SWEEP_REST));
}

/*
 * One that was urgent puts the others off, but not the other way round: who
 * ceases to serve mostly does so soon after another began to.
 */
static void rest_after(struct sweeper *w, int64_t end_us)
{
	const int64_t rest = longer(
		SWEEP_PERIOD_US, w->options.udp ? w->spent_us * SWEEP_REST : 0);

	if (w->urgent) {
		w->next_urgent_us = end_us + urgent_rest(w, end_us);
		w->next_us = longer(w->next_us, end_us) + rest;
	} else {
		w->next_us = end_us + rest;
	}
}

static void sweep_finished(struct sweeper *w, int err, const struct errbuf *eb)
{
	const struct sweeper_options *o = &w->options;
	const unsigned long deleted = stale_deleted(o->stale);
	const int64_t end = clock_monotonic_us(o->clock);
	const char *what = o->udp ? "conntrack cleanup" : "ending connections";

	rest_after(w, end);
	if (w->event)
		event_del(w->event);
	if (err < 0)
		log_limited(o->log, LOG_WARNING, "conntrack", "%s (%s): %s",
			    what, family_name(o->family), eb->text);
	else
		log_debug(o->log, 2, "%s (%s): %lu entries deleted", what,
			  family_name(o->family), deleted);
	if (o->swept)
		o->swept(o->ctx, o->family, deleted, end - w->began_us);
}

static int sweep_begin(struct sweeper *w, bool urgent)
{
	const struct clock *clock = w->options.clock;
	struct errbuf eb;
	int err;

	assert(!stale_is_sweeping(w->options.stale));
	w->urgent = urgent;
	w->began_us = clock_monotonic_us(clock);
	w->spent_us = -clock_cpu_us(clock);
	err = stale_begin(w->options.stale, urgent, &eb);
	w->spent_us += clock_cpu_us(clock);
	if (err < 0)
		sweep_finished(w, err, &eb);
	return err;
}

static int sweep_timed(struct sweeper *w, unsigned int max_entries,
		       struct errbuf *eb)
{
	int64_t start = clock_cpu_us(w->options.clock);
	int more = stale_step(w->options.stale, max_entries, eb);

	w->spent_us += clock_cpu_us(w->options.clock) - start;
	return more;
}

/* UDP: the dump is readable until it ends. */
static void on_udp_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct sweeper *w = ctx;
	struct errbuf eb;
	int more = sweep_timed(w, SWEEP_STEP_ENTRIES, &eb);

	(void)fd;
	(void)what;
	if (more > 0)
		return;
	sweep_finished(w, more, &eb);
	sweeper_request(w);
}

static void udp_request(struct sweeper *w)
{
	struct event_base *base = w->options.base;
	const bool urgent = stale_is_urgent(w->options.stale);
	int64_t wait = w->next_us - clock_monotonic_us(w->options.clock);

	assert(w->options.udp);
	if (stale_is_sweeping(w->options.stale))
		return;
	if (urgent)
		wait = w->next_urgent_us - clock_monotonic_us(w->options.clock);
	if (wait > 0) {
		set_timer(w, wait);
		return;
	}
	if (sweep_begin(w, urgent) < 0)
		return;
	if (!w->event)
		w->event = event_new(base, stale_fd(w->options.stale),
				     EV_READ | EV_PERSIST, on_udp_readable, w);
	if (!w->event)
		return;
	/* Whatever else there is comes first. */
	event_priority_set(w->event, event_base_get_npriorities(base) - 1);
	event_add(w->event, NULL);
}

/* TCP: the kernel always has more of the dump to give. */
static void tcp_step(struct sweeper *w)
{
	struct errbuf eb;
	int64_t before;
	int more;

	assert(!w->options.udp);
	if (!stale_is_sweeping(w->options.stale) && sweep_begin(w, false) < 0)
		return;
	before = w->spent_us;
	more = sweep_timed(w, CLOSE_STEP_ENTRIES, &eb);
	if (more > 0) {
		set_timer(w, (w->spent_us - before) * CLOSE_REST + CLOSE_PAUSE_US);
		return;
	}
	sweep_finished(w, more, &eb);
	sweeper_request(w);
}

static void tcp_request(struct sweeper *w)
{
	int64_t wait = w->next_us - clock_monotonic_us(w->options.clock);

	assert(!w->options.udp && w->timer);
	if (!event_pending(w->timer, EV_TIMEOUT, NULL))
		set_timer(w, wait > CLOSE_DELAY_US ? wait : CLOSE_DELAY_US);
}

void sweeper_request(struct sweeper *w)
{
	if (!stale_is_pending(w->options.stale))
		return;
	if (w->options.udp)
		udp_request(w);
	else
		tcp_request(w);
}

static void on_sweep_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct sweeper *w = ctx;

	(void)fd;
	(void)what;
	if (w->options.udp)
		sweeper_request(w);
	else
		tcp_step(w);
}

void sweeper_run(struct sweeper *w)
{
	struct pollfd pfd;
	struct errbuf eb;
	int more = 1;

	if (!stale_is_pending(w->options.stale) || sweep_begin(w, false) < 0)
		return;
	pfd = (struct pollfd){ .fd = stale_fd(w->options.stale), .events = POLLIN };
	while (more > 0 && poll(&pfd, 1, 5000) > 0)
		more = stale_step(w->options.stale, SWEEP_STEP_ENTRIES, &eb);
	sweep_finished(w, more, &eb);
}

struct sweeper *sweeper_new(const struct sweeper_options *options)
{
	struct sweeper *w = calloc(1, sizeof(*w));

	assert(options->stale && options->clock);
	if (!w)
		return NULL;
	w->options = *options;
	if (!options->base)
		return w;
	w->timer = evtimer_new(options->base, on_sweep_timer, w);
	if (!w->timer) {
		free(w);
		return NULL;
	}
	if (!options->udp)
		event_priority_set(w->timer,
				   event_base_get_npriorities(options->base) - 1);
	return w;
}

void sweeper_free(struct sweeper *w)
{
	if (!w)
		return;
	if (w->event)
		event_free(w->event);
	if (w->timer)
		event_free(w->timer);
	free(w);
}
