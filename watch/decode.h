/*
 * One Kubernetes object as JSON tree to a plain struct.
 */
#ifndef WATCH_DECODE_H
#define WATCH_DECODE_H

#include "proxy/base/arena.h"
#include "proxy/base/errbuf.h"
#include "proxy/model/objects.h"
#include "watch/json.h"

struct decoder {
	const char *node_name; /* lower case; endpoints of this nodeName are local */
	struct arena *scratch;	       /* reset by each call */
	const char *default_namespace; /* of objects without one; NULL: they are bad */
	/* A field or entry that is skipped while the object stays (LB-2,
	 * SVC-9): one line for the log. */
	void (*complain)(void *ctx, const char *message);
	void *ctx;
};

/*
 * Each returns an object that the caller owns with free(), or NULL with @eb
 * naming kind, namespace/name and field; errno is then EINVAL, or ENOMEM if the
 * object may be good. @json is only read.
 */
struct service *decode_service(struct decoder *d, const struct json *json,
			       struct errbuf *eb);
struct slice *decode_slice(struct decoder *d, const struct json *json,
			   struct errbuf *eb);
struct service_cidr *decode_service_cidr(struct decoder *d, const struct json *json,
					 struct errbuf *eb);
struct node *decode_node(struct decoder *d, const struct json *json,
			 struct errbuf *eb);
void *decode_object(struct decoder *d, enum kind kind, const struct json *json,
		    struct errbuf *eb);

/*
 * Would the API server send this object to a list or watch with our selectors
 * (API-1, API-2)? Services of another proxy and without an address, and slices
 * of such, are not for us. Only labels and clusterIP are looked at.
 */
bool decode_service_selected(const struct json *json);
bool decode_slice_selected(const struct json *json);

/*
 * decode_slice() also returns NULL with an empty @eb text for what is no error but no use either: a
 * slice without a service label (EPS-1) or of type FQDN (EPS-2).
 */

#endif
