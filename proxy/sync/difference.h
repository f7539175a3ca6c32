/*
 * The content of a transaction: what the dispatches of service ports, and what
 * they share, ask for that the kernel does not have, and the reverse. It goes
 * to a writer, which sends or prints it.
 */
#ifndef SYNC_DIFFERENCE_H
#define SYNC_DIFFERENCE_H

#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"
#include "proxy/model/dispatch.h"
#include "proxy/sync/counts.h"
#include "proxy/sync/registry.h"
#include "proxy/sync/snapshot.h"

struct service_port_state;

struct difference {
	/* borrowed */
	const struct ruleset *ruleset;
	struct registry *registry;
	const struct writer *writer;
	struct snapshot *snapshot; /* the kernel's state, if it is that which counts; else NULL */
	struct counts *counts; /* of connections; NULL: nobody counts them */
	struct arena *scratch; /* reset after each service port */
	int64_t now_us;
	int err; /* 0 or -ENOMEM, of all calls so far */
};

/*
 * The difference between two dispatches of @port; either may be NULL. With a snapshot @from must be
 * NULL: then all that @to wants is compared with what was read.
 */
void difference_port(struct difference *t, const struct dispatch *from,
		     const struct dispatch *to, struct service_port_state *port);

/*
 * Tells @t->counts what that will delete, before: so the counts can be asked
 * for. Only without a snapshot.
 */
void difference_foresee(struct difference *t, const struct dispatch *from,
			const struct dispatch *to);

/* The same for sorted elements of no service port. With a snapshot @from is not looked at. */
void difference_globals(struct difference *t, const struct element *from,
			size_t n_from, const struct element *to, size_t n_to);

/* What service ports share, once all of them have been told: elements, pick chains, maps. */
void difference_shared(struct difference *t);

/* Deletes what the snapshot has and nobody asked for: the last call. */
void difference_unseen(struct difference *t);

#endif
