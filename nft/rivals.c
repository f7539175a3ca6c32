/*
 * Signs of another service proxy: kube-proxy's table in its nftables mode, and
 * its chain KUBE-SERVICES, which iptables keeps in nf_tables too (as tables of
 * its own) or, the legacy one, in memory of its own. The latter is looked at
 * only where /proc says that there is a table, since asking would load it.
 */
#include "nft/readback.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <sys/socket.h>

#include "nft/request.h"

#define SERVICES_CHAIN "KUBE-SERVICES"
#define PROXY_TABLE "kube-proxy"

struct search {
	void (*found)(void *ctx, const char *what);
	void *ctx;
};

static const char *nfproto_name(uint8_t family)
{
	switch (family) {
	case NFPROTO_IPV4:
		return "ip";
	case NFPROTO_IPV6:
		return "ip6";
	case NFPROTO_INET:
		return "inet";
	}
	return "?";
}

static int rival_table(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_TABLE_MAX + 1];
	const struct search *s = data;
	const char *name;
	char text[64];

	if (!message_is(nlh, NFT_MSG_NEWTABLE))
		return 0;
	message_attrs(nlh, attrs, NFTA_TABLE_MAX + 1);
	name = attr_string(attrs[NFTA_TABLE_NAME]);
	if (name && strcmp(name, PROXY_TABLE) == 0) {
		snprintf(text, sizeof(text), "nftables table %s %s",
			 nfproto_name(message_family(nlh)), PROXY_TABLE);
		s->found(s->ctx, text);
	}
	return 0;
}

static int rival_chain(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_CHAIN_MAX + 1];
	const struct search *s = data;
	const char *table, *name;
	char text[512];

	if (!message_is(nlh, NFT_MSG_NEWCHAIN))
		return 0;
	message_attrs(nlh, attrs, NFTA_CHAIN_MAX + 1);
	table = attr_string(attrs[NFTA_CHAIN_TABLE]);
	name = attr_string(attrs[NFTA_CHAIN_NAME]);
	if (table && name && strcmp(name, SERVICES_CHAIN) == 0) {
		snprintf(text, sizeof(text),
			 "chain %s in table %s %s (iptables-nft)", name,
			 nfproto_name(message_family(nlh)), table);
		s->found(s->ctx, text);
	}
	return 0;
}

/* Whether @path, a list of tables one per line, has @table. */
static bool lists_table(const char *path, const char *table)
{
	char line[64];
	bool found = false;
	FILE *file = fopen(path, "re");

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = strcmp(line, table) == 0;
	}
	fclose(file);
	return found;
}

/* Chain names stand in the entries as plain text: a search saves us their format. */
static bool entries_name_chain(int fd, int level, const char *table)
{
	/* kube-proxy with 45,000 services has some 200 MB */
	enum { MAX_SIZE = 1 << 29 };
	struct ipt_getinfo info = { .name = "" };
	struct ipt_get_entries *entries = NULL;
	socklen_t length = sizeof(info);
	bool found = false;

	snprintf(info.name, sizeof(info.name), "%s", table);
	if (getsockopt(fd, level, IPT_SO_GET_INFO, &info, &length) ||
	    info.size > MAX_SIZE)
		return false;
	length = (socklen_t)(sizeof(*entries) + info.size);
	entries = calloc(1, length);
	if (!entries)
		return false;
	snprintf(entries->name, sizeof(entries->name), "%s", table);
	entries->size = info.size;
	if (getsockopt(fd, level, IPT_SO_GET_ENTRIES, entries, &length) == 0)
		found = memmem(entries->entrytable, info.size, SERVICES_CHAIN,
			       sizeof(SERVICES_CHAIN));
	free(entries);
	return found;
}

/* Both families number these options alike. Without the right to ask there is nothing to tell. */
bool readback_legacy(enum family family)
{
	const bool v4 = family == FAMILY_IPV4;
	bool found;
	int fd;

	if (!lists_table(v4 ? "/proc/net/ip_tables_names"
			    : "/proc/net/ip6_tables_names",
			 "nat"))
		return false;
	fd = socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	found = entries_name_chain(fd, v4 ? SOL_IP : SOL_IPV6, "nat");
	close(fd);
	return found;
}

static void search_legacy(const struct search *s, enum family family)
{
	char text[64];

	if (!readback_legacy(family))
		return;
	snprintf(text, sizeof(text), "chain %s in legacy %s table nat",
		 SERVICES_CHAIN, family == FAMILY_IPV4 ? "iptables" : "ip6tables");
	s->found(s->ctx, text);
}

int readback_rivals(struct nlsock *nl, void (*found)(void *ctx, const char *what),
		    void *ctx, struct errbuf *eb)
{
	const struct request tables = { ANY_FAMILY, NFT_MSG_GETTABLE, true,
					NULL, NULL };
	const struct request chains = { ANY_FAMILY, NFT_MSG_GETCHAIN, true,
					NULL, NULL };
	struct search search = { .found = found, .ctx = ctx };
	int err;

	err = request_send(nl, &tables, rival_table, &search, eb);
	if (!err)
		err = request_send(nl, &chains, rival_chain, &search, eb);
	search_legacy(&search, FAMILY_IPV4);
	search_legacy(&search, FAMILY_IPV6);
	return err;
}
