/*
 * Endpoint lists, by key. A dump of a large set is quadratic: for each
 * datagram, of 700 elements or so, the kernel walks the set from its beginning
 * to where it was (100,000 elements: 0.5 s; 500,000: 20 s). Asking for known
 * keys takes some 2 us each, at any size.
 *
 * A question has many keys and each is answered by a datagram of its own; at
 * the first key that is not there the kernel says so and leaves out the rest,
 * so we go on behind it with the next question.
 */
#include "nft/lists.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "nft/layout.h"
#include "nft/wire.h"
#include "nft/request.h"
#include "proxy/model/dispatch.h"
#include "proxy/base/array.h"

enum {
	/* Answers wait in the socket and take a page each before they are trimmed. */
	KEYS_PER_REQUEST = 500,
	TIMEOUT_MS = 10000,
};

void lists_free(struct lists *l)
{
	free(l->notes);
	*l = (struct lists){ 0 };
}

int lists_note(struct lists *l, const struct element *e)
{
	if (e->verdict.kind != VERDICT_PICK)
		return 0;
	/* A VIP's pick chain looks up by VIP, a node port's by node port; else nothing is found. */
	if (set_is_nodeport(e->set) != !!(e->verdict.pick & PICK_NODEPORT))
		return 0;
	if (array_grow(l->notes, l->count, l->room))
		return -ENOMEM;
	l->notes[l->count++] = (struct list_note){
		.addr = e->addr,
		.protocol = e->protocol,
		.port = e->port,
		.set = (uint8_t)list_set(e->verdict.pick & PICK_NODEPORT,
					 e->verdict.pick & PICK_LOCAL,
					 e->verdict.pick & PICK_STICKY),
		.count = e->verdict.count,
	};
	return 0;
}

static int compare_lists(const struct list_note *a, const struct list_note *b)
{
	int order = a->set - b->set;

	if (!order)
		order = addr_compare(&a->addr, &b->addr);
	if (!order)
		order = a->protocol - b->protocol;
	return order ? order : a->port - b->port;
}

/* Of the same list the longest comes first. */
static int compare_notes(const void *a, const void *b)
{
	const struct list_note *x = a, *y = b;
	int order = compare_lists(x, y);

	return order ? order : (x->count < y->count) - (x->count > y->count);
}

/* Two verdicts may lead to one list. */
static void sort_notes(struct lists *l)
{
	unsigned int i, n = 0;

	if (l->sorted)
		return;
	l->sorted = true;
	if (l->count)
		qsort(l->notes, l->count, sizeof(*l->notes), compare_notes);
	for (i = 0; i < l->count; i++)
		if (n == 0 || compare_lists(&l->notes[n - 1], &l->notes[i]))
			l->notes[n++] = l->notes[i];
	assert(n <= l->count);
	l->count = n;
}

uint64_t lists_expect(struct lists *l, enum set_id set)
{
	uint64_t sum = 0;
	unsigned int i;

	sort_notes(l);
	for (i = 0; i < l->count; i++)
		if (l->notes[i].set == set)
			sum += l->notes[i].count;
	return sum;
}

static int compare_to_note(const void *key, const void *note)
{
	return compare_lists(key, note);
}

bool lists_has(struct lists *l, const struct element *e)
{
	const struct list_note key = {
		.addr = e->addr,
		.protocol = e->protocol,
		.port = e->port,
		.set = (uint8_t)e->set,
	};
	const struct list_note *note;

	sort_notes(l);
	note = l->count ? bsearch(&key, l->notes, l->count, sizeof(key),
				  compare_to_note)
			: NULL;
	return note && e->index < note->count;
}

/* A place among the keys of a set: list and index in it. */
struct list_cursor {
	unsigned int note;
	uint32_t index;
};

/* Moves to a key of @set, from where it is on; false at the end. */
static bool cursor_settle(const struct lists *l, enum set_id set,
			  struct list_cursor *c)
{
	while (c->note < l->count && (l->notes[c->note].set != set ||
				      c->index >= l->notes[c->note].count)) {
		c->note++;
		c->index = 0;
	}
	return c->note < l->count;
}

static size_t put_note_key(uint8_t *key, enum family family,
			   const struct list_note *note, uint32_t index)
{
	size_t at = 0;

	if (!set_is_nodeport(note->set)) {
		memcpy(key, note->addr.bytes, family_size(family));
		at = family_size(family);
	}
	memset(key + at, 0, 8);
	key[at] = note->protocol;
	key[at + 4] = (uint8_t)(note->port >> 8);
	key[at + 5] = (uint8_t)note->port;
	memcpy(key + at + 8, &index, sizeof(index));
	assert(at + 12 <= KEY_SIZE_MAX);
	return at + 12;
}

/* A question for the keys from @c on, which stays where it is; returns how many they are. */
static unsigned int put_request(struct wire *w, const struct lists *l,
				enum family family, enum set_id set,
				struct list_cursor c)
{
	struct nlattr *list, *element, *key;
	uint8_t bytes[KEY_SIZE_MAX];
	struct nlmsghdr *nlh;
	unsigned int n;
	size_t size;

	w->length = 0;
	nlh = message_begin(w, family, NFT_MSG_GETSETELEM, NLM_F_ACK,
			    256 + KEYS_PER_REQUEST * (12 + KEY_SIZE_MAX));
	if (!nlh)
		return 0;
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_TABLE, TABLE_NAME);
	mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, set_name(set));
	list = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_LIST_ELEMENTS);
	for (n = 0; n < KEYS_PER_REQUEST && cursor_settle(l, set, &c);
	     n++, c.index++) {
		size = put_note_key(bytes, family, &l->notes[c.note], c.index);
		assert(size <= sizeof(bytes));
		element = mnl_attr_nest_start(nlh, NFTA_LIST_ELEM);
		key = mnl_attr_nest_start(nlh, NFTA_SET_ELEM_KEY);
		mnl_attr_put(nlh, NFTA_DATA_VALUE, size, bytes);
		mnl_attr_nest_end(nlh, key);
		mnl_attr_nest_end(nlh, element);
	}
	mnl_attr_nest_end(nlh, list);
	message_end(w, nlh);
	return n;
}

struct list_answers {
	unsigned int n;
	int (*found)(void *ctx, const struct nlattr *element);
	void *ctx;
};

static int lists_on_answer(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *list = message_elements(nlh), *attr;
	struct list_answers *a = data;
	int err;

	if (!list)
		return 0;
	for_each_attr_in (attr, list) {
		a->n++;
		err = a->found(a->ctx, attr);
		if (err)
			return err;
	}
	return 0;
}

static void cursor_skip(const struct lists *l, enum set_id set,
			struct list_cursor *c, unsigned int n)
{
	for (; n && cursor_settle(l, set, c); n--)
		c->index++;
}

int lists_fetch(struct lists *l, struct nlsock *nl, enum family family,
		enum set_id set, unsigned int max_missing,
		int (*found)(void *ctx, const struct nlattr *element),
		void *ctx, struct errbuf *eb)
{
	struct list_answers answers = { .found = found, .ctx = ctx };
	struct list_cursor cursor = { 0 };
	struct wire w = { 0 };
	struct nlmsghdr *nlh;
	struct iovec iov;
	unsigned int n;
	int err = 0;

	sort_notes(l);
	while (!err && (n = put_request(&w, l, family, set, cursor))) {
		nlh = (void *)w.bytes;
		nlh->nlmsg_seq = nlsock_next_seq(nl);
		iov = (struct iovec){ .iov_base = w.bytes, .iov_len = w.length };
		answers.n = 0;
		err = nlsock_exchange(nl, &iov, 1, nlh->nlmsg_seq,
				      lists_on_answer, &answers, TIMEOUT_MS, eb);
		if (err == -ENOENT && answers.n < n && max_missing) {
			max_missing--;
			n = answers.n + 1;
			err = 0;
		}
		cursor_skip(l, set, &cursor, n);
	}
	if (w.err)
		err = errf(eb, w.err, "out of memory");
	wire_free(&w);
	return err;
}
