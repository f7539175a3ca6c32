/*
 * What the EndpointSlice controller does in a cluster, for objects from files:
 * the Pods that a Service's selector matches become slices.
 */
#ifndef WATCH_PODS_H
#define WATCH_PODS_H

#include "watch/decode.h"

/* A Pod that has not ended, as far as it matters as an endpoint. */
struct pod;

/* A Service's selector, and where its ports lead. */
struct selector;

/*
 * Both live in @keep. NULL with @eb if the object is bad, and NULL with an empty @eb if it is of no
 * use: a Pod that has ended (phase Succeeded, Failed), a Service without a selector.
 */
struct pod *decode_pod(struct decoder *d, const struct json *json,
		       struct arena *keep, struct errbuf *eb);
struct selector *decode_selector(struct decoder *d, const struct json *json,
				 struct arena *keep, struct errbuf *eb);
const char *pod_namespace(const struct pod *pod);
const char *pod_name(const struct pod *pod);

/* Pods, to be found by their labels. */
struct pod_index;

struct pod_index *pod_index_new(const struct pod *const *pods,
				size_t count); /* NULL: no memory */
void pod_index_free(struct pod_index *index);

/*
 * Calls @put with a slice, to be released with free(), for each family of
 * @service and each different set of port numbers. They are called
 * "SERVICE:IPv4-1", which no real one can be. Returns 0 or -ENOMEM.
 */
int pods_to_slices(const struct pod_index *index, const struct service *service,
		   const struct selector *selector,
		   int (*put)(void *ctx, struct slice *slice), void *ctx);

#endif
