/*
 * The devices of the fast path's flowtable (BEY-6). The flowtable itself is a part of the table;
 * its devices come and go without the rest of the table being touched.
 */
#ifndef NFT_FLOWTABLE_H
#define NFT_FLOWTABLE_H

#include "nft/interfaces.h"
#include "nft/nlsock.h"
#include "proxy/base/addr.h"
#include "proxy/model/ruleset.h"

#define FLOWTABLE_NAME "fast" /* hook ingress, priority filter */

/* A list of names, sorted. */
struct devices {
	char (*names)[INTERFACE_NAME_SIZE];
	unsigned int count;
};

void devices_free(struct devices *d);
bool devices_have(const struct devices *d, const char *name);

/* Those of @interfaces that fastPath names, at most FLOWTABLE_DEVICES_MAX.
 * Returns 0 or -ENOMEM; devices_free() is due after success. */
enum {
	FLOWTABLE_DEVICES_MAX = 1000
}; /* so that all of them fit into one message of a dump */
int devices_choose(const struct ruleset *ruleset,
		   const struct interfaces *interfaces, struct devices *d);

/* Those that the kernel's flowtable has. Returns 0 or a negative errno; -ENOENT: no flowtable. */
int flowtable_devices(struct nlsock *nl, enum family family, struct devices *d,
		      struct errbuf *eb);

/* One of those to come or to go. */
struct device_change {
	const char *name;
	bool remove;
	int err; /* the kernel refuses it, and has all others; else 0 */
};

/*
 * All of @changes that the kernel takes, in one transaction. Returns 0, or a negative errno with
 * @eb: then nothing has changed.
 */
int flowtable_change(struct nlsock *nl, enum family family,
		     struct device_change *changes, unsigned int count,
		     struct errbuf *eb);

#endif
