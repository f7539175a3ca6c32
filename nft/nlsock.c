/*
 * One exchange at a time over a netlink socket: send a message, collect the
 * replies. The socket blocks for the length of a commit, which is all that the
 * program does meanwhile; a deadline bounds it.
 *
 * Replies to a former exchange that was given up may still arrive; they are
 * told apart by their sequence numbers, which only ever grow.
 */
#include "nft/nlsock.h"

#include <assert.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nft/netlink.h"

enum {
	/* The kernel fills messages of a dump up to 32 KiB; an error with the
	   request in it may have 64. */
	RECEIVE_SIZE = 128 * 1024,
	/* Datagrams per system call. Each has a place of RECEIVE_SIZE. */
	RECEIVE_MANY = 8,
	ALL_PLACES = RECEIVE_MANY * RECEIVE_SIZE,
	/* Errors of one transaction wait here until it is over: one for each
	   message, 1 KiB at most. */
	RECEIVE_BUFFER = 4 * 1024 * 1024,
};

struct nlsock {
	const struct nlsock_ops *ops;
	void *ctx;
	const struct clock *clock;
	uint32_t seq, port_id;

	/* of a real socket */
	int fd;
	size_t send_buffer; /* what it was last set to */
	char *receive;	    /* RECEIVE_MANY places */
};

/*
 * Mapped, since only what is used of it takes memory then. malloc() would map it as well, but
 * freeing as much makes it think that large blocks come and go, and keep their memory.
 */
static char *map_places(void)
{
	void *memory = mmap(NULL, ALL_PLACES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

struct nlsock *nlsock_open(struct errbuf *eb)
{
	struct nlsock *nl = nlsock_new(NULL, NULL);

	if (!nl)
		goto no_memory;
	nl->seq = (uint32_t)(clock_realtime_us(nl->clock) / 1000000);
	nl->receive = map_places();
	if (!nl->receive)
		goto no_memory;
	nl->fd = netlink_open(NETLINK_NETFILTER, 0, 0, &nl->port_id);
	if (nl->fd >= 0) {
		netlink_set_receive_buffer(nl->fd, RECEIVE_BUFFER);
		return nl;
	}
	errf(eb, nl->fd, "netlink: cannot open a netfilter socket: %s",
	     strerror(-nl->fd));
	nlsock_close(nl);
	return NULL;

no_memory:
	errf(eb, -ENOMEM, "netlink: out of memory");
	nlsock_close(nl);
	return NULL;
}

struct nlsock *nlsock_new(const struct nlsock_ops *ops, void *ctx)
{
	struct nlsock *nl = calloc(1, sizeof(*nl));

	if (!nl)
		return NULL;
	nl->ops = ops;
	nl->ctx = ctx;
	nl->clock = clock_system();
	nl->fd = -1;
	nl->seq = 1;
	return nl;
}

void nlsock_close(struct nlsock *nl)
{
	if (!nl)
		return;
	if (nl->ops && nl->ops->close)
		nl->ops->close(nl->ctx);
	if (nl->fd >= 0)
		close(nl->fd);
	if (nl->receive)
		munmap(nl->receive, ALL_PLACES);
	free(nl);
}

void nlsock_set_clock(struct nlsock *nl, const struct clock *clock)
{
	assert(clock);
	nl->clock = clock;
}

int64_t nlsock_now_ms(const struct nlsock *nl)
{
	return clock_monotonic_us(nl->clock) / 1000;
}

uint32_t nlsock_port_id(const struct nlsock *nl)
{
	return nl->port_id;
}

uint32_t nlsock_next_seq(struct nlsock *nl)
{
	/* 0 is what unasked messages carry */
	if (++nl->seq == 0)
		nl->seq = 1;
	return nl->seq;
}

/* All or nothing: netlink takes a message whole if it fits into the send buffer. */
static int send_all(struct nlsock *nl, const struct iovec *iov,
		    unsigned int n_iov, struct errbuf *eb)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct msghdr msg = {
		.msg_name = &kernel,
		.msg_namelen = sizeof(kernel),
		.msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = n_iov,
	};
	size_t total = 0;
	unsigned int i;
	ssize_t sent;

	assert(n_iov && nl->fd >= 0);
	for (i = 0; i < n_iov; i++)
		total += iov[i].iov_len;
	/* Doubled, since it counts the kernel's bookkeeping too. */
	if (total > nl->send_buffer) {
		netlink_set_send_buffer(nl->fd, total * 2);
		nl->send_buffer = total;
	}
	do
		sent = sendmsg(nl->fd, &msg, 0);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errf(eb, -errno, "netlink: cannot send %zu bytes: %s",
			    total, strerror(errno));
	return 0;
}

/* Datagrams as they came, each with one message or several. */
struct received {
	struct mmsghdr msgs[RECEIVE_MANY];
	struct iovec iov[RECEIVE_MANY];
	struct sockaddr_nl from[RECEIVE_MANY];
};

static void received_init(struct received *in, const struct nlsock *nl)
{
	memset(in, 0, sizeof(*in));
	for (unsigned int i = 0; i < RECEIVE_MANY; i++) {
		in->iov[i].iov_base = nl->receive + (size_t)i * RECEIVE_SIZE;
		in->iov[i].iov_len = RECEIVE_SIZE;
		in->msgs[i].msg_hdr = (struct msghdr){
			.msg_name = &in->from[i],
			.msg_namelen = sizeof(in->from[i]),
			.msg_iov = &in->iov[i],
			.msg_iovlen = 1,
		};
	}
}

/* Waits for one datagram at least. Returns their number or a negative errno. */
static int receive_some(struct nlsock *nl, struct received *in,
			int64_t deadline_ms, struct errbuf *eb)
{
	struct pollfd ready = { .fd = nl->fd, .events = POLLIN };
	int64_t left_ms;
	int n;

	assert(nl->fd >= 0);
	for (;;) {
		n = recvmmsg(nl->fd, in->msgs, RECEIVE_MANY, MSG_DONTWAIT, NULL);
		if (n > 0)
			return n;
		if (n == 0 || errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return errf(eb, -errno, "netlink: cannot receive: %s",
				    strerror(errno));
		left_ms = deadline_ms - nlsock_now_ms(nl);
		if (left_ms <= 0)
			return errf(eb, -ETIMEDOUT, "netlink: no answer in time");
		(void)poll(&ready, 1,
			   left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
	}
}

/*
 * What former exchanges left behind. It would not be taken for ours, but a full
 * receive buffer would cost us the answer: thousands of errors of a transaction
 * that was wrong from the start.
 */
static void nlsock_drain(const struct nlsock *nl)
{
	char byte;
	unsigned int errors = 0;

	while (errors < 2)
		if (recv(nl->fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) < 0)
			errors += errno == EAGAIN
					  ? 2
					  : 1; /* ENOBUFS comes once, before the rest */
}

struct exchange {
	uint32_t first_seq, last_seq;
	int (*reply)(const struct nlmsghdr *nlh, void *data);
	void *data;
	struct errbuf *eb;
	bool over, interrupted;
};

/* Callbacks return an error without a word for it. */
static int exchange_reply(const struct nlmsghdr *nlh, void *data)
{
	const struct exchange *x = data;
	int err = x->reply ? x->reply(nlh, x->data) : 0;

	return err ? errf(x->eb, err,
			  nlh->nlmsg_type == NLMSG_ERROR
				  ? "netlink: the kernel refuses: %s"
				  : "netlink: an answer cannot be used: %s",
			  strerror(-err))
		   : 0;
}

static bool is_current(const struct exchange *x, const struct nlmsghdr *nlh)
{
	return (int32_t)(nlh->nlmsg_seq - x->first_seq) >= 0 &&
	       (int32_t)(x->last_seq - nlh->nlmsg_seq) >= 0;
}

/* The error that a message carries: of NLMSG_ERROR, and of NLMSG_DONE when a dump failed. */
static int end_error(const struct nlmsghdr *nlh)
{
	int err = 0;

	if (nlh->nlmsg_len >= NLMSG_HDRLEN + sizeof(err))
		memcpy(&err, (const char *)nlh + NLMSG_HDRLEN, sizeof(err));
	return err > 0 ? 0 : err;
}

/* Returns non-zero when the exchange has to end with it. */
static int handle_message(struct exchange *x, const struct nlmsghdr *nlh)
{
	bool end = nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE;
	int err;

	if (!is_current(x, nlh))
		return 0;
	if (nlh->nlmsg_type == NLMSG_OVERRUN)
		return errf(x->eb, -ENOBUFS, "netlink: replies were lost");
	if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
		x->interrupted = true;
	if (nlh->nlmsg_type == NLMSG_NOOP)
		return 0;
	err = nlh->nlmsg_type == NLMSG_DONE ? 0 : exchange_reply(nlh, x);
	if (err || !end || nlh->nlmsg_seq != x->last_seq)
		return err;
	x->over = true;
	err = end_error(nlh);
	if (err)
		return errf(x->eb, err, "netlink: the kernel refuses: %s",
			    strerror(-err));
	if (x->interrupted)
		return errf(x->eb, -EINTR,
			    "netlink: the ruleset changed while it was read");
	return 0;
}

static int handle_datagram(struct exchange *x, const char *datagram, size_t length)
{
	const struct nlmsghdr *nlh;
	size_t at = 0;
	int err;

	while (!x->over && length - at >= sizeof(*nlh)) {
		nlh = (const struct nlmsghdr *)(const void *)(datagram + at);
		if (nlh->nlmsg_len < sizeof(*nlh) || nlh->nlmsg_len > length - at)
			return errf(x->eb, -EBADMSG,
				    "netlink: a reply is malformed");
		err = handle_message(x, nlh);
		if (err)
			return err;
		at += NLMSG_ALIGN(nlh->nlmsg_len);
		if (at > length)
			break;
	}
	return 0;
}

/* What comes from another process is not for us to believe. */
static int handle_received(struct exchange *x, const struct received *in, int n)
{
	int err = 0;

	for (int i = 0; i < n && !err && !x->over; i++) {
		if (in->msgs[i].msg_hdr.msg_flags & MSG_TRUNC)
			return errf(x->eb, -ENOBUFS,
				    "netlink: a reply was too long");
		if (in->from[i].nl_pid == 0)
			err = handle_datagram(x, in->iov[i].iov_base,
					      in->msgs[i].msg_len);
	}
	return err;
}

int nlsock_exchange(struct nlsock *nl, const struct iovec *iov,
		    unsigned int n_iov, uint32_t last_seq,
		    int (*reply)(const struct nlmsghdr *nlh, void *data),
		    void *data, unsigned int timeout_ms, struct errbuf *eb)
{
	struct exchange x = {
		.last_seq = last_seq, .reply = reply, .data = data, .eb = eb
	};
	int64_t deadline_ms = nlsock_now_ms(nl) + timeout_ms;
	struct received in;
	int err, n;

	if (nl->ops)
		return nl->ops->exchange(nl->ctx, iov, n_iov, last_seq,
					 exchange_reply, &x, timeout_ms, eb);
	if (!n_iov || iov[0].iov_len < sizeof(struct nlmsghdr))
		return errf(eb, -EINVAL, "netlink: nothing to send");
	x.first_seq = ((const struct nlmsghdr *)iov[0].iov_base)->nlmsg_seq;
	assert((int32_t)(last_seq - x.first_seq) >= 0);
	nlsock_drain(nl);
	received_init(&in, nl);
	err = send_all(nl, iov, n_iov, eb);
	while (!err && !x.over) {
		n = receive_some(nl, &in, deadline_ms, eb);
		err = n < 0 ? n : handle_received(&x, &in, n);
	}
	return err;
}
