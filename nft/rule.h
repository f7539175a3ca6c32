/*
 * Private to nft/: one rule, as a list of statements. encode_rule.h turns it
 * into netlink, rule_print() into nft text, and its digest tells it from any
 * other.
 */
#ifndef NFT_RULE_H
#define NFT_RULE_H

#include "proxy/base/addr.h"
#include "proxy/base/strbuf.h"

struct set_layout;
struct chain;

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

enum { RULE_STMTS_MAX = 6 };

struct rule {
	unsigned int n;
	struct stmt stmts[RULE_STMTS_MAX];
};

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
