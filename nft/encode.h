/*
 * Private to nft/: the netlink messages of a table's objects, elements aside. Sequence numbers are
 * left 0; the batch numbers its messages when it is sent.
 */
#ifndef NFT_ENCODE_H
#define NFT_ENCODE_H

#include "nft/attr.h"
#include "nft/rule.h"

/* A growing run of netlink messages. After a failure, err is -ENOMEM and nothing is added any more.
 */
struct wire {
	uint8_t *bytes;
	size_t length, size;
	int err;
};

void wire_free(struct wire *w);
/* Zeroed room for @more bytes after the end; NULL after a failure. The length is the caller's to
 * move. */
void *wire_reserve(struct wire *w, size_t more);

static inline struct nlmsghdr *message_at(const struct wire *w, size_t at)
{
	return (struct nlmsghdr *)(void *)(w->bytes + at);
}

#define for_each_message(nlh, at, wire)                                                            \
	for (at = 0; at < (wire)->length && (nlh = message_at(wire, at), 1);                       \
	     at += NLMSG_ALIGN(nlh->nlmsg_len))

/* A message at the end of @w with @room bytes for attributes, to be closed by message_end(). NULL:
 * no memory. */
struct nlmsghdr *message_begin(struct wire *w, enum family family, uint16_t type, uint16_t flags,
			       size_t room);
void message_end(struct wire *w, const struct nlmsghdr *nlh);

enum { TABLE_FLAGS_OWNED = 0x2 | 0x4 }; /* owner | persist; libnftnl has no name for the latter */

void encode_table(struct wire *w, enum family family, uint32_t table_flags);
/* Of a table that exists. */
void encode_table_flags(struct wire *w, enum family family, uint32_t table_flags);
/* Whatever it holds; it need not exist. */
void encode_table_delete(struct wire *w, enum family family);
/* @id: any number that no other set of the batch has. @comment may be NULL. */
void encode_set(struct wire *w, enum family family, const struct set_layout *layout,
		const char *name, const char *comment, uint32_t id);
void encode_set_delete(struct wire *w, enum family family, const char *name);
void encode_chain(struct wire *w, enum family family, const struct chain *chain);
void encode_chain_delete(struct wire *w, enum family family, const char *name);
/* Without devices. */
void encode_flowtable(struct wire *w, enum family family);
void encode_flowtable_delete(struct wire *w, enum family family);
/* Of a flowtable that is there. */
void encode_flowtable_device(struct wire *w, enum family family, const char *device, bool remove);
void encode_rules(struct wire *w, enum family family, const struct chain *chain);
void encode_rules_flush(struct wire *w, enum family family, const char *chain);

#endif
