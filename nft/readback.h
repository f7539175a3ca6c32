/*
 * Reading vipmap's table out of the kernel, to adopt it at start, to repair it, and to check it.
 */
#ifndef NFT_READBACK_H
#define NFT_READBACK_H

#include "nft/nlsock.h"
#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"

enum table_state {
	TABLE_ABSENT,
	TABLE_CURRENT, /* constant sets, maps, chains and rules are as @ruleset wants them */
	TABLE_RULES_DIFFER, /* sets and chains are right but for optional parts, or some rule is
			       not: writer->table(UPDATE) mends it */
	TABLE_OTHER, /* another layout, or something of the constant part is missing: replace it */
	TABLE_OWNED, /* by another process, which @eb names: nobody else can change it */
};

/*
 * Called for each object found, in any order; arguments live until the callback
 * returns. A digest stands for the rules of a chain, see below; 0 means that
 * the rules are not all ours. Source ranges come as a whole, sorted, with their
 * set's name and the digest of the Service's firewall chain.
 */
struct readback {
	void *ctx;
	/* Each may be NULL. */
	void (*element)(void *ctx, const struct element *element);
	void (*pick)(void *ctx, const struct verdict *pick, uint64_t digest);
	void (*affinity)(void *ctx, const char *name);
	void (*sticky)(void *ctx, const char *name, uint64_t digest);
	void (*ranges)(void *ctx, const char *set, const struct prefix *list,
		       unsigned int count, uint64_t digest);
	/* Which parts the table has (enum table_part), once. */
	void (*parts)(void *ctx, unsigned int parts);
	/*
	 * Of TABLE_OTHER, elements of sets that are as they should be and count: for their counts,
	 * which may outlive the table. NULL is allowed.
	 */
	void (*counted)(void *ctx, const struct element *element);
	bool whoever; /* a table that another process owns is read, too: only to look at it */
};

/*
 * Objects in the table that are neither constant nor of the kinds above make
 * TABLE_OTHER, elements that cannot be understood too. Sets are not walked if
 * the state is TABLE_ABSENT, TABLE_OTHER or TABLE_OWNED, but for their counts.
 * Returns 0 or a negative errno; -EINTR: the table changed meanwhile, forget
 * what @found was told and read again. @eb tells why a table is not
 * TABLE_CURRENT, too.
 */
int readback_table(struct nlsock *nl, const struct ruleset *ruleset,
		   const struct readback *found, enum table_state *state,
		   struct errbuf *eb);

/* The digest that an untouched chain has. */
uint64_t pick_digest(const struct ruleset *ruleset, const struct verdict *pick);
uint64_t sticky_digest(const struct ruleset *ruleset,
		       const struct sticky_chain *chain);
uint64_t firewall_digest(const struct ruleset *ruleset, const char *ranges);

/* The kernel's ruleset generation, for all tables. Returns 0 or a negative errno. */
int readback_generation(struct nlsock *nl, uint32_t *generation, struct errbuf *eb);

/*
 * Tables of other service proxies (RUN-10): calls @found with a description of each.
 */
int readback_rivals(struct nlsock *nl, void (*found)(void *ctx, const char *what),
		    void *ctx, struct errbuf *eb);
/* Whether kube-proxy's chains are in legacy iptables, which has a memory of its own. */
bool readback_legacy(enum family family);

/*
 * Whether the kernel knows all that the ruleset needs: 0, or -EOPNOTSUPP with
 * @eb naming what lacks (exit status 3); -EPERM without CAP_NET_ADMIN. @owner
 * becomes true if tables can have owner|persist.
 */
int kernel_probe(struct nlsock *nl, const struct ruleset *ruleset, bool *owner,
		 struct errbuf *eb);
/*
 * Whether it has what PART_FAST_PATH needs, and can end connections in a
 * flowtable: 0, or a negative errno with @eb.
 */
int kernel_probe_fast_path(struct nlsock *nl, enum family family,
			   struct errbuf *eb);
/* Whether it has what PART_COUNTERS needs: returns as before. */
int kernel_probe_counters(struct nlsock *nl, enum family family, struct errbuf *eb);

#endif
