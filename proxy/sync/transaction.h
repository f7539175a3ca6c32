/*
 * The content of a transaction: what the programs of service ports, and what they share, ask for
 * that the kernel does not have, and the reverse. It goes to a writer, which sends or prints it.
 */
#ifndef SYNC_TRANSACTION_H
#define SYNC_TRANSACTION_H

#include "proxy/model/ruleset.h"
#include "proxy/model/program.h"
#include "proxy/sync/counts.h"
#include "proxy/sync/registry.h"
#include "proxy/sync/snapshot.h"

struct service_port_state;

struct transaction {
	/* borrowed */
	const struct ruleset *ruleset;
	struct registry *registry;
	const struct writer *writer;
	struct snapshot *snapshot; /* the kernel's state, if it is that which counts; else NULL */
	struct counts *counts;	   /* of connections; NULL: nobody counts them */
	struct arena *scratch;	   /* reset after each service port */
	int64_t now_us;
	int err; /* 0 or -ENOMEM, of all calls so far */
};

/*
 * The difference between two programs of @port; either may be NULL. With a snapshot @from must be
 * NULL: then all that @to wants is compared with what was read.
 */
void transaction_program(struct transaction *t, const struct program *from,
			 const struct program *to, struct service_port_state *port);

/*
 * Tells @t->counts what that will delete, before: so the counts can be asked for. Only without a
 * snapshot.
 */
void transaction_foresee(struct transaction *t, const struct program *from,
			 const struct program *to);

/* The same for sorted elements of no service port. With a snapshot @from is not looked at. */
void transaction_globals(struct transaction *t, const struct element *from, size_t n_from,
			 const struct element *to, size_t n_to);

/* What service ports share, once all of them have been told: elements, pick chains, maps. */
void transaction_shared(struct transaction *t);

/* Deletes what the snapshot has and nobody asked for: the last call. */
void transaction_unseen(struct transaction *t);

#endif
