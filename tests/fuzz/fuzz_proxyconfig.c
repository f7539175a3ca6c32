/* A configuration of any kind is refused with a word why, or is a configuration. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/proxyconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_warning(void *ctx, const char *message)
{
	(void)ctx;
	assert(*message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *config = config_new();
	struct strbuf json = STRBUF_INIT;
	struct errbuf eb = { "" };
	int err;

	assert(config);
	err = proxyconfig_parse((const char *)data, size, config, on_warning, NULL, &eb);
	if (!err)
		err = config_default(config);
	if (!err)
		err = config_validate(config, on_warning, NULL, &eb);
	if (err)
		assert(*eb.text);
	else
		config_format(config, &json);
	strbuf_free(&json);
	config_free(config);
	return 0;
}
