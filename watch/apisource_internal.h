/*
 * What tests and benches set about an API source; the program takes the defaults.
 */
#ifndef WATCH_APISOURCE_INTERNAL_H
#define WATCH_APISOURCE_INTERNAL_H

#include "watch/apiclient.h"
#include "watch/apisource.h"

struct apisource_tuning {
	struct api_timing timing;
	const struct clock *clock;   /* borrowed */
	const char *service_account; /* folder; borrowed, as are the next two */
	const char *host,
		*port; /* KUBERNETES_SERVICE_HOST, _PORT; NULL: not in a pod */
	const char *service_url;   /* KUBERNETES_PORT; NULL: not set */
	struct webproxy_env proxy; /* its values are borrowed, too */
	uint64_t seed;		   /* of jitter; 0: chance */
};

struct apisource_tuning apisource_default_tuning(void); /* reads the environment */

struct apisource *apisource_new_tuned(struct event_base *base,
				      const struct apisource_options *options,
				      const struct apisource_tuning *tuning,
				      const struct object_sink *sink,
				      struct errbuf *eb);

#endif
