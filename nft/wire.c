#include "nft/wire.h"

#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>

void wire_free(struct wire *w)
{
	free(w->bytes);
	*w = (struct wire){ 0 };
}

void *wire_reserve(struct wire *w, size_t more)
{
	size_t need, size;
	uint8_t *bytes;

	assert(w->length <= w->size && (w->bytes || !w->size));
	if (w->err)
		return NULL;
	if (__builtin_add_overflow(w->length, more, &need) || need > SIZE_MAX / 4)
		goto fail;
	if (need > w->size) {
		size = w->size ? w->size * 2 : 1024;
		if (size < need)
			size = need;
		bytes = realloc(w->bytes, size);
		if (!bytes)
			goto fail;
		w->bytes = bytes;
		w->size = size;
	}
	return memset(w->bytes + w->length, 0, more);

fail:
	w->err = -ENOMEM;
	return NULL;
}

uint8_t family_nfproto(enum family family)
{
	return family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

struct nlmsghdr *message_begin(struct wire *w, enum family family,
			       uint16_t type, uint16_t flags, size_t room)
{
	void *at =
		wire_reserve(w, MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg) + room);
	struct nlmsghdr *nlh;
	struct nfgenmsg *nfg;

	if (!at)
		return NULL;
	nlh = mnl_nlmsg_put_header(at);
	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = family_nfproto(family);
	nfg->version = NFNETLINK_V0;
	return nlh;
}

void message_end(struct wire *w, const struct nlmsghdr *nlh)
{
	assert(w->bytes && (const uint8_t *)nlh == w->bytes + w->length);
	/* Else the room that was asked for was too small, and memory is overwritten. */
	assert(w->length + MNL_ALIGN(nlh->nlmsg_len) <= w->size);
	w->length += MNL_ALIGN(nlh->nlmsg_len);
}

/* Messages of no subsystem, which name one. */
void wire_put_marker(struct wire *w, uint16_t type, uint32_t seq,
		     const uint32_t *generation)
{
	struct nlmsghdr *nlh = message_begin(
		w, FAMILY_IPV4, type, 0, MNL_ATTR_HDRLEN + sizeof(*generation));
	struct nfgenmsg *nfg;

	assert(type == NFNL_MSG_BATCH_BEGIN || type == NFNL_MSG_BATCH_END);
	if (!nlh)
		return;
	nlh->nlmsg_type = type;
	nlh->nlmsg_seq = seq;
	nfg = mnl_nlmsg_get_payload(nlh);
	nfg->nfgen_family = NFPROTO_UNSPEC;
	nfg->res_id = htons(NFNL_SUBSYS_NFTABLES);
	if (generation)
		mnl_attr_put_u32(nlh, NFNL_BATCH_GENID, htonl(*generation));
	message_end(w, nlh);
}
