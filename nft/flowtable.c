/*
 * Devices are named in messages of their own, so that a refusal tells which of
 * them it is about: one may be gone by the time that the kernel looks for it,
 * or be of a kind that has no ingress. The kernel looks at all messages of a
 * batch before it gives up, and the rest is sent again.
 *
 * Kernels before 6.16 forget a device that goes away, later ones wait for
 * another one of that name. So what is to be removed is only what the kernel's
 * own list has.
 */
#include "nft/flowtable.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "nft/encode.h"
#include "nft/request.h"

enum { TIMEOUT_MS = 10000, READ_ATTEMPTS = 5 };

static int device_order(const void *a, const void *b)
{
	return strncmp(a, b, INTERFACE_NAME_SIZE);
}

void devices_free(struct devices *d)
{
	free(d->names);
	*d = (struct devices){ NULL, 0 };
}

bool devices_have(const struct devices *d, const char *name)
{
	return d->count && bsearch(name, d->names, d->count,
				   INTERFACE_NAME_SIZE, device_order) != NULL;
}

static int devices_add(struct devices *d, const char *name, size_t length)
{
	void *names = reallocarray(d->names, d->count + 1, INTERFACE_NAME_SIZE);

	if (!names)
		return -ENOMEM;
	d->names = names;
	memset(d->names[d->count], 0, INTERFACE_NAME_SIZE);
	memcpy(d->names[d->count++], name, length);
	return 0;
}

int devices_choose(const struct ruleset *ruleset,
		   const struct interfaces *interfaces, struct devices *d)
{
	struct devices chosen = { NULL, 0 };
	const struct interface *list;
	unsigned int i, n;

	list = interfaces_list(interfaces, &n);
	for (i = 0; i < n && chosen.count < FLOWTABLE_DEVICES_MAX; i++) {
		if (!ruleset_is_fast(ruleset, list[i].name))
			continue;
		if (devices_add(&chosen, list[i].name, strlen(list[i].name))) {
			devices_free(&chosen);
			return -ENOMEM;
		}
	}
	*d = chosen;
	return 0;
}

/* Reading */

struct device_reader {
	enum family family;
	struct devices devices;
	bool found;
};

static int note_flowtable(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_FLOWTABLE_MAX + 1],
		*hook[NFTA_FLOWTABLE_HOOK_MAX + 1];
	const struct nlattr *attr;
	struct device_reader *r = data;
	const char *table, *name;
	size_t length;
	int err = 0;

	if (!message_is(nlh, NFT_MSG_NEWFLOWTABLE) ||
	    message_family(nlh) !=
		    (r->family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6))
		return 0;
	message_attrs(nlh, attrs, NFTA_FLOWTABLE_MAX + 1);
	table = attr_string(attrs[NFTA_FLOWTABLE_TABLE]);
	name = attr_string(attrs[NFTA_FLOWTABLE_NAME]);
	if (!table || strcmp(table, TABLE_NAME) || !name ||
	    strcmp(name, FLOWTABLE_NAME))
		return 0;
	r->found = true;
	nested_attrs(attrs[NFTA_FLOWTABLE_HOOK], hook, NFTA_FLOWTABLE_HOOK_MAX + 1);
	if (!hook[NFTA_FLOWTABLE_HOOK_DEVS])
		return 0;
	for_each_attr_in (attr, hook[NFTA_FLOWTABLE_HOOK_DEVS]) {
		length = strnlen(mnl_attr_get_payload(attr),
				 mnl_attr_get_payload_len(attr));
		if (mnl_attr_get_type(attr) != NFTA_DEVICE_NAME ||
		    length >= INTERFACE_NAME_SIZE)
			continue;
		err = devices_add(&r->devices, mnl_attr_get_payload(attr), length);
		if (err)
			break;
	}
	return err;
}

int flowtable_devices(struct nlsock *nl, enum family family, struct devices *d,
		      struct errbuf *eb)
{
	const struct request request = {
		.family = family,
		.type = NFT_MSG_GETFLOWTABLE,
		.dump = true,
		.table = TABLE_NAME,
	};
	struct device_reader r = { .family = family };
	int err = -EINTR, attempt;

	for (attempt = 0; err == -EINTR && attempt < READ_ATTEMPTS; attempt++) {
		devices_free(&r.devices);
		r.found = false;
		err = request_send(nl, &request, note_flowtable, &r, eb);
	}
	if (!err && !r.found)
		err = errf(eb, -ENOENT, "flowtable %s: there is none",
			   FLOWTABLE_NAME);
	if (err) {
		devices_free(&r.devices);
		return err;
	}
	if (r.devices.count)
		qsort(r.devices.names, r.devices.count, INTERFACE_NAME_SIZE,
		      device_order);
	*d = r.devices;
	return 0;
}

/* Writing */

struct device_sending {
	struct wire wire; /* BEGIN, a message for each change that is not refused, END */
	uint32_t first_seq, last_seq;
	struct device_change *changes;
	unsigned int count;
	unsigned int refused; /* in this attempt */
	int err;	      /* of the whole */
};

/* The change that message @seq was about: the messages are in order, those refused have none. */
static struct device_change *change_of(const struct device_sending *s, uint32_t seq)
{
	uint32_t at = s->first_seq;
	unsigned int i;

	for (i = 0; i < s->count; i++)
		if (!s->changes[i].err && ++at == seq)
			return &s->changes[i];
	return NULL;
}

struct refusals {
	struct device_sending *s;
	struct {
		uint32_t seq;
		int err;
	} list[FLOWTABLE_DEVICES_MAX];
	unsigned int count;
};

static int changes_on_reply(const struct nlmsghdr *nlh, void *data)
{
	struct refusals *r = data;
	int err;

	if (nlh->nlmsg_type != NLMSG_ERROR)
		return 0;
	err = message_error(nlh);
	if (!err)
		return 0;
	/* not a device's fault */
	if (!change_of(r->s, nlh->nlmsg_seq) || err == -EPERM ||
	    err == -ENOMEM || err == -EINTR) {
		r->s->err = err;
		return err;
	}
	if (r->count < FLOWTABLE_DEVICES_MAX) {
		r->list[r->count].seq = nlh->nlmsg_seq;
		r->list[r->count++].err = err;
	}
	return 0;
}

static void changes_build(struct device_sending *s, struct nlsock *nl,
			  enum family family)
{
	struct nlmsghdr *nlh = NULL;
	unsigned int i;
	size_t at = 0;

	s->wire.length = 0;
	s->first_seq = s->last_seq = nlsock_next_seq(nl);
	wire_put_marker(&s->wire, NFNL_MSG_BATCH_BEGIN, s->first_seq, NULL);
	for (i = 0; i < s->count; i++) {
		if (s->changes[i].err)
			continue;
		at = s->wire.length;
		encode_flowtable_device(&s->wire, family, s->changes[i].name,
					s->changes[i].remove);
		if (s->wire.err)
			return;
		nlh = message_at(&s->wire, at);
		nlh->nlmsg_seq = s->last_seq = nlsock_next_seq(nl);
	}
	if (s->last_seq == s->first_seq)
		return;
	message_at(&s->wire, at)->nlmsg_flags |= NLM_F_ACK;
	wire_put_marker(&s->wire, NFNL_MSG_BATCH_END, nlsock_next_seq(nl), NULL);
}

/* Returns 1 if something was refused, and nothing has happened; 0 or a negative errno. */
static int changes_send(struct device_sending *s, struct nlsock *nl,
			enum family family, struct refusals *refusals,
			struct errbuf *eb)
{
	struct device_change *change;
	struct iovec iov;
	unsigned int i;
	int err;

	changes_build(s, nl, family);
	if (s->wire.err)
		return errf(eb, s->wire.err, "out of memory");
	if (s->last_seq == s->first_seq)
		return 0;
	iov = (struct iovec){ s->wire.bytes, s->wire.length };
	refusals->count = 0;
	err = nlsock_exchange(nl, &iov, 1, s->last_seq, changes_on_reply,
			      refusals, TIMEOUT_MS, eb);
	if (s->err)
		return errf(eb, s->err, "flowtable %s: %s", FLOWTABLE_NAME,
			    strerror(-s->err));
	/* The last message's refusal is the exchange's own result, too. */
	if (!refusals->count)
		return err;
	/* from the last to the first: a change that is marked has no number any more */
	for (i = refusals->count; i-- > 0;) {
		change = change_of(s, refusals->list[i].seq);
		if (change) /* else it is refused twice */
			change->err = refusals->list[i].err;
	}
	return 1;
}

int flowtable_change(struct nlsock *nl, enum family family,
		     struct device_change *changes, unsigned int count,
		     struct errbuf *eb)
{
	struct device_sending s = { .changes = changes, .count = count };
	struct refusals *refusals = calloc(1, sizeof(*refusals));
	unsigned int i;
	int more = 1;

	if (!refusals)
		return errf(eb, -ENOMEM, "out of memory");
	refusals->s = &s;
	for (i = 0; i < count; i++)
		changes[i].err = 0;
	while (more > 0)
		more = changes_send(&s, nl, family, refusals, eb);
	wire_free(&s.wire);
	free(refusals);
	return more;
}
