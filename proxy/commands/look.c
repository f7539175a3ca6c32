#include "proxy/commands/look.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

struct look {
	struct app *app;
	struct look_calls calls;
	enum family family; /* that is listed now */
	struct listing *listing;
	struct event *readable, *next;
	bool is_on;
};

static void end_listing(struct look *l)
{
	if (l->readable)
		event_free(l->readable);
	l->readable = NULL;
	listing_close(l->listing);
	l->listing = NULL;
}

static void finish_look(struct look *l, int err, const struct errbuf *eb)
{
	end_listing(l);
	l->is_on = false;
	l->calls.done(l->calls.ctx, err, eb);
}

static bool on_listed_entry(void *ctx, const struct conntrack_entry *entry)
{
	const struct look *l = ctx;

	l->calls.entry(l->calls.ctx, l->family, entry);
	return true;
}

static void begin_family(struct look *l);

static void next_family(struct look *l)
{
	const struct errbuf nothing = { "" };

	end_listing(l);
	l->family++;
	while (l->family < N_FAMILIES && !l->app->family[l->family])
		l->family++;
	if (l->family < N_FAMILIES)
		begin_family(l);
	else
		finish_look(l, 0, &nothing);
}

/* What was left out in a table that changes all the time comes with the next look. */
static void on_listing_readable(evutil_socket_t fd, short what, void *ctx)
{
	struct errbuf eb = { "" };
	struct look *l = ctx;
	int result = listing_step(l->listing, on_listed_entry, l, &eb);

	(void)fd;
	(void)what;
	if (result == 0 || result == -EINTR)
		next_family(l);
	else if (result < 0)
		finish_look(l, result, &eb);
}

static void begin_family(struct look *l)
{
	struct errbuf eb = { "" };
	int err;

	l->listing = listing_open(l->family, &err, &eb);
	if (!l->listing) {
		finish_look(l, err, &eb);
		return;
	}
	l->readable = event_new(l->app->base, listing_fd(l->listing),
				EV_READ | EV_PERSIST, on_listing_readable, l);
	if (!l->readable || event_add(l->readable, NULL)) {
		errf(&eb, -ENOMEM, "out of memory");
		finish_look(l, -ENOMEM, &eb);
	}
}

static void on_begin(evutil_socket_t fd, short what, void *ctx)
{
	struct look *l = ctx;

	(void)fd;
	(void)what;
	l->family = FAMILY_IPV4;
	begin_family(l);
}

struct look *look_new(struct app *app, const struct look_calls *calls)
{
	struct look *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->app = app;
	l->calls = *calls;
	l->next = evtimer_new(app->base, on_begin, l);
	if (l->next)
		return l;
	free(l);
	return NULL;
}

void look_free(struct look *l)
{
	if (!l)
		return;
	look_cancel(l);
	event_free(l->next);
	free(l);
}

/* From the loop, so that no caller hears of the end before it has begun to wait for it. */
void look_begin(struct look *l)
{
	const struct timeval now = { 0, 0 };

	look_cancel(l);
	l->is_on = true;
	event_add(l->next, &now);
}

void look_cancel(struct look *l)
{
	event_del(l->next);
	end_listing(l);
	l->is_on = false;
}

bool look_is_on(const struct look *l)
{
	return l->is_on;
}
