/* Whether "explain" sees that the kernel has something else than we believe. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/serve/view.h"
#include "proxy/sync/dataplane.h"
#include "tests/support/suite.h"
#include "tests/support/nft.h"
#include "tests/support/program.h"
#include "watch/manifests.h"

#define OBJECTS                                                                            \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"                           \
	"spec: {clusterIP: 172.30.0.41, ports: [{port: 80}]}\n---\n"                       \
	"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-a\n" \
	"  labels: {kubernetes.io/service-name: web}\naddressType: IPv4\n"                 \
	"ports: [{name: \"\", port: 8080}]\nendpoints: [{addresses: [10.180.1.1]},"        \
	" {addresses: [10.180.1.2]}]\n"

struct world {
	struct scratch scratch;
	struct config *config;
	struct model *model;
	struct manifests *manifests;
	struct dataplane *compiler;
	struct log *log;
	struct sync *sync;
	struct view view;
};

/* A vipmap that has programmed the kernel and is blind to what happens there. */
static void begin(struct world *w)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	struct errbuf eb = { "" };
	int error;

	memset(w, 0, sizeof(*w));
	scratch_enter(&w->scratch);
	write_file("objects.yaml", OBJECTS);
	ck_assert_msg(run_apart("./vipmap --manifests objects.yaml --once",
				&out, &err) == 0,
		      "%s", err.text);
	w->config = config_new();
	ck_assert_int_eq(config_append(&w->config->manifests, "objects.yaml"), 0);
	ck_assert_int_eq(config_validate(w->config, NULL, NULL, &eb), 0);
	w->log = log_new(2, 0, false, NULL);
	w->model = model_new(w->config, log_message, w->log);
	w->manifests = manifests_new(w->config->manifests, "node1");
	ck_assert_msg(manifests_load(w->manifests, model_sink(w->model), &eb) == 0,
		      "%s", eb.text);
	w->compiler = dataplane_new(&(struct dataplane_options){
		.family = FAMILY_IPV4, .model = w->model });
	ck_assert_int_eq(dataplane_compile(w->compiler), 0);
	w->sync = sync_new(&(struct sync_options){ .config = w->config,
						   .model = w->model,
						   .log = w->log,
						   .family = { true, false } },
			   &error, &eb);
	ck_assert_msg(w->sync, "%s", eb.text);
	w->view = (struct view){
		.config = w->config,
		.model = w->model,
		.node_name = "node1",
		.sync = w->sync,
		.log = w->log,
	};
	strbuf_free(&out);
	strbuf_free(&err);
}

static void end(struct world *w)
{
	sync_free(w->sync);
	dataplane_free(w->compiler);
	manifests_free(w->manifests);
	model_free(w->model);
	log_free(w->log);
	config_free(w->config);
	scratch_leave(&w->scratch);
}

static const struct {
	const char *name, *command, *want;
} rows[] = {
	{ "untouched", "true",
	  "\"kernel\":{\"agrees\":true,\"differences\":0,\"message\":\"\",\"path\":\"service-ips "
	  "-> "
	  "cluster-pick-2\"}" },
	{ "another endpoint",
	  "nft delete element ip vipmap endpoints { 172.30.0.41 . tcp . 80 . 1 } && "
	  "nft add element ip vipmap endpoints { 172.30.0.41 . tcp . 80 . 1 : 10.9.9.9 . 8080 }",
	  "\"agrees\":false,\"differences\":1,\"message\":\"another value in the kernel in an "
	  "element "
	  "of endpoints\"" },
	{ "an endpoint less",
	  "nft delete element ip vipmap endpoints { 172.30.0.41 . tcp . 80 . 0 }",
	  "\"agrees\":false,\"differences\":1,\"message\":\"nothing in the kernel for an element "
	  "of "
	  "endpoints\"" },
	{ "another verdict",
	  "nft delete element ip vipmap service-ips { 172.30.0.41 . tcp . 80 } && "
	  "nft add element ip vipmap service-ips { 172.30.0.41 . tcp . 80 : goto reject-chain }",
	  "\"agrees\":false,\"differences\":1,\"message\":\"another value in the kernel in an "
	  "element "
	  "of service-ips\",\"path\":\"service-ips -> reject-chain\"" },
	{ "no table", "nft delete table ip vipmap",
	  "\"agrees\":false,\"differences\":3,\"message\":\"nothing in the kernel for an element "
	  "of "
	  "service-ips\",\"path\":\"service-ips (nothing)\"" },
};

START_TEST(disagreement)
{
	struct strbuf out = STRBUF_INIT, said = STRBUF_INIT;
	struct world w;

	if (!program_namespace())
		return;
	begin(&w);
	ck_assert_msg(run(rows[_i].command, &said) == 0, "%s: %s",
		      rows[_i].name, said.text);
	ck_assert_int_eq(
		view_page(&w.view, "/v1/explain", "destination=web", &out), 200);
	ck_assert_msg(strstr(out.text, rows[_i].want), "%s: want %s in\n%s",
		      rows[_i].name, rows[_i].want, out.text);
	strbuf_free(&out);
	strbuf_free(&said);
	end(&w);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("explain");
	TCase *tc = tcase_create("explain");

	tcase_set_timeout(tc, 30);
	ADD_LOOP(tc, disagreement, rows);
	suite_add_tcase(suite, tc);
	return suite;
}
