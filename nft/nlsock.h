/*
 * A netfilter netlink socket, or a stand-in for one in tests.
 */
#ifndef NFT_NLSOCK_H
#define NFT_NLSOCK_H

#include "proxy/errbuf.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct nlmsghdr;
struct nlsock;

/*
 * Sends @iov in one message, then hands each reply message to @reply (a non-zero return from it
 * ends the exchange with that value) until the last acknowledgement, NLMSG_DONE or @timeout_ms.
 * @last_seq is the sequence number whose acknowledgement ends the exchange. Returns 0 or a negative
 * errno; -ETIMEDOUT, -ENOBUFS, -EINTR (dump interrupted by a change) mean that the outcome is unknown.
 */
struct nlsock_ops {
	int (*exchange)(void *ctx, const struct iovec *iov, unsigned int n_iov, uint32_t last_seq,
			int (*reply)(const struct nlmsghdr *nlh, void *data), void *data,
			unsigned int timeout_ms, struct errbuf *eb);
	void (*close)(void *ctx);
};

/* A real NETLINK_NETFILTER socket. NULL with @eb when it cannot be had. Caller owns it. */
struct nlsock *nlsock_open(struct errbuf *eb);
/* For tests: @ops and @ctx must outlive it. */
struct nlsock *nlsock_new(const struct nlsock_ops *ops, void *ctx);
void nlsock_close(struct nlsock *nl); /* NULL is allowed */

uint32_t nlsock_port_id(const struct nlsock *nl); /* to tell our own notifications; 0 for a stand-in */
uint32_t nlsock_next_seq(struct nlsock *nl);

int nlsock_exchange(struct nlsock *nl, const struct iovec *iov, unsigned int n_iov, uint32_t last_seq,
		    int (*reply)(const struct nlmsghdr *nlh, void *data), void *data,
		    unsigned int timeout_ms, struct errbuf *eb);

#endif
