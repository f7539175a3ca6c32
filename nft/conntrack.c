/*
 * Stale conntrack entries. A dump over one socket is read datagram by datagram,
 * each of which the kernel fills as the one before is taken, so nothing piles
 * up anywhere; deletions go over a second socket, many requests in one message,
 * and only refusals are answered. A request names the entry's tuple, zone and
 * id: a new entry with the same tuple is another entry and stays. Who restarts
 * a dump must drop the old socket, since the kernel knows no other way to end
 * one; an epoll instance keeps the descriptor for the caller.
 */
#include "nft/conntrack.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nft/attr.h"
#include "nft/netlink.h"

enum {
	MAX_ATTEMPTS = 5, /* CT-9 */
	DATAGRAM_SIZE = 32768,
	REQUESTS_SIZE = 16384, /* some 120 deletions */
	/*
	 * Entries up to which the kernel filters. A filtered dump is one walk
	 * through the table at worst, 0.2 us an entry (26 ms with 100,000) and
	 * not to be divided, where one without a filter takes 2.2 us an entry
	 * (230 ms), a datagram at a time.
	 */
	FILTER_MAX_ENTRIES = 131072,
	/* With fewer entries for each filter one dump of all is as quick; each
	   request waits for a lock that the whole machine has in common. */
	ENTRIES_PER_FILTER = 1000,
	/* Bits of CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS, which make
	   a field count; the kernel's header lacks them. */
	FILTER_IP_SRC = 1 << 0,
	FILTER_IP_DST = 1 << 1,
	FILTER_PROTO_NUM = 1 << 3,
	FILTER_SRC_PORT = 1 << 4,
	FILTER_DST_PORT = 1 << 5,
	/* A deletion holds a tuple (100 bytes at most, IPv6 with zone), a zone and an id. */
	DELETION_MAX = 256,
	PATIENCE_MS = 5000, /* with a kernel that says nothing */
};

struct sweep {
	enum family family;
	uint8_t protocol;
	int epoll_fd, dump_fd,
		delete_fd; /* dump_fd is -1 unless a dump is under way */
	bool can_filter;   /* by protocol: Linux 5.8 */
	bool filter;	   /* this dump is filtered by the kernel */
	/* a dump for each; none: one, by protocol alone */
	struct flow_filter filters[SWEEP_FILTERS_MAX];
	unsigned int n_filters, at;
	int attempts;
	uint32_t seq;
	int err; /* first refusal of a deletion that was not "no such entry" */
	unsigned long deleted;
	unsigned int n_requests;
	size_t requests_length;
	uint32_t requests[REQUESTS_SIZE / 4];
	uint32_t datagram[DATAGRAM_SIZE / 4];
};

static int family_number(enum family family)
{
	return family == FAMILY_IPV4 ? AF_INET : AF_INET6;
}

static int conntrack_open(void)
{
	return netlink_open(NETLINK_NETFILTER, SOCK_NONBLOCK, 0, NULL);
}

struct sweep *sweep_new(enum family family, uint8_t protocol, struct errbuf *eb)
{
	struct sweep *s = calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (!s)
		goto fail;
	s->family = family;
	s->protocol = protocol;
	s->can_filter = true;
	s->dump_fd = s->delete_fd = -1;
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	err = -errno;
	if (s->epoll_fd < 0)
		goto fail;
	s->delete_fd = err = conntrack_open();
	if (err < 0)
		goto fail;
	return s;
fail:
	errf(eb, err, "conntrack: cannot open a socket: %s", strerror(-err));
	sweep_free(s);
	return NULL;
}

static void dump_end(struct sweep *s)
{
	if (s->dump_fd >= 0)
		close(s->dump_fd);
	s->dump_fd = -1;
}

void sweep_free(struct sweep *s)
{
	if (!s)
		return;
	dump_end(s);
	if (s->delete_fd >= 0)
		close(s->delete_fd);
	if (s->epoll_fd >= 0)
		close(s->epoll_fd);
	free(s);
}

int sweep_fd(const struct sweep *s)
{
	return s->epoll_fd;
}

unsigned long sweep_deleted(const struct sweep *s)
{
	return s->deleted;
}

static struct nlmsghdr *conntrack_request(void *buf, uint16_t type,
					  uint16_t flags, int family)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	nlh->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | type;
	nlh->nlmsg_flags = NLM_F_REQUEST | flags;
	nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	nfg->nfgen_family = (uint8_t)family;
	nfg->version = NFNETLINK_V0;
	return nlh;
}

/*
 * Of IPv6 the kernel (ctnetlink_filter_match_tuple() of 6.18) passes the
 * entries with another address and not those with this one, so there the port
 * alone counts.
 */
static bool filters_address(const struct sweep *s, const struct flow_filter *f)
{
	return s->family == FAMILY_IPV4 && !f->any_address;
}

static void put_filter_address(struct nlmsghdr *nlh, const struct flow_filter *f)
{
	struct nlattr *ip = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);

	mnl_attr_put(nlh, f->answered ? CTA_IP_V4_SRC : CTA_IP_V4_DST,
		     family_size(FAMILY_IPV4), f->addr.bytes);
	mnl_attr_nest_end(nlh, ip);
}

/* @f may be NULL: then the protocol alone counts. Returns the fields that do. */
static uint32_t put_filter_tuple(struct nlmsghdr *nlh, const struct sweep *s,
				 const struct flow_filter *f)
{
	const bool answered = f && f->answered;
	uint32_t flags = FILTER_PROTO_NUM;
	struct nlattr *tuple, *proto;

	tuple = mnl_attr_nest_start(nlh, answered ? CTA_TUPLE_REPLY
						  : CTA_TUPLE_ORIG);
	if (f && filters_address(s, f)) {
		put_filter_address(nlh, f);
		flags |= answered ? FILTER_IP_SRC : FILTER_IP_DST;
	}
	proto = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, s->protocol);
	if (f) {
		mnl_attr_put_u16(
			nlh, answered ? CTA_PROTO_SRC_PORT : CTA_PROTO_DST_PORT,
			htons(f->port));
		flags |= answered ? FILTER_SRC_PORT : FILTER_DST_PORT;
	}
	mnl_attr_nest_end(nlh, proto);
	mnl_attr_nest_end(nlh, tuple);
	return flags;
}

static void put_filter(struct nlmsghdr *nlh, const struct sweep *s)
{
	const struct flow_filter *f = s->n_filters ? &s->filters[s->at] : NULL;
	const uint32_t flags = put_filter_tuple(nlh, s, f);
	struct nlattr *filter = mnl_attr_nest_start(nlh, CTA_FILTER);

	mnl_attr_put_u32(nlh, CTA_FILTER_ORIG_FLAGS, f && f->answered ? 0 : flags);
	mnl_attr_put_u32(nlh, CTA_FILTER_REPLY_FLAGS, f && f->answered ? flags : 0);
	mnl_attr_nest_end(nlh, filter);
}

static int dump_begin(struct sweep *s)
{
	struct epoll_event event = { .events = EPOLLIN };
	uint32_t buf[64] = { 0 };
	struct nlmsghdr *nlh;

	dump_end(s);
	s->dump_fd = conntrack_open();
	if (s->dump_fd < 0)
		return s->dump_fd;
	nlh = conntrack_request(buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP,
				s->filter ? family_number(s->family) : AF_UNSPEC);
	nlh->nlmsg_seq = ++s->seq;
	if (s->filter)
		put_filter(nlh, s);
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->dump_fd, &event) ||
	    send(s->dump_fd, nlh, nlh->nlmsg_len, 0) < 0)
		return -errno;
	return 0;
}

/* How many entries there are, of all kinds. The answer is there when send() returns. */
static uint32_t count_entries(struct sweep *s)
{
	uint32_t buf[64];
	struct nlmsghdr *nlh =
		conntrack_request(buf, IPCTNL_MSG_CT_GET_STATS, 0, AF_UNSPEC);
	const struct nlattr *attr;
	ssize_t length;

	nlh->nlmsg_seq = ++s->seq;
	if (send(s->delete_fd, nlh, nlh->nlmsg_len, 0) < 0)
		return UINT32_MAX;
	length = recv(s->delete_fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (length <= 0 || !message_if_ok(nlh, (const char *)buf + length) ||
	    nlh->nlmsg_seq != s->seq ||
	    nlh->nlmsg_type !=
		    (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS))
		return UINT32_MAX;
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == CTA_STATS_GLOBAL_ENTRIES &&
		    mnl_attr_get_payload_len(attr) == sizeof(uint32_t))
			return ntohl(mnl_attr_get_u32(attr));
	return UINT32_MAX;
}

int sweep_start(struct sweep *s, const struct flow_filter *filters,
		unsigned int n, struct errbuf *eb)
{
	uint32_t entries;
	int err;

	assert(n <= SWEEP_FILTERS_MAX);
	s->attempts = 1;
	s->deleted = 0;
	s->err = 0;
	s->n_requests = 0;
	s->requests_length = 0;
	entries = count_entries(s);
	s->filter = s->can_filter && entries <= FILTER_MAX_ENTRIES;
	s->at = 0;
	s->n_filters = s->filter && entries >= n * ENTRIES_PER_FILTER ? n : 0;
	if (s->n_filters)
		memcpy(s->filters, filters, n * sizeof(*filters));
	err = dump_begin(s);
	if (!err)
		return 0;
	dump_end(s);
	return errf(eb, err, "conntrack %s: cannot list entries: %s",
		    family_name(s->family), strerror(-err));
}

/* One direction of an entry. */
struct tuple {
	struct addr src, dst;
	uint16_t src_port, dst_port;
	uint8_t protocol;
	unsigned int found; /* bits, one per field */
};

enum tuple_field {
	SRC = 1,
	DST = 2,
	SRC_PORT = 4,
	DST_PORT = 8,
	PROTOCOL = 16,
	ALL_FIELDS = 31
};

static void ip_decode(const struct nlattr *nest, enum family family,
		      struct tuple *t)
{
	const bool v4 = family == FAMILY_IPV4;
	const struct nlattr *attr;
	uint16_t type;

	for_each_attr_in (attr, nest) {
		type = mnl_attr_get_type(attr);
		if (mnl_attr_get_payload_len(attr) != family_size(family))
			continue;
		if (type == (v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC)) {
			memcpy(t->src.bytes, mnl_attr_get_payload(attr),
			       family_size(family));
			t->found |= SRC;
		} else if (type == (v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST)) {
			memcpy(t->dst.bytes, mnl_attr_get_payload(attr),
			       family_size(family));
			t->found |= DST;
		}
	}
}

static void proto_decode(const struct nlattr *nest, struct tuple *t)
{
	const struct nlattr *attr;
	uint16_t type, length;

	for_each_attr_in (attr, nest) {
		type = mnl_attr_get_type(attr);
		length = mnl_attr_get_payload_len(attr);
		if (type == CTA_PROTO_NUM && length == 1) {
			t->protocol = mnl_attr_get_u8(attr);
			t->found |= PROTOCOL;
		} else if (type == CTA_PROTO_SRC_PORT && length == 2) {
			t->src_port = ntohs(mnl_attr_get_u16(attr));
			t->found |= SRC_PORT;
		} else if (type == CTA_PROTO_DST_PORT && length == 2) {
			t->dst_port = ntohs(mnl_attr_get_u16(attr));
			t->found |= DST_PORT;
		}
	}
}

static bool tuple_decode(const struct nlattr *nest, enum family family,
			 struct tuple *t)
{
	const struct nlattr *attr;

	memset(t, 0, sizeof(*t));
	for_each_attr_in (attr, nest) {
		if (mnl_attr_get_type(attr) == CTA_TUPLE_IP)
			ip_decode(attr, family, t);
		else if (mnl_attr_get_type(attr) == CTA_TUPLE_PROTO)
			proto_decode(attr, t);
	}
	return t->found == ALL_FIELDS;
}

/* The attributes of an entry that matter here; they point into the message. */
struct entry_parts {
	const struct nlattr *orig, *reply, *status, *zone, *id, *protoinfo;
};

static struct entry_parts entry_split(const struct nlmsghdr *nlh)
{
	struct entry_parts e = { 0 };
	const struct nlattr *attr;

	for_each_attr (attr, nlh, sizeof(struct nfgenmsg)) {
		switch (mnl_attr_get_type(attr)) {
		case CTA_TUPLE_ORIG:
			e.orig = attr;
			break;
		case CTA_TUPLE_REPLY:
			e.reply = attr;
			break;
		case CTA_STATUS:
			e.status = attr;
			break;
		case CTA_ZONE:
			e.zone = attr;
			break;
		case CTA_ID:
			e.id = attr;
			break;
		case CTA_PROTOINFO:
			e.protoinfo = attr;
			break;
		}
	}
	return e;
}

static uint8_t state_decode(const struct nlattr *protoinfo)
{
	const struct nlattr *attr, *inner;

	for_each_attr_in (attr, protoinfo) {
		if (mnl_attr_get_type(attr) != CTA_PROTOINFO_TCP)
			continue;
		for_each_attr_in (inner, attr)
			if (mnl_attr_get_type(inner) == CTA_PROTOINFO_TCP_STATE &&
			    mnl_attr_get_payload_len(inner) == 1)
				return mnl_attr_get_u8(inner);
	}
	return 0;
}

static bool is_entry_of(const struct nlmsghdr *nlh, enum family family)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);

	return nlh->nlmsg_type == (NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW) &&
	       mnl_nlmsg_get_payload_len(nlh) >= sizeof(*nfg) &&
	       nfg->nfgen_family == family_number(family);
}

int flow_decode(const struct nlmsghdr *nlh, enum family family,
		uint8_t protocol, struct flow *flow)
{
	struct tuple orig, reply;
	struct entry_parts e;

	if (!is_entry_of(nlh, family))
		return -EINVAL;
	e = entry_split(nlh);
	if (!e.orig || !e.reply || !e.status ||
	    mnl_attr_get_payload_len(e.status) != 4)
		return -EINVAL;
	if (!tuple_decode(e.orig, family, &orig) || orig.protocol != protocol ||
	    !tuple_decode(e.reply, family, &reply) || reply.protocol != protocol)
		return -EINVAL;
	*flow = (struct flow){
		.client = orig.src,
		.destination = orig.dst,
		.client_port = orig.src_port,
		.destination_port = orig.dst_port,
		.reply_source = reply.src,
		.reply_source_port = reply.src_port,
		.translated = ntohl(mnl_attr_get_u32(e.status)) & IPS_DST_NAT,
		.tcp_state = e.protoinfo ? state_decode(e.protoinfo) : 0,
	};
	return 0;
}

/* Reads the refusals of the requests just sent; the kernel has answered when send() returns. */
static unsigned int count_refusals(struct sweep *s)
{
	uint32_t reply[128];
	const struct nlmsghdr *nlh;
	unsigned int n = 0;
	ssize_t length;
	int err;

	for (;;) {
		length = recv(s->delete_fd, reply, sizeof(reply), MSG_DONTWAIT);
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0)
			return n;
		nlh = message_if_ok(reply, (const char *)reply + length);
		err = nlh && nlh->nlmsg_type == NLMSG_ERROR ? message_error(nlh)
							    : 0;
		n += err != 0;
		if (err && err != -ENOENT && !s->err)
			s->err = err;
	}
}

static void flush_deletions(struct sweep *s)
{
	unsigned int refused;

	if (!s->n_requests)
		return;
	if (send(s->delete_fd, s->requests, s->requests_length, 0) < 0) {
		s->err = s->err ? s->err : -errno;
	} else {
		refused = count_refusals(s);
		s->deleted += s->n_requests -
			      (refused < s->n_requests ? refused : s->n_requests);
	}
	s->n_requests = 0;
	s->requests_length = 0;
}

static void copy_attr(struct nlmsghdr *nlh, const struct nlattr *attr)
{
	if (attr)
		mnl_attr_put(nlh, attr->nla_type, mnl_attr_get_payload_len(attr),
			     mnl_attr_get_payload(attr));
}

static size_t attr_room(const struct nlattr *attr)
{
	return attr ? MNL_ALIGN(attr->nla_len) : 0;
}

static void delete_entry(struct sweep *s, const struct nlmsghdr *entry)
{
	const struct entry_parts e = entry_split(entry);
	struct nlmsghdr *nlh;

	/* Without the id we could hit another entry. */
	if (!e.id || attr_room(e.orig) + attr_room(e.zone) + attr_room(e.id) >
			     DELETION_MAX - 32)
		return;
	if (s->requests_length + DELETION_MAX > sizeof(s->requests))
		flush_deletions(s);
	nlh = conntrack_request((char *)s->requests + s->requests_length,
				IPCTNL_MSG_CT_DELETE, 0, family_number(s->family));
	nlh->nlmsg_seq = ++s->seq;
	copy_attr(nlh, e.orig);
	copy_attr(nlh, e.zone);
	copy_attr(nlh, e.id);
	s->requests_length += MNL_ALIGN(nlh->nlmsg_len);
	s->n_requests++;
}

/* What a datagram of the dump says: go on (1), all read (0), or a negative errno. */
static int read_datagram(struct sweep *s, size_t length, unsigned int *handled,
			 bool (*stale)(void *ctx, const struct flow *flow),
			 void *ctx)
{
	const struct nlmsghdr *nlh;
	struct flow flow;
	int result = 1;

	for_each_nlmsg (nlh, s->datagram, length) {
		if (result <= 0)
			break;
		++*handled;
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			result = -EINTR;
		else if (nlh->nlmsg_type == NLMSG_DONE)
			result = 0;
		else if (nlh->nlmsg_type == NLMSG_ERROR)
			result = message_error(nlh);
		else if (flow_decode(nlh, s->family, s->protocol, &flow) == 0 &&
			 stale(ctx, &flow))
			delete_entry(s, nlh);
	}
	return result;
}

static int sweep_receive(struct sweep *s, unsigned int *handled,
			 bool (*stale)(void *ctx, const struct flow *flow),
			 void *ctx)
{
	ssize_t length = recv(s->dump_fd, s->datagram, sizeof(s->datagram),
			      MSG_DONTWAIT | MSG_TRUNC);

	if (length < 0)
		return errno == ENOBUFS ? -EINTR : -errno;
	if ((size_t)length > sizeof(s->datagram))
		return -EMSGSIZE;
	return read_datagram(s, (size_t)length, handled, stale, ctx);
}

/* A kernel that cannot filter shows everything. */
static void sweep_widen(struct sweep *s)
{
	s->filter = s->can_filter = false;
	s->n_filters = 0;
}

/* After a dump: begins the next, if there is one. 1 then, 0 at the end, or a negative errno. */
static int sweep_next(struct sweep *s)
{
	int err;

	if (s->at + 1 >= s->n_filters)
		return 0;
	s->at++;
	err = dump_begin(s);
	return err ? err : 1;
}

/* Begins anew where that helps: 1 then, else @result. */
static int sweep_recover(struct sweep *s, int result)
{
	int err;

	if (result == -EINTR && s->attempts >= MAX_ATTEMPTS)
		return 0;
	if (result == -EINTR)
		s->attempts++;
	else if (s->filter && (result == -EOPNOTSUPP || result == -EINVAL))
		sweep_widen(s);
	else
		return result;
	err = dump_begin(s);
	return err ? err : 1;
}

int sweep_step(struct sweep *s, unsigned int max_entries,
	       bool (*stale)(void *ctx, const struct flow *flow), void *ctx,
	       struct errbuf *eb)
{
	unsigned int handled = 0;
	int result = s->dump_fd < 0 ? 0 : 1;

	while (result > 0 && handled < max_entries) {
		result = sweep_receive(s, &handled, stale, ctx);
		if (result == -EAGAIN) {
			result = 1;
			break;
		}
		if (result < 0)
			result = sweep_recover(s, result);
	}
	flush_deletions(s);
	if (result == 0 && s->dump_fd >= 0)
		result = sweep_next(s); /* a walk of the kernel is enough for a step */
	if (result > 0)
		return 1;
	dump_end(s);
	if (result < 0)
		return errf(eb, result, "conntrack %s: listing entries: %s",
			    family_name(s->family), strerror(-result));
	if (s->err)
		return errf(eb, s->err, "conntrack %s: deleting an entry: %s",
			    family_name(s->family), strerror(-s->err));
	return 0;
}

/* Listing for people */

struct listing {
	enum family family;
	int fd;
	bool interrupted; /* entries may have been left out */
	uint32_t datagram[DATAGRAM_SIZE / 4];
};

const char *conntrack_state_name(uint8_t tcp_state)
{
	static const char *const names[] = { "NONE",	 "SYN_SENT",
					     "SYN_RECV", "ESTABLISHED",
					     "FIN_WAIT", "CLOSE_WAIT",
					     "LAST_ACK", "TIME_WAIT",
					     "CLOSE",	 "SYN_SENT2" };

	return tcp_state < sizeof(names) / sizeof(names[0]) ? names[tcp_state]
							    : "?";
}

bool conntrack_entry_decode(const struct nlmsghdr *nlh, enum family family,
			    struct conntrack_entry *entry)
{
	const struct nlattr *attr;
	struct tuple orig, reply;
	struct entry_parts e;

	if (!is_entry_of(nlh, family))
		return false;
	e = entry_split(nlh);
	if (!e.orig || !e.reply || !e.status ||
	    mnl_attr_get_payload_len(e.status) != 4 ||
	    !(ntohl(mnl_attr_get_u32(e.status)) & IPS_DST_NAT) ||
	    !tuple_decode(e.orig, family, &orig) ||
	    !tuple_decode(e.reply, family, &reply))
		return false;
	*entry = (struct conntrack_entry){
		.client = orig.src,
		.destination = orig.dst,
		.client_port = orig.src_port,
		.destination_port = orig.dst_port,
		.endpoint = reply.src,
		.endpoint_port = reply.src_port,
		.protocol = orig.protocol,
	};
	if (e.protoinfo)
		entry->tcp_state = state_decode(e.protoinfo);
	if (e.id && mnl_attr_get_payload_len(e.id) == 4)
		entry->id = mnl_attr_get_u32(e.id);
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == CTA_TIMEOUT &&
		    mnl_attr_get_payload_len(attr) == 4)
			entry->timeout_s = ntohl(mnl_attr_get_u32(attr));
	return true;
}

/* Kernels that know it leave out what is not translated; others send all. */
static int listing_begin(int fd, enum family family)
{
	uint32_t buf[64];
	struct nlmsghdr *nlh = conntrack_request(
		buf, IPCTNL_MSG_CT_GET, NLM_F_DUMP, family_number(family));

	mnl_attr_put_u32(nlh, CTA_STATUS, htonl(IPS_DST_NAT));
	mnl_attr_put_u32(nlh, CTA_STATUS_MASK, htonl(IPS_DST_NAT));
	nlh->nlmsg_seq = 1;
	return send(fd, nlh, nlh->nlmsg_len, 0) < 0 ? -errno : 0;
}

/* Go on (1), all read (0), or a negative errno. */
static int listing_read(struct listing *l, size_t length,
			bool (*call)(void *ctx, const struct conntrack_entry *entry),
			void *ctx)
{
	const struct nlmsghdr *nlh;
	struct conntrack_entry entry;

	for_each_nlmsg (nlh, l->datagram, length) {
		l->interrupted |= nlh->nlmsg_flags & NLM_F_DUMP_INTR;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return l->interrupted ? -EINTR : 0;
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return message_error(nlh);
		if (conntrack_entry_decode(nlh, l->family, &entry) &&
		    !call(ctx, &entry))
			return 0;
	}
	return 1;
}

static int listing_failed(const struct listing *l, int err, struct errbuf *eb)
{
	return errf(eb, err, "conntrack %s: listing entries: %s",
		    family_name(l->family), strerror(-err));
}

struct listing *listing_open(enum family family, int *err, struct errbuf *eb)
{
	struct listing *l = calloc(1, sizeof(*l));

	*err = -ENOMEM;
	if (!l) {
		errf(eb, -ENOMEM, "out of memory");
		return NULL;
	}
	l->family = family;
	l->fd = *err = conntrack_open();
	if (l->fd >= 0)
		*err = listing_begin(l->fd, family);
	if (!*err)
		return l;
	listing_failed(l, *err, eb);
	listing_close(l);
	return NULL;
}

void listing_close(struct listing *l)
{
	if (!l)
		return;
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

int listing_fd(const struct listing *l)
{
	return l->fd;
}

int listing_step(struct listing *l,
		 bool (*call)(void *ctx, const struct conntrack_entry *entry),
		 void *ctx, struct errbuf *eb)
{
	ssize_t length = recv(l->fd, l->datagram, sizeof(l->datagram),
			      MSG_DONTWAIT | MSG_TRUNC);
	int result;

	if (length < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (length < 0)
		result = errno == ENOBUFS ? -EINTR : -errno;
	else if ((size_t)length > sizeof(l->datagram))
		result = -EMSGSIZE;
	else
		result = listing_read(l, (size_t)length, call, ctx);
	return result < 0 ? listing_failed(l, result, eb) : result;
}

int conntrack_each(enum family family,
		   bool (*call)(void *ctx, const struct conntrack_entry *entry),
		   void *ctx, struct errbuf *eb)
{
	struct listing *l;
	struct pollfd pfd;
	int result;

	l = listing_open(family, &result, eb);
	if (!l)
		return result;
	pfd = (struct pollfd){ .fd = l->fd, .events = POLLIN };
	do {
		if (poll(&pfd, 1, PATIENCE_MS) == 0)
			result = listing_failed(l, -ETIMEDOUT, eb);
		else
			result = listing_step(l, call, ctx, eb);
	} while (result > 0);
	listing_close(l);
	return result;
}
