/*
 * Protobuf from the API server as it arrives, in any pieces, cut into what is
 * read at a time: the events of a watch, or the items of a list. The
 * counterpart of watch/splitter.h, with the same callbacks. Memory does not
 * grow with the list.
 */
#ifndef WATCH_PROTOBUF_STREAM_H
#define WATCH_PROTOBUF_STREAM_H

#include "watch/splitter.h"

struct protobuf_stream;

/*
 * SPLIT_STREAM: @ops->item gets each event, for protobuf_read_event().
 * SPLIT_LIST: @ops->item gets each item, for protobuf_read_item(), and at its
 * end @ops->rest what else the list has, for protobuf_read_list(). It must be
 * of @list_kind ("ServiceList"), which is borrowed, as are @ops and @ctx.
 * @ops->head is not called. NULL when out of memory.
 */
struct protobuf_stream *protobuf_stream_new(enum splitter_mode mode,
					    const char *list_kind,
					    const struct splitter_ops *ops,
					    void *ctx);
void protobuf_stream_free(struct protobuf_stream *s); /* NULL is allowed */

/* As those of the splitter. An object of more than JSON_MAX_LENGTH bytes is an error. */
int protobuf_stream_feed(struct protobuf_stream *s, const char *bytes,
			 size_t length, struct errbuf *eb);
int protobuf_stream_finish(struct protobuf_stream *s, struct errbuf *eb);
void protobuf_stream_reset(struct protobuf_stream *s);

#endif
