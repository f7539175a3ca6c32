/*
 * Defaults and pieces of the configuration. Whoever fills a config (file,
 * flags) stores values as they are written; everything that can be wrong with a
 * value is found by config_validate(), once, so that a file and a flag are
 * judged alike and the rest of the program never checks again.
 */
#include "proxy/model/config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/log.h"
#include "proxy/model/fields.h"

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)

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

void config_forget_checks(struct config *config)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++) {
		free(config->family[f].nodeport_ranges);
		free(config->family[f].no_masquerade);
	}
	memset(config->family, 0, sizeof(config->family));
	config->has_bind_addr = config->pass_without_endpoints = false;
	config->detect_local = DETECT_CLUSTER_CIDR;
}

/* A bind address that cannot be read is for config_validate() to report. */
int config_default_servers(struct config *config)
{
	enum family family = FAMILY_IPV4;
	struct addr addr;
	int err = 0;
	bool v6;

	v6 = addr_parse(config->bind_address, &family, &addr) == 0 &&
	     family == FAMILY_IPV6;
	if (!*config->healthz_bind_address)
		err = config_set(&config->healthz_bind_address,
				 v6 ? "[::]:10256" : "0.0.0.0:10256");
	if (!err && !*config->metrics_bind_address)
		err = config_set(&config->metrics_bind_address,
				 v6 ? "[::1]:10249" : "127.0.0.1:10249");
	return err;
}

static int fill_empty(struct config *config, const struct config_schema *schema)
{
	int err = 0;

	for_each_config_field (field, schema)
		if (!err && field->traits & FIELD_EMPTY_IS_DEFAULT &&
		    field_is_empty(config, field))
			err = field_set_default(config, field);
	return err;
}

int config_default_vipmap(struct config *config)
{
	return fill_empty(config, &vipmap_schema);
}

int config_default(struct config *config)
{
	int err = fill_empty(config, &proxy_schema);

	if (!err)
		err = config_default_vipmap(config);
	return err ? err : config_default_servers(config);
}

static int set_defaults(struct config *config, const struct config_schema *schema)
{
	int err = 0;

	for_each_config_field (field, schema)
		if (!err && field_is_stored(field))
			err = field_set_default(config, field);
	return err;
}

struct config *config_new(void)
{
	struct config *config = calloc(1, sizeof(*config));
	int err;

	if (!config)
		return NULL;
	config->allow_external_ips = true;
	err = config_set(&config->master, "");
	if (!err)
		err = set_defaults(config, &proxy_schema);
	if (!err)
		err = set_defaults(config, &vipmap_schema);
	if (!err)
		err = config_default_servers(config);
	if (!err)
		return config;
	config_free(config);
	return NULL;
}

static void free_fields(struct config *config, const struct config_schema *schema)
{
	for_each_config_field (field, schema) {
		if (!field_is_stored(field))
			continue;
		if (field->type == FIELD_TEXT)
			free(field_text(config, field));
		else if (field->type == FIELD_LIST)
			config_list_free(*(char ***)field_at(config, field));
	}
}

void config_free(struct config *config)
{
	if (!config)
		return;
	free_fields(config, &proxy_schema);
	free_fields(config, &vipmap_schema);
	free(config->master);
	config_list_free(config->manifests);
	config_forget_checks(config);
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

/* Known, and without effect here: what they ask for is said otherwise (NP-3), or not offered. */
static const char *const idle_gates[] = {
	"KubeProxyIPVS",
	"KubeProxyNFTablesLocalhostNodePorts",
	"NFTablesNetlink",
};

static bool is_among(const char *name, const char *const *gates, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (strcmp(name, gates[i]) == 0)
			return true;
	return false;
}

int config_set_gate(struct config *config, const char *name, bool value,
		    warn_fn *warn, void *ctx, struct errbuf *eb)
{
	const char *typed =
		field_name(config, field_find(&proxy_schema, "featureGates"));

	if (strcmp(name, "AllowServiceExternalIPs") == 0) {
		config->allow_external_ips = value;
		return 0;
	}
	if (is_among(name, fixed_gates,
		     sizeof(fixed_gates) / sizeof(fixed_gates[0]))) {
		if (value)
			return 0;
		return errf(eb, -EINVAL,
			    "%s%s%s: is always true and cannot be set to false",
			    typed, *typed == '-' ? ": " : ".", name);
	}
	if (is_among(name, idle_gates, sizeof(idle_gates) / sizeof(idle_gates[0])))
		return 0;
	warn_callf(warn, ctx, "%s%s%s: not known, ignored", typed,
		   *typed == '-' ? ": " : ".", name);
	return 0;
}

/* Longest first where one begins another: "ms" before "m". */
static const struct {
	const char *name;
	double ms;
} units[] = {
	{ "ns", 1e-6 },	     { "us", 1e-3 },   { "\u00b5s", 1e-3 },
	{ "\u03bcs", 1e-3 }, { "ms", 1 },      { "s", SECOND_MS },
	{ "m", MINUTE_MS },  { "h", HOUR_MS },
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
	const double limit =
		9.2e12; /* Go's int64 of nanoseconds ends at 292 years */
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
