/* Addresses are sorted, and found by halves; names are found by their hash. */
#include "proxy/serve/vips.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nft/conntrack.h"
#include "proxy/base/array.h"
#include "proxy/base/hashtab.h"

struct vip_entry {
	enum family family;
	bool nodeport;
	uint8_t protocol;
	uint16_t number;
	struct addr addr; /* of a node port zero */
	unsigned int port;
};

struct port_name {
	struct hash_node node;
	unsigned int port;
	char name[];
};

struct vips {
	struct vip_entry *entries;
	size_t n_entries, room;
	struct port_name **ports;
	unsigned int n_ports, ports_room;
	struct hashtab names;
};

struct vips *vips_new(void)
{
	return calloc(1, sizeof(struct vips));
}

void vips_free(struct vips *v)
{
	unsigned int i;

	if (!v)
		return;
	for (i = 0; i < v->n_ports; i++)
		free(v->ports[i]);
	free(v->ports);
	free(v->entries);
	hashtab_free(&v->names);
	free(v);
}

static struct port_name *port_find(const struct vips *v, const char *name,
				   uint64_t hash)
{
	struct port_name *p;

	for_each_hash_match (p, &v->names, hash, node)
		if (strcmp(p->name, name) == 0)
			return p;
	return NULL;
}

static struct port_name *port_new(const char *name)
{
	const size_t size = strlen(name) + 1;
	struct port_name *p = malloc(sizeof(*p) + size);

	if (p)
		memcpy(p->name, name, size);
	return p;
}

int vips_add_port(struct vips *v, const char *name)
{
	const uint64_t hash = hash_text(HASH_SEED, name);
	struct port_name *p = port_find(v, name, hash);

	if (p)
		return (int)p->port;
	if (array_grow(v->ports, v->n_ports, v->ports_room))
		return -ENOMEM;
	p = port_new(name);
	if (!p)
		return -ENOMEM;
	p->port = v->n_ports;
	v->ports[v->n_ports++] = p;
	hashtab_insert(&v->names, &p->node, hash);
	return (int)p->port;
}

int vips_add(struct vips *v, unsigned int port, enum family family,
	     const struct addr *addr, uint16_t port_number, uint8_t protocol)
{
	static const struct addr none;

	if (array_grow(v->entries, v->n_entries, v->room))
		return -ENOMEM;
	v->entries[v->n_entries++] = (struct vip_entry){
		.family = addr ? family : FAMILY_IPV4,
		.nodeport = !addr,
		.protocol = protocol,
		.number = port_number,
		.addr = addr ? *addr : none,
		.port = port,
	};
	return 0;
}

static int entry_order(const void *va, const void *vb)
{
	const struct vip_entry *a = va, *b = vb;
	int order = (int)a->nodeport - (int)b->nodeport;

	if (!order)
		order = (int)a->family - (int)b->family;
	if (!order)
		order = addr_compare(&a->addr, &b->addr);
	if (!order)
		order = (int)a->number - (int)b->number;
	return order ? order : (int)a->protocol - (int)b->protocol;
}

void vips_sort(struct vips *v)
{
	if (v->n_entries)
		qsort(v->entries, v->n_entries, sizeof(*v->entries), entry_order);
}

unsigned int vips_count(const struct vips *v)
{
	return v->n_ports;
}

const char *vips_name(const struct vips *v, unsigned int port)
{
	return v->ports[port]->name;
}

int vips_find(const struct vips *v, enum family family,
	      const struct conntrack_entry *e)
{
	struct vip_entry key = {
		.family = family,
		.addr = e->destination,
		.number = e->destination_port,
		.protocol = e->protocol,
	};
	const struct vip_entry *found;

	if (!v->n_entries)
		return -1;
	found = bsearch(&key, v->entries, v->n_entries, sizeof(key), entry_order);
	if (!found) {
		key.family = FAMILY_IPV4;
		memset(&key.addr, 0, sizeof(key.addr));
		key.nodeport = true;
		found = bsearch(&key, v->entries, v->n_entries, sizeof(key),
				entry_order);
	}
	return found ? (int)found->port : -1;
}
