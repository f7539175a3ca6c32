/* The command line: flags of the spec's section 20, CFG-4, FLAG-1, FLAG-2, and the node's name. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/options.h"
#include "proxy/base/strbuf.h"
#include "proxy/commands/commands.h"

#include "tests/support/suite.h"

enum { N_MAX_ARGS = 10 };

/* Stands for the reader of files: the "file" is one of these names. */
static int fake_read(void *env_ctx, const char *path, struct config *config,
		     void (*warn)(void *, const char *), void *ctx,
		     struct errbuf *eb)
{
	(void)env_ctx;
	if (strcmp(path, "missing") == 0)
		return errf(eb, -ENOENT, "%s: no such file", path);
	if (strcmp(path, "empty") == 0)
		return 0;
	if (strcmp(path, "ipv6") == 0)
		return config_set(&config->bind_address, "::");
	if (strcmp(path, "bad") == 0) {
		config->masquerade_bit = 99;
		return 0;
	}
	ck_assert_str_eq(path, "file");
	warn(ctx, "from the file");
	config->verbosity = 1;
	config->masquerade_all = true;
	if (config_set(&config->cluster_cidr, "10.0.0.0/8") ||
	    config_set(&config->hostname_override, "of-file") ||
	    config_set(&config->metrics_bind_address, "0.0.0.0:9999") ||
	    config_set(&config->kubeconfig, "/file/kubeconfig"))
		return -ENOMEM;
	return 0;
}

static void note(void *ctx, const char *message)
{
	struct strbuf *notes = ctx;

	strbuf_adds(notes, message);
	strbuf_addc(notes, '\n');
}

static int takes_words(const struct options *options, struct errbuf *eb)
{
	(void)options;
	(void)eb;
	return 0;
}

/* One with flags of its own, besides the program's commands. */
static const struct command *find_command(const char *word)
{
	static const struct command_flag own[] = {
		{ "namespace", 'n', false, "NAME" },
		{ "watch", 'w', true, "go on" },
		{ "v", 0, false, "of its own" },
		{ 0 },
	};
	static const struct command get = { .word = "get",
					    .flags = own,
					    .check = takes_words };

	return strcmp(word, "get") == 0 ? &get : command_find(word);
}

static int parse(const char *const *args, struct options *o,
		 struct strbuf *notes, struct errbuf *eb)
{
	const struct options_env env = {
		.read_config = fake_read,
		.warn = note,
		.find_command = find_command,
		.ctx = notes,
	};
	const char *argv[N_MAX_ARGS + 2] = { "vipmap" };
	int argc = 1;

	for (; argc <= N_MAX_ARGS && args[argc - 1]; argc++)
		argv[argc] = args[argc - 1];
	return options_parse(argc, (char *const *)(const void *)argv, &env, o, eb);
}

#define ARGS(...) ((const char *[N_MAX_ARGS + 1]){ __VA_ARGS__ })

/* Parses what must be good. */
static struct options good(const char *row, const char *const *args)
{
	struct strbuf notes = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct options o = { 0 };
	int err = parse(args, &o, &notes, &eb);

	ck_assert_msg(err == 0, "%s: %s", row, eb.text);
	strbuf_free(&notes);
	return o;
}

/* Flag by flag: what the effective configuration says afterwards. */
static const struct {
	const char *name;
	const char *args[N_MAX_ARGS];
	const char *want; /* contained in config_format()'s text */
} fields[] = {
	{ "kubeconfig", { "--kubeconfig=/k" }, "\"kubeconfig\":\"/k\"" },
	{ "value apart", { "--kubeconfig", "/k" }, "\"kubeconfig\":\"/k\"" },
	{ "the last wins",
	  { "--kubeconfig=/a", "--kubeconfig=/b" },
	  "\"kubeconfig\":\"/b\"" },
	{ "hostname-override",
	  { "--hostname-override=n" },
	  "\"hostnameOverride\":\"n\"" },
	{ "bind-address", { "--bind-address=10.0.0.1" }, "\"bindAddress\":\"10.0.0.1\"" },
	{ "bind-address IPv6",
	  { "--bind-address=::" },
	  "\"healthzBindAddress\":\"[::]:10256\",\"metricsBindAddress\":\"[::1]:10249\"" },
	{ "bind-address IPv6, own healthz",
	  { "--bind-address=::", "--healthz-bind-address=0.0.0.0:10256" },
	  "\"healthzBindAddress\":\"0.0.0.0:10256\"" },
	{ "healthz-bind-address",
	  { "--healthz-bind-address=1.2.3.4" },
	  "\"healthzBindAddress\":\"1.2.3.4:10256\"" },
	{ "healthz off", { "--healthz-bind-address=" }, "\"healthzBindAddress\":\"\"" },
	{ "healthz off, apart",
	  { "--healthz-bind-address", "" },
	  "\"healthzBindAddress\":\"\"" },
	{ "healthz-port 0", { "--healthz-port=0" }, "\"healthzBindAddress\":\"\"" },
	{ "healthz-port completes",
	  { "--healthz-bind-address=1.2.3.4", "--healthz-port=81" },
	  "\"healthzBindAddress\":\"1.2.3.4:81\"" },
	{ "healthz-port completes IPv6",
	  { "--healthz-port=81", "--healthz-bind-address=::1" },
	  "\"healthzBindAddress\":\"[::1]:81\"" },
	{ "healthz-port loses to the address",
	  { "--healthz-port=81" },
	  "\"healthzBindAddress\":\"0.0.0.0:10256\"" },
	{ "metrics-bind-address",
	  { "--metrics-bind-address=0.0.0.0" },
	  "\"metricsBindAddress\":\"0.0.0.0:10249\"" },
	{ "metrics off", { "--metrics-bind-address=" }, "\"metricsBindAddress\":\"\"" },
	{ "metrics off, and a port",
	  { "--metrics-bind-address=", "--metrics-port=81" },
	  "\"metricsBindAddress\":\"\"" },
	{ "metrics-port 0", { "--metrics-port", "0" }, "\"metricsBindAddress\":\"\"" },
	{ "bind-address-hard-fail",
	  { "--bind-address-hard-fail" },
	  "\"bindAddressHardFail\":true" },
	{ "proxy-mode", { "--proxy-mode=nftables" }, "\"mode\":\"nftables\"" },
	{ "masquerade-all", { "--masquerade-all" }, "\"masqueradeAll\":true" },
	{ "masquerade-all=true", { "--masquerade-all=true" }, "\"masqueradeAll\":true" },
	{ "masquerade-all=1", { "--masquerade-all=1" }, "\"masqueradeAll\":true" },
	{ "masquerade-all=false",
	  { "--masquerade-all", "--masquerade-all=False" },
	  "\"masqueradeAll\":false" },
	{ "iptables-sync-period",
	  { "--iptables-sync-period=1m" },
	  "\"syncPeriod\":\"1m0s\"" },
	{ "iptables-min-sync-period",
	  { "--iptables-min-sync-period", "2s" },
	  "\"minSyncPeriod\":\"2s\"" },
	{ "config-sync-period",
	  { "--config-sync-period=1h" },
	  "\"configSyncPeriod\":\"1h0m0s\"" },
	{ "detect-local-mode",
	  { "--detect-local-mode=NodeCIDR" },
	  "\"detectLocalMode\":\"NodeCIDR\"" },
	{ "pod-bridge-interface",
	  { "--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cni0" },
	  "\"bridgeInterface\":\"cni0\"" },
	{ "pod-interface-name-prefix",
	  { "--detect-local-mode=InterfaceNamePrefix",
	    "--pod-interface-name-prefix=veth" },
	  "\"interfaceNamePrefix\":\"veth\"" },
	{ "cluster-cidr",
	  { "--cluster-cidr=10.0.0.0/8,fd00::/8" },
	  "\"clusterCIDR\":\"10.0.0.0/8,fd00::/8\"" },
	{ "nodeport-addresses",
	  { "--nodeport-addresses=10.0.0.0/8,fd00::/8", "--nodeport-addresses",
	    "11.0.0.0/8" },
	  "\"nodePortAddresses\":[\"10.0.0.0/8\",\"fd00::/8\",\"11.0.0.0/8\"]" },
	{ "nodeport-addresses empty",
	  { "--nodeport-addresses=" },
	  "\"nodePortAddresses\":null" },
	{ "conntrack-max-per-core",
	  { "--conntrack-max-per-core=0" },
	  "\"maxPerCore\":0" },
	{ "conntrack-min", { "--conntrack-min=5" }, "\"min\":5" },
	{ "conntrack-tcp-timeout-established",
	  { "--conntrack-tcp-timeout-established=5s" },
	  "\"tcpEstablishedTimeout\":\"5s\"" },
	{ "conntrack-tcp-timeout-close-wait",
	  { "--conntrack-tcp-timeout-close-wait=6s" },
	  "\"tcpCloseWaitTimeout\":\"6s\"" },
	{ "conntrack-tcp-be-liberal",
	  { "--conntrack-tcp-be-liberal" },
	  "\"tcpBeLiberal\":true" },
	{ "conntrack-udp-timeout",
	  { "--conntrack-udp-timeout=7s" },
	  "\"udpTimeout\":\"7s\"" },
	{ "conntrack-udp-timeout-stream",
	  { "--conntrack-udp-timeout-stream=8s" },
	  "\"udpStreamTimeout\":\"8s\"" },
	{ "oom-score-adj", { "--oom-score-adj", "-5" }, "\"oomScoreAdj\":-5" },
	{ "SVC-10 feature-gates",
	  { "--feature-gates=NFTablesProxyMode=true,AllowServiceExternalIPs=false" },
	  "\"AllowServiceExternalIPs\":false" },
	{ "kube-api-content-type",
	  { "--kube-api-content-type=application/json" },
	  "\"contentType\":\"application/json\"" },
	{ "kube-api-qps", { "--kube-api-qps=7.5" }, "\"qps\":7.5" },
	{ "kube-api-burst", { "--kube-api-burst=8" }, "\"burst\":8" },
	{ "v", { "--v=4" }, "\"verbosity\":4" },
	{ "-v apart", { "-v", "4" }, "\"verbosity\":4" },
	{ "-v joined", { "-v4" }, "\"verbosity\":4" },
	{ "-v=", { "-v=4" }, "\"verbosity\":4" },
	{ "logging-format", { "--logging-format=json" }, "\"format\":\"json\"" },
	{ "FLAG-1 masqueradeBit keeps",
	  { "--iptables-masquerade-bit=3" },
	  "\"masqueradeBit\":14" },
};

START_TEST(flag_sets_field)
{
	struct options o = good(fields[_i].name, fields[_i].args);
	struct strbuf json = STRBUF_INIT;

	config_format(o.config, &json);
	ck_assert_msg(strstr(json.text, fields[_i].want) != NULL,
		      "%s: want %s in %s", fields[_i].name, fields[_i].want,
		      json.text);
	ck_assert_int_eq(o.action, ACTION_RUN);
	strbuf_free(&json);
	options_free(&o);
}
END_TEST

static const struct {
	const char *name;
	const char *args[N_MAX_ARGS];
	enum action want;
} actions[] = {
	{ "nothing", { NULL }, ACTION_RUN },
	{ "once", { "--once" }, ACTION_ONCE },
	{ "once=false", { "--once=false" }, ACTION_RUN },
	{ "dry-run", { "--dry-run" }, ACTION_DRY_RUN },
	{ "dry-run wins over once", { "--dry-run", "--once" }, ACTION_DRY_RUN },
	{ "cleanup", { "--cleanup" }, ACTION_CLEANUP },
	{ "init-only", { "--init-only" }, ACTION_INIT_ONLY },
	{ "write-config-to", { "--write-config-to", "/f" }, ACTION_WRITE_CONFIG },
	{ "version", { "--version" }, ACTION_VERSION },
	{ "version raw", { "--version=raw" }, ACTION_VERSION },
	{ "help", { "--help" }, ACTION_HELP },
	{ "-h", { "-h" }, ACTION_HELP },
	{ "help wins", { "--version", "--help", "--once" }, ACTION_HELP },
	{ "help with a missing file", { "--config=missing", "--help" }, ACTION_HELP },
	{ "status", { "status" }, ACTION_COMMAND },
	{ "explain", { "explain", "10.0.0.1", "tcp", "10.0.0.2", "80" }, ACTION_COMMAND },
	{ "flags after a command", { "status", "-v", "2" }, ACTION_COMMAND },
	{ "after --", { "--", "status" }, ACTION_COMMAND },
	{ "a command's help", { "status", "--help" }, ACTION_HELP },
};

START_TEST(action)
{
	struct options o = good(actions[_i].name, actions[_i].args);

	ck_assert_msg(o.action == actions[_i].want, "%s: want %d, got %d",
		      actions[_i].name, actions[_i].want, o.action);
	options_free(&o);
}
END_TEST

static const struct {
	const char *name;
	const char *args[N_MAX_ARGS];
	const char *want; /* begins the error */
} errors[] = {
	{ "FLAG-2 unknown", { "--frobnicate" }, "unknown flag --frobnicate" },
	{ "FLAG-2 unknown with value", { "--frob=1" }, "unknown flag --frob" },
	{ "FLAG-2 abbreviated", { "--clean" }, "unknown flag --clean" },
	{ "FLAG-2 short", { "-x" }, "unknown flag -x" },
	{ "FLAG-2 positional", { "foo" }, "unknown command \"foo\"" },
	{ "FLAG-2 positional after flags",
	  { "--once", "true" },
	  "unknown command \"true\"" },
	{ "FLAG-2 after --", { "--", "--once" }, "unknown command \"--once\"" },
	{ "FLAG-2 lone dash", { "-" }, "unknown command \"-\"" },
	{ "no value", { "--kubeconfig" }, "--kubeconfig: needs a value" },
	{ "boolean", { "--once=maybe" }, "--once: \"maybe\" is neither true nor false" },
	{ "integer", { "-v", "two" }, "--v: \"two\" is not a whole number" },
	{ "integer empty", { "--v=" }, "--v: \"\" is not a whole number" },
	{ "integer too large", { "--oom-score-adj=99999999999" }, "--oom-score-adj: " },
	{ "integer range", { "--oom-score-adj=2000" }, "--oom-score-adj: 2000" },
	{ "float",
	  { "--kube-api-qps=many" },
	  "--kube-api-qps: \"many\" is not a number" },
	{ "float nan", { "--kube-api-qps=nan" }, "--kube-api-qps: " },
	{ "duration",
	  { "--iptables-sync-period=30" },
	  "--iptables-sync-period: \"30\" is not a duration" },
	{ "CFG-2 duration 0",
	  { "--iptables-sync-period=0" },
	  "--iptables-sync-period: must be" },
	{ "CFG-2 bind address",
	  { "--bind-address=" },
	  "--bind-address: \"\" is not an IP address" },
	{ "port",
	  { "--healthz-port=65536" },
	  "--healthz-port: \"65536\" is out of range" },
	{ "gate form",
	  { "--feature-gates=A" },
	  "--feature-gates: \"A\" is not of the form" },
	{ "gate value",
	  { "--feature-gates=A=on" },
	  "--feature-gates: \"A=on\" is not of the form" },
	{ "gate fixed",
	  { "--feature-gates=NFTablesProxyMode=false" },
	  "--feature-gates: NFTablesProxyMode: is always true" },
	{ "CFG-2 mode",
	  { "--proxy-mode=ipvs" },
	  "--proxy-mode: \"ipvs\" is not offered" },
	{ "NP-8",
	  { "--nodeport-addresses=primary,10.0.0.0/8,first" },
	  "--nodeport-addresses: \"first\" is neither" },
	{ "logging format", { "--logging-format=xml" }, "--logging-format: \"xml\"" },
	{ "take over",
	  { "--take-over=ipvs" },
	  "--take-over: \"ipvs\" is neither kube-proxy nor none" },
	{ "timeout", { "--timeout=30" }, "--timeout: \"30\" is not a duration" },
	{ "timeout of nothing",
	  { "--timeout=0" },
	  "--timeout: \"0\" is not longer than 0" },
	{ "two sources",
	  { "--manifests=a", "--kubeconfig=b" },
	  "--manifests and --kubeconfig exclude each other" },
	{ "two sources",
	  { "--manifests=a", "--master=b" },
	  "--manifests and --master exclude each other" },
	{ "no such file", { "--config=missing" }, "missing: no such file" },
	{ "CFG-2 bad file", { "--config=bad" }, "nftables.masqueradeBit: 99" },
	{ "CFG-4 ignored, but wrong",
	  { "--config=empty", "--iptables-sync-period=x" },
	  "--iptables-sync-period: \"x\" is not a duration" },
	{ "own flag before its command", { "-n", "prod", "get" }, "unknown flag -n" },
	{ "own flag without a value", { "get", "-n" }, "--namespace: needs a value" },
	{ "own flag neither true nor false",
	  { "get", "--watch=1x" },
	  "--watch: \"1x\" is neither true nor false" },
	{ "own flag with a longer name",
	  { "get", "--watching" },
	  "unknown flag --watching; vipmap --help lists all" },
	{ "status with more", { "status", "x" }, "status: unexpected argument \"x\"" },
	{ "explain without", { "explain" }, "explain: needs DESTINATION" },
	{ "explain source",
	  { "explain", "a", "tcp", "1.1.1.1", "1" },
	  "explain: source \"a\"" },
	{ "explain protocol",
	  { "explain", "1.1.1.1", "gre", "1.1.1.1", "1" },
	  "explain: protocol \"gre\"" },
	{ "explain ping with a port",
	  { "explain", "1.1.1.1", "icmp", "1.1.1.1", "1" },
	  "explain: icmp has no ports" },
	{ "explain destination",
	  { "explain", "1.1.1.1", "tcp", "b", "1" },
	  "explain: destination \"b\"" },
	{ "explain families",
	  { "explain", "1.1.1.1", "tcp", "::1", "1" },
	  "explain: source and destination are not of one family" },
	{ "explain port 0",
	  { "explain", "1.1.1.1", "tcp", "1.1.1.1", "0" },
	  "explain: port \"0\"" },
	{ "explain port",
	  { "explain", "1.1.1.1", "tcp", "1.1.1.1", "8o" },
	  "explain: port \"8o\" is not" },
};

START_TEST(usage_error)
{
	struct strbuf notes = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct options o = { .action = ACTION_COMMAND };
	int err = parse(errors[_i].args, &o, &notes, &eb);

	ck_assert_msg(err < 0, "%s: accepted", errors[_i].name);
	ck_assert_msg(strncmp(eb.text, errors[_i].want, strlen(errors[_i].want)) == 0,
		      "%s: want \"%s...\", got \"%s\"", errors[_i].name,
		      errors[_i].want, eb.text);
	ck_assert_msg(o.action == ACTION_COMMAND && !o.config,
		      "%s: options were touched", errors[_i].name);
	strbuf_free(&notes);
}
END_TEST

static const struct {
	const char *name;
	const char *args[N_MAX_ARGS];
	const char *want; /* contained in the warnings; NULL: there are none */
} warnings[] = {
	{ "nothing", { "--once" }, NULL },
	{ "FLAG-1 masquerade bit",
	  { "--iptables-masquerade-bit=3" },
	  "--iptables-masquerade-bit" },
	{ "FLAG-2 ipvs",
	  { "--ipvs-scheduler", "rr" },
	  "--ipvs-scheduler: has no effect" },
	{ "FLAG-2 ipvs boolean",
	  { "--ipvs-strict-arp" },
	  "--ipvs-strict-arp: has no effect" },
	{ "FLAG-2 localhost node ports",
	  { "--iptables-localhost-nodeports=false" },
	  "--iptables-localhost-nodeports: has no effect" },
	{ "healthz-port without effect",
	  { "--healthz-port=81" },
	  "--healthz-port: ignored" },
	{ "unknown gate",
	  { "--feature-gates=Foo=true" },
	  "--feature-gates: Foo: not known" },
	{ "known gates without effect",
	  { "--feature-gates=KubeProxyIPVS=true,KubeProxyNFTablesLocalhostNodePorts="
	    "true,NFTablesNetlink=false" },
	  NULL },
	{ "CFG-4 ignored",
	  { "--config=empty", "--cluster-cidr=11.0.0.0/8" },
	  "--cluster-cidr: ignored, the configuration file decides" },
	{ "CFG-4 kubeconfig",
	  { "--config=empty", "--kubeconfig=/k" },
	  "--kubeconfig: ignored" },
	{ "CFG-4 not ignored",
	  { "--config=empty", "--v=2", "--hostname-override=a",
	    "--logging-format=json", "--once", "--manifests=m" },
	  NULL },
	{ "CFG-6",
	  { "--nodeport-addresses=0.0.0.0/0,::/0" },
	  "node ports are open on all local" },
};

START_TEST(warning)
{
	struct strbuf notes = STRBUF_INIT;
	struct errbuf eb = { "" };
	struct options o = { 0 };
	int err = parse(warnings[_i].args, &o, &notes, &eb);
	const char *got = notes.text ? notes.text : "";

	ck_assert_msg(err == 0, "%s: %s", warnings[_i].name, eb.text);
	ck_assert_msg(warnings[_i].want ? strstr(got, warnings[_i].want) != NULL
					: !*got,
		      "%s: want \"%s\", got \"%s\"", warnings[_i].name,
		      warnings[_i].want ? warnings[_i].want : "", got);
	strbuf_free(&notes);
	options_free(&o);
}
END_TEST

START_TEST(file_and_flags)
{
	struct options o = good(
		"CFG-4", ARGS("--cluster-cidr=11.0.0.0/8", "--config", "file",
			      "--v=5", "--kubeconfig=/flag", "--manifests=m",
			      "--masquerade-all=false", "--logging-format=json"));

	CHECK_STR("CFG-4 the file wins", o.config->cluster_cidr, "10.0.0.0/8");
	CHECK_STR("CFG-4 the file wins", o.config->kubeconfig, "/file/kubeconfig");
	ck_assert(o.config->masquerade_all);
	CHECK_STR("CFG-4 no flag", o.config->hostname_override, "of-file");
	ck_assert_int_eq(o.config->verbosity, 5);
	CHECK_STR("CFG-4 logging flags win", o.config->logging_format, "json");
	CHECK_STR("no field in the file", o.config->manifests[0], "m");
	CHECK_STR("left to the default", o.config->healthz_bind_address,
		  "0.0.0.0:10256");
	CHECK_STR("of the file", o.config->metrics_bind_address, "0.0.0.0:9999");
	CHECK_STR("path", o.config_path, "file");
	options_free(&o);

	o = good("CFG-4", ARGS("--config=file", "--hostname-override=of-flag"));
	CHECK_STR("CFG-4 hostname-override wins", o.config->hostname_override,
		  "of-flag");
	options_free(&o);

	o = good("IPv6", ARGS("--config=ipv6"));
	CHECK_STR("default of an IPv6 node", o.config->healthz_bind_address,
		  "[::]:10256");
	CHECK_STR("default of an IPv6 node", o.config->metrics_bind_address,
		  "[::1]:10249");
	options_free(&o);
}
END_TEST

/* CFG-3: reading again starts from the defaults, not from what was there. */
START_TEST(parse_again)
{
	struct options o = good("first", ARGS("--config=file"));

	ck_assert(o.config->masquerade_all);
	options_free(&o);
	o = good("second", ARGS("--config=empty"));
	ck_assert(!o.config->masquerade_all);
	CHECK_STR("cluster CIDR", o.config->cluster_cidr, "");
	options_free(&o);
}
END_TEST

/* A command's own flags, before and after its words; in front of its word they are unknown. */
START_TEST(own_flags)
{
	struct options o =
		good("own", ARGS("get", "services", "-n", "prod", "--watch",
				 "-v=4", "--v=own", "-nshop", "x"));

	ck_assert_int_eq(o.action, ACTION_COMMAND);
	CHECK_STR("word", o.command->word, "get");
	ck_assert_uint_eq(o.n_words, 2);
	CHECK_STR("first", o.words[0], "services");
	CHECK_STR("second", o.words[1], "x");
	CHECK_STR("the last counts", options_own(&o, "namespace"), "shop");
	ck_assert(options_own_is_on(&o, "watch"));
	CHECK_STR("hides the program's", options_own(&o, "v"), "own");
	ck_assert_int_eq(o.config->verbosity, 4);
	ck_assert_ptr_null(options_own(&o, "output"));
	options_free(&o);

	o = good("off", ARGS("get", "--watch=false", "--namespace=a=b"));
	ck_assert(!options_own_is_on(&o, "watch"));
	CHECK_STR("value", options_own(&o, "namespace"), "a=b");
	options_free(&o);
}
END_TEST

START_TEST(paths)
{
	struct options o = good("paths", ARGS("--manifests", "a", "--manifests=-",
					      "--write-config-to=/out"));

	CHECK_STR("first", o.config->manifests[0], "a");
	CHECK_STR("second", o.config->manifests[1], "-");
	ck_assert_ptr_null(o.config->manifests[2]);
	CHECK_STR("write", o.write_config_path, "/out");
	ck_assert_int_eq(o.timeout_ms, 30000);
	ck_assert_ptr_null(o.config_path);
	options_free(&o);
}
END_TEST

/* Every flag of the usage text exists, and takes what the text says. */
START_TEST(usage)
{
	struct strbuf out = STRBUF_INIT;
	static const char *const some[] = { "--config ", "--manifests ",
					    "--dry-run ",
					    "--conntrack-udp-timeout-stream " };
	int i;

	options_usage(&out);
	ck_assert_int_eq(out.err, 0);
	for (i = 0; i < N_ROWS(some); i++)
		ck_assert_msg(strstr(out.text, some[i]) != NULL,
			      "no \"%s\" in the usage", some[i]);
	ck_assert_ptr_null(strstr(out.text, "--ipvs-"));
	strbuf_free(&out);
}
END_TEST

static const struct {
	const char *name, *override, *environment, *want;
	int err;
} names[] = {
	{ "override", "Node-A", "node-b", "node-a", 0 },
	{ "override trimmed", " \tNode-A\n", NULL, "node-a", 0 },
	{ "override only space", "  ", "node-b", "hostnameOverride: is empty",
	  -EINVAL },
	{ "environment", "", "Node-B", "node-b", 0 },
	{ "environment only space", "", " ", "NODE_NAME: is empty", -EINVAL },
	{ "host", "", NULL, NULL, 0 },
	{ "host, empty environment", "", "", NULL, 0 },
};

START_TEST(node_names)
{
	struct config *c = config_new();
	char name[NODE_NAME_SIZE] = "", host[NODE_NAME_SIZE] = "";
	struct errbuf eb = { "" };
	const char *want = names[_i].want;
	size_t i;
	int err;

	if (!want) {
		ck_assert_int_eq(gethostname(host, sizeof(host) - 1), 0);
		for (i = 0; host[i]; i++)
			if (host[i] >= 'A' && host[i] <= 'Z')
				host[i] = (char)(host[i] + 'a' - 'A');
		want = host;
	}
	ck_assert_int_eq(config_set(&c->hostname_override, names[_i].override), 0);
	err = node_name(c, names[_i].environment, name, &eb);
	ck_assert_msg(err == names[_i].err, "%s: got %d", names[_i].name, err);
	CHECK_STR(names[_i].name, err ? eb.text : name, want);
	config_free(c);
}
END_TEST

START_TEST(node_name_too_long)
{
	struct config *c = config_new();
	char name[NODE_NAME_SIZE] = "", longest[300];
	struct errbuf eb = { "" };

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	ck_assert_int_eq(config_set(&c->hostname_override, longest), 0);
	ck_assert_int_eq(node_name(c, NULL, name, &eb), -EINVAL);
	CHECK_STR("too long", eb.text, "hostnameOverride: longer than 255 bytes");
	config_free(c);
}
END_TEST

Suite *make_suite(void)
{
	Suite *suite = suite_create("options");
	TCase *tc = tcase_create("options");

	ADD_LOOP(tc, flag_sets_field, fields);
	ADD_LOOP(tc, action, actions);
	ADD_LOOP(tc, usage_error, errors);
	ADD_LOOP(tc, warning, warnings);
	tcase_add_test(tc, file_and_flags);
	tcase_add_test(tc, parse_again);
	tcase_add_test(tc, own_flags);
	tcase_add_test(tc, paths);
	tcase_add_test(tc, usage);
	ADD_LOOP(tc, node_names, names);
	tcase_add_test(tc, node_name_too_long);
	suite_add_tcase(suite, tc);
	return suite;
}
