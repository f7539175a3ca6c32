/* kubeconfig files of any kind: no file is looked at, and no value of a refused one is told. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "watch/kubeconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_secret(const struct secret *s)
{
	if (s->data)
		assert(s->data[s->length] == '\0' && s->length > 0);
	assert(!s->path || s->path[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct errbuf eb = { "" };
	struct credentials *c =
		kubeconfig_parse((const char *)data, size, "/folder", &eb);

	if (!c) {
		assert(eb.text[0]);
		return 0;
	}
	assert(c->n_servers <= 1);
	if (c->n_servers) {
		assert(strstr(c->servers[0], "://"));
		assert(!strpbrk(c->servers[0], " \t\r\n@"));
	}
	check_secret(&c->ca);
	check_secret(&c->cert);
	check_secret(&c->key);
	check_secret(&c->token);
	if (c->token.data)
		assert(!strpbrk(c->token.data, " \t\r\n"));
	credentials_free(c);
	return 0;
}
