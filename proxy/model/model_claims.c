/*
 * Claims on virtual IPs. They are kept as soon as a Service changes, before
 * anything is compiled: whoever else claims the same VIP becomes dirty, so that
 * a later compilation finds the right winner without an order between Services.
 */
#include "proxy/model/model_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t vip_hash(const struct vip *vip, uint8_t protocol)
{
	const uint16_t rest[2] = { vip->port,
				   (uint16_t)(protocol << 1 |
					      (vip->role == VIP_NODE_PORT)) };

	return hash_bytes(hash_bytes(HASH_SEED, &vip->addr, sizeof(vip->addr)),
			  rest, sizeof(rest));
}

static bool claims_same(const struct claim *a, const struct claim *b)
{
	return a->vip.port == b->vip.port &&
	       a->port->protocol == b->port->protocol &&
	       (a->vip.role == VIP_NODE_PORT) == (b->vip.role == VIP_NODE_PORT) &&
	       addr_compare(&a->vip.addr, &b->vip.addr) == 0;
}

/* The other claims on the same VIP. */
#define for_each_rival(c, claims, of)                                          \
	for_each_hash_match (c, claims, (of)->node.hash, node)                 \
		if (c == (of) || !claims_same(c, of))                          \
			continue;                                              \
		else

/* SVC-11: by age, then namespace/name, then port name. */
static int claim_compare(const struct claim *a, const struct claim *b)
{
	const struct service *sa = a->port->service->object,
			     *sb = b->port->service->object;
	int order;

	assert(sa && sb);
	if (sa->created_s != sb->created_s)
		return sa->created_s < sb->created_s ? -1 : 1;
	order = strcmp(sa->namespace, sb->namespace);
	if (!order)
		order = strcmp(sa->name, sb->name);
	return order ? order : strcmp(a->port->name, b->port->name);
}

bool claim_wins(const struct model *m, enum family family, const struct claim *claim)
{
	struct claim *c;

	for_each_rival (c, &m->claims[family], claim)
		if (claim_compare(c, claim) < 0)
			return false;
	return true;
}

void claim_set_lost(struct model *m, enum family family, struct claim *claim,
		    bool lost)
{
	assert(lost || m->n_lost[family] >= claim->lost);
	m->n_lost[family] += (unsigned int)lost - (unsigned int)claim->lost;
	claim->lost = lost;
	assert(m->n_lost[family] <= m->claims[family].count);
}

unsigned int model_conflicts(const struct model *m, enum family family)
{
	return m->n_lost[family];
}

static void mark_rivals(struct model *m, enum family family,
			const struct claim *claim)
{
	struct claim *c;

	for_each_rival (c, &m->claims[family], claim)
		model_mark(m, c->port->service, family);
}

void claims_drop(struct model *m, enum family family,
		 struct service_port_state *port)
{
	unsigned int i;

	for (i = 0; i < port->n_claims; i++) {
		mark_rivals(m, family, &port->claims[i]);
		assert(m->n_lost[family] >= port->claims[i].lost);
		m->n_lost[family] -= port->claims[i].lost;
		hashtab_remove(&m->claims[family], &port->claims[i].node);
	}
	free(port->claims);
	port->claims = NULL;
	port->n_claims = 0;
}

bool claims_equal(const struct service_port_state *port, const struct vip *vips,
		  unsigned int n)
{
	unsigned int i;

	assert(vips || !n);
	if (n != port->n_claims)
		return false;
	for (i = 0; i < n; i++)
		if (vip_compare(&port->claims[i].vip, &vips[i]) ||
		    port->claims[i].vip.role != vips[i].role)
			return false;
	return true;
}

int claims_set(struct model *m, enum family family, struct service_port_state *port,
	       const struct vip *vips, unsigned int n)
{
	struct claim *claims;
	unsigned int i;

	claims_drop(m, family, port);
	assert(port->spec);
	assert(!port->n_claims && (vips || !n));
	if (!n)
		return 0;
	claims = calloc(n, sizeof(*claims));
	if (!claims)
		return -ENOMEM;
	port->claims = claims;
	port->n_claims = n;
	for (i = 0; i < n; i++) {
		claims[i].vip = vips[i];
		claims[i].port = port;
		hashtab_insert(&m->claims[family], &claims[i].node,
			       vip_hash(&vips[i], port->protocol));
		mark_rivals(m, family, &claims[i]);
	}
	return 0;
}

struct service_port_state *model_vip_owner(const struct model *m,
					   enum family family,
					   const struct addr *addr,
					   uint8_t protocol, uint16_t port)
{
	struct service_port_state self = { .protocol = protocol };
	struct claim key = { .port = &self, .vip.port = port }, *c, *best = NULL;

	if (addr)
		key.vip.addr = *addr;
	else
		key.vip.role = VIP_NODE_PORT;
	key.node.hash = vip_hash(&key.vip, protocol);
	for_each_rival (c, &m->claims[family], &key)
		if (!best || claim_compare(c, best) < 0)
			best = c;
	return best ? best->port : NULL;
}
