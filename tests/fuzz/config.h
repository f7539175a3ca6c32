/*
 * For the two kinds of configuration: text of any kind is refused with a word
 * why, or is a configuration; and what is shown of that reads back as the same.
 */
#ifndef TESTS_FUZZ_CONFIG_H
#define TESTS_FUZZ_CONFIG_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/proxyconfig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct config_kind {
	int (*parse)(const char *text, size_t length, struct config *config,
		     void (*warn)(void *ctx, const char *message), void *ctx,
		     struct errbuf *eb);
	void (*format)(const struct config *config, struct strbuf *out);
};

static void on_warning(void *ctx, const char *message)
{
	(void)ctx;
	assert(*message);
}

static void check_shown(const struct config_kind *kind, const struct config *config)
{
	struct config *again = config_new();
	struct strbuf first = STRBUF_INIT, second = STRBUF_INIT;
	struct errbuf eb;

	assert(again);
	kind->format(config, &first);
	assert(kind->parse(first.text, first.length, again, on_warning, NULL,
			   &eb) == 0);
	kind->format(again, &second);
	assert(strcmp(first.text, second.text) == 0);
	strbuf_free(&first);
	strbuf_free(&second);
	config_free(again);
}

static int try_config(const struct config_kind *kind, const uint8_t *data,
		      size_t size)
{
	struct config *config = config_new();
	struct errbuf eb = { "" };
	int err;

	assert(config);
	err = kind->parse((const char *)data, size, config, on_warning, NULL, &eb);
	if (!err)
		err = config_default(config);
	if (!err)
		err = config_validate(config, on_warning, NULL, &eb);
	if (err)
		assert(*eb.text);
	else
		check_shown(kind, config);
	config_free(config);
	return 0;
}

#endif
