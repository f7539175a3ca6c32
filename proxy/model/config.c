/*
 * Defaults, checks and the printed form of the configuration. Whoever fills a config (file, flags)
 * stores values as they are written; everything that can be wrong with a value is found here, once,
 * so that a file and a flag are judged alike and the rest of the program never checks again.
 *
 * Regret: an error names the field as the file spells it, also if a flag set it. The table of flags
 * is documented by these names, so it is found all the same.
 */
#include "proxy/model/config.h"

#include <errno.h>
#include <math.h>
#include <net/if.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)

enum { HEALTHZ_PORT = 10256, METRICS_PORT = 10249, ADDRESS_TEXT_MAX = 128 };

typedef void warn_fn(void *ctx, const char *message);

/* What all checks share. */
struct checker {
	struct config *config;
	warn_fn *warn;
	void *ctx;
	struct errbuf *eb;
};

static void warnf(warn_fn *warn, void *ctx, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void warnf(warn_fn *warn, void *ctx, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!warn)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	warn(ctx, text);
}

int config_set(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

static size_t list_length(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

int config_append(char ***list, const char *value)
{
	size_t n = list_length(*list);
	char **longer = reallocarray(*list, n + 2, sizeof(**list));

	if (!longer)
		return -ENOMEM;
	*list = longer;
	longer[n] = strdup(value);
	longer[n + 1] = NULL;
	return longer[n] ? 0 : -ENOMEM;
}

void config_list_free(char **list)
{
	size_t i;

	for (i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

static void parsed_free(struct config *config)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		free(config->family[f].nodeport_ranges);
	memset(config->family, 0, sizeof(config->family));
	config->nodeport_primary = false;
	config->has_bind_addr = false;
	config->detect_local = DETECT_CLUSTER_CIDR;
}

/* The strings with their defaults, and what an empty one in a file means. */
static const struct {
	size_t offset;
	const char *value;
} strings[] = {
	{ offsetof(struct config, kubeconfig), "" },
	{ offsetof(struct config, master), "" },
	{ offsetof(struct config, accept_content_types), "" },
	{ offsetof(struct config, content_type), "application/vnd.kubernetes.protobuf" },
	{ offsetof(struct config, hostname_override), "" },
	{ offsetof(struct config, bind_address), "0.0.0.0" },
	{ offsetof(struct config, healthz_bind_address), "" }, /* see config_default_servers() */
	{ offsetof(struct config, metrics_bind_address), "" },
	{ offsetof(struct config, mode), "" },
	{ offsetof(struct config, detect_local_mode), "" },
	{ offsetof(struct config, bridge_interface), "" },
	{ offsetof(struct config, interface_name_prefix), "" },
	{ offsetof(struct config, cluster_cidr), "" },
	{ offsetof(struct config, logging_format), "text" },
};

enum { N_STRINGS = sizeof(strings) / sizeof(strings[0]) };

static char **string_at(struct config *config, size_t i)
{
	return (char **)(void *)((char *)config + strings[i].offset);
}

static int default_strings(struct config *config)
{
	size_t i;
	int err = 0;

	for (i = 0; i < N_STRINGS && !err; i++) {
		char **field = string_at(config, i);

		if (!*field || !**field)
			err = config_set(field, strings[i].value);
	}
	return err;
}

/* A bind address that cannot be read is for config_validate() to report. */
int config_default_servers(struct config *config)
{
	enum family family = FAMILY_IPV4;
	struct addr addr;
	int err = 0;
	bool v6;

	v6 = addr_parse(config->bind_address, &family, &addr) == 0 && family == FAMILY_IPV6;
	if (!*config->healthz_bind_address)
		err = config_set(&config->healthz_bind_address,
				 v6 ? "[::]:10256" : "0.0.0.0:10256");
	if (!err && !*config->metrics_bind_address)
		err = config_set(&config->metrics_bind_address,
				 v6 ? "[::1]:10249" : "127.0.0.1:10249");
	return err;
}

int config_default(struct config *config)
{
	int err = default_strings(config);

	if (!err)
		err = config_default_servers(config);
	if (config->qps == 0)
		config->qps = 5;
	if (config->burst == 0)
		config->burst = 10;
	if (config->sync_period_ms == 0)
		config->sync_period_ms = 30 * SECOND_MS;
	if (config->config_sync_period_ms == 0)
		config->config_sync_period_ms = 15 * MINUTE_MS;
	return err;
}

struct config *config_new(void)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		return NULL;
	config->masquerade_bit = 14;
	config->oom_score_adj = -999;
	config->allow_external_ips = true;
	config->conntrack.max_per_core = 32768;
	config->conntrack.min = 131072;
	config->conntrack.tcp_established_timeout_ms = 24 * HOUR_MS;
	config->conntrack.tcp_close_wait_timeout_ms = HOUR_MS;
	if (config_default(config)) {
		config_free(config);
		return NULL;
	}
	return config;
}

void config_free(struct config *config)
{
	size_t i;

	if (!config)
		return;
	for (i = 0; i < N_STRINGS; i++)
		free(*string_at(config, i));
	config_list_free(config->manifests);
	config_list_free(config->nodeport_addresses);
	parsed_free(config);
	free(config);
}

/* Those that concern a node proxy and can no longer be turned off. */
static const char *const fixed_gates[] = {
	"KubeProxyDrainingTerminatingNodes",
	"LoadBalancerIPMode",
	"MultiCIDRServiceAllocator",
	"NFTablesProxyMode",
	"PreferSameTrafficDistribution",
	"ServiceTrafficDistribution",
	"TopologyAwareHints",
};

int config_set_gate(struct config *config, const char *name, bool value, warn_fn *warn, void *ctx,
		    struct errbuf *eb)
{
	size_t i;

	if (strcmp(name, "AllowServiceExternalIPs") == 0) {
		config->allow_external_ips = value;
		return 0;
	}
	for (i = 0; i < sizeof(fixed_gates) / sizeof(fixed_gates[0]); i++) {
		if (strcmp(name, fixed_gates[i]) != 0)
			continue;
		if (!value)
			return errf(eb, -EINVAL,
				    "featureGates.%s: is always true and cannot be set to false",
				    name);
		return 0;
	}
	warnf(warn, ctx, "featureGates.%s: not known, ignored", name);
	return 0;
}

/* Longest first where one begins another: "ms" before "m". */
static const struct {
	const char *name;
	double ms;
} units[] = {
	{ "ns", 1e-6 }, { "us", 1e-3 },	    { "\u00b5s", 1e-3 }, { "\u03bcs", 1e-3 },
	{ "ms", 1 },	{ "s", SECOND_MS }, { "m", MINUTE_MS },	 { "h", HOUR_MS },
};

/* One "1.5h" of it. Written without strtod(), which would take "1e3", "nan" and the locale's comma.
 */
static const char *duration_term(const char *text, double *ms)
{
	const char *start = text;
	double value = 0, place = 1;
	size_t i, digits;

	for (; *text >= '0' && *text <= '9'; text++)
		value = value * 10 + (*text - '0');
	digits = (size_t)(text - start);
	if (*text == '.') {
		for (text++; *text >= '0' && *text <= '9'; text++, digits++)
			value += (*text - '0') * (place /= 10);
	}
	for (i = 0; digits && i < sizeof(units) / sizeof(units[0]); i++) {
		size_t length = strlen(units[i].name);

		if (strncmp(text, units[i].name, length) != 0)
			continue;
		*ms += value * units[i].ms;
		return text + length;
	}
	return NULL;
}

int duration_parse(const char *text, int64_t *ms)
{
	const double limit = 9.2e12; /* Go's int64 of nanoseconds ends at 292 years */
	bool negative = *text == '-';
	double total = 0;

	if (*text == '-' || *text == '+')
		text++;
	if (strcmp(text, "0") == 0) {
		*ms = 0;
		return 0;
	}
	if (!*text)
		return -EINVAL;
	while (text && *text)
		text = duration_term(text, &total);
	if (!text || total > limit)
		return -EINVAL;
	/* Less than a millisecond must not become 0, which means "off" or "default" in places. */
	if (total > 0 && total < 1)
		total = 1;
	*ms = (int64_t)(total + 0.5) * (negative ? -1 : 1);
	return 0;
}

/* Plain numbers and their ranges. */
enum number_type { NUMBER_INT, NUMBER_INT64 };

static const struct {
	const char *field;
	size_t offset;
	enum number_type type;
	int64_t min, max;
} numbers[] = {
	{ "clientConnection.burst", offsetof(struct config, burst), NUMBER_INT, 0, INT32_MAX },
	{ "nftables.masqueradeBit", offsetof(struct config, masquerade_bit), NUMBER_INT, 0, 31 },
	{ "nftables.syncPeriod", offsetof(struct config, sync_period_ms), NUMBER_INT64, 1,
	  INT64_MAX },
	{ "nftables.minSyncPeriod", offsetof(struct config, min_sync_period_ms), NUMBER_INT64, 0,
	  INT64_MAX },
	{ "configSyncPeriod", offsetof(struct config, config_sync_period_ms), NUMBER_INT64, 1,
	  INT64_MAX },
	{ "oomScoreAdj", offsetof(struct config, oom_score_adj), NUMBER_INT, -1000, 1000 },
	{ "logging.verbosity", offsetof(struct config, verbosity), NUMBER_INT, 0, INT32_MAX },
	{ "conntrack.maxPerCore", offsetof(struct config, conntrack.max_per_core), NUMBER_INT64, 0,
	  INT32_MAX },
	{ "conntrack.min", offsetof(struct config, conntrack.min), NUMBER_INT64, 0, INT32_MAX },
	{ "conntrack.tcpEstablishedTimeout",
	  offsetof(struct config, conntrack.tcp_established_timeout_ms), NUMBER_INT64, 0,
	  INT64_MAX },
	{ "conntrack.tcpCloseWaitTimeout",
	  offsetof(struct config, conntrack.tcp_close_wait_timeout_ms), NUMBER_INT64, 0,
	  INT64_MAX },
	{ "conntrack.udpTimeout", offsetof(struct config, conntrack.udp_timeout_ms), NUMBER_INT64,
	  0, INT64_MAX },
	{ "conntrack.udpStreamTimeout", offsetof(struct config, conntrack.udp_stream_timeout_ms),
	  NUMBER_INT64, 0, INT64_MAX },
};

static int64_t number_at(const struct config *config, size_t i)
{
	const char *at = (const char *)config + numbers[i].offset;
	int64_t wide;
	int narrow;

	if (numbers[i].type == NUMBER_INT) {
		memcpy(&narrow, at, sizeof(narrow));
		return narrow;
	}
	memcpy(&wide, at, sizeof(wide));
	return wide;
}

static int check_numbers(struct checker *c)
{
	int64_t value;
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		value = number_at(c->config, i);
		if (value >= numbers[i].min && value <= numbers[i].max)
			continue;
		if (numbers[i].max >= INT32_MAX)
			return errf(c->eb, -EINVAL, "%s: must be %s", numbers[i].field,
				    value > numbers[i].max ? "at most 2147483647"
				    : numbers[i].min	   ? "greater than 0"
							   : "0 or more");
		return errf(c->eb, -EINVAL, "%s: %lld is not between %lld and %lld",
			    numbers[i].field, (long long)value, (long long)numbers[i].min,
			    (long long)numbers[i].max);
	}
	if (c->config->sync_period_ms < c->config->min_sync_period_ms)
		return errf(c->eb, -EINVAL,
			    "nftables.syncPeriod: must not be less than nftables.minSyncPeriod");
	return 0;
}

static int check_mode(struct checker *c)
{
	const char *mode = c->config->mode;

	if (!*mode || strcmp(mode, "nftables") == 0)
		return 0;
	if (strcmp(mode, "iptables") == 0 || strcmp(mode, "ipvs") == 0 ||
	    strcmp(mode, "kernelspace") == 0)
		return errf(c->eb, -EINVAL,
			    "mode: \"%s\" is not offered, vipmap knows only \"nftables\" (or \"\")",
			    mode);
	return errf(c->eb, -EINVAL, "mode: \"%s\" is not known, must be \"nftables\" or \"\"",
		    mode);
}

static int check_logging_format(struct checker *c)
{
	const char *format = c->config->logging_format;

	if (strcmp(format, "text") == 0 || strcmp(format, "json") == 0)
		return 0;
	return errf(c->eb, -EINVAL, "logging.format: \"%s\" is not known, must be text or json",
		    format);
}

static int check_bind_address(struct checker *c)
{
	static const struct addr any = { { 0 } };
	struct config *config = c->config;

	if (addr_parse(config->bind_address, &config->bind_family, &config->bind_addr))
		return errf(c->eb, -EINVAL, "bindAddress: \"%s\" is not an IP address",
			    config->bind_address);
	config->has_bind_addr = addr_compare(&config->bind_addr, &any) != 0;
	return 0;
}

static int port_parse(const char *text, uint16_t *port)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9' || strlen(text) > 8)
		return -EINVAL;
	value = strtoul(text, &end, 10);
	if (*end || value < 1 || value > UINT16_MAX)
		return -EINVAL;
	*port = (uint16_t)value;
	return 0;
}

/*
 * "ADDRESS", "ADDRESS:PORT", "[ADDRESS]" or "[ADDRESS]:PORT". A bare IPv6 address has more than one
 * colon and no port. Without a port *port stays as it is.
 */
static int server_parse(const char *text, enum family *family, struct addr *addr, uint16_t *port)
{
	char host[ADDRESS_TEXT_MAX];
	const char *start = text, *end, *colon;

	if (*text == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		colon = end[1] ? end + 1 : NULL;
	} else {
		colon = strchr(text, ':');
		if (colon && strchr(colon + 1, ':'))
			colon = NULL;
		end = colon ? colon : text + strlen(text);
	}
	if ((size_t)(end - start) >= sizeof(host))
		return -EINVAL;
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	if (addr_parse(host, family, addr))
		return -EADDRNOTAVAIL;
	return colon ? port_parse(colon + 1, port) : 0;
}

int bind_address_parse(const char *text, enum family *family, struct addr *addr, uint16_t *port)
{
	uint16_t p = 0;
	int err = server_parse(text, family, addr, &p);

	if (err || !p)
		return -EINVAL;
	*port = p;
	return 0;
}

/* Rewrites *field in canonical form, with the port. */
static int check_server(struct checker *c, const char *name, char **field, uint16_t port)
{
	char text[ADDRESS_TEXT_MAX], host[ADDR_TEXT_SIZE];
	enum family family = FAMILY_IPV4;
	struct addr addr;
	int err;

	if (!**field)
		return 0;
	err = server_parse(*field, &family, &addr, &port);
	if (err == -EADDRNOTAVAIL)
		return errf(c->eb, -EINVAL, "%s: \"%s\" does not begin with an IP address", name,
			    *field);
	if (err)
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" must be ADDRESS:PORT with a port from 1 to 65535", name,
			    *field);
	addr_format(family, &addr, host);
	snprintf(text, sizeof(text), family == FAMILY_IPV6 ? "[%s]:%u" : "%s:%u", host, port);
	if (config_set(field, text))
		return errf(c->eb, -ENOMEM, "out of memory");
	return 0;
}

static const char *const detect_modes[] = {
	[DETECT_CLUSTER_CIDR] = "ClusterCIDR",
	[DETECT_NODE_CIDR] = "NodeCIDR",
	[DETECT_BRIDGE_INTERFACE] = "BridgeInterface",
	[DETECT_INTERFACE_NAME_PREFIX] = "InterfaceNamePrefix",
};

enum { N_DETECT_MODES = sizeof(detect_modes) / sizeof(detect_modes[0]) };

/* What the kernel allows (dev_valid_name()), but for what nft cannot read inside of quotes. */
static bool is_interface_name(const char *name)
{
	const unsigned char *p = (const unsigned char *)name;

	for (; *p; p++)
		if (*p <= ' ' || *p == 127 || strchr("/:\"\\", *p))
			return false;
	return strcmp(name, ".") && strcmp(name, "..");
}

static int check_interface(struct checker *c, const char *name, const char *value)
{
	if (!*value)
		return errf(c->eb, -EINVAL, "%s: must be set in detectLocalMode %s", name,
			    detect_modes[c->config->detect_local]);
	if (strlen(value) >= IFNAMSIZ)
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" is longer than an interface name can be (%d)", name, value,
			    IFNAMSIZ - 1);
	if (!is_interface_name(value))
		return errf(c->eb, -EINVAL,
			    "%s: \"%s\" cannot be the name of an interface: no white space, "
			    "slash, colon, quote or backslash",
			    name, value);
	return 0;
}

static int check_detect_local(struct checker *c)
{
	struct config *config = c->config;
	unsigned int mode = DETECT_CLUSTER_CIDR;

	if (*config->detect_local_mode) {
		while (mode < N_DETECT_MODES &&
		       strcmp(config->detect_local_mode, detect_modes[mode]) != 0)
			mode++;
		if (mode == N_DETECT_MODES)
			return errf(c->eb, -EINVAL,
				    "detectLocalMode: \"%s\" is not known, must be ClusterCIDR, "
				    "NodeCIDR, "
				    "BridgeInterface or InterfaceNamePrefix",
				    config->detect_local_mode);
	}
	config->detect_local = (enum detect_local_mode)mode;
	if (mode == DETECT_BRIDGE_INTERFACE)
		return check_interface(c, "detectLocal.bridgeInterface", config->bridge_interface);
	if (mode == DETECT_INTERFACE_NAME_PREFIX)
		return check_interface(c, "detectLocal.interfaceNamePrefix",
				       config->interface_name_prefix);
	return 0;
}

static int add_cluster_cidr(struct checker *c, const char *text)
{
	enum family family = FAMILY_IPV4;
	struct prefix prefix;

	if (prefix_parse(text, &family, &prefix))
		return errf(c->eb, -EINVAL, "clusterCIDR: \"%s\" is not a range (ADDRESS/LENGTH)",
			    text);
	if (c->config->family[family].has_cluster_cidr)
		return errf(c->eb, -EINVAL,
			    "clusterCIDR: at most one range per family, found two of %s",
			    family_name(family));
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

/* NP-3 */
static void warn_loopback(struct checker *c, const char *text, enum family family,
			  const struct prefix *prefix)
{
	static const struct prefix loopback[N_FAMILIES] = {
		[FAMILY_IPV4] = { { { 127 } }, 8 },
		[FAMILY_IPV6] = { { { [15] = 1 } }, 128 },
	};

	if (prefix->length &&
	    (prefix_covers(prefix, &loopback[family]) || prefix_covers(&loopback[family], prefix)))
		warnf(c->warn, c->ctx,
		      "nodePortAddresses: \"%s\" contains loopback addresses, on which node ports "
		      "are not offered",
		      text);
}

static int add_nodeport_range(struct checker *c, const char *text)
{
	enum family family = FAMILY_IPV4;
	struct prefix prefix, *ranges;
	unsigned int n;

	if (strcmp(text, "primary") == 0)
		return errf(c->eb, -EINVAL,
			    "nodePortAddresses: \"primary\" cannot be combined with anything else");
	if (prefix_parse(text, &family, &prefix))
		return errf(c->eb, -EINVAL,
			    "nodePortAddresses: \"%s\" is neither a range (ADDRESS/LENGTH) nor "
			    "\"primary\"",
			    text);
	n = c->config->family[family].n_nodeport_ranges;
	ranges = reallocarray(c->config->family[family].nodeport_ranges, n + 1, sizeof(*ranges));
	if (!ranges)
		return errf(c->eb, -ENOMEM, "out of memory");
	ranges[n] = prefix;
	c->config->family[family].nodeport_ranges = ranges;
	c->config->family[family].n_nodeport_ranges = n + 1;
	warn_loopback(c, text, family, &prefix);
	return 0;
}

bool config_nodeports_everywhere(const struct config *config, enum family family)
{
	unsigned int i;

	if (config->nodeport_primary)
		return false;
	for (i = 0; i < config->family[family].n_nodeport_ranges; i++)
		if (config->family[family].nodeport_ranges[i].length == 0)
			return true;
	return config->family[family].n_nodeport_ranges == 0;
}

static int check_nodeport_addresses(struct checker *c)
{
	char *const *list = c->config->nodeport_addresses;
	size_t i, n = list_length(list);
	unsigned int f;
	int err = 0;

	if (n == 0 || (n == 1 && strcmp(list[0], "primary") == 0)) {
		c->config->nodeport_primary = true;
		return 0;
	}
	for (i = 0; i < n && !err; i++)
		err = add_nodeport_range(c, list[i]);
	for (f = 0; f < N_FAMILIES && !err; f++)
		if (config_nodeports_everywhere(c->config, f))
			warnf(c->warn, c->ctx,
			      "nodePortAddresses: node ports are open on all local %s addresses "
			      "(\"primary\" would limit them to the node's own)",
			      family_name(f));
	return err;
}

/* Here, and not only where the name is made, so that it counts as bad configuration. */
static int check_hostname(struct checker *c)
{
	const char *name = c->config->hostname_override;

	if (*name && name[strspn(name, " \t\n\v\f\r")] == '\0')
		return errf(c->eb, -EINVAL, "hostnameOverride: is empty");
	return 0;
}

int config_validate(struct config *config, warn_fn *warn, void *ctx, struct errbuf *eb)
{
	struct checker c = { config, warn, ctx, eb };
	int err;

	parsed_free(config);
	err = check_mode(&c);
	if (!err)
		err = check_hostname(&c);
	if (!err)
		err = check_numbers(&c);
	if (!err)
		err = check_logging_format(&c);
	if (!err)
		err = check_bind_address(&c);
	if (!err)
		err = check_server(&c, "healthzBindAddress", &config->healthz_bind_address,
				   HEALTHZ_PORT);
	if (!err)
		err = check_server(&c, "metricsBindAddress", &config->metrics_bind_address,
				   METRICS_PORT);
	if (!err)
		err = check_detect_local(&c);
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

int config_check_families(const struct config *config, enum family primary, bool dual,
			  const bool pod_cidrs[N_FAMILIES], warn_fn *warn, void *ctx,
			  struct errbuf *eb)
{
	const char *kind = dual ? "primary" : "only", *good = family_name(primary);
	bool cluster[N_FAMILIES], nodeports[N_FAMILIES];
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		cluster[f] = config->family[f].has_cluster_cidr;
		nodeports[f] = config->family[f].n_nodeport_ranges > 0;
	}
	if (wrong_family(primary, cluster)) {
		if (config->detect_local == DETECT_CLUSTER_CIDR && !dual)
			return errf(eb, -EINVAL,
				    "clusterCIDR: the node is %s-only, but there is no %s range",
				    good, good);
		warnf(warn, ctx, "clusterCIDR: the node is %s-%s, but there is no %s range", good,
		      kind, good);
	}
	if (wrong_family(primary, pod_cidrs)) {
		if (config->detect_local == DETECT_NODE_CIDR)
			return errf(eb, -EINVAL,
				    "detectLocalMode: NodeCIDR, and the node is %s-%s, but its "
				    "spec.podCIDRs have no %s range",
				    good, kind, good);
		warnf(warn, ctx, "the node is %s-%s, but its spec.podCIDRs have no %s range", good,
		      kind, good);
	}
	if (wrong_family(primary, nodeports))
		warnf(warn, ctx, "nodePortAddresses: the node is %s-%s, but there is no %s range",
		      good, kind, good);
	return 0;
}

static void json_key(struct strbuf *out, const char *key)
{
	if (out->length && out->text[out->length - 1] != '{')
		strbuf_addc(out, ',');
	strbuf_add_json(out, key);
	strbuf_addc(out, ':');
}

static void json_text(struct strbuf *out, const char *key, const char *value)
{
	json_key(out, key);
	strbuf_add_json(out, value);
}

static void json_number(struct strbuf *out, const char *key, int64_t value)
{
	json_key(out, key);
	strbuf_addf(out, "%lld", (long long)value);
}

static void json_bool(struct strbuf *out, const char *key, bool value)
{
	json_key(out, key);
	strbuf_adds(out, value ? "true" : "false");
}

/* As Go prints durations: "24h0m0s", "15m0s", "1.5s", "250ms", "0s". */
static void json_duration(struct strbuf *out, const char *key, int64_t ms)
{
	uint64_t rest = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;

	json_key(out, key);
	strbuf_adds(out, ms < 0 ? "\"-" : "\"");
	if (rest > 0 && rest < (uint64_t)SECOND_MS) {
		strbuf_addf(out, "%ums\"", (unsigned int)rest);
		return;
	}
	if (rest >= (uint64_t)HOUR_MS)
		strbuf_addf(out, "%lluh", (unsigned long long)(rest / HOUR_MS));
	if (rest >= (uint64_t)MINUTE_MS)
		strbuf_addf(out, "%um", (unsigned int)(rest / MINUTE_MS % 60));
	rest %= MINUTE_MS;
	strbuf_addf(out, "%u", (unsigned int)(rest / SECOND_MS));
	rest %= SECOND_MS;
	if (rest) {
		strbuf_addf(out, ".%03u", (unsigned int)rest);
		while (!out->err && out->text[out->length - 1] == '0')
			out->text[--out->length] = '\0';
	}
	strbuf_adds(out, "s\"");
}

static void json_list(struct strbuf *out, const char *key, char *const *list)
{
	size_t i;

	json_key(out, key);
	if (!list) {
		strbuf_adds(out, "null");
		return;
	}
	strbuf_addc(out, '[');
	for (i = 0; list[i]; i++) {
		if (i)
			strbuf_addc(out, ',');
		strbuf_add_json(out, list[i]);
	}
	strbuf_addc(out, ']');
}

static void json_open(struct strbuf *out, const char *key)
{
	json_key(out, key);
	strbuf_addc(out, '{');
}

static void format_client(const struct config *config, struct strbuf *out)
{
	json_open(out, "clientConnection");
	json_text(out, "kubeconfig", config->kubeconfig);
	json_text(out, "acceptContentTypes", config->accept_content_types);
	json_text(out, "contentType", config->content_type);
	json_key(out, "qps");
	strbuf_addf(out, "%.9g", isfinite(config->qps) ? config->qps : 0.0);
	json_number(out, "burst", config->burst);
	strbuf_addc(out, '}');
}

static void format_conntrack(const struct config *config, struct strbuf *out)
{
	json_open(out, "conntrack");
	json_number(out, "maxPerCore", config->conntrack.max_per_core);
	json_number(out, "min", config->conntrack.min);
	json_duration(out, "tcpEstablishedTimeout", config->conntrack.tcp_established_timeout_ms);
	json_duration(out, "tcpCloseWaitTimeout", config->conntrack.tcp_close_wait_timeout_ms);
	json_bool(out, "tcpBeLiberal", config->conntrack.tcp_be_liberal);
	json_duration(out, "udpTimeout", config->conntrack.udp_timeout_ms);
	json_duration(out, "udpStreamTimeout", config->conntrack.udp_stream_timeout_ms);
	strbuf_addc(out, '}');
}

static void format_nftables(const struct config *config, struct strbuf *out)
{
	json_open(out, "nftables");
	json_number(out, "masqueradeBit", config->masquerade_bit);
	json_bool(out, "masqueradeAll", config->masquerade_all);
	json_duration(out, "syncPeriod", config->sync_period_ms);
	json_duration(out, "minSyncPeriod", config->min_sync_period_ms);
	strbuf_addc(out, '}');
}

static void format_detection(const struct config *config, struct strbuf *out)
{
	json_text(out, "detectLocalMode",
		  *config->detect_local_mode ? config->detect_local_mode : detect_modes[0]);
	json_open(out, "detectLocal");
	json_text(out, "bridgeInterface", config->bridge_interface);
	json_text(out, "interfaceNamePrefix", config->interface_name_prefix);
	strbuf_addc(out, '}');
	json_text(out, "clusterCIDR", config->cluster_cidr);
}

void config_format(const struct config *config, struct strbuf *json)
{
	strbuf_addc(json, '{');
	json_text(json, "kind", "KubeProxyConfiguration");
	json_text(json, "apiVersion", "kubeproxy.config.k8s.io/v1alpha1");
	json_open(json, "featureGates");
	json_bool(json, "AllowServiceExternalIPs", config->allow_external_ips);
	strbuf_addc(json, '}');
	format_client(config, json);
	json_open(json, "logging");
	json_text(json, "format", config->logging_format);
	json_number(json, "verbosity", config->verbosity);
	strbuf_addc(json, '}');
	json_text(json, "hostnameOverride", config->hostname_override);
	json_text(json, "bindAddress", config->bind_address);
	json_text(json, "healthzBindAddress", config->healthz_bind_address);
	json_text(json, "metricsBindAddress", config->metrics_bind_address);
	json_bool(json, "bindAddressHardFail", config->bind_address_hard_fail);
	json_text(json, "mode", "nftables");
	format_nftables(config, json);
	format_detection(config, json);
	json_list(json, "nodePortAddresses", config->nodeport_addresses);
	json_number(json, "oomScoreAdj", config->oom_score_adj);
	format_conntrack(config, json);
	json_duration(json, "configSyncPeriod", config->config_sync_period_ms);
	strbuf_addc(json, '}');
}
