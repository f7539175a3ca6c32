/*
 * The wire format of Protocol Buffers: a message's fields, one after the other.
 * What a field means is the caller's. Nothing is copied, nothing is allocated,
 * and no byte outside of the message is looked at, whatever the message says
 * about its lengths.
 */
#ifndef WATCH_PROTOBUF_H
#define WATCH_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>

enum protobuf_wire {
	PROTOBUF_VARINT = 0,
	PROTOBUF_FIXED64 = 1,
	PROTOBUF_BYTES = 2, /* strings, messages, maps' entries */
	PROTOBUF_FIXED32 = 5,
};

enum { PROTOBUF_VARINT_MAX = 10 }; /* bytes */

/* A message, or what is left of it. */
struct protobuf {
	const char *at, *end;
};

struct protobuf_field {
	uint32_t number;
	enum protobuf_wire wire;
	uint64_t value;	       /* of numbers */
	struct protobuf bytes; /* of PROTOBUF_BYTES; lies in the message */
};

/* Returns 1 with the next field, 0 at the end, or -EINVAL. Groups are refused: no API has them. */
int protobuf_next(struct protobuf *message, struct protobuf_field *field);

/* A tag's parts. Returns 0, or -EINVAL for a number or wire type that cannot be. */
int protobuf_tag(uint64_t tag, uint32_t *number, enum protobuf_wire *wire);

/*
 * Takes one more byte of a varint in, of which *n bytes are in *value already
 * (0 to begin with). Returns 1 when it is complete, 0 when there is more to
 * come, or -EINVAL if it does not fit into 64 bits.
 */
int protobuf_varint_byte(uint8_t byte, uint64_t *value, unsigned int *n);

#endif
