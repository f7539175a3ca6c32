/*
 * The two sockets, and the loop around a dump. Nothing here blocks for long: a dump is answered at
 * once, and has a limit for a kernel that never does.
 */
#include "nft/route.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "nft/attr.h"
#include "nft/netlink.h"

/* Large enough for any datagram of a dump (the kernel's are 32 KiB at most). */
enum { BUFFER_SIZE = 65536, DUMP_ATTEMPTS = 5 };

int route_open(struct route *r, uint32_t groups)
{
	const struct timeval limit = { .tv_sec = 2 };

	*r = (struct route){ .notify_fd = -1, .dump_fd = -1 };
	r->notify_fd = netlink_open(NETLINK_ROUTE, SOCK_NONBLOCK, groups, NULL);
	if (r->notify_fd < 0)
		return r->notify_fd;
	r->dump_fd = netlink_open(NETLINK_ROUTE, 0, 0, NULL);
	if (r->dump_fd < 0)
		return r->dump_fd;
	setsockopt(r->dump_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return 0;
}

void route_close(struct route *r)
{
	if (r->notify_fd >= 0)
		close(r->notify_fd);
	if (r->dump_fd >= 0)
		close(r->dump_fd);
}

int route_drain(struct route *r)
{
	int some = 0;
	char byte;

	for (;;) {
		if (recv(r->notify_fd, &byte, sizeof(byte), MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
		    errno == ENOBUFS)
			some = 1;
		else if (errno != EINTR)
			return errno == EAGAIN ? some : -errno;
	}
}

/* Returns 1 while the dump goes on, 0 at its end, or a negative errno. */
static int dump_datagram(const struct route *r, const void *buf, size_t length,
			 const struct route_dump *dump)
{
	const struct nlmsghdr *nlh;
	int err;

	for_each_nlmsg (nlh, buf, length) {
		if (nlh->nlmsg_seq != r->seq)
			continue; /* rest of a dump that we gave up */
		if (nlh->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EINTR;
		if (nlh->nlmsg_type == NLMSG_DONE)
			return 0;
		if (nlh->nlmsg_type == NLMSG_ERROR)
			return message_error(nlh);
		err = dump->decode(nlh, dump->ctx);
		if (err)
			return err;
	}
	return 1;
}

static int dump_once(struct route *r, void *buf, const struct route_dump *dump)
{
	ssize_t length;
	int err = 1;

	dump->request->nlmsg_seq = ++r->seq;
	if (send(r->dump_fd, dump->request, dump->request->nlmsg_len, 0) < 0)
		return -errno;
	while (err > 0) {
		length = recv(r->dump_fd, buf, BUFFER_SIZE, 0);
		if (length < 0 && errno == EINTR)
			err = 1;
		else if (length < 0)
			err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		else
			err = dump_datagram(r, buf, (size_t)length, dump);
	}
	return err;
}

/* The rest of an interrupted dump must not fill the socket: it is read away with the next one. */
int route_dump(struct route *r, const struct route_dump *dump)
{
	void *buf = malloc(BUFFER_SIZE);
	int err = -ENOMEM, attempt;

	for (attempt = 0; buf && attempt < DUMP_ATTEMPTS; attempt++) {
		dump->restart(dump->ctx);
		err = dump_once(r, buf, dump);
		if (err != -EINTR)
			break;
	}
	free(buf);
	return err;
}
