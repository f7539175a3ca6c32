/*
 * libcurl reads such variables by itself, but differently: it sends loopback
 * addresses through the proxy, knows no ranges in older versions, and obeys
 * ALL_PROXY. On a node whose API server is https://127.0.0.1:6443 that would be
 * the end, so the decision is made here and libcurl is told.
 *
 * NO_PROXY is a list with commas. An entry is "*", a range, an address or a
 * host name, the latter two perhaps with a port. "example.com" stands for
 * itself and all below it, ".example.com" and
 * "*.example.com" only for those below. What is none of these matches nothing.
 */
#include "watch/webproxy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/addr.h"
#include "watch/http.h"

enum { NAME_SIZE = 256, PORT_SIZE = 8 };

/* Where a request goes. */
struct webtarget {
	char host[NAME_SIZE]; /* without brackets, in lower case */
	char port[PORT_SIZE];
	bool is_address;
	enum family family;
	struct addr addr;
};

static const char *first_variable(const char *upper, const char *lower)
{
	const char *value = getenv(upper);

	return value && *value ? value : getenv(lower);
}

struct webproxy_env webproxy_environment(void)
{
	return (struct webproxy_env){
		.https = first_variable("HTTPS_PROXY", "https_proxy"),
		.http = first_variable("HTTP_PROXY", "http_proxy"),
		.none = first_variable("NO_PROXY", "no_proxy"),
	};
}

static void lower_case(char *text)
{
	for (; *text; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
}

/* Copies @length bytes if they fit. */
static bool copy_part(char *to, size_t size, const char *from, size_t length)
{
	if (length >= size)
		return false;
	memcpy(to, from, length);
	to[length] = '\0';
	return true;
}

/* False if @server is too strange to be judged. */
static bool target_parse(const char *server, bool tls, struct webtarget *t)
{
	struct http_address address;

	memset(t, 0, sizeof(*t));
	if (http_split(server, &address))
		return false;
	lower_case(address.host);
	memcpy(t->host, address.host, sizeof(t->host));
	snprintf(t->port, sizeof(t->port), "%s",
		 *address.port ? address.port
		 : tls	       ? "443"
			       : "80");
	t->is_address = addr_parse(t->host, &t->family, &t->addr) == 0;
	return true;
}

static bool is_loopback(const struct webtarget *t)
{
	return t->is_address ? addr_is_loopback(t->family, &t->addr)
			     : strcmp(t->host, "localhost") == 0;
}

/* @name: "example.com", ".example.com" or "*.example.com". */
static bool name_matches(const char *name, const char *host)
{
	size_t n, h = strlen(host);
	bool itself;

	if (name[0] == '*' && name[1] == '.')
		name++;
	itself = *name != '.';
	n = strlen(name);
	if (itself && strcmp(name, host) == 0)
		return true;
	if (h <= n || strcmp(host + h - n, name) != 0)
		return false;
	return !itself || host[h - n - 1] == '.';
}

static bool entry_matches(const char *entry, const struct webtarget *t)
{
	char host[NAME_SIZE];
	const char *port;
	enum family family = FAMILY_IPV4;
	struct prefix prefix;
	struct addr addr;

	if (strcmp(entry, "*") == 0)
		return true;
	if (prefix_parse(entry, &family, &prefix) == 0)
		return t->is_address && family == t->family &&
		       prefix_contains(&prefix, &t->addr);
	if (host_port_split(entry, host, sizeof(host), &port) || !*host)
		return false;
	if (!port && *entry == '[') /* brackets are for a port that follows */
		return false;
	if (port && *port && strcmp(port, t->port) != 0)
		return false;
	if (addr_parse(host, &family, &addr) == 0)
		return t->is_address && family == t->family &&
		       addr_compare(&addr, &t->addr) == 0;
	return name_matches(host, t->host);
}

/* Whether an entry of the list @none excepts @t. */
static bool is_excepted(const char *none, const struct webtarget *t)
{
	char entry[NAME_SIZE + PORT_SIZE + 4];

	while (none && *none) {
		size_t length = strcspn(none, ","), lead = strspn(none, " \t");
		size_t end = length;

		while (end > lead && strchr(" \t", none[end - 1]))
			end--;
		if (end > lead &&
		    copy_part(entry, sizeof(entry), none + lead, end - lead)) {
			lower_case(entry);
			if (entry_matches(entry, t))
				return true;
		}
		none += length + (none[length] == ',');
	}
	return false;
}

const char *webproxy_choose(const struct webproxy_env *env, const char *server)
{
	const bool tls = strncasecmp(server, "https://", 8) == 0;
	const char *proxy = tls ? env->https : env->http;
	struct webtarget t;

	if (!proxy || !*proxy || !strstr(server, "://"))
		return NULL;
	if (!target_parse(server, tls, &t))
		return proxy;
	return is_loopback(&t) || is_excepted(env->none, &t) ? NULL : proxy;
}
