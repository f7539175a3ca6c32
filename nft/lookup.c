/*
 * Keys are gathered into one question, which is a list of elements as in a deletion, with another
 * message type. The kernel answers key by key and stops at one that it does not have; then the rest
 * is asked for again, without it.
 */
#include "nft/lookup.h"

#include <errno.h>
#include <stdlib.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "nft/elements.h"
#include "nft/request.h"

enum {
	KEYS_MAX = 512, /* the answers are a page each and must fit into the receive buffer */
	TIMEOUT_MS = 10000,
};

struct lookup {
	struct nlsock *nl;
	enum family family;
	enum set_id set;
	int (*reply)(const struct nlmsghdr *nlh, void *data);
	void *data;
	struct element keys[KEYS_MAX];
	unsigned int n_keys, answered;
};

struct lookup *lookup_new(struct nlsock *nl, enum family family, enum set_id set,
			  int (*reply)(const struct nlmsghdr *nlh, void *data), void *data)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->nl = nl;
	l->family = family;
	l->set = set;
	l->reply = reply;
	l->data = data;
	return l;
}

void lookup_free(struct lookup *l)
{
	free(l);
}

static int on_answer(const struct nlmsghdr *nlh, void *data)
{
	struct lookup *l = data;

	if (!message_is(nlh, NFT_MSG_NEWSETELEM))
		return 0;
	l->answered++;
	return l->reply(nlh, l->data);
}

/* Asks for the keys from @first on. */
static int ask(struct lookup *l, unsigned int first, struct errbuf *eb)
{
	struct elements list;
	struct nlmsghdr *nlh;
	struct iovec iov;
	unsigned int i;
	int err;

	elements_init(&list, l->set, false);
	for (i = first; i < l->n_keys; i++)
		elements_put(&list, l->family, &l->keys[i], NULL, NULL);
	if (list.wire.err) {
		elements_free(&list);
		return errf(eb, -ENOMEM, "out of memory");
	}
	nlh = (struct nlmsghdr *)(void *)list.wire.bytes;
	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = nlsock_next_seq(l->nl);
	iov = (struct iovec){ list.wire.bytes, list.wire.length };
	l->answered = 0;
	err = nlsock_exchange(l->nl, &iov, 1, nlh->nlmsg_seq, on_answer, l, TIMEOUT_MS, eb);
	elements_free(&list);
	return err;
}

int lookup_flush(struct lookup *l, struct errbuf *eb)
{
	unsigned int first = 0;
	int err = 0;

	while (!err && first < l->n_keys) {
		err = ask(l, first, eb);
		first = err ? first + l->answered + 1 : l->n_keys;
		if (err == -ENOENT)
			err = 0;
	}
	l->n_keys = 0;
	return err;
}

int lookup_list(struct lookup *l, const struct element *key, uint32_t count, struct errbuf *eb)
{
	struct element *next;
	uint32_t i;
	int err;

	for (i = 0; i < count; i++) {
		if (l->n_keys == KEYS_MAX) {
			err = lookup_flush(l, eb);
			if (err)
				return err;
		}
		next = &l->keys[l->n_keys++];
		*next = *key;
		next->set = l->set;
		next->index = i;
	}
	return 0;
}
