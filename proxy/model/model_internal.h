/*
 * The inside of the model, for the files model*.c and for those of this room
 * that decide by it. Nobody above includes this.
 */
#ifndef MODEL_MODEL_INTERNAL_H
#define MODEL_MODEL_INTERNAL_H

#include "proxy/model/model.h"

struct model {
	const struct config *config; /* borrowed */
	void (*log)(void *ctx, int severity,
		    const char *message); /* severity as in syslog(3) */
	void *log_ctx;

	struct hashtab services, slices;
	struct cidr_entry *cidrs;
	struct node *node; /* NULL: unknown */
	uint64_t node_epoch;
	struct node_info info;
	bool info_is_old;		/* memory ran out: model_catch_up() */
	struct addr *local[N_FAMILIES]; /* addresses of this node */
	unsigned int n_local[N_FAMILIES];

	struct hashtab claims[N_FAMILIES];
	unsigned int n_lost[N_FAMILIES]; /* claims that another Service has won */
	struct service_entry *dirty[N_FAMILIES];
	bool ignored[N_FAMILIES];
	bool no_fast_path, no_counters; /* the kernel cannot do it */
	bool globals_dirty[N_FAMILIES]; /* elements of no service port */
	struct model_pending pending[N_FAMILIES];

	uint64_t epoch; /* counts lists */
	uint64_t list_epoch[N_KINDS];
	bool complete[N_KINDS];	      /* a whole list has arrived */
	uint64_t revision;	      /* counts changes */
	uint64_t changes[N_FAMILIES]; /* ... of what is to be programmed */
	struct model_counters counters;
	struct object_sink sink;
};

uint64_t model_name_hash(const char *namespace, const char *name);

/* Finds or makes it; NULL: no memory. */
struct service_entry *model_get_service(struct model *m, const char *namespace,
					const char *name);

/* model_services.c */

int model_put_service(void *ctx, struct service *object);
/* Replaces the object (NULL: removes it). */
void model_set_service(struct model *m, struct service_entry *s,
		       struct service *object);
/* Removes what the list that began with @since has not brought. */
void model_drop_services(struct model *m, uint64_t since);
/*
 * Brings the service ports and claims in step with the object. @recreated: its
 * age is another, so who wins may be too. Out of memory it leaves ports out,
 * until model_settle() has brought them in.
 */
int model_refresh_service(struct model *m, struct service_entry *s,
			  enum family family, bool recreated);
void model_free_port(struct model *m, enum family family,
		     struct service_port_state *p);

/* model_claims.c */

void claims_drop(struct model *m, enum family family,
		 struct service_port_state *port);
bool claims_equal(const struct service_port_state *port, const struct vip *vips,
		  unsigned int n);
int claims_set(struct model *m, enum family family, struct service_port_state *port,
	       const struct vip *vips, unsigned int n);

/* model_slices.c */

int model_put_slice(void *ctx, struct slice *slice);
void model_drop_slice(struct model *m, const char *namespace, const char *name);
void model_drop_slices(struct model *m, uint64_t since);

/* model_node.c: what depends on the node and on the configuration */

int model_put_node(void *ctx, struct node *node);
void model_set_node(struct model *m, struct node *node); /* NULL: unknown */
/* Without memory what depends on the node stays as it was, until model_catch_up(). */
int model_refresh_node(struct model *m);

/* model_globals.c: ServiceCIDRs, and the elements of no service port */

int model_put_cidr(void *ctx, struct service_cidr *object);
void model_drop_cidr(struct model *m, const char *name);
void model_drop_cidrs(struct model *m, uint64_t since);
void model_globals_changed(struct model *m);

#endif
