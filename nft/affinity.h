/*
 * Forgetting clients of session affinity whose endpoint is not wanted any more (AFF-4, AFF-5).
 */
#ifndef NFT_AFFINITY_H
#define NFT_AFFINITY_H

#include "nft/nlsock.h"
#include "proxy/base/addr.h"
#include "proxy/base/errbuf.h"

/* A socket for listing in steps, one map at a time. NULL with @eb on failure. Caller owns it. */
struct affinity_stream;
struct affinity_stream *affinity_stream_open(struct errbuf *eb);
void affinity_stream_close(struct affinity_stream *s); /* NULL is allowed */

/*
 * Removes the clients in @map (borrowed, as all else) whose endpoint @keep does
 * not want. Deletes through @nl, since an owned table changes for its owner
 * only; lists through @stream, or whole in one step through @nl if @stream is
 * NULL. NULL: no memory.
 */
struct affinity_purge;
struct affinity_purge *affinity_purge_new(
	struct nlsock *nl, struct affinity_stream *stream, enum family family,
	const char *map,
	bool (*keep)(void *ctx, const struct addr *endpoint, uint16_t port),
	void *ctx);
void affinity_purge_free(struct affinity_purge *p); /* NULL is allowed; what is done is done */

/*
 * One message of a listing or one transaction, milliseconds unless @stream is
 * NULL or the map is huge. Returns 1 if there is more to do, 0 when it is done
 * (also if there is no such map), or a negative errno.
 */
int affinity_purge_step(struct affinity_purge *p, struct errbuf *eb);
unsigned int affinity_purge_removed(const struct affinity_purge *p);

#endif
