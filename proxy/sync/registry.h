/*
 * What several service ports share in a table, or what outlives its use there:
 * elements of cluster-ips and hairpin, pick chains, the maps and chains of
 * session affinity, and the source ranges of Services with their chains. Each
 * knows how many want it and whether the kernel has it.
 */
#ifndef SYNC_REGISTRY_H
#define SYNC_REGISTRY_H

#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"
#include "proxy/base/hashtab.h"

struct registry_entry;

struct registry {
	struct hashtab entries;
	struct registry_entry *touched; /* since the last registry_applied() */
	unsigned int n_idle; /* chains, maps and sets in the kernel that nobody wants */
	unsigned int n_idle_picks; /* of them pick chains */
	unsigned int keep_picks;   /* so many of these are not collected */
	size_t n_ranges; /* at most these are to be written, and registry_write() has not been */
};

void registry_free(struct registry *r); /* empty and usable afterwards */

/* One more (or less, @by -1) wants it. All of these return 0 or -ENOMEM. */
int registry_want_shared(struct registry *r, const struct element *el, int by);
int registry_want_pick(struct registry *r, const struct verdict *pick, int by,
		       int64_t now_us);
/* Nobody wants it yet, but it is to be made while that costs little. */
int registry_spare_pick(struct registry *r, const struct verdict *pick,
			int64_t now_us);
int registry_want_map(struct registry *r, const char *name, const char *comment,
		      bool wanted, int64_t now_us);
/* Writes the chain at once if the kernel has not the like; @writer NULL: only the wish is noted. */
int registry_want_chain(struct registry *r, const struct sticky_chain *chain,
			bool wanted, const struct ruleset *ruleset,
			const struct writer *writer, int64_t now_us);
/*
 * The source ranges of a Service (sorted; copied) are those in @list from now
 * on, in place of what was said before; the kernel gets the difference. @by may
 * be 0. @owner is told if it refuses.
 */
int registry_want_ranges(struct registry *r, const char *set,
			 const struct prefix *list, unsigned int count, int by,
			 void *owner, int64_t now_us);

/* The kernel was found to have it. @intact: its rules are as they should be. */
int registry_found_pick(struct registry *r, const struct verdict *pick,
			bool intact, int64_t now_us);
int registry_found_map(struct registry *r, const char *name, int64_t now_us);
int registry_found_chain(struct registry *r, const char *name, uint64_t digest,
			 int64_t now_us);
int registry_found_ranges(struct registry *r, const char *set,
			  const struct prefix *list, unsigned int count,
			  bool intact, int64_t now_us);

/* Nobody wants anything: to count afresh, after a refusal too. */
void registry_unwant(struct registry *r);

/* Writes what the wishes since the last registry_applied() ask for; shared elements go to @shared.
 */
void registry_write(struct registry *r, const struct writer *writer,
		    void (*shared)(void *ctx, enum change change,
				   const struct element *el),
		    void *ctx);
/* The kernel has acknowledged it. */
void registry_applied(struct registry *r);

/* How many will be collected once they have been idle for long enough. */
unsigned int registry_collectable(const struct registry *r);
/* Deletes what has been idle since @before_us; returns how many. Then tell whether it worked. */
int registry_collect(struct registry *r, const struct writer *writer,
		     int64_t before_us);
void registry_collected(struct registry *r, bool done);

#endif
