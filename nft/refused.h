/*
 * Private to nft/: what the kernel says when it refuses a message: which one,
 * why, and at which of its attributes it stopped; and the words for it.
 */
#ifndef NFT_REFUSED_H
#define NFT_REFUSED_H

#include "nft/layout.h"
#include "nft/wire.h"
#include "proxy/base/strbuf.h"

struct refused {
	int err; /* 0: nothing was */
	uint32_t seq;
	uint32_t offset; /* from the start of the message; 0: unknown */
	char reason[128];
};

/* Takes note of an error; anything else, and all errors but the first, change nothing. */
void refused_read(struct refused *r, const struct nlmsghdr *nlh);

/* The message of @wire that was refused, and its @position there; or NULL. */
const struct nlmsghdr *refused_message(const struct refused *r,
				       const struct wire *wire, size_t *position);

/*
 * "rule 3 of chain firewall, expression lookup", "set endpoints", "table vipmap": that message. The
 * number of a rule counts those which @wire adds to its chain, from 1.
 */
void refused_object(const struct refused *r, const struct wire *wire,
		    const struct nlmsghdr *nlh, struct strbuf *out);
/* The same as what could not be done: "add rule 3 of chain ip firewall, expression lookup". */
void refused_print(const struct refused *r, enum family family,
		   const struct wire *wire, const struct nlmsghdr *nlh,
		   struct strbuf *out);

#endif
