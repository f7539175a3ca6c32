/*
 * The order is that of the printed configuration, where fields of one object stand together.
 *
 * Flags and fields are those of kube-proxy; a flag may have another name than its field in spite of
 * everything (--iptables-sync-period sets nftables.syncPeriod).
 */
#include "proxy/model/fields.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/model/config.h"

#define AT(member) .offset = offsetof(struct config, member)
#define TEXT(name, member) .path = name, .type = FIELD_TEXT, AT(member)
#define BOOL(name, member) .path = name, .type = FIELD_BOOL, AT(member)
#define INT(name, member) .path = name, .type = FIELD_INT, AT(member)
#define INT64(name, member) .path = name, .type = FIELD_INT64, AT(member)
#define DURATION(name, member) .path = name, .type = FIELD_DURATION, AT(member)
#define LIST(name, member) .path = name, .type = FIELD_LIST, AT(member)
#define UNUSED(name, kind_of)                                                  \
	.path = name, .type = kind_of, .traits = FIELD_UNUSED
#define FLAG(name, text) .flag = "--" name, .help = text

static const struct config_field proxy_fields[] = {
	{ .path = "kind", .type = FIELD_HEADER },
	{ .path = "apiVersion", .type = FIELD_HEADER },
	{ .path = "featureGates",
	  .type = FIELD_GATES,
	  FLAG("feature-gates", "NAME=true|false, comma-separated") },
	{ TEXT("clientConnection.kubeconfig", kubeconfig),
	  FLAG("kubeconfig", "FILE with the API server's address and credentials") },
	{ TEXT("clientConnection.acceptContentTypes", accept_content_types) },
	{ TEXT("clientConnection.contentType", content_type),
	  .fallback = "application/vnd.kubernetes.protobuf",
	  .traits = FIELD_EMPTY_IS_DEFAULT,
	  FLAG("kube-api-content-type", "TYPE asked of the API server") },
	{ .path = "clientConnection.qps",
	  .type = FIELD_FLOAT,
	  AT(qps),
	  .fallback = "5",
	  .traits = FIELD_EMPTY_IS_DEFAULT,
	  FLAG("kube-api-qps", "NUMBER of requests to the API server per second") },
	{ INT("clientConnection.burst", burst), .fallback = "10",
	  .traits = FIELD_EMPTY_IS_DEFAULT, .max = INT32_MAX,
	  FLAG("kube-api-burst", "NUMBER of requests at once") },
	{ TEXT("logging.format", logging_format), .fallback = "text",
	  .words = (const char *const[]){ "text", "json", NULL },
	  .traits = FIELD_EMPTY_IS_DEFAULT | FIELD_FLAG_WINS,
	  FLAG("logging-format", "\"text\" or \"json\"") },
	{ INT("logging.verbosity", verbosity), .max = INT32_MAX,
	  .traits = FIELD_FLAG_WINS, FLAG("v", "LEVEL of the log; also -v LEVEL") },
	{ UNUSED("logging.flushFrequency", FIELD_ANY), .fallback = "5s" },
	{ UNUSED("logging.vmodule", FIELD_LIST) },
	{ UNUSED("logging.options", FIELD_ANY) },
	{ TEXT("hostnameOverride", hostname_override), .traits = FIELD_FLAG_WINS,
	  FLAG("hostname-override", "NAME of this node, instead of the host's") },
	{ TEXT("bindAddress", bind_address), .fallback = "0.0.0.0",
	  .traits = FIELD_EMPTY_IS_DEFAULT,
	  FLAG("bind-address", "primary ADDRESS of this node") },
	/* Their defaults follow the family of bindAddress: config_default_servers(). */
	{ TEXT("healthzBindAddress", healthz_bind_address),
	  FLAG("healthz-bind-address",
	       "ADDRESS:PORT of the health server, \"\" for none") },
	{ TEXT("metricsBindAddress", metrics_bind_address),
	  FLAG("metrics-bind-address",
	       "ADDRESS:PORT of the metrics server, \"\" for none") },
	{ BOOL("bindAddressHardFail", bind_address_hard_fail),
	  FLAG("bind-address-hard-fail", "exit if one of the two cannot listen") },
	{ UNUSED("enableProfiling", FIELD_BOOL) },
	{ UNUSED("showHiddenMetricsForVersion", FIELD_TEXT) },
	{ TEXT("mode", mode), FLAG("proxy-mode", "\"nftables\" or \"\"") },
	{ INT("nftables.masqueradeBit", masquerade_bit), .fallback = "14",
	  .max = 31 },
	{ BOOL("nftables.masqueradeAll", masquerade_all),
	  FLAG("masquerade-all", "masquerade everything sent to a ClusterIP") },
	{ DURATION("nftables.syncPeriod", sync_period_ms), .fallback = "30s",
	  .traits = FIELD_EMPTY_IS_DEFAULT, .min = 1, .max = INT64_MAX,
	  FLAG("iptables-sync-period",
	       "DURATION until a failed sync is repeated at the latest") },
	{ DURATION("nftables.minSyncPeriod", min_sync_period_ms), .max = INT64_MAX,
	  FLAG("iptables-min-sync-period", "DURATION between syncs at least") },
	{ UNUSED("iptables.masqueradeBit", FIELD_INT), .fallback = "14", .max = 31 },
	{ UNUSED("iptables.masqueradeAll", FIELD_BOOL) },
	{ UNUSED("iptables.localhostNodePorts", FIELD_BOOL), .fallback = "true" },
	{ UNUSED("iptables.syncPeriod", FIELD_DURATION), .fallback = "30s" },
	{ UNUSED("iptables.minSyncPeriod", FIELD_DURATION), .fallback = "1s" },
	{ UNUSED("ipvs.syncPeriod", FIELD_DURATION), .fallback = "30s" },
	{ UNUSED("ipvs.minSyncPeriod", FIELD_DURATION) },
	{ UNUSED("ipvs.scheduler", FIELD_TEXT) },
	{ UNUSED("ipvs.excludeCIDRs", FIELD_LIST) },
	{ UNUSED("ipvs.strictARP", FIELD_BOOL) },
	{ UNUSED("ipvs.tcpTimeout", FIELD_DURATION) },
	{ UNUSED("ipvs.tcpFinTimeout", FIELD_DURATION) },
	{ UNUSED("ipvs.udpTimeout", FIELD_DURATION) },
	{ UNUSED("winkernel.networkName", FIELD_TEXT) },
	{ UNUSED("winkernel.sourceVip", FIELD_TEXT) },
	{ UNUSED("winkernel.enableDSR", FIELD_BOOL) },
	{ UNUSED("winkernel.rootHnsEndpointName", FIELD_TEXT) },
	{ UNUSED("winkernel.forwardHealthCheckVip", FIELD_BOOL) },
	{ UNUSED("windowsRunAsService", FIELD_BOOL) },
	{ TEXT("detectLocalMode", detect_local_mode),
	  .words = (const char *const[]){ "ClusterCIDR", "NodeCIDR", "BridgeInterface",
					  "InterfaceNamePrefix", NULL },
	  FLAG("detect-local-mode",
	       "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix") },
	{ TEXT("detectLocal.bridgeInterface", bridge_interface),
	  FLAG("pod-bridge-interface", "NAME of the bridge of pods") },
	{ TEXT("detectLocal.interfaceNamePrefix", interface_name_prefix),
	  FLAG("pod-interface-name-prefix", "PREFIX of names of pods' interfaces") },
	{ TEXT("clusterCIDR", cluster_cidr),
	  FLAG("cluster-cidr", "RANGE of pods, one per family, comma-separated") },
	{ LIST("nodePortAddresses", nodeport_addresses),
	  FLAG("nodeport-addresses",
	       "RANGEs, \"primary\", \"localhost\" or \"all\", comma-separated") },
	{ INT("oomScoreAdj", oom_score_adj), .fallback = "-999", .min = -1000,
	  .max = 1000,
	  FLAG("oom-score-adj", "NUMBER from -1000 to 1000, for this process") },
	{ INT64("conntrack.maxPerCore", conntrack.max_per_core),
	  .fallback = "32768", .max = INT32_MAX,
	  FLAG("conntrack-max-per-core",
	       "NUMBER of conntrack entries per CPU; 0: leave") },
	{ INT64("conntrack.min", conntrack.min), .fallback = "131072",
	  .max = INT32_MAX,
	  FLAG("conntrack-min", "NUMBER of conntrack entries at least") },
	{ DURATION("conntrack.tcpEstablishedTimeout",
		   conntrack.tcp_established_timeout_ms),
	  .fallback = "24h", .max = INT64_MAX,
	  FLAG("conntrack-tcp-timeout-established", "DURATION; 0: leave") },
	{ DURATION("conntrack.tcpCloseWaitTimeout",
		   conntrack.tcp_close_wait_timeout_ms),
	  .fallback = "1h", .max = INT64_MAX,
	  FLAG("conntrack-tcp-timeout-close-wait", "DURATION; 0: leave") },
	{ BOOL("conntrack.tcpBeLiberal", conntrack.tcp_be_liberal),
	  FLAG("conntrack-tcp-be-liberal",
	       "do not call packets outside of the window invalid") },
	{ DURATION("conntrack.udpTimeout", conntrack.udp_timeout_ms),
	  .max = INT64_MAX, FLAG("conntrack-udp-timeout", "DURATION; 0: leave") },
	{ DURATION("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout_ms),
	  .max = INT64_MAX,
	  FLAG("conntrack-udp-timeout-stream", "DURATION; 0: leave") },
	{ DURATION("configSyncPeriod", config_sync_period_ms), .fallback = "15m",
	  .traits = FIELD_UNUSED | FIELD_STORED | FIELD_EMPTY_IS_DEFAULT,
	  .min = 1, .max = INT64_MAX,
	  FLAG("config-sync-period", "DURATION; without effect") },
	{ UNUSED("portRange", FIELD_TEXT) },
};

enum { N_PROXY_FIELDS = sizeof(proxy_fields) / sizeof(proxy_fields[0]) };

static_assert((int)N_PROXY_FIELDS <= (int)CONFIG_FIELDS_MAX,
	      "struct config has no room for marks");

const struct config_schema proxy_schema = {
	.kind = "KubeProxyConfiguration",
	.api_version = "kubeproxy.config.k8s.io/v1alpha1",
	.fields = proxy_fields,
	.n_fields = N_PROXY_FIELDS,
};

/* What goes beyond kube-proxy. */
static const struct config_field vipmap_fields[] = {
	{ .path = "apiVersion", .type = FIELD_HEADER },
	{ .path = "kind", .type = FIELD_HEADER },
	{ TEXT("closeConnections", vipmap.close_connections), .fallback = "Never",
	  .words = (const char *const[]){ "Never", "EndpointGone", NULL },
	  .traits = FIELD_EMPTY_IS_DEFAULT },
	{ TEXT("noEndpoints", vipmap.no_endpoints), .fallback = "Reject",
	  .words = (const char *const[]){ "Reject", "Pass", NULL },
	  .traits = FIELD_EMPTY_IS_DEFAULT },
	{ LIST("noMasqueradeCIDRs", vipmap.no_masquerade_cidrs) },
	{ BOOL("answerPing", vipmap.answer_ping) },
	{ BOOL("serviceCounters", vipmap.service_counters) },
	{ LIST("fastPath.interfaces", vipmap.fast_path_interfaces) },
	{ TEXT("takeOver", vipmap.take_over), .fallback = "None",
	  .words = (const char *const[]){ "None", "KubeProxy", NULL },
	  .traits = FIELD_EMPTY_IS_DEFAULT },
};

const struct config_schema vipmap_schema = {
	.kind = "VipmapConfiguration",
	.api_version = "vipmap/v1alpha1",
	.fields = vipmap_fields,
	.n_fields = sizeof(vipmap_fields) / sizeof(vipmap_fields[0]),
	.strict = true,
};

const struct config_field *field_find(const struct config_schema *schema,
				      const char *path)
{
	for_each_config_field (field, schema)
		if (strcmp(field->path, path) == 0)
			return field;
	return NULL;
}

const struct config_field *field_find_flag(const char *flag, size_t length)
{
	for_each_config_field (field, &proxy_schema)
		if (field->flag && strlen(field->flag) == length + 2 &&
		    strncmp(field->flag + 2, flag, length) == 0)
			return field;
	return NULL;
}

void *field_at(struct config *config, const struct config_field *field)
{
	return (char *)config + field->offset;
}

static const void *look_at(const struct config *config,
			   const struct config_field *field)
{
	return (const char *)config + field->offset;
}

int64_t field_number(const struct config *config, const struct config_field *field)
{
	int64_t wide;
	int narrow;

	if (field->type == FIELD_INT) {
		memcpy(&narrow, look_at(config, field), sizeof(narrow));
		return narrow;
	}
	assert(field->type == FIELD_INT64 || field->type == FIELD_DURATION);
	memcpy(&wide, look_at(config, field), sizeof(wide));
	return wide;
}

char *field_text(const struct config *config, const struct config_field *field)
{
	char *text;

	assert(field->type == FIELD_TEXT);
	memcpy(&text, look_at(config, field), sizeof(text));
	return text;
}

bool field_is_empty(const struct config *config, const struct config_field *field)
{
	const char *text, *const *list;
	double real;

	switch (field->type) {
	case FIELD_TEXT:
		text = field_text(config, field);
		return !text || !*text;
	case FIELD_BOOL:
		return !*(const bool *)look_at(config, field);
	case FIELD_FLOAT:
		memcpy(&real, look_at(config, field), sizeof(real));
		return real == 0;
	case FIELD_LIST:
		memcpy(&list, look_at(config, field), sizeof(list));
		return !list || !list[0];
	default:
		return field_number(config, field) == 0;
	}
}

bool field_is_default(const struct config *config, const struct config_field *field)
{
	if (field->type == FIELD_TEXT && field->fallback)
		return strcmp(field_text(config, field), field->fallback) == 0;
	return field_is_empty(config, field);
}

int field_set_default(struct config *config, const struct config_field *field)
{
	const char *text = field->fallback ? field->fallback : "";
	void *at = field_at(config, field);
	int64_t number = 0;
	double real;
	int narrow;

	switch (field->type) {
	case FIELD_TEXT:
		return config_set(at, text);
	case FIELD_BOOL:
		*(bool *)at = strcmp(text, "true") == 0;
		return 0;
	case FIELD_FLOAT:
		real = strtod(text, NULL);
		memcpy(at, &real, sizeof(real));
		return 0;
	case FIELD_INT:
		narrow = (int)strtol(text, NULL, 10);
		memcpy(at, &narrow, sizeof(narrow));
		return 0;
	case FIELD_INT64:
		number = strtoll(text, NULL, 10);
		memcpy(at, &number, sizeof(number));
		return 0;
	case FIELD_DURATION:
		if (*text && duration_parse(text, &number))
			assert(!"a default is no duration");
		memcpy(at, &number, sizeof(number));
		return 0;
	default:
		return 0;
	}
}

void field_mark_flag(struct config *config, const struct config_field *field)
{
	assert(field >= proxy_fields && field < proxy_fields + N_PROXY_FIELDS);
	config->by_flag[field - proxy_fields] = true;
}

const char *field_name(const struct config *config, const struct config_field *field)
{
	if (field >= proxy_fields && field < proxy_fields + N_PROXY_FIELDS &&
	    config->by_flag[field - proxy_fields])
		return field->flag;
	return field->path;
}
