/*
 * What becomes of a packet, in words: the service it meets, the policy that applies, and the
 * endpoints with their probabilities. Pure; it follows the order of verdicts VER-1 to VER-7.
 */
#ifndef MODEL_EXPLAIN_H
#define MODEL_EXPLAIN_H

#include "proxy/model/model.h"
#include "proxy/base/strbuf.h"

struct explain_query {
	enum family family;
	struct addr source, destination;
	uint8_t protocol;
	uint16_t port;
};

/* All Services must be compiled: service_port_state->desired is read. Returns 0 or a negative
 * errno. */
int explain_packet(const struct model *m, const struct explain_query *query, struct strbuf *out);

#endif
