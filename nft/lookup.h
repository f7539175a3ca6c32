/*
 * Private to nft/: reading elements by their keys. The kernel walks a set from its beginning for
 * each 32 KB that it dumps, so dumping a set costs the square of its size: a million elements take
 * minutes. Asking for keys costs the same for each.
 */
#ifndef NFT_LOOKUP_H
#define NFT_LOOKUP_H

#include "nft/nlsock.h"
#include "proxy/element.h"

struct lookup;

/*
 * Hands each element found to @reply as NFT_MSG_NEWSETELEM. NULL when out of memory; all arguments
 * must outlive it.
 */
struct lookup *lookup_new(struct nlsock *nl, enum family family, enum set_id set,
			  int (*reply)(const struct nlmsghdr *nlh, void *data), void *data);
void lookup_free(struct lookup *l); /* NULL is allowed */

/* Asks for elements 0 to @count - 1 of the endpoint list that @key names. Returns 0 or a negative
 * errno. */
int lookup_list(struct lookup *l, const struct element *key, uint32_t count, struct errbuf *eb);
/* Asks for what still waits to be asked for. */
int lookup_flush(struct lookup *l, struct errbuf *eb);

#endif
