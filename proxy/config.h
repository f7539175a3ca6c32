/*
 * Everything that can be set: one struct, filled from defaults, a KubeProxyConfiguration file and
 * flags, checked once, and read-only afterwards. Field names follow kubeproxy.config.k8s.io/v1alpha1.
 */
#ifndef PROXY_CONFIG_H
#define PROXY_CONFIG_H

#include "proxy/addr.h"
#include "proxy/errbuf.h"

enum detect_local_mode {
	DETECT_CLUSTER_CIDR,
	DETECT_NODE_CIDR,
	DETECT_BRIDGE_INTERFACE,
	DETECT_INTERFACE_NAME_PREFIX,
};

/*
 * Strings are owned by the config and never NULL. Values are as written (addresses and ranges are
 * text) until config_validate() has filled the parsed part at the end.
 */
struct config {
	/* Where objects come from */
	char *kubeconfig, *master;	/* "" : in-cluster */
	char **manifests;		/* paths, NULL-terminated, or NULL */
	char *accept_content_types, *content_type;
	double qps;
	int burst;

	char *hostname_override;
	char *bind_address;		/* "0.0.0.0" */
	char *healthz_bind_address;	/* "" : off */
	char *metrics_bind_address;	/* "" : off */
	bool bind_address_hard_fail;
	char *mode;			/* "" or "nftables" */
	int masquerade_bit;
	bool masquerade_all;
	int64_t sync_period_ms, min_sync_period_ms, config_sync_period_ms;
	char *detect_local_mode;	/* "" : ClusterCIDR */
	char *bridge_interface, *interface_name_prefix;
	char *cluster_cidr;		/* one range, or one per family, comma-separated */
	char **nodeport_addresses;	/* NULL-terminated, or NULL: unset */
	int oom_score_adj;
	bool allow_external_ips;	/* feature gate AllowServiceExternalIPs */
	struct {
		int64_t max_per_core, min;
		int64_t tcp_established_timeout_ms, tcp_close_wait_timeout_ms;
		int64_t udp_timeout_ms, udp_stream_timeout_ms;
		bool tcp_be_liberal;
	} conntrack;
	int verbosity;

	/* Filled by config_validate() */
	enum detect_local_mode detect_local;
	bool has_bind_addr;		/* bindAddress is neither 0.0.0.0 nor :: (NODE-2) */
	enum family bind_family;
	struct addr bind_addr;
	struct {
		bool has_cluster_cidr;
		struct prefix cluster_cidr;
		unsigned int n_nodeport_ranges;
		struct prefix *nodeport_ranges;
	} family[N_FAMILIES];
	bool nodeport_primary;		/* nodePortAddresses unset, empty or ["primary"] */
};

/* A config with kube-proxy's defaults; NULL when out of memory. */
struct config *config_new(void);
void config_free(struct config *config); /* NULL is allowed */

/* Replaces an owned string. Returns 0 or -ENOMEM. */
int config_set(char **field, const char *value);
int config_append(char ***list, const char *value);

/*
 * Checks ranges and formats (CFG-2) and fills the parsed part. Returns 0, or -EINVAL with @eb naming
 * the field. @warn, if not NULL, is called for what is accepted but suspicious (CFG-5, CFG-6, NP-3).
 */
int config_validate(struct config *config, void (*warn)(void *ctx, const char *message), void *ctx,
		    struct errbuf *eb);

/* The effective configuration as KubeProxyConfiguration JSON (/configz, --write-config-to). */
struct strbuf;
void config_format(const struct config *config, struct strbuf *json);

#endif
