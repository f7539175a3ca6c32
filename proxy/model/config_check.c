/*
 * What can be wrong with a configuration: ranges and words along the table of fields, and one
 * function for each value that has more to it. What is parsed on the way is kept.
 *
 * A message names what the operator typed, a field of the file or a flag.
 */
#include "proxy/model/config.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/log.h"
#include "proxy/base/strbuf.h"
#include "proxy/model/fields.h"
#include "proxy/model/ruleset.h"

enum { HEALTHZ_PORT = 10256, METRICS_PORT = 10249, ADDRESS_TEXT_MAX = 128 };

/* What all checks share. */
struct checker {
	struct config *config;
	warn_fn *warn;
	void *ctx;
	struct errbuf *eb;
};

/* What the operator typed for the field @path. */
static const char *typed_name(const struct config *config, const char *path)
{
	return field_name(config, field_find(&proxy_schema, path));
}

/* "a, b or c" */
static void add_words(struct strbuf *out, const char *const *words)
{
	size_t i;

	for (i = 0; words[i]; i++)
		strbuf_addf(out, "%s%s",
			    !i		   ? ""
			    : words[i + 1] ? ", "
					   : " or ",
			    words[i]);
}

static int check_word(struct checker *c, const struct config_field *field)
{
	const char *text = field_text(c->config, field);
	struct strbuf words = STRBUF_INIT;
	size_t i;

	if (!*text && !field->fallback)
		return 0;
	for (i = 0; field->words[i]; i++)
		if (strcmp(text, field->words[i]) == 0)
			return 0;
	add_words(&words, field->words);
	errf(c->eb, -EINVAL, "%s: \"%s\" is not known, must be %s",
	     field_name(c->config, field), text, words.text ? words.text : "");
	strbuf_free(&words);
	return -EINVAL;
}

static int check_number(struct checker *c, const struct config_field *field)
{
	const char *name = field_name(c->config, field);
	int64_t value = field_number(c->config, field);

	if (value >= field->min && value <= field->max)
		return 0;
	if (field->max >= INT32_MAX)
		return errf(c->eb, -EINVAL, "%s: must be %s", name,
			    value > field->max ? "at most 2147483647"
			    : field->min       ? "greater than 0"
					       : "0 or more");
	return errf(c->eb, -EINVAL, "%s: %lld is not between %lld and %lld",
		    name, (long long)value, (long long)field->min,
		    (long long)field->max);
}

static int check_fields(struct checker *c, const struct config_schema *schema)
{
	int err = 0;

	for_each_config_field (field, schema) {
		if (!field_is_stored(field))
			continue;
		if (field->words)
			err = check_word(c, field);
		else if (field->min || field->max)
			err = check_number(c, field);
		if (err)
			break;
	}
	return err;
}

static int check_periods(struct checker *c)
{
	if (c->config->sync_period_ms >= c->config->min_sync_period_ms)
		return 0;
	return errf(c->eb, -EINVAL, "%s: must not be less than %s",
		    typed_name(c->config, "nftables.syncPeriod"),
		    typed_name(c->config, "nftables.minSyncPeriod"));
}

static int check_mode(struct checker *c)
{
	const char *mode = c->config->mode, *name = typed_name(c->config, "mode");

	if (!*mode || strcmp(mode, "nftables") == 0)
		return 0;
	if (strcmp(mode, "iptables") == 0 || strcmp(mode, "ipvs") == 0 ||
	    strcmp(mode, "kernelspace") == 0)
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" is not offered, vipmap knows only \"nftables\" (or \"\")",
			    name, mode);
	return errf(c->eb, -EINVAL,
		    "%s: \"%s\" is not known, must be \"nftables\" or \"\"",
		    name, mode);
}

static int check_bind_address(struct checker *c)
{
	static const struct addr any = { { 0 } };
	struct config *config = c->config;

	if (addr_parse(config->bind_address, &config->bind_family,
		       &config->bind_addr))
		return errf(c->eb, -EINVAL, "%s: \"%s\" is not an IP address",
			    typed_name(config, "bindAddress"),
			    config->bind_address);
	config->has_bind_addr = addr_compare(&config->bind_addr, &any) != 0;
	return 0;
}

/* Without a port *port stays as it is. */
static int server_parse(const char *text, enum family *family,
			struct addr *addr, uint16_t *port)
{
	char host[ADDRESS_TEXT_MAX];
	const char *digits;

	if (host_port_split(text, host, sizeof(host), &digits))
		return -EINVAL;
	if (addr_parse(host, family, addr))
		return -EADDRNOTAVAIL;
	return digits ? port_parse(digits, port) : 0;
}

int bind_address_parse(const char *text, enum family *family, struct addr *addr,
		       uint16_t *port)
{
	uint16_t p = 0;
	int err = server_parse(text, family, addr, &p);

	if (err || !p)
		return -EINVAL;
	*port = p;
	return 0;
}

/* Rewrites *field in canonical form, with the port. */
static int check_server(struct checker *c, const char *path, char **field,
			uint16_t port)
{
	const char *name = typed_name(c->config, path);
	char text[ADDRESS_TEXT_MAX], host[ADDR_TEXT_SIZE];
	enum family family = FAMILY_IPV4;
	struct addr addr;
	int err;

	if (!**field)
		return 0;
	err = server_parse(*field, &family, &addr, &port);
	if (err == -EADDRNOTAVAIL)
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" does not begin with an IP address",
			    name, *field);
	if (err)
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" must be ADDRESS:PORT with a port from 1 to 65535",
			    name, *field);
	addr_format(family, &addr, host);
	snprintf(text, sizeof(text),
		 family == FAMILY_IPV6 ? "[%s]:%u" : "%s:%u", host, port);
	if (config_set(field, text))
		return errf(c->eb, -ENOMEM, "out of memory");
	return 0;
}

/* What the kernel allows (dev_valid_name()), but for what nft cannot read inside of quotes. */
static bool is_interface_name(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;

	for (; *p; p++)
		if (*p <= ' ' || *p == 127 || strchr("/:\"\\", *p))
			return false;
	return strcmp(name, ".") && strcmp(name, "..");
}

static int check_interface(struct checker *c, const char *path, const char *value)
{
	const char *name = typed_name(c->config, path);

	if (!*value)
		return errf(c->eb, -EINVAL, "%s: must be set in detectLocalMode %s",
			    name, c->config->detect_local_mode);
	if (strlen(value) >= IFNAMSIZ)
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" is longer than an interface name can be (%d)",
			    name, value, IFNAMSIZ - 1);
	if (!is_interface_name(value))
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" cannot be the name of an interface: no white space, "
			    "slash, colon, quote or backslash",
			    name, value);
	return 0;
}

bool config_has_fast_path(const struct config *config)
{
	char *const *list = config->vipmap.fast_path_interfaces;

	return list && *list;
}

/* BEY-6: names of interfaces, or beginnings of names with an asterisk behind. */
static int check_fast_path_names(struct checker *c)
{
	char *const *list = c->config->vipmap.fast_path_interfaces;
	const char *path = "fastPath.interfaces";
	size_t i, length;

	for (i = 0; list && list[i]; i++) {
		length = strlen(list[i]);
		if (i == FAST_INTERFACES_MAX)
			return errf(c->eb, -EINVAL, "%s: at most %d", path,
				    FAST_INTERFACES_MAX);
		if (length && list[i][length - 1] == '*')
			length--;
		if (length >= IFNAMSIZ || !*list[i] || !is_interface_name(list[i]))
			return errf(c->eb, -EINVAL,
				    "%s: \"%s\" is neither the name of an interface nor the "
				    "beginning of one and an asterisk",
				    path, list[i]);
	}
	return 0;
}

/* The words of the field stand in the order of the enum. */
static int check_detect_local(struct checker *c)
{
	const struct config_field *field =
		field_find(&proxy_schema, "detectLocalMode");
	struct config *config = c->config;
	unsigned int mode = DETECT_CLUSTER_CIDR;

	while (*config->detect_local_mode &&
	       strcmp(config->detect_local_mode, field->words[mode]) != 0)
		mode++;
	config->detect_local = (enum detect_local_mode)mode;
	if (mode == DETECT_BRIDGE_INTERFACE)
		return check_interface(c, "detectLocal.bridgeInterface",
				       config->bridge_interface);
	if (mode == DETECT_INTERFACE_NAME_PREFIX)
		return check_interface(c, "detectLocal.interfaceNamePrefix",
				       config->interface_name_prefix);
	return 0;
}

static int add_cluster_cidr(struct checker *c, const char *text)
{
	const char *name = typed_name(c->config, "clusterCIDR");
	enum family family = FAMILY_IPV4;
	struct prefix prefix;

	if (prefix_parse(text, &family, &prefix))
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" is not a range (ADDRESS/LENGTH)", name,
			    text);
	if (c->config->family[family].has_cluster_cidr)
		return errf(c->eb, -EINVAL,
			    "%s: at most one range per family, found two of %s",
			    name, family_name(family));
	c->config->family[family].has_cluster_cidr = true;
	c->config->family[family].cluster_cidr = prefix;
	return 0;
}

static int check_cluster_cidr(struct checker *c)
{
	char *copy, *rest, *text;
	int err = 0;

	if (!*c->config->cluster_cidr)
		return 0;
	rest = copy = strdup(c->config->cluster_cidr);
	if (!copy)
		return errf(c->eb, -ENOMEM, "out of memory");
	while (!err && (text = strsep(&rest, ",")))
		err = add_cluster_cidr(c, text);
	free(copy);
	return err;
}

/* NP-3: whether a range names loopback. That of length 0 only includes it. */
static bool names_loopback(enum family family, const struct prefix *prefix)
{
	static const struct prefix loopback[N_FAMILIES] = {
		[FAMILY_IPV4] = { { { 127 } }, 8 },
		[FAMILY_IPV6] = { { { [15] = 1 } }, 128 },
	};

	return prefix->length && (prefix_covers(prefix, &loopback[family]) ||
				  prefix_covers(&loopback[family], prefix));
}

static int append_range(struct checker *c, struct prefix **ranges,
			unsigned int *n, const struct prefix *range)
{
	struct prefix *longer = reallocarray(*ranges, *n + 1, sizeof(*longer));

	if (!longer)
		return errf(c->eb, -ENOMEM, "out of memory");
	longer[(*n)++] = *range;
	*ranges = longer;
	return 0;
}

static int add_nodeport_range(struct checker *c, enum family family,
			      const struct prefix *prefix)
{
	struct config *config = c->config;

	if (append_range(c, &config->family[family].nodeport_ranges,
			 &config->family[family].n_nodeport_ranges, prefix))
		return -ENOMEM;
	config->family[family].nodeport_all |= prefix->length == 0;
	config->family[family].nodeport_localhost |=
		names_loopback(family, prefix);
	return 0;
}

/* One entry of nodePortAddresses (NP-2). A keyword stands for something in both families. */
static int add_nodeport_entry(struct checker *c, const char *text)
{
	struct config *config = c->config;
	enum family family = FAMILY_IPV4;
	struct prefix prefix;
	unsigned int f;

	if (strcmp(text, "primary") == 0) {
		for (f = 0; f < N_FAMILIES; f++)
			config->family[f].nodeport_primary = true;
		return 0;
	}
	if (strcmp(text, "all") == 0) {
		for (f = 0; f < N_FAMILIES; f++)
			config->family[f].nodeport_all = true;
		return 0;
	}
	if (strcmp(text, "localhost") == 0) {
		for (f = 0; f < N_FAMILIES; f++)
			config->family[f].nodeport_localhost = true;
		return 0;
	}
	if (prefix_parse(text, &family, &prefix))
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" is neither a range (ADDRESS/LENGTH) nor one of primary, "
			    "localhost and all",
			    typed_name(config, "nodePortAddresses"), text);
	return add_nodeport_range(c, family, &prefix);
}

static bool has_nodeport_entry(const struct config *config, enum family family)
{
	return config->family[family].nodeport_primary ||
	       config->family[family].nodeport_localhost ||
	       config->family[family].n_nodeport_ranges;
}

bool config_nodeports_everywhere(const struct config *config, enum family family)
{
	return config->family[family].nodeport_all ||
	       !has_nodeport_entry(config, family);
}

bool config_closes_connections(const struct config *config)
{
	return strcmp(config->vipmap.close_connections, "EndpointGone") == 0;
}

/* CFG-6, and the listeners of NP-9, which this version does not have. */
static void warn_of_nodeports(struct checker *c)
{
	const char *name = typed_name(c->config, "nodePortAddresses");
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		if (config_nodeports_everywhere(c->config, (enum family)f))
			warn_callf(c->warn, c->ctx,
				   "%s: node ports are open on all local %s addresses%s",
				   name, family_name(f),
				   c->config->family[f].nodeport_all
					   ? " (\"primary\" would limit them to the node's own)"
					   : ", since no entry is of this family (\"primary\" would "
					     "limit "
					     "them to the node's own)");
	}
}

static int check_nodeport_addresses(struct checker *c)
{
	static const char *const unset[] = { "primary", NULL };
	const char *const *list =
		(const char *const *)c->config->nodeport_addresses;
	size_t i;
	int err = 0;

	if (!list || !list[0])
		list = unset;
	for (i = 0; list[i] && !err; i++)
		err = add_nodeport_entry(c, list[i]);
	if (!err)
		warn_of_nodeports(c);
	return err;
}

/* BEY-3: ranges may overlap and repeat, the kernel's set may not. */
static int check_no_masquerade(struct checker *c)
{
	char *const *list = c->config->vipmap.no_masquerade_cidrs;
	enum family family = FAMILY_IPV4;
	struct prefix prefix;
	unsigned int f;
	size_t i;

	for (i = 0; list && list[i]; i++) {
		if (prefix_parse(list[i], &family, &prefix))
			return errf(c->eb, -EINVAL,
				    "noMasqueradeCIDRs: \"%s\" is not a range (ADDRESS/LENGTH)",
				    list[i]);
		if (append_range(c, &c->config->family[family].no_masquerade,
				 &c->config->family[family].n_no_masquerade,
				 &prefix))
			return -ENOMEM;
	}
	for (f = 0; f < N_FAMILIES; f++)
		c->config->family[f].n_no_masquerade =
			prefixes_disjoint(c->config->family[f].no_masquerade,
					  c->config->family[f].n_no_masquerade);
	return 0;
}

bool config_keeps_sources_of(const struct config *config, enum family family,
			     const struct addr *addr)
{
	unsigned int i;

	for (i = 0; i < config->family[family].n_no_masquerade; i++)
		if (prefix_contains(&config->family[family].no_masquerade[i], addr))
			return true;
	return false;
}

/* Here, and not only where the name is made, so that it counts as bad configuration. */
static int check_hostname(struct checker *c)
{
	const char *name = c->config->hostname_override;

	if (*name && name[strspn(name, " \t\n\v\f\r")] == '\0')
		return errf(c->eb, -EINVAL, "%s: is empty",
			    typed_name(c->config, "hostnameOverride"));
	return 0;
}

int config_validate(struct config *config, warn_fn *warn, void *ctx,
		    struct errbuf *eb)
{
	struct checker c = { config, warn, ctx, eb };
	int err;

	config_forget_checks(config);
	err = check_mode(&c);
	if (!err)
		err = check_hostname(&c);
	if (!err)
		err = check_fields(&c, &proxy_schema);
	if (!err)
		err = check_fields(&c, &vipmap_schema);
	if (!err)
		config->pass_without_endpoints =
			strcmp(config->vipmap.no_endpoints, "Pass") == 0;
	if (!err)
		err = check_periods(&c);
	if (!err)
		err = check_bind_address(&c);
	if (!err)
		err = check_server(&c, "healthzBindAddress",
				   &config->healthz_bind_address, HEALTHZ_PORT);
	if (!err)
		err = check_server(&c, "metricsBindAddress",
				   &config->metrics_bind_address, METRICS_PORT);
	if (!err)
		err = check_detect_local(&c);
	if (!err)
		err = check_fast_path_names(&c);
	if (!err)
		err = check_no_masquerade(&c);
	if (!err)
		err = check_cluster_cidr(&c);
	if (!err)
		err = check_nodeport_addresses(&c);
	return err;
}

/* Has ranges, but only of the family that is not @primary. */
static bool wrong_family(enum family primary, const bool has[N_FAMILIES])
{
	return !has[primary] && has[!primary];
}

int config_check_families(const struct config *config, enum family primary,
			  bool dual, const bool pod_cidrs[N_FAMILIES],
			  warn_fn *warn, void *ctx, struct errbuf *eb)
{
	const char *kind = dual ? "primary" : "only", *good = family_name(primary);
	const char *cidr = typed_name(config, "clusterCIDR");
	bool cluster[N_FAMILIES], nodeports[N_FAMILIES];
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		cluster[f] = config->family[f].has_cluster_cidr;
		nodeports[f] = has_nodeport_entry(config, (enum family)f) ||
			       config->family[f].nodeport_all;
	}
	if (wrong_family(primary, cluster)) {
		if (config->detect_local == DETECT_CLUSTER_CIDR && !dual)
			return errf(eb, -EINVAL,
				    "%s: the node is %s-only, but there is no %s range",
				    cidr, good, good);
		warn_callf(warn, ctx,
			   "%s: the node is %s-%s, but there is no %s range",
			   cidr, good, kind, good);
	}
	if (wrong_family(primary, pod_cidrs)) {
		if (config->detect_local == DETECT_NODE_CIDR)
			return errf(eb, -EINVAL,
				    "%s: NodeCIDR, and the node is %s-%s, but its "
				    "spec.podCIDRs have no %s range",
				    typed_name(config, "detectLocalMode"), good,
				    kind, good);
		warn_callf(warn, ctx,
			   "the node is %s-%s, but its spec.podCIDRs have no %s range",
			   good, kind, good);
	}
	if (wrong_family(primary, nodeports))
		warn_callf(warn, ctx,
			   "%s: the node is %s-%s, but there is no %s range",
			   typed_name(config, "nodePortAddresses"), good, kind,
			   good);
	return 0;
}
