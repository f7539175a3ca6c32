/*
 * Everything that can be set: one struct, filled from defaults, a
 * KubeProxyConfiguration file and flags, checked once, and read-only
 * afterwards. Field names follow kubeproxy.config.k8s.io/v1alpha1.
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include "proxy/base/addr.h"
#include "proxy/base/errbuf.h"

enum detect_local_mode {
	DETECT_CLUSTER_CIDR,
	DETECT_NODE_CIDR,
	DETECT_BRIDGE_INTERFACE,
	DETECT_INTERFACE_NAME_PREFIX,
};

enum { CONFIG_FIELDS_MAX = 80 };

/*
 * Strings are owned by the config and never NULL. Values are as written (addresses and ranges are
 * text) until config_validate() has filled the parsed part at the end.
 */
struct config {
	/* Where objects come from */
	char *kubeconfig, *master; /* "" : in-cluster */
	char **manifests;	   /* paths, NULL-terminated, or NULL */
	char *accept_content_types, *content_type;
	double qps;
	int burst;

	char *hostname_override;
	char *bind_address;	    /* "0.0.0.0" */
	char *healthz_bind_address; /* "" : off */
	char *metrics_bind_address; /* "" : off */
	bool bind_address_hard_fail;
	char *mode; /* "" or "nftables" */
	int masquerade_bit;
	bool masquerade_all;
	int64_t sync_period_ms, min_sync_period_ms, config_sync_period_ms;
	char *detect_local_mode; /* "" : ClusterCIDR */
	char *bridge_interface, *interface_name_prefix;
	char *cluster_cidr; /* one range, or one per family, comma-separated */
	char **nodeport_addresses; /* NULL-terminated, or NULL: unset */
	int oom_score_adj;
	bool allow_external_ips; /* feature gate AllowServiceExternalIPs */
	struct {
		int64_t max_per_core, min;
		int64_t tcp_established_timeout_ms, tcp_close_wait_timeout_ms;
		int64_t udp_timeout_ms, udp_stream_timeout_ms;
		bool tcp_be_liberal;
	} conntrack;
	int verbosity;
	char *logging_format; /* "text" or "json" */

	bool by_flag[CONFIG_FIELDS_MAX]; /* field_mark_flag() */

	struct {
		char *close_connections; /* "Never" or "EndpointGone" (BEY-1) */
		char *no_endpoints;	 /* "Reject" or "Pass" (BEY-2) */
		char **no_masquerade_cidrs;
		bool answer_ping, service_counters;
		char **fast_path_interfaces;
		char *take_over; /* "None" or "KubeProxy" (BEY-7) */
	} vipmap;		 /* VipmapConfiguration */

	/* Filled by config_validate() */
	enum detect_local_mode detect_local;
	bool pass_without_endpoints; /* BEY-2 */
	bool has_bind_addr; /* bindAddress is neither 0.0.0.0 nor :: (NODE-2) */
	enum family bind_family;
	struct addr bind_addr;
	struct {
		bool has_cluster_cidr;
		struct prefix cluster_cidr;
		/* NP-2: what the entries of nodePortAddresses amount to, united */
		bool nodeport_primary; /* the primary node address */
		bool nodeport_all;     /* all local addresses */
		bool nodeport_localhost; /* loopback is named: for the listeners of NP-9 */
		unsigned int n_nodeport_ranges;
		struct prefix *nodeport_ranges;
		unsigned int n_no_masquerade; /* BEY-3; sorted, disjoint */
		struct prefix *no_masquerade;
	} family[N_FAMILIES];
};

/* A config with kube-proxy's defaults; NULL when out of memory. */
struct config *config_new(void);
void config_free(struct config *config);	  /* NULL is allowed */
void config_forget_checks(struct config *config); /* what config_validate() has filled */

/*
 * Gives what is empty or 0 its default, as kube-proxy does for a file: an empty
 * healthzBindAddress or a syncPeriod of 0 there means the default, not "off"
 * (kubeadm writes such files). The addresses of the two servers follow the
 * family of bindAddress. Returns 0 or -ENOMEM.
 */
int config_default(struct config *config);
int config_default_vipmap(struct config *config); /* only those of VipmapConfiguration */
int config_default_servers(struct config *config); /* only the addresses of the two servers */

/* Replaces an owned string, appends to an owned list. Returns 0 or -ENOMEM. */
int config_set(char **field, const char *value);
int config_append(char ***list, const char *value);
void config_list_free(char **list); /* NULL is allowed */

/*
 * One feature gate. A gate that is always true in v1.37 must not be false:
 * -EINVAL; an unknown one is told to @warn.
 */
int config_set_gate(struct config *config, const char *name, bool value,
		    void (*warn)(void *ctx, const char *message), void *ctx,
		    struct errbuf *eb);

/* A duration as Go writes it: "1h30m", "1.5s", "0", "-2m". Returns 0 or -EINVAL. */
int duration_parse(const char *text, int64_t *ms);

/*
 * Checks ranges and formats (CFG-2) and fills the parsed part. Returns 0, or
 * -EINVAL with @eb naming the field, or the flag that has set it. @warn, if not
 * NULL, is called for what is accepted but suspicious (CFG-5, CFG-6, NP-3).
 */
int config_validate(struct config *config,
		    void (*warn)(void *ctx, const char *message), void *ctx,
		    struct errbuf *eb);

/*
 * The part of CFG-5 for which the node must be known: @primary is its primary family, @dual whether
 * it handles both, @pod_cidrs whether its podCIDRs have a range of the family.
 */
int config_check_families(const struct config *config, enum family primary,
			  bool dual, const bool pod_cidrs[N_FAMILIES],
			  void (*warn)(void *ctx, const char *message),
			  void *ctx, struct errbuf *eb);

/*
 * Whether node ports are open on all local addresses of @family because
 * nodePortAddresses says so (NP-2). If it says "primary" this is false, and
 * true all the same if the node's address is unknown.
 */
bool config_nodeports_everywhere(const struct config *config, enum family family);

/* Whether an address is in a range of noMasqueradeCIDRs (BEY-3). */
bool config_keeps_sources_of(const struct config *config, enum family family,
			     const struct addr *addr);

/* Whether connections end whose endpoint is gone, where a Service does not say (BEY-1). */
bool config_closes_connections(const struct config *config);

/* Splits "ADDRESS:PORT", "[ADDRESS]:PORT"; after config_validate() this succeeds unless ""
 * (-EINVAL). */
int bind_address_parse(const char *text, enum family *family, struct addr *addr,
		       uint16_t *port);

bool config_has_fast_path(
	const struct config *config); /* fastPath.interfaces are set (BEY-6) */

/* The effective configuration as KubeProxyConfiguration JSON (/configz, --write-config-to). */
struct strbuf;
void config_format(const struct config *config, struct strbuf *json);
void config_format_vipmap(const struct config *config,
			  struct strbuf *json); /* the other kind */
/* With a second document of the other kind, if that says anything. */
void config_format_yaml(const struct config *config, struct strbuf *yaml);

#endif
