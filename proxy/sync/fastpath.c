/*
 * Each change of the interfaces has the kernel's list of devices read and
 * compared with what is wanted, so that nothing needs to be remembered but
 * which devices were complained about. Pods come with several notifications
 * each; a short pause lets them share one look.
 */
#include "proxy/sync/fastpath.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "nft/flowtable.h"
#include "nft/interfaces.h"

enum { PAUSE_US = 50 * 1000, RETRY_US = 1000 * 1000 };

struct fastpath {
	struct event_base *base;
	struct nlsock *nl;
	struct log *log;
	struct interfaces *interfaces; /* NULL: no family has a flowtable */
	struct event *changed, *timer;
	struct {
		bool there; /* in the kernel */
		struct ruleset ruleset;
		struct devices refused; /* and told so; as long as they are there */
	} families[N_FAMILIES];
	bool too_many; /* told */
};

struct fastpath *fastpath_new(struct event_base *base, struct nlsock *nl,
			      struct log *log)
{
	struct fastpath *fp = calloc(1, sizeof(*fp));

	if (!fp)
		return NULL;
	fp->base = base;
	fp->nl = nl;
	fp->log = log;
	return fp;
}

static void stop_following(struct fastpath *fp)
{
	if (fp->changed)
		event_free(fp->changed);
	if (fp->timer)
		event_free(fp->timer);
	interfaces_close(fp->interfaces);
	fp->changed = fp->timer = NULL;
	fp->interfaces = NULL;
}

void fastpath_free(struct fastpath *fp)
{
	unsigned int f;

	if (!fp)
		return;
	stop_following(fp);
	for (f = 0; f < N_FAMILIES; f++)
		devices_free(&fp->families[f].refused);
	free(fp);
}

static void look_later(struct fastpath *fp, int64_t pause_us)
{
	const struct timeval tv = { pause_us / 1000000, pause_us % 1000000 };

	if (fp->timer && !event_pending(fp->timer, EV_TIMEOUT, NULL))
		event_add(fp->timer, &tv);
}

/* What is to come and to go; those that were refused are not tried again while they are there. */
static unsigned int device_differences(const struct devices *wanted,
				       const struct devices *have,
				       const struct devices *refused,
				       struct device_change *changes)
{
	unsigned int i, n = 0;

	for (i = 0; i < have->count; i++)
		if (!devices_have(wanted, have->names[i]))
			changes[n++] =
				(struct device_change){ have->names[i], true, 0 };
	for (i = 0; i < wanted->count; i++)
		if (!devices_have(have, wanted->names[i]) &&
		    !devices_have(refused, wanted->names[i]))
			changes[n++] = (struct device_change){ wanted->names[i],
							       false, 0 };
	return n;
}

static bool refused_now(const char *name, const struct device_change *changes,
			unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		if (changes[i].err && changes[i].err != -ENOENT &&
		    !changes[i].remove && strcmp(changes[i].name, name) == 0)
			return true;
	return false;
}

/* Keeps of @wanted, which is sorted, those that the kernel has refused now or before. */
static void keep_refused(struct devices *wanted, struct devices *refused,
			 const struct device_change *changes, unsigned int n)
{
	unsigned int i, kept = 0;

	for (i = 0; i < wanted->count; i++) {
		if (!devices_have(refused, wanted->names[i]) &&
		    !refused_now(wanted->names[i], changes, n))
			continue;
		memmove(wanted->names[kept++], wanted->names[i],
			INTERFACE_NAME_SIZE);
	}
	wanted->count = kept;
	devices_free(refused);
	*refused = *wanted;
	*wanted = (struct devices){ NULL, 0 };
}

/* What has gone before the kernel looked for it is no news; another of its name may be there. */
static void tell_devices(struct fastpath *fp, enum family family,
			 const struct device_change *changes, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		if (!changes[i].err)
			log_debug(fp->log, 2, "fast path (%s): %s interface %s",
				  family_name(family),
				  changes[i].remove ? "without" : "with",
				  changes[i].name);
		else if (changes[i].err == -ENOENT)
			look_later(fp, RETRY_US);
		else if (!changes[i].remove)
			log_warning(fp->log,
				    "fastPath.interfaces: %s is left out (%s), its connections "
				    "take the ordinary way: %s",
				    changes[i].name, family_name(family),
				    strerror(-changes[i].err));
	}
}

/* Returns 0 or a negative errno with @eb. */
static int follow_interfaces(struct fastpath *fp, enum family family,
			     struct errbuf *eb)
{
	struct devices wanted = { NULL, 0 }, have = { NULL, 0 };
	struct device_change *changes = NULL;
	unsigned int n = 0;
	int err;

	err = devices_choose(&fp->families[family].ruleset, fp->interfaces,
			     &wanted);
	if (err)
		return errf(eb, err, "out of memory");
	if (wanted.count == FLOWTABLE_DEVICES_MAX && !fp->too_many)
		log_warning(fp->log,
			    "fastPath.interfaces: %d are taken, and no more",
			    FLOWTABLE_DEVICES_MAX);
	fp->too_many = wanted.count == FLOWTABLE_DEVICES_MAX;
	err = flowtable_devices(fp->nl, family, &have, eb);
	if (err)
		goto out;
	changes = calloc(wanted.count + have.count + 1, sizeof(*changes));
	if (!changes) {
		err = errf(eb, -ENOMEM, "out of memory");
		goto out;
	}
	n = device_differences(&wanted, &have, &fp->families[family].refused,
			       changes);
	if (n)
		err = flowtable_change(fp->nl, family, changes, n, eb);
	if (!err) {
		tell_devices(fp, family, changes, n);
		keep_refused(&wanted, &fp->families[family].refused, changes, n);
	}
out:
	free(changes);
	devices_free(&wanted);
	devices_free(&have);
	return err;
}

static void look_at_devices(struct fastpath *fp, enum family family)
{
	struct errbuf eb = { "" };
	int err = follow_interfaces(fp, family, &eb);

	if (!err)
		return;
	/* Without a table the next sync makes one, and looks again. */
	if (err != -ENOENT)
		log_limited(fp->log, LOG_WARNING, "fastpath",
			    "fast path (%s): interfaces that came or went are not followed yet: %s",
			    family_name(family), eb.text);
	look_later(fp, RETRY_US);
}

static void read_interfaces(struct fastpath *fp, bool *changed)
{
	struct errbuf eb;

	*changed = false;
	if (!interfaces_read(fp->interfaces, changed, &eb))
		return;
	log_limited(fp->log, LOG_WARNING, "fastpath", "fast path: %s", eb.text);
	look_later(fp, RETRY_US);
}

static void on_fastpath_timer(evutil_socket_t fd, short what, void *ctx)
{
	struct fastpath *fp = ctx;
	unsigned int f;
	bool changed;

	(void)fd;
	(void)what;
	read_interfaces(fp, &changed);
	for (f = 0; f < N_FAMILIES; f++)
		if (fp->families[f].there)
			look_at_devices(fp, (enum family)f);
	event_add(fp->changed, NULL);
}

static void on_interfaces(evutil_socket_t fd, short what, void *ctx)
{
	struct fastpath *fp = ctx;

	(void)fd;
	(void)what;
	event_del(fp->changed);
	look_later(fp, PAUSE_US);
}

static int begin_following(struct fastpath *fp, struct errbuf *eb)
{
	bool changed;

	if (fp->interfaces)
		return 0;
	fp->interfaces = interfaces_open(eb);
	if (!fp->interfaces)
		return -EIO;
	if (fp->base) {
		fp->timer = evtimer_new(fp->base, on_fastpath_timer, fp);
		fp->changed = event_new(fp->base, interfaces_fd(fp->interfaces),
					EV_READ | EV_PERSIST, on_interfaces, fp);
		if (!fp->timer || !fp->changed || event_add(fp->changed, NULL)) {
			stop_following(fp);
			return errf(eb, -ENOMEM, "out of memory");
		}
	}
	read_interfaces(fp, &changed);
	return 0;
}

void fastpath_forget(struct fastpath *fp, enum family family)
{
	fp->families[family].there = false;
}

void fastpath_synced(struct fastpath *fp, const struct ruleset *ruleset, bool check)
{
	const enum family family = ruleset->family;
	const bool was_there = fp->families[family].there;
	struct errbuf eb;

	fp->families[family].there = ruleset->parts & PART_FAST_PATH;
	fp->families[family].ruleset = *ruleset;
	if (!fp->families[family].there) {
		devices_free(&fp->families[family].refused);
		if (!fp->families[!family].there)
			stop_following(fp);
		return;
	}
	if (was_there && !check)
		return;
	if (begin_following(fp, &eb))
		log_limited(fp->log, LOG_ERR, "fastpath", "fast path: %s", eb.text);
	else
		look_at_devices(fp, family);
}
