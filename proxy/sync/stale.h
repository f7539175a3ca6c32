/*
 * Which conntrack entries are stale. UDP (section 13 of the service semantics):
 * flows to a virtual IP that are not answered by a serving endpoint of it, and
 * translated flows to one that has gone. TCP, where Services ask for it
 * (BEY-1): connections whose endpoint is gone. Driven by what was committed;
 * the sweep itself is nft/conntrack.h's.
 */
#ifndef SYNC_STALE_H
#define SYNC_STALE_H

#include "proxy/model/model.h"

struct stale;

/* @protocol is that of UDP or TCP. NULL: no memory */
struct stale *stale_new(const struct model *model, enum family family,
			uint8_t protocol);
void stale_free(struct stale *s);

/*
 * The kernel has what is wanted of this service port, @to, and had @from before
 * (NULL: nothing): those of its flows that may be stale now are to be looked at.
 */
void stale_port_changed(struct stale *s, struct service_port_state *port,
			const struct dispatch *from, const struct dispatch *to);
/* The flows of all service ports are to be looked at. */
void stale_all_changed(struct stale *s);
/* A UDP VIP is gone from the kernel (CT-5). */
void stale_vip_removed(struct stale *s, const struct vip *vip);
/* Node ports are not offered on this address any more; it is theirs that went. */
void stale_address_removed(struct stale *s, const struct addr *addr);

bool stale_is_pending(const struct stale *s); /* a sweep is needed */
bool stale_is_sweeping(const struct stale *s);
/* There are flows of who ceased to serve, which cost little to find. */
bool stale_is_urgent(const struct stale *s);
/*
 * Begins a sweep, of these alone if it is @urgent and they are; does up to
 * @max_entries of it. Both return as sweep_start() and sweep_step().
 */
int stale_begin(struct stale *s, bool urgent, struct errbuf *eb);
int stale_step(struct stale *s, unsigned int max_entries, struct errbuf *eb);
unsigned long stale_deleted(const struct stale *s); /* in the latest sweep */
int stale_fd(const struct stale *s); /* readable while sweeping; -1 before the first sweep */

/* The rule itself; for tests. */
struct flow;
bool stale_flow(void *stale, const struct flow *flow);
/* As at the end of a sweep that began now. */
void stale_swept(struct stale *s);
/*
 * Whose flows the next sweep looks at, and the virtual IPs besides, unless it
 * looks at everything.
 */
const struct flow_filter *stale_lost(const struct stale *s, unsigned int *n);
const struct flow_filter *stale_vips(const struct stale *s, unsigned int *n);

#endif
