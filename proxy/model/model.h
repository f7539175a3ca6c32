/*
 * The model: the Kubernetes objects as they are now, joined by Service, and for
 * each service port what it wants of the dataplane and what the kernel has. An
 * event touches only the Services that it is about and marks them dirty; the
 * sync takes it from there.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include "proxy/model/config.h"
#include "proxy/base/hashtab.h"
#include "proxy/model/node.h"
#include "proxy/model/objects.h"
#include "proxy/model/dispatch.h"

struct service_port_state;

/* One service port's wish for one virtual IP. Of several for the same VIP the oldest Service wins.
 */
struct claim {
	struct hash_node node; /* in model->claims */
	struct vip vip;
	struct service_port_state *port;
	bool lost; /* said so in the log already */
};

/* A service port in one family; identified by Service, name and protocol. */
struct serving;
struct service_port_state {
	struct service_port_state *next; /* of the same Service and family */
	struct service_entry *service;
	const char *name, *label, *sticky; /* label: namespace/name:port */
	const struct service_port *spec; /* NULL: the Service has no such port (any more) */
	struct claim *claims;
	struct dispatch *applied; /* what the kernel has acknowledged; NULL: nothing */
	struct dispatch *desired; /* of the latest compilation */
	int64_t retry_us;
	uint64_t changed_in; /* the dataplane's list of changes that has it */
	/* number of its latest change that may leave stale conntrack entries */
	uint64_t flow_change;
	struct serving *answering; /* sync/stale.c's; freed with this */
	unsigned int n_claims;
	unsigned int refusals; /* by the kernel, in a row: set aside until retry_us */
	uint8_t protocol;
	bool desired_is_applied; /* then they are one dispatch */
	bool dropped; /* set aside, and not even what was applied can stay */
	bool flows_touched; /* compiled since stale entries of conntrack were last looked for */
};

/* A Service, or a name that slices speak of before it exists. */
struct service_entry {
	struct hash_node node;
	const char *namespace, *name;
	struct service *object;	    /* NULL: not there */
	struct slice_entry *slices; /* of both families */
	struct service_port_state *ports[N_FAMILIES];
	struct service_entry *next_dirty[N_FAMILIES];
	uint64_t epoch; /* of the list that last had it */
	bool dirty[N_FAMILIES];
	bool unfinished[N_FAMILIES]; /* memory ran out over the object: model_settle() */
	/* BEY-1: since it was last compiled, endpoints went whose connections may have to end */
	bool endpoints_left[N_FAMILIES];
	/* has, or had, node ports on loopback: the listeners are to be told */
	bool localhost_ports[N_FAMILIES];
};

struct slice_entry {
	struct hash_node node;
	struct slice *object;
	struct service_entry *service;
	struct slice_entry *next, **at; /* in service->slices */
	uint64_t epoch;
};

struct cidr_entry {
	struct cidr_entry *next;
	struct service_cidr *object;
	uint64_t epoch;
};

/* Changes since the family's latest sync. */
struct model_pending {
	unsigned int services, slices;
	int64_t *triggers; /* last-change-trigger-time of changed slices, for MET-2 */
	unsigned int n_triggers, triggers_room;
};

struct model_counters {
	uint64_t service_changes, endpoint_changes; /* seen */
};

struct model;

/* @config is borrowed. NULL when out of memory. */
struct model *model_new(const struct config *config,
			void (*log)(void *ctx, int severity, const char *message),
			void *log_ctx);
void model_free(struct model *m);
const struct object_sink *model_sink(struct model *m);
void model_log(struct model *m, int severity, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

const struct config *model_config(const struct model *m);
const struct node *model_node(const struct model *m); /* NULL: unknown */
const struct node_info *model_node_info(const struct model *m);
struct addr_view model_addresses(const struct model *m,
				 enum family family); /* of this node */
const struct cidr_entry *model_cidrs(const struct model *m);

/* All of them, in no order; the one at hand may be pruned. */
const struct hashtab *model_services(const struct model *m);
const struct hashtab *model_slices(const struct model *m);
#define for_each_service_entry(s, m)                                           \
	for_each_hashed (s, model_services(m), node)
#define for_each_slice_entry(e, m) for_each_hashed (e, model_slices(m), node)

uint64_t model_revision(const struct model *m); /* counts changes */
/* The same of what is to be programmed. */
uint64_t model_changes(const struct model *m, enum family family);
struct model_counters model_counters(const struct model *m);

const struct model_pending *model_pending(const struct model *m,
					  enum family family);
/* All of the family's changes are in the kernel; their triggers stay until they are forgotten. */
void model_synced(struct model *m, enum family family);
void model_forget_triggers(struct model *m, enum family family);

/*
 * Another configuration takes effect (CFG-3): marks what becomes different by it, and only that.
 * @rules[family] says whether rules do, besides elements. @config is borrowed from here on, the old
 * one no longer. Returns 0, or -ENOMEM: then nothing has changed.
 */
int model_set_config(struct model *m, const struct config *config,
		     bool rules[N_FAMILIES]);

/* The addresses of this node have changed; copies. Returns 0 or -ENOMEM. */
int model_set_addresses(struct model *m, enum family family,
			const struct addr *list, unsigned int count);

/* Without it the rules have no fast path, whatever the configuration says. */
void model_allow_fast_path(struct model *m, bool allow);
/* The same of counters. */
void model_allow_counters(struct model *m, bool allow);

/* Whether a whole list of the kind has arrived. */
bool model_has_list(const struct model *m, enum kind kind);
/* Whether the first lists of Services and EndpointSlices are there (RUN-1). */
bool model_is_complete(const struct model *m);

void model_mark(struct model *m, struct service_entry *service, enum family family);
/* Nobody will ever take what is dirty there: notes nothing any more, so that nothing piles up. */
void model_ignore_family(struct model *m, enum family family);
/* Takes one dirty Service off the list; NULL when there is none. */
struct service_entry *model_take_dirty(struct model *m, enum family family);
/* To be called before a dirty Service is compiled. Returns 0 or -ENOMEM: keep it dirty. */
int model_settle(struct model *m, struct service_entry *service,
		 enum family family);
bool model_is_dirty(const struct model *m, enum family family);
/* To be called before a family is compiled. Returns 0 or -ENOMEM: then it stays dirty. */
int model_catch_up(struct model *m);

/* Frees service ports that are neither wanted nor applied, and @service itself if nothing is left.
 */
void model_prune(struct model *m, struct service_entry *service);

/* Whether connections of a Service end when their endpoint is gone (BEY-1). */
bool model_closes_connections(const struct model *m,
			      const struct service_entry *service);

const char *model_zone(const struct model *m); /* "" if unknown */

/* The service port that holds a VIP (@addr NULL: a node port), or NULL. */
struct service_port_state *model_vip_owner(const struct model *m,
					   enum family family,
					   const struct addr *addr,
					   uint8_t protocol, uint16_t port);
/* Whether the claim is the winning one. */
bool claim_wins(const struct model *m, enum family family,
		const struct claim *claim);

/* Notes whether another Service has the claim's VIP; counts these. */
void claim_set_lost(struct model *m, enum family family, struct claim *claim,
		    bool lost);
unsigned int model_conflicts(const struct model *m, enum family family);

/*
 * Elements that belong to no service port: node-port addresses, ServiceCIDRs
 * and noMasqueradeCIDRs; sorted.
 */
int model_globals(const struct model *m, enum family family, struct arena *scratch,
		  const struct element **elements, size_t *count);

/* What they, and the rules, are to be is in the kernel. */
void model_globals_settled(struct model *m, enum family family);

/* Number of different ready local endpoint addresses of a Service (HC-4). */
unsigned int model_local_endpoints(const struct service_entry *service,
				   enum family family, struct arena *scratch);

struct service_entry *model_find_service(const struct model *m,
					 const char *namespace, const char *name);

#endif
