/*
 * What the started program does with its settings: that each acts, and not only is stored.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/model/fields.h"
#include "tests/support/suite.h"
#include "tests/support/apiserver.h"
#include "tests/support/program.h"
#include "watch/json.h"

#define HEADER                                                                 \
	"apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"
#define NODE                                                                   \
	"apiVersion: v1\nkind: Node\nmetadata: {name: node1, uid: n1}\n"       \
	"status: {addresses: [{type: InternalIP, address: 192.168.7.11}]}\n"
#define SLICE(endpoints)                                                                        \
	"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"                           \
	"metadata: {name: web-a, namespace: shop, labels: {kubernetes.io/service-name: web}}\n" \
	"addressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints: [" endpoints          \
	"]\n"
#define WEB(endpoints)                                                             \
	"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n"  \
	"spec: {clusterIP: 172.30.0.41, ports: [{name: http, port: 80}]}\n" SLICE( \
		endpoints)
#define ONE "{addresses: [10.180.1.1]}"
#define TWO ONE ", {addresses: [10.180.1.2]}"

#define EXPLAIN "explain 10.0.0.1 tcp 172.30.0.41 80 --timeout=1s"
#define FLAGS                                                                  \
	"--hostname-override=node1 --conntrack-max-per-core=0 --oom-score-adj=0 "
#define FILES                                                                  \
	"conntrack: {maxPerCore: 0}\noomScoreAdj: 0\nhostnameOverride: node1\n"

/* ---- the log */

/* Each line is an object with a time, a severity and a message; @wanted lines have the text. */
static void check_json(const char *name, const char *text)
{
	unsigned int n = 0;

	while (*text) {
		const char *end = strchr(text, '\n');
		struct errbuf eb = { "" };
		struct json *line;

		ck_assert_msg(end, "%s: no end of line: %s", name, text);
		line = json_parse(text, (size_t)(end - text), &eb);
		ck_assert_msg(line, "%s: no JSON (%s): %.200s", name, eb.text,
			      text);
		ck_assert_msg(json_string(json_get(line, "ts")) &&
				      json_string(json_get(line, "severity")) &&
				      json_string(json_get(line, "message")),
			      "%s: %.200s", name, text);
		json_free(line);
		text = end + 1;
		n++;
	}
	ck_assert_msg(n, "%s: nothing was logged", name);
}

static const struct {
	const char *name, *config, *flags;
	int status;
	const char *has;
} formats[] = {
	/* Warnings that come while the configuration is read are lines, too. */
	{ "flag", NULL,
	  "--logging-format=json --ipvs-scheduler=rr --manifests m --dry-run",
	  0, "--ipvs-scheduler" },
	{ "flag behind what it warns of", NULL,
	  "--ipvs-scheduler=rr --manifests m --dry-run --logging-format=json",
	  0, "--ipvs-scheduler" },
	{ "file", HEADER "speed: high\nlogging: {format: json}\n",
	  "--manifests m --dry-run", 0, "speed" },
	{ "flag over file", HEADER "speed: high\nlogging: {format: text}\n",
	  "--logging-format=json --manifests m --dry-run", 0, "speed" },
	{ "bad value in the file",
	  HEADER "logging: {format: json}\noomScoreAdj: 5000\n", "", 2,
	  "oomScoreAdj" },
	{ "bad flag", NULL, "--logging-format=json --cluster-cidr=x", 2,
	  "--cluster-cidr" },
	{ "bad file", "a: [", "--logging-format=json", 2, "config.yaml" },
	{ "objects", NULL,
	  "--logging-format=json --manifests missing --dry-run", 1, "missing" },
};

START_TEST(json_from_the_first_line)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	struct scratch scratch;
	char command[256];
	int status;

	scratch_enter(&scratch);
	ck_assert_int_eq(mkdir("m", 0755), 0);
	write_file("m/node.yaml", NODE);
	if (formats[_i].config)
		write_file("config.yaml", formats[_i].config);
	snprintf(command, sizeof(command), "./vipmap %s %s",
		 formats[_i].config ? "--config=config.yaml" : "",
		 formats[_i].flags);
	status = run_apart(command, &out, &err);
	ck_assert_msg(status == formats[_i].status, "%s: status %d:\n%s",
		      formats[_i].name, status, err.text);
	check_json(formats[_i].name, err.text);
	ck_assert_msg(strstr(err.text, formats[_i].has), "%s: want %s, got %s",
		      formats[_i].name, formats[_i].has, err.text);
	scratch_leave(&scratch);
	strbuf_free(&out);
	strbuf_free(&err);
}
END_TEST

/* A node with one Service in "m", and a namespace. False: skipped. */
static bool begin(struct scratch *s)
{
	scratch_enter(s);
	if (!program_namespace()) {
		scratch_leave(s);
		return false;
	}
	ck_assert_int_eq(mkdir("m", 0755), 0);
	write_file("m/node.yaml", NODE);
	write_file("m/a.yaml", WEB(ONE));
	return true;
}

static void end(struct scratch *s, pid_t pid)
{
	ck_assert_int_eq(daemon_stop(pid, SIGTERM), 0);
	scratch_leave(s);
}

START_TEST(daemon_logs_json)
{
	struct scratch s;
	pid_t pid;
	char *log;

	if (!begin(&s))
		return;
	pid = daemon_start(FLAGS "--manifests m --logging-format=json -v 3");
	until_rule("10.180.1.1");
	write_file("m/a.yaml", WEB(TWO));
	until_rule("10.180.1.2");
	until_logged("\"event\":\"update\",\"service\":\"shop/web:http\"");
	log = read_whole("log");
	check_json("daemon", log);
	free(log);
	end(&s, pid);
}
END_TEST

/* Both ways, and a bad file leaves the format alone. */
START_TEST(format_after_a_reload)
{
	struct scratch s;
	pid_t pid;
	char *log;

	if (!begin(&s))
		return;
	write_file("config.yaml", HEADER FILES "logging: {format: text}\n");
	pid = daemon_start("--config=config.yaml --manifests m");
	until_rule("10.180.1.1");
	write_file("config.yaml", HEADER FILES "logging: {format: xml}\n");
	until_logged("error: configuration stays as it was");
	write_file("config.yaml", HEADER FILES "logging: {format: json}\n");
	sleep(3); /* nothing need be said of it */
	write_file("config.yaml", HEADER FILES "logging: {format: xml}\n");
	until_logged("\"severity\":\"error\"");
	log = read_whole("log");
	ck_assert_ptr_nonnull(
		strstr(log, "\"message\":\"configuration stays as it was"));
	free(log);
	write_file("config.yaml", HEADER FILES "logging: {format: text}\n");
	sleep(3);
	write_file("config.yaml", HEADER FILES "logging: {format: yml}\n");
	until_logged("\"yml\" is not known");
	end(&s, pid);
}
END_TEST

#define NODE_JSON                                                                                \
	"{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"node1\"},\"status\":" \
	"{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"192.168.7.11\"}]}}"
#define SERVICE_JSON                                                                            \
	"{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"web\","           \
	"\"namespace\":\"shop\"},\"spec\":{\"clusterIP\":\"172.30.0.41\",\"ports\":[{\"name\":" \
	"\"http\",\"port\":80}]}}"
#define SLICE_JSON(more)                                                                         \
	"{\"apiVersion\":\"discovery.k8s.io/"                                                    \
	"v1\",\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":"                                \
	"\"web-a\",\"namespace\":\"shop\",\"labels\":{\"kubernetes.io/service-name\":\"web\"}}," \
	"\"addressType\":\"IPv4\",\"ports\":[{\"name\":\"http\",\"port\":8080}],\"endpoints\":[" \
	"{\"addresses\":[\"10.180.1.1\"]}" more "]}"

static unsigned int count_lines(const char *log, const char *text)
{
	unsigned int n = 0;

	while ((log = strstr(log, text))) {
		log += strlen(text);
		n++;
	}
	return n;
}

static const struct {
	int level;
	bool ports, syncs, requests;
} levels[] = {
	{ 0, false, false, false },
	{ 1, true, false, false },
	{ 2, true, true, false },
	{ 3, true, true, true },
};

static void check_level(int row, const char *log)
{
	unsigned int added = count_lines(
		log, "shop/web:http (tcp, IPv4): added, 1 virtual IPs");
	unsigned int changed = count_lines(
		log, "shop/web:http (tcp, IPv4): changed, endpoints: 2, were 1");
	unsigned int syncs = count_lines(log, "synced IPv4: ");
	unsigned int requests = count_lines(log, "request: GET /api/v1/services?");

	ck_assert_msg(added == levels[row].ports && changed == levels[row].ports &&
			      (syncs >= 2) == levels[row].syncs &&
			      (requests >= 1) == levels[row].requests,
		      "-v %d: added %u, changed %u, syncs %u, requests %u:\n%s",
		      levels[row].level, added, changed, syncs, requests, log);
}

/* By an API server, so that there are requests. */
START_TEST(levels_of_the_log)
{
	struct scratch s;
	struct fake *fake;
	char command[256];
	pid_t pid;
	char *log;

	if (!program_namespace())
		return;
	fake = fake_start(NULL);
	scratch_enter(&s);
	fake_tell(fake, "{\"op\":\"put\",\"object\":" NODE_JSON "}");
	fake_tell(fake, "{\"op\":\"put\",\"object\":" SERVICE_JSON "}");
	fake_tell(fake, "{\"op\":\"put\",\"object\":" SLICE_JSON("") "}");
	snprintf(command, sizeof(command),
		 FLAGS "--master=http://127.0.0.1:%d -v %d", fake_port(fake),
		 levels[_i].level);
	pid = daemon_start(command);
	until_rule("10.180.1.1");
	fake_tell(fake, "{\"op\":\"put\",\"object\":" SLICE_JSON(
				",{\"addresses\":[\"10.180.1.2\"]}") "}");
	until_rule("10.180.1.2");
	sleep(1);
	log = read_whole("log");
	check_level(_i, log);
	free(log);
	end(&s, pid);
	fake_stop(fake);
}
END_TEST

/* ---- each field */

#define EXPOSED                                                                             \
	NODE "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n" \
	     "spec: {type: NodePort, clusterIP: 172.30.0.41, externalIPs: [203.0.113.9], "  \
	     "ports: [{name: http, port: 80, nodePort: 30080}]}\n" SLICE(ONE)

#define DRY_RUN "--manifests objects.yaml --dry-run"
#define INIT_ONLY "--init-only"

/*
 * The field with @value makes the program say something else and end with
 * @status. With @without, that is the whole file before, and @value the whole
 * file after. Or a test by the name of @test in
 * @suite shows it.
 */
static const struct {
	const char *path, *without, *value, *flags;
	int status;
	const char *suite, *test;
} behaviours[] = {
	{ "featureGates", NULL, "{AllowServiceExternalIPs: false}", DRY_RUN, 0,
	  NULL, NULL },
	{ "clientConnection.kubeconfig", NULL, "missing", EXPLAIN, 2, NULL, NULL },
	{ "clientConnection.acceptContentTypes", NULL, NULL, NULL, 0,
	  "test_apisource.c", "accept_content_types" },
	{ "clientConnection.contentType", NULL, NULL, NULL, 0,
	  "test_apisource.c", "content_type" },
	{ "clientConnection.qps", NULL, NULL, NULL, 0, "test_backoff.c",
	  "limits[_i].qps" },
	{ "clientConnection.burst", NULL, NULL, NULL, 0, "test_backoff.c",
	  "limits[_i].burst" },
	{ "logging.format", NULL, NULL, NULL, 0, "test_settings.c",
	  "json_from_the_first_line" },
	{ "logging.verbosity", NULL, NULL, NULL, 0, "test_settings.c",
	  "levels_of_the_log" },
	{ "hostnameOverride", NULL, "node2", DRY_RUN, 0, NULL, NULL },
	{ "bindAddress", NULL, "192.168.7.12", DRY_RUN, 0, NULL, NULL },
	{ "healthzBindAddress", NULL, NULL, NULL, 0, "test_daemon.c",
	  "healthzBindAddress" },
	{ "metricsBindAddress", NULL, NULL, NULL, 0, "test_daemon.c",
	  "metricsBindAddress" },
	{ "bindAddressHardFail", NULL, NULL, NULL, 0, "test_daemon.c", "hard-fail" },
	{ "mode", NULL, "ipvs", DRY_RUN, 2, NULL, NULL },
	{ "nftables.masqueradeBit", NULL, "15", DRY_RUN, 0, NULL, NULL },
	{ "nftables.masqueradeAll", NULL, "true", DRY_RUN, 0, NULL, NULL },
	{ "nftables.syncPeriod", NULL, NULL, NULL, 0, "test_sync.c",
	  "sync_period_ms" },
	{ "nftables.minSyncPeriod", NULL, NULL, NULL, 0, "test_sync.c",
	  "min_sync_period_ms" },
	{ "detectLocalMode", "detectLocal: {bridgeInterface: br0}\n",
	  "detectLocal: {bridgeInterface: br0}\ndetectLocalMode: BridgeInterface\n",
	  DRY_RUN, 0, NULL, NULL },
	{ "detectLocal.bridgeInterface",
	  "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: br0}\n",
	  "detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: br1}\n",
	  DRY_RUN, 0, NULL, NULL },
	{ "detectLocal.interfaceNamePrefix",
	  "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: v}\n",
	  "detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: w}\n",
	  DRY_RUN, 0, NULL, NULL },
	{ "clusterCIDR", NULL, "10.180.0.0/16", DRY_RUN, 0, NULL, NULL },
	{ "nodePortAddresses", NULL, "[all]", DRY_RUN, 0, NULL, NULL },
	{ "oomScoreAdj", NULL, "77", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.maxPerCore", NULL, "500000", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.min", NULL, "900000", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.tcpEstablishedTimeout", NULL, "77m", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.tcpCloseWaitTimeout", NULL, "77s", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.tcpBeLiberal", NULL, "true", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.udpTimeout", NULL, "77s", INIT_ONLY, 0, NULL, NULL },
	{ "conntrack.udpStreamTimeout", NULL, "177s", INIT_ONLY, 0, NULL, NULL },
};

/* What the program says with @config, without the times of its log. */
static int run_with(const char *config, const char *flags, struct strbuf *said)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	char command[256];
	int status;

	write_file("config.yaml", config);
	snprintf(command, sizeof(command),
		 "unshare -n ./vipmap --config=config.yaml %s 2>&1 | sed 's/^20[^ ]* //'",
		 flags);
	run_apart(command, &out, &err);
	strbuf_adds(said, out.text);
	snprintf(command, sizeof(command),
		 "unshare -n ./vipmap --config=config.yaml %s", flags);
	status = run_apart(command, &out, &err);
	strbuf_free(&out);
	strbuf_free(&err);
	return status;
}

static void make_config(char *text, size_t size, int row)
{
	const char *path = behaviours[row].path, *value = behaviours[row].value;
	const char *dot = strrchr(path, '.');

	if (behaviours[row].without)
		snprintf(text, size, HEADER "%s", value);
	else if (dot)
		snprintf(text, size, HEADER "%.*s: {%s: %s}\n",
			 (int)(dot - path), path, dot + 1, value);
	else
		snprintf(text, size, HEADER "%s: %s\n", path, value);
}

START_TEST(field_acts)
{
	const char *others = behaviours[_i].without ? behaviours[_i].without : "";
	struct strbuf before = STRBUF_INIT, after = STRBUF_INIT;
	char without[512], with[512], *source;
	struct scratch scratch;
	int status;

	if (behaviours[_i].suite) {
		snprintf(without, sizeof(without), "tests/unit/%s",
			 behaviours[_i].suite);
		source = read_whole(without);
		ck_assert_msg(strstr(source, behaviours[_i].test),
			      "%s: no %s in %s", behaviours[_i].path,
			      behaviours[_i].test, without);
		free(source);
		return;
	}
	if (geteuid() != 0) {
		test_skipped("needs root");
		return;
	}
	scratch_enter(&scratch);
	write_file("objects.yaml", EXPOSED);
	snprintf(without, sizeof(without), HEADER "%s", others);
	make_config(with, sizeof(with), _i);
	run_with(without, behaviours[_i].flags, &before);
	status = run_with(with, behaviours[_i].flags, &after);
	ck_assert_msg(status == behaviours[_i].status, "%s: status %d:\n%.1000s",
		      behaviours[_i].path, status, after.text);
	ck_assert_msg(strcmp(before.text, after.text) != 0,
		      "%s: makes no difference:\n%.1000s", behaviours[_i].path,
		      after.text);
	scratch_leave(&scratch);
	strbuf_free(&before);
	strbuf_free(&after);
}
END_TEST

START_TEST(no_field_is_forgotten)
{
	int i;

	for_each_config_field (field, &proxy_schema) {
		if (field->type == FIELD_HEADER || field->traits & FIELD_UNUSED)
			continue;
		for (i = 0; i < N_ROWS(behaviours); i++)
			if (strcmp(behaviours[i].path, field->path) == 0)
				break;
		ck_assert_msg(i < N_ROWS(behaviours),
			      "%s: who shows that it acts?", field->path);
	}
}
END_TEST

/* ---- VipmapConfiguration */

#define VIPMAP "apiVersion: vipmap/v1alpha1\nkind: VipmapConfiguration\n"

static const struct {
	const char *name, *text; /* NULL: there is no such file */
	const char *error;	 /* NULL: good */
} vipmap_files[] = {
	{ "nothing in it", VIPMAP, NULL },
	{ "all defaults",
	  VIPMAP
	  "closeConnections: Never\nnoEndpoints: Reject\nnoMasqueradeCIDRs: []\n"
	  "answerPing: false\nserviceCounters: false\nfastPath: {interfaces: []}\n"
	  "takeOver: None\n",
	  NULL },
	{ "BEY-1", VIPMAP "closeConnections: EndpointGone\n", NULL },
	{ "nothing said",
	  VIPMAP "closeConnections: ''\nnoEndpoints: \"\"\ntakeOver: ''\n", NULL },
	{ "BEY-1 wrong word", VIPMAP "closeConnections: Always\n",
	  "closeConnections: \"Always\" is not known, must be Never or EndpointGone" },
	{ "no file", NULL, "vipmap.yaml: No such file" },
	{ "unknown field", VIPMAP "speed: high\n",
	  "vipmap.yaml: speed: unknown field" },
	{ "unknown field below", VIPMAP "fastPath: {ports: []}\n",
	  "vipmap.yaml: fastPath.ports: unknown field" },
	{ "repeated field", VIPMAP "answerPing: false\nanswerPing: false\n",
	  "vipmap.yaml: answerPing: repeated" },
	{ "wrong type", VIPMAP "answerPing: 1\n",
	  "vipmap.yaml: answerPing: a number where a boolean belongs" },
	{ "wrong word", VIPMAP "noEndpoints: Drop\n",
	  "noEndpoints: \"Drop\" is not known, must be Reject or Pass" },
	{ "BEY-3: overlapping, repeated, of both families, with host bits and leading zeros",
	  VIPMAP "noMasqueradeCIDRs: [10.0.0.0/8, 10.1.0.0/16, 10.0.0.0/8, 010.244.000.007/16, "
		 "'::/0', 'fd00::/8', 0.0.0.0/0]\n",
	  NULL },
	{ "BEY-3: an address", VIPMAP "noMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.1]\n",
	  "noMasqueradeCIDRs: \"10.0.0.1\" is not a range (ADDRESS/LENGTH)" },
	{ "BEY-3: too long", VIPMAP "noMasqueradeCIDRs: ['fd00::/129']\n",
	  "noMasqueradeCIDRs: \"fd00::/129\" is not a range" },
	{ "BEY-3: a word", VIPMAP "noMasqueradeCIDRs: [all]\n",
	  "noMasqueradeCIDRs: \"all\" is not a range" },
	{ "BEY-3: nothing", VIPMAP "noMasqueradeCIDRs: ['']\n",
	  "noMasqueradeCIDRs: \"\" is not a range" },
	{ "interfaces",
	  VIPMAP "fastPath: {interfaces: [eth0, 'cali*', '*', fifteen-letters*]}\n",
	  NULL },
	{ "name of an interface, too long",
	  VIPMAP "fastPath: {interfaces: [eth0, sixteen-letters0]}\n",
	  "fastPath.interfaces: \"sixteen-letters0\" is neither the name of an interface nor" },
	{ "name of an interface, too long for a beginning",
	  VIPMAP "fastPath: {interfaces: ['sixteen-letters0*']}\n",
	  "fastPath.interfaces: \"sixteen-letters0*\" is neither" },
	{ "name of an interface, nothing", VIPMAP "fastPath: {interfaces: ['']}\n",
	  "fastPath.interfaces: \"\" is neither" },
	{ "name of an interface, impossible",
	  VIPMAP "fastPath: {interfaces: [a/b]}\n",
	  "fastPath.interfaces: \"a/b\" is neither" },
	{ "too many interfaces",
	  VIPMAP
	  "fastPath: {interfaces: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]}\n",
	  "fastPath.interfaces: at most 16" },
	{ "another kind", HEADER, "vipmap.yaml: apiVersion: " },
	{ "another version", "apiVersion: vipmap/v2\nkind: VipmapConfiguration\n",
	  "vipmap.yaml: apiVersion: \"vipmap/v2\" is not vipmap/v1alpha1" },
};

static void check_vipmap_file(const char *name, const char *text, const char *error)
{
	struct strbuf out = STRBUF_INIT, err = STRBUF_INIT;
	int status;

	if (text)
		write_file("vipmap.yaml", text);
	status = run_apart("./vipmap --vipmap-config=vipmap.yaml --manifests m --dry-run "
			   "--hostname-override=node1",
			   &out, &err);
	ck_assert_msg(status == (error ? 2 : 0), "%s: status %d:\n%s", name,
		      status, err.text);
	if (error)
		ck_assert_msg(strstr(err.text, error), "%s: want '%s', got %s",
			      name, error, err.text);
	else
		ck_assert_msg(!*err.text, "%s: %s", name, err.text);
	strbuf_free(&out);
	strbuf_free(&err);
}

START_TEST(vipmap_file_is_checked)
{
	struct scratch scratch;

	scratch_enter(&scratch);
	ck_assert_int_eq(mkdir("m", 0755), 0);
	write_file("m/node.yaml", NODE);
	check_vipmap_file(vipmap_files[_i].name, vipmap_files[_i].text,
			  vipmap_files[_i].error);
	scratch_leave(&scratch);
}
END_TEST

/* CFG-3 for the second file. */
START_TEST(vipmap_file_is_followed)
{
	struct strbuf answer = STRBUF_INIT;
	struct scratch s;
	pid_t pid;

	if (!begin(&s))
		return;
	write_file("vipmap.yaml", VIPMAP);
	pid = daemon_start(FLAGS "--manifests m --vipmap-config=vipmap.yaml");
	until_rule("10.180.1.1");
	write_file("vipmap.yaml", VIPMAP "answerPing: maybe\n");
	until_logged(
		"configuration stays as it was: vipmap.yaml: answerPing: a string where");
	ck_assert_int_eq(fetch("127.0.0.1", 10249, "/configz", &answer), 200);
	ck_assert_ptr_nonnull(strstr(
		answer.text, "\"vipmap\":{\"kind\":\"VipmapConfiguration\""));
	ck_assert_ptr_nonnull(strstr(answer.text, "\"closeConnections\":\"Never\""));
	strbuf_free(&answer);
	end(&s, pid);
}
END_TEST

/* What the table of fields knows, the manual does: flags, and fields that have none. */
START_TEST(manual_has_all_settings)
{
	static char manual[1 << 20];
	FILE *f = fopen("man/vipmap.8", "re");
	char want[128];
	size_t n;

	ck_assert_msg(f != NULL, "man/vipmap.8: run this in the top folder");
	n = fread(manual, 1, sizeof(manual) - 1, f);
	fclose(f);
	ck_assert_uint_lt(n, sizeof(manual) - 1);
	for_each_config_field (field, &proxy_schema) {
		if (field->type == FIELD_HEADER ||
		    (!field->flag && field->traits & FIELD_UNUSED))
			continue;
		if (field->flag)
			snprintf(want, sizeof(want), "Fl Fl %s", field->flag + 2);
		else
			snprintf(want, sizeof(want), "%s", field->path);
		ck_assert_msg(strstr(manual, want) != NULL,
			      "the manual lacks \"%s\"", want);
	}
	for_each_config_field (field, &vipmap_schema) {
		snprintf(want, sizeof(want), ".Li %s", field->path);
		ck_assert_msg(field->type == FIELD_HEADER ||
				      strstr(manual, want) != NULL,
			      "the manual lacks \"%s\"", want);
	}
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("settings");
	TCase *tc = tcase_create("settings");

	tcase_set_timeout(tc, 60);
	ADD_LOOP(tc, json_from_the_first_line, formats);
	tcase_add_test(tc, daemon_logs_json);
	tcase_add_test(tc, format_after_a_reload);
	ADD_LOOP(tc, field_acts, behaviours);
	tcase_add_test(tc, no_field_is_forgotten);
	tcase_add_test(tc, manual_has_all_settings);
	ADD_LOOP(tc, vipmap_file_is_checked, vipmap_files);
	tcase_add_test(tc, vipmap_file_is_followed);
	ADD_LOOP(tc, levels_of_the_log, levels);
	suite_add_tcase(suite, tc);
	return suite;
}
