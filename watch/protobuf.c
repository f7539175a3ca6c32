/*
 * Four wire types and a varint: less than what the glue to a library would be.
 * A library keeps the fields that it does not know, and of an API server's
 * objects these are the larger half.
 */
#include "watch/protobuf.h"

#include <errno.h>
#include <stdbool.h>

int protobuf_varint_byte(uint8_t byte, uint64_t *value, unsigned int *n)
{
	/* The tenth byte has room for one bit. */
	if (*n == PROTOBUF_VARINT_MAX - 1 && byte > 1)
		return -EINVAL;
	*value |= (uint64_t)(byte & 0x7f) << 7 * *n;
	++*n;
	return !(byte & 0x80);
}

int protobuf_tag(uint64_t tag, uint32_t *number, enum protobuf_wire *wire)
{
	if (tag > UINT32_MAX || tag >> 3 == 0)
		return -EINVAL;
	*number = (uint32_t)(tag >> 3);
	switch (tag & 7) {
	case PROTOBUF_VARINT:
	case PROTOBUF_FIXED64:
	case PROTOBUF_BYTES:
	case PROTOBUF_FIXED32:
		*wire = (enum protobuf_wire)(tag & 7);
		return 0;
	}
	return -EINVAL;
}

static int take_varint(struct protobuf *message, uint64_t *value)
{
	unsigned int n = 0;
	int ret = 0;

	*value = 0;
	while (!ret) {
		if (message->at == message->end)
			return -EINVAL;
		ret = protobuf_varint_byte((uint8_t)*message->at++, value, &n);
	}
	return ret < 0 ? ret : 0;
}

/* Little-endian. */
static int take_fixed(struct protobuf *message, unsigned int size, uint64_t *value)
{
	unsigned int i;

	if ((size_t)(message->end - message->at) < size)
		return -EINVAL;
	*value = 0;
	for (i = 0; i < size; i++)
		*value |= (uint64_t)(uint8_t)*message->at++ << 8 * i;
	return 0;
}

static int take_bytes(struct protobuf *message, struct protobuf *bytes)
{
	uint64_t length;

	if (take_varint(message, &length) ||
	    length > (uint64_t)(message->end - message->at))
		return -EINVAL;
	bytes->at = message->at;
	message->at += length;
	bytes->end = message->at;
	return 0;
}

int protobuf_next(struct protobuf *message, struct protobuf_field *field)
{
	uint64_t tag;
	int err = 0;

	if (message->at == message->end)
		return 0;
	if (take_varint(message, &tag) ||
	    protobuf_tag(tag, &field->number, &field->wire))
		return -EINVAL;
	switch (field->wire) {
	case PROTOBUF_VARINT:
		err = take_varint(message, &field->value);
		break;
	case PROTOBUF_FIXED64:
		err = take_fixed(message, 8, &field->value);
		break;
	case PROTOBUF_FIXED32:
		err = take_fixed(message, 4, &field->value);
		break;
	case PROTOBUF_BYTES:
		err = take_bytes(message, &field->bytes);
		break;
	}
	return err ? err : 1;
}
