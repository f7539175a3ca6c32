/*
 * Private to nft/: the fixed layout of a table. Each rule is described once, as
 * a list of statements; encode.h turns it into netlink, rule_print() into nft
 * text, and its digest tells it from any other.
 */
#ifndef NFT_RULE_H
#define NFT_RULE_H

#include "proxy/model/ruleset.h"
#include "proxy/base/strbuf.h"

#define TABLE_NAME "vipmap"
#define TABLE_COMMENT "Kubernetes services, managed by vipmap"

/* What a key consists of, in order. Each field is padded to 4 bytes in keys and registers. */
enum field {
	FIELD_SADDR,	/* ip saddr */
	FIELD_DADDR,	/* ip daddr */
	FIELD_PROTOCOL, /* meta l4proto */
	FIELD_PORT,	/* th dport */
	FIELD_INDEX,	/* numgen random mod N: 4 bytes, host byte order */
	FIELD_ORIGINAL, /* ct original ip daddr: in rules only */
};

enum { KEY_FIELDS_MAX = 4, KEY_SIZE_MAX = 40, DATA_SIZE_MAX = 20 };

struct key {
	uint8_t n;
	uint8_t fields[KEY_FIELDS_MAX]; /* enum field */
};

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

enum stmt_kind {
	STMT_SADDR,	    /* ip saddr [!=] prefix */
	STMT_DADDR,	    /* ip daddr [!=] prefix */
	STMT_IIFNAME,	    /* iifname [!=] "name" */
	STMT_IIFNAME_BEGIN, /* iifname [!=] "name*" */
	STMT_OIFNAME,	    /* the same of oifname */
	STMT_OIFNAME_BEGIN,
	STMT_SADDR_LOCAL,  /* fib saddr type local */
	STMT_DADDR_LOCAL,  /* fib daddr type local; with @differs != local */
	STMT_PROTOCOL,	   /* meta l4proto number */
	STMT_ECHO_REQUEST, /* icmp type echo-request */
	STMT_MARKED,	   /* meta mark and number != 0 */
	STMT_DNATED,	   /* ct status dnat */
	STMT_ASSURED,	   /* ct status assured */
	STMT_ESTABLISHED,  /* ct state established */
	STMT_LOOKUP,	   /* key [!=] @name */
	STMT_VMAP,	   /* key vmap @name */
	STMT_DNAT_MAP,	   /* dnat to key map @name */
	STMT_DNAT,	   /* dnat to address:port */
	STMT_DNAT_ADDR,	   /* dnat to address */
	STMT_REDIRECT,
	STMT_REMEMBER, /* update @name { ip saddr timeout number s : address . port } */
	STMT_MARK,	 /* meta mark set meta mark or number */
	STMT_UNMARK,	 /* meta mark set meta mark xor number */
	STMT_MASQUERADE, /* masquerade fully-random */
	STMT_GOTO,	 /* goto name */
	STMT_FLOW,	 /* flow add @name */
	STMT_DROP,
	STMT_RESET,	  /* reject with tcp reset */
	STMT_UNREACHABLE, /* reject: port-unreachable */
};

struct stmt {
	enum stmt_kind kind;
	bool differs; /* != */
	struct prefix prefix;
	struct addr addr;
	uint16_t port;
	uint32_t number;
	uint32_t mod; /* of a FIELD_INDEX in key */
	struct key key;
	const char *name; /* borrowed from constants, the ruleset or the sticky chain */
};

/* The longest name that the kernel allows, NFT_NAME_MAXLEN. */
enum {
	RULE_STMTS_MAX = 6,
	CHAIN_RULES_MAX = FAST_INTERFACES_MAX,
	CHAIN_NAME_SIZE = 256
};

struct rule {
	unsigned int n;
	struct stmt stmts[RULE_STMTS_MAX];
};

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

/* What "numgen" stands for in a map's declaration: any 32-bit number. */
enum { TYPEOF_MOD = 65536 };

/* nft text of a rule, without newline. */
void rule_print(enum family family, const struct rule *rule, struct strbuf *out);
/* nft text of a set's typeof, "ip daddr . th dport : verdict". */
void typeof_print(enum family family, const struct set_layout *layout,
		  struct strbuf *out);
const char *family_keyword(enum family family); /* "ip", "ip6" */

/*
 * A hash of the rule's text, the same on every machine and never 0. It stands
 * in the rule's userdata as a TLV of type RULE_UDATA_DIGEST, 8 bytes in network
 * order, which nft skips when it lists.
 */
enum { RULE_UDATA_DIGEST = 0x76, RULE_UDATA_SIZE = 2 + 8 };
uint64_t rule_digest(enum family family, const struct rule *rule);
void rule_userdata(uint64_t digest, uint8_t userdata[RULE_UDATA_SIZE]);
uint64_t rule_userdata_digest(const void *userdata,
			      size_t size); /* 0: there is none */

/* Of all rules of a chain in order: start with 0, add each rule's. Never 0 after the first. */
uint64_t digest_add(uint64_t digest, uint64_t rule);
uint64_t chain_digest(enum family family, const struct chain *chain);

/*
 * Comments are cut at COMMENT_MAX bytes; what nft text cannot hold becomes '?'.
 * @text has room for COMMENT_MAX + 1. Returns the length.
 */
enum { COMMENT_MAX = 127 };
size_t comment_copy(const char *comment, char *text);

#endif
