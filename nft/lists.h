/*
 * Private to nft/: reading endpoint lists by their keys. The verdict maps tell
 * them all: a VIP that goes to pick-N has indices 0 to N - 1.
 */
#ifndef NFT_LISTS_H
#define NFT_LISTS_H

#include "nft/nlsock.h"
#include "proxy/model/element.h"

struct nlattr;

struct list_note {
	struct addr addr;
	uint8_t protocol, set; /* enum set_id of the list */
	uint16_t port;
	uint32_t count;
};

struct lists {
	struct list_note *notes;
	unsigned int count, room;
	bool sorted;
};

void lists_free(struct lists *l);

/* Remembers the list that @e, an element of a verdict map, leads to. Returns 0 or -ENOMEM. */
int lists_note(struct lists *l, const struct element *e);

/* How many elements @set ought to have. No more lists can be noted after this. */
uint64_t lists_expect(struct lists *l, enum set_id set);

/* Whether @e is one of them. */
bool lists_has(struct lists *l, const struct element *e);

/*
 * Asks for each of them; @found gets those that there are, as NFTA_LIST_ELEM, and fails with what
 * it returns. More than @max_missing that are not there fail with -ENOENT.
 */
int lists_fetch(struct lists *l, struct nlsock *nl, enum family family,
		enum set_id set, unsigned int max_missing,
		int (*found)(void *ctx, const struct nlattr *element),
		void *ctx, struct errbuf *eb);

#endif
