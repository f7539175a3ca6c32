/*
 * ctwatch: when did conntrack entries go?
 *
 * Follows notifications of entries that are destroyed in its network namespace,
 * IPv4, and prints for each run of them with the same original destination:
 *
 *	gone ADDRESS COUNT NANOSECONDS
 *
 * NANOSECONDS is CLOCK_MONOTONIC when the last of them was heard of. "ready"
 * comes first, and "overrun" where notifications were lost. Entries tell only
 * if net.netfilter.nf_conntrack_events was 1 when they were made. Ends when
 * standard output does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_compat.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "nft/attr.h"

struct run {
	struct in_addr destination;
	unsigned int count;
	long long heard_ns;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "ctwatch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void print_run(struct run *r)
{
	char text[INET_ADDRSTRLEN];

	if (!r->count)
		return;
	inet_ntop(AF_INET, &r->destination, text, sizeof(text));
	printf("gone %s %u %lld\n", text, r->count, r->heard_ns);
	if (fflush(stdout))
		exit(0);
	r->count = 0;
}

/* The attribute of that type inside of @nest, or NULL. */
static const struct nlattr *inside(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *attr;

	if (!nest)
		return NULL;
	for_each_attr_in (attr, nest)
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *attr, *orig = NULL, *address;
	struct run *r = data;
	struct in_addr destination;
	struct timespec ts;

	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == CTA_TUPLE_ORIG)
			orig = attr;
	address = inside(inside(orig, CTA_TUPLE_IP), CTA_IP_V4_DST);
	if (!address || mnl_attr_get_payload_len(address) != sizeof(destination))
		return MNL_CB_OK;
	memcpy(&destination, mnl_attr_get_payload(address), sizeof(destination));
	if (destination.s_addr != r->destination.s_addr)
		print_run(r);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	r->destination = destination;
	r->count++;
	r->heard_ns = (long long)ts.tv_sec * 1000000000 + ts.tv_nsec;
	return MNL_CB_OK;
}

static struct mnl_socket *open_socket(void)
{
	struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
	int room = 256 << 20;

	if (!nl ||
	    mnl_socket_bind(nl, NF_NETLINK_CONNTRACK_DESTROY, MNL_SOCKET_AUTOPID))
		die("netlink");
	if (setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUFFORCE, &room,
		       sizeof(room)))
		die("SO_RCVBUFFORCE");
	return nl;
}

int main(void)
{
	static char buffer[1 << 16];
	struct mnl_socket *nl = open_socket();
	struct pollfd pfd = { .fd = mnl_socket_get_fd(nl), .events = POLLIN };
	struct run r = { .count = 0 };
	ssize_t n;

	printf("ready\n");
	fflush(stdout);
	for (;;) {
		if (poll(&pfd, 1, 5) == 0) {
			print_run(&r);
			poll(&pfd, 1, -1);
		}
		n = mnl_socket_recvfrom(nl, buffer, sizeof(buffer));
		if (n < 0 && errno == ENOBUFS) {
			printf("overrun\n");
			fflush(stdout);
		} else if (n < 0) {
			die("recv");
		} else {
			mnl_cb_run(buffer, (size_t)n, 0, 0, on_message, &r);
		}
	}
}
