/*
 * Single elements of vipmap's table, asked for by their keys: what the kernel
 * really has, for people.
 */
#ifndef NFT_LOOKUP_H
#define NFT_LOOKUP_H

#include "nft/nlsock.h"
#include "proxy/model/element.h"

enum { LOOKUP_NAME_SIZE = 256 };

struct lookup {
	struct element element; /* its comment is NULL; chain points to the text below */
	char chain[LOOKUP_NAME_SIZE]; /* where its verdict goes; "" for a drop or no verdict */
};

/*
 * The element of @key's set that has @key's key; not for ranges. Returns 0,
 * -ENOENT if there is none (or no table), or another negative errno with @eb.
 */
int lookup_element(struct nlsock *nl, enum family family, const struct element *key,
		   struct lookup *found, struct errbuf *eb);

/*
 * The same for many keys, those of one set in a row; @found gets what there is of them, whose
 * strings live until it returns. Returns 0 or a negative errno with @eb.
 */
int lookup_elements(struct nlsock *nl, enum family family,
		    const struct element *keys, size_t count,
		    void (*found)(void *ctx, const struct element *element),
		    void *ctx, struct errbuf *eb);

/* The endpoint that map @map remembers for @client, and for how long. Returns as above. */
int lookup_client(struct nlsock *nl, enum family family, const char *map,
		  const struct addr *client, struct addr *endpoint,
		  uint16_t *port, int64_t *expires_ms, struct errbuf *eb);

#endif
