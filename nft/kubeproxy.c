/*
 * kube-proxy's chains are told by their names. kubelet has some that begin
 * alike, and so have network policy controllers, hence the list. A chain to
 * which a rule of somebody else's chain leads stays, with all that it leads to:
 * CNI plugins mark packets for kube-proxy's masquerading. Rules in base chains
 * are those that kube-proxy put there.
 */
#include "nft/kubeproxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nft/netlink.h"
#include "nft/readback.h"
#include "nft/request.h"
#include "nft/wire.h"
#include "proxy/base/array.h"

#define MARK_CHAIN "KUBE-MARK-MASQ"
#define MASQUERADE_CHAIN "KUBE-POSTROUTING"

enum { COMMIT_MS = 60000, LINK_S = 2, ROOM = 1024 };

struct chain_note {
	enum family family;
	const char *table; /* of iptables_tables */
	char *name;
	bool is_base, is_ours, stays;
};

struct jump {
	enum family family;
	const char *table;
	char *chain; /* the base chain */
	uint64_t handle;
	size_t to;
};

struct edge {
	size_t from, to; /* both are kube-proxy's */
};

struct kubeproxy {
	uint32_t generation;
	struct kubeproxy_counts counts[N_FAMILIES];
	struct chain_note *chains; /* sorted, after all are there */
	size_t n_chains, room_chains;
	struct jump *jumps;
	size_t n_jumps, room_jumps;
	struct edge *edges;
	size_t n_edges, room_edges;
	/* While rules are read */
	enum family family;
	const char *table;
	int err;
};

static const char *const iptables_tables[] = { "filter", "mangle", "nat" };
enum { N_TABLES = sizeof(iptables_tables) / sizeof(iptables_tables[0]) };

static const char *iptables_table(const char *name)
{
	size_t i;

	for (i = 0; i < N_TABLES; i++)
		if (strcmp(iptables_tables[i], name) == 0)
			return iptables_tables[i];
	return NULL;
}

bool kubeproxy_is_iptables(const char *table)
{
	return iptables_table(table) != NULL;
}

bool kubeproxy_is_chain(const char *name)
{
	static const char *const names[] = {
		"KUBE-SERVICES",
		"KUBE-EXTERNAL-SERVICES",
		"KUBE-NODEPORTS",
		"KUBE-NODE-PORT",
		"KUBE-FORWARD",
		"KUBE-PROXY-FIREWALL",
		"KUBE-PROXY-CANARY",
		"KUBE-LOAD-BALANCER",
		"KUBE-SOURCE-RANGES-FIREWALL",
		"KUBE-IPVS-FILTER",
		"KUBE-IPVS-OUT-FILTER",
		MARK_CHAIN,
		MASQUERADE_CHAIN,
	};
	static const char *const prefixes[] = { "KUBE-SVC-", "KUBE-SVL-",
						"KUBE-SEP-", "KUBE-EXT-",
						"KUBE-XLB-", "KUBE-FW-" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	for (i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(prefixes[i], name, strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static int find_family(const struct nlmsghdr *nlh, enum family *family)
{
	const uint8_t nfproto = message_family(nlh);

	if (nfproto != NFPROTO_IPV4 && nfproto != NFPROTO_IPV6)
		return -ENOENT;
	*family = nfproto == NFPROTO_IPV4 ? FAMILY_IPV4 : FAMILY_IPV6;
	return 0;
}

static int note_table(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_TABLE_MAX + 1];
	struct kubeproxy *k = data;
	enum family family;
	const char *name;

	if (!message_is(nlh, NFT_MSG_NEWTABLE) || find_family(nlh, &family))
		return 0;
	message_attrs(nlh, attrs, NFTA_TABLE_MAX + 1);
	name = attr_string(attrs[NFTA_TABLE_NAME]);
	if (name && strcmp(name, KUBEPROXY_TABLE) == 0)
		k->counts[family].table = true;
	return 0;
}

static int note_chain(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_CHAIN_MAX + 1];
	struct chain_note note = { 0 };
	struct kubeproxy *k = data;
	const char *table, *name;

	if (k->err || !message_is(nlh, NFT_MSG_NEWCHAIN) ||
	    find_family(nlh, &note.family))
		return 0;
	message_attrs(nlh, attrs, NFTA_CHAIN_MAX + 1);
	table = attr_string(attrs[NFTA_CHAIN_TABLE]);
	name = attr_string(attrs[NFTA_CHAIN_NAME]);
	note.table = table ? iptables_table(table) : NULL;
	if (!note.table || !name)
		return 0;
	note.is_base = attrs[NFTA_CHAIN_HOOK];
	note.is_ours = !note.is_base && kubeproxy_is_chain(name);
	note.name = strdup(name);
	k->err = note.name ? array_grow(k->chains, k->n_chains, k->room_chains)
			   : -ENOMEM;
	if (k->err)
		free(note.name);
	else
		k->chains[k->n_chains++] = note;
	return 0;
}

static int chain_order(const void *a, const void *b)
{
	const struct chain_note *x = a, *y = b;
	int order = (int)x->family - (int)y->family;

	if (!order)
		order = strcmp(x->table, y->table);
	return order ? order : strcmp(x->name, y->name);
}

static struct chain_note *chain_find(const struct kubeproxy *k, const char *name)
{
	char *copy = name ? strdup(name) : NULL;
	const struct chain_note key = { .family = k->family,
					.table = k->table,
					.name = copy };
	struct chain_note *found = NULL;

	if (copy && k->n_chains)
		found = bsearch(&key, k->chains, k->n_chains, sizeof(key),
				chain_order);
	free(copy);
	return found;
}

/* The chain that an expression jumps or goes to; NULL: none. */
static const char *expression_target(const struct nlattr *expression)
{
	const struct nlattr *expr[NFTA_EXPR_MAX + 1],
		*immediate[NFTA_IMMEDIATE_MAX + 1];
	const struct nlattr *data[NFTA_DATA_MAX + 1],
		*verdict[NFTA_VERDICT_MAX + 1];
	const char *name;

	nested_attrs(expression, expr, NFTA_EXPR_MAX + 1);
	name = attr_string(expr[NFTA_EXPR_NAME]);
	if (!name || strcmp(name, "immediate"))
		return NULL;
	nested_attrs(expr[NFTA_EXPR_DATA], immediate, NFTA_IMMEDIATE_MAX + 1);
	nested_attrs(immediate[NFTA_IMMEDIATE_DATA], data, NFTA_DATA_MAX + 1);
	nested_attrs(data[NFTA_DATA_VERDICT], verdict, NFTA_VERDICT_MAX + 1);
	return attr_string(verdict[NFTA_VERDICT_CHAIN]);
}

static int add_edge(struct kubeproxy *k, const struct chain_note *from,
		    const struct chain_note *to)
{
	int err = array_grow(k->edges, k->n_edges, k->room_edges);

	if (!err)
		k->edges[k->n_edges++] =
			(struct edge){ (size_t)(from - k->chains),
				       (size_t)(to - k->chains) };
	return err;
}

static int add_jump(struct kubeproxy *k, const struct chain_note *from,
		    const struct chain_note *to, uint64_t handle)
{
	struct jump jump = { k->family, k->table, from->name, handle,
			     (size_t)(to - k->chains) };
	int err = array_grow(k->jumps, k->n_jumps, k->room_jumps);

	if (!err)
		k->jumps[k->n_jumps++] = jump;
	return err;
}

static uint64_t attr_handle(const struct nlattr *attr)
{
	uint64_t handle = 0;

	if (attr && mnl_attr_get_payload_len(attr) == sizeof(handle))
		memcpy(&handle, mnl_attr_get_payload(attr), sizeof(handle));
	return handle; /* in network order, as it goes back */
}

static int note_rule(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_RULE_MAX + 1], *expression;
	struct chain_note *from, *to;
	struct kubeproxy *k = data;

	if (k->err || !message_is(nlh, NFT_MSG_NEWRULE))
		return 0;
	message_attrs(nlh, attrs, NFTA_RULE_MAX + 1);
	from = chain_find(k, attr_string(attrs[NFTA_RULE_CHAIN]));
	if (!from || !attrs[NFTA_RULE_EXPRESSIONS])
		return 0;
	for_each_attr_in (expression, attrs[NFTA_RULE_EXPRESSIONS]) {
		to = chain_find(k, expression_target(expression));
		if (!to || !to->is_ours)
			continue;
		if (from->is_ours)
			k->err = add_edge(k, from, to);
		else if (from->is_base)
			k->err = add_jump(k, from, to,
					  attr_handle(attrs[NFTA_RULE_HANDLE]));
		else
			to->stays = true;
	}
	return 0;
}

/* Of the tables that have chains of kube-proxy. */
static int read_rules(struct kubeproxy *k, struct nlsock *nl, struct errbuf *eb)
{
	struct request rules = { .type = NFT_MSG_GETRULE, .dump = true };
	const struct chain_note *last = NULL;
	size_t i;
	int err = 0;

	for (i = 0; i < k->n_chains && !err; i++) {
		const struct chain_note *c = &k->chains[i];

		if (!c->is_ours || (last && last->family == c->family &&
				    last->table == c->table))
			continue;
		last = c;
		rules.family = (int)c->family;
		rules.table = c->table;
		k->family = c->family;
		k->table = c->table;
		err = request_send(nl, &rules, note_rule, k, eb);
	}
	return err;
}

/* Whoever marks a packet for the masquerading counts on it. */
static void keep_masquerading(struct kubeproxy *k)
{
	struct chain_note *masquerade;
	size_t i;

	for (i = 0; i < k->n_chains; i++) {
		if (!k->chains[i].stays || strcmp(k->chains[i].name, MARK_CHAIN))
			continue;
		k->family = k->chains[i].family;
		k->table = k->chains[i].table;
		masquerade = chain_find(k, MASQUERADE_CHAIN);
		if (masquerade)
			masquerade->stays = true;
	}
}

/* What stays, keeps what it leads to. Each round but the last keeps one more, at least. */
static void keep_targets(struct kubeproxy *k)
{
	bool more = true;
	size_t i;

	while (more) {
		more = false;
		for (i = 0; i < k->n_edges; i++) {
			struct chain_note *to = &k->chains[k->edges[i].to];

			if (!k->chains[k->edges[i].from].stays || to->stays)
				continue;
			to->stays = true;
			more = true;
		}
	}
}

static void count_all(struct kubeproxy *k)
{
	size_t i;

	for (i = 0; i < k->n_chains; i++) {
		const struct chain_note *c = &k->chains[i];

		if (c->is_ours && c->stays)
			k->counts[c->family].held++;
		else if (c->is_ours)
			k->counts[c->family].chains++;
	}
	for (i = 0; i < k->n_jumps; i++)
		if (!k->chains[k->jumps[i].to].stays)
			k->counts[k->jumps[i].family].jumps++;
}

static int kubeproxy_read(struct kubeproxy *k, struct nlsock *nl, struct errbuf *eb)
{
	const struct request tables = { ANY_FAMILY, NFT_MSG_GETTABLE, true,
					NULL, NULL };
	const struct request chains = { ANY_FAMILY, NFT_MSG_GETCHAIN, true,
					NULL, NULL };
	int err = readback_generation(nl, &k->generation, eb);

	if (!err)
		err = request_send(nl, &tables, note_table, k, eb);
	if (!err)
		err = request_send(nl, &chains, note_chain, k, eb);
	if (!err && k->n_chains)
		qsort(k->chains, k->n_chains, sizeof(*k->chains), chain_order);
	if (!err && !k->err)
		err = read_rules(k, nl, eb);
	if (!err && k->err)
		err = errf(eb, k->err, "looking for kube-proxy's rules: %s",
			   strerror(-k->err));
	return err;
}

struct kubeproxy *kubeproxy_look(struct nlsock *nl, struct errbuf *eb)
{
	struct kubeproxy *k = calloc(1, sizeof(*k));
	int err = k ? kubeproxy_read(k, nl, eb)
		    : errf(eb, -ENOMEM,
			   "looking for kube-proxy's rules: out of memory");

	if (err) {
		kubeproxy_free(k);
		errno = -err;
		return NULL;
	}
	keep_masquerading(k);
	keep_targets(k);
	count_all(k);
	return k;
}

void kubeproxy_free(struct kubeproxy *k)
{
	size_t i;

	if (!k)
		return;
	for (i = 0; i < k->n_chains; i++)
		free(k->chains[i].name);
	free(k->chains);
	free(k->jumps);
	free(k->edges);
	free(k);
}

const struct kubeproxy_counts *kubeproxy_counts(const struct kubeproxy *k,
						enum family family)
{
	return &k->counts[family];
}

bool kubeproxy_is_empty(const struct kubeproxy *k)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (k->counts[f].table || k->counts[f].chains)
			return false;
	return true;
}

/* Removal */

/* The three kinds of objects have their table as attribute 1. */
static struct nlmsghdr *delete_begin(struct wire *w, enum family family,
				     uint16_t type, const char *table)
{
	struct nlmsghdr *nlh = message_begin(w, family, type, 0, ROOM);

	if (nlh)
		mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, table);
	return nlh;
}

static void delete_named(struct wire *w, const struct chain_note *c,
			 uint16_t type, uint16_t attribute)
{
	struct nlmsghdr *nlh = delete_begin(w, c->family, type, c->table);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, attribute, c->name);
	message_end(w, nlh);
}

static void delete_jump(struct wire *w, const struct jump *jump)
{
	struct nlmsghdr *nlh =
		delete_begin(w, jump->family, NFT_MSG_DELRULE, jump->table);

	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_RULE_CHAIN, jump->chain);
	mnl_attr_put(nlh, NFTA_RULE_HANDLE, sizeof(jump->handle), &jump->handle);
	message_end(w, nlh);
}

static void delete_table(struct wire *w, enum family family)
{
	struct nlmsghdr *nlh =
		delete_begin(w, family, NFT_MSG_DELTABLE, KUBEPROXY_TABLE);

	if (nlh)
		message_end(w, nlh);
}

/* Jumps, then the rules of all chains, then the chains: nothing refers to them any more. */
static void encode_removal(const struct kubeproxy *k, struct wire *w)
{
	unsigned int f;
	size_t i;

	for (i = 0; i < k->n_jumps; i++)
		if (!k->chains[k->jumps[i].to].stays)
			delete_jump(w, &k->jumps[i]);
	for (i = 0; i < k->n_chains; i++)
		if (k->chains[i].is_ours && !k->chains[i].stays)
			delete_named(w, &k->chains[i], NFT_MSG_DELRULE,
				     NFTA_RULE_CHAIN);
	for (i = 0; i < k->n_chains; i++)
		if (k->chains[i].is_ours && !k->chains[i].stays)
			delete_named(w, &k->chains[i], NFT_MSG_DELCHAIN,
				     NFTA_CHAIN_NAME);
	for (f = 0; f < N_FAMILIES; f++)
		if (k->counts[f].table)
			delete_table(w, (enum family)f);
}

/* The first refusal ends the exchange: after one for BEGIN nothing else comes. */
static int removal_on_reply(const struct nlmsghdr *nlh, void *data)
{
	int err;

	(void)data;
	if (nlh->nlmsg_type != NLMSG_ERROR)
		return 0;
	err = message_error(nlh);
	return err < 0 ? err : 0;
}

int kubeproxy_remove(const struct kubeproxy *k, struct nlsock *nl, struct errbuf *eb)
{
	struct wire w = { 0 };
	struct nlmsghdr *nlh, *last = NULL;
	uint32_t last_seq = 0;
	struct iovec iov;
	size_t at;
	int err;

	wire_put_marker(&w, NFNL_MSG_BATCH_BEGIN, nlsock_next_seq(nl),
			&k->generation);
	encode_removal(k, &w);
	for_each_message (nlh, at, &w) {
		if (!at)
			continue;
		nlh->nlmsg_seq = last_seq = nlsock_next_seq(nl);
		last = nlh;
	}
	if (last)
		last->nlmsg_flags |= NLM_F_ACK;
	wire_put_marker(&w, NFNL_MSG_BATCH_END, nlsock_next_seq(nl), NULL);
	err = w.err;
	if (!err && last_seq) {
		iov = (struct iovec){ .iov_base = w.bytes, .iov_len = w.length };
		err = nlsock_exchange(nl, &iov, 1, last_seq, removal_on_reply,
				      NULL, COMMIT_MS, eb);
	}
	wire_free(&w);
	return err ? errf(eb, err, "removing kube-proxy's rules: %s",
			  strerror(-err))
		   : 0;
}

static int ask_route(int fd, unsigned int index)
{
	const struct timeval limit = { .tv_sec = LINK_S };
	struct {
		struct nlmsghdr nlh;
		struct ifinfomsg link;
	} request = {
		.nlh = { .nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_DELLINK,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
			 .nlmsg_seq = 1 },
		.link = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index },
	};
	uint32_t answer[256];
	const struct nlmsghdr *nlh;
	ssize_t length;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (send(fd, &request, sizeof(request), 0) < 0)
		return -errno;
	length = recv(fd, answer, sizeof(answer), 0);
	if (length < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	nlh = message_if_ok(answer, (const char *)answer + length);
	return nlh && nlh->nlmsg_type == NLMSG_ERROR ? message_error(nlh)
						     : -EBADMSG;
}

int kubeproxy_remove_link(struct errbuf *eb)
{
	const unsigned int index = if_nametoindex(KUBEPROXY_LINK);
	int fd, err;

	if (!index)
		return -ENODEV;
	fd = netlink_open(NETLINK_ROUTE, 0, 0, NULL);
	err = fd < 0 ? fd : ask_route(fd, index);
	if (fd >= 0)
		close(fd);
	return err ? errf(eb, err, "interface %s: cannot be removed: %s",
			  KUBEPROXY_LINK, strerror(-err))
		   : 0;
}
