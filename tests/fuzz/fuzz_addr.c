/*
 * Addresses, prefixes, "ADDRESS:PORT", ports and names as they stand in
 * objects, configuration, flags and questions: what is taken can be written and
 * read back, and an IPv6 address is what the C library takes it for.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/addr.h"
#include "proxy/model/config.h"
#include "watch/webproxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_address(const char *text)
{
	char written[ADDR_TEXT_SIZE];
	enum family family, again;
	struct addr addr, copy;
	uint8_t bytes[16];

	if (addr_parse(text, &family, &addr))
		return;
	addr_format(family, &addr, written);
	assert(addr_parse(written, &again, &copy) == 0);
	assert(family == again && addr_compare(&addr, &copy) == 0);
	if (!strchr(text, ':'))
		return;
	assert(inet_pton(AF_INET6, text, bytes) == 1);
	if (family == FAMILY_IPV6)
		assert(memcmp(bytes, addr.bytes, 16) == 0);
	else
		assert(memcmp(bytes + 10, "\xff\xff", 2) == 0 &&
		       !memcmp(bytes + 12, addr.bytes, 4));
}

static void try_prefix(const char *text)
{
	enum family family;
	struct prefix prefix;

	if (prefix_parse(text, &family, &prefix))
		return;
	assert(strchr(text, '/'));
	assert(prefix.length <= (family == FAMILY_IPV4 ? 32 : 128));
	assert(prefix_covers(&prefix, &prefix));
}

static void try_bind_address(const char *text)
{
	enum family family;
	struct addr addr;
	uint16_t port;

	if (bind_address_parse(text, &family, &addr, &port) == 0)
		assert(strrchr(text, ':'));
}

/* The first line is a server, the others are the variables. */
static void try_webproxy(char *text)
{
	struct webproxy_env env;
	const char *server, *proxy;

	server = strsep(&text, "\n");
	env.https = strsep(&text, "\n");
	env.http = strsep(&text, "\n");
	env.none = strsep(&text, "\n");
	proxy = webproxy_choose(&env, server);
	assert(!proxy || proxy == env.https || proxy == env.http);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	try_address(text);
	try_prefix(text);
	try_bind_address(text);
	try_webproxy(text);
	free(text);
	return 0;
}
