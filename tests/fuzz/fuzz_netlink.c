/*
 * Whatever netlink brings: the first byte of an input chooses the reader, the
 * rest is messages as they come from the socket. A stand-in for the kernel
 * answers each question with the messages up to the next NLMSG_ERROR or
 * NLMSG_DONE; inputs recorded from a kernel thus replay whole conversations.
 */
#include "nft/conntrack.h"
#include "nft/flowtable.h"
#include "nft/kubeproxy.h"
#include "nft/lookup.h"
#include "nft/monitor.h"
#include "nft/affinity.h"
#include "nft/readback.h"

#include <netinet/in.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum reader {
	READ_TABLE,
	READ_NOTIFICATIONS,
	READ_FLOWS,
	READ_CLIENTS,
	READ_RIVALS,
	PROBE,
	LOOK_UP,
	READ_KUBEPROXY,
	N_READERS,
};

struct messages {
	const uint8_t *at; /* aligned to 4 bytes */
	size_t left;
};

static const struct nlmsghdr *next_message(struct messages *m)
{
	const struct nlmsghdr *nlh = (const void *)m->at;
	size_t length;

	if (m->left < sizeof(*nlh) || nlh->nlmsg_len < sizeof(*nlh) ||
	    nlh->nlmsg_len > m->left)
		return NULL;
	length = NLMSG_ALIGN(nlh->nlmsg_len);
	if (length > m->left)
		length = m->left;
	m->at += length;
	m->left -= length;
	return nlh;
}

static int message_error(const struct nlmsghdr *nlh)
{
	int err = 0;

	if (nlh->nlmsg_len >= sizeof(*nlh) + sizeof(err))
		memcpy(&err, nlh + 1, sizeof(err));
	return err > 0 ? 0 : err;
}

static int exchange(void *ctx, const struct iovec *iov, unsigned int n_iov,
		    uint32_t last_seq,
		    int (*reply)(const struct nlmsghdr *nlh, void *data),
		    void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	const struct nlmsghdr *nlh;
	int err;

	(void)iov;
	(void)n_iov;
	(void)last_seq;
	(void)timeout_ms;
	while ((nlh = next_message(ctx))) {
		err = nlh->nlmsg_type == NLMSG_DONE ? 0 : reply(nlh, data);
		if (err)
			return err;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return 0;
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return errf(eb, message_error(nlh), "refused");
	}
	return errf(eb, -ETIMEDOUT, "no answer");
}

static const struct nlsock_ops ops = { .exchange = exchange };

/* Reads all that it is told, so that a sanitizer sees strings without an end. */
static void check(const char *text)
{
	if (text && strlen(text) > UINT16_MAX)
		abort();
}

static void on_element(void *ctx, const struct element *e)
{
	(void)ctx;
	if (e->set >= N_SETS || e->range.length > 128)
		abort();
	check(e->chain);
	check(e->comment);
}

static void on_pick(void *ctx, const struct verdict *pick, uint64_t digest)
{
	(void)ctx;
	(void)digest;
	if (pick->kind != VERDICT_PICK || pick->count == 0 || pick->pick >= N_PICKS)
		abort();
}

static void on_affinity(void *ctx, const char *name)
{
	(void)ctx;
	check(name);
}

static void on_sticky(void *ctx, const char *name, uint64_t digest)
{
	(void)ctx;
	(void)digest;
	check(name);
}

static void on_ranges(void *ctx, const char *set, const struct prefix *list,
		      unsigned int count, uint64_t digest)
{
	unsigned int i;

	(void)ctx;
	(void)digest;
	check(set);
	for (i = 0; i < count; i++)
		if (list[i].length > 128)
			abort();
}

static bool keep(void *ctx, const struct addr *endpoint, uint16_t port)
{
	(void)ctx;
	return (endpoint->bytes[0] ^ port) & 1;
}

static void forget_clients(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	struct affinity_purge *p = affinity_purge_new(
		nl, NULL, family, "affinity/a/b/tcp/c", keep, NULL);

	while (p && affinity_purge_step(p, eb) > 0)
		;
	affinity_purge_free(p);
}

static void on_rival(void *ctx, const char *what)
{
	(void)ctx;
	check(what);
}

static void read_flows(struct messages *m, enum family family)
{
	static const uint8_t zeros[12];
	struct conntrack_entry entry;
	const struct nlmsghdr *nlh;
	struct flow flow;

	/* Addresses are compared as a whole: what an IPv4 one does not use must be zero. */
	while ((nlh = next_message(m))) {
		if (conntrack_entry_decode(nlh, family, &entry))
			check(conntrack_state_name(entry.tcp_state));
		if ((flow_decode(nlh, family, IPPROTO_UDP, &flow) == 0 ||
		     flow_decode(nlh, family, IPPROTO_TCP, &flow) == 0) &&
		    family == FAMILY_IPV4 &&
		    (memcmp(flow.client.bytes + 4, zeros, sizeof(zeros)) ||
		     memcmp(flow.reply_source.bytes + 4, zeros, sizeof(zeros))))
			abort();
	}
}

/* Each set is asked once, and a client's map. */
static void look_up(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	struct element key = { .protocol = IPPROTO_TCP, .port = 80 };
	struct lookup found;
	struct addr client = { 0 }, endpoint;
	int64_t expires_ms;
	uint16_t port;
	unsigned int set;

	(void)lookup_client(nl, family, "affinity/a/b/tcp/c", &client,
			    &endpoint, &port, &expires_ms, eb);
	for (set = 0; set < N_SETS; set++) {
		key.set = (enum set_id)set;
		if ((!set_has_verdict(key.set) && !set_has_endpoint(key.set)) ||
		    lookup_element(nl, family, &key, &found, eb))
			continue;
		check(found.chain);
		check(found.element.chain);
	}
}

static void read_kubeproxy(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	struct kubeproxy *k = kubeproxy_look(nl, eb);

	if (k && kubeproxy_counts(k, family)->chains && kubeproxy_is_empty(k))
		abort();
	if (k)
		(void)kubeproxy_remove(k, nl, eb);
	kubeproxy_free(k);
}

static void read_devices(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	struct devices devices;
	unsigned int i;

	if (flowtable_devices(nl, family, &devices, eb))
		return;
	for (i = 0; i < devices.count; i++)
		if (strlen(devices.names[i]) >= INTERFACE_NAME_SIZE ||
		    !devices_have(&devices, devices.names[i]))
			abort();
	devices_free(&devices);
}

static void change_devices(struct nlsock *nl, enum family family, struct errbuf *eb)
{
	struct device_change changes[] = { { "a", false, 0 },
					   { "b", true, 0 },
					   { "c", false, 0 } };

	(void)flowtable_change(nl, family, changes, 3, eb);
}

static void converse(enum reader reader, struct messages *m, enum family family)
{
	static const struct readback found = {
		.element = on_element,
		.pick = on_pick,
		.affinity = on_affinity,
		.sticky = on_sticky,
		.ranges = on_ranges,
	};
	const struct ruleset ruleset = { .family = family,
					 .masquerade_mark = 0x4000 };
	struct nlsock *nl = nlsock_new(&ops, m);
	struct errbuf eb = { "" };
	enum table_state state;
	bool owner;

	if (!nl)
		return;
	if (reader == READ_TABLE)
		readback_table(nl, &ruleset, &found, &state, &eb);
	else if (reader == READ_CLIENTS)
		forget_clients(nl, family, &eb);
	else if (reader == READ_RIVALS)
		readback_rivals(nl, on_rival, NULL, &eb);
	else if (reader == LOOK_UP)
		look_up(nl, family, &eb);
	else if (reader == READ_KUBEPROXY)
		read_kubeproxy(nl, family, &eb);
	else
		kernel_probe(nl, &ruleset, &owner, &eb);
	/* what is left, or nothing */
	if (reader == READ_TABLE)
		read_devices(nl, family, &eb);
	else if (reader == PROBE)
		change_devices(nl, family, &eb);
	nlsock_close(nl);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct messages m;
	enum reader reader;
	enum family family;
	uint8_t *copy;

	if (size < 1)
		return 0;
	reader = (data[0] >> 1) % N_READERS;
	family = data[0] & 1 ? FAMILY_IPV6 : FAMILY_IPV4;
	/* Exactly as long as the input, so that a byte more is one too many; and aligned. */
	copy = malloc(size > 1 ? size - 1 : 1);
	if (!copy)
		return 0;
	memcpy(copy, data + 1, size - 1);
	m = (struct messages){ .at = copy, .left = size - 1 };
	if (reader == READ_NOTIFICATIONS) {
		monitor_decode(copy, size - 1, 77);
		monitor_decode_rival(copy, size - 1, 77);
	}
	if (reader == READ_FLOWS)
		read_flows(&m, family);
	else if (reader != READ_NOTIFICATIONS)
		converse(reader, &m, family);
	free(copy);
	return 0;
}
