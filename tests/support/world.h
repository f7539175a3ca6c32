/*
 * A model, a dataplane for each family, and a fake kernel below: what tests of
 * the dataplane play with. The world remembers the objects that it was given,
 * so that it can start anew, and compare the kernel with a build from nothing.
 */
#ifndef TESTS_SUPPORT_WORLD_H
#define TESTS_SUPPORT_WORLD_H

#include "proxy/sync/dataplane.h"
#include "tests/support/build.h"
#include "tests/support/kernel.h"

struct world_object {
	struct hash_node node;
	char *key, *text; /* "service default/web", and all of it */
};

struct world {
	struct config *config;
	struct model *model;
	struct fake_kernel *kernel; /* NULL: a real one */
	struct nlsock *nl;
	bool owner; /* tables have one */
	void (*bulk)(void *ctx,
		     bool begin); /* for dataplanes from the next restart on */
	struct dataplane *dp[N_FAMILIES];
	struct stale *stale[N_FAMILIES], *closing[N_FAMILIES];
	struct build_log log;
	int64_t now_us;
	struct errbuf eb;
	struct sync_report report; /* of the latest sync, both families */

	struct hashtab objects;
};

enum world_flags {
	WORLD_OWNER = 1 << 0, /* tables with an owner */
};

struct world *world_new(unsigned int flags); /* with a fake kernel */
/* The same with a bit of everything in it, synced. */
struct world *world_new_rich(unsigned int flags);
/* Something happens to a rich world, and has not been synced yet. */
enum { N_SCENARIOS = 4 };
void world_scenario(struct world *w, unsigned int scenario);
struct world *world_new_real(struct nlsock *nl, bool owner);
void world_free(struct world *w);

/* As build_put(), remembered. */
void world_put(struct world *w, const char *text);
/* The same with printf() */
void world_putf(struct world *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Only remembered: it happens while the process is away. */
void world_remember(struct world *w, const char *text);
bool world_has(const struct world *w, const char *key);
/* Puts all objects again as complete lists: what the model does not know of vanishes. */
void world_relist(struct world *w);

/* The process ends and begins again; the kernel stays. A real one gets a new socket. */
void world_restart(struct world *w);
/* As much of it as has no kernel: for a build from nothing. Caller frees with model_free(). */
struct model *world_model_anew(struct world *w);

/* All elements of the kernel, sorted by key. */
const struct element *world_elements(struct world *w, enum family family,
				     struct arena *scratch, size_t *count);

/* Syncs the families; returns the first error. Time goes on by a second. */
int world_sync(struct world *w);
/* The same, which must succeed. */
void world_must_sync(struct world *w, const char *name);

/*
 * The kernel has exactly what the model wants; and that is, but for the order
 * of endpoints, what a build from nothing wants.
 */
void world_verify(struct world *w, const char *name);
/* The same without failing the test; @sb says what differs. */
bool world_is_right(struct world *w, struct strbuf *sb);
/* A full comparison finds nothing to write. */
void world_verify_quiet(struct world *w, const char *name);

/* Equal but for the order of endpoints; indices are without holes. */
bool elements_alike(const struct element *a, size_t n_a, const struct element *b,
		    size_t n_b, enum family family, struct strbuf *sb);

#endif
