/*
 * Objects out of one line of text each, and elements as one line, so that tables of cases stay
 * readable. What cannot be understood aborts: it is a mistake in a test.
 */
#ifndef TESTS_SUPPORT_BUILD_H
#define TESTS_SUPPORT_BUILD_H

#include "proxy/model/compile.h"
#include "proxy/base/strbuf.h"

/*
 * NAMESPACE/NAME, then words in any order:
 *   PROTOCOL:PORT[:NAME][@NODEPORT]	a service port, "tcp:80:http@30080"
 *   ip=ADDRESS ext=ADDRESS lb=ADDRESS	ClusterIP, externalIP, load balancer address
 *   from=RANGE affinity=SECONDS created=SECONDS health=PORT
 *   internal-local external-local load-balancer ignored
 */
struct service *build_service(const char *text);

/*
 * NAMESPACE/NAME SERVICE v4|v6, then words in any order:
 *   PROTOCOL:PORT[:NAME]		a slice port
 *   ADDRESS[(FLAG,...)]		an endpoint, ready and serving
 * with flags unready unserving terminating local node (hints for other nodes)
 * here (for this one) zone:NAME (repeatable).
 */
struct slice *build_slice(const char *text);

/* NAME, then ADDRESS, zone=NAME pods=RANGE deleted */
struct node *build_node(const char *text);
/* NAME, then ranges */
struct service_cidr *build_service_cidr(const char *text);

/* One object of any of these, put into the model: "service ...", "slice ...", "node ...", "cidr
 * ..." or "gone service NAMESPACE/NAME" and so on. */
void build_put(struct model *m, const char *text);

struct addr build_addr(const char *text);
struct prefix build_prefix(const char *text);

/* A configuration with defaults and ClusterCIDR 10.244.0.0/16,fd00:244::/64. */
struct config *build_config(void);

/* A model that keeps its log lines. */
struct build_log {
	struct strbuf text; /* "severity message" lines */
};
void build_log(void *ctx, int severity, const char *message);

/* "service-ips 10.96.0.1 tcp 80 : cluster-pick-3 # default/web:http" */
void element_print(struct strbuf *sb, enum family family, const struct element *el);
void elements_text(struct strbuf *sb, enum family family,
		   const struct element *list, size_t n);

/* Compiles what is dirty and prints the elements of all service ports, one per line, sorted. */
void build_compile(struct model *m, enum family family, struct strbuf *sb);

/* All elements of the desired dispatches, sorted and without duplicates; from @scratch. */
const struct element *build_elements(struct model *m, enum family family,
				     struct arena *scratch, size_t *count);

/* Compares and, if they differ, prints both with @name and makes the test fail. */
void check_text(const char *name, const char *got, const char *want);

/* A small generator of numbers, the same on all machines. */
struct random {
	uint64_t state;
};
uint32_t random_below(struct random *r, uint32_t bound);
/* From the environment variable, else from the clock; printed. */
uint64_t random_seed(const char *variable);

#endif
