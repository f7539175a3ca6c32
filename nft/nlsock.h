/*
 * A netfilter netlink socket, or a stand-in for one in tests.
 */
#ifndef NFT_NLSOCK_H
#define NFT_NLSOCK_H

#include "proxy/base/clock.h"
#include "proxy/base/errbuf.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct nlmsghdr;
struct nlsock;

/*
 * Sends @iov in one message, then hands each reply message to @reply (NULL is
 * allowed; a non-zero return from it ends the exchange with that value), those
 * of type NLMSG_ERROR too, but not NLMSG_DONE. The exchange is over with the
 * NLMSG_ERROR or NLMSG_DONE for @last_seq, or after
 * @timeout_ms. The sequence numbers of all messages sent are in order, the
 * first of them in iov[0].
 *
 * Returns 0 or a negative errno with @eb: that of the message @last_seq if the
 * kernel refused it, that of @reply, or our own. -ETIMEDOUT, -ENOBUFS, -EINTR
 * (a dump interrupted by a change) mean that the outcome is unknown.
 */
struct nlsock_ops {
	int (*exchange)(void *ctx, const struct iovec *iov, unsigned int n_iov,
			uint32_t last_seq,
			int (*reply)(const struct nlmsghdr *nlh, void *data),
			void *data, unsigned int timeout_ms, struct errbuf *eb);
	void (*close)(void *ctx);
};

/* A real NETLINK_NETFILTER socket. NULL with @eb when it cannot be had. Caller owns it. */
struct nlsock *nlsock_open(struct errbuf *eb);
/* For tests: @ops and @ctx must outlive it. */
struct nlsock *nlsock_new(const struct nlsock_ops *ops, void *ctx);
void nlsock_close(struct nlsock *nl); /* NULL is allowed */

/* For deadlines; the system's until another is said. Borrowed. */
void nlsock_set_clock(struct nlsock *nl, const struct clock *clock);
int64_t nlsock_now_ms(const struct nlsock *nl);

/* To tell our own notifications; 0 for a stand-in. */
uint32_t nlsock_port_id(const struct nlsock *nl);
uint32_t nlsock_next_seq(struct nlsock *nl);

int nlsock_exchange(struct nlsock *nl, const struct iovec *iov,
		    unsigned int n_iov, uint32_t last_seq,
		    int (*reply)(const struct nlmsghdr *nlh, void *data),
		    void *data, unsigned int timeout_ms, struct errbuf *eb);

#endif
