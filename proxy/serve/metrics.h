/*
 * Counters, gauges and histograms, and their Prometheus text. The names are
 * kube-proxy's in nftables mode; a few of vipmap's own follow.
 *
 * A series is one label combination of a metric. Its index: the family; for
 * LABEL_POLICY metrics_policy(); for LABEL_PROTOCOL three times the family and
 * tcp, udp, sctp; for LABEL_CODE 0 is "200" and 1 is "503"; the kind; enum
 * kernel_feature; 0 where there is no label.
 */
#ifndef SERVE_METRICS_H
#define SERVE_METRICS_H

#include "proxy/base/addr.h"
#include "proxy/model/objects.h"

enum metric {
	METRIC_SYNC_DURATION,	      /* seconds, every sync */
	METRIC_FULL_SYNC_DURATION,    /* seconds, full syncs */
	METRIC_PARTIAL_SYNC_DURATION, /* seconds, incremental syncs */
	METRIC_LAST_SYNC,   /* Unix time of the last successful sync */
	METRIC_LAST_QUEUED, /* Unix time at which a sync was last asked for */
	METRIC_PROGRAMMING_DURATION, /* seconds, MET-2 */
	METRIC_ENDPOINT_CHANGES_PENDING,
	METRIC_ENDPOINT_CHANGES,
	METRIC_SERVICE_CHANGES_PENDING,
	METRIC_SERVICE_CHANGES,
	METRIC_NO_LOCAL_ENDPOINTS, /* MET-3; by policy and family */
	METRIC_SYNC_FAILURES,	   /* transactions the kernel refused */
	METRIC_CLEANUP_FAILURES,
	METRIC_HEALTHZ,			/* by code */
	METRIC_LIVEZ,			/* by code */
	METRIC_CONNTRACK_SYNC_DURATION, /* seconds */
	METRIC_CONNTRACK_DELETED,

	/* vipmap's own */
	METRIC_TRANSACTIONS,	   /* committed */
	METRIC_ELEMENTS_WRITTEN,   /* added and deleted by them */
	METRIC_CONNECTIONS_CLOSED, /* entries of conntrack deleted for BEY-1 */
	METRIC_REPAIRS,		   /* objects mended after others' changes */
	METRIC_SET_ASIDE, /* service ports that the kernel refuses now */
	METRIC_CONFLICTS, /* VIPs claimed by more than one service port now */
	METRIC_SERVICE_PORTS, /* programmed now */
	METRIC_ENDPOINTS,     /* behind them now */
	METRIC_API_CONNECTED, /* whether Services and EndpointSlices are watched now */
	METRIC_API_CONTACT, /* Unix time of the last byte from the API server */
	METRIC_WATCH_RESTARTS, /* watches that ended; by kind */
	METRIC_EVENT_TO_COMMIT, /* seconds from the arrival of a change to the end of its sync */
	METRIC_HEALTHY, /* whether /healthz answers 200 now */
	METRIC_RELOAD_SUCCESSFUL, /* whether the configuration that was read last is in force */
	METRIC_RELOAD_TIME,	    /* Unix time at which one came into force */
	METRIC_LOCALHOST_LISTENERS, /* MET-5: node ports on loopback */
	METRIC_LOCALHOST_LISTENER_FAILURES, /* that could not be bound */
	METRIC_LOCALHOST_REJECTED, /* always 0 (NP-3); by family and protocol */
	METRIC_KERNEL_FEATURE,	   /* whether the kernel has it; by feature */
	N_METRICS
};

/* What vipmap uses where the kernel has it. */
enum kernel_feature {
	FEATURE_TABLE_OWNER, /* nobody else can change our tables */
	FEATURE_IPV6,
	FEATURE_FLOWTABLE, /* these two are said only if somebody asks for them */
	FEATURE_COUNTERS,
	N_FEATURES
};

struct strbuf;
struct metrics;

/* @started_us: when this process began, since 1970. NULL when out of memory. */
struct metrics *metrics_new(int64_t started_us);
void metrics_free(struct metrics *m);

/* From now on the counters and histograms of @family are shown, at 0 until something happens. */
void metrics_show_family(struct metrics *m, enum family family);

/* The same for node ports on the family's loopback addresses (MET-5). */
void metrics_show_localhost(struct metrics *m, enum family family);

/* The same for what is about an API server; without one it says nothing. */
void metrics_show_api(struct metrics *m);

/* Of which commit the program is built; borrowed, "" if that is unknown. */
void metrics_set_revision(struct metrics *m, const char *revision);

/* A request to an API server, as client_metrics_answer() takes it. */
void metrics_client_answer(struct metrics *m, const char *method,
			   const char *host, int status, double seconds);

enum traffic_policy { POLICY_INTERNAL, POLICY_EXTERNAL };
static inline unsigned int metrics_policy(enum traffic_policy policy,
					  enum family family)
{
	return (unsigned int)policy * N_FAMILIES + family;
}

void metrics_add(struct metrics *m, enum metric metric, unsigned int series,
		 double value);
void metrics_set(struct metrics *m, enum metric metric, unsigned int series,
		 double value);
void metrics_observe(struct metrics *m, enum metric metric, unsigned int series,
		     double value);

/* What was added up, set, or observed (the sum). */
double metrics_get(const struct metrics *m, enum metric metric,
		   unsigned int series);

/* The whole exposition, with process_* and build information read now. */
void metrics_format(const struct metrics *m, struct strbuf *out);

/* Content-Type of it. */
extern const char metrics_content_type[];

#endif
