/*
 * Session affinity is remembered by the kernel's rules, so a map's contents are
 * only known by listing it: keys whose endpoint is not wanted are collected, 4
 * or 16 bytes each, and deleted when the listing is over, since deletions in
 * between would make it inconsistent.
 *
 * The kernel makes a message of a listing when the one before is read, so a
 * caller who reads one at a time decides how fast it goes. For each it counts
 * from the beginning of the map to where it was, so clients that come or run
 * out meanwhile, and a hash table that grows or shrinks, make it leave out
 * others, and it does not say so. What it tells is true all the same. So the
 * map is listed until nobody is found any more; only a listing that finds
 * nobody at once and was not called inconsistent is believed alone.
 *
 * Entries run out by themselves at any moment, and one that is not there must
 * not fail a transaction. Linux 6.3 has a message for that. Before, each key is
 * a message of its own, and a transaction that failed is sent again without the
 * keys that are gone.
 *
 * Regrets: listing costs the square of the number of clients (see lists.c;
 * 100,000 take 0.4 s), and their keys are known to nobody but the kernel. A
 * client that runs out and comes back between listing and deletion loses its
 * new endpoint. It gets one anew with its next connection.
 */
#include "nft/affinity.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "nft/attr.h"
#include "nft/decode_elements.h"
#include "nft/layout.h"
#include "nft/wire.h"
#include "proxy/base/array.h"
#include "nft/request.h"

enum {
	DESTROYSETELEM = 30, /* NFT_MSG_DESTROYSETELEM, which older headers lack */
	/* A list of them is an attribute of 56,000 bytes at most, below the
	   65,535 that it may have. */
	KEYS_PER_BATCH = 2000,
	MESSAGES_PER_BATCH = 500,
	MAX_ATTEMPTS = 5,
	TIMEOUT_MS = 10000,
	DATAGRAM_SIZE =
		64 * 1024, /* twice what the kernel makes of a listing at most */
};

struct affinity_stream {
	struct mnl_socket *socket;
	uint32_t seq;
	bool listing; /* the kernel is in the middle of a listing */
	char datagram[DATAGRAM_SIZE] __attribute__((aligned(8)));
};

enum purge_state { STATE_BEGIN, STATE_LISTING, STATE_DELETING };

struct affinity_purge {
	struct nlsock *nl;
	struct affinity_stream *stream;
	enum family family;
	const char *map;
	bool (*keep)(void *ctx, const struct addr *endpoint, uint16_t port);
	void *ctx;

	enum purge_state state;
	unsigned int listings, removed;
	bool interrupted; /* this listing was */
	uint8_t *keys;	  /* family_size() bytes each */
	size_t n_keys, room, n_deleted;
	bool single; /* a message per key, for kernels that cannot destroy */
};

static int purge_add_key(struct affinity_purge *p, const uint8_t *key)
{
	const size_t size = family_size(p->family);
	uint8_t *keys = array_grown(p->keys, p->n_keys, &p->room, size);

	if (!keys)
		return -ENOMEM;
	p->keys = keys;
	memcpy(keys + p->n_keys * size, key, size);
	p->n_keys++;
	return 0;
}

/* An entry that we cannot read has no endpoint that anybody wants. */
static int purge_on_entry(struct affinity_purge *p, const struct nlattr *attr)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_MAX + 1], *key[NFTA_DATA_MAX + 1];
	struct addr endpoint;
	uint16_t port;

	nested_attrs(attr, attrs, NFTA_SET_ELEM_MAX + 1);
	nested_attrs(attrs[NFTA_SET_ELEM_KEY], key, NFTA_DATA_MAX + 1);
	if (!key[NFTA_DATA_VALUE] ||
	    mnl_attr_get_payload_len(key[NFTA_DATA_VALUE]) != family_size(p->family))
		return 0;
	if (endpoint_decode(p->family, attrs[NFTA_SET_ELEM_DATA], &endpoint,
			    &port) == 0 &&
	    p->keep(p->ctx, &endpoint, port))
		return 0;
	return purge_add_key(p, mnl_attr_get_payload(key[NFTA_DATA_VALUE]));
}

static int on_entries(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *list = message_elements(nlh), *attr;
	struct affinity_purge *p = data;
	int err = 0;

	if (!list)
		return 0;
	for_each_attr_in (attr, list) {
		err = purge_on_entry(p, attr);
		if (err)
			break;
	}
	return err;
}

/* NFNL_MSG_BATCH_BEGIN or NFNL_MSG_BATCH_END */
static void put_marker(struct wire *w, uint16_t type)
{
	struct nlmsghdr *nlh = message_begin(w, FAMILY_IPV4, 0, 0, 0);
	struct nfgenmsg *nfg;

	if (!nlh)
		return;
	nlh->nlmsg_type = type;
	nfg = mnl_nlmsg_get_payload(nlh);
	nfg->nfgen_family = AF_UNSPEC;
	nfg->res_id = htons(NFNL_SUBSYS_NFTABLES);
	message_end(w, nlh);
}

/* A message that deletes @n keys from number @first on. */
static void put_deletion(struct wire *w, const struct affinity_purge *p,
			 size_t first, size_t n)
{
	const size_t size = family_size(p->family);
	struct nlmsghdr *nlh;
	struct nlattr *list, *element, *key;
	size_t i;

	nlh = message_begin(w, p->family,
			    p->single ? NFT_MSG_DELSETELEM : DESTROYSETELEM, 0,
			    strlen(p->map) + 64 + n * (12 + size));
	if (!nlh)
		return;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, p->map);
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	for (i = first; i < first + n; i++) {
		element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
		key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
		mnl_attr_put(nlh, NFTA_DATA_VALUE, size, p->keys + i * size);
		mnl_attr_nest_end(nlh, key);
		mnl_attr_nest_end(nlh, element);
	}
	mnl_attr_nest_end(nlh, list);
	message_end(w, nlh);
}

/* What the kernel said to a transaction, message by message. */
struct outcome {
	uint32_t begin_seq, first_seq;
	bool gone[MESSAGES_PER_BATCH];
	int err; /* the first error; "no such entry" counts only if there is no other */
};

static int on_outcome(const struct nlmsghdr *nlh, void *data)
{
	struct outcome *o = data;
	uint32_t index = nlh->nlmsg_seq - o->first_seq;
	int err;

	if (nlh->nlmsg_type != NLMSG_ERROR)
		return 0;
	err = message_error(nlh);
	if (err == -ENOENT && index < MESSAGES_PER_BATCH)
		o->gone[index] = true;
	if (err && (!o->err || o->err == -ENOENT))
		o->err = err;
	/* Nothing follows an error for BEGIN. */
	return nlh->nlmsg_seq == o->begin_seq ? err : 0;
}

/* Numbers the messages of @w and sends them; BEGIN is the first, END the last. */
static int purge_transact(struct nlsock *nl, struct wire *w, struct outcome *o,
			  struct errbuf *eb)
{
	struct iovec iov = { .iov_base = w->bytes, .iov_len = w->length };
	struct nlmsghdr *nlh = NULL, *last = NULL;
	size_t at;
	int err;

	if (w->err)
		return errf(eb, w->err, "%s", strerror(-w->err));
	for (at = 0; at < w->length; at += MNL_ALIGN(nlh->nlmsg_len)) {
		nlh = (void *)(w->bytes + at);
		nlh->nlmsg_seq = nlsock_next_seq(nl);
		if (at == 0)
			o->begin_seq = nlh->nlmsg_seq;
		if (nlh->nlmsg_type != NFNL_MSG_BATCH_END)
			last = nlh;
	}
	assert(last); /* a transaction is not sent without a message */
	last->nlmsg_flags |= NLM_F_ACK;
	o->first_seq = o->begin_seq + 1;
	err = nlsock_exchange(nl, &iov, 1, last->nlmsg_seq, on_outcome, o,
			      TIMEOUT_MS, eb);
	/* The exchange's own is that of the last message. */
	return o->err ? errf(eb, o->err, "the kernel refuses: %s",
			     strerror(-o->err))
		      : err;
}

/* Deletes keys @first to @first + @n - 1, in one message or a message each. */
static int delete_keys(struct affinity_purge *p, size_t first, size_t n,
		       struct outcome *o, struct errbuf *eb)
{
	struct wire w = { 0 };
	size_t i;
	int err;

	memset(o, 0, sizeof(*o));
	put_marker(&w, NFNL_MSG_BATCH_BEGIN);
	if (p->single)
		for (i = 0; i < n; i++)
			put_deletion(&w, p, first + i, 1);
	else
		put_deletion(&w, p, first, n);
	put_marker(&w, NFNL_MSG_BATCH_END);
	err = purge_transact(p->nl, &w, o, eb);
	wire_free(&w);
	return err;
}

/* Takes the keys that are gone out of @n from @first on; returns how many are left. */
static size_t drop_gone(struct affinity_purge *p, size_t first, size_t n,
			const struct outcome *o)
{
	const size_t size = family_size(p->family);
	size_t i, left = 0;

	assert(first + n <= p->n_keys);
	for (i = 0; i < n; i++)
		if (!o->gone[i])
			memmove(p->keys + (first + left++) * size,
				p->keys + (first + i) * size, size);
	return left;
}

static int delete_some(struct affinity_purge *p, size_t first, size_t n,
		       struct errbuf *eb)
{
	struct outcome o;
	int attempt, err = 0;

	assert(first + n <= p->n_keys);
	for (attempt = 0; n && attempt < MAX_ATTEMPTS; attempt++) {
		err = delete_keys(p, first, n, &o, eb);
		if (err != -ENOENT || !p->single)
			break;
		n = drop_gone(p, first, n, &o);
	}
	return n ? err : 0;
}

/* The next of the keys that were collected; after the last, 0, or 1 to list again. */
static int delete_step(struct affinity_purge *p, struct errbuf *eb)
{
	size_t n = p->single ? MESSAGES_PER_BATCH : KEYS_PER_BATCH;
	int err;

	assert(p->n_deleted <= p->n_keys);
	if (p->n_deleted == p->n_keys) {
		if (!p->n_keys && (p->listings > 1 || !p->interrupted))
			return 0;
		if (p->listings == MAX_ATTEMPTS)
			return errf(eb, -EINTR, "it changed whenever it was read");
		p->state = STATE_BEGIN;
		return 1;
	}
	if (n > p->n_keys - p->n_deleted)
		n = p->n_keys - p->n_deleted;
	err = delete_some(p, p->n_deleted, n, eb);
	if (err == -EINVAL && !p->single) {
		p->single = true;
		return 1;
	}
	if (err)
		return err;
	p->n_deleted += n;
	p->removed += (unsigned int)n;
	return 1;
}

/* Listing */

static void stream_reset(struct affinity_stream *s)
{
	if (s->socket)
		mnl_socket_close(s->socket);
	s->socket = NULL;
	s->listing = false;
}

static int stream_connect(struct affinity_stream *s, struct errbuf *eb)
{
	int err;

	if (s->listing)
		stream_reset(s); /* of somebody who gave up */
	if (s->socket)
		return 0;
	s->socket = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	if (s->socket && mnl_socket_bind(s->socket, 0, MNL_SOCKET_AUTOPID) == 0)
		return 0;
	err = -errno;
	stream_reset(s);
	return errf(eb, err, "netlink: cannot open a netfilter socket: %s",
		    strerror(-err));
}

struct affinity_stream *affinity_stream_open(struct errbuf *eb)
{
	struct affinity_stream *s = calloc(1, sizeof(*s));

	if (!s)
		errf(eb, -ENOMEM, "out of memory");
	else if (stream_connect(s, eb) == 0)
		return s;
	free(s);
	return NULL;
}

void affinity_stream_close(struct affinity_stream *s)
{
	if (s)
		stream_reset(s);
	free(s);
}

static struct request affinity_request(const struct affinity_purge *p)
{
	return (struct request){
		.family = (int)p->family,
		.type = NFT_MSG_GETSETELEM,
		.dump = true,
		.table = TABLE_NAME,
		.set = p->map,
	};
}

static int stream_begin(struct affinity_purge *p, struct errbuf *eb)
{
	const struct request request = affinity_request(p);
	struct affinity_stream *s = p->stream;
	uint32_t buf[REQUEST_WORDS] = { 0 };
	size_t length;
	int err = stream_connect(s, eb);

	if (err)
		return err;
	length = request_build(&request, ++s->seq, buf);
	if (mnl_socket_sendto(s->socket, buf, length) < 0)
		return errf(eb, -errno, "netlink: cannot send: %s",
			    strerror(errno));
	s->listing = true;
	return 0;
}

/* Returns 1 unless the listing is over: then 0, -ENOENT if there is no such map, or an error. */
static int stream_message(struct affinity_purge *p, const struct nlmsghdr *nlh,
			  struct errbuf *eb)
{
	const bool over =
		nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE;
	int err;

	if (nlh->nlmsg_seq != p->stream->seq)
		return 1;
	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		p->interrupted = true;
	if (!over) {
		err = on_entries(nlh, p);
		return err ? errf(eb, err, "%s", strerror(-err)) : 1;
	}
	p->stream->listing = false;
	err = message_error(nlh);
	return err < 0 ? errf(eb, err, "the kernel refuses: %s", strerror(-err))
		       : 0;
}

static int stream_step(struct affinity_purge *p, struct errbuf *eb)
{
	struct affinity_stream *s = p->stream;
	const struct nlmsghdr *nlh;
	ssize_t got;
	int more = 1;

	assert(s && s->socket);
	got = recv(mnl_socket_get_fd(s->socket), s->datagram, DATAGRAM_SIZE,
		   MSG_DONTWAIT);
	if (got < 0)
		return errno == EINTR
			       ? 1
			       : errf(eb, -errno, "netlink: cannot receive: %s",
				      strerror(errno));
	for_each_nlmsg (nlh, s->datagram, (size_t)got) {
		more = stream_message(p, nlh, eb);
		if (more != 1)
			break;
	}
	return more;
}

/* All of the listing at once. */
static int list_whole(struct affinity_purge *p, struct errbuf *eb)
{
	const struct request request = affinity_request(p);
	int err = request_send(p->nl, &request, on_entries, p, eb);

	p->interrupted = err == -EINTR;
	return p->interrupted ? 0 : err;
}

static int purge_list_begin(struct affinity_purge *p, struct errbuf *eb)
{
	p->n_keys = p->n_deleted = 0;
	p->interrupted = false;
	p->listings++;
	p->state = p->stream ? STATE_LISTING : STATE_DELETING;
	return p->stream ? stream_begin(p, eb) : list_whole(p, eb);
}

struct affinity_purge *affinity_purge_new(
	struct nlsock *nl, struct affinity_stream *stream, enum family family,
	const char *map,
	bool (*keep)(void *ctx, const struct addr *endpoint, uint16_t port),
	void *ctx)
{
	struct affinity_purge *p = calloc(1, sizeof(*p));

	assert(nl && map && keep);
	if (!p)
		return NULL;
	p->nl = nl;
	p->stream = stream;
	p->family = family;
	p->map = map;
	p->keep = keep;
	p->ctx = ctx;
	return p;
}

void affinity_purge_free(struct affinity_purge *p)
{
	if (p)
		free(p->keys);
	free(p);
}

unsigned int affinity_purge_removed(const struct affinity_purge *p)
{
	return p->removed;
}

int affinity_purge_step(struct affinity_purge *p, struct errbuf *eb)
{
	struct errbuf reason = { "" };
	int more = 0;

	switch (p->state) {
	case STATE_BEGIN:
		more = purge_list_begin(p, &reason);
		more = more ? more : 1;
		break;
	case STATE_LISTING:
		more = stream_step(p, &reason);
		if (more == 0) {
			p->state = STATE_DELETING;
			more = 1;
		}
		break;
	case STATE_DELETING:
		more = delete_step(p, &reason);
		break;
	}
	if (more == -ENOENT)
		return 0;
	if (more < 0)
		return errf(eb, more, "map %s: cannot remove clients: %s",
			    p->map, reason.text);
	return more;
}
