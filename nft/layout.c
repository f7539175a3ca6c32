/*
 * The layout of a table: its sets and chains, and the rules of each chain as
 * lists of statements. What is here decides what a packet meets; how it is
 * written down is left to rule.c and encode.c. Rules are few and cheap to
 * describe, so they are described anew each time somebody asks.
 */
#include "nft/layout.h"

/* First: the kernel's headers step back for the C library's, not the other way round. */
#include <assert.h>
#include <netinet/in.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_ipv4.h>
#include <stdio.h>
#include <string.h>

#include "nft/flowtable.h"

/* nft's numbers of data types. The kernel keeps them for nft and does not look at them. */
enum {
	TYPE_INTEGER = 4,
	TYPE_IPADDR = 7,
	TYPE_IP6ADDR = 8,
	TYPE_INET_PROTOCOL = 12,
	TYPE_INET_SERVICE = 13,
	TYPE_BITS = 6,
};

/* Affinity: bounded, since any client may add to it (AFF-9). */
enum { AFFINITY_SIZE = 1048576 };

/* clang-format off */
#define KEY(...) { sizeof((uint8_t[]){ __VA_ARGS__ }), { __VA_ARGS__ } }
/* clang-format on */
#define VIP FIELD_DADDR, FIELD_PROTOCOL, FIELD_PORT
#define NODEPORT FIELD_PROTOCOL, FIELD_PORT

static const struct key vip_key = KEY(VIP), nodeport_key = KEY(NODEPORT);
static const struct key vip_index_key = KEY(VIP, FIELD_INDEX);
static const struct key nodeport_index_key = KEY(NODEPORT, FIELD_INDEX);
static const struct key saddr_key = KEY(FIELD_SADDR), daddr_key = KEY(FIELD_DADDR);
static const struct key hairpin_key = KEY(FIELD_SADDR, VIP),
			original_key = KEY(FIELD_ORIGINAL);

/* clang-format off */
#define VERDICT_MAP(...) { KEY(__VA_ARGS__), DATA_VERDICT, NFT_SET_MAP, 0 }
#define ENDPOINT_MAP(...) { KEY(__VA_ARGS__), DATA_ENDPOINT, NFT_SET_MAP, 0 }
/* clang-format on */

/* Without a declared size: a size would be a hard limit. */
static const struct set_layout layouts[N_ELEMENT_SETS] = {
	[SET_CLUSTER_IPS] = { .key = KEY(FIELD_DADDR) },
	[SET_NODEPORT_IPS] = { .key = KEY(FIELD_DADDR) },
	[SET_SERVICE_CIDRS] = { .key = KEY(FIELD_DADDR), .flags = NFT_SET_INTERVAL },
	[SET_HAIRPIN] = { .key = KEY(FIELD_SADDR, VIP) },
	[SET_NO_MASQUERADE] = { .key = KEY(FIELD_DADDR), .flags = NFT_SET_INTERVAL },
	[SET_PING_IPS] = { .key = KEY(FIELD_DADDR) },
	[MAP_SERVICE_IPS] = VERDICT_MAP(VIP),
	[MAP_SERVICE_NODEPORTS] = VERDICT_MAP(NODEPORT),
	[MAP_FIREWALLED] = VERDICT_MAP(VIP),
	[MAP_CLUSTER_POLICY] = VERDICT_MAP(VIP),
	[MAP_LOCAL_POLICY] = VERDICT_MAP(VIP),
	[MAP_NODEPORT_CLUSTER_POLICY] = VERDICT_MAP(NODEPORT),
	[MAP_NODEPORT_LOCAL_POLICY] = VERDICT_MAP(NODEPORT),
	[MAP_ENDPOINTS] = ENDPOINT_MAP(VIP, FIELD_INDEX),
	[MAP_LOCAL_ENDPOINTS] = ENDPOINT_MAP(VIP, FIELD_INDEX),
	[MAP_NODEPORT_ENDPOINTS] = ENDPOINT_MAP(NODEPORT, FIELD_INDEX),
	[MAP_NODEPORT_LOCAL_ENDPOINTS] = ENDPOINT_MAP(NODEPORT, FIELD_INDEX),
	[MAP_STICKY_ENDPOINTS] = VERDICT_MAP(VIP, FIELD_INDEX),
	[MAP_STICKY_LOCAL_ENDPOINTS] = VERDICT_MAP(VIP, FIELD_INDEX),
	[MAP_STICKY_NODEPORT_ENDPOINTS] = VERDICT_MAP(NODEPORT, FIELD_INDEX),
	[MAP_STICKY_NODEPORT_LOCAL_ENDPOINTS] = VERDICT_MAP(NODEPORT, FIELD_INDEX),
	[SET_SOURCE_RANGES] = { .key = KEY(FIELD_SADDR), .flags = NFT_SET_INTERVAL },
};

static const struct set_layout affinity = {
	.key = KEY(FIELD_SADDR),
	.data = DATA_ENDPOINT,
	.flags = NFT_SET_MAP | NFT_SET_TIMEOUT | NFT_SET_EVAL,
	.size = AFFINITY_SIZE,
};

const struct set_layout *set_layout(enum set_id set)
{
	assert(set < sizeof(layouts) / sizeof(layouts[0]));
	return &layouts[set];
}

bool set_is_in(unsigned int parts, enum set_id set)
{
	static const unsigned int part_of[N_SETS] = {
		[SET_NO_MASQUERADE] = PART_NO_MASQUERADE,
		[SET_PING_IPS] = PART_PING_IPS,
	};

	assert(set < N_SETS);
	return !part_of[set] || parts & part_of[set];
}

bool set_counts(unsigned int parts, enum set_id set)
{
	return parts & PART_COUNTERS && set_is_counted(set);
}

bool chain_is_in(unsigned int parts, enum chain_id id)
{
	assert(id < N_CHAINS);
	return id < CHAIN_FAST_PATH || parts & PART_FAST_PATH;
}

const struct set_layout *affinity_layout(void)
{
	return &affinity;
}

unsigned int field_size(enum family family, enum field field)
{
	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
	case FIELD_ORIGINAL:
		return (unsigned int)family_size(family);
	case FIELD_PROTOCOL:
		return 1;
	case FIELD_PORT:
		return 2;
	case FIELD_INDEX:
		return 4;
	}
	return 0;
}

static uint32_t field_type(enum family family, enum field field)
{
	switch (field) {
	case FIELD_SADDR:
	case FIELD_DADDR:
	case FIELD_ORIGINAL:
		return family == FAMILY_IPV4 ? TYPE_IPADDR : TYPE_IP6ADDR;
	case FIELD_PROTOCOL:
		return TYPE_INET_PROTOCOL;
	case FIELD_PORT:
		return TYPE_INET_SERVICE;
	case FIELD_INDEX:
		return TYPE_INTEGER;
	}
	return 0;
}

unsigned int key_size(enum family family, const struct key *key)
{
	unsigned int i, size = 0;

	for (i = 0; i < key->n; i++)
		size += (field_size(family, key->fields[i]) + 3) & ~3u;
	assert(size <= KEY_SIZE_MAX);
	return size;
}

uint32_t key_type(enum family family, const struct key *key)
{
	unsigned int i;
	uint32_t type = 0;

	for (i = 0; i < key->n; i++)
		type = type << TYPE_BITS | field_type(family, key->fields[i]);
	return type;
}

uint32_t set_data_type(enum family family, const struct set_layout *layout)
{
	switch (layout->data) {
	case DATA_VERDICT:
		return NFT_DATA_VERDICT;
	case DATA_ENDPOINT:
		return field_type(family, FIELD_DADDR) << TYPE_BITS |
		       TYPE_INET_SERVICE;
	}
	return 0;
}

uint32_t set_data_size(enum family family, const struct set_layout *layout)
{
	switch (layout->data) {
	case DATA_VERDICT:
		return 16;
	case DATA_ENDPOINT:
		return (uint32_t)family_size(family) + 4;
	}
	return 0;
}

/*
 * Statements are appended to the last rule of a chain; new_rule() begins
 * another one. Room for them is a constant: only our own bug could exceed it.
 */
static struct rule *new_rule(struct chain *chain)
{
	struct rule *rule;

	assert(chain->n_rules < sizeof(chain->rules) / sizeof(chain->rules[0]));
	rule = &chain->rules[chain->n_rules++];
	rule->n = 0;
	return rule;
}

static struct stmt *chain_add(struct rule *rule, enum stmt_kind kind)
{
	struct stmt *stmt;

	assert(rule->n < sizeof(rule->stmts) / sizeof(rule->stmts[0]));
	stmt = &rule->stmts[rule->n++];
	*stmt = (struct stmt){ .kind = kind };
	return stmt;
}

static void rule_add_name(struct rule *rule, enum stmt_kind kind, const char *name)
{
	assert(name && *name);
	chain_add(rule, kind)->name = name;
}

static void rule_add_number(struct rule *rule, enum stmt_kind kind, uint32_t number)
{
	chain_add(rule, kind)->number = number;
}

/* STMT_LOOKUP, STMT_VMAP */
static void rule_add_key(struct rule *rule, enum stmt_kind kind,
			 const struct key *key, enum set_id set)
{
	struct stmt *stmt = chain_add(rule, kind);

	assert(key->n);
	stmt->key = *key;
	stmt->name = set_name(set);
}

/* Whether a range of any source is meant; nft has no way to say so in a match. */
static bool any_source_is_pod(const struct ruleset *ruleset)
{
	return (ruleset->detect_local == DETECT_CLUSTER_CIDR ||
		ruleset->detect_local == DETECT_NODE_CIDR) &&
	       ruleset->pod_cidr.length == 0;
}

/* MASQ-6. Not to be called if any source is a pod's. */
static void add_pod_source(struct rule *rule, const struct ruleset *ruleset,
			   bool differs)
{
	struct stmt *stmt;

	assert(!any_source_is_pod(ruleset));
	switch (ruleset->detect_local) {
	case DETECT_BRIDGE_INTERFACE:
		stmt = chain_add(rule, STMT_IIFNAME);
		stmt->name = ruleset->interface;
		break;
	case DETECT_INTERFACE_NAME_PREFIX:
		stmt = chain_add(rule, STMT_IIFNAME_BEGIN);
		stmt->name = ruleset->interface;
		break;
	default:
		stmt = chain_add(rule, STMT_SADDR);
		stmt->prefix = ruleset->pod_cidr;
	}
	stmt->differs = differs;
}

/*
 * meta l4proto tcp reject with tcp reset
 * reject
 */
static void reject_chain(struct chain *chain)
{
	struct rule *rule = new_rule(chain);

	rule_add_number(rule, STMT_PROTOCOL, IPPROTO_TCP);
	chain_add(rule, STMT_RESET);
	chain_add(new_rule(chain), STMT_UNREACHABLE);
}

/*
 * What a source that is allowed meets. One chain for all Services: each rule
 * that looks into a map binds it, and the kernel walks the map for that. A
 * packet that falls between two generations is dropped, not let through. ip
 * daddr . meta l4proto . th dport vmap @firewalled drop
 */
static void firewalled_chain(struct chain *chain)
{
	rule_add_key(new_rule(chain), STMT_VMAP, &vip_key, MAP_FIREWALLED);
	chain_add(new_rule(chain), STMT_DROP);
}

/*
 * The policy of a pod or host source. A chain of its own, so that a miss ends
 * here. ip daddr . meta l4proto . th dport vmap @cluster-policy
 */
static void short_circuit_chain(struct chain *chain, bool nodeport)
{
	rule_add_key(new_rule(chain), STMT_VMAP,
		     nodeport ? &nodeport_key : &vip_key,
		     nodeport ? MAP_NODEPORT_CLUSTER_POLICY : MAP_CLUSTER_POLICY);
}

/*
 * POL-2, POL-5 to POL-7, MASQ-4:
 * ip saddr 10.0.0.0/8 goto short-circuit
 * fib saddr type local meta mark set meta mark or 0x4000 goto short-circuit
 * ip daddr . meta l4proto . th dport vmap @local-policy
 */
static void external_local_chain(const struct ruleset *ruleset,
				 struct chain *chain, bool nodeport)
{
	const char *short_circuit = chain_id_name(
		nodeport ? CHAIN_NODEPORT_SHORT_CIRCUIT : CHAIN_SHORT_CIRCUIT);
	struct rule *rule;

	if (ruleset->detect) {
		rule = new_rule(chain);
		if (!any_source_is_pod(ruleset))
			add_pod_source(rule, ruleset, false);
		rule_add_name(rule, STMT_GOTO, short_circuit);
	}
	rule = new_rule(chain);
	chain_add(rule, STMT_SADDR_LOCAL);
	rule_add_number(rule, STMT_MARK, ruleset->masquerade_mark);
	rule_add_name(rule, STMT_GOTO, short_circuit);

	rule_add_key(new_rule(chain), STMT_VMAP,
		     nodeport ? &nodeport_key : &vip_key,
		     nodeport ? MAP_NODEPORT_LOCAL_POLICY : MAP_LOCAL_POLICY);
}

/* NP-3: loopback never offers node ports. */
static struct prefix loopback_range(enum family family)
{
	if (family == FAMILY_IPV4)
		return (struct prefix){ .addr = { { 127 } }, .length = 8 };
	return (struct prefix){ .addr = { { [15] = 1 } }, .length = 128 };
}

/*
 * ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
 * fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports
 */
static void nodeport_rule(const struct ruleset *ruleset, struct rule *rule)
{
	struct stmt *stmt;

	if (ruleset->nodeports_everywhere) {
		chain_add(rule, STMT_DADDR_LOCAL);
		stmt = chain_add(rule, STMT_DADDR);
		stmt->prefix = loopback_range(ruleset->family);
		stmt->differs = true;
	} else {
		rule_add_key(rule, STMT_LOOKUP, &daddr_key, SET_NODEPORT_IPS);
	}
	rule_add_key(rule, STMT_VMAP, &nodeport_key, MAP_SERVICE_NODEPORTS);
}

/*
 * BEY-4, for clients, pods and host processes. The protocol comes first: other
 * flows pay for one comparison. A redirect would be to the address of the
 * interface that the packet came in by. The kernel drops it if there is none,
 * and the interfaces of pods often have none. So the node's own address is
 * better, where it is known. icmp type echo-request ip daddr @ping-ips dnat
 * to 10.0.0.1 icmp type echo-request ip daddr @ping-ips redirect
 */
static void ping_rule(const struct ruleset *ruleset, struct rule *rule)
{
	chain_add(rule, STMT_ECHO_REQUEST);
	rule_add_key(rule, STMT_LOOKUP, &daddr_key, SET_PING_IPS);
	if (ruleset->has_ping_addr)
		chain_add(rule, STMT_DNAT_ADDR)->addr = ruleset->ping_addr;
	else
		chain_add(rule, STMT_REDIRECT);
}

/*
 * ...echo requests
 * ip daddr . meta l4proto . th dport vmap @service-ips
 * ...node ports: after the former, VER-14
 * ip daddr @cluster-ips goto reject-chain	# VER-5
 * ip daddr @service-cidrs fib daddr type != local drop	# VER-6, VER-20
 *
 * A wrong range must not lock anybody out of the node, also by an address that
 * comes later, so the last rule asks the kernel and no list of ours.
 */
static void services_chain(const struct ruleset *ruleset, struct chain *chain)
{
	struct rule *rule;

	if (ruleset->parts & PART_PING_IPS)
		ping_rule(ruleset, new_rule(chain));
	rule_add_key(new_rule(chain), STMT_VMAP, &vip_key, MAP_SERVICE_IPS);
	nodeport_rule(ruleset, new_rule(chain));

	rule = new_rule(chain);
	rule_add_key(rule, STMT_LOOKUP, &daddr_key, SET_CLUSTER_IPS);
	rule_add_name(rule, STMT_GOTO, chain_id_name(CHAIN_REJECT));

	rule = new_rule(chain);
	rule_add_key(rule, STMT_LOOKUP, &daddr_key, SET_SERVICE_CIDRS);
	chain_add(rule, STMT_DADDR_LOCAL)->differs = true;
	chain_add(rule, STMT_DROP);
}

/*
 * BEY-3: takes the mark away before the next rule sees it. With masqueradeAll a
 * ClusterIP is masqueraded all the same (MASQ-1). meta mark and 0x4000 != 0 ct
 * original ip daddr != @cluster-ips ip saddr @no-masquerade-cidrs ip daddr
 * @no-masquerade-cidrs ct status dnat meta mark set meta mark xor 0x4000
 */
static void no_masquerade_rule(const struct ruleset *ruleset, struct rule *rule)
{
	rule_add_number(rule, STMT_MARKED, ruleset->masquerade_mark);
	if (ruleset->masquerade_all) {
		rule_add_key(rule, STMT_LOOKUP, &original_key, SET_CLUSTER_IPS);
		rule->stmts[rule->n - 1].differs = true;
	}
	rule_add_key(rule, STMT_LOOKUP, &saddr_key, SET_NO_MASQUERADE);
	rule_add_key(rule, STMT_LOOKUP, &daddr_key, SET_NO_MASQUERADE);
	chain_add(rule, STMT_DNATED);
	rule_add_number(rule, STMT_UNMARK, ruleset->masquerade_mark);
}

/*
 * ...no masquerade
 * meta mark and 0x4000 != 0 meta mark set meta mark xor 0x4000 masquerade fully-random
 * ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin masquerade fully-random
 */
static void postrouting_chain(const struct ruleset *ruleset, struct chain *chain)
{
	struct rule *rule;

	if (ruleset->parts & PART_NO_MASQUERADE)
		no_masquerade_rule(ruleset, new_rule(chain));
	rule = new_rule(chain);
	rule_add_number(rule, STMT_MARKED, ruleset->masquerade_mark);
	rule_add_number(rule, STMT_UNMARK, ruleset->masquerade_mark);
	chain_add(rule, STMT_MASQUERADE);

	rule = new_rule(chain);
	chain_add(rule, STMT_DNATED);
	rule_add_key(rule, STMT_LOOKUP, &hairpin_key, SET_HAIRPIN);
	chain_add(rule, STMT_MASQUERADE);
}

/*
 * BEY-6. What is not translated by this table pays for one comparison.
 * ct status dnat ct state established ct status assured goto fast-path-in
 */
static void fast_path_chain(struct chain *chain)
{
	struct rule *rule = new_rule(chain);

	chain_add(rule, STMT_DNATED);
	chain_add(rule, STMT_ESTABLISHED);
	chain_add(rule, STMT_ASSURED);
	rule_add_name(rule, STMT_GOTO, chain_id_name(CHAIN_FAST_PATH_IN));
}

/*
 * A rule for each pattern: a connection is handed over if both of its interfaces are named.
 * iifname "cali*" goto fast-path-out
 * oifname "cali*" flow add @fast
 */
static void fast_path_interfaces(const struct ruleset *ruleset, bool out,
				 struct chain *chain)
{
	const enum stmt_kind whole = out ? STMT_OIFNAME : STMT_IIFNAME;
	const enum stmt_kind begin = out ? STMT_OIFNAME_BEGIN : STMT_IIFNAME_BEGIN;
	const struct interface_pattern *p;
	struct rule *rule;
	unsigned int i;

	for (i = 0; i < ruleset->n_fast; i++) {
		p = &ruleset->fast[i];
		rule = new_rule(chain);
		if (*p->name) /* else it is a prefix of all names */
			rule_add_name(rule, p->is_prefix ? begin : whole, p->name);
		if (out)
			rule_add_name(rule, STMT_FLOW, FLOWTABLE_NAME);
		else
			rule_add_name(rule, STMT_GOTO,
				      chain_id_name(CHAIN_FAST_PATH_OUT));
	}
}

/* A forward chain that comes after those of others: what they drop is not handed over. */
enum { PRIORITY_FAST_PATH = NF_IP_PRI_FILTER + 10 };

static const struct {
	const char *name;
	const char *type; /* NULL: no hook */
	uint32_t hook;
	int32_t priority;
} chains[N_CHAINS] = {
	[CHAIN_REJECT] = { .name = "reject-chain" },
	[CHAIN_FIREWALLED] = { .name = "firewalled-sources" },
	[CHAIN_SHORT_CIRCUIT] = { .name = "short-circuit" },
	[CHAIN_NODEPORT_SHORT_CIRCUIT] = { .name = "nodeport-short-circuit" },
	[CHAIN_EXTERNAL_LOCAL] = { .name = "external-local" },
	[CHAIN_NODEPORT_EXTERNAL_LOCAL] = { .name = "nodeport-external-local" },
	[CHAIN_SERVICES] = { .name = "services" },
	[CHAIN_NAT_PREROUTING] = { "nat-prerouting", "nat", NF_INET_PRE_ROUTING,
				   NF_IP_PRI_NAT_DST },
	[CHAIN_NAT_OUTPUT] = { "nat-output", "nat", NF_INET_LOCAL_OUT,
			       NF_IP_PRI_NAT_DST },
	[CHAIN_NAT_POSTROUTING] = { "nat-postrouting", "nat",
				    NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC },
	[CHAIN_FAST_PATH] = { "fast-path", "filter", NF_INET_FORWARD,
			      PRIORITY_FAST_PATH },
	[CHAIN_FAST_PATH_IN] = { .name = "fast-path-in" },
	[CHAIN_FAST_PATH_OUT] = { .name = "fast-path-out" },
};

const char *chain_id_name(enum chain_id id)
{
	assert(id < N_CHAINS);
	return chains[id].name;
}

static void chain_begin(struct chain *chain)
{
	chain->name = NULL;
	chain->has_hook = false;
	chain->type = NULL;
	chain->hook = 0;
	chain->priority = 0;
	chain->n_rules = 0;
}

void chain_constant(const struct ruleset *ruleset, enum chain_id id,
		    struct chain *chain)
{
	assert(id < N_CHAINS);
	chain_begin(chain);
	chain->name = chains[id].name;
	chain->has_hook = chains[id].type;
	chain->type = chains[id].type;
	chain->hook = chains[id].hook;
	chain->priority = chains[id].priority;

	switch (id) {
	case CHAIN_REJECT:
		reject_chain(chain);
		break;
	case CHAIN_FIREWALLED:
		firewalled_chain(chain);
		break;
	case CHAIN_SHORT_CIRCUIT:
	case CHAIN_NODEPORT_SHORT_CIRCUIT:
		short_circuit_chain(chain, id == CHAIN_NODEPORT_SHORT_CIRCUIT);
		break;
	case CHAIN_EXTERNAL_LOCAL:
	case CHAIN_NODEPORT_EXTERNAL_LOCAL:
		external_local_chain(ruleset, chain,
				     id == CHAIN_NODEPORT_EXTERNAL_LOCAL);
		break;
	case CHAIN_SERVICES:
		services_chain(ruleset, chain);
		break;
	case CHAIN_NAT_PREROUTING:
	case CHAIN_NAT_OUTPUT:
		rule_add_name(new_rule(chain), STMT_GOTO,
			      chains[CHAIN_SERVICES].name);
		break;
	case CHAIN_NAT_POSTROUTING:
		postrouting_chain(ruleset, chain);
		break;
	case CHAIN_FAST_PATH:
		fast_path_chain(chain);
		break;
	case CHAIN_FAST_PATH_IN:
	case CHAIN_FAST_PATH_OUT:
		fast_path_interfaces(ruleset, id == CHAIN_FAST_PATH_OUT, chain);
		break;
	case N_CHAINS:
		break;
	}
}

/*
 * LB-4. A set per Service, since the kernel takes ranges out of one big set of
 * concatenated ranges in proportion to the whole, for each range; a tree of
 * plain ranges it takes microseconds. ip saddr @ranges/default/web goto
 * firewalled drop
 */
void chain_firewall(const char *ranges, struct chain *chain)
{
	struct rule *rule;
	struct stmt *stmt;

	assert(strncmp(ranges, RANGES_PREFIX, sizeof(RANGES_PREFIX) - 1) == 0);
	chain_begin(chain);
	chain->name = chain->text;
	snprintf(chain->text, sizeof(chain->text), FIREWALL_PREFIX "%s",
		 ranges + sizeof(RANGES_PREFIX) - 1);

	rule = new_rule(chain);
	stmt = chain_add(rule, STMT_LOOKUP);
	stmt->key = saddr_key;
	stmt->name = ranges;
	rule_add_name(rule, STMT_GOTO, chain_id_name(CHAIN_FIREWALLED));
	chain_add(new_rule(chain), STMT_DROP);
}

/* The list that a pick chain takes from. */
static enum set_id pick_map(unsigned int pick)
{
	static const enum set_id maps[] = {
		[0] = MAP_ENDPOINTS,
		[PICK_LOCAL] = MAP_LOCAL_ENDPOINTS,
		[PICK_NODEPORT] = MAP_NODEPORT_ENDPOINTS,
		[PICK_NODEPORT | PICK_LOCAL] = MAP_NODEPORT_LOCAL_ENDPOINTS,
		[PICK_STICKY] = MAP_STICKY_ENDPOINTS,
		[PICK_STICKY | PICK_LOCAL] = MAP_STICKY_LOCAL_ENDPOINTS,
		[PICK_STICKY | PICK_NODEPORT] = MAP_STICKY_NODEPORT_ENDPOINTS,
		[PICK_STICKY | PICK_NODEPORT | PICK_LOCAL] =
			MAP_STICKY_NODEPORT_LOCAL_ENDPOINTS,
	};

	return maps[pick & (PICK_LOCAL | PICK_NODEPORT | PICK_STICKY)];
}

/* MASQ-1 to MASQ-4: ip saddr != 10.0.0.0/8 meta mark set meta mark or 0x4000 */
static void pick_mark_rule(const struct ruleset *ruleset, unsigned int pick,
			   struct chain *chain)
{
	bool always = (pick & PICK_EXTERNAL) || ruleset->masquerade_all;
	struct rule *rule;

	if (!(pick & (PICK_EXTERNAL | PICK_CLUSTER)))
		return;
	if (!always && (!ruleset->detect || any_source_is_pod(ruleset)))
		return;
	rule = new_rule(chain);
	if (!always)
		add_pod_source(rule, ruleset, true);
	rule_add_number(rule, STMT_MARK, ruleset->masquerade_mark);
}

/*
 * dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints
 *
 * No match of the protocol stands before it: the key holds it, which is enough for nft, and the map
 * that led here has no other protocols.
 */
static void pick_rule(unsigned int pick, uint32_t mod, struct chain *chain)
{
	struct rule *rule = new_rule(chain);
	enum stmt_kind kind = pick & PICK_STICKY ? STMT_VMAP : STMT_DNAT_MAP;

	assert(mod);
	rule_add_key(rule, kind,
		     pick & PICK_NODEPORT ? &nodeport_index_key : &vip_index_key,
		     pick_map(pick));
	rule->stmts[0].mod = mod;
}

void chain_pick(const struct ruleset *ruleset, const struct verdict *pick,
		struct chain *chain)
{
	assert(pick->kind == VERDICT_PICK && pick->count);
	chain_begin(chain);
	chain->name = pick_name(pick, chain->text);
	pick_mark_rule(ruleset, pick->pick, chain);
	pick_rule(pick->pick, pick->count, chain);
	/* For a packet that falls between two generations: its index is gone, but 0 is there. */
	if (pick->count > 1)
		pick_rule(pick->pick, 1, chain);
}

/*
 * update @affinity { ip saddr timeout 3h : 10.0.0.1 . 80 }
 * meta l4proto tcp dnat ip to ip saddr map @affinity
 * meta l4proto tcp dnat to 10.0.0.1:80
 *
 * The update keeps the endpoint of a client that is known. The last rule is for a full map (AFF-9).
 */
void chain_sticky(const struct sticky_chain *sticky, struct chain *chain)
{
	struct rule *rule;
	struct stmt *stmt;

	assert(sticky->name);
	chain_begin(chain);
	chain->name = sticky->name;

	stmt = chain_add(new_rule(chain), STMT_REMEMBER);
	stmt->name = sticky->map;
	stmt->addr = sticky->endpoint;
	stmt->port = sticky->port;
	stmt->number = sticky->timeout_s;

	rule = new_rule(chain);
	rule_add_number(rule, STMT_PROTOCOL, sticky->protocol);
	stmt = chain_add(rule, STMT_DNAT_MAP);
	stmt->key = saddr_key;
	stmt->name = sticky->map;

	rule = new_rule(chain);
	rule_add_number(rule, STMT_PROTOCOL, sticky->protocol);
	stmt = chain_add(rule, STMT_DNAT);
	stmt->addr = sticky->endpoint;
	stmt->port = sticky->port;
}

const char *verdict_chain(const struct verdict *verdict, const char *own, char *text)
{
	switch (verdict->kind) {
	case VERDICT_REJECT:
		return chains[CHAIN_REJECT].name;
	case VERDICT_EXTERNAL_LOCAL:
		return chains[verdict->pick & PICK_NODEPORT ? CHAIN_NODEPORT_EXTERNAL_LOCAL
							    : CHAIN_EXTERNAL_LOCAL]
			.name;
	case VERDICT_PICK:
		return pick_name(verdict, text);
	case VERDICT_FIREWALL:
	case VERDICT_STICKY:
		return own;
	}
	return NULL;
}

bool element_is_whole(const struct element *element)
{
	if (element->set == SET_SOURCE_RANGES)
		return element->ranges;
	if (!set_has_verdict(element->set))
		return true;
	if (element->verdict.kind == VERDICT_STICKY ||
	    element->verdict.kind == VERDICT_FIREWALL)
		return element->chain;
	return element->verdict.kind != VERDICT_NONE;
}
