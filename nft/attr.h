/*
 * Private to nft/: walking netlink attributes. libmnl has the same, but its macros cast constness
 * away.
 */
#ifndef NFT_ATTR_H
#define NFT_ATTR_H

#include <libmnl/libmnl.h>
#include <stddef.h>

static inline const struct nlattr *attr_if_ok(const struct nlattr *attr, const void *end)
{
	ptrdiff_t left = (const char *)end - (const char *)attr;

	return left > 0 && mnl_attr_ok(attr, (int)left) ? attr : NULL;
}

static inline const void *attr_end(const struct nlattr *nest)
{
	return (const char *)mnl_attr_get_payload(nest) + mnl_attr_get_payload_len(nest);
}

/* Attributes of message @nlh, whose own header has @offset bytes; @attr is NULL at the end. */
#define for_each_attr(attr, nlh, offset)                                                           \
	for ((attr) = attr_if_ok(mnl_nlmsg_get_payload_offset(nlh, offset),                        \
				 mnl_nlmsg_get_payload_tail(nlh));                                 \
	     (attr); (attr) = attr_if_ok(mnl_attr_next(attr), mnl_nlmsg_get_payload_tail(nlh)))

/* Attributes inside of attribute @nest. */
#define for_each_attr_in(attr, nest)                                                               \
	for ((attr) = attr_if_ok(mnl_attr_get_payload(nest), attr_end(nest)); (attr);              \
	     (attr) = attr_if_ok(mnl_attr_next(attr), attr_end(nest)))

#endif
