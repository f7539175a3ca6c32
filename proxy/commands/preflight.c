/*
 * preflight: whether vipmap would work here, before it is started: the kernel, the API server, the
 * configuration, other proxies, conntrack. It changes nothing.
 */
#include "proxy/commands/commands.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "nft/kubeproxy.h"
#include "nft/monitor.h"
#include "nft/readback.h"
#include "proxy/commands/ask.h"
#include "proxy/commands/objects.h"
#include "proxy/serve/httpd.h"
#include "proxy/serve/local.h"
#include "proxy/sysctl.h"
#include "watch/apicheck.h"
#include "watch/http.h"

/* Where it tells its metrics by default. */
#define KUBE_PROXY "127.0.0.1:10249"

enum {
	PATIENCE_MS = 10000,
	PROBE_MS = 1000,
	NEARLY_FULL = 80,
	REFRESH_MS = 3000,
	NAMED_MAX = 3 /* Services that are named in one line */
};

struct preflight {
	struct app *app;
	struct config *config;
	const char *config_error; /* "": it is valid */
	const char *node_name;
	struct nlsock *nl; /* NULL: cannot be had */
	struct monitor *monitor; /* of kube-proxy's rules, from the beginning on; likewise */
	int64_t began_us;
	unsigned int rivals;
	struct objects objects; /* what vipmap would work with, if it can be read */
	int running; /* process of the vipmap that runs here; else not positive */
	unsigned int failures;
	bool kernel_lacks;
};

static void say_check(const char *word, const char *fmt, va_list ap)
	__attribute__((format(printf, 2, 0)));

static void say_check(const char *word, const char *fmt, va_list ap)
{
	printf("%-6s ", word);
	vprintf(fmt, ap);
	putchar('\n');
}

#define DEFINE_SAY(name, word, count)                                          \
	static void name(struct preflight *p, const char *fmt, ...)            \
		__attribute__((format(printf, 2, 3)));                         \
	static void name(struct preflight *p, const char *fmt, ...)            \
	{                                                                      \
		va_list ap;                                                    \
                                                                               \
		p->failures += (count);                                        \
		va_start(ap, fmt);                                             \
		say_check(word, fmt, ap);                                      \
		va_end(ap);                                                    \
	}

DEFINE_SAY(good, "ok", 0)
DEFINE_SAY(warn, "warn", 0)
DEFINE_SAY(fail, "FAIL", 1)

/* For the fast path, which nobody needs. */
static bool has_flowtables(struct preflight *p, struct errbuf *eb)
{
	unsigned int f;

	for (f = 0; f < N_FAMILIES; f++)
		if (p->app->family[f] &&
		    kernel_probe_fast_path(p->nl, (enum family)f, eb))
			return false;
	return true;
}

static void check_kernel(struct preflight *p)
{
	struct utsname kernel = { .release = "?" };
	struct errbuf eb = { "" };
	bool owner = false, flowtables;
	unsigned int f;
	int err;

	uname(&kernel);
	for (f = 0; p->nl && f < N_FAMILIES; f++) {
		const struct ruleset ruleset = { .family = (enum family)f };

		if (!p->app->family[f])
			continue;
		err = kernel_probe(p->nl, &ruleset, &owner, &eb);
		if (err == -EOPNOTSUPP)
			p->kernel_lacks = true;
		if (err) {
			fail(p, "kernel %s: %s", kernel.release, eb.text);
			return;
		}
	}
	if (!p->nl) {
		fail(p, "kernel %s: no netlink socket for nftables",
		     kernel.release);
		return;
	}
	flowtables = has_flowtables(p, &eb);
	good(p, "kernel %s: all that the rules need; %s; %s%s", kernel.release,
	     owner ? "table ownership"
		   : "no table ownership (Linux 6.9): foreign changes are noticed and repaired",
	     flowtables ? "flowtables" : "no flowtables",
	     p->app->family[FAMILY_IPV6] ? "" : "; no IPv6");
	if (!flowtables && config_has_fast_path(p->config))
		warn(p,
		     "fastPath.interfaces: %s: established connections take the ordinary way, and "
		     "all else works",
		     eb.text);
}

/* What only some settings need, and nothing breaks without. */
static void check_counters(struct preflight *p)
{
	struct errbuf eb = { "" };
	unsigned int f;
	int err = 0;

	if (!p->nl || !p->config->vipmap.service_counters)
		return;
	for (f = 0; !err && f < N_FAMILIES; f++)
		if (p->app->family[f])
			err = kernel_probe_counters(p->nl, (enum family)f, &eb);
	if (err)
		warn(p, "serviceCounters: %s; connections will not be counted",
		     eb.text);
	else
		good(p, "serviceCounters: the kernel can count connections");
}

static bool is_success(int status)
{
	return status >= 200 && status < 300;
}

static bool may_all(const struct apicheck *check, enum kind kind)
{
	return is_success(check->kinds[kind].status) &&
	       is_success(check->kinds[kind].watch_status);
}

/* A watch without an answer says nothing of the right. */
static void check_watch_right(struct preflight *p, const struct apicheck *check,
			      enum kind kind)
{
	const int status = check->kinds[kind].watch_status;

	if (!status || is_success(status))
		return;
	if (check->kinds[kind].optional)
		warn(p, "API server: may list %ss, but not watch them: status %d: changes of them are not followed",
		     kind_name(kind), status);
	else
		fail(p,
		     "API server: may list %ss, but not watch them: status %d: see the ClusterRole in "
		     "scripts/deploy/base",
		     kind_name(kind), status);
}

static void check_right(struct preflight *p, const struct apicheck *check,
			enum kind kind)
{
	const int status = check->kinds[kind].status;

	if (is_success(status))
		check_watch_right(p, check, kind);
	else if (!status)
		fail(p, "API server %s: %s: %s", check->server, kind_name(kind),
		     check->kinds[kind].message);
	else if (check->kinds[kind].optional)
		warn(p, "API server: %ss: status %d: addresses that no Service has are not refused",
		     kind_name(kind), status);
	else
		fail(p,
		     "API server: may not list %ss: status %d: see the ClusterRole in "
		     "scripts/deploy/base",
		     kind_name(kind), status);
}

/* Returns whether all is known that vipmap works with. */
static bool check_api(struct preflight *p)
{
	struct apicheck check;
	struct errbuf eb = { "" };
	unsigned int k, reached = 0, allowed = 0;

	if (p->config->manifests) {
		good(p, "objects come from manifests: no API server is asked");
		return true;
	}
	if (apicheck_run(p->app->base, p->config, p->node_name, PATIENCE_MS,
			 &check, &eb)) {
		fail(p, "API server: %s", eb.text);
		return false;
	}
	for (k = 0; k < N_KINDS; k++) {
		reached += check.kinds[k].status != 0;
		allowed += may_all(&check, (enum kind)k);
	}
	if (!reached) {
		fail(p, "API server %s: cannot be reached: %s", check.server,
		     check.kinds[KIND_SERVICE].message);
		return false;
	}
	if (allowed == N_KINDS)
		good(p,
		     "API server %s reachable%s%s; may list and watch services, endpointslices, "
		     "servicecidrs, nodes",
		     check.server, *check.user ? " as " : "", check.user);
	for (k = 0; k < N_KINDS; k++)
		check_right(p, &check, (enum kind)k);
	return allowed == N_KINDS;
}

static const char *mode_name(enum detect_local_mode mode)
{
	switch (mode) {
	case DETECT_CLUSTER_CIDR:
		return "ClusterCIDR";
	case DETECT_NODE_CIDR:
		return "NodeCIDR";
	case DETECT_BRIDGE_INTERFACE:
		return "BridgeInterface";
	case DETECT_INTERFACE_NAME_PREFIX:
		return "InterfaceNamePrefix";
	}
	return "?";
}

static void ignore_warning(void *ctx, const char *message)
{
	(void)ctx;
	(void)message;
}

/* Another mode than ours hides the rest of the configuration, which is looked at all the same. */
static bool is_valid(struct preflight *p)
{
	struct errbuf eb = { "" };

	if (!*p->config_error)
		return true;
	fail(p, "configuration: %s", p->config_error);
	if (config_set(&p->config->mode, "nftables"))
		return false;
	if (config_validate(p->config, ignore_warning, NULL, &eb) == 0)
		return true;
	if (strcmp(eb.text, p->config_error))
		fail(p, "configuration: %s", eb.text);
	return false;
}

/* Returns whether it is valid, but for a mode that is not ours. */
static bool judge_config(struct preflight *p)
{
	const bool by_cidr = p->config->detect_local == DETECT_CLUSTER_CIDR;

	if (!is_valid(p))
		return false;
	if (by_cidr && !*p->config->cluster_cidr)
		warn(p, "clusterCIDR is unset: pods are not told from others, and nothing that goes "
			"to a ClusterIP is masqueraded");
	else
		good(p, "configuration: pods are told by %s%s%s",
		     mode_name(p->config->detect_local), by_cidr ? " " : "",
		     by_cidr ? p->config->cluster_cidr : "");
	return true;
}

/* Those of this node that the rules would name; "the node's own address" if they are not known. */
static void describe_nodeport_addresses(const struct preflight *p,
					struct strbuf *out)
{
	const struct node_info *info =
		p->objects.feed ? model_node_info(p->objects.feed->model) : NULL;
	char text[ADDR_TEXT_SIZE];
	unsigned int f, i;

	for (f = 0; info && f < N_FAMILIES; f++)
		for (i = 0; i < info->family[f].n_nodeport_ips; i++)
			strbuf_addf(out, "%s%s", out->length ? ", " : "",
				    addr_format((enum family)f,
						&info->family[f].nodeport_ips[i],
						text));
	if (!out->length)
		strbuf_adds(out, "the node's own address");
}

static void check_node_addresses(struct preflight *p)
{
	struct strbuf where = { .max = 1024 };

	if (p->config->nodeport_addresses)
		return;
	describe_nodeport_addresses(p, &where);
	warn(p,
	     "nodePortAddresses is unset: node ports answer on %s only (kube-proxy in mode iptables: "
	     "on all addresses)",
	     where.err ? "the node's own address" : where.text);
	strbuf_free(&where);
}

/* Which Services let in some sources only, and what that closes. */
static void check_source_ranges(struct preflight *p)
{
	const struct service_entry *const *list;
	struct strbuf names = { .max = 2048 };
	struct arena scratch = { 0 };
	unsigned int found = 0;
	size_t i, n;

	if (view_entries(&p->objects.view, "", &scratch, &list, &n))
		n = 0;
	for (i = 0; i < n; i++) {
		const struct service *s = list[i]->object;

		if (!service_extra(s, FAMILY_IPV4)->source_ranges.count &&
		    !service_extra(s, FAMILY_IPV6)->source_ranges.count)
			continue;
		if (found++ < NAMED_MAX)
			strbuf_addf(&names, "%s%s/%s", names.length ? ", " : "",
				    list[i]->namespace, list[i]->name);
	}
	if (found > NAMED_MAX)
		strbuf_addf(&names, " and %u more", found - NAMED_MAX);
	if (found && !names.err)
		good(p,
		     "loadBalancerSourceRanges of %u Service%s (%s): other sources are dropped at load "
		     "balancer addresses only, as by kube-proxy in mode nftables; their node ports and "
		     "external IPs are open to all",
		     found, found == 1 ? "" : "s", names.text);
	strbuf_free(&names);
	arena_free(&scratch);
}

/* What would differ with the objects that there are. */
static void check_objects(struct preflight *p, struct options *options)
{
	struct log *quiet = log_new(-1, 0, false, NULL), *log = p->app->log;
	int status = EXIT_FAILED;

	if (options->timeout_ms > PATIENCE_MS)
		options->timeout_ms = PATIENCE_MS;
	if (quiet) {
		p->app->log = quiet;
		status = objects_open(&p->objects, p->app, options);
		p->app->log = log;
	}
	if (status) {
		warn(p, "objects cannot be read: node ports and source ranges are not looked at");
	} else {
		if (!model_node(p->objects.feed->model))
			warn(p,
			     "Node %s: there is none of this name: check --hostname-override; node "
			     "ports would be open on all addresses",
			     p->node_name);
		check_source_ranges(p);
	}
	log_free(quiet);
}

static void on_rival(void *ctx, const char *what)
{
	struct preflight *p = ctx;

	p->rivals++;
	warn(p,
	     "%s: another proxy's rules translate the same addresses; --take-over kube-proxy "
	     "removes "
	     "them once it has stopped",
	     what);
}

/* Whoever answers there, it is not vipmap: that has been looked for before. */
static void check_kube_proxy(struct preflight *p)
{
	const struct http_params params = {
		.server = "http://" KUBE_PROXY,
		.path = "/proxyMode",
		.connect_ms = PROBE_MS,
		.idle_ms = PROBE_MS,
	};
	struct strbuf mode = { .max = 64 };
	struct http_result result;

	if (http_fetch(p->app->base, &params, &mode, &result) == 0 &&
	    result.outcome == HTTP_COMPLETE && result.status == 200)
		warn(p, "kube-proxy is running (mode %s): it answers at " KUBE_PROXY,
		     mode.text ? mode.text : "?");
	strbuf_free(&mode);
}

/* A sync of kube-proxy's comes when something changes, and so may not come while we look. */
static void check_refresh(struct preflight *p)
{
	struct pollfd wait = { .fd = p->monitor ? monitor_fd(p->monitor) : -1,
			       .events = POLLIN };
	unsigned int changed = 0;
	struct errbuf eb;
	int64_t left_ms = 0;

	while (p->monitor && !changed && left_ms >= 0) {
		if (monitor_read(p->monitor, &changed, &eb) || changed)
			break;
		left_ms = REFRESH_MS -
			  (clock_monotonic_us(p->app->clock) - p->began_us) / 1000;
		if (left_ms >= 0 && poll(&wait, 1, (int)left_ms + 1) < 0)
			break;
	}
	if (changed)
		warn(p, "kube-proxy's rules have just been changed: it is running");
	else if (p->monitor)
		good(p, "kube-proxy's rules: nobody has changed them for %d s",
		     REFRESH_MS / 1000);
}

/* What the configuration says for sure. Where the primary address counts, the Node decides. */
static bool nodeport_will_answer(const struct config *config,
				 enum family family, const struct addr *addr)
{
	unsigned int i;

	if (config->family[family].nodeport_primary ||
	    config_nodeports_everywhere(config, family))
		return true;
	for (i = 0; i < config->family[family].n_nodeport_ranges; i++)
		if (prefix_contains(&config->family[family].nodeport_ranges[i], addr))
			return true;
	return false;
}

/* Where node ports answer now, and would not with vipmap. */
static void compare_nodeports(struct preflight *p, enum family family,
			      const struct kubeproxy_rules *rules)
{
	char text[ADDR_TEXT_SIZE];
	unsigned int i;

	if (!rules->n_node_addresses &&
	    !config_nodeports_everywhere(p->config, family))
		warn(p, "kube-proxy's node ports answer on all addresses of the node, vipmap's will "
			"on fewer: see nodePortAddresses");
	for (i = 0; i < rules->n_node_addresses; i++)
		if (!nodeport_will_answer(p->config, family,
					  &rules->node_addresses[i]))
			warn(p,
			     "kube-proxy's node ports answer on %s, vipmap's will not: see "
			     "nodePortAddresses",
			     addr_format(family, &rules->node_addresses[i], text));
}

static void check_rules(struct preflight *p, enum family family)
{
	struct strbuf where = { .max = 1024 };
	struct kubeproxy_rules rules;
	char text[ADDR_TEXT_SIZE];
	struct errbuf eb;
	unsigned int i;

	if (!p->nl || kubeproxy_read_rules(p->nl, family, &rules, &eb))
		return; /* other tables of that name are told all the same */
	for (i = 0; i < rules.n_node_addresses; i++)
		strbuf_addf(&where, "%s%s", i ? ", " : " on ",
			    addr_format(family, &rules.node_addresses[i], text));
	good(p, "kube-proxy's table %s: %u address%s of Services, %u node port%s%s",
	     family == FAMILY_IPV4 ? "ip" : "ip6", rules.n_addresses,
	     rules.n_addresses == 1 ? "" : "es", rules.n_node_ports,
	     rules.n_node_ports == 1 ? "" : "s",
	     where.err || !where.text ? "" : where.text);
	strbuf_free(&where);
	if (rules.n_node_ports)
		compare_nodeports(p, family, &rules);
}

static void check_rivals(struct preflight *p)
{
	struct errbuf eb;

	if (p->nl && readback_rivals(p->nl, on_rival, p, &eb))
		warn(p, "looking for other proxies: %s", eb.text);
	check_rules(p, FAMILY_IPV4);
	if (p->app->family[FAMILY_IPV6])
		check_rules(p, FAMILY_IPV6);
	if (p->rivals)
		check_refresh(p);
	if (if_nametoindex("kube-ipvs0"))
		warn(p,
		     "interface kube-ipvs0: kube-proxy in mode ipvs left it; its addresses are "
		     "taken for the node's own: ip link del kube-ipvs0, ipvsadm --clear");
	if (p->running > 0)
		good(p, "a vipmap runs here (process %d): see \"vipmap status\"",
		     p->running);
	else
		check_kube_proxy(p);
}

static void check_table(struct preflight *p, enum family family)
{
	static const struct readback nothing = { .ctx = NULL };
	const struct ruleset ruleset = { .family = family };
	enum table_state state = TABLE_ABSENT;
	struct errbuf eb = { "" };

	if (p->running > 0 || !p->nl ||
	    readback_table(p->nl, &ruleset, &nothing, &state, &eb))
		return;
	if (state == TABLE_OWNED)
		fail(p, "%s", eb.text);
	else if (state != TABLE_ABSENT)
		good(p, "table %s vipmap is there from an earlier run: it will be adopted",
		     family == FAMILY_IPV4 ? "ip" : "ip6");
}

/* -1: unknown */
static long long read_setting(const char *path)
{
	long long n = -1;
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	if (fscanf(f, "%18lld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static void on_setting(void *ctx, const char *message)
{
	good(ctx, "%s", message);
}

static void on_setting_unread(void *ctx, const char *message)
{
	warn(ctx, "%s", message);
}

static void check_conntrack(struct preflight *p)
{
	const struct sysctl_report report = {
		.failed = on_setting_unread,
		.refused = on_setting_unread,
		.written = on_setting,
		.ctx = p,
		.look_only = true,
	};
	const long long wanted =
		sysctl_conntrack_max(p->config, sysctl_count_cpus());
	const long long max =
		read_setting("/proc/sys/net/netfilter/nf_conntrack_max");
	const long long count =
		read_setting("/proc/sys/net/netfilter/nf_conntrack_count");

	if (max <= 0) {
		warn(p, "conntrack: its limit cannot be read; the module comes with the first rule");
		return;
	}
	if (count * 100 >= max * NEARLY_FULL)
		warn(p,
		     "conntrack is nearly full: %lld of %lld entries; new connections fail when it "
		     "is",
		     count, max);
	good(p, "conntrack: %lld of %lld entries%s", count, max,
	     wanted > 0 && wanted < max
		     ? "; the limit is higher than configured, and stays"
		     : "");
	sysctl_apply(p->config, sysctl_count_cpus(), NULL, &report);
}

int command_preflight_check(const struct options *options, struct errbuf *eb)
{
	if (options->n_words)
		return errf(eb, -EINVAL, "preflight: unexpected argument \"%s\"",
			    options->words[0]);
	return 0;
}

int command_preflight(struct app *app, struct options *options)
{
	struct preflight p = {
		.app = app,
		.config = options->config,
		.config_error = options->config_error.text,
		.began_us = clock_monotonic_us(app->clock),
	};
	char name[NODE_NAME_SIZE];
	struct errbuf eb = { "" };
	bool known;

	if (node_name(options->config, getenv("NODE_NAME"), name, &eb))
		return command_fails(EXIT_USAGE, "%s", eb.text);
	p.node_name = name;
	p.running = httpd_local_owner(LOCAL_SOCKET);
	p.nl = nlsock_open(&eb);
	p.monitor = monitor_open_rival(&eb);
	check_kernel(&p);
	check_counters(&p);
	known = check_api(&p);
	if (judge_config(&p)) {
		if (known)
			check_objects(&p, options);
		check_node_addresses(&p);
	}
	check_rivals(&p);
	check_table(&p, FAMILY_IPV4);
	if (app->family[FAMILY_IPV6])
		check_table(&p, FAMILY_IPV6);
	check_conntrack(&p);
	nlsock_close(p.nl);
	monitor_close(p.monitor);
	objects_close(&p.objects);
	if (fflush(stdout))
		return EXIT_FAILED;
	return p.kernel_lacks ? EXIT_KERNEL
	       : p.failures   ? EXIT_FAILED
			      : EXIT_DONE;
}
