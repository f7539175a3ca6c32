/* A VipmapConfiguration: see config.h. */
#include "tests/fuzz/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct config_kind kind = { vipmapconfig_parse,
						 config_format_vipmap };

	return try_config(&kind, data, size);
}
