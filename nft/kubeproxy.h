/*
 * What kube-proxy has in nf_tables: its own tables in mode nftables, and the chains that
 * iptables-nft made for its other modes, in tables that others use as well.
 */
#ifndef NFT_KUBEPROXY_H
#define NFT_KUBEPROXY_H

#include "nft/nlsock.h"
#include "proxy/base/addr.h"

#define KUBEPROXY_TABLE "kube-proxy"
#define KUBEPROXY_LINK "kube-ipvs0"

/* Whether iptables has a table of this name with chains of kube-proxy. */
bool kubeproxy_is_iptables(const char *table);
/* Whether kube-proxy makes a chain of this name; those of kubelet and of others begin alike. */
bool kubeproxy_is_chain(const char *name);

/* What there is, as of one generation of the ruleset. */
struct kubeproxy;

struct kubeproxy_counts {
	bool table;
	unsigned int chains; /* of iptables-nft, that can go */
	unsigned int jumps;  /* rules that lead to them from base chains */
	unsigned int held; /* chains that stay, since rules of others lead there */
};

/* Changes nothing. NULL with @eb; errno is set. */
struct kubeproxy *kubeproxy_look(struct nlsock *nl, struct errbuf *eb);
void kubeproxy_free(struct kubeproxy *k); /* NULL is allowed */
const struct kubeproxy_counts *kubeproxy_counts(const struct kubeproxy *k,
						enum family family);
bool kubeproxy_is_empty(const struct kubeproxy *k); /* nothing can go */

/*
 * Removes what was found, in one transaction: all of it or nothing. Returns 0 or a negative errno;
 * -ERESTART: the ruleset has changed since the look, look again.
 */
int kubeproxy_remove(const struct kubeproxy *k, struct nlsock *nl,
		     struct errbuf *eb);

enum { KUBEPROXY_ADDRESSES = 8 };

/* What its table in mode nftables answers for. */
struct kubeproxy_rules {
	unsigned int n_addresses; /* address and port of a Service, in service-ips */
	unsigned int n_node_ports; /* in service-nodeports */
	/* Where node ports answer, some of them, sorted; none: on every address of the node */
	unsigned int n_node_addresses;
	struct addr node_addresses[KUBEPROXY_ADDRESSES];
};

/* Returns 0, -ENOENT if there is no such table, or another negative errno with @eb. */
int kubeproxy_read_rules(struct nlsock *nl, enum family family,
			 struct kubeproxy_rules *rules, struct errbuf *eb);

/* The link of mode ipvs, whose addresses the kernel takes for the node's own. -ENODEV: none. */
int kubeproxy_remove_link(struct errbuf *eb);

#endif
