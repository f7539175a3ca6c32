/* Defaults, checks (CFG-2, CFG-5, CFG-6, NP-2, NP-3, NP-8, MASQ-6) and the printed form. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/model/config.h"
#include "proxy/model/config_diff.h"
#include "proxy/base/strbuf.h"
#include "watch/proxyconfig.h"

#include "tests/support/suite.h"

enum { N_MAX_SETTINGS = 4 };

/* All warnings of one call, one per line. */
static void note(void *ctx, const char *message)
{
	struct strbuf *notes = ctx;

	strbuf_adds(notes, message);
	strbuf_addc(notes, '\n');
}

/* Sets a field by the name that errors use: the tables below stay readable. */
static void set_text(char **field, const char *value)
{
	ck_assert_int_eq(config_set(field, value), 0);
}

static void set_number(struct config *c, const char *field, long long value)
{
	if (strcmp(field, "masqueradeBit") == 0)
		c->masquerade_bit = (int)value;
	else if (strcmp(field, "burst") == 0)
		c->burst = (int)value;
	else if (strcmp(field, "syncPeriod") == 0)
		c->sync_period_ms = value;
	else if (strcmp(field, "minSyncPeriod") == 0)
		c->min_sync_period_ms = value;
	else if (strcmp(field, "configSyncPeriod") == 0)
		c->config_sync_period_ms = value;
	else if (strcmp(field, "oomScoreAdj") == 0)
		c->oom_score_adj = (int)value;
	else if (strcmp(field, "verbosity") == 0)
		c->verbosity = (int)value;
	else if (strcmp(field, "maxPerCore") == 0)
		c->conntrack.max_per_core = value;
	else if (strcmp(field, "min") == 0)
		c->conntrack.min = value;
	else if (strcmp(field, "tcpEstablishedTimeout") == 0)
		c->conntrack.tcp_established_timeout_ms = value;
	else if (strcmp(field, "tcpCloseWaitTimeout") == 0)
		c->conntrack.tcp_close_wait_timeout_ms = value;
	else if (strcmp(field, "udpTimeout") == 0)
		c->conntrack.udp_timeout_ms = value;
	else if (strcmp(field, "udpStreamTimeout") == 0)
		c->conntrack.udp_stream_timeout_ms = value;
	else
		ck_abort_msg("no such field: %s", field);
}

static void set_field(struct config *c, const char *field, const char *value)
{
	if (strcmp(field, "bindAddress") == 0)
		set_text(&c->bind_address, value);
	else if (strcmp(field, "healthzBindAddress") == 0)
		set_text(&c->healthz_bind_address, value);
	else if (strcmp(field, "metricsBindAddress") == 0)
		set_text(&c->metrics_bind_address, value);
	else if (strcmp(field, "loggingFormat") == 0)
		set_text(&c->logging_format, value);
	else if (strcmp(field, "mode") == 0)
		set_text(&c->mode, value);
	else if (strcmp(field, "detectLocalMode") == 0)
		set_text(&c->detect_local_mode, value);
	else if (strcmp(field, "bridgeInterface") == 0)
		set_text(&c->bridge_interface, value);
	else if (strcmp(field, "interfaceNamePrefix") == 0)
		set_text(&c->interface_name_prefix, value);
	else if (strcmp(field, "clusterCIDR") == 0)
		set_text(&c->cluster_cidr, value);
	else if (strcmp(field, "nodePortAddresses") == 0)
		ck_assert_int_eq(config_append(&c->nodeport_addresses, value), 0);
	else
		set_number(c, field, strtoll(value, NULL, 10));
}

struct setting {
	const char *field, *value;
};

static struct config *config_with(const struct setting *settings)
{
	struct config *c = config_new();
	unsigned int i;

	ck_assert_ptr_nonnull(c);
	for (i = 0; i < N_MAX_SETTINGS && settings[i].field; i++)
		set_field(c, settings[i].field, settings[i].value);
	return c;
}

START_TEST(defaults)
{
	struct config *c = config_new();
	struct errbuf eb = { "" };
	struct strbuf notes = STRBUF_INIT;

	ck_assert_ptr_nonnull(c);
	ck_assert_msg(config_validate(c, note, &notes, &eb) == 0, "%s", eb.text);
	ck_assert_msg(notes.length == 0, "warnings about the defaults: %s",
		      notes.text);
	CHECK_STR("healthz", c->healthz_bind_address, "0.0.0.0:10256");
	CHECK_STR("metrics", c->metrics_bind_address, "127.0.0.1:10249");
	CHECK_STR("contentType", c->content_type,
		  "application/vnd.kubernetes.protobuf");
	ck_assert_int_eq(c->masquerade_bit, 14);
	ck_assert_int_eq(c->sync_period_ms, 30000);
	ck_assert_int_eq(c->min_sync_period_ms, 0);
	ck_assert_int_eq(c->config_sync_period_ms, 900000);
	ck_assert_int_eq(c->oom_score_adj, -999);
	ck_assert_int_eq(c->burst, 10);
	ck_assert_double_eq(c->qps, 5);
	ck_assert_int_eq(c->conntrack.max_per_core, 32768);
	ck_assert_int_eq(c->conntrack.min, 131072);
	ck_assert_int_eq(c->conntrack.tcp_established_timeout_ms, 86400000);
	ck_assert_int_eq(c->conntrack.tcp_close_wait_timeout_ms, 3600000);
	ck_assert(c->allow_external_ips);
	ck_assert(c->family[FAMILY_IPV4].nodeport_primary);
	ck_assert(c->family[FAMILY_IPV6].nodeport_primary);
	ck_assert(!c->has_bind_addr);
	ck_assert_int_eq(c->detect_local, DETECT_CLUSTER_CIDR);
	strbuf_free(&notes);
	config_free(c);
}
END_TEST

/* kubeadm writes "" and 0 for what it leaves to kube-proxy. */
START_TEST(empty_means_default)
{
	struct config *c = config_with((struct setting[N_MAX_SETTINGS]){
		{ "bindAddress", "" },
		{ "healthzBindAddress", "" },
		{ "metricsBindAddress", "" },
		{ "syncPeriod", "0" },
	});

	c->config_sync_period_ms = 0;
	c->qps = 0;
	c->burst = 0;
	set_text(&c->content_type, "");
	ck_assert_int_eq(config_default(c), 0);
	CHECK_STR("bindAddress", c->bind_address, "0.0.0.0");
	CHECK_STR("healthz", c->healthz_bind_address, "0.0.0.0:10256");
	CHECK_STR("metrics", c->metrics_bind_address, "127.0.0.1:10249");
	CHECK_STR("contentType", c->content_type,
		  "application/vnd.kubernetes.protobuf");
	ck_assert_int_eq(c->sync_period_ms, 30000);
	ck_assert_int_eq(c->config_sync_period_ms, 900000);
	ck_assert_double_eq(c->qps, 5);
	ck_assert_int_eq(c->burst, 10);
	config_free(c);
}
END_TEST

START_TEST(ipv6_bind_address)
{
	struct config *c = config_with((struct setting[N_MAX_SETTINGS]){
		{ "bindAddress", "fd00::1" },
		{ "healthzBindAddress", "" },
		{ "metricsBindAddress", "" },
	});

	ck_assert_int_eq(config_default(c), 0);
	CHECK_STR("healthz", c->healthz_bind_address, "[::]:10256");
	CHECK_STR("metrics", c->metrics_bind_address, "[::1]:10249");
	ck_assert_int_eq(config_validate(c, NULL, NULL, NULL), 0);
	ck_assert(c->has_bind_addr);
	ck_assert_int_eq(c->bind_family, FAMILY_IPV6);
	config_free(c);
}
END_TEST

static const struct {
	const char *name;
	struct setting settings[N_MAX_SETTINGS];
	const char *want; /* begins the error; NULL: good */
} checks[] = {
	{ "CFG-2 mode nftables", { { "mode", "nftables" } }, NULL },
	{ "CFG-2 mode iptables",
	  { { "mode", "iptables" } },
	  "mode: \"iptables\" is not offered" },
	{ "CFG-2 mode ipvs", { { "mode", "ipvs" } }, "mode: \"ipvs\" is not offered" },
	{ "CFG-2 mode unknown", { { "mode", "ebpf" } }, "mode: \"ebpf\" is not known" },
	{ "CFG-2 logging json", { { "loggingFormat", "json" } }, NULL },
	{ "CFG-2 logging xml",
	  { { "loggingFormat", "xml" } },
	  "logging.format: \"xml\" is not known" },
	{ "CFG-2 bit 0", { { "masqueradeBit", "0" } }, NULL },
	{ "CFG-2 bit 31", { { "masqueradeBit", "31" } }, NULL },
	{ "CFG-2 bit 32",
	  { { "masqueradeBit", "32" } },
	  "nftables.masqueradeBit: 32 is not between 0 and 31" },
	{ "CFG-2 bit -1", { { "masqueradeBit", "-1" } }, "nftables.masqueradeBit: -1" },
	{ "CFG-2 syncPeriod 0",
	  { { "syncPeriod", "0" } },
	  "nftables.syncPeriod: must be greater than 0" },
	{ "CFG-2 minSyncPeriod negative",
	  { { "minSyncPeriod", "-1" } },
	  "nftables.minSyncPeriod: must be 0 or more" },
	{ "CFG-2 sync == minSync", { { "minSyncPeriod", "30000" } }, NULL },
	{ "CFG-2 sync < minSync",
	  { { "minSyncPeriod", "30001" } },
	  "nftables.syncPeriod: must not be less than nftables.minSyncPeriod" },
	{ "CFG-2 configSyncPeriod 0",
	  { { "configSyncPeriod", "0" } },
	  "configSyncPeriod: " },
	{ "CFG-2 burst",
	  { { "burst", "-1" } },
	  "clientConnection.burst: must be 0 or more" },
	{ "CFG-2 oom -1000", { { "oomScoreAdj", "-1000" } }, NULL },
	{ "CFG-2 oom 1001", { { "oomScoreAdj", "1001" } }, "oomScoreAdj: 1001" },
	{ "CFG-2 oom -1001", { { "oomScoreAdj", "-1001" } }, "oomScoreAdj: -1001" },
	{ "CFG-2 verbosity", { { "verbosity", "-1" } }, "logging.verbosity: " },
	{ "CFG-2 maxPerCore", { { "maxPerCore", "-1" } }, "conntrack.maxPerCore: " },
	{ "CFG-2 conntrack min", { { "min", "-1" } }, "conntrack.min: " },
	{ "CFG-2 conntrack min too large",
	  { { "min", "4294967296" } },
	  "conntrack.min: must be at most 2147483647" },
	{ "CFG-2 tcp established",
	  { { "tcpEstablishedTimeout", "-1" } },
	  "conntrack.tcpEstablishedTimeout: " },
	{ "CFG-2 tcp close wait",
	  { { "tcpCloseWaitTimeout", "-1" } },
	  "conntrack.tcpCloseWaitTimeout: " },
	{ "CFG-2 udp", { { "udpTimeout", "-1" } }, "conntrack.udpTimeout: " },
	{ "CFG-2 udp stream",
	  { { "udpStreamTimeout", "-1" } },
	  "conntrack.udpStreamTimeout: " },
	{ "CFG-2 bindAddress name",
	  { { "bindAddress", "localhost" } },
	  "bindAddress: \"localhost\" is not an IP address" },
	{ "CFG-2 healthz off", { { "healthzBindAddress", "" } }, NULL },
	{ "CFG-2 healthz name",
	  { { "healthzBindAddress", "localhost:80" } },
	  "healthzBindAddress: \"localhost:80\" does not begin with an IP address" },
	{ "CFG-2 healthz port 0",
	  { { "healthzBindAddress", "1.2.3.4:0" } },
	  "healthzBindAddress: \"1.2.3.4:0\" must be" },
	{ "CFG-2 healthz port 65536",
	  { { "healthzBindAddress", "1.2.3.4:65536" } },
	  "healthzBindAddress: " },
	{ "CFG-2 healthz port words",
	  { { "healthzBindAddress", "1.2.3.4:http" } },
	  "healthzBindAddress: " },
	{ "CFG-2 healthz no bracket",
	  { { "healthzBindAddress", "[::1:80" } },
	  "healthzBindAddress: " },
	{ "CFG-2 healthz after bracket",
	  { { "healthzBindAddress", "[::1]80" } },
	  "healthzBindAddress: " },
	{ "CFG-2 metrics",
	  { { "metricsBindAddress", "127.0.0.1:99999" } },
	  "metricsBindAddress: " },
	{ "MASQ-6 detectLocalMode unknown",
	  { { "detectLocalMode", "Node" } },
	  "detectLocalMode: \"Node\" is not known" },
	{ "MASQ-6 NodeCIDR", { { "detectLocalMode", "NodeCIDR" } }, NULL },
	{ "MASQ-6 bridge without name",
	  { { "detectLocalMode", "BridgeInterface" } },
	  "detectLocal.bridgeInterface: must be set" },
	{ "MASQ-6 bridge",
	  { { "detectLocalMode", "BridgeInterface" }, { "bridgeInterface", "cni0" } },
	  NULL },
	{ "MASQ-6 bridge name too long",
	  { { "detectLocalMode", "BridgeInterface" },
	    { "bridgeInterface", "abcdefghijklmnop" } },
	  "detectLocal.bridgeInterface: \"abcdefghijklmnop\" is longer" },
	{ "MASQ-6 prefix without name",
	  { { "detectLocalMode", "InterfaceNamePrefix" } },
	  "detectLocal.interfaceNamePrefix: must be set" },
	{ "MASQ-6 prefix",
	  { { "detectLocalMode", "InterfaceNamePrefix" },
	    { "interfaceNamePrefix", "abcdefghijklmno" } },
	  NULL },
	{ "MASQ-6 prefix too long",
	  { { "detectLocalMode", "InterfaceNamePrefix" },
	    { "interfaceNamePrefix", "abcdefghijklmnop" } },
	  "detectLocal.interfaceNamePrefix: \"abcdefghijklmnop\" is longer" },
	{ "MASQ-6 names of another mode are not looked at",
	  { { "bridgeInterface", "a b" }, { "interfaceNamePrefix", "a/b" } },
	  NULL },
	{ "CFG-2 clusterCIDR dual", { { "clusterCIDR", "10.0.0.0/8,fd00::/8" } }, NULL },
	{ "CFG-2 clusterCIDR twice",
	  { { "clusterCIDR", "10.0.0.0/8,11.0.0.0/8" } },
	  "clusterCIDR: at most one range per family, found two of IPv4" },
	{ "CFG-2 clusterCIDR address",
	  { { "clusterCIDR", "10.0.0.1" } },
	  "clusterCIDR: \"10.0.0.1\" is not a range" },
	{ "CFG-2 clusterCIDR trailing comma",
	  { { "clusterCIDR", "10.0.0.0/8," } },
	  "clusterCIDR: \"\" is not a range" },
	{ "CFG-2 clusterCIDR length",
	  { { "clusterCIDR", "10.0.0.0/33" } },
	  "clusterCIDR: \"10.0.0.0/33\" is not a range" },
	{ "NP-8 primary", { { "nodePortAddresses", "primary" } }, NULL },
	{ "NP-8 primary with range",
	  { { "nodePortAddresses", "primary" },
	    { "nodePortAddresses", "10.0.0.0/8" } },
	  NULL },
	{ "NP-8 an unknown word",
	  { { "nodePortAddresses", "primary" }, { "nodePortAddresses", "Primary" } },
	  "nodePortAddresses: \"Primary\" is neither a range" },
	{ "CFG-2 node port address",
	  { { "nodePortAddresses", "10.0.0.1" } },
	  "nodePortAddresses: \"10.0.0.1\" is neither" },
};

START_TEST(validate)
{
	struct config *c = config_with(checks[_i].settings);
	struct errbuf eb = { "" };
	const char *want = checks[_i].want;
	int err = config_validate(c, NULL, NULL, &eb);

	ck_assert_msg(err == (want ? -EINVAL : 0), "%s: got %d (%s)",
		      checks[_i].name, err, eb.text);
	ck_assert_msg(!want || strncmp(eb.text, want, strlen(want)) == 0,
		      "%s: want \"%s...\", got \"%s\"", checks[_i].name, want,
		      eb.text);
	config_free(c);
}
END_TEST

/* CFG-2: what is no interface's name, or would not survive inside of nft's quotes. */
static const struct {
	const char *value;
	bool good;
} interfaces[] = {
	{ "eth0.100", true }, { "cali*", true },     { "wg-\u00e4", true },
	{ "a_b@c", true },    { "a", true },	     { "cni\"0", false },
	{ "ve\\th", false },  { "a/b", false },	     { "eth0:1", false },
	{ " ", false },	      { "cni0 ", false },    { "a\tb", false },
	{ "veth\n", false },  { "veth\x7f", false }, { ".", false },
	{ "..", false },
};

START_TEST(interface_names)
{
	static const struct {
		const char *mode, *field, *full;
	} fields[] = {
		{ "BridgeInterface", "bridgeInterface",
		  "detectLocal.bridgeInterface: \"" },
		{ "InterfaceNamePrefix", "interfaceNamePrefix",
		  "detectLocal.interfaceNamePrefix: \"" },
	};
	const char *value = interfaces[_i].value;
	bool good = interfaces[_i].good;

	for (int i = 0; i < 2; i++) {
		struct config *c = config_with((struct setting[N_MAX_SETTINGS]){
			{ "detectLocalMode", fields[i].mode },
			{ fields[i].field, value } });
		struct errbuf eb = { "" };
		int err = config_validate(c, NULL, NULL, &eb);

		ck_assert_msg(err == (good ? 0 : -EINVAL), "%s %s: got %d (%s)",
			      fields[i].field, value, err, eb.text);
		ck_assert_msg(good || (strncmp(eb.text, fields[i].full,
					       strlen(fields[i].full)) == 0 &&
				       strstr(eb.text,
					      "cannot be the name of an interface")),
			      "%s %s: got %s", fields[i].field, value, eb.text);
		config_free(c);
	}
}
END_TEST

static const struct {
	const char *name, *value, *want;
} servers[] = {
	{ "with port", "1.2.3.4:80", "1.2.3.4:80" },
	{ "port appended", "1.2.3.4", "1.2.3.4:10256" },
	{ "bare IPv6", "fd00::1", "[fd00::1]:10256" },
	{ "brackets without port", "[fd00::1]", "[fd00::1]:10256" },
	{ "brackets with port", "[::]:80", "[::]:80" },
	{ "API-11 leading zeros", "010.0.0.001:80", "10.0.0.1:80" },
};

START_TEST(server_address)
{
	struct config *c = config_new();
	enum family family = FAMILY_IPV4;
	struct addr addr;
	uint16_t port = 0;

	set_field(c, "healthzBindAddress", servers[_i].value);
	ck_assert_int_eq(config_validate(c, NULL, NULL, NULL), 0);
	CHECK_STR(servers[_i].name, c->healthz_bind_address, servers[_i].want);
	ck_assert_int_eq(bind_address_parse(c->healthz_bind_address, &family,
					    &addr, &port),
			 0);
	ck_assert_msg(port == 80 || port == 10256, "%s: port %u",
		      servers[_i].name, port);
	ck_assert_int_eq(bind_address_parse("", &family, &addr, &port), -EINVAL);
	ck_assert_int_eq(bind_address_parse("1.2.3.4", &family, &addr, &port),
			 -EINVAL);
	config_free(c);
}
END_TEST

#define EVERYWHERE "node ports are open on all local "

static const struct {
	const char *name;
	struct setting settings[N_MAX_SETTINGS];
	bool primary, everywhere[N_FAMILIES];
	const char *warnings[3]; /* each is contained in what is warned of */
	unsigned int n_warnings;
	bool localhost[N_FAMILIES];
} nodeports[] = {
	{ "NP-2 unset",
	  { { NULL, NULL } },
	  true,
	  { false, false },
	  { NULL },
	  0,
	  { false, false } },
	{ "NP-2 primary",
	  { { "nodePortAddresses", "primary" } },
	  true,
	  { false, false },
	  { NULL },
	  0,
	  { false, false } },
	{ "NP-2 CFG-6 length 0 in IPv4",
	  { { "nodePortAddresses", "0.0.0.0/0" },
	    { "nodePortAddresses", "fd00::/64" } },
	  false,
	  { true, false },
	  { EVERYWHERE "IPv4" },
	  1,
	  { false, false } },
	{ "NP-2 CFG-6 other family only",
	  { { "nodePortAddresses", "10.0.0.0/8" } },
	  false,
	  { false, true },
	  { EVERYWHERE "IPv6" },
	  1,
	  { false, false } },
	{ "NP-2 both families",
	  { { "nodePortAddresses", "10.0.0.0/8" },
	    { "nodePortAddresses", "fd00::/64" } },
	  false,
	  { false, false },
	  { NULL },
	  0,
	  { false, false } },
	{ "NP-2 CFG-6 both of length 0",
	  { { "nodePortAddresses", "0.0.0.0/0" }, { "nodePortAddresses", "::/0" } },
	  false,
	  { true, true },
	  { EVERYWHERE "IPv4", EVERYWHERE "IPv6" },
	  2,
	  { false, false } },
	{ "NP-3 loopback ranges",
	  { { "nodePortAddresses", "127.0.0.0/16" },
	    { "nodePortAddresses", "::1/128" } },
	  false,
	  { false, false },
	  { NULL },
	  0,
	  { true, true } },
	{ "NP-3 a range around loopback",
	  { { "nodePortAddresses", "64.0.0.0/2" },
	    { "nodePortAddresses", "fd00::/64" } },
	  false,
	  { false, false },
	  { NULL },
	  0,
	  { true, false } },
	{ "NP-2 all",
	  { { "nodePortAddresses", "all" } },
	  false,
	  { true, true },
	  { EVERYWHERE "IPv4", EVERYWHERE "IPv6" },
	  2,
	  { false, false } },
	{ "NP-2 localhost",
	  { { "nodePortAddresses", "localhost" } },
	  false,
	  { false, false },
	  { NULL },
	  0,
	  { true, true } },
	{ "NP-2 primary and a range",
	  { { "nodePortAddresses", "primary" },
	    { "nodePortAddresses", "10.0.0.0/8" } },
	  true,
	  { false, false },
	  { NULL },
	  0,
	  { false, false } },
	{ "NP-2 primary and localhost of one family",
	  { { "nodePortAddresses", "primary" },
	    { "nodePortAddresses", "127.0.0.1/32" } },
	  true,
	  { false, false },
	  { NULL },
	  0,
	  { true, false } },
	{ "NP-2 primary and all",
	  { { "nodePortAddresses", "primary" }, { "nodePortAddresses", "all" } },
	  true,
	  { true, true },
	  { EVERYWHERE "IPv4", EVERYWHERE "IPv6" },
	  2,
	  { false, false } },
};

START_TEST(nodeport_addresses)
{
	const char *row = nodeports[_i].name;
	struct config *c = config_with(nodeports[_i].settings);
	struct strbuf notes = STRBUF_INIT;
	unsigned int f, i, lines = 0;

	ck_assert_int_eq(config_validate(c, note, &notes, NULL), 0);
	for (f = 0; f < N_FAMILIES; f++) {
		ck_assert_msg(c->family[f].nodeport_primary == nodeports[_i].primary,
			      "%s: primary", row);
		ck_assert_msg(c->family[f].nodeport_localhost ==
				      nodeports[_i].localhost[f],
			      "%s: %s localhost", row, family_name(f));
	}
	for (f = 0; f < N_FAMILIES; f++)
		ck_assert_msg(config_nodeports_everywhere(c, f) ==
				      nodeports[_i].everywhere[f],
			      "%s: %s everywhere: want %d", row, family_name(f),
			      nodeports[_i].everywhere[f]);
	for (i = 0; i < notes.length; i++)
		lines += notes.text[i] == '\n';
	ck_assert_msg(lines == nodeports[_i].n_warnings,
		      "%s: want %u warnings, got: %s", row,
		      nodeports[_i].n_warnings, notes.text);
	for (i = 0; i < nodeports[_i].n_warnings; i++)
		ck_assert_msg(strstr(notes.text, nodeports[_i].warnings[i]) != NULL,
			      "%s: want \"%s\", got: %s", row,
			      nodeports[_i].warnings[i], notes.text);
	/* Again: nothing leaks, nothing is doubled. */
	ck_assert_int_eq(config_validate(c, NULL, NULL, NULL), 0);
	ck_assert_uint_le(c->family[FAMILY_IPV4].n_nodeport_ranges, 1);
	strbuf_free(&notes);
	config_free(c);
}
END_TEST

START_TEST(cluster_cidr_per_family)
{
	struct config *c = config_with((struct setting[N_MAX_SETTINGS]){
		{ "clusterCIDR", "10.180.3.4/16,fd00:1::/32" } });
	char text[PREFIX_TEXT_SIZE];

	ck_assert_int_eq(config_validate(c, NULL, NULL, NULL), 0);
	ck_assert(c->family[FAMILY_IPV4].has_cluster_cidr);
	CHECK_STR("MASQ-6 IPv4 range, API-11 host bits cleared",
		  prefix_format(FAMILY_IPV4,
				&c->family[FAMILY_IPV4].cluster_cidr, text),
		  "10.180.0.0/16");
	ck_assert(c->family[FAMILY_IPV6].has_cluster_cidr);
	CHECK_STR("MASQ-6 IPv6 range",
		  prefix_format(FAMILY_IPV6,
				&c->family[FAMILY_IPV6].cluster_cidr, text),
		  "fd00:1::/32");
	config_free(c);
}
END_TEST

static const struct {
	const char *name;
	struct setting settings[N_MAX_SETTINGS];
	enum family primary;
	bool dual, pod_cidrs[N_FAMILIES];
	int err;
	const char *want; /* error or warning, contained */
} families[] = {
	{ "CFG-5 nothing set", { { NULL, NULL } }, FAMILY_IPV4, false, { 0 }, 0, NULL },
	{ "CFG-5 ClusterCIDR of the other family, one family",
	  { { "clusterCIDR", "fd00::/8" } },
	  FAMILY_IPV4,
	  false,
	  { 0 },
	  -EINVAL,
	  "clusterCIDR: the node is IPv4-only" },
	{ "CFG-5 ClusterCIDR of the other family, two families",
	  { { "clusterCIDR", "fd00::/8" } },
	  FAMILY_IPV4,
	  true,
	  { 0 },
	  0,
	  "clusterCIDR: the node is IPv4-primary" },
	{ "CFG-5 both ranges",
	  { { "clusterCIDR", "fd00::/8,10.0.0.0/8" } },
	  FAMILY_IPV6,
	  false,
	  { 0 },
	  0,
	  NULL },
	{ "CFG-5 clusterCIDR in another mode",
	  { { "clusterCIDR", "fd00::/8" }, { "detectLocalMode", "NodeCIDR" } },
	  FAMILY_IPV4,
	  false,
	  { true, false },
	  0,
	  "clusterCIDR: the node is IPv4-only" },
	{ "CFG-5 NodeCIDR of the other family, two families",
	  { { "detectLocalMode", "NodeCIDR" } },
	  FAMILY_IPV6,
	  true,
	  { true, false },
	  -EINVAL,
	  "detectLocalMode: NodeCIDR, and the node is IPv6-primary" },
	{ "CFG-5 podCIDRs in another mode",
	  { { NULL, NULL } },
	  FAMILY_IPV6,
	  true,
	  { true, false },
	  0,
	  "spec.podCIDRs have no IPv6 range" },
	{ "CFG-5 nodePortAddresses",
	  { { "nodePortAddresses", "10.0.0.0/8" } },
	  FAMILY_IPV6,
	  true,
	  { 0 },
	  0,
	  "nodePortAddresses: the node is IPv6-primary" },
};

START_TEST(check_families)
{
	const char *row = families[_i].name, *want = families[_i].want, *got;
	struct config *c = config_with(families[_i].settings);
	struct strbuf notes = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err;

	ck_assert_int_eq(config_validate(c, NULL, NULL, NULL), 0);
	err = config_check_families(c, families[_i].primary, families[_i].dual,
				    families[_i].pod_cidrs, note, &notes, &eb);
	ck_assert_msg(err == families[_i].err, "%s: want %d, got %d (%s)", row,
		      families[_i].err, err, eb.text);
	got = err ? eb.text : notes.text ? notes.text : "";
	ck_assert_msg(want ? strstr(got, want) != NULL : !*got,
		      "%s: want \"%s\", got \"%s\"", row, want ? want : "", got);
	strbuf_free(&notes);
	config_free(c);
}
END_TEST

static const struct {
	const char *name, *gate;
	bool value;
	int err;
	bool external_ips, warned;
} gates[] = {
	{ "SVC-10 off", "AllowServiceExternalIPs", false, 0, false, false },
	{ "SVC-10 on", "AllowServiceExternalIPs", true, 0, true, false },
	{ "fixed, true", "NFTablesProxyMode", true, 0, true, false },
	{ "fixed, false", "NFTablesProxyMode", false, -EINVAL, true, false },
	{ "unknown", "NoSuchGate", false, 0, true, true },
};

START_TEST(feature_gates)
{
	const char *row = gates[_i].name;
	struct config *c = config_new();
	struct strbuf notes = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err = config_set_gate(c, gates[_i].gate, gates[_i].value, note,
				  &notes, &eb);

	ck_assert_msg(err == gates[_i].err, "%s: got %d", row, err);
	ck_assert_msg(c->allow_external_ips == gates[_i].external_ips,
		      "%s: external IPs", row);
	ck_assert_msg((notes.length > 0) == gates[_i].warned, "%s: warnings", row);
	ck_assert_msg(!err || strstr(eb.text, gates[_i].gate), "%s: %s", row,
		      eb.text);
	strbuf_free(&notes);
	config_free(c);
}
END_TEST

static const struct {
	const char *text;
	int err;
	int64_t ms;
} durations[] = {
	{ "0", 0, 0 },		{ "0s", 0, 0 },
	{ "30s", 0, 30000 },	{ "1h0m0s", 0, 3600000 },
	{ "24h", 0, 86400000 }, { "1.5s", 0, 1500 },
	{ ".5s", 0, 500 },	{ "1h2m3.25s", 0, 3723250 },
	{ "250ms", 0, 250 },	{ "1us", 0, 1 },
	{ "1\u00b5s", 0, 1 },	{ "999999ns", 0, 1 },
	{ "1500us", 0, 2 },	{ "-5s", 0, -5000 },
	{ "+5s", 0, 5000 },	{ "", -EINVAL, 0 },
	{ "-", -EINVAL, 0 },	{ "30", -EINVAL, 0 },
	{ "s", -EINVAL, 0 },	{ ".s", -EINVAL, 0 },
	{ "1d", -EINVAL, 0 },	{ "1s ", -EINVAL, 0 },
	{ " 1s", -EINVAL, 0 },	{ "1e3s", -EINVAL, 0 },
	{ "nans", -EINVAL, 0 }, { "99999999999999h", -EINVAL, 0 },
};

START_TEST(duration)
{
	int64_t ms = 0;
	int err = duration_parse(durations[_i].text, &ms);

	ck_assert_msg(err == durations[_i].err && ms == durations[_i].ms,
		      "\"%s\": want %d, %lld ms, got %d, %lld ms",
		      durations[_i].text, durations[_i].err,
		      (long long)durations[_i].ms, err, (long long)ms);
}
END_TEST

static const char default_json[] =
	"{\"kind\":\"KubeProxyConfiguration\","
	"\"apiVersion\":\"kubeproxy.config.k8s.io/v1alpha1\","
	"\"featureGates\":{\"AllowServiceExternalIPs\":true},"
	"\"clientConnection\":{\"kubeconfig\":\"\",\"acceptContentTypes\":\"\","
	"\"contentType\":\"application/vnd.kubernetes.protobuf\",\"qps\":5,\"burst\":10},"
	"\"logging\":{\"format\":\"text\",\"verbosity\":0},"
	"\"hostnameOverride\":\"\",\"bindAddress\":\"0.0.0.0\","
	"\"healthzBindAddress\":\"0.0.0.0:10256\",\"metricsBindAddress\":\"127.0.0.1:10249\","
	"\"bindAddressHardFail\":false,\"mode\":\"nftables\","
	"\"nftables\":{\"masqueradeBit\":14,\"masqueradeAll\":false,\"syncPeriod\":\"30s\","
	"\"minSyncPeriod\":\"0s\"},"
	"\"detectLocalMode\":\"ClusterCIDR\","
	"\"detectLocal\":{\"bridgeInterface\":\"\",\"interfaceNamePrefix\":\"\"},"
	"\"clusterCIDR\":\"\",\"nodePortAddresses\":null,\"oomScoreAdj\":-999,"
	"\"conntrack\":{\"maxPerCore\":32768,\"min\":131072,\"tcpEstablishedTimeout\":\"24h0m0s\","
	"\"tcpCloseWaitTimeout\":\"1h0m0s\",\"tcpBeLiberal\":false,\"udpTimeout\":\"0s\","
	"\"udpStreamTimeout\":\"0s\"},"
	"\"configSyncPeriod\":\"15m0s\"}";

START_TEST(format_defaults)
{
	struct config *c = config_new();
	struct strbuf json = STRBUF_INIT;

	config_format(c, &json);
	ck_assert_int_eq(json.err, 0);
	CHECK_STR("defaults", json.text, default_json);
	strbuf_free(&json);
	config_free(c);
}
END_TEST

START_TEST(format_escapes_and_durations)
{
	struct config *c = config_with((struct setting[N_MAX_SETTINGS]){
		{ "nodePortAddresses", "a\"b\\c" },
		{ "nodePortAddresses", "tab\there" },
		{ "minSyncPeriod", "90061250" },
		{ "udpTimeout", "5" },
	});
	struct strbuf json = STRBUF_INIT;

	config_format(c, &json);
	ck_assert_ptr_nonnull(strstr(
		json.text,
		"\"nodePortAddresses\":[\"a\\\"b\\\\c\",\"tab\\u0009here\"]"));
	ck_assert_ptr_nonnull(strstr(json.text, "\"minSyncPeriod\":\"25h1m1.25s\""));
	ck_assert_ptr_nonnull(strstr(json.text, "\"udpTimeout\":\"5ms\""));
	strbuf_free(&json);
	config_free(c);
}
END_TEST

static void fail_on_warning(void *ctx, const char *message)
{
	(void)ctx;
	ck_assert_msg(strcmp(message, "configSyncPeriod: has no effect here") == 0,
		      "warning: %s", message);
}

/* Every field away from its default. */
static struct config *unusual_config(void)
{
	struct config *c = config_with((struct setting[N_MAX_SETTINGS]){
		{ "nodePortAddresses", "10.0.0.0/8" },
		{ "nodePortAddresses", "fd00::/8" },
		{ "detectLocalMode", "BridgeInterface" },
		{ "bridgeInterface", "cni0" },
	});

	set_field(c, "interfaceNamePrefix", "veth");
	set_field(c, "clusterCIDR", "10.0.0.0/8,fd00::/8");
	set_field(c, "bindAddress", "fd00::1");
	set_field(c, "healthzBindAddress", "[::1]:1");
	set_field(c, "metricsBindAddress", "127.0.0.2:2");
	set_field(c, "loggingFormat", "json");
	set_text(&c->kubeconfig, "/a/\"b\\c d");
	set_text(&c->accept_content_types, "application/json");
	set_text(&c->content_type, "application/json");
	set_text(&c->hostname_override, "h");
	c->qps = 7.5;
	c->burst = 8;
	c->bind_address_hard_fail = c->masquerade_all =
		c->conntrack.tcp_be_liberal = true;
	c->masquerade_bit = 3;
	c->sync_period_ms = 3723004;
	c->min_sync_period_ms = 250;
	c->config_sync_period_ms = 60000;
	c->oom_score_adj = 5;
	c->allow_external_ips = false;
	c->conntrack.max_per_core = 11;
	c->conntrack.min = 12;
	c->conntrack.tcp_established_timeout_ms = 13000;
	c->conntrack.tcp_close_wait_timeout_ms = 14000;
	c->conntrack.udp_timeout_ms = 15000;
	c->conntrack.udp_stream_timeout_ms = 16000;
	c->verbosity = 9;
	return c;
}

/* What /configz and --write-config-to print is a file that says the same. */
START_TEST(round_trip)
{
	struct config *c = _i ? unusual_config() : config_new(),
		      *back = config_new();
	struct strbuf json = STRBUF_INIT, again = STRBUF_INIT, yaml = STRBUF_INIT;
	struct errbuf eb = { "" };

	config_format(c, &json);
	ck_assert_msg(proxyconfig_parse(json.text, json.length, back,
					fail_on_warning, NULL, &eb) == 0,
		      "%s in %s", eb.text, json.text);
	config_format(back, &again);
	CHECK_STR("round trip", again.text, json.text);
	/* The same by way of YAML. */
	config_free(back);
	back = config_new();
	config_format_yaml(c, &yaml);
	ck_assert_msg(proxyconfig_parse(yaml.text, yaml.length, back,
					fail_on_warning, NULL, &eb) == 0,
		      "%s in %s", eb.text, yaml.text);
	strbuf_reset(&again);
	config_format(back, &again);
	CHECK_STR("round trip of YAML", again.text, json.text);
	ck_assert_int_eq(config_validate(back, NULL, NULL, &eb), 0);
	strbuf_free(&json);
	strbuf_free(&again);
	strbuf_free(&yaml);
	config_free(c);
	config_free(back);
}
END_TEST

static void note_difference(void *ctx, const char *field, const char *old,
			    const char *new)
{
	strbuf_addf(ctx, "%s %s -> %s\n", field, old, new);
}

/* CFG-3: what is told of a change; fields of every kind, first, last and in the middle. */
START_TEST(differences)
{
	struct config *a = config_new(), *b = config_new();
	struct strbuf out = STRBUF_INIT;

	ck_assert_int_eq(config_diff(a, b, note_difference, &out), 0);
	b->allow_external_ips = !a->allow_external_ips;
	set_text(&b->kubeconfig, "/a \"b\", {c}");
	b->qps = 7.5;
	b->verbosity = 3;
	b->masquerade_all = true;
	b->min_sync_period_ms = 1500;
	set_text(&a->interface_name_prefix, "veth");
	set_text(&b->cluster_cidr, "10.0.0.0/8,fd00::/8");
	ck_assert_int_eq(config_append(&b->nodeport_addresses, "10.0.0.0/8"), 0);
	ck_assert_int_eq(config_append(&b->nodeport_addresses, "fd00::/8"), 0);
	b->conntrack.tcp_be_liberal = true;
	b->config_sync_period_ms = 60000;
	set_text(&b->vipmap.close_connections, "EndpointGone");
	set_text(&b->vipmap.no_endpoints, "Pass");
	ck_assert_int_eq(config_diff(a, b, note_difference, &out), 13);
	CHECK_STR("all", out.text,
		  "featureGates.AllowServiceExternalIPs true -> false\n"
		  "clientConnection.kubeconfig \"\" -> /a \\\"b\\\", {c}\n"
		  "clientConnection.qps 5 -> 7.5\n"
		  "logging.verbosity 0 -> 3\n"
		  "nftables.masqueradeAll false -> true\n"
		  "nftables.minSyncPeriod 0s -> 1.5s\n"
		  "detectLocal.interfaceNamePrefix veth -> \"\"\n"
		  "clusterCIDR \"\" -> 10.0.0.0/8,fd00::/8\n"
		  "nodePortAddresses null -> [\"10.0.0.0/8\",\"fd00::/8\"]\n"
		  "conntrack.tcpBeLiberal false -> true\n"
		  "configSyncPeriod 15m0s -> 1m0s\n"
		  "closeConnections Never -> EndpointGone\n"
		  "noEndpoints Reject -> Pass\n");
	strbuf_free(&out);
	config_free(a);
	config_free(b);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("config");
	TCase *tc = tcase_create("config");

	tcase_add_test(tc, defaults);
	tcase_add_test(tc, empty_means_default);
	tcase_add_test(tc, ipv6_bind_address);
	ADD_LOOP(tc, validate, checks);
	ADD_LOOP(tc, interface_names, interfaces);
	ADD_LOOP(tc, server_address, servers);
	ADD_LOOP(tc, nodeport_addresses, nodeports);
	tcase_add_test(tc, cluster_cidr_per_family);
	ADD_LOOP(tc, check_families, families);
	ADD_LOOP(tc, feature_gates, gates);
	ADD_LOOP(tc, duration, durations);
	tcase_add_test(tc, differences);
	tcase_add_test(tc, format_defaults);
	tcase_add_test(tc, format_escapes_and_durations);
	tcase_add_loop_test(tc, round_trip, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
