/*
 * nftables notifications: has anybody else changed our table?
 */
#ifndef NFT_MONITOR_H
#define NFT_MONITOR_H

#include "proxy/base/addr.h"
#include "proxy/base/errbuf.h"

struct monitor;

/* @own_port_id: nlsock_port_id() of the socket whose changes are ours. NULL with @eb on failure. */
struct monitor *monitor_open(uint32_t own_port_id, struct errbuf *eb);
void monitor_close(struct monitor *m);
int monitor_fd(const struct monitor *m); /* readable: call monitor_read() */

/* The same for what kube-proxy has, whoever changes it: see monitor_decode_rival(). */
struct monitor *monitor_open_rival(struct errbuf *eb);

/*
 * Stops and starts the notifications: while anybody listens, the kernel makes
 * and keeps one of 4 KB for each element of a transaction, half a gigabyte for
 * 100,000. Returns 0 or a negative errno.
 */
int monitor_pause(struct monitor *m);
int monitor_resume(struct monitor *m);

/*
 * Reads all that waits, without blocking. Bit FAMILY_* of @changed is set if
 * somebody else touched table vipmap of that family, or if notifications were
 * lost (ENOBUFS). Returns 0 or a negative errno.
 */
int monitor_read(struct monitor *m, unsigned int *changed, struct errbuf *eb);

/* What the notifications in a datagram of @length bytes amount to; the same bits. */
unsigned int monitor_decode(const void *datagram, size_t length,
			    uint32_t own_port_id);
/* Likewise, for tables kube-proxy and kube-proxy's chains of iptables. */
unsigned int monitor_decode_rival(const void *datagram, size_t length,
				  uint32_t own_port_id);

#endif
