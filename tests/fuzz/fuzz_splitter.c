/*
 * A text gives the same objects whole and in pieces. The first byte is the mode
 * and the size of the pieces.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/strbuf.h"
#include "watch/splitter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int note(struct strbuf *log, char what, const char *text, size_t length)
{
	assert(length >= 2 && text[0] == '{');
	strbuf_addc(log, what);
	strbuf_add(log, text, length);
	return 0;
}

static int on_head(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, 'h', text, length);
}

static int on_item(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, 'i', text, length);
}

static int on_rest(void *ctx, const char *text, size_t length, struct errbuf *eb)
{
	(void)eb;
	return note(ctx, 'r', text, length);
}

static int split(const uint8_t *data, size_t size, size_t piece,
		 enum splitter_mode mode, struct strbuf *log)
{
	static const struct splitter_ops ops = { on_head, on_item, on_rest };
	struct splitter *s = splitter_new(mode, &ops, log);
	size_t at, n;
	int err = 0;

	assert(s);
	strbuf_adds(log, "");
	for (at = 0; at < size && !err; at += n) {
		n = size - at < piece ? size - at : piece;
		err = splitter_feed(s, (const char *)data + at, n, NULL);
	}
	if (!err)
		err = splitter_finish(s, NULL);
	splitter_free(s);
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
	err = split(data + 1, size - 1, size, mode, &whole);
	err_pieces = split(data + 1, size - 1, (data[0] >> 1) + 1u, mode, &pieces);
	assert(err == err_pieces && whole.length == pieces.length &&
	       memcmp(whole.text, pieces.text, whole.length) == 0);
	strbuf_free(&whole);
	strbuf_free(&pieces);
	return 0;
}
