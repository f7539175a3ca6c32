/*
 * Reading happens in two steps. kubeconfig_parse() only says where things are, so that it can be
 * fuzzed and tested without files; the files named are read afterwards, and again whenever they
 * change: tokens and certificates are rotated by replacing them.
 *
 * Messages quote names, fields and paths, never values: a token pasted into the wrong place must
 * not end up in a log. Memory that held a secret is overwritten before it is freed.
 */
#include "watch/kubeconfig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/base/addr.h"
#include "proxy/base/strbuf.h"
#include "watch/json.h"
#include "watch/yaml.h"

enum { FILE_MAX = 1024 * 1024 };

static void wipe_text(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

static void secret_clear(struct secret *s)
{
	if (s->data)
		explicit_bzero(s->data, s->length);
	free(s->data);
	s->data = NULL;
	s->length = 0;
}

static void secret_free(struct secret *s)
{
	secret_clear(s);
	free(s->path);
}

void credentials_free(struct credentials *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < c->n_servers; i++)
		free(c->servers[i]);
	free(c->servers);
	secret_free(&c->ca);
	secret_free(&c->cert);
	secret_free(&c->key);
	secret_free(&c->token);
	free(c->username);
	wipe_text(c->password);
	free(c->server_name);
	free(c->server_field);
	wipe_text(c->proxy);
	free(c);
}

/* The whole of a small file, terminated. */
static int read_secret_file(const char *path, char **data, size_t *length,
			    int64_t *mtime_ns, struct errbuf *eb)
{
	struct stat st;
	char *text = NULL;
	size_t used = 0;
	ssize_t n = -1;
	int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return errf(eb, -errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
		close(fd);
		return errf(eb, -EINVAL,
			    "%s: not a regular file of at most 1 MiB", path);
	}
	text = malloc((size_t)st.st_size + 1);
	while (text && used < (size_t)st.st_size) {
		n = read(fd, text + used, (size_t)st.st_size - used);
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (!text)
		err = errf(eb, -ENOMEM, "%s: out of memory", path);
	else if (n < 0 && st.st_size)
		err = errf(eb, -errno, "%s: %s", path, strerror(errno));
	close(fd);
	if (err) {
		free(text);
		return err;
	}
	text[used] = '\0';
	*data = text;
	*length = used;
	*mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
	return 0;
}

/* @s->path into @s->data, which stays as it is on failure. */
static int secret_read(struct secret *s, int64_t now_us, struct errbuf *eb)
{
	struct secret fresh = { .path = s->path, .read_us = now_us };
	int err = read_secret_file(s->path, &fresh.data, &fresh.length,
				   &fresh.mtime_ns, eb);

	if (err)
		return err;
	if (!fresh.length) {
		free(fresh.data);
		return errf(eb, -EINVAL, "%s: empty", s->path);
	}
	secret_clear(s);
	*s = fresh;
	return 0;
}

static int pem_check(const struct secret *s, const char *field, struct errbuf *eb)
{
	if (!s->data || memmem(s->data, s->length, "-----BEGIN ", 11))
		return 0;
	return errf(eb, -EINVAL, "%s: no PEM in it", s->path ? s->path : field);
}

/* White space around it is dropped; inside it would break the request's head. */
static int token_check(struct secret *s, struct errbuf *eb)
{
	const char *name = s->path ? s->path : "token";
	size_t skip;

	if (!s->data)
		return 0;
	while (s->length && strchr(" \t\r\n", s->data[s->length - 1]))
		s->data[--s->length] = '\0';
	skip = strspn(s->data, " \t\r\n");
	memmove(s->data, s->data + skip, s->length - skip + 1);
	s->length -= skip;
	if (!s->length)
		return errf(eb, -EINVAL, "%s: empty", name);
	for (size_t i = 0; i < s->length; i++)
		if ((unsigned char)s->data[i] <= ' ' || s->data[i] == 127)
			return errf(eb, -EINVAL,
				    "%s: not a token: white space inside", name);
	return 0;
}

static bool secret_changed(const struct secret *s, int64_t now_us, int64_t max_age_us)
{
	struct stat st;

	if (!s->path)
		return false;
	if (!s->data || now_us - s->read_us >= max_age_us || stat(s->path, &st))
		return true;
	return s->mtime_ns !=
	       (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

/* Checks before it replaces: a half-written file leaves the old secret in force. */
static int secret_refresh(struct secret *s, bool is_token, int64_t now_us,
			  int64_t max_age_us, struct errbuf *eb)
{
	struct secret fresh = { .path = s->path };
	int err;

	if (!secret_changed(s, now_us, max_age_us))
		return 0;
	err = secret_read(&fresh, now_us, eb);
	if (!err)
		err = is_token ? token_check(&fresh, eb)
			       : pem_check(&fresh, "", eb);
	if (err) {
		secret_clear(&fresh);
		return err;
	}
	secret_clear(s);
	*s = fresh;
	return 0;
}

int credentials_refresh(struct credentials *c, int64_t now_us,
			int64_t max_age_us, struct errbuf *eb)
{
	int err = 0, e;

	e = secret_refresh(&c->ca, false, now_us, max_age_us, eb);
	err = e ? e : err;
	e = secret_refresh(&c->cert, false, now_us, max_age_us, eb);
	err = e ? e : err;
	e = secret_refresh(&c->key, false, now_us, max_age_us, eb);
	err = e ? e : err;
	e = secret_refresh(&c->token, true, now_us, max_age_us, eb);
	return e ? e : err;
}

bool credentials_ready(const struct credentials *c)
{
	return !c->token.path || c->token.data;
}

/*
 * The files that a kubeconfig names, for the first time. Of these only a token
 * comes by itself: whoever mounts or renews it may be later than we are.
 */
static int read_files(struct credentials *c, const char *kubeconfig,
		      int64_t now_us, struct errbuf *eb)
{
	const struct {
		const char *field;
		struct secret *secret;
	} files[] = {
		{ "certificate-authority", &c->ca },
		{ "client-certificate", &c->cert },
		{ "client-key", &c->key },
	};
	struct errbuf inner = { "" };
	int err;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		err = secret_refresh(files[i].secret, false, now_us, INT64_MAX,
				     &inner);
		if (err && *kubeconfig)
			return errf(eb, err, "%.150s: %s: %.250s", kubeconfig,
				    files[i].field, inner.text);
		if (err)
			return errf(eb, err, "%.400s", inner.text);
	}
	err = secret_refresh(&c->token, true, now_us, INT64_MAX, &inner);
	return err == -ENOMEM ? errf(eb, err, "%.400s", inner.text) : 0;
}

struct http_identity credentials_identity(const struct credentials *c)
{
	return (struct http_identity){
		.ca = { c->ca.data, c->ca.length },
		.cert = { c->cert.data, c->cert.length },
		.key = { c->key.data, c->key.length },
		.token = c->token.data,
		.username = c->username,
		.password = c->password,
		.server_name = c->server_name,
		.proxy = c->proxy,
		.insecure = c->insecure,
	};
}

/* Takes @url over. */
static int add_server(struct credentials *c, char *url)
{
	char **servers;

	servers = url ? realloc(c->servers, (c->n_servers + 1) * sizeof(*servers))
		      : NULL;
	if (!servers) {
		free(url);
		return -ENOMEM;
	}
	c->servers = servers;
	servers[c->n_servers++] = url;
	return 0;
}

/* Why @url is no server's address, or NULL. It is not quoted: a password may be in it. */
static const char *server_fault(const char *url)
{
	const char *host = strstr(url, "://"), *colon, *fault;
	struct http_address parts;
	size_t length;

	if (strncasecmp(url, "http://", 7) && strncasecmp(url, "https://", 8))
		return "does not begin with https:// or http://";
	host += 3;
	length = strcspn(host, "/");
	colon = memchr(host, ':', length);
	if (strpbrk(host, "?#\\"))
		return "unexpected character";
	for (const char *p = host; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 127)
			return "unexpected white space";
	if (*host != '[' && !strchr(host, '@') && colon &&
	    memrchr(host, ':', length) != colon)
		return "more than one colon; an IPv6 address must stand in brackets, as in "
		       "https://[fd00::1]:6443";
	fault = http_split(url, &parts);
	/* libcurl takes these for the scheme's */
	if (!fault && (host[length - 1] == ':' || strcmp(parts.port, "0") == 0))
		fault = "no port from 1 to 65535";
	/* "user:12/word@host": the slash ends the host, and a password's rest would be told as a path. */
	if (!fault && strchr(host, '@'))
		fault = "an @ in the path; user names and passwords in addresses are not supported";
	return fault;
}

/* @text may lack the scheme, as for kube-proxy: then TLS if there is anything to do TLS with. */
static int set_server(struct credentials *c, const char *text, size_t length,
		      const char *field, struct errbuf *eb)
{
	bool tls = c->ca.data || c->ca.path || c->cert.data || c->cert.path ||
		   c->token.data || c->token.path || c->insecure;
	struct strbuf url = STRBUF_INIT;
	const char *fault;

	if (!memmem(text, length, "://", 3))
		strbuf_adds(&url, tls ? "https://" : "http://");
	strbuf_add(&url, text, length);
	if (url.err)
		return errf(eb, -ENOMEM, "%s: out of memory", field);
	while (url.length && url.text[url.length - 1] == '/' &&
	       url.text[url.length - 2] != '/')
		url.text[--url.length] = '\0';
	fault = server_fault(url.text);
	if (fault) {
		strbuf_free(&url);
		return errf(eb, -EINVAL, "%s: %s", field, fault);
	}
	return add_server(c, url.text)
		       ? errf(eb, -ENOMEM, "%s: out of memory", field)
		       : 0;
}

/* A list with commas, in place of what the kubeconfig says. */
static int set_masters(struct credentials *c, const char *list, struct errbuf *eb)
{
	while (c->n_servers)
		free(c->servers[--c->n_servers]);
	for (const char *p = list; *p;) {
		size_t length = strcspn(p, ","), lead = strspn(p, " \t");
		size_t end = length;
		int err;

		while (end > lead && strchr(" \t", p[end - 1]))
			end--;
		if (end > lead) {
			err = set_server(c, p + lead, end - lead, "--master", eb);
			if (err)
				return err;
		}
		p += length + (p[length] == ',');
	}
	return c->n_servers ? 0 : errf(eb, -EINVAL, "--master: no address in it");
}

/* Base64 of RFC 4648 with padding, line breaks allowed. */
static int base64_decode(const char *text, struct secret *out)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned int bits = 0, n = 0, pad = 0;
	char *data = malloc(strlen(text) / 4 * 3 + 4);
	size_t length = 0;

	if (!data)
		return -ENOMEM;
	for (; *text; text++) {
		const char *at = *text == '=' ? alphabet : strchr(alphabet, *text);

		if (strchr("\r\n \t", *text))
			continue;
		if (!at || (pad && *text != '=')) {
			free(data);
			return -EINVAL;
		}
		pad += *text == '=';
		bits = bits << 6 | (unsigned int)(at - alphabet);
		if (++n % 4)
			continue;
		data[length++] = (char)(bits >> 16);
		data[length++] = (char)(bits >> 8);
		data[length++] = (char)bits;
		bits = 0;
	}
	if (n % 4 || pad > 2 || !n) {
		free(data);
		return -EINVAL;
	}
	length -= pad;
	data[length] = '\0';
	out->data = data;
	out->length = length;
	return 0;
}

/* What one entry of clusters, users or contexts is called in messages: "users[kube-proxy].token" */
struct section {
	const struct json *json;
	char name[128];
};

static int kubeconfig_error(const struct section *s, const char *key,
			    const char *what, struct errbuf *eb)
{
	return errf(eb, -EINVAL, "%s%s%s: %s", s->name, *key ? "." : "", key, what);
}

/* *text becomes NULL if the field is absent or empty. */
static int get_text(const struct section *s, const char *key, const char **text,
		    struct errbuf *eb)
{
	const struct json *value = json_get(s->json, key);

	*text = json_string(value);
	if (value && !*text)
		return kubeconfig_error(s, key, "not a string", eb);
	if (*text && !**text)
		*text = NULL;
	return 0;
}

static int copy_member(const struct section *s, const char *key, char **copy,
		       struct errbuf *eb)
{
	const char *text;
	int err = get_text(s, key, &text, eb);

	if (err || !text)
		return err;
	*copy = strdup(text);
	return *copy ? 0 : kubeconfig_error(s, key, "out of memory", eb);
}

static char *path_beside(const char *folder, const char *path)
{
	struct strbuf sb = STRBUF_INIT;

	if (*path != '/' && *folder)
		strbuf_addf(&sb, "%s/", folder);
	strbuf_adds(&sb, path);
	return sb.text;
}

/* KEY-data, else the file that KEY names. */
static int get_blob(const struct section *s, const char *key,
		    const char *folder, struct secret *out, struct errbuf *eb)
{
	const char *path, *data;
	char data_key[64];
	int err;

	memcpy(data_key, key, strlen(key) + 1);
	memcpy(data_key + strlen(key), "-data", sizeof("-data"));
	err = get_text(s, data_key, &data, eb);
	if (!err)
		err = get_text(s, key, &path, eb);
	if (err)
		return err;
	if (data) {
		if (base64_decode(data, out))
			return kubeconfig_error(s, data_key, "not base64", eb);
		return pem_check(out, s->name, NULL)
			       ? kubeconfig_error(s, data_key, "no PEM in it", eb)
			       : 0;
	}
	if (!path)
		return 0;
	out->path = path_beside(folder, path);
	return out->path ? 0 : kubeconfig_error(s, key, "out of memory", eb);
}

static bool proxy_is_known(const char *url)
{
	static const char *const schemes[] = { "http://", "https://",
					       "socks5://", "socks5h://" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (!strncasecmp(url, schemes[i], strlen(schemes[i])) &&
		    url[strlen(schemes[i])])
			return !strpbrk(url, " \t\r\n");
	return false;
}

static int read_cluster(struct credentials *c, const struct section *s,
			const char *folder, struct errbuf *eb)
{
	const struct json *insecure =
		json_get(s->json, "insecure-skip-tls-verify");
	int err;

	if (insecure && json_type(insecure) != JSON_BOOL)
		return kubeconfig_error(s, "insecure-skip-tls-verify",
					"not true or false", eb);
	c->insecure = json_is_true(insecure);
	err = get_blob(s, "certificate-authority", folder, &c->ca, eb);
	if (!err)
		err = copy_member(s, "tls-server-name", &c->server_name, eb);
	if (!err)
		err = copy_member(s, "proxy-url", &c->proxy, eb);
	if (!err && c->proxy && !proxy_is_known(c->proxy))
		err = kubeconfig_error(s, "proxy-url",
				       "must be http://, https:// or socks5://",
				       eb);
	if (!err && c->insecure && (c->ca.path || c->ca.data))
		err = kubeconfig_error(
			s, "insecure-skip-tls-verify",
			"cannot be combined with a certificate authority", eb);
	return err;
}

static int read_server(struct credentials *c, const struct section *s,
		       struct errbuf *eb)
{
	struct strbuf field = STRBUF_INIT;
	const char *server;
	int err = get_text(s, "server", &server, eb);

	strbuf_addf(&field, "%s.server", s->name);
	c->server_field = field.text;
	if (err || field.err)
		return err ? err : errf(eb, -ENOMEM, "out of memory");
	return server ? set_server(c, server, strlen(server), c->server_field, eb)
		      : 0;
}

static int refuse_unsupported(const struct section *s, struct errbuf *eb)
{
	static const char *const fields[] = { "exec",	   "auth-provider",
					      "as",	   "as-uid",
					      "as-groups", "as-user-extra" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (json_get(s->json, fields[i]))
			return errf(eb, -EOPNOTSUPP,
				    "%s.%s: not supported; use a token, a tokenFile or a client "
				    "certificate",
				    s->name, fields[i]);
	return 0;
}

static int read_token(struct credentials *c, const struct section *s,
		      const char *folder, struct errbuf *eb)
{
	const char *path;
	int err = get_text(s, "tokenFile", &path, eb);

	if (err)
		return err;
	if (path) {
		c->token.path = path_beside(folder, path);
		return c->token.path ? 0
				     : kubeconfig_error(s, "tokenFile",
							"out of memory", eb);
	}
	err = copy_member(s, "token", &c->token.data, eb);
	if (err || !c->token.data)
		return err;
	c->token.length = strlen(c->token.data);
	return token_check(&c->token, NULL)
		       ? kubeconfig_error(s, "token", "not a token", eb)
		       : 0;
}

static int read_user(struct credentials *c, const struct section *s,
		     const char *folder, struct errbuf *eb)
{
	int err = refuse_unsupported(s, eb);

	if (!err)
		err = get_blob(s, "client-certificate", folder, &c->cert, eb);
	if (!err)
		err = get_blob(s, "client-key", folder, &c->key, eb);
	if (!err)
		err = read_token(c, s, folder, eb);
	if (!err)
		err = copy_member(s, "username", &c->username, eb);
	if (!err)
		err = copy_member(s, "password", &c->password, eb);
	if (err)
		return err;
	if (!(c->cert.path || c->cert.data) != !(c->key.path || c->key.data))
		return kubeconfig_error(
			s, "",
			"client-certificate and client-key need each other", eb);
	return 0;
}

/* The entry called @name of a list such as "users", and in it the object @key. */
static int find_entry(const struct json *root, const char *list, const char *key,
		      const char *name, struct section *s, struct errbuf *eb)
{
	const struct json *entries = json_get(root, list);

	if (entries && json_type(entries) != JSON_ARRAY)
		return errf(eb, -EINVAL, "%s: not a list", list);
	json_for_each (entry, entries) {
		const char *entry_name = json_string(json_get(entry, "name"));
		struct strbuf label = STRBUF_INIT;

		if (!entry_name || strcmp(entry_name, name))
			continue;
		s->json = json_get(entry, key);
		strbuf_addf(&label, "%s[%.80s]", list, name);
		memcpy(s->name, label.err ? "" : label.text,
		       label.err ? 1 : label.length + 1);
		strbuf_free(&label);
		if (s->json && json_type(s->json) != JSON_OBJECT)
			return kubeconfig_error(s, key, "not an object", eb);
		return 0;
	}
	return errf(eb, -EINVAL, "%s: no entry named \"%.80s\"", list, name);
}

static int read_context(struct credentials *c, const struct json *root,
			const char *folder, struct errbuf *eb)
{
	struct section top = { .json = root, .name = "kubeconfig" }, context,
		       cluster, user;
	const char *current, *cluster_name, *user_name;
	int err = get_text(&top, "current-context", &current, eb);

	if (err)
		return err;
	if (!current)
		return errf(eb, -EINVAL, "current-context: not set");
	err = find_entry(root, "contexts", "context", current, &context, eb);
	if (!err)
		err = get_text(&context, "cluster", &cluster_name, eb);
	if (!err)
		err = get_text(&context, "user", &user_name, eb);
	if (!err && !cluster_name)
		err = kubeconfig_error(&context, "cluster", "not set", eb);
	if (!err)
		err = find_entry(root, "clusters", "cluster", cluster_name,
				 &cluster, eb);
	if (!err)
		err = read_cluster(c, &cluster, folder, eb);
	if (!err && user_name)
		err = find_entry(root, "users", "user", user_name, &user, eb);
	if (!err && user_name)
		err = read_user(c, &user, folder, eb);
	return err ? err : read_server(c, &cluster, eb);
}

struct credentials *kubeconfig_parse(const char *text, size_t length,
				     const char *folder, struct errbuf *eb)
{
	struct json *root = yaml_parse(text, length, eb);
	struct credentials *c;

	if (!root)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c)
		errf(eb, -ENOMEM, "out of memory");
	else if (json_type(root) != JSON_OBJECT)
		errf(eb, -EINVAL, "not a kubeconfig");
	else if (read_context(c, root, folder, eb) == 0)
		goto out;
	credentials_free(c);
	c = NULL;
out:
	json_free(root);
	return c;
}

static struct credentials *read_kubeconfig(const char *path, struct errbuf *eb)
{
	struct credentials *c = NULL;
	struct errbuf inner = { "" };
	char *text = NULL, *folder = NULL, *slash;
	size_t length;
	int64_t mtime_ns;

	if (read_secret_file(path, &text, &length, &mtime_ns, eb))
		return NULL;
	folder = strdup(path);
	if (!folder) {
		errf(eb, -ENOMEM, "%s: out of memory", path);
		goto out;
	}
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder ? 1 : 0] = '\0';
	else
		folder[0] = '\0';
	c = kubeconfig_parse(text, length, folder, &inner);
	if (!c)
		errf(eb, -EINVAL, "%.200s: %.300s", path, inner.text);
out:
	explicit_bzero(text, length);
	free(text);
	free(folder);
	return c;
}

static struct credentials *read_in_cluster(const struct credentials_source *source,
					   struct errbuf *eb)
{
	bool v6 = source->host && strchr(source->host, ':');
	struct strbuf url = STRBUF_INIT;
	struct credentials *c;

	if (!source->host || !*source->host || !source->port || !*source->port) {
		errf(eb, -ENOENT,
		     "no kubeconfig, no --master, and not in a pod: KUBERNETES_SERVICE_HOST and "
		     "KUBERNETES_SERVICE_PORT are not set");
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (!c) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	c->in_cluster = true;
	c->token.path = path_beside(source->service_account, "token");
	c->ca.path = path_beside(source->service_account, "ca.crt");
	strbuf_addf(&url, "https://%s%s%s:%s", v6 ? "[" : "", source->host,
		    v6 ? "]" : "", source->port);
	if (!c->token.path || !c->ca.path || url.err) {
		errf(eb, -ENOMEM, "out of memory");
	} else if (set_server(c, url.text, url.length,
			      "KUBERNETES_SERVICE_HOST", eb) == 0) {
		strbuf_free(&url);
		return c;
	}
	strbuf_free(&url);
	credentials_free(c);
	return NULL;
}

/* An address is enough: an API server on loopback may ask for nothing. */
static struct credentials *only_address(struct errbuf *eb)
{
	struct credentials *c = calloc(1, sizeof(*c));

	if (!c)
		errf(eb, -ENOMEM, "out of memory");
	return c;
}

struct credentials *credentials_read(const struct credentials_source *source,
				     int64_t now_us, struct errbuf *eb)
{
	struct credentials *c;
	int err = 0;

	if (*source->kubeconfig)
		c = read_kubeconfig(source->kubeconfig, eb);
	else if (*source->master)
		c = only_address(eb);
	else
		c = read_in_cluster(source, eb);
	if (!c)
		return NULL;
	if (*source->master)
		err = set_masters(c, source->master, eb);
	if (!err && !c->n_servers)
		err = errf(eb, -EINVAL, "%s: %s: not set", source->kubeconfig,
			   c->server_field);
	if (!err)
		err = read_files(c, source->kubeconfig, now_us, eb);
	if (!err)
		return c;
	credentials_free(c);
	errno = -err;
	return NULL;
}
