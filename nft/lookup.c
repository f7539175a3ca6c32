/* A question is a deletion with another name: it holds the key and nothing else. */
#include "nft/lookup.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "nft/attr.h"
#include "nft/decode_elements.h"
#include "nft/encode_elements.h"
#include "nft/request.h"

enum {
	TIMEOUT_MS = 5000,
	KEYS_PER_REQUEST = 500, /* see lists.c */
};

struct answer {
	enum family family;
	enum set_id set;
	struct lookup *found;
	/* of a client */
	struct addr *endpoint;
	uint16_t *port;
	int64_t *expires_ms;
	int err;
};

/* The first element of a reply. */
static const struct nlattr *element_of(const struct nlmsghdr *nlh)
{
	const struct nlattr *list = message_elements(nlh), *attr;

	if (!list)
		return NULL;
	for_each_attr_in (attr, list)
		return attr;
	return NULL;
}

static int lookup_on_element(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr = element_of(nlh);
	struct answer *a = data;
	const char *chain;
	char text[PICK_NAME_SIZE];

	if (!attr)
		return 0;
	a->err = element_decode(a->family, a->set, attr, &a->found->element);
	if (a->err)
		return 0;
	chain = set_has_verdict(a->set)
			? verdict_chain(&a->found->element.verdict,
					a->found->element.chain, text)
			: NULL;
	snprintf(a->found->chain, sizeof(a->found->chain), "%s",
		 chain ? chain : "");
	/* they point into the message */
	a->found->element.chain = a->found->element.chain ? a->found->chain : NULL;
	a->found->element.comment = NULL;
	return 0;
}

static int lookup_exchange(struct nlsock *nl, struct nlmsghdr *nlh,
			   int (*reply)(const struct nlmsghdr *nlh, void *data),
			   struct answer *a, struct errbuf *eb)
{
	struct iovec iov = { .iov_base = nlh, .iov_len = nlh->nlmsg_len };
	struct errbuf local;
	int err;

	nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = nlsock_next_seq(nl);
	a->err = -ENOENT;
	err = nlsock_exchange(nl, &iov, 1, nlh->nlmsg_seq, reply, a, TIMEOUT_MS,
			      &local);
	if (!err)
		err = a->err;
	return err ? errf(eb, err, "asking for an element: %s", strerror(-err))
		   : 0;
}

int lookup_element(struct nlsock *nl, enum family family, const struct element *key,
		   struct lookup *found, struct errbuf *eb)
{
	struct answer a = { .family = family, .set = key->set, .found = found };
	struct elements question;
	int err;

	elements_init(&question, key->set, false);
	elements_put(&question, family, key, NULL, NULL);
	if (question.wire.err)
		err = errf(eb, -ENOMEM, "out of memory");
	else
		err = lookup_exchange(
			nl, (struct nlmsghdr *)(void *)question.wire.bytes,
			lookup_on_element, &a, eb);
	elements_free(&question);
	return err;
}

struct many {
	enum family family;
	enum set_id set;
	size_t n_found;
	void (*found)(void *ctx, const struct element *element);
	void *ctx;
};

static int lookup_on_one_of_many(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr = element_of(nlh);
	struct many *many = data;
	struct element el;

	if (!attr)
		return 0;
	many->n_found++;
	if (element_decode(many->family, many->set, attr, &el) == 0)
		many->found(many->ctx, &el);
	return 0;
}

/*
 * The kernel stops at the first key that is not there. Returns how many of
 * @count keys of one set are dealt with, or a negative errno.
 */
static ssize_t lookup_some(struct nlsock *nl, struct many *many,
			   const struct element *keys, size_t count,
			   struct errbuf *eb)
{
	struct elements question;
	struct nlmsghdr *nlh;
	struct iovec iov;
	size_t i;
	int err;

	elements_init(&question, many->set, false);
	for (i = 0; i < count; i++)
		elements_put(&question, many->family, &keys[i], NULL, NULL);
	err = question.wire.err;
	many->n_found = 0;
	if (err) {
		errf(eb, err, "%s", strerror(-err));
	} else {
		nlh = message_at(&question.wire, 0);
		nlh->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETSETELEM;
		nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
		nlh->nlmsg_seq = nlsock_next_seq(nl);
		iov = (struct iovec){ .iov_base = nlh, .iov_len = nlh->nlmsg_len };
		err = nlsock_exchange(nl, &iov, 1, nlh->nlmsg_seq,
				      lookup_on_one_of_many, many, TIMEOUT_MS, eb);
	}
	elements_free(&question);
	if (err == -ENOENT && many->n_found < count)
		return (ssize_t)many->n_found + 1;
	return err ? err : (ssize_t)count;
}

int lookup_elements(struct nlsock *nl, enum family family,
		    const struct element *keys, size_t count,
		    void (*found)(void *ctx, const struct element *element),
		    void *ctx, struct errbuf *eb)
{
	struct many many = { .family = family, .found = found, .ctx = ctx };
	struct errbuf reason;
	size_t i = 0, n;
	ssize_t done;

	while (i < count) {
		many.set = keys[i].set;
		for (n = 1; i + n < count && n < KEYS_PER_REQUEST; n++)
			if (keys[i + n].set != many.set)
				break;
		done = lookup_some(nl, &many, &keys[i], n, &reason);
		if (done < 0)
			return errf(eb, (int)done, "asking for elements: %s",
				    reason.text);
		i += (size_t)done;
	}
	return 0;
}

static int lookup_on_client(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1], *attr = element_of(nlh);
	struct answer *a = data;
	uint64_t expires_be = 0;

	if (!attr)
		return 0;
	nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
	a->err = endpoint_decode(a->family, attrs[NFTA_SET_ELEM_DATA],
				 a->endpoint, a->port);
	attr = attrs[NFTA_SET_ELEM_EXPIRATION];
	if (attr && mnl_attr_get_payload_len(attr) == sizeof(expires_be))
		memcpy(&expires_be, mnl_attr_get_payload(attr), sizeof(expires_be));
	*a->expires_ms = (int64_t)be64toh(expires_be);
	return 0;
}

int lookup_client(struct nlsock *nl, enum family family, const char *map,
		  const struct addr *client, struct addr *endpoint,
		  uint16_t *port, int64_t *expires_ms, struct errbuf *eb)
{
	struct answer a = {
		.family = family,
		.endpoint = endpoint,
		.port = port,
		.expires_ms = expires_ms,
	};
	struct nlattr *list, *element, *key;
	uint32_t buf[REQUEST_WORDS] = { 0 };
	struct nlmsghdr *nlh = (struct nlmsghdr *)(void *)buf;
	const struct request request = {
		.family = (int)family,
		.type = NFT_MSG_GETSETELEM,
		.table = TABLE_NAME,
		.set = map,
	};

	if (strlen(map) > LOOKUP_NAME_SIZE - 1)
		return -ENOENT;
	request_build(&request, 0, buf);
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
	key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
	mnl_attr_put(nlh, NFTA_DATA_VALUE, family_size(family), client->bytes);
	mnl_attr_nest_end(nlh, key);
	mnl_attr_nest_end(nlh, element);
	mnl_attr_nest_end(nlh, list);
	return lookup_exchange(nl, nlh, lookup_on_client, &a, eb);
}
