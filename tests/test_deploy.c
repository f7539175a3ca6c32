/* scripts/deploy: what is in the ConfigMap must be understood without a warning, the role must be
 * what is asked for, and the pod no more privileged than it has to be. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/strbuf.h"
#include "tests/support_apiserver.h"
#include "watch/json.h"
#include "watch/kubeconfig.h"
#include "watch/proxyconfig.h"
#include "watch/yaml.h"

static int first_document(void *ctx, struct json *document, struct errbuf *eb)
{
	struct json **first = ctx;

	(void)eb;
	if (*first)
		json_free(document);
	else
		*first = document;
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

/* The first document of a file */
static struct json *read_manifest(const char *name)
{
	const struct yaml_ops ops = { .document = first_document };
	char *text = read_text("scripts/deploy", name);
	struct text whole = { text, strlen(text) };
	struct json *first = NULL;
	struct errbuf eb = { "" };

	ck_assert_msg(yaml_read(read_piece, &whole, &ops, &first, &eb) == 0, "%s: %s", name,
		      eb.text);
	ck_assert_ptr_nonnull(first);
	free(text);
	return first;
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
	struct json *map = read_manifest("configmap.yaml");
	const char *text = data_of(map, "config.conf");
	struct config *config = config_new();
	struct credentials *credentials;
	struct errbuf eb = { "" };

	ck_assert_msg(proxyconfig_parse(text, strlen(text), config, no_warning, NULL, &eb) == 0,
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
	struct json *role = read_manifest("rbac.yaml");
	struct strbuf got = STRBUF_INIT;

	json_for_each (rule, json_get(role, "rules")) {
		add_strings(&got, json_get(rule, "apiGroups"));
		strbuf_adds(&got, " |");
		add_strings(&got, json_get(rule, "resources"));
		strbuf_adds(&got, " |");
		add_strings(&got, json_get(rule, "verbs"));
		strbuf_addc(&got, '\n');
	}
	ck_assert_str_eq(got.text, "  | services nodes | list watch\n"
				   " discovery.k8s.io | endpointslices | list watch\n"
				   " networking.k8s.io | servicecidrs | list watch\n"
				   " events.k8s.io | events | create\n");
	strbuf_free(&got);
	json_free(role);
}
END_TEST

START_TEST(pod_has_only_net_admin)
{
	struct json *set = read_manifest("daemonset.yaml");
	const struct json *pod = json_get(json_get(json_get(set, "spec"), "template"), "spec");
	const struct json *container = json_first(json_get(pod, "containers"));
	const struct json *security = json_get(container, "securityContext");
	const struct json *capabilities = json_get(security, "capabilities");
	struct strbuf got = STRBUF_INIT;

	add_strings(&got, json_get(capabilities, "drop"));
	add_strings(&got, json_get(capabilities, "add"));
	ck_assert_str_eq(got.text, " ALL NET_ADMIN");
	ck_assert(json_is_true(json_get(security, "readOnlyRootFilesystem")));
	ck_assert(!json_get(security, "privileged"));
	ck_assert(json_is_true(json_get(pod, "hostNetwork")));
	ck_assert_str_eq(json_string(json_get(pod, "priorityClassName")), "system-node-critical");
	strbuf_free(&got);
	json_free(set);
}
END_TEST

static const char *const manifests[] = { "serviceaccount.yaml",	    "rbac.yaml",
					 "configmap.yaml",	    "daemonset.yaml",
					 "kustomization.yaml",	    "kubeadm/kustomization.yaml",
					 "cleanup/kube-proxy.yaml", "cleanup/vipmap.yaml" };

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

int main(void)
{
	Suite *suite = suite_create("deploy");
	TCase *tcase = tcase_create("deploy");
	SRunner *runner;
	int failed;

	tcase_add_test(tcase, config_map_is_understood);
	tcase_add_test(tcase, role_is_what_is_asked_for);
	tcase_add_test(tcase, pod_has_only_net_admin);
	tcase_add_loop_test(tcase, all_are_yaml_with_a_kind, 0,
			    sizeof(manifests) / sizeof(manifests[0]));
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
