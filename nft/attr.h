/*
 * Private to nft/: walking netlink messages and attributes. libmnl has the
 * same, but its macros cast constness away, and it takes a message's length of
 * 2^31 and more for a negative one that fits.
 */
#ifndef NFT_ATTR_H
#define NFT_ATTR_H

#include <errno.h>
#include <libmnl/libmnl.h>
#include <stddef.h>
#include <string.h>

static inline const struct nlmsghdr *message_if_ok(const void *at, const void *end)
{
	const struct nlmsghdr *nlh = at;
	ptrdiff_t left = (const char *)end - (const char *)at;

	if (left < (ptrdiff_t)sizeof(*nlh) || nlh->nlmsg_len < sizeof(*nlh))
		return NULL;
	return nlh->nlmsg_len <= (size_t)left ? nlh : NULL;
}

static inline const void *message_after(const struct nlmsghdr *nlh)
{
	return (const char *)nlh + MNL_ALIGN(nlh->nlmsg_len);
}

/* The negative errno, or 0, that an NLMSG_ERROR carries; -EBADMSG if it is none. */
static inline int message_error(const struct nlmsghdr *nlh)
{
	int err;

	if (nlh->nlmsg_len < sizeof(*nlh) + sizeof(err))
		return -EBADMSG;
	memcpy(&err, mnl_nlmsg_get_payload(nlh), sizeof(err));
	return err <= 0 && err > -4096 ? err : -EBADMSG;
}

/* Messages in the @length bytes of a datagram; @nlh is NULL at the end. */
#define for_each_nlmsg(nlh, datagram, length)                                      \
	for ((nlh) = message_if_ok(datagram, (const char *)(datagram) + (length)); \
	     (nlh); (nlh) = message_if_ok(message_after(nlh),                      \
					  (const char *)(datagram) + (length)))

static inline const struct nlattr *attr_if_ok(const struct nlattr *attr,
					      const void *end)
{
	ptrdiff_t left = (const char *)end - (const char *)attr;

	return left > 0 && mnl_attr_ok(attr, (int)left) ? attr : NULL;
}

static inline const void *attr_end(const struct nlattr *nest)
{
	return (const char *)mnl_attr_get_payload(nest) +
	       mnl_attr_get_payload_len(nest);
}

/* Attributes of message @nlh, whose own header has @offset bytes; @attr is NULL at the end. */
#define for_each_attr(attr, nlh, offset)                                       \
	for ((attr) = attr_if_ok(mnl_nlmsg_get_payload_offset(nlh, offset),    \
				 mnl_nlmsg_get_payload_tail(nlh));             \
	     (attr); (attr) = attr_if_ok(mnl_attr_next(attr),                  \
					 mnl_nlmsg_get_payload_tail(nlh)))

/* Attributes inside of attribute @nest. */
#define for_each_attr_in(attr, nest)                                           \
	for ((attr) = attr_if_ok(mnl_attr_get_payload(nest), attr_end(nest));  \
	     (attr); (attr) = attr_if_ok(mnl_attr_next(attr), attr_end(nest)))

#endif
