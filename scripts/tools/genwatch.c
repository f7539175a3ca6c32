/*
 * genwatch: when did the kernel commit what?
 *
 * Follows nftables notifications of its network namespace and prints a line per
 * transaction:
 *
 *	gen NANOSECONDS ADDED DELETED OTHERS [MARKER...]
 *
 * NANOSECONDS is CLOCK_MONOTONIC when the end of the transaction was heard of.
 * ADDED and DELETED count set elements, OTHERS all other objects. A MARKER is
 * the number N of an added element that leads to 10.250.N:8080, so that a bench
 * can tell when which of its changes arrived. "ready" comes first, and
 * "overrun" where notifications were lost. Ends when standard output does.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { MAX_MARKERS = 4096 };

struct difference {
	unsigned int added, deleted, others, n_markers;
	unsigned int markers[MAX_MARKERS];
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "genwatch: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void note_markers(const struct nlmsghdr *nlh, struct difference *t)
{
	static const unsigned char head[] = { 10, 250 },
				   tail[] = { 8080 >> 8, 8080 & 255, 0, 0 };
	const unsigned char *p = (const unsigned char *)nlh;

	for (size_t i = NLMSG_HDRLEN; i + 8 <= nlh->nlmsg_len; i += 4)
		if (!memcmp(p + i, head, sizeof(head)) &&
		    !memcmp(p + i + 4, tail, sizeof(tail)) &&
		    t->n_markers < MAX_MARKERS)
			t->markers[t->n_markers++] =
				(unsigned int)p[i + 2] << 8 | p[i + 3];
}

static void print_transaction(struct difference *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	printf("gen %lld %u %u %u", (long long)ts.tv_sec * 1000000000 + ts.tv_nsec,
	       t->added, t->deleted, t->others);
	for (unsigned int i = 0; i < t->n_markers; i++)
		printf(" %u", t->markers[i]);
	printf("\n");
	if (fflush(stdout))
		exit(0);
	*t = (struct difference){ 0 };
}

/* One element a notification, except that one may hold several: count items of the list. */
static unsigned int count_elements(const struct nlmsghdr *nlh)
{
	struct nlattr *attr, *item; /* not const: the macros cast it away */
	unsigned int n = 0;

	mnl_attr_for_each(attr, nlh, sizeof(struct nfgenmsg))
	{
		if (mnl_attr_get_type(attr) != NFTA_SET_ELEM_LIST_ELEMENTS)
			continue;
		mnl_attr_for_each_nested(item, attr) n++;
	}
	return n;
}

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	struct difference *t = data;

	switch (nlh->nlmsg_type & 0xff) {
	case NFT_MSG_NEWGEN:
		print_transaction(t);
		break;
	case NFT_MSG_NEWSETELEM:
		t->added += count_elements(nlh);
		note_markers(nlh, t);
		break;
	case NFT_MSG_DELSETELEM:
		t->deleted += count_elements(nlh);
		break;
	default:
		t->others++;
	}
	return MNL_CB_OK;
}

static struct mnl_socket *open_socket(void)
{
	struct mnl_socket *nl = mnl_socket_open(NETLINK_NETFILTER);
	int room = 256 << 20;

	if (!nl ||
	    mnl_socket_bind(nl, 1 << (NFNLGRP_NFTABLES - 1), MNL_SOCKET_AUTOPID))
		die("netlink");
	if (setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVBUFFORCE, &room,
		       sizeof(room)))
		die("SO_RCVBUFFORCE");
	return nl;
}

int main(void)
{
	enum { SIZE = 1 << 18 };
	struct mnl_socket *nl = open_socket();
	struct difference *t = calloc(1, sizeof(*t));
	char *buffer = malloc(SIZE);
	ssize_t n;

	if (!t || !buffer)
		die("malloc");
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		n = mnl_socket_recvfrom(nl, buffer, SIZE);
		if (n < 0 && errno == ENOBUFS) {
			printf("overrun\n");
			fflush(stdout);
		} else if (n < 0) {
			die("recv");
		} else {
			mnl_cb_run(buffer, (size_t)n, 0, 0, on_message, t);
		}
	}
}
