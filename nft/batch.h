/*
 * A batch is the wire form of one transaction: the kernel applies all of it or
 * none of it. With BATCH_CHAINS_FIRST it may be two.
 */
#ifndef NFT_BATCH_H
#define NFT_BATCH_H

#include "nft/nlsock.h"
#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"

struct batch;

enum batch_flags {
	/*
	 * Table flags owner|persist: ours alone, outlives us (Linux 6.9). Any
	 * transaction takes an orphaned table over, even a batch that is empty
	 * otherwise. A table that was made without the flags stays without.
	 */
	BATCH_OWNER = 1 << 0,
	/*
	 * A table that is added gets base chains without rules, so that no packet enters it before
	 * batch_open(), of this batch or of a later one.
	 */
	BATCH_CLOSED = 1 << 1,
	/*
	 * New chains are committed in a transaction of their own before the
	 * elements that lead to them; see batch.c. If only the first of the two
	 * succeeds, there are chains that nobody uses: read the kernel back.
	 */
	BATCH_CHAINS_FIRST = 1 << 2,
};

/* Copies @ruleset. Caller owns the batch; NULL when out of memory. */
struct batch *batch_new(const struct ruleset *ruleset, unsigned int flags);
void batch_free(struct batch *b); /* NULL is allowed */

/* The verbs; the writer lives as long as the batch. */
const struct writer *batch_writer(struct batch *b);
/* The rules of the base chains, which BATCH_CLOSED left out. */
void batch_open(struct batch *b);

/* After a commit with BATCH_OWNER: false if the table was made without an owner, which stays so. */
bool batch_is_owned(const struct batch *b);
bool batch_is_empty(const struct batch *b); /* no verb was called */
size_t batch_size(const struct batch *b);   /* bytes on the wire */
/* How many batch_commit() makes: 1, or 2 by BATCH_CHAINS_FIRST. */
unsigned int batch_transactions(const struct batch *b);
struct batch_counts {
	unsigned int elements_added, elements_deleted, chains_added, chains_deleted;
};
struct batch_counts batch_counts(const struct batch *b);

/* What the kernel would not take. */
struct refusal {
	int err;     /* negative errno */
	void *owner; /* of the element refused; NULL if that is not known */
	char object[512]; /* for people: "map service-ips, element 10.0.0.1 . tcp . 80" */
};

/*
 * Sends BEGIN to END in one message and waits for every acknowledgement, at
 * most @timeout_ms for each transaction. Returns 0, or a negative errno with @eb filled and, if the
 * kernel refused, @refusal too (NULL is allowed). -ETIMEDOUT, -ENOBUFS and
 * -EINTR mean unknown: read the kernel back. -ENOMEM may also be our own, when
 * the batch could not be built; then nothing was sent.
 */
int batch_commit(struct batch *b, struct nlsock *nl, unsigned int timeout_ms,
		 struct refusal *refusal, struct errbuf *eb);

/* The same without END: the kernel checks all and applies nothing. */
int batch_check(struct batch *b, struct nlsock *nl, unsigned int timeout_ms,
		struct refusal *refusal, struct errbuf *eb);

#endif
