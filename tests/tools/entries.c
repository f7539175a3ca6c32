/*
 * usage: entries COUNT PROTOCOL VIP PORT ENDPOINT PORT [STATE]
 *
 * Makes COUNT conntrack entries, as of connections that were translated from
 * the first address and port to the second: for sweeps that have something to
 * do. Clients are 100.64.0.0 or fd64:: and the addresses after it, 50,000 ports
 * each. STATE is a number of enum tcp_conntrack; 3, which means established,
 * unless it is given. Prints how many there are.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/base/addr.h"

enum {
	PORTS = 50000,
	FIRST_PORT = 10000,
	TIMEOUT_S = 3600,
	BUFFER = 65536,
	ENTRY_MAX = 512
};

struct side {
	struct addr addr;
	uint16_t port;
};

struct entries {
	enum family family;
	uint8_t protocol, state;
	struct side vip, endpoint;
};

static void put_tuple(struct nlmsghdr *nlh, uint16_t type, const struct entries *e,
		      const struct side *from, const struct side *to)
{
	const bool v4 = e->family == FAMILY_IPV4;
	struct nlattr *tuple = mnl_attr_nest_start(nlh, type), *nest;

	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_IP);
	mnl_attr_put(nlh, v4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC,
		     family_size(e->family), from->addr.bytes);
	mnl_attr_put(nlh, v4 ? CTA_IP_V4_DST : CTA_IP_V6_DST,
		     family_size(e->family), to->addr.bytes);
	mnl_attr_nest_end(nlh, nest);
	nest = mnl_attr_nest_start(nlh, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(nlh, CTA_PROTO_NUM, e->protocol);
	mnl_attr_put_u16(nlh, CTA_PROTO_SRC_PORT, htons(from->port));
	mnl_attr_put_u16(nlh, CTA_PROTO_DST_PORT, htons(to->port));
	mnl_attr_nest_end(nlh, nest);
	mnl_attr_nest_end(nlh, tuple);
}

static void put_nat(struct nlmsghdr *nlh, const struct entries *e)
{
	const bool v4 = e->family == FAMILY_IPV4;
	struct nlattr *nat = mnl_attr_nest_start(nlh, CTA_NAT_DST), *ports;

	mnl_attr_put(nlh, v4 ? CTA_NAT_V4_MINIP : CTA_NAT_V6_MINIP,
		     family_size(e->family), e->endpoint.addr.bytes);
	mnl_attr_put(nlh, v4 ? CTA_NAT_V4_MAXIP : CTA_NAT_V6_MAXIP,
		     family_size(e->family), e->endpoint.addr.bytes);
	ports = mnl_attr_nest_start(nlh, CTA_NAT_PROTO);
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MIN, htons(e->endpoint.port));
	mnl_attr_put_u16(nlh, CTA_PROTONAT_PORT_MAX, htons(e->endpoint.port));
	mnl_attr_nest_end(nlh, ports);
	mnl_attr_nest_end(nlh, nat);
}

static struct side client(const struct entries *e, unsigned int number)
{
	struct side side = { .port = (uint16_t)(FIRST_PORT + number % PORTS) };
	const unsigned int host = number / PORTS + 1;

	if (e->family == FAMILY_IPV4) {
		side.addr.bytes[0] = 100;
		side.addr.bytes[1] = 64;
		side.addr.bytes[2] = (uint8_t)(host >> 8);
		side.addr.bytes[3] = (uint8_t)host;
	} else {
		side.addr.bytes[0] = 0xfd;
		side.addr.bytes[1] = 0x64;
		side.addr.bytes[14] = (uint8_t)(host >> 8);
		side.addr.bytes[15] = (uint8_t)host;
	}
	return side;
}

static size_t put_entry(void *buf, const struct entries *e, unsigned int number)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));
	const struct side from = client(e, number);
	struct nlattr *info, *tcp;

	nlh->nlmsg_type = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL;
	nfg->nfgen_family = e->family == FAMILY_IPV4 ? AF_INET : AF_INET6;
	put_tuple(nlh, CTA_TUPLE_ORIG, e, &from, &e->vip);
	put_tuple(nlh, CTA_TUPLE_REPLY, e, &e->vip, &from);
	mnl_attr_put_u32(nlh, CTA_TIMEOUT, htonl(TIMEOUT_S));
	if (e->protocol == IPPROTO_TCP) {
		info = mnl_attr_nest_start(nlh, CTA_PROTOINFO);
		tcp = mnl_attr_nest_start(nlh, CTA_PROTOINFO_TCP);
		mnl_attr_put_u8(nlh, CTA_PROTOINFO_TCP_STATE, e->state);
		mnl_attr_nest_end(nlh, tcp);
		mnl_attr_nest_end(nlh, info);
	}
	put_nat(nlh, e);
	return MNL_ALIGN(nlh->nlmsg_len);
}

/* Only refusals are answered, and they are there when it has been sent. */
static int refusal(struct mnl_socket *nl)
{
	uint32_t reply[256] = { 0 };
	const struct nlmsghdr *nlh = (void *)reply;
	const struct nlmsgerr *error = mnl_nlmsg_get_payload(nlh);
	ssize_t n =
		recv(mnl_socket_get_fd(nl), reply, sizeof(reply), MSG_DONTWAIT);

	return n > 0 && nlh->nlmsg_type == NLMSG_ERROR ? error->error : 0;
}

static int make(const struct entries *e, unsigned int count)
{
	struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
	static uint32_t buf[BUFFER / 4];
	unsigned int i = 0;
	size_t length;
	int err = 0;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID))
		return -errno;
	while (!err && i < count) {
		for (length = 0; i < count && length < BUFFER - ENTRY_MAX; i++)
			length += put_entry((char *)buf + length, e, i);
		if (mnl_socket_sendto(nl, buf, length) < 0)
			err = -errno;
		else
			err = refusal(nl);
	}
	mnl_socket_close(nl);
	return err;
}

int main(int argc, char **argv)
{
	struct entries e = { .state = 3 };
	unsigned int count;
	enum family other;
	int err;

	if (argc < 7 || argc > 8 || addr_parse(argv[3], &e.family, &e.vip.addr) ||
	    addr_parse(argv[5], &other, &e.endpoint.addr) || e.family != other) {
		fprintf(stderr,
			"usage: entries COUNT PROTOCOL VIP PORT ENDPOINT PORT [STATE]\n");
		return 2;
	}
	count = (unsigned int)strtoul(argv[1], NULL, 10);
	e.protocol = strcmp(argv[2], "udp") ? IPPROTO_TCP : IPPROTO_UDP;
	e.vip.port = (uint16_t)strtoul(argv[4], NULL, 10);
	e.endpoint.port = (uint16_t)strtoul(argv[6], NULL, 10);
	if (argc == 8)
		e.state = (uint8_t)strtoul(argv[7], NULL, 10);
	err = make(&e, count);
	if (err) {
		fprintf(stderr, "entries: refused: %s\n", strerror(-err));
		return 1;
	}
	printf("%u\n", count);
	return 0;
}
