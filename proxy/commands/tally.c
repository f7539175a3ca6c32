/*
 * What was seen is a set of hashes, 8 bytes a connection: of a million
 * connections none is taken for another in 30 million looks.
 */
#include "proxy/commands/tally.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/serve/vips.h"

/* Open addressing; 0 is an empty place. */
struct seen {
	uint64_t *places;
	size_t n_places, count; /* a power of two, at most half of them taken */
};

static struct seen *seen_new(void)
{
	struct seen *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->n_places = 1024;
	s->places = calloc(s->n_places, sizeof(*s->places));
	if (s->places)
		return s;
	free(s);
	return NULL;
}

void seen_free(struct seen *s)
{
	if (s)
		free(s->places);
	free(s);
}

static uint64_t *seen_place(const struct seen *s, uint64_t key)
{
	size_t i = key & (s->n_places - 1);

	assert(key && !(s->n_places & (s->n_places - 1)));
	while (s->places[i] && s->places[i] != key)
		i = (i + 1) & (s->n_places - 1);
	return &s->places[i];
}

static int seen_grow(struct seen *s)
{
	struct seen more = { .n_places = s->n_places * 2 };
	size_t i;

	more.places = calloc(more.n_places, sizeof(*more.places));
	if (!more.places)
		return -ENOMEM;
	for (i = 0; i < s->n_places; i++)
		if (s->places[i])
			*seen_place(&more, s->places[i]) = s->places[i];
	free(s->places);
	s->places = more.places;
	s->n_places = more.n_places;
	return 0;
}

static int seen_add(struct seen *s, uint64_t key)
{
	uint64_t *place;

	if ((s->count + 1) * 2 > s->n_places && seen_grow(s))
		return -ENOMEM;
	place = seen_place(s, key);
	s->count += !*place;
	*place = key;
	assert(s->count * 2 <= s->n_places);
	return 0;
}

static uint64_t entry_key(enum family family, const struct conntrack_entry *e)
{
	const struct {
		struct addr client, destination;
		uint16_t client_port, destination_port;
		uint32_t id;
	} key = { e->client, e->destination, e->client_port,
		  e->destination_port, e->id };
	const uint64_t hash =
		hash_bytes(HASH_SEED + family + e->protocol, &key, sizeof(key));

	_Static_assert(sizeof(key) == 40, "no holes");
	return hash ? hash : 1;
}

struct tally *tally_new(const struct vips *vips, const struct seen *before)
{
	struct tally *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->vips = vips;
	t->before = before;
	t->ports = calloc(vips_count(vips) + 1, sizeof(*t->ports));
	t->seen = seen_new();
	if (t->ports && t->seen)
		return t;
	tally_free(t);
	return NULL;
}

void tally_free(struct tally *t)
{
	struct tally_endpoint *x;

	if (!t)
		return;
	for_each_hashed (x, &t->endpoints, node)
		free(x);
	hashtab_free(&t->endpoints);
	seen_free(t->seen);
	free(t->ports);
	free(t);
}

static struct tally_endpoint *endpoint_of(struct tally *t, unsigned int port,
					  enum family family,
					  const struct conntrack_entry *e)
{
	const uint64_t hash = hash_bytes(
		HASH_SEED + family + ((uint64_t)port << 20) + e->endpoint_port,
		&e->endpoint, sizeof(e->endpoint));
	struct tally_endpoint *x;

	assert(port < vips_count(t->vips));
	for_each_hash_match (x, &t->endpoints, hash, node)
		if (x->port == port && x->family == family &&
		    x->number == e->endpoint_port &&
		    addr_compare(&x->addr, &e->endpoint) == 0)
			return x;
	x = malloc(sizeof(*x));
	if (!x)
		return NULL;
	*x = (struct tally_endpoint){
		.next = t->ports[port].endpoints,
		.port = port,
		.family = family,
		.addr = e->endpoint,
		.number = e->endpoint_port,
	};
	t->ports[port].endpoints = x;
	t->ports[port].n_endpoints++;
	hashtab_insert(&t->endpoints, &x->node, hash);
	return x;
}

int tally_add(struct tally *t, enum family family,
	      const struct conntrack_entry *entry)
{
	const int port = vips_find(t->vips, family, entry);
	struct tally_endpoint *endpoint;
	uint64_t key;
	bool fresh;

	if (port < 0)
		return -1;
	key = entry_key(family, entry);
	endpoint = endpoint_of(t, (unsigned int)port, family, entry);
	if (!endpoint || seen_add(t->seen, key)) {
		t->out_of_memory = true;
		return port;
	}
	fresh = t->before && !*seen_place(t->before, key);
	t->connections++;
	t->fresh += fresh;
	t->ports[port].connections++;
	t->ports[port].fresh += fresh;
	endpoint->connections++;
	endpoint->fresh += fresh;
	return port;
}

struct seen *tally_take_seen(struct tally *t)
{
	struct seen *s = t->seen;

	assert(s);
	t->seen = NULL; /* the caller's now */
	return s;
}
