/*
 * One transaction as netlink messages. Each kind of change has a stream of its
 * own, a growing run of finished messages, and the streams are sent in a fixed
 * order: deletions of elements before additions, objects before what refers to
 * them, whatever the order of calls was. Nothing is copied again: the streams
 * are the iovec.
 *
 * A packet chooses the rules of a generation when it enters a base chain, but
 * each look-up of an element takes the generation of its own moment. One that
 * is under way at a commit may so be led to a chain by the new generation and
 * find there the rules of the old one: none, if the chain is new. It would
 * leave the table untranslated. So new chains are there first, on request.
 *
 * Messages are numbered in the order of sending, so that an error leads back to
 * its message, and the offset in the error to an element. Only failures pay for
 * the search.
 */
#include "nft/batch.h"
#include "nft/encode_elements.h"
#include "nft/encode.h"
#include "nft/encode_rule.h"
#include "nft/refused.h"

#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

/* In the order of sending. */
enum phase {
	PHASE_TABLE_DELETE,
	PHASE_TABLE,
	PHASE_SETS,
	PHASE_CHAINS,
	PHASE_RULES,
	/* here elements, deleted and then added, by set */
	PHASE_CHAINS_DELETE,
	PHASE_SETS_DELETE,
	N_PHASES
};

/* Names of pick chains: most verdicts go where some verdict before went. */
enum { NAME_CACHE_SIZE = 64 };

struct cached_name {
	struct verdict verdict;
	char name[PICK_NAME_SIZE];
};

struct batch {
	struct writer writer;
	struct ruleset ruleset;
	bool owner, closed, chains_first;
	bool takes_over, has_table_verb, has_table_change, has_changes;
	uint32_t next_set_id;
	struct batch_counts counts;
	struct wire phases[N_PHASES];
	struct elements deleted[N_ELEMENT_SETS], added[N_ELEMENT_SETS];
	struct cached_name names[NAME_CACHE_SIZE];
	int err; /* a verb got what cannot be encoded */
};

/* The verbs */

static void batch_change_chain(struct batch *b, enum change change,
			       const struct chain *chain)
{
	enum family family = b->ruleset.family;

	b->has_changes = true;
	switch (change) {
	case CHANGE_ADD:
		encode_chain(&b->phases[PHASE_CHAINS], family, chain);
		encode_rules(&b->phases[PHASE_RULES], family, chain);
		b->counts.chains_added++;
		break;
	case CHANGE_UPDATE:
		encode_rules_flush(&b->phases[PHASE_RULES], family, chain->name);
		encode_rules(&b->phases[PHASE_RULES], family, chain);
		break;
	case CHANGE_DELETE:
		encode_chain_delete(&b->phases[PHASE_CHAINS_DELETE], family,
				    chain->name);
		b->counts.chains_deleted++;
		break;
	}
}

static void batch_add_set(struct batch *b, enum set_id set)
{
	assert(set < N_SETS && b->next_set_id);
	encode_set(&b->phases[PHASE_SETS], b->ruleset.family, set_layout(set),
		   set_name(set), NULL, set_counts(b->ruleset.parts, set),
		   b->next_set_id++);
}

static void batch_add_table(struct batch *b)
{
	unsigned int i;

	encode_table(&b->phases[PHASE_TABLE], b->ruleset.family,
		     b->owner ? TABLE_FLAGS_OWNED : 0);
	for (i = 0; i < N_SETS; i++)
		if (set_is_in(b->ruleset.parts, i))
			batch_add_set(b, i);
	if (b->ruleset.parts & PART_FAST_PATH)
		encode_flowtable(&b->phases[PHASE_SETS], b->ruleset.family);
}

/* @parts: those that the table has. */
static void update_sets(struct batch *b, unsigned int parts)
{
	unsigned int i;

	for (i = 0; i < N_SETS; i++) {
		const bool wanted = set_is_in(b->ruleset.parts, i),
			   there = set_is_in(parts, i);

		if (wanted && !there)
			batch_add_set(b, i);
		else if (!wanted && there)
			encode_set_delete(&b->phases[PHASE_SETS_DELETE],
					  b->ruleset.family, set_name(i));
	}
}

static void update_flowtable(struct batch *b, unsigned int parts)
{
	const bool wanted = b->ruleset.parts & PART_FAST_PATH,
		   there = parts & PART_FAST_PATH;

	if (wanted && !there)
		encode_flowtable(&b->phases[PHASE_SETS], b->ruleset.family);
	else if (!wanted && there)
		encode_flowtable_delete(&b->phases[PHASE_SETS_DELETE],
					b->ruleset.family);
}

static void batch_change_table(void *ctx, enum change change, unsigned int parts)
{
	struct batch *b = ctx;
	struct chain chain;
	unsigned int i;

	b->has_changes = b->has_table_change = true;
	if (change != CHANGE_UPDATE)
		b->has_table_verb = true;
	if (change == CHANGE_DELETE) {
		encode_table_delete(&b->phases[PHASE_TABLE_DELETE],
				    b->ruleset.family);
		return;
	}
	if (change == CHANGE_ADD)
		batch_add_table(b);
	else
		update_sets(b, parts);
	if (change == CHANGE_UPDATE)
		update_flowtable(b, parts);
	for (i = 0; i < N_CHAINS; i++) {
		const bool wanted = chain_is_in(b->ruleset.parts, i);
		const bool there =
			change == CHANGE_UPDATE && chain_is_in(parts, i);

		if (!wanted && !there)
			continue;
		chain_constant(&b->ruleset, i, &chain);
		if (b->closed && chain.has_hook)
			chain.n_rules = 0;
		batch_change_chain(b,
				   !wanted ? CHANGE_DELETE
				   : there ? CHANGE_UPDATE
					   : CHANGE_ADD,
				   &chain);
	}
}

void batch_open(struct batch *b)
{
	struct chain chain;
	unsigned int i;

	b->has_changes = true;
	for (i = 0; i < N_CHAINS; i++) {
		chain_constant(&b->ruleset, i, &chain);
		if (chain.has_hook && chain_is_in(b->ruleset.parts, i))
			encode_rules(&b->phases[PHASE_RULES], b->ruleset.family,
				     &chain);
	}
}

static void batch_change_pick(void *ctx, enum change change,
			      const struct verdict *pick)
{
	struct batch *b = ctx;
	struct chain chain;

	assert(pick->kind == VERDICT_PICK && pick->count);
	chain_pick(&b->ruleset, pick, &chain);
	batch_change_chain(b, change, &chain);
}

static void batch_change_sticky(void *ctx, enum change change,
				const struct sticky_chain *sticky)
{
	struct batch *b = ctx;
	struct chain chain;

	/* A translation of ports that is not bound to a protocol is none that nft could load. */
	if (change != CHANGE_DELETE && !sticky->protocol) {
		b->err = -EINVAL;
		return;
	}
	chain_sticky(sticky, &chain);
	batch_change_chain(b, change, &chain);
}

static void batch_change_affinity(void *ctx, enum change change,
				  const char *name, const char *comment)
{
	struct batch *b = ctx;

	b->has_changes = true;
	if (change == CHANGE_DELETE)
		encode_set_delete(&b->phases[PHASE_SETS_DELETE],
				  b->ruleset.family, name);
	else
		encode_set(&b->phases[PHASE_SETS], b->ruleset.family,
			   affinity_layout(), name, comment, false,
			   b->next_set_id++);
}

static void batch_change_ranges(void *ctx, enum change change, const char *set)
{
	struct batch *b = ctx;
	struct chain chain;

	chain_firewall(set, &chain);
	if (change == CHANGE_ADD)
		encode_set(&b->phases[PHASE_SETS], b->ruleset.family,
			   set_layout(SET_SOURCE_RANGES), set, NULL, false,
			   b->next_set_id++);
	else if (change == CHANGE_DELETE)
		encode_set_delete(&b->phases[PHASE_SETS_DELETE],
				  b->ruleset.family, set);
	batch_change_chain(b, change, &chain);
}

static const char *pick_chain(struct batch *b, const struct verdict *v)
{
	struct cached_name *c =
		&b->names[(v->count * 31 + v->pick) % NAME_CACHE_SIZE];

	assert(v->kind == VERDICT_PICK && v->count);
	if (c->verdict.kind != VERDICT_PICK || c->verdict.pick != v->pick ||
	    c->verdict.count != v->count) {
		c->verdict = *v;
		pick_name(v, c->name);
	}
	return c->name;
}

static void batch_change_element(void *ctx, enum change change,
				 const struct element *e, void *owner)
{
	struct batch *b = ctx;
	const char *chain = NULL;

	assert(e->set < N_ELEMENT_SETS);
	b->has_changes = true;
	if ((change != CHANGE_DELETE || e->set == SET_SOURCE_RANGES) &&
	    !element_is_whole(e)) {
		b->err = -EINVAL;
		return;
	}
	if (change == CHANGE_DELETE) {
		elements_put(&b->deleted[e->set], b->ruleset.family, e, NULL,
			     owner);
		b->counts.elements_deleted++;
		return;
	}
	if (e->verdict.kind == VERDICT_PICK)
		chain = pick_chain(b, &e->verdict);
	else
		chain = verdict_chain(&e->verdict, e->chain, NULL);
	elements_put(&b->added[e->set], b->ruleset.family, e, chain, owner);
	b->counts.elements_added++;
}

struct batch *batch_new(const struct ruleset *ruleset, unsigned int flags)
{
	struct batch *b = calloc(1, sizeof(*b));
	unsigned int i;

	assert(ruleset->family < N_FAMILIES);
	if (!b)
		return NULL;
	b->ruleset = *ruleset;
	b->owner = flags & BATCH_OWNER;
	b->closed = flags & BATCH_CLOSED;
	b->chains_first = flags & BATCH_CHAINS_FIRST;
	b->next_set_id = 1;
	for (i = 0; i < N_ELEMENT_SETS; i++) {
		elements_init(&b->deleted[i], i, false);
		elements_init(&b->added[i], i, true);
	}
	b->writer = (struct writer){
		.ctx = b,
		.table = batch_change_table,
		.pick = batch_change_pick,
		.affinity = batch_change_affinity,
		.sticky = batch_change_sticky,
		.ranges = batch_change_ranges,
		.element = batch_change_element,
	};
	return b;
}

void batch_free(struct batch *b)
{
	unsigned int i;

	if (!b)
		return;
	for (i = 0; i < N_PHASES; i++)
		wire_free(&b->phases[i]);
	for (i = 0; i < N_ELEMENT_SETS; i++) {
		elements_free(&b->deleted[i]);
		elements_free(&b->added[i]);
	}
	free(b);
}

const struct writer *batch_writer(struct batch *b)
{
	return &b->writer;
}

bool batch_is_owned(const struct batch *b)
{
	return b->owner;
}

bool batch_is_empty(const struct batch *b)
{
	return !b->has_changes;
}

struct batch_counts batch_counts(const struct batch *b)
{
	return b->counts;
}

/* What changes of the table itself bring is wanted at once and together. */
unsigned int batch_transactions(const struct batch *b)
{
	return b->chains_first && !b->has_table_change &&
			       b->counts.chains_added && b->counts.elements_added
		       ? 2
		       : 1;
}

/* Sending */

enum { N_STREAMS = N_PHASES + 2 * N_ELEMENT_SETS };

struct stream {
	const struct wire *wire;
	const struct elements *elements; /* NULL for other objects */
};

/* The stream at place @i in the order of sending. */
static struct stream stream_at(const struct batch *b, unsigned int i)
{
	const struct elements *elements;

	assert(i < N_STREAMS);
	if (i < PHASE_CHAINS_DELETE)
		return (struct stream){ .wire = &b->phases[i] };
	i -= PHASE_CHAINS_DELETE;
	if (i >= 2 * N_ELEMENT_SETS)
		return (struct stream){
			.wire = &b->phases[PHASE_CHAINS_DELETE + i - 2 * N_ELEMENT_SETS],
		};
	elements = i < N_ELEMENT_SETS ? &b->deleted[i]
				      : &b->added[i - N_ELEMENT_SETS];
	return (struct stream){ .wire = &elements->wire, .elements = elements };
}

size_t batch_size(const struct batch *b)
{
	size_t size = 2 * (NLMSG_HDRLEN + sizeof(struct nfgenmsg));
	unsigned int i;

	for (i = 0; i < N_STREAMS; i++)
		size += stream_at(b, i).wire->length;
	return size;
}

static int batch_error(const struct batch *b)
{
	unsigned int i;

	for (i = 0; i < N_STREAMS; i++)
		if (stream_at(b, i).wire->err)
			return stream_at(b, i).wire->err;
	return b->err;
}

struct sending {
	const struct batch *batch;
	unsigned int from,
		to; /* of the streams that are sent, the last excluded */
	struct wire begin, end;
	struct iovec iov[N_STREAMS + 2];
	unsigned int n_iov;
	uint32_t first_seq, last_seq;

	struct refused refused; /* the first error */
};

static void sending_push(struct sending *s, const struct wire *w)
{
	assert(s->n_iov < sizeof(s->iov) / sizeof(s->iov[0]));
	if (w->length)
		s->iov[s->n_iov++] = (struct iovec){ .iov_base = w->bytes,
						     .iov_len = w->length };
}

/* Errors come without being asked for; besides them only the last message is acknowledged. */
static void number_messages(struct sending *s, struct nlsock *nl)
{
	struct nlmsghdr *nlh, *last = NULL;
	const struct wire *w;
	unsigned int i;
	size_t at;

	for (i = s->from; i < s->to; i++) {
		w = stream_at(s->batch, i).wire;
		for_each_message (nlh, at, w) {
			nlh->nlmsg_seq = nlsock_next_seq(nl);
			nlh->nlmsg_flags &= (uint16_t)~NLM_F_ACK;
			last = nlh;
		}
		sending_push(s, w);
	}
	if (last) {
		last->nlmsg_flags |= NLM_F_ACK;
		s->last_seq = last->nlmsg_seq;
		assert(s->last_seq != s->first_seq);
	}
}

/*
 * The first error counts. One for BEGIN stands for the whole: the commit failed, or the kernel did
 * not even look at the rest, and then no acknowledgement follows.
 */
static int batch_on_reply(const struct nlmsghdr *nlh, void *data)
{
	struct sending *s = data;
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type != NLMSG_ERROR ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*e))
		return 0;
	refused_read(&s->refused, nlh);
	return nlh->nlmsg_seq == s->first_seq && e->error < 0 ? e->error : 0;
}

/* What was refused */

/* The refused message and the stream that it is in. */
static const struct nlmsghdr *find_message(const struct sending *s,
					   struct stream *stream, size_t *position)
{
	const struct nlmsghdr *nlh;
	unsigned int i;

	for (i = s->from; i < s->to; i++) {
		*stream = stream_at(s->batch, i);
		nlh = refused_message(&s->refused, stream->wire, position);
		if (nlh)
			return nlh;
	}
	return NULL;
}

static void refusal_describe(const struct sending *s, struct refusal *refusal)
{
	enum family family = s->batch->ruleset.family;
	struct strbuf text = STRBUF_INIT, element = STRBUF_INIT;
	const struct nlmsghdr *nlh;
	struct stream stream;
	size_t position;

	assert(s->refused.err);
	*refusal = (struct refusal){ .err = s->refused.err };
	nlh = find_message(s, &stream, &position);
	if (nlh)
		refused_print(&s->refused, family, stream.wire, nlh, &text);
	else
		strbuf_addf(&text, "commit table %s %s", family_keyword(family),
			    TABLE_NAME);
	if (nlh && stream.elements) {
		refusal->owner = elements_owner(stream.elements, position,
						s->refused.offset);
		elements_print(stream.elements, position, s->refused.offset,
			       family, &element);
	}
	if (element.text)
		strbuf_addf(&text, ", element %s", element.text);
	if (text.text)
		snprintf(refusal->object, sizeof(refusal->object), "%s", text.text);
	strbuf_free(&element);
	strbuf_free(&text);
}

static int refusal_report(const struct sending *s, struct refusal *refusal,
			  struct errbuf *eb)
{
	struct refusal local;

	if (!refusal)
		refusal = &local;
	refusal_describe(s, refusal);
	return errf(eb, s->refused.err, "nftables: cannot %.256s: %s%s",
		    refusal->object, strerror(-s->refused.err), s->refused.reason);
}

/* An orphaned table is taken over by any transaction that asks for the flags. */
static void batch_take_over(struct batch *b)
{
	if (b->owner && !b->has_table_verb && !b->phases[PHASE_TABLE].length) {
		encode_table_flags(&b->phases[PHASE_TABLE], b->ruleset.family,
				   TABLE_FLAGS_OWNED);
		b->takes_over = true;
	}
}

/* A table that was made without flags, by somebody's nft -f, can never have an owner. */
static bool cannot_take_over(const struct sending *s)
{
	const struct wire *w = &s->batch->phases[PHASE_TABLE];

	return s->batch->takes_over && s->refused.err == -EOPNOTSUPP &&
	       w->length && s->refused.seq == message_at(w, 0)->nlmsg_seq;
}

static int batch_send_once(struct sending *s, bool commit, struct nlsock *nl,
			   unsigned int timeout_ms, struct errbuf *eb)
{
	int err;

	s->first_seq = nlsock_next_seq(nl);
	wire_put_marker(&s->begin, NFNL_MSG_BATCH_BEGIN, s->first_seq, NULL);
	sending_push(s, &s->begin);
	number_messages(s, nl);
	wire_put_marker(&s->end, NFNL_MSG_BATCH_END, nlsock_next_seq(nl), NULL);
	if (commit)
		sending_push(s, &s->end);

	err = batch_error(s->batch);
	if (!err)
		err = s->begin.err ? s->begin.err : s->end.err;
	if (err)
		errf(eb, err, "nftables: cannot build a transaction: %s",
		     strerror(-err));
	else if (s->last_seq)
		err = nlsock_exchange(nl, s->iov, s->n_iov, s->last_seq,
				      batch_on_reply, s, timeout_ms, eb);
	wire_free(&s->begin);
	wire_free(&s->end);
	return err;
}

/* Streams @from to @to - 1 as one transaction. */
static int batch_send(struct batch *b, unsigned int from, unsigned int to,
		      bool commit, struct nlsock *nl, unsigned int timeout_ms,
		      struct refusal *refusal, struct errbuf *eb)
{
	struct sending s = { .batch = b, .from = from, .to = to };
	int err;

	assert(nl && timeout_ms);
	batch_take_over(b);
	err = batch_send_once(&s, commit, nl, timeout_ms, eb);
	if (cannot_take_over(&s)) {
		b->phases[PHASE_TABLE].length = 0;
		b->owner = false;
		s = (struct sending){ .batch = b, .from = from, .to = to };
		err = batch_send_once(&s, commit, nl, timeout_ms, eb);
	}
	return s.refused.err ? refusal_report(&s, refusal, eb) : err;
}

int batch_commit(struct batch *b, struct nlsock *nl, unsigned int timeout_ms,
		 struct refusal *refusal, struct errbuf *eb)
{
	unsigned int from = 0;
	int err;

	if (batch_transactions(b) > 1) {
		from = PHASE_CHAINS_DELETE;
		err = batch_send(b, 0, from, true, nl, timeout_ms, refusal, eb);
		if (err)
			return err;
	}
	return batch_send(b, from, N_STREAMS, true, nl, timeout_ms, refusal, eb);
}

int batch_check(struct batch *b, struct nlsock *nl, unsigned int timeout_ms,
		struct refusal *refusal, struct errbuf *eb)
{
	return batch_send(b, 0, N_STREAMS, false, nl, timeout_ms, refusal, eb);
}
