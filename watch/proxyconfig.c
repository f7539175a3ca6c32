/*
 * One table says which fields there are, of what type, and where they go; the rest walks the
 * document along it. Values are not judged here (config_validate() does), only types, since an int
 * that is no int has no value to be judged.
 *
 * A field without effect is mentioned if it is set to something: kubeadm writes every field there
 * is, most of them null, 0, false or empty, and that should not make a page of warnings.
 */
#include "watch/proxyconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "watch/json.h"
#include "watch/yaml.h"

#define KIND "KubeProxyConfiguration"
#define API_VERSION "kubeproxy.config.k8s.io/v1alpha1"

typedef void warn_fn(void *ctx, const char *message);

enum field_type {
	FIELD_STRING,
	FIELD_BOOL,
	FIELD_INT, /* int */
	FIELD_INT64,
	FIELD_FLOAT, /* double */
	FIELD_DURATION,
	FIELD_LIST, /* of strings */
	FIELD_GATES,
	FIELD_HEADER, /* kind, apiVersion: done before */
	/* without effect */
	NO_STRING,
	NO_BOOL,
	NO_BIT, /* a masqueradeBit, still with its range */
	NO_DURATION,
	NO_LIST,
	NO_ANY,
};

#define AT(field) offsetof(struct config, field)

/* "a.b" is field b of object a. @usual: a value of a field without effect that needs no warning. */
static const struct field {
	const char *path;
	enum field_type type;
	size_t offset;
	const char *usual;
} fields[] = {
	{ "kind", FIELD_HEADER, 0, NULL },
	{ "apiVersion", FIELD_HEADER, 0, NULL },
	{ "featureGates", FIELD_GATES, 0, NULL },
	{ "clientConnection.kubeconfig", FIELD_STRING, AT(kubeconfig), NULL },
	{ "clientConnection.acceptContentTypes", FIELD_STRING, AT(accept_content_types), NULL },
	{ "clientConnection.contentType", FIELD_STRING, AT(content_type), NULL },
	{ "clientConnection.qps", FIELD_FLOAT, AT(qps), NULL },
	{ "clientConnection.burst", FIELD_INT, AT(burst), NULL },
	{ "logging.verbosity", FIELD_INT, AT(verbosity), NULL },
	{ "logging.format", FIELD_STRING, AT(logging_format), NULL },
	{ "logging.flushFrequency", NO_ANY, 0, "5s" },
	{ "logging.vmodule", NO_LIST, 0, NULL },
	{ "logging.options", NO_ANY, 0, NULL },
	{ "hostnameOverride", FIELD_STRING, AT(hostname_override), NULL },
	{ "bindAddress", FIELD_STRING, AT(bind_address), NULL },
	{ "healthzBindAddress", FIELD_STRING, AT(healthz_bind_address), NULL },
	{ "metricsBindAddress", FIELD_STRING, AT(metrics_bind_address), NULL },
	{ "bindAddressHardFail", FIELD_BOOL, AT(bind_address_hard_fail), NULL },
	{ "enableProfiling", NO_BOOL, 0, NULL },
	{ "showHiddenMetricsForVersion", NO_STRING, 0, NULL },
	{ "mode", FIELD_STRING, AT(mode), NULL },
	{ "nftables.masqueradeBit", FIELD_INT, AT(masquerade_bit), NULL },
	{ "nftables.masqueradeAll", FIELD_BOOL, AT(masquerade_all), NULL },
	{ "nftables.syncPeriod", FIELD_DURATION, AT(sync_period_ms), NULL },
	{ "nftables.minSyncPeriod", FIELD_DURATION, AT(min_sync_period_ms), NULL },
	{ "iptables.masqueradeBit", NO_BIT, 0, "14" },
	{ "iptables.masqueradeAll", NO_BOOL, 0, NULL },
	{ "iptables.localhostNodePorts", NO_BOOL, 0, "true" },
	{ "iptables.syncPeriod", NO_DURATION, 0, "30s" },
	{ "iptables.minSyncPeriod", NO_DURATION, 0, "1s" },
	{ "ipvs.syncPeriod", NO_DURATION, 0, "30s" },
	{ "ipvs.minSyncPeriod", NO_DURATION, 0, NULL },
	{ "ipvs.scheduler", NO_STRING, 0, NULL },
	{ "ipvs.excludeCIDRs", NO_LIST, 0, NULL },
	{ "ipvs.strictARP", NO_BOOL, 0, NULL },
	{ "ipvs.tcpTimeout", NO_DURATION, 0, NULL },
	{ "ipvs.tcpFinTimeout", NO_DURATION, 0, NULL },
	{ "ipvs.udpTimeout", NO_DURATION, 0, NULL },
	{ "winkernel.networkName", NO_STRING, 0, NULL },
	{ "winkernel.sourceVip", NO_STRING, 0, NULL },
	{ "winkernel.enableDSR", NO_BOOL, 0, NULL },
	{ "winkernel.rootHnsEndpointName", NO_STRING, 0, NULL },
	{ "winkernel.forwardHealthCheckVip", NO_BOOL, 0, NULL },
	{ "windowsRunAsService", NO_BOOL, 0, NULL },
	{ "detectLocalMode", FIELD_STRING, AT(detect_local_mode), NULL },
	{ "detectLocal.bridgeInterface", FIELD_STRING, AT(bridge_interface), NULL },
	{ "detectLocal.interfaceNamePrefix", FIELD_STRING, AT(interface_name_prefix), NULL },
	{ "clusterCIDR", FIELD_STRING, AT(cluster_cidr), NULL },
	{ "nodePortAddresses", FIELD_LIST, AT(nodeport_addresses), NULL },
	{ "oomScoreAdj", FIELD_INT, AT(oom_score_adj), NULL },
	{ "conntrack.maxPerCore", FIELD_INT64, AT(conntrack.max_per_core), NULL },
	{ "conntrack.min", FIELD_INT64, AT(conntrack.min), NULL },
	{ "conntrack.tcpEstablishedTimeout", FIELD_DURATION,
	  AT(conntrack.tcp_established_timeout_ms), NULL },
	{ "conntrack.tcpCloseWaitTimeout", FIELD_DURATION, AT(conntrack.tcp_close_wait_timeout_ms),
	  NULL },
	{ "conntrack.tcpBeLiberal", FIELD_BOOL, AT(conntrack.tcp_be_liberal), NULL },
	{ "conntrack.udpTimeout", FIELD_DURATION, AT(conntrack.udp_timeout_ms), NULL },
	{ "conntrack.udpStreamTimeout", FIELD_DURATION, AT(conntrack.udp_stream_timeout_ms), NULL },
	{ "configSyncPeriod", FIELD_DURATION, AT(config_sync_period_ms), NULL },
	{ "portRange", NO_STRING, 0, NULL },
};

enum { N_FIELDS = sizeof(fields) / sizeof(fields[0]) };

struct filler {
	const struct json *root;
	struct config *config;
	warn_fn *warn;
	void *ctx;
	struct errbuf *eb;
};

static void warn_about(const struct filler *f, const char *path, const char *problem)
{
	char text[JSON_PATH_SIZE + 128];

	if (!f->warn)
		return;
	snprintf(text, sizeof(text), "%s: %s", path, problem);
	f->warn(f->ctx, text);
}

static int no_memory(const struct filler *f)
{
	return errf(f->eb, -ENOMEM, "out of memory");
}

/* ---- one value of each type: into the config, or only looked at */

/* @json has the type that field @path needs, or -EINVAL. */
static int need_type(const struct filler *f, const char *path, const struct json *json,
		     enum json_type type)
{
	if (json_type(json) == type)
		return 0;
	return errf(f->eb, -EINVAL, "%s: %s where %s belongs", path,
		    json_type_name(json_type(json)), json_type_name(type));
}

static int get_integer(const struct filler *f, const char *path, const struct json *json,
		       int64_t min, int64_t max, int64_t *value)
{
	int err = need_type(f, path, json, JSON_NUMBER);
	int64_t number;

	if (err)
		return err;
	if (!json_integer(json, &number))
		return errf(f->eb, -EINVAL, "%s: %.17g is not a whole number", path,
			    json_number(json));
	if (number < min || number > max)
		return errf(f->eb, -EINVAL, "%s: %lld is not between %lld and %lld", path,
			    (long long)number, (long long)min, (long long)max);
	*value = number;
	return 0;
}

static int get_duration(const struct filler *f, const char *path, const struct json *json,
			int64_t *value)
{
	int err = need_type(f, path, json, JSON_STRING);

	if (err)
		return err;
	if (duration_parse(json_string(json), value))
		return errf(f->eb, -EINVAL, "%s: \"%.64s\" is not a duration like 1h30m or 500ms",
			    path, json_string(json));
	return 0;
}

static int set_string(const struct filler *f, const char *path, const struct json *json,
		      char **target)
{
	int err = need_type(f, path, json, JSON_STRING);

	if (!err && config_set(target, json_string(json)))
		err = no_memory(f);
	return err;
}

/* The whole list is replaced; an empty one is as good as none. */
static int set_list(const struct filler *f, const char *path, const struct json *json,
		    char ***target)
{
	char item_path[JSON_PATH_SIZE];
	int err = need_type(f, path, json, JSON_ARRAY);

	if (err)
		return err;
	config_list_free(*target);
	*target = NULL;
	json_for_each (item, json) {
		err = need_type(f, json_path(f->root, item, item_path), item, JSON_STRING);
		if (err)
			return err;
		if (config_append(target, json_string(item)))
			return no_memory(f);
	}
	return 0;
}

static int set_gates(const struct filler *f, const char *path, const struct json *json)
{
	char gate_path[JSON_PATH_SIZE];
	int err = need_type(f, path, json, JSON_OBJECT);

	json_for_each (gate, json) {
		if (err)
			break;
		err = need_type(f, json_path(f->root, gate, gate_path), gate, JSON_BOOL);
		if (!err)
			err = config_set_gate(f->config, json_key(gate), json_is_true(gate),
					      f->warn, f->ctx, f->eb);
	}
	return err;
}

static int set_number(const struct filler *f, const struct field *field, const struct json *json,
		      char *at)
{
	double real = json_number(json);
	int64_t number = 0;
	int narrow, err;

	switch (field->type) {
	case FIELD_INT:
		err = get_integer(f, field->path, json, INT_MIN, INT_MAX, &number);
		narrow = (int)number;
		if (!err)
			memcpy(at, &narrow, sizeof(narrow));
		return err;
	case FIELD_FLOAT:
		err = need_type(f, field->path, json, JSON_NUMBER);
		if (!err)
			memcpy(at, &real, sizeof(real));
		return err;
	case FIELD_DURATION:
		err = get_duration(f, field->path, json, &number);
		break;
	default:
		err = get_integer(f, field->path, json, INT_MIN, INT_MAX, &number);
	}
	if (!err)
		memcpy(at, &number, sizeof(number));
	return err;
}

/* ---- fields without effect */

/* As good as absent: what a struct has when nobody sets it. */
static bool is_empty(const struct json *json)
{
	const char *text = json_string(json);
	int64_t duration;

	if (text)
		return !*text || (duration_parse(text, &duration) == 0 && duration == 0);
	json_for_each (item, json)
		if (!is_empty(item))
			return false;
	return !json_is_true(json) && json_number(json) == 0;
}

static bool is_usual(const struct json *json, const char *usual)
{
	char number[32];
	const char *text = json_string(json);

	if (!usual)
		return false;
	if (json_type(json) == JSON_BOOL)
		text = json_is_true(json) ? "true" : "false";
	if (json_type(json) == JSON_NUMBER) {
		snprintf(number, sizeof(number), "%.17g", json_number(json));
		text = number;
	}
	return text && strcmp(text, usual) == 0;
}

static int check_unused(const struct filler *f, const struct field *field, const struct json *json)
{
	int64_t number;
	int err = 0;

	if (field->type == NO_STRING)
		err = need_type(f, field->path, json, JSON_STRING);
	else if (field->type == NO_BOOL)
		err = need_type(f, field->path, json, JSON_BOOL);
	else if (field->type == NO_BIT)
		err = get_integer(f, field->path, json, 0, 31, &number);
	else if (field->type == NO_DURATION)
		err = get_duration(f, field->path, json, &number);
	else if (field->type == NO_LIST)
		err = need_type(f, field->path, json, JSON_ARRAY);
	if (!err && !is_empty(json) && !is_usual(json, field->usual))
		warn_about(f, field->path, "has no effect here");
	return err;
}

/* ---- along the document */

static int set_field(const struct filler *f, const struct field *field, const struct json *json)
{
	char *at = (char *)f->config + field->offset;
	int err;

	switch (field->type) {
	case FIELD_HEADER:
		return 0;
	case FIELD_STRING:
		return set_string(f, field->path, json, (char **)(void *)at);
	case FIELD_LIST:
		return set_list(f, field->path, json, (char ***)(void *)at);
	case FIELD_GATES:
		return set_gates(f, field->path, json);
	case FIELD_BOOL:
		err = need_type(f, field->path, json, JSON_BOOL);
		if (!err)
			*(bool *)at = json_is_true(json);
		return err;
	case FIELD_INT:
	case FIELD_INT64:
	case FIELD_FLOAT:
	case FIELD_DURATION:
		return set_number(f, field, json, at);
	default:
		return check_unused(f, field, json);
	}
}

static const struct field *find_field(const char *path)
{
	size_t i;

	for (i = 0; i < N_FIELDS; i++)
		if (strcmp(fields[i].path, path) == 0)
			return &fields[i];
	return NULL;
}

/* Whether there are fields "@path.x". */
static bool is_section(const char *path)
{
	size_t i, length = strlen(path);

	for (i = 0; i < N_FIELDS; i++)
		if (strncmp(fields[i].path, path, length) == 0 && fields[i].path[length] == '.')
			return true;
	return false;
}

static int fill_section(const struct filler *f, const char *section, const struct json *json)
{
	const struct field *field;
	char path[JSON_PATH_SIZE];
	int err = 0;

	json_for_each (member, json) {
		snprintf(path, sizeof(path), "%s%s%s", section, *section ? "." : "",
			 json_key(member));
		field = find_field(path);
		if (!field && !is_section(path)) {
			/* Once more from the tree, printable. */
			warn_about(f, json_path(f->root, member, path), "unknown field, ignored");
			continue;
		}
		if (json_type(member) == JSON_NULL)
			continue;
		if (field)
			err = set_field(f, field, member);
		else
			err = need_type(f, path, member, JSON_OBJECT);
		if (!err && !field)
			err = fill_section(f, path, member);
		if (err)
			break;
	}
	return err;
}

static int check_header(const struct filler *f, const char *key, const char *want)
{
	const char *text = "";

	if (json_get_string(f->root, f->root, key, &text, f->eb) < 0)
		return -EINVAL;
	if (!*text)
		return errf(f->eb, -EINVAL, "%s: missing, %s is expected", key, want);
	if (strcmp(text, want))
		return errf(f->eb, -EINVAL, "%s: \"%.64s\" is not %s", key, text, want);
	return 0;
}

static void warn_repeated(void *ctx, const char *path)
{
	warn_about(ctx, path, "repeated, the last one counts");
}

static int fill(struct filler *f)
{
	int err;

	if (json_type(f->root) != JSON_OBJECT)
		return errf(f->eb, -EINVAL, "%s where a " KIND " belongs",
			    json_type_name(json_type(f->root)));
	err = check_header(f, "apiVersion", API_VERSION);
	if (!err)
		err = check_header(f, "kind", KIND);
	if (err)
		return err;
	if (json_duplicates(f->root, warn_repeated, f))
		return no_memory(f);
	return fill_section(f, "", f->root);
}

/* CFG-7 */
static void add_other(void *ctx, const struct json *document)
{
	const char *kind = json_string(json_get(document, "kind"));
	struct strbuf *others = ctx;

	if (others->length)
		strbuf_adds(others, ", ");
	strbuf_addf(others, "%.64s", kind ? kind : "one without a kind");
}

/* JSON first, for what only that can be; what is neither is most likely meant as YAML. */
static struct json *parse_text(const char *text, size_t length, struct strbuf *others,
			       struct errbuf *eb)
{
	struct json *json = NULL;
	size_t i = 0;

	while (i < length && strchr(" \t\r\n", text[i]) && text[i])
		i++;
	if (i < length && text[i] == '{')
		json = json_parse(text, length, eb);
	return json ? json : yaml_parse_first(text, length, add_other, others, eb);
}

int proxyconfig_parse(const char *text, size_t length, struct config *config, warn_fn *warn,
		      void *ctx, struct errbuf *eb)
{
	struct strbuf others = { .max = 512 };
	struct json *root = parse_text(text, length, &others, eb);
	struct filler f = { root, config, warn, ctx, eb };
	int err;

	if (!root) {
		strbuf_free(&others);
		return -EINVAL;
	}
	if (others.length)
		warn_about(&f, "only the first document counts, ignored", others.text);
	strbuf_free(&others);
	err = fill(&f);
	json_free(root);
	return err;
}

static int read_file(const char *path, struct strbuf *sb, struct errbuf *eb)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char bytes[4096];
	ssize_t n = 0;
	int err = 0;

	sb->max = JSON_MAX_LENGTH;
	if (fd < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	while (!sb->err && (n = read(fd, bytes, sizeof(bytes))) != 0) {
		if (n > 0)
			strbuf_add(sb, bytes, (size_t)n);
		else if (errno != EINTR)
			break;
	}
	if (n < 0)
		err = errf(eb, -errno, "%s: %s", path, strerror(errno));
	else if (sb->err)
		err = errf(eb, sb->err, "%s: %s", path, strerror(-sb->err));
	close(fd);
	return err;
}

int proxyconfig_read(const char *path, struct config *config, warn_fn *warn, void *ctx,
		     struct errbuf *eb)
{
	struct strbuf sb = STRBUF_INIT;
	struct errbuf problem = { "" };
	int err = read_file(path, &sb, eb);

	if (!err) {
		err = proxyconfig_parse(sb.length ? sb.text : "", sb.length, config, warn, ctx,
					&problem);
		if (err)
			errf(eb, err, "%s: %.400s", path, problem.text);
	}
	strbuf_free(&sb);
	return err;
}
