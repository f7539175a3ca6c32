/*
 * What differs between two configurations, for the people who changed one.
 */
#ifndef MODEL_CONFIG_DIFF_H
#define MODEL_CONFIG_DIFF_H

#include "proxy/model/config.h"

/*
 * Calls @found for each field of /configz that differs, in its order: the path
 * as in "nftables.masqueradeAll", and both values as they are read by people.
 * Returns the number of differences, or -ENOMEM.
 */
int config_diff(const struct config *old, const struct config *new,
		void (*found)(void *ctx, const char *field, const char *old,
			      const char *new),
		void *ctx);

#endif
