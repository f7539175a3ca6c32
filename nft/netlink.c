#include "nft/netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * EXT_ACK tells what the kernel objects to, CAP_ACK spares us copies of our
 * requests in errors. Neither is needed: without them messages say less.
 */
int netlink_open(int protocol, int flags, uint32_t groups, uint32_t *port_id)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
				       .nl_groups = groups };
	socklen_t length = sizeof(address);
	const int on = 1;
	int fd, err;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(fd, (struct sockaddr *)&address, &length)) {
		err = -errno;
		close(fd);
		return err;
	}
	if (port_id)
		*port_id = address.nl_pid;
	return fd;
}

static void set_buffer(int fd, int force_option, int option, size_t size)
{
	int value = size > INT32_MAX / 2 ? INT32_MAX / 2 : (int)size;

	if (setsockopt(fd, SOL_SOCKET, force_option, &value, sizeof(value)))
		(void)setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value));
}

void netlink_set_receive_buffer(int fd, size_t size)
{
	set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, size);
}

void netlink_set_send_buffer(int fd, size_t size)
{
	set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, size);
}
