/*
 * The elements of a table as the kernel gave them back, to be compared with
 * what should be there. Compact, and gone after the comparison.
 */
#ifndef SYNC_SNAPSHOT_H
#define SYNC_SNAPSHOT_H

#include "proxy/model/compile.h"

struct snapshot;

struct snapshot *snapshot_new(enum family family); /* NULL when out of memory */
void snapshot_free(struct snapshot *s);

/* Copies. Out of memory is remembered: snapshot_error(). */
void snapshot_add(struct snapshot *s, const struct element *element);
int snapshot_error(const struct snapshot *s);

enum snapshot_match { SNAPSHOT_MISSING, SNAPSHOT_DIFFERS, SNAPSHOT_SAME };

void snapshot_clear(struct snapshot *s); /* forgets all elements */
void snapshot_unsee(struct snapshot *s); /* forgets all matches */

/* Looks for the element, and marks what is found as seen. */
enum snapshot_match snapshot_match(struct snapshot *s,
				   const struct element *element);

/* Calls for each element that was never matched; @element lives until the callback returns. */
void snapshot_each_unseen(struct snapshot *s,
			  void (*call)(void *ctx, const struct element *element),
			  void *ctx);

/* The endpoints that the kernel has for a service port with these VIPs, by
 * index. Returns 0 or -ENOMEM. */
int snapshot_order(const struct snapshot *s, const struct vip *vips,
		   unsigned int n_vips, uint8_t protocol, struct arena *scratch,
		   struct kernel_order *order);

#endif
