/*
 * Whose an entry of conntrack is: the virtual IPs of all service ports, to be
 * looked up by the destination of a translated connection.
 */
#ifndef SERVE_VIPS_H
#define SERVE_VIPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/base/addr.h"

struct conntrack_entry;
struct vips;

struct vips *vips_new(void);	/* NULL when out of memory */
void vips_free(struct vips *v); /* NULL is allowed */

/*
 * One more service port, or the one of that name that is there. Returns its
 * number, which counts from 0, or -ENOMEM.
 */
int vips_add_port(struct vips *v, const char *name);
/* One of its addresses; @addr NULL: a node port. Returns 0 or -ENOMEM. */
int vips_add(struct vips *v, unsigned int port, enum family family,
	     const struct addr *addr, uint16_t port_number, uint8_t protocol);
/* To be called after the last vips_add() and before the first vips_find(). */
void vips_sort(struct vips *v);

unsigned int vips_count(const struct vips *v); /* of service ports */
const char *vips_name(const struct vips *v, unsigned int port);

/*
 * The service port whose address the entry's destination is, or -1. Others
 * translate as well: without one it is none of our connections.
 */
int vips_find(const struct vips *v, enum family family,
	      const struct conntrack_entry *entry);

#endif
