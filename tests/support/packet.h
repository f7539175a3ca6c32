/*
 * What becomes of a new packet, told twice: from the elements of a table by the
 * rules of nft/ruleset.c, and from the objects by the words of the semantics,
 * naively. The two have nothing in common but the answer.
 */
#ifndef TESTS_SUPPORT_PACKET_H
#define TESTS_SUPPORT_PACKET_H

#include "proxy/model/model.h"
#include "proxy/base/strbuf.h"

struct packet {
	bool pod, host; /* source */
	struct addr source, destination;
	uint8_t protocol;
	uint16_t port;
};

enum fate { FATE_PASS, FATE_DROP, FATE_REJECT, FATE_DNAT };

struct outcome {
	enum fate fate;
	bool masquerade;
	unsigned int n;
	struct endpoint *endpoints; /* sorted; in the scratch */
	uint64_t kept; /* a bit for each endpoint that sees the source (BEY-3) */
};

/* @list is sorted. An element that is missing where rules need one gives FATE_PASS and a complaint.
 */
struct outcome packet_by_elements(const struct model *m, enum family family,
				  const struct element *list, size_t n,
				  const struct packet *packet,
				  struct arena *scratch, struct strbuf *complaint);
struct outcome packet_by_objects(const struct model *m, enum family family,
				 const struct packet *packet,
				 struct arena *scratch);
bool outcomes_equal(const struct outcome *a, const struct outcome *b);
void packet_print(struct strbuf *sb, enum family family,
		  const struct packet *packet);
void outcome_print(struct strbuf *sb, enum family family,
		   const struct outcome *outcome);

#endif
