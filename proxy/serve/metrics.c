/*
 * Metrics are one table of descriptions and one array of numbers; what is
 * measured is named by an enum, so nothing is looked up by name and nothing
 * allocated while running.
 *
 * A gauge that was never set is not shown: an age computed from a time stamp of
 * 0 would set off alarms. Counters and histograms of a family are shown from
 * metrics_show_family() on, so that a rate over them has a beginning.
 */
#include "proxy/serve/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "proxy/serve/clientmetrics.h"

const char metrics_content_type[] = "text/plain; version=0.0.4; charset=utf-8";

enum type { COUNTER, GAUGE, HISTOGRAM };
enum metric_label {
	LABEL_NONE,
	LABEL_FAMILY,
	LABEL_POLICY,
	LABEL_CODE,
	LABEL_RESOURCE,
	LABEL_FEATURE,
	LABEL_PROTOCOL,
};
enum buckets {
	BUCKETS_SYNC,
	BUCKETS_PROGRAMMING,
	BUCKETS_COMMIT,
	N_BUCKET_SETS
};

enum { SERIES_MAX = 3 * N_FAMILIES, BUCKETS_MAX = 80 };
_Static_assert((int)N_KINDS <= (int)SERIES_MAX && (int)N_FEATURES <= (int)SERIES_MAX,
	       "too many");

#define K "kubeproxy_"
#define L "nftables_localhost_nodeport_"

static const struct {
	const char *name, *help;
	enum type type;
	enum metric_label label;
	enum buckets buckets;
} metrics[N_METRICS] = {
	[METRIC_SYNC_DURATION] = { K "sync_proxy_rules_duration_seconds",
				   "Duration of a sync.", HISTOGRAM,
				   LABEL_FAMILY, BUCKETS_SYNC },
	[METRIC_FULL_SYNC_DURATION] = { K "sync_full_proxy_rules_duration_seconds",
					"Duration of a full sync.", HISTOGRAM,
					LABEL_FAMILY, BUCKETS_SYNC },
	[METRIC_PARTIAL_SYNC_DURATION] = { K "sync_partial_proxy_rules_duration_seconds",
					   "Duration of an incremental sync.",
					   HISTOGRAM, LABEL_FAMILY, BUCKETS_SYNC },
	[METRIC_LAST_SYNC] = { K "sync_proxy_rules_last_timestamp_seconds",
			       "Time of the last successful sync.", GAUGE,
			       LABEL_FAMILY, 0 },
	[METRIC_LAST_QUEUED] = { K "sync_proxy_rules_last_queued_timestamp_seconds",
				 "Time at which a sync was last asked for.",
				 GAUGE, LABEL_FAMILY, 0 },
	[METRIC_PROGRAMMING_DURATION] = { K "network_programming_duration_seconds",
					  "Time from the change of an endpoint to the end of the "
					  "sync that carried it.",
					  HISTOGRAM, LABEL_FAMILY,
					  BUCKETS_PROGRAMMING },
	[METRIC_ENDPOINT_CHANGES_PENDING] = { K "sync_proxy_rules_endpoint_changes_pending",
					      "EndpointSlice changes not yet applied.",
					      GAUGE, LABEL_NONE, 0 },
	[METRIC_ENDPOINT_CHANGES] = { K "sync_proxy_rules_endpoint_changes_total",
				      "EndpointSlice changes seen.", COUNTER,
				      LABEL_NONE, 0 },
	[METRIC_SERVICE_CHANGES_PENDING] = { K "sync_proxy_rules_service_changes_pending",
					     "Service changes not yet applied.",
					     GAUGE, LABEL_NONE, 0 },
	[METRIC_SERVICE_CHANGES] = { K "sync_proxy_rules_service_changes_total",
				     "Service changes seen.", COUNTER,
				     LABEL_NONE, 0 },
	[METRIC_NO_LOCAL_ENDPOINTS] = { K "sync_proxy_rules_no_local_endpoints_total",
					"Service ports with a Local traffic policy and no endpoint "
					"on this node.",
					GAUGE, LABEL_POLICY, 0 },
	[METRIC_SYNC_FAILURES] = { K "sync_proxy_rules_nftables_sync_failures_total",
				   "Transactions that the kernel refused.",
				   COUNTER, LABEL_FAMILY, 0 },
	[METRIC_CLEANUP_FAILURES] = { K "sync_proxy_rules_nftables_cleanup_failures_total",
				      "Failed removals of outdated objects.",
				      COUNTER, LABEL_FAMILY, 0 },
	[METRIC_HEALTHZ] = { K "proxy_healthz_total", "Answers of /healthz.",
			     COUNTER, LABEL_CODE, 0 },
	[METRIC_LIVEZ] = { K "proxy_livez_total", "Answers of /livez.", COUNTER,
			   LABEL_CODE, 0 },
	[METRIC_CONNTRACK_SYNC_DURATION] = { K "conntrack_reconciler_sync_duration_seconds",
					     "Duration of a conntrack cleanup.",
					     HISTOGRAM, LABEL_FAMILY, BUCKETS_SYNC },
	[METRIC_CONNTRACK_DELETED] = { K "conntrack_reconciler_deleted_entries_total",
				       "Conntrack entries deleted.", COUNTER,
				       LABEL_FAMILY, 0 },
	[METRIC_TRANSACTIONS] = { "vipmap_transactions_total",
				  "Transactions committed.", COUNTER,
				  LABEL_FAMILY, 0 },
	[METRIC_ELEMENTS_WRITTEN] = { "vipmap_elements_written_total",
				      "Set and map elements added or deleted.",
				      COUNTER, LABEL_FAMILY, 0 },
	[METRIC_CONNECTIONS_CLOSED] = { "vipmap_connections_closed_total",
					"TCP connections ended since their endpoint is gone.",
					COUNTER, LABEL_FAMILY, 0 },
	[METRIC_REPAIRS] = { "vipmap_repairs_total",
			     "Objects mended that somebody else had changed.",
			     COUNTER, LABEL_FAMILY, 0 },
	[METRIC_SET_ASIDE] = { "vipmap_set_aside_service_ports",
			       "Service ports that the kernel refuses.", GAUGE,
			       LABEL_FAMILY, 0 },
	[METRIC_CONFLICTS] = { "vipmap_conflicting_vips",
			       "Virtual IPs that more than one service port claims.",
			       GAUGE, LABEL_FAMILY, 0 },
	[METRIC_SERVICE_PORTS] = { "vipmap_service_ports",
				   "Service ports programmed.", GAUGE,
				   LABEL_FAMILY, 0 },
	[METRIC_ENDPOINTS] = { "vipmap_endpoints",
			       "Endpoints of the service ports programmed.",
			       GAUGE, LABEL_FAMILY, 0 },
	[METRIC_API_CONNECTED] = { "vipmap_api_server_connected",
				   "Whether Services and EndpointSlices are watched.",
				   GAUGE, LABEL_NONE, 0 },
	[METRIC_API_CONTACT] = { "vipmap_api_server_last_contact_timestamp_seconds",
				 "Time of the last byte from the API server.",
				 GAUGE, LABEL_NONE, 0 },
	[METRIC_WATCH_RESTARTS] = { "vipmap_watch_restarts_total",
				    "Watches that ended and were begun again.",
				    COUNTER, LABEL_RESOURCE, 0 },
	[METRIC_EVENT_TO_COMMIT] = { "vipmap_event_to_commit_seconds",
				     "Time from the arrival of a change to the end of the sync "
				     "that "
				     "carried it.",
				     HISTOGRAM, LABEL_FAMILY, BUCKETS_COMMIT },
	[METRIC_HEALTHY] = { "vipmap_healthy", "Whether /healthz answers 200 now.",
			     GAUGE, LABEL_NONE, 0 },
	[METRIC_RELOAD_SUCCESSFUL] = { "vipmap_config_last_reload_successful",
				       "Whether the configuration that was read last is in force.",
				       GAUGE, LABEL_NONE, 0 },
	[METRIC_RELOAD_TIME] = { "vipmap_config_last_reload_success_timestamp_seconds",
				 "Time at which the configuration in force was read.",
				 GAUGE, LABEL_NONE, 0 },
	[METRIC_LOCALHOST_LISTENERS] = { K L "listeners",
					 "Node ports that are served on loopback.",
					 GAUGE, LABEL_FAMILY, 0 },
	[METRIC_LOCALHOST_LISTENER_FAILURES] = { K L "listener_creation_failures_total",
						 "Node ports on loopback that could not be bound.",
						 COUNTER, LABEL_FAMILY, 0 },
	[METRIC_LOCALHOST_REJECTED] = { K L "rejected_packets_total",
					"Always 0: what is not served on loopback is left to the "
					"kernel.",
					COUNTER, LABEL_PROTOCOL, 0 },
	[METRIC_KERNEL_FEATURE] = { "vipmap_kernel_feature",
				    "Whether the kernel has what is used if it is there.",
				    GAUGE, LABEL_FEATURE, 0 },
};

struct series {
	bool shown;
	double value; /* of a histogram: the sum */
	uint64_t *counts; /* of a histogram: per bucket, the last is +Inf; not cumulative */
};

struct metrics {
	unsigned int n_bounds[N_BUCKET_SETS];
	double bounds[N_BUCKET_SETS][BUCKETS_MAX];
	struct series series[N_METRICS][SERIES_MAX];
	struct client_metrics *client;
	const char *revision;
	double start_time_s;
};

static void add_histogram_bound(struct metrics *m, enum buckets set, double bound)
{
	assert(m->n_bounds[set] < BUCKETS_MAX);
	assert(!m->n_bounds[set] || m->bounds[set][m->n_bounds[set] - 1] < bound);
	m->bounds[set][m->n_bounds[set]++] = bound;
}

/* MET-1, MET-2 */
static void make_bounds(struct metrics *m)
{
	unsigned int i;

	for (i = 0; i < 15; i++)
		add_histogram_bound(m, BUCKETS_SYNC, 0.001 * (double)(1 << i));
	/* Most changes are in the kernel within a millisecond: 0.1 ms to 13 s. */
	for (i = 0; i < 18; i++)
		add_histogram_bound(m, BUCKETS_COMMIT, 0.0001 * (double)(1 << i));
	add_histogram_bound(m, BUCKETS_PROGRAMMING, 0.25);
	add_histogram_bound(m, BUCKETS_PROGRAMMING, 0.5);
	for (i = 1; i <= 59; i++)
		add_histogram_bound(m, BUCKETS_PROGRAMMING, i);
	for (i = 60; i <= 115; i += 5)
		add_histogram_bound(m, BUCKETS_PROGRAMMING, i);
	for (i = 120; i <= 300; i += 30)
		add_histogram_bound(m, BUCKETS_PROGRAMMING, i);
}

static unsigned int n_series(enum metric metric)
{
	static const unsigned int n[] = {
		[LABEL_NONE] = 1,
		[LABEL_FAMILY] = N_FAMILIES,
		[LABEL_POLICY] = 2 * N_FAMILIES,
		[LABEL_CODE] = 2,
		[LABEL_RESOURCE] = N_KINDS,
		[LABEL_FEATURE] = N_FEATURES,
		[LABEL_PROTOCOL] = 3 * N_FAMILIES,
	};

	assert(metrics[metric].label < sizeof(n) / sizeof(n[0]));
	return n[metrics[metric].label];
}

/* A gauge of which 0 would be an alarm, or that means nothing without an API server. */
static bool is_set_first(enum metric metric)
{
	switch (metric) {
	case METRIC_API_CONNECTED:
	case METRIC_API_CONTACT:
	case METRIC_HEALTHY:
	case METRIC_RELOAD_SUCCESSFUL:
	case METRIC_RELOAD_TIME:
		return true;
	default:
		return false;
	}
}

struct metrics *metrics_new(int64_t started_us)
{
	struct metrics *m = calloc(1, sizeof(*m));
	unsigned int i, s;

	if (!m)
		return NULL;
	make_bounds(m);
	m->revision = "";
	m->client = client_metrics_new();
	if (!m->client) {
		free(m);
		return NULL;
	}
	m->start_time_s = (double)started_us / 1e6;
	for (i = 0; i < N_METRICS; i++)
		for (s = 0; s < n_series(i); s++) {
			struct series *series = &m->series[i][s];

			series->shown = metrics[i].label == LABEL_CODE ||
					(metrics[i].label == LABEL_NONE &&
					 !is_set_first(i));
			if (metrics[i].type != HISTOGRAM)
				continue;
			series->counts =
				calloc(m->n_bounds[metrics[i].buckets] + 1,
				       sizeof(uint64_t));
			if (!series->counts) {
				metrics_free(m);
				return NULL;
			}
		}
	return m;
}

void metrics_free(struct metrics *m)
{
	unsigned int i, s;

	if (!m)
		return;
	for (i = 0; i < N_METRICS; i++)
		for (s = 0; s < SERIES_MAX; s++)
			free(m->series[i][s].counts);
	client_metrics_free(m->client);
	free(m);
}

void metrics_show_family(struct metrics *m, enum family family)
{
	unsigned int i;

	assert(family < N_FAMILIES);
	for (i = 0; i < N_METRICS; i++)
		if (metrics[i].label == LABEL_FAMILY && metrics[i].type != GAUGE &&
		    i != METRIC_LOCALHOST_LISTENER_FAILURES)
			m->series[i][family].shown = true;
}

void metrics_show_localhost(struct metrics *m, enum family family)
{
	unsigned int i;

	m->series[METRIC_LOCALHOST_LISTENERS][family].shown = true;
	m->series[METRIC_LOCALHOST_LISTENER_FAILURES][family].shown = true;
	for (i = 0; i < 3; i++)
		m->series[METRIC_LOCALHOST_REJECTED][3 * (unsigned int)family + i]
			.shown = true;
}

void metrics_show_api(struct metrics *m)
{
	unsigned int kind;

	m->series[METRIC_API_CONNECTED][0].shown = true;
	m->series[METRIC_API_CONTACT][0].shown = true; /* 0: never */
	for (kind = 0; kind < N_KINDS; kind++)
		m->series[METRIC_WATCH_RESTARTS][kind].shown = true;
}

void metrics_set_revision(struct metrics *m, const char *revision)
{
	m->revision = revision;
}

void metrics_client_answer(struct metrics *m, const char *method,
			   const char *host, int status, double seconds)
{
	client_metrics_answer(m->client, method, host, status, seconds);
}

static struct series *touch_series(struct metrics *m, enum metric metric,
				   unsigned int series)
{
	assert(metric < N_METRICS && series < n_series(metric));
	m->series[metric][series].shown = true;
	return &m->series[metric][series];
}

void metrics_add(struct metrics *m, enum metric metric, unsigned int series,
		 double value)
{
	assert(value >= 0);
	touch_series(m, metric, series)->value += value;
}

void metrics_set(struct metrics *m, enum metric metric, unsigned int series,
		 double value)
{
	touch_series(m, metric, series)->value = value;
}

void metrics_observe(struct metrics *m, enum metric metric, unsigned int series,
		     double value)
{
	struct series *s = touch_series(m, metric, series);
	enum buckets set = metrics[metric].buckets;
	unsigned int i = 0;

	if (!s->counts)
		return;
	while (i < m->n_bounds[set] && value > m->bounds[set][i])
		i++;
	s->counts[i]++;
	s->value += value;
}

double metrics_get(const struct metrics *m, enum metric metric, unsigned int series)
{
	assert(metric < N_METRICS && series < n_series(metric));
	return m->series[metric][series].value;
}

/* The inner part of a series' braces, "" if it has no label. */
static const char *series_labels(enum metric metric, unsigned int series)
{
	static const char *const labels[][SERIES_MAX] = {
		[LABEL_NONE] = { "" },
		[LABEL_FAMILY] = { "ip_family=\"IPv4\"", "ip_family=\"IPv6\"" },
		[LABEL_POLICY] = { "ip_family=\"IPv4\",traffic_policy=\"internal\"",
				   "ip_family=\"IPv6\",traffic_policy=\"internal\"",
				   "ip_family=\"IPv4\",traffic_policy=\"external\"",
				   "ip_family=\"IPv6\",traffic_policy=\"external\"" },
		[LABEL_CODE] = { "code=\"200\"", "code=\"503\"" },
		[LABEL_RESOURCE] = { [KIND_SERVICE] = "resource=\"services\"",
				     [KIND_SLICE] = "resource=\"endpointslices\"",
				     [KIND_SERVICE_CIDR] = "resource=\"servicecidrs\"",
				     [KIND_NODE] = "resource=\"nodes\"" },
		[LABEL_PROTOCOL] = { "ip_family=\"IPv4\",protocol=\"tcp\"",
				     "ip_family=\"IPv4\",protocol=\"udp\"",
				     "ip_family=\"IPv4\",protocol=\"sctp\"",
				     "ip_family=\"IPv6\",protocol=\"tcp\"",
				     "ip_family=\"IPv6\",protocol=\"udp\"",
				     "ip_family=\"IPv6\",protocol=\"sctp\"" },
		[LABEL_FEATURE] = { [FEATURE_TABLE_OWNER] = "feature=\"table-owner\"",
				    [FEATURE_IPV6] = "feature=\"ipv6\"",
				    [FEATURE_FLOWTABLE] = "feature=\"flowtable\"",
				    [FEATURE_COUNTERS] = "feature=\"map-counters\"" },
	};

	assert(labels[metrics[metric].label][series]);
	return labels[metrics[metric].label][series];
}

static void put_metric_head(struct strbuf *out, const char *name,
			    const char *help, enum type type)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };

	strbuf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		    types[type]);
}

static void put_value(struct strbuf *out, const char *name, const char *labels,
		      double value)
{
	if (*labels)
		strbuf_addf(out, "%s{%s} %.15g\n", name, labels, value);
	else
		strbuf_addf(out, "%s %.15g\n", name, value);
}

static void put_histogram(const struct metrics *m, struct strbuf *out,
			  enum metric metric, const struct series *s,
			  const char *labels)
{
	const char *name = metrics[metric].name, *comma = *labels ? "," : "";
	enum buckets set = metrics[metric].buckets;
	unsigned long long total = 0;
	unsigned int i;

	assert(s->counts);
	for (i = 0; i < m->n_bounds[set]; i++) {
		total += s->counts[i];
		strbuf_addf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name,
			    labels, comma, m->bounds[set][i], total);
	}
	total += s->counts[i];
	strbuf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels,
		    comma, total);
	strbuf_addf(out, *labels ? "%s_sum{%s} %.15g\n" : "%s_sum%s %.15g\n",
		    name, labels, s->value);
	strbuf_addf(out, *labels ? "%s_count{%s} %llu\n" : "%s_count%s %llu\n",
		    name, labels, total);
}

static void put_metric(const struct metrics *m, struct strbuf *out,
		       enum metric metric)
{
	bool head = false;
	unsigned int s;

	for (s = 0; s < n_series(metric); s++) {
		const struct series *series = &m->series[metric][s];

		if (!series->shown)
			continue;
		if (!head)
			put_metric_head(out, metrics[metric].name,
					metrics[metric].help,
					metrics[metric].type);
		head = true;
		if (metrics[metric].type == HISTOGRAM)
			put_histogram(m, out, metric, series,
				      series_labels(metric, s));
		else
			put_value(out, metrics[metric].name,
				  series_labels(metric, s), series->value);
	}
}

static void put_single(struct strbuf *out, const char *name, const char *help,
		       enum type type, double value)
{
	put_metric_head(out, name, help, type);
	put_value(out, name, "", value);
}

static void put_cpu(struct strbuf *out)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		return;
	put_single(out, "process_cpu_seconds_total",
		   "CPU time used, in seconds.", COUNTER,
		   (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
			   (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) /
				   1e6);
}

static void put_memory(struct strbuf *out)
{
	double page = (double)sysconf(_SC_PAGESIZE);
	unsigned long size, resident;
	FILE *file = fopen("/proc/self/statm", "re");

	if (!file)
		return;
	if (fscanf(file, "%lu %lu", &size, &resident) == 2) {
		put_single(out, "process_virtual_memory_bytes",
			   "Virtual memory, in bytes.", GAUGE,
			   (double)size * page);
		put_single(out, "process_resident_memory_bytes",
			   "Resident memory, in bytes.", GAUGE,
			   (double)resident * page);
	}
	fclose(file);
}

static void put_descriptors(struct strbuf *out)
{
	unsigned int n = 0;
	struct rlimit limit;
	struct dirent *entry;
	DIR *dir = opendir("/proc/self/fd");

	if (!dir)
		return;
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	/* One of them was the directory itself. */
	put_single(out, "process_open_fds", "Open file descriptors.", GAUGE,
		   n ? n - 1 : 0);
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		put_single(out, "process_max_fds",
			   "Limit of open file descriptors.", GAUGE,
			   (double)limit.rlim_cur);
}

static bool read_proc_number(const char *path, double *number)
{
	FILE *file = fopen(path, "re");
	bool ok = file && fscanf(file, "%lf", number) == 1;

	if (file)
		fclose(file);
	return ok;
}

/* Of this network namespace. A full table loses new connections, whoever translates them. */
static void put_conntrack(struct strbuf *out)
{
	double entries, limit;

	if (!read_proc_number("/proc/sys/net/netfilter/nf_conntrack_count",
			      &entries) ||
	    !read_proc_number("/proc/sys/net/netfilter/nf_conntrack_max", &limit))
		return;
	put_single(out, "vipmap_conntrack_entries",
		   "Entries in the node's conntrack table.", GAUGE, entries);
	put_single(out, "vipmap_conntrack_limit",
		   "How many entries that table takes.", GAUGE, limit);
}

#ifdef __clang__
#define COMPILER "clang"
#else
#define COMPILER "gcc"
#endif

static void put_build(const struct metrics *m, struct strbuf *out)
{
	put_metric_head(out, "vipmap_build_info",
			"Version of vipmap, always 1.", GAUGE);
	strbuf_addf(out, "vipmap_build_info{revision=\"%s\",version=\"%s\"} 1\n",
		    m->revision, VIPMAP_VERSION);
	/* As all components of Kubernetes name it, for dashboards that ask which versions run. */
	put_metric_head(out, "kubernetes_build_info",
			"Version of this component, always 1.", GAUGE);
	strbuf_addf(out,
		    "kubernetes_build_info{compiler=\"%s\",git_commit=\"%s\","
		    "git_version=\"v%s-vipmap\",platform=\"linux\"} 1\n",
		    COMPILER, m->revision, VIPMAP_VERSION);
}

void metrics_format(const struct metrics *m, struct strbuf *out)
{
	unsigned int i;

	for (i = 0; i < N_METRICS; i++)
		put_metric(m, out, i);
	put_cpu(out);
	put_memory(out);
	put_descriptors(out);
	put_single(out, "process_start_time_seconds",
		   "Start of the process, seconds since 1970.", GAUGE,
		   m->start_time_s);
	put_conntrack(out);
	client_metrics_format(m->client, out);
	put_build(m, out);
}
