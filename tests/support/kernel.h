/*
 * A stand-in for nf_tables behind struct nlsock_ops: it keeps tables, sets,
 * elements, chains and rules as they come over netlink, applies a batch whole
 * or not at all, and answers the dumps that nft/readback.c makes. It knows what
 * the kernel checks (what exists, what is in use) and nothing of what packets
 * do.
 */
#ifndef TESTS_SUPPORT_KERNEL_H
#define TESTS_SUPPORT_KERNEL_H

#include "nft/nlsock.h"
#include "proxy/model/element.h"
#include "proxy/base/arena.h"
#include "proxy/base/strbuf.h"

struct fake_kernel;

struct fake_kernel *fake_kernel_new(void);
void fake_kernel_free(struct fake_kernel *k);
/* A socket to it, to be closed before it. */
struct nlsock *fake_kernel_socket(struct fake_kernel *k);

/* A message, or one element of it, as the kernel comes to it. */
struct fake_op {
	int type; /* NFT_MSG_*; -1: the commit itself */
	enum family family;
	const char *name; /* of set, chain or device; "" if it is none of them */
	bool has_element; /* of one of our sets, but service-cidrs; of source ranges the start */
	struct element element;
};

struct fake_faults {
	/* Returns 0 or a negative errno with which the kernel refuses. */
	int (*refuse)(void *ctx, const struct fake_op *op);
	void *ctx;
	bool no_offsets; /* errors do not tell the place in the message */
	bool old;	 /* before Linux 6.2: see struct writer */

	/* Exchange number @fail_at from now (0: never) ends with @fail_err... */
	unsigned int fail_at;
	int fail_err;
	bool fail_applied; /* ... after the kernel did all that was asked */

	/* Called when our code is left for the kernel's (true), and on the way
	 * back. NULL is allowed */
	void (*guard)(bool inside);
};

struct fake_faults *fake_faults(struct fake_kernel *k);

struct fake_counts {
	unsigned int exchanges, transactions;	       /* committed */
	unsigned int elements_added, elements_deleted; /* committed */
	unsigned int verdicts; /* of these: elements with a verdict, added or deleted */
	/* elements that lead packets to a chain of the same transaction, which
	   the kernel shows them without rules for a moment; see batch.c */
	unsigned int hasty;
	unsigned int chains_added, chains_deleted, rules_added;
};

struct fake_counts fake_counts(const struct fake_kernel *k); /* since the latest reset */
void fake_counts_reset(struct fake_kernel *k);

bool fake_has_table(const struct fake_kernel *k, enum family family);
bool fake_has_chain(const struct fake_kernel *k, enum family family,
		    const char *name);
bool fake_has_set(const struct fake_kernel *k, enum family family,
		  const char *name);
unsigned int fake_n_chains(const struct fake_kernel *k, enum family family);

/* All elements of the constant sets and of source ranges, sorted by key; strings are the kernel's.
 */
const struct element *fake_elements(const struct fake_kernel *k, enum family family,
				    struct arena *scratch, size_t *count);

/* Whether elements of a set count, and connections that packets would have opened. */
bool fake_counts_in(const struct fake_kernel *k, enum family family,
		    enum set_id set);
bool fake_count(struct fake_kernel *k, enum family family,
		const struct element *key,
		uint64_t connections); /* false if it cannot be counted */

/* Of the flowtable, one behind the other as they came; "none" if there is no flowtable. */
enum { FAKE_DEVICES_MAX = 64 };
void fake_devices(const struct fake_kernel *k, enum family family,
		  struct strbuf *out);

/* Clients that packets would have put there. */
void fake_add_client(struct fake_kernel *k, enum family family, const char *map,
		     const struct addr *client, const struct addr *endpoint,
		     uint16_t port);
unsigned int fake_n_clients(const struct fake_kernel *k, enum family family,
			    const char *map);
bool fake_has_client(const struct fake_kernel *k, enum family family,
		     const char *map, const struct addr *client);

/*
 * What others may do to the table. Each returns false if there is nothing of
 * the kind. @which picks one of several.
 */
void fake_owner_ends(struct fake_kernel *k); /* tables with an owner have none any more */
void fake_next_generation(struct fake_kernel *k); /* a change of another table */
bool fake_delete_table(struct fake_kernel *k, enum family family);
bool fake_flush_table(struct fake_kernel *k,
		      enum family family); /* "nft flush ruleset" without owner */
bool fake_delete_element(struct fake_kernel *k, enum family family,
			 unsigned int which);
bool fake_delete_key(struct fake_kernel *k, enum family family,
		     const struct element *key);
bool fake_damage_element(struct fake_kernel *k, enum family family,
			 unsigned int which); /* other data */
bool fake_delete_rule(struct fake_kernel *k, enum family family,
		      unsigned int which);
bool fake_add_rule(struct fake_kernel *k, enum family family, unsigned int which);
bool fake_delete_set(struct fake_kernel *k, enum family family, const char *name);
bool fake_delete_chain(struct fake_kernel *k, enum family family, const char *name);
bool fake_add_chain(struct fake_kernel *k, enum family family, const char *name);
bool fake_add_set(struct fake_kernel *k, enum family family, const char *name);
/* An element that we could have made: through a batch. */
int fake_add_element(struct fake_kernel *k, enum family family,
		     const struct element *el);

#endif
