/* JSON text of any kind: every value of a tree can be visited, named, copied and measured. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "watch/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void visit(const struct json *root, const struct json *json,
		  unsigned int depth)
{
	char path[JSON_PATH_SIZE];
	int64_t number;

	assert(depth <= JSON_MAX_DEPTH + 1);
	if (depth < 4) {
		json_path(root, json, path);
		assert(strlen(path) < sizeof(path));
	}
	if (json_integer(json, &number))
		assert((double)number == json_number(json));
	if (json_type(json) == JSON_STRING)
		assert(json_string(json));
	json_for_each (child, json) {
		if (json_type(json) == JSON_OBJECT)
			assert(json_has(json, json_key(child)));
		visit(root, child, depth + 1);
	}
}

static void on_duplicate(void *ctx, const char *path)
{
	(void)ctx;
	assert(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct errbuf eb = { "" };
	struct json *json, *copy;

	/* A wide object takes time in the square of its width here, as each key is looked up. */
	if (size > 4096)
		return 0;
	json = json_parse((const char *)data, size, &eb);
	assert(json || *eb.text);
	if (!json)
		return 0;
	visit(json, json, 0);
	json_duplicates(json, on_duplicate, NULL);
	copy = json_copy(json);
	assert(copy && json_size(copy) == json_size(json));
	json_free(copy);
	json_free(json);
	return 0;
}
