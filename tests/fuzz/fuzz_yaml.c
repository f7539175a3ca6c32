/* YAML of any kind, as one document and as a stream of lists. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "watch/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
	const uint8_t *at, *end;
};

static ssize_t read_source(void *ctx, char *bytes, size_t size)
{
	struct source *source = ctx;
	size_t n = (size_t)(source->end - source->at);

	/* In pieces, whatever libyaml asks for. */
	n = n < 13 ? n : 13;
	n = n < size ? n : size;
	memcpy(bytes, source->at, n);
	source->at += n;
	return (ssize_t)n;
}

static void visit(const struct json *json, unsigned int depth)
{
	assert(depth <= JSON_MAX_DEPTH + 1);
	json_for_each (child, json)
		visit(child, depth + 1);
}

static int take_item(void *ctx, const struct json *document, struct json *item,
		     struct errbuf *eb)
{
	(void)ctx, (void)eb;
	assert(json_type(document) == JSON_OBJECT);
	visit(item, 0);
	json_free(item);
	return 0;
}

static int take_document(void *ctx, struct json *document, struct errbuf *eb)
{
	(void)ctx, (void)eb;
	visit(document, 0);
	json_free(document);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct yaml_ops ops = { take_item, take_document };
	struct source source = { data, data + size };
	struct errbuf eb = { "" };
	struct json *json;

	if (yaml_read(read_source, &source, &ops, NULL, &eb))
		assert(*eb.text);
	json = yaml_parse((const char *)data, size, NULL);
	if (json)
		visit(json, 0);
	json_free(json);
	return 0;
}
