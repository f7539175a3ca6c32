/*
 * Private to nft/: a growing run of netlink messages. Sequence numbers are left
 * 0; who sends the run numbers its messages.
 */
#ifndef NFT_WIRE_H
#define NFT_WIRE_H

#include "nft/attr.h"
#include "proxy/base/addr.h"

/* After a failure, err is -ENOMEM and nothing is added any more. */
struct wire {
	uint8_t *bytes;
	size_t length, size;
	int err;
};

void wire_free(struct wire *w);
/*
 * Zeroed room for @more bytes after the end; NULL after a failure. The length
 * is the caller's to move.
 */
void *wire_reserve(struct wire *w, size_t more);

static inline struct nlmsghdr *message_at(const struct wire *w, size_t at)
{
	return (struct nlmsghdr *)(void *)(w->bytes + at);
}

#define for_each_message(nlh, at, wire)                                        \
	for (at = 0; at < (wire)->length && (nlh = message_at(wire, at), 1);   \
	     at += NLMSG_ALIGN(nlh->nlmsg_len))

/*
 * An nf_tables message at the end of @w with @room bytes for attributes, to be
 * closed by message_end(). NULL: no memory.
 */
struct nlmsghdr *message_begin(struct wire *w, enum family family,
			       uint16_t type, uint16_t flags, size_t room);
void message_end(struct wire *w, const struct nlmsghdr *nlh);

/*
 * NFNL_MSG_BATCH_BEGIN or NFNL_MSG_BATCH_END. @generation is what the
 * transaction is based on; NULL: of no matter.
 */
void wire_put_marker(struct wire *w, uint16_t type, uint32_t seq,
		     const uint32_t *generation);

/* NFPROTO_* */
uint8_t family_nfproto(enum family family);

#endif
