/*
 * Notifications of nf_tables. The kernel stamps each with the port id of the
 * socket whose transaction it reports, which tells ours from those of others; a
 * socket filter drops ours in the kernel already, since a transaction of many
 * megabytes would otherwise overrun the socket and look like a loss. The kernel
 * packs notifications of one transaction only into a datagram, so looking at
 * the first is enough there. Elements that rules add to affinity maps, and
 * those that expire, are not notified at all.
 */
#include "nft/monitor.h"

#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nft/attr.h"
#include "nft/kubeproxy.h"
#include "nft/netlink.h"
#include "nft/request.h"

struct monitor {
	int fd;
	uint32_t own_port_id;
	unsigned int (*decode)(const void *datagram, size_t length,
			       uint32_t own_port_id);
	uint32_t buf[16384]; /* 64 KiB: any notification datagram */
};

enum {
	RECEIVE_BUFFER = 4 << 20,
	EVERYTHING = 1 << FAMILY_IPV4 | 1 << FAMILY_IPV6
};

/* Drops datagrams of @port_id. BPF reads in network order, netlink headers are in host order. */
static int filter_own(int fd, uint32_t port_id)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct nlmsghdr, nlmsg_pid)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port_id), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
	};
	const struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]),
					    .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
			  sizeof(program))
		       ? -errno
		       : 0;
}

static int set_membership(int fd, int option)
{
	const int group = NFNLGRP_NFTABLES;

	return setsockopt(fd, SOL_NETLINK, option, &group, sizeof(group)) ? -errno
									  : 0;
}

/* The filter is there before the first notification. */
static int monitor_socket(uint32_t own_port_id)
{
	int fd = netlink_open(NETLINK_NETFILTER, SOCK_NONBLOCK, 0, NULL), err = 0;

	if (fd < 0)
		return fd;
	/* A small buffer only means more frequent losses, which are handled. */
	netlink_set_receive_buffer(fd, RECEIVE_BUFFER);
	if (own_port_id)
		err = filter_own(fd, own_port_id);
	if (!err)
		err = set_membership(fd, NETLINK_ADD_MEMBERSHIP);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static struct monitor *
monitor_open_with(unsigned int (*decode)(const void *, size_t, uint32_t),
		  uint32_t own_port_id, struct errbuf *eb)
{
	struct monitor *m = calloc(1, sizeof(*m));
	int err = -ENOMEM;

	assert(decode);
	if (m) {
		m->own_port_id = own_port_id;
		m->decode = decode;
		m->fd = err = monitor_socket(own_port_id);
		if (err >= 0)
			return m;
	}
	free(m);
	errf(eb, err, "nftables notifications: %s", strerror(-err));
	return NULL;
}

struct monitor *monitor_open(uint32_t own_port_id, struct errbuf *eb)
{
	return monitor_open_with(monitor_decode, own_port_id, eb);
}

struct monitor *monitor_open_rival(struct errbuf *eb)
{
	return monitor_open_with(monitor_decode_rival, 0, eb);
}

void monitor_close(struct monitor *m)
{
	if (!m)
		return;
	close(m->fd);
	free(m);
}

int monitor_pause(struct monitor *m)
{
	return set_membership(m->fd, NETLINK_DROP_MEMBERSHIP);
}

int monitor_resume(struct monitor *m)
{
	return set_membership(m->fd, NETLINK_ADD_MEMBERSHIP);
}

int monitor_fd(const struct monitor *m)
{
	return m->fd;
}

/* The table's name is attribute 1 of every kind of object; generations have a number there. */
static bool names_our_table(const struct nlmsghdr *nlh)
{
	const struct nlattr *attr;

	if (nlh->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN))
		return false;
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME)
			return mnl_attr_get_payload_len(attr) == sizeof("vipmap") &&
			       memcmp(mnl_attr_get_payload(attr), "vipmap",
				      sizeof("vipmap")) == 0;
	return false;
}

/* A chain's own name is attribute 3 of its message; a rule has that of its chain as attribute 2. */
static bool names_rival(const struct nlmsghdr *nlh)
{
	const unsigned int type = nlh->nlmsg_type & 0xff;
	const bool is_chain = type == NFT_MSG_NEWCHAIN || type == NFT_MSG_DELCHAIN;
	const bool is_rule = type == NFT_MSG_NEWRULE || type == NFT_MSG_DELRULE;
	const unsigned int wanted = is_chain ? NFTA_CHAIN_NAME : NFTA_RULE_CHAIN;
	const struct nlattr *attr;
	const char *table = NULL, *chain = NULL;

	if (type == NFT_MSG_NEWGEN)
		return false;
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_TABLE_NAME)
			table = attr_string(attr);
		else if ((is_chain || is_rule) && mnl_attr_get_type(attr) == wanted)
			chain = attr_string(attr);
	}
	if (!table)
		return false;
	if (strcmp(table, KUBEPROXY_TABLE) == 0)
		return true;
	return kubeproxy_is_iptables(table) && chain && kubeproxy_is_chain(chain);
}

static unsigned int message_families(const struct nlmsghdr *nlh,
				     uint32_t own_port_id,
				     bool (*names)(const struct nlmsghdr *nlh))
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);

	if (nlh->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
	    mnl_nlmsg_get_payload_len(nlh) < sizeof(*nfg))
		return 0;
	if (own_port_id && nlh->nlmsg_pid == own_port_id)
		return 0;
	if (!names(nlh))
		return 0;
	if (nfg->nfgen_family == NFPROTO_IPV4)
		return 1 << FAMILY_IPV4;
	return nfg->nfgen_family == NFPROTO_IPV6 ? 1 << FAMILY_IPV6 : 0;
}

unsigned int monitor_decode(const void *datagram, size_t length, uint32_t own_port_id)
{
	const struct nlmsghdr *nlh;
	unsigned int families = 0;

	for_each_nlmsg (nlh, datagram, length)
		families |= message_families(nlh, own_port_id, names_our_table);
	return families;
}

unsigned int monitor_decode_rival(const void *datagram, size_t length,
				  uint32_t own_port_id)
{
	const struct nlmsghdr *nlh;
	unsigned int families = 0;

	for_each_nlmsg (nlh, datagram, length)
		families |= message_families(nlh, own_port_id, names_rival);
	return families;
}

int monitor_read(struct monitor *m, unsigned int *changed, struct errbuf *eb)
{
	unsigned int families = 0;
	ssize_t length;

	for (;;) {
		length = recv(m->fd, m->buf, sizeof(m->buf),
			      MSG_DONTWAIT | MSG_TRUNC);
		if (length < 0 && errno == EAGAIN)
			break;
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno != ENOBUFS)
			return errf(eb, -errno, "nftables notifications: %s",
				    strerror(errno));
		if (length < 0 || (size_t)length > sizeof(m->buf))
			families = EVERYTHING;
		else
			families |=
				m->decode(m->buf, (size_t)length, m->own_port_id);
	}
	*changed = families;
	return 0;
}
