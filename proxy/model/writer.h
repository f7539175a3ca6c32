/*
 * The verbs with which a table is written. A batch (netlink) and a text
 * (--dry-run) both implement them, so that what is printed is what is installed.
 */
#ifndef MODEL_WRITER_H
#define MODEL_WRITER_H

#include "proxy/model/element.h"

/* One endpoint of a service port with session affinity: a chain that remembers and translates. */
struct sticky_chain {
	/* sticky/NAMESPACE/NAME/PROTOCOL/PORTNAME/ADDRESS/PORT, sticky-local/... */
	const char *name;
	const char *map; /* affinity/NAMESPACE/NAME/PROTOCOL/PORTNAME, affinity-local/... */
	struct addr endpoint;
	uint16_t port;
	uint8_t protocol; /* IPPROTO_* of the service port; not 0 */
	uint32_t timeout_s;
};

enum change { CHANGE_ADD, CHANGE_UPDATE, CHANGE_DELETE };

/*
 * @ctx is the first argument of each. Failures (memory) stick in the writer and
 * surface at its end. Order between calls does not matter within one
 * transaction: deletions of elements go before additions, objects before what
 * refers to them. All arguments are copied.
 *
 * table:    ADD makes the table, its constant sets, maps and chains with their
 * rules; UPDATE rewrites the rules of the constant chains, and makes and
 * removes parts (enum table_part) of a table that has those in @parts, to which
 * other calls do not look; DELETE removes all. DELETE followed by ADD replaces.
 * pick:     ADD makes a pick chain with its rules, UPDATE rewrites its rules,
 * DELETE removes it. affinity: the map of a service port and list (UPDATE is
 * not used). sticky:   as pick. Before Linux 6.2 DELETE of a chain needs that
 * no element of the same transaction pointed at it. ranges:   the set
 * ranges/NAMESPACE/NAME of a Service's source ranges, and the chain
 * firewall/NAMESPACE/NAME that looks into it; UPDATE rewrites the chain's
 * rules. element:  ADD or DELETE; an element whose data changes is deleted and
 * added. @owner comes back if the kernel refuses.
 */
struct writer {
	void *ctx;
	void (*table)(void *ctx, enum change change, unsigned int parts);
	void (*pick)(void *ctx, enum change change, const struct verdict *pick);
	void (*affinity)(void *ctx, enum change change, const char *name,
			 const char *comment);
	void (*sticky)(void *ctx, enum change change,
		       const struct sticky_chain *chain);
	void (*ranges)(void *ctx, enum change change, const char *set);
	void (*element)(void *ctx, enum change change,
			const struct element *element, void *owner);
};

#endif
