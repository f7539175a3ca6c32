/* scripts/deploy: what is in the ConfigMap must be understood without a warning, the role must be
 * what is asked for, and the pod no more privileged than it has to be. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/base/strbuf.h"
#include "tests/support/suite.h"
#include "tests/support/apiserver.h"
#include "watch/json.h"
#include "watch/kubeconfig.h"
#include "watch/proxyconfig.h"
#include "watch/yaml.h"

struct documents {
	struct json *wanted;
	int left; /* before it */
};

static int next_document(void *ctx, struct json *document, struct errbuf *eb)
{
	struct documents *documents = ctx;

	(void)eb;
	if (documents->left-- == 0)
		documents->wanted = document;
	else
		json_free(document);
	return 0;
}

struct text {
	const char *at;
	size_t left;
};

static ssize_t read_piece(void *ctx, char *bytes, size_t size)
{
	struct text *text = ctx;
	size_t n = text->left < size ? text->left : size;

	memcpy(bytes, text->at, n);
	text->at += n;
	text->left -= n;
	return (ssize_t)n;
}

static struct json *read_document(const char *name, int index)
{
	const struct yaml_ops ops = { .document = next_document };
	char *text = read_text("scripts/deploy", name);
	struct text whole = { text, strlen(text) };
	struct documents documents = { NULL, index };
	struct errbuf eb = { "" };

	ck_assert_msg(yaml_read(read_piece, &whole, &ops, &documents, &eb) == 0,
		      "%s: %s", name, eb.text);
	ck_assert_msg(documents.wanted, "%s: no document %d", name, index);
	free(text);
	return documents.wanted;
}

static struct json *read_manifest(const char *name)
{
	return read_document(name, 0);
}

/* @path with dots, numbers for items of lists; "" if there is nothing. */
static const struct json *at(const struct json *json, const char *path)
{
	char key[64];
	size_t n;

	for (; json && *path; path += n + (path[n] == '.')) {
		n = strcspn(path, ".");
		snprintf(key, sizeof(key), "%.*s", (int)n, path);
		if (json_type(json) == JSON_OBJECT) {
			json = json_get(json, key);
			continue;
		}
		json = json_first(json);
		for (long i = strtol(key, NULL, 10); json && i > 0; i--)
			json = json_next(json);
	}
	return json;
}

static const char *text_at(const struct json *json, const char *path)
{
	const char *text = json_string(at(json, path));

	return text ? text : "";
}

static void no_warning(void *ctx, const char *message)
{
	(void)ctx;
	ck_abort_msg("a warning: %s", message);
}

static const char *data_of(const struct json *map, const char *key)
{
	const char *text = json_string(json_get(json_get(map, "data"), key));

	ck_assert_msg(text, "%s is missing", key);
	return text;
}

START_TEST(config_map_is_understood)
{
	struct json *map = read_manifest("base/configmap.yaml");
	const char *text = data_of(map, "config.conf");
	struct config *config = config_new();
	struct credentials *credentials;
	struct errbuf eb = { "" };

	ck_assert_msg(proxyconfig_parse(text, strlen(text), config, no_warning,
					NULL, &eb) == 0,
		      "%s", eb.text);
	ck_assert_msg(config_validate(config, NULL, NULL, &eb) == 0, "%s", eb.text);
	ck_assert_str_eq(config->kubeconfig, "/var/lib/kube-proxy/kubeconfig.conf");
	text = data_of(map, "kubeconfig.conf");
	credentials = kubeconfig_parse(text, strlen(text), "/", &eb);
	ck_assert_msg(credentials, "%s", eb.text);
	ck_assert_str_eq(credentials->token.path,
			 "/var/run/secrets/kubernetes.io/serviceaccount/token");
	credentials_free(credentials);
	config_free(config);
	json_free(map);
}
END_TEST

static void add_strings(struct strbuf *sb, const struct json *list)
{
	json_for_each (item, list)
		strbuf_addf(sb, " %s", json_string(item));
}

/* API-9 */
START_TEST(role_is_what_is_asked_for)
{
	struct json *role = read_manifest("base/rbac.yaml");
	struct strbuf got = STRBUF_INIT;

	json_for_each (rule, json_get(role, "rules")) {
		add_strings(&got, json_get(rule, "apiGroups"));
		strbuf_adds(&got, " |");
		add_strings(&got, json_get(rule, "resources"));
		strbuf_adds(&got, " |");
		add_strings(&got, json_get(rule, "verbs"));
		strbuf_addc(&got, '\n');
	}
	ck_assert_str_eq(got.text,
			 "  | services nodes | list watch\n"
			 " discovery.k8s.io | endpointslices | list watch\n"
			 " networking.k8s.io | servicecidrs | list watch\n"
			 " events.k8s.io | events | create\n");
	strbuf_free(&got);
	json_free(role);
}
END_TEST

#define POD "spec.template.spec."

/* The container that runs vipmap with what the image's file may have, and nothing else. */
static const char *const powers[][2] = {
	{ "base/daemonset.yaml", POD "containers.0.securityContext" },
	{ "cleanup/vipmap/daemonset.yaml", POD "initContainers.0.securityContext" },
};

START_TEST(container_has_only_net_admin)
{
	struct json *set = read_manifest(powers[_i][0]);
	const struct json *security = at(set, powers[_i][1]);
	struct strbuf got = STRBUF_INIT;
	int64_t user;

	add_strings(&got, at(security, "capabilities.drop"));
	add_strings(&got, at(security, "capabilities.add"));
	ck_assert_str_eq(got.text, " ALL NET_ADMIN");
	ck_assert(json_is_true(json_get(security, "readOnlyRootFilesystem")));
	ck_assert(!json_get(security, "privileged"));
	ck_assert(json_is_true(json_get(security, "runAsNonRoot")));
	ck_assert(json_integer(json_get(security, "runAsUser"), &user) &&
		  user == 65532);
	/* a file's capabilities are ignored without it */
	ck_assert(json_is_true(json_get(security, "allowPrivilegeEscalation")));
	strbuf_free(&got);
	json_free(set);
}
END_TEST

START_TEST(pod_is_the_nodes)
{
	struct json *set = read_manifest("base/daemonset.yaml");
	const struct json *pod = at(set, POD);
	int64_t group;

	ck_assert(json_is_true(json_get(pod, "hostNetwork")));
	ck_assert_str_eq(text_at(pod, "priorityClassName"), "system-node-critical");
	ck_assert(json_integer(at(pod, "securityContext.fsGroup"), &group) &&
		  group == 65532);
	json_free(set);
}
END_TEST

/* The version is that of the program. */
START_TEST(labels_name_the_version)
{
	struct json *set = read_manifest("base/daemonset.yaml");
	const char *label = "app.kubernetes.io/version";

	ck_assert_str_eq(json_string(json_get(at(set, "metadata.labels"), label)),
			 VIPMAP_VERSION);
	ck_assert_str_eq(json_string(json_get(
				 at(set, "spec.template.metadata.labels"), label)),
			 VIPMAP_VERSION);
	ck_assert_ptr_null(json_get(at(set, "spec.selector.matchLabels"), label));
	json_free(set);
	set = read_manifest("base/kustomization.yaml");
	ck_assert_str_eq(text_at(set, "images.0.newTag"), VIPMAP_VERSION);
	json_free(set);
}
END_TEST

/* What is named must be there under that name. */
static const struct {
	const char *file;
	int index;
	const char *path, *other;
	int other_index;
	const char *other_path;
} names[] = {
	{ "base/daemonset.yaml", 0, POD "serviceAccountName",
	  "base/serviceaccount.yaml", 0, "metadata.name" },
	{ "base/daemonset.yaml", 0, POD "volumes.0.configMap.name",
	  "base/configmap.yaml", 0, "metadata.name" },
	{ "base/daemonset.yaml", 0, "metadata.namespace",
	  "base/serviceaccount.yaml", 0, "metadata.namespace" },
	{ "base/daemonset.yaml", 0, "metadata.namespace", "base/configmap.yaml",
	  0, "metadata.namespace" },
	{ "base/rbac.yaml", 1, "roleRef.name", "base/rbac.yaml", 0, "metadata.name" },
	{ "base/rbac.yaml", 1, "roleRef.kind", "base/rbac.yaml", 0, "kind" },
	{ "base/rbac.yaml", 1, "subjects.0.name", "base/serviceaccount.yaml", 0,
	  "metadata.name" },
	{ "base/rbac.yaml", 1, "subjects.0.kind", "base/serviceaccount.yaml", 0,
	  "kind" },
	{ "base/rbac.yaml", 1, "subjects.0.namespace",
	  "base/serviceaccount.yaml", 0, "metadata.namespace" },
	{ "base/kustomization.yaml", 0, "images.0.name", "base/daemonset.yaml",
	  0, POD "containers.0.image" },
	{ "base/kustomization.yaml", 0, "images.0.name", "base/daemonset.yaml",
	  0, POD "initContainers.0.image" },
	{ "monitoring/podmonitor.yaml", 0, "spec.podMetricsEndpoints.0.port",
	  "base/daemonset.yaml", 0, POD "containers.0.ports.1.name" },
	{ "cleanup/vipmap/kustomization.yaml", 0, "images.0.name",
	  "cleanup/vipmap/daemonset.yaml", 0, POD "initContainers.0.image" },
	{ "cleanup/vipmap/kustomization.yaml", 0, "images.0.newName",
	  "base/kustomization.yaml", 0, "images.0.newName" },
	{ "cleanup/vipmap/kustomization.yaml", 0, "images.0.newTag",
	  "base/kustomization.yaml", 0, "images.0.newTag" },
	{ "cleanup/kube-proxy/kustomization.yaml", 0, "images.0.name",
	  "cleanup/kube-proxy/daemonset.yaml", 0, POD "initContainers.0.image" },
	{ "kubeadm/kustomization.yaml", 0, "patches.0.target.name",
	  "base/configmap.yaml", 0, "metadata.name" },
	{ "kubeadm/kustomization.yaml", 0, "patches.1.target.name",
	  "base/daemonset.yaml", 0, "metadata.name" },
};

START_TEST(names_fit)
{
	struct json *one = read_document(names[_i].file, names[_i].index);
	struct json *other = read_document(names[_i].other, names[_i].other_index);
	const char *got = text_at(one, names[_i].path);

	ck_assert_msg(*got && !strcmp(got, text_at(other, names[_i].other_path)),
		      "%s: %s is \"%s\", %s: %s is \"%s\"", names[_i].file,
		      names[_i].path, got, names[_i].other, names[_i].other_path,
		      text_at(other, names[_i].other_path));
	json_free(one);
	json_free(other);
}
END_TEST

static const char *const daemon_sets[] = { "base/daemonset.yaml",
					   "cleanup/kube-proxy/daemonset.yaml",
					   "cleanup/vipmap/daemonset.yaml" };

static bool has_volume(const struct json *pod, const char *name)
{
	json_for_each (volume, json_get(pod, "volumes"))
		if (!strcmp(text_at(volume, "name"), name))
			return true;
	return false;
}

static void check_mounts(const struct json *pod, const char *list)
{
	json_for_each (container, json_get(pod, list)) {
		ck_assert(*text_at(container, "name") &&
			  *text_at(container, "image"));
		json_for_each (mount, json_get(container, "volumeMounts"))
			ck_assert_msg(has_volume(pod, text_at(mount, "name")),
				      "no volume \"%s\"", text_at(mount, "name"));
	}
}

START_TEST(pods_fit_their_set)
{
	struct json *set = read_manifest(daemon_sets[_i]);
	const char *label = "app.kubernetes.io/name";
	const struct json *pod = at(set, "spec.template.spec");
	const char *wanted =
		json_string(json_get(at(set, "spec.selector.matchLabels"), label));

	ck_assert_str_eq(text_at(set, "apiVersion"), "apps/v1");
	ck_assert_str_eq(text_at(set, "kind"), "DaemonSet");
	ck_assert_ptr_nonnull(wanted);
	ck_assert_str_eq(json_string(json_get(
				 at(set, "spec.template.metadata.labels"), label)),
			 wanted);
	ck_assert_str_eq(text_at(pod, "tolerations.0.operator"), "Exists");
	check_mounts(pod, "containers");
	check_mounts(pod, "initContainers");
	json_free(set);
}
END_TEST

/* Ports are where the ConfigMap has the servers listen. */
START_TEST(probes_ask_the_health_server)
{
	static const struct {
		const char *port, *server;
	} ports[] = {
		{ "livenessProbe.httpGet.port", "healthzBindAddress: 0.0.0.0" },
		{ "startupProbe.httpGet.port", "healthzBindAddress: 0.0.0.0" },
		{ "ports.0.containerPort", "healthzBindAddress: 0.0.0.0" },
		{ "ports.0.hostPort", "healthzBindAddress: 0.0.0.0" },
		{ "ports.1.containerPort", "metricsBindAddress: 127.0.0.1" },
		{ "ports.1.hostPort", "metricsBindAddress: 127.0.0.1" }
	};
	struct json *set = read_manifest("base/daemonset.yaml");
	struct json *map = read_manifest("base/configmap.yaml");
	const struct json *container = at(set, POD "containers.0");
	int64_t port;
	char text[64];

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		ck_assert_msg(json_integer(at(container, ports[i].port), &port),
			      "%s", ports[i].port);
		snprintf(text, sizeof(text), "%s:%d\n", ports[i].server, (int)port);
		ck_assert_msg(strstr(data_of(map, "config.conf"), text),
			      "%s: %s", ports[i].port, text);
	}
	ck_assert_str_eq(text_at(container, "livenessProbe.httpGet.path"),
			 "/livez");
	ck_assert_str_eq(text_at(container, "startupProbe.httpGet.path"), "/livez");
	/* while kube-proxy still holds the ports, only the local socket can tell */
	ck_assert_str_eq(text_at(container, "readinessProbe.exec.command.0"),
			 "vipmap");
	ck_assert_str_eq(text_at(container, "readinessProbe.exec.command.1"),
			 "status");
	ck_assert_str_eq(text_at(container, "readinessProbe.exec.command.2"),
			 "--ready");
	json_free(set);
	json_free(map);
}
END_TEST

/* kustomize takes no base that the folder itself lies in ("cycle detected"). */
static const char *const kustomizations[] = {
	".",	     "base", "kubeadm", "cleanup/kube-proxy", "cleanup/vipmap",
	"monitoring"
};

START_TEST(kustomizations_find_their_resources)
{
	const char *folder = kustomizations[_i], *name;
	char path[256], parent[256];
	struct json *json;

	snprintf(path, sizeof(path), "%s/kustomization.yaml", folder);
	json = read_manifest(path);
	ck_assert_str_eq(text_at(json, "apiVersion"),
			 "kustomize.config.k8s.io/v1beta1");
	ck_assert(json_first(json_get(json, "resources")));
	json_for_each (resource, json_get(json, "resources")) {
		name = json_string(resource);
		snprintf(path, sizeof(path), "scripts/deploy/%s/%s", folder, name);
		ck_assert_msg(access(path, R_OK) == 0, "%s is not there", path);
		snprintf(parent, sizeof(parent), "/%s", name);
		ck_assert_msg(strcmp(parent + strlen(parent) - 3, "/..") != 0,
			      "%s: %s", folder, name);
	}
	json_free(json);
}
END_TEST

static const char *const manifests[] = { "base/serviceaccount.yaml",
					 "base/rbac.yaml",
					 "base/configmap.yaml",
					 "base/daemonset.yaml",
					 "kustomization.yaml",
					 "base/kustomization.yaml",
					 "kubeadm/kustomization.yaml",
					 "cleanup/kube-proxy/daemonset.yaml",
					 "cleanup/kube-proxy/kustomization.yaml",
					 "cleanup/vipmap/daemonset.yaml",
					 "cleanup/vipmap/kustomization.yaml",
					 "monitoring/kustomization.yaml",
					 "monitoring/podmonitor.yaml",
					 "monitoring/alerts.yaml" };

static void no_duplicate(void *ctx, const char *path)
{
	ck_abort_msg("%s: %s is there twice", (const char *)ctx, path);
}

START_TEST(all_are_yaml_with_a_kind)
{
	struct json *json = read_manifest(manifests[_i]);
	char name[64];

	snprintf(name, sizeof(name), "%s", manifests[_i]);
	ck_assert_msg(json_string(json_get(json, "kind")), "%s: no kind", name);
	ck_assert_int_eq(json_duplicates(json, no_duplicate, name), 0);
	json_free(json);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("deploy");
	TCase *tcase = tcase_create("deploy");

	tcase_add_test(tcase, config_map_is_understood);
	tcase_add_test(tcase, role_is_what_is_asked_for);
	ADD_LOOP(tcase, container_has_only_net_admin, powers);
	tcase_add_test(tcase, pod_is_the_nodes);
	tcase_add_test(tcase, labels_name_the_version);
	ADD_LOOP(tcase, names_fit, names);
	ADD_LOOP(tcase, pods_fit_their_set, daemon_sets);
	tcase_add_test(tcase, probes_ask_the_health_server);
	ADD_LOOP(tcase, kustomizations_find_their_resources, kustomizations);
	ADD_LOOP(tcase, all_are_yaml_with_a_kind, manifests);
	suite_add_tcase(suite, tcase);
	return suite;
}
