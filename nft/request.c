/*
 * Questions to nf_tables and the picking apart of answers. All are dumps or
 * single objects; whatever comes back is measured before it is used.
 */
#include "nft/request.h"

#include <assert.h>
#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

#include "nft/attr.h"

/* A set of a million elements takes the kernel many seconds to list. */
enum { TIMEOUT_MS = 120000 };

struct receiver {
	int (*reply)(const struct nlmsghdr *nlh, void *data);
	void *data;
};

/* The exchange itself returns the errors. */
static int skip_errors(const struct nlmsghdr *nlh, void *data)
{
	const struct receiver *r = data;

	if (nlh->nlmsg_type == NLMSG_ERROR || nlh->nlmsg_type == NLMSG_DONE)
		return 0;
	return r->reply(nlh, r->data);
}

static uint8_t request_nfproto(int family)
{
	if (family == ANY_FAMILY)
		return NFPROTO_UNSPEC;
	return family == FAMILY_IPV4 ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

size_t request_build(const struct request *request, uint32_t seq,
		     uint32_t buf[REQUEST_WORDS])
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg = mnl_nlmsg_put_extra_header(nlh, sizeof(*nfg));

	nlh->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | request->type);
	nlh->nlmsg_flags =
		NLM_F_REQUEST | (request->dump ? NLM_F_DUMP : NLM_F_ACK);
	nlh->nlmsg_seq = seq;
	nfg->nfgen_family = request_nfproto(request->family);
	nfg->version = NFNETLINK_V0;
	if (request->table && strlen(request->table) < 256)
		mnl_attr_put_strz(nlh, NFTA_TABLE_NAME, request->table);
	if (request->set && strlen(request->set) < 256)
		mnl_attr_put_strz(nlh, NFTA_SET_ELEM_LIST_SET, request->set);
	assert(nlh->nlmsg_len <= REQUEST_WORDS * sizeof(buf[0]));
	return nlh->nlmsg_len;
}

int request_send(struct nlsock *nl, const struct request *request,
		 int (*reply)(const struct nlmsghdr *nlh, void *data),
		 void *data, struct errbuf *eb)
{
	struct receiver receiver = { .reply = reply, .data = data };
	uint32_t buf[REQUEST_WORDS] = { 0 }, seq = nlsock_next_seq(nl);
	struct iovec iov = { .iov_base = buf };

	iov.iov_len = request_build(request, seq, buf);
	return nlsock_exchange(nl, &iov, 1, seq, skip_errors, &receiver,
			       TIMEOUT_MS, eb);
}

bool message_is(const struct nlmsghdr *nlh, unsigned int type)
{
	return nlh->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8 | type) &&
	       nlh->nlmsg_len >= MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg);
}

uint8_t message_family(const struct nlmsghdr *nlh)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(nlh);

	return nfg->nfgen_family;
}

static void keep_attr(const struct nlattr *attr, const struct nlattr **attrs,
		      unsigned int max)
{
	if (mnl_attr_get_type(attr) < max)
		attrs[mnl_attr_get_type(attr)] = attr;
}

void message_attrs(const struct nlmsghdr *nlh, const struct nlattr **attrs,
		   unsigned int max)
{
	const struct nlattr *attr;

	memset(attrs, 0, max * sizeof(*attrs));
	for_each_attr (attr, nlh, sizeof(struct nfgenmsg))
		keep_attr(attr, attrs, max);
}

const struct nlattr *message_elements(const struct nlmsghdr *nlh)
{
	const struct nlattr *attrs[NFTA_SET_ELEM_LIST_MAX + 1];

	if (!message_is(nlh, NFT_MSG_NEWSETELEM))
		return NULL;
	message_attrs(nlh, attrs, NFTA_SET_ELEM_LIST_MAX + 1);
	return attrs[NFTA_SET_ELEM_LIST_ELEMENTS];
}

void nested_attrs(const struct nlattr *nest, const struct nlattr **attrs,
		  unsigned int max)
{
	const struct nlattr *attr;

	memset(attrs, 0, max * sizeof(*attrs));
	if (!nest)
		return;
	for_each_attr_in (attr, nest)
		keep_attr(attr, attrs, max);
}

const char *attr_string(const struct nlattr *attr)
{
	const char *text = attr ? mnl_attr_get_payload(attr) : NULL;
	size_t length = attr ? mnl_attr_get_payload_len(attr) : 0;

	return length && text[length - 1] == '\0' ? text : NULL;
}

uint32_t attr_u32(const struct nlattr *attr, uint32_t otherwise)
{
	if (!attr || mnl_attr_get_payload_len(attr) != sizeof(uint32_t))
		return otherwise;
	return ntohl(mnl_attr_get_u32(attr));
}
