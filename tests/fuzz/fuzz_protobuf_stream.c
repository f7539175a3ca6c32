/*
 * Framing: an answer gives the same parts whole and in pieces, and reading it takes no memory that
 * it only claims. The first byte is the mode and the size of the pieces.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/protobuf_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* With the length, since one may follow the other without a mark. */
static int note(struct strbuf *log, char what, const char *bytes, size_t length)
{
	strbuf_addf(log, "%c%zu:", what, length);
	strbuf_add(log, bytes, length);
	return 0;
}

static int on_item(void *ctx, const char *bytes, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, 'i', bytes, length);
}

static int on_rest(void *ctx, const char *bytes, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, 'r', bytes, length);
}

static int cut(const uint8_t *data, size_t size, size_t piece,
	       enum splitter_mode mode, struct strbuf *log)
{
	static const struct splitter_ops ops = { .item = on_item, .rest = on_rest };
	struct protobuf_stream *s =
		protobuf_stream_new(mode, "ServiceList", &ops, log);
	struct errbuf eb = { "" };
	size_t at, n;
	int err = 0;

	assert(s);
	strbuf_adds(log, "");
	for (at = 0; at < size && !err; at += n) {
		n = size - at < piece ? size - at : piece;
		err = protobuf_stream_feed(s, (const char *)data + at, n, &eb);
	}
	if (!err)
		err = protobuf_stream_finish(s, &eb);
	assert(!err || *eb.text);
	protobuf_stream_free(s);
	return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct strbuf whole = STRBUF_INIT, pieces = STRBUF_INIT;
	enum splitter_mode mode;
	int err, err_pieces;

	if (!size)
		return 0;
	mode = data[0] & 1 ? SPLIT_STREAM : SPLIT_LIST;
	err = cut(data + 1, size - 1, size, mode, &whole);
	err_pieces = cut(data + 1, size - 1, (data[0] >> 1) + 1u, mode, &pieces);
	assert(!err == !err_pieces && whole.length == pieces.length &&
	       memcmp(whole.text, pieces.text, whole.length) == 0);
	strbuf_free(&whole);
	strbuf_free(&pieces);
	return 0;
}
