/*
 * Private to nft/: the fixed layout of a table, its sets and its chains, each
 * chain with its rules described once (rule.h).
 */
#ifndef NFT_LAYOUT_H
#define NFT_LAYOUT_H

#include "nft/rule.h"
#include "proxy/model/ruleset.h"
#include "proxy/model/writer.h"

#define TABLE_NAME "vipmap"
#define TABLE_COMMENT "Kubernetes services, managed by vipmap"

unsigned int field_size(enum family family, enum field field); /* without padding */
unsigned int key_size(enum family family, const struct key *key); /* with padding */
uint32_t key_type(enum family family,
		  const struct key *key); /* as in NFTA_SET_KEY_TYPE */

enum data_kind { DATA_NONE, DATA_VERDICT, DATA_ENDPOINT };

/* The name is set_name()'s; affinity maps have names of their own. */
struct set_layout {
	struct key key;
	uint8_t data;	/* enum data_kind */
	uint32_t flags; /* NFT_SET_*, as the kernel reports them */
	uint32_t size;	/* 0: not declared */
};

const struct set_layout *set_layout(enum set_id set);
/* Whether a table with these parts has it. */
bool set_is_in(unsigned int parts, enum set_id set);
/* Whether its elements count connections there. */
bool set_counts(unsigned int parts, enum set_id set);
const struct set_layout *affinity_layout(void);
/* As the kernel reports them. The size of a verdict depends on the architecture: do not compare it.
 */
uint32_t set_data_type(enum family family, const struct set_layout *layout);
uint32_t set_data_size(enum family family, const struct set_layout *layout);

/* The longest name that the kernel allows, NFT_NAME_MAXLEN. */
enum { CHAIN_RULES_MAX = FAST_INTERFACES_MAX, CHAIN_NAME_SIZE = 256 };

struct chain {
	const char *name; /* points to @text for pick and firewall chains: do not copy the struct */
	bool has_hook;	  /* a base chain: policy accept */
	const char *type; /* of a base chain: "nat", "filter" */
	uint32_t hook;	  /* NF_INET_* */
	int32_t priority;
	unsigned int n_rules;
	struct rule rules[CHAIN_RULES_MAX];
	char text[CHAIN_NAME_SIZE];
};

enum chain_id {
	CHAIN_REJECT,
	CHAIN_FIREWALLED,
	CHAIN_SHORT_CIRCUIT,
	CHAIN_NODEPORT_SHORT_CIRCUIT,
	CHAIN_EXTERNAL_LOCAL,
	CHAIN_NODEPORT_EXTERNAL_LOCAL,
	CHAIN_SERVICES,
	CHAIN_NAT_PREROUTING,
	CHAIN_NAT_OUTPUT,
	CHAIN_NAT_POSTROUTING,
	CHAIN_FAST_PATH, /* this and the rest: PART_FAST_PATH */
	CHAIN_FAST_PATH_IN,
	CHAIN_FAST_PATH_OUT,
	N_CHAINS
};

/* Each fills @chain, which borrows strings from the other arguments. */
void chain_constant(const struct ruleset *ruleset, enum chain_id id,
		    struct chain *chain);
void chain_pick(const struct ruleset *ruleset, const struct verdict *pick,
		struct chain *chain);
void chain_sticky(const struct sticky_chain *sticky, struct chain *chain);
void chain_firewall(const char *ranges, struct chain *chain);
const char *chain_id_name(enum chain_id id);
bool chain_is_in(unsigned int parts, enum chain_id id); /* as set_is_in() */

/*
 * The chain that a verdict goes to; NULL for a drop and a pass. @own is what element->chain says.
 * @text has PICK_NAME_SIZE bytes.
 */
const char *verdict_chain(const struct verdict *verdict, const char *own,
			  char *text);

/* Whether a verdict that the set needs is there; without, an encoder would make a drop of it. */
bool element_is_whole(const struct element *element);

#endif
