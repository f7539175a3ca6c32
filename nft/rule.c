/*
 * nft text of rules, and their digests. The digest is taken over the text, as
 * it is the one form that no architecture, library or kernel changes; adding a
 * form here changes no old digest.
 */
#include "nft/rule.h"

#include "nft/layout.h"

#include <assert.h>
#include <inttypes.h>
#include <linux/netfilter/nf_tables.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *family_keyword(enum family family)
{
	return family == FAMILY_IPV4 ? "ip" : "ip6";
}

/* Where text goes: either into a string or into a hash. The latter cannot fail. */
struct sink {
	struct strbuf *out;
	uint64_t hash;
};

/* FNV-1a. Digests outlive the program, so it is not hashtab.h's, which may change. */
static const uint64_t digest_start = 0xcbf29ce484222325u,
		      digest_prime = 0x100000001b3u;

static uint64_t digest_bytes(uint64_t hash, const void *bytes, size_t length)
{
	const uint8_t *b = bytes;
	size_t i;

	for (i = 0; i < length; i++)
		hash = (hash ^ b[i]) * digest_prime;
	return hash;
}

static void sink_puts(struct sink *to, const char *text)
{
	if (to->out)
		strbuf_adds(to->out, text);
	else
		to->hash = digest_bytes(to->hash, text, strlen(text));
}

/* For short things: numbers with a word around them. */
__attribute__((format(printf, 2, 3))) static void sink_putf(struct sink *to,
							    const char *fmt, ...)
{
	char text[64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	sink_puts(to, text);
}

static void put_field(struct sink *to, enum family family, enum field field,
		      uint32_t mod)
{
	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
		sink_putf(to, "%s %s", family_keyword(family),
			  field == FIELD_SADDR ? "saddr" : "daddr");
		break;
	case FIELD_PROTOCOL:
		sink_puts(to, "meta l4proto");
		break;
	case FIELD_PORT:
		sink_puts(to, "th dport");
		break;
	case FIELD_INDEX:
		sink_putf(to, "numgen random mod %" PRIu32, mod);
		break;
	case FIELD_ORIGINAL:
		sink_putf(to, "ct original %s daddr", family_keyword(family));
		break;
	}
}

static void sink_put_key(struct sink *to, enum family family,
			 const struct key *key, uint32_t mod)
{
	unsigned int i;

	for (i = 0; i < key->n; i++) {
		if (i)
			sink_puts(to, " . ");
		put_field(to, family, key->fields[i], mod);
	}
}

static void put_address_match(struct sink *to, enum family family,
			      const char *field, const struct stmt *stmt)
{
	char text[PREFIX_TEXT_SIZE];

	assert(stmt->prefix.length <= family_bits(family));
	if (stmt->prefix.length == family_bits(family))
		addr_format(family, &stmt->prefix.addr, text);
	else
		prefix_format(family, &stmt->prefix, text);
	sink_putf(to, "%s %s %s", family_keyword(family), field,
		  stmt->differs ? "!= " : "");
	sink_puts(to, text);
}

/* An asterisk at the end is a wildcard for nft, unless it is escaped. */
static void put_interface(struct sink *to, const struct stmt *stmt)
{
	size_t length = strlen(stmt->name);
	bool literal = length && stmt->name[length - 1] == '*';
	bool out = stmt->kind == STMT_OIFNAME || stmt->kind == STMT_OIFNAME_BEGIN;
	bool begin = stmt->kind == STMT_IIFNAME_BEGIN ||
		     stmt->kind == STMT_OIFNAME_BEGIN;

	sink_putf(to, "%s %s", out ? "oifname" : "iifname",
		  stmt->differs ? "!= " : "");
	if (!begin && literal)
		sink_putf(to, "\"%.*s\\*\"", (int)length - 1, stmt->name);
	else
		sink_putf(to, "\"%s%s\"", stmt->name, begin ? "*" : "");
}

/* The largest unit that divides it, as nft prints it: 3h, 90m, 61s. */
static void put_timeout(struct sink *to, uint32_t seconds)
{
	static const struct {
		uint32_t seconds;
		char unit;
	} units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' }, { 1, 's' } };
	size_t i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (seconds / units[i].seconds)
			sink_putf(to, "%" PRIu32 "%c",
				  seconds / units[i].seconds, units[i].unit);
		seconds %= units[i].seconds;
	}
}

static void put_remember(struct sink *to, enum family family,
			 const struct stmt *stmt)
{
	char text[ADDR_TEXT_SIZE];

	sink_puts(to, "update @");
	sink_puts(to, stmt->name);
	sink_putf(to, " { %s saddr timeout ", family_keyword(family));
	put_timeout(to, stmt->number);
	sink_putf(to, " : %s . %u }", addr_format(family, &stmt->addr, text),
		  stmt->port);
}

static void put_dnat(struct sink *to, enum family family, const struct stmt *stmt)
{
	char text[ADDR_TEXT_SIZE];

	sink_putf(to, family == FAMILY_IPV4 ? "dnat to %s:%u" : "dnat to [%s]:%u",
		  addr_format(family, &stmt->addr, text), stmt->port);
}

static void put_stmt(struct sink *to, enum family family, const struct stmt *stmt)
{
	char text[ADDR_TEXT_SIZE];

	switch (stmt->kind) {
	case STMT_SADDR:
		put_address_match(to, family, "saddr", stmt);
		break;
	case STMT_DADDR:
		put_address_match(to, family, "daddr", stmt);
		break;
	case STMT_IIFNAME:
	case STMT_IIFNAME_BEGIN:
	case STMT_OIFNAME:
	case STMT_OIFNAME_BEGIN:
		put_interface(to, stmt);
		break;
	case STMT_SADDR_LOCAL:
		sink_puts(to, "fib saddr type local");
		break;
	case STMT_DADDR_LOCAL:
		sink_puts(to, stmt->differs ? "fib daddr type != local"
					    : "fib daddr type local");
		break;
	case STMT_PROTOCOL:
		sink_putf(to, "meta l4proto %s",
			  protocol_name((uint8_t)stmt->number));
		break;
	case STMT_ECHO_REQUEST:
		sink_puts(to, family == FAMILY_IPV4 ? "icmp type echo-request"
						    : "icmpv6 type echo-request");
		break;
	case STMT_MARKED:
		sink_putf(to, "meta mark and 0x%" PRIx32 " != 0", stmt->number);
		break;
	case STMT_DNATED:
		sink_puts(to, "ct status dnat");
		break;
	case STMT_ASSURED:
		sink_puts(to, "ct status assured");
		break;
	case STMT_ESTABLISHED:
		sink_puts(to, "ct state established");
		break;
	case STMT_LOOKUP:
		sink_put_key(to, family, &stmt->key, stmt->mod);
		sink_puts(to, stmt->differs ? " != @" : " @");
		sink_puts(to, stmt->name);
		break;
	case STMT_VMAP:
		sink_put_key(to, family, &stmt->key, stmt->mod);
		sink_puts(to, " vmap @");
		sink_puts(to, stmt->name);
		break;
	case STMT_DNAT_MAP:
		sink_putf(to, "dnat %s to ", family_keyword(family));
		sink_put_key(to, family, &stmt->key, stmt->mod);
		sink_puts(to, " map @");
		sink_puts(to, stmt->name);
		break;
	case STMT_DNAT:
		put_dnat(to, family, stmt);
		break;
	case STMT_DNAT_ADDR:
		sink_puts(to, "dnat to ");
		sink_puts(to, addr_format(family, &stmt->addr, text));
		break;
	case STMT_REDIRECT:
		sink_puts(to, "redirect");
		break;
	case STMT_REMEMBER:
		put_remember(to, family, stmt);
		break;
	case STMT_MARK:
		sink_putf(to, "meta mark set meta mark or 0x%" PRIx32,
			  stmt->number);
		break;
	case STMT_UNMARK:
		sink_putf(to, "meta mark set meta mark xor 0x%" PRIx32,
			  stmt->number);
		break;
	case STMT_MASQUERADE:
		sink_puts(to, "masquerade fully-random");
		break;
	case STMT_GOTO:
		sink_puts(to, "goto ");
		sink_puts(to, stmt->name);
		break;
	case STMT_FLOW:
		sink_puts(to, "flow add @");
		sink_puts(to, stmt->name);
		break;
	case STMT_DROP:
		sink_puts(to, "drop");
		break;
	case STMT_RESET:
		sink_puts(to, "reject with tcp reset");
		break;
	case STMT_UNREACHABLE:
		sink_puts(to, "reject");
		break;
	}
}

static void put_rule(struct sink *to, enum family family, const struct rule *rule)
{
	unsigned int i;

	for (i = 0; i < rule->n; i++) {
		if (i)
			sink_puts(to, " ");
		put_stmt(to, family, &rule->stmts[i]);
	}
}

void rule_print(enum family family, const struct rule *rule, struct strbuf *out)
{
	struct sink to = { .out = out };

	put_rule(&to, family, rule);
}

void typeof_print(enum family family, const struct set_layout *layout,
		  struct strbuf *out)
{
	struct sink to = { .out = out };

	sink_put_key(&to, family, &layout->key, TYPEOF_MOD);
	if (layout->data == DATA_VERDICT)
		sink_puts(&to, " : verdict");
	else if (layout->data == DATA_ENDPOINT)
		sink_putf(&to, " : %s daddr . th dport", family_keyword(family));
}

uint64_t rule_digest(enum family family, const struct rule *rule)
{
	struct sink to = { .hash = digest_start };

	put_rule(&to, family, rule);
	return to.hash ? to.hash : 1;
}

void rule_userdata(uint64_t digest, uint8_t userdata[RULE_UDATA_SIZE])
{
	unsigned int i;

	assert(digest);
	userdata[0] = RULE_UDATA_DIGEST;
	userdata[1] = 8;
	for (i = 0; i < 8; i++)
		userdata[2 + i] = (uint8_t)(digest >> (56 - 8 * i));
}

uint64_t rule_userdata_digest(const void *userdata, size_t size)
{
	const uint8_t *u = userdata;
	uint64_t digest = 0;
	unsigned int i;

	/* Nothing else is ever in ours: a comment that somebody added makes the rule somebody's. */
	if (size != RULE_UDATA_SIZE || u[0] != RULE_UDATA_DIGEST || u[1] != 8)
		return 0;
	for (i = 0; i < 8; i++)
		digest = digest << 8 | u[2 + i];
	return digest;
}

uint64_t digest_add(uint64_t digest, uint64_t rule)
{
	uint8_t bytes[RULE_UDATA_SIZE];

	rule_userdata(rule, bytes);
	digest = digest_bytes(digest ? digest : digest_start, bytes, sizeof(bytes));
	return digest ? digest : 1;
}

uint64_t chain_digest(enum family family, const struct chain *chain)
{
	uint64_t digest = 0;
	unsigned int i;

	assert(chain->n_rules <= CHAIN_RULES_MAX);
	for (i = 0; i < chain->n_rules; i++)
		digest = digest_add(digest, rule_digest(family, &chain->rules[i]));
	return digest;
}

size_t comment_copy(const char *comment, char *text)
{
	size_t i;

	for (i = 0; i < COMMENT_MAX && comment[i]; i++) {
		unsigned char c = (unsigned char)comment[i];

		text[i] = c < ' ' || c == '"' || c == '\\' || c == 127 ? '?'
								       : (char)c;
	}
	text[i] = '\0';
	assert(i <= COMMENT_MAX);
	return i;
}
