/*
 * Private to nft/: asking nf_tables for objects.
 */
#ifndef NFT_REQUEST_H
#define NFT_REQUEST_H

#include "nft/nlsock.h"
#include "proxy/base/addr.h"

#include <linux/netlink.h>

struct nlattr;

enum {
	ANY_FAMILY = -1,
	REQUEST_WORDS = 256, /* the longest request: two names of 255 bytes */
};

/* One question, at most two names in it. */
struct request {
	int family;    /* enum family or ANY_FAMILY */
	uint16_t type; /* NFT_MSG_GET* */
	bool dump;
	const char *table; /* attribute 1 of all objects; NULL: none */
	const char *set;   /* NFTA_SET_ELEM_LIST_SET; NULL: none */
};

/* The message itself, for a socket of one's own; returns its length in bytes. */
size_t request_build(const struct request *request, uint32_t seq,
		     uint32_t buf[REQUEST_WORDS]);

/*
 * Hands the kernel's answers to @reply, errors aside. Returns 0 or a negative
 * errno; -ENOENT if there is no such object, -EINTR if a dump is not consistent
 * (all of it was handed over all the same).
 */
int request_send(struct nlsock *nl, const struct request *request,
		 int (*reply)(const struct nlmsghdr *nlh, void *data),
		 void *data, struct errbuf *eb);

/* Whether @nlh is a nf_tables message of @type and long enough for its header. */
bool message_is(const struct nlmsghdr *nlh, unsigned int type);
/* NFPROTO_* */
uint8_t message_family(const struct nlmsghdr *nlh);

/* Attributes 1 to @max - 1 of a message, or of a nest, by type; NULL where there is none. */
void message_attrs(const struct nlmsghdr *nlh, const struct nlattr **attrs,
		   unsigned int max);
void nested_attrs(const struct nlattr *nest, const struct nlattr **attrs,
		  unsigned int max);
/* The list of elements that a NEWSETELEM tells of; NULL: it is none, or has none. */
const struct nlattr *message_elements(const struct nlmsghdr *nlh);

/* Each takes NULL and attributes of a wrong size: NULL, or @otherwise. */
const char *attr_string(const struct nlattr *attr);
uint32_t attr_u32(const struct nlattr *attr,
		  uint32_t otherwise); /* from network order */

#endif
