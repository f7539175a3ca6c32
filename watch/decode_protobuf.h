/*
 * The API's protobuf messages as the same trees that its JSON gives, so that
 * one decoder reads both (watch/decode.h) and a problem is told in the same
 * words. Only fields that somebody reads get into a tree; all others are passed
 * over and cost nothing.
 */
#ifndef WATCH_DECODE_PROTOBUF_H
#define WATCH_DECODE_PROTOBUF_H

#include "proxy/base/arena.h"
#include "proxy/base/errbuf.h"
#include "proxy/model/objects.h"
#include "watch/json.h"
#include "watch/protobuf.h"

/*
 * Each returns a tree that lives on @arena until that is reset, and must not be given to
 * json_free(). NULL with @eb and errno: ENOMEM if that was it, else EINVAL. The bytes are not kept.
 *
 * No tree is deeper than the API's types are, and none has more than JSON_MAX_VALUES values.
 */

/* A response's body: "k8s\0" and an object, whose kind is in it. "kind" is in the tree. */
struct json *protobuf_read_body(struct arena *arena, const char *bytes,
				size_t length, struct errbuf *eb);
/* An event of a watch, {"type": "ADDED", "object": {...}}. */
struct json *protobuf_read_event(struct arena *arena, const char *bytes,
				 size_t length, struct errbuf *eb);
/* An element of a list. */
struct json *protobuf_read_item(struct arena *arena, enum kind kind,
				const char *bytes, size_t length,
				struct errbuf *eb);
/* What a list is without its items, which are there, but empty. */
struct json *protobuf_read_list(struct arena *arena, const char *bytes,
				size_t length, struct errbuf *eb);

/* Where the parts of a body, and of a list in it, are. */
enum protobuf_layout {
	UNKNOWN_TYPE_META = 1,
	UNKNOWN_RAW = 2,
	TYPE_META_KIND = 2,
	LIST_METADATA = 1,
	LIST_ITEMS = 2,
};

extern const char protobuf_magic[4]; /* not terminated */

#endif
