/*
 * Private to nft/: the one way to open a netlink socket.
 */
#ifndef NFT_NETLINK_H
#define NFT_NETLINK_H

#include <stddef.h>
#include <stdint.h>

/*
 * @protocol: NETLINK_*. @flags: SOCK_NONBLOCK or 0. @groups: a mask of those to
 * listen to from the start. Returns the descriptor, which the caller closes, or
 * a negative errno. @port_id, the kernel's name for it, may be NULL.
 */
int netlink_open(int protocol, int flags, uint32_t groups, uint32_t *port_id);

/* Beyond the system-wide maximum, which needs CAP_NET_ADMIN, or else up to it. */
void netlink_set_receive_buffer(int fd, size_t size);
void netlink_set_send_buffer(int fd, size_t size);

#endif
