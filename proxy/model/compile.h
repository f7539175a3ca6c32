/*
 * Compiling a service port: from the model to the dispatch that it wants in one family.
 */
#ifndef MODEL_COMPILE_H
#define MODEL_COMPILE_H

#include "proxy/model/model.h"

/* The endpoint lists in the kernel's order, where no dispatch tells: after a restart. */
struct kernel_order {
	struct endpoint_list cluster, local;
};

/*
 * Compiles afresh and replaces port->desired. Endpoints that the kernel already
 * has, by port->applied or else by @order (may be NULL), keep their indices.
 * Returns 0 or -ENOMEM, then nothing changes.
 */
int compile_port(const struct model *m, enum family family,
		 struct service_port_state *port,
		 const struct kernel_order *order, struct arena *scratch);

/* The VIPs that this service port has won. In @scratch, sorted. */
int compile_vips(const struct model *m, enum family family,
		 const struct service_port_state *port, struct arena *scratch,
		 const struct vip **vips, unsigned int *count);

#endif
