/* kubeconfig files good and bad, in-cluster credentials, rotation; and that no
 * message contains what must not be seen. */
#include "watch/kubeconfig.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/support/apiserver.h"

/* "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" */
#define PEM_DATA                                                               \
	"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo="
#define PEM "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

/* What kubeadm writes for kube-proxy, with other paths. */
#define KUBEADM                                                                                   \
	"apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n"                                   \
	"    certificate-authority: ca.crt\n    server: https://192.0.2.1:6443\n"                 \
	"  name: default\ncontexts:\n- context:\n    cluster: default\n    namespace: default\n"  \
	"    user: default\n  name: default\ncurrent-context: default\nusers:\n- name: default\n" \
	"  user:\n    tokenFile: token\n"

#define CONFIG(cluster, user)                                                                      \
	"{\"current-context\":\"x\",\"contexts\":[{\"name\":\"w\"},{\"name\":\"x\",\"context\":"   \
	"{\"cluster\":\"c\",\"user\":\"u\"}}],\"clusters\":[{\"name\":\"c\",\"cluster\":{" cluster \
	"}}],\"users\":[{\"name\":\"u\",\"user\":{" user "}}]}"
#define SERVER "\"server\":\"https://h:1\""

static char *folder;

static struct credentials *parse(const char *text, struct errbuf *eb)
{
	return kubeconfig_parse(text, strlen(text), "/etc/k", eb);
}

static const struct {
	const char *name, *text;
	const char *error; /* part of it */
} bad[] = {
	{ "nothing", "", "not a kubeconfig" },
	{ "a list", "[]", "not a kubeconfig" },
	{ "no YAML", "a: [", "line" },
	{ "no current context", "{\"contexts\":[]}", "current-context: not set" },
	{ "current context is a number", "{\"current-context\":1}",
	  "current-context: not a string" },
	{ "unknown context", "{\"current-context\":\"x\"}",
	  "contexts: no entry named \"x\"" },
	{ "contexts no list", "{\"current-context\":\"x\",\"contexts\":{}}",
	  "contexts: not a list" },
	{ "unknown cluster",
	  "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{\"cluster\":"
	  "\"c\"}}]}",
	  "clusters: no entry named \"c\"" },
	{ "context without cluster",
	  "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{}}]}",
	  "contexts[x].cluster: not set" },
	{ "exec", CONFIG(SERVER, "\"exec\":{\"command\":\"s3cret\"}"),
	  "users[u].exec: not supported" },
	{ "auth provider", CONFIG(SERVER, "\"auth-provider\":{\"name\":\"gcp\"}"),
	  "users[u].auth-provider: not supported" },
	{ "impersonation", CONFIG(SERVER, "\"as\":\"admin\""),
	  "users[u].as: not supported" },
	{ "certificate without key",
	  CONFIG(SERVER, "\"client-certificate\":\"c.pem\""),
	  "users[u]: client-certificate and client-key need each other" },
	{ "data no base64", CONFIG("\"certificate-authority-data\":\"s3cret!\"", ""),
	  "clusters[c].certificate-authority-data: not base64" },
	{ "data cut", CONFIG("\"certificate-authority-data\":\"AAA\"", ""),
	  "clusters[c].certificate-authority-data: not base64" },
	{ "data no PEM", CONFIG("\"certificate-authority-data\":\"czNjcmV0\"", ""),
	  "clusters[c].certificate-authority-data: no PEM in it" },
	{ "token with a line break", CONFIG(SERVER, "\"token\":\"s3cret\\nX: y\""),
	  "users[u].token: not a token" },
	{ "token a number", CONFIG(SERVER, "\"token\":12"),
	  "users[u].token: not a string" },
	{ "proxy of another kind", CONFIG("\"proxy-url\":\"ftp://me:s3cret@h\"", ""),
	  "clusters[c].proxy-url: must be" },
	{ "password in the address",
	  CONFIG("\"server\":\"https://me:s3cret@h\"", ""),
	  "clusters[c].server: user names and passwords" },
	{ "password with a slash",
	  CONFIG("\"server\":\"https://me:12/s3cret@h\"", ""),
	  "clusters[c].server: an @ in the path" },
	{ "scheme of another kind", CONFIG("\"server\":\"ftp://h\"", ""),
	  "clusters[c].server: does not begin with" },
	{ "no host", CONFIG("\"server\":\"https://\"", ""),
	  "clusters[c].server: no host" },
	{ "no host, only a port", CONFIG("\"server\":\"https://:6443\"", ""),
	  "clusters[c].server: no host" },
	{ "IPv6 without brackets", CONFIG("\"server\":\"https://fd00::1:6443\"", ""),
	  "clusters[c].server: more than one colon" },
	{ "no IPv6 in brackets",
	  CONFIG("\"server\":\"https://[10.0.0.1]:6443\"", ""),
	  "clusters[c].server: not an IPv6 address" },
	{ "open bracket", CONFIG("\"server\":\"https://[fd00::1:6443/x]\"", ""),
	  "clusters[c].server: not an IPv6 address" },
	{ "text behind the bracket",
	  CONFIG("\"server\":\"https://[fd00::1]6443\"", ""),
	  "clusters[c].server: no port" },
	{ "port too large", CONFIG("\"server\":\"https://h:65536\"", ""),
	  "clusters[c].server: no port" },
	{ "port zero", CONFIG("\"server\":\"https://h:0/\"", ""),
	  "clusters[c].server: no port" },
	{ "empty port", CONFIG("\"server\":\"https://h:\"", ""),
	  "clusters[c].server: no port" },
	{ "port in words", CONFIG("\"server\":\"https://h:https\"", ""),
	  "clusters[c].server: no port" },
	{ "query", CONFIG("\"server\":\"https://h/?a\"", ""),
	  "clusters[c].server: unexpected character" },
	{ "white space", CONFIG("\"server\":\"https://h\\r\\n\"", ""),
	  "clusters[c].server: unexpected white space" },
	{ "insecure no boolean",
	  CONFIG("\"insecure-skip-tls-verify\":\"s3cret\"", ""),
	  "clusters[c].insecure-skip-tls-verify: not true or false" },
	{ "insecure, but with authority",
	  CONFIG("\"insecure-skip-tls-verify\":true,\"certificate-authority\":\"a\"",
		 ""),
	  "clusters[c].insecure-skip-tls-verify: cannot be combined" },
};

START_TEST(bad_ones_are_refused)
{
	struct errbuf eb = { "" };
	struct credentials *c = parse(bad[_i].text, &eb);

	ck_assert_msg(!c, "%s: accepted", bad[_i].name);
	ck_assert_msg(strstr(eb.text, bad[_i].error), "%s: want \"%s\", got \"%s\"",
		      bad[_i].name, bad[_i].error, eb.text);
	ck_assert_msg(!strstr(eb.text, "s3cret"), "%s: %s", bad[_i].name, eb.text);
}
END_TEST

static const char *show(const char *text)
{
	return text ? text : "-";
}

static void describe(const struct credentials *c, char *text, size_t size)
{
	snprintf(text, size,
		 "%s ca %s %s cert %s %s key %s %s token %s %s %s:%s name %s proxy %s%s",
		 c->n_servers ? c->servers[0] : "-", show(c->ca.path),
		 show(c->ca.data), show(c->cert.path), show(c->cert.data),
		 show(c->key.path), show(c->key.data), show(c->token.path),
		 show(c->token.data), show(c->username), show(c->password),
		 show(c->server_name), show(c->proxy),
		 c->insecure ? " insecure" : "");
}

static const struct {
	const char *name, *text, *want;
} good[] = {
	{ "kubeadm", KUBEADM,
	  "https://192.0.2.1:6443 ca /etc/k/ca.crt - cert - - key - - token /etc/k/token - -:- "
	  "name - proxy -" },
	{ "inline",
	  CONFIG(SERVER ",\"certificate-authority-data\":\"" PEM_DATA "\"",
		 "\"client-certificate-data\":\"" PEM_DATA
		 "\",\"client-key-data\":\"" PEM_DATA "\",\"token\":\" abc\\n\""),
	  "https://h:1 ca - " PEM " cert - " PEM " key - " PEM
	  " token - abc -:- name - proxy -" },
	{ "inline wins over files, tokenFile over token",
	  CONFIG(SERVER ",\"certificate-authority-data\":\"" PEM_DATA
			"\",\"certificate-authority\":\"/ca\"",
		 "\"token\":\"abc\",\"tokenFile\":\"/t\""),
	  "https://h:1 ca - " PEM
	  " cert - - key - - token /t - -:- name - proxy -" },
	{ "the rest",
	  CONFIG("\"server\":\"h:1/prefix/\",\"tls-server-name\":\"n\",\"proxy-url\":"
		 "\"socks5://p:1\",\"insecure-skip-tls-verify\":true",
		 "\"username\":\"me\",\"password\":\"pw\""),
	  "https://h:1/prefix ca - - cert - - key - - token - - me:pw name n proxy socks5://p:1 "
	  "insecure" },
	{ "no scheme, nothing to do TLS with", CONFIG("\"server\":\"h:1\"", ""),
	  "http://h:1 ca - - cert - - key - - token - - -:- name - proxy -" },
	{ "null and empty fields",
	  CONFIG(SERVER ",\"proxy-url\":null,\"tls-server-name\":\"\"",
		 "\"token\":\"\""),
	  "https://h:1 ca - - cert - - key - - token - - -:- name - proxy -" },
};

START_TEST(good_ones_are_understood)
{
	struct errbuf eb = { "" };
	struct credentials *c = parse(good[_i].text, &eb);
	char got[1024];

	ck_assert_msg(c, "%s: %s", good[_i].name, eb.text);
	describe(c, got, sizeof(got));
	ck_assert_msg(!strcmp(got, good[_i].want), "%s: want\n%s\ngot\n%s",
		      good[_i].name, good[_i].want, got);
	credentials_free(c);
}
END_TEST

static struct credentials_source source_of(const char *kubeconfig, const char *master)
{
	return (struct credentials_source){ .kubeconfig = kubeconfig,
					    .master = master,
					    .service_account = folder };
}

static char *path_of(const char *name)
{
	static char paths[4][256];
	static int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

START_TEST(files_are_read_beside_the_kubeconfig)
{
	struct credentials_source source = source_of(path_of("config"), "");
	struct errbuf eb = { "" };
	struct credentials *c;
	struct http_identity identity;

	write_text(folder, "config", KUBEADM);
	write_text(folder, "token", "  first\n");
	c = credentials_read(&source, 0, &eb);
	ck_assert_msg(c, "%s", eb.text);
	identity = credentials_identity(c);
	ck_assert_str_eq(identity.token, "first");
	ck_assert_str_eq(c->ca.data, PEM);
	credentials_free(c);
}
END_TEST

static const struct {
	const char *name, *file, *text; /* NULL: removed */
	const char *error;
} unreadable[] = {
	{ "no kubeconfig", "config", NULL, "/config: No such file or directory" },
	{ "no authority", "ca.crt", NULL, "/config: certificate-authority: " },
	{ "no authority: its file", "ca.crt", NULL,
	  "/ca.crt: No such file or directory" },
	{ "authority no PEM", "ca.crt", "s3cret", "/ca.crt: no PEM in it" },
	{ "server missing", "config",
	  "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{\"cluster\":"
	  "\"c\"}}],\"clusters\":[{\"name\":\"c\",\"cluster\":{}}]}",
	  "/config: clusters[c].server: not set" },
	{ "no URL", "config",
	  "{\"current-context\":\"x\",\"contexts\":[{\"name\":\"x\",\"context\":{\"cluster\":"
	  "\"c\"}}],\"clusters\":[{\"name\":\"c\",\"cluster\":{\"server\":"
	  "\"https://fd00::1:6443\"}}]}",
	  "/config: clusters[c].server: more than one colon" },
	{ "kubeconfig bad", "config", "{\"current-context\":\"s\"}",
	  "/config: contexts: no entry" },
};

START_TEST(unreadable_files_are_named)
{
	struct credentials_source source = source_of(path_of("config"), "");
	struct errbuf eb = { "" };

	write_text(folder, "config", KUBEADM);
	write_text(folder, "token", "first");
	if (unreadable[_i].text)
		write_text(folder, unreadable[_i].file, unreadable[_i].text);
	else
		unlink(path_of(unreadable[_i].file));
	ck_assert_msg(!credentials_read(&source, 0, &eb), "%s: accepted",
		      unreadable[_i].name);
	ck_assert_msg(strstr(eb.text, unreadable[_i].error) &&
			      !strstr(eb.text, "s3cret"),
		      "%s: want \"%s\", got \"%s\"", unreadable[_i].name,
		      unreadable[_i].error, eb.text);
}
END_TEST

static const struct {
	const char *name, *text; /* NULL: removed */
	const char *error;
} late_tokens[] = {
	{ "no token", NULL, "/token: No such file or directory" },
	{ "empty token", "", "/token: empty" },
	{ "blank token", " \n", "/token: empty" },
	{ "two tokens", "s3cret s3cret", "/token: not a token" },
};

/* CFG-8: a token may come later. */
START_TEST(a_token_is_waited_for)
{
	struct credentials_source source = source_of(path_of("config"), "");
	struct errbuf eb = { "" };
	struct credentials *c;

	write_text(folder, "config", KUBEADM);
	if (late_tokens[_i].text)
		write_text(folder, "token", late_tokens[_i].text);
	c = credentials_read(&source, 0, &eb);
	ck_assert_msg(c, "%s: %s", late_tokens[_i].name, eb.text);
	ck_assert(!credentials_ready(c));
	ck_assert_int_lt(credentials_refresh(c, 0, INT64_MAX, &eb), 0);
	ck_assert_msg(strstr(eb.text, late_tokens[_i].error) &&
			      !strstr(eb.text, "s3cret"),
		      "%s: got \"%s\"", late_tokens[_i].name, eb.text);
	write_text(folder, "token", "here");
	ck_assert_int_eq(credentials_refresh(c, 0, INT64_MAX, &eb), 0);
	ck_assert(credentials_ready(c));
	ck_assert_str_eq(credentials_identity(c).token, "here");
	credentials_free(c);
}
END_TEST

START_TEST(master_overrides_the_server)
{
	struct credentials_source source = source_of(
		path_of("config"), " https://a:1, b:2 ,,https://[::1]:3/x/");
	struct errbuf eb = { "" };
	struct credentials *c;

	write_text(folder, "config", KUBEADM);
	write_text(folder, "token", "first");
	c = credentials_read(&source, 0, &eb);
	ck_assert_msg(c, "%s", eb.text);
	ck_assert_uint_eq(c->n_servers, 3);
	ck_assert_str_eq(c->servers[0], "https://a:1");
	ck_assert_str_eq(c->servers[1], "https://b:2");
	ck_assert_str_eq(c->servers[2], "https://[::1]:3/x");
	credentials_free(c);
	source.master = " , ";
	ck_assert_ptr_null(credentials_read(&source, 0, &eb));
	ck_assert_ptr_nonnull(strstr(eb.text, "--master: no address"));
	source.master = "https://a:s3cret@b";
	ck_assert_ptr_null(credentials_read(&source, 0, &eb));
	ck_assert_ptr_null(strstr(eb.text, "s3cret"));
}
END_TEST

START_TEST(master_alone_needs_no_credentials)
{
	struct credentials_source source = source_of("", "127.0.0.1:8080");
	struct errbuf eb = { "" };
	struct credentials *c = credentials_read(&source, 0, &eb);

	ck_assert_msg(c, "%s", eb.text);
	ck_assert_str_eq(c->servers[0], "http://127.0.0.1:8080");
	ck_assert_ptr_null(credentials_identity(c).token);
	credentials_free(c);
}
END_TEST

static const struct {
	const char *name, *host, *port;
	const char *server; /* NULL: an error */
} pods[] = {
	{ "IPv4", "172.30.0.1", "443", "https://172.30.0.1:443" },
	{ "IPv6", "fd00::1", "443", "https://[fd00::1]:443" },
	{ "name", "apiserver.example", "6443", "https://apiserver.example:6443" },
	{ "no host", NULL, "443", NULL },
	{ "no port", "172.30.0.1", NULL, NULL },
	{ "empty host", "", "443", NULL },
};

START_TEST(pods_have_credentials)
{
	struct credentials_source source = source_of("", "");
	struct errbuf eb = { "" };
	struct credentials *c;

	write_text(folder, "token", "in-pod\n");
	source.host = pods[_i].host;
	source.port = pods[_i].port;
	c = credentials_read(&source, 0, &eb);
	if (!pods[_i].server) {
		ck_assert_msg(!c, "%s: accepted", pods[_i].name);
		ck_assert_ptr_nonnull(strstr(eb.text, "KUBERNETES_SERVICE_HOST"));
		return;
	}
	ck_assert_msg(c, "%s: %s", pods[_i].name, eb.text);
	ck_assert_str_eq(c->servers[0], pods[_i].server);
	ck_assert(c->in_cluster);
	ck_assert_str_eq(credentials_identity(c).token, "in-pod");
	ck_assert_str_eq(c->ca.data, PEM);
	credentials_free(c);
}
END_TEST

static void set_mtime(const char *name, time_t seconds)
{
	struct timespec times[2] = { { seconds, 0 }, { seconds, 0 } };

	ck_assert_int_eq(utimensat(AT_FDCWD, path_of(name), times, 0), 0);
}

/* Tokens rotate: seen by the file's time, and anyway after a minute. */
START_TEST(tokens_rotate)
{
	struct credentials_source source = source_of(path_of("config"), "");
	const int64_t age = 60 * 1000000;
	struct errbuf eb = { "" };
	struct credentials *c;

	write_text(folder, "config", KUBEADM);
	write_text(folder, "token", "first");
	set_mtime("token", 1000);
	c = credentials_read(&source, 0, &eb);
	ck_assert_msg(c, "%s", eb.text);

	write_text(folder, "token", "second");
	set_mtime("token", 1000);
	ck_assert_int_eq(credentials_refresh(c, age - 1, age, &eb), 0);
	ck_assert_str_eq(c->token.data, "first");
	ck_assert_int_eq(credentials_refresh(c, age, age, &eb), 0);
	ck_assert_str_eq(c->token.data, "second");

	write_text(folder, "token", "third");
	set_mtime("token", 2000);
	ck_assert_int_eq(credentials_refresh(c, age + 1, age, &eb), 0);
	ck_assert_str_eq(c->token.data, "third");

	/* While it is being replaced the old one is used. */
	write_text(folder, "token", "");
	set_mtime("token", 3000);
	ck_assert_int_lt(credentials_refresh(c, age + 2, age, &eb), 0);
	ck_assert_str_eq(c->token.data, "third");
	unlink(path_of("token"));
	ck_assert_int_lt(credentials_refresh(c, age + 3, age, &eb), 0);
	ck_assert_str_eq(c->token.data, "third");

	/* One bad file does not keep the others old. */
	write_text(folder, "ca.crt", PEM PEM);
	set_mtime("ca.crt", 3000);
	ck_assert_int_lt(credentials_refresh(c, age + 4, age, &eb), 0);
	ck_assert_str_eq(c->ca.data, PEM PEM);
	credentials_free(c);
}
END_TEST

static void make_folder(void)
{
	folder = strdup("/tmp/vipmap-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	write_text(folder, "ca.crt", PEM);
}

static void remove_folder(void)
{
	unlink(path_of("ca.crt"));
	unlink(path_of("token"));
	unlink(path_of("config"));
	rmdir(folder);
	free(folder);
}

Suite *make_suite(void)
{
	Suite *suite = suite_create("kubeconfig");
	TCase *text = tcase_create("text"), *files = tcase_create("files");

	ADD_LOOP(text, bad_ones_are_refused, bad);
	ADD_LOOP(text, good_ones_are_understood, good);
	tcase_add_checked_fixture(files, make_folder, remove_folder);
	tcase_add_test(files, files_are_read_beside_the_kubeconfig);
	ADD_LOOP(files, unreadable_files_are_named, unreadable);
	ADD_LOOP(files, a_token_is_waited_for, late_tokens);
	tcase_add_test(files, master_overrides_the_server);
	tcase_add_test(files, master_alone_needs_no_credentials);
	ADD_LOOP(files, pods_have_credentials, pods);
	tcase_add_test(files, tokens_rotate);
	suite_add_tcase(suite, text);
	suite_add_tcase(suite, files);
	return suite;
}
